// What filters, tests, methods and functions share: how they are declared and how they read arguments.

import { suggest } from "../nearest.ts";
import { ExpressionError } from "./error.ts";
import type { Meter } from "./meter.ts";
import { type Spot, asNumber, defined, field, isDict, orMissing, toItems, toText, typeName } from "./value.ts";

export interface Call {
  readonly at: Spot;
  readonly meter: Meter;
  /** Calls another filter or test by name, as `map('upper')` does. */
  readonly apply: (kind: "filter" | "test", name: string, input: unknown, args: readonly unknown[]) => unknown;
}

/** Arguments by position and by name, checked against what the builtin declares. */
export class Arguments {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #what: string;
  readonly rest: readonly unknown[];
  readonly named: Readonly<Record<string, unknown>>;
  readonly at: Spot;
  readonly meter: Meter;

  constructor(
    what: string,
    names: readonly string[],
    positional: readonly unknown[],
    named: Readonly<Record<string, unknown>>,
    call: Call,
  ) {
    const isOpen = names.at(-1) === "...";
    const known = isOpen ? names.slice(0, -1) : names;
    if (positional.length > known.length && !isOpen)
      throw new ExpressionError(
        "X003",
        `${what} takes at most ${known.length} arguments, found ${positional.length}`,
        call.at,
      );
    const values: Record<string, unknown> = {};
    for (const [index, name] of known.entries()) if (index < positional.length) values[name] = positional[index];
    const extra: [string, unknown][] = [];
    for (const [name, value] of Object.entries(named)) {
      if (known.includes(name)) values[name] = value;
      else if (isOpen) extra.push([name, value]);
      else throw new ExpressionError("X003", `${what} has no argument ${name}`, call.at, suggest(name, known));
    }
    this.#values = values;
    this.#what = what;
    this.rest = positional.slice(known.length);
    this.named = Object.fromEntries(extra);
    this.at = call.at;
    this.meter = call.meter;
  }

  has(name: string): boolean {
    return this.#values[name] !== undefined && this.#values[name] !== null;
  }

  /** The argument as it is, also undefined. */
  raw(name: string): unknown {
    return this.#values[name];
  }

  value(name: string): unknown {
    if (!(name in this.#values)) throw new ExpressionError("X003", `${this.#what} needs its argument ${name}`, this.at);
    return defined(this.#values[name], this.at);
  }

  number(name: string, otherwise?: number): number {
    if (!this.has(name) && otherwise !== undefined) return otherwise;
    const value = this.value(name);
    const number = asNumber(value);
    if (number === undefined) throw this.#wrong(name, "a number", value);
    return number;
  }

  integer(name: string, otherwise?: number): number {
    const value = this.number(name, otherwise);
    if (!Number.isSafeInteger(value)) throw this.#wrong(name, "a whole number", value);
    return value;
  }

  text(name: string, otherwise?: string): string {
    if (!this.has(name) && otherwise !== undefined) return otherwise;
    const value = this.value(name);
    if (typeof value !== "string") throw this.#wrong(name, "a text", value);
    return value;
  }

  flag(name: string, otherwise = false): boolean {
    return this.has(name) ? Boolean(this.value(name)) : otherwise;
  }

  #wrong(name: string, wanted: string, found: unknown): ExpressionError {
    return new ExpressionError("X003", `${this.#what}: ${name} must be ${wanted}, found ${typeName(found)}`, this.at);
  }
}

export interface Builtin {
  /** Names of the arguments after the input; `...` takes any more. */
  readonly args: readonly string[];
  /** One sentence for the reference. */
  readonly doc: string;
  readonly run: (input: unknown, args: Arguments, call: Call) => unknown;
}

export type Builtins = Readonly<Record<string, Builtin>>;

export const builtin = (args: string, doc: string, run: Builtin["run"]): Builtin => ({
  args: args === "" ? [] : args.split(" "),
  doc,
  run,
});

/** A builtin over a text. */
export const onText = (args: string, doc: string, run: (text: string, args: Arguments) => unknown): Builtin =>
  builtin(args, doc, (input, a) => run(toText(defined(input, a.at), a.at), a));

/** A builtin over a list, the keys of a dict or the characters of a text. */
export const onItems = (
  args: string,
  doc: string,
  run: (items: readonly unknown[], args: Arguments, call: Call) => unknown,
): Builtin =>
  builtin(args, doc, (input, a, call) => {
    const items = toItems(input, a.at);
    return run(items, a, call);
  });

/** The value at a dotted path of keys and indices, for `map(attribute=…)` and its like; `Undefined` where there is none. */
export function attribute(value: unknown, path: unknown): unknown {
  let at = value;
  for (const part of typeof path === "number" ? [String(path)] : String(path).split(".")) {
    if (Array.isArray(at)) at = /^\d+$/.test(part) ? at[Number(part)] : undefined;
    else at = isDict(at) ? field(at, part) : undefined;
  }
  return orMissing(at, `there is no field ${String(path)}`);
}
