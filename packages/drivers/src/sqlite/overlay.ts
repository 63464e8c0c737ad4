// What was committed and not yet folded into the tables: it answers reads before the tables do.

import type { Effects, Entry, LogEntry, Seq } from "@ergos/kernel";
import { type OrderedMap, createOrderedMap } from "../ordered-map.ts";

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
