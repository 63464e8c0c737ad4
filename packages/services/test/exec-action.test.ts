// An action that executes a path is done once or not at all, whatever it throws: what is EAGAIN there is no room that
// comes later here.

import { type Kernel, type KernelEvent, KernelError, type Os, type Tool } from "@ergos/kernel";
import { afterEach, beforeEach, expect, test } from "vitest";
import { bootKernel } from "../../kernel/test/kernel-fixture.ts";

let calls = 0;
const busy: Tool<Os> = {
  name: "busy",
  description: "has acted, and then something is busy",
  inputSchema: {},
  effect: "once",
  call: () => {
    calls++;
    throw new KernelError("EAGAIN", "the line is busy");
  },
};
const exec = { path: "/lib/tools/busy", input: {} };

let kernel: Kernel;
beforeEach(async () => {
  calls = 0;
  kernel = await bootKernel({ tools: [busy] });
  kernel.activate();
});
afterEach(() => kernel.close());

/** The next event of a name. */
async function nextOf(name: KernelEvent["name"]): Promise<KernelEvent> {
  for await (const event of kernel.os.events({ names: [name] })) return event;
  throw new Error(`there is no event ${name}`);
}

test("of a transition: it stands, and what has failed is told", async () => {
  const { os } = kernel;
  await os.call("defineEntity", { type: "t", initial: "a", transitions: [{ from: "a", to: "b", action: { exec } }] });
  await os.call("createEntity", { type: "t", id: "1" });
  const told = nextOf("entity.failed");

  expect(await os.call("transition", { type: "t", id: "1", to: "b" })).toMatchObject({ state: "b", version: 2 });

  expect((await told).data).toMatchObject({ type: "t", id: "1", to: "b", error: { code: "EAGAIN" } });
  expect(calls).toBe(1);
});

test("of a schedule that is ended meanwhile: nothing of it is left", async () => {
  let begun: () => void = () => undefined;
  const running = new Promise<void>((go) => (begun = go));
  let fail: () => void = () => undefined;
  const slow: Tool<Os> = {
    ...busy,
    name: "slow",
    call: () => {
      begun();
      return new Promise((_done, reject) => (fail = () => reject(new Error("too late"))));
    },
  };
  await using kernel = await bootKernel({ tools: [slow] });
  kernel.activate();
  const action = { exec: { path: "/lib/tools/slow", input: {} } };
  const { id } = await kernel.os.call("schedule", { everyMs: 100, action });
  await running;
  await kernel.os.call("unschedule", { id });
  fail();
  await new Promise((go) => setTimeout(go, 50));
  const rows = await kernel.host.store.scan({ from: "sc/", to: "sd/" }, { limit: 10 });
  expect(rows).toEqual([]);
});

test("of a schedule and of a trigger: the occurrence is over, and says why", async () => {
  const { os } = kernel;
  const told = [nextOf("schedule.failed"), nextOf("trigger.failed")];
  const { id } = await os.call("schedule", { everyMs: 3_600_000, action: { exec }, name: "hourly" });
  await os.call("schedule", { inMs: 1, times: 1, action: { exec } });
  await os.call("trigger", { topic: "orders.*", times: 1, action: { exec } });
  await os.call("publish", { topic: "orders.new", body: 1 });

  for (const event of await Promise.all(told)) expect(event.data).toMatchObject({ error: { code: "EAGAIN" } });
  // What waited for room would look again each second.
  await new Promise((go) => setTimeout(go, 1500));
  expect(calls).toBe(2);
  expect((await os.call("schedules", {})).map((one) => one.id)).toEqual([id]);
  expect(await os.call("triggers", {})).toEqual([]);
});
