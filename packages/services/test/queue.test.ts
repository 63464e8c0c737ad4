// Work queues: who gets what, leases, ends, and hosts and claimants that die.

import { MemoryObjectStore } from "@ergos/drivers/memory";
import { type Kernel, LIMITS, type Os, type Pid, type Priority, type Role, type Task, type Tier } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LastingStore, bootKernel, openProgram, refusing } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

const failing = async (call: () => unknown): Promise<unknown> => call();
const submit = async (body: unknown, options: object = {}, os: Os = kernel.os) =>
  os.call("submit", { queue: "work", body, ...options });
const claim = async (os: Os, options: object = {}) => os.call("claim", { queue: "work", waitMs: 0, ...options });
const taskOf = (id: number) => kernel.host.queues.get(id);
async function child(options: Parameters<Os["spawn"]>[1] = {}, of: Kernel = kernel): Promise<Os> {
  const { program: open, context } = openProgram();
  await of.os.spawn(open, options);
  return (await context).os;
}
const until = async (isSo: () => boolean | Promise<boolean>): Promise<void> => {
  for (let tries = 0; tries < 2000 && !(await isSo()); tries++) await new Promise((go) => setTimeout(go, 1));
};

describe("claims", () => {
  test("get tasks by priority, then in their order, each once", async () => {
    const bodies = ["b", "c", "d"];
    for (const body of bodies) await submit(body);
    await submit("a", { priority: "high" });
    await submit("e", { priority: "low" });
    const os = await child();
    const got: unknown[] = [];
    for (let task = await claim(os); task !== null; task = await claim(os)) got.push(task.body);
    expect(got).toEqual(["a", "b", "c", "d", "e"]);
  });

  test("get a task when it may be begun, and one that has failed after its wait, over hosts that end too", async () => {
    const store = new LastingStore();
    const objects = new MemoryObjectStore();
    const first = await bootKernel({ store: store.life(), objects });
    const later = await submit("later", { delayMs: 60, retry: { delayMs: 40, maxDelayMs: 50 } }, first.os);
    await expect(submit("late", { delayMs: 3_600_000, deadlineMs: 30 }, first.os)).rejects.toMatchObject({
      code: "EINVAL",
    });
    expect(await claim(await child({}, first))).toBeNull();
    await using kernel = await bootKernel({ store: store.life(), objects });
    const os = await child({}, kernel);
    const starts: number[] = [];
    for (let attempt = 1; attempt <= 3; attempt++) {
      const task = await claim(os, { waitMs: 5000 });
      expect(task).toMatchObject({ id: later, attempts: attempt });
      starts.push(kernel.host.committer.now());
      await os.call("fail", { id: later, error: { code: "EFAILED", message: "not yet" } });
      const { state, notBefore = 0 } = (await kernel.host.queues.get(later)) ?? {};
      if (attempt === 3) expect(state).toBe("failed");
      else expect(notBefore - (starts.at(-1) ?? 0)).toBeGreaterThanOrEqual(attempt === 1 ? 40 : 50);
    }
    expect((starts[1] ?? 0) - (starts[0] ?? 0)).toBeGreaterThanOrEqual(40);
  });

  test("go to the roles and tiers that a task asks for", async () => {
    await submit("for leads", { role: "lead" });
    await submit("for the best", { tier: "strategic" });
    await submit("for anybody", { tier: "operational", priority: "low" });
    const worker = await child({ role: "worker", tier: "tactical" });
    const lead = await child({ role: "lead" });
    expect((await claim(worker))?.body).toBe("for anybody");
    expect(await claim(worker)).toBeNull();
    expect((await claim(lead))?.body).toBe("for leads");
    expect((await claim(lead))?.body).toBe("for the best");
  });

  test("wait for a task, wake one of those who may do it, and end with their signal", async () => {
    const [lead, worker] = [await child({ role: "lead" }), await child({ role: "worker" })];
    const stop = new AbortController();
    const leads = claim(lead, { waitMs: undefined, signal: stop.signal });
    const workers = claim(worker, { waitMs: undefined });
    await submit("w", { role: "worker" });
    expect((await workers)?.body).toBe("w");
    stop.abort(new Error("enough"));
    await expect(leads).rejects.toThrow("enough");
    expect(await claim(lead, { waitMs: 5 })).toBeNull();
  });

  test("follow a reference, whatever was submitted", async () => {
    const os = await child();
    let queue = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom<Priority>("critical", "high", "normal", "low"), { maxLength: 30 }),
        async (priorities) => {
          const name = `q${queue++}`;
          const sent: { readonly id: number; readonly rank: number }[] = [];
          for (const priority of priorities) {
            const id = await kernel.os.call("submit", { queue: name, body: 0, priority });
            const at = (await taskOf(id))?.at ?? 0;
            sent.push({ id, rank: ["critical", "high", "normal", "low"].indexOf(priority) * 10_000 + at });
          }
          const got: number[] = [];
          for (;;) {
            const task = await os.call("claim", { queue: name, waitMs: 0 });
            if (task === null) break;
            got.push(task.id);
          }
          expect(got).toEqual(sent.toSorted((one, two) => one.rank - two.rank || one.id - two.id).map(({ id }) => id));
        },
      ),
      { numRuns: 40 },
    );
  });
});

