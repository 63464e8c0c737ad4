// Care of the store: what is deleted, what stays, what is found damaged.

import { MemoryObjectStore } from "@ergos/drivers/memory";
import { createOfflineModel } from "@ergos/drivers/model-offline";
import { createNodePlatform } from "@ergos/drivers/platform-node";
import {
  Blobs,
  type Kernel,
  type Model,
  type Pid,
  type Platform,
  type Program,
  type ProcessContext,
  type UsageRow,
} from "@ergos/kernel";
import { setImmediate as othersTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { LastingStore, bootKernel, openProgram } from "./kernel-fixture.ts";

const big = (letter: string): Uint8Array => new TextEncoder().encode(letter.repeat(40_000));
const FUTURE = Date.now() + 86_400_000;

const quick = (name: string, run: (context: ProcessContext) => unknown = () => "done"): Program => ({
  name,
  revision: "1",
  kind: "function",
  run,
});
/** Starts a program and waits for its end. */
async function done(kernel: Kernel, program: Program, options: object = {}): Promise<Pid> {
  const pid = await kernel.os.spawn(program, options);
  await kernel.os.wait(pid);
  return pid;
}
const pids = async (kernel: Kernel): Promise<readonly number[]> =>
  (await kernel.os.call("ps", { all: true })).map(({ pid }) => pid).filter((pid) => pid > 1);
const keys = async (kernel: Kernel, from: string): Promise<readonly string[]> =>
  (await kernel.host.store.scan({ from, to: `${from}\uD7FF` }, { limit: 10_000 })).map(({ key }) => key);

test("who reads while a file is overwritten, and its old content collected, has the new content", async () => {
  /** Does something before content is given the next time. */
  class Watched extends MemoryObjectStore {
    before: (() => Promise<void>) | undefined;
    override async get(...asked: Parameters<MemoryObjectStore["get"]>): Promise<Uint8Array> {
      const { before } = this;
      this.before = undefined;
      await before?.();
      return super.get(...asked);
    }
  }
  const objects = new Watched();
  await using kernel = await bootKernel({ objects });
  const { fs } = kernel.os;
  await fs.write("/srv/f", big("a"), { create: "maybe" });
  const old = await Array.fromAsync(objects.list());
  objects.before = async () => {
    await fs.write("/srv/f", big("b"), {});
    for (const id of old) await objects.delete(id);
  };
  expect(await fs.readText("/srv/f")).toBe("b".repeat(40_000));
  const id = (await Array.fromAsync(objects.list())).find((one) => !old.includes(one));
  if (id !== undefined) await objects.delete(id);
  await expect(fs.readText("/srv/f")).rejects.toMatchObject({ code: "ECORRUPT" });
});

describe("prune", () => {
  test("deletes ended runs whole, and says what it would delete before", async () => {
    await using kernel = await bootKernel();
    const child = quick("child");
    const parent = quick("parent", async (context) => {
      for (let at = 0; at < 3; at++) {
        const pid = await context.os.spawn(child, { grants: ["fs.read"] });
        await context.os.wait(pid);
      }
      return "x".repeat(100_000);
    });
    await done(kernel, parent, { grants: ["fs.*", "proc.*"] });
    await done(kernel, quick("other"));
    const before = await pids(kernel);
    expect(before).toHaveLength(5);
    const told = await kernel.os.call("prune", { endedBefore: FUTURE, dryRun: true });
    expect(told).toMatchObject({ runs: 2, processes: 5, artifacts: 0 });
    expect(await pids(kernel)).toEqual(before);
    expect(await kernel.os.call("prune", { endedBefore: FUTURE })).toEqual(told);
    expect(await pids(kernel)).toEqual([]);
    for (const left of ["p/", "l/", "cap/"]) expect(await keys(kernel, left)).toEqual([]);
    await expect(kernel.os.wait(before[0] as Pid)).rejects.toMatchObject({ code: "ESRCH" });
    expect(await kernel.os.call("collect", {})).toMatchObject({ blobs: 0, kept: 1 });
    expect(await kernel.host.caretaker.collect({ graceMs: 0 })).toMatchObject({ blobs: 1, kept: 0 });
  });

  test("keeps what runs and what it may ask for, what is recent, the newest, and what left artifacts", async () => {
    await using kernel = await bootKernel();
    const { program, context } = openProgram();
    const living = await kernel.os.spawn(program);
    const { os } = await context;
    const asked = await os.spawn(quick("asked"));
    await os.wait(asked);
    const left = await done(
      kernel,
      quick("left", ({ os: own }) => own.call("putArtifact", { name: "a", bytes: big("a") })),
    );
    const old = await done(kernel, quick("old"));
    const newest = await done(kernel, quick("newest"));
    expect(await kernel.os.call("prune", { endedBefore: 1 })).toMatchObject({ runs: 0 });
    await kernel.os.call("prune", { endedBefore: FUTURE, keep: 1 });
    expect([...(await pids(kernel))].sort((one, two) => one - two)).toEqual([living, asked, left, newest]);
    expect(old).toBeGreaterThan(0);
    expect(await kernel.os.call("prune", { endedBefore: FUTURE, artifacts: true })).toMatchObject({
      runs: 2,
      artifacts: 1,
    });
    expect(await kernel.os.call("artifacts", {})).toEqual([]);
    await kernel.os.kill(living, "KILL");
    expect(await kernel.os.call("prune", { endedBefore: FUTURE })).toMatchObject({ runs: 1, processes: 2 });
  });

  test("keeps whoever gave a right that somebody else still has", async () => {
    const store = new LastingStore();
    const { program, context } = openProgram();
    const programs = [program];
    let kernel = await bootKernel({ store: store.life(), programs });
    const receiver = await kernel.os.spawn(program, { grants: ["proc.*"] });
    await context;
    const giver = await done(
      kernel,
      quick("giver", ({ os }) => os.call("grant", { pid: receiver, grants: ["fs.stat:/**"] })),
    );
    expect(await kernel.os.call("prune", { endedBefore: FUTURE })).toMatchObject({ runs: 0 });
    await kernel.close();
    kernel = await bootKernel({ store: store.life(), programs });
    expect(await pids(kernel)).toContain(giver);
    await kernel.os.kill(receiver, "KILL");
    expect(await kernel.os.call("prune", { endedBefore: FUTURE })).toMatchObject({ runs: 2 });
    await kernel.close();
  });

  test("a host that dies on the way leaves runs that are whole or can be deleted", async () => {
    for (let commits = 1; commits < 9; commits++) {
      const store = new LastingStore();
      const program = quick("many", async ({ os }) => {
        for (let at = 0; at < 150; at++) await os.wait(await os.spawn(quick("child"), {}));
        return await os.call("putArtifact", { name: "a", bytes: big("a") });
      });
      const first = await bootKernel({ store: store.life() });
      await done(first, program, { grants: ["proc.*", "artifact.*"] });
      await first.close();
      const life = store.life(commits);
      const second = await bootKernel({ store: life });
      const pruning = second.os.call("prune", { endedBefore: FUTURE, artifacts: true }).catch(() => undefined);
      await Promise.race([pruning, life.died]);
      const third = await bootKernel({ store: store.life() });
      expect((await third.os.call("checkStore", {})).problems.filter(({ what }) => !what.includes("missing"))).toEqual(
        [],
      );
      await third.os.call("prune", { endedBefore: FUTURE, artifacts: true });
      expect(await pids(third)).toEqual([]);
      await third.close();
    }
  });

  test("two at once, or one beside a collection, are refused", async () => {
    await using kernel = await bootKernel();
    await done(kernel, quick("one"));
    const both = await Promise.allSettled([
      kernel.os.call("prune", { endedBefore: FUTURE }),
      kernel.os.call("collect", {}),
    ]);
    expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
  });
});

test("what is run again while it is looked at stays, with its rights", async () => {
  await using kernel = await bootKernel();
  const { program: open, context } = openProgram();
  let isFirst = true;
  const flaky = quick("flaky", (own) => {
    if (!isFirst) return open.run(own);
    isFirst = false;
    throw new TypeError("not yet");
  });
  const pid = await done(kernel, flaky, { grants: ["fs.*:/srv/**"] });
  const pruning = kernel.os.call("prune", { endedBefore: FUTURE });
  const resuming = kernel.os.resume(pid, { again: true, program: flaky });
  const [pruned, resumed] = await Promise.allSettled([pruning, resuming]);
  expect(pruned.status).toBe("fulfilled");
  if (resumed.status === "fulfilled") {
    expect(await (await context).os.fs.exists("/srv/none")).toBe(false);
    expect(await keys(kernel, "cap/")).not.toEqual([]);
  } else expect(await pids(kernel)).toEqual([]);
});

test("content is new only as long as it is, however much is stored", async () => {
  let now = 0;
  const blobs = new Blobs(new MemoryObjectStore(), { now: () => now, monotonic: () => now });
  const old = await blobs.put(big("o"));
  for (let hour = 1; hour < 5; hour++) {
    now = hour * 3_600_001;
    await blobs.put(new TextEncoder().encode(String(hour)));
  }
  const fresh = await blobs.put(big("f"));
  expect([blobs.isNewer(old, now - 3_600_000), blobs.isNewer(fresh, now - 3_600_000)]).toEqual([false, true]);
  expect(blobs.isNewer(old, now - 50 * 3_600_000)).toBe(true);
});

describe("collect", () => {
  const shifted = (): { readonly platform: Platform; pass: (ms: number) => void } => {
    const node = createNodePlatform();
    let offset = 0;
    const clock = { now: () => node.clock.now() + offset, monotonic: () => node.clock.monotonic() + offset };
    return { platform: { ...node, clock }, pass: (ms) => (offset += ms) };
  };

  test("deletes what was overwritten and removed, and nothing that a file, an artifact or a journal names", async () => {
    const { platform, pass } = shifted();
    await using kernel = await bootKernel({ platform });
    const { os } = kernel;
    await os.fs.write("/a", big("a"), { create: "maybe" });
    await os.fs.write("/b", big("b"), { create: "maybe" });
    await os.fs.write("/b", big("c"));
    await os.fs.write("/gone", big("d"), { create: "maybe" });
    await os.fs.unlink("/gone");
    const pid = await done(
      kernel,
      quick("large", async (context) => {
        await context.os.call("putArtifact", { name: "kept", bytes: big("e") });
        return "z".repeat(100_000);
      }),
      { input: { text: "w".repeat(100_000) } },
    );
    // As a step with a large outcome leaves it.
    const ref = await kernel.host.objects.put(big("f"));
    const step = { t: "step", at: 1, p: "large", ref };
    await kernel.host.store.commit({ appends: [{ log: `j/${pid}`, value: JSON.stringify(step) }] });
    expect(await os.call("collect", {})).toMatchObject({ blobs: 0, kept: 8 });
    pass(2 * 3_600_000);
    const told = await os.call("collect", { dryRun: true });
    expect(told).toMatchObject({ blobs: 2, bytes: 80_000, kept: 6 });
    expect(await os.call("collect", {})).toEqual(told);
    expect(await os.call("checkStore", { contents: true })).toMatchObject({ problems: [], blobs: 6 });
    expect(Buffer.from(big("c")).equals(await os.fs.read("/b"))).toBe(true);
    expect(Buffer.from(big("e")).equals(await os.call("readArtifact", { pid, name: "kept" }))).toBe(true);
    expect(await os.wait(pid)).toMatchObject({ result: "z".repeat(100_000) });
  });

  test("content that is stored again while it leaves is there afterwards", async () => {
    // A store that takes a turn for everything, so that each order of the two happens.
    const slow = new (class extends MemoryObjectStore {
      override async delete(id: Parameters<MemoryObjectStore["delete"]>[0]): Promise<void> {
        for (let at = 0; at < turns; at++) await Promise.resolve();
        await super.delete(id);
        for (let at = 0; at < turns; at++) await Promise.resolve();
      }
    })();
    let turns = 0;
    for (; turns < 6; turns++) {
      for (let later = 0; later < 14; later++) {
        const blobs = new Blobs(slow, createNodePlatform().clock);
        const id = await blobs.put(big("q"));
        const leaving = blobs.delete(id);
        for (let at = 0; at < later; at++) await Promise.resolve();
        await blobs.put(big("q"));
        await leaving;
        expect(await slow.size(id), `delete of ${turns} turns, put after ${later}`).toBe(40_000);
      }
    }
  });

  test("files that are written again and again beside collections stay readable", async () => {
    const { platform, pass } = shifted();
    await using kernel = await bootKernel({ platform });
    const { fs } = kernel.os;
    let isOver = false;
    const writers = Array.from({ length: 4 }, async (_none, at) => {
      for (let round = 0; round < 60; round++) {
        await fs.write(`/f${at}`, big(String.fromCharCode(97 + (round % 5))), { create: "maybe" });
        await new Promise((go) => setImmediate(go));
      }
    });
    const collecting = (async () => {
      let blobs = 0;
      while (!isOver) {
        pass(600_000);
        await new Promise((go) => setImmediate(go));
        blobs += (await kernel.os.call("collect", { graceMs: 60_000 })).blobs;
      }
      return blobs;
    })();
    await Promise.all(writers);
    isOver = true;
    expect(await collecting).toBeGreaterThan(0);
    expect(await kernel.os.call("checkStore", { contents: true })).toMatchObject({ problems: [], files: 4 });
  });
});

describe("checkStore", () => {
  test("a store that was used is whole", async () => {
    await using kernel = await bootKernel();
    await kernel.os.fs.write("/a/b/c", big("a"), { create: "maybe" });
    await kernel.os.fs.write("/a/%\u{1F600}", big("a"), { create: "maybe" });
    await done(kernel, quick("one"));
    expect(await kernel.os.call("checkStore", { contents: true })).toEqual({
      problems: [],
      files: 2,
      directories: 2,
      processes: 1,
      blobs: 1,
    });
  });

  test("others have their turn while much is looked at, or collected", async () => {
    await using kernel = await bootKernel();
    await Promise.all(Array.from({ length: 6000 }, (_, at) => kernel.os.fs.writeFile(`/srv/${at}`, "x")));
    for (const name of ["checkStore", "collect", "auditVerify"] as const) {
      let turns = 0;
      let isOver = false;
      const tick = (): void => {
        turns++;
        if (!isOver) setImmediate(tick);
      };
      setImmediate(tick);
      await kernel.os.call(name, {});
      isOver = true;
      expect(turns, name).toBeGreaterThan(5);
    }
  });

  test("names what is damaged, each by its record", async () => {
    const objects = new MemoryObjectStore();
    await using kernel = await bootKernel({ objects });
    const { store } = kernel.host;
    for (const name of ["one", "two", "three", "four", "five"])
      await kernel.os.fs.write(`/${name}/file`, big(name), { create: "maybe" });
    const pid = await done(
      kernel,
      quick("result", () => "r".repeat(100_000)),
    );
    const inoOf = async (path: string): Promise<number> => {
      const located = await kernel.host.fs.namespace.resolve(path, 1 as Pid);
      return located.kind === "inode" ? located.inode.ino : 0;
    };
    const [one, two, three, four, five] = await Promise.all(
      ["/one/file", "/two", "/three/file", "/four/file", "/five/file"].map(inoOf),
    );
    const process = `p/${String(pid).padStart(10, "0")}`;
    const record = JSON.parse(String((await store.get(process))?.value)) as { readonly resultRef: never };
    await objects.delete(record.resultRef);
    await store.commit({
      deletes: [`i/${one}`, `x/${three}/000000000000`],
      puts: [
        { key: `c/${two}`, value: "7" },
        { key: `n/${two}/again`, value: `${four} file` },
        { key: `i/${five}`, value: "{" },
        { key: "l/0000000999", value: "" },
      ],
    });
    const { problems } = await kernel.os.call("checkStore", {});
    const found = new Set(problems.map(({ at }) => at));
    for (const at of [`c/${two}`, `i/${three}`, `x/${one}`, `i/${five}`, "l/0000000999", process])
      expect(found).toContain(at);
    expect(problems.map(({ what }) => what).join("\n")).toMatch(/another name too/u);
  });
});

describe("rolling up the ledger", () => {
  const DAY = 86_400_000;
  const NOON = Date.UTC(2026, 10, 20, 12);

  /** Boots over a store at some instant, and makes calls of a model, each by a process of its own. */
  async function spend(
    store: LastingStore,
    now: number,
    calls: number,
    group?: string,
    models: readonly Model[] = [createOfflineModel()],
  ): Promise<Kernel> {
    const real = createNodePlatform();
    const platform: Platform = { ...real, clock: { monotonic: () => real.clock.monotonic(), now: () => now } };
    const kernel = await bootKernel({ store: store.life(), platform, models });
    if (group !== undefined) await kernel.os.call("setGroup", { group });
    const caller = quick("caller", ({ os }) => os.infer("ask", { messages: [{ role: "user", content: "a b c" }] }));
    for (let at = 0; at < calls; at++) await done(kernel, caller, group === undefined ? {} : { group });
    return kernel;
  }

  /** Of each row, how many calls it is the sum of. */
  const counts = (rows: readonly UsageRow[]): readonly number[] =>
    rows.map(({ entries }) => entries).toSorted((a, b) => a - b);

  const totals = (kernel: Kernel, by: readonly ("day" | "user" | "group" | "model" | "run" | "pid")[], since = 0) =>
    kernel.os.call("ledger", { by, since });

  test("leaves every sum as it was, and forgets whose each call was", async () => {
    const store = new LastingStore();
    await (await spend(store, NOON - 2 * DAY, 3)).close();
    await (await spend(store, NOON - DAY, 2, "night")).close();
    await using kernel = await spend(store, NOON, 4);
    const sums = async () => ({
      day: await totals(kernel, ["day"]),
      who: await totals(kernel, ["user", "group", "model", "day"]),
      late: await totals(kernel, ["day", "group"], NOON - DAY - DAY / 2),
    });
    const before = await sums();
    expect(counts(before.day)).toEqual([2, 3, 4]);
    expect(counts(before.late)).toEqual([2, 4]);
    expect(await kernel.os.call("rollUpLedger", { before: NOON, dryRun: true })).toBe(5);
    expect(await sums()).toEqual(before);
    expect(await kernel.os.call("rollUpLedger", { before: NOON })).toBe(5);
    expect(await keys(kernel, "us/")).toHaveLength(2);
    expect(await sums()).toEqual(before);
    // The day that is under way keeps its calls, a second time finds nothing.
    expect(await kernel.os.call("rollUpLedger", { before: NOON })).toBe(0);
    const runs = await totals(kernel, ["run"]);
    expect(runs).toHaveLength(5);
    expect(runs.find(({ key }) => key.run === "-")).toMatchObject({ entries: 5 });
    // Of a day that was rolled up nobody knows the hours.
    expect(counts(await totals(kernel, ["day"], NOON - DAY + 1))).toEqual([2, 4]);
  });

  test("keeps what models have used beyond what was reserved, which nobody was charged for", async () => {
    const store = new LastingStore();
    const greedy: Model = {
      ...createOfflineModel({ name: "greedy" }),
      infer: () =>
        Promise.resolve({ text: "much", finishReason: "stop", usage: { inputTokens: 1, outputTokens: 500 } }),
    };
    const kernel = await spend(store, NOON - DAY, 0, undefined, [greedy]);
    const caller = quick("caller", ({ os }) => os.infer("ask", { messages: [], maxOutputTokens: 10 }));
    for (let at = 0; at < 2; at++) await done(kernel, caller, { budget: { tokensOut: 100 } });
    const over = { entries: 2, used: { tokensOut: 20 }, over: { tokensOut: 980 } };
    expect(await totals(kernel, ["model"])).toMatchObject([over]);
    expect(await kernel.os.call("rollUpLedger", { before: NOON })).toBe(2);
    expect(await totals(kernel, ["model"])).toMatchObject([over]);
    await kernel.close();
  });

  test("adds to the sums of a day that has some, also those of a clock that went back", async () => {
    const store = new LastingStore();
    const first = await spend(store, NOON - DAY, 2);
    expect(await first.os.call("rollUpLedger", { before: NOON })).toBe(2);
    await first.close();
    await using second = await spend(store, NOON - DAY, 3);
    const before = await totals(second, ["user", "model", "day"]);
    expect(await second.os.call("rollUpLedger", { before: NOON })).toBe(3);
    expect(await totals(second, ["user", "model", "day"])).toEqual(before);
    expect(before).toMatchObject([{ entries: 5 }]);
  });

  test("who sums up while it happens has each call once, whenever it began", async () => {
    for (let turns = 0; turns < 8; turns++) {
      await using kernel = await spend(new LastingStore(), NOON - DAY, 3);
      const report = totals(kernel, ["day"]);
      for (let at = 0; at < turns; at++) await othersTurn();
      expect(await kernel.os.call("rollUpLedger", { before: NOON })).toBe(3);
      expect(await report).toMatchObject([{ entries: 3 }]);
    }
  });
});
