// The law of `CacheStore` (abi/cache-store.ts) as cases. One that keeps nothing at all obeys it too.

import type { CacheStore } from "../abi/cache-store.ts";
import { KernelError } from "../base/errno.ts";
import { type ConformanceCase, rejects, same } from "./case.ts";

/** Lets what was published arrive. */
const moment = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
};

export const CACHE_STORE_CASES: readonly ConformanceCase<CacheStore>[] = [
  {
    name: "a value is what was set last, or nothing",
    run: async (cache) => {
      await cache.set("a", "one");
      await cache.set("a", "two");
      await cache.set("b", new Uint8Array([1, 2]));
      const [a, b] = [await cache.get("a"), await cache.get("b")];
      if (a !== undefined) same(a, "two", "a text");
      if (b !== undefined) same(b, new Uint8Array([1, 2]), "bytes");
      same(await cache.get("c"), undefined, "what was never set");
    },
  },
  {
    name: "what was deleted is gone",
    run: async (cache) => {
      await cache.set("a", "one");
      const was = (await cache.get("a")) !== undefined;
      same(await cache.delete("a"), was, "whether it was there");
      same(await cache.get("a"), undefined, "afterwards");
      same(await cache.delete("a"), false, "a second time");
    },
  },
  {
    name: "nobody who changes bytes that were set, or that were read, changes what is kept",
    run: async (cache) => {
      const bytes = new Uint8Array([1]);
      await cache.set("a", bytes);
      bytes[0] = 9;
      const read = await cache.get("a");
      if (!(read instanceof Uint8Array)) return;
      same(read, new Uint8Array([1]), "what was set");
      read[0] = 7;
      same(await cache.get("a"), new Uint8Array([1]), "what was read");
    },
  },
  {
    name: "a time to live is a positive number",
    run: async (cache) => {
      for (const ttlMs of [0, -1, Number.NaN]) await rejects(cache.set("a", "x", { ttlMs }), "EINVAL", `${ttlMs}`);
    },
  },
  {
    name: "who listens to a channel hears what is published there, if anything is heard, and nothing afterwards",
    run: async (cache) => {
      const heard: string[] = [];
      const end = await cache.subscribe("news", (message) => heard.push(message));
      const other = await cache.subscribe("news", () => {
        throw new KernelError("EFAULT", "who listens has failed");
      });
      await cache.publish("other", "no");
      await cache.publish("news", "one");
      await moment();
      await end();
      await cache.publish("news", "two");
      await moment();
      await other();
      if (heard.length > 0) same(heard, ["one"], "what was heard");
    },
  },
];
