// Twins, other programs under the same pid, narrower rights, and processes that go into others.

import { MemoryObjectStore } from "@ergos/drivers/memory";
import { createOfflineModel } from "@ergos/drivers/model-offline";
import { type Kernel, KernelError, PID_OWNER, type Pid, hookOn } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LastingStore, bootKernel, openProgram } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel({ models: [createOfflineModel({ name: "slow", delayMs: 40, script: () => "answer" })] });
});
afterEach(() => kernel.close());

const turn = (ms = 5): Promise<void> => new Promise((go) => setTimeout(go, ms));
const untilWaiting = async (pid: Pid, of = kernel): Promise<void> => {
  while (of.host.processes.get(pid)?.state.name !== "waiting") await turn(1);
};
const allocationOf = async (pid: Pid) => (await kernel.os.call("usage", { pid }))["modelCalls"];
const clone = async (pid: Pid, more: object = {}): Promise<Pid> => kernel.os.call("clone", { pid, ...more });

/** Does a step, which is counted, then reads messages until one says end. */
const reader = (done: string[], name = "reader", mark = "v1") =>
  program(
    name,
    async (input: { who: string }, ctx: RunContext) => {
      const first = await ctx.step("first", () => {
        done.push(input.who);
        return done.length;
      });
      const read: unknown[] = [];
      for (let at = 0; ; at++) {
        const message = await ctx.receive(`letter${at}`);
        read.push(message?.body);
        if (message?.body === "end") return { first, read, mark };
      }
    },
    { version: mark },
  );

describe("a twin", () => {
  test("goes on from what its original had recorded, does none of it again, and lives its own life", async () => {
    const done: string[] = [];
    const pid = await kernel.os.spawn(reader(done), { input: { who: "one" }, ref: "order/7" });
    await kernel.os.call("send", { to: pid, body: "before" });
    await turn();
    const twin = await clone(pid, { name: "twin" });
    await turn();
    await kernel.os.call("send", { to: twin, body: "end" });
    await kernel.os.call("send", { to: pid, body: "after" });
    await kernel.os.call("send", { to: pid, body: "end" });
    expect((await kernel.os.wait(twin)).result).toMatchObject({ first: 1, read: ["before", "end"] });
    expect((await kernel.os.wait(pid)).result).toMatchObject({ first: 1, read: ["before", "after", "end"] });
    expect(done).toEqual(["one"]);
    const [summary] = await kernel.os.ps({ pids: [twin], all: true });
    expect(summary).toMatchObject({ ppid: 1, name: "twin", ref: "order/7", usage: { replayed: 2 } });
  });

  test("has the rights of its original and no more, and pays for itself", async () => {
    const caller = program("asker", async (_input: unknown, ctx: RunContext) => {
      await ctx.infer("first", "question");
      await ctx.receive("go");
      return (await ctx.infer("second", "question")).text;
    });
    const pid = await kernel.os.spawn(caller, {
      budget: { modelCalls: 2 },
      grants: ["model.infer:*", "self", "msg.*"],
    });
    await untilWaiting(pid);
    await turn(60);
    const twin = await clone(pid, { grants: ["proc.step", "model.infer:*", "msg.receive"] });
    await turn();
    const usage = async (of: Pid) => (await kernel.os.call("usage", { pid: of }))["modelCalls"];
    expect(await usage(pid)).toMatchObject({ allocation: 2, used: 1 });
    expect(await usage(twin)).toMatchObject({ allocation: 1, used: 0 });
    expect(kernel.host.processes.get(twin)?.usage).toMatchObject({ modelCalls: 0, replayed: 1 });
    const held = kernel.host.processes.get(twin)?.capability.layers.map(({ id }) => id);
    expect(held).toEqual([String(pid), String(twin)]);
    for (const of of [pid, twin]) await kernel.os.call("send", { to: of, body: "go" });
    expect((await kernel.os.wait(twin)).result).toBe("answer");
    expect((await kernel.os.wait(pid)).result).toBe("answer");
  });

  test("is refused of what leaves no journal, or is the owner's; a hook may veto it", async () => {
    const { program: open, context } = openProgram();
    const pid = await kernel.os.spawn(open, { durable: false });
    await context;
    await expect(clone(pid)).rejects.toMatchObject({ code: "EINVAL" });
    await expect(clone(1 as Pid)).rejects.toMatchObject({ code: "EINVAL" });
    const lives = await kernel.os.spawn(reader([]), { input: { who: "x" } });
    kernel.hook(
      hookOn(["clone"], {
        pre: () => {
          throw new KernelError("EPERM", "there is one of it");
        },
      }),
    );
    await expect(clone(lives)).rejects.toThrow("there is one of it");
  });

  test("and a copy at a place of its program is made once, over restarts too", async () => {
    const store = new LastingStore();
    const objects = new MemoryObjectStore();
    const splitter = program("splitter", async (_input: unknown, ctx: RunContext) => {
      if ((await ctx.step("who", () => ctx.pid)) !== ctx.pid) return "twin";
      const twin = await ctx.os.call("clone", { pid: ctx.pid, place: "twin" });
      await ctx.receive("end");
      return twin;
    });
    const first = await bootKernel({ store: store.life(), objects, programs: [splitter] });
    const pid = await first.os.spawn(splitter);
    await untilWaiting(pid, first);
    const next = await bootKernel({ store: store.life(), objects, programs: [splitter] });
    await next.os.resume(pid);
    await untilWaiting(pid, next);
    await next.os.call("send", { to: pid, body: "go" });
    const { result } = await next.os.wait(pid);
    expect(
      (await next.os.ps({ all: true, name: "splitter" })).map((one) => one.pid).toSorted((one, two) => one - two),
    ).toEqual([pid, result]);
    await next.close();
  });
});

