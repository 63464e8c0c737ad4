// JSON values as they are stored. Encoding refuses whatever would come back different from the journal,
// because a resumed run must see exactly what the first run saw.

import { KernelError } from "./errno.ts";
import { LIMITS } from "./limits.ts";

export type JsonValue = null | boolean | number | string | readonly JsonValue[] | { readonly [key: string]: JsonValue };

/**
 * Encodes a value as JSON text; `undefined` (no value) stays `undefined`.
 *
 * @throws {EINVAL} a function, symbol, bigint, cycle, non-finite number or class instance, with its place
 * @throws {E2BIG} more than `limitBytes` bytes of UTF-8
 */
export function encodeJson(
  value: unknown,
  what: string,
  limitBytes: number = LIMITS.outcomeBytesMax,
): string | undefined {
  if (value === undefined) return undefined;
  const budget = { left: limitBytes, limit: limitBytes };
  check(value, what, "", 0, budget);
  const text = JSON.stringify(value);
  // A character is at most three bytes: most texts need no count.
  if (text.length * 3 > limitBytes && utf8Length(text) > limitBytes) throw tooLarge(what, limitBytes);
  return text;
}

/** Bytes of a text in UTF-8. */
export function utf8Length(text: string): number {
  let bytes = text.length;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    if (unit >= 0x80) bytes += unit >= 0x800 && (unit < 0xd800 || unit > 0xdfff) ? 2 : 1;
  }
  return bytes;
}

interface Budget {
  left: number;
  readonly limit: number;
}

function tooLarge(what: string, limitBytes: number): KernelError {
  return new KernelError(
    "E2BIG",
    `${what} is larger than ${limitBytes} bytes of JSON; write it to a file and return its path`,
  );
}

function check(value: unknown, what: string, place: string, depth: number, budget: Budget): void {
  switch (typeof value) {
    case "string":
      budget.left -= value.length + 2;
      break;
    case "number":
      if (!Number.isFinite(value)) refuse(what, place, `${value}`, "use null or a string");
      budget.left -= 2;
      break;
    case "boolean":
      budget.left -= 4;
      break;
    case "undefined":
      break;
    case "object":
      if (value !== null) checkObject(value, what, place, depth, budget);
      break;
    case "function":
      return refuse(what, place, "a function", "return data");
    case "symbol":
    case "bigint":
      return refuse(what, place, `a ${typeof value}`, "return a string");
  }
  if (budget.left < 0) throw tooLarge(what, budget.limit);
}

function checkObject(value: object, what: string, place: string, depth: number, budget: Budget): void {
  if (depth >= LIMITS.jsonDepthMax)
    refuse(what, place, `a cycle, or more than ${LIMITS.jsonDepthMax} levels`, "flatten it");
  budget.left -= 2;
  if (Array.isArray(value)) {
    for (let at = 0; at < value.length; at++) {
      if (value[at] === undefined) refuse(what, `${place}[${at}]`, "undefined in an array", "use null");
      // A text for each of many items would cost more than the check.
      const item: unknown = value[at];
      const isDeep = typeof item === "object" && item !== null && depth < 8;
      check(item, what, isDeep ? `${place}[${at}]` : place, depth + 1, budget);
    }
    return;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    const name = value.constructor?.name ?? "class";
    // Objects of another realm (vm, worker) have another Object.prototype and are plain all the same.
    if (name !== "Object") refuse(what, place, `a ${name}`, "convert it to plain JSON first");
  }
  for (const key in value) {
    budget.left -= key.length + 4;
    // Index access is what `for in` promises to be there.
    check((value as Record<string, unknown>)[key], what, depth < 8 ? `${place}.${key}` : place, depth + 1, budget);
  }
}

function refuse(what: string, place: string, found: string, advice: string): never {
  const where = place === "" ? "" : ` at ${place}`;
  throw new KernelError("EINVAL", `${what} must be JSON, but holds ${found}${where}; ${advice}`);
}
