// Filters: `value | name(args)`. Semantics are Jinja's where Jinja has one of that name.

import { type Arguments, type Builtins, type Call, attribute, builtin, onItems, onText } from "./builtin.ts";
import { ExpressionError } from "./error.ts";
import type { Range } from "./tree.ts";
import {
  type Spot,
  Undefined,
  asNumber,
  compare,
  defined,
  field,
  isDict,
  isEqual,
  isTrue,
  orMissing,
  toItems,
  toJson,
  toText,
  typeName,
} from "./value.ts";

/** What items are compared by: an attribute of them, and without regard to case unless asked. */
function keyOf(a: Arguments, caseSensitive: boolean): (item: unknown) => unknown {
  return (item) => folded(a.has("attribute") ? attribute(item, a.value("attribute")) : item, caseSensitive);
}

const folded = (value: unknown, caseSensitive: boolean): unknown =>
  typeof value === "string" && !caseSensitive ? value.toLowerCase() : value;

/** What `sort` compares: of several attributes, as `role,name`, one after the other. */
function sortKeyOf(a: Arguments): (item: unknown) => unknown {
  const path = a.raw("attribute");
  const caseSensitive = a.flag("case_sensitive");
  if (typeof path !== "string" || !path.includes(",")) return keyOf(a, caseSensitive);
  const parts = path.split(",");
  return (item) => parts.map((part) => defined(folded(attribute(item, part), caseSensitive), a.at));
}

function sorted(items: readonly unknown[], key: (item: unknown) => unknown, reverse: boolean, at: Spot): unknown[] {
  const sign = reverse ? -1 : 1;
  return items
    .map((item) => ({ item, key: defined(key(item), at) }))
    .sort((one, other) => sign * compare(one.key, other.key, at))
    .map(({ item }) => item);
}

function extreme(items: readonly unknown[], a: Arguments, sign: 1 | -1): unknown {
  if (items.length === 0) return new Undefined("an empty list has no least and no greatest item");
  const key = keyOf(a, a.flag("case_sensitive"));
  return items.reduce((best, item) => (sign * compare(key(item), key(best), a.at) < 0 ? item : best));
}

/** `select`, `reject` and their `attr` forms: by a test, or by truth. */
function choose(keep: boolean, byAttribute: boolean): (items: readonly unknown[], a: Arguments, call: Call) => unknown {
  return (items, a, call) => {
    const [first, ...others] = a.rest;
    const [name, args] = byAttribute ? [others[0], others.slice(1)] : [first, others];
    return items.filter((item) => {
      const value = byAttribute ? attribute(item, first) : item;
      const passes =
        name === undefined ? isTrueOrMissing(value, a.at) : call.apply("test", nameOf(name, a), value, args) === true;
      return passes === keep;
    });
  };
}

const isTrueOrMissing = (value: unknown, at: Range): boolean => !(value instanceof Undefined) && isTrue(value, at);

function map(items: readonly unknown[], a: Arguments, call: Call): unknown {
  const { attribute: path, default: otherwise } = a.named;
  if (path !== undefined)
    return items.map((item) => {
      const value = attribute(item, path);
      if (!(value instanceof Undefined)) return value;
      if (otherwise !== undefined) return otherwise;
      a.meter.mayHoldParts = true;
      return value;
    });
  const [name, ...args] = a.rest;
  if (name === undefined)
    throw new ExpressionError(
      "X003",
      "map needs a filter or attribute=",
      a.at,
      "map('upper') or map(attribute='name')",
    );
  return items.map((item) => call.apply("filter", nameOf(name, a), item, args));
}

function nameOf(name: unknown, a: Arguments): string {
  if (typeof name === "string") return name;
  throw new ExpressionError("X003", `the name of a filter or test is a text, found ${typeName(name)}`, a.at);
}

function groupBy(items: readonly unknown[], a: Arguments): unknown {
  const path = a.value("attribute");
  const valueOf = (item: unknown): unknown => {
    const value = attribute(item, path);
    return value instanceof Undefined && a.raw("default") !== undefined ? a.raw("default") : value;
  };
  const key = (item: unknown): unknown => folded(valueOf(item), a.flag("case_sensitive"));
  const groups: { key: unknown; grouper: unknown; list: unknown[] }[] = [];
  for (const item of sorted(items, key, false, a.at)) {
    const last = groups.at(-1);
    if (last !== undefined && isEqual(last.key, key(item), a.at)) last.list.push(item);
    else groups.push({ key: key(item), grouper: valueOf(item), list: [item] });
  }
  // A group unpacks as a pair, and has the names that Jinja gives its parts.
  return groups.map(({ grouper, list }) => [grouper, list]);
}

