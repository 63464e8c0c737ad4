import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { createOfflineModel } from "@ergos/drivers/model-offline";
import { type Ask, type Kernel, type Model, type Os, SEQ_ZERO, type Tool, isKernelError } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { describe, expect, test } from "vitest";
import { bootKernel, openProgram, processWith } from "../../kernel/test/kernel-fixture.ts";

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const codeOf = (error: unknown): string => (isKernelError(error) ? error.code : String(error));
const tool = (name: string, call: Tool<Os>["call"], effect: Tool["effect"] = "pure"): Tool<Os> => ({
  name,
  description: "",
  inputSchema: {},
  effect,
  call,
});
const model = (name: string, output: number): Model => ({
  ...createOfflineModel({ name, effect: "idempotent", script: () => "12345678" }),
  price: { input: 0, output },
});
/** What becomes of a promise, or that it is pending still after so many milliseconds. */
const raceWithin = async <T>(ms: number, promise: Promise<T>): Promise<T | "pending"> =>
  Promise.race([promise, sleep(ms).then(() => "pending" as const)]);
/** The oldest open question, once there are so many. */
const asked = async (kernel: Kernel, count = 1): Promise<Ask> => {
  for (let tries = 0; tries < 2000; tries++) {
    const asks = await kernel.os.call("asks", {});
    const [first] = asks;
    if (first !== undefined && asks.length >= count) return first;
    await sleep(1);
  }
  throw new Error("nobody asked within two seconds");
};
const allowed = async (kernel: Kernel): Promise<void> =>
  kernel.os.call("answer", { id: (await asked(kernel)).id, verdict: "allow" });
const ASK_TO_WRITE = ["self", "fs.stat", "ask fs.write:/srv/**"];

describe("what is looked at is what acts", () => {
  test("arguments that a program changes after its call name no other tool than the one that was checked", async () => {
    const ran: string[] = [];
    const kernel = await bootKernel({
      tools: [tool("harmless", () => ran.push("harmless")), tool("dangerous", () => ran.push("dangerous"))],
    });
    const os = await processWith(kernel, ["self", "tool.call:harmless; uses=5"]);
    const args = { place: "p", tool: "harmless" };

    const done = (async () => os.call("call", args))();
    args.tool = "dangerous";
    await done;

    expect(ran).toEqual(["harmless"]);
    await kernel.close();
  });

  test("a process that is put in the place of another while a use is taken is not killed", async () => {
    const kernel = await bootKernel();
    const one = await processWith(kernel, ["self"]);
    const two = await processWith(kernel, ["self"]);
    const os = await processWith(kernel, ["self", `proc.signal:/proc/${one.pid}; uses=1`]);
    const args = { pid: one.pid, signal: "KILL" as const };

    const done = (async () => os.call("kill", args))();
    args.pid = two.pid;
    await done;

    expect((await kernel.os.ps({ pids: [one.pid] }))[0]?.state).toBe("zombie");
    expect((await kernel.os.ps({ pids: [two.pid] }))[0]?.state).not.toBe("zombie");
    await kernel.close();
  });

  test("reading through a handle takes a use as reading by path does", async () => {
    const kernel = await bootKernel();
    await kernel.os.fs.writeFile("/srv/a", "x");
    const os = await processWith(kernel, ["self", "fs.stat", "fs.read:/srv/**; uses=3"]);
    const handle = await os.fs.open("/srv/a", ["read"]);

    let reads = 0;
    for (let tries = 0; tries < 10; tries++) {
      const read = await handle.read().catch(codeOf);
      if (read !== "EACCES") reads++;
    }

    expect(reads).toBeGreaterThan(0);
    expect(reads).toBeLessThanOrEqual(3);
    await kernel.close();
  });

  test("a cheaper model is asked only if the rights allow it for these arguments", async () => {
    const kernel = await bootKernel({ models: [model("paid", 1_000_000), model("cheap", 0)] });
    const asker = program("asker", async (_input: unknown, ctx: RunContext) => {
      const infer = async (name: string) => ctx.infer(name, { messages: [], model: name, maxOutputTokens: 2 });
      return [await infer("cheap").catch(codeOf), await infer("paid").catch(codeOf)];
    });

    const pid = await kernel.os.spawn(asker, {
      grants: ["self", "model.infer", "deny model.infer:cheap; arg.maxOutputTokens>=2"],
      budget: { costMicros: 1 },
      limits: { onLimit: "downgrade", downgrade: ["cheap"] },
    });

    expect((await kernel.os.wait(pid)).result).toEqual(["EACCES", "EDQUOT"]);
    await kernel.close();
  });
});

