// What goes wrong in an expression: a code, a range in its text, and what to do about it.
//
// Parsing and evaluating throw nothing else. Who calls them turns it into a diagnostic (positions in the
// file) or an error of the run (the expression beside the message).

export const EXPRESSION_CODES = ["X001", "X002", "X003", "X004", "X005", "X006", "X007"] as const;
/** X001 syntax · X002 unknown name · X003 wrong type · X004 unknown filter, test or function · X005 bound · X006 refused · X007 arithmetic */
export type ExpressionCode = (typeof EXPRESSION_CODES)[number];

export class ExpressionError extends Error {
  readonly code: ExpressionCode;
  readonly hint: string | undefined;
  /** Offsets in the text of the expression or template. */
  readonly start: number;
  readonly end: number;

  constructor(
    code: ExpressionCode,
    message: string,
    at: { readonly start: number; readonly end: number },
    hint?: string,
  ) {
    super(message);
    this.name = "ExpressionError";
    this.code = code;
    this.hint = hint;
    this.start = at.start;
    this.end = at.end;
  }
}
