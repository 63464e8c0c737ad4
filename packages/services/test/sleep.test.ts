// Processes that are put to sleep, woken, and branches that are collapsed.

import { MemoryObjectStore } from "@ergos/drivers/memory";
import { createNodePlatform } from "@ergos/drivers/platform-node";
import type { Kernel, Pid, Signal } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LastingStore, bootKernel, openProgram } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
  kernel.activate();
});
afterEach(() => kernel.close());

const stateOf = async (pid: Pid, of = kernel) => (await of.os.ps({ pids: [pid] }))[0];
const until = async (isSo: () => Promise<boolean>): Promise<void> => {
  while (!(await isSo())) await new Promise((go) => setTimeout(go, 1));
};
const asleep = (pid: Pid, of = kernel): Promise<void> =>
  until(async () => {
    const found = await stateOf(pid, of);
    return found?.state === "sleeping" && found.sleep !== undefined;
  });

/** Notes its lives, sleeps, and then reads one message if there is any. */
const sleeper = (lives: number[], options: { readonly until?: number } = {}) =>
  program("sleeper", async (_input: unknown, ctx: RunContext) => {
    lives.push(lives.length + 1);
    await ctx.step("before", () => undefined);
    await ctx.hibernate("night", options);
    const message = await ctx.receive("morning", { waitMs: 0 });
    return { woken: message?.body ?? null, life: lives.length };
  });

test("a message wakes it, and it goes on where it fell asleep", async () => {
  const lives: number[] = [];
  const pid = await kernel.os.spawn(sleeper(lives));
  await asleep(pid);
  expect(lives).toEqual([1]);
  expect(kernel.host.processes.get(pid)?.program).toBeUndefined();
  await kernel.os.call("send", { to: pid, body: "up" });
  expect((await kernel.os.wait(pid)).result).toEqual({ woken: "up", life: 2 });
});

test("a message that is there before it sleeps wakes it at once", async () => {
  const pid = await kernel.os.spawn(sleeper([]));
  await kernel.os.call("send", { to: pid, body: "early" });
  expect((await kernel.os.wait(pid)).result).toEqual({ woken: "early", life: 2 });
});

test("the time wakes it, also after a jump of the clock, and a time that has passed at once", async () => {
  const soon = await kernel.os.spawn(sleeper([], { until: Date.now() + 30 }));
  await asleep(soon);
  expect((await stateOf(soon))?.sleep?.until).toBeGreaterThan(Date.now() - 1000);
  expect((await kernel.os.wait(soon)).result).toEqual({ woken: null, life: 2 });
  const past = await kernel.os.spawn(sleeper([], { until: 1 }));
  expect((await kernel.os.wait(past)).result).toEqual({ woken: null, life: 2 });

  let ahead = 0;
  const platform = createNodePlatform();
  const looks: (() => void)[] = [];
  const jumping = await bootKernel({
    platform: {
      ...platform,
      clock: { now: () => Date.now() + ahead, monotonic: () => platform.clock.monotonic() },
      setTimer: (ms, task, options) => {
        if (ms >= 60_000) looks.push(task);
        return platform.setTimer(ms, task, options);
      },
    },
  });
  jumping.activate();
  const far = await jumping.os.spawn(sleeper([], { until: Date.now() + 3_600_000 }));
  await asleep(far, jumping);
  ahead = 7_200_000;
  // The next look at the clock, at most a minute later.
  for (const look of looks.splice(0)) look();
  expect((await jumping.os.wait(far)).result).toEqual({ woken: null, life: 2 });
  await jumping.close();
});

test("a signal wakes it and is heard, one that ends it ends it", async () => {
  const lives: number[] = [];
  const listener = program("listener", async (_input: unknown, ctx: RunContext) => {
    lives.push(0);
    await ctx.hibernate("night");
    const heard: Signal[] = [];
    for await (const signal of ctx.signals()) {
      heard.push(signal);
      break;
    }
    return heard;
  });
  const pid = await kernel.os.spawn(listener);
  await asleep(pid);
  await kernel.os.kill(pid, "USR1");
  expect((await kernel.os.wait(pid)).result).toEqual(["USR1"]);

  const other = await kernel.os.spawn(sleeper([]));
  await asleep(other);
  await kernel.os.kill(other);
  expect(await kernel.os.wait(other)).toMatchObject({ signal: "TERM" });
});

test("another process puts it to sleep and wakes it, and what it was waiting for it waits for again", async () => {
  const lives: number[] = [];
  const patient = program("patient", async (_input: unknown, ctx: RunContext) => {
    lives.push(0);
    return (await ctx.receive("letter", { kind: "task" }))?.body;
  });
  const pid = await kernel.os.spawn(patient);
  await until(async () => (await stateOf(pid))?.state === "waiting");
  await kernel.os.call("sleep", { pid });
  await asleep(pid);
  await kernel.os.call("wake", { pid });
  await until(async () => (await stateOf(pid))?.state === "waiting");
  await kernel.os.call("wake", { pid });
  await kernel.os.call("send", { to: pid, body: 7, kind: "task" });
  expect((await kernel.os.wait(pid)).result).toBe(7);
  expect(lives).toHaveLength(2);
});

