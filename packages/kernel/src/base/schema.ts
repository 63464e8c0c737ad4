// Schemas as plain data: the subset of JSON Schema that boundaries (wire, manifests, tools) validate with.
// In-process callers pay nothing for them. `toStandardSchema` gives the Standard Schema face.

import { KernelError } from "./errno.ts";

export type JsonType = "string" | "integer" | "number" | "boolean" | "array" | "object" | "null";

export interface Schema {
  readonly type?: JsonType | readonly JsonType[];
  readonly title?: string;
  readonly description?: string;
  /** What an absent property stands for; filled in by whoever takes the value, not by `validate`. */
  readonly default?: unknown;
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
  readonly minimum?: number;
  readonly maximum?: number;
  readonly anyOf?: readonly Schema[];
  /** Bytes: a Uint8Array in a host, raw bytes beside the JSON on the wire. */
  readonly format?: "bytes" | "path" | "glob";
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
export function assertValid(schema: Schema, value: unknown, what: string): void {
  const issues = validate(schema, value);
  if (issues.length === 0) return;
  const list = issues.map(({ path, message }) => `${path.length === 0 ? "it" : path.join(".")} ${message}`).join("; ");
  throw new KernelError("EINVAL", `in ${what}: ${list}`);
}

/** The Standard Schema face of a schema (https://standardschema.dev, version 1). */
export function toStandardSchema<T>(schema: Schema): {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: "ergos";
    readonly validate: (value: unknown) => { readonly value: T } | { readonly issues: readonly SchemaIssue[] };
  };
} {
  return {
    "~standard": {
      version: 1,
      vendor: "ergos",
      validate: (value) => {
        const issues = validate(schema, value);
        // The schema has just vouched for the type that its author declared.
        return issues.length === 0 ? { value: value as T } : { issues };
      },
    },
  };
}

/** Where a visit is; it grows and shrinks with it. */
type Place = (string | number)[];

function visit(schema: Schema, value: unknown, path: Place, issues: SchemaIssue[]): void {
  if (issues.length >= 20) return;
  const say = (message: string): void => void issues.push({ message, path: [...path] });
  if (schema.anyOf !== undefined) {
    if (!schema.anyOf.some((option) => validate(option, value).length === 0)) say("fits none of the allowed forms");
    return;
  }
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
}

function visitNumber(schema: Schema, value: number, say: Say): void {
  if (schema.minimum !== undefined && value < schema.minimum) say(`must be at least ${schema.minimum}`);
  if (schema.maximum !== undefined && value > schema.maximum) say(`must be at most ${schema.maximum}`);
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
