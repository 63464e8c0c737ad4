// Work that may be tried again: its attempts with back-off, the time limit of each, and the signal that it hears.

import {
  type Attempts,
  ERRNO,
  type Errno,
  KernelError,
  type ProcessContext,
  isKernelError,
  linkSignal,
} from "@ergos/kernel";
import { Skipped } from "./failure.ts";

export interface Retry {
  /** Attempts in all, the first included. */
  readonly attempts: number;
  /** Wait before the second attempt, in milliseconds (default 100). */
  readonly delayMs?: number;
  /** What each wait is multiplied with to get the next (default 2). */
  readonly factor?: number;
  /** No wait is longer (default 60,000). */
  readonly maxDelayMs?: number;
  /** Only errors that may pass by themselves (a refusal for a while, a lost connection) are tried again. */
  readonly onlyTransient?: boolean;
}

export interface TryOptions {
  /**
   * Once unless given. Only what has failed for good is an outcome; after a crash before that the attempts go on with the one
   * behind those that have failed, at its time. What an attempt that was given up has done stays done: a tool that acts
   * `once` and is not sure to have failed is better not retried.
   */
  readonly retry?: Retry | undefined;
  /** Time of one attempt in milliseconds, after which it has failed with ETIMEDOUT. */
  readonly timeoutMs?: number | undefined;
}

export interface StepOptions extends TryOptions {
  /**
   * It may be cut off at any point and done again, as what only waits, or makes calls that are recorded by themselves: an
   * orderly end of its host, or of this life of its process, does not wait for it as it does for other steps.
   */
  readonly interruptible?: boolean;
}

/** One attempt, as the work hears of it. */
export interface Attempt {
  /** Which it is, from 1. */
  readonly attempt: number;
  /** Aborts when its time is up or the run is cancelled. */
  readonly signal: AbortSignal;
  /** Instant of the monotonic clock at which its time is up, in milliseconds. */
  readonly deadline: number | undefined;
}

/** What is tried: whose it is, the place that events and errors name, the signal and the time around it. */
export interface Tried extends TryOptions {
  readonly process: ProcessContext;
  readonly place: string;
  readonly signal: AbortSignal;
  /** When the time of what is around it is up. */
  readonly deadline: number | undefined;
  /** Which attempts of what is around it this is in, as `2.1`: the next one of those begins anew. */
  readonly trail?: string | undefined;
}

const DEFAULT_DELAY_MS = 100;
const DEFAULT_FACTOR = 2;
const DEFAULT_MAX_DELAY_MS = 60_000;

/** @throws {EINVAL} less than one attempt, waits or times that are none; the message begins with `what` */
export function assertTries(what: string, { retry, timeoutMs }: TryOptions): void {
  if (timeoutMs !== undefined && !(timeoutMs > 0))
    throw new KernelError("EINVAL", `${what} needs a timeout above 0 ms, found ${timeoutMs}`);
  if (retry === undefined) return;
  // Callers without types.
  if (typeof (retry as unknown) !== "object" || retry === null)
    throw new KernelError(
      "EINVAL",
      `${what} needs a retry as { attempts: 3 }, found ${JSON.stringify(retry) ?? typeof retry}`,
    );
  const { attempts, delayMs = 0, factor = 1, maxDelayMs = 0, onlyTransient: _kind, ...others } = retry;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined)
    throw new KernelError(
      "EINVAL",
      `${what} has a retry with ${unknown}; known are attempts, delayMs, factor, maxDelayMs, onlyTransient`,
    );
  if (!Number.isSafeInteger(attempts) || attempts < 1)
    throw new KernelError("EINVAL", `${what} needs at least 1 attempt, found ${attempts}`);
  for (const [name, found] of Object.entries({ delayMs, factor, maxDelayMs }))
    if (!(found >= 0)) throw new KernelError("EINVAL", `${what} needs a ${name} of at least 0, found ${found}`);
}

/** @throws {EINVAL} nobody knows an option of a step: it would be ignored without a word */
export function assertStepOptions(place: string, options: StepOptions): void {
  const { interruptible: _cut, retry: _retry, timeoutMs: _limit, ...others } = options;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined)
    throw new KernelError(
      "EINVAL",
      `step ${place} has no option ${JSON.stringify(unknown)}; there are retry, timeoutMs, interruptible`,
    );
}

