// Processes that are given to other parents, and trees that stay trees whatever is done to them.

import { MemoryObjectStore } from "@ergos/drivers/memory";
import { type Kernel, type Os, PID_OWNER, type Pid, type Signal } from "@ergos/kernel";
import * as fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LastingStore, bootKernel, openProgram } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

async function child(of: Os, options: Parameters<Os["spawn"]>[1] = {}): Promise<Os> {
  const { program: open, context } = openProgram();
  await of.spawn(open, options);
  return (await context).os;
}
const reparent = async (pid: Pid, to: Pid, os = kernel.os): Promise<void> => os.call("reparent", { pid, to });
const ppidOf = async (pid: Pid, of = kernel) => (await of.os.ps({ pids: [pid] }))[0]?.ppid;

test("a process is another's child from then on, with what is below it, and hears HUP", async () => {
  const store = new LastingStore();
  const objects = new MemoryObjectStore();
  const first = await bootKernel({ store: store.life(), objects });
  const [one, two] = [await child(first.os), await child(first.os)];
  const moved = await child(one);
  const below = await child(moved);
  const heard: Signal[] = [];
  const process = first.host.processes.get(moved.pid);
  (process as { listeners: unknown }).listeners = new Set([(signal: Signal) => heard.push(signal)]);
  await reparent(moved.pid, two.pid, first.os);
  expect(await ppidOf(moved.pid, first)).toBe(two.pid);
  expect(heard).toEqual(["HUP"]);
  expect((await first.os.fs.readdir(`/proc/${two.pid}/children`)).map(({ name }) => name)).toEqual([String(moved.pid)]);
  await first.os.kill(one.pid);
  expect((await first.os.ps({ pids: [below.pid] }))[0]?.state).toBe("running");
  const next = await bootKernel({ store: store.life(), objects });
  expect(await ppidOf(moved.pid, next)).toBe(two.pid);
  await next.os.kill(two.pid);
  expect((await next.os.ps({ pids: [below.pid] }))[0]?.state).toBe("zombie");
  await next.close();
});

test("what would break the tree, the rights, the roles or the budgets is refused", async () => {
  const top = await child(kernel.os);
  const middle = await child(top);
  const narrow = await child(kernel.os, { grants: ["self"] });
  const worker = await child(kernel.os, { role: "worker" });
  const rich = await child(kernel.os, { budget: { modelCalls: 3 } });
  const spender = await child(rich);
  for (const [pid, to, code] of [
    [top.pid, middle.pid, "ELOOP"],
    [top.pid, top.pid, "ELOOP"],
    [middle.pid, narrow.pid, "EPERM"],
    [middle.pid, worker.pid, "EPERM"],
    [spender.pid, top.pid, "EBUSY"],
    [PID_OWNER, top.pid, "EPERM"],
    [middle.pid, 99 as Pid, "ESRCH"],
  ] as const)
    await expect(reparent(pid, to)).rejects.toMatchObject({ code });
  await reparent(middle.pid, PID_OWNER);
  expect(await ppidOf(middle.pid)).toBe(PID_OWNER);
  await expect(reparent(middle.pid, top.pid, narrow)).rejects.toMatchObject({ code: "EACCES" });
});

test("no sequence of spawns, twins, moves, mergers and kills leaves a cycle or a living process that nobody can reach", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.record({ what: fc.constantFrom("spawn", "move", "kill", "clone", "merge"), one: fc.nat(9), two: fc.nat(9) }),
        {
          maxLength: 25,
        },
      ),
      async (orders) => {
        const all: Os[] = [kernel.os];
        for (const { what, one, two } of orders) {
          const living = all.filter(({ pid }) => kernel.host.processes.get(pid)?.isAlive === true);
          const [a = kernel.os, b = kernel.os] = [living[one % living.length], living[two % living.length]];
          if (what === "spawn") all.push(await child(a));
          else if (what === "clone" && a !== kernel.os)
            all.push(kernel.osOf(await kernel.os.call("clone", { pid: a.pid })));
          else if (what === "merge")
            await (async () => kernel.os.call("merge", { pid: a.pid, into: b.pid }))().catch(() => undefined);
          else if (what === "move") await reparent(a.pid, b.pid).catch(() => undefined);
          else if (a !== kernel.os && all.length > 3) await kernel.os.kill(a.pid, "KILL");
        }
        const { family } = kernel.host.processes;
        const reached = new Set<Pid>();
        const visit = (pid: Pid): void => {
          expect(reached.has(pid)).toBe(false);
          reached.add(pid);
          for (const below of family.childrenOf(pid)) visit(below);
        };
        visit(PID_OWNER);
        for (const { pid } of all)
          if (kernel.host.processes.get(pid)?.isAlive === true) expect(reached.has(pid)).toBe(true);
        for (const { pid } of family.livingChildrenOf(PID_OWNER)) await kernel.os.kill(pid, "KILL");
      },
    ),
    { numRuns: 100 },
  );
});
