// Triggers: what is done when something happens.
//
// X1  What a trigger does for an event is one commit with its position in the events: each is acted on at most once,
//     and whatever was recorded while no host acted is acted on when one does, as far back as events are kept.
// X2  A trigger acts as the process that made it, with its rights of that moment, and ends with it.
// X3  It does not act on what it has caused itself: what a process it started, or one below that, does.
// X4  Those that set each other off come to an end: so many orders stand one behind the other, and no more (ELOOP).

import type { EventBus } from "../ipc/event-bus.ts";
import { EVENTS, type KernelEvent } from "../abi/event.ts";
import type { Metastore } from "../abi/metastore.ts";
import type { Platform } from "../abi/platform.ts";
import { cancelled, orAborted } from "../base/abort.ts";
import { type ErrorRecord, KernelError, isKernelError, toErrorRecord } from "../base/errno.ts";
import { PID_OWNER, type Pid, type Seq, toSeq } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import { bodyOf, compileTopics, topicOf } from "../ipc/topic.ts";
import { type Act, type Action, type Along, type Order, assertAction, merge, nameOfAction } from "./action.ts";
import type { Family } from "./family.ts";
import { OwnedTable } from "./owned-table.ts";
import { type Process, correlationOf } from "./process.ts";

export interface TriggerRequest {
  /** For people; two triggers of a process do not share one. */
  readonly name?: string;
  /** Pattern of topics, as `orders.*`, or of events of the kernel, as `process.completed`. */
  readonly topic: string;
  /** Fields of the event that must have these values, as `{ "name": "nightly" }`; `a.b` goes into objects. */
  readonly where?: Readonly<Record<string, unknown>>;
  /** A program without input gets the event as it, a message without body has it as its body. */
  readonly action: Action;
  /** It is over after it has acted so often. */
  readonly times?: number;
  /**
   * Makes it an alert: it acts when so many events have come within so many milliseconds, and again only after there
   * were fewer.
   */
  readonly threshold?: { readonly count: number; readonly withinMs: number };
}

export interface Trigger extends TriggerRequest {
  readonly id: number;
  /** The process that made it, and acts. */
  readonly pid: Pid;
  readonly created: number;
  readonly runs: number;
  /** Events up to this position were acted on, and of those at it so many. */
  readonly after: Seq;
  readonly done: number;
  readonly last?: { readonly at: number; readonly pid?: Pid; readonly error?: ErrorRecord };
  /** Of an alert: instants of the newest events, and whether it is raised. */
  readonly recent?: readonly number[];
  readonly isRaised?: boolean;
}

/** What a trigger hands on of an event. */
export interface Happening {
  readonly topic: string;
  readonly body: unknown;
  /** The process that it is of. */
  readonly pid: Pid;
  readonly at: number;
  readonly seq: Seq;
}

export interface TriggerParts {
  readonly store: Metastore;
  readonly committer: Committer;
  readonly bus: EventBus;
  readonly platform: Platform;
  readonly family: Family;
  readonly recall: (pid: Pid) => Promise<Process | undefined>;
  readonly act: Act;
}

const causeOf = (id: number): string => `trigger ${id}`;

/** So often a trigger may act in so many milliseconds; what comes faster waits. */
const RATE_MAX = 2000;
/** A mailbox without room is tried again after so long. */
const FULL_RETRY_MS = 250;
const RATE_MS = 10_000;

/** A position behind everything that was committed so far. */
const behind = (after: Seq): Pick<Trigger, "after" | "done"> => ({ after, done: Number.MAX_SAFE_INTEGER });

export class TriggerTable {
  readonly #parts: TriggerParts;
  readonly #table: OwnedTable<Trigger>;
  readonly #running = new Map<number, AbortController>();
  /** When each acted lately. */
  readonly #acts = new WeakMap<AbortSignal, readonly number[]>();
  #isActive = false;

  constructor(parts: TriggerParts) {
    this.#parts = parts;
    this.#table = new OwnedTable({ ...parts, what: "trigger", prefix: "tr", max: LIMITS.triggersMax });
  }

  boot(): Promise<void> {
    return this.#table.boot();
  }

