// Diagnostics: what is wrong with a manifest, all at once, each with its place and what to do.

import type { Range } from "./expression/tree.ts";

export type Severity = "error" | "warning" | "info";

export const DIAGNOSTICS = {
  E101: ["error", "the text is not YAML"],
  E102: ["error", "the manifest is larger, deeper or more entangled than allowed"],
  E103: ["error", "a file cannot be read"],
  E104: ["error", "an include is refused"],
  E105: ["error", "an environment variable is not set"],
  E106: ["error", "a key stands twice"],
  E201: ["error", "the document is no manifest of a known kind and version"],
  E202: ["error", "a field is not known"],
  E203: ["error", "a value has the wrong type"],
  E204: ["error", "a field is missing"],
  E205: ["error", "a value is not allowed"],
  E206: ["error", "fields exclude or need each other"],
  E207: ["error", "a tag is refused"],
  E301: ["error", "two nodes, or two manifests of a file, have one name"],
  E302: ["error", "a node does not exist"],
  E303: ["error", "nodes wait for each other"],
  E304: ["error", "a node reads itself"],
  E305: ["error", "a name is not allowed"],
  E307: ["error", "a name in an expression is not known"],
  E308: ["error", "a schema has no such field"],
  E401: ["error", "an expression or template cannot be parsed"],
  E402: ["error", "a filter, test or function does not exist"],
  E404: ["error", "an expression uses what is refused"],
  E405: ["error", "an expression is too large"],
  E501: ["error", "a module does not exist"],
  E502: ["error", "a module has no such export"],
  E601: ["error", "a schema is not valid"],
  E602: ["error", "a grant is not valid"],
  E603: ["error", "a node needs what the grants do not allow"],
  W201: ["warning", "a model or tool call has no timeout"],
  W202: ["warning", "nothing uses the output of a node"],
  W203: ["warning", "a secret stands in the manifest"],
  W204: ["warning", "an input has no schema"],
  W205: ["warning", "no tool of that name is known"],
  I301: ["info", "there is no description"],
  I302: ["info", "a name is not snake_case"],
  I303: ["info", "there are more diagnostics than are shown"],
} as const satisfies Record<string, readonly [Severity, string]>;

export type DiagnosticCode = keyof typeof DIAGNOSTICS;

export interface Diagnostic {
  readonly code: DiagnosticCode;
  readonly severity: Severity;
  readonly message: string;
  readonly hint?: string;
  /** As it was named to the compiler. */
  readonly file: string;
  /** From 1. */
  readonly line: number;
  /** From 1, in UTF-16 units. */
  readonly column: number;
  readonly endLine: number;
  readonly endColumn: number;
  /** Path of the field, as `spec.nodes[2].when`. */
  readonly path?: string;
}

/** A text whose offsets can be told as lines and columns. */
export class SourceFile {
  readonly name: string;
  readonly text: string;
  /** Offsets at which lines begin; found when the first position is asked for. */
  #lines: readonly number[] | undefined;

  constructor(name: string, text: string) {
    this.name = name;
    this.text = text;
  }

  position(offset: number): { readonly line: number; readonly column: number } {
    this.#lines ??= lineStarts(this.text);
    const lines = this.#lines;
    let [low, high] = [0, lines.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((lines[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    return { line: low + 1, column: offset - (lines[low] ?? 0) + 1 };
  }
}

function lineStarts(text: string): readonly number[] {
  const starts = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  return starts;
}

/** Where something stands: a range in a file, and the path of its field. */
export interface Place extends Range {
  readonly file: SourceFile;
  readonly path: string;
}

/** More of a severity is noise. */
const SEVERITY_MAX = 200;
/** Texts that look like keys of well-known services. */
const SECRETS =
  /\bsk-[A-Za-z0-9_-]{16,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAKIA[0-9A-Z]{16}|\bAIza[0-9A-Za-z_-]{30,}|-----BEGIN [A-Z ]*PRIVATE KEY-----/;

export const looksSecret = (text: string): boolean => SECRETS.test(text);

/** A text with its secrets masked: what looks like one, and the given values. */
export function maskSecrets(text: string, values: readonly string[] = []): string {
  const masked = text.replaceAll(new RegExp(SECRETS, "g"), "***");
  return values.reduce((all, value) => all.replaceAll(value, "***"), masked);
}

/** Collects diagnostics in the order of files and lines. */
export class Diagnostics {
  readonly #all: Diagnostic[] = [];
  readonly #seen = new Set<string>();
  readonly #counts: Record<Severity, number> = { error: 0, warning: 0, info: 0 };

  /** A place and a hint may be functions: they are asked only for what is kept. */
  report(
    code: DiagnosticCode,
    where: Place | (() => Place),
    message: string,
    hint?: string | (() => string | undefined),
  ): void {
    const severity = DIAGNOSTICS[code][0];
    if (++this.#counts[severity] > SEVERITY_MAX) return;
    const place = typeof where === "function" ? where() : where;
    const key = `${code} ${place.file.name}:${place.start} ${message}`;
    if (this.#seen.has(key)) {
      this.#counts[severity]--;
      return;
    }
    this.#seen.add(key);
    const start = place.file.position(place.start);
    const end = place.file.position(Math.max(place.start, place.end));
    const advice = typeof hint === "function" ? hint() : hint;
    this.#all.push({
      code,
      severity,
      message: maskSecrets(message),
      ...(advice === undefined ? {} : { hint: maskSecrets(advice) }),
      file: place.file.name,
      ...start,
      endLine: end.line,
      endColumn: end.column,
      ...(place.path === "" ? {} : { path: place.path }),
    });
  }

  get hasErrors(): boolean {
    return this.#counts.error > 0;
  }

  get sorted(): readonly Diagnostic[] {
    const kept = this.#all.toSorted((a, b) =>
      a.file < b.file ? -1 : a.file > b.file ? 1 : a.line - b.line || a.column - b.column,
    );
    const last = kept.at(-1);
    const more = Object.values(this.#counts).reduce((sum, count) => sum + Math.max(0, count - SEVERITY_MAX), 0);
    if (last === undefined || more === 0) return kept;
    const { path: _path, hint: _hint, ...place } = last;
    const message = `there are ${more} more, which are not shown`;
    return [...kept, { ...place, code: "I303", severity: DIAGNOSTICS.I303[0], message }];
  }
}

/** `file:line:column: error E202: message` with its hint on a line of its own. */
export function formatDiagnostic(one: Diagnostic): string {
  const head = `${one.file}:${one.line}:${one.column}: ${one.severity} ${one.code}: ${one.message}`;
  return one.hint === undefined ? head : `${head}\n    ${one.hint}`;
}
