// The usage ledger: one entry for each model and tool call, in the commit that settles it, never changed.

import { type StoreReader, logOf } from "../abi/entries.ts";
import type { LogEntry } from "../abi/metastore.ts";
import { KernelError } from "../base/errno.ts";
import { SEQ_ZERO, type Seq } from "../base/id.ts";
import { RESOURCES, type Amounts, type Resource } from "./resource.ts";

const USAGE_LOG = "usage";
const FORMAT = 1;

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

export interface UsageRow {
  readonly key: Readonly<Partial<Record<UsageKey, string>>>;
  readonly entries: number;
  readonly used: Amounts;
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

/** Sums of the ledger by some of its keys, the most expensive first. */
export async function usageReport(
  store: StoreReader,
  by: readonly UsageKey[],
  since = 0,
): Promise<readonly UsageRow[]> {
  const rows = new Map<string, { key: UsageRow["key"]; entries: number; used: Partial<Record<Resource, number>> }>();
  for await (const entry of usageEntries(store)) {
    if (entry.at < since) continue;
    const key = Object.fromEntries(by.map((name) => [name, keyOf(entry, name)]));
    const id = JSON.stringify(key);
    let row = rows.get(id);
    if (row === undefined) rows.set(id, (row = { key, entries: 0, used: {} }));
    row.entries++;
    for (const resource of RESOURCES) {
      const amount = entry.used[resource];
      if (amount !== undefined) row.used[resource] = (row.used[resource] ?? 0) + amount;
    }
  }
  return [...rows.values()].sort(
    (a, b) => (b.used.costMicros ?? 0) - (a.used.costMicros ?? 0) || (b.used.tokens ?? 0) - (a.used.tokens ?? 0),
  );
}

function keyOf(entry: UsageEntry, key: UsageKey): string {
  if (key === "day") return new Date(entry.at).toISOString().slice(0, 10);
  return String(entry[key] ?? "-");
}
