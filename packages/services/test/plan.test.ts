import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { createOfflineModel } from "@ergos/drivers/model-offline";
import { type Kernel, type KernelEvent, type Pid } from "@ergos/kernel";
import { type RunContext, createPlan, pipeline, planProgram, program } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, expectTypeOf, test } from "vitest";
import { bootKernel, processWith } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

type Exit = Awaited<ReturnType<Kernel["os"]["wait"]>>;
const run = async (plan: Parameters<typeof planProgram>[0], input?: unknown): Promise<Exit> =>
  kernel.os.wait(await kernel.os.spawn(planProgram(plan), input === undefined ? {} : { input }));
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe("edges", () => {
  test("inputs and outputs are typed along the edges", async () => {
    const plan = pipeline<{ text: string }>("typed")
      .node("words", ({ text }) => text.split(" "))
      .map("lengths", { over: "words" }, (word) => word.length)
      .node("sum", { needs: ["lengths", "words"] }, ({ lengths, words }) => {
        expectTypeOf(lengths).toEqualTypeOf<readonly number[]>();
        expectTypeOf(words).toEqualTypeOf<string[]>();
        return lengths.reduce((a, b) => a + b, 0) + words.length;
      });

    expect((await run(plan.build(), { text: "one two three" })).result).toBe(14);
  });

  test("a node starts as soon as its own inputs are there, without waves", async () => {
    const order: string[] = [];
    const note = (name: string, ms: number) => async () => {
      await sleep(ms);
      order.push(name);
      return name;
    };
    const plan = pipeline("no-waves")
      .node("slow", note("slow", 60))
      .node("fast", note("fast", 1))
      .node("after-fast", { needs: ["fast"] }, note("after-fast", 1))
      .node("end", { needs: ["slow", "after-fast"] }, note("end", 0));

    await run(plan.build());

    expect(order).toEqual(["fast", "after-fast", "slow", "end"]);
  });

  test("a plan that cannot run is refused with the node that is wrong", () => {
    expect(() => pipeline("p").node("a", { needs: ["missing" as never] }, () => 1)).toThrow(/missing.*not defined/);
    expect(() =>
      pipeline("p")
        .node("a", () => 1)
        .node("a", () => 2),
    ).toThrow(/two nodes/);
    expect(() => pipeline("p").node("no spaces", () => 1)).toThrow(/no node name/);
    const circular = ["a", "b"].map((name, at) => ({
      name,
      kind: "function" as const,
      needs: [at === 0 ? "b" : "a"],
      after: [],
      run: () => 1,
      allowSkipped: false,
    }));
    expect(() => planProgram(createPlan("p", circular))).toThrow(/wait for each other: a, b/);
  });

  test("without an output the result holds every node that nothing needs", async () => {
    const plan = pipeline("sinks")
      .node("a", () => 1)
      .node("b", { needs: ["a"] }, () => 2)
      .node("c", { needs: ["a"] }, () => 3);

    expect((await run(plan.build())).result).toEqual({ b: 2, c: 3 });
  });

  test("no more nodes are under way than the plan allows", async () => {
    let now = 0;
    let most = 0;
    let plan = pipeline("bounded", { concurrency: 3 });
    for (let at = 0; at < 12; at++) {
      plan = plan.node(`n${at}`, async () => {
        most = Math.max(most, ++now);
        await sleep(2);
        now--;
      });
    }
    await run(plan.build());

    expect(most).toBe(3);
  });
});

