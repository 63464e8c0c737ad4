// Expressions and templates in fields: parsed, their names resolved to nodes, their faults reported in place.

import type { Schema } from "@ergos/kernel";
import { type Diagnostics, type DiagnosticCode, type Place } from "../diagnostic.ts";
import { ExpressionError, type ExpressionCode } from "../expression/error.ts";
import { FILTERS } from "../expression/filters.ts";
import { FUNCTIONS } from "../expression/functions.ts";
import { parseExpression } from "../expression/parser.ts";
import {
  type Reference,
  childrenOf,
  expressionsOf,
  referencesOf,
  templateReferences,
} from "../expression/references.ts";
import { isTemplate, parseTemplate } from "../expression/template.ts";
import { TESTS } from "../expression/tests.ts";
import type { Expression } from "../expression/tree.ts";
import { typeOfText, typeWord } from "../expression/types.ts";
import { suggest } from "../nearest.ts";
import { type SourceScalar, type SourceValue, placeOf, rangeInside } from "../source/value.ts";
import type { ValueSpec } from "./document.ts";

/** What a name stands for, as far as it is known. */
export interface Known {
  readonly schema?: Schema;
}

/** Names that an expression may use, innermost first; nodes that it names become needs of who compiles it. */
export interface NameScope {
  readonly parent?: NameScope;
  /** Values that are there in any case: `input`, `item`, fields of the input mapping. */
  readonly locals: ReadonlyMap<string, Known>;
  /** Nodes beside the one that is compiled. */
  readonly nodes: ReadonlyMap<string, Known>;
  readonly self?: string;
  readonly needs: Set<string>;
}

const CODES: Readonly<Record<ExpressionCode, DiagnosticCode>> = {
  X001: "E401",
  X002: "E307",
  X003: "E401",
  X004: "E402",
  X005: "E405",
  X006: "E404",
  X007: "E401",
};

export class ExpressionCompiler {
  readonly #diagnostics: Diagnostics;
  /** Names of the outermost scope that something reads. */
  readonly ambient = new Set<string>();

  constructor(diagnostics: Diagnostics) {
    this.#diagnostics = diagnostics;
  }

  /** The text of a bare expression; numbers and booleans stand for themselves. */
  expression(value: SourceValue | undefined, scope: NameScope, path: string): string | undefined {
    if (value?.kind !== "scalar" || value.value === null) return undefined;
    if (typeof value.value === "number" && !Number.isFinite(value.value)) {
      this.#diagnostics.report("E205", placeOf(value, path), `${value.value} is no number of an expression`);
      return undefined;
    }
    if (typeof value.value !== "string") return String(value.value);
    const text = value.value;
    // Whoever writes `{{ … }}` around an expression means the expression.
    const inner = unwrapped(text);
    if (inner !== undefined)
      return this.#parsed(value, inner, text.indexOf(inner), scope, path) ? inner.trim() : undefined;
    return this.#parsed(value, text, 0, scope, path) ? text.trim() : undefined;
  }

  /** The text of an expression that must give a list. */
  list(value: SourceValue | undefined, scope: NameScope, path: string): string | undefined {
    const text = this.expression(value, scope, path);
    if (text === undefined || value === undefined) return text;
    const schema = typeOfText(text, (name) => schemaOf(name, scope));
    const word = typeWord(schema);
    if (word !== undefined && schema?.type !== "array")
      this.#diagnostics.report("E203", placeOf(value, path), `items needs a list, ${text} is ${word}`);
    return text;
  }

  /** What is known of the items of a list. */
  itemOf(list: string | undefined, scope: NameScope): Known {
    const items = list === undefined ? undefined : typeOfText(list, (name) => schemaOf(name, scope))?.items;
    return items === undefined ? {} : { schema: items };
  }

