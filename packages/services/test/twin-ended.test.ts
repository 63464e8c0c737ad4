// Twins of runs that have ended, and what is said of steps, by those who may do less, in places that are no more.

import { MemoryObjectStore } from "@ergos/drivers/memory";
import { createOfflineModel } from "@ergos/drivers/model-offline";
import {
  type Kernel,
  type KernelParts,
  type Os,
  type Pid,
  type ProcessSummary,
  type Tool,
  toPath,
} from "@ergos/kernel";
import { type RunContext, pipeline, planProgram, program } from "@ergos/services";
import { afterEach, expect, test } from "vitest";
import { LastingStore, bootKernel, codeOf, openProgram, pause } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
afterEach(() => kernel.close());

const clone = async (os: Os, pid: Pid, more: object = {}): Promise<Pid> => os.call("clone", { pid, ...more });
const below = async (pid: Pid): Promise<ProcessSummary | undefined> =>
  (await kernel.os.ps({ all: true })).find(({ ppid }) => ppid === pid);

/** A tool that acts once, and of whose end its host hears nothing. */
const cutOff = (acts: () => void): Tool<Os> => ({
  name: "charge",
  description: "charges",
  inputSchema: {},
  effect: "once",
  call: () => {
    acts();
    return new Promise(() => undefined);
  },
});

const model = createOfflineModel({ name: "small", script: () => "a", effect: "idempotent" });
const asks = program("asks", async (_input: unknown, ctx: RunContext) => {
  for (let at = 0; at < 5; at++) await ctx.infer(`call${at}`, "question");
});
const above = program("above", async (stays: unknown, ctx: RunContext) => {
  await ctx.wait("end", await ctx.spawn("child", asks));
  if (stays === true) await ctx.receive("more");
});

test("who is narrower does neither say what steps of a process come to, nor act with its rights by a twin of it", async () => {
  const writes = program("writes", async (input: { readonly path: string }, ctx: RunContext) => {
    const path = await ctx.step("path", () => input.path);
    await ctx.os.fs.mkdir(toPath(path));
  });
  const { program: narrow, context } = openProgram("narrow");
  kernel = await bootKernel({ programs: [writes] });
  const pid = await kernel.os.spawn(writes, { input: { path: "/home/good" } });
  await kernel.os.wait(pid);
  await kernel.os.spawn(narrow, { grants: ["self", "proc.signal:/proc/**", "proc.spawn:**"] });
  const { os } = await context;
  const set = { path: "/home/evil" };

  expect(await codeOf(() => os.resume(pid, { again: true, set }))).toBe("EPERM");
  expect(await codeOf(() => clone(os, pid, { set }))).toBe("EPERM");
  const twin = await clone(os, pid, { from: ["path"] });
  expect((await kernel.os.wait(twin)).error?.message).toMatch(/EACCES.*fs\.write:\/home\/good/);
  expect((await kernel.os.ps({ pids: [twin], all: true }))[0]?.ppid).toBe(os.pid);
});

test("a twin spends what its original would: nothing where that has ended, and of whoever lives above after a restart", async () => {
  const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
  const boot = async (): Promise<Kernel> =>
    bootKernel({ store: store.life(), objects, models: [model], programs: [asks, above] });
  kernel = await boot();
  const gone = await kernel.os.spawn(above, { budget: { modelCalls: 2 } });
  const lives = await kernel.os.spawn(above, { budget: { modelCalls: 7 }, input: true });
  await kernel.os.wait(gone);
  await expect.poll(async () => (await below(lives))?.state).toBe("zombie");
  const [one, other] = [(await below(gone))?.pid, (await below(lives))?.pid];
  if (one === undefined || other === undefined) throw new TypeError("both had a child");
  expect(await codeOf(() => clone(kernel.os, one))).toBe("EDQUOT");
  await kernel.close();
  kernel = await boot();
  await kernel.os.resume(lives);
  const twin = await clone(kernel.os, other, { from: ["call0"] });

  expect((await kernel.os.wait(twin)).error?.code).toBe("EDQUOT");
  expect((await kernel.os.ps({ pids: [twin], all: true }))[0]?.ppid).toBe(lives);
  expect((await kernel.os.call("usage", { pid: lives }))["modelCalls"]).toMatchObject({ used: 7 });
});

test("of one whose children live on it has what is left of the budget; one that was killed while it slept has a twin too", async () => {
  const { program: kid } = openProgram("kid");
  const top = program("top", async (_input: unknown, ctx: RunContext) => {
    await ctx.infer("call", "question");
    await ctx.spawn("kid", kid);
    throw new TypeError("no");
  });
  const sleeps = program("sleeps", async (_input: unknown, ctx: RunContext) => {
    await ctx.step("one", () => 1);
    await ctx.hibernate("night");
  });
  kernel = await bootKernel({ models: [model], programs: [kid, top, sleeps] });
  const pid = await kernel.os.spawn(top, { budget: { modelCalls: 5 } });
  await kernel.os.wait(pid);
  const twin = await clone(kernel.os, pid);
  expect((await kernel.os.call("usage", { pid: twin }))["modelCalls"]).toMatchObject({ allocation: 4 });

  const asleep = await kernel.os.spawn(sleeps);
  await expect.poll(async () => (await kernel.os.ps({ pids: [asleep] }))[0]?.state).toBe("sleeping");
  await kernel.os.kill(asleep);
  // It is awake, as the other would be that is resumed.
  expect(await kernel.os.wait(await clone(kernel.os, asleep))).toMatchObject({ code: 0 });
});

