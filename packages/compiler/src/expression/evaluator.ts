// Evaluation of a tree over plain values: nothing is copied, and only own fields of plain objects are seen.

import { suggest } from "../nearest.ts";
import { Arguments, type Builtin, type Builtins, type Call } from "./builtin.ts";
import { ExpressionError } from "./error.ts";
import { FILTERS } from "./filters.ts";
import { DICT_METHODS, FUNCTIONS, LIST_METHODS, Namespace, TEXT_METHODS } from "./functions.ts";
import { Meter } from "./meter.ts";
import { binary, negate, slice } from "./operators.ts";
import { TESTS } from "./tests.ts";
import type { Expression, Range } from "./tree.ts";
import {
  type Spot,
  Undefined,
  compare,
  contains,
  defined,
  field,
  isDict,
  isEqual,
  isTrue,
  orMissing,
  toItems,
  typeName,
  weightOf,
} from "./value.ts";

/** Where names get their values. */
export interface Scope {
  /** The value of a name; undefined if there is none. */
  lookup(name: string): unknown;
  /** Known names, for messages. */
  names(): readonly string[];
  /** Why a name that is known has no value. */
  readonly whyNot?: (name: string) => string | undefined;
}

/** A scope over the own fields of an object. */
export function objectScope(fields: Readonly<Record<string, unknown>>, parent?: Scope): Scope {
  return {
    lookup: (name) => {
      const own = field(fields, name);
      return own === undefined ? parent?.lookup(name) : own;
    },
    names: () => [...Object.keys(fields), ...(parent?.names() ?? [])],
    whyNot: (name) => parent?.whyNot?.(name),
  };
}

export interface EvaluationLimits {
  readonly stepsMax?: number;
  readonly sizeMax?: number;
}

/**
 * The value of an expression.
 * @throws {ExpressionError} a name is unknown, a type is wrong, or a bound is reached
 */
export function evaluate(tree: Expression, scope: Scope, limits?: EvaluationLimits): unknown {
  return guarded(tree, () => {
    const meter = new Meter(limits);
    const value = defined(new Evaluator(scope, meter).value(tree), tree);
    if (meter.mayHoldParts) assertWhole(value, tree);
    return value;
  });
}

/** What goes out of an expression is made of plain values: nothing in it is missing, or of the evaluator's own. */
function assertWhole(value: unknown, at: Range): void {
  defined(value, at);
  if (value instanceof Namespace) throw new ExpressionError("X003", "a namespace is for `set`, it is no value", at);
  if (Array.isArray(value)) for (const item of value) assertWhole(item, at);
  else if (isDict(value)) for (const item of Object.values(value)) assertWhole(item, at);
}

/** Whether an expression is true. */
export function evaluateCondition(tree: Expression, scope: Scope, limits?: EvaluationLimits): boolean {
  return guarded(tree, () => isTrue(new Evaluator(scope, new Meter(limits)).value(tree), tree));
}

/** Whatever the language underneath refuses (a text too long, half a character) is a fault of the expression. */
export function guarded<T>(at: Range, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof ExpressionError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    throw new ExpressionError(error instanceof RangeError ? "X005" : "X003", message, at);
  }
}

export class Evaluator {
  readonly scope: Scope;
  readonly meter: Meter;

  constructor(scope: Scope, meter: Meter) {
    this.scope = scope;
    this.meter = meter;
  }

  /** The same budget over other names. */
  within(scope: Scope): Evaluator {
    return new Evaluator(scope, this.meter);
  }

