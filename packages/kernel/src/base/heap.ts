// A binary heap: what comes first is known at once, taking it or adding costs O(log n).

export class Heap<T> {
  readonly #items: T[] = [];
  readonly #before: (one: T, two: T) => boolean;

  /** @param before whether the first is taken before the second */
  constructor(before: (one: T, two: T) => boolean) {
    this.#before = before;
  }

  get size(): number {
    return this.#items.length;
  }

  /** What is taken next. */
  get first(): T | undefined {
    return this.#items[0];
  }

  /** All of them, in the order in which they will be taken. */
  get sorted(): readonly T[] {
    return this.#items.toSorted((one, two) => (this.#before(one, two) ? -1 : 1));
  }

  add(item: T): void {
    this.#items.push(item);
    this.#rise(this.#items.length - 1);
  }

  /** Takes the first, or the first that matches, which costs O(n). */
  take(matches?: (item: T) => boolean): T | undefined {
    if (matches === undefined) return this.#items.length === 0 ? undefined : this.#remove(0);
    let best: number | undefined;
    for (const [at, item] of this.#items.entries()) {
      if (!matches(item)) continue;
      const found = best === undefined ? undefined : this.#items[best];
      if (found === undefined || this.#before(item, found)) best = at;
    }
    return best === undefined ? undefined : this.#remove(best);
  }

  #remove(at: number): T | undefined {
    const item = this.#items[at];
    const last = this.#items.pop();
    if (last !== undefined && at < this.#items.length) {
      this.#items[at] = last;
      this.#sink(at);
      this.#rise(at);
    }
    return item;
  }

  #rise(from: number): void {
    for (let at = from; at > 0;) {
      const above = (at - 1) >> 1;
      if (!this.#swapIfBefore(at, above)) return;
      at = above;
    }
  }

  #sink(from: number): void {
    for (let at = from; ;) {
      const [left, right] = [this.#items[2 * at + 1], this.#items[2 * at + 2]];
      if (left === undefined) return;
      const first = right !== undefined && this.#before(right, left) ? 2 * at + 2 : 2 * at + 1;
      if (!this.#swapIfBefore(first, at)) return;
      at = first;
    }
  }

  /** Swaps two places where the first belongs before the second. */
  #swapIfBefore(one: number, two: number): boolean {
    const [first, second] = [this.#items[one], this.#items[two]];
    if (first === undefined || second === undefined || !this.#before(first, second)) return false;
    this.#items[one] = second;
    this.#items[two] = first;
    return true;
  }
}
