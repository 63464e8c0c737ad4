// Orders of the kernel's own against what happens at the same time: triggers, schedules, queues and entities.

import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { createCalendar } from "@ergos/drivers/calendar";
import { type Happening, type Kernel, type Pid } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LastingStore, bootKernel, openProgram, processWith } from "../../kernel/test/kernel-fixture.ts";

const inputs: unknown[] = [];
const note = program("note", async (input: unknown, ctx: RunContext) => {
  await ctx.step("note", () => inputs.push(input));
});
/** A store whose commits take a while, so that others come in between. */
class SlowStore extends MemoryMetastore {
  override async commit(batch: Parameters<MemoryMetastore["commit"]>[0]): ReturnType<MemoryMetastore["commit"]> {
    const receipt = await super.commit(batch);
    await ms(3);
    return receipt;
  }
}
const ms = (count: number): Promise<void> => new Promise((go) => setTimeout(go, count));
const failing = async (call: () => unknown): Promise<unknown> => call();
const until = async (isSo: () => boolean): Promise<void> => {
  for (let tries = 0; tries < 1000 && !isSo(); tries++) await ms(1);
};
const boot = (parts: Parameters<typeof bootKernel>[0] = {}): Promise<Kernel> =>
  bootKernel({ programs: [note], calendar: createCalendar(), ...parts });

let kernel: Kernel;
beforeEach(async () => {
  inputs.length = 0;
  kernel = await boot();
  kernel.activate();
});
afterEach(() => kernel.close());
const starting = { spawn: { program: "note" } };

describe("a trigger", () => {
  test("whose process ends at the same time holds up nobody", async () => {
    const slow = await boot({ store: new SlowStore() });
    slow.activate();
    const short = program("short", async (_input: unknown, ctx: RunContext) => {
      await ctx.subscribe("s", "x");
      return 1;
    });
    const pids: Pid[] = [];
    for (let at = 0; at < 10; at++) {
      pids.push(await slow.os.spawn(short));
      await slow.os.call("publish", { topic: "x" });
    }
    const ended = Promise.all(pids.map((pid) => slow.os.wait(pid)));
    expect(await Promise.race([ended, ms(5000)])).toHaveLength(10);
    await slow.close();
  });

  test("does not act on its own events and messages, and not on what was before it", async () => {
    const { program: open, context } = openProgram();
    await kernel.os.spawn(open);
    const { os } = await context;
    await kernel.os.call("publish", { topic: "x", body: "old" });
    await os.call("trigger", { topic: "**", action: { message: { to: os.pid } } });
    await kernel.os.call("trigger", { topic: "trigger.failed", action: { spawn: { program: "nobody" } } });
    await kernel.os.call("trigger", { topic: "x", action: { spawn: { program: "nobody" } } });
    await kernel.os.call("publish", { topic: "x", body: "new" });
    await ms(100);
    const bodies = kernel.host.post.waiting(os.pid).map(({ body }) => (body as Happening).topic);
    expect(bodies.filter((topic) => topic === "x")).toHaveLength(1);
    expect(bodies).not.toContain("message.sent");
    expect(bodies.length).toBeLessThan(10);
    expect(kernel.host.triggers.all.map(({ runs }) => runs).slice(1)).toEqual([1, 1]);
  });

  test("of another's topic and back again leaves room for the rest, and is held up", async () => {
    const echo = (to: string) => program(`to ${to}`, (_input: unknown, ctx: RunContext) => ctx.publish("p", to));
    const both = await boot({ programs: [echo("a"), echo("b")] });
    both.activate();
    await both.os.call("trigger", { topic: "a", action: { spawn: { program: "to b" } } });
    await both.os.call("trigger", { topic: "b", action: { spawn: { program: "to a" } } });
    await both.os.call("publish", { topic: "a" });
    const started = performance.now();
    await ms(50);
    expect(performance.now() - started).toBeLessThan(1000);
    for (const { id } of both.host.triggers.all) await both.os.call("untrigger", { id });
    await both.close();
  });

  test("that was quiet for long goes on with what is still kept", async () => {
    const store = new LastingStore();
    const objects = new MemoryObjectStore();
    const first = await boot({ store: store.life(), objects });
    await first.os.call("trigger", { topic: "orders", action: starting });
    for (let at = 0; at < 3000; at++) await first.host.store.commit({ puts: [{ key: "x", value: String(at) }] });
    const through = first.host.store.seq;
    await first.os.call("publish", { topic: "orders", body: "kept" });
    await first.host.store.commit({ trims: [{ log: "events", through }] });
    const next = await boot({ store: store.life(), objects });
    next.activate();
    await until(() => inputs.length > 0);
    expect(inputs).toMatchObject([{ body: "kept" }]);
    await next.close();
  });

  test("takes no subscription that breaks the calls of others", async () => {
    expect(() => kernel.os.events({ where: null as never })).toThrow(/EINVAL/);
    await kernel.os.call("publish", { topic: "x" });
  });
});

