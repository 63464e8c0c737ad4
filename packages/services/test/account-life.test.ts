import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { createOfflineModel } from "@ergos/drivers/model-offline";
import {
  type Ask,
  type Kernel,
  type Model,
  type ModelResponse,
  type Os,
  SEQ_ZERO,
  type Tool,
  isKernelError,
} from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { describe, expect, test } from "vitest";
import { bootKernel, openProgram } from "../../kernel/test/kernel-fixture.ts";

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const codeOf = (error: unknown): string => (isKernelError(error) ? error.code : String(error));
const tool = (name: string, call: Tool<Os>["call"]): Tool<Os> => ({
  name,
  description: "",
  inputSchema: {},
  effect: "pure",
  call,
});
/** A model of which a call uses two tokens, at a dollar a token. */
const paid = (more: Partial<Model> = {}): Model => ({
  ...createOfflineModel({ name: "paid", effect: "idempotent", script: () => "12345678" }),
  price: { input: 0, output: 1_000_000 },
  ...more,
});
const response = (text: string, outputTokens = 1): ModelResponse => ({
  text,
  finishReason: "stop",
  usage: { inputTokens: 1, outputTokens },
});
/** What becomes of a promise, or that it is pending still after so many milliseconds. */
const raceWithin = async <T>(ms: number, promise: Promise<T>): Promise<T | "pending"> =>
  Promise.race([promise, sleep(ms).then(() => "pending" as const)]);
/** The oldest open question, once there is one. */
const asked = async (kernel: Kernel): Promise<Ask> => {
  for (let tries = 0; tries < 2000; tries++) {
    const [first] = await kernel.os.call("asks", {});
    if (first !== undefined) return first;
    await sleep(1);
  }
  throw new Error("nobody asked within two seconds");
};

describe("what is counted", () => {
  test("a paid answer that cannot be recorded is charged all the same", async () => {
    let calls = 0;
    const infer = async (): Promise<ModelResponse> => {
      calls++;
      return response("x".repeat(70_000_000), 2);
    };
    const kernel = await bootKernel({ models: [paid({ infer })] });
    const spender = program("spender", async (_input: unknown, ctx: RunContext) => {
      for (let call = 0; call < 5; call++)
        await ctx.infer(`c${call}`, { messages: [], maxOutputTokens: 2 }).catch(codeOf);
    });

    const pid = await kernel.os.spawn(spender, { budget: { modelCalls: 2 } });
    await kernel.os.wait(pid);

    expect(calls).toBe(2);
    await kernel.close();
  });

  test("bytes that a copy or a truncation makes are counted as those of a write are", async () => {
    const kernel = await bootKernel();
    await kernel.os.fs.writeFile("/srv/big", "x".repeat(100_000));
    const writer = program("writer", async (_input: unknown, ctx: RunContext) => [
      await ctx.os.fs.copy("/srv/big", "/srv/copy").catch(codeOf),
      await ctx.os.fs.truncate("/srv/big", 200_000).catch(codeOf),
    ]);

    const pid = await kernel.os.spawn(writer, { budget: { bytesWritten: 10 } });

    expect((await kernel.os.wait(pid)).result).toEqual(["EDQUOT", "EDQUOT"]);
    await kernel.close();
  });

  test("a tool may call a model where only one call may be under way", async () => {
    const asks = tool("asks", async (_args, { os }) => (await os.infer("inner", { messages: [] })).text);
    const kernel = await bootKernel({ models: [paid()], tools: [asks] });
    const caller = program("caller", (_input: unknown, ctx: RunContext) => ctx.call("a", "asks"));

    const pid = await kernel.os.spawn(caller, { limits: { concurrentCalls: 1 } });

    expect(await raceWithin(2000, kernel.os.wait(pid))).toMatchObject({ code: 0, result: "12345678" });
    await kernel.close();
  });
});