describe("failures", () => {
  test("a failed node ends the run with its cause and the nodes it kept from running", async () => {
    const plan = pipeline("fails")
      .node("bad", (): number => {
        throw new RangeError("out of cheese");
      })
      .node("after", { needs: ["bad"] }, () => 1)
      .node("last", { needs: ["after"] }, () => 1);

    const exit = await run(plan.build());

    expect(exit).toMatchObject({ code: 1, error: { code: "EFAILED" } });
    expect(exit.error?.message).toMatch(/node bad failed: out of cheese; not run: after, last/);
    expect(exit.error?.causes).toContain("out of cheese");
  });

  test("a retry waits longer each time and keeps what an attempt has finished", async () => {
    const attempts: number[] = [];
    let inner = 0;
    const plan = pipeline("retries").node(
      "flaky",
      { retry: { attempts: 4, delayMs: 10, factor: 2 } },
      async (_input, ctx) => {
        attempts.push(performance.now());
        const step = await ctx.step("once", () => ++inner);
        if (ctx.attempt < 3) throw new TypeError("not yet");
        return { step, attempt: ctx.attempt };
      },
    );

    const exit = await run(plan.build());

    expect(exit.result).toEqual({ step: 1, attempt: 3 });
    expect(inner).toBe(1);
    expect((attempts[2] ?? 0) - (attempts[1] ?? 0)).toBeGreaterThan((attempts[1] ?? 0) - (attempts[0] ?? 0));
  });

  test("an attempt ends when its time is up, and its signal says so", async () => {
    let reason: unknown;
    const plan = pipeline("late").node("slow", { timeoutMs: 20 }, async (_input, ctx) => {
      ctx.signal.addEventListener("abort", () => (reason = ctx.signal.reason));
      await sleep(500);
      return 1;
    });

    const exit = await run(plan.build());

    expect(exit.error?.message).toMatch(/slow took longer than 20 ms/);
    expect(String(reason)).toMatch(/ETIMEDOUT/);
  });

  test("a condition that is false skips the node and what needs it, unless that allows it", async () => {
    const plan = pipeline<{ go: boolean }>("conditions")
      .node("first", ({ go }) => go)
      .node("maybe", { needs: ["first"], when: ({ first }) => first }, () => "ran")
      .node("needs-it", { needs: ["maybe"] }, () => "ran")
      .node("anyway", { needs: ["maybe", "first"], allowSkipped: true }, ({ maybe, first }) => [
        maybe ?? "absent",
        first,
      ]);

    expect((await run(plan.build(), { go: false })).result).toMatchObject({ anyway: ["absent", false] });
    expect((await run(plan.build(), { go: true })).result).toMatchObject({ anyway: ["ran", true], "needs-it": "ran" });
  });

  test("a condition that throws fails its node", async () => {
    const plan = pipeline("bad-condition")
      .node("a", () => 1)
      .node(
        "b",
        {
          needs: ["a"],
          when: () => {
            throw new TypeError("no");
          },
        },
        () => 1,
      );

    expect((await run(plan.build())).error?.message).toMatch(/node b failed: .*its condition failed: no/);
  });

  const results: readonly (readonly [string, unknown, RegExp])[] = [
    ["a function", () => () => 1, /EINVAL.*a function/],
    [
      "a cycle",
      () => {
        const a: Record<string, unknown> = {};
        a["a"] = a;
        return a;
      },
      /EINVAL.*a cycle/,
    ],
    ["a Date", () => new Date(), /EINVAL.*a Date/],
    ["NaN", () => ({ x: { y: Number.NaN } }), /EINVAL.*NaN at \.x\.y/],
    ["200 MB", () => "x".repeat(200_000_000), /E2BIG.*67108864 bytes/],
  ];
  for (const [what, make, message] of results) {
    test(`a node that returns ${what} fails with one clear error`, async () => {
      const exit = await run(
        pipeline("bad-result")
          .node("bad", make as () => unknown)
          .build(),
      );

      expect(exit.error?.message).toMatch(message);
    });
  }

  test("a thenable of another make is waited for", async () => {
    // oxlint-disable-next-line unicorn/no-thenable -- what a query builder returns
    const later = { then: (resolve: (value: number) => void) => setTimeout(resolve, 2, 7) };

    expect(
      (
        await run(
          pipeline("thenable")
            .node("a", () => later as unknown as Promise<number>)
            .node("b", { needs: ["a"] }, ({ a }) => a + 1)
            .build(),
        )
      ).result,
    ).toBe(8);
  });

  test("a node that returns nothing has an outcome all the same", async () => {
    const exit = await run(
      pipeline("nothing")
        .node("a", () => undefined)
        .node("b", { needs: ["a"] }, ({ a }) => [a === undefined])
        .build(),
    );

    expect(exit.result).toEqual([true]);
  });

  test("a function that throws something strange fails with a sentence", async () => {
    for (const thrown of [
      undefined,
      null,
      7,
      "text",
      Object.create(null) as object,
      {
        toString: () => {
          throw new TypeError("mean");
        },
      },
    ]) {
      const exit = await run(
        pipeline("strange")
          .node("a", async () => {
            await sleep(0);
            throw thrown;
          })
          .build(),
      );
      expect(exit.code).toBe(1);
      expect(exit.error?.message).toMatch(/^\[EFAILED\]/);
    }
  });
});