describe("another program", () => {
  test("takes over where no call is under way, under the same pid, and goes on from the journal", async () => {
    const seen: string[] = [];
    const version = (mark: string, text: string) =>
      program(
        "worker",
        async (_input: unknown, ctx: RunContext) => {
          seen.push(mark);
          const answer = await ctx.infer("ask", "question");
          await ctx.receive("go");
          return `${text} ${answer.text}`;
        },
        { version: mark },
      );
    const pid = await kernel.os.spawn(version("v1", "old"));
    await untilWaiting(pid);
    const end = kernel.os.wait(pid);
    const { usage, identity } = kernel.host.processes.get(pid) ?? {};
    const before = [usage?.modelCalls, identity?.program.revision];
    await (async () => kernel.os.call("upgrade", { pid, program: version("v2", "new") }))();
    expect(before).toEqual([0, version("v1", "").revision]);
    expect(kernel.host.processes.get(pid)?.identity.program.revision).toBe(version("v2", "").revision);
    await untilWaiting(pid);
    await kernel.os.call("send", { to: pid, body: "go" });
    expect((await end).result).toBe("new answer");
    expect(seen).toEqual(["v1", "v2"]);
    const calls = await kernel.os.call("ledger", { by: ["pid"] });
    expect(calls).toMatchObject([{ entries: 1, used: { modelCalls: 1 } }]);
  });

  test("waits only so long for calls, and leaves the process as it was; a stopped one stays stopped", async () => {
    const pid = await kernel.os.spawn(
      program("busy", async (_input: unknown, ctx: RunContext) => (await ctx.infer("ask", "question")).text),
    );
    await untilWaiting(pid);
    await expect(
      (async () => kernel.os.call("upgrade", { pid, program: reader([]), waitMs: 5 }))(),
    ).rejects.toMatchObject({
      code: "EBUSY",
    });
    expect((await kernel.os.wait(pid)).result).toBe("answer");
    const stopped = await kernel.os.spawn(reader([]), { input: { who: "x" } });
    await untilWaiting(stopped);
    await kernel.os.kill(stopped, "STOP");
    await (async () => kernel.os.call("upgrade", { pid: stopped, program: reader([], "reader", "v2") }))();
    expect(kernel.host.processes.get(stopped)?.state.name).toBe("stopped");
    await kernel.os.kill(stopped, "CONT");
    await kernel.os.call("send", { to: stopped, body: "end" });
    expect((await kernel.os.wait(stopped)).result).toMatchObject({ first: 1, mark: "v2" });
  });

  test("is what a restart and the next host run", async () => {
    const store = new LastingStore();
    const objects = new MemoryObjectStore();
    const [one, two] = [reader([], "one", "v1"), reader([], "two", "v2")];
    const first = await bootKernel({ store: store.life(), objects, programs: [one, two] });
    const pid = await first.os.spawn("one", { input: { who: "x" } });
    await untilWaiting(pid, first);
    await (async () => first.os.call("upgrade", { pid, program: "two" }))();
    const next = await bootKernel({ store: store.life(), objects, programs: [one, two] });
    await next.os.resume(pid);
    await untilWaiting(pid, next);
    await next.os.call("send", { to: pid, body: "end" });
    expect((await next.os.wait(pid)).result).toMatchObject({ first: 1, mark: "v2" });
    await next.close();
  });
});

