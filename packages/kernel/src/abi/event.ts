// The event table. `docs/events.md` has one heading for each name; a test compares both directions.
//
// Where an event comes from decides how it is replayed:
//   log      appended to the zone's event log in the commit that it tells of
//   journal  read back out of its process's journal, so it is written once
//   volatile told to who listens at that moment, and never stored

import type { Pid, Seq } from "../base/id.ts";
import type { Schema } from "../base/schema.ts";

export const EVENT_CLASSES = [
  "process",
  "plan",
  "fs",
  "net",
  "memory",
  "security",
  "device",
  "performance",
  "interrupt",
] as const;
export type EventClass = (typeof EVENT_CLASSES)[number];

export interface EventRow {
  readonly class: EventClass;
  readonly source: "log" | "journal" | "volatile";
  readonly summary: string;
  readonly payload: Schema;
  /** What a full subscriber buffer does: `error` ends the subscription, `drop` counts and goes on. */
  readonly overflow: "error" | "drop";
}

const text: Schema = { type: "string" };
const count: Schema = { type: "integer" };
const payload = (properties: Readonly<Record<string, Schema>>): Schema => ({
  type: "object",
  properties,
  additionalProperties: false,
});

const process = (summary: string, more: Readonly<Record<string, Schema>> = {}): EventRow => ({
  class: "process",
  source: "log",
  summary,
  payload: payload({ name: text, program: text, ...more }),
  overflow: "error",
});
const node = (summary: string, source: EventRow["source"], more: Readonly<Record<string, Schema>> = {}): EventRow => ({
  class: "plan",
  source,
  summary,
  payload: payload({ place: text, ...more }),
  overflow: "error",
});
const schedule = (summary: string, more: Readonly<Record<string, Schema>> = {}): EventRow => ({
  class: "process",
  source: "volatile",
  summary,
  payload: payload({ id: count, name: text, due: count, action: text, ...more }),
  overflow: "drop",
});
const trigger = (summary: string, more: Readonly<Record<string, Schema>> = {}): EventRow => ({
  class: "process",
  source: "volatile",
  summary,
  payload: payload({ id: count, name: text, topic: text, action: text, ...more }),
  overflow: "drop",
});
/** The same, in the log. */
const kept = (row: EventRow): EventRow => ({ ...row, source: "log", overflow: "error" });
const task = (summary: string, source: EventRow["source"], more: Readonly<Record<string, Schema>> = {}): EventRow => ({
  class: "process",
  source,
  summary,
  payload: payload({ id: count, queue: text, ...more }),
  overflow: source === "log" ? "error" : "drop",
});
const entity = (summary: string, more: Readonly<Record<string, Schema>> = {}): EventRow => ({
  class: "process",
  source: "log",
  summary,
  payload: payload({ type: text, id: text, to: text, ...more }),
  overflow: "error",
});
const file = (summary: string, more: Readonly<Record<string, Schema>> = {}): EventRow => ({
  class: "fs",
  source: "log",
  summary,
  payload: payload({ path: text, oldPath: text, size: count, contentId: text, type: text, ...more }),
  overflow: "error",
});
const lock = (summary: string): EventRow => ({
  class: "process",
  source: "volatile",
  summary,
  payload: payload({ path: text, lockId: text, fence: count }),
  overflow: "drop",
});
const error: Schema = { type: "object" };