describe("what was taken away stays away", () => {
  test("a process cannot revoke what narrows itself", async () => {
    const kernel = await bootKernel();
    const os = await processWith(kernel, ["*", "deny fs.write:/etc/**"]);

    await expect((async () => os.call("revoke", { id: `${os.pid}:2` }))()).rejects.toMatchObject({ code: "EPERM" });

    await expect(os.fs.writeFile("/etc/a", "x")).rejects.toMatchObject({ code: "EACCES" });
    await kernel.close();
  });

  test("a failed process that is run again has lost what its parent has lost since", async () => {
    const kernel = await bootKernel();
    await kernel.os.fs.writeFile("/etc/a", "x");
    const parent = openProgram("parent");
    await kernel.os.spawn(parent.program);
    const { os } = await parent.context;
    let lives = 0;
    const child = program("child", async (_input: unknown, ctx: RunContext) => {
      if (lives++ === 0) throw new Error("its first life fails");
      return ctx.os.fs.readText("/etc/a");
    });
    const pid = await os.spawn(child);
    await kernel.os.wait(pid);

    await kernel.os.call("grant", { pid: os.pid, grants: ["deny fs.read:/etc/**"] });
    await kernel.os.resume(pid, { again: true, program: child });

    await expect(os.fs.readText("/etc/a")).rejects.toMatchObject({ code: "EACCES" });
    expect((await kernel.os.wait(pid)).error).toMatchObject({ code: "EACCES" });
    await kernel.close();
  });

  test("a granter that was never narrowed before takes what it loses from those it has granted to", async () => {
    const kernel = await bootKernel();
    await kernel.os.fs.writeFile("/etc/a", "x");
    const granter = openProgram("granter");
    await kernel.os.spawn(granter.program);
    const { os } = await granter.context;
    const other = await processWith(kernel, ["self"]);
    await os.call("grant", { pid: other.pid, grants: ["fs.read:/**"] });
    await expect(other.fs.readText("/etc/a")).resolves.toBe("x");

    await kernel.os.call("grant", { pid: os.pid, grants: ["deny fs.read:/etc/**"] });

    await expect(os.fs.read("/etc/a")).rejects.toMatchObject({ code: "EACCES" });
    await expect(other.fs.read("/etc/a")).rejects.toMatchObject({ code: "EACCES" });
    await kernel.close();
  });

  test("a granter that failed and was run again takes what it loses from those it has granted to", async () => {
    const kernel = await bootKernel();
    await kernel.os.fs.writeFile("/etc/a", "x");
    const other = await processWith(kernel, ["self"]);
    const top = openProgram("top");
    await kernel.os.spawn(top.program, { grants: ["self", "proc.*", "cap.grant", "fs.*"] });
    let lives = 0;
    const granter = program("granter", async (_input: unknown, ctx: RunContext) => {
      if (lives++ === 0) {
        await ctx.os.call("grant", { pid: other.pid, grants: ["fs.read:/**"] });
        throw new Error("its first life fails");
      }
      await ctx.sleep(60_000);
    });
    const pid = await (await top.context).os.spawn(granter);
    await kernel.os.wait(pid);
    await kernel.os.resume(pid, { again: true, program: granter });

    await kernel.os.call("grant", { pid, grants: ["deny fs.read:/etc/**"] });

    await expect(other.fs.read("/etc/a")).rejects.toMatchObject({ code: "EACCES" });
    await kernel.close();
  });

  test("a quarantine outlives an addition to the budget and a restart", async () => {
    const store = new MemoryMetastore();
    const objects = new MemoryObjectStore();
    const kernel = await bootKernel({ store, objects });
    const suspect = openProgram("suspect");
    const pid = await kernel.os.spawn(suspect.program, { grants: ["self"], budget: { modelCalls: 1 } });
    await suspect.context;
    const process = kernel.host.processes.get(pid);
    if (process === undefined) throw new Error("it was just spawned");

    await kernel.host.processes.resumption.quarantine(process, "the test says so");
    await kernel.os.call("allocate", { pid, budget: { modelCalls: 1 } });
    const next = await bootKernel({ store: await copyOf(store), objects });

    expect((await next.os.ps({ pids: [pid] }))[0]?.state).toBe("quarantined");
    await next.close();
    await kernel.close();
  });
});