function unique(items: readonly unknown[], a: Arguments): unknown {
  const key = keyOf(a, a.flag("case_sensitive"));
  const seen = new Set<unknown>();
  return items.filter((item) => {
    const value = key(item);
    const mark = typeof value === "object" && value !== null ? toJson(value, a.at) : value;
    return seen.has(mark) ? false : seen.add(mark);
  });
}

function batch(items: readonly unknown[], a: Arguments): unknown {
  const size = positive(a.integer("linecount"), a);
  const rows: unknown[][] = [];
  for (let at = 0; at < items.length; at += size) rows.push(items.slice(at, at + size));
  const last = rows.at(-1);
  if (last !== undefined && a.has("fill_with")) {
    a.meter.size(size, a.at);
    while (last.length < size) last.push(a.value("fill_with"));
  }
  return rows;
}

/** `slices` lists of nearly the same length, the longer ones first. */
function slices(items: readonly unknown[], a: Arguments): unknown {
  const count = positive(a.integer("slices"), a);
  a.meter.size(count, a.at);
  const small = Math.floor(items.length / count);
  const long = items.length % count;
  let from = 0;
  return Array.from({ length: count }, (_, at) => {
    const part = items.slice(from, (from += small + (at < long ? 1 : 0)));
    return a.has("fill_with") && at >= long ? [...part, a.value("fill_with")] : part;
  });
}

function positive(value: number, a: Arguments): number {
  if (value >= 1) return value;
  throw new ExpressionError("X003", `a count must be at least 1, found ${value}`, a.at);
}

function indent(text: string, a: Arguments): string {
  const width = a.raw("width");
  const margin = typeof width === "string" ? width : " ".repeat(boundedWidth(a.integer("width", 4), a));
  const lines = text.split("\n");
  a.meter.size(text.length + lines.length * margin.length, a.at);
  return lines
    .map((line, at) => ((at === 0 ? a.flag("first") : line !== "" || a.flag("blank")) ? margin + line : line))
    .join("\n");
}

function boundedWidth(width: number, a: Arguments): number {
  a.meter.size(Math.max(0, width), a.at);
  return Math.max(0, width);
}

function truncate(text: string, a: Arguments): string {
  const [length, end] = [a.integer("length", 255), a.text("end", "...")];
  if (text.length <= length + a.integer("leeway", 5)) return text;
  const cut = text.slice(0, Math.max(0, length - end.length));
  if (a.flag("killwords")) return cut + end;
  const space = cut.lastIndexOf(" ");
  return (space < 0 ? cut : cut.slice(0, space)) + end;
}

/** One pass over the text: a tag or comment that does not end is text. */
function withoutTags(text: string): string {
  let out = "";
  let at = 0;
  let lastClose = text.length;
  for (let open = text.indexOf("<"); open >= 0 && lastClose >= 0; open = text.indexOf("<", at)) {
    const isComment = text.startsWith("<!--", open);
    const close = isComment ? text.indexOf("-->", open) : text.indexOf(">", open);
    lastClose = close;
    if (close < 0) break;
    out += text.slice(at, open);
    at = close + (isComment ? 3 : 1);
  }
  return out + text.slice(at);
}

function wordwrap(text: string, a: Arguments): string {
  const width = positive(a.integer("width", 79), a);
  const glue = a.text("wrapstring", "\n");
  const wrapLine = (line: string): string => {
    const out: string[] = [];
    let row: string[] = [];
    let length = 0;
    for (const word of line.split(/(?<=\s)(?=\S)/)) {
      let rest = word;
      if (row.length > 0 && length + rest.trimEnd().length > width) {
        out.push(row.join("").trimEnd());
        [row, length] = [[], 0];
      }
      while (rest.trimEnd().length > width && a.flag("break_long_words", true)) {
        out.push(rest.slice(0, width));
        rest = rest.slice(width);
      }
      row.push(rest);
      length += rest.length;
    }
    return [...out, row.join("").trimEnd()].join(glue);
  };
  return text.split("\n").map(wrapLine).join(glue);
}

