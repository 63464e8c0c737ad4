// Programs in real processes of the machine, with real ends.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ProcessRuntime, findStrays } from "@ergos/drivers/runtime-process";
import { type Exit, type Kernel, type Program, type SpawnArgs } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bootKernel } from "../../kernel/test/kernel-fixture.ts";

const here = import.meta.dirname;
const bootstrap = [join(here, "../../cli/bin/ergos-child.js")];

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

type Options = Partial<ConstructorParameters<typeof ProcessRuntime>[0]>;
/** A program of the module beside this test, in a process of its own. */
const child = (name: string, options: Options = {}): Program =>
  new ProcessRuntime({ bootstrap, owner: "test", graceMs: 400, ...options }).toProgram(
    { module: join(here, "children/programs.mjs"), export: name, name },
    "1",
  );
const run = async (name: string, args: Omit<SpawnArgs, "program"> = {}, options: Options = {}): Promise<Exit> =>
  kernel.os.wait(await kernel.os.spawn(child(name, options), args));
const logOf = (pid: number): Promise<string> => kernel.os.fs.readText(`/proc/${pid}/log`);
const until = async (look: () => Promise<boolean> | boolean): Promise<void> => {
  for (let tries = 0; tries < 500 && !(await look()); tries++) await delay(10);
};
/** What was killed takes a moment to be gone. */
async function nothingIsLeft(mark = "test/"): Promise<void> {
  await until(() => findStrays(mark).length === 0);
  expect(findStrays(mark)).toEqual([]);
}
/** Nobody may have reaped a process of the machine that has ended. */
function isRunning(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

describe("children that are ready", () => {
  test("are given once each, are made anew, and end with their runtime", async () => {
    const runtime = new ProcessRuntime({ bootstrap, owner: "ready", spares: 1 });
    const source = { module: join(here, "children/programs.mjs"), export: "pid", name: "pid" };
    const start = async (limits?: SpawnArgs["limits"]): Promise<number> => {
      const program = runtime.toProgram(source, "1");
      const pid = await kernel.os.spawn(program, limits === undefined ? {} : { limits });
      return Number((await kernel.os.wait(pid)).result);
    };
    const spare = async (): Promise<number> => {
      await until(() => findStrays("ready/spare/").length === 1);
      return findStrays("ready/spare/")[0] ?? 0;
    };
    await start();
    const first = await spare();
    expect(await start({ memoryMb: 100 })).not.toBe(first);
    expect(await start()).toBe(first);
    const second = await spare();
    process.kill(second, "SIGKILL");
    await until(() => !isRunning(second));
    expect(await start()).not.toBe(second);
    await spare();
    runtime.close();
    await nothingIsLeft("ready/");
  });
});

describe("a child", () => {
  test("computes, with its input, and its steps are in its journal", async () => {
    const pid = await kernel.os.spawn(child("add"), { input: { a: 1, b: 2 } });

    expect(await kernel.os.wait(pid)).toMatchObject({ code: 0, result: 3 });
    expect(await kernel.os.fs.readText(`/proc/runs/add-${pid}/events`)).toMatch(/step +add/);
    expect((await run("throws")).error).toMatchObject({
      code: "EFAILED",
      message: expect.stringContaining("on purpose") as unknown,
    });
  });

  test("finds nothing of the host's environment, and has its own rights", async () => {
    process.env["PLANTED_SECRET_KEY"] = "sk-planted";
    const { result } = await run("environment", {}, { environment: { PATH: "/bin" } });
    delete process.env["PLANTED_SECRET_KEY"];

    expect((result as string[]).filter((name) => !name.startsWith("__"))).toEqual([
      "ERGOS_BEAT_MS",
      "ERGOS_CHILD",
      "PATH",
    ]);
    expect(await run("writes", { grants: ["self", "fs.write:/srv/**"] })).toMatchObject({
      code: 1,
      error: { code: "EACCES" },
    });
  });

  test("has what it prints in its log, lines without an end cut, a flood bounded", async () => {
    const pid = await kernel.os.spawn(child("prints"));
    await kernel.os.wait(pid);
    const log = await logOf(pid);
    for (const line of ["info  to stdout", "warn  to stderr", "info  by itself"]) expect(log).toContain(line);

    const flood = await kernel.os.spawn(child("floods"));
    expect(await kernel.os.wait(flood)).toMatchObject({ code: 0, result: "flooded" });
    expect((await logOf(flood)).length).toBeLessThan(6 * 1024 * 1024);
    expect(await run("endless")).toMatchObject({ result: "no line" });
  });

  test("does tasks for others, its failures are theirs", async () => {
    const worker = await kernel.os.spawn(child("serves"));
    const lead = program("lead", async (_input: unknown, ctx: RunContext) => {
      const done = await ctx.executeOn("first", worker, { number: 7 });
      const failed = await ctx
        .executeOn("second", worker, { fail: true })
        .catch((error: { readonly message: string }) => error.message);
      return { done, failed };
    });
    const exit = await kernel.os.wait(await kernel.os.spawn(lead));

    expect(exit.result).toMatchObject({
      done: { did: { number: 7 }, step: 49 },
      failed: expect.stringContaining("no such task") as unknown,
    });
    expect((exit.result as { done: { pid: number } }).done.pid).not.toBe(process.pid);
    await kernel.os.kill(worker);
    expect((await kernel.os.wait(worker)).signal).toBe("TERM");
  });
});

test("a child that the machine has killed is restarted from its journal, in a process of its own again", async () => {
  const { code, result } = await run("dies", { restart: { policy: "on-failure", delayMs: 1 } });
  const { first, now } = result as { readonly first: number; readonly now: number };
  expect(code).toBe(0);
  expect(first).not.toBe(now);
  expect(isRunning(first)).toBe(false);
  expect((await run("dies")).error).toMatchObject({ code: "EFAILED" });
});

test("a child that completes is restarted where it always shall be, and each life ends once", async () => {
  const names: string[] = [];
  const events = kernel.os.events({ classes: ["process"] });
  const watching = (async () => {
    for await (const { name } of events) {
      if (name !== "process.log") names.push(name.slice(8));
      if (name === "process.escalated") return;
    }
  })();
  const restart = { policy: "always", max: 2, delayMs: 1 } as const;
  expect(await run("add", { input: { a: 1, b: 2 }, restart })).toMatchObject({ code: 0, result: 3 });
  await watching;
  const again = ["restarting", "resumed"];
  expect(names).toEqual(["started", ...again, ...again, "completed", "escalated"]);
});

describe("an end", () => {
  test("that was asked for is heard, with the signals before it", async () => {
    const pid = await kernel.os.spawn(child("politely"));
    await until(async () => (await logOf(pid)).includes("ready"));
    for (const signal of ["HUP", "USR1"] as const) await kernel.os.kill(pid, signal);
    await delay(30);
    await kernel.os.kill(pid);

    const exit = await kernel.os.wait(pid);
    expect(exit).toMatchObject({ code: 0 });
    expect((exit.result as string[]).slice(0, 2)).toEqual(["HUP", "USR1"]);
  });

  test.each([
    ["hangs", "TERM"],
    ["blocks", "TERM"],
    ["blocks", "KILL"],
  ] as const)("of a child that %s comes by %s all the same", async (name, signal) => {
    const pid = await kernel.os.spawn(child(name));
    await delay(300);
    await kernel.os.kill(pid, signal);
    await kernel.os.wait(pid);

    await nothingIsLeft(`test/${pid}/`);
  });

  test.each([
    ["exits", "ended with code 0 without telling a result; its last words: last words"],
    ["crashes", "was ended by SIGABRT"],
  ])("of a child that %s is a failure that says how", async (name, message) => {
    expect((await run(name)).error).toMatchObject({
      code: "EFAILED",
      message: expect.stringContaining(message) as unknown,
    });
  });

  test("by memory, by silence, without a greeting and with garbage each have their error", async () => {
    const errors = await Promise.all([
      run("eats", { limits: { memoryMb: 48 } }),
      run("blocks", {}, { beatMs: 150 }),
      run("blocks", { limits: { cpuMs: 1000 } }),
      run("hangs", {}, { bootstrap: ["-e", "setInterval(() => {}, 1000)"], readyMs: 300 }),
      run("garbage", {}, { bootstrap: [join(here, "children/garbage.mjs")] }),
      run("garbage", {}, { bootstrap: [join(here, "children/absent.mjs")] }),
    ]);

    // Memory is shared by threads alone.
    await kernel.os.fs.makeStream("/srv/ring", { isShared: true });
    expect(await run("shares", { input: { path: "/srv/ring" } })).toMatchObject({ error: { code: "ENOTSUP" } });
    const codes = ["ENOMEM", "ETIMEDOUT", "ETIMEDOUT", "ETIMEDOUT", "EFAILED", "EFAILED"];
    expect(errors.map(({ error }) => error?.code)).toEqual(codes);
    expect(errors[2]?.error?.message).toContain("processor time of 1000 ms");
    expect(errors[4]?.error?.message).toContain("does not speak the wire");
    await nothingIsLeft();
  });

  test("takes everything along that the child has started, also what has left its group", async () => {
    const exit = await run("forks");
    const grandchild = Number(exit.result);
    await until(() => !isRunning(grandchild));

    expect(isRunning(grandchild)).toBe(false);
  });

  test("of the host is the end of its children", async () => {
    const pid = await kernel.os.spawn(child("hangs"));
    await until(async () => (await kernel.os.ps({ pids: [pid] }))[0]?.state === "running");
    await delay(200);
    await kernel.close();
    await nothingIsLeft();
  });
});

test("twenty at once", async () => {
  const exits = await Promise.all(Array.from({ length: 20 }, (_, a) => run("add", { input: { a, b: 1 } })));
  expect(exits.map(({ result }) => result)).toEqual(Array.from({ length: 20 }, (_, a) => a + 1));
}, 60_000);
