// Whether a schema in a manifest is one that the kernel can check.

import { type Schema, patternProblem, validate } from "@ergos/kernel";
import type { Diagnostics } from "../diagnostic.ts";
import { suggest } from "../nearest.ts";
import { type SourceValue, kindName, placeOf, toPlain } from "../source/value.ts";

const KEYWORDS = {
  type: "type",
  title: "text",
  description: "text",
  default: "any",
  examples: "any",
  const: "plain",
  enum: "list",
  properties: "schemas",
  required: "names",
  additionalProperties: "flag or schema",
  items: "schema",
  minItems: "count",
  maxItems: "count",
  minLength: "count",
  maxLength: "count",
  minimum: "number",
  maximum: "number",
  exclusiveMinimum: "number",
  exclusiveMaximum: "number",
  multipleOf: "number",
  pattern: "pattern",
  not: "schema",
  propertyNames: "schema",
  prefixItems: "list of schemas",
  anyOf: "list of schemas",
  oneOf: "list of schemas",
  allOf: "list of schemas",
  format: "format",
  $schema: "text",
  $id: "text",
  $comment: "text",
  deprecated: "any",
} as const;
const TYPES = ["string", "integer", "number", "boolean", "array", "object", "null"];

/** What to write in the place of keywords that are not checked. */
const INSTEAD: Readonly<Record<string, string>> = {
  $ref: "write what it refers to in its place, or use an anchor of YAML",
  nullable: 'write type: [string, "null"]',
  uniqueItems: "check it in an expression, or in a function",
  patternProperties: "use additionalProperties",
};

const isKeyword = (name: string): name is keyof typeof KEYWORDS => Object.hasOwn(KEYWORDS, name);

/** The schema, checked; undefined when it is not valid. */
export function readSchema(value: SourceValue | undefined, path: string, diagnostics: Diagnostics): Schema | undefined {
  if (value === undefined) return undefined;
  // Checked keyword by keyword.
  return new SchemaChecker(diagnostics).schema(value, path) ? (toPlain(value) as Schema) : undefined;
}

class SchemaChecker {
  readonly #diagnostics: Diagnostics;

  constructor(diagnostics: Diagnostics) {
    this.#diagnostics = diagnostics;
  }

  schema(value: SourceValue, path: string): boolean {
    if (value.kind !== "map")
      return this.#say(value, path, `expected a schema, found ${kindName(value)}`, "as in { type: string }");
    const isValid = Array.from(value.entries.values(), ({ key, keyAt, value: inner }) => {
      const at = `${path}.${key}`;
      if (isKeyword(key)) return this.#keyword(key, inner, at);
      const hint = suggest(key, Object.keys(KEYWORDS));
      this.#diagnostics.report(
        "E601",
        placeOf(keyAt, at),
        `${JSON.stringify(key)} is no keyword of a schema`,
        INSTEAD[key] ??
          (value.entries.has("type") ? hint : "fields stand under properties: { type: object, properties: { … } }"),
      );
      return false;
    }).every(Boolean);
    const otherwise = value.entries.get("default")?.value;
    if (!isValid || otherwise === undefined) return isValid;
    // Checked keyword by keyword.
    const [issue] = validate(toPlain(value) as Schema, toPlain(otherwise));
    return issue === undefined || this.#say(otherwise, `${path}.default`, `the default does not fit: ${issue.message}`);
  }

  #keyword(name: keyof typeof KEYWORDS, value: SourceValue, path: string): boolean {
    const plain = value.kind === "scalar" ? value.value : undefined;
    switch (KEYWORDS[name]) {
      case "any":
        return true;
      case "type": {
        const types = value.kind === "list" ? value.items.map(toPlain) : [plain];
        if (types.length === 0) return this.#say(value, path, "a list of no types fits nothing", "name a type");
        const at = types.findIndex((type) => typeof type !== "string" || !TYPES.includes(type));
        if (at < 0) return true;
        const wrong = types[at];
        return this.#say(
          value,
          path,
          `${wrong === undefined ? kindName(value) : JSON.stringify(wrong)} is no type`,
          suggest(typeof wrong === "string" ? wrong : "", TYPES),
        );
      }
      case "text":
        return typeof plain === "string" || this.#say(value, path, `expected a text, found ${kindName(value)}`);
      case "pattern":
        return this.#pattern(value, plain, path);
      case "plain":
        return value.kind === "scalar" || this.#say(value, path, `expected a plain value, found ${kindName(value)}`);
      case "format":
        return (
          (typeof plain === "string" && plain !== "bytes") ||
          this.#say(value, path, "expected a text; bytes are none of JSON")
        );
      case "number":
        return typeof plain === "number" || this.#say(value, path, `expected a number, found ${kindName(value)}`);
      case "count":
        return (
          (typeof plain === "number" && Number.isSafeInteger(plain) && plain >= 0) ||
          this.#say(value, path, "expected a whole number of at least 0")
        );
      case "list":
        return (
          (value.kind === "list" && value.items.length > 0 && value.items.every((item) => item.kind === "scalar")) ||
          this.#say(value, path, "expected a list of plain values, of at least one")
        );
      case "names":
        return (
          (value.kind === "list" && value.items.every((item) => typeof toPlain(item) === "string")) ||
          this.#say(value, path, "expected a list of names")
        );
      case "schema":
        return this.schema(value, path);
      case "flag or schema":
        return typeof plain === "boolean" || this.schema(value, path);
      case "schemas":
        if (value.kind !== "map")
          return this.#say(value, path, `expected a mapping of names to schemas, found ${kindName(value)}`);
        return Array.from(value.entries.values(), (entry) => this.schema(entry.value, `${path}.${entry.key}`)).every(
          Boolean,
        );
      case "list of schemas":
        if (value.kind !== "list")
          return this.#say(value, path, `expected a list of schemas, found ${kindName(value)}`);
        if (value.items.length === 0) return this.#say(value, path, "of no schemas none fits");
        return value.items.map((item, at) => this.schema(item, `${path}[${at}]`)).every(Boolean);
      default:
        return KEYWORDS[name] satisfies never;
    }
  }

  #pattern(value: SourceValue, pattern: unknown, path: string): boolean {
    const problem = patternProblem(pattern);
    return problem === undefined || this.#say(value, path, `the pattern ${problem}`);
  }

  #say(value: SourceValue, path: string, message: string, hint?: string): false {
    this.#diagnostics.report("E601", placeOf(value, path), message, hint);
    return false;
  }
}
