// Steps and calls in code that may be tried again, each attempt for a limited time.

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { MemoryObjectStore } from "@ergos/drivers/memory";
import { createOfflineModel } from "@ergos/drivers/model-offline";
import { createNet } from "@ergos/drivers/net";
import {
  type Exit,
  type Kernel,
  type KernelEvent,
  KernelError,
  type Pid,
  type Tool,
  type Os,
  isKernelError,
} from "@ergos/kernel";
import {
  type Attempt,
  type Retry,
  type RunContext,
  TerminalError,
  type TryOptions,
  pipeline,
  planProgram,
  program,
} from "@ergos/services";
import { expect, test } from "vitest";
import { LastingStore, bootAfterDeath, bootKernel, closeWhole } from "../../kernel/test/kernel-fixture.ts";

const tool = (call: Tool<Os>["call"]): Tool<Os> => ({
  name: "reach",
  description: "reaches",
  inputSchema: {},
  effect: "idempotent",
  call,
});

/** How a program of one step has ended, and its events about nodes. */
async function runStep(
  work: (attempt: Attempt) => unknown,
  options: TryOptions,
): Promise<{ readonly exit: Exit; readonly events: readonly KernelEvent[] }> {
  await using kernel = await bootKernel();
  const seen: KernelEvent[] = [];
  const stop = new AbortController();
  const events = kernel.os.events({ names: ["node.retried"], signal: stop.signal });
  const listening = (async (): Promise<void> => {
    for await (const event of events) seen.push(event);
  })();
  const stepping = program("stepping", (_input: unknown, ctx: RunContext) => ctx.step("work", work, options));
  const exit = await kernel.os.wait(await kernel.os.spawn(stepping));
  await sleep(5);
  stop.abort();
  await listening.catch(() => undefined);
  return { exit, events: seen };
}

test("a step is tried as often as it says; what the last attempt gave is recorded, and each failure told", async () => {
  const attempts: number[] = [];

  const { exit, events } = await runStep(
    ({ attempt }) => {
      attempts.push(attempt);
      if (attempt < 3) throw new TypeError(`no ${attempt}`);
      return attempt;
    },
    { retry: { attempts: 5, delayMs: 1 } },
  );

  expect(exit.result).toBe(3);
  expect(attempts).toEqual([1, 2, 3]);
  expect(events.map(({ data }) => data)).toMatchObject([
    { place: "work", attempt: 1, delayMs: 1, error: { message: "no 1" } },
    { place: "work", attempt: 2, delayMs: 2, error: { message: "no 2" } },
  ]);
});

test.each<[string, Record<string, unknown>]>([
  ["a delay that is no number", { place: "a", attempt: 1, delayMs: Number.NaN }],
  ["a delay before now", { place: "a", attempt: 1, delayMs: -1e300 }],
  ["a place that is a book", { place: "p".repeat(5_000_000), attempt: 1, delayMs: 60_000 }],
  ["a message that is no text", { place: "a", attempt: 1, delayMs: 60_000, error: { message: {} } }],
  ["an error that is none", { place: "a", attempt: 1, delayMs: 60_000, error: null }],
])("a program that tells of a retry with %s harms nobody", async (_what, data) => {
  await using kernel = await bootKernel();
  const telling = program("telling", async (_input: unknown, ctx: RunContext) => {
    await ctx.os.call("nodeEvent", { name: "node.retried", data });
    return (await ctx.os.ps({ pids: [ctx.pid] }))[0]?.channel?.length ?? 0;
  });
  const exit = await kernel.os.wait(await kernel.os.spawn(telling));

  expect(exit).toMatchObject({ code: 0 });
  expect(exit.result).toBeLessThan(400);
});

test.each<[string, TryOptions, unknown, number, RegExp]>([
  ["no attempt is left", { retry: { attempts: 2, delayMs: 0 } }, new TypeError("no"), 2, /no$/],
  ["it will not pass", { retry: { attempts: 3, delayMs: 0 } }, new KernelError("EACCES", "never"), 1, /never/],
  [
    "only what may pass by itself is tried again",
    { retry: { attempts: 3, onlyTransient: true } },
    new TypeError("no"),
    1,
    /no$/,
  ],
])("a step fails when %s", async (_why, options, thrown, count, message) => {
  let calls = 0;

  const { exit } = await runStep(() => {
    calls++;
    throw thrown as Error;
  }, options);

  expect(exit.error?.message).toMatch(message);
  expect(calls).toBe(count);
});

