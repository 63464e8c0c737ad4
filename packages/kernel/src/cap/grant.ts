// Grants: what may be done, to what, under which limits.
//
//   [allow | ask | deny] right[:resource] [; uses=N] [; until=INSTANT] [; arg.NAME op VALUE]...
//
//   fs.read:/srv/**                                  everything below /srv
//   deny fs.write:/etc/**                            wins over whatever allows it
//   ask tool.call:send_mail                          a person answers each time
//   tool.call:send_mail; arg.to=*@example.com; uses=3; until=2027-01-01T00:00:00Z
//
// A resource that holds a semicolon or begins with a quote is written as a JSON text.

import { KernelError } from "../base/errno.ts";
import { compileGlob } from "../base/glob.ts";

export type Effect = "allow" | "ask" | "deny";
const OPERATORS = ["<=", ">=", "!=", "<", ">", "="] as const;

/** What an argument of the call must be. `=` takes a glob; the others compare numbers, `!=` refuses a glob. */
export interface Condition {
  /** Name of the argument; dots lead into objects. */
  readonly name: string;
  readonly op: (typeof OPERATORS)[number];
  readonly value: string;
}

export interface Grant {
  readonly effect: Effect;
  /** Dotted name; a last segment `*` covers all below it. */
  readonly right: string;
  /** Glob of what it applies to. */
  readonly resource: string;
  /** Wall-clock milliseconds from which it counts no more. */
  readonly expires?: number;
  /** How many calls it allows in all, over every process that holds it. */
  readonly uses?: number;
  /** All of them must hold. */
  readonly where?: readonly Condition[];
}

const HEAD = /^(?:(allow|ask|deny)\s+)?(\*|[a-z][a-z0-9]*(?:\.[a-z][a-z0-9]*)*(?:\.\*)?)(?::(.+))?$/su;
const FORM = "`[ask | deny] right[:resource][; limit]...` such as fs.read:/srv/**";

/**
 * Parses the text form of a grant. Of several limits of one kind all hold.
 * @throws {EINVAL} it is not of the form, a limit is unknown, or a path leads upwards
 */
export function parseGrant(text: string): Grant {
  const { head, limits } = split(text.trim());
  const match = HEAD.exec(head);
  if (match === null) throw invalid(text, `expected ${FORM}`);
  const [, effect = "allow", right = "", written] = match;
  const named = written === undefined ? "**" : unquote(written, text);
  if (named === "") throw invalid(text, "what it is about is empty; leave out the colon for everything");
  if (right.startsWith("fs.")) assertPathGlob(named, text);
  // Names of hosts are the same in large and small letters.
  const resource = right.startsWith("net.") ? named.toLowerCase() : named;
  let grant: Grant = { effect: effect as Effect, right, resource };
  for (const limit of limits) grant = withLimit(grant, limit, text);
  if (grant.effect === "deny" && grant.uses !== undefined)
    throw invalid(text, "a denial is not used up; leave out uses");
  return grant;
}

/** The canonical text of a grant: parsing it gives the same grant. */
export function formatGrant(grant: Grant): string {
  const effect = grant.effect === "allow" ? "" : `${grant.effect} `;
  const limits = [
    ...(grant.where ?? []).map(textOf),
    ...(grant.uses === undefined ? [] : [`uses=${grant.uses}`]),
    ...(grant.expires === undefined ? [] : [`until=${new Date(grant.expires).toISOString()}`]),
  ];
  const resource = grant.resource === "**" ? "" : `:${quoteIfNeeded(grant.resource)}`;
  return [`${effect}${grant.right}${resource}`, ...limits].join("; ");
}

const textOf = ({ name, op, value }: Condition): string => `arg.${name}${op}${quoteIfNeeded(value)}`;

/** Whether a condition holds for the arguments of a call. */
export function holds(condition: Condition, args: unknown, effect: Effect = "allow"): boolean {
  let found: unknown = args;
  for (const name of condition.name.split(".")) {
    const isOwn = typeof found === "object" && found !== null && Object.hasOwn(found, name);
    found = isOwn ? (found as Record<string, unknown>)[name] : undefined;
  }
  // Of several, all must be what is allowed, and one is enough of what is not.
  if (Array.isArray(found)) {
    const each = found.map((one: unknown) => holdsOf(condition, one, effect));
    return effect === "allow" ? each.length > 0 && each.every(Boolean) : each.some(Boolean);
  }
  return holdsOf(condition, found, effect);
}

