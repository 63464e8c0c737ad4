// The reference model of a metastore: everything in memory, every decision at once.

import {
  type Batch,
  type CommitRecord,
  type Effects,
  type Entry,
  KernelError,
  type LogEntry,
  type Metastore,
  type MetastoreFeatures,
  type Range,
  type Receipt,
  type Seq,
  SEQ_ZERO,
  decide,
  measure,
  toSeq,
  copyBytes,
} from "@ergos/kernel";
import { type OrderedMap, createOrderedMap } from "../store/ordered-map.ts";
const DONE = Promise.resolve();

export interface MemoryMetastoreOptions {
  /** Commits that `tail` still knows; all of them unless given. */
  readonly tailRetention?: number;
}

export class MemoryMetastore implements Metastore {
  readonly features: MetastoreFeatures = { durability: "none" };
  readonly #entries: OrderedMap<Entry> = createOrderedMap();
  readonly #logs = new Map<string, LogEntry[]>();
  /** Positions up to which a log was trimmed. */
  readonly #trimmed = new Map<string, Seq>();
  readonly #commits: CommitRecord[] = [];
  readonly #tailRetention: number;
  #seq: Seq = SEQ_ZERO;
  #closed = false;

  constructor(options: MemoryMetastoreOptions = {}) {
    this.#tailRetention = options.tailRetention ?? 10_000;
  }

  get seq(): Seq {
    return this.#seq;
  }

  get(key: string): Promise<Entry | undefined> {
    return Promise.resolve(this.#entries.get(key));
  }

  scan(range: Range, options: { readonly limit: number; readonly reverse?: boolean }): Promise<readonly Entry[]> {
    const page: Entry[] = [];
    if (range.from >= range.to) return Promise.resolve(page);
    if (options.reverse === true) {
      for (
        let pair = this.#entries.nextLowerPair(range.to);
        pair !== undefined && pair[0] >= range.from && page.length < options.limit;
        pair = this.#entries.nextLowerPair(pair[0])
      ) {
        page.push(pair[1]);
      }
    } else {
      this.#entries.forRange(range.from, range.to, false, (_key, entry) => {
        if (page.length >= options.limit) return { break: true };
        page.push(entry);
        return undefined;
      });
    }
    return Promise.resolve(page);
  }

  readLog(
    log: string,
    { after, limit }: { readonly after: Seq; readonly limit: number },
  ): Promise<readonly LogEntry[]> {
    const trimmed = this.#trimmed.get(log) ?? SEQ_ZERO;
    if (after < trimmed && after !== SEQ_ZERO) return Promise.reject(stale(log, after, trimmed));
    return Promise.resolve(pageOf(this.#logs.get(log) ?? [], after, limit));
  }

  tail(after: Seq, { limit }: { readonly limit: number }): Promise<readonly CommitRecord[]> {
    const oldest = (this.#commits[0]?.seq ?? this.#seq + 1) - 1;
    if (after < oldest) return Promise.reject(stale("tail", after, oldest));
    const from = after - oldest;
    return Promise.resolve(this.#commits.slice(from, from + limit));
  }

  async commit(batch: Batch): Promise<Receipt> {
    if (this.#closed) throw new KernelError("EIO", "the store is closed");
    measure(batch);
    const effects = decide(batch, (key) => this.#entries.get(key));
    const seq = toSeq(this.#seq + 1);
    this.#seq = seq;
    this.#apply(seq, effects);
    return { seq, flushed: DONE };
  }

  flush(): Promise<void> {
    return DONE;
  }

  close(): Promise<void> {
    this.#closed = true;
    return DONE;
  }

  #apply(seq: Seq, effects: Effects): void {
    for (const { key, value } of effects.puts) this.#entries.set(key, { key, value: copyOf(value), version: seq });
    for (const key of effects.deletes) this.#entries.delete(key);
    for (const { log, value } of effects.appends) {
      const entries = this.#logs.get(log);
      if (entries === undefined) this.#logs.set(log, [{ seq, value: copyOf(value) }]);
      else entries.push({ seq, value: copyOf(value) });
    }
    for (const { log, through } of effects.trims) {
      this.#logs.set(
        log,
        (this.#logs.get(log) ?? []).filter((entry) => entry.seq > through),
      );
      this.#trimmed.set(log, toSeq(Math.max(through, this.#trimmed.get(log) ?? 0)));
    }
    this.#commits.push({ seq, ...effects });
    if (this.#commits.length > 2 * this.#tailRetention)
      this.#commits.splice(0, this.#commits.length - this.#tailRetention);
  }
}

/** Callers may reuse their buffers after the commit. */
const copyOf = <T extends string | Uint8Array>(value: T): T =>
  typeof value === "string" ? value : (copyBytes(value) as Uint8Array as T);

const stale = (what: string, after: number, earliest: number): KernelError =>
  new KernelError("ESTALE", `position ${after} of ${what} is older than what is kept; begin again after ${earliest}`);

/** About `limit` entries after a position, never a part of a commit. */
function pageOf(entries: readonly LogEntry[], after: Seq, limit: number): readonly LogEntry[] {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((entries[middle]?.seq ?? 0) > after) high = middle;
    else low = middle + 1;
  }
  let end = Math.min(entries.length, low + Math.max(1, limit));
  while (end < entries.length && entries[end]?.seq === entries[end - 1]?.seq) end++;
  return entries.slice(low, end);
}
