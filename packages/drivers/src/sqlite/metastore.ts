// The embedded metastore: SQLite in WAL mode, one log record a turn, state folded behind it.
//
// It owns the connection, the overlay and the thread that syncs. Callers talk to it only through the contract.
//
// S1  A commit is decided when it is submitted, in the order of submission, and seen by every later decision.
// S2  Commits of one turn of the loop are one row, written before the next turn's; their promises settle then.
// S3  `flushed` covers a position only if the sync began after the row of that position was written.
// S4  A failed write or sync poisons the store: everything pending and later is EIO, nothing is tried again.
// S5  Folding may stop anywhere: what lies behind the `folded` mark is replayed from the log, and doing it
//     twice changes nothing. Reads take the overlay first and ignore half-folded segments.
// S6  Checkpoints run in the thread. Commits are held only while its second pass catches up (about 10 ms).

import { closeSync, existsSync, fstatSync, openSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
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
  decide,
  measure,
  toSeq,
} from "@ergos/kernel";
import { type Ownership, syncDirectory, takeDirectory } from "../store/directory.ts";
import { sqliteError } from "../store/sqlite-error.ts";
import { GroupWriter, decodeGroup } from "./group.ts";
import { Room } from "../store/room.ts";
import { Overlay, detach, entriesBehind, mergeScan, stale, takeCommits } from "../store/overlay.ts";
import { SyncThread } from "./sync-thread.ts";
import { Tables, segmentsOf } from "./tables.ts";

const GROUP_BYTES_MAX = 64 * 1024;
/** Rows in the overlay at which folding begins, and rows folded in one slice. */
const FOLD_ROWS = 32_768;
const FOLD_SLICE_ROWS = 128;
const FOLD_SLICE_MS = 0.4;
/** Promises settled in one turn of the loop. */
const WAKES_PER_TURN = 32;
/** The log file grows by so much at a time: overwriting is a cheaper sync than appending. */
const WAL_GROWTH_BYTES = 1024 * 1024;
const FOLD_IDLE_MS = 250;
/** Frames (4 KiB pages) in the write-ahead log at which a checkpoint begins. */
const CHECKPOINT_FRAMES = 2048;
const WAL_FRAME_BYTES = 4096 + 24;
/** Times the bound of the log beyond which it is checkpointed on the loop. */
const FRAMES_WITHOUT_THREAD = 4;
const CHECK_WAL_EVERY = 16;
/** Groups after which the thread is worth its start: a short command never needs it. */
const START_THREAD_AT = 8;
const DEFAULT_TAIL_RETENTION = 10_000;
const DROP_SLICE_GROUPS = 512;

export interface SqliteMetastoreOptions {
  /** Data directory; made if it is absent. */
  readonly dir: string;
  /** Commits that `tail` still knows. */
  readonly tailRetention?: number;
  /** Without it syncs use libuv's pool, which is slower under load. */
  readonly thread?: boolean;
  /** Rows at which folding begins; simulations make it small. */
  readonly foldRows?: number;
  /** Frames of the log at which a checkpoint begins; simulations make it small. */
  readonly checkpointFrames?: number;
  /** Runs a task after the current turn of the loop. */
  readonly defer?: (task: () => void) => void;
}

interface Waiter {
  readonly seq: Seq;
  readonly promise: Promise<void>;
  readonly wake: () => void;
  readonly reject: (error: KernelError) => void;
}

/** A commit on its way: its own receipt, settled when its group is written. */
class Committing implements Receipt {
  readonly seq: Seq;
  readonly #store: SqliteMetastore;
  readonly #resolve: (receipt: Receipt) => void;
  readonly reject: (error: KernelError) => void;

  constructor(
    seq: Seq,
    store: SqliteMetastore,
    resolve: (receipt: Receipt) => void,
    reject: (error: KernelError) => void,
  ) {
    this.seq = seq;
    this.#store = store;
    this.#resolve = resolve;
    this.reject = reject;
  }

  get flushed(): Promise<void> {
    return this.#store.flushTo(this.seq);
  }

  wake(): void {
    this.#resolve(this);
  }
}

export class SqliteMetastore implements Metastore {
  readonly features: MetastoreFeatures = { durability: "power" };
  readonly #ownership: Ownership;
  readonly #tables: Tables;
  readonly #walFd: number;
  readonly #thread: SyncThread;
  readonly #useThread: boolean;
  readonly #tailRetention: number;
  readonly #foldRows: number;
  readonly #checkpointFrames: number;
  readonly #defer: (task: () => void) => void;

