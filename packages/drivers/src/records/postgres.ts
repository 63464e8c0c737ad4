// Records in PostgreSQL, by the package `pg`, which is installed beside ErgOS by who wants it.
//
// E1  A transaction is serialisable: one that was in the way of another is done again, a while later.
// E2  Replicas answer queries that may be a little behind, in turn; where none is left the primary does.

import { AsyncLocalStorage } from "node:async_hooks";
import { setTimeout as delay } from "node:timers/promises";
import {
  type Errno,
  KernelError,
  LIMITS,
  type RecordQueryOptions,
  type RecordRow,
  type RecordSession,
  type RecordStore,
  type RecordValue,
} from "@ergos/kernel";
import type { Pool, PoolClient, Query } from "pg";
import { Turn, assertOutside, assertParameters, closedError, tooManyRows, withParameters } from "./statement.ts";

export interface PostgresRecordsOptions {
  /** As `postgresql://user:password@host:5432/database`. */
  readonly url: string;
  readonly replicas?: readonly string[];
  /** Connections to each server (default 8). */
  readonly connections?: number;
  /** Milliseconds of one statement (default 30 s). */
  readonly statementMs?: number;
  /** Milliseconds until a call has a connection, its turn among those who wait for one included (default 30 s). */
  readonly connectMs?: number;
  /** How often a transaction is tried (default 8). */
  readonly attempts?: number;
}

/** Classes and codes of SQLSTATE, codes of the system. */
const CODES: readonly (readonly [RegExp, Errno])[] = [
  [/^23505$/, "EEXIST"],
  [/^23/, "EINVAL"],
  [/^42501$|^28/, "EACCES"],
  [/^(?:22|42|0A|26)/, "EINVAL"],
  [/^57014$/, "ETIMEDOUT"],
  [/^(?:40|53|55|57)/, "EAGAIN"],
  [/^08/, "ECONNRESET"],
  [/^ECONNREFUSED|^ENOTFOUND|^EAI_AGAIN/, "ECONNREFUSED"],
  [/^ECONNRESET|^EPIPE/, "ECONNRESET"],
  [/^ETIMEDOUT/, "ETIMEDOUT"],
  // The client's own have no code, but words.
  [/timeout/, "ETIMEDOUT"],
  [/^Connection terminated|connection error/, "ECONNRESET"],
];
/** Of an error that a transaction done again may not have. */
const IS_PASSING = /^40(?:001|P01)$/;

export class PostgresRecordStore implements RecordStore {
  readonly features = {
    dialect: "postgres",
    types: { bytes: "BYTEA", integer: "BIGINT", real: "DOUBLE PRECISION", text: "TEXT" },
  } as const;
  readonly #primary: Pool;
  readonly #replicas: readonly Pool[];
  readonly #attempts: number;
  readonly #inside = new AsyncLocalStorage<Turn>();
  #next = 0;
  #closing: Promise<void> | undefined;

  readonly #Query: typeof Query;

  private constructor(primary: Pool, replicas: readonly Pool[], attempts: number, query: typeof Query) {
    this.#Query = query;
    this.#primary = primary;
    this.#replicas = replicas;
    this.#attempts = attempts;
  }

  /**
   * Connects, and sees that the server answers.
   * @throws {ENOTSUP} the package is not installed · {ECONNREFUSED} nobody answers · {EACCES} one who does refuses
   */
  static async open(options: PostgresRecordsOptions): Promise<PostgresRecordStore> {
    const pg = await import("pg").catch((cause: unknown) => {
      throw new KernelError("ENOTSUP", "PostgreSQL needs the package pg: npm install pg", { cause });
    });
    const { connections = 8, statementMs = 30_000, connectMs = 30_000, attempts = 8, url, replicas = [] } = options;
    const poolOf = (connectionString: string): Pool => {
      const pool = new pg.default.Pool({
        connectionString,
        max: connections,
        statement_timeout: statementMs,
        connectionTimeoutMillis: connectMs,
        types: { getTypeParser: (oid: number) => PARSERS[oid] ?? String },
      });
      // A connection has ended: whoever uses it hears that by its call, and the next one is new.
      pool.on("error", () => undefined);
      pool.on("connect", (client) => void client.on("error", () => undefined));
      return pool;
    };
    const store = new PostgresRecordStore(poolOf(url), replicas.map(poolOf), attempts, pg.default.Query);
    try {
      await store.query("SELECT 1");
      return store;
    } catch (error) {
      await store.close();
      throw error;
    }
  }

  async query(
    sql: string,
    params: readonly RecordValue[] = [],
    { from = "primary" }: RecordQueryOptions = {},
  ): Promise<readonly RecordRow[]> {
    if (from === "replica" && this.#replicas.length > 0) {
      const replica = this.#replicas[this.#next++ % this.#replicas.length];
      try {
        return await this.#on(replica, (session) => session.query(sql, params));
      } catch (error) {
        // Whoever is not there cannot answer; what it refuses the primary refuses too.
        if (!(error instanceof KernelError) || !/^ECONN|^ETIMEDOUT|^EAGAIN/.test(error.code)) throw error;
      }
    }
    return this.#on(this.#primary, (session) => session.query(sql, params));
  }

