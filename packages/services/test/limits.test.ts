import { createOfflineModel } from "@ergos/drivers/model-offline";
import {
  type Kernel,
  type Model,
  type Os,
  type Pid,
  type ProcessLimits,
  SlidingWindow,
  TokenBucket,
  type Tool,
  parseAmount,
} from "@ergos/kernel";
import { type RunContext, pipeline, program, toProgram } from "@ergos/services";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bootKernel } from "../../kernel/test/kernel-fixture.ts";

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const until = async <T>(look: () => Promise<T | undefined> | T | undefined): Promise<T> => {
  for (let tries = 0; tries < 2000; tries++) {
    const found = await look();
    if (found !== undefined) return found;
    await sleep(1);
  }
  throw new Error("it did not happen within two seconds");
};
/** A model of which a call uses two tokens, at a dollar a token. */
const paid = (more: Partial<Model> = {}): Model => ({
  ...createOfflineModel({ name: "paid", effect: "idempotent", script: () => "12345678" }),
  price: { input: 0, output: 1_000_000 },
  ...more,
});
const DOLLAR = 1_000_000;
const caller = (calls: number) =>
  program("caller", async (_input: unknown, ctx: RunContext) => {
    const texts: string[] = [];
    for (let call = 0; call < calls; call++)
      texts.push((await ctx.infer(`call${call}`, { messages: [], maxOutputTokens: 2 })).text);
    return texts.length;
  });
const waitsFor = (kernel: Kernel, pid: Pid, channel: string): Promise<true> =>
  until(async () =>
    (await kernel.os.ps({ pids: [pid] }))[0]?.channel?.startsWith(channel) === true ? true : undefined,
  );

