// Schemas as plain data: the subset of JSON Schema that boundaries (wire, manifests, tools) validate with.
// In-process callers pay nothing for them.

import { type ErrorDetails, KernelError, plainMessage } from "./errno.ts";

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
  readonly multipleOf?: number;
  readonly anyOf?: readonly Schema[];
  /** Exactly one of them. */
  readonly oneOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
  readonly not?: Schema;
  /** Of each name of an object, as a text. */
  readonly propertyNames?: Schema;
  /** Of the first items, one for each. */
  readonly prefixItems?: readonly Schema[];
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
  "id",
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
  "multipleOf",
  "anyOf",
  "oneOf",
  "allOf",
  "not",
  "propertyNames",
  "prefixItems",
]);

/**
 * Whoever gives a schema relies on all of it: what would not be checked is refused.
 * @throws {EINVAL} it has keywords beyond the subset, anywhere in it
 */
export function assertSchema(schema: unknown, what: string, at = ""): asserts schema is Schema {
  if (at.length > PLACE_MAX)
    throw new KernelError("EINVAL", `${what} is a schema that is nested too deep, or holds itself`);
  if (typeof schema !== "object" || schema === null || Array.isArray(schema))
    throw new KernelError("EINVAL", `${what}${at} is a schema: an object, found ${typeOf(schema)}`);
  for (const [name, value] of Object.entries(schema)) {
    const place = `${at}.${name}`;
    const [isForm, form] = FORMS[name] ?? [];
    if (isForm?.(value) === false) throw new KernelError("EINVAL", `${what}${place} must be ${form}`);
    if (!CHECKED.has(name) && !ANNOTATIONS.has(name))
      throw new KernelError(
        "EINVAL",
        `${what}${place} is a keyword that is not checked here; known are ${[...CHECKED].join(", ")}`,
      );
    if (name === "properties")
      for (const [key, inner] of Object.entries(value as object)) assertSchema(inner, what, `${place}.${key}`);
    else if (name === "propertyNames" || name === "not") assertSchema(value, what, place);
    else if (name === "additionalProperties" || name === "items") {
      if (typeof value !== "boolean") assertSchema(value, what, place);
    } else if (name === "anyOf" || name === "oneOf" || name === "allOf" || name === "prefixItems")
      for (const [index, inner] of (value as readonly unknown[]).entries())
        assertSchema(inner, what, `${place}[${index}]`);
    else if (name === "pattern") {
      const problem = patternProblem(value);
      if (problem !== undefined) throw new KernelError("EINVAL", `${what}${place} ${problem}`);
    }
  }
}

/** What is wrong with a schema, as `assertSchema` says it; nothing where it can be checked. */
export function schemaProblem(schema: unknown, what: string): string | undefined {
  try {
    assertSchema(schema, what);
    return undefined;
  } catch (error) {
    return error instanceof KernelError ? plainMessage(error.message) : what;
  }
}

/** Characters of the place of a keyword in its schema. */
const PLACE_MAX = 4096;

/** A longer text is not searched: how long that takes, nobody knows. */
const PATTERN_TEXT_MAX = 10_000;

/**
 * Whether a group that repeats holds nothing but what may repeat or be absent, as `(a+)+` and `([a-z]+\\s?)*`: how long
 * such a search takes doubles with each character, and a host must not stand still over what a model has written.
 */
function isExplosive(pattern: string): boolean {
  const plain = pattern.replaceAll(/\[(?:[^\]\\]|\\.)*\]/g, "x");
  const groups = plain.matchAll(/\((?:\?:)?((?:[^()\\]|\\.)*)\)(?:[*+]|\{\d+,\d*\})/g);
  return groups.some(
    ([, inner = ""]) =>
      /^(?:(?:\\.|[^\\|*+?{}])(?:[*+?]|\{\d*,\d*\})\??)+$/.test(inner) &&
      /[*+]|\{\d*,\}/.test(inner.replaceAll(/\\./g, "x")),
  );
}

/** What is none of the stricter kind, as `\\-` outside of a class, may be one of the older. */
function patternOf(pattern: string): RegExp {
  try {
    return new RegExp(pattern, "u");
  } catch {
    return new RegExp(pattern);
  }
}

/** What is wrong with a regular expression; nothing where it can be used. */
export function patternProblem(pattern: unknown): string | undefined {
  try {
    if (typeof pattern !== "string") return "is no regular expression";
    patternOf(pattern);
  } catch {
    return "is no regular expression";
  }
  return isExplosive(pattern)
    ? "repeats what repeats itself, and might take for ever; write it without one of the repetitions"
    : undefined;
}

const isSchemaMap = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value);
const isTexts = (value: unknown): boolean => Array.isArray(value) && value.every((one) => typeof one === "string");
const isPlain = (value: unknown): boolean => value === null || ["string", "number", "boolean"].includes(typeof value);
const isNumber = (value: unknown): boolean => typeof value === "number" && Number.isFinite(value);
const TYPES: ReadonlySet<unknown> = new Set(["string", "integer", "number", "boolean", "array", "object", "null"]);