test("an attempt of a step has its own time and signal; what comes of it later does not count", async () => {
  const reasons: unknown[] = [];

  const { exit } = await runStep(
    async ({ attempt, signal, deadline }) => {
      signal.addEventListener("abort", () => reasons.push(signal.reason));
      expect(deadline).toBeTypeOf("number");
      await sleep(attempt === 1 ? 60 : 1);
      return attempt;
    },
    { timeoutMs: 20, retry: { attempts: 2, delayMs: 0 } },
  );

  expect(exit.result).toBe(2);
  expect(reasons).toMatchObject([{ code: "ETIMEDOUT" }]);
});

test.each<[TryOptions, RegExp]>([
  [{ retry: 3 } as unknown as TryOptions, /work needs a retry as \{ attempts: 3 \}, found 3/],
  [{ retries: 5 } as TryOptions, /step work has no option "retries"; there are retry, timeoutMs, interruptible/],
  [{ retry: { attempts: 0 } }, /work needs at least 1 attempt, found 0/],
  [{ retry: { attempts: 2, delayMs: Number.NaN } }, /work needs a delayMs of at least 0, found NaN/],
  [{ timeoutMs: -1 }, /work needs a timeout above 0 ms, found -1/],
  [{ retry: { attempts: 2, dealyMs: 5 } as Retry }, /work has a retry with dealyMs; known are attempts, delayMs/],
])("options that mean nothing are refused: %j", async (options, message) => {
  const { exit } = await runStep(() => 1, options);

  expect(exit.error).toMatchObject({ code: "EINVAL" });
  expect(exit.error?.message).toMatch(message);
});