/** Does the work until an attempt has worked, none is left, or its failure will not pass. */
export async function runAttempts<T>(tried: Tried, run: (attempt: Attempt) => T | Promise<T>): Promise<T> {
  const { process, place, signal, retry, trail = "" } = tried;
  const attempts = retry?.attempts ?? 1;
  const before = retry === undefined || !process.isResumed ? undefined : process.takeAttempts(place);
  for (let attempt = before?.trail !== trail ? 1 : await goneOn(tried, attempts, before); ; attempt++) {
    try {
      // The kernel shows what a process waits for, whoever listens.
      if (attempt > 1) tell(process, { name: "node.started", data: { place, attempt } });
      return await runOnce(tried, attempt, run);
    } catch (error) {
      if (attempt >= attempts || signal.aborted || !isWorthRetrying(error, retry)) throw error;
      const delayMs = delayBefore(attempt, retry, isKernelError(error) ? error.retryAfterMs : undefined);
      const message = error instanceof Error ? error.message : String(error);
      await untilNext(tried, { attempt, attempts, delayMs, error: { message } });
    }
  }
}

/** Which attempt this life begins with: the one behind those that have failed in an earlier life, at its time. */
async function goneOn(tried: Tried, attempts: number, { failed, until, waitMs, why }: Attempts): Promise<number> {
  // Where there are fewer attempts now, with the last one.
  const attempt = Math.min(failed, attempts - 1);
  // The clock may have been set back.
  const delayMs = Math.min(until - tried.process.platform.clock.now(), waitMs);
  if (attempt > 0 && delayMs > 0) await untilNext(tried, { attempt, attempts, delayMs, error: { message: why } });
  return attempt + 1;
}

/** Waits for the next attempt, and tells of it. */
async function untilNext(
  { process, place, signal, trail }: Tried,
  data: {
    readonly attempt: number;
    readonly attempts: number;
    readonly delayMs: number;
    readonly error: { readonly message: string };
  },
): Promise<void> {
  tell(process, { name: "node.retried", data: { place, ...data, ...(trail === undefined ? {} : { trail }) } });
  try {
    await pause(process, signal, data.delayMs);
  } catch (reason) {
    if (!process.isAborted) tell(process, { name: "node.cancelled", data: { place } });
    throw reason;
  }
}

function runOnce<T>(
  { process: { platform }, place, signal, timeoutMs, deadline: around }: Tried,
  attempt: number,
  run: (attempt: Attempt) => T | Promise<T>,
): T | Promise<T> {
  if (timeoutMs === undefined) return run({ attempt, signal, deadline: around });
  const controller = new AbortController();
  const unlink = linkSignal(signal, controller);
  const late = Promise.withResolvers<never>();
  const timer = platform.setTimer(timeoutMs, () => {
    const error = new KernelError("ETIMEDOUT", `${place} took longer than ${timeoutMs} ms`);
    controller.abort(error);
    late.reject(error);
  });
  const deadline = Math.min(platform.clock.monotonic() + timeoutMs, around ?? Number.POSITIVE_INFINITY);
  const running = Promise.resolve().then(() => run({ attempt, signal: controller.signal, deadline }));
  return Promise.race([running, late.promise]).finally(() => {
    timer.cancel();
    unlink();
  });
}

/** Tells who listens about a node. A process that has ended meanwhile, or a hook that refuses, changes nothing. */
export function tell(process: ProcessContext, event: Parameters<typeof call>[1]): void {
  void call(process, event).catch(() => undefined);
}

const call = async (
  process: ProcessContext,
  event: {
    readonly name: "node.started" | "node.retried" | "node.cancelled";
    readonly data: Readonly<Record<string, unknown>>;
  },
): Promise<void> => process.os.call("nodeEvent", event);

/** Of these that do not pass by themselves another attempt may do better: of user code, a disk, a model that talks nonsense. */
const WORTH_RETRYING: ReadonlySet<Errno> = new Set(["EFAILED", "EIO", "EPROTO"]);

/** An error of the kernel says itself whether trying again may help; one of user code always may. */
function isWorthRetrying(error: unknown, retry: Retry | undefined): boolean {
  if (error instanceof Skipped) return false;
  if (retry?.onlyTransient === true) return isKernelError(error) && ERRNO[error.code].retryable;
  return !isKernelError(error) || ERRNO[error.code].retryable || WORTH_RETRYING.has(error.code);
}

/** Who refused for a while says for how long; a limit that was set holds all the same. */
function delayBefore(attempt: number, retry: Retry | undefined, askedMs = 0): number {
  const { delayMs = DEFAULT_DELAY_MS, factor = DEFAULT_FACTOR, maxDelayMs } = retry ?? {};
  // Of no delay the most also makes none.
  const own = delayMs === 0 ? 0 : Math.min(maxDelayMs ?? DEFAULT_MAX_DELAY_MS, delayMs * factor ** (attempt - 1));
  return Math.min(Math.max(askedMs, own), maxDelayMs ?? Number.POSITIVE_INFINITY);
}

function pause(process: ProcessContext, signal: AbortSignal, delayMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason as Error);
    const onAbort = (): void => {
      timer.cancel();
      reject(signal.reason as Error);
    };
    const timer = process.platform.setTimer(delayMs, () => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    });
    signal.addEventListener("abort", onAbort, { once: true });
  });
}
