// A process that lives long goes on as new: its journal does not grow with its age.

import { MemoryMetastore } from "@ergos/drivers/memory";
import { type Kernel, type Pid, toPid } from "@ergos/kernel";
import { type RunContext, pipeline, planProgram, program } from "@ergos/services";
import { afterEach, beforeEach, expect, test } from "vitest";
import { bootAfterDeath, bootKernel, closeWhole, codeOf, pause } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

interface Round {
  readonly round: number;
  readonly last: number;
}

/** Does a step of one name in each round, and goes on as new. */
const rounds = (done: number[], more: (ctx: RunContext<Round>) => unknown = () => undefined) =>
  program("rounds", async ({ round, last }: Round, ctx: RunContext<Round>): Promise<string> => {
    await ctx.step("work", () => void done.push(round));
    await ctx.infer("ask", "How many?");
    await more(ctx);
    if (round < last) return ctx.continueAsNew({ round: round + 1, last });
    return `${round} rounds`;
  });

const recordsOf = async (pid: Pid, of: Kernel = kernel): Promise<readonly { readonly t: string }[]> =>
  JSON.parse(
    await of.os.fs
      .readText(`/proc/${pid}/events.json`)
      .catch(() => of.os.fs.readText(`/proc/runs/rounds-${pid}/events.json`)),
  );

test("its program is called from its start with another input, and steps have their names again", async () => {
  const done: number[] = [];
  const pid = await kernel.os.spawn(rounds(done), { input: { round: 1, last: 20 }, budget: { modelCalls: 20 } });

  expect(await kernel.os.wait(pid)).toEqual({ code: 0, result: "20 rounds" });
  expect(done).toEqual(Array.from({ length: 20 }, (_, at) => at + 1));
  const [summary] = await kernel.os.ps({ pids: [pid] });
  // What its lives have used is that of all of them.
  expect(summary?.usage).toMatchObject({ modelCalls: 20, steps: 40 });
  const kinds = (await recordsOf(pid)).map(({ t }) => t);
  expect(kinds.filter((kind) => kind === "renew").length).toBeLessThanOrEqual(2);
  expect(kinds.length).toBeLessThan(20);
  expect(await kernel.os.fs.readText(`/proc/${pid}/log`)).toBe("");
  await closeWhole(kernel);
  kernel = await bootKernel();
});

test("what a round has made ends with it, and what waits for the process stays", async () => {
  const done: number[] = [];
  const children: number[] = [];
  const idle = program("idle", async (_input: unknown, ctx: RunContext) => ctx.sleep(600_000));
  const made = rounds(done, async (ctx) => {
    children.push(await ctx.spawn("child", idle));
    await ctx.os.call("lock", { path: "/held", ttlMs: 60_000, waitMs: 0 });
    await ctx.os.call("schedule", { name: "s", everyMs: 3_600_000, action: { spawn: { program: "idle" } } });
    if (ctx.input.round === 1) await ctx.send("self", ctx.pid, "from before");
    else expect((await ctx.receive("mail", { waitMs: 0 }))?.body).toBe("from before");
  });
  const pid = await kernel.os.spawn(made, { input: { round: 1, last: 2 } });

  expect(await kernel.os.wait(pid)).toMatchObject({ result: "2 rounds" });
  const states = await kernel.os.ps({ pids: children.map(toPid) });
  expect(states[0]).toMatchObject({ state: "zombie", signal: "TERM" });
});

test("wherever its host dies, each round is done and none twice", async () => {
  for (let commits = 1; ; commits++) {
    const done: number[] = [];
    const { kernel: next, isDead } = await bootAfterDeath(commits, {}, rounds(done), { input: { round: 1, last: 3 } });
    const [left] = await next.os.ps({ all: true, pids: [toPid(2)] });
    if (left?.state === "sleeping") await next.os.resume(left.pid, { program: rounds(done) });
    const end = left === undefined ? undefined : await next.os.wait(left.pid);
    await next.close();
    if (left === undefined) continue;

    expect([commits, end]).toEqual([commits, { code: 0, result: "3 rounds" }]);
    // The step that was cut off may be done again; none of a round that is over is.
    expect(done.filter((round, at) => at > 0 && round < (done[at - 1] ?? 0))).toEqual([]);
    expect(new Set(done)).toEqual(new Set([1, 2, 3]));
    if (!isDead) return;
  }
}, 60_000);

test("large inputs, inputs that do not fit, and processes without a journal", async () => {
  const text = "x".repeat(300_000);
  const large = program("large", async ({ text: given }: { text: string }, ctx: RunContext<{ text: string }>) =>
    given === "" ? ctx.continueAsNew({ text }) : given.length,
  );
  expect((await kernel.os.wait(await kernel.os.spawn(large, { input: { text: "" } }))).result).toBe(300_000);

  const odd = program("odd", async (_input: unknown, ctx: RunContext) => codeOf(() => ctx.continueAsNew({ at: 1n })));
  expect((await kernel.os.wait(await kernel.os.spawn(odd))).result).toBe("EINVAL");
  expect(
    (await kernel.os.wait(await kernel.os.spawn(rounds([]), { input: { round: 1, last: 2 }, durable: false }))).error,
  ).toMatchObject({ code: "EINVAL" });
});

test("a run goes on as new from one of its nodes", async () => {
  const done: string[] = [];
  const plan = pipeline<{ left: number }>("daily")
    .node("work", ({ left }) => void done.push(`work ${left}`))
    .node("again", { needs: ["work"] }, async (_needs, ctx) => {
      const { left } = ctx.input;
      if (left > 0) await ctx.continueAsNew({ left: left - 1 });
      return "done";
    })
    .output("again");
  const pid = await kernel.os.spawn(planProgram(plan.build()), { input: { left: 2 } });

  expect(await kernel.os.wait(pid)).toEqual({ code: 0, result: "done" });
  expect(done).toEqual(["work 2", "work 1", "work 0"]);
});

test("whoever tells it to end at that moment is heard", async () => {
  const store = new MemoryMetastore();
  const own = await bootKernel({ store });
  const done: number[] = [];
  const pid = await own.os.spawn(rounds(done), { input: { round: 1, last: 1_000_000 } });
  while (done.length < 5) await pause(1);
  await own.os.kill(pid);

  expect(await own.os.wait(pid)).toMatchObject({ code: 143, signal: "TERM" });
  const { length } = done;
  await pause(20);
  expect(done.length).toBe(length);
  await closeWhole(own);
});
