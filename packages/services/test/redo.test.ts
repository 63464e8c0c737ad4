// Runs that are done again from a step on: what is done anew, and what stays.

import { MemoryObjectStore } from "@ergos/drivers/memory";
import { createOfflineModel } from "@ergos/drivers/model-offline";
import type { Kernel, Os, Pid, ProcessSummary, Program, SyscallArgs, Tool } from "@ergos/kernel";
import { type RunContext, pipeline, planProgram, program } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LastingStore, bootKernel } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
let done: string[];
beforeEach(async () => {
  done = [];
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

const diamond = planProgram(
  pipeline("diamond")
    .node("top", () => void done.push("top"))
    .node("left", { after: ["top"] }, async (_given, ctx) => {
      await ctx.step("inner", () => done.push("left"));
      return ["a", "b"];
    })
    .node("right", { after: ["top"] }, () => void done.push("right"))
    .map("items", { over: "left" }, (item) => void done.push(item))
    .node("end", { after: ["items", "right"] }, () => done.push("end"))
    .build(),
);
const steps = program("steps", async (_input: unknown, ctx: RunContext) => {
  for (const name of ["one", "two", "three"]) await ctx.step(name, () => void done.push(name));
  return done.length;
});

const again = async (pid: Pid, from: readonly string[], of = diamond): Promise<readonly string[]> => {
  done = [];
  await kernel.os.resume(pid, { again: true, from, program: of });
  expect(await kernel.os.wait(pid)).toMatchObject({ code: 0 });
  return done;
};

test("of a plan a node is done again with what builds on it, and nothing else, though the run has completed", async () => {
  const pid = await kernel.os.spawn(diamond);
  await kernel.os.wait(pid);

  expect(await again(pid, ["left"])).toEqual(["left", "a", "b", "end"]);
  expect(await again(pid, ["items[1]"])).toEqual(["b", "end"]);
  expect((await again(pid, ["left/inner", "right"])).toSorted()).toEqual(["a", "b", "end", "left", "right"]);
  // What was done anew is what the next life goes on from.
  expect(await again(pid, ["end"])).toEqual(["end"]);
});

test("of a node that is done again from a step of it on the steps before that stay", async () => {
  const plan = planProgram(
    pipeline("inner")
      .node("sum", async (_given, ctx) => {
        for (const name of ["pay", "mail", "note"]) await ctx.step(name, () => void done.push(name));
      })
      .node("end", { after: ["sum"] }, () => void done.push("end"))
      .build(),
  );
  const pid = await kernel.os.spawn(plan);
  await kernel.os.wait(pid);
  expect(await again(pid, ["sum/mail"], plan)).toEqual(["mail", "note", "end"]);
});

test("a failure that a completed run went on from is not tried again for what came later", async () => {
  const own = program("own", async (_input: unknown, ctx: RunContext) => {
    const fails = (): never => {
      done.push("pay");
      throw new Error("declined");
    };
    await ctx.step("pay", fails).catch(() => undefined);
    await ctx.step("net", () => void done.push("net"));
  });
  const pid = await kernel.os.spawn(own);
  await kernel.os.wait(pid);
  expect(await again(pid, ["net"], own)).toEqual(["net"]);
  expect(await again(pid, ["pay"], own)).toEqual(["pay", "net"]);
});

test("of a function it is the step and what was recorded later", async () => {
  const pid = await kernel.os.spawn(steps);
  await kernel.os.wait(pid);

  expect(await again(pid, ["two"], steps)).toEqual(["two", "three"]);
  expect((await kernel.os.wait(pid)).result).toBe(2);
});

test("a step of which nothing is recorded is refused, with those that are; the run stays as it was", async () => {
  const pid = await kernel.os.spawn(steps);
  await kernel.os.wait(pid);

  await expect(kernel.os.resume(pid, { again: true, from: ["tow"], program: steps })).rejects.toMatchObject({
    code: "ENOENT",
    message: expect.stringMatching(/"tow".*recorded are one, two, three/) as unknown,
  });
  expect(await kernel.os.wait(pid)).toMatchObject({ code: 0, result: 3 });
});

test("a completed run is not resumed without a step to do again from, nor one that runs with it", async () => {
  const pid = await kernel.os.spawn(steps);
  await kernel.os.wait(pid);
  await expect(kernel.os.resume(pid, { again: true, program: steps })).rejects.toMatchObject({ code: "EBUSY" });

  const running = await kernel.os.spawn(program("runs", () => new Promise(() => undefined)));
  await expect(kernel.os.resume(running, { again: true, from: ["one"] })).rejects.toMatchObject({ code: "EBUSY" });
});

describe("a step that comes to something else", () => {
  const sums = planProgram(
    pipeline("sums")
      .node("one", () => (done.push("one"), 1))
      .node("two", { needs: ["one"] }, ({ one }) => (done.push("two"), one + 1))
      .node("beside", () => (done.push("beside"), 10))
      .node("all", { needs: ["two", "beside"] }, ({ two, beside }) => (done.push("all"), two + beside))
      .output("all")
      .build(),
  );
  const ended = async (own: Program, code = 0): Promise<Pid> => {
    const pid = await kernel.os.spawn(own);
    expect(await kernel.os.wait(pid)).toMatchObject({ code });
    done = [];
    return pid;
  };
  const resumed = async (pid: Pid, options: Omit<SyscallArgs<"resume">, "pid">): Promise<unknown> => {
    await kernel.os.resume(pid, { again: true, ...options });
    const { code, result } = await kernel.os.wait(pid);
    expect(code).toBe(0);
    return result;
  };

  test("is not done again; of a plan what builds on it is, in this life and the next", async () => {
    const pid = await ended(sums);
    expect(await resumed(pid, { set: { two: 5 }, program: sums })).toBe(15);
    expect(done).toEqual(["all"]);
    expect(await resumed(pid, { from: ["beside"], program: sums })).toBe(15);
    expect(done).toEqual(["all", "beside", "all"]);
    expect(await resumed(pid, { from: ["one"], set: { two: 7 }, program: sums })).toBe(17);
  });

  test("may be an item of a map", async () => {
    const mapped = planProgram(
      pipeline("mapped")
        .node("list", () => ["a", "b", "c"])
        .map("items", { over: "list" }, (item) => (done.push(item), item))
        .node("all", { needs: ["items"] }, ({ items }) => items.join(""))
        .output("all")
        .build(),
    );
    const pid = await ended(mapped);
    expect(await resumed(pid, { set: { "items[1]": "x" }, program: mapped })).toBe("axc");
    expect(done).toEqual([]);
  });

  test("of a function what was recorded later is done again; several may be given at once, and large values", async () => {
    const own = program("own", async (_input: unknown, ctx: RunContext) => {
      const parts: string[] = [];
      for (const name of ["one", "two", "three"]) parts.push(await ctx.step(name, () => (done.push(name), name)));
      return parts.join(" ").length;
    });
    const pid = await ended(own);
    const large = "x".repeat(100_000);
    expect(await resumed(pid, { set: { two: large, one: "1" }, program: own })).toBe(100_008);
    expect(done).toEqual(["three"]);
    expect(await resumed(pid, { from: ["three"], program: own })).toBe(100_008);
  });

  test("may have failed: the run goes on from what it is given instead", async () => {
    const own = program("own", async (_input: unknown, ctx: RunContext) => {
      const poor = await ctx.step<number>("poor", () => {
        throw new TypeError("no");
      });
      return poor + 1;
    });
    const pid = await ended(own, 1);
    expect(await resumed(pid, { set: { poor: 41 }, program: own })).toBe(42);
  });

  test("may be a call that was cut off: whoever has looked says what it came to, and it is not made again", async () => {
    const charge: Tool<Os> = {
      name: "charge",
      description: "charges",
      inputSchema: {},
      effect: "once",
      call: () => {
        done.push("charged");
        return new Promise(() => undefined);
      },
    };
    const paying = program("paying", (_input: unknown, ctx: RunContext) => ctx.call("pay", "charge"));
    const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
    const first = await bootKernel({ store: store.life(), objects, tools: [charge], programs: [paying] });
    const pid = await first.os.spawn(paying, { budget: { toolCalls: 3 } });
    await expect.poll(() => done).toEqual(["charged"]);
    const life = store.life();
    await kernel.close();
    kernel = await bootKernel({ store: life, objects, tools: [charge], programs: [paying] });
    expect(await kernel.os.call("previewResume", { pid })).toEqual({ kept: 0, again: [], unknown: ["pay"] });
    await kernel.os.resume(pid, { set: { pay: "receipt 7" } });

    expect(await kernel.os.wait(pid)).toMatchObject({ code: 0, result: "receipt 7" });
    expect(done).toEqual(["charged"]);
    const [row] = await kernel.os.call("ledger", { by: ["pid"] });
    expect(row).toMatchObject({ entries: 1, used: { toolCalls: 1 } });
    expect((await kernel.os.call("usage", { pid }))["toolCalls"]).toMatchObject({ used: 1 });
    await first.close();
  });

  test("is refused where nothing is recorded, or it is no value; the run stays as it was", async () => {
    const pid = await ended(sums);
    const refused = (set: Record<string, unknown>): Promise<void> =>
      kernel.os.resume(pid, { again: true, set, program: sums });
    await expect(refused({ tow: 1 })).rejects.toMatchObject({ code: "ENOENT" });
    await expect(refused({ two: () => 1 })).rejects.toMatchObject({ code: "EINVAL" });
    expect(await kernel.os.wait(pid)).toMatchObject({ code: 0, result: 12 });
  });
});

describe("a twin of a run that has ended", () => {
  const answering = createOfflineModel({ name: "small", script: () => "a", effect: "idempotent" });
  const asking = planProgram(
    pipeline("asking")
      .node("ask", async (_given, ctx) => (await ctx.infer("model", "question")).text)
      .node("twice", { needs: ["ask"] }, ({ ask }) => (done.push(ask), ask + ask))
      .output("twice")
      .build(),
  );
  let pid: Pid;
  beforeEach(async () => {
    await kernel.close();
    kernel = await bootKernel({ models: [answering], programs: [asking, steps] });
    pid = await kernel.os.spawn(asking, { budget: { modelCalls: 3 } });
    await kernel.os.wait(pid);
    done = [];
  });
  const clone = (of: Pid, more: object = {}): Promise<Pid> =>
    Promise.resolve(kernel.os.call("clone", { pid: of, ...more }));

  test("goes on from what it is told, for itself: the run stays as it was", async () => {
    const [same, other, anew] = [
      await clone(pid),
      await clone(pid, { set: { ask: "b" }, name: "what-if" }),
      await clone(pid, { from: ["ask"] }),
    ];
    const results = await Promise.all([same, other, anew].map(async (one) => (await kernel.os.wait(one)).result));
    expect(results).toEqual(["aa", "bb", "aa"]);
    expect(done).toEqual(["b", "a"]);
    expect((await kernel.os.wait(pid)).result).toBe("aa");
    const calls = async (of: Pid): Promise<unknown> => (await kernel.os.call("usage", { pid: of }))["modelCalls"];
    expect(await calls(same)).toMatchObject({ allocation: 2, used: 0 });
    expect(await calls(anew)).toMatchObject({ allocation: 2, used: 1 });
    expect(await kernel.os.ps({ pids: [other], all: true })).toMatchObject([{ ppid: 1, name: "what-if" }]);
  });

  test("tries again what failed, and belongs to whoever makes it where that stands not above", async () => {
    let attempts = 0;
    const poor = program("poor", async (_input: unknown, ctx: RunContext) => {
      await ctx.step("good", () => void done.push("good"));
      return ctx.step("bad", () => {
        if (attempts++ === 0) throw new TypeError("no");
        return attempts;
      });
    });
    const maker = program("maker", async (input: { readonly of: Pid }, ctx: RunContext) =>
      ctx.wait("end", await ctx.os.call("clone", { pid: input.of, place: "clone" })),
    );
    await kernel.close();
    kernel = await bootKernel({ programs: [poor, maker] });
    const failed = await kernel.os.spawn(poor);
    expect(await kernel.os.wait(failed)).toMatchObject({ code: 1 });
    const by = await kernel.os.spawn(maker, { input: { of: failed } });
    expect(await kernel.os.wait(by)).toMatchObject({ code: 0, result: 2 });
    expect(done).toEqual(["good"]);
    expect((await kernel.os.ps({ all: true })).find(({ ppid }) => ppid === by)).toMatchObject({ name: "poor" });
    expect(await kernel.os.wait(failed)).toMatchObject({ code: 1 });
  });

  test("has no right that was taken from those above it meanwhile", async () => {
    const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
      const child = await ctx.spawn("child", asking);
      await ctx.wait("child's end", child);
      await ctx.receive("end");
    });
    const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
    const boot = async (): Promise<Kernel> =>
      bootKernel({ store: store.life(), objects, models: [answering], programs: [asking, parent] });
    await kernel.close();
    kernel = await boot();
    const top = await kernel.os.spawn(parent);
    const child = async (): Promise<ProcessSummary | undefined> =>
      (await kernel.os.ps({ all: true })).find(({ ppid }) => ppid === top);
    await expect.poll(async () => (await child())?.state).toBe("zombie");
    const { pid: ended } = (await child()) ?? { pid: top };
    await kernel.close();
    kernel = await boot();
    await kernel.os.resume(top);
    await kernel.os.call("specialize", { pid: top, grants: ["self", "proc.*", "msg.*"] });
    const twin = await clone(ended, { from: ["ask"] });
    expect(await kernel.os.wait(twin)).toMatchObject({
      code: 1,
      error: { message: expect.stringContaining("EACCES") as unknown },
    });
  });
});

