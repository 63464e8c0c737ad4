// The lives of a process against each other: kills, sleeps, restarts and ends that come in the moment of another.

import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { type Batch, type Kernel, KernelError, type Pid, type Program, type Restart } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LastingStore, bootKernel, openProgram } from "../../kernel/test/kernel-fixture.ts";

/** A store that holds the answer of one commit back, which has happened nevertheless, or refuses it. */
class GatedStore extends MemoryMetastore {
  #wanted:
    | { readonly text: string; readonly refuses: boolean; readonly hit: () => void; readonly go: Promise<void> }
    | undefined;

  override async commit(batch: Batch): ReturnType<MemoryMetastore["commit"]> {
    const wanted = this.#wanted;
    const text = JSON.stringify(batch, (_key, value: unknown) => (value instanceof Uint8Array ? "" : value));
    if (wanted === undefined || !text.includes(wanted.text)) return super.commit(batch);
    this.#wanted = undefined;
    if (wanted.refuses) throw new KernelError("EIO", "no disk");
    const receipt = await super.commit(batch);
    wanted.hit();
    await wanted.go;
    return receipt;
  }

  /** Holds back the next commit with a text in it. */
  hold(text: string): { readonly reached: Promise<void>; readonly open: () => void } {
    const [hit, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    this.#wanted = { text, refuses: false, hit: hit.resolve, go: go.promise };
    return { reached: hit.promise, open: go.resolve };
  }

  /** Refuses the next commit with a text in it. */
  refuse(text: string): void {
    this.#wanted = { text, refuses: true, hit: () => undefined, go: Promise.resolve() };
  }
}

const RESTART = '\\"t\\":\\"restart\\"';
const SLEEP = '"value":"{}"';
const soon: Restart = { policy: "on-failure", delayMs: 1, maxDelayMs: 4 };
const ms = (count: number): Promise<void> => new Promise((go) => setTimeout(go, count));
/** Runs for ever and hears nothing. */
const stubborn = (name = "stubborn", graceMs = 40): Program => ({
  name,
  revision: "1",
  kind: "function",
  graceMs,
  run: () => new Promise(() => undefined),
});
const failsOnce = (after: () => unknown): Program => {
  let lives = 0;
  return program("fails once", () => {
    if (lives++ === 0) throw new Error("x");
    return after();
  });
};

let store: GatedStore;
let kernel: Kernel;
beforeEach(async () => {
  store = new GatedStore();
  kernel = await bootKernel({ store });
  kernel.activate();
});
afterEach(() => kernel.close());

const summaryOf = async (pid: Pid) => (await kernel.os.ps({ pids: [pid] }))[0];
const failing = async (call: () => unknown): Promise<unknown> => call();
const within = async <T>(end: Promise<T>): Promise<T | "hangs"> =>
  Promise.race([end, ms(1500).then(() => "hangs" as const)]);
const asleep = async (pid: Pid): Promise<void> => {
  while (kernel.host.processes.get(pid)?.sleep === undefined) await ms(1);
};

describe("a kill has the last word", () => {
  test("over a sleep within its grace", async () => {
    const pid = await kernel.os.spawn(stubborn());
    const killed = kernel.os.kill(pid);
    await ms(5);
    await expect(failing(() => kernel.os.call("sleep", { pid }))).rejects.toMatchObject({ code: "EBUSY" });
    await killed;
    expect((await summaryOf(pid))?.state).toBe("zombie");
  });

  test("over a restart that is being recorded", async () => {
    const gate = store.hold(RESTART);
    let lives = 0;
    const pid = await kernel.os.spawn(
      failsOnce(() => ++lives),
      { restart: soon },
    );
    await gate.reached;
    const killed = kernel.os.kill(pid);
    await ms(5);
    gate.open();
    await killed;
    await ms(50);
    expect([lives, (await summaryOf(pid))?.state]).toEqual([0, "zombie"]);
  });

  test("over its own hibernation, while its children have their grace", async () => {
    const sleepy = program("sleepy", async (_input: unknown, ctx: RunContext) => {
      await ctx.spawn("child", stubborn("child", 60));
      await ms(30);
      await ctx.hibernate("night");
    });
    for (const wallMs of [undefined, 20]) {
      const pid = await kernel.os.spawn(sleepy, wallMs === undefined ? {} : { limits: { wallMs } });
      await ms(15);
      if (wallMs === undefined) await kernel.os.kill(pid);
      expect(await within(kernel.os.wait(pid))).toMatchObject(wallMs === undefined ? { signal: "TERM" } : { code: 1 });
      expect((await summaryOf(pid))?.state).toBe("zombie");
    }
  });

  test("over a retry that has not found its account yet: its parent's stays open", async () => {
    const parent = openProgram("parent");
    const above = await kernel.os.spawn(parent.program, { budget: { spawns: 2 } });
    const { os } = await parent.context;
    const bad = program("bad", () => Promise.reject(new Error("x")));
    const pid = await os.spawn(bad);
    await kernel.os.wait(pid);
    const resumed = kernel.os.resume(pid, { program: bad, again: true }).catch(() => undefined);
    while (kernel.host.processes.get(pid)?.state.name !== "ready") await Promise.resolve();
    await kernel.os.kill(pid, "KILL");
    await resumed;
    expect(kernel.host.accounts.isOpen(above)).toBe(true);
    await os.spawn(bad);
    await expect(os.spawn(bad)).rejects.toMatchObject({ code: "EDQUOT" });
  });
});

describe("falling asleep", () => {
  test("hears a signal and is woken in that moment", async () => {
    const sleepy = program("sleepy", async (_input: unknown, ctx: RunContext) => {
      await ctx.hibernate("night");
      return "up";
    });
    const gate = store.hold(SLEEP);
    const pid = await kernel.os.spawn(sleepy);
    await gate.reached;
    await kernel.os.kill(pid, "USR1");
    gate.open();
    expect(await within(kernel.os.wait(pid))).toMatchObject({ result: "up" });
  });

  test("happens once, and not to what is being restarted", async () => {
    const open = openProgram();
    const pid = await kernel.os.spawn(open.program);
    await open.context;
    const both = await Promise.allSettled([kernel.os.call("sleep", { pid }), kernel.os.call("sleep", { pid })]);
    expect(both.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
    await ms(5);
    expect(kernel.host.processes.orphans).toBe(0);

    const gate = store.hold(RESTART);
    const other = await kernel.os.spawn(
      failsOnce(() => "ok"),
      { restart: soon },
    );
    await gate.reached;
    await expect(failing(() => kernel.os.call("sleep", { pid: other }))).rejects.toMatchObject({ code: "EBUSY" });
    gate.open();
    expect(await within(kernel.os.wait(other))).toMatchObject({ result: "ok" });
  });

  test("gives its place back where it could not be recorded, and leaves no alarm behind", async () => {
    const open = openProgram();
    await kernel.os.spawn(open.program);
    const { os } = await open.context;
    store.refuse(SLEEP);
    await expect(failing(() => os.call("sleep", { place: "x" }))).rejects.toMatchObject({ code: "EIO" });
    await expect(failing(() => os.call("sleep", { place: "x" }))).rejects.toMatchObject({ code: "ECANCELED" });

    const twice = program("twice", async (_input: unknown, ctx: RunContext) => {
      await ctx.hibernate("one", { until: Date.now() + 60 });
      await ctx.hibernate("two", { until: Date.now() + 60_000 });
    });
    const pid = await kernel.os.spawn(twice);
    await asleep(pid);
    await kernel.os.resume(pid, { program: twice });
    await ms(120);
    expect((await summaryOf(pid))?.state).toBe("sleeping");
  });
});

describe("a restart", () => {
  test("that cannot be recorded is an end, which nobody waits for in vain", async () => {
    store.refuse(RESTART);
    const pid = await kernel.os.spawn(
      program("p", () => Promise.reject(new Error("x"))),
      { restart: soon },
    );
    expect(await within(kernel.os.wait(pid))).toMatchObject({ code: 1 });
  });

  test("leaves stopped what was stopped", async () => {
    const boss = openProgram("boss");
    await kernel.os.spawn(boss.program, { strategy: "one-for-all" });
    const { os } = await boss.context;
    let steps = 0;
    const busy = program("busy", async (_input: unknown, ctx: RunContext) => {
      for (;;) {
        await ms(2);
        await ctx.step(`s${steps}`, () => steps++);
      }
    });
    const pid = await os.spawn(busy, { restart: soon });
    await ms(20);
    await kernel.os.kill(pid, "STOP");
    await ms(10);
    const before = steps;
    await os.wait(
      await os.spawn(
        failsOnce(() => "ok"),
        { restart: soon },
      ),
    );
    await ms(100);
    expect(steps).toBe(before);
    await kernel.os.kill(pid, "CONT");
    await ms(50);
    expect(steps).toBeGreaterThan(before);
  });

  test("from the start ends the children of the life before", async () => {
    let lives = 0;
    const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
      await ctx.spawn("child", openProgram("child").program);
      if (lives++ < 2) throw new Error("x");
      await ctx.receive("never");
    });
    const pid = await kernel.os.spawn(parent, { restart: { ...soon, from: "start" } });
    while (lives < 3) await ms(1);
    await ms(20);
    expect(kernel.host.processes.family.livingChildrenOf(pid)).toHaveLength(1);
  });
});

