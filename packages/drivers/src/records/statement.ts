// What both drivers of relational stores share.

import { KernelError, LIMITS, type RecordSession } from "@ergos/kernel";

/** Texts, names, comments and dollar-quoted texts, in which a `?` is only that. */
const OPAQUE = /'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\/\*[\s\S]*?\*\/|\$(\w*)\$[\s\S]*?\$\1\$|\?/g;

const OWN_TRANSACTION = /^\s*(?:begin|start\s+transaction|commit|end|rollback|abort|savepoint|release)\b/i;
/** Functions and triggers have statements within. */
const HAS_BODY = /^\s*create\b[\s\S]*\bbegin\b/i;

/**
 * The statement with its parameters named by `write`, and how many there are.
 * @throws {EINVAL} it is more than one, or begins or ends a transaction
 */
export function withParameters(
  sql: string,
  write: (number: number) => string,
): { readonly sql: string; readonly count: number } {
  const bare = sql.replace(OPAQUE, " ");
  if (OWN_TRANSACTION.test(bare))
    throw new KernelError("EINVAL", "transactions are made by `transaction`, which gives its function a session");
  if (/;[^]*\S/.test(bare) && !HAS_BODY.test(bare))
    throw new KernelError("EINVAL", "a call does one statement; do several one after the other, or in a transaction");
  let count = 0;
  const written = sql.replace(OPAQUE, (part) => (part === "?" ? write(++count) : part));
  return { sql: written, count };
}

/** @throws {EINVAL} there are fewer, or more, than the statement has places for */
export function assertParameters(wanted: number, given: number): void {
  if (wanted !== given)
    throw new KernelError("EINVAL", `the statement has ${wanted} parameters, ${given} values were given`);
}

/**
 * One transaction as its function sees it: the session is over with it, and nothing is done by it once a statement was
 * refused. Databases differ in that; what holds for all is that a transaction is whole or nothing.
 */
export class Turn {
  isOpen = true;
  /** Why the first of its statements was refused. */
  refusal: unknown;

  session(inner: RecordSession): RecordSession {
    const within = async <T>(ask: () => Promise<T>): Promise<T> => {
      if (!this.isOpen)
        throw new KernelError("EINVAL", "the transaction of this session is over; await what is done in it");
      if (this.refusal !== undefined) throw this.refusal;
      try {
        return await ask();
      } catch (error) {
        this.refusal ??= error;
        throw error;
      }
    };
    return {
      query: (sql, params) => within(() => inner.query(sql, params)),
      execute: (sql, params) => within(() => inner.execute(sql, params)),
    };
  }

  /** Lets its function do its work. @throws what that throws, or why a statement of it was refused */
  async run<T>(inner: RecordSession, work: (session: RecordSession) => Promise<T>): Promise<T> {
    try {
      return await work(this.session(inner));
    } finally {
      this.isOpen = false;
    }
  }
}

/** @throws {EDEADLK} it would wait for the transaction that it is in */
export function assertOutside(turn: Turn | undefined): void {
  if (turn?.isOpen === true)
    throw new KernelError("EDEADLK", "a transaction is under way here; do it by the session that its function gets");
}

export const tooManyRows = (): KernelError =>
  new KernelError("E2BIG", `a query gives at most ${LIMITS.recordRowsMax} rows; ask for fewer, with LIMIT`);

export const closedError = (): KernelError => new KernelError("EIO", "the record store is closed");
