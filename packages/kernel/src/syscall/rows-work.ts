// Rows of the work and resource planes: steps, models, time, randomness, logs, usage.

import { MODEL_REQUEST_SCHEMA, type ModelResponse } from "../abi/model.ts";
import { orAborted } from "../base/abort.ts";
import { setAlarm } from "../proc/alarm.ts";
import { type ErrorRecord, knownError } from "../base/errno.ts";
import type { Seq } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { present } from "../base/present.ts";
import type { Rider } from "../ipc/committer.ts";
import { printable } from "../journal/format.ts";
import type { JournalRecord, Outcome } from "../journal/record.ts";
import type { Process } from "../proc/process.ts";
import type { Host } from "./host.ts";
import { type InferCall, infer } from "./infer.ts";
import {
  type FetchAnswer,
  type FetchCall,
  type NetTarget,
  fetchUrl,
  netNeeds,
  netOf,
  netTarget,
  plainRequest,
  privateNeeds,
} from "./net-fetch.ts";
import { assertStill } from "./policy.ts";
import { type ToolCall, callTool, plainArguments } from "./tool-call.ts";
import { taken } from "./placed.ts";
import { type AtPlace, anything, args, atPlace, errorRecord, flag, integer, place, row, text } from "./row.ts";
import { usageAppend } from "./spend.ts";

export interface Placed {
  /** Path of the step in its program, unique in the process. */
  readonly place: string;
}

/** As much of a text as a line of the log may be. */
const clipLine = (given: string): string =>
  given.length > LIMITS.logLineMax ? `${given.slice(0, LIMITS.logLineMax)}…` : given;

const onUnknown = { type: "string", enum: ["fail", "repeat"] } as const;
const self = (_host: Host, caller: Process): { readonly resource: string } => caller.self;

/** Records a value the first time and returns the recorded one ever after. */
async function recorded<T>(
  caller: Process,
  call: string,
  at: string,
  rider: Rider | undefined,
  make: () => T | Promise<T>,
): Promise<T> {
  return taken(caller, call, at, async () => {
    const value = await make();
    if (caller.journal === undefined) return value;
    await caller.journal.end(at, { value }, { rider }).done;
    caller.usage.steps++;
    return value;
  });
}

