// Checks a source tree against the fields: unknown and missing ones, types, bounds, exclusions.

import type { Diagnostics } from "../diagnostic.ts";
import { nearest, suggest } from "../nearest.ts";
import { type SourceMap, type SourceValue, kindName, placeOf, textOf } from "../source/value.ts";
import { parseDuration } from "../duration.ts";
import { type Choice, type FieldType, type Fields, typeLabel } from "./field.ts";
import { NODE_KINDS, NODE_SPECS, OBJECT_SPECS, isNodeKind, nodeFields } from "./pipeline-fields.ts";

export class Checker {
  readonly #diagnostics: Diagnostics;

  constructor(diagnostics: Diagnostics) {
    this.#diagnostics = diagnostics;
  }

  /** Whether a value is an object of this name without errors. */
  object(value: SourceValue, name: string, path: string): boolean {
    const spec = OBJECT_SPECS[name];
    if (spec === undefined) throw new TypeError(`there is no object ${name}`);
    return this.fields(value, spec.fields, path, spec.choices);
  }

  fields(value: SourceValue, fields: Fields, path: string, choices: readonly Choice[] = []): boolean {
    if (isBroken(value)) return true;
    if (value.kind !== "map") return this.#say("E203", value, path, `expected a mapping, found ${kindName(value)}`);
    let isFine = true;
    for (const { key, keyAt, value: inner } of value.entries.values()) {
      const field = Object.hasOwn(fields, key) ? fields[key] : undefined;
      const at = path === "" ? key : `${path}.${key}`;
      if (field === undefined) {
        this.#diagnostics.report("E202", placeOf(keyAt, at), `there is no field ${JSON.stringify(key)} here`, () =>
          known(key, fields),
        );
        isFine = false;
      } else if (!this.type(inner, field.type, at)) isFine = false;
    }
    for (const [name, field] of Object.entries(fields)) {
      if (field.required !== true || value.entries.has(name)) continue;
      const slip = nearest(name, value.entries.keys());
      // A misspelt field has been reported as unknown, with this one as its hint.
      if (slip !== undefined && !Object.hasOwn(fields, slip)) continue;
      isFine = this.#say(
        "E204",
        value,
        path,
        `the field ${name} is missing`,
        field.example === undefined ? field.doc : `as in ${name}: ${field.example}`,
      );
    }
    for (const choice of choices) if (!this.#choice(value, choice, path)) isFine = false;
    return isFine;
  }

  #choice(value: SourceMap, { fields, required }: Choice, path: string): boolean {
    const set = fields.filter((name) => value.entries.has(name));
    if (set.length > 1)
      return this.#say(
        "E206",
        value.entries.get(set[1] ?? "")?.keyAt ?? value,
        path,
        `${set.join(" and ")} exclude each other`,
      );
    if (set.length === 0 && required) return this.#say("E206", value, path, `one of ${fields.join(", ")} is needed`);
    return true;
  }

  type(value: SourceValue, type: FieldType, path: string): boolean {
    if (isBroken(value)) return true;
    switch (type.type) {
      case "text":
      case "template": {
        const text = textOf(value);
        if (text === undefined) return this.#wrong(value, type, path);
        if (type.type === "text" && type.pattern !== undefined && !type.pattern.test(text))
          return this.#say(
            "E305",
            value,
            path,
            `${JSON.stringify(text)} is no ${type.what ?? "such text"}`,
            /^[A-Za-z_][\w.\s-]*$/.test(text) ? `write ${text.replaceAll(/\W+/g, "_")}` : undefined,
          );
        return true;
      }
      case "integer":
      case "number":
        return this.#number(value, type, path);
      case "boolean":
        return (value.kind === "scalar" && typeof value.value === "boolean") || this.#wrong(value, type, path);
      case "duration":
        if (value.kind === "scalar" && (parseDuration(value.value) ?? 0) > 0) return true;
        if (type.none === true && textOf(value) === "none") return true;
        if (type.zero === true && value.kind === "scalar" && parseDuration(value.value) === 0) return true;
        if (value.kind === "scalar" && parseDuration(value.value) === 0)
          return this.#say(
            "E205",
            value,
            path,
            "a duration of 0 is no time at all",
            type.none === true ? "write none for no limit" : "leave the field out for no limit",
          );
        return this.#wrong(value, type, path);
      case "enum": {
        const text = textOf(value);
        if (text === undefined) return this.#wrong(value, type, path);
        return (
          type.values.includes(text) ||
          this.#say(
            "E205",
            value,
            path,
            `${JSON.stringify(text)} is not one of ${type.values.join(", ")}`,
            suggest(text, type.values),
          )
        );
      }
      case "expression":
        return (value.kind === "scalar" && value.value !== null) || this.#wrong(value, type, path);
      case "schema":
        return value.kind === "map" || this.#wrong(value, type, path);
      case "expressions":
      case "templates":
      case "any":
        return true;
      case "list":
        return this.#list(value, type, path);
      case "map":
        if (value.kind !== "map") return this.#wrong(value, type, path);
        return Array.from(value.entries.values(), (entry) =>
          this.type(entry.value, type.values, `${path}.${entry.key}`),
        ).every(Boolean);
      case "object":
        return this.object(value, type.name, path);
      case "node":
        return this.node(value, path, true);
      case "body":
        if (value.kind !== "list") return this.node(value, path, false);
        if (value.items.length === 0) return this.#say("E205", value, path, "a body needs at least one node");
        return value.items.map((item, at) => this.node(item, `${path}[${at}]`, true)).every(Boolean);
      case "either":
        return this.#either(value, type.options, path);
      default:
        return type satisfies never;
    }
  }

  /** A node, by its kind; without one its common fields are checked alone. */
  node(value: SourceValue, path: string, isNamed: boolean): boolean {
    if (value.kind !== "map") return this.#say("E203", value, path, `expected a node, found ${kindName(value)}`);
    const kind = textOf(value.entries.get("kind")?.value);
    if (isNodeKind(kind)) return this.fields(value, nodeFields(kind, isNamed), path, NODE_SPECS[kind].choices);
    const entry = value.entries.get("kind");
    if (entry === undefined)
      return this.#say("E204", value, path, "the field kind is missing", `one of ${NODE_KINDS.join(", ")}`);
    return this.#say(
      "E205",
      entry.value,
      `${path}.kind`,
      `${JSON.stringify(kind ?? kindName(entry.value))} is no kind of node`,
      suggest(kind?.replace(/_node$/, "") ?? "", NODE_KINDS),
    );
  }

  #number(value: SourceValue, type: Extract<FieldType, { type: "integer" | "number" }>, path: string): boolean {
    if (value.kind !== "scalar" || typeof value.value !== "number") return this.#wrong(value, type, path);
    const { value: number } = value;
    if (type.type === "integer" && !Number.isSafeInteger(number))
      return this.#say("E203", value, path, `expected a whole number, found ${number}`);
    if (!Number.isFinite(number)) return this.#say("E205", value, path, `${number} is no amount`);
    if (type.minimum !== undefined && number < type.minimum)
      return this.#say("E205", value, path, `must be at least ${type.minimum}, found ${number}`);
    if (type.maximum !== undefined && number > type.maximum)
      return this.#say("E205", value, path, `must be at most ${type.maximum}, found ${number}`);
    return true;
  }

  #list(value: SourceValue, type: Extract<FieldType, { type: "list" }>, path: string): boolean {
    if (value.kind !== "list") {
      return type.single === true && value.kind === "scalar" && value.value !== null
        ? this.type(value, type.items, path)
        : this.#wrong(value, type, path);
    }
    if (value.items.length < (type.minItems ?? 0))
      return this.#say("E205", value, path, `needs at least ${type.minItems ?? 0} item`);
    return value.items.map((item, at) => this.type(item, type.items, `${path}[${at}]`)).every(Boolean);
  }

  #either(value: SourceValue, options: readonly FieldType[], path: string): boolean {
    const option = options.find((one) => fitsShape(one, value));
    if (option !== undefined) return this.type(value, option, path);
    return this.#say("E203", value, path, `expected ${options.map(typeLabel).join(" or ")}, found ${kindName(value)}`);
  }

  #wrong(value: SourceValue, type: FieldType, path: string): false {
    const shown = value.kind === "scalar" && String(value.value).length <= 40 ? ` ${JSON.stringify(value.value)}` : "";
    return this.#say("E203", value, path, `expected ${typeLabel(type)}, found ${kindName(value)}${shown}`);
  }

  #say(
    code: "E203" | "E204" | "E205" | "E206" | "E305",
    at: Parameters<typeof placeOf>[0],
    path: string,
    message: string,
    hint?: string,
  ): false {
    this.#diagnostics.report(code, placeOf(at, path), message, hint);
    return false;
  }
}

