// Failures that a program catches and goes on from are outcomes, as results are: its next life catches them again.

import { createOfflineModel } from "@ergos/drivers/model-offline";
import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import {
  type InferRequest,
  type Kernel,
  KernelError,
  type KernelParts,
  type Model,
  TerminalError,
  type Os,
  type Tool,
  orAborted,
} from "@ergos/kernel";
import { type RunContext, Skipped, pipeline, planProgram, program } from "@ergos/services";
import { beforeEach, describe, expect, test } from "vitest";
import { LastingStore, bootKernel, pause } from "../../kernel/test/kernel-fixture.ts";

const pending = (): Promise<never> => new Promise(() => undefined);

let parts: { readonly store: MemoryMetastore; readonly objects: MemoryObjectStore };
beforeEach(() => {
  parts = { store: new MemoryMetastore(), objects: new MemoryObjectStore() };
});

const boot = (more: Partial<KernelParts> = {}): Promise<Kernel> => bootKernel({ ...parts, ...more });

/** Runs a program until it has said that it waits, and its next life to its end. */
async function inTwoLives(
  run: (ctx: RunContext, life: number, done: string[]) => Promise<unknown>,
  more: (life: () => number, done: string[]) => Partial<KernelParts> = () => ({}),
): Promise<{ readonly result: unknown; readonly done: readonly string[]; readonly error?: string }> {
  let life = 1;
  const done: string[] = [];
  const held = Promise.withResolvers<void>();
  const own = program("own", async (_input: unknown, ctx: RunContext) => {
    const result = await run(ctx, life, done);
    if (life > 1) return result;
    await ctx.step("recorded", () => true);
    held.resolve();
    return pending();
  });
  const before = await boot(more(() => life, done));
  const pid = await before.os.spawn(own);
  await Promise.race([held.promise, before.os.wait(pid)]);
  await pause(5);
  life = 2;
  await using after = await boot(more(() => life, done));
  await after.os.resume(pid, { program: own });
  const { result, error } = await after.os.wait(pid);
  return { result, done, ...(error === undefined ? {} : { error: error.message }) };
}

const withTool = (name: string, effect: Tool["effect"], call: Tool<Os>["call"]): Partial<KernelParts> => ({
  tools: [{ name, description: "", inputSchema: {}, effect, call }],
});

const failsOnce =
  (name: string) =>
  (life: () => number, done: string[]): Partial<KernelParts> =>
    withTool(name, "idempotent", () => {
      done.push(name);
      if (life() === 1) throw new KernelError("EIO", "the line is down");
      return "up";
    });

const caught = (work: () => Promise<unknown>): Promise<unknown> =>
  work().catch((error: unknown) => (error as Error).message);

test("what a program went on from because a step had failed is the same in its next life", async () => {
  const done: string[] = [];
  let works = false;
  const sends = program("sends", async (_input: unknown, ctx: RunContext) => {
    try {
      await ctx.step("mail", () => {
        done.push("mail");
        if (!works) throw new Error("no mail today");
      });
      return "mailed";
    } catch (error) {
      await ctx.step("unbook", () => void done.push("unbook"));
      if (!works) await new Promise(() => undefined);
      return (error as Error).message;
    }
  });
  const before = await boot();
  const pid = await before.os.spawn(sends);
  while (done.length < 2) await pause(1);
  await pause(5);
  works = true;
  const after = await boot();
  await after.os.resume(pid, { program: sends });

  expect((await after.os.wait(pid)).result).toContain("no mail today");
  expect(done).toEqual(["mail", "unbook"]);
  await after.close();
});

class CardDeclined extends Error {}

test("a failure that a program catches is the same, live and in its next life", async () => {
  const { result } = await inTwoLives(async (ctx, life, done) => {
    const seen = await ctx
      .step("charge", () => {
        throw new CardDeclined("stolen");
      })
      .catch((error: unknown) => {
        const { code, message, type } = error as KernelError;
        return [error instanceof KernelError, code, message, type];
      });
    const final = await ctx
      .step("final", () => {
        throw new TerminalError("no such customer");
      })
      .catch((error: unknown) => error instanceof TerminalError);
    if (life === 1) done.push(JSON.stringify([seen, final]));
    return [done, JSON.stringify([seen, final])];
  });
  const expected = JSON.stringify([[true, "EFAILED", "[EFAILED] stolen", "CardDeclined"], true]);
  expect(result).toEqual([[expected], expected]);
});

