// Records in a SQLite file of their own. One connection writes, a transaction after the other; another reads beside it.
//
// E1  Whoever writes waits its turn: a transaction is never in the way of another.
// E2  Reads outside of a transaction see what has been committed.

import { AsyncLocalStorage } from "node:async_hooks";
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import {
  type Errno,
  KernelError,
  LIMITS,
  type RecordRow,
  type RecordSession,
  type RecordStore,
  type RecordValue,
} from "@ergos/kernel";
import { Turn, assertOutside, assertParameters, closedError, tooManyRows, withParameters } from "./statement.ts";

export interface SqliteRecordsOptions {
  /** The file; made if it is absent. */
  readonly file: string;
  /** Milliseconds that a statement waits for another process that writes (default 5 s). */
  readonly busyMs?: number;
}

/** Result codes of SQLite, by their low byte unless whole. */
const CONSTRAINT_UNIQUE: ReadonlySet<number> = new Set([1555, 2067]);
const CODES = new Map<number, Errno>([
  [1, "EINVAL"],
  [5, "EAGAIN"],
  [6, "EAGAIN"],
  [8, "EROFS"],
  [11, "ECORRUPT"],
  [13, "ENOSPC"],
  [18, "E2BIG"],
  [19, "EINVAL"],
  [20, "EINVAL"],
  [25, "EINVAL"],
  [26, "ECORRUPT"],
]);

export class SqliteRecordStore implements RecordStore {
  readonly features = {
    dialect: "sqlite",
    types: { bytes: "BLOB", integer: "INTEGER", real: "REAL", text: "TEXT" },
  } as const;
  readonly #writer: DatabaseSync;
  readonly #reader: DatabaseSync;
  /** The last of those that write. */
  #turn: Promise<unknown> = Promise.resolve();
  #isClosed = false;
  /** The transaction that code runs inside of, or that has started it. */
  readonly #inside = new AsyncLocalStorage<Turn>();

  /** @throws {ECORRUPT} it is no database */
  constructor({ file, busyMs = 5000 }: SqliteRecordsOptions) {
    const open = (): DatabaseSync => {
      const db = new DatabaseSync(file, { timeout: busyMs });
      try {
        db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON");
        return db;
      } catch (error) {
        db.close();
        throw translate(error);
      }
    };
    this.#writer = open();
    this.#reader = open();
    this.#reader.exec("PRAGMA query_only = ON");
  }

  async query(sql: string, params: readonly RecordValue[] = []): Promise<readonly RecordRow[]> {
    this.#assertOpen();
    try {
      return ask(this.#reader, sql, params);
    } catch (error) {
      // What changes something and tells of it, as with RETURNING.
      if (error instanceof KernelError && error.code === "EROFS")
        return this.#alone(() => this.#session.query(sql, params));
      throw error;
    }
  }

  async execute(sql: string, params: readonly RecordValue[] = []): Promise<{ readonly changes: number }> {
    return this.#alone(() => this.#session.execute(sql, params));
  }

  transaction<T>(work: (session: RecordSession) => Promise<T>): Promise<T> {
    const turn = new Turn();
    return this.#alone(async () => {
      this.#do("BEGIN IMMEDIATE");
      try {
        const value = await this.#inside.run(turn, () => turn.run(this.#session, work));
        if (turn.refusal !== undefined) throw turn.refusal;
        this.#do("COMMIT");
        return value;
      } catch (error) {
        if (this.#writer.isTransaction) this.#do("ROLLBACK");
        throw error;
      }
    });
  }

  #do(sql: string): void {
    try {
      this.#writer.exec(sql);
    } catch (error) {
      throw translate(error);
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#turn;
    this.#reader.close();
    this.#writer.close();
  }

  async #alone<T>(work: () => Promise<T>): Promise<T> {
    assertOutside(this.#inside.getStore());
    const turn = this.#turn.then(() => {
      this.#assertOpen();
      return work();
    });
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  readonly #session: RecordSession = {
    query: async (sql, params = []) => ask(this.#writer, sql, params),
    execute: async (sql, params = []) => {
      try {
        const { statement, values } = prepare(this.#writer, sql, params);
        return { changes: Number(statement.run(...values).changes) };
      } catch (error) {
        throw translate(error);
      }
    },
  };

  #assertOpen(): void {
    if (this.#isClosed) throw closedError();
  }
}

function prepare(db: DatabaseSync, sql: string, params: readonly RecordValue[]) {
  const { sql: plain, count } = withParameters(sql, () => "?");
  assertParameters(count, params.length);
  // Its values are those of the contract.
  return { statement: db.prepare(plain), values: params as readonly SQLInputValue[] };
}

function ask(db: DatabaseSync, sql: string, params: readonly RecordValue[]): readonly RecordRow[] {
  try {
    const { statement, values } = prepare(db, sql, params);
    const rows: RecordRow[] = [];
    for (const row of statement.iterate(...values)) {
      rows.push({ ...(row as RecordRow) });
      if (rows.length > LIMITS.recordRowsMax) throw tooManyRows();
    }
    return rows;
  } catch (error) {
    throw translate(error);
  }
}

function translate(error: unknown): KernelError {
  if (error instanceof KernelError) return error;
  const { errcode, code, message = "" } = (error ?? {}) as { errcode?: number; code?: string; message?: string };
  if (code === "ERR_OUT_OF_RANGE" || code?.startsWith("ERR_INVALID") === true)
    return new KernelError("EINVAL", `a value that the database, or JavaScript, does not have: ${message}`, {
      cause: error,
    });
  if (errcode === undefined) return new KernelError("EIO", `the record store failed: ${message}`, { cause: error });
  const known = CONSTRAINT_UNIQUE.has(errcode) ? "EEXIST" : (CODES.get(errcode & 0xff) ?? "EIO");
  return new KernelError(known, `the record store refuses it: ${message}`, { cause: error });
}