describe("maps", () => {
  test("items run a bounded number at a time and keep their order", async () => {
    let now = 0;
    let most = 0;
    const plan = pipeline("map")
      .node("items", () => Array.from({ length: 20 }, (_, at) => at))
      .map("double", { over: "items", concurrency: 4 }, async (item) => {
        most = Math.max(most, ++now);
        await sleep(20 - item);
        now--;
        return item * 2;
      });

    expect((await run(plan.build())).result).toEqual(Array.from({ length: 20 }, (_, at) => at * 2));
    expect(most).toBe(4);
  });

  test("a failed item fails the map, is collected, or is left out, as the plan says", async () => {
    const items = pipeline("map").node("items", () => [1, 2, 3]);
    const bad = (item: number): number => {
      if (item === 2) throw new TypeError("two is bad");
      return item;
    };

    expect((await run(items.map("m", { over: "items" }, bad).build())).error?.message).toMatch(
      /node m failed: m\[1\] failed: two is bad/,
    );
    expect((await run(items.map("m", { over: "items", onError: "drop" }, bad).build())).result).toEqual([1, 3]);
    expect((await run(items.map("m", { over: "items", onError: "collect" }, bad).build())).result).toEqual([
      { value: 1 },
      { error: "[EFAILED] m[1] failed: two is bad" },
      { value: 3 },
    ]);
  });

  test("a map over nothing, over no array, and with two equal keys", async () => {
    const over = (value: unknown) => pipeline("map").node("items", () => value as number[]);

    expect(
      (
        await run(
          over([])
            .map("m", { over: "items" }, (item) => item)
            .build(),
        )
      ).result,
    ).toEqual([]);
    expect(
      (
        await run(
          over("text")
            .map("m", { over: "items" }, (item) => item)
            .build(),
        )
      ).error?.message,
    ).toMatch(/needs an array from items, found string/);
    expect(
      (
        await run(
          over([1, 1])
            .map("m", { over: "items", key: String }, (item) => item)
            .build(),
        )
      ).error?.message,
    ).toMatch(/EEXIST|two items with the key/);
  });
});

describe("retries and time limits around inner steps", () => {
  test("a retry joins the step that its timed-out attempt is still doing", async () => {
    let began = 0;
    const plan = pipeline("join").node(
      "slow",
      { timeoutMs: 30, retry: { attempts: 5, delayMs: 1 } },
      async (_input, ctx) =>
        ctx.step("work", async () => {
          began++;
          await sleep(70);
          return "done";
        }),
    );

    expect((await run(plan.build())).result).toBe("done");
    expect(began).toBe(1);
  });

  test("a model call that takes too long is cancelled with its attempt and made again", async () => {
    let calls = 0;
    const inner = createOfflineModel({ name: "slow-once", effect: "idempotent", script: () => "answer" });
    const slow = createOfflineModel({ name: "slow-once", effect: "idempotent", delayMs: 5000, script: () => "late" });
    const at = await bootKernel({
      models: [{ ...inner, infer: (...args) => (++calls === 1 ? slow : inner).infer(...args) }],
    });
    const plan = pipeline("ask").node(
      "ask",
      { timeoutMs: 40, retry: { attempts: 3, delayMs: 1 } },
      async (_input, ctx) => (await ctx.infer("q", "hello")).text,
    );

    const exit = await at.os.wait(await at.os.spawn(planProgram(plan.build())));

    expect(exit.result).toBe("answer");
    expect(calls).toBe(2);
    await at.close();
  });

  test("a step name that is used twice in one attempt is an error, with and without retries", async () => {
    const twice = async (_input: unknown, ctx: RunContext): Promise<number> =>
      (await ctx.step("s", () => 1)) + (await ctx.step("s", () => 2));

    expect((await run(pipeline("plain").node("a", twice).build())).error?.message).toMatch(/EEXIST/);
    expect(
      (
        await run(
          pipeline("retrying")
            .node("a", { retry: { attempts: 2, delayMs: 1 } }, twice)
            .build(),
        )
      ).error?.message,
    ).toMatch(/EEXIST/);
  });
});