function round(input: unknown, a: Arguments): number {
  const value = numberOf(input, "round", a.at);
  const precision = a.integer("precision", 0);
  const factor = 10 ** Math.max(-MAX_DIGITS, Math.min(MAX_DIGITS, precision));
  if (!Number.isFinite(value * factor)) return value;
  const method = a.text("method", "common");
  if (method === "ceil") return Math.ceil(value * factor) / factor;
  if (method === "floor") return Math.floor(value * factor) / factor;
  if (method === "common") return roundTo(value, precision);
  throw new ExpressionError("X003", `round knows common, ceil and floor, found ${JSON.stringify(method)}`, a.at);
}

/** More digits than any number has. */
const MAX_DIGITS = 300;

/** A number with so many digits behind its point: by what it is, not by how it is shown (2.675 is a little less). */
export function roundTo(value: number, precision: number): number {
  const digits = Math.max(-MAX_DIGITS, Math.min(MAX_DIGITS, precision));
  if (digits <= 0) {
    const factor = 10 ** -digits;
    return roundHalfEven(value / factor) * factor;
  }
  // So large, or with so few digits, that nothing is left to round.
  if (digits >= FIXED_MAX || Math.abs(value) >= 1e21) return value;
  const exact = value.toFixed(FIXED_MAX);
  const end = exact.indexOf(".") + 1 + digits;
  const isHalf = /^50*$/.test(exact.slice(end));
  return Number(isHalf && /[02468]/.test(exact.charAt(end - 1)) ? exact.slice(0, end) : value.toFixed(digits));
}

/** Digits behind the point that `toFixed` knows. */
const FIXED_MAX = 100;

/** Halves go to the even neighbour, as in Python. */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

function numberOf(input: unknown, what: string, at: Range): number {
  const number = asNumber(defined(input, at));
  if (number === undefined) throw new ExpressionError("X003", `${what} needs a number, found ${typeName(input)}`, at);
  return number;
}

/** A number of a text; `otherwise` for what is none. */
export function parseNumber(input: unknown, otherwise: number, at: Range): number {
  const known = defined(input, at);
  const number = asNumber(known);
  if (number !== undefined) return number;
  const text = typeof known === "string" ? known.trim().replaceAll("_", "") : "";
  return text.length < 400 && /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$/.test(text) ? Number(text) : otherwise;
}

/** What numbers of a base may begin with. */
const PREFIXES: Readonly<Record<number, RegExp>> = {
  2: /^([+-]?)0b/i,
  8: /^([+-]?)0o/i,
  16: /^([+-]?)0x/i,
};

function parseInteger(input: unknown, a: Arguments): number {
  const known = defined(input, a.at);
  const base = a.integer("base", 10);
  if (typeof known === "string" && base !== 10) {
    const digits = known
      .trim()
      .replaceAll("_", "")
      .replace(PREFIXES[base] ?? /^$/, "$1");
    const value = base >= 2 && base <= 36 ? Number.parseInt(digits, base) : Number.NaN;
    // Of what is no number as a whole there is none, not that of its beginning.
    const isWhole =
      !/^[+-]?$/.test(digits) && Array.from(digits.replace(/^[+-]/, "")).every((one) => parseInt(one, base) >= 0);
    return Number.isNaN(value) || !isWhole ? a.number("default", 0) : value;
  }
  return Math.trunc(parseNumber(known, a.number("default", 0), a.at));
}

