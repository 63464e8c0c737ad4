// Arithmetic, joining and slicing.

import { type Meter, measured } from "./meter.ts";
import { ExpressionError } from "./error.ts";
import type { BinaryOperator, Range } from "./tree.ts";
import { formatText } from "./filters.ts";
import { asNumber, defined, isDict, toItems, toText, typeName } from "./value.ts";

export function binary(operator: BinaryOperator, a: unknown, b: unknown, at: Range, meter: Meter): unknown {
  const [left, right] = [defined(a, at), defined(b, at)];
  if (operator === "~") {
    const spot = { start: at.start, end: at.end, meter };
    return measured(toText(left, spot) + toText(right, spot), meter, at);
  }
  const [x, y] = [asNumber(left), asNumber(right)];
  if (x !== undefined && y !== undefined) return arithmetic(operator, x, y, at);
  if (operator === "+") {
    if (typeof left === "string" && typeof right === "string") return measured(left + right, meter, at);
    if (Array.isArray(left) && Array.isArray(right))
      return measured([...(left as unknown[]), ...(right as unknown[])], meter, at);
  }
  if (operator === "%" && typeof left === "string") {
    const values = { list: Array.isArray(right) ? right : [right], named: isDict(right) ? right : {} };
    return formatText(left, values, { start: at.start, end: at.end, meter });
  }
  if (operator === "*") {
    if (typeof left === "string" || Array.isArray(left)) return repeat(left, y, at, meter);
    if (typeof right === "string" || Array.isArray(right)) return repeat(right, x, at, meter);
  }
  const hint =
    operator === "+" && (typeof left === "string" || typeof right === "string")
      ? "join values as text with ~"
      : undefined;
  throw new ExpressionError("X003", `${typeName(left)} ${operator} ${typeName(right)} means nothing`, at, hint);
}

function arithmetic(operator: Exclude<BinaryOperator, "~">, x: number, y: number, at: Range): number {
  if (y === 0 && (operator === "/" || operator === "//" || operator === "%"))
    throw new ExpressionError("X007", "division by zero", at);
  switch (operator) {
    case "+":
      return x + y;
    case "-":
      return x - y;
    case "*":
      return x * y;
    case "/":
      return x / y;
    case "//":
      // What is left is taken away first: dividing rounds.
      return Math.round((x - modulo(x, y)) / y);
    case "%":
      return modulo(x, y);
    case "**":
      if (x === 0 && y < 0) throw new ExpressionError("X007", "zero has no negative power", at);
      return x ** y;
    default:
      return operator satisfies never;
  }
}

/** With the sign of the divisor, as in Python. */
function modulo(x: number, y: number): number {
  const rest = x % y;
  return rest !== 0 && rest < 0 !== y < 0 ? rest + y : rest;
}

function repeat(what: string | readonly unknown[], times: number | undefined, at: Range, meter: Meter): unknown {
  if (times === undefined || !Number.isInteger(times))
    throw new ExpressionError("X003", "a text or a list is repeated a whole number of times", at);
  const count = what.length === 0 ? 0 : Math.max(0, times);
  meter.size(what.length * count, at);
  return typeof what === "string" ? what.repeat(count) : Array.from({ length: count }, () => what).flat();
}

export function negate(value: unknown, at: Range): number {
  const number = asNumber(defined(value, at));
  if (number === undefined) throw new ExpressionError("X003", `${typeName(value)} has no negative`, at);
  return -number;
}

/** `[from:to:step]` of a text or a list, with Python's rules for what is negative or left out. */
export function slice(value: unknown, from: unknown, to: unknown, by: unknown, at: Range, meter: Meter): unknown {
  const known = defined(value, at);
  const list: readonly unknown[] | undefined =
    typeof known === "string"
      ? toItems(known, { start: at.start, end: at.end, meter })
      : Array.isArray(known)
        ? known
        : undefined;
  if (list === undefined) throw new ExpressionError("X003", `${typeName(known)} cannot be sliced`, at);
  const step = bound(by, at) ?? 1;
  if (step === 0) throw new ExpressionError("X003", "a slice needs a step other than 0", at);
  const { length } = list;
  const clamp = (index: number, low: number, high: number): number =>
    Math.min(high, Math.max(low, index < 0 ? index + length : index));
  const [low, high] = step > 0 ? [0, length] : [-1, length - 1];
  const start = bound(from, at);
  const stop = bound(to, at);
  const out: unknown[] = [];
  const end = stop === undefined ? (step > 0 ? length : -1) : clamp(stop, low, high);
  for (
    let index = start === undefined ? (step > 0 ? 0 : length - 1) : clamp(start, low, high);
    step > 0 ? index < end : index > end;
    index += step
  )
    out.push(list[index]);
  return measured(typeof known === "string" ? out.join("") : out, meter, at);
}

function bound(value: unknown, at: Range): number | undefined {
  const known = defined(value, at);
  if (known === undefined || known === null) return undefined;
  if (typeof known === "number" && Number.isInteger(known)) return known;
  throw new ExpressionError("X003", `a slice takes whole numbers, found ${typeName(known)}`, at);
}
