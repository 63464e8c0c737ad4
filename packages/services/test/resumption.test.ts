import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { createOfflineModel } from "@ergos/drivers/model-offline";
import { type Kernel, KernelError, type KernelParts, hookOn, isKernelError } from "@ergos/kernel";
import { type RunContext, pipeline, planProgram, program } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bootKernel, openProgram, processWith } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe("resumption", () => {
  interface Life {
    readonly kernel: Kernel;
    readonly store: MemoryMetastore;
    readonly objects: MemoryObjectStore;
  }
  const live = async (before?: Life): Promise<Life> => {
    const [store, objects] =
      before === undefined ? [new MemoryMetastore(), new MemoryObjectStore()] : [before.store, before.objects];
    return { kernel: await bootKernel({ store, objects }), store, objects };
  };

  test("a run goes on after its host, and finished steps are not done again", async () => {
    const done: string[] = [];
    const gate = Promise.withResolvers<void>();
    const build = (wait: Promise<void>) =>
      planProgram(
        pipeline("resumed")
          .node("first", () => void done.push("first"))
          .node("large", { needs: ["first"] }, () => (done.push("large"), "x".repeat(200_000)))
          .node("second", { needs: ["large"] }, async ({ large }) => {
            await wait;
            done.push("second");
            return large.length;
          })
          .build(),
      );
    const before = await live();
    const pid = await before.kernel.os.spawn(build(new Promise<void>(() => undefined)));
    await sleep(20);
    const after = await live(before);
    gate.resolve();

    expect((await after.kernel.os.ps()).find((process) => process.pid === pid)?.state).toBe("sleeping");
    await after.kernel.os.resume(pid, { program: build(gate.promise) });

    expect((await after.kernel.os.wait(pid)).result).toBe(200_000);
    expect(done).toEqual(["first", "large", "second"]);
  });

  test("a node with a version is done again when that changes, and not when its text does", async () => {
    const done: string[] = [];
    const build = (wait: Promise<void>, version: string, text: string) =>
      planProgram(
        pipeline("versions")
          // Each has a text of its own.
          .node(
            "charge",
            { version },
            text === "one" ? () => done.push("charge") : () => void done.push("charged anew"),
          )
          .node("rest", { needs: ["charge"] }, () => wait)
          .build(),
      );
    const forEver = new Promise<void>(() => undefined);
    const before = await live();
    const pid = await before.kernel.os.spawn(build(forEver, "1", "one"));
    await sleep(20);
    const after = await live(before);
    await after.kernel.os.resume(pid, { program: build(forEver, "1", "two") });
    await sleep(20);
    expect(done).toEqual(["charge"]);
    const last = await live(after);
    await last.kernel.os.resume(pid, { program: build(Promise.resolve(), "2", "two") });
    expect((await last.kernel.os.wait(pid)).code).toBe(0);
    expect(done).toEqual(["charge", "charged anew"]);
  });

  test("what is taken from the journal is no act: not audited again, not paid for, and no hook hears of it", async () => {
    const gate = Promise.withResolvers<void>();
    let waits: Promise<void> = new Promise(() => undefined);
    const acting = program("acting", async (_input: unknown, ctx: RunContext) => {
      await ctx.infer("asked", "What is the capital of France?");
      await ctx.call("looked", "look");
      await ctx.os.call("publish", { topic: "told", body: 1, place: "published" });
      await ctx.step("held", () => waits);
      return await ctx.infer("again", "And of Spain?").then(({ text }) => text.length > 0);
    });
    const heard: string[] = [];
    const boot = (parts: Partial<KernelParts>): Promise<Kernel> =>
      bootKernel({
        models: [createOfflineModel()],
        tools: [{ name: "look", description: "", inputSchema: {}, effect: "once", call: () => Promise.resolve(1) }],
        ...parts,
      });
    const parts = { store: new MemoryMetastore(), objects: new MemoryObjectStore() };
    const before = await boot(parts);
    const pid = await before.os.spawn(acting, { budget: { modelCalls: 2, toolCalls: 1 } });
    await sleep(20);
    const after = await boot(parts);
    after.hook(hookOn(["infer", "call", "publish"], { name: "ear", pre: ({ name }) => void heard.push(name) }));
    waits = gate.promise;
    await after.os.resume(pid, { program: acting });
    gate.resolve();

    expect((await after.os.wait(pid)).result).toBe(true);
    expect(heard).toEqual(["infer"]);
    const acts = (await after.os.call("auditLog", {})).filter((record) => record.pid === pid);
    expect(acts.map(({ call }) => call)).toEqual(["infer", "call", "publish", "stepEnd", "infer"]);
    await after.close();
  });

  test("a call that only names a place at which something else is recorded is looked at as any other", async () => {
    const other = openProgram("other");
    let asks: string[] = [];
    const acting = program("acting", async (_input: unknown, ctx: RunContext) => {
      for (const name of ["x", "y"]) await ctx.step(name, () => name);
      if (asks.length === 0) return new Promise<never>(() => undefined);
      const [pid] = (await ctx.os.ps({})).filter(({ name }) => name === "other").map((one) => one.pid);
      const codeOf = async (work: () => unknown): Promise<string> =>
        (async () => work())().then(
          () => "done",
          (error: unknown) => (isKernelError(error) ? error.code : "?"),
        );
      return [
        await codeOf(() => ctx.os.call("sleep", { pid: pid ?? ctx.pid, place: "y" })),
        await codeOf(() => ctx.os.call("collapse", { place: "x" })),
      ];
    });
    const parts = { store: new MemoryMetastore(), objects: new MemoryObjectStore() };
    const before = await bootKernel(parts);
    const pid = await before.os.spawn(acting);
    await sleep(20);
    const after = await bootKernel(parts);
    asks = ["now"];
    await after.os.spawn(other.program);
    const veto = (): never => {
      throw new KernelError("EPERM", "vetoed");
    };
    after.hook(hookOn(["sleep", "collapse"], { pre: veto }));
    await after.os.resume(pid, { program: acting });
    expect((await after.os.wait(pid)).result).toEqual(["EPERM", "EPERM"]);
    await after.close();
  });

  test("a changed node and what needs it run again, all else keeps its outcome", async () => {
    const done: string[] = [];
    const base = pipeline("changed")
      .node("a", () => (done.push("a"), 1))
      .node("b", () => (done.push("b"), 2));
    const first = base
      .node("c", { needs: ["b"] }, ({ b }) => (done.push("c"), b + 10))
      .node("end", { needs: ["a", "c"] }, (): Promise<number> => new Promise(() => undefined));
    const second = base
      .node("c", { needs: ["b"] }, ({ b }) => (done.push("c2"), b + 20))
      .node("end", { needs: ["a", "c"] }, ({ a, c }) => a + c);
    const before = await live();
    const pid = await before.kernel.os.spawn(planProgram(first.build()));
    await sleep(10);
    const after = await live(before);

    await after.kernel.os.resume(pid, { program: planProgram(second.build()) });

    expect((await after.kernel.os.wait(pid)).result).toBe(23);
    expect(done).toEqual(["a", "b", "c", "c2"]);
  });

  test("a failed run is tried again from where it failed", async () => {
    const done: string[] = [];
    let isFixed = false;
    const plan = planProgram(
      pipeline("again")
        .node("good", () => (done.push("good"), 1))
        .node("bad", { needs: ["good"] }, () => {
          done.push("bad");
          if (!isFixed) throw new TypeError("broken");
          return 2;
        })
        .build(),
    );
    const pid = await kernel.os.spawn(plan);
    expect((await kernel.os.wait(pid)).code).toBe(1);
    isFixed = true;

    await kernel.os.resume(pid, { program: plan, again: true });

    expect((await kernel.os.wait(pid)).result).toBe(2);
    expect(done).toEqual(["good", "bad", "bad"]);
  });

  test("a function program is called from its top, and time, chance and answers are the recorded ones", async () => {
    const seen: unknown[] = [];
    const build = (isLast: boolean) =>
      program(
        "function",
        async (input: { name: string }, ctx: RunContext<{ name: string }>) => {
          const values = [
            await ctx.now(),
            await ctx.random(),
            (await ctx.infer("ask", "hello")).text,
            await ctx.step("step", () => Math.random()),
          ];
          seen.push(values);
          if (!isLast) await new Promise(() => undefined);
          return input.name;
        },
        { version: "1" },
      );
    const before = await live();
    const pid = await before.kernel.os.spawn(build(false), { input: { name: "x" } });
    await sleep(20);
    const after = await live(before);
    await after.kernel.os.resume(pid, { program: build(true) });

    expect((await after.kernel.os.wait(pid)).result).toBe("x");
    expect(seen).toHaveLength(2);
    expect(seen[1]).toEqual(seen[0]);
  });

  test("a process whose host dies three times without progress is quarantined, and can be forced", async () => {
    const stuck = program("killer", () => new Promise(() => undefined), { version: "1" });
    let at = await live();
    const pid = await at.kernel.os.spawn(stuck);
    for (let death = 0; death < 3; death++) {
      at = await live(at);
      await at.kernel.os.resume(pid, { program: stuck });
    }
    at = await live(at);
    await at.kernel.os.resume(pid, { program: stuck });

    expect((await at.kernel.os.ps()).find((process) => process.pid === pid)).toMatchObject({
      state: "quarantined",
      error: { code: "EQUARANTINE" },
    });
    await expect(at.kernel.os.resume(pid, { program: stuck })).rejects.toMatchObject({ code: "EQUARANTINE" });
    await at.kernel.os.resume(pid, { program: program("killer", () => "free", { version: "2" }), force: true });
    expect((await at.kernel.os.wait(pid)).result).toBe("free");
  });

  test("one that came to wait each time has killed no host, nor has one in a process of its own", async () => {
    const waiting = program("waiting", async (_input: unknown, ctx: RunContext) => (await ctx.receive("letter"))?.body);
    const elsewhere = {
      ...program("elsewhere", () => new Promise(() => undefined)),
      source: { runtime: "process" as const },
    };
    let at = await live();
    const pids = [await at.kernel.os.spawn(waiting), await at.kernel.os.spawn(elsewhere)] as const;
    for (let death = 0; death < 8; death++) {
      at = await live(at);
      await at.kernel.os.resume(pids[0], { program: waiting });
      await at.kernel.os.resume(pids[1], { program: elsewhere });
      await sleep(2);
    }
    expect((await at.kernel.os.ps({ pids })).map(({ state }) => state)).toEqual(["waiting", "running"]);
    await at.kernel.os.call("send", { to: pids[0], body: "done" });
    expect((await at.kernel.os.wait(pids[0])).result).toBe("done");
  });

  test("a resumed run that is stopped in between records what it then does", async () => {
    const plan = planProgram(
      pipeline("stopped")
        .node("a", async () => {
          await sleep(30);
          return 1;
        })
        .node("b", { needs: ["a"] }, ({ a }) => a + 1)
        .build(),
    );
    const before = await live();
    const pid = await before.kernel.os.spawn(plan);
    const after = await live(before);
    await after.kernel.os.resume(pid, { program: plan });
    await after.kernel.os.kill(pid, "STOP");
    await sleep(60);
    await after.kernel.os.kill(pid, "CONT");
    await after.kernel.os.wait(pid);

    expect(await after.kernel.os.fs.readText(`/proc/runs/stopped-${pid}/events`)).toMatch(/step {4}a[\s\S]*step {4}b/);
  });

  test("a supervisor that is killed cannot replace the children that die with it", async () => {
    const kid = program(
      "kid",
      (_input, ctx) =>
        new Promise((_resolve, reject) =>
          ctx.signal.addEventListener("abort", () => reject(ctx.signal.reason as Error)),
        ),
    );
    const supervisor = program("supervisor", async (_input: unknown, ctx: RunContext) => {
      for (;;) await ctx.os.wait(await ctx.os.spawn(kid));
    });
    const pid = await kernel.os.spawn(supervisor);
    await sleep(3);
    await kernel.os.kill(pid);
    await sleep(5);

    expect((await kernel.os.ps()).filter(({ name }) => name === "kid")).toEqual([]);
  });

  test("a child that is spawned while its parent is killed does not outlive it", async () => {
    const child = program("child", () => new Promise(() => undefined));
    const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
      for (;;) {
        await Promise.all([ctx.os.spawn(child), ctx.os.spawn(child)]);
        await sleep(0);
      }
    });
    const pid = await kernel.os.spawn(parent);
    await sleep(3);
    await kernel.os.kill(pid, "KILL");
    await sleep(5);

    expect((await kernel.os.ps()).filter(({ name }) => name === "child")).toEqual([]);
  });

  test("two resumptions at once start the process once", async () => {
    let starts = 0;
    const build = () =>
      program(
        "once",
        () => {
          starts++;
          return new Promise(() => undefined);
        },
        { version: "1" },
      );
    const before = await live();
    const pid = await before.kernel.os.spawn(build());
    const after = await live(before);
    starts = 0;

    const both = await Promise.allSettled([
      after.kernel.os.resume(pid, { program: build() }),
      after.kernel.os.resume(pid, { program: build() }),
    ]);

    expect(both.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect(starts).toBe(1);
  });

  test("a kill while a process is resumed has the last word", async () => {
    const before = await live();
    const pid = await before.kernel.os.spawn(program("x", () => new Promise(() => undefined), { version: "1" }));
    const after = await live(before);

    const [resumed] = await Promise.allSettled([
      after.kernel.os.resume(pid, { program: program("x", () => "ran", { version: "1" }) }),
      after.kernel.os.kill(pid, "KILL"),
    ]);

    expect(resumed.status).toBe("rejected");
    expect((await after.kernel.os.wait(pid)).signal).toBe("KILL");
    const last = await live(after);
    expect((await last.kernel.os.ps({ pids: [pid] }))[0]).toMatchObject({ state: "zombie", signal: "KILL" });
  });

  test("what a new revision has outdated stays outdated through a crash", async () => {
    const build = (value: string, end: () => unknown) =>
      planProgram(
        pipeline("outdated")
          .node("a", () => value)
          .node("end", { needs: ["a"] }, ({ a }) => end() ?? a)
          .build(),
      );
    const never = (): Promise<never> => new Promise(() => undefined);
    const first = await live();
    const pid = await first.kernel.os.spawn(build("OLD", never));
    await sleep(5);
    const second = await live(first);
    // The host ends before the changed node has run.
    const slow = planProgram(
      pipeline("outdated")
        .node("a", async () => {
          await never();
          return "NEW";
        })
        .node("end", { needs: ["a"] }, ({ a }) => a)
        .build(),
    );
    await second.kernel.os.resume(pid, { program: slow });
    const third = await live(second);
    await third.kernel.os.resume(pid, { program: { ...build("NEW", () => undefined), revision: slow.revision } });

    expect((await third.kernel.os.wait(pid)).result).toBe("NEW");
  });

  test("a stranger may not give a process a program to run with its rights", async () => {
    const failed = await kernel.os.spawn(
      program(
        "fails",
        () => {
          throw new TypeError("x");
        },
        { version: "1" },
      ),
    );
    await kernel.os.wait(failed);
    const os = await processWith(kernel, ["proc.signal:/proc/*", "proc.wait:/proc/*"]);

    await expect(os.resume(failed, { again: true, program: program("evil", () => "mine") })).rejects.toMatchObject({
      code: "EACCES",
    });
  });

  test("an orderly end of the host is no death while resuming", async () => {
    const build = () =>
      program(
        "sleeper",
        async (_input: unknown, ctx: RunContext) => {
          await ctx.sleep(60_000);
        },
        { version: "1" },
      );
    let at = await live();
    const pid = await at.kernel.os.spawn(build());
    for (let life = 0; life < 5; life++) {
      await sleep(3);
      await at.kernel.host.processes.suspendAll();
      at = await live(at);
      await at.kernel.os.resume(pid, { program: build() });
    }

    expect((await at.kernel.os.ps({ pids: [pid] }))[0]?.state).toMatch(/running|waiting/);
  });

  test("a step's name may be used once", async () => {
    const twice = program("twice", async (_input: unknown, ctx: RunContext) => {
      await ctx.os.call("stepBegin", { place: "same" });
      await ctx.os.call("stepBegin", { place: "same" });
    });

    expect((await kernel.os.wait(await kernel.os.spawn(twice))).error).toMatchObject({ code: "EEXIST" });
  });
});