  // State of the map (S1, S5). Changed where commits are decided, in `#foldSlice` and at opening.
  #overlay = new Overlay();
  #folding: Overlay | undefined;
  #seq: Seq;
  #folded: Seq;

  // The write side (S2). Changed where commits are decided and groups are written.
  readonly #group = new GroupWriter();
  #waitingForWrite: Committing[] = [];
  readonly #room = new Room();
  #isScheduled = false;
  #written: Seq;
  #groupsWritten = 0;
  #isHeld = false;
  #isCheckpointDue = false;
  /** Bytes up to which the log file is known to be allocated. */
  #walBytes = 0;

  // The sync side (S3). Changed only in `flushTo` and `#startSync`.
  #flushed: Seq;
  #isSyncing = false;
  readonly #waitingForFlush: Waiter[] = [];

  // What was settled and is told in the turns to come.
  #woken: { wake(): void }[] = [];
  #wokenAt = 0;

  #failure: KernelError | undefined;
  #closing: Promise<void> | undefined;
  #idle: NodeJS.Timeout | undefined;

  private constructor(ownership: Ownership, tables: Tables, walFd: number, options: SqliteMetastoreOptions) {
    this.#ownership = ownership;
    this.#tables = tables;
    this.#walFd = walFd;
    this.#useThread = options.thread !== false;
    this.#tailRetention = options.tailRetention ?? DEFAULT_TAIL_RETENTION;
    this.#foldRows = options.foldRows ?? FOLD_ROWS;
    this.#checkpointFrames = options.checkpointFrames ?? CHECKPOINT_FRAMES;
    this.#defer = options.defer ?? ((task) => void setImmediate(task));
    this.#thread = new SyncThread(walFd, join(options.dir, "store.db"));
    this.#folded = toSeq(tables.meta("folded") ?? 0);
    this.#seq = this.#folded;
    this.#replay();
    this.#written = this.#seq;
    this.#flushed = SEQ_ZERO;
  }

  /**
   * Opens the store of a directory, taking ownership of it.
   * @throws {EBUSY} another process owns it · {ECORRUPT} it is damaged · {EVERSION} a newer program wrote it
   */
  static open(options: SqliteMetastoreOptions): Promise<SqliteMetastore> {
    return Promise.resolve().then(() => {
      const ownership = takeDirectory(options.dir);
      const file = join(options.dir, "store.db");
      try {
        refuseEmptied(options.dir, file);
      } catch (error) {
        ownership.release();
        throw error;
      }
      let tables: Tables | undefined;
      try {
        tables = new Tables(file);
        // The first write makes the log file, whose descriptor is then kept for the life of the connection.
        tables.setMeta("opened", Date.now());
        syncDirectory(options.dir);
        return new SqliteMetastore(ownership, tables, openSync(`${file}-wal`, "r+"), options);
      } catch (error) {
        tables?.close();
        ownership.release();
        throw sqliteError(error, file);
      }
    });
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
      mergeScan(
        (rows) => this.#tables.scan(range, rows, reverse),
        [this.#overlay, this.#folding],
        range,
        limit,
        reverse,
      ),
    );
  }

  async readLog(
    log: string,
    { after, limit }: { readonly after: Seq; readonly limit: number },
  ): Promise<readonly LogEntry[]> {
    return this.#reading(() => {
      const trimmed = toSeq(
        Math.max(this.#overlay.trims.get(log) ?? 0, this.#folding?.trims.get(log) ?? 0, this.#tables.trimmed(log)),
      );
      if (after < trimmed && after !== SEQ_ZERO) throw stale(log, after, trimmed);
      const from = toSeq(Math.max(after, trimmed));
      const page: LogEntry[] = [];
      // Half-folded segments (S5) lie behind the mark; the overlay still has their entries.
      takeCommits(page, this.#tables.entriesOf(log, from, this.#folded), limit);
      for (const overlay of [this.#folding, this.#overlay])
        takeCommits(page, entriesBehind(overlay?.logs.get(log) ?? [], from), limit);
      return page;
    });
  }

  async tail(after: Seq, { limit }: { readonly limit: number }): Promise<readonly CommitRecord[]> {
    return this.#reading(() => {
      const out: CommitRecord[] = [];
      const dropped = this.#tables.meta("dropped") ?? 0;
      if (after < dropped) throw stale("tail", after, dropped);
      for (let from: number = after; out.length < limit;) {
        const rows = this.#tables.groupsAfter(from, 64);
        for (const row of rows) {
          from = row.seq;
          out.push(...decodeGroup(row.head, row.body).filter((commit) => commit.seq > after));
          if (out.length >= limit) break;
        }
        if (rows.length === 0) break;
      }
      return out.slice(0, limit);
    });
  }