describe("a schedule", () => {
  test("that is removed or paused while it acts stays so", async () => {
    const slow = await boot({ store: new SlowStore() });
    slow.activate();
    for (let round = 0; round < 12; round++) {
      const { id } = await slow.os.call("schedule", { everyMs: 8, overlap: "allow", action: starting });
      await ms(round);
      if (round % 2 === 0) await slow.os.call("unschedule", { id });
      else await slow.os.call("setSchedule", { id, paused: true });
      await ms(25);
      if (round % 2 === 0) continue;
      expect(slow.host.schedules.get(id)?.isPaused).toBe(true);
      const { runs } = slow.host.schedules.get(id) ?? { runs: -1 };
      await ms(20);
      expect(slow.host.schedules.get(id)?.runs).toBe(runs);
      await Promise.allSettled([
        slow.os.call("unschedule", { id }),
        failing(() => slow.os.call("setSchedule", { id, paused: false })),
      ]);
    }
    expect(await slow.host.store.scan({ from: "sc/", to: "sc0" }, { limit: 10 })).toEqual([]);
    await slow.close();
  });

  test("keeps its next instant when it is resumed before that, and can be removed while its process is stopped", async () => {
    const made = await kernel.os.call("schedule", { cron: "0 7 * * *", action: starting });
    await kernel.os.call("setSchedule", { id: made.id, paused: true });
    expect((await kernel.os.call("setSchedule", { id: made.id, paused: false })).next).toBe(made.next);

    const { program: open, context } = openProgram();
    const pid = await kernel.os.spawn(open);
    const { id } = await (await context).os.call("schedule", { everyMs: 5, action: starting });
    await kernel.os.kill(pid, "STOP");
    await ms(20);
    await kernel.os.call("unschedule", { id });
    await kernel.os.kill(pid, "CONT");
    await ms(20);
    expect(kernel.host.schedules.get(id)).toBeUndefined();
    expect(await kernel.host.store.scan({ from: "sc/", to: "sc0" }, { limit: 10 })).toHaveLength(1);
  });

  test("is made again by a program that is run from its start", async () => {
    let lives = 0;
    const shaky = program("shaky", async (_input: unknown, ctx: RunContext) => {
      await ctx.schedule("tick", { everyMs: 100_000, action: starting });
      await ctx.subscribe("s", "x");
      if (lives++ === 0) throw new Error("x");
      return kernel.host.triggers.all.length;
    });
    const pid = await kernel.os.spawn(shaky, { restart: { policy: "on-failure", from: "start", delayMs: 1 } });
    expect(await kernel.os.wait(pid)).toMatchObject({ code: 0, result: 1 });
  });
});

describe("an action", () => {
  test("is no step: with a place it is refused", async () => {
    for (const action of [{ spawn: { program: "note", place: "p" } }, { message: { to: 1, place: "p" } }])
      await expect(failing(() => kernel.os.call("trigger", { topic: "x", action }))).rejects.toMatchObject({
        code: "EINVAL",
      });
  });

  test("of an entity is declared by those alone whom everybody trusts with it", async () => {
    const mean = await processWith(kernel, ["self", "entity.define:order"]);
    const transitions = [{ from: "new", to: "paid", action: starting }];
    await expect(
      failing(() => mean.call("defineEntity", { type: "order", initial: "new", transitions })),
    ).rejects.toMatchObject({ code: "EACCES" });
    await mean.call("defineEntity", { type: "order", initial: "new", transitions: [{ from: "new", to: "paid" }] });
  });
});

