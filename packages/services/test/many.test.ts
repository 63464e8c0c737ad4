// What many processes, and long lives, must not make slow, deep or large.

import { expect, test } from "vitest";
import { type Os, type Program, type Tool, isKernelError, toPid } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { LastingStore, bootKernel, codeOf, openChild, openProgram, pause } from "../../kernel/test/kernel-fixture.ts";

test("a branch that is deeper than a stack is killed bottom-up", async () => {
  await using kernel = await bootKernel();
  let os: Os = kernel.os;
  const DEPTH = 3000;
  for (let depth = 0; depth < DEPTH; depth++) {
    const { program, context } = openProgram();
    await os.spawn(program, { durable: false });
    ({ os } = await context);
  }
  const ended: number[] = [];
  const events = kernel.os.events({ names: ["process.cancelled"] });
  const listening = (async () => {
    for await (const { pid } of events) ended.push(pid);
  })();

  await kernel.os.kill(toPid(2), "KILL");

  expect(await kernel.os.ps()).toHaveLength(1);
  await expect.poll(() => ended.length).toBe(DEPTH);
  expect(ended).toEqual(ended.toSorted((a, b) => b - a));
  await events.return(undefined);
  await listening;
});

test("what a process has subscribed to ends with it, whether it was read or not", async () => {
  await using kernel = await bootKernel();
  const listening: Program = {
    name: "listening",
    revision: "1",
    kind: "function",
    run: async ({ os }) => {
      os.events({ topics: ["orders.*"] });
      void os.events({ topics: ["*.created"] }).next();
      return Promise.resolve();
    },
  };
  const subscribers = async (): Promise<number> => {
    const { subscribers: now } = JSON.parse(await kernel.os.fs.readText("/sys/events.json")) as { subscribers: number };
    return now;
  };
  const before = await subscribers();

  for (let life = 0; life < 5; life++) await kernel.os.wait(await kernel.os.spawn(listening, { durable: false }));

  expect(await subscribers()).toBe(before);
});

test("topics reach whoever wants them, by their first part or by a pattern for all", async () => {
  await using kernel = await bootKernel();
  const heard = new Map<string, string[]>();
  const streams = ["orders.*", "orders.created", "**", "*.created", "bills.paid"].map((pattern) => {
    const events = kernel.os.events({ topics: [pattern] });
    heard.set(pattern, []);
    void (async () => {
      for await (const { data } of events) heard.get(pattern)?.push(String(data["topic"]));
    })();
    return events;
  });
  for (const topic of ["orders.created", "bills.paid", "orders"]) await kernel.os.call("publish", { topic, body: 1 });

  await expect.poll(() => heard.get("bills.paid")).toEqual(["bills.paid"]);
  expect(heard.get("orders.*")).toEqual(["orders.created"]);
  expect(heard.get("orders.created")).toEqual(["orders.created"]);
  expect(heard.get("*.created")).toEqual(["orders.created"]);
  expect(heard.get("**")?.filter((topic) => topic !== "undefined")).toEqual(["orders.created", "bills.paid", "orders"]);
  for (const events of streams) await events.return(undefined);
});

test("a parent takes no more children by being given them than by starting them", async () => {
  await using kernel = await bootKernel();
  const [parent, child] = [await openChild(kernel.os, { limits: { children: 1 } }), await openChild(kernel.os)];
  await openChild(parent);

  expect(await codeOf(() => kernel.os.call("reparent", { pid: child.pid, to: parent.pid }))).toBe("EAGAIN");
});

test("what was told to stop stands still in the next host too, until it is told to go on", async () => {
  const store = new LastingStore();
  let steps = 0;
  const walking: Program = {
    name: "walking",
    revision: "1",
    kind: "function",
    run: async ({ os, signal }) => {
      for (let at = 0; !signal.aborted; at++) {
        if ((await os.call("stepBegin", { place: `step ${at}` })) === undefined) {
          steps++;
          await os.call("stepEnd", { place: `step ${at}`, value: at });
        }
        await pause(1);
      }
    },
  };
  const first = await bootKernel({ store: store.life(), programs: [walking] });
  const pid = await first.os.spawn(walking);
  await expect.poll(() => steps).toBeGreaterThan(2);
  await first.os.kill(pid, "STOP");
  await first.close();
  const before = steps;

  await using next = await bootKernel({ store: store.life(), programs: [walking] });
  await next.os.resume(pid);
  await pause(30);
  expect(steps).toBe(before);
  expect((await next.os.ps({ pids: [pid] }))[0]?.state).toBe("stopped");
  await next.os.kill(pid, "CONT");
  await expect.poll(() => steps).toBeGreaterThan(before);
});

test("a question that nobody answers in time has the answer that was named for that, or fails; its time goes on over hosts", async () => {
  const store = new LastingStore();
  const asking = program("asking", async (_input: unknown, ctx: RunContext) => {
    const first = await ctx.ask("first", "Shall it?", { choices: ["yes", "no"], timeoutMs: 20, otherwise: "no" });
    const second = await ctx.ask("second", "And then?", { timeoutMs: 300 }).catch((error: unknown) => error);
    return [first, isKernelError(second) && second.code];
  });
  const kernel = await bootKernel({ store: store.life(), programs: [asking] });
  const pid = await kernel.os.spawn(asking);
  await expect.poll(async () => (await kernel.os.call("asks", {})).map(({ text }) => text)).toEqual(["And then?"]);
  await kernel.close();
  await pause(350);

  await using next = await bootKernel({ store: store.life(), programs: [asking] });
  const began = performance.now();
  await next.os.resume(pid);
  expect((await next.os.wait(pid)).result).toEqual(["no", "ETIMEDOUT"]);
  expect(performance.now() - began).toBeLessThan(290);
});

