// What happens in the same moment: ends, rights that are taken back, lives that are over, orders that come back to who
// gave them. Many of these let so many microtasks pass between two calls, so that each order of both is seen.

import { MemoryObjectStore } from "@ergos/drivers/memory";
import { createOfflineModel } from "@ergos/drivers/model-offline";
import type { Os, ProcessContext, Tool } from "@ergos/kernel";
import { type RunContext, pipeline, planProgram, program } from "@ergos/services";
import { describe, expect, test } from "vitest";
import {
  LastingStore,
  bootKernel,
  codeOf,
  openChild,
  pause,
  processWith,
  within,
} from "../../kernel/test/kernel-fixture.ts";

async function microtasks(count: number): Promise<void> {
  for (let at = 0; at < count; at++) await Promise.resolve();
}
const outcome = (call: unknown): Promise<string> =>
  within(
    1000,
    codeOf(() => call),
  );

describe("a process that is ended", () => {
  test("spends nothing beyond its budget, and does nothing after its end", async () => {
    const seen: unknown[] = [];
    for (let ticks = 0; ticks < 30; ticks++) {
      let asked = 0;
      await using kernel = await bootKernel({
        models: [createOfflineModel({ name: "m", script: () => (asked++, "text") })],
      });
      const { os } = kernel;
      const go = Promise.withResolvers<void>();
      const run = async ({ os: own }: ProcessContext): Promise<void> => {
        await go.promise;
        await Promise.allSettled([
          own.fs.append("/srv/out", "x".repeat(5000)),
          own.infer("think", { messages: [], maxOutputTokens: 10 }),
        ]);
      };
      const worker = { name: "worker", revision: "1", kind: "function", run } as const;
      const pid = await os.spawn(worker, { budget: { bytesWritten: 100, modelCalls: 0 } });
      await pause(2);
      const killed = os.kill(pid, "KILL");
      await microtasks(ticks);
      go.resolve();
      await killed;
      await pause(3);
      seen.push([asked, await os.fs.exists("/srv/out")]);
    }
    expect(seen).toEqual(seen.map(() => [0, false]));
  });

  test.each([
    ["schedule", { everyMs: 60_000, action: { message: { to: 1, body: 1 } } }, "schedules"],
    ["trigger", { topic: "a.b", action: { message: { to: 1, body: 1 } } }, "triggers"],
  ] as const)("leaves no %s that it made in that moment", async (what, call, list) => {
    for (const how of ["KILL", "exit"] as const)
      for (let ticks = 0; ticks < 16; ticks++) {
        await using kernel = await bootKernel();
        const { os } = kernel;
        const [go, end] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
        const run = async ({ os: own }: ProcessContext): Promise<void> => {
          void go.promise.then(() => own.call(what as "schedule", call as never)).catch(() => undefined);
          await end.promise;
        };
        const pid = await os.spawn({ name: "p", revision: "1", kind: "function", run });
        await pause(0);
        const killed = how === "KILL" ? os.kill(pid, "KILL") : end.resolve();
        await microtasks(ticks);
        go.resolve();
        await killed;
        await os.wait(pid);
        await pause(2);
        expect(await os.call(list, {})).toEqual([]);
      }
  });
});

test.each(["sleep", "restart", "continueAsNew"] as const)(
  "what a write had reserved that never happened comes back when its life is over by %s",
  async (how) => {
    await using kernel = await bootKernel();
    kernel.activate();
    const { os } = kernel;
    await os.fs.makePipe("/srv/pipe", { capacity: 10 });
    await os.fs.pipe("/srv/pipe").write("1234567890");
    let lives = 0;
    const writer = program("writer", async (_input: unknown, ctx: RunContext): Promise<unknown> => {
      lives++;
      ctx.os.fs
        .pipe("/srv/pipe")
        .write("12345")
        .catch(() => undefined);
      await pause(10);
      if (lives < 4 && how === "restart") throw new Error("again");
      if (lives < 4 && how === "continueAsNew") return ctx.continueAsNew({});
      return ctx.receive("never");
    });
    const restart = { policy: "on-failure", max: 9, delayMs: 1, maxDelayMs: 1 } as const;
    const pid = await os.spawn(writer, { budget: { bytesWritten: 100 }, restart });
    while (lives < 4) {
      await pause(20);
      if (how !== "sleep") continue;
      await os.call("sleep", { pid });
      await os.call("wake", { pid });
    }
    await pause(25);
    // One write is under way, none has been made.
    expect((await os.call("usage", { pid }))["bytesWritten"]).toMatchObject({ used: 5 });
  },
);

