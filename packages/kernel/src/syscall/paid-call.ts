// A call that is paid for or acts outside of the host: of a model, a tool, the network. How all of them go.
//
// C1  What it needs is reserved, and its intent recorded, before it acts (W1, J3); its outcome settles that in one commit.
// C2  Of one that was cut off nobody knows what it did: an effect that must not happen twice is EUNKNOWN until somebody
//     has looked, over restarts too.
// C3  What has acted has an outcome, a failure if that cannot be recorded; what has failed before gives back what was
//     reserved for it.

import type { Batch, Receipt } from "../abi/metastore.ts";
import type { Tool } from "../abi/tool.ts";
import { linkSignal, orAborted } from "../base/abort.ts";
import { type Errno, KernelError, isKernelError, toErrorRecord, toKernelError } from "../base/errno.ts";
import type { Seq } from "../base/id.ts";
import type { Reservation } from "../budget/account.ts";
import type { Called } from "../budget/ledger.ts";
import type { Taken } from "../budget/rate.ts";
import { type Amounts, type Resource, resourcesOf } from "../budget/resource.ts";
import type { Rider } from "../ipc/committer.ts";
import type { Intent } from "../journal/journal.ts";
import type { CallUsage } from "../journal/record.ts";
import type { Process } from "../proc/process.ts";
import type { Host } from "./host.ts";
import { isNested, isUnderWay, stepAround } from "./row.ts";
import { type Held, type Standby, reserve, usageAppend, warn } from "./spend.ts";

/** What is its own of a call, whatever its result. */
interface Call {
  readonly syscall: "infer" | "call" | "fetch";
  /** As it was asked for. */
  readonly given: { readonly place: string; readonly onUnknown?: "fail" | "repeat" };
  readonly rider: Rider | undefined;
  /** What ends it. */
  readonly signal: AbortSignal;
  /** What it is, for messages and for whoever asks what its process waits for: `model small`. */
  readonly what: string;
  /** The same, as the ledger names it. */
  readonly of: Called;
  /** What a repetition would do. */
  readonly effect: Tool["effect"];
  /** The same for the same call after a restart; after a change of the program the same place is another call. */
  readonly key: string;
  /** What it may use. */
  readonly amounts: Amounts;
  /** Not one of those that its process may have under way at a time. */
  readonly isUncounted?: true;
  /** What a call that was cut off had reserved is spent although this one repeats it. */
  readonly paysAgain?: true;
  /** Given up by its process too it may have acted: a restart does not make it again, where that must not happen twice. */
  readonly staysUnknown?: true;
  /** How a failure is told that is none of the kernel's. */
  readonly fails: { readonly code: Errno; readonly path?: string };
  /**
   * Waits until its turn has come, and looks whether it would be made at all, before anything is reserved; gives what it
   * has taken of rates.
   */
  ready?(): undefined | Promise<Taken | undefined>;
  /** @throws {EACCES} its process may not make it, now that it would act */
  assertMay(): Promise<void>;
  /** It has acted, or has failed at that. */
  answered?(): void;
  failed?(error: unknown): void;
  /** What it has used although it failed; nothing where that costs nothing. */
  usedInVain?(): Amounts | undefined;
  /** Whether it has acted although it failed. */
  hasActed?(): boolean;
  /** Nobody waits for it any more. */
  over?(): void;
}

/** Each kind is a class: very many of them may wait in one host. */
export interface PaidCall<Result> extends Call {
  act(signal: AbortSignal, reservation: Reservation | undefined): Result | Promise<Result>;
  used(result: Result): Amounts;
  /** How its record in the journal tells that. */
  use?(result: Result): CallUsage;
  /** Its result is recorded, and paid for. */
  settled?(result: Result, seq: Seq): void;
}

/** What every one of them has. */
export abstract class CallOf<Given extends Call["given"] & { readonly signal?: AbortSignal }> {
  readonly given: Given;
  readonly rider: Rider | undefined;
  readonly signal: AbortSignal;
  protected readonly host: Host;
  protected readonly caller: Process;

  constructor(host: Host, caller: Process, given: Given, rider: Rider | undefined) {
    this.host = host;
    this.caller = caller;
    this.given = given;
    this.rider = rider;
    this.signal = caller.signalWith(given.signal);
  }

  /** The key of a call of what `content` says. */
  protected keyOf(content: readonly unknown[]): string {
    const { id, platform } = this.host;
    const digest = platform.hash(JSON.stringify(content)).slice(0, 16);
    return `${id}/${this.caller.identity.runId}/${this.given.place}#${digest}`;
  }
}

