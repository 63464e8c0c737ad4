// The tree of an expression. Every node knows its range in the text.

export interface Range {
  readonly start: number;
  readonly end: number;
}

export type BinaryOperator = "+" | "-" | "*" | "/" | "//" | "%" | "**" | "~";
export type CompareOperator = "==" | "!=" | "<" | ">" | "<=" | ">=" | "in" | "not in";

export interface Keyword {
  readonly name: string;
  readonly value: Expression;
}

export type Expression = Range &
  (
    | { readonly kind: "literal"; readonly value: string | number | boolean | null }
    | { readonly kind: "name"; readonly name: string }
    | { readonly kind: "member"; readonly object: Expression; readonly name: string }
    | { readonly kind: "index"; readonly object: Expression; readonly key: Expression }
    | {
        readonly kind: "slice";
        readonly object: Expression;
        readonly from: Expression | undefined;
        readonly to: Expression | undefined;
        readonly step: Expression | undefined;
      }
    | {
        readonly kind: "call";
        readonly callee: Expression;
        readonly args: readonly Expression[];
        readonly keywords: readonly Keyword[];
      }
    | {
        readonly kind: "filter";
        /** Absent in a `{% filter %}` block, whose input is the block. */
        readonly input: Expression | undefined;
        readonly name: string;
        readonly args: readonly Expression[];
        readonly keywords: readonly Keyword[];
      }
    | {
        readonly kind: "test";
        readonly input: Expression;
        readonly name: string;
        readonly args: readonly Expression[];
        readonly negated: boolean;
      }
    | { readonly kind: "not" | "negative" | "positive"; readonly operand: Expression }
    | {
        readonly kind: "binary";
        readonly operator: BinaryOperator;
        readonly left: Expression;
        readonly right: Expression;
      }
    | { readonly kind: "and" | "or"; readonly left: Expression; readonly right: Expression }
    | {
        readonly kind: "compare";
        readonly first: Expression;
        readonly rest: readonly { readonly operator: CompareOperator; readonly operand: Expression }[];
      }
    | {
        readonly kind: "conditional";
        readonly condition: Expression;
        readonly consequent: Expression;
        readonly otherwise: Expression | undefined;
      }
    | { readonly kind: "list"; readonly items: readonly Expression[] }
    | {
        readonly kind: "dict";
        readonly entries: readonly { readonly key: Expression; readonly value: Expression }[];
      }
  );

/** The target of `for` and `set`: names, nested for unpacking, or a field of a namespace. */
export type AssignTarget = Range &
  (
    | { readonly kind: "name"; readonly name: string }
    | { readonly kind: "field"; readonly object: string; readonly name: string }
    | { readonly kind: "tuple"; readonly items: readonly AssignTarget[] }
  );

export type TemplateNode = Range &
  (
    | { readonly kind: "text"; readonly text: string }
    | { readonly kind: "output"; readonly value: Expression }
    | {
        readonly kind: "if";
        readonly branches: readonly { readonly condition: Expression; readonly body: Template }[];
        readonly otherwise: Template;
      }
    | {
        readonly kind: "for";
        readonly target: AssignTarget;
        readonly items: Expression;
        readonly filter: Expression | undefined;
        readonly body: Template;
        readonly otherwise: Template;
      }
    | { readonly kind: "set"; readonly target: AssignTarget; readonly value: Expression }
    | {
        readonly kind: "set-block";
        readonly target: AssignTarget;
        readonly filter: Expression | undefined;
        readonly body: Template;
      }
    | {
        readonly kind: "with";
        readonly bindings: readonly { readonly target: AssignTarget; readonly value: Expression }[];
        readonly body: Template;
      }
    | { readonly kind: "filter-block"; readonly filter: Expression; readonly body: Template }
  );

export type Template = readonly TemplateNode[];