describe("a right that is gone", () => {
  test("is gone for calls that wait: pipes, queues, locks, channels, ends of tasks and processes", async () => {
    await using kernel = await bootKernel();
    const { os } = kernel;
    await os.fs.makePipe("/srv/pipe");
    const target = await openChild(os);
    const caller = await processWith(kernel, ["self", "fs.*:/srv/**", "queue.*", "msg.*", "lock.*", "proc.wait"]);
    await os.call("lock", { path: "room", ttlMs: 60_000 });
    const task = await os.call("submit", { queue: "other", body: 1 });
    const waiting = [
      caller.call("receive", {}),
      caller.fs.pipe("/srv/pipe").read(),
      caller.call("claim", { queue: "q" }),
      caller.call("lock", { path: "room", ttlMs: 60_000 }),
      caller.call("channelRead", {}),
      caller.call("taskEnd", { id: task }),
      caller.wait(target.pid),
    ].map((call) => codeOf(() => call));
    await pause(10);
    for (const { grants } of await os.call("caps", { pid: caller.pid }))
      for (const { id } of grants) await os.call("revoke", { id });
    expect(await within(1000, Promise.all(waiting))).toEqual(waiting.map(() => "EACCES"));
    await os.fs.pipe("/srv/pipe").write("later");
    await os.call("submit", { queue: "q", body: "a secret" });
    await os.call("unlock", { path: "room" });
    await pause(5);
    expect(await os.fs.pipe("/srv/pipe").read({ waitMs: 0 })).toEqual(new TextEncoder().encode("later"));
    expect(await os.call("tasks", { queue: "q" })).toMatchObject([{ state: "pending" }]);
    expect(await os.call("locks", { path: "room" })).toEqual([]);
  });

  test("is gone when its time is over, or it is denied or narrowed; what one may still do waits on", async () => {
    await using kernel = await bootKernel();
    const { os } = kernel;
    await os.fs.makePipe("/srv/pipe");
    const read = (of: Os): Promise<string> => outcome(of.fs.pipe("/srv/pipe").read());
    const until = new Date(Date.now() + 60).toISOString();
    const late = read(await processWith(kernel, ["self", `fs.read:/srv/**; until=${until}`]));
    const both = read(await processWith(kernel, ["self", "fs.read:/srv/**", `fs.read:/srv/pipe; until=${until}`]));
    const denied = await processWith(kernel, ["self", "fs.*:/srv/**"]);
    const refused = read(denied);
    await os.call("grant", { pid: denied.pid, grants: ["deny fs.read:/srv/**"] });
    expect([await late, await refused]).toEqual(["EACCES", "EACCES"]);
    await os.fs.pipe("/srv/pipe").write("later");
    expect(await both).toBe("ok");
  });

  test("is gone when the last of several is over; what a service does meanwhile is not given up", async () => {
    const sell = async (): Promise<string> => {
      await pause(60);
      return "sold";
    };
    const contract = { name: "Desk", methods: { sell: { summary: "sells", input: {} } } };
    await using kernel = await bootKernel({ services: [{ name: "desk", contract, create: () => ({ sell }) }] });
    const { os } = kernel;
    const until = (ms: number): string => new Date(Date.now() + ms).toISOString();
    const grants = [`lock.acquire:/sys/locks/x; until=${until(50)}`, `lock.acquire:/sys/locks/*; until=${until(120)}`];
    const caller = await openChild(os, { grants: ["self", "service.call", ...grants] });
    await os.call("lock", { path: "x", ttlMs: 60_000 });
    const waiting = outcome(caller.call("lock", { path: "x", ttlMs: 60_000 }));
    const calling = outcome(caller.call("callService", { service: "desk", method: "sell", args: {} }));
    await pause(20);
    for (const { grants: held } of await os.call("caps", { pid: caller.pid }))
      for (const { id, grant } of held) if (grant.includes("service")) await os.call("revoke", { id });
    expect([await calling, await waiting]).toEqual(["ok", "EACCES"]);
  });
});

