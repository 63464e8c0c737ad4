// Streams of events that processes read: how many one has at a time.

import { KernelError } from "../base/errno.ts";
import { LIMITS } from "../base/limits.ts";
import type { Process } from "../proc/process.ts";

/**
 * Counts one more, until what this gives is called.
 * @throws {EMFILE} the process has as many as it may
 */
export function beginSubscription(caller: Process): () => void {
  if (caller.subscriptions >= LIMITS.subscriptionsMax)
    throw new KernelError(
      "EMFILE",
      `process ${caller.pid} has ${LIMITS.subscriptionsMax} subscriptions and watches, which is the limit; end some`,
      { pid: caller.pid },
    );
  caller.subscriptions++;
  let isOver = false;
  return () => {
    if (!isOver) caller.subscriptions--;
    isOver = true;
  };
}