describe("what happens when a budget does not hold", () => {
  test("fail: the error has the figures, and so has the event", async () => {
    const kernel = await bootKernel({ models: [paid()] });
    const events = kernel.os.events({ names: ["resource.exceeded"] });
    const pid = await kernel.os.spawn(caller(5), { budget: { costMicros: 5 * DOLLAR } });

    const exit = await kernel.os.wait(pid);

    expect(exit.error?.message).toMatch(/needs \$2\.00, and \$1\.00 of \$5\.00 is left/);
    expect((await events.next()).value?.data).toEqual({
      resource: "costMicros",
      wanted: 2 * DOLLAR,
      used: 4 * DOLLAR,
      allocation: 5 * DOLLAR,
      account: pid,
    });
    await kernel.close();
  });

  test("of what it waits for the latest is shown, in whatever order the others end", async () => {
    const kernel = await bootKernel();
    const rests = program("rests", async (_input: unknown, ctx: RunContext) => ctx.sleep(600_000));
    const kids = await Promise.all(Array.from({ length: 6 }, () => kernel.os.spawn(rests)));
    const waits = program("waits", async (_input: unknown, ctx: RunContext) => {
      await Promise.all(kids.map((kid) => ctx.os.wait(kid)));
      return "over";
    });
    const pid = await kernel.os.spawn(waits);
    const left = [...kids];
    // The latest, the first, and some between them.
    for (const at of [5, 0, 2, 2, 0, 0]) {
      await waitsFor(kernel, pid, `exit of ${left.at(-1)}`);
      const [kid] = left.splice(at, 1);
      if (kid !== undefined) await kernel.os.kill(kid, "KILL");
    }
    expect(await kernel.os.wait(pid)).toMatchObject({ result: "over" });
    await kernel.close();
  });

  test("of several calls at once those that need somebody are what the process waits for", async () => {
    const kernel = await bootKernel({ models: [paid()] });
    const gate = Promise.withResolvers<void>();
    const mixed = program("mixed", async (_input: unknown, ctx: RunContext) => {
      const calls = Array.from({ length: 4 }, (_, at) =>
        ctx.infer(`c${at}`, { messages: [], maxOutputTokens: 2 }).then(() => at),
      );
      await gate.promise;
      await Promise.all([...calls, ctx.sleep(5)]);
      await new Promise((go) => setTimeout(go, 20));
      return "over";
    });
    const pid = await kernel.os.spawn(mixed, { budget: { modelCalls: 2 }, limits: { onLimit: "suspend" } });
    await waitsFor(kernel, pid, "budget of modelCalls");
    gate.resolve();
    await sleep(30);
    await waitsFor(kernel, pid, "budget of modelCalls");
    await kernel.os.kill(pid, "STOP");
    await kernel.os.kill(pid, "CONT");
    await waitsFor(kernel, pid, "budget of modelCalls");
    await kernel.os.call("allocate", { pid, budget: { modelCalls: 2 } });
    await until(async () => ((await kernel.os.ps({ pids: [pid] }))[0]?.state === "running" ? true : undefined));
    expect(await kernel.os.wait(pid)).toMatchObject({ result: "over" });
  });

  test("suspend: the process waits, and goes on when somebody adds to its budget", async () => {
    const kernel = await bootKernel({ models: [paid()] });
    const pid = await kernel.os.spawn(caller(3), { budget: { modelCalls: 2 }, limits: { onLimit: "suspend" } });
    await waitsFor(kernel, pid, "budget of modelCalls");

    const allocate = async (budget: object): Promise<unknown> => kernel.os.call("allocate", { pid, budget });
    for (const wrong of [{ tokens: 1 }, { modelCalls: -1 }])
      await expect(allocate(wrong)).rejects.toMatchObject({ code: "EINVAL" });
    await kernel.os.call("allocate", { pid, budget: { modelCalls: 1 } });

    expect((await kernel.os.wait(pid)).result).toBe(3);
    expect(await kernel.os.call("usage", { pid })).toMatchObject({ modelCalls: { allocation: 3, used: 3 } });
    await kernel.close();
  });

  test("ask: a person adds what is missing, other amounts, or nothing", async () => {
    const kernel = await bootKernel({ models: [paid()] });
    const pid = await kernel.os.spawn(caller(4), { budget: { modelCalls: 1 }, limits: { onLimit: "ask" } });
    const asked = () => until(async () => (await kernel.os.call("asks", {}))[0]);

    await kernel.os.call("answer", { id: (await asked()).id, verdict: "allow" });
    const second = await until(async () => (await kernel.os.call("asks", {})).find(({ args }) => args !== undefined));
    await kernel.os.call("answer", { id: second.id, verdict: "edit", value: { modelCalls: 1 } });
    const third = await asked();
    await kernel.os.call("answer", { id: third.id, verdict: "deny" });

    expect((await kernel.os.wait(pid)).error).toMatchObject({ code: "EDQUOT" });
    expect(await kernel.os.call("usage", { pid })).toMatchObject({ modelCalls: { allocation: 3, used: 3 } });
    await kernel.close();
  });

  test("request: the parent's policy grants out of its own budget, or refuses", async () => {
    for (const onRequest of ["grant", "refuse"] as const) {
      const kernel = await bootKernel({ models: [paid()] });
      const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
        const pid = await ctx.os.spawn(caller(4), { budget: { modelCalls: 1 }, limits: { onLimit: "request" } });
        return { exit: await ctx.os.wait(pid), budget: await ctx.os.call("usage", { pid: ctx.pid }) };
      });
      const exit = await kernel.os.wait(
        await kernel.os.spawn(parent, { budget: { modelCalls: 3 }, limits: { onRequest } }),
      );

      // Of three calls the parent can grant two more.
      expect(exit.result).toMatchObject({
        exit: { code: 1, error: { code: "EDQUOT" } },
        budget: { modelCalls: { used: onRequest === "grant" ? 3 : 1 } },
      });
      await kernel.close();
    }
  });

  test("downgrade: a cheaper model is asked, if the process may use it", async () => {
    const cheap = paid({ name: "cheap", price: { input: 0, output: 0 } });
    const kernel = await bootKernel({ models: [paid(), cheap] });
    const limits = { onLimit: "downgrade", downgrade: ["cheap"] } as const;

    const free = await kernel.os.spawn(caller(3), { budget: { costMicros: 2 * DOLLAR }, limits });
    const bound = await kernel.os.spawn(caller(3), {
      budget: { costMicros: 2 * DOLLAR },
      limits,
      grants: ["self", "model.infer:paid"],
    });

    expect((await kernel.os.wait(free)).result).toBe(3);
    expect((await kernel.os.wait(bound)).error).toMatchObject({ code: "EDQUOT" });
    expect(await kernel.os.call("ledger", { by: ["run", "model"] })).toMatchObject([
      { key: { model: "paid" }, used: { costMicros: 2 * DOLLAR } },
      { key: { model: "paid" }, used: { costMicros: 2 * DOLLAR } },
      { key: { model: "cheap" }, entries: 2, used: { costMicros: 0 } },
    ]);
    await expect(kernel.os.spawn(caller(1), { limits: { onLimit: "downgrade" } })).rejects.toMatchObject({
      code: "EINVAL",
    });
    await kernel.close();
  });

  test("skip: a node that does not fit is skipped, and so are items of a map", async () => {
    const kernel = await bootKernel({ models: [paid()] });
    const plan = pipeline("skipping")
      .node("items", () => [1, 2, 3, 4, 5])
      .map("answers", { over: "items", concurrency: 1 }, (_item: number, ctx) =>
        ctx.infer("it", { messages: [], maxOutputTokens: 2 }),
      )
      .node("count", { needs: ["answers"] }, ({ answers }) => answers.length);
    const pid = await kernel.os.spawn(toProgram(plan.build(), "skipping"), {
      budget: { modelCalls: 2 },
      limits: { onLimit: "skip" },
    });

    expect((await kernel.os.wait(pid)).result).toBe(2);
    await kernel.close();
  });

  test("calls under way are waited for before a budget is said to be exhausted", async () => {
    const kernel = await bootKernel({ models: [paid()] });
    const many = program("many", async (_input: unknown, ctx: RunContext) => {
      const all = await Promise.all(
        Array.from({ length: 10 }, (_, at) => ctx.infer(`c${at}`, { messages: [], maxOutputTokens: 10 })),
      );
      return all.length;
    });
    // Ten calls use 20 tokens; each reserves 10, and two fit at a time.
    const pid = await kernel.os.spawn(many, { budget: { tokensOut: 28 } });

    expect((await kernel.os.wait(pid)).result).toBe(10);
    await kernel.close();
  });

  test("a model of unknown price is refused where money is limited", async () => {
    const model = paid({ price: undefined });
    const kernel = await bootKernel({ models: [model] });
    const priced = await bootKernel({ models: [model], prices: { "pa*": { input: 1, output: 1, tier: "strategic" } } });

    const refused = await kernel.os.wait(await kernel.os.spawn(caller(1), { budget: { costMicros: DOLLAR } }));
    const allowed = await priced.os.wait(
      await priced.os.spawn(caller(1), { budget: { costMicros: DOLLAR, strategicTokens: 2 } }),
    );

    expect(refused.error?.message).toMatch(/prices\.json/);
    expect(allowed.code).toBe(0);
    await kernel.close();
    await priced.close();
  });

  test("a warning is told and logged once, at the share that was asked for", async () => {
    const kernel = await bootKernel({ models: [paid()] });
    const events = kernel.os.events({ names: ["resource.warning"] });
    const pid = await kernel.os.spawn(caller(4), { budget: { modelCalls: 4 }, limits: { warnAt: 0.5 } });
    await kernel.os.wait(pid);

    expect((await events.next()).value?.data).toMatchObject({
      resource: "modelCalls",
      used: 2,
      allocation: 4,
      ratio: 0.5,
    });
    expect((await kernel.os.fs.readText(`/proc/${pid}/log`)).match(/used/g)).toHaveLength(1);
    await kernel.close();
  });
});

