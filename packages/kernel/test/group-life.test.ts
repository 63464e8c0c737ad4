import { createPassAuthority, openKeys } from "@ergos/drivers/keys";
import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import {
  type Batch,
  type Kernel,
  type Os,
  type ProcessContext,
  type Program,
  type Receipt,
  type Tool,
  isKernelError,
} from "@ergos/kernel";
import { describe, expect, test } from "vitest";
import { bootKernel, openProgram } from "./kernel-fixture.ts";

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const codeOf = (error: unknown): string => (isKernelError(error) ? error.code : String(error));
const tool: Tool<Os> = { name: "t", description: "", inputSchema: {}, effect: "pure", call: () => 1 };

/** A store whose commits are decided at once and told of late. */
class SlowStore extends MemoryMetastore {
  override async commit(batch: Batch): Promise<Receipt> {
    const receipt = await super.commit(batch);
    await sleep(5);
    return receipt;
  }
}

/** A program whose first life fails, and what its later lives do. */
function failsFirst(name: string, later: (context: ProcessContext) => Promise<unknown>): Program {
  let lives = 0;
  return {
    name,
    revision: "1",
    kind: "function",
    run: async (context) => {
      if (lives++ === 0) throw new Error("its first life fails");
      return later(context);
    },
  };
}

const untilAborted = ({ signal }: ProcessContext): Promise<never> =>
  new Promise((_done, fail) => signal.addEventListener("abort", () => fail(signal.reason as Error), { once: true }));
const spawnIn = (kernel: Kernel, group: string): Promise<number> => kernel.os.spawn(openProgram().program, { group });
/** What becomes of a promise, or that it is pending still after so many milliseconds. */
const raceWithin = async <T>(ms: number, promise: Promise<T>): Promise<T | "pending"> =>
  Promise.race([promise, sleep(ms).then(() => "pending" as const)]);

describe("a frozen group", () => {
  test("holds a seat of one of its processes until it is thawed, takes no new one, and counts them all", async () => {
    const keys = openKeys();
    const kernel = await bootKernel({ signer: keys, passes: (issuer) => createPassAuthority(keys, issuer) });
    await kernel.os.call("setGroup", { group: "a", processes: 2 });
    const { program, context } = openProgram();
    await kernel.os.spawn(program, { group: "a" });
    const { pass } = await (await context).os.call("issuePass", { grants: ["fs.*"] });
    const { os } = await kernel.login(pass);

    await kernel.os.call("freeze", { group: "a" });
    const write = os.fs.writeFile("/a", "x");

    expect(await raceWithin(30, write)).toBe("pending");
    expect(await kernel.os.fs.exists("/a")).toBe(false);
    await expect(kernel.login(pass)).rejects.toMatchObject({ code: "EBUSY" });
    await kernel.os.call("thaw", { group: "a" });
    await write;
    expect(await kernel.os.fs.readText("/a")).toBe("x");
    await expect(kernel.login(pass)).rejects.toMatchObject({ code: "EAGAIN" });
    expect((await kernel.os.call("groups", {}))[0]?.living).toBe(2);
    await kernel.close();
  });

  test("starts nothing from the moment it is told to freeze, and stays frozen over a restart", async () => {
    const store = new SlowStore();
    const objects = new MemoryObjectStore();
    const kernel = await bootKernel({ store, objects });
    await kernel.os.call("setGroup", { group: "a", spawns: 100 });

    const freezing = (async () => kernel.os.call("freeze", { group: "a" }))();
    await sleep(1);
    const spawned = await spawnIn(kernel, "a").catch(codeOf);
    await freezing;

    expect(spawned).toBe("EBUSY");
    expect((await kernel.os.call("groups", {}))[0]).toMatchObject({ isFrozen: true, started: 0 });
    // Nobody closes the first.
    const next = await bootKernel({ store, objects });
    expect((await next.os.call("groups", {}))[0]).toMatchObject({ isFrozen: true, started: 0 });
    await next.close();
  });
});

describe("limits of a group", () => {
  test("spawns are counted also while the group is changed", async () => {
    const kernel = await bootKernel({ store: new SlowStore() });
    await kernel.os.call("setGroup", { group: "a", spawns: 3 });

    const outcomes: string[] = [];
    for (let tries = 0; tries < 4; tries++) {
      const change = (async () => kernel.os.call("setGroup", { group: "a", weight: 5 }))();
      await sleep(1);
      const spawned = await spawnIn(kernel, "a").then(() => "started", codeOf);
      await change;
      outcomes.push(spawned);
    }

    expect(outcomes).toEqual(["started", "started", "started", "EDQUOT"]);
    await kernel.close();
  });

  test("a process that failed and is run again needs room for a living process", async () => {
    const kernel = await bootKernel({ programs: [failsFirst("f", untilAborted)] });
    await kernel.os.call("setGroup", { group: "a", processes: 1 });
    const pid = await kernel.os.spawn("f", { group: "a" });
    await kernel.os.wait(pid);
    await kernel.os.spawn("f", { group: "a" });

    const resumed = await kernel.os.resume(pid, { again: true }).catch(codeOf);
    await sleep(10);

    expect(resumed).toBe("EAGAIN");
    expect((await kernel.os.call("groups", {}))[0]?.living).toBe(1);
    await kernel.close();
  });

  test("a process that failed is not run again without the budget of its group, once that was removed", async () => {
    const program = failsFirst("f", async ({ os }) => {
      for (let at = 0; at < 5; at++) await os.call("call", { place: `${at}`, tool: "t" });
      return "unbounded";
    });
    const kernel = await bootKernel({ programs: [program], tools: [tool] });
    await kernel.os.call("setGroup", { group: "a", budget: { toolCalls: 1 } });
    const pid = await kernel.os.spawn("f", { group: "a" });
    await kernel.os.wait(pid);
    await kernel.os.call("removeGroup", { group: "a" });

    const outcome = await kernel.os
      .resume(pid, { again: true })
      .then(async () => (await kernel.os.wait(pid)).result, codeOf);

    expect(outcome).toBe("EDQUOT");
    await kernel.close();
  });
});
