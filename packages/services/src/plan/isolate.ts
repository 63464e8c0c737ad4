// What a node hands on is a value: whoever reads it may change what it got, and nobody else sees that. A resumed run, which
// reads it from the journal, has the same.

/** A copy of lists and plain objects, whatever they refer to; anything else is what it is. */
export function isolated(value: unknown): unknown {
  return typeof value === "object" && value !== null ? copyOf(value, new Map()) : value;
}

function copyOf(value: object, copies: Map<object, unknown>): unknown {
  const known = copies.get(value);
  if (known !== undefined) return known;
  if (Array.isArray(value)) {
    const list: unknown[] = [];
    copies.set(value, list);
    for (const item of value as readonly unknown[])
      list.push(typeof item === "object" && item !== null ? copyOf(item, copies) : item);
    return list;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return value;
  const copy: Record<string, unknown> = {};
  copies.set(value, copy);
  for (const [name, item] of Object.entries(value) as [string, unknown][]) {
    const inner = typeof item === "object" && item !== null ? copyOf(item, copies) : item;
    if (name === "__proto__") Object.defineProperty(copy, name, { value: inner, enumerable: true });
    else copy[name] = inner;
  }
  return copy;
}
