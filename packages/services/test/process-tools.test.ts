// The nine process calls of hexDAG, as tools; and the listing behind them.

import { createCalendar } from "@ergos/drivers/calendar";
import { type Kernel, type Pid, STATUSES, statusOf } from "@ergos/kernel";
import { PROCESS_TOOLS, type RunContext, program } from "@ergos/services";
import { afterEach, beforeEach, expect, test } from "vitest";
import { bootKernel, openProgram } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
const square = program("square", (number: number) => number * number);
const fails = program("fails", () => Promise.reject(new Error("on purpose")));
beforeEach(async () => {
  kernel = await bootKernel({ tools: PROCESS_TOOLS, programs: [square, fails], calendar: createCalendar() });
});
afterEach(() => kernel.close());

/** What a program gets of a tool. */
async function call(tool: string, args: Readonly<Record<string, unknown>>): Promise<unknown> {
  const caller = program("caller", (_input: unknown, ctx: RunContext) => ctx.call("call", tool, args));
  const exit = await kernel.os.wait(await kernel.os.spawn(caller));
  if (exit.error !== undefined) throw new Error(exit.error.message);
  return exit.result;
}

test("runs are started, listed by what they are and what they are about, and told of", async () => {
  const started = (await call("spawn_pipeline", { pipeline_name: "square", input: 7, ref_id: "order/7" })) as {
    run_id: string;
  };
  await kernel.os.wait(Number(/\d+$/.exec(started.run_id)?.[0]) as Pid);
  await kernel.os.wait(await kernel.os.spawn(fails, { ref: "order/7" }));

  expect(await call("get_pipeline_run", started)).toMatchObject({
    pipeline_name: "square",
    status: "completed",
    ref_id: "order/7",
    parent_run_id: "caller-2",
    result: 49,
  });
  expect(await call("list_pipeline_runs", { ref_id: "order/7" })).toMatchObject([
    { pipeline_name: "fails", status: "failed", error: expect.stringContaining("on purpose") as unknown },
    { pipeline_name: "square", status: "completed" },
  ]);
  expect(await call("list_pipeline_runs", { status: "failed" })).toHaveLength(1);
  expect(await call("list_pipeline_runs", { pipeline_name: "square", before: started.run_id })).toEqual([]);
  expect(await call("get_pipeline_run", { run_id: "square-999" })).toBeNull();
});

test("schedules are made, listed and cancelled", async () => {
  // A schedule ends with who made it: the owner's outlive its calls.
  await kernel.os.call("schedule", { name: "hourly", cron: "0 * * * *", action: { spawn: { program: "square" } } });
  expect(await call("list_scheduled", {})).toMatchObject([
    { schedule_id: 1, name: "hourly", cron: "0 * * * *", runs: 0 },
  ]);
  expect(await call("schedule_pipeline", { pipeline_name: "square", every_ms: 1000 })).toMatchObject({
    schedule_id: 2,
  });
  expect(await call("cancel_scheduled", { schedule_id: 1 })).toEqual({ cancelled: true });
  expect(await call("list_scheduled", {})).toEqual([]);
  await expect(call("schedule_pipeline", { pipeline_name: "square" })).rejects.toThrow(/one of cron/);
});

test("entities are read and moved", async () => {
  await kernel.os.call("defineEntity", { type: "order", initial: "new", transitions: [{ from: "new", to: "paid" }] });
  await kernel.os.call("createEntity", { type: "order", id: "7" });
  const order = { entity_type: "order", entity_id: "7" };
  expect(
    await call("transition_entity", { ...order, to_state: "paid", reason: "card", payload: { total: 3 } }),
  ).toMatchObject({
    state: "paid",
  });
  expect(await call("get_entity_state", order)).toMatchObject({ state: "paid", data: { total: 3 } });
  expect(await call("get_entity_history", order)).toMatchObject([{ to: "new" }, { to: "paid", why: "card" }]);
  await expect(call("transition_entity", { ...order, to_state: "lost" })).rejects.toThrow(/cannot become lost/);
  await expect(call("transition_entity", { entity_type: "order" })).rejects.toThrow(/entity_id/);
});

test("a listing is filtered, sorted and continued, over more than one page of the store", async () => {
  const pids: Pid[] = [];
  for (let at = 0; at < 450; at++) pids.push(await kernel.os.spawn(square, { input: at, ref: `r${at % 3}` }));
  await Promise.all(pids.map((pid) => kernel.os.wait(pid)));
  const { program: open, context } = openProgram("open");
  const living = await kernel.os.spawn(open, { name: "a", ref: "r0" });
  await context;
  const volatile = await kernel.os.spawn(square, { durable: false, input: 1, ref: "r0" });
  await kernel.os.wait(volatile);

  const seen: Pid[] = [];
  for (let before: Pid | undefined; ;) {
    const page = await kernel.os.ps({ all: true, ref: "r0", limit: 40, ...(before === undefined ? {} : { before }) });
    if (page.length === 0) break;
    seen.unshift(...page.map(({ pid }) => pid));
    before = page[0]?.pid;
  }
  expect(seen).toEqual([...pids.filter((_, at) => at % 3 === 0), living, volatile]);
  expect((await kernel.os.ps({ status: ["running"], ref: "r0" })).map(({ pid }) => pid)).toEqual([living]);
  expect(await kernel.os.ps({ status: ["completed"], limit: 10_000 })).toHaveLength(451);
  const named = await kernel.os.ps({ all: true, limit: 3, sort: "name" });
  expect(named.map(({ name }) => name)).toEqual(["a", "owner", "square"]);
  const ended = await kernel.os.ps({ status: ["completed"], limit: 5, sort: "ended" });
  expect(ended.map((process) => process.ended)).toEqual(
    ended.map((process) => process.ended).toSorted((a, b) => (b ?? 0) - (a ?? 0)),
  );
  expect(new Set((await kernel.os.ps({ all: true })).map(statusOf)).isSubsetOf(new Set(STATUSES))).toBe(true);
});