describe("cancellation", () => {
  test("a large plan that never waits can be killed on the way", async () => {
    const nodes = Array.from({ length: 40_000 }, (_, at) => ({
      name: `n${at}`,
      kind: "function" as const,
      needs: at === 0 ? [] : [`n${at - 1}`],
      after: [],
      run: () => 1,
      allowSkipped: false,
    }));
    const pid = await kernel.os.spawn(planProgram(createPlan("large", nodes)));

    await kernel.os.kill(pid, "KILL");
    await sleep(50);

    expect((await kernel.os.wait(pid)).signal).toBe("KILL");
  });

  test("a kill during a model call ends the process, however late the model gives up", async () => {
    for (const turns of [0, 1, 2, 3, 5, 20]) {
      const stubborn = createOfflineModel({ name: "stubborn", effect: "idempotent" });
      const at = await bootKernel({
        models: [
          {
            ...stubborn,
            infer: async (_request, { signal }) => {
              await new Promise((resolve) => signal.addEventListener("abort", resolve));
              for (let turn = 0; turn < turns; turn++) await Promise.resolve();
              throw signal.reason;
            },
          },
        ],
      });
      const child = program("child", (_input: unknown, ctx: RunContext) =>
        ctx.infer("a", { messages: [], maxOutputTokens: 10 }),
      );
      const pid = await at.os.spawn(child, { budget: { tokensOut: 100 } });
      await sleep(2);

      await at.os.kill(pid, "KILL");

      expect((await at.os.wait(pid)).signal).toBe("KILL");
      expect(await at.host.store.scan({ from: "A/", to: "A0" }, { limit: 10 })).toEqual([]);
      await at.close();
    }
  });

  test("code that honours its signal ends within 100 ms, and the run is cancelled", async () => {
    const plan = pipeline("cancelled").node("wait", async (_input, ctx) => {
      await new Promise((_resolve, reject) =>
        ctx.signal.addEventListener("abort", () => reject(ctx.signal.reason as Error)),
      );
    });
    const pid = await kernel.os.spawn(planProgram(plan.build()));
    await sleep(10);
    const started = performance.now();

    await kernel.os.kill(pid);

    expect(await kernel.os.wait(pid)).toMatchObject({ code: 143, signal: "TERM" });
    expect(performance.now() - started).toBeLessThan(100);
    expect(kernel.host.processes.orphans).toBe(0);
  });

  test("code that ignores its signal is abandoned, counted, and its late outcome discarded", async () => {
    const late = Promise.withResolvers<number>();
    const plan = pipeline("stubborn").node("wait", () => late.promise);
    const pid = await kernel.os.spawn(planProgram(plan.build()));
    await kernel.os.kill(pid);

    expect(await kernel.os.wait(pid)).toMatchObject({ signal: "TERM" });
    expect(kernel.host.processes.orphans).toBe(1);
    late.resolve(42);
    await sleep(5);
    expect(kernel.host.processes.orphans).toBe(0);
    expect(await kernel.os.wait(pid)).not.toHaveProperty("result");
  });

  test("a stopped run does nothing until it continues", async () => {
    const done: string[] = [];
    const work = program("stoppable", async (_input: unknown, ctx: RunContext) => {
      for (const name of ["a", "b", "c"]) {
        await ctx.step(name, async () => {
          await sleep(10);
          done.push(name);
        });
      }
    });
    const pid = await kernel.os.spawn(work);
    await kernel.os.kill(pid, "STOP");
    await sleep(50);
    const before = [...done];
    await kernel.os.kill(pid, "CONT");
    await kernel.os.wait(pid);

    expect(before.length).toBeLessThan(3);
    expect(done).toEqual(["a", "b", "c"]);
  });
});

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

