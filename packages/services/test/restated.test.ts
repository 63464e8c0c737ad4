// What processes may expect of each other: behaviours of the designs that this unifies, in our words.

import { createCalendar } from "@ergos/drivers/calendar";
import { MemoryObjectStore } from "@ergos/drivers/memory";
import { type Kernel, LIMITS, type Os, type Pid } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import {
  LastingStore,
  bootKernel,
  codeOf,
  openChild,
  openProgram,
  pause,
  within,
} from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
let os: Os;
beforeEach(async () => {
  kernel = await bootKernel({ calendar: createCalendar() });
  kernel.activate();
  ({ os } = kernel);
});
afterEach(() => kernel.close());
const stateOf = async (pid: Pid): Promise<string | undefined> => (await os.ps({ pids: [pid] }))[0]?.state;

describe("asking and answering", () => {
  test("a server lives on when whoever has asked is gone, or cannot take the answer", async () => {
    const seen: unknown[] = [];
    const server = program("server", (_input: unknown, ctx: RunContext) =>
      ctx.serve(async (task) => {
        seen.push(task);
        await pause(20);
        return task;
      }),
    );
    const pid = await os.spawn(server);
    const gone = await openChild(os);
    await gone.call("send", { to: pid, kind: "task", body: "one" });
    await pause(5);
    await os.kill(gone.pid, "KILL");
    const full = await openChild(os);
    for (let sent = 0; sent < LIMITS.mailboxMax; sent++) await os.call("send", { to: full.pid, body: 0 });
    await full.call("send", { to: pid, kind: "task", body: "two" });
    const asked = program("asker", (_input: unknown, ctx: RunContext) => ctx.executeOn("three", pid, "three"));

    expect(await os.wait(await os.spawn(asked))).toMatchObject({ result: "three" });
    expect(seen).toEqual(["one", "two", "three"]);
  });

  test("only who has a question answers it: nobody guesses which it is", async () => {
    const [asker, asked, other] = [await openChild(os), await openChild(os), await openChild(os)];
    const reply = asker.call("request", { to: asked.pid, body: "?", timeoutMs: 2000 });
    const question = await asked.call("receive", {});
    const answer = { to: asker.pid, kind: "reply", replyTo: question?.id ?? "" } as const;

    // As far as another knows how its own letters are named.
    const { id: own } = await other.call("send", { to: asked.pid, body: "of its own" });
    const [epoch = "", , mark = ""] = own.split("-");
    for (const guess of [`${epoch}-1`, `${epoch}-1-${mark}`, `${epoch}-1-0`])
      await other.call("send", { ...answer, replyTo: guess, body: "forged" });
    await asked.call("send", { ...answer, body: "true" });

    expect(await reply).toMatchObject({ from: asked.pid, body: "true" });
  });

  test("whoever waits for a letter of a process hears of its end, behind what that has sent before", async () => {
    const [asker, asked] = [await openChild(os), await openChild(os)];
    const waiting = codeOf(async () => asker.call("request", { to: asked.pid, body: "?", timeoutMs: 5000 }));
    await pause(5);
    await asked.call("send", { to: asker.pid, body: "last words" });
    await os.kill(asked.pid, "KILL");

    expect(await within(1000, waiting)).toBe("ESRCH");
    expect(await asker.call("receive", { from: asked.pid })).toMatchObject({ body: "last words" });
    expect(await codeOf(async () => asker.call("receive", { from: asked.pid }))).toBe("ESRCH");
  });

  test("an answer of whom a process has gone into is an answer of its own", async () => {
    const [asker, asked, into] = [await openChild(os), await openChild(os), await openChild(os)];
    const reply = asker.call("request", { to: asked.pid, body: "?", timeoutMs: 5000 });
    await pause(5);
    await os.call("merge", { pid: asked.pid, into: into.pid });
    const question = await into.call("receive", {});
    await into.call("send", { to: asker.pid, kind: "reply", replyTo: question?.id ?? "", body: "heir" });

    expect(await reply).toMatchObject({ from: into.pid, body: "heir" });
  });

  test("letters that nobody reads any more take no room", async () => {
    const reader = await openChild(os);
    for (let sent = 0; sent < LIMITS.mailboxMax; sent++) await os.call("send", { to: reader.pid, body: 0, ttlMs: 1 });
    await pause(5);

    expect(await codeOf(async () => os.call("send", { to: reader.pid, body: "new" }))).toBe("ok");
    expect(await reader.call("receive", {})).toMatchObject({ body: "new" });
  });

  test("one key at the same time is one letter; after a restart the oldest keys are forgotten first", async () => {
    const store = new LastingStore();
    const objects = new MemoryObjectStore();
    const first = await bootKernel({ store: store.life(), objects });
    const reader = await openChild(first.os);
    const send = async (of: Kernel, key: string): Promise<string> => {
      const { id } = await of.os.call("send", { to: reader.pid, body: key, key });
      if (of === first) await reader.call("receive", { waitMs: 0 });
      return id;
    };
    const twice = await Promise.all([send(first, "k0"), send(first, "k0")]);
    expect(new Set(twice).size).toBe(1);
    // Of 1,000 keys a host remembers, and that in which they came is not that of their names.
    for (let number = 999; number > 0; number--) await send(first, `k${number}`);
    const newest = await send(first, "k1");
    await first.close();
    const next = await bootKernel({ store: store.life(), objects });
    await send(next, "another");

    expect(await send(next, "k1")).toBe(newest);
    expect(twice).not.toContain(await send(next, "k0"));
    await next.close();
  });

  test("a full mailbox holds a subscription up, and loses nothing of it", async () => {
    const gate = Promise.withResolvers<void>();
    const count = LIMITS.mailboxMax + 50;
    const reader = program("reader", async (_input: unknown, ctx: RunContext) => {
      await ctx.subscribe("orders", "orders.*");
      await gate.promise;
      const got = new Set<unknown>();
      for (let number = 0; number < count; number++) {
        const message = await ctx.receive(`m${number}`);
        got.add((message?.body as { readonly body?: unknown } | undefined)?.body);
      }
      return got.size;
    });
    const pid = await os.spawn(reader);
    await pause(20);
    for (let number = 0; number < count; number++) await os.call("publish", { topic: "orders.new", body: number });
    await vi.waitFor(
      async () => expect((await os.fs.readText(`/proc/${pid}/mailbox`)).split("\n").length).toBeGreaterThan(900),
      5000,
    );
    gate.resolve();

    expect(await os.wait(pid)).toMatchObject({ result: count });
  });
});

