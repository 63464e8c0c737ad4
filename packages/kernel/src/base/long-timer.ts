// Timers for longer than the timers of a machine last.

/** The longest delay of a timer of JavaScript, in milliseconds: 24.8 days. */
const DELAY_MAX = 2 ** 31 - 1;

/**
 * Sets a timer that may be longer than one of the machine, as one behind the other.
 * @param set sets one of the machine, of whole milliseconds below 2³¹
 * @param delayMs what is negative, or no number, is over at once
 */
export function longTimer(
  set: (delayMs: number, task: () => void) => { readonly cancel: () => void },
  delayMs: number,
  task: () => void,
): { readonly cancel: () => void } {
  // Also where it is no number.
  if (!(delayMs > DELAY_MAX)) return set(delayMs > 0 ? delayMs : 0, task);
  let left = delayMs;
  const wait = (): { readonly cancel: () => void } => {
    const next = Math.min(left, DELAY_MAX);
    left -= next;
    return set(next, () => {
      if (left > 0) timer = wait();
      else task();
    });
  };
  let timer = wait();
  return { cancel: () => timer.cancel() };
}
