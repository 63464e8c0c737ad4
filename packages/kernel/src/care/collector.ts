// Content that nothing names any more is deleted from the object store.
//
// C1  What the map or a journal names stays, wherever in a value it stands.
// C2  What was stored within the grace stays: the commit that will name it may be under way. A reference is only ever
//     committed together with, or after, a store of its content.

import { type StoreReader, entriesOf, logOf, patiently } from "../abi/entries.ts";
import type { Metastore, Value } from "../abi/metastore.ts";
import type { Platform } from "../abi/platform.ts";
import { PID_OWNER } from "../base/id.ts";
import type { Committer } from "../ipc/committer.ts";
import { journalLog } from "../journal/record.ts";
import { pidOfKey } from "../proc/process-record.ts";
import type { Blobs } from "../vfs/blobs.ts";

export interface CollectRequest {
  /** How long after it was stored content need not be named by anything, in milliseconds (default an hour). */
  readonly graceMs?: number;
  /** Only tells what would be deleted. */
  readonly dryRun?: boolean;
}

export interface Collected {
  /** Blobs that were deleted, and their bytes. */
  readonly blobs: number;
  readonly bytes: number;
  /** Blobs that stayed. */
  readonly kept: number;
}

export interface CollectorParts {
  readonly store: Metastore;
  readonly blobs: Blobs;
  readonly committer: Committer;
  readonly platform: Platform;
}

const GRACE_MS = 3_600_000;
const CONTENT = /sha256-[0-9a-f]{64}/g;

/** Deletes content that nothing names. */
export async function collect(
  { store, blobs, committer, platform }: CollectorParts,
  { graceMs = GRACE_MS, dryRun = false }: CollectRequest,
): Promise<Collected> {
  const since = platform.clock.monotonic() - graceMs;
  const named = await contentNamed(patiently(store, platform));
  let [gone, bytes, kept] = [0, 0, 0];
  for await (const id of blobs.list()) {
    const size = (await blobs.size(id)) ?? 0;
    if (named.has(id) || blobs.isNewer(id, since)) {
      kept++;
      continue;
    }
    gone++;
    bytes += size;
    if (!dryRun) await blobs.delete(id);
  }
  if (gone > 0 && !dryRun)
    await committer.commit({}, [{ name: "store.collected", pid: PID_OWNER, data: { blobs: gone, bytes } }]);
  return { blobs: gone, bytes, kept };
}

/** Content that the store names. */
async function contentNamed(store: StoreReader): Promise<ReadonlySet<string>> {
  const named = new Set<string>();
  const look = (value: Value): void => {
    if (typeof value === "string") for (const [id] of value.matchAll(CONTENT)) named.add(id);
  };
  for await (const { key, value } of entriesOf(store, "")) {
    look(value);
    if (!key.startsWith("p/")) continue;
    const log = journalLog(pidOfKey(key));
    for await (const record of logOf(store, log)) look(record.value);
  }
  return named;
}
