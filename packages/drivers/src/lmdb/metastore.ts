// A metastore over LMDB: a memory map of the machine that is written copy on write, and needs no checkpoints.
//
// L1  A commit is decided when it is submitted, against the map and what is not written yet; those of one turn, and those
//     that come while a group is being written, are one transaction of LMDB.
// L2  `committed` follows the transaction, `flushed` the sync behind it, which overlaps the next group.
// L3  A failed write or sync poisons the store.

import { statfs } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  type Batch,
  type CommitRecord,
  type Entry,
  KernelError,
  type LogEntry,
  type Metastore,
  type MetastoreFeatures,
  type Range,
  type Receipt,
  SEQ_ZERO,
  type Seq,
  type Value,
  decide,
  describe,
  measure,
  toSeq,
} from "@ergos/kernel";
import type { Database, RootDatabase } from "lmdb";
import { assertWhole } from "./file.ts";
import { type Ownership, syncDirectory, takeDirectory } from "../store/directory.ts";
import { Room } from "../store/room.ts";
import { Overlay, detach, entriesBehind, mergeScan, stale, takeCommits } from "../store/overlay.ts";

const FORMAT = 1;
const TAIL_RETENTION = 10_000;
/** Commits beyond what `tail` keeps that one group removes. */
const DROP_MAX = 1000;
/** A group is written at once when it has grown so large. */
const GROUP_BYTES_MAX = 4 * 1024 * 1024;
/** How long a store that has failed may take to close. */
const CLOSE_MS = 1000;
/** A disk with less room than this is full. */
const FULL_BYTES = 64 * 1024;

export interface LmdbMetastoreOptions {
  /** Data directory; it is made if need be. */
  readonly dir: string;
  /** Commits that `tail` still knows (default 10,000). */
  readonly tailRetention?: number;
}

type Stored = readonly [version: number, value: Value];
type StoredCommit = Omit<CommitRecord, "seq">;

interface Pending {
  readonly seq: Seq;
  readonly resolve: () => void;
  readonly reject: (error: KernelError) => void;
}

interface Tables {
  readonly root: RootDatabase;
  /** The map: version and value. */
  readonly entries: Database<Stored, Buffer>;
  /** Entries of logs: by the log's name, position and number within the commit. */
  readonly logs: Database<Value, Buffer>;
  readonly commits: Database<StoredCommit, Buffer>;
  /** `format`, `seq`, `dropped`, and `trim/<log>`. */
  readonly meta: Database<number, string>;
}

export class LmdbMetastore implements Metastore {
  readonly features: MetastoreFeatures = { durability: "power" };
  readonly #ownership: Ownership;
  readonly #tables: Tables;
  readonly #tailRetention: number;
  #seq: Seq;
  #dropped: number;

  // What is decided and not written yet: what is being written, and what comes behind it (L1).
  #writing: Overlay | undefined;
  #overlay = new Overlay();
  #commits: CommitRecord[] = [];
  #waiting: Pending[] = [];
  readonly #room = new Room();
  #groupBytes = 0;
  #isScheduled = false;
  #isWriting = false;

  /** The sync of the newest group that was written, and up to where it reaches. */
  #synced: { readonly through: Seq; readonly done: Promise<void> };
  #idle: PromiseWithResolvers<void> | undefined;
  #failure: KernelError | undefined;
  #closing: Promise<void> | undefined;

  private constructor(ownership: Ownership, tables: Tables, tailRetention: number) {
    this.#ownership = ownership;
    this.#tables = tables;
    this.#tailRetention = tailRetention;
    this.#seq = toSeq(tables.meta.get("seq") ?? 0);
    this.#dropped = tables.meta.get("dropped") ?? 0;
    this.#synced = { through: this.#seq, done: Promise.resolve() };
  }

