// Rows about the store itself.

import type { CheckReport, CheckRequest } from "../care/checker.ts";
import type { CollectRequest, Collected } from "../care/collector.ts";
import type { PruneRequest, Pruned } from "../care/pruner.ts";
import type { RollUpRequest } from "../budget/ledger.ts";
import { args, flag, integer, row } from "./row.ts";

/** A commit that names content follows the store of it within this. */
const GRACE_MIN_MS = 60_000;
const onStore = (): { readonly resource: string } => ({ resource: "/sys/store" });

export const STORE_ROWS = {
  prune: row<PruneRequest, Promise<Pruned>>({
    right: "store.manage",
    kind: "mutation",
    summary: "deletes runs that have ended before an instant: records, journals and, if asked, artifacts",
    schema: args({ endedBefore: integer, keep: integer, artifacts: flag, dryRun: flag }, ["endedBefore"]),
    target: onStore,
    handle: (host, _caller, a) => host.caretaker.prune(a),
  }),
  collect: row<CollectRequest, Promise<Collected>>({
    right: "store.manage",
    kind: "mutation",
    summary: "deletes content that nothing names any more",
    schema: args({ graceMs: { ...integer, minimum: GRACE_MIN_MS }, dryRun: flag }),
    target: onStore,
    handle: (host, _caller, a) => host.caretaker.collect(a),
  }),
  rollUpLedger: row<RollUpRequest, Promise<number>>({
    right: "store.manage",
    kind: "mutation",
    summary: "replaces the calls of days (UTC) before an instant by their sums; of how many",
    schema: args({ before: integer, dryRun: flag }, ["before"]),
    target: onStore,
    handle: (host, _caller, a) => host.caretaker.rollUp(a),
  }),
  checkStore: row<CheckRequest, Promise<CheckReport>>({
    right: "store.manage",
    kind: "query",
    summary: "looks whether everything in the store holds together; with `contents`, whether content has its hash",
    schema: args({ contents: flag }),
    target: onStore,
    handle: (host, _caller, a) => host.caretaker.check(a),
  }),
} as const;
