// What an expression or a template reads: the first name of each path, and the fields after it.

import type { AssignTarget, Expression, Range, Template, TemplateNode } from "./tree.ts";

export interface Reference extends Range {
  /** The first name, as `node` of `node.field[0].x`. */
  readonly name: string;
  /** Fields after it as far as they are constant. */
  readonly path: readonly string[];
  /** A missing value is accepted: it stands before `default` or in `is defined`. */
  readonly optional: boolean;
}

/** The references of an expression, in the order of evaluation. Names of functions are none. */
export function referencesOf(tree: Expression): readonly Reference[] {
  const out: Reference[] = [];
  visit(tree, new Bound(), out, false);
  return out;
}

/** The references of a template; names that it binds itself are left out. */
export function templateReferences(template: Template): readonly Reference[] {
  const out: Reference[] = [];
  visitTemplate(template, new Bound(), out);
  return out;
}

const TOLERANT_FILTERS = new Set(["default", "d"]);
const TOLERANT_TESTS = new Set(["defined", "undefined"]);

function visit(tree: Expression, bound: Bound, out: Reference[], optional: boolean): void {
  const path = pathOf(tree);
  if (path !== undefined) {
    const known = bound.has(path.name);
    if (known !== true)
      out.push({ ...path, optional: optional || known === "maybe", start: tree.start, end: tree.end });
    return;
  }
  for (const child of childrenOf(tree)) {
    const isTolerant =
      (tree.kind === "filter" && child === tree.input && TOLERANT_FILTERS.has(tree.name)) ||
      (tree.kind === "test" && child === tree.input && TOLERANT_TESTS.has(tree.name)) ||
      (tree.kind === "call" && tree.callee.kind === "name" && tree.callee.name === "coalesce");
    visit(child, bound, out, optional || isTolerant);
  }
}

/** `a.b[0]["c"]` as a name and its constant fields. */
function pathOf(tree: Expression): { readonly name: string; readonly path: readonly string[] } | undefined {
  if (tree.kind === "name") return { name: tree.name, path: [] };
  if (tree.kind !== "member" && tree.kind !== "index") return undefined;
  const above = pathOf(tree.object);
  if (above === undefined) return undefined;
  if (tree.kind === "member") return { name: above.name, path: [...above.path, tree.name] };
  return tree.key.kind === "literal" ? { name: above.name, path: [...above.path, String(tree.key.value)] } : undefined;
}

/** The direct parts of a tree. */
export function childrenOf(tree: Expression): readonly Expression[] {
  switch (tree.kind) {
    case "literal":
    case "name":
      return [];
    case "member":
      return [tree.object];
    case "index":
      return [tree.object, tree.key];
    case "slice":
      return [tree.object, tree.from, tree.to, tree.step].filter((part) => part !== undefined);
    case "call":
      return [
        ...(tree.callee.kind === "name" ? [] : tree.callee.kind === "member" ? [tree.callee.object] : [tree.callee]),
        ...tree.args,
        ...tree.keywords.map(({ value }) => value),
      ];
    case "filter":
      return [
        ...(tree.input === undefined ? [] : [tree.input]),
        ...tree.args,
        ...tree.keywords.map(({ value }) => value),
      ];
    case "test":
      return [tree.input, ...tree.args];
    case "not":
    case "negative":
    case "positive":
      return [tree.operand];
    case "binary":
    case "and":
    case "or":
      return [tree.left, tree.right];
    case "compare":
      return [tree.first, ...tree.rest.map(({ operand }) => operand)];
    case "conditional":
      return [tree.condition, tree.consequent, ...(tree.otherwise === undefined ? [] : [tree.otherwise])];
    case "list":
      return tree.items;
    case "dict":
      return tree.entries.flatMap(({ key, value }) => [key, value]);
    default:
      return tree satisfies never;
  }
}