test("sizes are told in bytes, and those of what was asked for", async () => {
  await using kernel = await bootKernel();
  const { pid } = await openChild(kernel.os);
  const send = (body: string): Promise<unknown> =>
    kernel.os.call("send", { to: pid, body }).then(
      () => "ok",
      (error: unknown) => (error as Error).message,
    );

  expect(await send("x".repeat(1_000_000))).toBe("ok");
  expect(await send("€".repeat(400_000))).toMatch(/larger than 1048576 bytes/);
  expect(await send("x".repeat(100_000_000))).toMatch(/larger than 1048576 bytes/);
});

test("a schedule and a trigger execute what a path names, once for each time", async () => {
  let calls = 0;
  const count: Tool<Os> = { name: "count", description: "", inputSchema: {}, effect: "pure", call: () => ++calls };
  await using kernel = await bootKernel({ tools: [count] });
  kernel.activate();
  await kernel.os.call("schedule", { inMs: 1, action: { exec: { path: "/lib/tools/count", input: {} } } });
  await expect.poll(() => calls).toBe(1);
  await kernel.os.call("trigger", { topic: "orders.*", action: { exec: { path: "/lib/tools/count" } } });
  for (let at = 0; at < 3; at++) await kernel.os.call("publish", { topic: "orders.made", body: at });
  await expect.poll(() => calls).toBe(4);

  expect(
    await codeOf(() => kernel.os.call("schedule", { inMs: 1, action: { exec: { path: "/x" }, wake: toPid(1) } })),
  ).toBe("EINVAL");
});

test("who is quarantined keeps its schedules, and is told of as that", async () => {
  await using kernel = await bootKernel();
  kernel.activate();
  const { pid } = await openChild(kernel.os);
  const process = kernel.host.processes.get(pid);
  if (process === undefined) throw new TypeError("it is not there");
  await kernel.host.osOf(process).call("schedule", { inMs: 5, action: { message: { to: pid, body: "tick" } } });
  await kernel.host.processes.resumption.quarantine(process, "the test says so");
  await pause(30);

  expect(await kernel.os.call("schedules", {})).toHaveLength(1);
  expect(await codeOf(() => kernel.os.call("send", { to: pid, body: "?" }))).toBe("EQUARANTINE");
});

test("a run that is tried again, and a twin, listen again to what they had subscribed to", async () => {
  let life = 0;
  const listening = program("listening", async (_input: unknown, ctx: RunContext) => {
    await ctx.subscribe("orders", "orders.*");
    if (++life === 1) throw new TypeError("fails once");
    return (await ctx.receive("order"))?.body;
  });
  await using kernel = await bootKernel({ programs: [listening] });
  kernel.activate();
  const pid = await kernel.os.spawn(listening);
  expect((await kernel.os.wait(pid)).code).toBe(1);
  await kernel.os.call("resume", { pid, again: true });
  await expect.poll(async () => (await kernel.os.call("triggers", {})).map((one) => one.pid)).toEqual([pid]);
  const twin = await kernel.os.call("clone", { pid });
  await expect.poll(async () => (await kernel.os.call("triggers", {})).map((one) => one.pid)).toEqual([pid, twin]);
  await kernel.os.call("publish", { topic: "orders.made", body: 7 });

  for (const one of [pid, twin]) expect((await kernel.os.wait(one)).result).toMatchObject({ topic: "orders.made" });
});

test("a result that a task cannot hold fails the task, and who works goes on to the next", async () => {
  const working = program("working", (_input: unknown, ctx: RunContext) =>
    ctx.work("q", (body) => "x".repeat(Number(body)), { idleMs: 0 }),
  );
  await using kernel = await bootKernel();
  for (const body of [20_000_000, 10_000_000, 1]) await kernel.os.call("submit", { queue: "q", body, attemptsMax: 1 });

  expect((await kernel.os.wait(await kernel.os.spawn(working))).result).toBe(2);
  const tasks = await kernel.os.call("tasks", { queue: "q" });
  expect(tasks.map(({ state, error }) => [state, error?.code])).toEqual([
    ["failed", "E2BIG"],
    ["completed", undefined],
    ["completed", undefined],
  ]);
});

test("an addition to a budget that is refused leaves what was changed meanwhile", async () => {
  await using kernel = await bootKernel();
  const above = await openChild(kernel.os, { budget: { modelCalls: 2 } });
  const { pid } = await openChild(above, { budget: { modelCalls: 1 } });

  expect(await codeOf(() => above.call("allocate", { pid, budget: { modelCalls: 5 } }))).toBe("EDQUOT");
  expect(await codeOf(() => above.call("allocate", { pid, budget: { modelCalls: 1 } }))).toBe("ok");
  expect(kernel.host.processes.get(pid)?.identity.budget).toEqual({ modelCalls: 2 });
});
