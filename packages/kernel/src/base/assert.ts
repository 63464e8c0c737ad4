/** Crashes loudly on a programmer's error; never used for input. */
export function assert(condition: unknown, invariant: string): asserts condition {
  if (condition === false || condition === undefined || condition === null || condition === 0) {
    throw new TypeError(`assertion failed: ${invariant}`);
  }
}