/** Names bound by a template, those of an outer block seen through. */
class Bound {
  readonly #own = new Set<string>();
  /** Bound on some of the ways here. */
  readonly #maybe = new Set<string>();
  readonly #outer: Bound | undefined;

  constructor(outer?: Bound, names: readonly string[] = []) {
    this.#outer = outer;
    for (const name of names) this.#own.add(name);
  }

  has(name: string): boolean | "maybe" {
    if (this.#own.has(name)) return true;
    const outer = this.#outer?.has(name) ?? false;
    return outer === true || !this.#maybe.has(name) ? outer : "maybe";
  }

  /** Behind several ways, of which one was taken, what all of them bind is bound. */
  join(ways: readonly Bound[]): void {
    for (const name of new Set(ways.flatMap((way) => [...way.#own, ...way.#maybe])))
      if (ways.every((way) => way.#own.has(name))) this.#own.add(name);
      else this.#maybe.add(name);
  }

  add(name: string): void {
    this.#own.add(name);
  }
}

function visitTemplate(template: Template, outer: Bound, out: Reference[]): void {
  const bound = new Bound(outer);
  for (const node of template) visitNode(node, bound, out);
}

function visitNode(node: TemplateNode, bound: Bound, out: Reference[]): void {
  switch (node.kind) {
    case "text":
      return;
    case "output":
      return visit(node.value, bound, out, false);
    case "if":
      // What a branch sets is seen behind it, if it was taken.
      bound.join(
        [...node.branches, { condition: undefined, body: node.otherwise }].map(({ condition, body }) => {
          if (condition !== undefined) visit(condition, bound, out, false);
          const way = new Bound(bound);
          for (const inner of body) visitNode(inner, way, out);
          return way;
        }),
      );
      return;
    case "for": {
      visit(node.items, bound, out, false);
      const inner = new Bound(bound, ["loop", ...namesOf(node.target)]);
      if (node.filter !== undefined) visit(node.filter, inner, out, false);
      visitTemplate(node.body, inner, out);
      return visitTemplate(node.otherwise, bound, out);
    }
    case "set":
      visit(node.value, bound, out, false);
      for (const name of namesOf(node.target)) bound.add(name);
      return;
    case "set-block":
      if (node.filter !== undefined) visit(node.filter, bound, out, false);
      visitTemplate(node.body, bound, out);
      for (const name of namesOf(node.target)) bound.add(name);
      return;
    case "with":
      for (const { value } of node.bindings) visit(value, bound, out, false);
      return visitTemplate(
        node.body,
        new Bound(
          bound,
          node.bindings.flatMap(({ target }) => namesOf(target)),
        ),
        out,
      );
    case "filter-block":
      visit(node.filter, bound, out, false);
      return visitTemplate(node.body, bound, out);
    default:
      return node satisfies never;
  }
}

function namesOf(target: AssignTarget): readonly string[] {
  if (target.kind === "tuple") return target.items.flatMap(namesOf);
  return target.kind === "name" ? [target.name] : [];
}

/** All expressions of a template, those of its inner blocks included. */
export function expressionsOf(template: Template): readonly Expression[] {
  return template.flatMap((node): readonly Expression[] => {
    switch (node.kind) {
      case "text":
        return [];
      case "output":
      case "set":
        return [node.value];
      case "if":
        return [
          ...node.branches.flatMap(({ condition, body }) => [condition, ...expressionsOf(body)]),
          ...expressionsOf(node.otherwise),
        ];
      case "for":
        return [
          node.items,
          ...(node.filter === undefined ? [] : [node.filter]),
          ...expressionsOf(node.body),
          ...expressionsOf(node.otherwise),
        ];
      case "set-block":
        return [...(node.filter === undefined ? [] : [node.filter]), ...expressionsOf(node.body)];
      case "with":
        return [...node.bindings.map(({ value }) => value), ...expressionsOf(node.body)];
      case "filter-block":
        return [node.filter, ...expressionsOf(node.body)];
      default:
        return node satisfies never;
    }
  });
}