/**
 * Makes a call: reserves, acts, settles.
 * @throws {EUNKNOWN} it was cut off in an earlier life and may have acted (C2) · {EDQUOT} the budget does not hold it
 */
export async function pay<Result>(host: Host, caller: Process, call: PaidCall<Result>): Promise<Result> {
  const prior = assertKnown(caller, call);
  const leave = await begin(caller, call);
  let held: Held | undefined;
  const turn = caller.limits?.rates === undefined ? undefined : new RateTurn(call);
  let wasCalled = false;
  // Whoever has answered is paid, whatever becomes of the answer.
  let hasAnswered = false;
  try {
    if (turn === undefined && call.ready !== undefined) await call.ready();
    held = await hold(host, caller, call, prior, turn);
    const { reservation } = held ?? {};
    while (caller.isHalted) {
      turn?.giveBack();
      await caller.goesOn(call.signal, true);
      await turn?.ready();
    }
    await call.assertMay();
    // An intent was flushed with everything before it; a call without one that leaves the host waits itself.
    if (acts(call) && caller.journal === undefined) await host.store.flush();
    const wait = caller.waitFor(call.what.slice(0, WHAT_MAX));
    const started = host.platform.clock.monotonic();
    try {
      wasCalled = true;
      const result = await withinTime(host, caller, call.what, call.signal, (limited) =>
        call.act(limited, reservation),
      );
      hasAnswered = true;
      // Others need not wait until that is recorded.
      turn?.over(true, call.used(result).tokens);
      call.answered?.();
      await settle(host, caller, call, { result, reservation, ms: host.platform.clock.monotonic() - started });
      return result;
    } finally {
      call.over?.();
      caller.stopWaiting(wait);
    }
  } catch (error) {
    if (wasCalled && !hasAnswered) {
      call.failed?.(error);
      if (!isGivenUp(call, error)) turn?.over(true, call.usedInVain?.()?.tokens ?? 0);
    }
    if (!hasAnswered) await fail(host, caller, call, { reservation: held?.reservation, wasCalled, error });
    const { code, path } = call.fails;
    const where = { syscall: call.syscall, pid: caller.pid };
    throw toKernelError(error, code, path === undefined ? where : { ...where, path });
  } finally {
    turn?.over(wasCalled);
    held?.end();
    leave();
    caller.over();
  }
}

const WHAT_MAX = 200;

const acts = ({ effect }: Call): boolean => effect !== "pure";

/** The intent of the same call of an earlier life, where it may be made again (C2). */
function assertKnown(caller: Process, call: Call): Intent | undefined {
  const { place, onUnknown } = call.given;
  const { journal } = caller;
  const prior = journal?.intentAt(place, () => call.key);
  const isUnknown = prior !== undefined || journal?.isUnknown(place, () => call.key) === true;
  if (!isUnknown || call.effect !== "once" || onUnknown === "repeat") return prior;
  throw new KernelError(
    "EUNKNOWN",
    `the call of ${call.what} at ${place} was cut off with its host or its process; it may have acted, and been paid for. Look, then resume the failed run to call again, or with what it came to (ergos resume ${caller.pid} --set ${JSON.stringify(place)}=VALUE), or kill it`,
    { syscall: call.syscall, pid: caller.pid },
  );
}

/** The turn of a call at its rates: taken before anything is reserved, and given back where it has to wait for something else. */
class RateTurn implements Standby {
  readonly #call: Call;
  #taken: Taken | undefined;

  constructor(call: Call) {
    this.#call = call;
  }

  async ready(): Promise<void> {
    this.#taken ??= await this.#call.ready?.();
  }

  giveBack(): void {
    this.#taken?.over(false);
    this.#taken = undefined;
  }

  over(wasMade: boolean, tokens?: number): void {
    this.#taken?.over(wasMade, tokens);
  }
}

/** What it may use: reserved now, or by an earlier life that did not come to its end. */
async function hold(
  host: Host,
  caller: Process,
  call: Call,
  prior: Intent | undefined,
  turn: Standby | undefined,
): Promise<Held | undefined> {
  const { journal } = caller;
  const { place } = call.given;
  if (prior !== undefined && call.effect !== "once" && call.paysAgain !== true) {
    await turn?.ready();
    journal?.takeIntent(place, prior);
    return { reservation: prior.reservation, end: host.accounts.begin(prior.reservation).end };
  }
  // A call that may be paid for twice is reserved for twice; what the first had reserved stays spent (B4).
  if (prior !== undefined) await lose(host, caller, call, prior.reservation, repeated());
  if (caller.account === undefined && !acts(call)) {
    await turn?.ready();
    return undefined;
  }
  return reserve(host, caller, {
    syscall: call.syscall,
    keyOf: () => call.key,
    amounts: call.amounts,
    signal: call.signal,
    acts: true,
    within: stepAround(call.given),
    isPart: isUnderWay(caller, call.given),
    ...(turn === undefined ? {} : { turn }),
    commit: (reservation, adds) => intend(host, caller, call, reservation, adds),
  });
}