export const EVENTS = {
  "process.started": process("a process was spawned", { ppid: count, correlation: text }),
  "process.resumed": process("a process goes on from its journal after its host ended"),
  "process.signalled": process("a signal was sent to a process", { signal: text }),
  "process.completed": process("a process exited with code 0"),
  "process.failed": process("a process exited with an error", { error }),
  "process.cancelled": process("a process was ended by a signal", { signal: text }),
  "process.reparented": process("a process belongs to another parent now", { from: count, to: count }),
  "process.sleeping": process("a process was taken out of memory until something wakes it", { until: count }),
  "process.restarting": process("the program of a process has ended and will be run again", {
    delayMs: count,
    error,
  }),
  "process.renewed": process("a process goes on as new, with another input"),
  "process.escalated": process("a process was given up, and the one above it was told", {
    to: count,
    error,
    signal: text,
  }),
  "process.trapped": {
    class: "process",
    source: "volatile",
    summary: "the program of a process has failed, by the kind of its failure",
    payload: payload({ name: text, program: text, trap: text, policy: text, error }),
    overflow: "drop",
  },
  "process.quarantined": process("a process is kept for inspection and runs no more", { error }),
  "process.log": {
    class: "process",
    source: "journal",
    summary: "a process wrote a log line",
    payload: payload({ level: text, text }),
    overflow: "drop",
  },
  "process.progress": {
    class: "process",
    source: "volatile",
    summary: "a process reported progress",
    payload: payload({ done: count, total: count, label: text }),
    overflow: "drop",
  },
  "message.sent": {
    class: "process",
    source: "volatile",
    summary: "a process has sent a message",
    payload: payload({ id: text, to: count, kind: text }),
    overflow: "drop",
  },
  "message.expired": {
    class: "process",
    source: "volatile",
    summary: "nobody has read a message in its time",
    payload: payload({ id: text }),
    overflow: "drop",
  },
  "schedule.fired": schedule("an occurrence of a schedule was done", { child: count }),
  "schedule.missed": schedule("an occurrence was left out because no host acted when it was due"),
  "schedule.skipped": schedule("an occurrence was left out because the process of the last one still lives"),
  "schedule.failed": kept(schedule("an occurrence could not be done, or not yet (EAGAIN)", { error, program: text })),
  "task.submitted": task("a task waits in a queue", "volatile"),
  "task.claimed": task("a process has taken a task", "volatile"),
  "task.returned": task("a task that was claimed waits again", "volatile", { error }),
  "task.completed": task("a task of a queue was done", "log"),
  "task.failed": task("a task of a queue will not be tried again", "log", { error }),
  "task.cancelled": task("a task of a queue shall not be done", "log"),
  "entity.created": entity("an entity was made"),
  "entity.transitioned": entity("an entity has another state", { from: text, why: text, cause: text, depth: count }),
  "entity.failed": entity("the path that a transition, which stands, has executed has failed", {
    from: text,
    error,
    program: text,
  }),
  "artifact.stored": {
    class: "process",
    source: "log",
    summary: "a process has left something behind for others",
    payload: payload({ artifact: text, size: count, visibility: text }),
    overflow: "error",
  },
  "topic.published": {
    class: "process",
    source: "log",
    summary: "a process has told something to whom it concerns",
    payload: payload({ topic: text, user: text, body: {} }),
    overflow: "error",
  },
  "lock.granted": lock("a process holds a lock now"),
  "lock.released": lock("a lock was given back, or taken away"),
  "lock.expired": lock("a lock has ended because its holder did not extend it in time"),
  "breaker.opened": {
    class: "device",
    source: "volatile",
    summary: "a model or a host of the network has failed again and again, and is left alone for a while",
    payload: payload({ device: text, failures: count, coolMs: count, error }),
    overflow: "drop",
  },
  "breaker.closed": {
    class: "device",
    source: "volatile",
    summary: "a device that was left alone has answered again",
    payload: payload({ device: text }),
    overflow: "drop",
  },
  "hook.failed": {
    class: "process",
    source: "volatile",
    summary: "a hook has failed behind the act that it looked at",
    payload: payload({ hook: text, call: text, resource: text, error }),
    overflow: "drop",
  },
  "service.changed": {
    class: "process",
    source: "volatile",
    summary: "a service has another state",
    payload: payload({ name: text, from: text, to: text, why: text, error }),
    overflow: "drop",
  },
  "service.failed": {
    class: "process",
    source: "log",
    summary: "a service has failed; it is started again, or waits for somebody to do that",
    payload: payload({ program: text, to: text, error }),
    overflow: "error",
  },
  "trigger.fired": trigger("a trigger has acted on an event", { child: count }),
  "trigger.missed": trigger("events were no longer kept when a host acted again; the trigger goes on behind them"),
  "trigger.failed": kept(
    trigger("what a trigger does for an event could not be done, or not yet (EAGAIN)", { error, program: text }),
  ),
  "node.started": node("a node of a plan began an attempt", "volatile", { attempt: count }),
  "node.completed": node("a node or step has its outcome", "journal", { ms: { type: "number" } }),
  "node.failed": node("a node or step failed for good", "journal", { error }),
  "node.retried": node("an attempt of a node failed and another follows", "volatile", {
    attempt: count,
    attempts: count,
    delayMs: count,
    error,
  }),
  "node.skipped": node("a node did not run", "journal", { reason: text }),
  "node.cancelled": node("a running node was told to stop", "volatile"),
  "model.text": {
    class: "process",
    source: "volatile",
    summary:
      "a model has said a piece of its answer, number `index` of it; with `isLast` nothing more comes. Told to who names this event alone",
    payload: payload({ place: text, model: text, index: count, text, isLast: { type: "boolean" } }),
    overflow: "drop",
  },
  "model.called": {
    class: "device",
    source: "journal",
    summary: "a model answered",
    payload: payload({ place: text, model: text, inputTokens: count, outputTokens: count, costMicros: count }),
    overflow: "drop",
  },
  "file.written": file("content of a file changed", { created: { type: "boolean" } }),
  "file.deleted": file("a file was removed"),
  "file.renamed": file("a file or directory has a new path"),
  "file.metadata": file("attributes of an entry changed"),
  "file.copied": file("a file was copied"),
  "directory.created": file("a directory was made"),
  "directory.deleted": file("a directory was removed"),
  "mount.added": file("a tree was mounted", { driver: text }),
  "mount.removed": file("a tree was unmounted"),
  "store.pruned": {
    class: "process",
    source: "log",
    summary: "records of ended processes were deleted",
    payload: payload({ runs: count, processes: count, artifacts: count }),
    overflow: "error",
  },
  "store.collected": {
    class: "fs",
    source: "log",
    summary: "content that nothing names was deleted",
    payload: payload({ blobs: count, bytes: count }),
    overflow: "error",
  },
  "capability.denied": {
    class: "security",
    source: "volatile",
    summary: "a call was refused for want of a right",
    payload: payload({ right: text, resource: text, syscall: text, missing: text }),
    overflow: "drop",
  },
  "ask.raised": {
    class: "security",
    source: "log",
    summary: "a process waits for a person's answer",
    payload: payload({ id: count, kind: text, text }),
    overflow: "error",
  },
  "ask.answered": {
    class: "security",
    source: "log",
    summary: "a person has answered a process",
    payload: payload({ id: count, verdict: text, by: text }),
    overflow: "error",
  },
  "resource.warning": {
    class: "performance",
    source: "volatile",
    summary: "a budget is nearly used up",
    payload: payload({ resource: text, used: count, allocation: count, account: count, ratio: { type: "number" } }),
    overflow: "drop",
  },
  "budget.allocated": {
    class: "process",
    source: "log",
    summary: "a budget was added to",
    payload: payload({ account: count, amounts: { type: "object" } }),
    overflow: "error",
  },
  "resource.exceeded": {
    class: "performance",
    source: "volatile",
    summary: "a budget or a limit does not hold what a process needs",
    payload: payload({ resource: text, wanted: count, used: count, allocation: count, account: count }),
    overflow: "drop",
  },
} as const satisfies Record<string, EventRow>;

export type EventName = keyof typeof EVENTS;

export interface KernelEvent {
  readonly name: EventName;
  /** Position of the commit that the event tells of; for volatile ones, of the newest commit before it. */
  readonly seq: Seq;
  /** Wall-clock milliseconds of the host. */
  readonly at: number;
  readonly pid: Pid;
  readonly data: Readonly<Record<string, unknown>>;
}

/** Whether `text` names an event of the table. */
export function isEventName(text: string): text is EventName {
  return Object.hasOwn(EVENTS, text);
}