describe("limits beside the budget", () => {
  test("time: a run that takes longer fails, with what is below it", async () => {
    const kernel = await bootKernel();
    const child = program("child", (_input: unknown, ctx: RunContext) => ctx.sleep(60_000));
    const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
      await ctx.os.wait(await ctx.os.spawn(child));
      await ctx.sleep(60_000);
    });
    const pid = await kernel.os.spawn(parent, { limits: { wallMs: 50 } });

    const exit = await kernel.os.wait(pid);

    expect(exit).toMatchObject({ code: 1, error: { code: "ETIMEDOUT" } });
    expect((await kernel.os.ps()).filter(({ ppid }) => ppid !== undefined)).toEqual([]);
    await kernel.close();
  });

  test("children: as many as may live, and more when one has ended", async () => {
    const kernel = await bootKernel();
    const child = program("child", (_input: unknown, ctx: RunContext) => ctx.sleep(20));
    const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
      const pids = [await ctx.os.spawn(child), await ctx.os.spawn(child)];
      const third = await ctx.os.spawn(child).catch((error: unknown) => error);
      await Promise.all(pids.map((pid) => ctx.os.wait(pid)));
      return [String(third), typeof (await ctx.os.spawn(child))];
    });
    const exit = await kernel.os.wait(await kernel.os.spawn(parent, { limits: { children: 2 } }));

    expect(exit.result).toEqual([expect.stringMatching(/EAGAIN.*2 living children/), "number"]);
    await kernel.close();
  });

  test("spawns are a budget: moved down, counted over the whole branch", async () => {
    const kernel = await bootKernel();
    const leaf = program("leaf", () => 1);
    const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
      const tries = await Promise.allSettled(Array.from({ length: 5 }, () => ctx.os.spawn(leaf)));
      return tries.filter(({ status }) => status === "fulfilled").length;
    });
    const exit = await kernel.os.wait(await kernel.os.spawn(parent, { budget: { spawns: 3 } }));

    expect(exit.result).toBe(3);
    await kernel.close();
  });

  test("bytes written are counted before they are written, and given back when writing fails", async () => {
    const kernel = await bootKernel();
    const writer = program("writer", async (_input: unknown, ctx: RunContext) => {
      await ctx.os.fs.writeFile("/srv/a", "12345");
      await ctx.os.fs.write("/srv/absent", "12345").catch(() => undefined);
      await ctx.os.fs.append("/srv/a", "67890");
      return ctx.os.fs.append("/srv/a", "!").catch((error: { code: string }) => error.code);
    });
    const pid = await kernel.os.spawn(writer, { budget: { bytesWritten: 10 } });

    expect((await kernel.os.wait(pid)).result).toBe("EDQUOT");
    expect(await kernel.os.fs.readText("/srv/a")).toBe("1234567890");
    await kernel.close();
  });

  test("context: a request that is too large is refused before it is sent", async () => {
    const kernel = await bootKernel({ models: [paid()] });
    const asker = program("asker", (_input: unknown, ctx: RunContext) => ctx.infer("it", "x".repeat(404)));
    const child = program("parent", async (_input: unknown, ctx: RunContext) =>
      ctx.os.wait(await ctx.os.spawn(asker, { limits: { contextTokens: 1000 } })),
    );
    const exit = await kernel.os.wait(await kernel.os.spawn(child, { limits: { contextTokens: 100 } }));

    // A child cannot give itself more than its parent has.
    expect(exit.result).toMatchObject({ error: { code: "E2BIG" } });
    await kernel.close();
  });

  test("a call that takes longer than it may is given up, also when it does not heed its signal", async () => {
    const kernel = await bootKernel({
      models: [paid({ infer: () => new Promise(() => undefined) })],
      tools: [
        { name: "slow", description: "", inputSchema: {}, effect: "pure", call: () => new Promise(() => undefined) },
      ],
    });
    const both = program("both", async (_input: unknown, ctx: RunContext) => [
      await ctx.infer("model", "hi").catch((error: { code: string }) => error.code),
      await ctx.call("tool", "slow").catch((error: { code: string }) => error.code),
    ]);
    const exit = await kernel.os.wait(
      await kernel.os.spawn(both, { limits: { callMs: 20 }, budget: { modelCalls: 1 } }),
    );

    expect(exit.result).toEqual(["ETIMEDOUT", "ETIMEDOUT"]);
    await kernel.close();
  });

  test("what a model or a tool hangs on the signal of a call goes with the call", async () => {
    const signals: AbortSignal[] = [];
    const kernel = await bootKernel({
      models: [
        paid({
          infer: (request, call) => {
            signals.push(call.signal);
            return paid().infer(request, call);
          },
        }),
      ],
      tools: [
        {
          name: "tool",
          description: "",
          inputSchema: {},
          effect: "pure",
          call: async (_args, { signal }) => {
            signals.push(signal);
            if (signals.length === 3) await new Promise((resolve) => signal.addEventListener("abort", resolve));
          },
        },
      ],
    });
    const caller = program("caller", async (_input: unknown, ctx: RunContext) => {
      // Of a process that makes many.
      for (let at = 0; at < 40; at++) await ctx.infer(`model ${at}`, "hi");
      signals.splice(0, signals.length - 1);
      await ctx.call("first", "tool");
      await ctx.call("second", "tool");
    });
    const pid = await kernel.os.spawn(caller);
    while (signals.length < 3) await new Promise((go) => setTimeout(go, 1));

    await kernel.os.kill(pid, "KILL");

    expect(signals.map(({ aborted }) => aborted)).toEqual([false, false, true]);
    await kernel.close();
  });

  test("no more calls at once than there may be", async () => {
    let [inside, most] = [0, 0];
    const model = paid({
      infer: async () => {
        most = Math.max(most, ++inside);
        await sleep(2);
        inside--;
        return { text: "x", finishReason: "stop", usage: { inputTokens: 1, outputTokens: 1 } };
      },
    });
    const kernel = await bootKernel({ models: [model] });
    const many = program("many", async (_input: unknown, ctx: RunContext) => {
      await Promise.all(Array.from({ length: 12 }, (_, at) => ctx.infer(`c${at}`, "hi")));
    });
    const exit = await kernel.os.wait(await kernel.os.spawn(many, { limits: { concurrentCalls: 3 } }));

    expect([exit.code, most]).toEqual([0, 3]);
    await kernel.close();
  });
});