export const WORK_ROWS = {
  stepBegin: row<Placed & { readonly acts?: boolean }, Outcome | undefined | Promise<Outcome | undefined>>({
    right: "proc.step",
    kind: "mutation",
    audit: "none",
    summary:
      "takes a step's place: its recorded outcome, or nothing when it is to be done now; who ends this life of the process waits for one that `acts`",
    isHot: true,
    schema: args({ place, acts: flag }, ["place"]),
    target: self,
    handle: (_host, caller, a) => {
      const outcome = caller.journal?.begin(a.place, "step");
      if (outcome !== undefined) caller.usage.replayed++;
      else if (a.acts === true) caller.stepBegun(a.place);
      return outcome;
    },
  }),
  stepEnd: row<
    Placed & {
      readonly value?: unknown;
      readonly error?: ErrorRecord;
      readonly ms?: number;
      readonly detached?: boolean;
      /** The failure is accepted: a retry of the run does not try the step again. */
      readonly kept?: boolean;
    },
    Promise<void> | undefined
  >({
    right: "proc.step",
    kind: "mutation",
    whileHeld: true,
    audit: "place",
    summary: "records the outcome of a step; `detached` does not wait for the commit where order is enough",
    isHot: true,
    schema: args(
      {
        place,
        value: anything,
        error: errorRecord,
        ms: { type: "number", minimum: 0 },
        detached: flag,
        kept: flag,
      },
      ["place"],
    ),
    target: self,
    handle: (host, caller, given, _target, draft) => {
      // The code of an error is taken for one of the kernel's wherever it is told.
      const a = given.error === undefined ? given : { ...given, error: knownError(given.error) };
      caller.usage.steps++;
      const { journal } = caller;
      if (journal === undefined) {
        publishStep(host, caller, a, host.store.seq);
        caller.stepOver(a.place);
        return undefined;
      }
      const outcome = a.error === undefined ? { value: a.value } : { error: a.error };
      const { isLarge, done } = journal.end(a.place, outcome, {
        ...(a.ms === undefined ? {} : { ms: a.ms }),
        ...(a.kept === undefined ? {} : { kept: a.kept }),
        rider: draft,
      });
      if (a.detached === true && !isLarge && !host.bus.hasSubscribers) {
        // A store that refuses this has poisoned itself: the exit of the process says so.
        done.catch(ignore);
        return undefined;
      }
      const told = done.then((receipt) => {
        publishStep(host, caller, a, receipt.seq);
        caller.stepOver(a.place);
      });
      if (a.detached !== true || isLarge) return told;
      told.catch(ignore);
      return undefined;
    },
  }),
  stepRetract: row<Placed, void>({
    right: "proc.step",
    kind: "mutation",
    whileHeld: true,
    audit: "none",
    summary: "gives a place back because its attempt failed and another follows",
    schema: args({ place }, ["place"]),
    target: self,
    handle: (_host, caller, a) => {
      caller.journal?.retract(a.place);
      caller.stepOver(a.place);
    },
  }),
  stepFail: row<Placed & { readonly error: ErrorRecord }, void>({
    right: "proc.step",
    kind: "mutation",
    whileHeld: true,
    audit: "place",
    summary:
      "records that a call at a place has failed for good, so that a later life goes on from that too; where it has no outcome, and does not wait for the commit",
    schema: args({ place, error: errorRecord }, ["place", "error"]),
    target: self,
    handle: (_host, caller, a, _target, draft) => {
      const { journal } = caller;
      if (journal === undefined || caller.isEnding || !journal.isFree(a.place)) return;
      caller.usage.steps++;
      journal.end(a.place, { error: knownError(a.error) }, { rider: draft }).done.catch(ignore);
    },
  }),
  stepForget: row<Placed, Promise<void>>({
    right: "proc.step",
    kind: "mutation",
    audit: "place",
    summary: "outcomes at a place and below it count no more, as of what was taken back; of an empty place all of them",
    schema: args({ place: { type: "string", maxLength: LIMITS.placeMax } }, ["place"]),
    target: self,
    handle: async (_host, caller, a, _target, draft) => caller.journal?.forget(a.place, draft),
  }),
  stepSkip: row<Placed & { readonly why: string }, void>({
    right: "proc.step",
    kind: "mutation",
    whileHeld: true,
    audit: "place",
    summary: "records that a step is not done, and why; does not wait for the commit",
    schema: args({ place, why: text }, ["place", "why"]),
    target: self,
    handle: (host, caller, a, _target, draft) => {
      const { pid, journal } = caller;
      const why = clipLine(a.why);
      const tell = (seq?: Seq): void => {
        if (host.bus.hasSubscribers) {
          host.bus.publish({ name: "node.skipped", pid, data: { place: a.place, reason: why } }, seq);
        }
      };
      if (journal === undefined) return tell();
      const record = { t: "skip", at: host.committer.now(), p: a.place, why } as const;
      journal.note(record, undefined, draft).then(({ seq }) => tell(seq), ignore);
    },
  }),
  infer: row<InferCall, Promise<ModelResponse>>({
    right: "model.infer",
    kind: "mutation",
    isLong: true,
    summary: "asks a model, within the budget; a recorded answer is not paid for again",
    plain: ({ onText: _here, ...rest }) => rest,
    schema: args({ place, request: MODEL_REQUEST_SCHEMA, onUnknown }, ["place", "request"]),
    target: (host, _caller, { request }) => ({ resource: request.model ?? host.models.defaultName }),
    conditions: ({ request }) => request,
    audited: ({ place: at, request }) => ({ place: at, messages: request.messages.length }),
    recordedAt: atPlace,
    handle: (host, caller, a, target, draft) => infer(host, caller, a, target.resource, draft),
  }),
  call: row<ToolCall, Promise<unknown>>({
    right: "tool.call",
    kind: "mutation",
    isLong: true,
    summary: "calls a tool with arguments; a recorded result is not asked for again",
    schema: args({ place, tool: text, arguments: { type: "object" }, onUnknown }, ["place", "tool"]),
    target: (_host, _caller, { tool }) => ({ resource: tool }),
    conditions: (a, host, caller) => plainArguments(host, caller, a),
    audited: (a) => ({ place: a.place, arguments: Object.keys(a.arguments ?? {}) }),
    recordedAt: atPlace,
    handle: (host, caller, a, _target, draft) => callTool(host, caller, a, draft),
  }),
  fetch: row<FetchCall, Promise<FetchAnswer>>({
    right: "net.connect",
    kind: "mutation",
    isLong: true,
    summary:
      "makes a request over http; every host on the way needs the right, and a recorded answer is not asked for again",
    schema: args(
      {
        place,
        url: { type: "string", minLength: 1, maxLength: 8192 },
        method: { type: "string", enum: ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] },
        headers: { type: "object", additionalProperties: text },
        body: text,
        maxBytes: { type: "integer", minimum: 0, maximum: LIMITS.outcomeBytesMax },
        onUnknown,
      },
      ["place", "url"],
    ),
    target: (host, caller, a) =>
      caller.journal?.isRecorded(a.place) === true
        ? { resource: netOf(host).locate(a.url).host }
        : netTarget(host, caller, a.url, plainRequest(host, a), a.signal),
    alsoNeeds: (_a, _caller, target) => privateNeeds(target),
    conditions: (a, host) => plainRequest(host, a),
    audited: ({ place: at, method, url }) => ({ place: at, method: method ?? "GET", url }),
    recordedAt: atPlace,
    handle: (host, caller, a, target, draft) => fetchUrl(host, caller, a, target, draft),
  }),
  connect: row<{ readonly url: string }, Omit<NetTarget, "resource"> & { readonly url: string }>({
    right: "net.connect",
    kind: "mutation",
    summary:
      "asks whether a connection to a host may be made, for the proxy of a confined process; where it leads then, and at which addresses if those are bounded",
    schema: args({ url: { type: "string", minLength: 1, maxLength: 8192 } }, ["url"]),
    target: (host, caller, { url }) => netTarget(host, caller, url, { url }),
    alsoNeeds: (_a, _caller, target) => privateNeeds(target),
    audited: () => ({}),
    handle: (_host, _caller, { url }, { addresses, isPrivate }: NetTarget) => present({ url, addresses, isPrivate }),
  }),
  transfer: row<{ readonly url: string; readonly bytes: number; readonly isPrivate?: boolean }, Promise<void>>({
    right: "proc.step",
    kind: "mutation",
    // Its connection is recorded, and each piece is in the ledger.
    audit: "none",
    summary: "charges bytes of a connection that may still be there, before they go on",
    schema: args({ url: { type: "string", minLength: 1, maxLength: 8192 }, bytes: integer, isPrivate: flag }, [
      "url",
      "bytes",
    ]),
    target: self,
    spends: ({ bytes }) => ({ netBytes: bytes }),
    handle: async (host, caller, { url, bytes, isPrivate = false }) => {
      const resource = netOf(host).locate(url).host;
      // The connection was asked for, counted and allowed as a whole.
      for (const need of netNeeds({ resource, isPrivate })) assertStill(host, caller, "connect", need, { url });
      const entry = { place: `proxy ${resource}`, tool: "fetch", used: { netBytes: bytes } };
      await host.committer.commit({ appends: [usageAppend(host, caller, entry)] });
    },
  }),
  now: row<Placed, Promise<number>>({
    right: "proc.step",
    kind: "mutation",
    audit: "place",
    summary: "wall-clock milliseconds, the same ones after a resumption",
    isHot: true,
    schema: args({ place }, ["place"]),
    target: self,
    recordedAt: atPlace,
    handle: (host, caller, a, _target, draft) =>
      recorded(caller, "now", a.place, draft, () => host.platform.clock.now()),
  }),
  random: row<Placed, Promise<number>>({
    right: "proc.step",
    kind: "mutation",
    audit: "place",
    summary: "a number from 0 up to 1, the same one after a resumption",
    isHot: true,
    schema: args({ place }, ["place"]),
    target: self,
    recordedAt: atPlace,
    handle: (host, caller, a, _target, draft) =>
      recorded(caller, "random", a.place, draft, () => {
        const [a0 = 0, b0 = 0, c0 = 0, d0 = 0, e0 = 0, f0 = 0] = host.platform.random(6);
        return (((a0 * 256 + b0) * 256 + c0) * 256 ** 3 + ((d0 * 256 + e0) * 256 + f0)) / 256 ** 6;
      }),
  }),
  sleepUntil: row<Placed & { readonly until: number; readonly signal?: AbortSignal }, Promise<void>>({
    right: "proc.step",
    kind: "mutation",
    waits: true,
    audit: "place",
    summary: "waits until an instant of the wall clock",
    schema: args({ place, until: integer }, ["place", "until"]),
    target: self,
    recordedAt: atPlace,
    handle: (host, caller, a, _target, draft) =>
      recorded(caller, "sleepUntil", a.place, draft, async () => {
        const wait = caller.waitFor(`timer ${new Date(a.until).toISOString()}`);
        await sleepUntil(host, caller.signalWith(a.signal), a.until).finally(() => caller.stopWaiting(wait));
      }),
  }),
  log: row<AtPlace & { readonly text: string; readonly level?: string }, Promise<void>>({
    right: "proc.step",
    kind: "mutation",
    whileHeld: true,
    audit: "place",
    summary:
      "writes a line to the process's log; at a place, one that an earlier life has written there is not written again",
    schema: args(
      {
        place,
        text: { type: "string", maxLength: LIMITS.logLineMax },
        level: { type: "string", enum: ["debug", "info", "warn", "error"] },
      },
      ["text"],
    ),
    target: self,
    handle: async (host, caller, a, _target, draft) => {
      const line = clipLine(a.text);
      const level = a.level ?? "info";
      if (a.place !== undefined && caller.journal?.hasSaid(a.place, line) === true) return;
      const receipt = await caller.journal?.note(
        { t: "log", at: host.committer.now(), level, text: line, ...(a.place === undefined ? {} : { p: a.place }) },
        undefined,
        draft,
      );
      if (host.bus.hasSubscribers)
        host.bus.publish({ name: "process.log", pid: caller.pid, data: { level, text: line } }, receipt?.seq);
    },
  }),
  progress: row<{ readonly done: number; readonly total: number; readonly label?: string }, void>({
    right: "proc.step",
    kind: "mutation",
    whileHeld: true,
    audit: "none",
    summary: "tells how far the process has come",
    schema: args({ done: integer, total: integer, label: text }, ["done", "total"]),
    target: self,
    handle: (host, caller, a) => {
      caller.progress = { done: a.done, total: a.total, label: clipLine(a.label ?? "") };
      if (host.bus.hasSubscribers)
        host.bus.publish({ name: "process.progress", pid: caller.pid, data: { ...caller.progress } });
    },
  }),
  nodeEvent: row<
    {
      readonly name: "node.started" | "node.retried" | "node.cancelled";
      readonly data: Readonly<Record<string, unknown>>;
    },
    void
  >({
    right: "proc.step",
    kind: "mutation",
    whileHeld: true,
    audit: "none",
    summary: "tells who listens about an attempt of a node",
    isHot: true,
    schema: args(
      { name: { type: "string", enum: ["node.started", "node.retried", "node.cancelled"] }, data: { type: "object" } },
      ["name", "data"],
    ),
    target: self,
    handle: (host, caller, a) => {
      const retry = retryOf(host, caller, a);
      if (retry !== undefined) caller.journal?.note({ t: "attempt", at: host.committer.now(), ...retry }).catch(ignore);
      if (host.bus.hasSubscribers) host.bus.publish({ name: a.name, pid: caller.pid, data: a.data });
    },
  }),
  flush: row<Record<string, never>, Promise<void>>({
    right: "proc.step",
    kind: "query",
    summary: "settles when everything this host has committed survives a loss of power",
    schema: args({}),
    target: self,
    handle: (host) => host.store.flush(),
  }),
} as const;

