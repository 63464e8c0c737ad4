// One program comes to the same wherever it runs: inline, in a thread, in a process of the machine.

import { join } from "node:path";
import { MemoryObjectStore } from "@ergos/drivers/memory";
import { ProcessRuntime } from "@ergos/drivers/runtime-process";
import { createWorkerRuntime } from "@ergos/drivers/runtime-worker";
import {
  type Exit,
  type Kernel,
  KernelError,
  type Pid,
  type Program,
  RUNTIMES,
  type Runtime,
  type SpawnArgs,
  type Tool,
} from "@ergos/kernel";
import { toProgram } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LastingStore, bootKernel } from "../../kernel/test/kernel-fixture.ts";
import * as programs from "./children/same.ts";

const here = import.meta.dirname;
const bootstrap = join(here, "../../cli/bin/ergos-child.js");
type Name = keyof typeof programs;

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

const beatMs = 1000;

function programOf(name: Name, runtime: Runtime): Program {
  if (runtime === "inline") return toProgram(Object.entries(programs).find(([one]) => one === name)?.[1], name);
  const source = { module: join(here, "children/same.ts"), export: name, name };
  const times = { beatMs, ...(name === "books" ? { graceMs: 100 } : {}) };
  if (runtime === "worker") return createWorkerRuntime({ bootstrap, ...times })(source, "1");
  return new ProcessRuntime({ bootstrap: [bootstrap], owner: "test", ...times }).toProgram(source, "1");
}
const start = (name: Name, runtime: Runtime, args: Omit<SpawnArgs, "program"> = {}): Promise<Pid> =>
  kernel.os.spawn(programOf(name, runtime), args);
const run = async (name: Name, runtime: Runtime, args: Omit<SpawnArgs, "program"> = {}): Promise<Exit> =>
  kernel.os.wait(await start(name, runtime, args));
const logOf = (pid: Pid): Promise<string> => kernel.os.fs.readText(`/proc/${pid}/log`);
const hasSaid = (pid: Pid, text: string): Promise<void> =>
  expect.poll(() => logOf(pid), { timeout: 10_000 }).toContain(text);

describe.each(RUNTIMES)("a host that ends, and the next one, of a program that runs in %s", (runtime) => {
  const inTwoHosts = async (name: Name, said: string, call: (life: number) => string): Promise<Exit> => {
    const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
    let life = 1;
    const ring = { name: "ring", description: "", inputSchema: {}, effect: "once" as const, call: () => call(life) };
    await kernel.close();
    kernel = await bootKernel({ store: store.life(), objects, tools: [ring] });
    const pid = await start(name, runtime);
    await hasSaid(pid, said);
    await kernel.close({ drainMs: 8000 });
    life = 2;
    kernel = await bootKernel({ store: store.life(), objects, tools: [ring] });
    await kernel.os.resume(pid, { program: programOf(name, runtime) });
    await kernel.os.call("send", { to: pid, body: "go" });
    return kernel.os.wait(pid);
  };

  test("go on from a failure that was caught, and try again as often as the program says", async () => {
    const calls: number[] = [];
    const exit = await inTwoHosts("rings", "rung", (life) => {
      calls.push(life);
      throw new TypeError("nobody is there");
    });
    expect(exit.result).toEqual(["nobody answers", "nobody answers"]);
    expect(calls).toEqual([1, 1, 1, 2, 2, 2]);
  });

  test("let a step come to its end with what it calls, and nothing else begin", async () => {
    const calls: number[] = [];
    const exit = await inTwoHosts("posts", "posting", (life) => String(calls.push(life)));
    expect(exit.code).toBe(0);
    expect(calls).toEqual([1, 2, 2, 2]);
  });
});