describe("what is counted", () => {
  test("a retry is not charged with the time since the failure", async () => {
    let tries = 0;
    const late = program("late", async (_input: unknown, ctx: RunContext) => {
      await ctx.step("a", () => 1);
      if (tries++ < 2) throw new Error("x");
      await ms(20);
      return "ok";
    });
    const pid = await kernel.os.spawn(late, { limits: { wallMs: 300 } });
    await kernel.os.wait(pid);
    await ms(400);
    await kernel.os.resume(pid, { program: late, again: true });
    await kernel.os.wait(pid);
    await kernel.os.resume(pid, { program: late, again: true });
    expect(await kernel.os.wait(pid)).toMatchObject({ result: "ok" });
  });

  test("what a sleeping process has used is kept when it is killed", async () => {
    const sleepy = program("sleepy", async (_input: unknown, ctx: RunContext) => {
      await ctx.step("a", () => 1);
      await ctx.hibernate("night");
    });
    const pid = await kernel.os.spawn(sleepy);
    await asleep(pid);
    await kernel.os.kill(pid, "KILL");
    expect((await summaryOf(pid))?.usage.steps).toBeGreaterThan(0);
  });

  test("orphans are counted once, and gone when their code is over", async () => {
    const { orphans } = kernel.host.processes;
    const tells: Program = {
      ...stubborn("tells", 200),
      run: async ({ os }) => {
        await ms(60);
        await os.call("exit", { result: 1 });
      },
    };
    await kernel.os.wait(await kernel.os.spawn(tells, { limits: { wallMs: 20 } }));
    const slow: Program = { ...stubborn("slow", 40), run: () => ms(150) };
    const pid = await kernel.os.spawn(slow, { limits: { wallMs: 20 } });
    await ms(10);
    const killed = kernel.os.kill(pid);
    await kernel.os.wait(pid);
    await killed;
    await ms(200);
    expect(kernel.host.processes.orphans).toBe(orphans);
  });

  test("numbers of volatile processes are used once, also after a spawn that was refused", async () => {
    const lasting = new LastingStore();
    const objects = new MemoryObjectStore();
    const first = await bootKernel({ store: lasting.life(), objects });
    const open = openProgram("parent");
    await first.os.spawn(open.program, { budget: { toolCalls: 1 } });
    const { os } = await open.context;
    const volatile = { durable: false } as const;
    await expect(os.spawn(stubborn(), { ...volatile, budget: { toolCalls: 50 } })).rejects.toMatchObject({
      code: "EDQUOT",
    });
    const before = [await os.spawn(stubborn(), volatile), await os.spawn(stubborn(), volatile)];
    const next = await bootKernel({ store: lasting.life(), objects });
    const after = new Set([await next.os.spawn(stubborn()), await next.os.spawn(stubborn())]);
    expect(before.filter((pid) => after.has(pid))).toEqual([]);
    await next.close();
  });
});

