// Values of expressions: JSON values, read in place and never changed. What Python says about truth,
// equality, order and membership holds, with one kind of number.

import { ExpressionError } from "./error.ts";
import type { Meter } from "./meter.ts";
import type { Range } from "./tree.ts";

/** A place in the text, with the budget that work at it is charged to. */
export interface Spot extends Range {
  readonly meter?: Meter;
}

export type Dict = Readonly<Record<string, unknown>>;

/** What a name or a field that does not exist evaluates to; only `default` and `is defined` accept it. */
export class Undefined {
  readonly why: string;
  /** Advice, asked for only when somebody reads it. */
  readonly hint: (() => string | undefined) | undefined;
  /** Where it arose, which is a better place to point at than where it was used. */
  readonly at: Range | undefined;

  constructor(why: string, hint?: () => string | undefined, at?: Range) {
    this.why = why;
    this.hint = hint;
    this.at = at;
  }
}

/** Refuses what does not exist. */
export function defined(value: unknown, at: Range): unknown {
  if (value instanceof Undefined) throw new ExpressionError("X002", value.why, value.at ?? at, value.hint?.());
  return value;
}

/** A plain object, as JSON and modules make it; anything with a class of its own is opaque. */
export function isDict(value: unknown): value is Dict {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** What there is, none included; else why there is nothing. */
export const orMissing = (value: unknown, why: string, hint?: () => string | undefined, at?: Range): unknown =>
  value === undefined ? new Undefined(why, hint, at) : value;

/** An own field of a dict; undefined where it has none. */
export function field(dict: Dict, name: string): unknown {
  return Object.hasOwn(dict, name) ? dict[name] : undefined;
}

export function typeName(value: unknown): string {
  if (value === null) return "none";
  if (value instanceof Undefined || value === undefined) return "undefined";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "boolean") return "a boolean";
  if (typeof value === "number") return "a number";
  if (typeof value === "string") return "a text";
  return isDict(value) ? "a dict" : "an opaque value";
}

export function isTrue(value: unknown, at: Range): boolean {
  const known = defined(value, at);
  if (known === null || known === undefined || known === false || known === 0 || known === "") return false;
  if (Array.isArray(known)) return known.length > 0;
  if (typeof known === "number") return true;
  return !isDict(known) || !isEmpty(known);
}

function isEmpty(dict: Dict): boolean {
  for (const name in dict) if (Object.hasOwn(dict, name)) return false;
  return true;
}

/** A boolean counts as 0 or 1, as in Python. */
export function asNumber(value: unknown): number | undefined {
  if (typeof value === "number") return value;
  return typeof value === "boolean" ? Number(value) : undefined;
}

const DEPTH_MAX = 200;

export function isEqual(a: unknown, b: unknown, at: Spot, depth = 0): boolean {
  if (a === b) return true;
  at.meter?.step(at);
  if (depth > DEPTH_MAX) throw new ExpressionError("X005", `a value nested deeper than ${DEPTH_MAX}`, at);
  const [left, right] = [asNumber(a), asNumber(b)];
  if (left !== undefined && right !== undefined) return left === right;
  if (Array.isArray(a) && Array.isArray(b))
    return a.length === b.length && a.every((item, index) => isEqual(item, b[index], at, depth + 1));
  if (isDict(a) && isDict(b)) {
    const names = Object.keys(a);
    return (
      names.length === Object.keys(b).length &&
      names.every((name) => Object.hasOwn(b, name) && isEqual(a[name], b[name], at, depth + 1))
    );
  }
  return (a ?? null) === null && (b ?? null) === null;
}

/** Negative, zero or positive; only values of one kind have an order. */
export function compare(a: unknown, b: unknown, at: Spot): number {
  const [left, right] = [asNumber(a), asNumber(b)];
  if (left !== undefined && right !== undefined) return left - right;
  if (typeof a === "string" && typeof b === "string") {
    at.meter?.step(at, 1 + (Math.min(a.length, b.length) >> 6));
    return compareText(a, b);
  }
  if (Array.isArray(a) && Array.isArray(b)) {
    for (let index = 0; index < Math.min(a.length, b.length); index++) {
      if (!isEqual(a[index], b[index], at)) return compare(a[index], b[index], at);
    }
    return a.length - b.length;
  }
  throw new ExpressionError("X003", `${typeName(a)} and ${typeName(b)} have no order`, at);
}