describe("a process that is specialized", () => {
  test("has fewer rights at once, with what is below it, and never a higher tier", async () => {
    const { program: open, context } = openProgram();
    const pid = await kernel.os.spawn(open);
    const { os } = await context;
    const inner = openProgram();
    await os.spawn(inner.program);
    const below = (await inner.context).os;
    await kernel.os.fs.writeFile("/srv/x", "1");
    await (async () =>
      kernel.os.call("specialize", { pid, grants: ["fs.read:/home/**", "self"], tier: "tactical", ref: "order/9" }))();
    for (const one of [os, below]) await expect(one.fs.readText("/srv/x")).rejects.toMatchObject({ code: "EACCES" });
    expect((await kernel.os.ps({ pids: [pid] }))[0]).toMatchObject({ ref: "order/9" });
    await expect((async () => kernel.os.call("specialize", { pid, tier: "strategic" }))()).rejects.toMatchObject({
      code: "EPERM",
    });
  });
});

describe("a process that goes into another", () => {
  test("leaves it its messages and the rest of its budget, and narrows it", async () => {
    const { program: open, context } = openProgram();
    const from = await kernel.os.spawn(open, {
      budget: { modelCalls: 5, toolCalls: 3 },
      grants: ["self", "msg.*", "fs.read:/home/**"],
    });
    const into = await kernel.os.spawn(reader([]), {
      input: { who: "into" },
      budget: { modelCalls: 2 },
      grants: ["self", "msg.*", "fs.read:/**"],
    });
    await context;
    await untilWaiting(into);
    await kernel.os.call("send", { to: from, body: "first" });
    await kernel.os.call("send", { to: from, body: "end" });
    await (async () => kernel.os.call("merge", { pid: from, into }))();
    expect(await kernel.os.wait(from)).toMatchObject({ code: 0, result: { merged: into } });
    expect((await kernel.os.call("usage", { pid: into }))["modelCalls"]).toMatchObject({ allocation: 7, used: 0 });
    expect((await kernel.os.wait(into)).result).toMatchObject({ read: ["first", "end"] });
    expect((await kernel.os.call("checkStore", {})).problems).toEqual([]);
  });

  test("keeps the rights that both had; a process cannot take in its ancestor or itself", async () => {
    await kernel.os.fs.writeFile("/srv/x", "1");
    await kernel.os.fs.writeFile("/home/y", "1");
    const one = openProgram();
    const into = await kernel.os.spawn(one.program, { grants: ["self", "proc.*", "kernel.module:*", "fs.read:/**"] });
    const { os } = await one.context;
    const two = openProgram();
    const below = await os.spawn(two.program);
    await expect((async () => kernel.os.call("merge", { pid: into, into: below }))()).rejects.toMatchObject({
      code: "EINVAL",
    });
    await expect((async () => kernel.os.call("merge", { pid: into, into }))()).rejects.toMatchObject({
      code: "EINVAL",
    });
    const narrow = await kernel.os.spawn(openProgram().program, { grants: ["self", "proc.*", "fs.read:/home/**"] });
    await (async () => kernel.os.call("merge", { pid: narrow, into }))();
    expect(await os.fs.readText("/home/y")).toBe("1");
    await expect(os.fs.readText("/srv/x")).rejects.toMatchObject({ code: "EACCES" });
  });
});

