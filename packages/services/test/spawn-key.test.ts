// Starts under a key: made once, however often and by how many they are asked for.

import { MemoryObjectStore } from "@ergos/drivers/memory";
import type { Kernel } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LastingStore, bootAfterDeath, bootKernel, closeWhole } from "../../kernel/test/kernel-fixture.ts";

const count = program("count", () => ++runs);
const other = program("other", () => "other");

let runs = 0;
let [store, objects] = [new LastingStore(), new MemoryObjectStore()];
const boot = (): Promise<Kernel> => bootKernel({ store: store.life(), objects, programs: [count, other] });
let kernel: Kernel;
beforeEach(async () => {
  runs = 0;
  [store, objects] = [new LastingStore(), new MemoryObjectStore()];
  kernel = await boot();
});
afterEach(() => kernel.close());

test("many who ask at once get one process, and its result", async () => {
  const pids = await Promise.all(Array.from({ length: 20 }, () => kernel.os.spawn("count", { key: "order 7" })));

  expect(new Set(pids).size).toBe(1);
  for (const pid of pids) expect((await kernel.os.wait(pid)).result).toBe(1);
  const again = await kernel.os.spawn("count", { key: "order 7" });
  expect((await kernel.os.wait(again)).result).toBe(1);
  expect(await kernel.os.ps({ pids: [again] })).toMatchObject([{ key: "order 7", code: 0 }]);
  expect(await kernel.os.wait(await kernel.os.spawn("count", { key: "order 8" }))).toMatchObject({ result: 2 });
});

test("a key is one user's own, and one program's; what leaves no journal has none", async () => {
  const pid = await kernel.os.spawn("count", { key: "k" });
  expect(await kernel.os.spawn("count", { key: "k", user: "eve" })).not.toBe(pid);
  await expect(kernel.os.spawn("other", { key: "k" })).rejects.toMatchObject({ code: "EEXIST" });
  await expect(kernel.os.spawn("count", { key: "v", durable: false })).rejects.toMatchObject({ code: "EINVAL" });
});

test("it holds over restarts, until the process is deleted", async () => {
  const pid = await kernel.os.spawn("count", { key: "k" });
  await kernel.os.wait(pid);
  await kernel.close();
  kernel = await boot();
  expect(await kernel.os.spawn("count", { key: "k" })).toBe(pid);
  await kernel.os.call("prune", { endedBefore: Date.now() + 1000 });
  const next = await kernel.os.spawn("count", { key: "k" });

  expect(next).not.toBe(pid);
  expect((await kernel.os.wait(next)).result).toBe(2);
  const keys = await kernel.host.store.scan({ from: "sk/", to: "sk0" }, { limit: 10 });
  expect(keys.map(({ value }) => JSON.parse(String(value)) as unknown)).toMatchObject([
    { pid: next, program: "count" },
  ]);
});

test("a program that starts one, and dies at any moment, has started it once", async () => {
  let children = 0;
  const child = program("child", (_input: unknown, ctx: RunContext) => ctx.step("count", () => ++children));
  const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
    const pids = [await ctx.spawn("one", child, { key: "k" }), await ctx.spawn("two", child, { key: "k" })];
    await ctx.wait("end", pids[0] ?? 0);
    return pids[0] === pids[1];
  });
  for (let [commits, isDead] = [1, true]; isDead; commits++) {
    const life = await bootAfterDeath(commits, { programs: [parent, child] }, parent);
    ({ isDead } = life);
    const { os } = life.kernel;
    for (const { pid, state } of await os.ps()) if (state === "sleeping") await os.resume(pid).catch(() => undefined);
    const left = (await os.ps({ all: true })).find(({ name }) => name === "parent");
    if (left !== undefined) {
      expect((await os.wait(left.pid)).result).toBe(true);
      expect((await os.ps({ all: true })).filter(({ program: name }) => name === "child")).toHaveLength(1);
    }
    await closeWhole(life.kernel);
  }
});