describe("an order that comes back to who gave it", () => {
  const told = (call: unknown): Promise<string> =>
    within(
      2000,
      codeOf(() => call),
    );

  test("a transition may move the same entity again", async () => {
    await using kernel = await bootKernel();
    const { os } = kernel;
    const exec = { path: "/proc/entities/order/1/transition", input: { to: "shipped" } };
    await os.call("defineEntity", {
      type: "order",
      initial: "new",
      transitions: [
        { from: "new", to: "paid", action: { exec } },
        { from: "paid", to: "shipped" },
        { from: "shipped", to: "returned" },
      ],
    });
    await os.call("createEntity", { type: "order", id: "1" });
    expect(await told(os.call("transition", { type: "order", id: "1", to: "paid" }))).toBe("ok");
    expect(await told(os.call("transition", { type: "order", id: "1", to: "returned" }))).toBe("ok");
  });

  test("two entities may move each other", async () => {
    await using kernel = await bootKernel();
    const { os } = kernel;
    for (const [type, other] of ["xy", "yx"]) {
      const action = { exec: { path: `/proc/entities/${other}/1/transition`, input: { to: "b" } } };
      const transitions = [
        { from: "a", to: "b", action },
        { from: ["a", "b"], to: "c" },
      ];
      await os.call("defineEntity", { type: type ?? "", initial: "a", transitions });
    }
    for (const type of ["x", "y"]) await os.call("createEntity", { type, id: "1" });
    expect(await told(os.call("transition", { type: "x", id: "1", to: "b" }))).toBe("ok");
    expect(await told(os.call("transition", { type: "y", id: "1", to: "c" }))).toBe("ok");
  });

  test("a schedule may be paused by what it does, and what that failed with is told", async () => {
    let id = 0;
    const call: Tool["call"] = async (_input, context) => {
      await (context.os as Os).call("setSchedule", { id, paused: true });
      throw new TypeError("nothing to do");
    };
    const check: Tool = { name: "check", description: "", inputSchema: {}, effect: "once", call };
    await using kernel = await bootKernel({ tools: [check] });
    kernel.activate();
    const { os } = kernel;
    ({ id } = await os.call("schedule", { everyMs: 20, action: { exec: { path: "/lib/tools/check", input: {} } } }));
    await expect
      .poll(async () => os.call("schedules", {}))
      .toMatchObject([{ isPaused: true, runs: 1, last: { error: { code: "EFAILED" } } }]);
    expect(await told(os.call("setSchedule", { id, paused: false }))).toBe("ok");
    await expect.poll(async () => (await os.call("schedules", {}))[0]?.runs).toBe(2);
  });
});