function holdsOf(condition: Condition, found: unknown, effect: Effect): boolean {
  if (condition.op === "=" || condition.op === "!=") {
    const isScalar = typeof found === "string" || typeof found === "number" || typeof found === "boolean";
    const isMatch = isScalar && compileGlob(condition.value)(String(found));
    // What cannot be compared is not what is allowed; whether it differs from what is forbidden nobody knows.
    if (condition.op === "!=" && found !== undefined && found !== null && !isScalar) return effect !== "allow";
    return condition.op === "=" ? isMatch : !isMatch;
  }
  const bound = Number(condition.value);
  return isWithinBound(condition.op, typeof found === "string" && effect !== "allow" ? Number(found) : found, bound);
}

function isWithinBound(op: "<=" | ">=" | "<" | ">", found: unknown, bound: number): boolean {
  if (typeof found !== "number" || Number.isNaN(found)) return false;
  switch (op) {
    case "<=":
      return found <= bound;
    case ">=":
      return found >= bound;
    case "<":
      return found < bound;
    case ">":
      return found > bound;
    default:
      return op satisfies never;
  }
}

/** Splits at semicolons outside of quotes. */
function split(text: string): { readonly head: string; readonly limits: readonly string[] } {
  const parts: string[] = [];
  let from = 0;
  let isQuoted = false;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (isQuoted && char === "\\") at++;
    else if (char === '"' && (isQuoted || /[:=<>]$/.test(text.slice(from, at)))) isQuoted = !isQuoted;
    else if (char === ";" && !isQuoted) {
      parts.push(text.slice(from, at).trim());
      from = at + 1;
    }
  }
  parts.push(text.slice(from).trim());
  const [head = "", ...limits] = parts;
  return { head, limits: limits.filter((limit) => limit !== "") };
}

function withLimit(grant: Grant, limit: string, text: string): Grant {
  const [, name = "", op = "", written = ""] = /^([A-Za-z][\w.-]*)\s*(<=|>=|!=|<|>|=)\s*(.*)$/su.exec(limit) ?? [];
  const value = unquote(written, text);
  if (name === "uses" && op === "=") {
    const uses = value === "" ? Number.NaN : Number(value);
    if (!Number.isSafeInteger(uses) || uses < 0) throw invalid(text, `uses is a whole number, found ${value}`);
    return { ...grant, uses: Math.min(uses, grant.uses ?? uses) };
  }
  if (name === "until" && op === "=") {
    const expires = Date.parse(value);
    if (Number.isNaN(expires)) throw invalid(text, `until is an instant such as 2027-01-01T00:00:00Z, found ${value}`);
    return { ...grant, expires: Math.min(expires, grant.expires ?? expires) };
  }
  if (name.startsWith("arg.") && name.length > 4) {
    const isNumber = op !== "=" && op !== "!=";
    if (isNumber && !Number.isFinite(Number(value === "" ? "x" : value)))
      throw invalid(text, `${op} compares numbers, found ${JSON.stringify(value)}`);
    const condition: Condition = { name: name.slice(4), op: op as Condition["op"], value };
    const where = [...(grant.where ?? []), condition];
    return { ...grant, where: where.sort((a, b) => (textOf(a) < textOf(b) ? -1 : 1)) };
  }
  throw invalid(text, `${JSON.stringify(limit)} is no limit; known are uses=N, until=INSTANT and arg.NAME=GLOB`);
}

/** A glob over paths says where it leads: what `..` would mean is written out. */
function assertPathGlob(resource: string, text: string): void {
  if (resource === "**") return;
  const segments = resource.split("/");
  if (segments[0] !== "") throw invalid(text, "a path is absolute, such as /srv/**");
  if (segments.includes("..") || segments.includes(".") || segments.slice(1, -1).includes(""))
    throw invalid(text, "a path holds no empty, `.` or `..` segment; write the path that is meant");
  if (resource.length > 1 && resource.endsWith("/"))
    throw invalid(text, "a path does not end with a slash; /srv/** is everything below /srv");
  if (resource.includes("\0")) throw invalid(text, "a path holds no NUL");
}

function unquote(written: string, text: string): string {
  if (!written.startsWith('"')) return written;
  try {
    const value = JSON.parse(written) as unknown;
    if (typeof value === "string") return value;
  } catch {
    // Said below.
  }
  throw invalid(text, `${written} is no JSON text`);
}

const quoteIfNeeded = (value: string): string => (/^"|[;\n]|^\s|\s$|^$/u.test(value) ? JSON.stringify(value) : value);

const invalid = (text: string, why: string): KernelError =>
  new KernelError("EINVAL", `${JSON.stringify(text)} is no grant: ${why}`);