test("models, tools and requests are asked again, each attempt for its time", async () => {
  const calls = { model: 0, tool: 0, server: 0 };
  const server = createServer((_request, response) => {
    if (++calls.server > 1) response.end("late");
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const slow = async (at: "model" | "tool", signal: AbortSignal): Promise<string> => {
    if (++calls[at] === 1) await sleep(1000, undefined, { signal });
    return "late";
  };
  const offline = createOfflineModel({ script: () => "late" });
  await using kernel = await bootKernel({
    net: createNet(),
    models: [
      {
        ...offline,
        infer: async (request, call) => {
          await slow("model", call.signal);
          return offline.infer(request, call);
        },
      },
    ],
    tools: [tool((_args, { signal }) => slow("tool", signal))],
  });
  const { port } = server.address() as AddressInfo;
  const asking = program("asking", async (_input: unknown, ctx: RunContext) => {
    const options = { timeoutMs: 250, retry: { attempts: 2, delayMs: 0 } };
    const answers = await Promise.all([
      ctx.infer("ask", "hello", options),
      ctx.call("reach", "reach", {}, options),
      ctx.fetch("get", `http://127.0.0.1:${port}/`, options),
    ]);
    return [answers[0].text, answers[1], answers[2].body];
  });

  const exit = await kernel.os.wait(await kernel.os.spawn(asking));

  expect(exit.error).toBeUndefined();
  expect(exit.result).toEqual(["late", "late", "late"]);
  expect(calls).toEqual({ model: 2, tool: 2, server: 2 });
  server.closeAllConnections();
  server.close();
});

test("wherever a host dies between the attempts of a step, the next one ends it, and a recorded outcome stays", async () => {
  let lives = 0;
  const retrying = program("retrying", async (_input: unknown, ctx: RunContext) => {
    const life = ++lives;
    const options = { retry: { attempts: 2, delayMs: 0 } };
    const work = ({ attempt }: Attempt): string => {
      if (attempt === 1) throw new TypeError("once");
      return `${life}.${attempt}`;
    };
    return [await ctx.step("first", work, options), await ctx.step("second", work, options)];
  });
  const ends: unknown[] = [];
  for (let [commits, isDead] = [1, true]; isDead; commits++) {
    lives = 0;
    const life = await bootAfterDeath(commits, { programs: [retrying] }, retrying);
    ({ isDead } = life);
    const left = (await life.kernel.os.call("ps", { all: true })).find(({ name }) => name === "retrying");
    if (left !== undefined) {
      if (left.state !== "zombie") await life.kernel.os.call("resume", { pid: left.pid }).catch(() => undefined);
      ends.push((await life.kernel.os.wait(left.pid)).result);
    }
    await closeWhole(life.kernel);
  }

  // The host died before either, between them, and after both.
  expect(new Set(ends.map((end) => JSON.stringify(end)))).toEqual(
    new Set(['["1.2","1.2"]', '["1.2","2.2"]', '["2.2","2.2"]']),
  );
});

test("attempts that failed in an earlier life count: the next one comes at its time, and there are no more in all", async () => {
  const made: string[] = [];
  const store = new LastingStore();
  const objects = new MemoryObjectStore();
  const failing =
    (what: string) =>
    ({ attempt }: Attempt): never => {
      made.push(`${what} ${attempt}`);
      throw new TypeError(`no ${attempt}`);
    };
  const retry = { attempts: 3, delayMs: 1000, factor: 1 };
  const trying = program("trying", async (_input: unknown, ctx: RunContext) => {
    const dial = ctx.step("dial", failing("dial"), { retry: { ...retry, delayMs: 0 } }).catch(() => "given up");
    return [await dial, await ctx.step("ring", failing("ring"), { retry })];
  });
  const plan = planProgram(
    pipeline("plan")
      .node("knock", { retry }, (_input, { attempt }) => failing("knock")({ attempt } as Attempt))
      .build(),
  );
  const boot = async (): Promise<Kernel> => bootKernel({ store: store.life(), objects, programs: [trying, plan] });
  const first = await boot();
  const pids = [await first.os.spawn(trying), await first.os.spawn(plan)] as const;
  await expect.poll(() => made.length).toBe(5);
  await first.close();
  expect(made.splice(0).toSorted()).toEqual(["dial 1", "dial 2", "dial 3", "knock 1", "ring 1"]);

  const second = await boot();
  const from = performance.now();
  for (const pid of pids) await second.os.resume(pid);
  const waiting = async (pid: Pid) => (await second.os.ps({ pids: [pid] }))[0]?.channel;
  await expect.poll(async () => waiting(pids[0])).toMatch(/^attempt 2 of 3 of ring at .*: no 1$/);
  const exits = await Promise.all(pids.map(async (pid) => second.os.wait(pid)));
  expect(exits.map(({ error }) => error?.message)).toEqual([
    expect.stringMatching(/no 3$/) as unknown,
    expect.stringMatching(/no 3$/) as unknown,
  ]);
  expect(performance.now() - from).toBeGreaterThan(1000);
  expect(made.splice(0).toSorted()).toEqual(["knock 2", "knock 3", "ring 2", "ring 3"]);
  const journal = await second.os.fs.readText(`/proc/runs/plan-${pids[1]}/events`);
  expect(journal).toMatch(/attempt 1 of knock failed, the next at .*: no 1/);

  // A retry of the run begins anew, but for what the program went on from.
  await second.os.resume(pids[0], { again: true });
  await expect.poll(() => made).toEqual(expect.arrayContaining(["ring 1"]) as unknown);
  await second.close();
});

test("attempts of what a node was before it was changed do not count, and no part of a secret is told of them", async () => {
  const made: string[] = [];
  const store = new LastingStore();
  const objects = new MemoryObjectStore();
  const secret = "sk-4f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a";
  const plan = (version: string) =>
    planProgram(
      pipeline("plan")
        .node(
          "knock",
          { version, retry: { attempts: 3, delayMs: version === "1" ? 60_000 : 0 } },
          (_input, { attempt }) => {
            made.push(`${version}.${attempt}`);
            throw new TypeError(`${"x".repeat(280)}${secret}`);
          },
        )
        .build(),
    );
  const first = await bootKernel({ store: store.life(), objects });
  first.host.vault.learn(secret);
  const pid = await first.os.spawn(plan("1"));
  await expect.poll(async () => (await first.os.ps({ pids: [pid] }))[0]?.channel).toMatch(/^attempt 2/);
  expect(await first.os.fs.readText(`/proc/runs/plan-${pid}/events`)).not.toContain(secret.slice(0, 6));
  await first.close();
  const second = await bootKernel({ store: store.life(), objects });
  await second.os.resume(pid, { program: plan("2") });
  expect((await second.os.wait(pid)).code).toBe(1);
  expect(made).toEqual(["1.1", "2.1", "2.2", "2.3"]);
  await second.close();
});

test("what failed inside of an attempt that is over is tried anew by the next one", async () => {
  const made: string[] = [];
  const store = new LastingStore();
  const objects = new MemoryObjectStore();
  const nested = program("nested", (_input: unknown, ctx: RunContext) =>
    ctx.step(
      "outer",
      (outer) =>
        ctx.step(
          "inner",
          ({ attempt }) => {
            made.push(`${outer.attempt}.${attempt}`);
            if (made.length < 4) throw new TypeError("no");
            return made.length;
          },
          { retry: { attempts: 3, delayMs: outer.attempt === 1 ? 60_000 : 0 } },
        ),
      { retry: { attempts: 2, delayMs: 300 }, timeoutMs: 200 },
    ),
  );
  const first = await bootKernel({ store: store.life(), objects, programs: [nested] });
  const pid = await first.os.spawn(nested);
  await expect.poll(async () => (await first.os.ps({ pids: [pid] }))[0]?.channel).toMatch(/^attempt 2 of 2 of outer/);
  await first.close();
  const second = await bootKernel({ store: store.life(), objects, programs: [nested] });
  await second.os.resume(pid);
  expect((await second.os.wait(pid)).code).toBe(0);
  expect(made).toEqual(["1.1", "2.1", "2.2", "2.3"]);
  await second.close();
});

test("steps that are awaited one after the other are no stray failures when the first of them fails", async () => {
  const strays: unknown[] = [];
  const onStray = (error: unknown): void => void strays.push(error);
  process.on("unhandledRejection", onStray);
  await using kernel = await bootKernel();
  const fan = program("fan", async (_input: unknown, ctx: RunContext) => {
    const steps = [1, 2, 3].map((job) => ctx.step(`job ${job}`, () => Promise.reject(new TypeError(`no ${job}`))));
    for (const step of steps) await step;
  });
  const exit = await kernel.os.wait(await kernel.os.spawn(fan));
  await sleep(5);
  process.off("unhandledRejection", onStray);

  expect(exit.error?.message).toContain("no 1");
  expect(strays).toEqual([]);
});

test("what an attempt of a step has done inside is taken over by the next, and its calls hear its signal", async () => {
  let asked = 0;
  const aborted: unknown[] = [];
  const offline = createOfflineModel({ script: () => "late" });
  const model = {
    ...offline,
    infer: async (...[request, call]: Parameters<typeof offline.infer>) => {
      if (++asked === 2)
        await sleep(1000, undefined, { signal: call.signal }).catch((error: unknown) => void aborted.push(error));
      return offline.infer(request, call);
    },
  };
  await using kernel = await bootKernel({ models: [model] });
  const nested = program("nested", (_input: unknown, ctx: RunContext) =>
    ctx.step(
      "outer",
      async ({ attempt, deadline }) => {
        expect(deadline).toBeTypeOf("number");
        const first = await ctx.infer("first", "hello");
        if (attempt === 1) throw new TypeError("flaky");
        if (attempt === 2) await ctx.infer("second", "hello");
        return [attempt, first.text];
      },
      { retry: { attempts: 3, delayMs: 0 }, timeoutMs: 300 },
    ),
  );

  expect((await kernel.os.wait(await kernel.os.spawn(nested))).result).toEqual([3, "late"]);
  expect(asked).toBe(2);
  expect(aborted).toHaveLength(1);
});

test("a node that is tried again waits for a call that its last attempt has given up", async () => {
  let calls = 0;
  const slow = tool(async () => {
    calls++;
    await sleep(60);
    return calls;
  });
  await using kernel = await bootKernel({ tools: [slow] });
  const plan = pipeline("giving").node("up", { retry: { attempts: 9, delayMs: 5 } }, (_input, ctx) =>
    ctx.call("reach", "reach", {}, { timeoutMs: 20 }),
  );

  expect((await kernel.os.wait(await kernel.os.spawn(planProgram(plan.build())))).result).toBe(1);
  expect(calls).toBe(1);
});

test("the time of an attempt is no longer than that around it", async () => {
  const deadlines: (number | undefined)[] = [];
  const plan = pipeline("within").node("node", { timeoutMs: 60_000 }, async (_input, ctx) => {
    for (const options of [{ retry: { attempts: 2 } }, { timeoutMs: 600_000 }, { timeoutMs: 10 }])
      await ctx.step(
        JSON.stringify(options),
        ({ deadline }) => void deadlines.push((deadline ?? 0) - (ctx.deadline ?? 0)),
        options,
      );
  });
  await using kernel = await bootKernel();
  await kernel.os.wait(await kernel.os.spawn(planProgram(plan.build())));

  expect(deadlines.slice(0, 2)).toEqual([0, 0]);
  expect(deadlines[2]).toBeLessThan(-50_000);
});

test("a failure that is final is not tried again: as a step, as a task, as a process", async () => {
  await using kernel = await bootKernel();
  const tried = { step: 0, task: 0, life: 0 };
  const failing = (what: keyof typeof tried) => (): never => {
    tried[what]++;
    throw new TerminalError("no such customer");
  };
  const code = (error: unknown): unknown => isKernelError(error) && error.code;
  const all = program("all", async (_input: unknown, ctx: RunContext) => {
    tried.life++;
    const step = await ctx.step("step", failing("step"), { retry: { attempts: 3, delayMs: 1 } }).catch(code);
    const id = await ctx.submit("task", "mail", "hello");
    await ctx.work("mail", failing("task"), { idleMs: 10 });
    const task = await ctx.taskEnd("ended", id).catch(code);
    throw new TerminalError(`${String(step)} ${String(task)}`);
  });
  const pid = await kernel.os.spawn(all, { restart: { policy: "on-failure", delayMs: 1 } });

  const { error } = await kernel.os.wait(pid);
  expect(error).toMatchObject({ code: "ETERMINAL", message: "[ETERMINAL] ETERMINAL ETERMINAL" });
  expect(tried).toEqual({ step: 1, task: 1, life: 1 });
});

test("a final failure of a node is one of its run", async () => {
  await using kernel = await bootKernel();
  let runs = 0;
  const plan = pipeline("final")
    .node("only", { retry: { attempts: 3, delayMs: 1 } }, () => {
      runs++;
      throw new TerminalError("bad input");
    })
    .build();
  const pid = await kernel.os.spawn(planProgram(plan), { restart: { policy: "on-failure", delayMs: 1 } });
  const { error } = await kernel.os.wait(pid);
  expect(error).toMatchObject({ code: "ETERMINAL", message: "[ETERMINAL] node only failed: bad input" });
  expect(runs).toBe(1);
});

test("what a node's next attempt may mend is no outcome: the next life makes the call again", async () => {
  const store = new LastingStore();
  const objects = new MemoryObjectStore();
  let life = 1;
  const ring = tool(() => {
    if (life === 1) throw new Error("down");
    return "up";
  });
  const plan = pipeline("rings")
    .node("ring", { retry: { attempts: 2, delayMs: 700 } }, (_given, ctx) => ctx.call("ring", "reach"))
    .build();
  const first = await bootKernel({ store: store.life(), objects, tools: [ring] });
  const pid = await first.os.spawn(planProgram(plan));
  await expect.poll(async () => (await first.os.ps({ pids: [pid] }))[0]?.channel).toMatch(/^attempt 2/);
  await first.close();
  life = 2;
  await using next = await bootKernel({ store: store.life(), objects, tools: [ring] });
  await next.os.resume(pid, { program: planProgram(plan) });
  expect((await next.os.wait(pid)).result).toBe("up");
});

test("an attempt that is to come is what its process waits for: which, when, and why", async () => {
  await using kernel = await bootKernel();
  const isUp = Promise.withResolvers<void>();
  let attempts = 0;
  const flaky = program("flaky", (_input: unknown, ctx: RunContext) =>
    ctx.step(
      "dial",
      () => {
        if (++attempts === 1) throw new Error("nobody is there");
        return isUp.promise;
      },
      { retry: { attempts: 3, delayMs: 300 } },
    ),
  );
  const pid = await kernel.os.spawn(flaky);
  const shown = async (): Promise<string | undefined> => (await kernel.os.ps({ pids: [pid] }))[0]?.channel;

  await expect.poll(shown).toMatch(/^attempt 2 of 3 of dial at \d{4}-.*: nobody is there$/);
  await expect.poll(shown).toBeUndefined();
  expect(attempts).toBe(2);
  isUp.resolve();
  expect((await kernel.os.wait(pid)).code).toBe(0);
});

test("one that is given up in between is none that anybody waits for", async () => {
  await using kernel = await bootKernel();
  const flaky = program("flaky", async (_input: unknown, ctx: RunContext) => {
    const dial = (): never => {
      throw new Error("nobody is there");
    };
    const retry = { attempts: 2, delayMs: 60_000 };
    await ctx.step("dials", () => ctx.step("dial", dial, { retry }), { timeoutMs: 50 }).catch(() => undefined);
    await new Promise(() => undefined);
  });
  const pid = await kernel.os.spawn(flaky);
  const shown = async (): Promise<string | undefined> => (await kernel.os.ps({ pids: [pid] }))[0]?.channel;

  await expect.poll(shown).toMatch(/^attempt 2 of 2 of dial at/);
  await expect.poll(shown).toBeUndefined();
});
