// Timers that wait for an instant of the wall clock, which may be far away, and jump meanwhile.

import type { Clock, Platform, Timer } from "../abi/platform.ts";

/** Longest wait between two looks at the clock: an alarm is at most so late after a jump forward. */
const LOOK_MS = 60_000;

/**
 * Runs `task` once, when the wall clock shows `instant` (milliseconds) or more, or when as much time has passed as was
 * left until then: a clock that is set back delays nothing. Never in this turn.
 * @param options.clock that of the committer for instants that are stored (default: the machine's)
 */
export function setAlarm(
  platform: Platform,
  instant: number,
  task: () => void,
  { clock = platform.clock, ...options }: { readonly idle?: boolean; readonly clock?: Clock } = {},
): Timer {
  const end = clock.monotonic() + instant - clock.now();
  const leftNow = (): number => Math.min(instant - clock.now(), end - clock.monotonic());
  const wait = (): Timer => platform.setTimer(Math.min(Math.max(0, Math.ceil(leftNow())), LOOK_MS), look, options);
  const look = (): void => {
    if (leftNow() <= 0) task();
    else timer = wait();
  };
  let timer = wait();
  return { cancel: () => timer.cancel() };
}