describe("a trigger that executes a path", () => {
  test("does not act on the transition that it has made, and two that move each other's come to an end", async () => {
    await using kernel = await bootKernel();
    kernel.activate();
    const { os } = kernel;
    await os.call("defineEntity", { type: "t", initial: "a", transitions: [{ from: "a", to: "a" }] });
    for (const id of ["1", "2", "3"]) await os.call("createEntity", { type: "t", id });
    const on = async (id: string, moves: string): Promise<unknown> =>
      os.call("trigger", {
        topic: "entity.transitioned",
        where: { id },
        action: { exec: { path: `/proc/entities/t/${moves}/transition`, input: { to: "a" } } },
      });
    for (const [id, moves] of ["11", "23", "32"]) await on(id ?? "", moves ?? "");
    const versionOf = async (id: string) => (await os.call("entity", { type: "t", id }))?.version ?? 0;
    await os.call("transition", { type: "t", id: "1", to: "a" });
    await os.call("transition", { type: "t", id: "2", to: "a" });
    await expect.poll(() => versionOf("1")).toBe(3);
    await pause(300);
    expect(await versionOf("1")).toBe(3);
    const versions = [await versionOf("2"), await versionOf("3")];
    expect(Math.max(...versions)).toBeLessThan(40);
    await pause(100);
    expect([await versionOf("2"), await versionOf("3")]).toEqual(versions);
  });

  test("does not act on the pipeline that it has started", async () => {
    let runs = 0;
    const plan = pipeline("again").node("once", () => ++runs);
    await using kernel = await bootKernel({ programs: [planProgram(plan.build())] });
    kernel.activate();
    const { os } = kernel;
    await os.call("trigger", { topic: "process.completed", action: { exec: { path: "/etc/pipelines/again" } } });
    await os.wait(await os.spawn(program("first", () => 1)));
    await expect.poll(() => runs).toBe(1);
    await pause(200);
    expect(runs).toBe(1);
  });
});

describe("a question of an earlier round", () => {
  test.each(["continueAsNew", "restart"] as const)("is not answered for a later one after %s", async (how) => {
    await using kernel = await bootKernel();
    kernel.activate();
    const { os } = kernel;
    let round = 0;
    const payer = program("payer", async (_input: unknown, ctx: RunContext): Promise<unknown> => {
      const amount = ++round === 1 ? 10 : 1000;
      const limit = round === 1 ? { timeoutMs: 200, otherwise: "no" } : {};
      const answer = ctx.ask("approve", `Pay ${amount}?`, { choices: ["yes", "no"], ...limit });
      answer.catch(() => undefined);
      if (round > 1) return `${amount}: ${await answer}`;
      // Nobody has answered in time: the round is given up.
      await ctx.sleep(10);
      if (how === "continueAsNew") return ctx.continueAsNew({});
      throw new Error("give up");
    });
    const restart = { policy: "on-failure", delayMs: 1, from: "start" } as const;
    const pid = await os.spawn(payer, how === "restart" ? { restart } : {});
    await expect.poll(async () => (await os.call("asks", {})).map(({ text }) => text)).toEqual(["Pay 1000?"]);
    await pause(250);
    const [asked] = await os.call("asks", {});
    await os.call("answer", { id: asked?.id ?? 0, verdict: "reply", value: "yes" });
    expect(await os.wait(pid)).toMatchObject({ result: "1000: yes" });
  });

  test("nor where a program that was upgraded asks something else", async () => {
    await using kernel = await bootKernel();
    const { os } = kernel;
    const payer = (amount: number) =>
      program(
        "payer",
        async (_input: unknown, ctx: RunContext) => `${amount}: ${String(await ctx.ask("pay", `Pay ${amount}?`))}`,
        { version: String(amount) },
      );
    const pid = await os.spawn(payer(10));
    await expect.poll(async () => (await os.call("asks", {})).length).toBe(1);
    await os.call("upgrade", { pid, program: payer(1000) });
    await expect.poll(async () => (await os.call("asks", {})).map(({ text }) => text)).toEqual(["Pay 1000?"]);
    const [asked] = await os.call("asks", {});
    await os.call("answer", { id: asked?.id ?? 0, verdict: "reply", value: "yes" });
    expect(await os.wait(pid)).toMatchObject({ result: "1000: yes" });
  });
});

test.each([
  ["what is left until a deadline", () => ({ timeoutMs: 600_000 - Math.floor(performance.now()) })],
  ["the same", () => ({ timeoutMs: 600_000 })],
])("a person's answer is taken by the next life where the time limit is %s", async (_what, limit) => {
  const job = program("job", (_input: unknown, ctx: RunContext) => ctx.ask("q", "Go on?", limit()));
  const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
  const first = await bootKernel({ store: store.life(), objects, programs: [job] });
  const pid = await first.os.spawn(job);
  await expect.poll(async () => (await first.os.call("asks", {})).length).toBe(1);
  await first.close();
  await using next = await bootKernel({ store: store.life(), objects, programs: [job] });
  await next.os.call("answer", { id: 1, verdict: "reply", value: "yes" });
  await next.os.resume(pid);
  expect(await next.os.wait(pid)).toMatchObject({ result: "yes" });
});

