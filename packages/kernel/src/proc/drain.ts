// Calls of models, tools and the network, and steps, come to their end before the life of their process does: of what is
// cut off nobody knows what it did.

import type { Platform } from "../abi/platform.ts";
import type { Process } from "./process.ts";

export interface Drained {
  /** Whether no such call is under way any more. */
  readonly isQuiet: boolean;
  /** Lets them make calls again. */
  readonly release: () => void;
}

/**
 * Holds the next calls of processes, and waits until none of them acts, at most for so many milliseconds.
 * @param idle (default true) whether this is no reason for the host not to end
 * @param withWork nodes, which are only lost and done again, are waited for too
 */
export async function drained(
  platform: Platform,
  processes: readonly Process[],
  ms: number,
  { idle = true, withWork = false }: { readonly idle?: boolean; readonly withWork?: boolean } = {},
): Promise<Drained> {
  const releases = processes.map((process) => process.drain());
  const release = (): void => {
    for (const one of releases) one();
  };
  const acting = (): readonly Process[] => processes.filter((process) => !process.isQuiet(withWork));
  if (acting().length === 0 || ms <= 0) return { isQuiet: acting().length === 0, release };
  let isLate = false;
  const late = Promise.withResolvers<void>();
  const timer = platform.setTimer(
    ms,
    () => {
      isLate = true;
      late.resolve();
    },
    { idle },
  );
  // What rested while others acted may be part of something that goes on when these have come to their end.
  for (let left = acting(); left.length > 0 && !isLate; left = acting())
    await Promise.race([Promise.all(left.map((process) => process.quiet(withWork))), late.promise]);
  timer.cancel();
  return { isQuiet: !isLate, release };
}