describe.each(RUNTIMES)("a program that runs in %s", (runtime) => {
  test("waits for as much at once as it likes, also for what it does itself", async () => {
    expect(await run("sleeps", runtime, { input: 300 })).toEqual({ code: 0, result: "slept" });
    expect(await run("queues", runtime, { input: 300 })).toEqual({ code: 0, result: (300 * 299) / 2 });
  });

  test("hears that it is told to end, before anything fails for that", async () => {
    const hearing = await start("hears", runtime);
    await hasSaid(hearing, "listens");
    await kernel.os.kill(hearing);
    expect((await kernel.os.wait(hearing)).result).toEqual(["TERM"]);
    const waiting = await start("gives", runtime);
    await hasSaid(waiting, "waits");
    await kernel.os.kill(waiting);
    expect((await kernel.os.wait(waiting)).result).toBe(true);
  });

  test("takes back what it has done when it is told to end, however long that takes", async () => {
    const booked = await start("books", runtime);
    await hasSaid(booked, "booked");
    await kernel.os.kill(booked);
    expect(await kernel.os.wait(booked)).toMatchObject({ code: 143, signal: "TERM" });
    expect(await logOf(booked)).toContain("cancelled");
  });

  test("fails with its causes and where, whatever it has thrown", async () => {
    const { error } = await run("fails", runtime);
    expect(error).toMatchObject({ code: "EFAILED", message: "[EFAILED] outer", causes: ["outer", "inner"] });
    expect(error?.at).toMatch(/children\/same\.ts:\d+:\d+$/);
    expect(error?.correlationId).toMatch(/^fails-/);
    expect((await run("hides", runtime)).error).toMatchObject({ code: "EFAILED", message: "[EFAILED] hidden" });
  });

  test("waits before another attempt for as long as whoever refused asks for", async () => {
    let calls = 0;
    const call = (input: unknown): string => {
      if (!Object.hasOwn(input as object, "never") && calls++ > 0) return "served";
      throw new KernelError("EAGAIN", "busy", { retryAfterMs: 300, mayHaveActed: true });
    };
    const busy: Tool = { name: "busy", description: "", inputSchema: {}, effect: "pure", call };
    await kernel.close();
    kernel = await bootKernel({ tools: [busy] });
    const { result } = await run("waits", runtime);
    expect(result).toEqual({ answer: "served", hasWaited: true, retryAfterMs: 300, mayHaveActed: true });
  });

  test("knows in another life what it has done", async () => {
    const pid = await start("remembers", runtime);
    expect((await kernel.os.wait(pid)).code).toBe(1);
    await kernel.os.call("resume", { pid, again: true, program: programOf("remembers", runtime) });
    expect(await kernel.os.wait(pid)).toEqual({ code: 0, result: true });
  });

  test("goes on as new with another input", async () => {
    const pid = await start("renews", runtime, { input: 3 });
    expect(await kernel.os.wait(pid)).toEqual({ code: 0, result: "lift off" });
    expect((await logOf(pid)).match(/left: \d/g)).toEqual(["left: 1", "left: 0"]);
  });

  test("is stopped for as long as it shall be", async () => {
    const pid = await start("rests", runtime);
    await hasSaid(pid, "rests");
    await kernel.os.kill(pid, "STOP");
    await new Promise((go) => setTimeout(go, 2000));
    await kernel.os.kill(pid, "CONT");
    expect(await kernel.os.wait(pid)).toEqual({ code: 0, result: "rested" });
  });

  test("ends with an error that is one", async () => {
    for (const input of [{}, { code: "EFAILED" }, { code: "EIO", message: "m", pid: "x" }])
      expect((await run("ends", runtime, { input })).error).toMatchObject({ code: "EINVAL" });
    const known = await run("ends", runtime, { input: { code: "EWORSE", message: "m", at: "f:1:2" } });
    expect(known.error).toMatchObject({ code: "EIO", message: "m", at: "f:1:2" });
  });
});

describe.each(RUNTIMES.filter((one) => one !== "inline"))("a program that runs in %s", (runtime) => {
  test("has in its log what it printed without an end, and no character cut", async () => {
    const pid = await start("prints", runtime);
    await kernel.os.wait(pid);
    const log = await logOf(pid);
    expect(log.match(/\u{1f600}/gu)).toHaveLength(9000);
    expect(log).not.toContain("\ufffd");
  });

  test("that spawns code is told that its host has none of it", async () => {
    expect((await run("spawns", runtime)).error).toMatchObject({
      code: "ENOTSUP",
      message: expect.stringContaining("export") as string,
    });
  });

  test("that asks for mounts is told that it gets none", async () => {
    const module = join(here, "children/mounts.ts");
    const program =
      runtime === "worker"
        ? createWorkerRuntime({ bootstrap })({ module, name: "mounts" }, "1")
        : new ProcessRuntime({ bootstrap: [bootstrap], owner: "test" }).toProgram({ module, name: "mounts" }, "1");
    expect((await kernel.os.wait(await kernel.os.spawn(program))).error).toMatchObject({ code: "ENOTSUP" });
  });

  test("that may not even know what it is says so", async () => {
    const { error } = await run("rests", runtime, { grants: ["fs.read:/srv/**"] });
    expect(error).toMatchObject({ code: "EACCES", message: expect.stringContaining("proc.step") as string });
  });
});

test.each(["worker", "process"] as const)("who dies behind a shield leaves none (%s)", async (runtime) => {
  const started = performance.now();
  expect((await run("falls", runtime)).code).toBe(1);
  expect(performance.now() - started).toBeLessThan(10_000);
});

test.each(["worker", "process"] as const)(
  "a module that never finishes loading fails in its time (%s)",
  async (runtime) => {
    const source = { module: join(here, "children/never.mjs"), name: "never" };
    const options = { beatMs, environment: { PATH: process.env["PATH"] ?? "", ERGOS_LOAD_MS: "300" } };
    const never =
      runtime === "worker"
        ? createWorkerRuntime({ bootstrap, ...options })(source, "1")
        : new ProcessRuntime({ bootstrap: [bootstrap], owner: "never", ...options }).toProgram(source, "1");

    const { error } = await kernel.os.wait(await kernel.os.spawn(never));
    expect(error).toMatchObject({ code: "ETIMEDOUT", message: expect.stringMatching(/has not finished loading/) });
  },
);
