// Leases: locks that are kept as long as they are needed, by programs and by nodes of a plan.

import { setTimeout as delay } from "node:timers/promises";
import { createNodePlatform } from "@ergos/drivers/platform-node";
import type { Kernel } from "@ergos/kernel";
import { holdLock, pipeline, planProgram, program } from "@ergos/services";
import { afterEach, beforeEach, expect, test } from "vitest";
import { bootKernel } from "../../kernel/test/kernel-fixture.ts";

const platform = createNodePlatform();
let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());
const isHeld = async (name: string): Promise<boolean> =>
  ((await kernel.os.call("locks", { path: name }))[0]?.holders.length ?? 0) > 0;

test("a lease is kept beyond its time, and given back once", async () => {
  const lease = await holdLock(kernel.os, platform, "x", { ttlMs: 400 });
  await delay(1000);
  expect([await isHeld("x"), lease.signal.aborted]).toEqual([true, false]);
  await lease.release();
  await lease.release();
  expect(await isHeld("x")).toBe(false);
});

test("a lease outlasts the longest timer of its machine", async () => {
  const forgetful: Pick<typeof platform, "clock" | "setTimer"> = {
    clock: platform.clock,
    setTimer: (ms, task, options) => platform.setTimer(Math.min(ms, 20), task, options),
  };
  await using lease = await holdLock(kernel.os, forgetful, "x", { ttlMs: 60_000 });
  await delay(100);
  expect(lease.signal.aborted).toBe(false);
});

test("a lease that is taken away is told, and takes nothing from who has the lock then", async () => {
  await using lease = await holdLock(kernel.os, platform, "x", { ttlMs: 60 });
  await kernel.os.call("unlock", { path: "x", force: true });
  const other = await kernel.os.call("lock", { path: "x", ttlMs: 60_000 });
  await new Promise((lost) => lease.signal.addEventListener("abort", lost, { once: true }));
  expect(lease.signal.reason).toMatchObject({ code: "ESTALE" });
  await lease.release();
  expect(await kernel.os.call("locks", { path: "x" })).toMatchObject([{ holders: [{ fence: other.fence }] }]);
});

test("a lease that ended while nobody looked is told when it could be had again", async () => {
  await using lease = await holdLock(kernel.os, platform, "x", { ttlMs: 60 });
  await kernel.os.call("unlock", { path: "x", force: true });
  await new Promise((lost) => lease.signal.addEventListener("abort", lost, { once: true }));
  expect(await isHeld("x")).toBe(false);
});

test("nodes of a plan exclude each other, and a leader's place is taken when it ends", async () => {
  let inside = 0;
  let most = 0;
  const guarded = async (ctx: { lock: (name: string, options?: object) => Promise<AsyncDisposable> }, max: number) => {
    await using lease = await ctx.lock("room", max === 1 ? {} : { maxHolders: max });
    expect(lease).toBeDefined();
    most = Math.max(most, ++inside);
    await delay(5);
    inside--;
    return true;
  };
  for (const max of [1, 3]) {
    most = 0;
    const items = Array.from({ length: 9 }, (_none, at) => at);
    const plan = pipeline("crowd")
      .node("items", () => items)
      .map("work", { over: "items" }, (_item, ctx) => guarded(ctx, max))
      .build();
    const exit = await kernel.os.wait(await kernel.os.spawn(planProgram(plan)));
    expect(exit.error).toBeUndefined();
    expect(most).toBe(max);
  }
  const leaders: number[] = [];
  const leader = program("leader", async (_input, ctx) => {
    await ctx.elect("leader", { ttlMs: 5000 });
    leaders.push(ctx.pid);
    await new Promise((end) => ctx.signal.addEventListener("abort", end, { once: true }));
  });
  const pids = await Promise.all([1, 2, 3].map(() => kernel.os.spawn(leader)));
  for (let at = 1; at <= 3; at++) {
    while (leaders.length < at) await delay(1);
    await kernel.os.kill(leaders.at(-1) as (typeof pids)[number], "KILL");
  }
  expect(new Set(leaders)).toEqual(new Set(pids));
});