describe("standing above and beside", () => {
  test("a role changes itself and what is below it, and takes nothing from those beside and above", async () => {
    const top = await openChild(os, { role: "lead", budget: { toolCalls: 100 } });
    const one = await openChild(top, { role: "lead", budget: { toolCalls: 10 } });
    const two = await openChild(top, { role: "lead", budget: { toolCalls: 50 } });
    const own = await openChild(one, { role: "worker" });

    for (const act of [
      async () => one.call("clone", { pid: two.pid }),
      async () => one.call("specialize", { pid: top.pid, grants: ["self"] }),
      async () => one.call("merge", { pid: two.pid, into: one.pid }),
      async () => one.kill(top.pid, "TERM"),
      async () => one.kill(two.pid, "STOP"),
      async () => one.call("reparent", { pid: own.pid, to: two.pid }),
    ])
      expect(await codeOf(act)).toBe("EPERM");
    expect(await codeOf(() => one.kill(own.pid, "TERM"))).toBe("ok");
  });

  test("nobody waits for its own end", async () => {
    const own = await openChild(os);
    expect(await codeOf(() => own.wait(own.pid))).toBe("EDEADLK");
  });

  test("a task tells its parent, and publishes nothing; it receives and does tasks", async () => {
    const lead = await openChild(os, { role: "lead" });
    const task = await openChild(lead, { role: "task" });
    await lead.call("submit", { queue: "work", body: 1, role: "task" });

    expect(await codeOf(async () => task.call("publish", { topic: "leak", body: "hello" }))).toBe("EPERM");
    expect(await codeOf(async () => task.call("receive", { waitMs: 0 }))).toBe("ok");
    expect(await task.call("claim", { queue: "work", waitMs: 0 })).toMatchObject({ body: 1 });
  });

  test("a killed branch ends bottom-up", async () => {
    const top = await openChild(os);
    const middle = await openChild(top);
    const [one, two] = [await openChild(middle), await openChild(middle)];
    const ended: Pid[] = [];
    const stop = new AbortController();
    const listening = (async () => {
      for await (const { pid } of os.events({ names: ["process.cancelled"], signal: stop.signal })) ended.push(pid);
    })();
    await pause(1);
    await os.kill(top.pid, "KILL");
    await pause(5);
    stop.abort();
    await listening.catch(() => undefined);

    expect(ended).toEqual([one.pid, two.pid, middle.pid, top.pid]);
  });

  test("who belongs to whom is the same after a restart, for a kill too", async () => {
    const store = new LastingStore();
    const objects = new MemoryObjectStore();
    const first = await bootKernel({ store: store.life(), objects });
    const open = (of: Os): Promise<Os> => openChild(of);
    const moved = await open(first.os);
    const to = await open(first.os);
    const above = await open(first.os);
    const between = await open(above);
    const orphan = await open(between);
    await first.os.call("reparent", { pid: moved.pid, to: to.pid });
    await between.call("exit", {});
    await first.close();
    const next = await bootKernel({ store: store.life(), objects });

    await next.os.kill(to.pid, "KILL");
    await next.os.kill(above.pid, "KILL");

    const living = new Set((await next.os.ps({})).map(({ pid }) => pid));
    expect([moved, to, above, orphan].map(({ pid }) => living.has(pid))).toEqual([false, false, false, false]);
    await next.close();
  });

  test("a child that was moved away does not end with a parent that was quarantined", async () => {
    const failing = Promise.withResolvers<never>();
    const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
      await ctx.spawn("child", openProgram("child").program);
      return failing.promise;
    });
    const pid = await os.spawn(parent, { faults: { exception: "quarantine" } });
    await pause(10);
    const safe = await openChild(os);
    failing.reject(new Error("boom"));
    await vi.waitFor(async () => expect(await stateOf(pid)).toBe("quarantined"));
    const child = (await os.ps({})).find(({ name }) => name === "child");
    if (child === undefined) throw new TypeError("there is no child");
    await os.call("reparent", { pid: child.pid, to: safe.pid });

    await os.kill(pid, "KILL");

    expect(await stateOf(child.pid)).toMatch(/running|waiting/);
  });

  test("the end of a child wakes a parent that sleeps", async () => {
    const child = openProgram("child");
    const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
      await ctx.spawn("child", child.program);
      await ctx.hibernate("nap");
      return "woken";
    });
    const pid = await os.spawn(parent);
    const { os: below } = await child.context;
    await vi.waitFor(async () => expect(await stateOf(pid)).toBe("sleeping"));
    await os.kill(below.pid, "TERM");

    expect(await within(2000, os.wait(pid))).toMatchObject({ result: "woken" });
  });

  test("a parent that is told to end is not woken by the ends of its children", async () => {
    const [one, two] = [openProgram("one"), openProgram("two")];
    let acted = 0;
    const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
      await ctx.spawn("one", one.program);
      await ctx.spawn("two", two.program);
      await ctx.hibernate("nap");
      acted++;
    });
    const pid = await os.spawn(parent);
    await Promise.all([one.context, two.context]);
    await vi.waitFor(async () => expect(await stateOf(pid)).toBe("sleeping"));
    await os.kill(pid, "TERM");
    await pause(20);

    expect([await stateOf(pid), acted]).toEqual(["zombie", 0]);
  });

  test("who has adopted a process hears of its end", async () => {
    const top = await openChild(os);
    const leaf = program("leaf", async () => {
      await pause(30);
      throw new Error("leaf");
    });
    const middle = program("middle", (_input: unknown, ctx: RunContext) =>
      ctx.spawn("leaf", leaf, { restart: "notify" }),
    );
    await os.wait(await top.spawn(middle));

    expect(await top.call("receive", { waitMs: 2000, kind: "exit" })).toMatchObject({ kind: "exit" });
  });

  test("a channel is there for the next life of a child", async () => {
    let lives = 0;
    const child = program("child", async (_input: unknown, ctx: RunContext) => {
      if (++lives === 1) {
        await pause(10);
        throw new Error("again");
      }
      return (await ctx.os.channel().read())?.length;
    });
    const parent = await openChild(os);
    const pid = await parent.spawn(child, { restart: { policy: "on-failure", delayMs: 1, maxDelayMs: 2 } });
    await parent.channel(pid).write("one");

    expect(await within(2000, os.wait(pid))).toMatchObject({ result: 3 });
  });
});

