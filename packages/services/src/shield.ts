// Work that its process's end waits for.

import { KernelError, LIMITS, type ProcessContext } from "@ergos/kernel";
import { RUNNING_STEP, type RunningStep } from "./scope.ts";
import { type Attempt, runAttempts } from "./tries.ts";

/**
 * Does work behind a shield, once: it hears of nothing but that its time is up.
 * @param running the step that it is done in, an attempt of which may be over
 * @throws {EINVAL} such a time is none · {ETIMEDOUT} it took longer · what the work throws
 */
export async function runShielded<T>(
  process: ProcessContext,
  running: RunningStep | undefined,
  timeoutMs: number,
  work: (attempt: Attempt) => T | Promise<T>,
): Promise<T> {
  if (!(timeoutMs > 0 && timeoutMs <= LIMITS.shieldMaxMs))
    throw new KernelError("EINVAL", `a shield holds for at most ${LIMITS.shieldMaxMs} ms, found ${timeoutMs}`);
  const { os } = process;
  const run = (one: Attempt): T | Promise<T> => {
    if (running?.attempt === undefined) return work(one);
    return RUNNING_STEP.run({ ...running, attempt: { ...running.attempt, signal: one.signal } }, work, one);
  };
  const { signal } = new AbortController();
  const shield = await os.call("shield", { ms: Math.ceil(timeoutMs) });
  try {
    return await runAttempts({ process, place: "what is shielded", signal, deadline: undefined, timeoutMs }, run);
  } finally {
    // A process that was cut off makes no calls any more.
    const lower = async (): Promise<void> => os.call("unshield", { shield });
    await lower().catch(() => undefined);
  }
}