/** What other tools call a field of ours. */
const ALIASES: Readonly<Record<string, string>> = {
  depends_on: "dependencies",
  needs: "dependencies",
  after: "wait_for",
  inputs: "input_mapping",
  with: "input_mapping",
  if: "when",
  condition: "when",
  type: "kind",
  retries: "retry",
  max_retries: "retry",
  loop: "items",
  for_each: "items",
  prompt_template: "prompt",
  template: "prompt",
  system_prompt: "system",
  max_tokens: "max_output_tokens",
  fn: "module",
  args: "arguments",
  id: "name",
};

/** The field that was probably meant. */
function known(key: string, fields: Fields): string | undefined {
  const alias = Object.hasOwn(ALIASES, key) ? ALIASES[key] : undefined;
  if (alias !== undefined && Object.hasOwn(fields, alias)) return `did you mean ${JSON.stringify(alias)}?`;
  return suggest(key, Object.keys(fields));
}

const isBroken = (value: SourceValue): boolean => value.kind === "scalar" && value.isBroken === true;

const SHAPES: Readonly<Partial<Record<FieldType["type"], (value: SourceValue) => boolean>>> = {
  list: (value) => value.kind === "list",
  map: (value) => value.kind === "map",
  object: (value) => value.kind === "map",
  schema: (value) => value.kind === "map",
  integer: (value) => value.kind === "scalar" && typeof value.value === "number",
  number: (value) => value.kind === "scalar" && typeof value.value === "number",
  node: (value) => value.kind === "map",
  body: (value) => value.kind !== "scalar",
};

/** Whether the YAML of a value has the outer form of a type. */
const fitsShape = (type: FieldType, value: SourceValue): boolean =>
  SHAPES[type.type]?.(value) ?? value.kind === "scalar";
