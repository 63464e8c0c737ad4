// Text to tokens, of a bare expression or of the parts of a template between its delimiters.

import { ExpressionError } from "./error.ts";
import { EXPRESSION_LIMITS } from "./limits.ts";
import type { Range } from "./tree.ts";

export type Token = Range &
  (
    | { readonly kind: "name"; readonly text: string }
    | { readonly kind: "string"; readonly text: string; readonly value: string }
    | { readonly kind: "number"; readonly text: string; readonly value: number }
    | { readonly kind: "operator"; readonly text: string }
    | { readonly kind: "end"; readonly text: string }
  );

const OPERATORS = [
  "**",
  "//",
  "==",
  "!=",
  "<=",
  ">=",
  "+",
  "-",
  "*",
  "/",
  "%",
  "~",
  "<",
  ">",
  "=",
  ".",
  ",",
  ":",
  "|",
  "(",
  ")",
  "[",
  "]",
  "{",
  "}",
] as const;
const SPACE = /\s+/y;
const NAME = /[\p{L}_$][\p{L}\p{N}_]*/uy;
const NUMBER = /0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?/y;
const ESCAPES: Readonly<Record<string, string>> = {
  n: "\n",
  r: "\r",
  t: "\t",
  b: "\b",
  f: "\f",
  v: "\v",
  "0": "\0",
  a: "\u0007",
};

/** Tokens of `text` between two offsets, closed by an `end` token. `isEnd` may stop earlier, outside of brackets. */
export function tokenize(
  text: string,
  from = 0,
  to = text.length,
  isEnd?: (at: number) => boolean,
): { readonly tokens: readonly Token[]; readonly end: number } {
  const tokens: Token[] = [];
  let brackets = 0;
  let at = from;
  while (at < to) {
    const space = match(SPACE, text, at);
    if (space !== undefined) {
      at += space.length;
      continue;
    }
    if (brackets <= 0 && isEnd?.(at) === true) break;
    if (tokens.length >= EXPRESSION_LIMITS.tokensMax)
      throw new ExpressionError("X005", `more than ${EXPRESSION_LIMITS.tokensMax} tokens`, { start: at, end: at + 1 });
    const token = next(text, at, to);
    if (token.kind === "operator") {
      if ("([{".includes(token.text)) brackets++;
      else if (")]}".includes(token.text)) brackets--;
    }
    tokens.push(token);
    at = token.end;
  }
  tokens.push({ kind: "end", text: "", start: at, end: at });
  return { tokens, end: at };
}

function next(text: string, at: number, to: number): Token {
  const name = match(NAME, text, at);
  if (name !== undefined) return { kind: "name", text: name, start: at, end: at + name.length };
  const char = text[at] ?? "";
  if (char >= "0" && char <= "9") return numberAt(text, at);
  if (char === '"' || char === "'") return stringAt(text, at, to);
  const operator = OPERATORS.find((one) => text.startsWith(one, at));
  if (operator === undefined) {
    const hint = char === "&" ? "write `and`" : char === "!" ? "write `not`" : undefined;
    throw new ExpressionError("X001", `unexpected ${JSON.stringify(char)}`, { start: at, end: at + 1 }, hint);
  }
  return { kind: "operator", text: operator, start: at, end: at + operator.length };
}

function numberAt(text: string, at: number): Token {
  const digits = match(NUMBER, text, at) ?? "";
  const end = at + digits.length;
  // Dates and numbers of telephones are none; as texts they have quotes of their own.
  const isPart = text[at - 1] === ".";
  const isDate = /^\d{4}-\d{2}-\d{2}(?!\w)/.test(text.slice(at, at + 11));
  if (isDate || /^0[\d_]*[1-9]/.test(digits) || (!isPart && /^\.\d/.test(text.slice(end, end + 2))))
    throw new ExpressionError(
      "X001",
      `${JSON.stringify(/^[\w.-]+/.exec(text.slice(at))?.[0] ?? digits)} is no number`,
      { start: at, end },
      "a text needs quotes of its own",
    );
  const follower = match(NAME, text, end);
  if (follower !== undefined)
    throw new ExpressionError("X001", `${JSON.stringify(digits + follower)} is no number`, {
      start: at,
      end: end + follower.length,
    });
  return { kind: "number", text: digits, value: Number(digits.replaceAll("_", "")), start: at, end };
}

function stringAt(text: string, start: number, to: number): Token {
  const quote = text[start];
  let value = "";
  for (let at = start + 1; at < to; at++) {
    const char = text[at];
    if (char === quote) return { kind: "string", text: text.slice(start, at + 1), value, start, end: at + 1 };
    if (char !== "\\") value += char;
    else {
      const [made, length] = escapeAt(text, at);
      value += made;
      at += length - 1;
    }
  }
  throw new ExpressionError("X001", "a text that does not end", { start, end: to }, `close it with ${quote ?? ""}`);
}

/** The character that an escape stands for, and the length of the escape. */
function escapeAt(text: string, at: number): readonly [string, number] {
  const hex = /\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\})/y;
  const code = matchOf(hex, text, at);
  if (code !== undefined) {
    const point = Number.parseInt(code[1] ?? code[2] ?? code[3] ?? "", 16);
    return [point <= 0x10ffff ? String.fromCodePoint(point) : "\uFFFD", code[0].length];
  }
  const char = text[at + 1] ?? "";
  if (char === "\n") return ["", 2];
  return [ESCAPES[char] ?? (`\\'"`.includes(char) ? char : `\\${char}`), 2];
}

function match(pattern: RegExp, text: string, at: number): string | undefined {
  return matchOf(pattern, text, at)?.[0];
}

function matchOf(pattern: RegExp, text: string, at: number): RegExpExecArray | undefined {
  pattern.lastIndex = at;
  return pattern.exec(text) ?? undefined;
}