describe("rates", () => {
  test("a rate per user holds over all processes; one that fails says for how long", async () => {
    const kernel = await bootKernel({ models: [paid()] });
    const rates = [{ resource: "modelCalls", per: "user", max: 2, windowMs: 60_000, onLimit: "fail" }] as const;
    const pids = [
      await kernel.os.spawn(caller(1), { limits: { rates } }),
      await kernel.os.spawn(caller(1), { limits: { rates } }),
    ];
    for (const pid of pids) expect((await kernel.os.wait(pid)).code).toBe(0);

    const third = await kernel.os.wait(await kernel.os.spawn(caller(1), { limits: { rates } }));

    expect(third.error?.message).toMatch(/EAGAIN.*2 modelCalls in 60000 ms per user/);
    await kernel.close();
  });

  test("a call beyond its rate waits for it", async () => {
    const kernel = await bootKernel({ models: [paid()] });
    const rates = [{ resource: "modelCalls", per: "process", max: 2, windowMs: 60 }] as const;
    const started = performance.now();

    expect((await kernel.os.wait(await kernel.os.spawn(caller(5), { limits: { rates } }))).result).toBe(5);

    expect(performance.now() - started).toBeGreaterThanOrEqual(115);
    await kernel.close();
  });

  test("calls that wait for one have their turns by the weights of their groups, however many each makes", async () => {
    const asked: string[] = [];
    const model = createOfflineModel({
      name: "small",
      script: ({ messages }) => {
        asked.push(String(messages[0]?.content));
        return "answer";
      },
    });
    const kernel = await bootKernel({ models: [model] });
    for (const [group, weight] of [
      ["heavy", 300],
      ["light", 100],
    ] as const)
      await kernel.os.call("setGroup", { group, weight });
    const rates = [{ resource: "modelCalls", per: "model", max: 4, windowMs: 50 }] as const;
    const asking = program(
      "asking",
      async (input: { readonly who: string; readonly calls: number }, ctx: RunContext) => {
        const calls = Array.from({ length: input.calls }, (_, at) => ctx.infer(`call${at}`, input.who));
        await Promise.allSettled(calls);
      },
    );
    const start = async (group: string, calls: number): Promise<Pid> =>
      kernel.os.spawn(asking, { input: { who: group, calls }, group, limits: { rates } });
    const pids = [await start("light", 100), await start("heavy", 40)];
    await expect.poll(() => asked.length).toBeGreaterThanOrEqual(44);

    // The first four had no rate to wait for.
    const turns = asked.slice(4, 44);
    expect(turns.filter((who) => who === "heavy")).toHaveLength(30);
    for (const pid of pids) await kernel.os.kill(pid, "KILL");
    await kernel.close();
  });

  test("so many calls at a time hold over all processes; who ends in any way makes room", async () => {
    let [inside, most] = [0, 0];
    const tool: Tool<Os> = {
      name: "dig",
      description: "digs",
      inputSchema: {},
      effect: "idempotent",
      call: async () => {
        most = Math.max(most, ++inside);
        try {
          await sleep(10);
          if (inside % 2 === 0) throw new TypeError("broke");
        } finally {
          inside--;
        }
      },
    };
    const kernel = await bootKernel({ tools: [tool] });
    const rates = [{ resource: "toolCalls", per: "tool", max: 3, kind: "concurrent" }] as const;
    const digging = program("digging", async (_input: unknown, ctx: RunContext) => {
      await Promise.allSettled(Array.from({ length: 10 }, (_, at) => ctx.call(`dig${at}`, "dig")));
      return 1;
    });
    const start = (): Promise<Pid> => kernel.os.spawn(digging, { limits: { rates } });
    const pids = await Promise.all(Array.from({ length: 5 }, start));
    await sleep(15);
    await kernel.os.kill(pids[0] as Pid, "KILL");
    for (const pid of pids.slice(1)) expect(await kernel.os.wait(pid)).toMatchObject({ code: 0 });
    expect(most).toBe(3);
    const fails = { limits: { rates: [{ ...rates[0], onLimit: "fail" as const }] } };
    const both = program("both", async (_input: unknown, ctx: RunContext) => {
      const calls = Array.from({ length: 4 }, async (_, at) => ctx.call(`dig${at}`, "dig"));
      return (await Promise.allSettled(calls)).map((one) => (one.status === "rejected" ? String(one.reason) : "ok"));
    });
    const { result } = await kernel.os.wait(await kernel.os.spawn(both, fails));
    expect((result as string[])[3]).toMatch(/3 toolCalls at a time per tool is used up; try again later/);
    await kernel.close();
  });

  test("who waits for a budget, is frozen or stopped, or has failed, holds no place, and no tokens", async () => {
    const kernel = await bootKernel({ models: [paid()] });
    await kernel.os.call("setGroup", { group: "lab" });
    const rates = [{ resource: "modelCalls", per: "user", max: 1, kind: "concurrent" }] as const;
    const shown = async (pid: Pid): Promise<string | undefined> => (await kernel.os.ps({ pids: [pid] }))[0]?.channel;
    const poor = await kernel.os.spawn(caller(1), { limits: { rates, onLimit: "suspend" }, budget: { modelCalls: 0 } });
    await expect.poll(async () => shown(poor)).toMatch(/^budget of/);
    expect(await kernel.os.wait(await kernel.os.spawn(caller(2), { limits: { rates } }))).toMatchObject({ code: 0 });

    const windows = [{ resource: "modelCalls", per: "user", max: 1, windowMs: 150 }] as const;
    await kernel.os.wait(await kernel.os.spawn(caller(1), { limits: { rates: windows } }));
    const both = { limits: { rates: [...windows, ...rates] } };
    const frozen = await kernel.os.spawn(caller(1), { ...both, group: "lab" });
    await expect.poll(async () => shown(frozen)).toMatch(/^rate of/);
    await kernel.os.call("freeze", { group: "lab" });
    await sleep(200);
    expect(await kernel.os.wait(await kernel.os.spawn(caller(2), both))).toMatchObject({ code: 0 });
    await kernel.os.call("thaw", { group: "lab" });
    expect(await kernel.os.wait(frozen)).toMatchObject({ code: 0 });
    await kernel.close();
  });

  test("the same rate is the same however it is written", async () => {
    const kernel = await bootKernel({ models: [paid()] });
    const one = { resource: "modelCalls", per: "user", max: 1, windowMs: 60_000, onLimit: "fail" } as const;
    const other = {
      onLimit: "fail",
      kind: "window",
      windowMs: 60_000,
      per: "user",
      resource: "modelCalls",
      max: 1,
    } as const;
    const codes = [];
    for (const rate of [one, other])
      codes.push((await kernel.os.wait(await kernel.os.spawn(caller(1), { limits: { rates: [rate] } }))).code);
    expect(codes).toEqual([0, 1]);
    await kernel.close();
  });

  test("a tool that calls another one has its place for both", async () => {
    const tool = (name: string, call: Tool<Os>["call"]): Tool<Os> => ({
      name,
      description: name,
      inputSchema: {},
      effect: "idempotent",
      call,
    });
    const kernel = await bootKernel({
      tools: [
        tool("outer", (_args, { os }) => os.call("call", { place: "inner", tool: "inner" })),
        tool("inner", () => "done"),
      ],
    });
    const rates = [{ resource: "toolCalls", per: "user", max: 1, kind: "concurrent" }] as const;
    const own = program("own", (_input: unknown, ctx: RunContext) => ctx.call("outer", "outer"));
    expect((await kernel.os.wait(await kernel.os.spawn(own, { limits: { rates } }))).result).toBe("done");
    await kernel.close();
  });

  test("of tokens only those count that a call has used, once it has ended", async () => {
    const kernel = await bootKernel({ models: [paid()] });
    const rates = [{ resource: "tokens", per: "user", max: 10_000, windowMs: 60_000, onLimit: "fail" }] as const;
    // Each may use some four thousand, and uses a few.
    expect(await kernel.os.wait(await kernel.os.spawn(caller(20), { limits: { rates } }))).toMatchObject({ code: 0 });
    await kernel.close();
  });

  test.each<[string, Record<string, unknown>, RegExp]>([
    ["no window", { resource: "modelCalls", per: "user", max: 2 }, /a rate needs its window/],
    [
      "a window, of calls at a time",
      { resource: "modelCalls", per: "user", max: 2, kind: "concurrent", windowMs: 5 },
      /has no window/,
    ],
    ["tokens at a time", { resource: "tokens", per: "user", max: 2, kind: "concurrent" }, /counts calls/],
  ])("a rate with %s is refused", async (_what, rate, message) => {
    const kernel = await bootKernel();
    const limits = { rates: [rate] } as unknown as ProcessLimits;
    await expect(kernel.os.spawn(caller(1), { limits })).rejects.toThrow(message);
    await kernel.close();
  });

  const times = fc.array(fc.record({ gap: fc.integer({ min: 0, max: 40 }), amount: fc.integer({ min: 1, max: 5 }) }), {
    maxLength: 60,
  });

  test("no stretch of a window's length holds more than its maximum", () => {
    fc.assert(
      fc.property(times, fc.integer({ min: 5, max: 20 }), fc.integer({ min: 1, max: 2500 }), (steps, max, windowMs) => {
        const window = new SlidingWindow(max, windowMs);
        const taken: { at: number; amount: number }[] = [];
        let now = 0.5;
        for (const { gap, amount } of steps) {
          now += gap;
          now += window.waitFor(amount, now);
          expect(window.waitFor(amount, now)).toBe(0);
          window.take(amount, now);
          taken.push({ at: now, amount });
        }
        for (const { at: from } of taken) {
          const sum = taken
            .filter(({ at }) => at >= from && at < from + windowMs)
            .reduce((total, { amount }) => total + amount, 0);
          expect(sum).toBeLessThanOrEqual(max);
        }
      }),
    );
  });

  test("a bucket gives what has flowed in, and no more than it holds at once", () => {
    fc.assert(
      fc.property(times, fc.integer({ min: 5, max: 20 }), fc.integer({ min: 1, max: 100 }), (steps, max, windowMs) => {
        const bucket = new TokenBucket(max, windowMs, max);
        let [now, sum] = [0, 0];
        for (const { gap, amount } of steps) {
          now += gap;
          now += bucket.waitFor(amount, now);
          bucket.take(amount, now);
          sum += amount;
          expect(sum).toBeLessThanOrEqual(max + (now * max) / windowMs + 1e-6);
        }
      }),
    );
  });
});

