// What was committed and not yet folded into the tables: it answers reads before the tables do. And what stores have in
// common about pages and positions.

import {
  type Batch,
  type Effects,
  type Entry,
  KernelError,
  type LogEntry,
  type Range,
  SEQ_ZERO,
  type Seq,
  type Value,
} from "@ergos/kernel";
import { type OrderedMap, createOrderedMap } from "./ordered-map.ts";

export class Overlay {
  /** `undefined` marks a key that was deleted. */
  readonly entries: OrderedMap<Entry | undefined> = createOrderedMap();
  readonly logs = new Map<string, LogEntry[]>();
  readonly trims = new Map<string, Seq>();
  #appended = 0;

  /** Rows that folding will touch, roughly. */
  get size(): number {
    return this.entries.size + this.#appended;
  }

  get isEmpty(): boolean {
    return this.entries.size === 0 && this.logs.size === 0 && this.trims.size === 0;
  }

  apply(seq: Seq, effects: Effects): void {
    for (const { key, value } of effects.puts) this.entries.set(key, { key, value, version: seq });
    for (const key of effects.deletes) this.entries.set(key, undefined);
    for (const { log, value } of effects.appends) {
      const entries = this.logs.get(log);
      if (entries === undefined) this.logs.set(log, [{ seq, value }]);
      else entries.push({ seq, value });
      this.#appended++;
    }
    for (const { log, through } of effects.trims) {
      if (through > (this.trims.get(log) ?? 0)) this.trims.set(log, through);
    }
  }
}

/**
 * A page of the range: rows of the tables, corrected by what is not folded yet.
 * @param scan the first so many rows of the tables
 */
export function mergeScan(
  scan: (limit: number) => readonly Entry[],
  overlays: readonly (Overlay | undefined)[],
  range: Range,
  limit: number,
  reverse: boolean,
): readonly Entry[] {
  let fresh: Fresh = NOTHING_FRESH;
  for (const overlay of overlays) {
    const next: { keys: string[]; values: (Entry | undefined)[] } = { keys: [], values: [] };
    overlay?.entries.forRange(range.from, range.to, false, (key, entry) => {
      next.keys.push(key);
      next.values.push(entry);
    });
    if (next.keys.length === 0) continue;
    if (reverse) for (const list of [next.keys, next.values]) list.reverse();
    fresh = fresh.keys.length === 0 ? next : joined(fresh, next, reverse);
  }
  // Every deleted or replaced row of the page may cost one more from the tables.
  const rows = scan(limit + fresh.keys.length);
  if (fresh.keys.length === 0) return rows.slice(0, limit);
  const page: Entry[] = [];
  const { keys, values } = fresh;
  for (let [at, row] = [0, 0]; page.length < limit && (at < keys.length || row < rows.length);) {
    const [key, other] = [keys[at], rows[row]];
    const isFresh = other === undefined || (key !== undefined && !isAfter(key, other.key, reverse));
    if (isFresh && key === other?.key) row++;
    const entry = isFresh ? values[at++] : rows[row++];
    if (entry !== undefined) page.push(entry);
  }
  return page;
}

/** What overlays have in a range, in its order; `undefined` where they have deleted. */
interface Fresh {
  readonly keys: readonly string[];
  readonly values: readonly (Entry | undefined)[];
}
const NOTHING_FRESH: Fresh = { keys: [], values: [] };

const isAfter = (key: string, other: string, reverse: boolean): boolean => (reverse ? key < other : key > other);

/** Both in their order; what the newer one has counts. */
function joined(newer: Fresh, older: Fresh, reverse: boolean): Fresh {
  const keys: string[] = [];
  const values: (Entry | undefined)[] = [];
  for (let [one, two] = [0, 0]; one < newer.keys.length || two < older.keys.length;) {
    const [key, other] = [newer.keys[one], older.keys[two]];
    const isNewer = other === undefined || (key !== undefined && !isAfter(key, other, reverse));
    if (isNewer && key === other) two++;
    keys.push((isNewer ? key : other) ?? "");
    values.push(isNewer ? newer.values[one++] : older.values[two++]);
  }
  return { keys, values };
}

/** Adds entries until the page has about `limit`: at least a commit, and never a part of one. */
export function takeCommits(page: LogEntry[], entries: Iterable<LogEntry>, limit: number): void {
  for (const entry of entries) {
    const last = page.at(-1);
    if (last !== undefined && page.length >= limit && entry.seq !== last.seq) return;
    page.push(entry);
  }
}

/** The entries of a log that come behind a position. */
export function* entriesBehind(entries: readonly LogEntry[], after: Seq): Generator<LogEntry, void, undefined> {
  let [at, end] = [0, entries.length];
  while (at < end) {
    const middle = (at + end) >>> 1;
    if ((entries[middle]?.seq ?? SEQ_ZERO) > after) end = middle;
    else at = middle + 1;
  }
  for (; at < entries.length; at++) {
    const entry = entries[at];
    if (entry !== undefined) yield entry;
  }
}

/** Callers may reuse their buffers after the commit. */
export function detach<T extends Pick<Batch, "puts" | "appends">>(change: T): T {
  const { puts = [], appends = [] } = change;
  if (!hasBytes(puts) && !hasBytes(appends)) return change;
  return { ...change, puts: puts.map(copy), appends: appends.map(copy) };
}

function hasBytes(items: readonly { readonly value: Value }[]): boolean {
  for (const { value } of items) if (typeof value !== "string") return true;
  return false;
}

const copy = <T extends { readonly value: Value }>(item: T): T =>
  typeof item.value === "string" ? item : { ...item, value: Buffer.from(item.value) };

export const stale = (what: string, after: number, earliest: number): KernelError =>
  new KernelError("ESTALE", `position ${after} of ${what} is older than what is kept; begin again after ${earliest}`);