describe("a process that is split", () => {
  /** As a whole it does not read; as a part it reads what it was given, and says so. */
  const worker = program("worker", async (input: { part?: number }, ctx: RunContext) => {
    if (input.part === undefined) await ctx.sleep(60_000);
    const read: unknown[] = [];
    for (let at = 0; at < (input.part ?? 0); at++) read.push((await ctx.receive(`letter${at}`))?.body);
    return read;
  });
  const letter = async (to: Pid, body: string, kind: "task" | "message" = "message"): Promise<unknown> =>
    kernel.os.call("send", { to, body, kind });
  const split = async (pid: Pid, parts: readonly object[], os = kernel.os): Promise<readonly Pid[]> =>
    os.call("split", { pid, parts });

  test("deals out its work, its budget and its mail", async () => {
    const pid = await kernel.os.spawn(worker, { input: {}, budget: { modelCalls: 11 }, ref: "order/9" });
    await untilWaiting(pid);
    await letter(pid, "a task", "task");
    for (const body of ["one", "two"]) await letter(pid, body);
    const parts = await split(pid, [
      { name: "tasks", input: { part: 1 }, mail: { kind: "task" } },
      { input: { part: 2 }, mail: { from: PID_OWNER }, ref: "order/9b" },
      { input: { part: 0 } },
    ]);
    expect(await kernel.os.ps({ pids: parts, all: true })).toMatchObject([
      { ppid: pid, name: "tasks" },
      { ppid: pid, name: "worker", ref: "order/9b" },
      { ppid: pid, name: "worker" },
    ]);
    const ends = await Promise.all(parts.map(async (part) => kernel.os.wait(part)));
    expect(ends.map(({ result }) => result)).toEqual([["a task"], ["one", "two"], []]);
    // What nobody used came back to the whole.
    expect(await allocationOf(pid)).toMatchObject({ allocation: 11, used: 0 });
    expect((await kernel.os.call("checkStore", {})).problems).toEqual([]);
    await kernel.os.kill(pid);
  });

  test("gives each an equal share, and starts no part where one cannot have what it asks for", async () => {
    const pid = await kernel.os.spawn(worker, { input: {}, budget: { modelCalls: 11 } });
    await untilWaiting(pid);
    await letter(pid, "stays");
    await expect(
      split(pid, [
        { input: { part: 1 }, mail: {} },
        { budget: { modelCalls: 12 }, input: { part: 0 } },
      ]),
    ).rejects.toMatchObject({ code: "EDQUOT" });
    expect(await allocationOf(pid)).toMatchObject({ allocation: 11, used: 0 });
    expect((await kernel.os.ps()).filter(({ ppid }) => ppid === pid)).toEqual([]);
    const parts = await split(pid, [{ input: { part: 1 } }, { input: { part: 1 }, mail: {} }, { input: { part: 1 } }]);
    const [first, second = PID_OWNER, third] = parts;
    expect((await kernel.os.wait(second)).result).toEqual(["stays"]);
    expect([await allocationOf(first ?? PID_OWNER), await allocationOf(third ?? PID_OWNER)]).toMatchObject([
      { allocation: 3 },
      { allocation: 3 },
    ]);
    await kernel.os.kill(pid);
  });

  test("of one without a budget of its own, parts spend from the same account; one that has ended keeps no mail", async () => {
    const pid = await kernel.os.spawn(worker, { input: {} });
    await untilWaiting(pid);
    await letter(pid, "stays");
    const [part = PID_OWNER] = await split(pid, [{ input: { part: 0 }, mail: {} }]);
    await kernel.os.wait(part);
    const [other = PID_OWNER] = await split(pid, [{ input: { part: 1 }, mail: { kind: "task" } }]);
    await kernel.os.kill(other);
    expect(kernel.host.processes.get(part)?.account).toBe(kernel.host.processes.get(pid)?.account);
    expect((await kernel.os.call("checkStore", {})).problems).toEqual([]);
    await kernel.os.kill(pid);
  });

  test("needs a part, a life, and the right to start the program", async () => {
    const pid = await kernel.os.spawn(worker, { input: {} });
    await expect(split(pid, [])).rejects.toMatchObject({ code: "EINVAL" });
    const { program: open, context } = openProgram();
    await kernel.os.spawn(open, { grants: ["self", "proc.signal"] });
    await expect(split(pid, [{}], (await context).os)).rejects.toMatchObject({ code: "EACCES" });
    // Beside it, with the rights for both calls: still no way to have it do something with its own rights.
    const beside = openProgram();
    await kernel.os.spawn(beside.program, { grants: ["self", "proc.*"] });
    await expect(split(pid, [{ input: {} }], (await beside.context).os)).rejects.toMatchObject({ code: "EPERM" });
    await kernel.os.kill(pid);
    await kernel.os.wait(pid);
    await expect(split(pid, [{}])).rejects.toMatchObject({ code: "ESRCH" });
  });
});

/** Runs until it is told to end, and takes its time. */
const stubborn = {
  name: "stubborn",
  revision: "1",
  kind: "function" as const,
  graceMs: 100,
  run: () => new Promise(() => undefined),
};