describe("a claimed task", () => {
  test("is completed with its result, by who holds it, and once", async () => {
    const id = await submit({ number: 6 });
    const [os, other] = [await child(), await child()];
    await claim(os);
    await expect(failing(() => other.call("complete", { id, result: 1 }))).rejects.toMatchObject({ code: "ESTALE" });
    const waiting = failing(() => other.call("taskEnd", { id }));
    await os.call("complete", { id, result: 42 });
    expect(await waiting).toMatchObject({ state: "completed", result: 42, attempts: 1 });
    await expect(failing(() => os.call("complete", { id, result: 1 }))).rejects.toMatchObject({ code: "ESTALE" });
    expect(await kernel.os.call("tasks", { state: "completed", claimant: os.pid })).toHaveLength(1);
    expect(await kernel.os.call("tasks", { state: "pending" })).toEqual([]);
  });

  test("waits again when its lease is over, unless it is renewed", async () => {
    const id = await submit("x");
    const [slow, keen] = [await child(), await child()];
    await claim(slow, { leaseMs: 30 });
    for (let beat = 0; beat < 4; beat++) {
      await new Promise((go) => setTimeout(go, 12));
      await slow.call("renew", { id });
    }
    expect((await taskOf(id))?.state).toBe("claimed");
    await until(async () => (await taskOf(id))?.state === "pending");
    expect((await claim(keen))?.attempts).toBe(2);
    await expect(failing(() => slow.call("renew", { id }))).rejects.toMatchObject({ code: "ESTALE" });
    await expect(
      failing(() => slow.call("fail", { id, error: { code: "EIO", message: "late" } })),
    ).rejects.toMatchObject({
      code: "ESTALE",
    });
    await keen.call("complete", { id });
    expect((await taskOf(id))?.state).toBe("completed");
  });

  test("waits again, once, when its claimant ends", async () => {
    const id = await submit("x");
    const [doomed, heir] = [await child(), await child()];
    await claim(doomed);
    const returned: unknown[] = [];
    kernel.host.bus.observe({ names: ["task.returned"] }, ({ data }) => returned.push(data));
    const waiting = claim(heir, { waitMs: 1000 });
    await kernel.os.kill(doomed.pid);
    expect(await waiting).toMatchObject({ id, attempts: 2, error: { code: "ECANCELED" } });
    expect(returned).toHaveLength(1);
    expect(await claim(heir)).toBeNull();
  });

  test("has failed after its last attempt, or when its claimant says so", async () => {
    const os = await child();
    const error = { code: "EIO", message: "no disk" } as const;
    const id = await submit("x", { attemptsMax: 2 });
    for (let attempt = 0; attempt < 2; attempt++) {
      await claim(os);
      await os.call("fail", { id, error });
    }
    expect(await taskOf(id)).toMatchObject({ state: "failed", attempts: 2, error });
    const other = await submit("y");
    await claim(os);
    await os.call("fail", { id: other, error, again: false });
    expect(await taskOf(other)).toMatchObject({ state: "failed", attempts: 1 });
    await kernel.os.call("resubmit", { id: other });
    expect((await claim(os))?.attempts).toBe(1);
    await expect(failing(() => kernel.os.call("resubmit", { id: other }))).rejects.toMatchObject({ code: "EBUSY" });
  });

  test("can be cancelled, waiting or claimed", async () => {
    const os = await child();
    const [held, waiting] = [await submit("held"), await submit("waiting")];
    await claim(os);
    for (const id of [held, waiting]) await kernel.os.call("cancelTask", { id });
    await expect(failing(() => os.call("complete", { id: held }))).rejects.toMatchObject({ code: "ESTALE" });
    expect(await claim(os)).toBeNull();
    await expect(failing(() => kernel.os.call("cancelTask", { id: held }))).rejects.toMatchObject({ code: "EBUSY" });
    await expect(failing(() => kernel.os.call("cancelTask", { id: 99 }))).rejects.toMatchObject({ code: "ENOENT" });
  });
});

