// How much a store has decided and not yet written. Whoever finds no room, or others who wait for some, waits behind them:
// commits are decided in the order in which they were asked for.

import { type Batch, LIMITS } from "@ergos/kernel";
import { detach } from "./overlay.ts";

export class Room {
  /** Bytes. */
  #taken = 0;
  readonly #waiting: { readonly bytes: number; readonly enter: () => void }[] = [];
  #isLettingIn = false;

  /**
   * Runs `decide` as soon as there is room for a batch of so many bytes and nobody waits before it: now, or when some is
   * given back. What it refuses at once, by throwing, takes no room.
   */
  enter<T>(batch: Batch, bytes: number, decide: (batch: Batch) => Promise<T>): Promise<T> {
    const enter = (given: Batch): Promise<T> => {
      const result = decide(given);
      this.#taken += bytes;
      return result;
    };
    if (this.#waiting.length === 0 && this.#has(bytes)) return Promise.try(enter, batch);
    const own = detach(batch);
    return new Promise<T>((resolve) => {
      this.#waiting.push({ bytes, enter: () => resolve(Promise.try(enter, own)) });
    });
  }

  /** So much is left of what was decided; those for whom there is room now decide in this turn. */
  keep(bytes: number): void {
    this.#taken = bytes;
    // What enters may fill a group, and write it.
    if (this.#isLettingIn) return;
    this.#isLettingIn = true;
    for (let next; (next = this.#waiting[0]) !== undefined && this.#has(next.bytes);) {
      this.#waiting.shift();
      next.enter();
    }
    this.#isLettingIn = false;
  }

  /** Nothing will be written any more: nobody waits for that. */
  open(): void {
    for (const { enter } of this.#waiting.splice(0)) enter();
  }

  /** What is more than all the room goes alone. */
  #has(bytes: number): boolean {
    return this.#taken === 0 || this.#taken + bytes <= LIMITS.pendingBytesMax;
  }
}