  /**
   * Opens the store of a directory, taking ownership of it.
   * @throws {EBUSY} another process owns it · {ECORRUPT} it is damaged · {EVERSION} a newer program wrote it · {ENOTSUP}
   *   the package `lmdb` is not installed
   */
  static async open(options: LmdbMetastoreOptions): Promise<LmdbMetastore> {
    const { open } = await import("lmdb").catch((cause: unknown): never => {
      throw new KernelError("ENOTSUP", "this store needs the package lmdb; install it beside ErgOS", { cause });
    });
    const ownership = takeDirectory(options.dir);
    let root: RootDatabase | undefined;
    try {
      const path = join(options.dir, "store.mdb");
      assertWhole(path);
      root = open({ path, encoding: "msgpack", maxDbs: 4, separateFlushed: true, eventTurnBatching: false });
      const tables: Tables = {
        root,
        entries: root.openDB({ name: "entries", keyEncoding: "binary" }),
        logs: root.openDB({ name: "logs", keyEncoding: "binary" }),
        commits: root.openDB({ name: "commits", keyEncoding: "binary" }),
        meta: root.openDB({ name: "meta" }),
      };
      await assertFormat(tables, options.dir);
      syncDirectory(options.dir);
      return new LmdbMetastore(ownership, tables, options.tailRetention ?? TAIL_RETENTION);
    } catch (error) {
      await root?.close();
      ownership.release();
      throw translate(error, options.dir);
    }
  }

  get seq(): Seq {
    return this.#seq;
  }

  async get(key: string): Promise<Entry | undefined> {
    return this.#reading(() => this.#lookup(key));
  }

  async scan(
    range: Range,
    { limit, reverse = false }: { readonly limit: number; readonly reverse?: boolean },
  ): Promise<readonly Entry[]> {
    if (range.from >= range.to || limit <= 0) return [];
    return this.#reading(() =>
      mergeScan((rows) => this.#rows(range, rows, reverse), this.#overlays, range, limit, reverse),
    );
  }

  async readLog(
    log: string,
    { after, limit }: { readonly after: Seq; readonly limit: number },
  ): Promise<readonly LogEntry[]> {
    return this.#reading(() => {
      const trims = this.#overlays.map((overlay) => overlay?.trims.get(log) ?? 0);
      const trimmed = toSeq(Math.max(this.#tables.meta.get(`trim/${log}`) ?? 0, ...trims));
      if (after < trimmed && after !== SEQ_ZERO) throw stale(log, after, trimmed);
      const from = toSeq(Math.max(after, trimmed));
      const page: LogEntry[] = [];
      takeCommits(page, this.#logRows(log, from), limit);
      for (const overlay of this.#overlays.toReversed())
        takeCommits(page, entriesBehind(overlay?.logs.get(log) ?? [], from), limit);
      return page;
    });
  }

  async tail(after: Seq, { limit }: { readonly limit: number }): Promise<readonly CommitRecord[]> {
    await this.#written();
    return this.#reading(() => {
      if (after < this.#dropped) throw stale("tail", after, this.#dropped);
      const rows = this.#tables.commits.getRange({ start: seqKey(after + 1), limit });
      return Array.from(rows, ({ key, value }) => ({ seq: toSeq(seqOf(key)), ...value }));
    });
  }

  async commit(batch: Batch): Promise<Receipt> {
    const bytes = measure(batch);
    return this.#room.enter(batch, bytes, (given) => this.#decide(given, bytes));
  }

  #decide(batch: Batch, bytes: number): Promise<Receipt> {
    this.#assertOpen();
    const effects = detach(decide(batch, (key) => this.#lookup(key)));
    const seq = toSeq(this.#seq + 1);
    this.#seq = seq;
    this.#overlay.apply(seq, effects);
    this.#commits.push({ seq, ...effects });
    this.#groupBytes += bytes;
    const written = new Promise<void>((resolve, reject) => this.#waiting.push({ seq, resolve, reject }));
    if (this.#groupBytes > GROUP_BYTES_MAX) this.#write();
    else this.#schedule();
    const flushed = (): Promise<void> => this.#flushTo(seq);
    return written.then(() => ({
      seq,
      get flushed() {
        return flushed();
      },
    }));
  }

  flush(): Promise<void> {
    return this.#flushTo(this.#seq);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    try {
      if (this.#failure === undefined) await this.#flushTo(this.#seq);
    } finally {
      const closing = this.#tables.root.close();
      // After a failure the library may wait for what never comes.
      if (this.#failure === undefined) await closing;
      else await Promise.race([closing.catch(() => undefined), delay(CLOSE_MS)]);
      this.#ownership.release();
    }
  }

  /** What answers reads before the tables do, the newest first. */
  get #overlays(): readonly (Overlay | undefined)[] {
    return [this.#overlay, this.#writing];
  }

  #lookup(key: string): Entry | undefined {
    for (const overlay of this.#overlays) if (overlay?.entries.has(key) === true) return overlay.entries.get(key);
    const found = this.#tables.entries.get(keyOf(key));
    return found === undefined ? undefined : { key, value: found[1], version: toSeq(found[0]) };
  }

  #rows(range: Range, limit: number, reverse: boolean): readonly Entry[] {
    const [from, to] = [keyOf(range.from), keyOf(range.to)];
    // Backwards a range begins below its start and ends with its end.
    const span = reverse
      ? { start: to, end: from, reverse, limit, exclusiveStart: true, inclusiveEnd: true }
      : { start: from, end: to, limit };
    return Array.from(this.#tables.entries.getRange(span), ({ key, value }) => ({
      key: key.toString("utf8"),
      value: value[1],
      version: toSeq(value[0]),
    }));
  }

  *#logRows(log: string, after: number): Generator<LogEntry, void, undefined> {
    const name = keyOf(log);
    const range = { start: logKey(name, after + 1, 0), end: logKey(name, Number.MAX_SAFE_INTEGER, 0) };
    for (const { key, value } of this.#tables.logs.getRange(range))
      yield { seq: toSeq(seqOf(key.subarray(name.length + 1))), value };
  }

  #reading<T>(read: () => T): T {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closing !== undefined) throw closed();
    try {
      return read();
    } catch (error) {
      throw translate(error, this.#ownership.dir);
    }
  }

  #assertOpen(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closing !== undefined) throw closed();
  }

  #schedule(): void {
    if (this.#isScheduled || this.#isWriting) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#write();
    });
  }