test("what nobody begins in its time has failed", async () => {
  const id = await submit("x", { deadlineMs: 1 });
  await new Promise((go) => setTimeout(go, 5));
  expect(await claim(await child())).toBeNull();
  expect(await taskOf(id)).toMatchObject({ state: "failed", error: { code: "ETIMEDOUT" } });
});

test("a key makes a repetition the same task, and what is too much is refused", async () => {
  expect(await submit(1, { key: "k" })).toBe(await submit(2, { key: "k" }));
  expect(await submit(1, { key: "other" })).toBe(2);
  await expect(submit("x".repeat(LIMITS.messageBytesMax))).rejects.toMatchObject({ code: "E2BIG" });
  await expect(submit(1, { queue: "no/such" })).rejects.toMatchObject({ code: "EINVAL" });
  const { os } = { os: await child({ grants: ["self", "queue.claim:/srv/queues/mine"] }) };
  await expect(failing(() => os.call("claim", { queue: "work", waitMs: 0 }))).rejects.toMatchObject({ code: "EACCES" });
  await expect(failing(() => os.call("complete", { id: 1 }))).rejects.toMatchObject({ code: "EACCES" });
});

test("a queue is a folder: tasks are read and added there", async () => {
  await kernel.os.fs.exec("/srv/queues/work/submit", { from: "exec" });
  await kernel.os.fs.write("/srv/queues/work/submit", "from write");
  expect((await kernel.os.fs.readdir("/srv/queues/work")).map(({ name }) => name)).toEqual(["1", "2", "submit"]);
  expect(JSON.parse(await kernel.os.fs.readText("/srv/queues/work/2"))).toMatchObject({
    body: "from write",
    state: "pending",
  });
  expect(await kernel.os.fs.readdir("/srv/queues")).toMatchObject([{ name: "work" }]);
});

test("workers do all tasks, failures again, and who waits for a task gets its result", async () => {
  const tried: string[] = [];
  const workers = program("worker", async (_input: unknown, ctx: RunContext) =>
    ctx.work(
      "work",
      async (body, step) => {
        const number = body as number;
        await step.step("note", () => tried.push(`${number}`));
        if (number === 5 && tried.filter((one) => one === "5").length < 2) throw new Error("not yet");
        if (number === 7) throw new RangeError("never");
        return number * number;
      },
      { idleMs: 200 },
    ),
  );
  const boss = program("boss", async (_input: unknown, ctx: RunContext) => {
    const ids = await Promise.all([3, 5, 7, 9].map((number) => ctx.submit(`task ${number}`, "work", number)));
    return Promise.all(
      ids.map((id) => ctx.taskEnd(`end ${id}`, id).catch((error: unknown) => (error as Error).message)),
    );
  });
  const pids = [await kernel.os.spawn(workers), await kernel.os.spawn(workers)];
  const { result } = await kernel.os.wait(await kernel.os.spawn(boss));
  expect(result).toEqual([9, 25, expect.stringContaining("never"), 81]);
  const done = await Promise.all(pids.map(async (pid) => (await kernel.os.wait(pid)).result as number));
  expect(done.reduce((sum, one) => sum + one, 0)).toBe(3);
  expect(tried.filter((one) => one === "7")).toHaveLength(3);
});

