// One piece of work with its attempts: retry with back-off, a time limit, and the signal.

import { ERRNO, type Errno, KernelError, type ProcessContext, isKernelError, linkSignal } from "@ergos/kernel";
import { RunContext, type Scope, Skipped } from "../run-context.ts";
import type { Retry } from "./plan.ts";

export interface Work {
  readonly scope: Scope;
  readonly run: (ctx: RunContext<never>) => unknown;
  readonly retry: Retry | undefined;
  readonly timeoutMs: number | undefined;
  /** The attempt of the part around it, for work that is tried once. */
  readonly attempt?: number;
  /** Signal of the part around it; that of the process unless given. */
  readonly signal?: AbortSignal;
}

const DEFAULT_DELAY_MS = 100;
const DEFAULT_FACTOR = 2;
const DEFAULT_MAX_DELAY_MS = 60_000;

/** Runs the work; its value, or a promise of it when it waits for anything. */
export function runWork(work: Work): unknown {
  work.scope.process.platform.entered?.(work.scope.process.pid);
  if (work.scope.process.limits?.onLimit === "skip") return skipping(work);
  // The plain case costs no promise of ours.
  if (work.retry === undefined && work.timeoutMs === undefined)
    return work.run(new RunContext(work.scope, work.attempt ?? 1, work.signal));
  return runAttempts(work);
}

/** Where the limits say so, what the budget does not hold is not done, and that is no failure. */
async function skipping(work: Work): Promise<unknown> {
  try {
    return await runAttempts(work);
  } catch (error) {
    if (isKernelError(error) && error.code === "EDQUOT") throw new Skipped(error.message);
    throw error;
  }
}

async function runAttempts(plain: Work): Promise<unknown> {
  const { retry } = plain;
  const scope: Scope =
    (retry?.attempts ?? 1) > 1 && plain.scope.memo === undefined
      ? { ...plain.scope, memo: { places: new Map(), next: 1 } }
      : plain.scope;
  const work: Work = { ...plain, scope };
  const { process } = scope;
  const signal = work.signal ?? process.signal;
  const attempts = retry?.attempts ?? 1;
  for (let attempt = 1; ; attempt++) {
    try {
      if (process.isObserved && attempt > 1) {
        tell(process, { name: "node.started", data: { place: scope.place, attempt } });
      }
      return await runOnce(work, retry === undefined ? (work.attempt ?? 1) : attempt);
    } catch (error) {
      if (attempt >= attempts || signal.aborted || !isWorthRetrying(error, retry)) throw error;
      const delayMs = delayBefore(attempt, retry, isKernelError(error) ? error.retryAfterMs : undefined);
      if (process.isObserved) {
        const data = {
          place: scope.place,
          attempt,
          delayMs,
          error: { message: error instanceof Error ? error.message : String(error) },
        };
        tell(process, { name: "node.retried", data });
      }
      await pause(process, signal, delayMs);
    }
  }
}

function runOnce(work: Work, attempt: number): unknown {
  const { scope, timeoutMs } = work;
  if (timeoutMs === undefined) return work.run(new RunContext(scope, attempt, work.signal));
  const { platform } = scope.process;
  const signal = work.signal ?? scope.process.signal;
  const controller = new AbortController();
  const unlink = linkSignal(signal, controller);
  const late = Promise.withResolvers<never>();
  const timer = platform.setTimer(timeoutMs, () => {
    const error = new KernelError("ETIMEDOUT", `${scope.place} took longer than ${timeoutMs} ms`);
    controller.abort(error);
    late.reject(error);
  });
  const deadline = platform.clock.monotonic() + timeoutMs;
  const running = Promise.resolve().then(() => work.run(new RunContext(scope, attempt, controller.signal, deadline)));
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
  const own = Math.min(maxDelayMs ?? DEFAULT_MAX_DELAY_MS, delayMs * factor ** (attempt - 1));
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
