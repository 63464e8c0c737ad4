import { type Kernel, type KernelEvent } from "@ergos/kernel";
import { pipeline, planProgram } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bootKernel } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

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