test("every task is done once in effect, wherever hosts end and whichever workers are killed", async () => {
  let checked = 0;
  for (let cut = 6; cut < 60; cut += 3) {
    const store = new LastingStore();
    const objects = new MemoryObjectStore();
    const worker = program("worker", async (_input: unknown, ctx: RunContext) =>
      ctx.work("work", async (body, step) => step.step("square", () => (body as number) ** 2), { idleMs: 50 }),
    );
    const boss = program("boss", async (count: number, ctx: RunContext) => {
      const ids: number[] = [];
      for (let number = 0; number < count; number++) ids.push(await ctx.submit(`task ${number}`, "work", number));
      const ends: unknown[] = [];
      for (const id of ids) ends.push(await ctx.taskEnd(`end ${id}`, id));
      return ends;
    });
    const programs = [worker, boss];
    const first = store.life(cut);
    const host = await bootKernel({ store: first, objects, programs });
    const started = async (): Promise<Pid> => {
      const pid = await host.os.spawn(boss, { input: 6 });
      for (let number = 0; number < 2; number++) await host.os.spawn(worker);
      return pid;
    };
    const pid = await Promise.race([started(), first.died]);
    if (pid !== undefined) await Promise.race([host.os.wait(pid), first.died]);
    const next = await bootKernel({ store: store.life(), objects, programs });
    for (const one of await next.os.ps()) if (one.state === "sleeping") await next.os.resume(one.pid);
    const known = (await next.os.ps({ all: true })).find(({ name }) => name === "boss");
    if (known === undefined) continue;
    // One of the workers is killed: what it holds waits for another.
    const victim = (await next.os.ps()).find(({ name }) => name === "worker");
    if (victim !== undefined) await next.os.kill(victim.pid);
    await next.os.spawn(worker);
    expect(await next.os.wait(known.pid)).toMatchObject({ code: 0, result: [0, 1, 4, 9, 16, 25] });
    const all: readonly Task[] = await next.os.call("tasks", {});
    expect(all.map(({ state }) => state)).toEqual(Array.from({ length: 6 }, () => "completed"));
    checked++;
    await next.close();
  }
  expect(checked).toBeGreaterThan(14);
}, 60_000);

test("ten thousand tasks wait, and a few workers do them", async () => {
  const roles: readonly (Role | undefined)[] = [undefined, "worker"];
  const tiers: readonly (Tier | undefined)[] = [undefined, "operational"];
  const ids = await Promise.all(
    Array.from({ length: 10_000 }, (_, at) => {
      const role = roles[at % 2];
      const tier = tiers[at % 3];
      return submit(at, { ...(role === undefined ? {} : { role }), ...(tier === undefined ? {} : { tier }) });
    }),
  );
  const os = await child({ role: "worker" });
  const seen = new Set<number>();
  for (let task = await claim(os); task !== null; task = await claim(os)) {
    seen.add(task.id);
    await os.call("complete", { id: task.id });
  }
  expect(seen.size).toBe(ids.length);
  expect(kernel.host.queues.all).toEqual([]);
});

test("a key of a task that could not be stored is that of the next one that is", async () => {
  let refusals = 1;
  const store = refusing(({ puts = [] }) => puts.some(({ key }) => key.startsWith("q/")) && refusals-- > 0);
  await using other = await bootKernel({ store });
  const call = (body: number) => other.os.call("submit", { queue: "work", body, key: "k" });
  const [first, second, third] = await Promise.allSettled([call(1), call(2), call(3)]);
  expect(first).toMatchObject({ status: "rejected", reason: { code: "EDQUOT" } });
  const id = second.status === "fulfilled" ? second.value : 0;
  expect(third).toMatchObject({ value: id });
  expect(await call(4)).toBe(id);
  expect(await other.host.queues.get(id)).toMatchObject({ body: 2, state: "pending" });
});
