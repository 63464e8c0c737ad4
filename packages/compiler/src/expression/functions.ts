// Functions: `name(args)`; and methods: `value.name(args)` of texts, lists and dicts. None changes a value.

import { type Arguments, type Builtins, builtin } from "./builtin.ts";
import { ExpressionError } from "./error.ts";
import { FILTERS, capitalize, parseNumber, replaceText, roundTo, splitText, stripText } from "./filters.ts";
import { type Dict, Undefined, compare, defined, isDict, isEqual, isTrue, toItems, toText, typeName } from "./value.ts";

/** A dict that `set` may write fields of, so that a loop can leave something behind. */
export class Namespace {
  readonly fields: Record<string, unknown>;
  constructor(fields: Readonly<Record<string, unknown>>) {
    this.fields = { ...fields };
  }
}

/** A filter, called as a function with its input as the first argument. */
const fromFilter = (name: string, call = name): Builtins[string] => {
  const filter = FILTERS[name];
  if (filter === undefined) throw new TypeError(`there is no filter ${name}`);
  return {
    args: [`value`, ...filter.args],
    doc: filter.doc,
    run: (_input, a, context) => context.apply("filter", call, a.value("value"), positional(a, filter.args)),
  };
};

/** Arguments in the order of their names, up to the last that is given. */
function positional(a: Arguments, names: readonly string[]): unknown[] {
  const values = names.filter((name) => name !== "...").map((name) => a.raw(name));
  while (values.length > 0 && values.at(-1) === undefined) values.pop();
  return values;
}

function range(a: Arguments): unknown {
  const [first, second, third] = a.rest.map((value) => {
    if (typeof value === "number" && Number.isInteger(value)) return value;
    throw new ExpressionError("X003", `range takes whole numbers, found ${typeName(value)}`, a.at);
  });
  if (first === undefined) throw new ExpressionError("X003", "range needs an end", a.at);
  const [from, to, step] = second === undefined ? [0, first, 1] : [first, second, third ?? 1];
  if (step === 0) throw new ExpressionError("X003", "range needs a step other than 0", a.at);
  const length = Math.max(0, Math.ceil((to - from) / step));
  a.meter.step(a.at, length);
  a.meter.size(length, a.at);
  return Array.from({ length }, (_, at) => from + at * step);
}

/** The least or greatest of the arguments, or of one list. */
const extreme = (sign: 1 | -1) => (_input: unknown, a: Arguments) => {
  const items = a.rest.length === 1 ? toItems(a.rest[0], a.at) : a.rest;
  if (items.length === 0) return new Undefined("nothing has no least and no greatest");
  return items.reduce((best, item) => (sign * compare(defined(item, a.at), best, a.at) < 0 ? item : best));
};

const over = (doc: string, run: (items: readonly unknown[], a: Arguments) => unknown): Builtins[string] =>
  builtin("items", doc, (_input, a) => run(toItems(a.value("items"), a.at), a));

/** The dict that the one argument of `dict` is, or whose pairs it lists. */
function dictFrom(a: Arguments): Dict {
  const [given, ...others] = a.rest;
  if (others.length > 0) throw new ExpressionError("X003", "dict takes one list of pairs, or one dict", a.at);
  if (given === undefined) return {};
  if (isDict(given)) return given;
  const pairs = toItems(given, a.at).map((pair): [string, unknown] => {
    const [key, value, ...more] = toItems(pair, a.at);
    if (value === undefined || more.length > 0)
      throw new ExpressionError("X003", "dict needs pairs of a key and a value", a.at);
    return [toText(key, a.at), value];
  });
  return Object.fromEntries(pairs);
}

