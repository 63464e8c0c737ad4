// One piece of a plan's work with its attempts, each with a context of its own.

import { isKernelError } from "@ergos/kernel";
import { Skipped } from "../failure.ts";
import { RunContext } from "../run-context.ts";
import { type Scope, memoOfAttempts } from "../scope.ts";
import { type Retry, runAttempts } from "../tries.ts";

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

/** Runs the work; its value, or a promise of it when it waits for anything. */
export function runWork(work: Work): unknown {
  work.scope.process.platform.entered?.(work.scope.process.pid);
  if (work.scope.process.limits?.onLimit === "skip") return skipping(work);
  // The plain case costs no promise of ours.
  if (work.retry === undefined && work.timeoutMs === undefined)
    return work.run(new RunContext(work.scope, work.attempt ?? 1, work.signal));
  return attemptsOf(work);
}

/** Where the limits say so, what the budget does not hold is not done, and that is no failure. */
async function skipping(work: Work): Promise<unknown> {
  try {
    return await attemptsOf(work);
  } catch (error) {
    if (isKernelError(error) && error.code === "EDQUOT") throw new Skipped(error.message);
    throw error;
  }
}

function attemptsOf({ scope: plain, run, retry, timeoutMs, attempt: around = 1, signal: given }: Work): unknown {
  const scope: Scope =
    (retry?.attempts ?? 1) > 1 && plain.memo === undefined ? { ...plain, memo: memoOfAttempts() } : plain;
  const { process, place } = scope;
  const tried = {
    process,
    place,
    signal: given ?? process.signal,
    deadline: undefined,
    trail: scope.trail,
    retry,
    timeoutMs,
  };
  return runAttempts(tried, ({ attempt, signal, deadline }) =>
    run(new RunContext(scope, retry === undefined ? around : attempt, signal, deadline)),
  );
}
