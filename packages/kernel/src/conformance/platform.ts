// The law of `Platform` (abi/platform.ts) as cases.

import type { Platform } from "../abi/platform.ts";
import { type ConformanceCase, same } from "./case.ts";

const passed = (platform: Platform, ms: number): Promise<void> =>
  new Promise((done) => void platform.setTimer(ms, done));

export const PLATFORM_CASES: readonly ConformanceCase<Platform>[] = [
  {
    name: "the clock that never goes back does not",
    run: async ({ clock }) => {
      let last = clock.monotonic();
      for (let round = 0; round < 1000; round++) {
        const now = clock.monotonic();
        same(now >= last, true, "a later instant");
        last = now;
      }
      same(Number.isFinite(clock.now()), true, "the wall clock");
    },
  },
  {
    name: "a hash is SHA-256 in hexadecimal digits, of texts as of their UTF-8",
    run: async (platform) => {
      const hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
      same(platform.hash("hello"), hello, "a text");
      same(platform.hash(new TextEncoder().encode("hello")), hello, "bytes");
      same(platform.hash("ä✓"), platform.hash(new TextEncoder().encode("ä✓")), "another script");
      same(platform.hash(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "nothing");
    },
  },
  {
    name: "random bytes are as many as asked for, and different each time",
    run: async (platform) => {
      for (const length of [0, 1, 16, 70_000]) same(platform.random(length).length, length, "how many");
      same(new Set(Array.from({ length: 100 }, () => platform.random(16).join())).size, 100, "different ones");
    },
  },
  {
    name: "memory has the length that was asked for, and each piece is its own",
    run: async (platform) => {
      const [one, two] = [platform.allocate(100), platform.allocate(100)];
      same([one.length, two.length], [100, 100], "lengths");
      one.fill(1);
      two.fill(2);
      same(
        one.every((byte) => byte === 1),
        true,
        "the first piece",
      );
    },
  },
  {
    name: "what is deferred runs behind this turn, in order, and a timer once, behind its delay",
    run: async (platform) => {
      const order: string[] = [];
      const done = Promise.withResolvers<void>();
      platform.defer(() => order.push("one"));
      platform.defer(() => {
        order.push("two");
        done.resolve();
      });
      await Promise.resolve().then(() => order.push("microtask"));
      order.push("now");
      await done.promise;
      same(order, ["microtask", "now", "one", "two"], "the order");
      const start = platform.clock.monotonic();
      let runs = 0;
      platform.setTimer(5, () => runs++);
      await passed(platform, 20);
      same(runs, 1, "how often it ran");
      same(platform.clock.monotonic() - start >= 19, true, "how long it took");
    },
  },
  {
    name: "a timer that was cancelled does not run, and can be cancelled again",
    run: async (platform) => {
      let runs = 0;
      const timer = platform.setTimer(1, () => runs++);
      timer.cancel();
      timer.cancel();
      const other = platform.setTimer(1, () => runs++, { idle: true });
      await passed(platform, 10);
      other.cancel();
      same(runs, 1, "how often one ran");
    },
  },
];