/** The form of each keyword, and what it is said to be. */
const FORMS: Readonly<Partial<Record<string, readonly [(value: unknown) => boolean, string]>>> = {
  type: [(value) => (Array.isArray(value) ? value : [value]).every((one) => TYPES.has(one)), "a type, or several"],
  const: [isPlain, "a text, a number, a boolean or null"],
  enum: [(value) => Array.isArray(value) && value.every(isPlain), "a list of plain values"],
  required: [isTexts, "a list of names"],
  properties: [isSchemaMap, "schemas by name"],
  anyOf: [Array.isArray, "a list of schemas"],
  oneOf: [Array.isArray, "a list of schemas"],
  allOf: [Array.isArray, "a list of schemas"],
  prefixItems: [Array.isArray, "a list of schemas"],
  ...Object.fromEntries(
    [
      "minItems",
      "maxItems",
      "minLength",
      "maxLength",
      "minimum",
      "maximum",
      "exclusiveMinimum",
      "exclusiveMaximum",
      "multipleOf",
    ].map((name) => [name, [isNumber, "a number"] as const]),
  ),
};

/** Where a visit is; it grows and shrinks with it. */
type Place = (string | number)[];

function visit(schema: Schema, value: unknown, path: Place, issues: SchemaIssue[]): void {
  if (issues.length >= 20) return;
  const say = (message: string): void => void issues.push({ message, path: [...path] });
  if (schema.anyOf !== undefined && !schema.anyOf.some((option) => validate(option, value).length === 0)) {
    // Of one form that is meant it is told what is wrong with it.
    const meant = schema.anyOf.filter(({ type }) => type !== undefined && accepts(type, typeOf(value)));
    const [only] = meant;
    if (only !== undefined && meant.length === 1) return visit(only, value, path, issues);
    return say(`fits none of the allowed forms: ${schema.anyOf.map(formOf).join("; ")}`);
  }
  if (schema.oneOf !== undefined) {
    const count = schema.oneOf.filter((option) => validate(option, value).length === 0).length;
    if (count !== 1) return say(`fits ${count === 0 ? "none" : count} of the forms of which it must be one`);
  }
  for (const part of schema.allOf ?? []) visit(part, value, path, issues);
  if (schema.not !== undefined && validate(schema.not, value).length === 0) return say("fits what it must not");
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

/** What a schema asks for, in a few words. */
function formOf({ enum: options, const: only, type, properties, required }: Schema): string {
  if (options !== undefined) return options.map((option) => JSON.stringify(option)).join(", ");
  if (only !== undefined) return JSON.stringify(only);
  if (properties !== undefined) return `{ ${Object.keys(properties).join(", ")} }`;
  if (required !== undefined) return `with ${required.join(", ")}`;
  return type === undefined ? "another" : [type].flat().join(" or ");
}

type Say = (message: string) => void;

function visitString(schema: Schema, value: string, say: Say): void {
  const { maxLength, minLength, pattern } = schema;
  if (maxLength !== undefined && value.length > maxLength) return say(`must have at most ${maxLength} characters`);
  if (minLength !== undefined && value.length < minLength) return say(`must have at least ${minLength} characters`);
  if (pattern === undefined) return;
  if (value.length > PATTERN_TEXT_MAX)
    say(`must have at most ${PATTERN_TEXT_MAX} characters to be held against a pattern`);
  else if (!patternOf(pattern).test(value)) say(`must match ${pattern}`);
}

/** Whether a number is a multiple of another, as far as the two can be told apart. */
function isMultiple(value: number, of: number): boolean {
  const times = value / of;
  return Math.abs(times - Math.round(times)) < 1e-9 * Math.max(1, Math.abs(times));
}

function visitNumber(schema: Schema, value: number, say: Say): void {
  if (schema.minimum !== undefined && value < schema.minimum) say(`must be at least ${schema.minimum}`);
  if (schema.maximum !== undefined && value > schema.maximum) say(`must be at most ${schema.maximum}`);
  if (schema.multipleOf !== undefined && !isMultiple(value, schema.multipleOf))
    say(`must be a multiple of ${schema.multipleOf}`);
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
  const { prefixItems } = schema;
  // As other tools write it, `false` refuses more items than the first ones.
  const items = schema.items as Schema | boolean | undefined;
  if (items === undefined && prefixItems === undefined) return;
  for (const [at, item] of value.entries()) {
    const rule = prefixItems?.[at] ?? items;
    if (rule === false) return say(`must have at most ${prefixItems?.length ?? 0} items`);
    if (rule !== undefined && rule !== true) visitBelow(rule, item, path, at, issues);
  }
}

function visitObject(schema: Schema, value: Record<string, unknown>, path: Place, issues: SchemaIssue[]): void {
  for (const name of schema.required ?? []) {
    if (value[name] === undefined) issues.push({ message: "is missing", path: [...path, name] });
  }
  for (const name of Object.keys(value)) {
    if (schema.propertyNames !== undefined) visitBelow(schema.propertyNames, name, path, name, issues);
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
