// Schemas as plain data: the subset of JSON Schema that boundaries (wire, manifests, tools) validate with.
// In-process callers pay nothing for them.

import { type ErrorDetails, KernelError } from "./errno.ts";

export type JsonType = "string" | "integer" | "number" | "boolean" | "array" | "object" | "null";

export interface Schema {
  readonly type?: JsonType | readonly JsonType[];
  readonly title?: string;
  readonly description?: string;
  /** What an absent property stands for; filled in by whoever takes the value, not by `validate`. */
  readonly default?: unknown;
  readonly const?: string | number | boolean | null;
  readonly enum?: readonly (string | number | boolean | null)[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  /** `false` refuses unknown properties; a schema applies to them. */
  readonly additionalProperties?: boolean | Schema;
  readonly items?: Schema;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  /** A regular expression that some of the text fits. */
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly anyOf?: readonly Schema[];
  /** Exactly one of them. */
  readonly oneOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
  /** `bytes`: a Uint8Array in a host, raw bytes beside the JSON on the wire. All others say what is meant, for people. */
  readonly format?: string;
}

export interface SchemaIssue {
  readonly message: string;
  readonly path: readonly (string | number)[];
}

/** All the places where a value differs from its schema, at most 20. */
export function validate(schema: Schema, value: unknown): readonly SchemaIssue[] {
  const issues: SchemaIssue[] = [];
  visit(schema, value, [], issues);
  return issues;
}

/** Throws `EINVAL` with every difference when a value does not fit. */
export function assertValid(schema: Schema, value: unknown, what: string, details: ErrorDetails = {}): void {
  const issues = validate(schema, value);
  if (issues.length === 0) return;
  const list = issues.map(({ path, message }) => `${path.length === 0 ? "it" : path.join(".")} ${message}`).join("; ");
  throw new KernelError("EINVAL", `in ${what}: ${list}`, details);
}

/** Keywords that say something about a value which nobody checks, as those of other tools. */
const ANNOTATIONS: ReadonlySet<string> = new Set([
  "$schema",
  "$id",
  "$comment",
  "title",
  "description",
  "default",
  "examples",
  "deprecated",
  "readOnly",
  "writeOnly",
  "format",
  "contentEncoding",
  "contentMediaType",
]);
const CHECKED: ReadonlySet<string> = new Set<keyof Schema>([
  "type",
  "const",
  "enum",
  "properties",
  "required",
  "additionalProperties",
  "items",
  "minItems",
  "maxItems",
  "minLength",
  "maxLength",
  "pattern",
  "minimum",
  "maximum",
  "exclusiveMinimum",
  "exclusiveMaximum",
  "anyOf",
  "oneOf",
  "allOf",
]);

/**
 * Whoever gives a schema relies on all of it: what would not be checked is refused.
 * @throws {EINVAL} it has keywords beyond the subset, anywhere in it
 */
export function assertSchema(schema: unknown, what: string, at = ""): asserts schema is Schema {
  if (typeof schema !== "object" || schema === null || Array.isArray(schema))
    throw new KernelError("EINVAL", `${what}${at} is a schema: an object, found ${typeOf(schema)}`);
  for (const [name, value] of Object.entries(schema)) {
    const place = `${at}.${name}`;
    if (!CHECKED.has(name) && !ANNOTATIONS.has(name))
      throw new KernelError(
        "EINVAL",
        `${what}${place} is a keyword that is not checked here; known are ${[...CHECKED].join(", ")}`,
      );
    if (name === "properties")
      for (const [key, inner] of Object.entries(value as object)) assertSchema(inner, what, `${place}.${key}`);
    else if (name === "items") assertSchema(value, what, place);
    else if (name === "additionalProperties") {
      if (typeof value !== "boolean") assertSchema(value, what, place);
    } else if (name === "anyOf" || name === "oneOf" || name === "allOf")
      for (const [index, inner] of (value as readonly unknown[]).entries())
        assertSchema(inner, what, `${place}[${index}]`);
    else if (name === "pattern") assertPattern(value, `${what}${place}`);
  }
}

function assertPattern(pattern: unknown, what: string): void {
  try {
    if (typeof pattern === "string" && new RegExp(pattern, "u") instanceof RegExp) return;
  } catch {
    // Said below.
  }
  throw new KernelError("EINVAL", `${what} is no regular expression`);
}

/** Where a visit is; it grows and shrinks with it. */
type Place = (string | number)[];

function visit(schema: Schema, value: unknown, path: Place, issues: SchemaIssue[]): void {
  if (issues.length >= 20) return;
  const say = (message: string): void => void issues.push({ message, path: [...path] });
  if (schema.anyOf !== undefined && !schema.anyOf.some((option) => validate(option, value).length === 0))
    return say("fits none of the allowed forms");
  if (schema.oneOf !== undefined) {
    const count = schema.oneOf.filter((option) => validate(option, value).length === 0).length;
    if (count !== 1) return say(`fits ${count === 0 ? "none" : count} of the forms of which it must be one`);
  }
  for (const part of schema.allOf ?? []) visit(part, value, path, issues);
  if (schema.format === "bytes") {
    if (!(value instanceof Uint8Array)) say(`must be bytes, found ${typeOf(value)}`);
    return;
  }
  const found = typeOf(value);
  if (schema.type !== undefined && !accepts(schema.type, found)) {
    const wanted = typeof schema.type === "string" ? schema.type : schema.type.join(" or ");
    return say(`must be ${wanted}, found ${found}`);
  }
  if (schema.enum !== undefined && !schema.enum.some((option) => option === value)) {
    return say(`must be one of ${schema.enum.map(String).join(", ")}`);
  }
  if (schema.const !== undefined && schema.const !== value) return say(`must be ${JSON.stringify(schema.const)}`);
  if (typeof value === "string") visitString(schema, value, say);
  else if (typeof value === "number") visitNumber(schema, value, say);
  else if (Array.isArray(value)) visitArray(schema, value, path, issues, say);
  else if (found === "object") visitObject(schema, value as Record<string, unknown>, path, issues);
}

type Say = (message: string) => void;

function visitString(schema: Schema, value: string, say: Say): void {
  if (schema.maxLength !== undefined && value.length > schema.maxLength)
    say(`must have at most ${schema.maxLength} characters`);
  if (schema.minLength !== undefined && value.length < schema.minLength)
    say(`must have at least ${schema.minLength} characters`);
  if (schema.pattern !== undefined && !new RegExp(schema.pattern, "u").test(value)) say(`must match ${schema.pattern}`);
}

function visitNumber(schema: Schema, value: number, say: Say): void {
  if (schema.minimum !== undefined && value < schema.minimum) say(`must be at least ${schema.minimum}`);
  if (schema.maximum !== undefined && value > schema.maximum) say(`must be at most ${schema.maximum}`);
  if (schema.exclusiveMinimum !== undefined && value <= schema.exclusiveMinimum)
    say(`must be more than ${schema.exclusiveMinimum}`);
  if (schema.exclusiveMaximum !== undefined && value >= schema.exclusiveMaximum)
    say(`must be less than ${schema.exclusiveMaximum}`);
}

function visitArray(schema: Schema, value: readonly unknown[], path: Place, issues: SchemaIssue[], say: Say): void {
  if (schema.maxItems !== undefined && value.length > schema.maxItems)
    return say(`must have at most ${schema.maxItems} items`);
  if (schema.minItems !== undefined && value.length < schema.minItems)
    return say(`must have at least ${schema.minItems} items`);
  if (schema.items === undefined) return;
  for (const [at, item] of value.entries()) visitBelow(schema.items, item, path, at, issues);
}

function visitObject(schema: Schema, value: Record<string, unknown>, path: Place, issues: SchemaIssue[]): void {
  for (const name of schema.required ?? []) {
    if (value[name] === undefined) issues.push({ message: "is missing", path: [...path, name] });
  }
  for (const name of Object.keys(value)) {
    const known =
      schema.properties !== undefined && Object.hasOwn(schema.properties, name) ? schema.properties[name] : undefined;
    const rule = known ?? schema.additionalProperties ?? true;
    if (rule === false) issues.push({ message: "is not a known property", path: [...path, name] });
    else if (rule !== true && value[name] !== undefined) visitBelow(rule, value[name], path, name, issues);
  }
}

function visitBelow(schema: Schema, value: unknown, path: Place, at: string | number, issues: SchemaIssue[]): void {
  path.push(at);
  visit(schema, value, path, issues);
  path.pop();
}

function typeOf(value: unknown): JsonType | "undefined" | "bytes" {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (value instanceof Uint8Array) return "bytes";
  if (typeof value === "number") return Number.isSafeInteger(value) ? "integer" : "number";
  if (typeof value === "string" || typeof value === "boolean" || typeof value === "object")
    return typeof value as JsonType;
  return "undefined";
}

function accepts(wanted: JsonType | readonly JsonType[], found: string): boolean {
  if (typeof wanted !== "string") return wanted.some((one) => accepts(one, found));
  return wanted === found || (wanted === "number" && found === "integer");
}