describe("a queue", () => {
  test("wakes as many as there are tasks", async () => {
    const claims: Promise<unknown>[] = [];
    for (let at = 0; at < 2; at++) {
      const { program: open, context } = openProgram();
      await kernel.os.spawn(open);
      const { os } = await context;
      claims.push(failing(() => os.call("claim", { queue: "w", waitMs: 3000 })));
    }
    await ms(10);
    const started = performance.now();
    await Promise.all([1, 2].map((body) => kernel.os.call("submit", { queue: "w", body })));
    expect((await Promise.all(claims)).every((task) => task !== null)).toBe(true);
    expect(performance.now() - started).toBeLessThan(1500);
  });

  test("fails a task at its deadline, whether or not anybody claims", async () => {
    const id = await kernel.os.call("submit", { queue: "w", body: 1, deadlineMs: 20 });
    expect(await kernel.os.call("taskEnd", { id })).toMatchObject({ state: "failed", error: { code: "ETIMEDOUT" } });
  });

  test("has a failed task done once by a worker that is resumed", async () => {
    const store = new LastingStore();
    const objects = new MemoryObjectStore();
    const done: unknown[] = [];
    const worker = program("worker", (_input: unknown, ctx: RunContext) =>
      ctx.work("q", (body) => {
        done.push(body);
        throw new Error("no");
      }),
    );
    const first = await boot({ store: store.life(), objects, programs: [worker] });
    const id = await first.os.call("submit", { queue: "q", body: "bad", attemptsMax: 1 });
    const pid = await first.os.spawn(worker);
    await first.os.call("taskEnd", { id });
    const next = await boot({ store: store.life(), objects, programs: [worker] });
    await next.os.resume(pid);
    await ms(30);
    expect(done).toEqual(["bad"]);
    await next.close();
  });
});

test("secrets are not kept in tasks, entities, schedules, triggers and locks", async () => {
  const secret = "sk-planted-0123456789abcdef";
  kernel.host.vault.learn(secret);
  const id = await kernel.os.call("submit", { queue: "w", body: secret });
  const { program: open, context } = openProgram();
  await kernel.os.spawn(open);
  const { os } = await context;
  await os.call("claim", { queue: "w" });
  await os.call("fail", { id, error: { code: "EFAILED", message: `key ${secret}` }, again: false });
  await kernel.os.call("defineEntity", { type: "t", initial: "a", transitions: [{ from: "a", to: "b" }] });
  await kernel.os.call("createEntity", { type: "t", id: "1", data: { key: secret } });
  await kernel.os.call("transition", { type: "t", id: "1", to: "b", why: secret, data: { other: secret } });
  await kernel.os.call("schedule", { inMs: 1e6, action: { spawn: { program: "note", input: secret } } });
  await kernel.os.call("trigger", { topic: "x", action: { spawn: { program: "note", input: secret } } });
  await os.call("lock", { path: "/srv/l", owner: secret, ttlMs: 1e6 });
  const all = await kernel.host.store.scan({ from: "\u0001", to: "\uD7FF" }, { limit: 10_000 });
  expect(all.filter(({ value }) => String(value).includes(secret)).map(({ key }) => key)).toEqual([]);
  expect(JSON.stringify(await kernel.os.call("entityHistory", { type: "t", id: "1" }))).not.toContain(secret);
  expect(JSON.stringify(await kernel.os.call("tasks", {}))).not.toContain(secret);
  expect(JSON.stringify(await kernel.os.call("locks", {}))).not.toContain(secret);
  expect(JSON.stringify(await kernel.os.fs.stat("/srv/l", { lock: true }).catch(String))).not.toContain(secret);
});