/** Records the intent of a call that acts, or spends a budget (C1). */
async function intend(
  host: Host,
  caller: Process,
  call: Call,
  reservation: Reservation,
  adds: NonNullable<Batch["adds"]>,
): Promise<void> {
  if (adds.length === 0 && !acts(call)) return;
  const { rider, key, of, given } = call;
  if (caller.journal === undefined) {
    if (adds.length > 0) await host.committer.commit({ adds }, undefined, rider);
  } else await caller.journal.intend(given.place, { key, reservation, of }, { adds, rider, acts: acts(call) });
}

/** Records what it came to, with what it has used. */
async function settle<Result>(
  host: Host,
  caller: Process,
  call: PaidCall<Result>,
  {
    result,
    reservation,
    ms,
  }: { readonly result: Result; readonly reservation: Reservation | undefined; readonly ms: number },
): Promise<void> {
  const { place } = call.given;
  const { journal } = caller;
  const { rider } = call;
  const bill = billOf(host, caller, call, reservation, call.used(result));
  let { seq } = host.store;
  let unrecorded: { readonly error: unknown } | undefined;
  if (journal !== undefined) {
    const use = call.use?.(result);
    const more = { ms: Math.round(ms), ...(use === undefined ? {} : { use }), ...bill, rider };
    let receipt: Receipt;
    try {
      receipt = await journal.end(place, { value: result }, more).done;
    } catch (error) {
      // What cannot be recorded, as what is too large, is an outcome all the same (C3).
      unrecorded = { error };
      receipt = await journal.fail(place, toErrorRecord(error), more);
    }
    if (acts(call)) await receipt.flushed;
    ({ seq } = receipt);
  } else if (!caller.isEnding) await host.committer.commit(bill, undefined, rider);
  else if (reservation !== undefined) await lose(host, caller, call, reservation, undefined);
  caller.usage.steps++;
  call.settled?.(result, seq);
  if (reservation !== undefined) await warn(host, caller, reservation);
  if (unrecorded !== undefined) throw unrecorded.error;
}

/** Gives back what was reserved for a call that has failed, as far as it cost nothing. */
async function fail(
  host: Host,
  caller: Process,
  call: Call,
  {
    reservation,
    wasCalled,
    error,
  }: { readonly reservation: Reservation | undefined; readonly wasCalled: boolean; readonly error: unknown },
): Promise<void> {
  const { place } = call.given;
  const { journal } = caller;
  const isUnknown = wasCalled && acts(call) && isGivenUp(call, error);
  // What is still reserved when the process ends counts as spent (B4).
  const isLeaving = !caller.isAlive || caller.isEnding;
  if (isUnknown || isLeaving) {
    const key = isUnknown && call.effect === "once" && call.staysUnknown === true ? call.key : undefined;
    if (reservation !== undefined) await lose(host, caller, call, reservation, error, key);
    return;
  }
  const used = wasCalled ? call.usedInVain?.() : undefined;
  const { adds, appends } =
    used === undefined
      ? { adds: reservation === undefined ? [] : host.accounts.release(reservation), appends: [] }
      : billOf(host, caller, call, reservation, used);
  const isNoted = adds.length > 0 || appends.length > 0;
  if (journal === undefined) {
    if (isNoted) await host.committer.commit({ adds, appends });
  } else if (call.hasActed?.() === true) await journal.fail(place, toErrorRecord(error), { adds, appends });
  else if (isNoted || journal.callAt(place) !== undefined) {
    const record = { t: "release", at: host.committer.now(), p: place, error: toErrorRecord(error) } as const;
    await journal.note(record, adds, undefined, appends);
  }
  if (reservation !== undefined) host.accounts.freed(reservation);
}

/** Nobody knows what it did. */
const isGivenUp = ({ signal }: Call, error: unknown): boolean =>
  signal.aborted || (isKernelError(error) && error.mayHaveActed);

/** What was used, as the account and the ledger have it. */
function billOf(
  host: Host,
  caller: Process,
  call: Call,
  reservation: Reservation | undefined,
  actual: Amounts,
): Required<Pick<Batch, "adds" | "appends">> {
  const { used, over } = charged(reservation, actual);
  return {
    adds: reservation === undefined ? [] : host.accounts.settle(reservation, actual),
    appends: [usageAppend(host, caller, { place: call.given.place, ...call.of, used, ...over })],
  };
}

