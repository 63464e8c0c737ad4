// Tokens to a tree, by recursive descent; the grammar and its precedences are Jinja's.

import { ExpressionError } from "./error.ts";
import { type Token, tokenize } from "./lexer.ts";
import { EXPRESSION_LIMITS } from "./limits.ts";
import type { AssignTarget, BinaryOperator, CompareOperator, Expression, Keyword } from "./tree.ts";

const COMPARE = new Set<string>(["==", "!=", "<", ">", "<=", ">="] satisfies CompareOperator[]);
const CONSTANTS: Readonly<Record<string, boolean | null>> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  null: null,
};
const RESERVED = new Set(["and", "or", "not", "in", "is", "if", "else"]);

/**
 * Parses a bare expression.
 * @throws {ExpressionError} it is none
 */
export function parseExpression(text: string): Expression {
  if (text.length > EXPRESSION_LIMITS.sourceMax)
    throw new ExpressionError(
      "X005",
      `an expression of ${text.length} characters; at most ${EXPRESSION_LIMITS.sourceMax} are allowed`,
      { start: 0, end: 1 },
    );
  const parser = new Parser(tokenize(text).tokens);
  const tree = parser.expression();
  parser.expectEnd();
  return tree;
}

/** Reads expressions from tokens; templates read their statements with it. */
export class Parser {
  readonly #tokens: readonly Token[];
  #at = 0;
  #depth = 0;
  #operators = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  get current(): Token {
    return this.#peek(0);
  }

  /** Takes the token if it is this word or operator. */
  take(text: string): Token | undefined {
    const token = this.current;
    if ((token.kind !== "name" && token.kind !== "operator") || token.text !== text) return undefined;
    this.#at++;
    return token;
  }

  expect(text: string): Token {
    return this.take(text) ?? this.#unexpected(`expected ${JSON.stringify(text)}`);
  }

  expectEnd(): void {
    if (this.current.kind !== "end") this.#unexpected("expected the end");
  }

  /** A name that is not a word of the language. */
  name(): Token {
    const token = this.current;
    if (token.kind !== "name" || RESERVED.has(token.text)) this.#unexpected("expected a name");
    this.#at++;
    return token;
  }

  /** `a`, `a, b`, `a, (b, c)` or `ns.field`. */
  target(): AssignTarget {
    const first = this.#singleTarget();
    if (this.take(",") === undefined) return first;
    const items = [first];
    do {
      if (this.current.text === "in" || this.current.text === "=") break;
      items.push(this.#singleTarget());
    } while (this.take(",") !== undefined);
    return { kind: "tuple", items, start: first.start, end: this.#previousEnd };
  }

  #singleTarget(): AssignTarget {
    return this.#nested(() => {
      const open = this.take("(");
      if (open !== undefined) {
        const inner = this.target();
        this.expect(")");
        return inner.kind === "tuple"
          ? inner
          : { kind: "tuple", items: [inner], start: open.start, end: this.#previousEnd };
      }
      const { text, start, end } = this.name();
      if (this.take(".") === undefined) return { kind: "name", name: text, start, end };
      const field = this.name();
      return { kind: "field", object: text, name: field.text, start, end: field.end };
    });
  }

  /** With `tuples`, `a, b` is a list, as after `in` and `=`; without `ternary` a trailing `if` is left alone. */
  expression(options: { readonly tuples?: boolean; readonly ternary?: boolean } = {}): Expression {
    const one = (): Expression => (options.ternary === false ? this.#or() : this.#conditional());
    const first = one();
    if (options.tuples !== true || this.current.text !== "," || this.current.kind !== "operator") return first;
    const items = [first];
    while (this.take(",") !== undefined) {
      if (this.#isAt("end") || this.#isAt(")")) break;
      items.push(one());
    }
    return { kind: "list", items, start: first.start, end: this.#previousEnd };
  }

  /** `name(args) | name(args)…` of a filter block or a filtered `set`. */
  filterChain(): Expression {
    let tree = this.#filter(undefined, this.current.start);
    for (let links = 0; this.take("|") !== undefined; links++) {
      if (links > EXPRESSION_LIMITS.depthMax) this.#tooDeep();
      tree = this.#filter(tree, tree.start);
    }
    return tree;
  }

  #conditional(): Expression {
    return this.#nested(() => {
      let tree = this.#or();
      while (this.take("if") !== undefined) {
        this.#countOperator();
        const condition = this.#or();
        const otherwise = this.take("else") === undefined ? undefined : this.#conditional();
        tree = {
          kind: "conditional",
          condition,
          consequent: tree,
          otherwise,
          start: tree.start,
          end: this.#previousEnd,
        };
      }
      return tree;
    });
  }

  #or(): Expression {
    let left = this.#and();
    while (this.take("or") !== undefined) left = this.#join("or", left, this.#and());
    return left;
  }

  #join(kind: "and" | "or", left: Expression, right: Expression): Expression {
    this.#countOperator();
    return { kind, left, right, start: left.start, end: right.end };
  }

  #and(): Expression {
    let left = this.#not();
    while (this.take("and") !== undefined) left = this.#join("and", left, this.#not());
    return left;
  }

  #not(): Expression {
    const token = this.take("not");
    if (token === undefined) return this.#compare();
    const operand = this.#nested(() => this.#not());
    return { kind: "not", operand, start: token.start, end: operand.end };
  }

  #compare(): Expression {
    const first = this.#sum();
    const rest: { operator: CompareOperator; operand: Expression }[] = [];
    for (;;) {
      const operator = this.#compareOperator();
      if (operator === undefined) break;
      rest.push({ operator, operand: this.#sum() });
    }
    return rest.length === 0 ? first : { kind: "compare", first, rest, start: first.start, end: this.#previousEnd };
  }

  #compareOperator(): CompareOperator | undefined {
    const { kind, text } = this.current;
    if (kind === "operator" && COMPARE.has(text)) {
      this.#at++;
      // One of the set, which is typed.
      return text as CompareOperator;
    }
    if (this.take("in") !== undefined) return "in";
    if (kind === "name" && text === "not" && this.#peek(1).text === "in") {
      this.#at += 2;
      return "not in";
    }
    if (kind === "operator" && text === "=") this.#unexpected("expected an operator", "compare with ==");
    return undefined;
  }

  #sum(): Expression {
    return this.#binary(["+", "-"], () =>
      this.#binary(["~"], () => this.#binary(["*", "/", "//", "%"], () => this.#power())),
    );
  }

  #power(): Expression {
    return this.#binary(["**"], () => this.#unary(true));
  }

  #binary(operators: readonly BinaryOperator[], operand: () => Expression): Expression {
    let left = operand();
    for (;;) {
      const operator = operators.find((one) => this.current.kind === "operator" && this.current.text === one);
      if (operator === undefined) return left;
      this.#countOperator();
      this.#at++;
      const right = operand();
      left = { kind: "binary", operator, left, right, start: left.start, end: right.end };
    }
  }

  #unary(withFilters: boolean): Expression {
    const sign = this.take("-") ?? this.take("+");
    let tree: Expression;
    if (sign === undefined) tree = this.#postfix(this.#primary());
    else {
      const operand = this.#nested(() => this.#unary(false));
      tree = { kind: sign.text === "-" ? "negative" : "positive", operand, start: sign.start, end: operand.end };
    }
    return withFilters ? this.#filters(tree) : tree;
  }

  #filters(input: Expression): Expression {
    let tree = input;
    for (let links = 0; ; links++) {
      if (links > EXPRESSION_LIMITS.depthMax) this.#tooDeep();
      if (this.take("|") !== undefined) tree = this.#filter(tree, tree.start);
      else if (this.take("is") !== undefined) tree = this.#test(tree);
      else if (this.current.kind === "operator" && this.current.text === "(") tree = this.#postfix(tree);
      else return tree;
    }
  }

  #filter(input: Expression | undefined, start: number): Expression {
    const name = this.#dottedName();
    const call = this.take("(") === undefined ? { args: [], keywords: [] } : this.#arguments();
    return { kind: "filter", input, name, ...call, start, end: this.#previousEnd };
  }

  #dottedName(): string {
    let { text } = this.name();
    while (this.take(".") !== undefined) text += `.${this.name().text}`;
    return text;
  }

  #test(input: Expression): Expression {
    const negated = this.take("not") !== undefined;
    const token = this.current;
    // `none`, `true`, `in` and the comparisons are names of tests too.
    const isName = token.kind === "name" && token.text !== "is" && token.text !== "not";
    if (!isName && !(token.kind === "operator" && COMPARE.has(token.text))) this.#unexpected("expected a test");
    this.#at++;
    let args: readonly Expression[] = [];
    if (this.take("(") !== undefined) ({ args } = this.#arguments());
    else if (this.#startsArgument()) args = [this.#postfix(this.#primary())];
    return { kind: "test", input, name: token.text, args, negated, start: input.start, end: this.#previousEnd };
  }

  #startsArgument(): boolean {
    const { kind, text } = this.current;
    if (kind === "string" || kind === "number") return true;
    if (kind === "operator") return text === "[" || text === "{";
    return kind === "name" && !RESERVED.has(text);
  }

  #postfix(input: Expression): Expression {
    let tree = input;
    for (let links = 0; ; links++) {
      if (links > EXPRESSION_LIMITS.depthMax) this.#tooDeep();
      if (this.take(".") !== undefined) tree = this.#member(tree);
      else if (this.take("[") !== undefined) tree = this.#subscript(tree);
      else if (this.take("(") !== undefined) {
        const call = this.#arguments();
        tree = { kind: "call", callee: tree, ...call, start: tree.start, end: this.#previousEnd };
      } else return tree;
    }
  }

  #member(object: Expression): Expression {
    const token = this.current;
    this.#at++;
    if (token.kind === "name") return { kind: "member", object, name: token.text, start: object.start, end: token.end };
    // `rows.0.1`: the lexer takes the end for one number.
    if (token.kind === "number" && /^\d+(\.\d+)?$/.test(token.text)) {
      return token.text.split(".").reduce<Expression>((inner, digits) => {
        const key: Expression = { kind: "literal", value: Number(digits), start: token.start, end: token.end };
        return { kind: "index", object: inner, key, start: object.start, end: token.end };
      }, object);
    }
    this.#at--;
    return this.#unexpected("expected a name after the dot");
  }

  #subscript(object: Expression): Expression {
    const part = (): Expression | undefined =>
      this.current.text === ":" || this.current.text === "]" ? undefined : this.#conditional();
    const from = part();
    if (this.take(":") === undefined) {
      if (from === undefined) this.#unexpected("expected a key");
      this.expect("]");
      return { kind: "index", object, key: from, start: object.start, end: this.#previousEnd };
    }
    const to = part();
    const step = this.take(":") === undefined ? undefined : part();
    this.expect("]");
    return { kind: "slice", object, from, to, step, start: object.start, end: this.#previousEnd };
  }

  #arguments(): { args: Expression[]; keywords: Keyword[] } {
    const args: Expression[] = [];
    const keywords: Keyword[] = [];
    while (this.take(")") === undefined) {
      if (args.length + keywords.length > 0) {
        this.expect(",");
        if (this.take(")") !== undefined) break;
      }
      if (this.current.text === "*" || this.current.text === "**")
        this.#unexpected("expected an argument", "unpacking is not supported");
      const next = this.#peek(1);
      if (this.current.kind === "name" && next.kind === "operator" && next.text === "=") {
        const { text } = this.name();
        this.#at++;
        keywords.push({ name: text, value: this.#conditional() });
      } else if (keywords.length > 0) this.#unexpected("expected a named argument", "arguments with names come last");
      else args.push(this.#conditional());
    }
    return { args, keywords };
  }

  #primary(): Expression {
    const token = this.current;
    const { start, end } = token;
    if (token.kind === "string") return this.#string();
    if (token.kind === "number") {
      this.#at++;
      return { kind: "literal", value: token.value, start, end };
    }
    if (token.kind === "name") {
      const constant = Object.hasOwn(CONSTANTS, token.text) ? CONSTANTS[token.text] : undefined;
      if (constant === undefined) return { kind: "name", name: this.name().text, start, end };
      this.#at++;
      return { kind: "literal", value: constant, start, end };
    }
    if (this.take("(") !== undefined) return this.#parenthesis(start);
    if (this.take("[") !== undefined) return { kind: "list", items: this.#items("]"), start, end: this.#previousEnd };
    if (this.take("{") !== undefined) return this.#dict(start);
    return this.#unexpected("expected a value");
  }

  /** Texts that stand beside each other are one. */
  #string(): Expression {
    const { start } = this.current;
    let value = "";
    for (let token = this.current; token.kind === "string"; token = this.current) {
      value += token.value;
      this.#at++;
    }
    return { kind: "literal", value, start, end: this.#previousEnd };
  }

  #parenthesis(start: number): Expression {
    if (this.take(")") !== undefined) return { kind: "list", items: [], start, end: this.#previousEnd };
    const inner = this.expression({ tuples: true });
    this.expect(")");
    return { ...inner, start, end: this.#previousEnd };
  }

  #items(close: string): Expression[] {
    return this.#nested(() => {
      const items: Expression[] = [];
      while (this.take(close) === undefined) {
        if (items.length > 0) {
          this.expect(",");
          if (this.take(close) !== undefined) break;
        }
        items.push(this.#conditional());
      }
      return items;
    });
  }

  #dict(start: number): Expression {
    return this.#nested(() => {
      const entries: { key: Expression; value: Expression }[] = [];
      while (this.take("}") === undefined) {
        if (entries.length > 0) {
          this.expect(",");
          if (this.take("}") !== undefined) break;
        }
        const key = this.#conditional();
        this.expect(":");
        entries.push({ key, value: this.#conditional() });
      }
      return { kind: "dict", entries, start, end: this.#previousEnd };
    });
  }

  get #previousEnd(): number {
    return this.#tokens[this.#at - 1]?.end ?? 0;
  }

  /** Whether the next token is this operator, or the end. */
  #isAt(text: string): boolean {
    const token = this.current;
    return token.kind === "end" ? text === "end" : token.kind === "operator" && token.text === text;
  }

  #peek(ahead: number): Token {
    const last = this.#tokens.at(-1);
    const token = this.#tokens[this.#at + ahead] ?? last;
    if (token === undefined) throw new TypeError("a list of tokens ends with `end`");
    return token;
  }

  #nested<T>(parse: () => T): T {
    if (++this.#depth > EXPRESSION_LIMITS.depthMax) this.#tooDeep();
    const made = parse();
    this.#depth--;
    return made;
  }

  /** A chain of operators is a tree as deep as it is long. */
  #countOperator(): void {
    if (++this.#operators > EXPRESSION_LIMITS.operatorsMax)
      throw new ExpressionError(
        "X005",
        `more than ${EXPRESSION_LIMITS.operatorsMax} operators in one expression`,
        this.current,
      );
  }

  #tooDeep(): never {
    throw new ExpressionError("X005", `an expression nested deeper than ${EXPRESSION_LIMITS.depthMax}`, this.current);
  }

  #unexpected(expected: string, hint?: string): never {
    const { kind, text } = this.current;
    const found = kind === "end" ? "the end" : JSON.stringify(text);
    throw new ExpressionError("X001", `${expected}, found ${found}`, this.current, hint);
  }
}