  /** The text of a template. */
  template(value: SourceValue | undefined, scope: NameScope, path: string): string | undefined {
    if (value?.kind !== "scalar" || value.value === null) return undefined;
    const text = String(value.value);
    if (!isTemplate(text)) return text;
    try {
      const tree = parseTemplate(text);
      for (const expression of expressionsOf(tree)) this.#builtins(expression, value, 0, path);
      this.#resolve(templateReferences(tree), value, 0, scope, path);
    } catch (error) {
      this.#fault(error, value, 0, path);
    }
    return text;
  }

  /** Values whose texts are expressions (`expressions`) or templates (`templates`). */
  values(value: SourceValue, kind: "expressions" | "templates", scope: NameScope, path: string): ValueSpec {
    if (value.kind === "list") return value.items.map((item, at) => this.values(item, kind, scope, `${path}[${at}]`));
    if (value.kind === "map") {
      for (const reserved of ["$expression", "$template"]) {
        const entry = value.entries.get(reserved);
        if (entry !== undefined)
          this.#diagnostics.report(
            "E305",
            placeOf(entry.keyAt, path),
            `${reserved} marks computed values in plans and names no field`,
          );
      }
      return Object.fromEntries(
        Array.from(value.entries.values(), (entry) => [
          entry.key,
          this.values(entry.value, kind, scope, `${path}.${entry.key}`),
        ]),
      );
    }
    if (typeof value.value === "number" && !Number.isFinite(value.value))
      this.#diagnostics.report("E205", placeOf(value, path), `${value.value} is no number of JSON`);
    if (typeof value.value !== "string") return value.value;
    if (kind === "templates") {
      const text = this.template(value, scope, path) ?? "";
      return isTemplate(text) ? { $template: text } : text;
    }
    const isMixed = isTemplate(value.value) && unwrapped(value.value) === undefined;
    if (isMixed) return { $template: this.template(value, scope, path) ?? "" };
    return { $expression: this.expression(value, scope, path) ?? "none" };
  }

  #parsed(value: SourceScalar, text: string, offset: number, scope: NameScope, path: string): boolean {
    try {
      const tree = parseExpression(text);
      this.#builtins(tree, value, offset, path);
      this.#resolve(referencesOf(tree), value, offset, scope, path);
      return true;
    } catch (error) {
      this.#fault(error, value, offset, path);
      return false;
    }
  }

  #fault(error: unknown, value: SourceScalar, offset: number, path: string): void {
    if (!(error instanceof ExpressionError)) throw error;
    this.#diagnostics.report(
      CODES[error.code],
      () => this.#place(value, offset, error, path),
      error.message,
      error.hint,
    );
  }

  #place(
    value: SourceScalar,
    offset: number,
    at: { readonly start: number; readonly end: number },
    path: string,
  ): Place {
    return { ...placeOf(value, path), ...rangeInside(value, at.start + offset, at.end + offset) };
  }

  /** Filters, tests and functions that do not exist. */
  #builtins(root: Expression, value: SourceScalar, offset: number, path: string): void {
    const todo = [root];
    for (let tree = todo.pop(); tree !== undefined; tree = todo.pop()) {
      if (tree.kind === "filter") this.#exists(FILTERS, tree.name, "filter", tree, value, offset, path);
      else if (tree.kind === "test") this.#exists(TESTS, tree.name, "test", tree, value, offset, path);
      else if (tree.kind === "call" && tree.callee.kind === "name")
        this.#exists(FUNCTIONS, tree.callee.name, "function", tree.callee, value, offset, path);
      todo.push(...childrenOf(tree));
    }
  }

  #exists(
    table: Readonly<Record<string, unknown>>,
    name: string,
    what: string,
    at: Expression,
    value: SourceScalar,
    offset: number,
    path: string,
  ): void {
    if (Object.hasOwn(table, name)) return;
    this.#diagnostics.report(
      "E402",
      () => this.#place(value, offset, at, path),
      `there is no ${what} ${name}`,
      () => suggest(name, Object.keys(table)),
    );
  }

  #resolve(
    references: readonly Reference[],
    value: SourceScalar,
    offset: number,
    scope: NameScope,
    path: string,
  ): void {
    for (const reference of references) {
      // Made only for what is reported: finding a place in a block costs its length.
      const place = (): Place => this.#place(value, offset, reference, path);
      const known = this.#lookup(reference, scope, place);
      if (known?.schema !== undefined && !reference.optional) this.#path(reference, known.schema, place);
    }
  }

  #lookup(reference: Reference, scope: NameScope, place: () => Place): Known | undefined {
    const { name } = reference;
    for (let at: NameScope | undefined = scope; at !== undefined; at = at.parent) {
      const local = at.locals.get(name);
      if (local !== undefined) {
        if (at.parent === undefined) this.ambient.add(name);
        return local;
      }
      if (name === at.self) {
        this.#diagnostics.report(
          "E304",
          place,
          `node ${name} reads its own output`,
          "rename what it reads, or read another node",
        );
        return undefined;
      }
      const node = at.nodes.get(name);
      if (node !== undefined) {
        at.needs.add(name);
        return node;
      }
    }
    if (reference.optional) return undefined;
    this.#diagnostics.report("E307", place, `${name} is not defined here`, () => undefinedHint(name, scope, place()));
    return undefined;
  }

  /** Fields that a schema says are not there. */
  #path(reference: Reference, schema: Schema, place: () => Place): void {
    let at: Schema | undefined = schema;
    let walked = reference.name;
    for (const part of reference.path) {
      // What only one of several forms declares may still be there.
      if (at === undefined || at.anyOf !== undefined) return;
      const word = typeWord(at);
      const isScalar =
        word !== undefined &&
        at.type !== "object" &&
        at.type !== "array" &&
        !(at.type === "string" && /^-?\d+$/.test(part));
      if (isScalar || (at.type === "array" && !/^-?\d+$/.test(part))) {
        this.#diagnostics.report("E308", place, `${walked} is ${word ?? ""} and has no field ${part}`);
        return;
      }
      if (at.items !== undefined && /^-?\d+$/.test(part)) at = at.items;
      else {
        const { properties, additionalProperties }: Schema = at;
        if (properties === undefined) return;
        if (!Object.hasOwn(properties, part)) {
          if (additionalProperties === undefined || additionalProperties === false)
            this.#diagnostics.report("E308", place, `the schema of ${walked} has no field ${part}`, () =>
              suggest(part, Object.keys(properties)),
            );
          return;
        }
        at = properties[part];
      }
      walked += `.${part}`;
    }
  }
}

