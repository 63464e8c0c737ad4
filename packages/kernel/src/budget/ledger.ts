// The usage ledger: one entry for each model and tool call, in the commit that settles it, never changed. Whole days that
// are long past may be rolled up: one sum for each user, group, model, tier and tool of a day, in the commit that drops
// the entries, so that every total stays what it was.

import { type StoreReader, entriesOf, logOf, patiently } from "../abi/entries.ts";
import type { LogEntry, Value } from "../abi/metastore.ts";
import type { Platform } from "../abi/platform.ts";
import { KernelError, isKernelError } from "../base/errno.ts";
import { SEQ_ZERO, type Seq } from "../base/id.ts";
import type { Committer } from "../ipc/committer.ts";
import { RESOURCES, type Amounts, type Resource } from "./resource.ts";

const USAGE_LOG = "usage";
const FORMAT = 1;
/** `us/<day>/<hash of its key>` → `UsageRow` of that day. */
const SUMS = "us/";
/** The instant before which everything was rolled up; each commit that does so writes it. */
const ROLLED_KEY = "sys/usage";
const ROLLED_PER_COMMIT = 1000;
const DAY_MS = 86_400_000;

export interface UsageEntry {
  /** Wall-clock milliseconds. */
  readonly at: number;
  readonly pid: number;
  readonly run: string;
  readonly user: string;
  readonly group?: string;
  readonly place: string;
  /** One of both. */
  readonly model?: string;
  readonly tool?: string;
  readonly tier?: string;
  /** What was settled: what the budget was charged. */
  readonly used: Amounts;
  /** Nobody saw the end of the call: `used` is what was reserved for it. */
  readonly isUnknown?: boolean;
  /** What a provider reported beyond what was reserved; it was not charged. */
  readonly over?: Amounts;
}

/** What was called. */
export type Called = Pick<UsageEntry, "model" | "tool" | "tier">;

export const USAGE_KEYS = ["user", "group", "pid", "run", "model", "tier", "tool", "day"] as const;
export type UsageKey = (typeof USAGE_KEYS)[number];
/** What is still known of calls that were rolled up. */
const ROLLED_KEYS = ["user", "group", "model", "tier", "tool", "day"] as const satisfies readonly UsageKey[];

export interface UsageRow {
  readonly key: Readonly<Partial<Record<UsageKey, string>>>;
  readonly entries: number;
  readonly used: Amounts;
  /** What providers reported beyond what was reserved, and nobody was charged for; absent where there is none. */
  readonly over?: Amounts;
}

/** An entry, for the commit that settles it. */
export function usageOf(
  { pid, runId: run, user, group }: Spender,
  entry: Omit<UsageEntry, "pid" | "run" | "user" | "group">,
): { readonly log: string; readonly value: string } {
  const { at, ...rest } = entry;
  const who = { at, pid, run, user, ...(group === undefined ? {} : { group }) };
  return { log: USAGE_LOG, value: JSON.stringify({ v: FORMAT, ...who, ...rest }) };
}

/** Whose an entry is. */
interface Spender {
  readonly pid: number;
  readonly runId: string;
  readonly user: string;
  readonly group?: string;
}

function decodeUsage({ seq, value }: LogEntry): UsageEntry {
  // Written by `usageOf` only.
  const { v, ...entry } = JSON.parse(String(value)) as UsageEntry & { readonly v: number };
  if (v !== FORMAT)
    throw new KernelError("EVERSION", `the usage entry at ${seq} has format ${v}, this program reads ${FORMAT}`);
  return entry;
}

/** Entries of the ledger, oldest first. */
export async function* usageEntries(
  store: StoreReader,
  after: Seq = SEQ_ZERO,
): AsyncGenerator<UsageEntry, void, undefined> {
  for await (const entry of logOf(store, USAGE_LOG, after)) yield decodeUsage(entry);
}

/**
 * Sums of the ledger by some of its keys, the most expensive first. Of what was rolled up, pid and run are not known.
 * @param since wall-clock milliseconds; of days that were rolled up, from the one that it lies in
 */
export async function usageReport(
  store: StoreReader,
  by: readonly UsageKey[],
  since = 0,
): Promise<readonly UsageRow[]> {
  for (;;) {
    const rolled = await store.get(ROLLED_KEY);
    const sums = new UsageSums(by);
    try {
      for await (const { value } of entriesOf(store, SUMS)) {
        const row = decodeRow(value);
        if (Date.parse(row.key.day ?? "") > since - DAY_MS) sums.add(row, (name) => row.key[name], row.entries);
      }
      for await (const entry of usageEntries(store)) if (entry.at >= since) sums.addEntry(entry);
    } catch (error) {
      // Trimmed while it was read.
      if (isKernelError(error) && error.code === "ESTALE") continue;
      throw error;
    }
    // Entries that became sums meanwhile were counted twice, or not at all.
    if ((await store.get(ROLLED_KEY))?.version !== rolled?.version) continue;
    return sums
      .rows()
      .toSorted(
        (a, b) => (b.used.costMicros ?? 0) - (a.used.costMicros ?? 0) || (b.used.tokens ?? 0) - (a.used.tokens ?? 0),
      );
  }
}