describe("what happens at the same time, or below", () => {
  test("a twin of oneself is below oneself, out of one's own budget; rights of a retried one stay narrow", async () => {
    const [outer, inner] = [openProgram(), openProgram()];
    const top = await kernel.os.spawn(outer.program, {
      budget: { modelCalls: 100 },
      grants: ["self", "proc.*", "fs.*:/home/**"],
    });
    await (await outer.context).os.spawn(inner.program, { budget: { modelCalls: 1 } });
    const { os } = await inner.context;
    await expect((async () => os.call("clone", { pid: os.pid, budget: { modelCalls: 90 } }))()).rejects.toMatchObject({
      code: "EDQUOT",
    });
    const below = await os.call("clone", { pid: os.pid });
    expect((await kernel.os.ps({ pids: [below] }))[0]?.ppid).toBe(os.pid);
    expect(await allocationOf(top)).toMatchObject({ allocation: 100, used: 1 });

    await kernel.os.fs.writeFile("/srv/secret", "secret");
    const failing = program("failing", async (_input: unknown, ctx: RunContext) => {
      if ((await ctx.receive("order"))?.body === "fail") throw new Error("no");
      return ctx.os.fs.readText("/srv/secret");
    });
    const pid = await kernel.os.spawn(failing, { grants: ["self", "msg.*", "fs.read:/home/**"] });
    await untilWaiting(pid);
    const twin = await clone(pid);
    await untilWaiting(twin);
    await kernel.os.call("send", { to: twin, body: "fail" });
    expect((await kernel.os.wait(twin)).code).toBe(1);
    await kernel.os.resume(twin, { again: true, program: failing });
    expect(kernel.host.processes.get(twin)?.capability.layers.map(({ id }) => id)).toEqual([String(pid)]);
    await kernel.os.kill(twin);
  });

  test("a merger inherits what nobody else gets, from above both alone", async () => {
    const [one, two, three] = [openProgram(), openProgram(), openProgram()];
    const top = await kernel.os.spawn(one.program, { budget: { modelCalls: 1000 } });
    const into = await (await one.context).os.spawn(two.program, { budget: { modelCalls: 500 } });
    const from = await (await two.context).os.spawn(three.program, { budget: { modelCalls: 200 } });
    await (async () => kernel.os.call("merge", { pid: from, into }))();
    expect(await allocationOf(into)).toMatchObject({ allocation: 500, used: 0 });
    expect(await allocationOf(top)).toMatchObject({ allocation: 1000, used: 500 });
    const [four, five] = [openProgram(), openProgram()];
    const other = await kernel.os.spawn(four.program, { budget: { modelCalls: 10 } });
    const poor = await (await four.context).os.spawn(five.program, { budget: { modelCalls: 5 } });
    await (async () => kernel.os.call("merge", { pid: into, into: poor }))();
    expect([await allocationOf(poor), await allocationOf(top), await allocationOf(other)]).toMatchObject([
      { allocation: 5 },
      { allocation: 1000, used: 0 },
      { allocation: 10, used: 5 },
    ]);
  });

  test("a merger into somebody who ends meanwhile is an end, and what is on its way arrives", async () => {
    const from = await kernel.os.spawn(stubborn);
    const into = await kernel.os.spawn(openProgram().program);
    const merging = (async () => kernel.os.call("merge", { pid: from, into }))();
    merging.catch(() => undefined);
    await turn(20);
    await kernel.os.kill(into, "KILL");
    await expect(merging).rejects.toMatchObject({ code: "EFAILED" });
    expect(await kernel.os.wait(from)).toMatchObject({ code: 1, error: { code: "ESRCH" } });
    expect((await kernel.os.call("checkStore", {})).problems).toEqual([]);

    const inner = new LastingStore().life();
    const slow = await bootKernel({
      store: Object.create(inner, {
        seq: { get: () => inner.seq },
        commit: {
          value: async (...batch: Parameters<typeof inner.commit>) => {
            const receipt = await inner.commit(...batch);
            await turn(8);
            return receipt;
          },
        },
      }) as typeof inner,
    });
    const [one, two] = [openProgram(), openProgram()];
    const [left, right] = [await slow.os.spawn(one.program), await slow.os.spawn(two.program)];
    const sending = (async () => slow.os.call("send", { to: left, body: "precious" }))();
    await Promise.all([sending, (async () => slow.os.call("merge", { pid: left, into: right }))()]);
    expect(slow.host.post.waiting(right).map(({ body }) => body)).toEqual(["precious"]);
    await slow.close();
  });

  test("an upgrade keeps what became of the process meanwhile: its tier, its budget, and that it was stopped", async () => {
    const worker = (mark: string) =>
      program(
        "worker",
        async (_input: unknown, ctx: RunContext) => {
          await ctx.infer("ask", "question");
          await ctx.receive("go");
        },
        { version: mark },
      );
    const pid = await kernel.os.spawn(worker("1"), { budget: { modelCalls: 10 } });
    await untilWaiting(pid);
    const upgrading = (async () => kernel.os.call("upgrade", { pid, program: worker("2") }))();
    await turn(2);
    await (async () => kernel.os.call("specialize", { pid, tier: "operational" }))();
    await (async () => kernel.os.call("allocate", { pid, budget: { modelCalls: 5 } }))();
    await kernel.os.kill(pid, "STOP");
    await upgrading;
    const { identity, state } = kernel.host.processes.get(pid) ?? {};
    expect([identity?.tier, identity?.budget, state?.name]).toEqual(["operational", { modelCalls: 15 }, "stopped"]);
  });
});