test("before a run is resumed it is told what that would do, and nothing is changed", async () => {
  const model = createOfflineModel({ name: "small", script: () => "answer", effect: "idempotent" });
  const plan = (mark: string) =>
    planProgram(
      pipeline("told")
        .node("ask", async (_given, ctx) => (await ctx.infer("model", "question")).text)
        .node("right", { version: mark }, () => 1)
        .node("left", { needs: ["ask"] }, () => 1)
        .node("bad", { needs: ["left"] }, () => {
          throw new TypeError("no");
        })
        .build(),
    );
  await kernel.close();
  kernel = await bootKernel({ models: [model] });
  const pid = await kernel.os.spawn(plan("1"));
  await kernel.os.wait(pid);
  const before = kernel.host.store.seq;

  const told = await kernel.os.call("previewResume", { pid, from: ["ask"], program: plan("2") });
  expect(told).toMatchObject({
    kept: 0,
    again: [
      { place: "right", call: "step", why: "changed" },
      { place: "ask/model", call: "infer", why: "asked", model: "small", tokensOut: expect.any(Number) as unknown },
      { place: "ask", call: "step", why: "asked" },
      { place: "left", call: "step", why: "builds" },
      { place: "bad", call: "step", why: "builds" },
    ],
  });
  expect(await kernel.os.call("previewResume", { pid, program: plan("1") })).toMatchObject({
    kept: 4,
    again: [{ place: "bad", why: "failed" }],
    unknown: [],
  });
  expect(kernel.host.store.seq).toBe(before);
  await expect(kernel.os.call("previewResume", { pid, from: ["aks"], program: plan("1") })).rejects.toMatchObject({
    code: "ENOENT",
  });
});