/** By code points, like Python; JavaScript compares halves of characters. */
function compareText(a: string, b: string): number {
  for (let at = 0; at < a.length && at < b.length; at++) {
    const [left, right] = [a.charCodeAt(at), b.charCodeAt(at)];
    if (left === right) continue;
    const isMixed = left >= 0xd800 && right >= 0xd800;
    return isMixed ? (a.codePointAt(at) ?? 0) - (b.codePointAt(at) ?? 0) : left - right;
  }
  return a.length - b.length;
}

export function contains(container: unknown, item: unknown, at: Spot): boolean {
  at.meter?.step(at, weightOf(container));
  if (typeof container === "string") {
    if (typeof item === "string") return container.includes(item);
    throw new ExpressionError("X003", `${typeName(item)} cannot be in a text`, at);
  }
  if (Array.isArray(container)) return container.some((one) => isEqual(one, item, at));
  if (isDict(container)) return typeof item === "string" && Object.hasOwn(container, item);
  throw new ExpressionError(
    "X003",
    `nothing can be in ${typeName(container)}`,
    at,
    "`in` looks into lists, texts and dicts",
  );
}

/** Steps that going over a value once is worth. */
export function weightOf(value: unknown): number {
  if (typeof value === "string") return value.length >> 6;
  return Array.isArray(value) ? value.length : 0;
}

/** Items of a list, keys of a dict, characters of a text. */
export function toItems(value: unknown, at: Spot): readonly unknown[] {
  const known = defined(value, at);
  if (Array.isArray(known)) return known;
  if (typeof known === "string") {
    at.meter?.step(at, known.length >> 3);
    return Array.from(known);
  }
  if (isDict(known)) return Object.keys(known);
  throw new ExpressionError("X003", `${typeName(known)} has no items`, at);
}

/** The text that a template shows. */
export function toText(value: unknown, at: Spot): string {
  if (typeof value === "string") return value;
  const known = defined(value, at);
  if (known === null || known === undefined) return "none";
  if (typeof known === "number") return numberText(known);
  if (typeof known === "boolean") return String(known);
  return toJson(known, at);
}

const numberText = (value: number): string =>
  Number.isFinite(value) ? String(value) : Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";

/** JSON of a value, with spaces as Python writes it; without `indent` on one line. */
export function toJson(value: unknown, at: Spot, indent?: number): string {
  const write = (one: unknown, depth: number): string => {
    at.meter?.step(at);
    if (depth > DEPTH_MAX) throw new ExpressionError("X005", `a value nested deeper than ${DEPTH_MAX}`, at);
    const known = defined(one, at) ?? null;
    if (typeof known === "string") {
      at.meter?.size(known.length, at);
      return JSON.stringify(known);
    }
    if (typeof known === "number") return Number.isFinite(known) ? String(known) : "null";
    if (typeof known === "boolean" || known === null) return String(known);
    const inner = indent === undefined ? "" : `\n${" ".repeat(indent * (depth + 1))}`;
    const close = indent === undefined ? "" : `\n${" ".repeat(indent * depth)}`;
    const comma = indent === undefined ? ", " : ",";
    if (Array.isArray(known)) {
      if (known.length === 0) return "[]";
      return `[${inner}${known.map((item) => write(item, depth + 1)).join(comma + inner)}${close}]`;
    }
    if (!isDict(known))
      throw new ExpressionError("X006", "an opaque value has no text", at, "pass on plain JSON values");
    const entries = Object.entries(known).filter(([, item]) => item !== undefined);
    if (entries.length === 0) return "{}";
    const list = entries.map(([name, item]) => `${JSON.stringify(name)}: ${write(item, depth + 1)}`);
    return `{${inner}${list.join(comma + inner)}${close}}`;
  };
  return write(value, 0);
}
