// The clock of the machine is set back by an hour: what is to happen after some time happens then.

import { MemoryObjectStore } from "@ergos/drivers/memory";
import { createNodePlatform } from "@ergos/drivers/platform-node";
import type { Kernel, Platform } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LastingStore, bootKernel, codeOf, openChild, pause, within } from "../../kernel/test/kernel-fixture.ts";

const HOUR = 3_600_000;
const node = createNodePlatform({ checksLocks: true });
const withClock = (now: () => number): Platform => ({
  ...node,
  clock: { now, monotonic: () => node.clock.monotonic() },
});

let offset = 0;
let kernel: Kernel;
beforeEach(async () => {
  offset = 0;
  kernel = await bootKernel({ platform: withClock(() => Date.now() + offset) });
  kernel.activate();
  await kernel.os.fs.writeFile("/srv/f", "x");
  offset = -HOUR;
});
afterEach(() => kernel.close());

const soon = (call: unknown): Promise<string> =>
  within(
    1500,
    codeOf(() => call),
  );

test("a task, its next attempt, and its deadline", async () => {
  const child = await openChild(kernel.os);
  const { os } = kernel;
  await os.call("submit", { queue: "q", body: 1, delayMs: 50, attemptsMax: 2, retry: { delayMs: 50 } });
  const task = await within(1500, (async () => child.call("claim", { queue: "q" }))());
  expect(task).toMatchObject({ body: 1 });
  await child.call("fail", { id: task === "waits" ? 0 : (task?.id ?? 0), error: { code: "EFAILED", message: "x" } });
  expect(await soon(child.call("claim", { queue: "q" }))).toBe("ok");
  const late = await os.call("submit", { queue: "other", body: 1, deadlineMs: 50 });
  expect(await soon(os.call("taskEnd", { id: late }))).toBe("ok");
});

test("the time limit of a question, a sleep, a message that expires, entries that are kept for so long", async () => {
  const { os } = kernel;
  const child = await openChild(os);
  expect(await soon(child.call("ask", { place: "a", question: "?", timeoutMs: 50, otherwise: 1 }))).toBe("ok");
  expect(await soon(os.wait(await os.spawn(program("s", (_: unknown, ctx: RunContext) => ctx.sleep(50)))))).toBe("ok");
  await os.call("send", { to: child.pid, body: 1, ttlMs: 50 });
  await os.fs.makeStream("/srv/s", { keepMs: 50 });
  await os.fs.stream("/srv/s").append(["x"]);
  await pause(150);
  expect(await child.call("receive", { waitMs: 0 })).toBe(null);
  expect(await Array.fromAsync(os.fs.stream("/srv/s").read())).toEqual([]);
});

test.each(["once", "all"] as const)("an interval whose missed occurrences are done %s", async (missed) => {
  await kernel.os.call("schedule", { everyMs: 40, missed, action: { message: { to: 1, body: 1 } } });
  const runsOf = async (): Promise<number> => (await kernel.os.call("schedules", {}))[0]?.runs ?? 0;
  offset = 0;
  await expect.poll(runsOf).toBeGreaterThan(1);
  offset = -HOUR;
  const before = await runsOf();
  await expect.poll(runsOf).toBeGreaterThan(before + 3);
  expect((await kernel.os.call("schedules", {}))[0]).toMatchObject({ missedRuns: 0 });
});

test("restarts that are long past do not count", async () => {
  let lives = 0;
  const flaky = program("flaky", async () => {
    if (++lives > 5) return "up";
    await pause(80);
    throw new Error("x");
  });
  const restart = { policy: "on-failure", max: 2, withinMs: 100, delayMs: 1, maxDelayMs: 1 } as const;
  expect(await kernel.os.wait(await kernel.os.spawn(flaky, { restart }))).toMatchObject({ result: "up" });
});

test("also in the next host, over data from when the clock was ahead; instants never go back", async () => {
  const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
  const ahead = await bootKernel({ store: store.life(), objects, platform: withClock(() => Date.now() + HOUR) });
  // It sleeps from the end of that host on.
  await openChild(ahead.os);
  const last = ahead.host.committer.now();
  await ahead.close();
  await using next = await bootKernel({ store: store.life(), objects });
  const child = await openChild(next.os);
  await next.os.call("submit", { queue: "q", body: 1, delayMs: 50 });
  const seen = [next.host.committer.now()];
  expect(await soon(child.call("claim", { queue: "q" }))).toBe("ok");
  seen.push(next.host.committer.now());
  expect(seen).toEqual(seen.toSorted((a, b) => a - b));
  expect(seen[0]).toBeGreaterThanOrEqual(last - HOUR / 60);
});
