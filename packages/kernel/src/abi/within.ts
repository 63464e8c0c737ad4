// A time limit on work of somebody else's.

import type { KernelError } from "../base/errno.ts";
import type { Platform } from "./platform.ts";

/**
 * Waits for work at most so long; what is not done then goes on unheard.
 * @throws what `late` makes, when it takes longer
 */
export async function within<T>(
  platform: Pick<Platform, "setTimer">,
  ms: number,
  late: () => KernelError,
  work: T | PromiseLike<T>,
): Promise<T> {
  if (!isThenable(work)) return work;
  const answer = Promise.resolve(work);
  const isLate = Promise.withResolvers<never>();
  const timer = platform.setTimer(ms, () => isLate.reject(late()));
  try {
    return await Promise.race([answer, isLate.promise]);
  } finally {
    timer.cancel();
    answer.catch(() => undefined);
  }
}

/** Promises of other libraries and realms are awaited too. */
const isThenable = <T>(work: T | PromiseLike<T>): work is PromiseLike<T> =>
  work !== null &&
  (typeof work === "object" || typeof work === "function") &&
  "then" in work &&
  typeof work.then === "function";
