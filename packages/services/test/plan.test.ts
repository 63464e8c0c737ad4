import { createOfflineModel } from "@ergos/drivers/model-offline";
import { type Kernel } from "@ergos/kernel";
import { type RunContext, createPlan, pipeline, planProgram, program } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, expectTypeOf, test } from "vitest";
import { bootKernel } from "../../kernel/test/kernel-fixture.ts";

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

  test("a retry keeps what an attempt has finished", async () => {
    let inner = 0;
    const plan = pipeline("retries").node("flaky", { retry: { attempts: 4, delayMs: 1 } }, async (_input, ctx) => {
      const step = await ctx.step("once", () => ++inner);
      if (ctx.attempt < 3) throw new TypeError("not yet");
      return { step, attempt: ctx.attempt };
    });

    const exit = await run(plan.build());

    expect(exit.result).toEqual({ step: 1, attempt: 3 });
    expect(inner).toBe(1);
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

test("what comes to nothing for each of many comes to nulls, now and after a restart", async () => {
  const sent: number[] = [];
  const sends = pipeline("sends")
    .node("list", () => [1, 2])
    .map("send", { over: "list" }, async (item) => void sent.push(item))
    .node("told", { needs: ["send"] }, ({ send }) => send)
    .build();
  const all = program("all", async (_input: unknown, ctx: RunContext) => {
    const steps = [1, 2].map((at) => ctx.step(`s${at}`, () => void sent.push(at)));
    const inside = await ctx.step("both", () => Promise.all([ctx.sleep(1), ctx.sleep(1)]));
    return [await Promise.all(steps), inside].flat();
  });
  await using kernel = await bootKernel();
  for (const [one, result] of [
    [planProgram(sends), [null, null]],
    [all, [null, null, null, null]],
  ] as const)
    expect(await kernel.os.wait(await kernel.os.spawn(one))).toMatchObject({ code: 0, result });
  const last = pipeline("last")
    .node("list", () => [1, 2])
    .map("send", { over: "list" }, (item) => [void sent.push(item)])
    .build();
  expect((await kernel.os.wait(await kernel.os.spawn(planProgram(last)))).code).toBe(0);
  expect(sent).toHaveLength(6);
});