describe("budgets", () => {
  const paid = () =>
    createOfflineModel({
      name: "paid",
      effect: "idempotent",
      price: { input: 1_000_000, output: 1_000_000 },
      script: () => "12345678",
    });
  const used = async (at: Kernel, pid: Pid): Promise<unknown> =>
    JSON.parse(await at.os.fs.readText(`/proc/${pid}/budget.json`)) as unknown;

  test("a call is refused before it is made when its upper bound does not fit", async () => {
    let calls = 0;
    const model = paid();
    const at = await bootKernel({ models: [{ ...model, infer: (...args) => (calls++, model.infer(...args)) }] });
    const spender = program("spender", async (_input: unknown, ctx: RunContext) => {
      for (let call = 0; call < 10; call++)
        await ctx.infer(`call${call}`, { messages: [{ role: "user", content: "hi" }], maxOutputTokens: 10 });
    });
    const pid = await at.os.spawn(spender, { budget: { tokensOut: 25 } });

    const exit = await at.os.wait(pid);

    // 2 tokens are used by each call and 10 reserved before it: the ninth does not fit any more.
    expect(exit.error).toMatchObject({ code: "EDQUOT" });
    expect(calls).toBe(8);
    await at.close();
  });

  test("many calls at once never overshoot, and what is left goes back to the parent", async () => {
    const at = await bootKernel({ models: [paid()] });
    const child = program("child", async (_input: unknown, ctx: RunContext) => {
      const tries = await Promise.allSettled(
        Array.from({ length: 20 }, (_, call) => ctx.infer(`c${call}`, { messages: [], maxOutputTokens: 10 })),
      );
      return tries.filter(({ status }) => status === "fulfilled").length;
    });
    const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
      const pid = await ctx.os.spawn(child, { budget: { tokensOut: 40 } });
      const exit = await ctx.os.wait(pid);
      return { done: exit.result, budget: await ctx.os.call("usage", { pid: ctx.pid }) };
    });
    const exit = await at.os.wait(await at.os.spawn(parent, { budget: { tokensOut: 100 } }));

    expect(exit.result).toMatchObject({ done: 4, budget: { tokensOut: { allocation: 100, used: 8 } } });
    await at.close();
  });

  test("a child cannot be given more than its parent has left", async () => {
    const at = await bootKernel({ models: [paid()] });
    const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
      await ctx.os.spawn(
        program("child", () => 1),
        { budget: { tokensOut: 101 } },
      );
    });

    expect((await at.os.wait(await at.os.spawn(parent, { budget: { tokensOut: 100 } }))).error).toMatchObject({
      code: "EDQUOT",
    });
    await expect(
      at.os.spawn(
        program("x", () => 1),
        { budget: { tokensOut: -1 } },
      ),
    ).rejects.toMatchObject({ code: "EINVAL" });
    await expect(
      at.os.spawn(
        program("x", () => 1),
        { budget: { coins: 1 } as never },
      ),
    ).rejects.toMatchObject({ code: "EINVAL" });
    await at.close();
  });

  test("a budget of 0 is nothing, and a failed call gives its reservation back", async () => {
    const failing = createOfflineModel({
      name: "failing",
      effect: "idempotent",
      script: () => {
        throw new TypeError("down");
      },
    });
    const at = await bootKernel({ models: [failing] });
    const one = program("one", (_input: unknown, ctx: RunContext) =>
      ctx.infer("a", { messages: [], maxOutputTokens: 5 }),
    );
    const hold = program("hold", async (_input: unknown, ctx: RunContext) => {
      await ctx.infer("a", { messages: [], maxOutputTokens: 5 }).catch(() => undefined);
      return ctx.os.call("usage", { pid: ctx.pid });
    });

    expect((await at.os.wait(await at.os.spawn(one, { budget: { tokensOut: 0 } }))).error).toMatchObject({
      code: "EDQUOT",
    });
    const pid = await at.os.spawn(hold, { budget: { tokensOut: 50 } });
    expect((await at.os.wait(pid)).result).toMatchObject({ tokensOut: { used: 0 } });
    expect(await used(at, pid)).toEqual({ tokensOut: { allocation: 50, used: 0, account: pid } });
    await at.close();
  });
});

