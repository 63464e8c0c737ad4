// Bounds of expressions and templates. Reaching one is X005.

export const EXPRESSION_LIMITS = {
  /** Characters of one expression or template. */
  sourceMax: 1024 * 1024,
  /** Nesting of a tree. */
  depthMax: 100,
  /** Operators of one expression; a chain of them is as deep as it is long. */
  operatorsMax: 2000,
  /** Tokens of one text. */
  tokensMax: 200_000,
  /** Nodes visited and items touched by one evaluation. */
  stepsMax: 1_000_000,
  /** Characters of a text and items of a list that an evaluation makes, in all. */
  sizeMax: 16 * 1024 * 1024,
} as const;