test.each(["applyView", "discardView"] as const)(
  "of %s and another go at the run only one happens at a time",
  async (how) => {
    for (const first of ["view", "resume"] as const)
      for (let ticks = 0; ticks < 40; ticks += 2) {
        await using kernel = await bootKernel();
        const { os } = kernel;
        await os.fs.writeFile("/srv/p/a", "1");
        let lives = 0;
        const agent = program("agent", async (_input: unknown, ctx: RunContext) => {
          if (++lives === 1) throw new Error("x");
          await pause(2);
          await ctx.os.fs.writeFile("/srv/p/b", "the second life");
        });
        const pid = await os.spawn(agent, { view: "/srv/p" });
        await os.wait(pid);
        const end = (): Promise<string> => codeOf(() => os.call(how, { pid }));
        const again = (): Promise<string> => codeOf(() => os.resume(pid, { again: true, program: agent }));
        const one = first === "view" ? end() : again();
        await microtasks(ticks);
        const codes = await Promise.all([one, first === "view" ? again() : end()]);
        expect(codes.filter((code) => code === "ok")).toHaveLength(1);
      }
  },
);

test("a twin that comes by a lock that its original holds is told so", async () => {
  await using kernel = await bootKernel();
  const { os } = kernel;
  const worker = program("worker", async (_input: unknown, ctx: RunContext) => {
    const { fence } = await ctx.os.call("lock", { path: "room", ttlMs: 60_000, place: "lock" });
    await ctx.os.fs.append("/srv/out", `${ctx.pid} `, { fence });
    await ctx.receive("never");
  });
  const pid = await os.spawn(worker);
  await pause(20);
  const twin = await os.call("clone", { pid });
  expect(await os.wait(twin)).toMatchObject({ error: { code: "ESTALE" } });
  expect(await os.fs.readText("/srv/out")).toBe(`${pid} `);
  expect((await os.call("locks", { path: "room" }))[0]?.holders).toMatchObject([{ pid }]);
});

test("bytes that were given are their caller's again, of whatever kind they are", async () => {
  await using kernel = await bootKernel();
  const { os } = kernel;
  const text = (bytes: Uint8Array | null | undefined): string => Buffer.from(bytes ?? []).toString();
  const given = (): Buffer => Buffer.from("as it was");
  await os.fs.makePipe("/srv/pipe");
  for (const [path, isVolatile] of [
    ["/srv/volatile", true],
    ["/srv/durable", false],
  ] as const) {
    await os.fs.makeStream(path, { isVolatile });
    const entry = given();
    await os.fs.stream(path).append([entry]);
    entry.fill(0);
    for await (const { bytes } of os.fs.stream(path).read()) bytes.fill(0);
    for await (const { bytes } of os.fs.stream(path).read()) expect([path, text(bytes)]).toEqual([path, "as it was"]);
  }
  const piece = given();
  await os.fs.pipe("/srv/pipe").write(piece);
  piece.fill(0);
  expect(text(await os.fs.pipe("/srv/pipe").read())).toBe("as it was");
  const content = given();
  const id = await os.content.write(content);
  content.fill(0);
  expect(text(await os.content.read(id))).toBe("as it was");
  // What a person is asked about is what is written then.
  const caller = await openChild(os, { grants: ["self", "ask fs.write:/srv/asked", "fs.stat"] });
  await os.fs.writeFile("/srv/asked", "");
  const changed = given();
  const writing = caller.fs.write("/srv/asked", changed, { offset: 0 });
  await expect.poll(async () => (await os.call("asks", {})).length).toBe(1);
  changed.fill(0);
  await os.call("answer", { id: 1, verdict: "allow" });
  await writing;
  expect(await os.fs.readText("/srv/asked")).toBe("as it was");
});
