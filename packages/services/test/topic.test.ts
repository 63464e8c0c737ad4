// Topics, subscriptions and triggers: what happens, and what is done about it, over hosts that die.

import { MemoryObjectStore } from "@ergos/drivers/memory";
import {
  type Happening,
  type Kernel,
  type KernelEvent,
  LIMITS,
  type Message,
  type Pid,
  type TriggerRequest,
  toSeq,
} from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { LastingStore, bootKernel, openProgram } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
const inputs: Happening[] = [];
const note = program("note", async (input: Happening, ctx: RunContext) => {
  await ctx.step("note", () => inputs.push(input));
});
const fails = program("fails", () => Promise.reject(new Error("no")));
beforeEach(async () => {
  inputs.length = 0;
  kernel = await bootKernel({ programs: [note, fails] });
  kernel.activate();
});
afterEach(() => kernel.close());

const failing = async (call: () => unknown): Promise<unknown> => call();
const publish = async (topic: string, body?: unknown, of = kernel) => of.os.call("publish", { topic, body });
const trigger = async (request: TriggerRequest, of = kernel) => of.os.call("trigger", request);
const starting = { spawn: { program: "note" } };
const until = async (isSo: () => boolean): Promise<void> => {
  for (let tries = 0; tries < 2000 && !isSo(); tries++) await new Promise((go) => setTimeout(go, 1));
};
const settled = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn++) await new Promise((go) => setTimeout(go, 1));
};
async function take(events: AsyncGenerator<KernelEvent, void, undefined>, count: number): Promise<readonly unknown[]> {
  const out: unknown[] = [];
  for await (const { data } of events) if (out.push(data["body"]) === count) break;
  return out;
}

describe("what has no room", () => {
  test("waits until it has: a trigger and a schedule start in a full group when somebody has left it", async () => {
    const gates: (() => void)[] = [];
    const stays = program("stays", () => new Promise<void>((go) => void gates.push(go)));
    await kernel.close();
    kernel = await bootKernel({ programs: [stays, note] });
    kernel.activate();
    await kernel.os.call("setGroup", { group: "g", processes: 1 });
    const { program: open, context } = openProgram();
    await kernel.os.spawn(open);
    const { os } = await context;
    const inGroup = { spawn: { program: "stays", group: "g" } };
    await os.call("trigger", { name: "each", topic: "work", action: inGroup });
    for (let one = 0; one < 3; one++) await publish("work", one);
    await until(() => gates.length === 1);
    const failures = async (): Promise<readonly string[]> =>
      (await kernel.os.call("errors", {})).map(({ program: of, code }) => `${of} ${code}`);
    for (let tries = 0; tries < 500 && (await failures()).length === 0; tries++) await settled();
    expect(await failures()).toEqual(["trigger each EAGAIN"]);
    await os.call("schedule", { name: "once", inMs: 1, action: inGroup });
    for (let started = 1; started < 4; started++) {
      gates[started - 1]?.();
      await vi.waitFor(() => expect(gates).toHaveLength(started + 1), 8000);
    }
    gates[3]?.();
    await vi.waitFor(async () => expect(await kernel.os.call("schedules", {})).toEqual([]), 4000);
  }, 30_000);
});

describe("an alert", () => {
  test("is raised as long as enough has happened in its window", async () => {
    await trigger({ name: "al", topic: "bad", threshold: { count: 2, withinMs: 80 }, action: starting });
    await publish("bad");
    await publish("bad");
    const isRaised = async (): Promise<boolean | undefined> => (await kernel.os.call("triggers", {}))[0]?.isRaised;
    await vi.waitFor(async () => expect(await isRaised()).toBe(true));
    await vi.waitFor(async () => expect(await isRaised()).toBe(false));
  });
});