export interface RollUpRequest {
  /** Wall-clock milliseconds; only days (UTC) that were over by then. */
  readonly before: number;
  /** Only counts. */
  readonly dryRun?: boolean;
}

/** Replaces the entries of past days by their sums; one after the other, never two at a time. Tells how many entries. */
export async function rollUpUsage(
  { committer, platform }: { readonly committer: Committer; readonly platform: Pick<Platform, "hash" | "defer"> },
  { before, dryRun = false }: RollUpRequest,
): Promise<number> {
  const store = patiently(committer.store, platform);
  const end = before - (before % DAY_MS);
  let count = 0;
  for (let after = SEQ_ZERO; ;) {
    const page = await store.readLog(USAGE_LOG, { after, limit: ROLLED_PER_COMMIT });
    const old = pastOf(
      page.map((entry) => ({ seq: entry.seq, entry: decodeUsage(entry) })),
      end,
    );
    const through = old.at(-1)?.seq;
    if (through === undefined) return count;
    count += old.length;
    if (dryRun) {
      after = through;
      continue;
    }
    const sums = new UsageSums(ROLLED_KEYS);
    for (const { entry } of old) sums.addEntry(entry);
    const puts = [];
    for (const fresh of sums.rows()) {
      const { key } = fresh;
      const at = `${SUMS}${key.day ?? ""}/${platform.hash(JSON.stringify(key)).slice(0, 32)}`;
      const sum = new UsageSums(ROLLED_KEYS);
      const known = await store.get(at);
      for (const row of [...(known === undefined ? [] : [decodeRow(known.value)]), fresh])
        sum.add(row, (name) => row.key[name], row.entries);
      puts.push({ key: at, value: JSON.stringify({ v: FORMAT, ...sum.rows()[0] }) });
    }
    puts.push({ key: ROLLED_KEY, value: String(end) });
    await committer.commit({ puts, trims: [{ log: USAGE_LOG, through }] });
  }
}

interface Placed {
  readonly seq: Seq;
  readonly entry: UsageEntry;
}

/** Entries from before an instant, at the beginning of a page; those of one commit are not parted. */
function pastOf(page: readonly Placed[], end: number): readonly Placed[] {
  const count = page.findIndex(({ entry }) => entry.at >= end);
  if (count < 0) return page;
  const kept = page[count]?.seq;
  return page.slice(0, count).filter(({ seq }) => seq !== kept);
}

interface Sum {
  readonly key: UsageRow["key"];
  entries: number;
  readonly used: Partial<Record<Resource, number>>;
  readonly over: Partial<Record<Resource, number>>;
}

/** Sums under keys. */
class UsageSums {
  readonly #by: readonly UsageKey[];
  readonly #rows = new Map<string, Sum>();

  constructor(by: readonly UsageKey[]) {
    this.#by = by;
  }

  add(
    { used, over = {} }: Pick<UsageRow, "used" | "over">,
    valueOf: (name: UsageKey) => string | undefined,
    entries: number,
  ): void {
    const key = Object.fromEntries(this.#by.map((name) => [name, valueOf(name) ?? "-"]));
    const id = JSON.stringify(key);
    let row = this.#rows.get(id);
    if (row === undefined) this.#rows.set(id, (row = { key, entries: 0, used: {}, over: {} }));
    row.entries += entries;
    addTo(row.used, used);
    addTo(row.over, over);
  }

  addEntry(entry: UsageEntry): void {
    this.add(entry, (name) => (name === "day" ? dayOf(entry.at) : entry[name]?.toString()), 1);
  }

  rows(): readonly UsageRow[] {
    return Array.from(this.#rows.values(), ({ over, ...row }) =>
      Object.keys(over).length === 0 ? row : { ...row, over },
    );
  }
}

function addTo(sums: Partial<Record<Resource, number>>, amounts: Amounts): void {
  for (const resource of RESOURCES) {
    const amount = amounts[resource];
    if (amount !== undefined) sums[resource] = (sums[resource] ?? 0) + amount;
  }
}

function decodeRow(value: Value): UsageRow {
  // Written by `rollUpUsage` only.
  const { v, ...row } = JSON.parse(String(value)) as UsageRow & { readonly v: number };
  if (v !== FORMAT)
    throw new KernelError("EVERSION", `a sum of the ledger has format ${v}, this program reads ${FORMAT}`);
  return row;
}

const dayOf = (instant: number): string => new Date(instant).toISOString().slice(0, 10);
