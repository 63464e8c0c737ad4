// What a node hands on is a value: whoever reads it may change what it got, and nobody else sees that. A resumed run, which
// reads it from the journal, has the same.

/** A copy of lists and plain objects, whatever they refer to; anything else is what it is. */
export function isolated(value: unknown): unknown {
  return typeof value === "object" && value !== null ? new Copier().copyOf(value) : value;
}

class Copier {
  /** Copies by what they are of: made when something lies inside of something, which may be there twice, or in a circle. */
  #copies: Map<object, unknown> | undefined;

  copyOf(value: object): unknown {
    const known = this.#copies?.get(value);
    if (known !== undefined) return known;
    if (Array.isArray(value)) return this.#listOf(value);
    const prototype: unknown = Object.getPrototypeOf(value);
    return prototype === Object.prototype || prototype === null ? this.#dictOf(value) : value;
  }

  #listOf(value: readonly unknown[]): unknown {
    const copy = value.slice();
    for (let at = 0; at < copy.length; at++) {
      const item = copy[at];
      if (typeof item === "object" && item !== null) copy[at] = this.#inside(value, copy, item);
    }
    return copy;
  }

  #dictOf(value: object): unknown {
    const copy: Record<string, unknown> = { ...value };
    for (const name of Object.keys(copy)) {
      const item = copy[name];
      if (typeof item === "object" && item !== null) copy[name] = this.#inside(value, copy, item);
    }
    return copy;
  }

  #inside(around: object, copy: unknown, item: object): unknown {
    (this.#copies ??= new Map()).set(around, copy);
    return this.copyOf(item);
  }
}