test("a group that is gone holds no twin up; the view of another is none of its own", async () => {
  const poor = program("poor", async (_input: unknown, ctx: RunContext) => {
    await ctx.step("one", () => 1);
    throw new TypeError("no");
  });
  const { program: other, context } = openProgram("other");
  kernel = await bootKernel({ programs: [poor] });
  await kernel.os.call("setGroup", { group: "lab" });
  const grouped = await kernel.os.spawn(poor, { group: "lab" });
  await kernel.os.wait(grouped);
  await kernel.os.call("removeGroup", { group: "lab" });
  expect(await kernel.os.wait(await clone(kernel.os, grouped))).toMatchObject({ code: 1 });

  for (const path of ["/srv/a", "/srv/b"]) await kernel.os.fs.mkdir(toPath(path));
  const viewed = await kernel.os.spawn(poor, { view: "/srv/a" });
  await kernel.os.wait(viewed);
  await kernel.os.spawn(other, { view: "/srv/b" });
  const { os } = await context;
  expect(await codeOf(() => clone(os, viewed))).toBe("EINVAL");
});

test("a twin does not begin anew because its original is deleted meanwhile; nor is a module loaded for who may not", async () => {
  let paid = 0;
  const pays = program("pays", (_input: unknown, ctx: RunContext) => ctx.step("pay", () => void paid++), {
    source: { module: "/pays.ts" },
  });
  let loads = 0;
  const loader: KernelParts["loader"] = async () => {
    loads++;
    await pause(100);
    return pays;
  };
  kernel = await bootKernel({ loader });
  const pid = await kernel.os.spawn(pays);
  await kernel.os.wait(pid);
  const { program: narrow, context } = openProgram("narrow");
  await kernel.os.spawn(narrow, { grants: ["self", "proc.signal:/proc/**", "proc.spawn:**"] });
  const { os } = await context;
  expect(await codeOf(() => clone(os, pid))).toBe("EACCES");
  expect(loads).toBe(0);
  await pause(3);
  const endedBefore = Date.now();
  const making = codeOf(() => clone(kernel.os, pid));
  await pause(20);
  await kernel.os.call("prune", { endedBefore });
  expect(await making).toBe("ESRCH");
  expect(paid).toBe(1);
});

test("a call that was cut off before a step is not made again because that step is", async () => {
  const gate = Promise.withResolvers<void>();
  let charged = 0;
  const charge = cutOff(() => {
    charged++;
    gate.resolve();
  });
  const paying = program("paying", async (_input: unknown, ctx: RunContext) => {
    const paid = ctx.call("pay", "charge");
    await gate.promise;
    await ctx.step("behind", () => 1);
    return paid;
  });
  const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
  const first = await bootKernel({ store: store.life(), objects, tools: [charge], programs: [paying] });
  const pid = await first.os.spawn(paying);
  await expect.poll(async () => (await first.os.ps({ pids: [pid] }))[0]?.usage.steps).toBe(1);
  kernel = await bootKernel({ store: store.life(), objects, tools: [charge], programs: [paying] });
  await kernel.os.resume(pid, { from: ["behind"] });
  expect((await kernel.os.wait(pid)).error?.code).toBe("EUNKNOWN");
  expect(charged).toBe(1);
  await first.close();
});

test("a call that was cut off is known after its run has failed, in a node of a plan too, and may be told what it came to", async () => {
  let charged = 0;
  const charge = cutOff(() => void charged++);
  const paying = planProgram(
    pipeline("paying")
      .node("n", (_input, ctx) => ctx.call("pay", "charge"))
      .output("n")
      .build(),
  );
  const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
  const first = await bootKernel({ store: store.life(), objects, tools: [charge], programs: [paying] });
  const pid = await first.os.spawn(paying);
  await expect.poll(() => charged).toBe(1);
  kernel = await bootKernel({ store: store.life(), objects, tools: [charge], programs: [paying] });
  await kernel.os.resume(pid);
  expect((await kernel.os.wait(pid)).error?.message).toMatch(/EUNKNOWN.*--set "n\/pay"=VALUE/);
  expect(await kernel.os.call("previewResume", { pid })).toMatchObject({ unknown: ["n/pay"] });
  await kernel.os.resume(pid, { again: true, set: { "n/pay": "receipt" } });
  expect(await kernel.os.wait(pid)).toMatchObject({ code: 0, result: "receipt" });
  expect(charged).toBe(1);
  await first.close();
});
