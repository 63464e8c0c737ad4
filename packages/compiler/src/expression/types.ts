// The type of an expression as far as its tree and the schemas of what it reads tell; undefined is unknown.

import type { Schema } from "@ergos/kernel";
import { parseExpression } from "./parser.ts";
import type { Expression } from "./tree.ts";

/** The schema of a name, if anything is known of it. */
export type SchemaOf = (name: string) => Schema | undefined;

const TEXT: Schema = { type: "string" };
const NUMBER: Schema = { type: "number" };
const INTEGER: Schema = { type: "integer" };
const BOOLEAN: Schema = { type: "boolean" };
const LIST: Schema = { type: "array" };
const DICT: Schema = { type: "object" };

/** What filters and functions give whatever they get. */
const RESULTS: Readonly<Record<string, Schema>> = {
  ...named(
    TEXT,
    "capitalize center e escape format indent join lower pprint replace str striptags string title tojson trim truncate upper urlencode wordwrap",
  ),
  ...named(INTEGER, "count int len length wordcount"),
  ...named(NUMBER, "float round abs"),
  ...named(
    LIST,
    "batch dictsort enumerate groupby items keys list map range reject rejectattr select selectattr slice sort sorted split unique values zip",
  ),
  ...named(BOOLEAN, "all any bool"),
  ...named(DICT, "dict"),
};

function named(schema: Schema, names: string): Readonly<Record<string, Schema>> {
  return Object.fromEntries(names.split(" ").map((name) => [name, schema]));
}

function typeOf(tree: Expression, schemaOf: SchemaOf): Schema | undefined {
  switch (tree.kind) {
    case "literal":
      if (typeof tree.value === "string") return TEXT;
      if (typeof tree.value === "number") return Number.isInteger(tree.value) ? INTEGER : NUMBER;
      return tree.value === null ? { type: "null" } : BOOLEAN;
    case "name":
      return schemaOf(tree.name);
    case "member":
      return below(typeOf(tree.object, schemaOf), tree.name);
    case "index":
      return tree.key.kind === "literal" ? below(typeOf(tree.object, schemaOf), tree.key.value) : undefined;
    case "slice":
      return typeOf(tree.object, schemaOf);
    case "filter":
      // `reverse`, `default` and their like give what they get, or something else.
      return Object.hasOwn(RESULTS, tree.name) ? RESULTS[tree.name] : undefined;
    case "call":
      return tree.callee.kind === "name" && Object.hasOwn(RESULTS, tree.callee.name)
        ? RESULTS[tree.callee.name]
        : undefined;
    case "test":
    case "not":
    case "compare":
      return BOOLEAN;
    case "negative":
    case "positive":
      return NUMBER;
    case "binary":
      if (tree.operator === "~") return TEXT;
      return tree.operator === "-" || tree.operator === "/" || tree.operator === "//" || tree.operator === "**"
        ? NUMBER
        : undefined;
    case "and":
    case "or":
      return same(typeOf(tree.left, schemaOf), typeOf(tree.right, schemaOf));
    case "conditional":
      return tree.otherwise === undefined
        ? undefined
        : same(typeOf(tree.consequent, schemaOf), typeOf(tree.otherwise, schemaOf));
    case "list":
      return LIST;
    case "dict": {
      // With computed keys it may have any field.
      const keys = tree.entries.map(({ key }) => (key.kind === "literal" ? String(key.value) : undefined));
      if (keys.includes(undefined)) return DICT;
      const fields = tree.entries.map(({ value }, at) => [keys[at] ?? "", typeOf(value, schemaOf) ?? {}] as const);
      return { type: "object", properties: Object.fromEntries(fields), additionalProperties: false };
    }
    default:
      return tree satisfies never;
  }
}

/** The type of a text that is an expression; unknown if it is none. */
export function typeOfText(text: string, schemaOf: SchemaOf): Schema | undefined {
  try {
    return typeOf(parseExpression(text), schemaOf);
  } catch {
    // What is wrong with it is reported where it is compiled.
    return undefined;
  }
}

function below(schema: Schema | undefined, key: unknown): Schema | undefined {
  if (schema === undefined || schema.anyOf !== undefined) return undefined;
  if (typeof key === "number") return schema.items;
  const { properties } = schema;
  return properties !== undefined && Object.hasOwn(properties, String(key)) ? properties[String(key)] : undefined;
}

const same = (a: Schema | undefined, b: Schema | undefined): Schema | undefined =>
  a !== undefined && a.type === b?.type && typeof a.type === "string" && a.type !== "object"
    ? { type: a.type }
    : undefined;

/** What people call a type, if a schema names just one. */
export function typeWord(schema: Schema | undefined): string | undefined {
  const words: Readonly<Record<string, string>> = {
    string: "a text",
    number: "a number",
    integer: "a whole number",
    boolean: "a boolean",
    array: "a list",
    object: "a dict",
    null: "none",
  };
  return typeof schema?.type === "string" ? words[schema.type] : undefined;
}
