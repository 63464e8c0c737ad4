// The heart of a zone: an ordered log of commits, and the sorted map and the logs that follow from it.
//
// M1  A commit happens entirely or not at all, at one position in one order.
// M2  The version of a key is the position of the commit that last wrote it; 0 when it is absent.
// M3  What survives any crash is a prefix of the order: every `committed` commit after the death of the
//     process, every `flushed` one after the loss of power.
// M4  Commits are decided in the order of their calls, also those that wait for room.
// M5  A failed check or bound rejects its own commit alone; a failed write or sync rejects everything
//     pending and everything later with EIO.

import type { Seq } from "../base/id.ts";

/** JSON text or raw bytes. A text stays a text. */
export type Value = string | Uint8Array;

export interface Entry {
  readonly key: string;
  readonly value: Value;
  readonly version: Seq;
}

export interface LogEntry {
  /** Position of the commit that appended it; several appends of one commit share it, in order. */
  readonly seq: Seq;
  readonly value: Value;
}

/**
 * One atomic change. Keys are well-formed strings below U+D800, without NUL, ordered by code unit.
 * A key stands in at most one of `puts`, `deletes` and `adds`.
 */
export interface Batch {
  /** Versions that must still hold; 0 means the key must be absent. */
  readonly checks?: readonly { readonly key: string; readonly version: Seq }[];
  readonly puts?: readonly { readonly key: string; readonly value: Value }[];
  readonly deletes?: readonly string[];
  /**
   * Bounded counters, absent = 0, stored as decimal text. They commute: one is refused only when the
   * result would be below 0 or above `max`.
   */
  readonly adds?: readonly { readonly key: string; readonly delta: number; readonly max: number }[];
  /** Entries for logs, never overwritten. */
  readonly appends?: readonly { readonly log: string; readonly value: Value }[];
  /** Retention: forget the entries of a log up to and including a position. */
  readonly trims?: readonly { readonly log: string; readonly through: Seq }[];
}

export interface Receipt {
  readonly seq: Seq;
  /** Settles when this commit and all before it survive a loss of power. Asking for it causes a flush. */
  readonly flushed: Promise<void>;
}

export interface CommitRecord {
  readonly seq: Seq;
  /** What was written, after the decision: counters appear as puts of their new value. */
  readonly puts: readonly { readonly key: string; readonly value: Value }[];
  readonly deletes: readonly string[];
  readonly appends: readonly { readonly log: string; readonly value: Value }[];
  readonly trims: readonly { readonly log: string; readonly through: Seq }[];
}

export interface Range {
  /** First key, inclusive. */
  readonly from: string;
  /** First key beyond the range. */
  readonly to: string;
}

export interface MetastoreFeatures {
  /** Whether `flushed` survives a loss of power, or only the end of the process, or nothing. */
  readonly durability: "power" | "process" | "none";
}

export interface Metastore {
  readonly features: MetastoreFeatures;
  /** Position of the newest decided commit. */
  readonly seq: Seq;
  get(key: string): Promise<Entry | undefined>;
  /** One page of a range in key order, at most `limit` entries. */
  scan(range: Range, options: { readonly limit: number; readonly reverse?: boolean }): Promise<readonly Entry[]>;
  /**
   * One page of a log after a position: at least one whole commit, about `limit` entries.
   * @throws {ESTALE} entries after `after` have been trimmed
   */
  readLog(log: string, options: { readonly after: Seq; readonly limit: number }): Promise<readonly LogEntry[]>;
  /**
   * Commits after a position, about `limit` of them.
   * @throws {ESTALE} the position is older than what is kept
   */
  tail(after: Seq, options: { readonly limit: number }): Promise<readonly CommitRecord[]>;
  /**
   * Decides and writes one batch; resolves once it is committed.
   * @throws {EAGAIN} a check failed
   * @throws {EDQUOT} a counter would leave its bounds
   * @throws {E2BIG} more operations or bytes than one commit may carry, or a longer key than every store can hold
   * @throws {EIO} the store is poisoned or closed
   */
  commit(batch: Batch): Promise<Receipt>;
  /** Makes everything committed so far survive a loss of power. */
  flush(): Promise<void>;
  /** Flushes, then releases everything; idempotent. */
  close(): Promise<void>;
}