/** What is charged of a call, and what it used beyond its reservation. */
function charged(
  reservation: Reservation | undefined,
  actual: Amounts,
): { readonly used: Amounts; readonly over: { readonly over?: Amounts } } {
  const carriers = reservation?.carriers;
  if (reservation === undefined || carriers === undefined) return { used: actual, over: {} };
  const used: Partial<Record<Resource, number>> = {};
  const over: Partial<Record<Resource, number>> = {};
  for (const resource of resourcesOf(actual)) {
    const amount = actual[resource] ?? 0;
    const bound = carriers[resource] === undefined ? amount : (reservation.amounts[resource] ?? 0);
    used[resource] = Math.min(amount, bound);
    if (amount > bound) over[resource] = amount - bound;
  }
  return { used, over: Object.keys(over).length === 0 ? {} : { over } };
}

/** Why what was reserved for a call that is made again is lost. */
const repeated = (): KernelError =>
  new KernelError(
    "EUNKNOWN",
    "this call was cut off with its host or its process; it may have acted, and is made again",
  );

/**
 * A call that may have to be paid for without an answer: what was reserved for it is spent. Of a process that ends,
 * the end says so.
 * @param key of one that no restart makes again
 */
async function lose(
  host: Host,
  caller: Process,
  { given: { place }, of }: Call,
  { amounts: used }: Reservation,
  error: unknown,
  key?: string,
): Promise<void> {
  const appends = [usageAppend(host, caller, { place, ...of, used, isUnknown: true })];
  const why = { t: "lost", at: host.committer.now(), p: place, error: toErrorRecord(error) } as const;
  const record = key === undefined ? why : { ...why, key };
  if (caller.journal === undefined) await host.committer.commit({ appends });
  else if (caller.isAlive && !caller.isEnding) await caller.journal.note(record, undefined, undefined, appends);
}

const nothing = (): void => undefined;

/** At most so many calls of a process at the same time: waits for its turn, and returns what ends it. */
async function enter(caller: Process, signal: AbortSignal, isInside: boolean): Promise<() => void> {
  const max = caller.limits?.concurrentCalls;
  // A call that a tool makes is part of the tool's.
  if (max === undefined || isInside) return nothing;
  const gate = (caller.gate ??= { inside: 0, waiting: [] });
  while (gate.inside >= max) {
    const turn = Promise.withResolvers<void>();
    gate.waiting.push(turn.resolve);
    try {
      await orAborted(turn.promise, signal);
    } catch (error) {
      const at = gate.waiting.indexOf(turn.resolve);
      if (at >= 0) gate.waiting.splice(at, 1);
      else gate.waiting.shift()?.();
      throw error;
    }
  }
  gate.inside++;
  return () => {
    gate.inside--;
    gate.waiting.shift()?.();
  };
}

/**
 * Begins a call, as one of those that the process may have under way; one that comes when this life of the process is
 * about to end waits. What it gives is called at its end, and `caller.over()`.
 */
async function begin(caller: Process, { signal, given, isUncounted }: Call): Promise<() => void> {
  const isInside = isNested(given);
  const leave = isUncounted === true ? nothing : await enter(caller, signal, isInside);
  try {
    if (caller.isHeld) await caller.goesOn(signal, isUnderWay(caller, given));
  } catch (error) {
    leave();
    throw error;
  }
  caller.begun();
  return leave;
}

/** Runs a call under the time that the process's limits give one. */
function withinTime<T>(
  host: Host,
  caller: Process,
  what: string,
  signal: AbortSignal,
  work: (signal: AbortSignal) => T | Promise<T>,
): T | Promise<T> {
  const ms = caller.limits?.callMs;
  return ms === undefined ? work(signal) : withinMs(host, caller, what, signal, work, ms);
}

async function withinMs<T>(
  host: Host,
  caller: Process,
  what: string,
  signal: AbortSignal,
  work: (signal: AbortSignal) => T | Promise<T>,
  ms: number,
): Promise<T> {
  const controller = new AbortController();
  const unlink = linkSignal(signal, controller);
  const late = new KernelError(
    "ETIMEDOUT",
    `${what} took longer than the ${ms} ms that process ${caller.pid} gives a call`,
    {
      pid: caller.pid,
      mayHaveActed: true,
    },
  );
  const timer = host.platform.setTimer(ms, () => controller.abort(late));
  try {
    // One that does not heed its signal is not waited for.
    return await orAborted(Promise.resolve(work(controller.signal)), controller.signal);
  } finally {
    timer.cancel();
    unlink();
  }
}
