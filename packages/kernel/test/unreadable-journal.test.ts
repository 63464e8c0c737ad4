// The end of a process that sleeps, when what it left cannot be read: for now, or for ever.

import { KernelError, type Kernel, type Metastore, type Pid, type Program } from "@ergos/kernel";
import { MemoryObjectStore } from "@ergos/drivers/memory";
import { expect, test } from "vitest";
import { LastingStore, bootKernel } from "./kernel-fixture.ts";

const stays: Program = {
  name: "stays",
  revision: "1",
  kind: "function",
  run: ({ signal }) =>
    new Promise((_done, failed) => signal.addEventListener("abort", () => failed(signal.reason as Error))),
};

/** A host with a process of an earlier one that sleeps, and one below it. */
async function bootOverSleepers(store: LastingStore, ill: (log: string) => Error | undefined) {
  const objects = new MemoryObjectStore();
  const parent: Program = {
    ...stays,
    name: "parent",
    run: async (context) => {
      await context.os.spawn(stays, { place: "child" });
      return stays.run(context);
    },
  };
  const first = await bootKernel({ store: store.life(), objects });
  const pid = await first.os.spawn(parent);
  await expect.poll(async () => (await first.os.ps({})).length).toBe(3);
  await first.close();
  const life: Metastore = store.life();
  const readLog: Metastore["readLog"] = async (log, page) => {
    const error = ill(log);
    if (error !== undefined) throw error;
    return life.readLog(log, page);
  };
  const kernel = await bootKernel({ store: { ...life, seq: life.seq, readLog }, objects, programs: [parent, stays] });
  return { kernel, pid };
}

const stateOf = async (kernel: Kernel, pid: Pid) => (await kernel.os.ps({ pids: [pid] }))[0]?.state;

test("a failure to read it is told, and the process can be ended once it is over", async () => {
  let isIll = false;
  const ill = (log: string) =>
    isIll && log.startsWith("j/") ? new KernelError("EIO", "the disk does not answer") : undefined;
  const { kernel, pid } = await bootOverSleepers(new LastingStore(), ill);
  expect(await stateOf(kernel, pid)).toBe("sleeping");
  isIll = true;
  await expect(kernel.os.kill(pid, "KILL")).rejects.toMatchObject({ code: "EIO" });
  isIll = false;
  expect(await stateOf(kernel, pid)).toBe("sleeping");
  await kernel.os.kill(pid, "KILL");
  expect(await kernel.os.wait(pid)).toMatchObject({ signal: "KILL" });
  await kernel.close();
});

test("what nobody can read any more keeps no process", async () => {
  const store = new LastingStore();
  const { kernel, pid } = await bootOverSleepers(store, () => undefined);
  await store.life().commit({ appends: [{ log: `j/${pid}`, value: "{ no record" }] });
  await expect(kernel.os.resume(pid)).rejects.toMatchObject({ code: "ECORRUPT" });
  await kernel.os.kill(pid, "KILL");
  expect(await kernel.os.wait(pid)).toMatchObject({ signal: "KILL" });
  await kernel.close();
});
