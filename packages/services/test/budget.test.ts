import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { createOfflineModel } from "@ergos/drivers/model-offline";
import { type Kernel, type Pid, isKernelError } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { describe, expect, test } from "vitest";
import { bootKernel } from "../../kernel/test/kernel-fixture.ts";

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe("budgets", () => {
  const paid = () =>
    createOfflineModel({
      name: "paid",
      effect: "idempotent",
      price: { input: 1, output: 1 },
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

  test("calls that a budget refuses, however close to each other, do not wait for each other", async () => {
    const at = await bootKernel({ models: [paid()] });
    for (let turns = 0; turns < 30; turns++) {
      const child = program("child", async (_input: unknown, ctx: RunContext) => {
        const ask = (place: string): Promise<string> =>
          ctx.infer(place, "hi").then(
            () => "ok",
            (error: unknown) => (isKernelError(error) ? error.code : "?"),
          );
        const first = ask("a");
        for (let turn = 0; turn < turns; turn++) await Promise.resolve();
        return Promise.all([first, ask("b"), ask("c")]);
      });
      const budget = { modelCalls: turns % 2, tokens: 100_000, costMicros: 100_000_000 };
      const { result } = await at.os.wait(await at.os.spawn(child, { budget }));
      expect(result).toEqual([budget.modelCalls === 1 ? "ok" : "EDQUOT", "EDQUOT", "EDQUOT"]);
    }
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

    expect(exit.result).toMatchObject({ done: 16, budget: { tokensOut: { allocation: 100, used: 32 } } });
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
