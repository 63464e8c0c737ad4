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
  work: T | Promise<T>,
): Promise<T> {
  if (!(work instanceof Promise)) return work;
  const isLate = Promise.withResolvers<never>();
  const timer = platform.setTimer(ms, () => isLate.reject(late()));
  try {
    return await Promise.race([work, isLate.promise]);
  } finally {
    timer.cancel();
    work.catch(() => undefined);
  }
}