  /** From now on triggers act, on what was recorded meanwhile first. */
  activate(): void {
    this.#isActive = true;
    for (const trigger of this.#table.all) this.#start(trigger);
  }

  get all(): readonly Trigger[] {
    return this.#table.all.map((trigger) => this.#now(trigger));
  }

  get(id: number): Trigger | undefined {
    const trigger = this.#table.get(id);
    return trigger === undefined ? undefined : this.#now(trigger);
  }

  /** An alert is raised as long as its window holds enough events. */
  #now(trigger: Trigger): Trigger {
    const { threshold, recent = [] } = trigger;
    if (threshold === undefined) return trigger;
    const since = this.#parts.committer.now() - threshold.withinMs;
    return { ...trigger, isRaised: recent.filter((at) => at > since).length >= threshold.count };
  }

  /**
   * Acts on what happens from now on.
   * @throws {EINVAL} it is no pattern, or no action · {EEXIST} the process has one of that name
   * @throws {EAGAIN} there are as many as there may be
   */
  async add(
    process: Process,
    request: TriggerRequest,
    along: (trigger: Trigger) => Along,
    rider?: Rider,
  ): Promise<Trigger> {
    const { committer, store } = this.#parts;
    assertAction(request.action);
    compileTopics([request.topic]);
    const { pid } = process;
    const trigger = await this.#table.make(
      pid,
      request.name,
      (id): Trigger => ({ ...request, id, pid, created: committer.now(), runs: 0, ...behind(store.seq) }),
      (puts, made) => committer.commit(merge({ puts }, along(made)), undefined, rider),
    );
    this.#start(trigger);
    return trigger;
  }

  /** @throws {ENOENT} there is none of this number */
  async remove(id: number, rider?: Rider): Promise<void> {
    if (this.#table.get(id) === undefined)
      throw new KernelError("ENOENT", `there is no trigger ${id}; /sys/triggers lists them`, { syscall: "untrigger" });
    this.#stop(id);
    await this.#parts.committer.commit(this.#table.changeOf(id, undefined), undefined, rider);
  }

  /** Ends the triggers of a process with it (X2). */
  drop(pid: Pid): Promise<unknown> | undefined {
    const gone = this.#table.ofProcess(pid);
    for (const { id } of gone) this.#stop(id);
    return gone.length === 0 ? undefined : this.#parts.committer.commit(this.#table.without(gone));
  }

  close(): void {
    this.#isActive = false;
    for (const controller of this.#running.values()) controller.abort();
  }

  /** Forgets a trigger: what it is doing finds it gone, and its commit is refused. */
  #stop(id: number): void {
    this.#table.keep(id, undefined);
    this.#running.get(id)?.abort();
    this.#running.delete(id);
  }

  #start({ id }: Trigger): void {
    if (!this.#isActive || this.#running.has(id)) return;
    const controller = new AbortController();
    const follow = async (): Promise<void> => {
      for (let gaps = 0; this.#isFollowed(id, controller);) {
        try {
          return await this.#follow(id, controller);
        } catch (error) {
          const code = isKernelError(error) ? error.code : undefined;
          if (code === "ESTALE") await this.#skip(id, gaps++ === 0);
          // A subscription that has fallen too far behind begins again where the trigger is.
          else if (code !== "EAGAIN") return;
        }
      }
    };
    this.#running.set(id, controller);
    // The store is poisoned and says so to everybody; the next start goes on.
    follow().catch(() => undefined);
  }

  #isFollowed(id: number, { signal }: AbortController): boolean {
    return this.#isActive && !signal.aborted && this.#table.get(id) !== undefined;
  }

  /** Acts on event after event, until the trigger is over. */
  async #follow(id: number, controller: AbortController): Promise<void> {
    const first = this.#table.get(id);
    if (first === undefined) return;
    const { topic, where, after } = first;
    // Those of the position itself come again; so many of them were acted on.
    const filter = { topics: [topic], ...(where === undefined ? {} : { where }), after: toSeq(Math.max(0, after - 1)) };
    let seen = 0;
    let at = after;
    for await (const event of this.#parts.bus.subscribe({ ...filter, signal: controller.signal })) {
      const trigger = this.#table.get(id);
      if (trigger === undefined || !this.#isFollowed(id, controller)) return;
      const isLogged = EVENTS[event.name].source === "log";
      if (event.seq !== at) [at, seen] = [event.seq, 0];
      if (isLogged) seen++;
      const isDone = event.seq < trigger.after || (event.seq === trigger.after && isLogged && seen <= trigger.done);
      if (isDone || (await this.#isOwn(event, trigger)) || !this.#mayHear(event, trigger)) continue;
      await this.#pace(controller);
      // What is told and not logged has no place in the order: it moves nothing.
      const { after, done } = trigger;
      const place = isLogged ? { after: at, done: seen } : { after, done };
      let acted = await this.#act(trigger, event, place);
      if (typeof acted === "object") this.#tellFull(trigger, event, acted.full);
      // Nobody loses what a full mailbox or group has no room for yet.
      while (typeof acted === "object" && this.#isFollowed(id, controller)) {
        await this.#wait(FULL_RETRY_MS, controller);
        acted = await this.#act(this.#table.get(id) ?? trigger, event, place);
      }
      if (acted !== "on") return;
    }
  }

  /** Lets others have their turn before each act, and holds up what acts more often than anything should. */
  async #pace(controller: AbortController): Promise<void> {
    const { signal } = controller;
    const { platform } = this.#parts;
    const now = platform.clock.monotonic();
    const recent = this.#acts.get(signal)?.filter((at) => at > now - RATE_MS) ?? [];
    this.#acts.set(signal, [...recent.slice(-RATE_MAX), now]);
    if (recent.length < RATE_MAX) return new Promise((go) => platform.defer(go));
    await this.#wait(RATE_MS, controller);
  }

  async #wait(ms: number, { signal }: AbortController): Promise<void> {
    const { platform } = this.#parts;
    const wake = Promise.withResolvers<void>();
    const timer = platform.setTimer(ms, wake.resolve, { idle: true });
    try {
      await orAborted(wake.promise, signal);
    } finally {
      timer.cancel();
    }
  }

  /** Goes on with the oldest events that are still kept: those before are gone. */
  async #skip(id: number, isFirst: boolean): Promise<void> {
    const { committer, bus } = this.#parts;
    const trigger = this.#table.get(id);
    if (trigger === undefined) return;
    // It reads from the position before, so that those of the position itself come again.
    const after = toSeq((await bus.oldest(trigger.after)) + 1);
    const moved = { ...trigger, after, done: 0 };
    await committer.commit(this.#table.changeOf(id, moved));
    this.#table.keep(id, moved);
    if (!isFirst) return;
    const { pid, name, topic, action } = trigger;
    const data = { id, topic, action: nameOfAction(action), ...(name === undefined ? {} : { name }) };
    committer.publish({ name: "trigger.missed", pid, data });
  }

  /** Whether a trigger has caused an event itself (X3). */
  async #isOwn({ name, pid, data }: KernelEvent, { id, pid: owner, action }: Trigger): Promise<boolean> {
    if (name.startsWith("trigger.") && data["id"] === id) return true;
    if (data["cause"] === causeOf(id)) return true;
    if (name === "message.sent" && pid === owner && data["to"] === action.message?.["to"]) return true;
    const { recall } = this.#parts;
    for (let process = await recall(pid); process !== undefined;) {
      if (process.identity.cause === causeOf(id)) return true;
      const { ppid } = process.identity;
      process = ppid === undefined ? undefined : await recall(ppid);
    }
    return false;
  }

  /** What processes publish is for those of their user, as their messages are; the owner's is for everybody. */
  #mayHear({ name, pid, data }: KernelEvent, { pid: owner }: Trigger): boolean {
    if (name !== "topic.published" || pid === PID_OWNER || owner === PID_OWNER) return true;
    return data["user"] === this.#parts.family.get(owner)?.identity.user;
  }

  /** Told once for each event that is held up. */
  #tellFull(trigger: Trigger, event: KernelEvent, error: ErrorRecord): void {
    const { id, pid, name, action } = trigger;
    const data = { id, topic: topicOf(event), action: nameOfAction(action), error, program: programOf(trigger) };
    const failure = {
      name: "trigger.failed",
      pid,
      data: { ...data, ...(name === undefined ? {} : { name }) },
    } as const;
    // A store that takes nothing more has said so to whoever waits for it.
    void this.#parts.committer.commit({}, [failure]).catch(() => undefined);
  }

  /** Which order in a row an act on an event is (X4), and what it belongs to. */
  async #originOf({ pid, data }: KernelEvent): Promise<Pick<Order, "depth" | "correlation">> {
    const source = await this.#parts.recall(pid);
    // What an order does as its process says so itself.
    const depth = Number(data["depth"] ?? 0);
    return {
      depth: Math.max(source?.identity.depth ?? 0, depth) + 1,
      correlation: source === undefined || pid === PID_OWNER ? undefined : correlationOf(source.identity),
    };
  }

  /** Acts on one event: the trigger goes on, is over, or comes to something that has no room now. */
  async #act(
    trigger: Trigger,
    event: KernelEvent,
    at: Pick<Trigger, "after" | "done">,
  ): Promise<"on" | "over" | { readonly full: ErrorRecord }> {
    const { family, committer } = this.#parts;
    const { id, pid, name, action } = trigger;
    const process = family.get(pid);
    // Whoever looks at it may let it go on.
    if (process?.state.name === "quarantined") return { full: process.state.error };
    if (process === undefined || !process.isAlive || process.isEnding) return "over";
    const counted = count(trigger, event.at);
    if (counted !== undefined && (!counted.isRaised || trigger.isRaised === true)) {
      const waiting: Trigger = { ...trigger, ...at, ...counted };
      await committer.commit(this.#table.changeOf(id, waiting));
      this.#table.keep(id, waiting);
      return "on";
    }
    const moved: Trigger = { ...trigger, ...at, ...counted, runs: trigger.runs + 1 };
    const isOver = trigger.times !== undefined && moved.runs >= trigger.times;
    const now = committer.now();
    const after = (started?: Pid): Trigger => ({
      ...moved,
      last: { at: now, ...(started === undefined ? {} : { pid: started }) },
    });
    const along = (one: Trigger): Along => {
      if (this.#table.get(id) === undefined) throw cancelled(`trigger ${id} was ended`);
      return this.#table.changeOf(id, isOver ? undefined : one);
    };
    const data = { id, topic: topicOf(event), action: nameOfAction(action), ...(name === undefined ? {} : { name }) };
    const fail = async (error: ErrorRecord): Promise<Trigger> => {
      const failed = { ...moved, last: { at: now, error } };
      const failure = { ...data, error, program: programOf(trigger) };
      // One that has ended meanwhile, by what it did perhaps, has failed all the same.
      const change = this.#table.get(id) === undefined ? {} : along(failed);
      await committer.commit(change, [{ name: "trigger.failed", pid, data: failure }]);
      return failed;
    };
    let next: Trigger;
    try {
      const acted = await this.#parts.act(process, withEvent(action, event), (child) => along(after(child)), {
        cause: causeOf(id),
        ...(await this.#originOf(event)),
      });
      const failed = await acted.failing;
      if (failed !== undefined) next = await fail(failed);
      else {
        next = after(acted.pid);
        const child = acted.pid === undefined ? {} : { child: acted.pid };
        committer.publish({ name: "trigger.fired", pid, data: { ...data, ...child } });
      }
    } catch (error) {
      // A host that ends does nothing any more: the next one acts on it.
      if (this.#table.get(id) === undefined || !this.#isActive) return "over";
      if (isKernelError(error) && error.code === "EAGAIN") return { full: toErrorRecord(error) };
      next = await fail(toErrorRecord(error));
    }
    if (this.#table.get(id) === undefined) return "over";
    this.#table.keep(id, isOver ? undefined : next);
    if (isOver) this.#running.delete(id);
    return isOver ? "over" : "on";
  }
}

const programOf = ({ id, name }: Trigger): string => `trigger ${name ?? id}`;

/** An alert after one more event; nothing for a trigger that acts on each. */
function count(
  { threshold, recent = [] }: Trigger,
  at: number,
): { readonly recent: readonly number[]; readonly isRaised: boolean } | undefined {
  if (threshold === undefined) return undefined;
  const within = [...recent.filter((one) => one > at - threshold.withinMs), at].slice(-threshold.count);
  return { recent: within, isRaised: within.length >= threshold.count };
}

/** What is started or sent without an input of its own gets the event. */
function withEvent(action: Action, event: KernelEvent): Action {
  const { pid, at, seq } = event;
  const happening: Happening = { topic: topicOf(event), body: bodyOf(event), pid, at, seq };
  const { spawn, message } = action;
  if (spawn !== undefined) return { spawn: { input: happening, ...spawn } };
  return message === undefined ? action : { message: { body: happening, ...message } };
}
