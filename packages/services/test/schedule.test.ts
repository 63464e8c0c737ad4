// Schedules: when they act, as whom, how often, and over hosts that die.

import { createCalendar } from "@ergos/drivers/calendar";
import { MemoryObjectStore } from "@ergos/drivers/memory";
import { createNodePlatform } from "@ergos/drivers/platform-node";
import type { Kernel, KernelEvent, KernelParts, Pid, ScheduleRequest } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LastingStore, bootKernel, openProgram } from "../../kernel/test/kernel-fixture.ts";

/** A clock that is set by the test; timers look at it at once when it is. */
class Hand {
  at = Date.parse("2026-03-01T00:00:00Z");
  readonly #timers = new Set<{ readonly due: number; readonly task: () => void }>();
  readonly #soon = new Set<object>();
  readonly platform = (() => {
    const node = createNodePlatform();
    return {
      ...node,
      clock: { now: () => this.at, monotonic: () => node.clock.monotonic() },
      setTimer: (ms: number, task: () => void) => {
        // Short waits, as the grace of a process, are real.
        if (ms < 1000) return this.#setSoon(ms, task);
        const timer = { due: this.at + ms, task };
        this.#timers.add(timer);
        return { cancel: () => void this.#timers.delete(timer) };
      },
    };
  })();

  #setSoon(ms: number, task: () => void): { cancel(): void } {
    const mark = {};
    if (ms === 0) this.#soon.add(mark);
    const timer = createNodePlatform().setTimer(ms, () => {
      this.#soon.delete(mark);
      task();
    });
    return {
      cancel: () => {
        this.#soon.delete(mark);
        timer.cancel();
      },
    };
  }

