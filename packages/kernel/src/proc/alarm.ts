// Timers on the wall clock, which may jump and be far away: a timer of the platform is neither.

import type { Platform, Timer } from "../abi/platform.ts";

/** Longest wait between two looks at the wall clock: as late as this an alarm may be after a jump of the clock. */
const LOOK_MS = 60_000;

/** Runs `task` once, as soon as the wall clock shows `instant` (in milliseconds) or more; never in this turn. */
export function setAlarm(
  platform: Platform,
  instant: number,
  task: () => void,
  options: { readonly idle?: boolean } = {},
): Timer {
  let timer: Timer;
  const look = (): void => {
    const left = instant - platform.clock.now();
    if (left <= 0) task();
    else timer = platform.setTimer(Math.min(left, LOOK_MS), look, options);
  };
  timer = platform.setTimer(Math.min(Math.max(0, instant - platform.clock.now()), LOOK_MS), look, options);
  return { cancel: () => timer.cancel() };
}
