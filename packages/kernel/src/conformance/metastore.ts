// The law of `Metastore` (abi/metastore.ts, M1-M5) as cases.

import type { Metastore, Receipt } from "../abi/metastore.ts";
import { SEQ_ZERO, toSeq } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { SharingBytes, type ConformanceCase, rejects, same } from "./case.ts";

const all = { from: "", to: "\uD7FF" };
const keysOf = async (store: Metastore, limit = 1000): Promise<string[]> =>
  (await store.scan(all, { limit })).map(({ key }) => key);

export const METASTORE_CASES: readonly ConformanceCase<Metastore>[] = [
  {
    name: "a commit writes all its keys at one position",
    run: async (store) => {
      const { seq } = await store.commit({
        puts: [
          { key: "a", value: "1" },
          { key: "b", value: new Uint8Array([1, 0, 255]) },
        ],
      });
      same(await store.get("a"), { key: "a", value: "1", version: seq }, "a text");
      same(await store.get("b"), { key: "b", value: new Uint8Array([1, 0, 255]), version: seq }, "bytes");
      same(store.seq, seq, "the position of the store");
    },
  },
  {
    name: "a text that looks like a number stays a text",
    run: async (store) => {
      await store.commit({ puts: [{ key: "n", value: "007" }] });
      same((await store.get("n"))?.value, "007", "the value");
    },
  },
  {
    name: "positions rise by one with every commit",
    run: async (store) => {
      const first = await store.commit({ puts: [{ key: "a", value: "1" }] });
      const second = await store.commit({});
      same(second.seq, first.seq + 1, "the second position");
    },
  },
  {
    name: "a check of a version that still holds passes",
    run: async (store) => {
      const { seq } = await store.commit({
        checks: [{ key: "a", version: SEQ_ZERO }],
        puts: [{ key: "a", value: "1" }],
      });
      await store.commit({ checks: [{ key: "a", version: seq }], puts: [{ key: "a", value: "2" }] });
      same((await store.get("a"))?.value, "2", "the value");
    },
  },
  {
    name: "a check that fails rejects its own commit entirely, and no other",
    run: async (store) => {
      await store.commit({ puts: [{ key: "a", value: "1" }] });
      const failing = store.commit({ checks: [{ key: "a", version: SEQ_ZERO }], puts: [{ key: "b", value: "x" }] });
      const passing = store.commit({ puts: [{ key: "c", value: "y" }] });
      await rejects(failing, "EAGAIN", "the failed check");
      await passing;
      same(await keysOf(store), ["a", "c"], "the keys");
    },
  },
  {
    name: "of two commits that check the same version one wins, however they race",
    run: async (store) => {
      const tries = await Promise.allSettled(
        Array.from({ length: 20 }, (_, at) =>
          store.commit({ checks: [{ key: "k", version: SEQ_ZERO }], puts: [{ key: "k", value: String(at) }] }),
        ),
      );
      same(tries.filter(({ status }) => status === "fulfilled").length, 1, "winners");
    },
  },
  {
    name: "a deleted key is absent and its version is 0",
    run: async (store) => {
      await store.commit({ puts: [{ key: "a", value: "1" }] });
      await store.commit({ deletes: ["a", "never-there"] });
      same(await store.get("a"), undefined, "the entry");
      await store.commit({ checks: [{ key: "a", version: SEQ_ZERO }] });
    },
  },
  {
    name: "counters commute and stop at their bounds",
    run: async (store) => {
      const tries = await Promise.allSettled(
        Array.from({ length: 30 }, () => store.commit({ adds: [{ key: "c", delta: 1, max: 10 }] })),
      );
      same(tries.filter(({ status }) => status === "fulfilled").length, 10, "additions that fitted");
      same((await store.get("c"))?.value, "10", "the counter");
      await rejects(
        store.commit({ adds: [{ key: "c", delta: 1, max: 10 }], puts: [{ key: "x", value: "1" }] }),
        "EDQUOT",
        "one too many",
      );
      same(await store.get("x"), undefined, "what stood beside it");
      await store.commit({ adds: [{ key: "c", delta: -10, max: 10 }] });
      await rejects(store.commit({ adds: [{ key: "c", delta: -1, max: 10 }] }), "EDQUOT", "below 0");
    },
  },
  {
    name: "two additions to one counter in one commit are one movement",
    run: async (store) => {
      await store.commit({
        adds: [
          { key: "c", delta: 4, max: 10 },
          { key: "c", delta: 5, max: 10 },
        ],
      });
      same((await store.get("c"))?.value, "9", "the counter");
      await rejects(
        store.commit({
          adds: [
            { key: "c", delta: 1, max: 10 },
            { key: "c", delta: 1, max: 10 },
          ],
        }),
        "EDQUOT",
        "the sum",
      );
      same((await store.get("c"))?.value, "9", "the counter after the refusal");
    },
  },
  {
    name: "a counter that was lowered below its use can still be paid back",
    run: async (store) => {
      await store.commit({ adds: [{ key: "c", delta: 8, max: 10 }] });
      await store.commit({ adds: [{ key: "c", delta: -2, max: 5 }] });
      same((await store.get("c"))?.value, "6", "the counter");
    },
  },
  {
    name: "a scan gives a range in key order, page by page, in both directions",
    run: async (store) => {
      const keys = ["b/1", "a", "b/10", "b/2", "é", "b0", "c"];
      await store.commit({ puts: keys.map((key) => ({ key, value: key })) });
      same(await keysOf(store), ["a", "b/1", "b/10", "b/2", "b0", "c", "é"], "all keys");
      const range = { from: "b/", to: "b0" };
      same(
        (await store.scan(range, { limit: 2 })).map(({ key }) => key),
        ["b/1", "b/10"],
        "a page",
      );
      same(
        (await store.scan(range, { limit: 2, reverse: true })).map(({ key }) => key),
        ["b/2", "b/10"],
        "a page from the end",
      );
      same(await store.scan({ from: "x", to: "b" }, { limit: 5 }), [], "an empty range");
      same(await store.scan(range, { limit: 0 }), [], "no page");
    },
  },
  {
    name: "a scan leaves out what was deleted and shows the newest value",
    run: async (store) => {
      await store.commit({ puts: ["a", "b", "c"].map((key) => ({ key, value: "old" })) });
      await store.commit({ deletes: ["b"], puts: [{ key: "c", value: "new" }] });
      same(
        (await store.scan(all, { limit: 2 })).map(({ key, value }) => [key, value]),
        [
          ["a", "old"],
          ["c", "new"],
        ],
        "the page",
      );
    },
  },
  {
    name: "logs are read back in order, after a position, never in parts of a commit",
    run: async (store) => {
      const first = await store.commit({
        appends: [
          { log: "l", value: "1" },
          { log: "other", value: "x" },
        ],
      });
      const second = await store.commit({
        appends: [
          { log: "l", value: "2" },
          { log: "l", value: new Uint8Array([3]) },
          { log: "l", value: "4" },
        ],
      });
      await store.commit({ appends: [{ log: "l", value: "5" }] });
      const whole = await store.readLog("l", { after: SEQ_ZERO, limit: 100 });
      same(
        whole.map(({ value }) => value),
        ["1", "2", new Uint8Array([3]), "4", "5"],
        "the whole log",
      );
      same(
        (await store.readLog("l", { after: first.seq, limit: 1 })).map(({ seq }) => seq),
        [second.seq, second.seq, second.seq],
        "a page of one commit",
      );
      same(await store.readLog("nothing", { after: SEQ_ZERO, limit: 10 }), [], "a log that nobody wrote");
    },
  },
  {
    name: "a trimmed log begins later, and an older position is stale",
    run: async (store) => {
      const first = await store.commit({ appends: [{ log: "l", value: "1" }] });
      const second = await store.commit({ appends: [{ log: "l", value: "2" }] });
      await store.commit({ appends: [{ log: "l", value: "3" }] });
      await store.commit({ trims: [{ log: "l", through: second.seq }] });
      same(
        (await store.readLog("l", { after: SEQ_ZERO, limit: 10 })).map(({ value }) => value),
        ["3"],
        "what is left",
      );
      same(
        (await store.readLog("l", { after: second.seq, limit: 10 })).map(({ value }) => value),
        ["3"],
        "after the trim",
      );
      await rejects(store.readLog("l", { after: first.seq, limit: 10 }), "ESTALE", "before the trim");
    },
  },
  {
    name: "tail gives the commits after a position with what they wrote",
    run: async (store) => {
      const { seq } = await store.commit({ puts: [{ key: "a", value: "1" }] });
      await store.commit({
        deletes: ["a"],
        adds: [{ key: "c", delta: 2, max: 5 }],
        appends: [{ log: "l", value: "x" }],
      });
      await store.flush();
      const records = await store.tail(seq, { limit: 10 });
      same(
        records,
        [
          {
            seq: seq + 1,
            puts: [{ key: "c", value: "2" }],
            deletes: ["a"],
            appends: [{ log: "l", value: "x" }],
            trims: [],
          },
        ],
        "the records",
      );
      same(await store.tail(store.seq, { limit: 10 }), [], "at the end");
    },
  },
  {
    name: "bytes may be reused by the caller as soon as commit was called",
    run: async (store) => {
      const bytes = new SharingBytes([1, 2, 3]);
      const done = store.commit({ puts: [{ key: "a", value: bytes }], appends: [{ log: "l", value: bytes }] });
      bytes.fill(9);
      await done;
      same((await store.get("a"))?.value, new Uint8Array([1, 2, 3]), "the value");
      same(
        (await store.readLog("l", { after: SEQ_ZERO, limit: 1 }))[0]?.value,
        new Uint8Array([1, 2, 3]),
        "the log entry",
      );
    },
  },
  {
    name: "commits are decided in the order of their calls, also where much waits to be written",
    run: async (store) => {
      const large = new Uint8Array(LIMITS.commitBytesMax - 1000);
      const count = Math.ceil(LIMITS.pendingBytesMax / large.length) + 2;
      const commits: Promise<Receipt>[] = [];
      for (let at = 0; at < count; at++) {
        const bytes = large.fill(at).subarray();
        commits.push(
          store.commit({ puts: [{ key: `large${at}`, value: bytes }], appends: [{ log: "l", value: `${at}` }] }),
          store.commit({ appends: [{ log: "l", value: `behind ${at}` }] }),
          store.commit({ checks: [{ key: `large${at}`, version: SEQ_ZERO }] }),
        );
        commits.pop()?.catch(() => undefined);
      }
      large.fill(255);
      const positions = (await Promise.all(commits)).map(({ seq }) => seq);
      same(
        positions,
        positions.toSorted((a, b) => a - b),
        "the positions",
      );
      const order = (await store.readLog("l", { after: SEQ_ZERO, limit: 4 * count })).map(({ value }) => value);
      same(order, Array.from({ length: count }, (_, at) => [`${at}`, `behind ${at}`]).flat(), "the log");
      for (let at = 0; at < count; at++) {
        const { value } = (await store.get(`large${at}`)) ?? {};
        same(value instanceof Uint8Array ? [value[0], value.at(-1)] : value, [at, at], `the bytes of ${at}`);
      }
    },
  },
  {
    name: "a commit beyond its bounds is E2BIG and changes nothing",
    run: async (store) => {
      const many = Array.from({ length: LIMITS.commitOpsMax + 1 }, (_, at) => ({ key: `k${at}`, value: "" }));
      await rejects(store.commit({ puts: many }), "E2BIG", "too many operations");
      await rejects(
        store.commit({ puts: [{ key: "big", value: new Uint8Array(LIMITS.commitBytesMax + 1) }] }),
        "E2BIG",
        "too many bytes",
      );
      for (const key of ["k".repeat(LIMITS.keyBytesMax + 1), "漢".repeat(LIMITS.keyBytesMax / 2)]) {
        await rejects(store.commit({ puts: [{ key, value: "" }] }), "E2BIG", "too long a key");
        await rejects(store.commit({ appends: [{ log: key, value: "" }] }), "E2BIG", "too long a log");
      }
      same(await keysOf(store), [], "the keys");
    },
  },
  {
    name: "a key and the name of a log may be as long as the bound",
    run: async (store) => {
      const key = `${"漢".repeat(100)}${"k".repeat(LIMITS.keyBytesMax - 300)}`;
      await store.commit({ puts: [{ key, value: "1" }], appends: [{ log: key, value: "2" }] });
      same([(await store.get(key))?.value, await keysOf(store)], ["1", [key]], "the key");
      same(
        (await store.readLog(key, { after: SEQ_ZERO, limit: 9 })).map(({ value }) => value),
        ["2"],
        "the log",
      );
    },
  },
  {
    name: "empty values and empty bytes are values",
    run: async (store) => {
      await store.commit({
        puts: [
          { key: "a", value: "" },
          { key: "b", value: new Uint8Array(0) },
        ],
      });
      same((await store.get("a"))?.value, "", "a text");
      same((await store.get("b"))?.value, new Uint8Array(0), "bytes");
    },
  },
  {
    name: "flushed settles, for one commit and for all before it",
    run: async (store) => {
      const receipts = await Promise.all(
        Array.from({ length: 50 }, (_, at) => store.commit({ puts: [{ key: `k${at}`, value: "v" }] })),
      );
      await Promise.all(receipts.map(({ flushed }) => flushed));
      await store.flush();
      same((await keysOf(store)).length, 50, "keys");
    },
  },
  {
    name: "a thousand commits at once all happen, in the order of their calls",
    run: async (store) => {
      const receipts = await Promise.all(
        Array.from({ length: 1000 }, (_, at) => store.commit({ appends: [{ log: "l", value: String(at) }] })),
      );
      same(
        receipts.map(({ seq }, at) => seq - at).every((base, _, bases) => base === bases[0]),
        true,
        "positions in order",
      );
      const values: string[] = [];
      for (let after = SEQ_ZERO; ;) {
        const page = await store.readLog("l", { after, limit: 64 });
        values.push(...page.map(({ value }) => String(value)));
        const last = page.at(-1);
        if (last === undefined) break;
        after = toSeq(last.seq);
      }
      same(
        values,
        Array.from({ length: 1000 }, (_, at) => String(at)),
        "the log",
      );
    },
  },
  {
    name: "a closed store refuses commits with EIO, and closing again does nothing",
    run: async (store) => {
      await store.close();
      await rejects(store.commit({ puts: [{ key: "a", value: "1" }] }), "EIO", "a commit after close");
      await store.close();
    },
  },
];
