import { createOfflineModel } from "@ergos/drivers/model-offline";
import { type Kernel } from "@ergos/kernel";
import { type RunContext, createPlan, pipeline, planProgram, program } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bootKernel } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

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

test.each([
  ["TERM", 143],
  ["INT", 130],
] as const)("a process that gives up when it is told to has the signal that told it: %s", async (signal, code) => {
  const kernel = await bootKernel();
  const sleeper = program("sleeper", (_input: unknown, ctx: RunContext) => ctx.sleep(60_000));
  const pid = await kernel.os.spawn(sleeper);
  await new Promise((go) => setTimeout(go, 5));
  await kernel.os.kill(pid, signal);
  expect(await kernel.os.wait(pid)).toMatchObject({ code, signal });
  await kernel.close();
});
