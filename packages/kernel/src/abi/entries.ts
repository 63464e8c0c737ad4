// Walking through a range of the map, or a log, page by page.

import { type Seq, SEQ_ZERO } from "../base/id.ts";
import type { Entry, LogEntry, Metastore } from "./metastore.ts";
import type { Platform } from "./platform.ts";

const PAGE = 1000;

/** What walkers need of a store. */
export type StoreReader = Pick<Metastore, "get" | "scan" | "readLog">;

/** Lets everybody else have a turn of the loop. */
export const othersTurn = ({ defer }: Pick<Platform, "defer">): Promise<void> =>
  new Promise((resolve) => {
    defer(resolve);
  });

/**
 * A store for walks through much of it: most answer from memory, at once, so that nobody else would have a turn before
 * such a walk is over.
 */
export const patiently = (store: StoreReader, platform: Pick<Platform, "defer">): StoreReader => ({
  get: (key) => store.get(key),
  scan: async (...range) => {
    await othersTurn(platform);
    return store.scan(...range);
  },
  readLog: async (...range) => {
    await othersTurn(platform);
    return store.readLog(...range);
  },
});
/** Behind every key that the kernel writes. */
const LAST = "\uD7FF";

/**
 * All entries whose keys begin with a prefix, in key order, those behind the key `after` if one is given.
 * What is written meanwhile may or may not be among them.
 */
export async function* entriesOf(
  store: Pick<StoreReader, "scan">,
  prefix: string,
  after?: string,
): AsyncGenerator<Entry, void, undefined> {
  const last = prefix.length - 1;
  const to = prefix === "" ? LAST : prefix.slice(0, last) + String.fromCharCode(prefix.charCodeAt(last) + 1);
  for (let from = after === undefined ? prefix : `${after}\u0001`; ;) {
    const page = await store.scan({ from, to }, { limit: PAGE });
    yield* page;
    const end = page.at(-1);
    if (end === undefined || page.length < PAGE) return;
    from = `${end.key}\u0001`;
  }
}

/**
 * All entries of a log behind a position, oldest first.
 * @param limit how many are in memory at a time; fewer where each may be large
 */
export async function* logOf(
  store: Pick<StoreReader, "readLog">,
  log: string,
  after: Seq = SEQ_ZERO,
  limit = PAGE,
): AsyncGenerator<LogEntry, void, undefined> {
  for (let from = after; ;) {
    const page = await store.readLog(log, { after: from, limit });
    yield* page;
    const last = page.at(-1);
    if (last === undefined) return;
    from = last.seq;
  }
}