test("that a node has nothing to do is no failure of the step that finds it", async () => {
  await using kernel = await boot();
  const plan = pipeline("idle")
    .node("look", (_given, ctx) =>
      ctx.step("found", () => {
        throw new Skipped("nothing is there");
      }),
    )
    .node("rest", { after: ["look"] }, () => "rested")
    .build();
  const pid = await kernel.os.spawn(planProgram(plan));
  const { runId } = (await kernel.os.ps({ pids: [pid] }))[0] ?? {};
  expect(await kernel.os.wait(pid)).toMatchObject({ code: 0 });
  expect(await kernel.os.fs.readText(`/proc/runs/${runId}/events`)).toContain("skip    look: nothing is there");
});

test("so is that of a tool, however often it was tried", async () => {
  const { result, done } = await inTwoLives(
    (ctx) => caught(() => ctx.call("ring", "phone", {}, { retry: { attempts: 3, delayMs: 1 } })),
    failsOnce("phone"),
  );
  expect(done).toEqual(["phone", "phone", "phone"]);
  expect(result).toContain("the line is down");
});

test("a retry of the run tries it again", async () => {
  let isUp = false;
  const done: string[] = [];
  await using kernel = await boot(failsOnce("phone")(() => (isUp ? 2 : 1), done));
  const rings = program("rings", async (_input: unknown, ctx: RunContext) => {
    const said = await caught(() => ctx.call("ring", "phone"));
    if (!isUp) throw new Error("later");
    return said;
  });
  const pid = await kernel.os.spawn(rings);
  expect((await kernel.os.wait(pid)).code).toBe(1);
  isUp = true;
  await kernel.os.resume(pid, { again: true, program: rings });
  expect((await kernel.os.wait(pid)).result).toBe("up");
});

test("so is that of a model that has taken too long", async () => {
  let asked = 0;
  const slow: Model = {
    ...createOfflineModel(),
    infer: (_request, { signal }) => {
      asked++;
      return orAborted(pending(), signal);
    },
  };
  const request: InferRequest = { messages: [{ role: "user", content: "?" }] };
  const { result } = await inTwoLives(
    (ctx) => caught(() => ctx.infer("ask", request, { timeoutMs: 20 })),
    () => ({ models: [slow] }),
  );
  expect(asked).toBe(1);
  expect(result).toContain("took longer than 20 ms");
});

test("that it was told to end is none: its next life does what was cut off", async () => {
  const done: string[] = [];
  const waits = program("waits", async (_input: unknown, ctx: RunContext) => {
    await caught(() => ctx.call("ring", "phone"));
    await ctx.step("after", () => void done.push("after"));
  });
  const isCut = { now: true };
  await using kernel = await boot(
    withTool("phone", "idempotent", (_args, { signal }) => {
      done.push("phone");
      return isCut.now ? orAborted(pending(), signal) : "up";
    }),
  );
  const pid = await kernel.os.spawn(waits);
  while (done.length < 1) await pause(1);
  await kernel.os.kill(pid);
  await kernel.os.wait(pid);
  isCut.now = false;
  await kernel.os.resume(pid, { again: true, program: waits });
  await kernel.os.wait(pid);
  expect(done).toEqual(["phone", "phone", "after"]);
});

test("of a tool that has acted and whose result could not be recorded each attempt, in each life, hears the failure", async () => {
  let posted = 0;
  const { result } = await inTwoLives(
    (ctx) => caught(() => ctx.call("post", "post", {}, { retry: { attempts: 3, delayMs: 1 } })),
    () =>
      withTool("post", "once", () => {
        posted++;
        return () => "no JSON";
      }),
  );
  expect(posted).toBe(1);
  expect(result).toContain("must be J");
});