test("who waits for a process hears that it is quarantined", async () => {
  const sleepy = program("sleepy", (_input: unknown, ctx: RunContext) => ctx.hibernate("night"));
  const pid = await kernel.os.spawn(sleepy);
  await asleep(pid);
  const waited = kernel.os.wait(pid);
  const process = kernel.host.processes.get(pid);
  if (process === undefined) throw new TypeError("it is gone");
  await kernel.host.processes.resumption.quarantine(process, "a test");
  expect(await within(waited)).toMatchObject({ code: 1, error: { code: "EQUARANTINE" } });
});

test("data that looks like a program is none: nobody has a module run by it", async () => {
  const loaded: unknown[] = [];
  const loader = (source: unknown): Promise<Program> => {
    loaded.push(source);
    return Promise.resolve(stubborn("evil"));
  };
  const guarded = await bootKernel({ loader });
  const open = openProgram();
  await guarded.os.spawn(open.program, { grants: ["proc.spawn", "proc.step", "proc.wait"] });
  const { os } = await open.context;
  const forged = { run: true, name: "x", revision: "1", kind: "function", source: { module: "/evil.mjs" } };
  // As it comes over the wire.
  await expect(os.spawn(forged as unknown as Program, { restart: "always" })).rejects.toMatchObject({
    code: "ENOEXEC",
  });
  expect(loaded).toEqual([]);
  await guarded.close();
});