describe("work", () => {
  test("who is stopped, or frozen, takes no task until it goes on", async () => {
    const [stopped, other] = [await openChild(os), await openChild(os)];
    const held = stopped.call("claim", { queue: "work" });
    await pause(1);
    await os.kill(stopped.pid, "STOP");
    const taken = other.call("claim", { queue: "work" });
    await pause(1);
    await os.call("submit", { queue: "work", body: "first" });

    expect(await within(1000, Promise.resolve(taken))).toMatchObject({ body: "first", claimant: other.pid });
    await os.call("submit", { queue: "work", body: "second" });
    await os.kill(stopped.pid, "CONT");
    expect(await within(1000, Promise.resolve(held))).toMatchObject({ body: "second" });
  });

  test("one that is stopped and then killed takes none on its way", async () => {
    const worker = await openChild(os);
    const claim = codeOf(async () => worker.call("claim", { queue: "work" }));
    await pause(1);
    await os.kill(worker.pid, "STOP");
    await os.call("submit", { queue: "work", body: 1, attemptsMax: 1 });
    await os.kill(worker.pid, "KILL");

    expect(await claim).not.toBe("ok");
    expect((await os.call("tasks", { queue: "work" }))[0]).toMatchObject({ state: "pending", attempts: 0 });
  });

  test("a task that was begun in time is tried again, however late", async () => {
    const worker = await openChild(os);
    await os.call("submit", { queue: "work", body: 1, deadlineMs: 30, attemptsMax: 3 });
    const task = await worker.call("claim", { queue: "work", waitMs: 0 });
    await pause(50);
    await worker.call("fail", { id: task?.id ?? 0, error: { code: "EIO", message: "disk" } });

    expect((await os.call("tasks", { queue: "work" }))[0]).toMatchObject({ state: "pending", error: { code: "EIO" } });
  });

  test("critical is for the owner and daemons", async () => {
    const worker = await openChild(await openChild(os, { role: "lead" }), { role: "worker" });
    await os.call("submit", { queue: "work", body: "owner's", priority: "high" });
    await worker.call("submit", { queue: "work", body: "worker's", priority: "critical" });

    expect(await os.call("claim", { queue: "work", waitMs: 0 })).toMatchObject({ body: "owner's" });
  });

  test("what a process has claimed waits again when it starts from zero", async () => {
    let lives = 0;
    let again: unknown;
    const worker = program("worker", async (_input: unknown, ctx: RunContext) => {
      lives++;
      again = await ctx.os.call("claim", { queue: "work", waitMs: 0 });
      if (lives === 1) throw new Error("again");
    });
    await os.call("submit", { queue: "work", body: 1 });
    const restart = { policy: "on-failure", delayMs: 1, maxDelayMs: 2, from: "start" } as const;
    await os.wait(await os.spawn(worker, { restart }));

    expect(again).toMatchObject({ body: 1, attempts: 2 });
  });

  test("a change of a task that somebody else has just changed is told as such", async () => {
    const worker = await openChild(os);
    const id = await os.call("submit", { queue: "work", body: 1 });
    await worker.call("claim", { queue: "work", waitMs: 0 });
    const codes = await Promise.all([
      codeOf(async () => worker.call("complete", { id })),
      codeOf(async () => os.call("cancelTask", { id })),
    ]);

    expect(codes.toSorted()).toEqual(["EBUSY", "ok"]);
  });

  test("a worker lives on when its task is cancelled under it", async () => {
    const worker = program("worker", (_input: unknown, ctx: RunContext) => ctx.work("work", () => pause(30)));
    const pid = await os.spawn(worker);
    const id = await os.call("submit", { queue: "work", body: 1 });
    await pause(10);
    await os.call("cancelTask", { id });
    await pause(60);

    expect(await stateOf(pid)).toBe("waiting");
  });

  test("a spawn that fails leaves the budget as it was", async () => {
    const parent = await openChild(os, { budget: { toolCalls: 10, spawns: 5 } });
    const before = await os.call("usage", { pid: parent.pid });
    for (const more of [
      { group: "none" },
      { role: "task", tier: "strategic" },
      { view: "/none" },
      { budget: { toolCalls: 30 } },
      { grants: ["nonsense"] },
    ] as const)
      expect(await codeOf(() => parent.spawn(openProgram().program, { budget: { toolCalls: 3 }, ...more }))).not.toBe(
        "ok",
      );

    expect(await os.call("usage", { pid: parent.pid })).toEqual(before);
  });
});