  /** Sets the clock, a minute at a time where it goes on and at once where it jumps. */
  async to(instant: string, jumps = false): Promise<void> {
    const end = Date.parse(instant);
    do {
      this.at = jumps ? end : Math.min(end, this.at + 60_000);
      for (const timer of Array.from(this.#timers)) {
        if (!jumps && timer.due > this.at) continue;
        this.#timers.delete(timer);
        timer.task();
      }
      // What is due now is done before the clock goes on.
      for (let turn = 0; turn < 8 || this.#soon.size > 0; turn++) await new Promise((go) => setImmediate(go));
    } while (this.at < end);
  }
}

let hand: Hand;
let kernel: Kernel;
let events: KernelEvent[];
const boot = async (parts: Partial<KernelParts> = {}): Promise<Kernel> => {
  const booted = await bootKernel({ platform: hand.platform, calendar: createCalendar(), ...parts });
  const watched = booted.os.events({});
  void (async () => {
    for await (const event of watched) if (event.name.startsWith("schedule.")) events.push(event);
  })();
  return booted;
};
beforeEach(async () => {
  hand = new Hand();
  events = [];
  kernel = await boot({ programs: [note] });
  kernel.activate();
  notes.length = 0;
});
afterEach(() => kernel.close());

const notes: string[] = [];
const note = program("note", async (_input: unknown, ctx: RunContext) => {
  notes.push(new Date(await ctx.now()).toISOString().slice(0, 16));
});
const make = async (request: ScheduleRequest, of = kernel) => of.os.call("schedule", request);
const names = () => events.map(({ name }) => name.slice(9));
const starting = { spawn: { program: "note" } };

describe("when", () => {
  test("by cron, in its zone, across a change of clocks", async () => {
    await make({ cron: "30 2 * * *", zone: "Europe/Berlin", action: starting });
    hand.at = Date.parse("2026-03-27T12:00:00Z");
    await hand.to("2026-03-27T12:01:00Z", true);
    notes.length = 0;
    await hand.to("2026-03-31T12:00:00Z");
    // 02:30 was left out on the 29th: 03:00, when the clock goes on.
    expect(notes).toEqual(["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30", "2026-03-31T00:30"]);
  });

  test("every so often, at an instant, in a while, and as many times as wanted", async () => {
    await make({ everyMs: 3_600_000, action: starting, times: 3 });
    await make({ at: Date.parse("2026-03-01T02:30:00Z"), action: starting });
    await make({ inMs: 600_000, action: starting });
    await hand.to("2026-03-01T12:00:00Z");
    expect(notes).toEqual([
      "2026-03-01T00:10",
      "2026-03-01T01:00",
      "2026-03-01T02:00",
      "2026-03-01T02:30",
      "2026-03-01T03:00",
    ]);
    expect(await kernel.os.call("schedules", {})).toEqual([]);
    expect(await kernel.host.store.scan({ from: "sc/", to: "sc0" }, { limit: 10 })).toEqual([]);
  });

  test("an instant that has passed is now, and a clock that is set back delays nothing", async () => {
    await make({ at: 1, action: starting });
    const until = async (count: number): Promise<void> => {
      while (notes.length < count) await new Promise((go) => setTimeout(go, 1));
    };
    await until(1);
    await make({ everyMs: 20, action: starting, overlap: "allow", times: 3 });
    hand.at -= 365 * 86_400_000;
    await until(4);
  });

  test("a pattern does not wait for the instants of a clock that was set back by days", async () => {
    // Here a clock of the wall, and beside it one that goes on evenly, which timers follow.
    const node = createNodePlatform();
    let [passed, offset] = [0, Date.parse("2026-06-01T00:00:00Z")];
    const timers = new Set<{ readonly due: number; readonly task: () => void }>();
    const platform = {
      ...node,
      clock: { now: () => offset + passed, monotonic: () => passed },
      setTimer: (ms: number, task: () => void) => {
        if (ms < 1000) return node.setTimer(ms, task);
        const timer = { due: passed + ms, task };
        timers.add(timer);
        return { cancel: () => void timers.delete(timer) };
      },
    };
    const pass = async (hours: number): Promise<void> => {
      for (const end = passed + hours * 3_600_000; passed < end;) {
        passed += 60_000;
        for (const timer of Array.from(timers)) if (timer.due <= passed && timers.delete(timer)) timer.task();
        for (let turn = 0; turn < 8; turn++) await new Promise((go) => setImmediate(go));
      }
    };
    const other = await boot({ platform, programs: [note] });
    other.activate();
    await make({ cron: "0 * * * *", action: starting }, other);
    await pass(2);
    offset -= 31 * 86_400_000;
    const before = notes.length;
    await pass(6);

    expect(before).toBe(2);
    expect(notes.length - before).toBe(6);
    await other.close();
  });

  test.each([
    [{ action: starting }, "EINVAL", /exactly|one of cron/],
    [{ action: starting, cron: "* * * * *", everyMs: 5 }, "EINVAL", /found 2/],
    [{ action: starting, cron: "61 * * * *" }, "EINVAL", /minute/],
    [{ action: starting, cron: "0 0 30 2 *" }, "EINVAL", /no instant/],
    [{ action: starting, cron: "* * * * *", zone: "Mars/Base" }, "EINVAL", /time zone/],
    [{ action: starting, inMs: 5, zone: "UTC" }, "EINVAL", /belongs to a cron/],
    [{ action: {}, inMs: 5 }, "EINVAL", /found none/],
    [{ action: { ...starting, wake: 1 as Pid }, inMs: 5 }, "EINVAL", /spawn and wake/],
    [{ action: { spawn: { program: note } }, inMs: 5 }, "EINVAL", /names its program/],
  ] as const)("%j is refused", async (request, code, message) => {
    const error = await make(request).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) as unknown });
  });

  test("a host without a calendar says so", async () => {
    const bare = await bootKernel();
    await expect(make({ cron: "* * * * *", action: starting }, bare)).rejects.toMatchObject({ code: "ENOTSUP" });
    await bare.close();
  });
});

describe("what was missed", () => {
  test("while no host was there is all done, one after the other, however short that was and however long each takes", async () => {
    const store = new LastingStore();
    const objects = new MemoryObjectStore();
    const slow = program("slow", async (_input: unknown, ctx: RunContext) => {
      await new Promise((go) => setTimeout(go, 15));
      notes.push(String(ctx.pid));
    });
    const first = await boot({ store: store.life(), objects, programs: [slow] });
    const every = { everyMs: 1000, missed: "all", action: { spawn: { program: "slow" } } } as const;
    const { id } = await make(every, first);
    await first.close();
    hand.at += 20_500;
    const second = await boot({ store: store.life(), objects, programs: [slow] });
    second.activate();
    await expect.poll(() => notes.length, { timeout: 10_000 }).toBe(20);
    await expect
      .poll(() => second.host.schedules.get(id))
      .toMatchObject({ runs: 20, missedRuns: 0, skippedRuns: 0, next: hand.at + 500 });
    await second.close();
  });

  test.each([
    ["once", ["2026-03-03T12:10", "2026-03-03T13:00"], []],
    ["skip", ["2026-03-03T13:00"], ["missed"]],
    ["all", [...Array.from({ length: 60 }, () => "2026-03-03T12:10"), "2026-03-03T13:00"], []],
  ] as const)("%s", async (missed, wanted, left) => {
    const { id } = await make({ cron: "0 * * * *", missed, overlap: "allow", action: starting });
    await hand.to("2026-03-03T12:10:00Z", true);
    for (let turn = 0; turn < 1000 && notes.length < wanted.length - 1; turn++)
      await new Promise((go) => setTimeout(go, 1));
    await hand.to("2026-03-03T13:00:00Z");
    expect(notes).toEqual(wanted);
    expect(names().filter((name) => name !== "fired")).toEqual(left);
    expect(kernel.host.schedules.get(id)).toMatchObject({ runs: wanted.length, missedRuns: left.length });
  });

  test("all of it only up to a bound", async () => {
    await make({ everyMs: 1000, missed: "all", overlap: "allow", action: starting });
    await hand.to("2026-03-03T12:00:00Z", true);
    for (let turn = 0; turn < 3000 && !names().includes("missed"); turn++) await new Promise((go) => setTimeout(go, 1));
    expect(notes).toHaveLength(100);
    expect(names().at(-1)).toBe("missed");
  });
});