describe("the input of a process", () => {
  const taking = program("taking", async ({ todo }: { todo: string[] }, ctx: RunContext) => {
    const first = todo.shift();
    if (!ctx.hasOutcome("went") && (await ctx.step("went", () => first)) === "a") throw new TypeError("once");
    return [first, ...todo];
  });

  test("is what it was given, whatever code of an earlier life has made of it", async () => {
    const input = { todo: ["a", "b", "c"] };
    const pid = await kernel.os.spawn(taking, { input });
    await kernel.os.wait(pid);
    await kernel.os.resume(pid, { again: true, program: taking });

    expect((await kernel.os.wait(pid)).result).toEqual(["a", "b", "c"]);
    expect(JSON.parse(await kernel.os.fs.readText(`/proc/${pid}/cmdline`))).toMatchObject({ input });
    expect(input.todo).toEqual(["a", "b", "c"]);
  });

  test("is not shared by processes that are given the same object", async () => {
    const input = { history: [] as string[] };
    const agent = program("agent", (own: typeof input) => own.history.push("said"));

    const run = async () => (await kernel.os.wait(await kernel.os.spawn(agent, { input, durable: false }))).result;
    expect([await run(), await run()]).toEqual([1, 1]);
    expect(input.history).toEqual([]);
  });
});