  commit(batch: Batch): Promise<Receipt> {
    try {
      return this.#room.enter(batch, measure(batch), (given) => this.#decide(given));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #decide(batch: Batch): Promise<Receipt> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closing !== undefined) throw new KernelError("EIO", "the store is closed");
    const effects = detach(decide(batch, this.#lookup));
    const seq = toSeq(this.#seq + 1);
    this.#seq = seq;
    this.#overlay.apply(seq, effects);
    this.#group.add(seq, effects);
    const receipt = new Promise<Receipt>((resolve, reject) => {
      this.#waitingForWrite.push(new Committing(seq, this, resolve, reject));
    });
    if (this.#group.bytes > GROUP_BYTES_MAX) this.#writeGroup();
    else this.#schedule();
    return receipt;
  }

  flush(): Promise<void> {
    return this.flushTo(this.#seq);
  }

  /** Settles when a position and all before it survive a loss of power. */
  flushTo(seq: Seq): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (seq <= this.#flushed) return Promise.resolve();
    const last = this.#waitingForFlush.at(-1);
    if (last !== undefined && last.seq >= seq) return last.promise;
    const waiter = makeWaiter(seq);
    this.#waitingForFlush.push(waiter);
    if (seq > this.#written) this.#writeGroup();
    this.#startSync();
    return waiter.promise;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    clearTimeout(this.#idle);
    try {
      if (this.#failure === undefined) {
        await this.flushTo(this.#seq);
        while (this.#failure === undefined && (!this.#overlay.isEmpty || this.#folding !== undefined))
          this.#foldSlice();
      }
    } finally {
      await this.#thread.stop();
      this.#tables.close();
      closeSync(this.#walFd);
      this.#ownership.release();
    }
  }

  readonly #lookup = (key: string): Entry | undefined => {
    for (const overlay of [this.#overlay, this.#folding]) {
      const entry = overlay?.entries.get(key);
      if (entry !== undefined) return entry;
      if (overlay?.entries.has(key) === true) return undefined;
    }
    return this.#tables.get(key);
  };

  #reading<T>(read: () => T): T {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      return read();
    } catch (error) {
      throw sqliteError(error, this.#ownership.dir);
    }
  }

  /** Settles promises, a bounded number in one turn: what they set off runs in that turn too. */
  #wake(waiters: readonly { wake(): void }[]): void {
    if (waiters.length <= WAKES_PER_TURN && this.#woken.length === 0) {
      for (const waiter of waiters) waiter.wake();
      return;
    }
    const isIdle = this.#woken.length === 0;
    for (const waiter of waiters) this.#woken.push(waiter);
    if (isIdle) this.#wakeSome();
  }

  #wakeSome(): void {
    const end = Math.min(this.#woken.length, this.#wokenAt + WAKES_PER_TURN);
    while (this.#wokenAt < end) this.#woken[this.#wokenAt++]?.wake();
    if (this.#wokenAt < this.#woken.length) return this.#defer(() => this.#wakeSome());
    this.#woken = [];
    this.#wokenAt = 0;
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#defer(() => {
      this.#isScheduled = false;
      this.#writeGroup();
    });
  }

  #writeGroup(): void {
    if (this.#group.isEmpty || this.#isHeld || this.#failure !== undefined) return;
    const waiters = this.#waitingForWrite;
    const last = waiters.at(-1)?.seq;
    if (last === undefined) return;
    this.#waitingForWrite = [];
    const { head, body } = this.#group.take();
    try {
      this.#tables.insertGroup(last, head, body);
    } catch (error) {
      this.#waitingForWrite = waiters;
      return this.#poison(sqliteError(error, this.#ownership.dir));
    }
    this.#written = last;
    this.#groupsWritten++;
    this.#wake(waiters);
    if (this.#waitingForFlush.length > 0) this.#startSync();
    this.#afterWrite();
    this.#room.keep(0);
  }

  /** Housekeeping that the write made due. */
  #afterWrite(): void {
    if (this.#groupsWritten === START_THREAD_AT && this.#useThread) this.#thread.start();
    if (this.#groupsWritten % CHECK_WAL_EVERY === 0) {
      try {
        this.#tendLog();
      } catch (error) {
        return this.#poison(sqliteError(error, this.#ownership.dir));
      }
    }
    if (this.#overlay.size > this.#foldRows) this.#startFolding();
    else this.#foldWhenIdle();
  }

  /** Folding under load would write entries one by one that a little later go together. */
  #foldWhenIdle(): void {
    if (this.#idle !== undefined || this.#closing !== undefined) return;
    const seen = this.#groupsWritten;
    this.#idle = setTimeout(() => {
      this.#idle = undefined;
      if (this.#groupsWritten === seen) this.#startFolding();
      else this.#foldWhenIdle();
    }, FOLD_IDLE_MS).unref();
  }

  /**
   * Keeps the log file a step ahead of its use, and short. The zeros that it grows by lie behind every frame
   * that SQLite has written or writes before this turn ends, and recovery takes them for no frame.
   */
  #tendLog(): void {
    const frames = this.#tables.walFrames();
    this.#growLog((frames + 64) * WAL_FRAME_BYTES);
    if (frames <= this.#checkpointFrames) return;
    this.#isCheckpointDue = true;
    this.#startCheckpoint();
    // Without the thread, or when it never gets a turn, a stall is better than a log without bound.
    if (!this.#useThread || frames > FRAMES_WITHOUT_THREAD * this.#checkpointFrames) this.#tables.checkpoint();
  }

  /** Only a faster sync depends on it: a disk that refuses will say so to the write that needs it. */
  #growLog(used: number): void {
    if (used + WAL_GROWTH_BYTES / 2 <= this.#walBytes) return;
    try {
      this.#walBytes = Math.max(this.#walBytes, fstatSync(this.#walFd).size, used);
      writeSync(this.#walFd, new Uint8Array(WAL_GROWTH_BYTES), 0, WAL_GROWTH_BYTES, this.#walBytes);
      this.#walBytes += WAL_GROWTH_BYTES;
    } catch {
      this.#walBytes = Number.POSITIVE_INFINITY;
    }
  }

  #startSync(): void {
    if (this.#isSyncing || this.#failure !== undefined || this.#written <= this.#flushed) return;
    this.#isSyncing = true;
    const upTo = this.#written;
    this.#thread.sync((error) => {
      this.#isSyncing = false;
      if (error !== undefined)
        return this.#poison(
          new KernelError("EIO", "the disk refused a sync; what was not flushed is in doubt, start again", {
            path: this.#ownership.dir,
            cause: error,
          }),
        );
      this.#flushed = upTo;
      const later = this.#waitingForFlush.findIndex((waiter) => waiter.seq > upTo);
      this.#wake(this.#waitingForFlush.splice(0, later < 0 ? this.#waitingForFlush.length : later));
      this.#startCheckpoint();
      if (this.#waitingForFlush.length > 0) this.#startSync();
    });
  }

  /**
   * Two passes (S6): the first while commits go on, the second with commits held, so that the log restarts.
   * The thread does one thing at a time: when it syncs, the checkpoint follows the sync.
   */
  #startCheckpoint(): void {
    if (!this.#isCheckpointDue || !this.#thread.canCheckpoint || this.#failure !== undefined) return;
    this.#isCheckpointDue = false;
    const failed = (): void =>
      this.#poison(new KernelError("EIO", "a checkpoint of the store failed", { path: this.#ownership.dir }));
    this.#thread.checkpoint((left) => {
      if (left < 0) return left === -5 ? undefined : failed();
      this.#isHeld = true;
      this.#thread.checkpoint((rest) => {
        this.#isHeld = false;
        if (rest < 0 && rest !== -5) return failed();
        this.#writeGroup();
        if (this.#folding !== undefined) this.#foldOn();
      });
    });
  }

  #startFolding(): void {
    if (
      this.#folding !== undefined ||
      this.#overlay.isEmpty ||
      this.#failure !== undefined ||
      this.#closing !== undefined
    )
      return;
    // Only what is in the log may be folded.
    if (!this.#group.isEmpty) this.#writeGroup();
    if (!this.#group.isEmpty) return;
    this.#defer(() => this.#foldOn());
  }

  #foldOn(): void {
    if (this.#closing !== undefined || this.#failure !== undefined || this.#isHeld) return;
    try {
      this.#foldSlice();
    } catch (error) {
      return this.#poison(sqliteError(error, this.#ownership.dir));
    }
    if (this.#folding !== undefined) this.#defer(() => this.#foldOn());
  }

  #foldTarget: Seq = SEQ_ZERO;
  #foldWork: Iterator<() => void> | undefined;

  /** Folds the next rows; the last slice moves the mark. */
  #foldSlice(): void {
    if (this.#folding === undefined) {
      if (!this.#group.isEmpty) this.#writeGroup();
      // Only what is in the log may be folded (S5).
      if (!this.#group.isEmpty || this.#failure !== undefined) return;
      this.#folding = this.#overlay;
      this.#overlay = new Overlay();
      this.#foldTarget = this.#seq;
      this.#foldWork = foldSteps(this.#tables, this.#folding);
    }
    const work = this.#foldWork;
    let isDone = false;
    this.#tables.transaction(() => {
      const until = performance.now() + FOLD_SLICE_MS;
      for (let rows = 0; rows < FOLD_SLICE_ROWS && (rows % 4 !== 0 || performance.now() < until); rows++) {
        const step = work?.next();
        if (step === undefined || step.done === true) {
          isDone = true;
          break;
        }
        step.value();
      }
      if (isDone) this.#moveMark();
    });
    if (!isDone) return;
    this.#folded = this.#foldTarget;
    this.#folding = undefined;
    this.#foldWork = undefined;
  }

  #moveMark(): void {
    this.#tables.setMeta("folded", this.#foldTarget);
    this.#dropGroups();
  }

  /** Forgets what `tail` need not know any more, a slice at a time. */
  #dropGroups(): void {
    const through = this.#foldTarget - this.#tailRetention;
    if (through <= 0 || this.#tables.dropGroups(through, DROP_SLICE_GROUPS) === 0) return;
    const oldest = this.#tables.groupsAfter(0, 1)[0];
    const first =
      oldest === undefined ? this.#foldTarget : (decodeGroup(oldest.head, oldest.body)[0]?.seq ?? oldest.seq) - 1;
    this.#tables.setMeta("dropped", first);
    if (first < through) this.#defer(() => this.#dropMore());
  }

  #dropMore(): void {
    if (this.#failure !== undefined || this.#closing !== undefined || this.#isHeld) return;
    try {
      this.#tables.transaction(() => this.#dropGroups());
    } catch (error) {
      this.#poison(sqliteError(error, this.#ownership.dir));
    }
  }

  #replay(): void {
    for (let from: number = this.#folded; ;) {
      const rows = this.#tables.groupsAfter(from, 256);
      for (const row of rows) {
        from = row.seq;
        for (const { seq, ...effects } of decodeGroup(row.head, row.body)) {
          if (seq <= this.#folded) continue;
          this.#overlay.apply(seq, effects);
          this.#seq = seq;
        }
      }
      if (rows.length === 0) return;
    }
  }

  #poison(error: KernelError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    for (const waiter of [...this.#waitingForWrite, ...this.#waitingForFlush]) waiter.reject(error);
    this.#room.open();
  }
}

/** SQLite takes a file without content for a new database; beside content that was stored it has lost its own. */
function refuseEmptied(dir: string, file: string): void {
  const sizeOf = (path: string): number | undefined => statSync(path, { throwIfNoEntry: false })?.size;
  if (sizeOf(file) !== 0 || (sizeOf(`${file}-wal`) ?? 0) > 0 || !existsSync(join(dir, "blobs"))) return;
  throw new KernelError(
    "ECORRUPT",
    "the database file is empty, but it held data before; restore a copy, or move it away to begin anew",
    { path: file },
  );
}

function makeWaiter(seq: Seq): Waiter {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  return { seq, promise, wake: resolve, reject };
}

function* foldSteps(tables: Tables, overlay: Overlay): Generator<() => void, void, undefined> {
  for (const [key, entry] of overlay.entries.entries())
    yield () => (entry === undefined ? tables.delete(key) : tables.put(entry));
  for (const [log, entries] of overlay.logs)
    for (const segment of segmentsOf(entries)) yield () => tables.putSegment(log, segment);
  for (const [log, through] of overlay.trims) yield () => tables.trim(log, through);
}
