// Several values under one key; a key without values is not kept.

export class MultiMap<Key, Value> {
  readonly #values = new Map<Key, Set<Value>>();
  readonly #none: ReadonlySet<Value> = new Set();

  /** Values under a key, in the order in which they came. */
  get(key: Key): ReadonlySet<Value> {
    return this.#values.get(key) ?? this.#none;
  }

  /** Number of keys that have values. */
  get size(): number {
    return this.#values.size;
  }

  keys(): IterableIterator<Key> {
    return this.#values.keys();
  }

  [Symbol.iterator](): IterableIterator<[Key, ReadonlySet<Value>]> {
    return this.#values.entries();
  }

  add(key: Key, value: Value): void {
    const values = this.#values.get(key);
    if (values === undefined) this.#values.set(key, new Set([value]));
    else values.add(value);
  }

  delete(key: Key, value: Value): void {
    const values = this.#values.get(key);
    if (values?.delete(value) === true && values.size === 0) this.#values.delete(key);
  }

  /** Removes a key with all its values. */
  take(key: Key): ReadonlySet<Value> {
    const values = this.get(key);
    this.#values.delete(key);
    return values;
  }
}