  value(tree: Expression): unknown {
    this.meter.step(tree);
    switch (tree.kind) {
      case "literal":
        return tree.value;
      case "name":
        return this.#name(tree.name, tree);
      case "member":
        return this.#member(this.value(tree.object), tree.name, tree);
      case "index":
        return this.#index(this.value(tree.object), this.value(tree.key), tree);
      case "slice":
        return slice(
          this.value(tree.object),
          this.#optional(tree.from),
          this.#optional(tree.to),
          this.#optional(tree.step),
          tree,
          this.meter,
        );
      case "call":
        return this.#call(tree);
      case "filter":
        return this.filter(tree, tree.input === undefined ? undefined : this.value(tree.input));
      case "test":
        return this.#test(tree);
      case "not":
        return !isTrue(this.value(tree.operand), tree.operand);
      case "negative":
        return negate(this.value(tree.operand), tree);
      case "positive":
        return -negate(this.value(tree.operand), tree);
      case "binary":
        return binary(tree.operator, this.value(tree.left), this.value(tree.right), tree, this.meter);
      case "and": {
        const left = this.value(tree.left);
        return isTrue(left, tree.left) ? this.value(tree.right) : left;
      }
      case "or": {
        const left = this.value(tree.left);
        return isTrue(left, tree.left) ? left : this.value(tree.right);
      }
      case "compare":
        return this.#compare(tree);
      case "conditional":
        if (isTrue(this.value(tree.condition), tree.condition)) return this.value(tree.consequent);
        return tree.otherwise === undefined
          ? new Undefined("the condition is false and there is no else")
          : this.value(tree.otherwise);
      case "list":
        this.meter.size(tree.items.length, tree);
        return tree.items.map((item) => defined(this.value(item), item));
      case "dict":
        return this.#dict(tree);
      default:
        return tree satisfies never;
    }
  }

  /** A filter over a value that is there already, as of a filter block. */
  filter(tree: Extract<Expression, { kind: "filter" }>, input: unknown): unknown {
    const args = tree.args.map((arg) => this.value(arg));
    return this.#apply(find(FILTERS, tree.name, "filter", tree), tree.name, input, args, this.#keywords(tree), tree);
  }

