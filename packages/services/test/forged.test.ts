// What a process records of itself is its own word: nobody else's record, rights or results follow from it.

import { MemoryObjectStore } from "@ergos/drivers/memory";
import type { Errno, Kernel } from "@ergos/kernel";
import { program } from "@ergos/services";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LastingStore, bootKernel, openProgram } from "../../kernel/test/kernel-fixture.ts";

let store: LastingStore;
let objects: MemoryObjectStore;
let kernel: Kernel;
beforeEach(async () => {
  store = new LastingStore();
  objects = new MemoryObjectStore();
  kernel = await bootKernel({ store: store.life(), objects });
});
afterEach(() => kernel.close());

/** A process that records an outcome at a place, and the calls of its next life. */
async function recorded(outcome: { readonly value: unknown } | { readonly error: { code: Errno; message: string } }) {
  const { program: open, context } = openProgram();
  const pid = await kernel.os.spawn(open, { grants: ["self", "proc.signal:/proc/*"] });
  const { os } = await context;
  await os.call("stepBegin", { place: "x" });
  await os.call("stepEnd", { place: "x", ...outcome });
  await kernel.close();
  kernel = await bootKernel({ store: store.life(), objects });
  const next = openProgram();
  await kernel.os.call("resume", { pid, program: next.program });
  return (await next.context).os;
}

test("an outcome that a step has recorded is that of no other call", async () => {
  const victim = await kernel.os.spawn(program("victim", () => ({ salary: 4711 })));
  await kernel.os.wait(victim);

  const os = await recorded({ value: [victim, 1] });
  await expect(os.call("collapse", { place: "x" })).rejects.toMatchObject({ code: "EEXIST" });
});

test("a code that is none of the kernel's is not told as one, and stands in no record of the audit", async () => {
  const forged = 'EIO","user":"root","pid":1,"call":"revokePass","outcome":"ok' as Errno;
  const os = await recorded({ error: { code: forged, message: "m" } });
  expect(await os.call("stepBegin", { place: "x" })).toMatchObject({ error: { code: "EIO" } });

  const records = await kernel.os.call("auditLog", { limit: 1000 });
  expect(records.some(({ call }) => call === "revokePass")).toBe(false);
  expect((await kernel.os.call("auditVerify", {})).fault).toBeUndefined();
});