describe("while the last one lives", () => {
  const stay = async (overlap: "allow" | "skip" | "cancel") => {
    const { program: open } = openProgram("stay");
    const staying = await boot({ programs: [open] });
    staying.activate();
    const { id } = await make({ everyMs: 3_600_000, overlap, action: { spawn: { program: "stay" } } }, staying);
    await hand.to("2026-03-01T03:30:00Z");
    // The grace of what was cancelled is real time.
    for (let turn = 0; turn < 500 && names().length < 3; turn++) await new Promise((go) => setTimeout(go, 2));
    const all = (await staying.os.ps({ all: true })).filter(({ name }) => name === "stay");
    const states = all.map(({ state, signal }) => signal ?? state);
    await staying.close();
    return { states, names: names(), id };
  };
  test("another starts, if it may", async () => {
    expect(await stay("allow")).toMatchObject({
      states: ["running", "running", "running"],
      names: ["fired", "fired", "fired"],
    });
  });
  test("none does", async () => {
    expect(await stay("skip")).toMatchObject({ states: ["running"], names: ["fired", "skipped", "skipped"] });
  });
  test("the last one ends", async () => {
    expect(await stay("cancel")).toMatchObject({
      states: ["TERM", "TERM", "running"],
      names: ["fired", "fired", "fired"],
    });
  });
});

describe("what it does", () => {
  test("sends messages and tasks, and wakes", async () => {
    const lives: number[] = [];
    const worker = program("worker", async (_input: unknown, ctx: RunContext) => {
      lives.push(0);
      const first = await ctx.receive("first");
      await ctx.hibernate("night");
      return first?.body;
    });
    const pid = await kernel.os.spawn(worker);
    await make({ inMs: 60_000, action: { message: { to: pid, body: { run: 1 }, kind: "task" } } });
    await make({ inMs: 7_200_000, action: { wake: pid } });
    await hand.to("2026-03-01T01:00:00Z");
    expect((await kernel.os.ps({ pids: [pid] }))[0]).toMatchObject({ state: "sleeping", sleep: {} });
    await hand.to("2026-03-01T02:01:00Z");
    expect(await kernel.os.wait(pid)).toMatchObject({ code: 0, result: { run: 1 } });
    expect(lives).toHaveLength(2);
  });

  test("later, where there is no room: that is no occurrence that was missed, however long it takes", async () => {
    const gates: (() => void)[] = [];
    const stays = program("stays", () => new Promise<void>((go) => void gates.push(go)));
    await kernel.close();
    kernel = await boot({ programs: [stays] });
    kernel.activate();
    await kernel.os.call("setGroup", { group: "g", processes: 1 });
    await kernel.os.spawn(stays, { group: "g" });
    const action = { spawn: { program: "stays", group: "g" } };
    await make({ inMs: 60_000, missed: "skip", action });
    await hand.to("2026-03-01T00:10:00Z");
    expect(gates).toHaveLength(1);
    const names = (): readonly string[] => events.map(({ name }) => name);
    expect(names()).toEqual(["schedule.failed"]);
    gates[0]?.();
    await hand.to("2026-03-01T00:12:00Z");
    expect([gates.length, names()]).toEqual([2, ["schedule.failed", "schedule.fired"]]);
    expect(await kernel.os.call("schedules", {})).toEqual([]);
    gates[1]?.();
  });

  test("as who made it: its rights, its children, and not after its end", async () => {
    const { program: open, context } = openProgram();
    const pid = await kernel.os.spawn(open, { grants: ["self", "schedule.*", "proc.spawn:note"] });
    const { os } = await context;
    await os.call("schedule", { everyMs: 3_600_000, action: starting });
    await os.call("schedule", { inMs: 3_600_000, action: { message: { to: 1, body: 1 } } });
    await hand.to("2026-03-01T01:00:00Z");
    expect(notes).toHaveLength(1);
    expect(events.find(({ name }) => name === "schedule.failed")?.data).toMatchObject({ error: { code: "EACCES" } });
    const child = (await kernel.os.ps({ all: true })).find(({ name }) => name === "note");
    expect(child?.ppid).toBe(pid);

    await kernel.os.kill(pid);
    await hand.to("2026-03-01T09:00:00Z");
    expect(notes).toHaveLength(1);
    expect(await kernel.os.call("schedules", {})).toEqual([]);
  });

  test("what fails is told, and the schedule goes on", async () => {
    const { id } = await make({ everyMs: 3_600_000, action: { spawn: { program: "nobody" } } });
    await hand.to("2026-03-01T02:00:00Z");
    expect(names()).toEqual(["failed", "failed"]);
    expect(kernel.host.schedules.get(id)?.last?.error).toMatchObject({ code: "ENOEXEC" });
  });
});