test("what may have acted when its process gave it up is not made again by a restart, until somebody has looked", async () => {
  const posted: number[] = [];
  let isDeaf = true;
  await using kernel = await boot(
    withTool("post", "once", () => {
      posted.push(posted.length);
      return isDeaf ? pending() : "posted";
    }),
  );
  const posting = program("posting", (_input: unknown, ctx: RunContext) => ctx.call("post", "post"));
  const pid = await kernel.os.spawn(posting, {
    limits: { callMs: 20 },
    restart: { policy: "on-failure", max: 2, delayMs: 1 },
  });
  expect((await kernel.os.wait(pid)).error).toMatchObject({ code: "EUNKNOWN" });
  expect(posted).toHaveLength(1);
  expect((await kernel.os.call("ledger", { by: ["tool"] }))[0]?.used).toEqual({ toolCalls: 1 });

  isDeaf = false;
  await kernel.os.resume(pid, { again: true, program: posting });
  expect((await kernel.os.wait(pid)).result).toBe("posted");
  expect(posted).toHaveLength(2);
});

test("who wants it done again from there has looked: it is, in whatever life it comes to", async () => {
  let life = 1;
  const posted: number[] = [];
  const tools = withTool("post", "once", (_args, { signal }) => {
    posted.push(life);
    return life === 1 ? orAborted(pending(), signal) : "posted";
  });
  const own = program("own", async (_input: unknown, ctx: RunContext) => {
    if (life === 2) await ctx.receive("held");
    return caught(() => ctx.call("post", "post", {}, { timeoutMs: 20 }));
  });
  const store = new LastingStore();
  const first = await boot({ ...tools, store: store.life() });
  const pid = await first.os.spawn(own);
  await first.os.wait(pid);
  await first.close();
  life = 2;
  const second = await boot({ ...tools, store: store.life() });
  await second.os.resume(pid, { again: true, from: ["post"], program: own });
  await pause(10);
  await second.close();
  life = 3;
  await using third = await boot({ ...tools, store: store.life() });
  await third.os.resume(pid, { program: own });
  expect((await third.os.wait(pid)).result).toBe("posted");
  expect(posted).toEqual([1, 3]);
});

describe("a place at which another call is recorded", () => {
  test("gives nobody its outcome, and says which it was", async () => {
    const { error } = await inTwoLives(async (ctx, life) => {
      if (life === 1) return ctx.step("what", () => "text");
      return ctx.call("what", "phone");
    }, failsOnce("phone"));
    expect(error).toContain(`what is recorded at "what" is the outcome of step, and the program calls call there now`);
  });

  test.each(["step", "call"] as const)("nor the failure of a %s", async (was) => {
    const fails = (): never => {
      throw new Error("failed");
    };
    const { error } = await inTwoLives(async (ctx, life) => {
      const step = (): Promise<unknown> => ctx.step("what", fails);
      const call = (): Promise<unknown> => ctx.call("what", "phone");
      const [first, second] = was === "step" ? [step, call] : [call, step];
      return life === 1 ? caught(first) : second();
    }, failsOnce("phone"));
    expect(error).toContain(
      `is the outcome of ${was}, and the program calls ${was === "step" ? "call" : "step"} there`,
    );
  });

  const at = Date.now();
  test.each([
    ["", { t: "start", v: 1, at, program: "own", revision: "1" }],
    [" that has gone on as new", { t: "renew", at, steps: 0, used: {}, ranMs: 0 }],
  ])("of a journal of the format before%s may be of any", async (_of, begins) => {
    const own = program("own", async (_input: unknown, ctx: RunContext) => ctx.random("chance"));
    const before = await boot();
    const pid = await before.os.spawn(program("own", pending));
    await before.os.flush();
    const records = [begins, { t: "step", at, p: "chance", value: 0.5 }];
    await parts.store.commit({ appends: records.map((one) => ({ log: `j/${pid}`, value: JSON.stringify(one) })) });
    await using after = await boot();
    await after.os.resume(pid, { program: own });
    expect((await after.os.wait(pid)).result).toBe(0.5);
  });
});

test("what is thrown that is no error is told as what it is", async () => {
  const throws = program("throws", () => {
    throw { status: 402, why: "declined" } as unknown as Error;
  });
  await using kernel = await bootKernel();
  const { error } = await kernel.os.wait(await kernel.os.spawn(throws));
  expect(error?.message).toBe('[EFAILED] {"status":402,"why":"declined"}');
});