describe("subscriptions", () => {
  test("that overflow name a position behind which nothing is lost", async () => {
    const names = ["entity.created", "entity.transitioned", "process.started"] as const;
    await kernel.os.call("defineEntity", {
      type: "job",
      initial: "new",
      transitions: [{ from: "new", to: "run", action: { spawn: { program: "note" } } }],
    });
    const from = kernel.host.store.seq;
    const narrow = kernel.os.events({ names, buffer: 2 });
    await kernel.os.call("createEntity", { type: "job", id: "1" });
    await kernel.os.call("transition", { type: "job", id: "1", to: "run" });
    const seen: string[] = [];
    let after = from;
    const failure: unknown = await (async () => {
      for await (const event of narrow) {
        seen.push(event.name);
        after = event.seq ?? after;
      }
    })().catch((error: unknown) => error);
    const [, named = ""] = /subscribe again after (\d+)/.exec(String(failure)) ?? [];
    expect(Number(named)).toBe(after);
    for await (const event of kernel.os.events({ names, after: toSeq(Number(named)) })) {
      seen.push(event.name);
      if (seen.length === 3) break;
    }
    expect(seen.toSorted()).toEqual(names.toSorted());
  });

  test("match topics by pattern and by fields, live and from a position on", async () => {
    const from = kernel.host.store.seq;
    const live = kernel.os.events({ topics: ["orders.*"], where: { "customer.tier": 1 } });
    await publish("orders.created", { number: 1, customer: { tier: 1 } });
    await publish("orders.created", { number: 2, customer: { tier: 2 } });
    await publish("orders.paid.late", { number: 3, customer: { tier: 1 } });
    await publish("orders.paid", { number: 4, customer: { tier: 1 } });
    const wanted = [expect.objectContaining({ number: 1 }), expect.objectContaining({ number: 4 })];
    expect(await take(live, 2)).toEqual(wanted);
    expect(
      await take(kernel.os.events({ topics: ["orders.*"], where: { "customer.tier": 1 }, after: from }), 2),
    ).toEqual(wanted);
    expect(await take(kernel.os.events({ topics: ["orders.**"], after: from }), 4)).toHaveLength(4);
    expect(await take(kernel.os.events({ topics: ["process.started", "*.paid"], after: from }), 1)).toHaveLength(1);
  });

  test("a reader that is too slow ends, or loses the newest or the oldest, as it has said", async () => {
    const read = async (overflow: "error" | "drop" | "drop-oldest") => {
      const events = kernel.os.events({ topics: ["n"], buffer: 3, overflow });
      for (let number = 0; number < 6; number++) await publish("n", number);
      return take(events, 3).catch((error: unknown) => error);
    };
    const before = kernel.host.bus.counters.dropped;
    expect(await read("drop")).toEqual([0, 1, 2]);
    expect(await read("drop-oldest")).toEqual([3, 4, 5]);
    expect(kernel.host.bus.counters.dropped - before).toBe(6);
    const gap = kernel.os.events({ topics: ["n"], buffer: 3, overflow: "error" });
    for (let number = 0; number < 6; number++) await publish("n", number);
    await expect(take(gap, 6)).rejects.toMatchObject({
      code: "EAGAIN",
      message: expect.stringContaining("after") as unknown,
    });
  });

  test("one that never reads holds up nobody", async () => {
    const never = kernel.os.events({ topics: ["n"] });
    for (let number = 0; number <= LIMITS.subscriberBufferMax; number++)
      kernel.host.bus.publish({ name: "topic.published", pid: 1 as Pid, data: { topic: "n" } });
    const live = kernel.os.events({ topics: ["n"] });
    await publish("n", "heard");
    expect(await take(live, 1)).toEqual(["heard"]);
    await never.return();
  });

  test.each(["", "Orders created", "orders..created", ".orders", "orders.", "process.started", "x".repeat(256)])(
    "nobody publishes %j",
    async (topic) => {
      await expect(failing(() => publish(topic))).rejects.toMatchObject({ code: "EINVAL" });
    },
  );

  test("nobody publishes more than it holds, and no pattern is none", async () => {
    await expect(failing(() => publish("big", "x".repeat(70_000)))).rejects.toMatchObject({ code: "E2BIG" });
    expect(() => kernel.os.events({ topics: ["orders.c*"] })).toThrow(/no pattern/);
    await expect(trigger({ topic: "a b", action: starting })).rejects.toMatchObject({ code: "EINVAL" });
    await expect(trigger({ topic: "a", action: {} })).rejects.toMatchObject({ code: "EINVAL" });
  });
});