test("a schedule is listed, paused, resumed and ended, by calls and by files", async () => {
  const { id } = await make({ name: "nightly", cron: "0 * * * *", action: starting });
  await expect(make({ name: "nightly", inMs: 1, action: starting })).rejects.toMatchObject({ code: "EEXIST" });
  expect(await kernel.os.fs.readdir("/proc/scheduled")).toMatchObject([{ name: String(id) }]);
  expect(JSON.parse(await kernel.os.fs.readText(`/proc/scheduled/${id}/status`))).toMatchObject({
    name: "nightly",
    next: Date.parse("2026-03-01T01:00:00Z"),
  });
  await kernel.os.fs.exec(`/proc/scheduled/${id}/pause`, {});
  await hand.to("2026-03-01T02:30:00Z");
  expect(notes).toEqual([]);
  const resumed = await kernel.os.call("setSchedule", { id, paused: false });
  expect(resumed.next).toBe(Date.parse("2026-03-01T03:00:00Z"));
  await hand.to("2026-03-01T03:00:00Z");
  expect(notes).toHaveLength(1);
  await kernel.os.fs.exec(`/proc/scheduled/${id}/cancel`, {});
  await hand.to("2026-03-01T05:00:00Z");
  expect(notes).toHaveLength(1);
  await expect((async () => kernel.os.call("unschedule", { id }))()).rejects.toMatchObject({ code: "ENOENT" });
});

test("each occurrence happens once, wherever the host ends", async () => {
  const received: unknown[] = [];
  for (let cut = 4; cut < 22; cut++) {
    hand = new Hand();
    const store = new LastingStore();
    const objects = new MemoryObjectStore();
    const runs: string[] = [];
    const job = program("job", async (_input: unknown, ctx: RunContext) => {
      await ctx.step("run", () => runs.push(String(ctx.pid)));
    });
    const programs = [job];
    const first = store.life(cut);
    const host = await boot({ store: first, objects, programs });
    host.activate();
    const action = { spawn: { program: "job" } };
    const made = await Promise.race([
      make({ everyMs: 3_600_000, times: 4, overlap: "allow", action }, host),
      first.died,
    ]);
    if (made === undefined) continue;
    const letter = { message: { to: 1 as Pid, body: "tick" } };
    const other = await Promise.race([make({ everyMs: 3_600_000, times: 4, action: letter }, host), first.died]);
    await hand.to("2026-03-01T02:30:00Z");
    const next = await boot({ store: store.life(), objects, programs });
    next.activate();
    await hand.to("2026-03-01T06:00:00Z");
    for (const { pid, state } of await next.os.ps()) if (state === "sleeping") await next.os.resume(pid);
    const jobs = (await next.os.ps({ all: true })).filter(({ name }) => name === "job");
    for (const { pid } of jobs) await next.os.wait(pid);
    expect(jobs).toHaveLength(4);
    expect(new Set(runs).size).toBe(4);
    const ticks: unknown[] = [];
    for (;;) {
      const message = await next.os.call("receive", { waitMs: 0 });
      if (message === null) break;
      ticks.push(message.body);
    }
    if (other !== undefined) {
      expect(ticks).toHaveLength(4);
      received.push(cut);
    }
    await next.close();
  }
  expect(received.length).toBeGreaterThan(8);
});