export const FUNCTIONS: Builtins = {
  abs: fromFilter("abs"),
  all: over("whether every item is true", (items, a) => items.every((item) => isTrue(item, a.at))),
  any: over("whether any item is true", (items, a) => items.some((item) => isTrue(item, a.at))),
  bool: builtin("value", "whether a value is true", (_input, a) => isTrue(a.value("value"), a.at)),
  coalesce: builtin(
    "...",
    "the first argument that is there and not none",
    (_input, a) =>
      a.rest.find((value) => !(value instanceof Undefined) && value !== undefined && value !== null) ?? null,
  ),
  dict: builtin("...", "a dict of named arguments, of a list of pairs, or of both", (_input, a) => ({
    ...dictFrom(a),
    ...a.named,
  })),
  enumerate: over("pairs of a position and an item", (items) => items.map((item, at) => [at, item])),
  float: fromFilter("float"),
  int: fromFilter("int"),
  len: fromFilter("length"),
  list: fromFilter("list"),
  lower: fromFilter("lower"),
  max: builtin("...", "the greatest of the arguments, or of a list", extreme(-1)),
  min: builtin("...", "the least of the arguments, or of a list", extreme(1)),
  namespace: builtin("...", "a dict whose fields `set` may change", (_input, a) => {
    a.meter.mayHoldParts = true;
    return new Namespace(a.named);
  }),
  range: builtin("...", "whole numbers from 0 or a start up to an end", (_input, a) => range(a)),
  round: builtin("value digits", "to so many digits; halves to the even neighbour", (_input, a) =>
    roundTo(a.number("value"), a.integer("digits", 0)),
  ),
  sorted: fromFilter("sort"),
  str: fromFilter("string"),
  sum: over("the sum of numbers", (items, a) =>
    items.reduce<number>((sum, item) => sum + parseNumber(item, Number.NaN, a.at), 0),
  ),
  upper: fromFilter("upper"),
  zip: builtin("...", "lists of the first items, the second items and so on", (_input, a) => {
    const lists = a.rest.map((list) => toItems(list, a.at));
    const length = lists.length === 0 ? 0 : Math.min(...lists.map((list) => list.length));
    a.meter.size(length * lists.length, a.at);
    return Array.from({ length }, (_, at) => lists.map((list) => list[at]));
  }),
};

const method = (args: string, doc: string, run: (text: string, a: Arguments) => unknown): Builtins[string] =>
  // Called only on texts.
  builtin(args, doc, (input, a) => run(String(input), a));
const strip = (side: "both" | "left" | "right"): Builtins[string] =>
  method("chars", "without white space, or the given characters, at its ends", (text, a) =>
    stripText(text, a.has("chars") ? a.text("chars") : undefined, side),
  );

export const TEXT_METHODS: Builtins = {
  capitalize: method("", "first letter large, the rest small", capitalize),
  count: method("part", "how often a part occurs", (text, a) => {
    const part = a.text("part");
    return part === "" ? Array.from(text).length + 1 : text.split(part).length - 1;
  }),
  endswith: method("end", "whether it ends so", (text, a) => text.endsWith(a.text("end"))),
  find: method("part", "position of a part, -1 if there is none", (text, a) => text.indexOf(a.text("part"))),
  isalpha: method("", "only letters", (text) => /^\p{L}+$/u.test(text)),
  isdigit: method("", "only digits", (text) => /^\p{Nd}+$/u.test(text)),
  join: method("items", "the items with this text between them", (text, a) =>
    toItems(a.value("items"), a.at)
      .map((item) => toText(item, a.at))
      .join(text),
  ),
  lower: method("", "in small letters", (text) => text.toLowerCase()),
  lstrip: strip("left"),
  replace: method("old new count", "with one text in place of another", replaceText),
  rstrip: strip("right"),
  split: method("sep maxsplit", "parts between separators, or words", splitText),
  splitlines: method("", "its lines", (text) => text.replace(/\r?\n$/, "").split(/\r?\n/)),
  startswith: method("start", "whether it begins so", (text, a) => text.startsWith(a.text("start"))),
  strip: strip("both"),
  title: fromMethod("title"),
  upper: method("", "in large letters", (text) => text.toUpperCase()),
  zfill: method("width", "with zeros in front", (text, a) => {
    a.meter.size(Math.max(0, a.integer("width")), a.at);
    return text.padStart(a.integer("width"), "0");
  }),
};

function fromMethod(name: string): Builtins[string] {
  const filter = FILTERS[name];
  if (filter === undefined) throw new TypeError(`there is no filter ${name}`);
  return filter;
}

const asDict = (input: unknown): Readonly<Record<string, unknown>> =>
  // Called only on dicts.
  input as Readonly<Record<string, unknown>>;

export const DICT_METHODS: Builtins = {
  get: builtin("key default", "the value of a key, or another one", (input, a) => {
    const [dict, key] = [asDict(input), toText(a.value("key"), a.at)];
    return Object.hasOwn(dict, key) ? dict[key] : (a.raw("default") ?? null);
  }),
  items: builtin("", "pairs of key and value", (input) => Object.entries(asDict(input))),
  keys: builtin("", "its keys", (input) => Object.keys(asDict(input))),
  values: builtin("", "its values", (input) => Object.values(asDict(input))),
};

export const LIST_METHODS: Builtins = {
  count: builtin(
    "value",
    "how often a value occurs",
    (input, a) => toItems(input, a.at).filter((item) => isEqual(item, a.value("value"), a.at)).length,
  ),
  index: builtin("value", "position of a value", (input, a) => {
    const at = toItems(input, a.at).findIndex((item) => isEqual(item, a.value("value"), a.at));
    if (at < 0) throw new ExpressionError("X003", "the list has no such value", a.at);
    return at;
  }),
};