describe("triggers", () => {
  test("one run starts another when it completes, with what has happened as its input", async () => {
    await trigger({ topic: "process.completed", where: { name: "first" }, action: starting });
    const first = await kernel.os.spawn(program("first", () => 1));
    await kernel.os.wait(await kernel.os.spawn(program("second", () => 1)));
    await until(() => inputs.length > 0);
    await settled();
    expect(inputs).toMatchObject([{ topic: "process.completed", pid: first, body: { name: "first" } }]);
    const started = (await kernel.os.ps({ all: true })).find(({ name }) => name === "note");
    expect(started).toMatchObject({ ppid: 1, cause: "trigger 1" });
  });

  test("send messages, wake sleepers, and end after as many times as wanted", async () => {
    const { program: open, context } = openProgram();
    await kernel.os.spawn(open);
    const { os } = await context;
    await trigger({ topic: "t", times: 2, action: { message: { to: os.pid, kind: "task" } } });
    await trigger({ topic: "t", action: { message: { to: os.pid, body: "fixed" } }, times: 1 });
    const sleeper = program("sleeper", async (_input: unknown, ctx: RunContext) => {
      await ctx.hibernate("night");
      return "awake";
    });
    const pid = await kernel.os.spawn(sleeper);
    await trigger({ topic: "morning", action: { wake: pid } });
    await until(() => kernel.host.processes.get(pid)?.sleep !== undefined);
    for (const body of [1, 2, 3]) await publish("t", body);
    await publish("morning");
    expect((await kernel.os.wait(pid)).result).toBe("awake");
    await settled();
    const got: unknown[] = [];
    for (
      let message = await os.call("receive", { waitMs: 0 });
      message !== null;
      message = await os.call("receive", { waitMs: 0 })
    )
      got.push(message.kind === "task" ? (message.body as Happening).body : message.body);
    expect(new Set(got)).toEqual(new Set([1, 2, "fixed"]));
    expect(got).toHaveLength(3);
    expect(await kernel.os.call("triggers", {})).toHaveLength(1);
  });

  test("do not act on what they have caused themselves", async () => {
    await trigger({ topic: "process.completed", action: starting });
    await kernel.os.wait(await kernel.os.spawn(program("once", () => 1)));
    await until(() => inputs.length > 0);
    await settled();
    expect(inputs).toHaveLength(1);
  });

  test("that set each other off come to an end", async () => {
    const seen: string[] = [];
    const echo = (to: string) =>
      program(`to-${to}`, async (_input: unknown, ctx: RunContext) => {
        seen.push(to);
        await ctx.publish("say", to);
      });
    const own = await bootKernel({ programs: [echo("ping"), echo("pong")] });
    own.activate();
    const failed: KernelEvent[] = [];
    own.host.bus.observe({ names: ["trigger.failed"] }, (event) => failed.push(event));
    await own.os.call("trigger", { topic: "ping", action: { spawn: { program: "to-pong" } } });
    await own.os.call("trigger", { topic: "pong", action: { spawn: { program: "to-ping" } } });
    await own.os.call("publish", { topic: "ping" });
    await expect.poll(() => failed.length, { timeout: 10_000 }).toBe(1);
    expect(seen).toHaveLength(32);
    expect(failed[0]?.data["error"]).toMatchObject({ code: "ELOOP" });
    await own.close();
  });

  test("act as who made them, tell what fails, and end with it", async () => {
    const { program: open, context } = openProgram();
    const pid = await kernel.os.spawn(open, { grants: ["self", "trigger.*", "event.subscribe", "proc.spawn:note"] });
    const { os } = await context;
    await os.call("trigger", { topic: "a", action: starting });
    await os.call("trigger", { topic: "a", name: "other", action: { message: { to: 1 } } });
    await expect(
      failing(() => os.call("trigger", { topic: "b", name: "other", action: starting })),
    ).rejects.toMatchObject({ code: "EEXIST" });
    await publish("a");
    await until(() => inputs.length > 0);
    await settled();
    expect(JSON.parse(await kernel.os.fs.readText("/sys/triggers/2"))).toMatchObject({
      runs: 1,
      last: { error: { code: "EACCES" } },
    });
    await kernel.os.kill(pid);
    await publish("a");
    await settled();
    expect(inputs).toHaveLength(1);
    expect(await kernel.os.call("triggers", {})).toEqual([]);
    await expect(failing(() => kernel.os.call("untrigger", { id: 1 }))).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("of an alert act when events become too many, and again only after there were fewer", async () => {
    await trigger({ topic: "bad", threshold: { count: 3, withinMs: 800 }, action: starting });
    const burst = async (count: number): Promise<void> => {
      for (let at = 0; at < count; at++) await publish("bad", at);
      await settled();
    };
    await burst(2);
    expect(inputs).toHaveLength(0);
    await burst(1);
    expect(inputs).toMatchObject([{ topic: "bad" }]);
    await burst(5);
    expect(inputs).toHaveLength(1);
    expect(kernel.host.triggers.all[0]).toMatchObject({ isRaised: true, runs: 1 });
    await new Promise((go) => setTimeout(go, 900));
    await burst(1);
    expect(kernel.host.triggers.all[0]?.isRaised).toBe(false);
    await burst(3);
    expect(inputs).toHaveLength(2);
  });

  test("go on behind what is no longer kept", async () => {
    const store = new LastingStore();
    const objects = new MemoryObjectStore();
    const first = await bootKernel({ store: store.life(), objects, programs: [note] });
    await trigger({ topic: "t", action: starting }, first);
    await publish("t", 1, first);
    await first.host.committer.commit({ trims: [{ log: "events", through: first.host.store.seq }] });
    const next = await bootKernel({ store: store.life(), objects, programs: [note] });
    const missed = take(next.os.events({ names: ["trigger.missed"] }), 1);
    next.activate();
    await missed;
    await publish("t", 2, next);
    await until(() => inputs.length > 0);
    expect(inputs).toMatchObject([{ body: 2 }]);
    await next.close();
  });
});

test("a program hears each happening once, wherever the host ends, and what it publishes is published once", async () => {
  let checked = 0;
  for (let cut = 4; cut < 26; cut++) {
    const store = new LastingStore();
    const objects = new MemoryObjectStore();
    const counter = program("counter", async (_input: unknown, ctx: RunContext) => {
      await ctx.subscribe("ticks", "tick.*");
      await ctx.publish("ready", "counter.ready");
      const got: unknown[] = [];
      for (let at = 0; at < 4; at++) got.push(((await ctx.receive(`tick ${at}`)) as Message).body);
      return got.map((happening) => (happening as Happening).body);
    });
    const source = program("source", async (_input: unknown, ctx: RunContext) => {
      for (let at = 0; at < 4; at++) await ctx.publish(`tick ${at}`, "tick.tock", at);
    });
    const programs = [counter, source];
    const first = store.life(cut);
    const host = await bootKernel({ store: first, objects, programs });
    host.activate();
    await Promise.race([
      trigger({ topic: "counter.ready", action: { spawn: { program: "source" } } }, host),
      first.died,
    ]);
    const pid = await Promise.race([host.os.spawn(counter), first.died]);
    if (pid !== undefined) await Promise.race([host.os.wait(pid), first.died, settled()]);
    const next = await bootKernel({ store: store.life(), objects, programs });
    next.activate();
    for (const one of await next.os.ps())
      if (one.state === "sleeping") await next.os.resume(one.pid).catch(() => undefined);
    if (pid === undefined || (await next.os.call("triggers", {})).length === 0) continue;
    expect(await next.os.wait(pid)).toMatchObject({ code: 0, result: [0, 1, 2, 3] });
    const from = 0 as never;
    expect(await take(next.os.events({ topics: ["tick.*"], after: from }), 4)).toEqual([0, 1, 2, 3]);
    const all = await next.os.ps({ all: true });
    expect(all.filter(({ name }) => name === "source")).toHaveLength(1);
    checked++;
    await next.close();
  }
  expect(checked).toBeGreaterThan(15);
});

test("patterns match as a reference that walks them does", () => {
  const name = fc.constantFrom("a", "b", "c");
  const reference = (pattern: readonly string[], topic: readonly string[]): boolean => {
    const [first, ...rest] = pattern;
    if (first === undefined) return topic.length === 0;
    if (first === "**") return reference(rest, topic) || (topic.length > 0 && reference(pattern, topic.slice(1)));
    return topic.length > 0 && (first === "*" || first === topic[0]) && reference(rest, topic.slice(1));
  };
  const seen: string[] = [];
  fc.assert(
    fc.property(
      fc.array(fc.oneof(name, fc.constantFrom("*", "**")), { minLength: 1, maxLength: 5 }),
      fc.array(name, { minLength: 1, maxLength: 6 }),
      (pattern, topic) => {
        let isHeard = false;
        const stop = kernel.host.bus.observe({ topics: [pattern.join(".")] }, () => (isHeard = true));
        kernel.host.bus.publish({ name: "topic.published", pid: 1 as Pid, data: { topic: topic.join(".") } });
        stop();
        seen.push(String(isHeard));
        expect(isHeard).toBe(reference(pattern, topic));
      },
    ),
    { numRuns: 2000 },
  );
  expect(new Set(seen).size).toBe(2);
});

test("errors that are the same but for numbers and names are one, with their newest processes", async () => {
  const odd = program("odd", (number: number) => Promise.reject(new Error(`record ${number} of "${number}x" is odd`)));
  const pids: Pid[] = [];
  for (let number = 1; number < 8; number++) pids.push(await kernel.os.spawn(odd, { input: number }));
  for (const pid of pids) await kernel.os.wait(pid);
  await kernel.os.wait(await kernel.os.spawn(fails));
  const groups = await kernel.os.call("errors", {});
  expect(groups).toMatchObject([
    { code: "EFAILED", program: "fails", count: 1, category: "agent" },
    {
      code: "EFAILED",
      program: "odd",
      count: 7,
      message: '[EFAILED] record 7 of "7x" is odd',
      pids: pids.slice(2).toReversed(),
    },
  ]);
  expect(await kernel.os.call("errors", { program: "odd" })).toHaveLength(1);
  expect(await kernel.os.call("errors", { since: Date.now() + 1000 })).toEqual([]);
  expect(JSON.parse(await kernel.os.fs.readText("/sys/errors"))).toHaveLength(2);
});

test("what follows from one beginning has one id over processes, errors and triggers", async () => {
  const child = program("child", () => Promise.reject(new Error("no")));
  const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
    const pid = await ctx.spawn("child", child);
    await ctx.wait("end", pid);
  });
  await trigger({ topic: "process.failed", where: { name: "child" }, action: starting });
  const pid = await kernel.os.spawn(parent, { correlation: "request/9" });
  const { error } = await kernel.os.wait(pid);
  await until(() => inputs.length > 0);
  const all = await kernel.os.ps({ all: true, correlation: "request/9" });

  expect(error?.correlationId).toBe("request/9");
  expect(all.map(({ name }) => name).toSorted()).toEqual(["child", "note", "parent"]);
  const alone = await kernel.os.spawn(fails);
  const exit = await kernel.os.wait(alone);
  expect(exit.error?.correlationId).toBe((await kernel.os.ps({ pids: [alone] }))[0]?.runId);
});
