// What both drivers of relational stores share.

import { KernelError, LIMITS } from "@ergos/kernel";

/** Texts, names, comments and dollar-quoted texts, in which a `?` is only that. */
const OPAQUE = /'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\/\*[\s\S]*?\*\/|\$(\w*)\$[\s\S]*?\$\1\$|\?/g;

/** The statement with its parameters named by `write`, and how many there are. */
export function withParameters(
  sql: string,
  write: (number: number) => string,
): { readonly sql: string; readonly count: number } {
  let count = 0;
  const written = sql.replace(OPAQUE, (part) => (part === "?" ? write(++count) : part));
  return { sql: written, count };
}

/** @throws {EINVAL} there are fewer, or more, than the statement has places for */
export function assertParameters(wanted: number, given: number): void {
  if (wanted !== given)
    throw new KernelError("EINVAL", `the statement has ${wanted} parameters, ${given} values were given`);
}

export const tooManyRows = (): KernelError =>
  new KernelError("E2BIG", `a query gives at most ${LIMITS.recordRowsMax} rows; ask for fewer, with LIMIT`);

export const closedError = (): KernelError => new KernelError("EIO", "the record store is closed");
