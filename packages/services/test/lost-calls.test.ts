// Calls whose end nobody sees: of hosts that die between any two commits, and of processes that are killed meanwhile.

import { createOfflineModel } from "@ergos/drivers/model-offline";
import { type Kernel, type KernelParts, type Pid, isKernelError } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { describe, expect, test } from "vitest";
import { bootAfterDeath, bootKernel, closeWhole } from "../../kernel/test/kernel-fixture.ts";

const BUDGET = { tokens: 100_000, modelCalls: 50, toolCalls: 50, costMicros: 100_000_000 };
const price = { input: 1, output: 2 };

const callsOfAllKinds = program("all kinds", async (_input: unknown, ctx: RunContext) => {
  const request = { messages: [], maxOutputTokens: 10 };
  await ctx.infer("safe", { ...request, model: "safe" });
  await ctx.infer("once", { ...request, model: "once" }, { onUnknown: "repeat" });
  await ctx.infer("pure", { ...request, model: "pure" });
  await ctx.call("tool once", "once", {}, { onUnknown: "repeat" });
  await ctx.call("tool pure", "pure");
  await ctx.infer("strict", { ...request, model: "once" });
});

const models = (["idempotent", "once", "pure"] as const).map((effect) => ({
  ...createOfflineModel({
    name: effect === "idempotent" ? "safe" : effect,
    effect,
    script: () => "12345678",
    delayMs: 1,
  }),
  price,
}));
const tools = (["once", "pure"] as const).map((effect) => ({
  name: effect,
  description: "",
  inputSchema: {},
  effect,
  call: () => new Promise((done) => setTimeout(done, 1)),
}));
const parts: Partial<KernelParts> = { models, tools, programs: [callsOfAllKinds] };

/** Every resource of the budget is in the ledger as it was charged. */
async function expectAccounted(kernel: Kernel, pid: Pid): Promise<void> {
  const usage = await kernel.os.call("usage", { pid });
  const row = (await kernel.os.call("ledger", { by: ["pid"] })).find(({ key }) => key.pid === String(pid));
  const charged = Object.entries(usage).map(([resource, { used }]) => [resource, used]);
  expect(charged).toEqual(charged.map(([resource]) => [resource, row?.used[resource as "tokens"] ?? 0]));
}

describe("what the budget was charged stands in the ledger", () => {
  test.each(["resumed", "resumed, then killed", "killed"] as const)(
    "when the host dies at any commit, and the run is %s",
    async (next) => {
      let commits = 1;
      for (let isDead = true; isDead; commits++) {
        const life = await bootAfterDeath(commits, parts, callsOfAllKinds, { budget: BUDGET });
        const { kernel } = life;
        ({ isDead } = life);
        const left = (await kernel.os.call("ps", {})).find(({ name }) => name === "all kinds");
        if (left !== undefined) {
          const resumed = next === "killed" ? undefined : kernel.os.call("resume", { pid: left.pid });
          if (next !== "resumed") await new Promise((go) => setTimeout(go, commits % 7));
          if (next !== "resumed") await kernel.os.kill(left.pid, "KILL").catch(() => undefined);
          await Promise.resolve(resumed).catch((error: unknown) => expect(isKernelError(error)).toBe(true));
          await kernel.os.wait(left.pid);
          await expectAccounted(kernel, left.pid);
        }
        await closeWhole(kernel);
      }
      expect(commits).toBeGreaterThan(12);
    },
  );

  test("of a process that is quarantined during a call, and then ended", async () => {
    const failing = program("failing", async (_input: unknown, ctx: RunContext) => {
      void ctx.infer("under way", { messages: [], maxOutputTokens: 10, model: "stuck" }).catch(() => undefined);
      await new Promise((go) => setTimeout(go, 10));
      throw new Error("boom");
    });
    const stuck = { ...createOfflineModel({ name: "stuck", effect: "once", delayMs: 600_000 }), price };
    const kernel = await bootKernel({ models: [stuck] });
    const pid = await kernel.os.spawn(failing, { budget: BUDGET, faults: { exception: "quarantine" } });
    await kernel.os.wait(pid).catch(() => undefined);
    await kernel.os.kill(pid, "KILL");

    await expectAccounted(kernel, pid);
    await closeWhole(kernel);
  });

  test.each([true, false])("when a process is killed at any time (durable: %s)", async (durable) => {
    const kernel = await bootKernel(parts);
    for (let ms = 0; ms < 12; ms++) {
      const pid = await kernel.os.spawn(callsOfAllKinds, { budget: BUDGET, durable });
      await new Promise((go) => setTimeout(go, ms));
      await kernel.os.kill(pid, "KILL").catch(() => undefined);
      await kernel.os.wait(pid);
      // What a volatile process leaves is written behind its end.
      await new Promise((go) => setTimeout(go, 5));
      await expectAccounted(kernel, pid);
    }
    await kernel.close();
  });
});