  execute(sql: string, params: readonly RecordValue[] = []): Promise<{ readonly changes: number }> {
    return this.#on(this.#primary, (session) => session.execute(sql, params));
  }

  async transaction<T>(work: (session: RecordSession) => Promise<T>): Promise<T> {
    assertOutside(this.#inside.getStore());
    for (let attempt = 1; ; attempt++) {
      const turn = new Turn();
      try {
        return await this.#once(turn, work);
      } catch (error) {
        // Whatever its function has made of that.
        if (!isPassing(turn.refusal ?? error) || attempt >= this.#attempts) throw error;
        await delay(Math.random() * 2 ** attempt * 2);
      }
    }
  }

  #once<T>(turn: Turn, work: (session: RecordSession) => Promise<T>): Promise<T> {
    return this.#on(this.#primary, async (session, client) => {
      const say = (sql: string): Promise<{ readonly command: string }> =>
        client.query(sql).catch((error: unknown) => {
          throw translate(error);
        });
      await say("BEGIN ISOLATION LEVEL SERIALIZABLE");
      try {
        const value = await this.#inside.run(turn, () => turn.run(session, work));
        if (turn.refusal !== undefined) throw turn.refusal;
        // That nothing is done is no error to the server, when a statement has failed that nobody has waited for.
        if ((await say("COMMIT")).command === "COMMIT") return value;
        throw turn.refusal ?? new KernelError("EINVAL", "a statement of the transaction was refused: nothing is done");
      } catch (error) {
        if (!isFlood(turn.refusal ?? error)) await client.query("ROLLBACK").catch(() => undefined);
        throw error;
      }
    });
  }

  close(): Promise<void> {
    this.#closing ??= Promise.all([this.#primary, ...this.#replicas].map((pool) => pool.end())).then(() => undefined);
    return this.#closing;
  }

  async #on<T>(pool: Pool | undefined, work: (session: RecordSession, client: PoolClient) => Promise<T>): Promise<T> {
    if (this.#closing !== undefined || pool === undefined) throw closedError();
    const client = await pool.connect().catch((error: unknown) => {
      throw translate(error);
    });
    let isFlooded = false;
    try {
      const session = sessionOf(client, this.#Query, () => (isFlooded = true));
      return await work(session, client);
    } finally {
      // What still comes over a connection ends with it.
      client.release(isFlooded);
    }
  }
}

const isFlood = (error: unknown): boolean => error instanceof KernelError && error.code === "E2BIG";

const isPassing = (error: unknown): boolean => {
  const { code } = ((error as Error | undefined)?.cause ?? {}) as { readonly code?: unknown };
  return error instanceof KernelError && typeof code === "string" && IS_PASSING.test(code);
};

/** @param flooded hears that more comes over the connection than anybody reads */
function sessionOf(client: PoolClient, make: typeof Query, flooded: () => void): RecordSession {
  const ask = async (sql: string, params: readonly RecordValue[]): Promise<{ rows: RecordRow[]; changes: number }> => {
    const { sql: text, count } = withParameters(sql, (number) => `$${number}`);
    assertParameters(count, params.length);
    return new Promise((resolve, reject) => {
      const rows: RecordRow[] = [];
      const query = new make<RecordRow>({ text, values: [...params] });
      // With a listener the package itself keeps none.
      query.on("row", (row) => {
        if (rows.push(row) <= LIMITS.recordRowsMax) return;
        flooded();
        reject(tooManyRows());
      });
      query.on("end", ({ rowCount }) => resolve({ rows, changes: rowCount ?? 0 }));
      query.on("error", (error) => reject(translate(error)));
      client.query(query);
    });
  };
  return {
    query: async (sql, params = []) => (await ask(sql, params)).rows,
    execute: async (sql, params = []) => ({ changes: (await ask(sql, params)).changes }),
  };
}

/** Values by the type that PostgreSQL names; of any other its text. */
const PARSERS: Readonly<Record<number, (text: string) => RecordValue>> = {
  16: (text) => (text === "t" ? 1 : 0),
  17: (text) => Uint8Array.from(Buffer.from(text.slice(2), "hex")),
  20: integer,
  21: integer,
  23: integer,
  700: Number,
  701: Number,
};

function integer(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value)) return value;
  throw new KernelError("EINVAL", `${text} is larger than a number of JavaScript; ask for it as text`);
}

function translate(error: unknown): KernelError {
  if (error instanceof KernelError) return error;
  const { code = "", message = "" } = (error ?? {}) as { readonly code?: string; readonly message?: string };
  const known = CODES.find(([pattern]) => pattern.test(code || message))?.[1] ?? "EIO";
  return new KernelError(known, `the record store refuses it: ${message}`, { cause: error });
}