  /** Writes what has been decided as one transaction, unless one is under way: then that is followed by the next. */
  #write(): void {
    if (this.#isWriting || this.#waiting.length === 0 || this.#failure !== undefined) return;
    this.#isWriting = true;
    const [overlay, commits, waiting] = [this.#overlay, this.#commits, this.#waiting];
    const through = this.#seq;
    this.#writing = overlay;
    [this.#overlay, this.#commits, this.#waiting] = [new Overlay(), [], []];
    this.#groupBytes = 0;
    const drop = Math.min(through - this.#tailRetention, this.#dropped + commits.length + DROP_MAX);
    // A child of the transaction: where it fails, nothing of it stays.
    const done = this.#tables.root.childTransaction(() => {
      this.#put(overlay, commits, through);
      if (drop > this.#dropped) this.#drop(drop);
    });
    // Beside the transaction there is its sync; both are of the library's making.
    const { flushed } = done as Promise<unknown> & { readonly flushed?: Promise<unknown> };
    done.then(
      () => {
        const synced = Promise.resolve(flushed ?? this.#tables.root.flushed).then(() => undefined);
        synced.catch((error: unknown) => this.#poison(error));
        this.#synced = { through, done: synced };
        this.#dropped = Math.max(this.#dropped, drop);
        this.#tables.root.resetReadTxn();
        this.#writing = undefined;
        this.#over(waiting);
      },
      (error: unknown) => void refusalOf(error, this.#ownership.dir).then((cause) => this.#poison(cause, waiting)),
    );
  }

  #over(written: readonly Pending[]): void {
    this.#isWriting = false;
    for (const { resolve } of written) resolve();
    this.#room.keep(this.#groupBytes);
    if (this.#waiting.length > 0) this.#write();
    else if (!this.#isWriting) {
      this.#idle?.resolve();
      this.#idle = undefined;
    }
  }

  #put(overlay: Overlay, commits: readonly CommitRecord[], through: Seq): void {
    const { entries, logs, commits: records, meta } = this.#tables;
    for (const [key, entry] of overlay.entries.entries())
      if (entry === undefined) void entries.remove(keyOf(key));
      else void entries.put(keyOf(key), [entry.version, entry.value]);
    for (const [log, added] of overlay.logs) {
      const name = keyOf(log);
      let [last, number] = [-1, 0];
      for (const { seq, value } of added) {
        number = seq === last ? number + 1 : 0;
        last = seq;
        void logs.put(logKey(name, seq, number), value);
      }
    }
    for (const [log, end] of overlay.trims) {
      const name = keyOf(log);
      for (const key of logs.getKeys({ start: logKey(name, 0, 0), end: logKey(name, end + 1, 0) }))
        void logs.remove(key);
      if (end > (meta.get(`trim/${log}`) ?? 0)) void meta.put(`trim/${log}`, end);
    }
    for (const { seq, ...commit } of commits) void records.put(seqKey(seq), commit);
    void meta.put("seq", through);
  }

  /** Forgets commits up to a position. */
  #drop(through: number): void {
    const { commits, meta } = this.#tables;
    for (const key of commits.getKeys({ end: seqKey(through + 1) })) void commits.remove(key);
    void meta.put("dropped", through);
  }

  /** Settles when all that is decided is written. */
  #written(): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (!this.#isWriting && this.#waiting.length === 0) return Promise.resolve();
    this.#write();
    this.#idle ??= Promise.withResolvers<void>();
    return this.#idle.promise;
  }

  async #flushTo(seq: Seq): Promise<void> {
    while (this.#synced.through < seq) await this.#written();
    await this.#synced.done;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** L3 */
  #poison(cause: unknown, waiting: readonly Pending[] = []): void {
    const failure = (this.#failure ??= translate(cause, this.#ownership.dir));
    for (const { reject } of [...waiting, ...this.#waiting.splice(0)]) reject(failure);
    this.#room.open();
    this.#idle?.reject(failure);
    this.#idle = undefined;
  }
}

/** Keys hold no characters whose order differs between UTF-8 and the units of a string. */
const keyOf = (key: string): Buffer => Buffer.from(key, "utf8");

function seqKey(seq: number): Buffer {
  const key = Buffer.allocUnsafe(8);
  key.writeBigUInt64BE(BigInt(Math.min(seq, Number.MAX_SAFE_INTEGER)));
  return key;
}

const seqOf = (key: Buffer): number => Number(key.readBigUInt64BE());

/** No name of a log holds a zero byte. */
function logKey(log: Buffer, seq: number, number: number): Buffer {
  const key = Buffer.allocUnsafe(log.length + 13);
  log.copy(key);
  key.writeUInt8(0, log.length);
  key.writeBigUInt64BE(BigInt(Math.min(seq, Number.MAX_SAFE_INTEGER)), log.length + 1);
  key.writeUInt32BE(number, log.length + 9);
  return key;
}

async function assertFormat({ meta }: Tables, dir: string): Promise<void> {
  const found = meta.get("format");
  if (found === undefined) await meta.put("format", FORMAT);
  else if (found > FORMAT)
    throw new KernelError(
      "EVERSION",
      `${dir} has a store of format ${found}, this program reads ${FORMAT}; update it`,
      {
        path: dir,
      },
    );
}

const closed = (): KernelError => new KernelError("EIO", "the store is closed");

/** Why a transaction was not made: the library tells it by a promise beside its error, and of a full disk only that it failed. */
async function refusalOf(thrown: unknown, dir: string): Promise<unknown> {
  const { commitError } = (thrown ?? {}) as { readonly commitError?: Promise<unknown> };
  const cause: unknown = commitError instanceof Promise ? await commitError.catch((why: unknown) => why) : thrown;
  const { bavail, bsize } = await statfs(dir).catch(() => ({ bavail: Infinity, bsize: 1 }));
  if (bavail * bsize >= FULL_BYTES) return cause ?? thrown;
  return new KernelError("ENOSPC", `the disk of ${dir} is full; make room, then start again`, { path: dir, cause });
}

/** Errors of LMDB in the kernel's words. */
function translate(error: unknown, dir: string): KernelError {
  if (error instanceof KernelError) return error;
  const said = describe(error);
  const code = /No space left|MDB_MAP_FULL/.test(said)
    ? "ENOSPC"
    : /MDB_(?:CORRUPTED|INVALID|PAGE_NOTFOUND|VERSION_MISMATCH)|not an LMDB file/i.test(said)
      ? "ECORRUPT"
      : /Permission denied|Read-only/.test(said)
        ? "EROFS"
        : "EIO";
  return new KernelError(code, `${dir}: the store failed: ${said}`, { path: dir, cause: error });
}