describe("locks and time", () => {
  test("a process that goes on has the lock that it holds, and nobody else has", async () => {
    const store = new LastingStore();
    const objects = new MemoryObjectStore();
    let lives = 0;
    const holder = program("holder", async (_input: unknown, ctx: RunContext) => {
      lives++;
      const lease = await ctx.lock("nightly", { ttlMs: 60_000, waitMs: 500 });
      if (lives === 1) await new Promise(() => undefined);
      const second = await codeOf(() => ctx.lock("nightly", { waitMs: 0 }));
      return [lease.path, second];
    });
    const first = await bootKernel({ store: store.life(), objects, programs: [holder] });
    const pid = await first.os.spawn(holder);
    await vi.waitFor(async () => expect(await first.os.call("locks", {})).toHaveLength(1));
    await first.close();
    const next = await bootKernel({ store: store.life(), objects, programs: [holder] });
    await next.os.call("resume", { pid });

    expect(await next.os.wait(pid)).toMatchObject({ code: 0, result: ["/sys/locks/nightly", "EAGAIN"] });
    await next.close();
  });

  test("a lock is extended as it is, or refused", async () => {
    const holder = await openChild(os);
    const { lockId } = await holder.call("lock", { path: "one", ttlMs: 1000 });
    for (const more of [{ mode: "shared" }, { maxHolders: 2 }] as const)
      expect(await codeOf(async () => holder.call("lock", { path: "one", ttlMs: 1000, lockId, ...more }))).toBe(
        "EINVAL",
      );
    expect(await codeOf(async () => holder.call("lock", { path: "one", ttlMs: 2000, lockId, mode: "exclusive" }))).toBe(
      "ok",
    );
  });

  test("a lock above or below whose time is over blocks nobody", async () => {
    const [one, two] = [await openChild(os), await openChild(os)];
    await one.call("lock", { path: "/srv", ttlMs: 5 });
    await pause(20);
    await two.call("lock", { path: "/srv/x/y", ttlMs: 5, waitMs: 0 });
    await pause(20);

    expect(await codeOf(async () => one.call("lock", { path: "/srv", ttlMs: 5, waitMs: 0 }))).toBe("ok");
  });

  test("cron patterns that never come, or are none, are refused", async () => {
    for (const cron of ["0 0 30 2 *", "*/0 * * * *", "60 * * * *", "5-1 * * * *", "* * * *", "1,2,,3 * * * *"])
      expect(await codeOf(async () => os.call("schedule", { cron, action: { wake: os.pid } }))).toBe("EINVAL");
  });

  test("schedules and triggers of one name made at once are one", async () => {
    const action = { wake: os.pid };
    const both = async (act: () => unknown): Promise<readonly string[]> =>
      (await Promise.all([codeOf(act), codeOf(act)])).toSorted();

    expect(await both(async () => os.call("schedule", { name: "s", everyMs: 60_000, action }))).toEqual([
      "EEXIST",
      "ok",
    ]);
    expect(await both(async () => os.call("trigger", { name: "s", topic: "t", action }))).toEqual(["EEXIST", "ok"]);
  });

  test("a run that is quarantined does not hold its schedule up", async () => {
    const failing = program("failing", () => {
      throw new Error("boom");
    });
    await using host = await bootKernel({ programs: [failing] }).then((booted) => ({
      kernel: booted,
      [Symbol.asyncDispose]: () => booted.close(),
    }));
    host.kernel.activate();
    const spawn = { program: "failing", options: { faults: { exception: "quarantine" } } } as const;
    await host.kernel.os.call("schedule", {
      everyMs: 20,
      action: { spawn: { program: spawn.program, ...spawn.options } },
    });

    await vi.waitFor(async () => {
      const runs = (await host.kernel.os.ps({ all: true })).filter(({ name }) => name === "failing");
      expect(runs.length).toBeGreaterThan(2);
    }, 5000);
  });
});