describe("an answer counts for one call", () => {
  test("a place that is given back and taken again is asked for again", async () => {
    let sent = 0;
    const kernel = await bootKernel({ tools: [tool("mail", () => ++sent, "once")] });
    const os = await processWith(kernel, ["self", "ask tool.call:mail"]);
    const mail = async (): Promise<unknown> => os.call("call", { place: "p", tool: "mail" });
    const first = mail();
    await allowed(kernel);
    await first;

    const again: unknown[] = [];
    for (let tries = 0; tries < 5; tries++) {
      await os.call("stepRetract", { place: "p" });
      again.push(await raceWithin(50, mail()));
    }

    expect(again).toEqual(Array.from({ length: 5 }, () => "pending"));
    expect(sent).toBe(1);
    await kernel.close();
  });

  test("a process without a journal is asked for each call at the same place", async () => {
    let sent = 0;
    const kernel = await bootKernel({ tools: [tool("mail", () => ++sent, "once")] });
    const volatile = openProgram("volatile");
    await kernel.os.spawn(volatile.program, { grants: ["self", "ask tool.call:mail"], durable: false });
    const { os } = await volatile.context;
    const mail = async (): Promise<unknown> => os.call("call", { place: "p", tool: "mail" });
    const first = mail();
    await allowed(kernel);
    await first;

    expect(await raceWithin(50, mail())).toBe("pending");

    expect(sent).toBe(1);
    await kernel.close();
  });

  test("a call that is recorded under no place takes none, and is asked for each time", async () => {
    const kernel = await bootKernel();
    const os = await processWith(kernel, ASK_TO_WRITE);
    await kernel.os.fs.writeFile("/srv/a", "A");
    const named = async (): Promise<unknown> => os.call("unlink", { path: "/srv/a", place: "x" } as never);
    await expect(named()).rejects.toMatchObject({ code: "EINVAL" });
    const first = os.fs.unlink("/srv/a");
    await allowed(kernel);
    await first;
    await kernel.os.fs.writeFile("/srv/a", "B");

    for (let tries = 0; tries < 4; tries++) expect(await raceWithin(50, os.fs.unlink("/srv/a"))).toBe("pending");

    expect(await kernel.os.fs.readText("/srv/a")).toBe("B");
    await kernel.close();
  });

  test("of equal calls at once one answer lets one go on", async () => {
    const kernel = await bootKernel();
    const os = await processWith(kernel, ASK_TO_WRITE);
    const all = Array.from({ length: 5 }, () => os.fs.append("/srv/a", "A").catch(codeOf));
    await asked(kernel, 5);

    await allowed(kernel);

    expect(await raceWithin(100, Promise.all(all))).toBe("pending");
    expect(await kernel.os.call("asks", {})).toHaveLength(4);
    expect(await kernel.os.fs.readText("/srv/a")).toBe("A");
    await kernel.close();
  });

  test("contents that differ only behind what a person is shown are two questions", async () => {
    const kernel = await bootKernel();
    const os = await processWith(kernel, ASK_TO_WRITE);
    const long = "A".repeat(5000);
    const good = os.fs.writeFile("/srv/a", `${long}good`);
    const { id } = await asked(kernel);
    const evil = os.fs.writeFile("/srv/a", `${long}evil`).catch(codeOf);
    await asked(kernel, 2);

    await kernel.os.call("answer", { id, verdict: "allow" });
    await good;

    expect(await raceWithin(100, evil)).toBe("pending");
    expect(await kernel.os.fs.readText("/srv/a")).toBe(`${long}good`);
    await kernel.close();
  });

  test("a process cannot answer the question of what has started it", async () => {
    const kernel = await bootKernel();
    const os = await processWith(kernel, ["*", "ask fs.write:/srv/**"]);
    const write = os.fs.writeFile("/srv/a", "x").catch(codeOf);
    const { id } = await asked(kernel);
    const helper = openProgram("helper");
    await os.spawn(helper.program);
    const below = (await helper.context).os;

    await expect((async () => below.call("answer", { id, verdict: "allow" }))()).rejects.toMatchObject({
      code: "EPERM",
    });

    expect(await raceWithin(100, write)).toBe("pending");
    expect(await kernel.os.fs.exists("/srv/a")).toBe(false);
    await kernel.close();
  });

  test("a question is withdrawn when its call is given up, and the same call later is a new question", async () => {
    const kernel = await bootKernel();
    const os = await processWith(kernel, ASK_TO_WRITE);
    const controller = new AbortController();
    const args = { path: "/srv/a", bytes: new Uint8Array([65]), create: "maybe", signal: controller.signal } as const;
    const given = (async () => os.call("append", args))();
    const first = await asked(kernel);

    controller.abort(new Error("not wanted any more"));
    await expect(given).rejects.toThrow();
    expect(await kernel.os.call("asks", {})).toEqual([]);
    const later = os.fs.append("/srv/a", "A").catch(codeOf);

    expect((await asked(kernel)).id).not.toBe(first.id);
    expect(await raceWithin(100, later)).toBe("pending");
    expect(await kernel.os.fs.exists("/srv/a")).toBe(false);
    await kernel.close();
  });
});

describe("stop", () => {
  test("a stopped process stays stopped when its calls under way end, and goes on when it is continued", async () => {
    const kernel = await bootKernel({ tools: [tool("slow", () => sleep(60))] });
    const open = openProgram();
    const pid = await kernel.os.spawn(open.program, { limits: { concurrentCalls: 1 } });
    const { os } = await open.context;
    // The second waits for the first: it begins while the process is stopped.
    const underWay = ["a", "b"].map(async (place) => os.call("call", { place, tool: "slow" }));
    await sleep(10);

    await kernel.os.kill(pid, "STOP");
    const next = (async () => os.call("now", { place: "c" }))();

    expect(await raceWithin(300, next)).toBe("pending");
    expect((await kernel.os.ps({ pids: [pid] }))[0]?.state).toBe("stopped");
    await kernel.os.kill(pid, "CONT");
    await expect(next).resolves.toBeTypeOf("number");
    await Promise.all(underWay);
    await kernel.close();
  });
});

async function copyOf(store: MemoryMetastore): Promise<MemoryMetastore> {
  const copy = new MemoryMetastore();
  for (const { puts, deletes, appends } of await store.tail(SEQ_ZERO, { limit: 100_000 }))
    await copy.commit({ puts, deletes, appends });
  return copy;
}
