// Templates: text with `{{ … }}`, `{% … %}` and `{# … #}`; parsing and rendering.

import { suggest } from "../nearest.ts";
import { ExpressionError } from "./error.ts";
import { type EvaluationLimits, Evaluator, type Scope, guarded } from "./evaluator.ts";
import { Namespace } from "./functions.ts";
import { tokenize } from "./lexer.ts";
import { EXPRESSION_LIMITS } from "./limits.ts";
import { Meter } from "./meter.ts";
import { Parser } from "./parser.ts";
import type { AssignTarget, Expression, Range, Template, TemplateNode } from "./tree.ts";
import { defined, isDict, isTrue, toItems, toText, typeName } from "./value.ts";

/** Whether a text holds anything to fill in. */
export const isTemplate = (text: string): boolean => /\{[{%#]/.test(text);

/**
 * Parses a template. As in Jinja, one line break at its end is dropped.
 * @throws {ExpressionError} a delimiter is not closed, or what stands between is wrong
 */
export function parseTemplate(text: string): Template {
  if (text.length > EXPRESSION_LIMITS.sourceMax)
    throw new ExpressionError(
      "X005",
      `a template of ${text.length} characters; at most ${EXPRESSION_LIMITS.sourceMax} are allowed`,
      { start: 0, end: 1 },
    );
  return new TemplateParser(text.replace(/\r?\n$/, "")).parse();
}

/** The tree of a template that is one `{{ … }}` and nothing else: its value keeps its type. */
export function soleExpression(template: Template): Expression | undefined {
  const [only] = template;
  return template.length === 1 && only?.kind === "output" ? only.value : undefined;
}

type Part = Range &
  (
    | { readonly kind: "text"; readonly text: string }
    | { readonly kind: "output" | "statement"; readonly parser: Parser }
  );

const STATEMENTS = [
  "if",
  "elif",
  "else",
  "endif",
  "for",
  "endfor",
  "set",
  "endset",
  "with",
  "endwith",
  "filter",
  "endfilter",
  "raw",
];
const REFUSED: Readonly<Record<string, string>> = {
  macro: "write the text where it is used, or do it in a function node",
  include: "use !include in the manifest",
  import: "use !include in the manifest",
  from: "use !include in the manifest",
  extends: "use !include in the manifest",
  block: "use !include in the manifest",
  call: "macros are not supported",
  autoescape: "texts are never escaped",
  break: "filter the items of the loop instead",
  continue: "filter the items of the loop instead",
  do: "an expression without a result has no use here",
};

class TemplateParser {
  readonly #text: string;
  #at = 0;
  #depth = 0;
  #parts = 0;
  /** The part after the current one begins with a stripped text. */
  #trimsNext = false;
  #pending: Part | undefined;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): Template {
    const { body, end } = this.#body([]);
    if (end !== undefined) throw new ExpressionError("X001", `{% ${end.name} %} without its beginning`, end.at);
    return body;
  }

  /** Nodes up to one of the closing statements, whose name has been read. */
  #body(closers: readonly string[]): {
    readonly body: Template;
    readonly end?: { readonly name: string; readonly parser: Parser; readonly at: Range };
  } {
    if (++this.#depth > EXPRESSION_LIMITS.depthMax)
      throw new ExpressionError("X005", `a template nested deeper than ${EXPRESSION_LIMITS.depthMax}`, {
        start: this.#at,
        end: this.#at + 1,
      });
    const body: TemplateNode[] = [];
    for (let part = this.#next(); part !== undefined; part = this.#next()) {
      const { start, end } = part;
      if (part.kind === "text") {
        if (part.text !== "") body.push({ kind: "text", text: part.text, start, end });
      } else if (part.kind === "output") {
        const value = part.parser.expression({ tuples: true });
        part.parser.expectEnd();
        body.push({ kind: "output", value, start, end });
      } else {
        const word = part.parser.current;
        const name = word.text;
        if (closers.includes(name)) {
          part.parser.take(name);
          this.#depth--;
          return { body, end: { name, parser: part.parser, at: { start, end } } };
        }
        body.push(this.#statement(part.parser, { start, end }));
      }
    }
    this.#depth--;
    if (closers.length > 0)
      throw new ExpressionError(
        "X001",
        `the template ends inside of a block; {% ${closers.at(-1) ?? ""} %} is missing`,
        { start: this.#at, end: this.#at },
      );
    return { body };
  }

  #statement(parser: Parser, at: Range): TemplateNode {
    const { kind, text: name } = parser.current;
    if (kind === "name" && parser.take(name) !== undefined) {
      if (name === "if") return this.#if(parser, at);
      if (name === "for") return this.#for(parser, at);
      if (name === "set") return this.#set(parser, at);
      if (name === "with") return this.#with(parser, at);
      if (name === "filter") {
        const filter = parser.filterChain();
        parser.expectEnd();
        return { kind: "filter-block", filter, body: this.#closed("endfilter"), ...at };
      }
      const refused = Object.hasOwn(REFUSED, name) ? REFUSED[name] : undefined;
      if (refused !== undefined) throw new ExpressionError("X006", `{% ${name} %} is not supported`, at, refused);
      if (name.startsWith("end") || name === "else" || name === "elif")
        throw new ExpressionError("X001", `{% ${name} %} without its beginning`, at);
    }
    throw new ExpressionError("X001", `there is no statement {% ${name} %}`, at, suggest(name, STATEMENTS));
  }

  #closed(name: string): Template {
    const { body, end } = this.#body([name]);
    end?.parser.expectEnd();
    return body;
  }

  #if(parser: Parser, at: Range): TemplateNode {
    const branches: { condition: Expression; body: Template }[] = [];
    let condition = parser.expression();
    parser.expectEnd();
    for (;;) {
      const { body, end } = this.#body(["elif", "else", "endif"]);
      branches.push({ condition, body });
      if (end?.name === "elif") {
        condition = end.parser.expression();
        end.parser.expectEnd();
        continue;
      }
      end?.parser.expectEnd();
      return { kind: "if", branches, otherwise: end?.name === "else" ? this.#closed("endif") : [], ...at };
    }
  }

  #for(parser: Parser, at: Range): TemplateNode {
    const target = parser.target();
    parser.expect("in");
    const items = parser.expression({ tuples: true, ternary: false });
    const filter = parser.take("if") === undefined ? undefined : parser.expression();
    if (parser.current.text === "recursive")
      throw new ExpressionError("X006", "recursive loops are not supported", at, "do it in a function node");
    parser.expectEnd();
    const { body, end } = this.#body(["else", "endfor"]);
    end?.parser.expectEnd();
    return {
      kind: "for",
      target,
      items,
      filter,
      body,
      otherwise: end?.name === "else" ? this.#closed("endfor") : [],
      ...at,
    };
  }

  #set(parser: Parser, at: Range): TemplateNode {
    const target = parser.target();
    if (parser.take("=") !== undefined) {
      const value = parser.expression({ tuples: true });
      parser.expectEnd();
      return { kind: "set", target, value, ...at };
    }
    const filter = parser.take("|") === undefined ? undefined : parser.filterChain();
    parser.expectEnd();
    return { kind: "set-block", target, filter, body: this.#closed("endset"), ...at };
  }

  #with(parser: Parser, at: Range): TemplateNode {
    const bindings: { target: AssignTarget; value: Expression }[] = [];
    while (parser.current.kind !== "end") {
      if (bindings.length > 0) parser.expect(",");
      const { text, start, end } = parser.name();
      parser.expect("=");
      bindings.push({ target: { kind: "name", name: text, start, end }, value: parser.expression() });
    }
    return { kind: "with", bindings, body: this.#closed("endwith"), ...at };
  }

  /** The next piece of text or tag; comments are dropped, raw blocks are text. */
  #next(): Part | undefined {
    // Comments give no part; there may be many.
    for (;;) {
      const part = this.#read();
      if (part !== "comment") return part;
    }
  }

  #read(): Part | "comment" | undefined {
    const pending = this.#pending;
    if (pending !== undefined) {
      this.#pending = undefined;
      return pending;
    }
    if (this.#at >= this.#text.length) return undefined;
    if (++this.#parts > EXPRESSION_LIMITS.tokensMax)
      throw new ExpressionError("X005", `more than ${EXPRESSION_LIMITS.tokensMax} parts`, {
        start: this.#at,
        end: this.#at + 1,
      });
    const start = this.#at;
    const open = nextOpening(this.#text, start);
    const sign = this.#text[open + 2];
    let text = this.#text.slice(start, open);
    if (this.#trimsNext) text = text.trimStart();
    this.#trimsNext = false;
    if (open < this.#text.length && sign === "-") text = text.trimEnd();
    if (open >= this.#text.length) {
      this.#at = open;
      return { kind: "text", text, start, end: open };
    }
    const tag = this.#tag(open);
    if (tag === undefined) return text === "" ? "comment" : { kind: "text", text, start, end: open };
    if (text === "") return tag;
    this.#pending = tag;
    return { kind: "text", text, start, end: open };
  }

  /** Reads the tag at an offset and moves behind it; undefined for a comment. */
  #tag(open: number): Part | undefined {
    const sign = this.#text[open + 2];
    const from = open + (sign === "-" || sign === "+" ? 3 : 2);
    const opener = this.#text[open + 1];
    if (opener === "#") {
      const close = this.#text.indexOf("#}", from);
      if (close < 0)
        throw new ExpressionError(
          "X001",
          "a comment that does not end",
          { start: open, end: this.#text.length },
          "close it with #}",
        );
      this.#moveBehind(close, 2);
      return undefined;
    }
    const raw = opener === "%" ? this.#raw(open, from) : undefined;
    if (raw !== undefined) return raw;
    const close = opener === "{" ? "}}" : "%}";
    const isEnd = (at: number): boolean =>
      this.#text.startsWith(close, at) || (/[-+]/.test(this.#text[at] ?? "") && this.#text.startsWith(close, at + 1));
    const { tokens, end } = tokenize(this.#text, from, this.#text.length, isEnd);
    if (end >= this.#text.length)
      throw new ExpressionError(
        "X001",
        `a tag that does not end`,
        { start: open, end: Math.min(open + 20, this.#text.length) },
        `close it with ${close}`,
      );
    this.#moveBehind(end, this.#text.startsWith(close, end) ? 2 : 3);
    return { kind: opener === "{" ? "output" : "statement", parser: new Parser(tokens), start: open, end: this.#at };
  }

  #moveBehind(close: number, length: number): void {
    this.#trimsNext =
      this.#text[close] === "-" || (this.#text[close - 1] === "-" && length === 2 && this.#text[close] === "#");
    this.#at = close + length;
  }

  #raw(open: number, from: number): Part | undefined {
    const head = /\s*raw\s*([-+]?)%\}/y;
    head.lastIndex = from;
    const begin = head.exec(this.#text);
    if (begin === null) return undefined;
    const tail = /\{%([-+]?)\s*endraw\s*([-+]?)%\}/g;
    tail.lastIndex = head.lastIndex;
    const end = tail.exec(this.#text);
    if (end === null)
      throw new ExpressionError(
        "X001",
        "a raw block that does not end",
        { start: open, end: this.#text.length },
        "close it with {% endraw %}",
      );
    let text = this.#text.slice(head.lastIndex, end.index);
    if (begin[1] === "-") text = text.trimStart();
    if (end[1] === "-") text = text.trimEnd();
    this.#at = end.index + end[0].length;
    this.#trimsNext = end[2] === "-";
    return { kind: "text", text, start: open, end: this.#at };
  }
}

function nextOpening(text: string, from: number): number {
  for (let at = text.indexOf("{", from); at >= 0; at = text.indexOf("{", at + 1)) {
    const next = text[at + 1];
    if (next === "{" || next === "%" || next === "#") return at;
  }
  return text.length;
}

/**
 * The text of a template.
 * @throws {ExpressionError} a name is unknown, a type is wrong, or a bound is reached
 */
export function renderTemplate(template: Template, scope: Scope, limits?: EvaluationLimits): string {
  const out: string[] = [];
  return guarded({ start: 0, end: 0 }, () => {
    new Renderer(new Evaluator(scope, new Meter(limits)), (text) => out.push(text)).nodes(template);
    return out.join("");
  });
}

/** Names that `set`, `for` and `with` have bound, over those of the outside. */
class Frame implements Scope {
  readonly #own = new Map<string, unknown>();
  readonly #parent: Scope;

  constructor(parent: Scope) {
    this.#parent = parent;
  }

  lookup(name: string): unknown {
    const own = this.#own.get(name);
    return own === undefined ? this.#parent.lookup(name) : own;
  }

  names(): readonly string[] {
    return [...this.#own.keys(), ...this.#parent.names()];
  }

  set(name: string, value: unknown): void {
    this.#own.set(name, value);
  }
}

class Renderer {
  readonly #evaluator: Evaluator;
  readonly #frame: Frame;
  readonly #write: (text: string) => void;

  constructor(evaluator: Evaluator, write: (text: string) => void) {
    this.#frame = new Frame(evaluator.scope);
    this.#evaluator = evaluator.within(this.#frame);
    this.#write = write;
  }

  nodes(template: Template): void {
    for (const node of template) this.#node(node);
  }

  #node(node: TemplateNode): void {
    const { meter } = this.#evaluator;
    meter.step(node);
    switch (node.kind) {
      case "text":
        meter.size(node.text.length, node);
        return this.#write(node.text);
      case "output": {
        const { start, end } = node.value;
        const text = toText(this.#evaluator.value(node.value), { start, end, meter });
        meter.size(text.length, node);
        return this.#write(text);
      }
      case "if": {
        const taken = node.branches.find(({ condition }) => isTrue(this.#evaluator.value(condition), condition));
        return this.nodes(taken?.body ?? node.otherwise);
      }
      case "for":
        return this.#for(node);
      case "set":
        return this.#assign(node.target, defined(this.#evaluator.value(node.value), node.value));
      case "set-block": {
        const text = this.#captured(node.body);
        return this.#assign(node.target, node.filter === undefined ? text : this.#filtered(node.filter, text));
      }
      case "with": {
        const inner = new Renderer(this.#evaluator, this.#write);
        for (const { target, value } of node.bindings)
          inner.#assign(target, defined(this.#evaluator.value(value), value));
        return inner.nodes(node.body);
      }
      case "filter-block":
        return this.#write(toText(this.#filtered(node.filter, this.#captured(node.body)), node));
      default:
        return node satisfies never;
    }
  }

  #captured(body: Template): string {
    const out: string[] = [];
    new Renderer(this.#evaluator, (text) => out.push(text)).nodes(body);
    return out.join("");
  }

  #filtered(filter: Expression, input: unknown): unknown {
    if (filter.kind !== "filter") return input;
    return this.#evaluator.filter(filter, filter.input === undefined ? input : this.#filtered(filter.input, input));
  }

  #for(node: Extract<TemplateNode, { kind: "for" }>): void {
    const all = toItems(this.#evaluator.value(node.items), node.items);
    this.#evaluator.meter.step(node, all.length);
    const kept = node.filter === undefined ? all : all.filter((item) => this.#passes(node, item));
    if (kept.length === 0) return this.nodes(node.otherwise);
    for (const [index, item] of kept.entries()) {
      const inner = new Renderer(this.#evaluator, this.#write);
      inner.#assign(node.target, item);
      inner.#frame.set("loop", loopFields(kept, index, this.#frame.lookup("loop")));
      inner.nodes(node.body);
    }
  }

  #passes(node: Extract<TemplateNode, { kind: "for" }>, item: unknown): boolean {
    const inner = new Renderer(this.#evaluator, this.#write);
    inner.#assign(node.target, item);
    return node.filter === undefined || isTrue(inner.#evaluator.value(node.filter), node.filter);
  }

  #assign(target: AssignTarget, value: unknown): void {
    if (target.kind === "name") return this.#frame.set(target.name, value ?? null);
    if (target.kind === "field") {
      const space = this.#frame.lookup(target.object);
      if (!(space instanceof Namespace))
        throw new ExpressionError(
          "X003",
          `${target.object} is no namespace`,
          target,
          `make it with {% set ${target.object} = namespace() %}`,
        );
      space.fields[target.name] = value;
      return;
    }
    const items = toItems(value, target);
    if (items.length !== target.items.length)
      throw new ExpressionError(
        "X003",
        `${target.items.length} names for ${items.length} values of ${typeName(value)}`,
        target,
      );
    for (const [at, one] of target.items.entries()) this.#assign(one, items[at]);
  }
}

function loopFields(items: readonly unknown[], index: number, outer: unknown): Readonly<Record<string, unknown>> {
  const { length } = items;
  const above = isDict(outer) ? outer["depth"] : undefined;
  const depth = typeof above === "number" ? above : 0;
  return {
    index: index + 1,
    index0: index,
    revindex: length - index,
    revindex0: length - index - 1,
    first: index === 0,
    last: index === length - 1,
    length,
    depth: depth + 1,
    depth0: depth,
    ...(index > 0 ? { previtem: items[index - 1] } : {}),
    ...(index < length - 1 ? { nextitem: items[index + 1] } : {}),
  };
}