/** `%s`, `%d`, `%5.2f`, `%x` and `%%` of Python's format. */
export function formatText(
  text: string,
  values: { readonly list: readonly unknown[]; readonly named: Readonly<Record<string, unknown>> },
  at: Spot,
): string {
  let next = 0;
  let hasNames = false;
  const written = text.replaceAll(
    /%(?:\((\w+)\))?([-0+ ]*)(\d{0,3})(?:\.(\d{1,2}))?([^]?)/g,
    (all, name: string | undefined, flags: string, width: string, precision: string | undefined, kind: string) => {
      if (kind === "%") return "%";
      if (kind === "" || !"sdifgxXe".includes(kind))
        throw new ExpressionError(
          "X003",
          `a format has ${all}; it knows %s, %d, %i, %f, %g, %e, %x, %X, and %% for a percent sign`,
          at,
        );
      hasNames ||= name !== undefined;
      const value = name === undefined ? values.list[next++] : field(values.named, name);
      const made = formatOne(defined(orMissing(value, "a format has too few values"), at), kind, precision, at);
      at.meter?.size(made.length, at);
      const signed = flags.includes("+") && kind !== "s" && !made.startsWith("-") ? `+${made}` : made;
      if (flags.includes("-")) return signed.padEnd(Number(width));
      if (!flags.includes("0") || kind === "s") return signed.padStart(Number(width));
      const [, sign = "", digits = ""] = /^([+-]?)(.*)$/.exec(signed) ?? [];
      return sign + digits.padStart(Number(width) - sign.length, "0");
    },
  );
  if (!hasNames && next < values.list.length)
    throw new ExpressionError("X003", `a format has ${next} places for ${values.list.length} values`, at);
  return written;
}

function formatOne(value: unknown, kind: string, precision: string | undefined, at: Spot): string {
  if (kind === "s") return precision === undefined ? toText(value, at) : toText(value, at).slice(0, Number(precision));
  const number = numberOf(value, `%${kind}`, at);
  if (kind === "d" || kind === "i") return String(Math.trunc(number));
  if (kind === "x") return Math.trunc(number).toString(16);
  if (kind === "X") return Math.trunc(number).toString(16).toUpperCase();
  if (kind === "e") return number.toExponential(Number(precision ?? 6)).replace(/e([+-])(\d)$/, "e$10$2");
  return kind === "g"
    ? String(Number(number.toPrecision(Math.max(1, Number(precision ?? 6)))))
    : number.toFixed(Number(precision ?? 6));
}

function dictSort(input: unknown, a: Arguments): unknown {
  const known = dictOf(input, "dictsort", a.at);
  const by = a.text("by", "key") === "value" ? 1 : 0;
  const caseSensitive = a.flag("case_sensitive");
  const key = (pair: unknown): unknown => {
    const value = attribute(pair, by);
    return typeof value === "string" && !caseSensitive ? value.toLowerCase() : value;
  };
  return sorted(Object.entries(known), key, a.flag("reverse"), a.at);
}

function dictOf(input: unknown, what: string, at: Range): Readonly<Record<string, unknown>> {
  const known = defined(input, at);
  if (isDict(known)) return known;
  throw new ExpressionError("X003", `${what} needs a dict, found ${typeName(known)}`, at);
}