describe("budgets of families", () => {
  const model = createOfflineModel({ name: "paid", effect: "idempotent", script: () => "12345678" });
  const ask = (ctx: RunContext, name: string): Promise<unknown> =>
    ctx.infer(name, { messages: [], maxOutputTokens: 10 });

  test("a child keeps to its grandparent's budget when its parent has ended", async () => {
    const at = await bootKernel({ models: [model] });
    const grandchild = program("grandchild", async (_input: unknown, ctx: RunContext) => {
      await sleep(20);
      const tries: boolean[] = [];
      for (let call = 0; call < 20; call++)
        tries.push(
          await ask(ctx, `c${call}`).then(
            () => true,
            () => false,
          ),
        );
      return tries.filter(Boolean).length;
    });
    let last = 0;
    const parent = program(
      "parent",
      async (_input: unknown, ctx: RunContext) => void (last = await ctx.os.spawn(grandchild)),
    );
    const top = program("top", async (_input: unknown, ctx: RunContext) => {
      await ctx.os.wait(await ctx.os.spawn(parent));
      await ctx.os.wait(last as Pid);
      return ctx.os.call("usage", { pid: ctx.pid });
    });
    const exit = await at.os.wait(await at.os.spawn(top, { budget: { tokensOut: 30 } }));

    expect((await at.os.wait(last as Pid)).result).toBe(11);
    expect(exit.result).toMatchObject({ tokensOut: { allocation: 30, used: 22 } });
    await at.close();
  });

  test("what a child did not use comes back although its parent ended before it", async () => {
    const at = await bootKernel({ models: [model] });
    const gate = Promise.withResolvers<void>();
    let childPid = 0;
    const child = program("child", async (_input: unknown, ctx: RunContext) => {
      await gate.promise;
      await ask(ctx, "a");
    });
    const parent = program(
      "parent",
      async (_input: unknown, ctx: RunContext) =>
        void (childPid = await ctx.os.spawn(child, { budget: { tokensOut: 40 } })),
    );
    const top = program("top", async (_input: unknown, ctx: RunContext) => {
      await ctx.os.wait(await ctx.os.spawn(parent, { budget: { tokensOut: 60 } }));
      const held = await ctx.os.call("usage", { pid: ctx.pid });
      gate.resolve();
      await ctx.os.wait(childPid as Pid);
      return [held, await ctx.os.call("usage", { pid: ctx.pid })];
    });
    const exit = await at.os.wait(await at.os.spawn(top, { budget: { tokensOut: 100 } }));

    expect(exit.result).toMatchObject([{ tokensOut: { used: 60 } }, { tokensOut: { used: 2 } }]);
    await at.close();
  });

  test("a run that is tried again has only what is left of its budget", async () => {
    const at = await bootKernel({ models: [model] });
    const spender = program(
      "spender",
      async (_input: unknown, ctx: RunContext) => {
        for (let call = 0; call < 50; call++) await ask(ctx, `c${call}`);
      },
      { version: "1" },
    );
    const pid = await at.os.spawn(spender, { budget: { tokensOut: 21 } });
    await at.os.wait(pid);
    await at.os.resume(pid, { again: true, program: spender });

    expect((await at.os.wait(pid)).error).toMatchObject({ code: "EDQUOT" });
    expect((await at.os.ps({ pids: [pid] }))[0]?.usage.tokensOut).toBeLessThanOrEqual(21);
    await at.close();
  });

  test("a run that was killed during a call is tried again within what is left", async () => {
    let calls = 0;
    const at = await bootKernel({
      models: [
        {
          ...model,
          infer: (request, options) => (++calls === 1 ? new Promise(() => undefined) : model.infer(request, options)),
        },
      ],
    });
    const one = program("one", (_input: unknown, ctx: RunContext) => ask(ctx, "a"), { version: "1" });
    const pid = await at.os.spawn(one, { budget: { tokensOut: 30 } });
    await sleep(5);
    await at.os.kill(pid, "KILL");
    await at.os.resume(pid, { again: true, program: one });

    expect((await at.os.wait(pid)).code).toBe(0);
    expect(calls).toBe(2);
    await at.close();
  });

  test("a child that is tried again after its parent's budget has ended is refused", async () => {
    const at = await bootKernel({ models: [model] });
    let childPid = 0;
    const child = program(
      "child",
      () => {
        throw new TypeError("no");
      },
      { version: "1" },
    );
    const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
      childPid = await ctx.os.spawn(child);
      await ctx.os.wait(childPid as Pid);
    });
    await at.os.wait(await at.os.spawn(parent, { budget: { modelCalls: 1 } }));

    await expect(at.os.resume(childPid as Pid, { again: true, program: child })).rejects.toMatchObject({
      code: "EDQUOT",
    });
    expect((await at.os.wait(childPid as Pid)).code).toBe(1);
    await at.close();
  });

  test("an account whose last two users end together is closed once", async () => {
    const at = await bootKernel({ models: [model] });
    const gate = Promise.withResolvers<void>();
    const child = program("child", () => gate.promise);
    const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
      await ctx.os.spawn(child);
      await gate.promise;
    });
    const top = program("top", async (_input: unknown, ctx: RunContext) => {
      const pid = await ctx.os.spawn(parent, { budget: { tokensOut: 6 } });
      await sleep(5);
      gate.resolve();
      await ctx.os.wait(pid);
      await sleep(5);
      return ctx.os.call("usage", { pid: ctx.pid });
    });

    expect((await at.os.wait(await at.os.spawn(top, { budget: { tokensOut: 10 } }))).result).toMatchObject({
      tokensOut: { used: 0 },
    });
    expect(await at.host.store.scan({ from: "A/", to: "A0" }, { limit: 10 })).toEqual([]);
    await at.close();
  });

  test("a call cannot ask for a negative number of tokens", async () => {
    const at = await bootKernel({ models: [model] });
    const thief = program("thief", (_input: unknown, ctx: RunContext) =>
      ctx.infer("a", { messages: [], maxOutputTokens: -100 }),
    );

    expect((await at.os.wait(await at.os.spawn(thief, { budget: { tokensOut: 10 } }))).error).toMatchObject({
      code: "EINVAL",
    });
    await at.close();
  });

  test("what a process without a journal was given comes back when its host dies", async () => {
    const [store, objects] = [new MemoryMetastore(), new MemoryObjectStore()];
    const first = await bootKernel({ store, objects });
    const parent = program(
      "parent",
      async (_input: unknown, ctx: RunContext) => {
        if (ctx.os.pid > 0)
          await ctx.os.spawn(
            program("child", () => new Promise(() => undefined)),
            { durable: false, budget: { tokensOut: 60 } },
          );
        await new Promise(() => undefined);
      },
      { version: "1" },
    );
    const pid = await first.os.spawn(parent, { budget: { tokensOut: 100 } });
    await sleep(5);
    const second = await bootKernel({ store, objects });

    expect(JSON.parse(await second.os.fs.readText(`/proc/${pid}/budget.json`))).toMatchObject({
      tokensOut: { allocation: 100, used: 0 },
    });
    expect(await second.os.spawn(program("next", () => 1))).toBeGreaterThan(pid + 1);
  });
});

