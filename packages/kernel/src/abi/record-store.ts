// Relational data, for services: tables of their own, asked in SQL. Nothing of the kernel is in it.

/** Truth is 0 and 1, an instant is milliseconds or a text: what every database has. */
export type RecordValue = string | number | null | Uint8Array;
export type RecordRow = Readonly<Record<string, RecordValue>>;

/**
 * Where statements are done: the store itself, each for itself, or a transaction. `?` stands for each parameter in turn.
 * A call is one statement, and none that begins or ends a transaction.
 */
export interface RecordSession {
  /**
   * Rows of a statement, at most `LIMITS.recordRowsMax`.
   * @throws {EINVAL} the statement is wrong, or what it would store may not be, or a number is none of
   * JavaScript's · {EEXIST} a key is there already · {E2BIG} too many rows · {ERANGE} a number that is none of JavaScript's
   */
  query(sql: string, params?: readonly RecordValue[], options?: RecordQueryOptions): Promise<readonly RecordRow[]>;
  /** Does a statement and tells how many rows it has changed. */
  execute(sql: string, params?: readonly RecordValue[]): Promise<{ readonly changes: number }>;
}

export interface RecordQueryOptions {
  /** `replica`: a copy that may be a little behind answers, where there is one (default `primary`). */
  readonly from?: "primary" | "replica";
}

export interface RecordStoreFeatures {
  readonly dialect: "sqlite" | "postgres";
  /** What the columns of some values are called. */
  readonly types: { readonly bytes: string; readonly integer: string; readonly real: string; readonly text: string };
}

export interface RecordStore extends RecordSession {
  readonly features: RecordStoreFeatures;
  /**
   * Does several statements, all of them or none, as if nobody else did anything meanwhile. Where that cannot be it is done
   * again, from its beginning: `work` changes nothing but this store. Its session is over with it.
   * @throws what `work` throws, or why a statement of it was refused, also where `work` has caught that · {EAGAIN} others were in the way again and again · {EDEADLK} it waits for itself
   */
  transaction<T>(work: (session: RecordSession) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}
