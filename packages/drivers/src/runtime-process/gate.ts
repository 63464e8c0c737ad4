// How many children begin at a time: those that are ready leave room for the next, in the order in which they came.

import { orAborted } from "@ergos/kernel";

export class Gate {
  readonly #room: number;
  #inside = 0;
  readonly #waiting = new Set<() => void>();

  constructor(room: number) {
    this.#room = room;
  }

  /**
   * Waits for room; what this gives leaves it, once.
   * @throws the reason of the signal
   */
  async enter(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#inside >= this.#room) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.add(resolve);
      try {
        // Whoever leaves hands its place on.
        await orAborted(promise, signal);
      } catch (error) {
        // It may have got it in the same moment.
        if (!this.#waiting.delete(resolve)) this.#leave();
        throw error;
      }
    } else this.#inside++;
    let isInside = true;
    return () => {
      if (isInside) this.#leave();
      isInside = false;
    };
  }

  #leave(): void {
    const [next] = this.#waiting;
    if (next === undefined) this.#inside--;
    else {
      this.#waiting.delete(next);
      next();
    }
  }
}
