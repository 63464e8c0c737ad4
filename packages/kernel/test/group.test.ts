import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import type { Kernel, Program, SyscallArgs } from "@ergos/kernel";
import { describe, expect, test } from "vitest";
import { bootKernel, openProgram } from "./kernel-fixture.ts";

const tools = [{ name: "t", description: "", inputSchema: {}, effect: "pure" as const, call: () => 1 }];
const within = async (kernel: Kernel, group: string, more: object = {}) => {
  const { program, context } = openProgram();
  const pid = await kernel.os.spawn(program, { group, ...more });
  return { pid, context: await context };
};

describe("groups", () => {
  test("a group's budget holds for everything in it and in the groups below it", async () => {
    const kernel = await bootKernel({ tools });
    await kernel.os.call("setGroup", { group: "a", budget: { toolCalls: 3 } });
    await kernel.os.call("setGroup", { group: "a/b" });
    const [one, two] = [await within(kernel, "a"), await within(kernel, "a/b")];
    const call = async (who: typeof one, place: string): Promise<unknown> =>
      who.context.os.call("call", { place, tool: "t" });

    await call(one, "1");
    await call(two, "1");
    await call(one, "2");

    await expect(call(two, "2")).rejects.toMatchObject({ code: "EDQUOT" });
    await expect(call(two, "2")).rejects.toThrow(/group a .* ergos group set a --limit toolCalls=N/);
    await kernel.os.call("setGroup", { group: "a", budget: { toolCalls: 1 } });
    const huge = { toolCalls: Number.MAX_SAFE_INTEGER };
    await expect(kernel.os.call("setGroup", { group: "a", budget: huge })).rejects.toMatchObject({ code: "EINVAL" });
    await expect(call(two, "3")).resolves.toBe(1);
    expect(await kernel.os.call("groups", {})).toMatchObject([
      { path: "a", living: 2, budget: { toolCalls: 4 }, usage: { toolCalls: { allocation: 4, used: 4 } } },
      { path: "a/b", living: 1, usage: { toolCalls: { allocation: 4, used: 4 } } },
    ]);
    expect(await kernel.os.call("ledger", { by: ["group"] })).toMatchObject([
      { key: { group: "a" }, entries: 2 },
      { key: { group: "a/b" }, entries: 2 },
    ]);
    await kernel.close();
  });

  test("a nested group's budget comes out of the one around it, and returns with it", async () => {
    const kernel = await bootKernel({ tools });
    await kernel.os.call("setGroup", { group: "a", budget: { toolCalls: 10 } });
    await kernel.os.call("setGroup", { group: "a/b", budget: { toolCalls: 4 } });
    await expect(kernel.os.call("setGroup", { group: "a/c", budget: { toolCalls: 7 } })).rejects.toMatchObject({
      code: "EDQUOT",
    });
    const { pid, context } = await within(kernel, "a/b");
    await context.os.call("call", { place: "1", tool: "t" });
    await expect(kernel.os.call("removeGroup", { group: "a/b" })).rejects.toMatchObject({ code: "ENOTEMPTY" });
    await expect(kernel.os.call("removeGroup", { group: "a" })).rejects.toMatchObject({ code: "ENOTEMPTY" });
    await kernel.os.kill(pid, "KILL");
    await kernel.os.call("removeGroup", { group: "a/b" });

    expect(await kernel.os.call("groups", {})).toMatchObject([
      { path: "a", usage: { toolCalls: { allocation: 10, used: 1 } } },
    ]);
    await kernel.close();
  });

  test("a group is no way out of a budget", async () => {
    const kernel = await bootKernel({ tools });
    await kernel.os.call("setGroup", { group: "rich", budget: { toolCalls: 100 } });
    const { program, context } = openProgram();
    await kernel.os.spawn(program, { budget: { toolCalls: 1 } });
    const { os } = await context;

    await expect(os.spawn(openProgram().program, { group: "rich" })).rejects.toMatchObject({ code: "EPERM" });
    await kernel.close();
  });

  test("living processes and spawns are limited over the branch, over restarts too", async () => {
    const store = new MemoryMetastore();
    const objects = new MemoryObjectStore();
    const kernel = await bootKernel({ store, objects });
    await kernel.os.call("setGroup", { group: "a", processes: 1, spawns: 2 });
    const { pid } = await within(kernel, "a");
    await expect(within(kernel, "a")).rejects.toMatchObject({ code: "EAGAIN" });
    await kernel.os.kill(pid, "KILL");
    const second = await within(kernel, "a");
    await kernel.os.kill(second.pid, "KILL");
    const next = await bootKernel({ store, objects });

    await expect(within(next, "a")).rejects.toMatchObject({ code: "EDQUOT" });
    await next.os.call("setGroup", { group: "a", spawns: 3 });
    await within(next, "a");
    await next.close();
  });

  test("a frozen group stands still, starts nothing, and goes on where it was; so does one that a restart finds frozen", async () => {
    const store = new MemoryMetastore();
    const objects = new MemoryObjectStore();
    const program: Program = {
      name: "counter",
      revision: "1",
      kind: "function",
      run: async ({ os }) => {
        for (let at = 0; at < 3; at++) await os.call("random", { place: `r${at}` });
        return "done";
      },
    };
    const kernel = await bootKernel({ store, objects, programs: [program] });
    await kernel.os.call("setGroup", { group: "a" });
    const child = await within(kernel, "a");
    await kernel.os.call("freeze", { group: "a" });

    expect((await kernel.os.ps({ pids: [child.pid] }))[0]?.state).toBe("frozen");
    await expect(within(kernel, "a")).rejects.toMatchObject({ code: "EBUSY" });
    const call = Promise.resolve(child.context.os.call("random", { place: "r" }));
    const early = await Promise.race([call, new Promise((go) => setTimeout(() => go("waits"), 30))]);
    expect(early).toBe("waits");
    await kernel.os.call("thaw", { group: "a" });
    expect(typeof (await call)).toBe("number");
    await kernel.os.kill(child.pid, "KILL");

    const pid = await kernel.os.spawn("counter", { group: "a" });
    await kernel.os.call("freeze", { group: "a" });
    const next = await bootKernel({ store, objects, programs: [program] });
    if ((await next.os.ps({ pids: [pid] }))[0]?.state === "sleeping") {
      await next.os.resume(pid);
      expect((await next.os.ps({ pids: [pid] }))[0]?.state).toBe("frozen");
      await next.os.call("thaw", { group: "a" });
    }
    expect((await next.os.wait(pid)).result).toBe("done");
    await next.close();
  });

  test.each([["../a"], ["a//b"], [""], ["a/b/c/d/e/f/g/h/i"], ["ä"]])("%j is no path of a group", async (group) => {
    const kernel = await bootKernel();
    const set = async (args: SyscallArgs<"setGroup">): Promise<unknown> => kernel.os.call("setGroup", args);
    await expect(set({ group })).rejects.toMatchObject({ code: "EINVAL" });
    await expect(set({ group: "a/b" })).rejects.toMatchObject({ code: "ENOENT" });
    await expect(set({ group: "a", processes: -1 })).rejects.toMatchObject({ code: "EINVAL" });
    await expect(set({ group: "a", weight: 0 })).rejects.toMatchObject({ code: "EINVAL" });
    await kernel.close();
  });
});
