// Walking through a range of the map, or a log, page by page.

import { type Seq, SEQ_ZERO } from "../base/id.ts";
import type { Entry, LogEntry, Metastore } from "./metastore.ts";

const PAGE = 1000;

/**
 * All entries whose keys begin with a prefix, in key order, those behind the key `after` if one is given.
 * What is written meanwhile may or may not be among them.
 */
export async function* entriesOf(
  store: Metastore,
  prefix: string,
  after?: string,
): AsyncGenerator<Entry, void, undefined> {
  for (let from = after === undefined ? prefix : `${after}\u0001`; ;) {
    const page = await store.scan({ from, to: `${prefix}\uD7FF` }, { limit: PAGE });
    yield* page;
    const end = page.at(-1);
    if (end === undefined || page.length < PAGE) return;
    from = `${end.key}\u0001`;
  }
}

/** All entries of a log behind a position, oldest first. */
export async function* logOf(
  store: Metastore,
  log: string,
  after: Seq = SEQ_ZERO,
): AsyncGenerator<LogEntry, void, undefined> {
  for (let from = after; ;) {
    const page = await store.readLog(log, { after: from, limit: PAGE });
    yield* page;
    const last = page.at(-1);
    if (last === undefined) return;
    from = last.seq;
  }
}