/** What is known of a name, without making an edge of it. */
function schemaOf(name: string, scope: NameScope): Schema | undefined {
  for (let at: NameScope | undefined = scope; at !== undefined; at = at.parent) {
    const known = at.locals.get(name) ?? at.nodes.get(name);
    if (known !== undefined) return known.schema;
  }
  return undefined;
}

/** The name that was meant; and that a bare word is a name, not a text. */
function undefinedHint(name: string, scope: NameScope, { file, start, end }: Place): string | undefined {
  const near = suggest(name, namesOf(scope));
  const before = file.text.slice(Math.max(0, start - 2), start).trimEnd();
  const after = file.text.slice(end, end + 1);
  const isAlone = /(^|:|-|,|\[)$/.test(before) && /^[\n,}\]]?$/.test(after);
  if (!isAlone || near?.startsWith("did you mean") === true) return near;
  return `a text needs quotes of its own: "'${name}'"${near === undefined ? "" : `; ${near}`}`;
}

/** The expression in a text that is one `{{ … }}` and nothing else. */
function unwrapped(text: string): string | undefined {
  const inner = /^\s*\{\{-?([^]*?)-?\}\}\s*$/.exec(text)?.[1];
  return inner?.includes("}}") === true ? undefined : inner;
}

function namesOf(scope: NameScope): readonly string[] {
  const names: string[] = [];
  for (let at: NameScope | undefined = scope; at !== undefined; at = at.parent) {
    const { self } = at;
    names.push(...at.locals.keys(), ...[...at.nodes.keys()].filter((one) => one !== self));
  }
  const hidden = new Set(["here", "cwd", "ctx"]);
  return [...new Set(names)].filter((name) => !hidden.has(name));
}
