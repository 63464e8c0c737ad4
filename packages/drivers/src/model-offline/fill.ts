// Fills in a form: a value of a schema, from what a text says, by rules. Not understanding, but the same
// answer every time, and good enough to show what a pipeline does with structured answers.

import type { Schema } from "@ergos/kernel";

export interface Reader {
  readonly classify: (text: string, labels: readonly string[]) => string;
  readonly summarise: (text: string, sentences: number) => string;
}

const DEPTH_MAX = 8;

/** A value that fits a schema; `name` is that of the field that it is for. */
export function fill(schema: Schema, text: string, reader: Reader, name = "", depth = 0): unknown {
  if (schema.enum !== undefined) return pick(schema.enum, text, name, reader);
  if (schema.anyOf !== undefined)
    return schema.anyOf[0] === undefined ? null : fill(schema.anyOf[0], text, reader, name, depth);
  const type = typeof schema.type === "string" ? schema.type : (schema.type?.[0] ?? "string");
  if (type === "object") {
    if (depth >= DEPTH_MAX) return {};
    return Object.fromEntries(
      Object.entries(schema.properties ?? {}).map(([field, inner]) => [
        field,
        fill(inner, text, reader, field, depth + 1),
      ]),
    );
  }
  if (type === "array") return list(schema, text, reader, name, depth);
  if (type === "integer" || type === "number") return clamp(schema, numberFor(text, name, type === "integer"));
  if (type === "boolean") return new RegExp(`\\b(${words(name).join("|")})\\b`, "i").test(text);
  if (type === "null") return null;
  const found = labelled(text, name) ?? reader.summarise(text, 1);
  return found.slice(0, schema.maxLength ?? 500).padEnd(schema.minLength ?? 0, ".");
}

const words = (name: string): readonly string[] =>
  name
    .replaceAll(/([a-z])([A-Z])/g, "$1 $2")
    .split(/[\s_-]+/)
    .filter((word) => /^\w+$/.test(word))
    .map((word) => word.toLowerCase());

function pick(options: NonNullable<Schema["enum"]>, text: string, name: string, reader: Reader): unknown {
  const said = labelled(text, name)?.toLowerCase();
  const exact = options.find((option) => String(option).toLowerCase() === said);
  if (exact !== undefined) return exact;
  const chosen = reader.classify(text, options.map(String));
  return options.find((option) => String(option) === chosen) ?? options.at(-1) ?? null;
}

/** What follows `name:` or `name is` in the text. */
function labelled(text: string, name: string): string | undefined {
  const label = words(name).join("[\\s_-]*");
  if (label === "") return undefined;
  const match = new RegExp(`(?:^|[\\s*"(])${label}["*]*\\s*(?::|=|\\bis\\b)\\s*["*]*([^\\n;]{1,300})`, "i").exec(text);
  return match?.[1]
    ?.replace(/["*,.]+\s*$/, "")
    .split(/(?<=[^A-Z])\.\s|,\s(?=[a-z]+\s*[:=])/)[0]
    ?.trim();
}

function numberFor(text: string, name: string, isWhole: boolean): number {
  const near =
    labelled(text, name) ??
    new RegExp(`${words(name).at(-1) ?? ""}[^\\d\\n]{0,40}(-?[\\d][\\d,]*(?:\\.\\d+)?)`, "i").exec(text)?.[1] ??
    text;
  const digits = /-?\d[\d,]*(?:\.\d+)?/.exec(near)?.[0] ?? /-?\d[\d,]*(?:\.\d+)?/.exec(text)?.[0] ?? "0";
  const value = Number(digits.replaceAll(",", ""));
  return isWhole ? Math.round(value) : value;
}

const clamp = (
  { minimum = Number.NEGATIVE_INFINITY, maximum = Number.POSITIVE_INFINITY }: Schema,
  value: number,
): number => Math.min(maximum, Math.max(minimum, value));

/** Items behind `name:`, separated by commas, or the lines of a list. */
function list(schema: Schema, text: string, reader: Reader, name: string, depth: number): unknown {
  const said =
    labelled(text, name)?.split(/\s*(?:,|\band\b)\s*/) ??
    text.match(/^\s*(?:[-*]|\d+[.)])\s+.+$/gm)?.map((line) => line.replace(/^\s*(?:[-*]|\d+[.)])\s+/, "")) ??
    [];
  const items = said.filter((item) => item !== "").slice(0, Math.min(schema.maxItems ?? 20, 100));
  const inner = schema.items ?? { type: "string" };
  if (depth >= DEPTH_MAX) return [];
  const made = items.map((item) =>
    inner.type === "string" && inner.enum === undefined ? item : fill(inner, item, reader, name, depth + 1),
  );
  while (made.length < (schema.minItems ?? 0)) made.push(fill(inner, text, reader, name, depth + 1));
  return made;
}