describe("events", () => {
  test("a run tells of its nodes in order, and its end comes last", async () => {
    const names: string[] = [];
    const events = kernel.os.events({ classes: ["plan", "process"] });
    const pid = await kernel.os.spawn(
      planProgram(
        pipeline("told")
          .node("a", () => 1)
          .node("b", { needs: ["a"], when: () => false }, () => 1)
          .build(),
      ),
    );
    await kernel.os.wait(pid);
    for await (const { name } of events as AsyncIterable<KernelEvent>) {
      names.push(name);
      if (name === "process.completed") break;
    }

    const told = names.filter((name) => name !== "process.progress");
    expect(told).toEqual(["process.started", "node.started", "node.completed", "node.skipped", "process.completed"]);
  });

  test("a run shows itself under /proc, live and afterwards", async () => {
    const gate = Promise.withResolvers<void>();
    const pid = await kernel.os.spawn(
      planProgram(
        pipeline("shown")
          .node("wait", async (_input, ctx) => {
            await ctx.log("waiting");
            await gate.promise;
            return { ok: true };
          })
          .build(),
      ),
      { input: { a: 1 } },
    );
    await sleep(5);

    expect(await kernel.os.fs.readText(`/proc/${pid}/status`)).toMatch(/state:\trunning/);
    expect(await kernel.os.fs.readText(`/proc/${pid}/log`)).toMatch(/waiting/);
    expect(await kernel.os.fs.readText(`/proc/${pid}/result`)).toBe("null\n");
    gate.resolve();
    await kernel.os.wait(pid);
    expect(JSON.parse(await kernel.os.fs.readText(`/proc/runs/shown-${pid}/result`))).toEqual({ ok: true });
    expect(await kernel.os.fs.readText(`/proc/runs/shown-${pid}/events`)).toMatch(
      /start[\s\S]*step {4}wait[\s\S]*exit/,
    );
    expect((await kernel.os.fs.readdir("/proc/runs")).map(({ name }) => name)).toContain(`shown-${pid}`);
  });

  test("executing a run's cancel file cancels it", async () => {
    const pid = await kernel.os.spawn(
      planProgram(
        pipeline("long")
          .node(
            "wait",
            (_input, ctx) =>
              new Promise((_resolve, reject) =>
                ctx.signal.addEventListener("abort", () => reject(ctx.signal.reason as Error)),
              ),
          )
          .build(),
      ),
    );

    await kernel.os.fs.exec(`/proc/runs/long-${pid}/cancel`);

    expect((await kernel.os.wait(pid)).signal).toBe("TERM");
  });
});
