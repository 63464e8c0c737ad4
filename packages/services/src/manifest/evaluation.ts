// Expressions and templates of a plan document, parsed once when it is bound and evaluated when nodes run.

import {
  type Expression,
  ExpressionError,
  type Scope,
  type Template,
  evaluate,
  evaluateCondition,
  isTemplate,
  parseExpression,
  parseTemplate,
  renderTemplate,
  soleExpression,
} from "@ergos/compiler/expression";
import { type ValueSpec, maskSecrets, revealSecrets, secretValues } from "@ergos/compiler";
import { KernelError } from "@ergos/kernel";

/** A computed value, given the names around it. */
export type Computed<T = unknown> = (scope: Scope) => T;

export type Environment = Readonly<Record<string, string | undefined>>;

/** Binds the expressions of one node; faults name the field, the node and its place in the file. */
export class Evaluation {
  readonly #where: string;
  readonly #environment: Environment;

  constructor(where: string, environment: Environment) {
    this.#where = where;
    this.#environment = environment;
  }

  expression(text: string, field: string): Computed {
    const tree = this.#revealed(this.#parsed(text, field, parseExpression));
    return (scope) => this.#guarded(text, field, () => evaluate(tree, scope));
  }

  condition(text: string, field: string): Computed<boolean> {
    const tree = this.#revealed(this.#parsed(text, field, parseExpression));
    return (scope) => this.#guarded(text, field, () => evaluateCondition(tree, scope));
  }

  /** The text of a template. Secrets are filled into its own words only, never into what it is given. */
  template(text: string, field: string): Computed<string> {
    if (!isTemplate(text)) {
      const plain = revealSecrets(text, this.#environment);
      return () => plain;
    }
    const template = this.#revealed(this.#parsed(text, field, parseTemplate));
    return (scope) => this.#guarded(text, field, () => renderTemplate(template, scope));
  }

  /** Values with expressions and templates in them. A template that is one expression keeps its type. */
  value(spec: ValueSpec, field: string): Computed {
    if (isList(spec)) {
      const items = spec.map((item, at) => this.value(item, `${field}[${at}]`));
      return (scope) => items.map((item) => item(scope));
    }
    if (typeof spec === "string") {
      const plain = revealSecrets(spec, this.#environment);
      return () => plain;
    }
    if (typeof spec !== "object" || spec === null) return () => spec;
    if (isExpression(spec)) return this.expression(spec.$expression, field);
    if (isTemplateSpec(spec)) return this.#templateValue(spec.$template, field);
    const fields = Object.entries(spec).map(([name, inner]) => [name, this.value(inner, `${field}.${name}`)] as const);
    return (scope) => Object.fromEntries(fields.map(([name, inner]) => [name, inner(scope)]));
  }

  #templateValue(text: string, field: string): Computed {
    const template: Template = this.#revealed(this.#parsed(text, field, parseTemplate));
    const sole: Expression | undefined = soleExpression(template);
    if (sole === undefined) return this.template(text, field);
    return (scope) => this.#guarded(text, field, () => evaluate(sole, scope));
  }

  /** Secrets are filled into the texts that an expression holds, as into the words of a template. */
  #revealed<T>(tree: T): T {
    if (Array.isArray(tree)) return tree.map((part: unknown) => this.#revealed(part)) as T;
    if (typeof tree !== "object" || tree === null) return tree;
    return Object.fromEntries(
      Object.entries(tree).map(([name, part]: [string, unknown]) => [
        name,
        (name === "value" || name === "text") && typeof part === "string"
          ? revealSecrets(part, this.#environment)
          : this.#revealed(part),
      ]),
    ) as T;
  }

  #parsed<T>(text: string, field: string, parse: (text: string) => T): T {
    return this.#guarded(text, field, () => parse(text));
  }

  #guarded<T>(text: string, field: string, work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof ExpressionError)) throw error;
      const part = text.slice(error.start, error.end).trim();
      const shown = part === "" || part.length > 80 ? "" : ` (${part})`;
      const hint = error.hint === undefined ? "" : `; ${error.hint}`;
      const message = `${field} of ${this.#where}: ${error.message}${shown}${hint}`;
      throw masked(new KernelError("EINVAL", message, { cause: error }), this.#environment);
    }
  }
}

/** An error without the secrets of the environment, nor in what caused it. */
export function masked<T>(error: T, environment: Environment): T {
  const secrets = secretValues(environment);
  let at: unknown = error;
  for (let depth = 0; secrets.length > 0 && at instanceof Error && depth < 8; at = at.cause, depth++) {
    at.message = maskSecrets(at.message, secrets);
    if (at.stack !== undefined) at.stack = maskSecrets(at.stack, secrets);
  }
  return error;
}

const isList = (spec: ValueSpec): spec is readonly ValueSpec[] => Array.isArray(spec);

function isExpression(spec: object): spec is { readonly $expression: string } {
  return "$expression" in spec && typeof spec.$expression === "string";
}

function isTemplateSpec(spec: object): spec is { readonly $template: string } {
  return "$template" in spec && typeof spec.$template === "string";
}