describe("what is added to a budget", () => {
  test("calls that wait for one answer add it once", async () => {
    const kernel = await bootKernel({ models: [paid()] });
    const many = program("many", async (_input: unknown, ctx: RunContext) => {
      await Promise.allSettled(
        Array.from({ length: 6 }, (_, at) => ctx.infer(`c${at}`, { messages: [], maxOutputTokens: 2 })),
      );
    });
    const pid = await kernel.os.spawn(many, { budget: { modelCalls: 1 }, limits: { onLimit: "ask" } });

    await kernel.os.call("answer", { id: (await asked(kernel)).id, verdict: "edit", value: { modelCalls: 1 } });
    await sleep(100);

    expect(await kernel.os.call("usage", { pid })).toMatchObject({ modelCalls: { allocation: 2 } });
    await kernel.close();
  });

  test("a process cannot add to its own budget", async () => {
    const kernel = await bootKernel();
    const lead = openProgram("lead");
    await kernel.os.spawn(lead.program, { grants: ["role.lead"], budget: { modelCalls: 1 } });
    const { os } = await lead.context;

    await expect(
      (async () => os.call("allocate", { pid: os.pid, budget: { modelCalls: 1_000_000 } }))(),
    ).rejects.toMatchObject({ code: "EPERM" });

    expect(await kernel.os.call("usage", { pid: os.pid })).toMatchObject({ modelCalls: { allocation: 1 } });
    await kernel.close();
  });

  test("a request does not go on for ever where the account that is short is not the one it adds to", async () => {
    const kernel = await bootKernel({ models: [paid()] });
    const inner = program("inner", async (_input: unknown, ctx: RunContext) => {
      for (let call = 0; call < 3; call++) await ctx.infer(`c${call}`, { messages: [], maxOutputTokens: 2 });
    });
    const outer = program("outer", async (_input: unknown, ctx: RunContext) =>
      ctx.os.wait(await ctx.os.spawn(inner, { budget: { tokensOut: 1000 }, limits: { onLimit: "request" } })),
    );

    const pid = await kernel.os.spawn(outer, { budget: { modelCalls: 1 }, limits: { onRequest: "grant" } });

    expect((await kernel.os.wait(pid)).result).toMatchObject({ error: { code: "EDQUOT" } });
    await kernel.close();
  });

  // Each number of ticks is another moment of the end at which the addition comes.
  test.each([...Array(13).keys()])(
    "an addition that comes %i ticks after a process was killed neither opens its account again nor is lost",
    async (ticks) => {
      const store = new MemoryMetastore();
      const objects = new MemoryObjectStore();
      const kernel = await bootKernel({ store, objects, tools: [tool("t", () => 1)] });
      const parent = openProgram("parent");
      const pid = await kernel.os.spawn(parent.program, { budget: { toolCalls: 10 } });
      const child = openProgram("child");
      const below = await (await parent.context).os.spawn(child.program, { budget: { toolCalls: 4 } });
      const { os } = await child.context;
      for (let call = 0; call < 4; call++) await os.call("call", { place: `p${call}`, tool: "t" });

      const killed = kernel.os.kill(below, "KILL");
      for (let tick = 0; tick < ticks; tick++) await Promise.resolve();
      const added = (async () => kernel.os.call("allocate", { pid: below, budget: { toolCalls: 2 } }))();
      // Whether it comes in time is not what matters.
      await added.catch(codeOf);
      await killed;

      // The child has used four and is gone; the rest is its parent's, now and after a restart.
      expect(await kernel.os.call("usage", { pid })).toMatchObject({ toolCalls: { allocation: 10, used: 4 } });
      expect(await store.get(`A/${below}`)).toBeUndefined();
      const next = await bootKernel({ store: await copyOf(store), objects });
      expect(await next.os.call("usage", { pid })).toMatchObject({ toolCalls: { allocation: 10, used: 4 } });
      await next.close();
      await kernel.close();
    },
  );
});

describe("what is given back", () => {
  test("a failed tool call gives nothing back: whoever makes one after the other comes to an end", async () => {
    const bad = tool("bad", () => {
      throw new Error("it fails");
    });
    const kernel = await bootKernel({ tools: [bad] });
    const stubborn = program("stubborn", async (_input: unknown, ctx: RunContext) => {
      for (let at = 1; ; at++) {
        const code = await ctx.call(`try ${at}`, "bad").then(() => "ok", codeOf);
        if (code !== "EFAILED") return [at, code];
      }
    });

    const pid = await kernel.os.spawn(stubborn, { budget: { toolCalls: 3 } });

    expect((await kernel.os.wait(pid)).result).toEqual([4, "EDQUOT"]);
    expect((await kernel.os.call("ledger", { by: ["tool"] }))[0]?.used).toEqual({ toolCalls: 3 });
    await kernel.close();
  });

  test("a call that waits for the budget goes on with what a failed model call gives back", async () => {
    let calls = 0;
    const infer = async (): Promise<ModelResponse> => {
      if (calls++ > 0) return response("good");
      await sleep(30);
      throw new Error("it fails");
    };
    const kernel = await bootKernel({ models: [paid({ infer })] });
    const both = program("both", async (_input: unknown, ctx: RunContext) => {
      const [, good] = await Promise.all([
        ctx.infer("a", { messages: [] }).catch(codeOf),
        ctx.infer("b", { messages: [] }),
      ]);
      return good.text;
    });

    const pid = await kernel.os.spawn(both, { budget: { modelCalls: 1 }, limits: { onLimit: "suspend" } });

    expect(await raceWithin(2000, kernel.os.wait(pid))).toMatchObject({ code: 0, result: "good" });
    await kernel.close();
  });

  // Each number of ticks is another moment of the refused spawn at which its parent ends.
  test.each([...Array(16).keys()])(
    "a parent that ends %i ticks after a spawn that is refused gives its whole budget back",
    async (ticks) => {
      const kernel = await bootKernel();
      const top = openProgram("top");
      const above = await kernel.os.spawn(top.program, { budget: { modelCalls: 10, spawns: 5 } });
      const leaf = program("leaf", () => 1);
      const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
        void ctx.os.spawn(leaf).catch(codeOf);
        for (let tick = 0; tick < ticks; tick++) await Promise.resolve();
      });

      const pid = await (await top.context).os.spawn(parent, { budget: { modelCalls: 7, spawns: 0 } });
      await kernel.os.wait(pid);
      await sleep(20);

      expect(await kernel.os.call("usage", { pid: above })).toMatchObject({ modelCalls: { used: 0 } });
      await kernel.close();
    },
  );
});

