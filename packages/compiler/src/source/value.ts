// The tree of a manifest: YAML with aliases, includes and the environment resolved, every value with its place.

import type { Place, SourceFile } from "../diagnostic.ts";

export interface Located {
  readonly file: SourceFile;
  readonly start: number;
  readonly end: number;
}

export interface SourceScalar extends Located {
  readonly kind: "scalar";
  readonly value: string | number | boolean | null;
  /** Offset of the first character of a text whose offsets are those of the file: plain and on one line. */
  readonly textStart?: number;
  /** How a number or a boolean is written in its file: what a text there would be. */
  readonly text?: string;
  /** Whether it is a block, whose lines are those of the file, moved to the right. */
  readonly isBlock?: boolean;
  /** What stands here could not be read, which has been reported: it fits every type. */
  readonly isBroken?: boolean;
}

interface SourceList extends Located {
  readonly kind: "list";
  readonly items: readonly SourceValue[];
}

export interface SourceEntry {
  readonly key: string;
  readonly keyAt: Located;
  readonly value: SourceValue;
}

export interface SourceMap extends Located {
  readonly kind: "map";
  readonly entries: ReadonlyMap<string, SourceEntry>;
}

export type SourceValue = SourceScalar | SourceList | SourceMap;

export const placeOf = (at: Located, path: string): Place => ({ file: at.file, start: at.start, end: at.end, path });

/** The value of a field. */
export function get(map: SourceMap, name: string): SourceValue | undefined {
  return map.entries.get(name)?.value;
}

/** The text of a scalar, which may look like a number or a boolean: `name: 404`. */
export function textOf(value: SourceValue | undefined): string | undefined {
  if (value?.kind !== "scalar" || value.value === null) return undefined;
  return typeof value.value === "string" ? value.value : (value.text ?? String(value.value));
}

/** What people call a value. */
export function kindName(value: SourceValue): string {
  if (value.kind === "map") return "a mapping";
  if (value.kind === "list") return "a list";
  if (value.value === null) return "nothing";
  const type = typeof value.value;
  return type === "string" ? "a text" : type === "number" ? "a number" : "a boolean";
}

/** The texts of a list, or of one text alone. */
export function textsOf(value: SourceValue | undefined): readonly string[] | undefined {
  if (value === undefined) return undefined;
  return (value.kind === "list" ? value.items : [value]).flatMap((item) => textOf(item) ?? []);
}

/** The plain JSON of a value. */
export function toPlain(value: SourceValue): unknown {
  if (value.kind === "scalar") return value.value;
  if (value.kind === "list") return value.items.map(toPlain);
  return Object.fromEntries(Array.from(value.entries.values(), ({ key, value: inner }) => [key, toPlain(inner)]));
}

/** Where a range of a scalar's text stands in its file; the whole scalar where that cannot be told. */
export function rangeInside(
  scalar: SourceScalar,
  start: number,
  end: number,
): { readonly start: number; readonly end: number } {
  if (scalar.textStart !== undefined) return { start: scalar.textStart + start, end: scalar.textStart + end };
  if (scalar.isBlock === true && typeof scalar.value === "string") {
    const from = offsetInBlock(scalar, scalar.value, start);
    if (from !== undefined)
      return { start: from, end: Math.max(from, offsetInBlock(scalar, scalar.value, end) ?? from) };
  }
  return { start: scalar.start, end: scalar.end };
}

function lineAt(text: string, start: number): string {
  const end = text.indexOf("\n", start);
  return text.slice(start, end < 0 ? undefined : end);
}

function offsetInBlock(scalar: SourceScalar, value: string, offset: number): number | undefined {
  const { text } = scalar.file;
  const begin = offset === 0 ? 0 : value.lastIndexOf("\n", offset - 1) + 1;
  // The header of the block, and the lines before.
  let at = text.indexOf("\n", scalar.start) + 1;
  for (let end = value.indexOf("\n"); end >= 0 && end < begin && at > 0; end = value.indexOf("\n", end + 1))
    at = text.indexOf("\n", at) + 1;
  const indent = at === 0 ? -1 : lineAt(text, at).indexOf(lineAt(value, begin));
  return indent < 0 ? undefined : at + indent + offset - begin;
}