const titleCase = (text: string): string =>
  text.replaceAll(/[^\s\-({[<]+/gu, (word) => word.charAt(0).toUpperCase() + word.slice(1).toLowerCase());
export const capitalize = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1).toLowerCase();

const HTML: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;" };
const PLAIN: Readonly<Record<string, string>> = {
  ...Object.fromEntries(Object.entries(HTML).map(([char, name]) => [name, char])),
  "&quot;": '"',
  "&apos;": "'",
};
const unescapeHtml = (text: string): string => text.replaceAll(/&#?\w+;/g, (name) => PLAIN[name] ?? name);
const escapeHtml = (text: string): string => text.replaceAll(/[&<>"']/g, (char) => HTML[char] ?? char);

const quote = (value: string): string =>
  encodeURIComponent(value).replaceAll(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);

function urlEncode(input: unknown, a: Arguments): string {
  const known = defined(input, a.at);
  const pair = (name: unknown, value: unknown): string => `${quote(toText(name, a.at))}=${quote(toText(value, a.at))}`;
  if (isDict(known))
    return Object.entries(known)
      .map(([name, value]) => pair(name, value))
      .join("&")
      .replaceAll("%20", "+");
  if (Array.isArray(known)) return known.map((one) => pair(attribute(one, 0), attribute(one, 1))).join("&");
  return quote(toText(known, a.at)).replaceAll("%2F", "/");
}

/** What `strip` and `trim` remove: white space, or any of the given characters. */
export function stripText(text: string, characters: string | undefined, side: "both" | "left" | "right"): string {
  const removable = characters === undefined ? undefined : new Set(Array.from(characters));
  const drops = (char: string | undefined): boolean =>
    char !== undefined && (removable === undefined ? /\s/.test(char) : removable.has(char));
  let [from, to] = [0, text.length];
  if (side !== "right") while (from < to && drops(text[from])) from++;
  if (side !== "left") while (to > from && drops(text[to - 1])) to--;
  return text.slice(from, to);
}

export function replaceText(text: string, a: Arguments): string {
  const [from, to, count] = [a.text("old"), a.text("new"), a.integer("count", -1)];
  // Nothing stands before, between and behind all characters.
  const parts = from === "" ? ["", ...Array.from(text), ""] : text.split(from);
  const last = count < 0 ? parts.length - 1 : Math.min(count, parts.length - 1);
  a.meter.size(text.length + last * to.length, a.at);
  return parts.slice(0, last + 1).join(to) + (last + 1 < parts.length ? from + parts.slice(last + 1).join(from) : "");
}

function sizeOf(input: unknown, at: Spot): number {
  const known = defined(input, at);
  if (Array.isArray(known)) return known.length;
  return typeof known === "string" && !/[\uD800-\uDFFF]/.test(known) ? known.length : toItems(known, at).length;
}

function join(items: readonly unknown[], a: Arguments): string {
  const path = a.raw("attribute");
  const texts = items.map((item) => toText(path === undefined ? item : defined(attribute(item, path), a.at), a.at));
  const glue = toText(a.raw("d") ?? "", a.at);
  a.meter.size(
    texts.reduce((sum, text) => sum + text.length + glue.length, 0),
    a.at,
  );
  return texts.join(glue);
}

function sum(items: readonly unknown[], a: Arguments): number {
  const path = a.raw("attribute");
  return items.reduce<number>(
    (total, item) => total + numberOf(path === undefined ? item : defined(attribute(item, path), a.at), "sum", a.at),
    a.number("start", 0),
  );
}

function withDefault(input: unknown, a: Arguments): unknown {
  const given = a.raw("default_value");
  const otherwise = given === undefined ? "" : given;
  if (input instanceof Undefined || input === undefined) return otherwise;
  return a.flag("boolean") && !isTrue(input, a.at) ? otherwise : input;
}

function parseJson(text: string, a: Arguments): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new ExpressionError("X003", "fromjson needs JSON, and this is none", a.at);
  }
}

const withDefaultBuiltin = builtin(
  "default_value boolean",
  "the value, or another one if it is undefined (with `boolean`, also if it is false)",
  withDefault,
);
const lengthBuiltin = builtin("", "items of a list or dict, characters of a text", (input, a) => sizeOf(input, a.at));
const escapeBuiltin = onText("", "HTML with `&`, `<`, `>` and quotes escaped", escapeHtml);

export const FILTERS: Builtins = {
  abs: builtin("", "the number without its sign", (input, a) => Math.abs(numberOf(input, "abs", a.at))),
  attr: builtin("name", "a field of a dict", (input, a) => attribute(defined(input, a.at), a.text("name"))),
  batch: onItems("linecount fill_with", "lists of so many items each", batch),
  capitalize: onText("", "first letter large, the rest small", capitalize),
  center: onText("width", "in the middle of so many characters", (text, a) => {
    const width = boundedWidth(a.integer("width", 80), a);
    const room = width - text.length;
    // The odd blank stands where Python puts it.
    const left = Math.floor(room / 2) + (room & width & 1);
    return room <= 0 ? text : " ".repeat(left) + text + " ".repeat(room - left);
  }),
  count: lengthBuiltin,
  d: withDefaultBuiltin,
  default: withDefaultBuiltin,
  dictsort: builtin("case_sensitive by reverse", "pairs of a dict, sorted by key or by value", dictSort),
  e: escapeBuiltin,
  escape: escapeBuiltin,
  first: onItems("", "the first item", (items) =>
    items.length === 0 ? new Undefined("an empty list has no first item") : items[0],
  ),
  float: builtin("default", "a number of a text", (input, a) => parseNumber(input, a.number("default", 0), a.at)),
  format: onText("...", "the text with its `%s` filled in", (text, a) =>
    formatText(text, { list: a.rest, named: a.named }, a.at),
  ),
  fromjson: onText("", "the value that a JSON text stands for", parseJson),
  groupby: onItems("attribute default case_sensitive", "pairs of a value and the items that have it", groupBy),
  indent: onText("width first blank", "every line but the first moved to the right", indent),
  int: builtin("default base", "a whole number of a text or a number", parseInteger),
  items: builtin("", "pairs of a dict", (input, a) => Object.entries(dictOf(input, "items", a.at))),
  join: onItems("d attribute", "the items as one text, with `d` between them", join),
  keys: builtin("", "keys of a dict", (input, a) => Object.keys(dictOf(input, "keys", a.at))),
  last: onItems("", "the last item", (items) =>
    items.length === 0 ? new Undefined("an empty list has no last item") : items.at(-1),
  ),
  length: lengthBuiltin,
  list: onItems("", "the items as a list", (items) => [...items]),
  lower: onText("", "in small letters", (text) => text.toLowerCase()),
  map: onItems("...", "each item through a filter, or one field of each", map),
  max: onItems("case_sensitive attribute", "the greatest item", (items, a) => extreme(items, a, -1)),
  min: onItems("case_sensitive attribute", "the least item", (items, a) => extreme(items, a, 1)),
  pprint: builtin("", "JSON over several lines", (input, a) => toJson(input, a.at, 2)),
  reject: onItems("...", "items that fail a test", choose(false, false)),
  rejectattr: onItems("...", "items of which a field fails a test", choose(false, true)),
  replace: onText("old new count", "with one text in place of another", replaceText),
  reverse: builtin("", "the other way round", (input, a) => {
    const items = toItems(input, a.at).toReversed();
    return typeof input === "string" ? items.join("") : items;
  }),
  round: builtin("precision method", "to so many digits; halves to the even neighbour, or `ceil`, `floor`", round),
  safe: builtin("", "the same; texts are never escaped here", (input, a) => defined(input, a.at)),
  select: onItems("...", "items that pass a test", choose(true, false)),
  selectattr: onItems("...", "items of which a field passes a test", choose(true, true)),
  slice: onItems("slices fill_with", "so many lists of nearly the same length", slices),
  sort: onItems("reverse case_sensitive attribute", "in order", (items, a) =>
    sorted(items, sortKeyOf(a), a.flag("reverse"), a.at),
  ),
  split: onText("sep maxsplit", "parts between separators, or words", (text, a) => splitText(text, a)),
  string: builtin("", "as text", (input, a) => toText(input, a.at)),
  striptags: onText("", "without HTML tags, white space as one blank", (text) =>
    unescapeHtml(withoutTags(text).replaceAll(/\s+/g, " ").trim()),
  ),
  sum: onItems("attribute start", "the sum of numbers", sum),
  title: onText("", "every word with a large first letter", titleCase),
  tojson: builtin("indent", "as JSON", (input, a) =>
    toJson(input, a.at, a.has("indent") ? Math.min(16, Math.max(0, a.integer("indent"))) : undefined),
  ),
  trim: onText("chars", "without white space (or the given characters) at both ends", (text, a) =>
    stripText(text, a.has("chars") ? a.text("chars") : undefined, "both"),
  ),
  truncate: onText("length killwords end leeway", "cut to so many characters, at a word", truncate),
  unique: onItems("case_sensitive attribute", "without repeated items", unique),
  upper: onText("", "in large letters", (text) => text.toUpperCase()),
  urlencode: builtin("", "for a URL; a dict as a query", urlEncode),
  values: builtin("", "values of a dict", (input, a) => Object.values(dictOf(input, "values", a.at))),
  wordcount: onText("", "how many words", (text) => text.match(/[\p{L}\p{N}_]+/gu)?.length ?? 0),
  wordwrap: onText("width break_long_words wrapstring", "lines of at most so many characters", wordwrap),
};

/** Parts between separators; without one, words between any white space. */
export function splitText(text: string, a: Arguments): string[] {
  const most = a.integer("maxsplit", -1);
  const parts = a.has("sep")
    ? text.split(separator(a))
    : text
        .trim()
        .split(/\s+/)
        .filter((word) => word !== "");
  a.meter.size(parts.length, a.at);
  if (most < 0 || parts.length <= most + 1) return parts;
  if (a.has("sep")) return [...parts.slice(0, most), parts.slice(most).join(a.text("sep"))];
  const words = text.trimStart();
  const gap = /\s+/g;
  for (let count = 0; count < most; count++) gap.exec(words);
  return [...parts.slice(0, most), words.slice(gap.lastIndex)];
}

function separator(a: Arguments): string {
  const text = a.text("sep");
  if (text === "") throw new ExpressionError("X003", "an empty separator splits nothing", a.at);
  return text;
}
