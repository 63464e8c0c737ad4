// JSON Schema of manifests, for editors: `ergos schema`.

import type { Choice, Field, FieldType, Fields, ObjectSpec } from "./field.ts";
import { NODE_KINDS, NODE_SPECS, OBJECT_SPECS, nodeFields } from "./pipeline-fields.ts";

type Json = Readonly<Record<string, unknown>>;

/** The schema of a manifest (JSON Schema draft-07, which editors know best). */
export function manifestJsonSchema(kind: "pipeline" | "policy" = "pipeline"): Json {
  const { [kind]: root, ...others } = OBJECT_SPECS;
  if (root === undefined) throw new TypeError("the root of the fields is missing");
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    $id: `ergos/v1/${kind}.schema.json`,
    title: `ErgOS ${kind}`,
    ...objectSchema(root),
    definitions: {
      ...Object.fromEntries(Object.entries(others).map(([name, spec]) => [name, objectSchema(spec)])),
      node: nodeSchema(true),
      body_node: nodeSchema(false),
    },
  };
}

function objectSchema(spec: ObjectSpec): Json {
  return { description: spec.doc, ...fieldsSchema(spec.fields), ...choicesSchema(spec.choices) };
}

/** Groups of fields of which one, or at most one, is there. */
function choicesSchema(choices: readonly Choice[] = []): Json {
  if (choices.length === 0) return {};
  const has = (name: string): Json => ({ required: [name] });
  const all = choices.map(({ fields, required }) =>
    required ? { oneOf: fields.map(has) } : { oneOf: [...fields.map(has), { not: { anyOf: fields.map(has) } }] },
  );
  return { allOf: all };
}

function fieldsSchema(fields: Fields): Json {
  const required = Object.entries(fields).flatMap(([name, field]) => (field.required === true ? [name] : []));
  return {
    type: "object",
    properties: Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, fieldSchema(field)])),
    ...(required.length === 0 ? {} : { required }),
    additionalProperties: false,
  };
}

/** A node: what it may hold depends on its kind. */
function nodeSchema(isNamed: boolean): Json {
  const kinds = NODE_KINDS.map((kind) => {
    const { properties, required, additionalProperties } = fieldsSchema(nodeFields(kind, isNamed));
    const own = { ...(properties as Json), kind: { const: kind, description: NODE_SPECS[kind].doc } };
    const condition = { properties: { kind: { const: kind } }, required: ["kind"] };
    const then = { properties: own, required, additionalProperties, ...choicesSchema(NODE_SPECS[kind].choices) };
    // oxlint-disable-next-line unicorn/no-thenable -- a word of JSON Schema, in data that nobody awaits
    return { if: condition, then };
  });
  return {
    type: "object",
    description: "A node of the pipeline.",
    properties: { kind: { enum: NODE_KINDS, description: "What the node does." } },
    required: ["kind"],
    allOf: kinds,
  };
}

function fieldSchema(field: Field): Json {
  const notes = [field.doc, ...(field.otherwise === undefined ? [] : [`Default: ${field.otherwise}.`])];
  const schema = typeSchema(field.type);
  const isReference = "$ref" in schema;
  const described = {
    description: notes.join(" "),
    ...(field.example === undefined ? {} : { examples: [field.example] }),
  };
  // Beside `$ref` draft-07 ignores everything else.
  return isReference ? { ...described, allOf: [schema] } : { ...schema, ...described };
}

/** Any value may come from the environment, as a whole or in part: `concurrency: ${CONCURRENCY:3}`. */
const orVariable = (schema: Json): Json => ({ anyOf: [schema, { type: "string", pattern: "\\$\\{[A-Z_]" }] });

const reference = (name: string): Json => ({ $ref: `#/definitions/${name}` });

function typeSchema(type: FieldType): Json {
  switch (type.type) {
    case "text":
      return type.pattern === undefined
        ? { type: ["string", "number", "boolean"] }
        : orVariable({ type: ["string", "number", "boolean"], pattern: type.pattern.source });
    case "template":
      return { type: ["string", "number", "boolean"] };
    case "integer":
    case "number":
      return orVariable({
        type: type.type,
        ...(type.minimum === undefined ? {} : { minimum: type.minimum }),
        ...(type.maximum === undefined ? {} : { maximum: type.maximum }),
      });
    case "boolean":
      return orVariable({ type: "boolean" });
    case "duration":
      return orVariable({
        type: ["string", "number"],
        pattern: `^\\s*(\\d+(\\.\\d+)?|(\\d+(\\.\\d+)?\\s*(ms|s|m|h|d)\\s*)+)\\s*$${type.none === true ? "|^none$" : ""}`,
        ...(type.zero === true ? { minimum: 0 } : { exclusiveMinimum: 0 }),
      });
    case "enum":
      return orVariable({ enum: type.values });
    case "expression":
      return { type: ["string", "number", "boolean"] };
    case "expressions":
    case "templates":
    case "any":
      return {};
    case "schema":
      return { type: "object" };
    case "list": {
      const items = typeSchema(type.items);
      const list = { type: "array", items, ...(type.minItems === undefined ? {} : { minItems: type.minItems }) };
      return type.single === true ? { anyOf: [list, items] } : list;
    }
    case "map":
      return { type: "object", additionalProperties: typeSchema(type.values) };
    case "object":
      return reference(type.name);
    case "node":
      return reference("node");
    case "body":
      return { anyOf: [{ type: "array", items: reference("node"), minItems: 1 }, reference("body_node")] };
    case "either":
      return { anyOf: type.options.map(typeSchema) };
    default:
      return type satisfies never;
  }
}
