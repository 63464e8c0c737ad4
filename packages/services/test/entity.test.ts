// Entities: states that change only as their types allow, with their history, over hosts that die.

import { MemoryObjectStore } from "@ergos/drivers/memory";
import { type Entity, type EntityType, type Kernel, type Os, type Pid } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LastingStore, bootKernel, openProgram, processWith } from "../../kernel/test/kernel-fixture.ts";

const ORDER: EntityType = {
  type: "order",
  initial: "new",
  transitions: [
    { from: "new", to: "paid", where: { "payment.ok": true } },
    { from: "paid", to: "shipped" },
    { from: ["new", "paid"], to: "cancelled" },
  ],
};

let kernel: Kernel;
let os: Os;
beforeEach(async () => {
  kernel = await bootKernel();
  ({ os } = kernel);
  await os.call("defineEntity", ORDER);
});
afterEach(() => kernel.close());

const failing = async (call: () => unknown): Promise<unknown> => call();
const move = async (id: string, to: string, more: object = {}) =>
  os.call("transition", { type: "order", id, to, ...more });

describe("an entity", () => {
  test("that many change at once is changed by one after the other", async () => {
    await os.call("defineEntity", {
      type: "count",
      initial: "a",
      transitions: [{ from: "a", to: "a", where: { tags: ["x", { y: 1 }] } }],
    });
    await os.call("createEntity", { type: "count", id: "1", data: { tags: ["x", { y: 1 }] } });
    const change = async (): Promise<unknown> => os.call("transition", { type: "count", id: "1", to: "a" });
    await Promise.all(Array.from({ length: 60 }, change));
    expect(await os.call("entity", { type: "count", id: "1" })).toMatchObject({ version: 61 });
    await os.call("createEntity", { type: "count", id: "2", data: { tags: ["x", { y: 2 }] } });
    await expect(os.call("transition", { type: "count", id: "2", to: "a" })).rejects.toMatchObject({ code: "EPERM" });
  });

  test("is listed, however many there are", async () => {
    const ids = Array.from({ length: 1100 }, (_, at) => `n${String(at).padStart(4, "0")}`);
    await Promise.all(ids.map(async (id) => os.call("createEntity", { type: "order", id })));
    expect(await os.fs.exists("/proc/entities/order/n1099")).toBe(true);
    const listed: string[] = [];
    for (let after: string | undefined; ;) {
      const page = await os.fs.readdir("/proc/entities/order", after === undefined ? {} : { after });
      if (page.length === 0) break;
      listed.push(...page.map(({ name }) => name));
      after = listed.at(-1);
    }
    expect(listed).toEqual(ids);
  });

  test("goes from state to state, and its history says when, by whom and why", async () => {
    await os.call("createEntity", { type: "order", id: "7", data: { total: 12 } });
    await move("7", "paid", { data: { payment: { ok: true } }, why: "card" });
    const shipped = await move("7", "shipped");
    expect(shipped).toMatchObject({ state: "shipped", version: 3, data: { total: 12, payment: { ok: true } } });
    expect(await os.call("entity", { type: "order", id: "7" })).toEqual(shipped);
    expect(await os.call("entityHistory", { type: "order", id: "7" })).toMatchObject([
      { to: "new", data: { total: 12 }, pid: 1 },
      { from: "new", to: "paid", why: "card", data: { payment: { ok: true } } },
      { from: "paid", to: "shipped" },
    ]);
  });

  test("does not go where its type does not lead, nor where a condition does not hold", async () => {
    await os.call("createEntity", { type: "order", id: "7" });
    await expect(failing(() => move("7", "shipped"))).rejects.toMatchObject({
      code: "EPERM",
      message: expect.stringContaining("from new it can become paid, cancelled") as unknown,
    });
    await expect(failing(() => move("7", "paid", { data: { payment: { ok: false } } }))).rejects.toThrow(/payment\.ok/);
    await move("7", "cancelled");
    await expect(failing(() => move("7", "paid"))).rejects.toThrow(/it is final/);
    expect((await os.call("entity", { type: "order", id: "7" }))?.data).toEqual({});
    await expect(failing(() => move("8", "paid"))).rejects.toMatchObject({ code: "ENOENT" });
    await expect(failing(() => os.call("createEntity", { type: "order", id: "7" }))).rejects.toMatchObject({
      code: "EEXIST",
    });
    await expect(failing(() => os.call("createEntity", { type: "parcel", id: "7" }))).rejects.toThrow(
      /there are order/,
    );
    await expect(failing(() => os.call("createEntity", { type: "order", id: "a/b" }))).rejects.toMatchObject({
      code: "EINVAL",
    });
    await expect(
      failing(() => os.call("createEntity", { type: "order", id: "big", data: { text: "x".repeat(70_000) } })),
    ).rejects.toMatchObject({ code: "E2BIG" });
  });

  test("is changed by one of two at the same time, and by nobody who has seen an older version", async () => {
    await os.call("createEntity", { type: "order", id: "7", data: { payment: { ok: true } } });
    const ends = await Promise.allSettled([move("7", "paid"), move("7", "cancelled"), move("7", "paid")]);
    // Paid, then cancelled, is allowed; paid twice is not.
    expect(ends.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected"]);
    await expect(failing(() => move("7", "paid", { version: 1 }))).rejects.toMatchObject({ code: "EBUSY" });
  });

  test("is read and moved as files, with the rights of its type alone", async () => {
    await os.call("createEntity", { type: "order", id: "7", data: { payment: { ok: true } } });
    await os.fs.exec("/proc/entities/order/7/transition", { to: "paid", why: "by file" });
    expect(await os.fs.readText("/proc/entities/order/7/state")).toBe("paid\n");
    expect(JSON.parse(await os.fs.readText("/proc/entities/order/7/history"))).toHaveLength(2);
    expect((await os.fs.readdir("/proc/entities/order")).map(({ name }) => name)).toEqual(["7"]);
    const reader = await processWith(kernel, ["self", "entity.read:order"]);
    expect(await reader.call("entity", { type: "order", id: "7" })).toMatchObject({ state: "paid" });
    await expect(
      failing(() => reader.call("transition", { type: "order", id: "7", to: "shipped" })),
    ).rejects.toMatchObject({ code: "EACCES" });
    await expect(failing(() => reader.call("defineEntity", ORDER))).rejects.toMatchObject({ code: "EACCES" });
  });

  test("is found by its state, a page at a time", async () => {
    for (let at = 0; at < 25; at++)
      await os.call("createEntity", {
        type: "order",
        id: `o${String(at).padStart(2, "0")}`,
        data: { payment: { ok: true } },
      });
    for (let at = 0; at < 25; at += 5) await move(`o${String(at).padStart(2, "0")}`, "paid");
    const ids = (all: readonly Entity[]) => all.map(({ id }) => id);
    expect(ids(await os.call("entities", { type: "order", state: "paid" }))).toEqual([
      "o00",
      "o05",
      "o10",
      "o15",
      "o20",
    ]);
    const first = await os.call("entities", { type: "order", limit: 10 });
    expect(ids(await os.call("entities", { type: "order", limit: 2, after: first.at(-1)?.id ?? "" }))).toEqual([
      "o10",
      "o11",
    ]);
  });
});

test("a type that cannot be is refused", async () => {
  const define = (type: object) =>
    failing(() => os.call("defineEntity", { type: "t", initial: "a", transitions: [], ...type }));
  await expect(define({ initial: "z", transitions: [{ from: "a", to: "b" }] })).rejects.toThrow(
    /no transition leaves "z"/,
  );
  await expect(define({ type: "a/b" })).rejects.toMatchObject({ code: "EINVAL" });
  await expect(define({ transitions: [{ from: "a", to: "b", action: {} }] })).rejects.toMatchObject({ code: "EINVAL" });
  await define({});
});

test("what a transition starts or sends is in its commit: both happen, or neither", async () => {
  const started: unknown[] = [];
  const ship = program("ship", async (input: unknown, ctx: RunContext) => {
    await ctx.step("note", () => started.push(input));
  });
  for (let cut = 3; cut < 14; cut++) {
    started.length = 0;
    const store = new LastingStore();
    const objects = new MemoryObjectStore();
    const first = store.life(cut);
    const host = await bootKernel({ store: first, objects, programs: [ship] });
    const type: EntityType = {
      type: "order",
      initial: "new",
      transitions: [{ from: "new", to: "paid", action: { spawn: { program: "ship" } } }],
    };
    const work = async (): Promise<void> => {
      await host.os.call("defineEntity", type);
      await host.os.call("createEntity", { type: "order", id: "7" });
      await host.os.call("transition", { type: "order", id: "7", to: "paid" });
    };
    await Promise.race([work(), first.died]);
    const next = await bootKernel({ store: store.life(), objects, programs: [ship] });
    for (const { pid, state } of await next.os.ps()) if (state === "sleeping") await next.os.resume(pid);
    const entity = await next.os.call("entity", { type: "order", id: "7" });
    const children = (await next.os.ps({ all: true })).filter(({ name }) => name === "ship");
    expect(children).toHaveLength(entity?.state === "paid" ? 1 : 0);
    for (const { pid, cause } of children) {
      await next.os.wait(pid);
      expect(cause).toBe("entity order/7");
    }
    expect(new Set(started.map((one) => JSON.stringify(one))).size).toBe(children.length);
    await next.close();
  }
  // Nobody may start it: then nothing has changed.
  const other = await bootKernel();
  await other.os.call("defineEntity", {
    ...ORDER,
    transitions: [{ from: "new", to: "paid", action: { spawn: { program: "nobody" } } }],
  });
  await other.os.call("createEntity", { type: "order", id: "7" });
  await expect(
    failing(() => other.os.call("transition", { type: "order", id: "7", to: "paid" })),
  ).rejects.toMatchObject({ code: "ENOEXEC" });
  expect(await other.os.call("entity", { type: "order", id: "7" })).toMatchObject({ state: "new", version: 1 });
  await other.close();
});

test("a program moves it once, and a trigger hears of it", async () => {
  kernel.activate();
  const { program: open, context } = openProgram();
  await os.spawn(open);
  const listener = (await context).os;
  await os.call("trigger", {
    topic: "entity.transitioned",
    where: { to: "paid" },
    action: { message: { to: listener.pid } },
  });
  await os.call("createEntity", { type: "order", id: "7", data: { payment: { ok: true } } });
  let lives = 0;
  const pay = program("pay", async (_input: unknown, ctx: RunContext) => {
    lives++;
    const { version } = await ctx.transition("pay", { type: "order", id: "7", to: "paid" });
    if (lives === 1) throw new Error("after it");
    return version;
  });
  const pid = await os.spawn(pay, { restart: { policy: "on-failure", delayMs: 1 } });
  expect((await os.wait(pid)).result).toBe(2);
  expect(await listener.call("receive", { waitMs: 1000 })).toMatchObject({
    body: { topic: "entity.transitioned", body: { id: "7" } },
  });
  expect(await listener.call("receive", { waitMs: 0 })).toBeNull();
});

test("no sequence of transitions leads where a reference does not", async () => {
  const states = ["a", "b", "c", "d"] as const;
  let count = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.constantFrom(...states), fc.constantFrom(...states)), { minLength: 1, maxLength: 8 }),
      fc.array(fc.constantFrom(...states), { maxLength: 12 }),
      async (edges, moves) => {
        const type = `t${count++}`;
        const first = edges[0]?.[0] ?? "a";
        const transitions = edges.map(([from, to]) => ({ from, to }));
        await os.call("defineEntity", { type, initial: first, transitions });
        await os.call("createEntity", { type, id: "x" });
        let state: string = first;
        let changes = 1;
        for (const to of moves) {
          const isAllowed = edges.some(([from, target]) => from === state && target === to);
          const end = await failing(() => os.call("transition", { type, id: "x", to })).then(
            () => true,
            () => false,
          );
          expect(end).toBe(isAllowed);
          if (isAllowed) [state, changes] = [to, changes + 1];
        }
        expect(await os.call("entity", { type, id: "x" })).toMatchObject({ state, version: changes });
        expect(await os.call("entityHistory", { type, id: "x" })).toHaveLength(changes);
      },
    ),
    { numRuns: 60 },
  );
});

test("entities and their types outlive the host", async () => {
  const store = new LastingStore();
  const objects = new MemoryObjectStore();
  const first = await bootKernel({ store: store.life(), objects });
  await first.os.call("defineEntity", ORDER);
  await first.os.call("createEntity", { type: "order", id: "7" });
  const next = await bootKernel({ store: store.life(), objects });
  expect(await next.os.call("transition", { type: "order", id: "7", to: "cancelled" })).toMatchObject({ version: 2 });
  expect((await next.os.call("entityHistory", { type: "order", id: "7" })).map(({ pid }) => pid)).toEqual([
    1 as Pid,
    1,
  ]);
  await next.close();
});