describe("the account of a process that is run again", () => {
  test("children that outlive their failed parent keep its budget when it is run again", async () => {
    const kernel = await bootKernel();
    let lives = 0;
    const child = openProgram("child");
    const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
      if (lives++ === 0) {
        await ctx.os.spawn(child.program);
        throw new Error("its first life fails");
      }
      await ctx.sleep(60_000);
    });
    const pid = await kernel.os.spawn(parent, { budget: { modelCalls: 10 } });
    await kernel.os.wait(pid);
    const below = (await child.context).pid;
    expect(await kernel.os.call("usage", { pid: below })).toMatchObject({ modelCalls: { allocation: 10 } });

    await kernel.os.resume(pid, { again: true, program: parent });

    expect(await kernel.os.call("usage", { pid: below })).toMatchObject({ modelCalls: { allocation: 10 } });
    await kernel.close();
  });

  test("the last child of its earlier life does not close its account, and it holds as much as before", async () => {
    const kernel = await bootKernel({ tools: [tool("t", () => 1)] });
    let lives = 0;
    const child = openProgram("child");
    const ended = Promise.withResolvers<void>();
    const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
      if (lives++ === 0) {
        await ctx.os.spawn(child.program);
        throw new Error("its first life fails");
      }
      await ended.promise;
      let calls = 0;
      for (let call = 0; call < 8; call++) {
        const outcome = await ctx.call(`t${call}`, "t").catch(codeOf);
        if (outcome === 1) calls++;
      }
      return calls;
    });
    const pid = await kernel.os.spawn(parent, { budget: { toolCalls: 2 } });
    await kernel.os.wait(pid);
    const below = (await child.context).pid;

    await kernel.os.resume(pid, { again: true, program: parent, budget: { toolCalls: 1 } });
    await kernel.os.kill(below, "KILL");
    ended.resolve();

    expect((await kernel.os.wait(pid)).result).toBe(3);
    expect(await kernel.os.call("usage", { pid })).toMatchObject({ toolCalls: { allocation: 3, used: 3 } });
    await kernel.close();
  });

  test("a late call of its earlier life takes nothing from what the next life has reserved", async () => {
    const late = Promise.withResolvers<void>();
    let calls = 0;
    const infer = async (): Promise<ModelResponse> => {
      await (calls++ === 0 ? late.promise : sleep(40));
      return response("x");
    };
    const kernel = await bootKernel({ models: [paid({ infer })] });
    let lives = 0;
    const spender = program("spender", async (_input: unknown, ctx: RunContext) => {
      if (lives++ === 0) return ctx.infer("old", { messages: [], maxOutputTokens: 10 });
      late.resolve();
      await sleep(20);
      const both = [0, 1].map((at) => ctx.infer(`new${at}`, { messages: [], maxOutputTokens: 10 }));
      return (await Promise.allSettled(both)).map(({ status }) => status);
    });
    const pid = await kernel.os.spawn(spender, { budget: { tokensOut: 25 } });
    await sleep(20);
    await kernel.os.kill(pid, "KILL");

    await kernel.os.resume(pid, { again: true, program: spender });

    expect((await kernel.os.wait(pid)).result).toEqual(["fulfilled", "fulfilled"]);
    await kernel.close();
  });
});

async function copyOf(store: MemoryMetastore): Promise<MemoryMetastore> {
  const copy = new MemoryMetastore();
  for (const { puts, deletes, appends } of await store.tail(SEQ_ZERO, { limit: 100_000 }))
    await copy.commit({ puts, deletes, appends });
  return copy;
}