test("a line that is logged on the way to where a process goes on is logged once", async () => {
  const talking = program("talking", async (_input: unknown, ctx: RunContext) => {
    await ctx.log("begun");
    await ctx.step("work", () => ctx.log("working"));
    // What comes side by side comes in another order when it is taken from the journal.
    const side = async (name: string, ms: number): Promise<void> => {
      await ctx.step(name, () => sleep(ms));
      await ctx.log(name);
    };
    await Promise.all([side("slow", 10), side("fast", 1)]);
    for (const turn of [1, 2]) {
      await ctx.log("turn");
      if (ctx.hasOutcome(`heard ${turn}`)) await ctx.receive(`heard ${turn}`);
      else if ((await ctx.receive(`heard ${turn}`))?.body === "fail") throw new TypeError("once");
    }
  });
  const pid = await kernel.os.spawn(talking);
  await kernel.os.call("send", { to: pid, body: "on" });
  await kernel.os.call("send", { to: pid, body: "fail" });
  await kernel.os.wait(pid);
  await kernel.os.resume(pid, { again: true, program: talking });
  await kernel.os.wait(pid);

  const lines = JSON.parse(await kernel.os.fs.readText(`/proc/${pid}/log.json`)) as readonly {
    readonly text: string;
  }[];
  expect(lines.map(({ text }) => text)).toEqual(["begun", "working", "fast", "slow", "turn", "turn"]);
});
