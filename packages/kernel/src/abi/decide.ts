// The decision about one commit, the same in every metastore: whoever holds the same state decides the same.

import { KernelError } from "../base/errno.ts";
import { LIMITS } from "../base/limits.ts";
import type { Batch, CommitRecord, Entry, Value } from "./metastore.ts";

export type Effects = Omit<CommitRecord, "seq">;

const NOTHING: readonly never[] = [];
const ENTRY_BYTES = 32;

/**
 * Checks a batch against the state and returns what it writes, with counters resolved.
 * @throws {EAGAIN} a check failed · {EDQUOT} a counter would leave its bounds · {E2BIG} too large · {EINVAL} malformed
 */
export function decide(batch: Batch, lookup: (key: string) => Entry | undefined): Effects {
  for (const { key, version } of batch.checks ?? NOTHING) {
    const found = lookup(key)?.version ?? 0;
    if (found !== version)
      throw new KernelError(
        "EAGAIN",
        `version ${version} of ${key} was expected, found ${found}; read it and try again`,
        { isLostRace: true },
      );
  }
  const counters = batch.adds === undefined || batch.adds.length === 0 ? NOTHING : resolveAdds(batch.adds, lookup);
  const puts = counters.length === 0 ? (batch.puts ?? NOTHING) : [...(batch.puts ?? NOTHING), ...counters];
  return { puts, deletes: batch.deletes ?? NOTHING, appends: batch.appends ?? NOTHING, trims: batch.trims ?? NOTHING };
}

function resolveAdds(adds: NonNullable<Batch["adds"]>, lookup: (key: string) => Entry | undefined): Effects["puts"] {
  const totals = new Map<string, number>();
  for (const { key, delta, max } of adds) {
    const before = totals.get(key) ?? Number(lookup(key)?.value ?? 0);
    const after = before + delta;
    if (!Number.isSafeInteger(after))
      throw new KernelError("EINVAL", `counter ${key} is no whole number: ${before} + ${delta}`);
    // A counter that is being paid back may still be above a bound that was lowered meanwhile.
    if (after < 0 || (delta > 0 && after > max)) {
      throw new KernelError(
        "EDQUOT",
        `counter ${key} is ${before}; ${delta >= 0 ? "+" : ""}${delta} leaves its bounds 0 to ${max}`,
      );
    }
    totals.set(key, after);
  }
  return [...totals].map(([key, value]) => ({ key, value: String(value) }));
}

/**
 * Approximate bytes of a batch, for bounds.
 * @throws {E2BIG} it has more operations or bytes than one commit may carry
 */
export function measure(batch: Batch): number {
  const { puts = NOTHING, deletes = NOTHING, adds = NOTHING, appends = NOTHING, checks = NOTHING } = batch;
  const operations = puts.length + deletes.length + adds.length + appends.length + checks.length;
  let bytes = operations * ENTRY_BYTES;
  for (const { key, value } of puts) bytes += sizeOf(value) + lengthOf(key);
  for (const { log, value } of appends) bytes += sizeOf(value) + lengthOf(log);
  for (const { key } of adds) bytes += lengthOf(key);
  if (operations > LIMITS.commitOpsMax || bytes > LIMITS.commitBytesMax) {
    throw new KernelError(
      "E2BIG",
      `a commit of ${operations} operations and about ${bytes} bytes; at most ${LIMITS.commitOpsMax} and ${LIMITS.commitBytesMax} are allowed`,
    );
  }
  return bytes;
}

/** @throws {E2BIG} some store could not hold such a key */
function lengthOf(key: string): number {
  // A unit of a string has three bytes at most.
  if (key.length > LIMITS.keyBytesMax / 3) {
    const { length } = new TextEncoder().encode(key);
    if (length > LIMITS.keyBytesMax)
      throw new KernelError("E2BIG", `a key of ${length} bytes; at most ${LIMITS.keyBytesMax} are allowed`);
  }
  return key.length;
}

const sizeOf = (value: Value): number => value.length;