  #optional(tree: Expression | undefined): unknown {
    return tree === undefined ? undefined : this.value(tree);
  }

  #name(name: string, at: Range): unknown {
    const value = this.scope.lookup(name);
    if (value !== undefined) return value;
    const why = this.scope.whyNot?.(name);
    if (why !== undefined) return new Undefined(why, () => `accept that with ${name} | default(…)`, at);
    return new Undefined(`${name} is not defined`, () => suggest(name, this.scope.names()), at);
  }

  #member(object: unknown, name: string, at: Range): unknown {
    if (object instanceof Undefined) return object;
    if (object instanceof Namespace)
      return orMissing(field(object.fields, name), `the namespace has no ${name}`, undefined, at);
    if (isDict(object)) {
      const known = (): string | undefined => suggest(name, Object.keys(object));
      return orMissing(field(object, name), `there is no field ${name}`, known, at);
    }
    return new Undefined(`${typeName(object)} has no field ${name}`, undefined, at);
  }

  #index(object: unknown, key: unknown, at: Range): unknown {
    if (object instanceof Undefined) return object;
    const known = defined(key, at);
    if (typeof known === "number" && (Array.isArray(object) || typeof object === "string")) {
      const items: readonly unknown[] = typeof object === "string" ? toItems(object, this.#spot(at)) : object;
      return (
        items.at(known) ??
        (known < items.length && known >= -items.length
          ? null
          : new Undefined(`there is no item ${known} in ${items.length}`, undefined, at))
      );
    }
    if (typeof known === "string") return this.#member(object, known, at);
    if (typeof known === "number" && isDict(object)) return this.#member(object, String(known), at);
    throw new ExpressionError("X003", `${typeName(object)} has no item ${typeName(known)}`, at);
  }

  #call(tree: Extract<Expression, { kind: "call" }>): unknown {
    const { callee } = tree;
    const args = tree.args.map((arg) => this.value(arg));
    const named = this.#keywords(tree);
    if (callee.kind === "name") {
      const own = this.scope.lookup(callee.name);
      if (own !== undefined && !Object.hasOwn(FUNCTIONS, callee.name))
        throw new ExpressionError("X003", `${callee.name} is ${typeName(own)}, not a function`, callee);
      return this.#apply(find(FUNCTIONS, callee.name, "function", callee), callee.name, undefined, args, named, tree);
    }
    if (callee.kind !== "member") throw new ExpressionError("X006", "only functions and methods can be called", callee);
    const object = defined(this.value(callee.object), callee.object);
    const methods = methodsOf(object);
    return this.#apply(
      find(methods, callee.name, `method of ${typeName(object)}`, callee),
      callee.name,
      object,
      args,
      named,
      tree,
    );
  }

  #test(tree: Extract<Expression, { kind: "test" }>): boolean {
    const input = this.value(tree.input);
    const args = tree.args.map((arg) => this.value(arg));
    const passes = this.#apply(find(TESTS, tree.name, "test", tree), tree.name, input, args, {}, tree) === true;
    return passes !== tree.negated;
  }

  #compare(tree: Extract<Expression, { kind: "compare" }>): boolean {
    let left = defined(this.value(tree.first), tree.first);
    for (const { operator, operand } of tree.rest) {
      const right = defined(this.value(operand), operand);
      if (!holds(operator, left, right, this.#spot(tree))) return false;
      left = right;
    }
    return true;
  }

  #dict(tree: Extract<Expression, { kind: "dict" }>): unknown {
    this.meter.size(tree.entries.length, tree);
    return Object.fromEntries(
      tree.entries.map(({ key, value }) => {
        const name = defined(this.value(key), key);
        if (typeof name !== "string" && typeof name !== "number")
          throw new ExpressionError("X003", `a key must be a text, found ${typeName(name)}`, key);
        return [String(name), defined(this.value(value), value)];
      }),
    );
  }

  #spot({ start, end }: Range): Spot {
    return { start, end, meter: this.meter };
  }

  #keywords(tree: {
    readonly keywords: readonly { readonly name: string; readonly value: Expression }[];
  }): Readonly<Record<string, unknown>> {
    return tree.keywords.length === 0
      ? {}
      : Object.fromEntries(tree.keywords.map(({ name, value }) => [name, this.value(value)]));
  }

  #apply(
    found: Builtin,
    name: string,
    input: unknown,
    args: readonly unknown[],
    named: Readonly<Record<string, unknown>>,
    at: Range,
  ): unknown {
    const spot = this.#spot(at);
    this.meter.step(
      at,
      args.reduce<number>((sum, arg) => sum + weightOf(arg), weightOf(input)),
    );
    const call: Call = {
      at: spot,
      meter: this.meter,
      apply: (kind, other, value, rest) => {
        this.meter.step(at);
        return this.#apply(find(kind === "test" ? TESTS : FILTERS, other, kind, at), other, value, rest, {}, at);
      },
    };
    const made = found.run(input, new Arguments(name, found.args, args, named, call), call);
    // What a builtin makes is charged here, once for all of them.
    if (made !== input && (typeof made === "string" || Array.isArray(made))) this.meter.size(made.length, at);
    return made;
  }
}

function methodsOf(object: unknown): Builtins {
  if (typeof object === "string") return TEXT_METHODS;
  if (Array.isArray(object)) return LIST_METHODS;
  return isDict(object) ? DICT_METHODS : {};
}

function find(table: Builtins, name: string, what: string, at: Range): Builtin {
  const found = Object.hasOwn(table, name) ? table[name] : undefined;
  if (found !== undefined) return found;
  throw new ExpressionError("X004", `there is no ${what} ${name}`, at, suggest(name, Object.keys(table)));
}

function holds(
  operator: Extract<Expression, { kind: "compare" }>["rest"][number]["operator"],
  left: unknown,
  right: unknown,
  at: Spot,
): boolean {
  switch (operator) {
    case "==":
      return isEqual(left, right, at);
    case "!=":
      return !isEqual(left, right, at);
    case "<":
      return compare(left, right, at) < 0;
    case "<=":
      return compare(left, right, at) <= 0;
    case ">":
      return compare(left, right, at) > 0;
    case ">=":
      return compare(left, right, at) >= 0;
    case "in":
      return contains(right, left, at);
    case "not in":
      return !contains(right, left, at);
    default:
      return operator satisfies never;
  }
}