describe("accounting", () => {
  test("the ledger's sums are what the budgets were charged, exactly, by every key", async () => {
    const kernel = await bootKernel({
      models: [paid(), paid({ name: "other", tier: "tactical" })],
      tools: [{ name: "tool", description: "", inputSchema: {}, effect: "once", call: () => 1 }],
    });
    const worker = program("worker", async ({ calls }: { calls: number }, ctx: RunContext) => {
      for (let at = 0; at < calls; at++) {
        await ctx.infer(`m${at}`, { messages: [], model: at % 2 === 0 ? "paid" : "other", maxOutputTokens: 4 });
        await ctx.call(`t${at}`, "tool");
      }
    });
    const budget = {
      costMicros: 100 * DOLLAR,
      tokens: 1000,
      modelCalls: 100,
      toolCalls: 100,
      operationalTokens: 1000,
      tacticalTokens: 1000,
    };
    const pids = await Promise.all([1, 2, 3].map((calls) => kernel.os.spawn(worker, { input: { calls }, budget })));
    for (const pid of pids) expect((await kernel.os.wait(pid)).code).toBe(0);

    const [total] = await kernel.os.call("ledger", { by: [] });
    const byPid = await kernel.os.call("ledger", { by: ["pid"] });

    for (const pid of pids) {
      const usage = await kernel.os.call("usage", { pid });
      const row = byPid.find(({ key }) => key.pid === String(pid));
      for (const [resource, { used }] of Object.entries(usage))
        expect([resource, row?.used[resource as "tokens"] ?? 0]).toEqual([resource, used]);
    }
    expect(total).toMatchObject({
      entries: 12,
      used: { modelCalls: 6, toolCalls: 6, costMicros: 12 * DOLLAR, tacticalTokens: 4 },
    });
    expect((await kernel.os.call("ledger", { by: ["user", "tier", "tool"] })).length).toBe(3);
    await kernel.close();
  });

  test("a limit is read as people write it", () => {
    expect(parseAmount("cost=0.50")).toEqual({ costMicros: 500_000 });
    expect(parseAmount("tokens=20_000")).toEqual({ tokens: 20_000 });
    expect(parseAmount("calls=3")).toEqual({ modelCalls: 3 });
    for (const text of ["cost=-1", "cost=NaN", "tokens=1.5", "tokens=1e99", "coins=1", "tokens", "=1"])
      expect(() => parseAmount(text)).toThrow(/EINVAL/);
  });
});