test("what cannot sleep says so", async () => {
  const { program: open, context } = openProgram();
  const pid = await kernel.os.spawn(open, { durable: false });
  const { os } = await context;
  const failing = async (call: () => unknown): Promise<unknown> => call();
  await expect(failing(() => kernel.os.call("sleep", { pid }))).rejects.toMatchObject({ code: "EINVAL" });
  await expect(failing(() => os.call("sleep", { place: "night" }))).rejects.toMatchObject({ code: "EINVAL" });
  await expect(failing(() => os.call("sleep", {}))).rejects.toMatchObject({ code: "EINVAL" });
  await expect(failing(() => kernel.os.call("sleep", {}))).rejects.toMatchObject({ code: "EPERM" });
  const other = await kernel.os.spawn(sleeper([]));
  await asleep(other);
  await expect(failing(() => kernel.os.call("sleep", { pid: other }))).rejects.toMatchObject({ code: "EBUSY" });
});

test("sleep outlives hosts that die, and only one that acts wakes", async () => {
  const lives: number[] = [];
  const programs = [sleeper(lives, { until: Date.now() + 40 })];
  for (let cut = 3; cut < 12; cut++) {
    const store = new LastingStore();
    const objects = new MemoryObjectStore();
    const first = store.life(cut);
    const host = await bootKernel({ store: first, objects, programs });
    const spawned = await Promise.race([host.os.spawn({ name: "sleeper" }), first.died]);
    if (spawned === undefined) continue;
    const pid = spawned;
    await Promise.race([asleep(pid, host), first.died]);
    const looking = await bootKernel({ store: store.life(), objects, programs });
    const found = await stateOf(pid, looking);
    await new Promise((go) => setTimeout(go, 50));
    expect((await stateOf(pid, looking))?.state).toBe("sleeping");
    looking.activate();
    if (found?.sleep === undefined) await looking.os.resume(pid);
    expect(await looking.os.wait(pid)).toMatchObject({ code: 0, result: { woken: null } });
    await looking.close();
  }
  expect(lives.length).toBeGreaterThan(12);
});

test("a thousand sleep at once", async () => {
  const lives: number[] = [];
  const one = sleeper(lives);
  const pids = await Promise.all(Array.from({ length: 1000 }, () => kernel.os.spawn(one)));
  for (const pid of pids) await asleep(pid);
  expect(kernel.host.processes.orphans).toBe(0);
  await Promise.all(pids.map((pid) => kernel.os.call("send", { to: pid, body: pid })));
  const exits = await Promise.all(pids.map((pid) => kernel.os.wait(pid)));
  expect(exits.map(({ result }) => (result as { woken: number }).woken)).toEqual(pids);
});

test("a branch is collapsed with what each of it came to, once", async () => {
  const leaf = openProgram("leaf");
  const middle = program("middle", async (_input: unknown, ctx: RunContext) => {
    await ctx.spawn("leaf", leaf.program);
    await ctx.receive("never");
  });
  const boss = program("boss", async (_input: unknown, ctx: RunContext) => {
    const done = await ctx.spawn(
      "done",
      program("done", () => 42),
    );
    await ctx.wait("its end", done);
    await ctx.spawn("middle", middle);
    await leaf.context;
    return ctx.collapse("all");
  });
  const pid = await kernel.os.spawn(boss);
  const { result } = await kernel.os.wait(pid);
  expect(result).toMatchObject([
    { name: "done", code: 0, result: 42 },
    { name: "middle", code: 143, signal: "TERM" },
    { name: "leaf", code: 143, signal: "TERM" },
  ]);
});

test("what happens under a topic wakes it, once, and its subscription ends with the sleep", async () => {
  const waiter = program("waiter", async (_input: unknown, ctx: RunContext) => {
    await ctx.hibernate("paid", { topic: "orders.paid", where: { number: 7 } });
    const message = await ctx.receive("what");
    const { body } = (message?.body ?? {}) as { body?: unknown };
    return body;
  });
  const pid = await kernel.os.spawn(waiter);
  await asleep(pid);
  await kernel.os.call("publish", { topic: "orders.paid", body: { number: 6 } });
  await new Promise((go) => setTimeout(go, 20));
  expect((await stateOf(pid))?.state).toBe("sleeping");
  await kernel.os.call("publish", { topic: "orders.paid", body: { number: 7 } });
  expect((await kernel.os.wait(pid)).result).toEqual({ number: 7 });
  expect(await kernel.os.call("triggers", {})).toEqual([]);
});

test("a topic wakes it over a restart of the host too, also for what happened meanwhile", async () => {
  const lasting = new LastingStore();
  const objects = new MemoryObjectStore();
  const waiter = program("waiter", async (_input: unknown, ctx: RunContext) => {
    await ctx.hibernate("paid", { topic: "orders.paid" });
    return (await ctx.receive("what")) === null;
  });
  const first = await bootKernel({ store: lasting.life(), objects, programs: [waiter] });
  first.activate();
  const pid = await first.os.spawn(waiter);
  await asleep(pid, first);
  await first.close();
  const second = await bootKernel({ store: lasting.life(), objects, programs: [waiter] });
  await second.os.call("publish", { topic: "orders.paid", body: 1 });
  second.activate();
  expect((await second.os.wait(pid)).result).toBe(false);
  await second.close();
});
