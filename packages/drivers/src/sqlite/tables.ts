// The tables behind the log: prepared statements over one connection.
//
// groups   the log: one row a group, named by its last commit
// entries  the map, as far as it is folded
// segments logs, as far as they are folded: some hundred entries of one fold in a row
// trims    positions up to which a log was trimmed
// meta     the format, and the position up to which the log is folded (`folded`)

import { DatabaseSync, type StatementSync } from "node:sqlite";
import { type Entry, KernelError, type LogEntry, type Range, type Seq, type Value, toSeq } from "@ergos/kernel";
import { newerFormat } from "./group.ts";

const FORMAT = 1;

/** A segment ends behind the commit that reaches one of these. */
const SEGMENT_ENTRIES = 256;
const SEGMENT_BYTES = 256 * 1024;

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS groups(seq INTEGER PRIMARY KEY, head TEXT NOT NULL, body BLOB);
  CREATE TABLE IF NOT EXISTS entries(key TEXT PRIMARY KEY, version INTEGER NOT NULL, value BLOB) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS segments(log TEXT, first INTEGER, last INTEGER NOT NULL, head TEXT NOT NULL, body BLOB, PRIMARY KEY(log, first)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS trims(log TEXT PRIMARY KEY, through INTEGER NOT NULL) WITHOUT ROWID;
`;

interface EntryRow {
  readonly key: string;
  readonly version: number;
  readonly value: Value;
}
type EntryColumns = [key: EntryRow["key"], version: EntryRow["version"], value: EntryRow["value"]];
interface BlobRow {
  readonly seq: number;
  readonly head: string;
  readonly body: Uint8Array | null;
}
interface SegmentRow {
  readonly first: number;
  readonly head: string;
  readonly body: Uint8Array | null;
}

export class Tables {
  readonly db: DatabaseSync;
  readonly #get: StatementSync;
  readonly #up: StatementSync;
  readonly #down: StatementSync;
  readonly #put: StatementSync;
  readonly #delete: StatementSync;
  readonly #insertGroup: StatementSync;
  readonly #groupsAfter: StatementSync;
  readonly #dropGroups: StatementSync;
  readonly #segmentsAfter: StatementSync;
  readonly #putSegment: StatementSync;
  readonly #dropSegments: StatementSync;
  readonly #putTrim: StatementSync;
  readonly #getTrim: StatementSync;
  readonly #putMeta: StatementSync;
  readonly #getMeta: StatementSync;
  readonly #walState: StatementSync;

  constructor(file: string) {
    const db = new DatabaseSync(file, { timeout: 5000 });
    try {
      db.exec(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-8000",
      );
      db.exec(SCHEMA);
      this.db = db;
      this.#get = db.prepare("SELECT key, version, value FROM entries WHERE key = ?");
      this.#up = db.prepare("SELECT key, version, value FROM entries WHERE key >= ? AND key < ? ORDER BY key LIMIT ?");
      this.#down = db.prepare(
        "SELECT key, version, value FROM entries WHERE key >= ? AND key < ? ORDER BY key DESC LIMIT ?",
      );
      for (const statement of [this.#up, this.#down]) statement.setReturnArrays(true);
      this.#put = db.prepare("INSERT OR REPLACE INTO entries(key, version, value) VALUES (?, ?, ?)");
      this.#delete = db.prepare("DELETE FROM entries WHERE key = ?");
      this.#insertGroup = db.prepare("INSERT INTO groups(seq, head, body) VALUES (?, ?, ?)");
      this.#groupsAfter = db.prepare("SELECT seq, head, body FROM groups WHERE seq > ? ORDER BY seq LIMIT ?");
      this.#dropGroups = db.prepare(
        "DELETE FROM groups WHERE seq IN (SELECT seq FROM groups WHERE seq <= ? ORDER BY seq LIMIT ?)",
      );
      // Segments of a log follow each other: of those that begin up to a position, only the last may reach beyond it.
      this.#segmentsAfter = db.prepare(
        "SELECT first, head, body FROM segments WHERE log = ?1 AND first >= ifnull((SELECT max(first) FROM segments WHERE log = ?1 AND first <= ?2), 0) AND last > ?2 AND first <= ?3 ORDER BY first",
      );
      this.#putSegment = db.prepare(
        "INSERT OR REPLACE INTO segments(log, first, last, head, body) VALUES (?, ?, ?, ?, ?)",
      );
      this.#dropSegments = db.prepare("DELETE FROM segments WHERE log = ? AND last <= ?");
      this.#putTrim = db.prepare(
        "INSERT INTO trims(log, through) VALUES (?, ?) ON CONFLICT(log) DO UPDATE SET through = max(through, excluded.through)",
      );
      this.#getTrim = db.prepare("SELECT through FROM trims WHERE log = ?");
      this.#putMeta = db.prepare("INSERT OR REPLACE INTO meta(name, value) VALUES (?, ?)");
      this.#getMeta = db.prepare("SELECT value FROM meta WHERE name = ?");
      this.#walState = db.prepare("PRAGMA wal_checkpoint(NOOP)");
      const format = this.meta("format");
      if (format === undefined) this.#putMeta.run("format", FORMAT);
      else if (format > FORMAT) throw newerFormat("the store", format, FORMAT);
    } catch (error) {
      db.close();
      throw error;
    }
  }

  meta(name: string): number | undefined {
    // The column is declared INTEGER NOT NULL.
    return (this.#getMeta.get(name) as { value: number } | undefined)?.value;
  }

  setMeta(name: string, value: number): void {
    this.#putMeta.run(name, value);
  }

  get(key: string): Entry | undefined {
    // The columns are those of the statement.
    const row = this.#get.get(key) as EntryRow | undefined;
    return row === undefined ? undefined : toEntry(row);
  }

  scan(range: Range, limit: number, reverse: boolean): Entry[] {
    // The columns are those of the statements. Arrays of them cost less than half of what objects do.
    const rows = (reverse ? this.#down : this.#up).all(range.from, range.to, limit) as unknown as EntryColumns[];
    return rows.map(([key, version, value]) => ({ key, value, version: toSeq(version) }));
  }

  put(entry: Entry): void {
    this.#put.run(entry.key, entry.version, entry.value);
  }

  delete(key: string): void {
    this.#delete.run(key);
  }

  insertGroup(last: Seq, head: string, body: Uint8Array | null): void {
    this.#insertGroup.run(last, head, body);
  }

  groupsAfter(after: number, limit: number): readonly BlobRow[] {
    return this.#groupsAfter.all(after, limit) as unknown as BlobRow[];
  }

  /** Forgets at most `limit` groups up to a position; returns how many. */
  dropGroups(through: number, limit: number): number {
    return Number(this.#dropGroups.run(through, limit).changes);
  }

  /** One piece of a log, of those that `segmentsOf` makes. */
  putSegment(log: string, entries: readonly LogEntry[]): void {
    const first = entries[0];
    const last = entries.at(-1);
    if (first === undefined || last === undefined) return;
    const parts: Uint8Array[] = [];
    let offset = 0;
    const head = entries.map(({ seq, value }) => {
      if (typeof value === "string") return [seq, value];
      parts.push(value);
      offset += value.length;
      return [seq, offset - value.length, value.length];
    });
    this.#putSegment.run(
      log,
      first.seq,
      last.seq,
      JSON.stringify(head),
      parts.length === 0 ? null : Buffer.concat(parts),
    );
  }

  /** Entries of the folded part of a log behind a position, up to another. */
  *entriesOf(log: string, after: Seq, through: Seq): Generator<LogEntry, void, undefined> {
    for (const row of this.#segmentsAfter.iterate(log, after, through)) {
      // The columns are those of the statement; the head was written by `putSegment`.
      const { first, head, body } = row as unknown as SegmentRow;
      for (const [seq, a, b] of headOf(log, first, head)) {
        if (seq <= after) continue;
        if (seq > through) return;
        const value = typeof a === "string" ? a : (body ?? new Uint8Array(0)).subarray(a, a + (b ?? 0));
        yield { seq: toSeq(seq), value };
      }
    }
  }

  trim(log: string, through: Seq): void {
    this.#putTrim.run(log, through);
    this.#dropSegments.run(log, through);
  }

  trimmed(log: string): number {
    // The column is declared INTEGER NOT NULL.
    return (this.#getTrim.get(log) as { through: number } | undefined)?.through ?? 0;
  }

  /** Frames in the write-ahead log that the next checkpoint has to copy. */
  walFrames(): number {
    // NOOP reports and does nothing; the columns are those of the pragma.
    const row = this.#walState.get() as { log: number; checkpointed: number };
    return row.log;
  }

  /** Copies the log into the database on this connection; stalls the loop. */
  checkpoint(): void {
    this.db.exec("PRAGMA wal_checkpoint(PASSIVE)");
  }

  /** Runs changes as one transaction. */
  transaction(work: () => void): void {
    this.db.exec("BEGIN IMMEDIATE");
    try {
      work();
      this.db.exec("COMMIT");
    } catch (error) {
      if (this.db.isTransaction) this.db.exec("ROLLBACK");
      throw error;
    }
  }

  close(): void {
    this.db.close();
  }
}

/**
 * The entries of a log in pieces of which a reader takes one at a time: never a part of a commit, and from the same
 * first entry always the same pieces, so that a fold that is done again replaces what it wrote before.
 */
export function* segmentsOf(entries: readonly LogEntry[]): Generator<readonly LogEntry[], void, undefined> {
  let from = 0;
  let bytes = 0;
  for (const [at, { seq, value }] of entries.entries()) {
    const isFull = at - from >= SEGMENT_ENTRIES || bytes >= SEGMENT_BYTES;
    if (isFull && seq !== entries[at - 1]?.seq) {
      yield entries.slice(from, at);
      [from, bytes] = [at, 0];
    }
    bytes += value.length;
  }
  if (from < entries.length) yield entries.slice(from);
}

/** @throws {ECORRUPT} */
function headOf(log: string, first: number, head: string): readonly [number, string | number, number?][] {
  try {
    // Written by `putSegment`.
    return JSON.parse(head) as [number, string | number, number?][];
  } catch (cause) {
    throw new KernelError("ECORRUPT", `the records of log ${log} from position ${first} on are damaged`, { cause });
  }
}

const toEntry = ({ key, version, value }: EntryRow): Entry => ({ key, value, version: toSeq(version) });
