// A stream that is looked at as it comes: who may not have its next item any more does not get it.

/** A stream for as long as its caller may have it (D6). */
export class GuardedStream implements AsyncGenerator<unknown, unknown, undefined> {
  readonly #items: AsyncGenerator<unknown, unknown, undefined>;
  readonly #assertMay: () => void;

  constructor(items: AsyncGenerator<unknown, unknown, undefined>, assertMay: () => void) {
    this.#items = items;
    this.#assertMay = assertMay;
  }

  async next(): Promise<IteratorResult<unknown, unknown>> {
    const next = await this.#items.next();
    if (next.done === true) return next;
    try {
      this.#assertMay();
    } catch (error) {
      await this.#items.return(undefined);
      throw error;
    }
    return next;
  }

  return(value: unknown): Promise<IteratorResult<unknown, unknown>> {
    return this.#items.return(value);
  }

  throw(error: unknown): Promise<IteratorResult<unknown, unknown>> {
    return this.#items.throw(error);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#items.return(undefined);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
