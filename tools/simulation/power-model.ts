// What commit number `at` writes, and whether a store holds exactly the first `seq` of them.

import type { SqliteMetastore } from "@ergos/drivers/sqlite";
import { type Batch, SEQ_ZERO, toSeq } from "@ergos/kernel";

const HOT_KEYS = 17;

export function batchOf(at: number): Batch {
  const size = at % 11 === 0 ? 9000 : 40 + (at % 7) * 60;
  return {
    puts: [
      { key: `hot/${at % HOT_KEYS}`, value: String(at) },
      {
        key: `k/${String(at).padStart(6, "0")}`,
        value: at % 5 === 0 ? new Uint8Array(size).fill(at % 256) : `${at}:${"x".repeat(size)}`,
      },
    ],
    deletes: at > 20 ? [`k/${String(at - 20).padStart(6, "0")}`] : [],
    adds: [{ key: "count", delta: 1, max: Number.MAX_SAFE_INTEGER }],
    appends: [{ log: `l/${at % 4}`, value: `entry ${at}` }],
  };
}

/** Throws unless the store is exactly what the first `store.seq` commits make. */
export async function assertPrefix(store: SqliteMetastore): Promise<void> {
  const { seq } = store;
  const count = Number((await store.get("count"))?.value ?? 0);
  if (count !== seq) throw new TypeError(`position ${seq} but ${count} commits counted`);
  const keys = (await store.scan({ from: "k/", to: "k0" }, { limit: 10_000 })).map(({ key }) => Number(key.slice(2)));
  const expected = Array.from({ length: Math.min(20, seq) }, (_, at) => seq - Math.min(20, seq) + 1 + at);
  if (JSON.stringify(keys) !== JSON.stringify(expected))
    throw new TypeError(`position ${seq} with the keys ${keys.join()}`);
  for (let hot = 0; hot < HOT_KEYS; hot++) {
    const newest = seq - ((seq - hot + HOT_KEYS) % HOT_KEYS);
    const found = (await store.get(`hot/${hot}`))?.value;
    if (newest >= 1 && found !== String(newest))
      throw new TypeError(`position ${seq}: hot/${hot} is ${String(found)}, expected ${newest}`);
  }
  for (let log = 0; log < 4; log++) {
    let next = log === 0 ? 4 : log;
    for (let after = SEQ_ZERO; ;) {
      const page = await store.readLog(`l/${log}`, { after, limit: 500 });
      for (const { value } of page) {
        if (value !== `entry ${next}`)
          throw new TypeError(`position ${seq}: log ${log} holds ${String(value)}, expected entry ${next}`);
        next += 4;
      }
      const last = page.at(-1);
      if (last === undefined) break;
      after = toSeq(last.seq);
    }
    if (next <= seq) throw new TypeError(`position ${seq}: log ${log} ends before entry ${next}`);
  }
}
