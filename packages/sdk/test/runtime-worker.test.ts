// Programs in threads of their own, with real ends; the host's loop goes on whatever they do.

import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createWorkerRuntime } from "@ergos/drivers/runtime-worker";
import { type Exit, type Kernel, type Program, type SpawnArgs } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bootKernel } from "../../kernel/test/kernel-fixture.ts";

const here = import.meta.dirname;
let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

type Options = Partial<Parameters<typeof createWorkerRuntime>[0]>;
const worker = (name: string, options: Options = {}): Program =>
  createWorkerRuntime({ bootstrap: join(here, "../../cli/bin/ergos-child.js"), graceMs: 400, ...options })(
    { module: join(here, "children/programs.mjs"), export: name, name },
    "1",
  );
const run = async (name: string, args: Omit<SpawnArgs, "program"> = {}, options: Options = {}): Promise<Exit> =>
  kernel.os.wait(await kernel.os.spawn(worker(name, options), args));
const logOf = (pid: number): Promise<string> => kernel.os.fs.readText(`/proc/${pid}/log`);

describe("a worker", () => {
  test("computes in this process, with its input, and its steps are in its journal", async () => {
    const pid = await kernel.os.spawn(worker("add"), { input: { a: 1, b: 2 } });
    expect(await kernel.os.wait(pid)).toMatchObject({ code: 0, result: 3 });
    expect(await kernel.os.fs.readText(`/proc/runs/add-${pid}/events`)).toMatch(/step +add/);
    expect((await run("whoami")).result).toMatchObject({ pid: process.pid, isMain: false });
  });

  test("finds nothing of the host's environment, and has its own rights", async () => {
    process.env["PLANTED_SECRET_KEY"] = "sk-planted";
    const { result } = await run("environment", {}, { environment: { PATH: "/bin" } });
    delete process.env["PLANTED_SECRET_KEY"];
    expect(result).toEqual(["ERGOS_BEAT_MS", "PATH"]);
    expect(await run("writes", { grants: ["self", "fs.write:/srv/**"] })).toMatchObject({ error: { code: "EACCES" } });
  });

  test("has what it prints in its log, a flood bounded", async () => {
    const pid = await kernel.os.spawn(worker("prints"));
    await kernel.os.wait(pid);
    const log = await logOf(pid);
    for (const line of ["info  to stdout", "warn  to stderr", "info  by itself"]) expect(log).toContain(line);
    const flood = await kernel.os.spawn(worker("floods"));
    expect(await kernel.os.wait(flood)).toMatchObject({ code: 0, result: "flooded" });
    expect((await logOf(flood)).length).toBeLessThan(6 * 1024 * 1024);
  });

  test("does tasks for others, and hears the signals that are sent to it", async () => {
    const serving = await kernel.os.spawn(worker("serves"));
    const lead = program("lead", (_input: unknown, ctx: RunContext) => ctx.executeOn("first", serving, { number: 7 }));
    expect((await kernel.os.wait(await kernel.os.spawn(lead))).result).toMatchObject({ step: 49 });
    await kernel.os.kill(serving);
    expect((await kernel.os.wait(serving)).signal).toBe("TERM");

    const pid = await kernel.os.spawn(worker("politely"));
    for (let tries = 0; tries < 500 && !(await logOf(pid)).includes("ready"); tries++) await delay(10);
    for (const signal of ["HUP", "USR1"] as const) await kernel.os.kill(pid, signal);
    await delay(30);
    await kernel.os.kill(pid);
    expect((await kernel.os.wait(pid)).result).toEqual(expect.arrayContaining(["HUP", "USR1"]));
  });
});

test("a worker and its host share the memory of a stream", async () => {
  const { fs } = kernel.os;
  for (const path of ["/srv/in", "/srv/out"]) await fs.makeStream(path, { isShared: true, capacity: 4096 });
  await fs.makePipe("/srv/ready");
  const pid = await kernel.os.spawn(worker("doubles"), { input: { from: "/srv/in", to: "/srv/out", count: 50 } });
  await fs.pipe("/srv/ready").read();
  const ring = await fs.stream("/srv/in").share();
  const seen: number[] = [];
  for (let at = 0; at < 50; at++) ring.append([Uint8Array.of(at)]);
  for await (const { bytes } of fs.stream("/srv/out").read({ follow: true }))
    if (seen.push(bytes[0] ?? -1) === 50) break;
  expect(seen).toEqual(Array.from({ length: 50 }, (_, at) => 2 * at));
  expect(await kernel.os.wait(pid)).toMatchObject({ code: 0 });
  expect(await run("shares", { input: { path: "/srv/in" }, grants: ["self", "fs.read"] })).toMatchObject({
    error: { code: "EACCES" },
  });
});

test("a result that is no JSON is told as one, wherever the program ran", async () => {
  expect(await run("noJson")).toMatchObject({
    error: { code: "EINVAL", message: expect.stringContaining(".a[1]") as string },
  });
});

describe("an end", () => {
  test.each([
    ["hangs", "TERM"],
    ["blocks", "TERM"],
    ["blocks", "KILL"],
  ] as const)("of a worker that %s comes by %s, and the host's loop goes on meanwhile", async (name, signal) => {
    const pid = await kernel.os.spawn(worker(name));
    let longest = 0;
    for (let turn = 0, before = performance.now(); turn < 30; turn++, before = performance.now()) {
      await delay(10);
      longest = Math.max(longest, performance.now() - before);
    }
    await kernel.os.kill(pid, signal);
    expect(await kernel.os.wait(pid)).toMatchObject({ signal });
    // A loop that is blocked would have been for hundreds of milliseconds.
    expect(longest).toBeLessThan(250);
  });

  test("by memory, by silence, by itself, by a flood and without a greeting each have their error", async () => {
    const errors = await Promise.all([
      run("eats", { limits: { memoryMb: 48 } }),
      run("blocks", {}, { beatMs: 150 }),
      run("exits"),
      run("shouts", { limits: { memoryMb: 64 } }),
      run("babbles"),
      run("recurses"),
      run("throws"),
      run("garbage", {}, { bootstrap: join(here, "children/absent.mjs") }),
      run("blocks", { limits: { cpuMs: 300 } }),
    ]);
    expect(errors.map(({ error }) => error?.code)).toEqual([
      "ENOMEM",
      "ETIMEDOUT",
      "EFAILED",
      "ENOMEM",
      "EFAILED",
      "EFAILED",
      "EFAILED",
      "EFAILED",
      "ETIMEDOUT",
    ]);
    expect(errors[8]?.error?.message).toContain("processor time of 300 ms");
    expect(errors[0]?.error?.message).toContain("heap of 48 MiB");
    expect(errors[2]?.error?.message).toContain(
      "ended with code 0 without telling a result; its last words: last words",
    );
    expect(errors[4]?.error?.message).toContain("does not speak the wire");
    expect(errors[5]?.error?.message).toContain("call stack");
  });

  test("is followed by another life where it shall be", async () => {
    const pid = await kernel.os.spawn(worker("stumbles"), { restart: { policy: "on-failure", delayMs: 1 } });
    expect(await kernel.os.wait(pid)).toMatchObject({ code: 0, result: 3 });
  });
});

test("twenty at once", async () => {
  const exits = await Promise.all(
    Array.from({ length: 20 }, (_, a) => run("add", { input: { a, b: 1 } }, { readyMs: 60_000 })),
  );
  expect(exits.map(({ result }) => result)).toEqual(Array.from({ length: 20 }, (_, a) => a + 1));
}, 60_000);
