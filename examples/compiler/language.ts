// The language that the team compiles: assignments and `print` over whole numbers, for a machine with a stack.

export interface Token {
  readonly kind: "number" | "name" | "sign";
  readonly text: string;
  readonly line: number;
}

export type Expression =
  | { readonly kind: "number"; readonly value: number }
  | { readonly kind: "name"; readonly name: string; readonly line: number }
  | { readonly kind: "binary"; readonly sign: string; readonly left: Expression; readonly right: Expression };

export type Statement =
  | { readonly kind: "let"; readonly name: string; readonly value: Expression }
  | { readonly kind: "print"; readonly value: Expression };

export type Instruction =
  | readonly ["push", number]
  | readonly ["load" | "store" | "apply", string]
  | readonly ["print"];

export function lex(source: string): readonly Token[] {
  return source.split("\n").flatMap((text, at) =>
    Array.from(text.matchAll(/\s*(?:(\d+)|([a-z]\w*)|(\S))/g), ([, number, name, sign]): Token => {
      const line = at + 1;
      if (number !== undefined) return { kind: "number", text: number, line };
      if (name !== undefined) return { kind: "name", text: name, line };
      return { kind: "sign", text: sign ?? "", line };
    }),
  );
}

const RANKS: Readonly<Record<string, number>> = { "+": 1, "-": 1, "*": 2, "/": 2 };

/** @throws {SyntaxError} with the line at which it stops */
export function parse(tokens: readonly Token[]): readonly Statement[] {
  let at = 0;
  const take = (wanted?: string): Token => {
    const token = tokens[at++];
    if (token !== undefined && (wanted === undefined || token.text === wanted)) return token;
    throw new SyntaxError(`line ${tokens[Math.min(at, tokens.length) - 1]?.line ?? 1}: expected ${wanted ?? "more"}`);
  };
  const atom = (): Expression => {
    const { kind, text, line } = take();
    if (kind === "number") return { kind, value: Number(text) };
    if (kind === "name") return { kind, name: text, line };
    if (text !== "(") throw new SyntaxError(`line ${line}: ${text} is no expression`);
    const inner = expression(1);
    take(")");
    return inner;
  };
  const expression = (rank: number): Expression => {
    let left = atom();
    for (;;) {
      const sign = tokens[at]?.text ?? "";
      const own = RANKS[sign];
      if (own === undefined || own < rank) return left;
      at++;
      left = { kind: "binary", sign, left, right: expression(own + 1) };
    }
  };
  const statements: Statement[] = [];
  while (at < tokens.length) {
    const { text, line } = take();
    if (text === "print") statements.push({ kind: "print", value: expression(1) });
    else if (text === "let") {
      const { text: name } = take();
      take("=");
      statements.push({ kind: "let", name, value: expression(1) });
    } else throw new SyntaxError(`line ${line}: a statement begins with let or print, not with ${text}`);
  }
  return statements;
}

/** What is wrong with a program, a line each. */
export function check(program: readonly Statement[]): readonly string[] {
  const known = new Set<string>();
  const faults: string[] = [];
  const visit = (expression: Expression): void => {
    if (expression.kind === "name" && !known.has(expression.name))
      faults.push(`line ${expression.line}: ${expression.name} has no value`);
    if (expression.kind !== "binary") return;
    visit(expression.left);
    visit(expression.right);
  };
  for (const statement of program) {
    visit(statement.value);
    if (statement.kind === "let") known.add(statement.name);
  }
  return faults;
}

const apply = (sign: string, left: number, right: number): number => {
  if (sign === "+") return left + right;
  if (sign === "-") return left - right;
  if (sign === "*") return left * right;
  if (right === 0) throw new RangeError("division by zero");
  return Math.trunc(left / right);
};

/** Computes what is known before the program runs. */
export function fold(program: readonly Statement[]): readonly Statement[] {
  const reduce = (expression: Expression): Expression => {
    if (expression.kind !== "binary") return expression;
    const [left, right] = [reduce(expression.left), reduce(expression.right)];
    const { sign } = expression;
    const isKnown = left.kind === "number" && right.kind === "number" && (sign !== "/" || right.value !== 0);
    return isKnown ? { kind: "number", value: apply(sign, left.value, right.value) } : { ...expression, left, right };
  };
  return program.map((statement) => ({ ...statement, value: reduce(statement.value) }));
}

export function emit(program: readonly Statement[]): readonly Instruction[] {
  const valueOf = (expression: Expression): readonly Instruction[] => {
    if (expression.kind === "number") return [["push", expression.value]];
    if (expression.kind === "name") return [["load", expression.name]];
    return [...valueOf(expression.left), ...valueOf(expression.right), ["apply", expression.sign]];
  };
  return program.flatMap((statement): readonly Instruction[] => [
    ...valueOf(statement.value),
    statement.kind === "let" ? ["store", statement.name] : ["print"],
  ]);
}

/** What a program prints. */
export function execute(code: readonly Instruction[]): readonly number[] {
  const stack: number[] = [];
  const names = new Map<string, number>();
  const printed: number[] = [];
  const pop = (): number => stack.pop() ?? 0;
  for (const [name, of] of code) {
    if (name === "push") stack.push(of);
    else if (name === "load") stack.push(names.get(of) ?? 0);
    else if (name === "store") names.set(of, pop());
    else if (name === "print") printed.push(pop());
    else {
      const right = pop();
      stack.push(apply(of, pop(), right));
    }
  }
  return printed;
}