const ignore = (): void => undefined;

function publishStep(
  host: Host,
  caller: Process,
  a: Placed & { readonly error?: ErrorRecord; readonly ms?: number },
  seq: Seq,
): void {
  if (!host.bus.hasSubscribers) return;
  const { pid } = caller;
  if (a.error === undefined)
    host.bus.publish({ name: "node.completed", pid, data: { place: a.place, ms: a.ms ?? 0 } }, seq);
  else host.bus.publish({ name: "node.failed", pid, data: { place: a.place, error: a.error } }, seq);
}

type AttemptRecord = Extract<JournalRecord, { readonly t: "attempt" }>;

/**
 * An attempt that is to come, as the journal keeps it; whoever asks what its process waits for is told of it: which, when,
 * and why.
 */
function retryOf(
  host: Host,
  caller: Process,
  { name, data }: { readonly name: string; readonly data: Readonly<Record<string, unknown>> },
): Omit<AttemptRecord, "t" | "at"> | undefined {
  const { place, attempt, attempts, delayMs, error, trail = "" } = data;
  if (typeof place !== "string" || place.length > LIMITS.placeMax) return undefined;
  const before = caller.retries?.get(place);
  if (before !== undefined) {
    caller.stopWaiting(before);
    caller.restOver(place);
    caller.retries?.delete(place);
  }
  if (typeof trail !== "string" || trail.length > LIMITS.placeMax) return undefined;
  if (name !== "node.retried" || typeof attempt !== "number" || typeof delayMs !== "number") return undefined;
  if (!Number.isSafeInteger(attempt) || attempt < 1 || !(delayMs >= 0)) return undefined;
  const until = Math.min(Math.ceil(host.platform.clock.now() + delayMs), TIME_MAX);
  const { message } = (error ?? {}) as { readonly message?: unknown };
  const which = typeof attempts === "number" ? `${attempt + 1} of ${attempts}` : `${attempt + 1}`;
  // Masked before it is cut: a part of a secret would be none that is known.
  const why = host.vault.maskText(typeof message === "string" ? message : "it failed").slice(0, RETRY_TEXT_MAX);
  caller.retries ??= new Map();
  if (caller.retries.size < RETRIES_MAX) {
    const text = `attempt ${which} of ${host.vault.maskText(place)} at ${new Date(until).toISOString()}: ${why}`;
    caller.retries.set(place, caller.waitFor(printable(text.slice(0, RETRY_TEXT_MAX))));
    caller.restBegun(place);
  }
  return { p: place, attempt, until, why, trail };
}

/** Of one process at a time; of more the rest is not shown, and waited for. */
const RETRIES_MAX = 10_000;
const RETRY_TEXT_MAX = 300;
/** The last instant that has a date. */
const TIME_MAX = 8.64e15;

async function sleepUntil(host: Host, signal: AbortSignal, until: number): Promise<void> {
  if (until <= host.platform.clock.now()) return;
  const wake = Promise.withResolvers<void>();
  const alarm = setAlarm(host.platform, until, wake.resolve);
  try {
    await orAborted(wake.promise, signal);
  } finally {
    alarm.cancel();
  }
}
