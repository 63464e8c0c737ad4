// The end of a host: who waits is told, and who calls afterwards.

import { isKernelError } from "@ergos/kernel";
import { expect, test } from "vitest";
import { bootKernel, openProgram } from "./kernel-fixture.ts";

test("whoever waits hears that the host closes, and whoever calls later that it was closed", async () => {
  const kernel = await bootKernel();
  const { os } = kernel;
  await os.fs.makePipe("/srv/p");
  await os.fs.makePipe("/srv/full", { capacity: 1 });
  await os.fs.pipe("/srv/full").write("x");
  await os.fs.makeStream("/srv/s");
  await os.call("lock", { path: "held", ttlMs: 60_000 });
  const pid = await os.spawn(openProgram().program);
  const given = new AbortController().signal;
  const drained = async (items: AsyncIterable<unknown>): Promise<string> => {
    await Array.fromAsync(items);
    return "ended";
  };
  const waits: Readonly<Record<string, () => Promise<unknown>>> = {
    read: () => os.fs.pipe("/srv/p").read(),
    "read with a signal": () => os.fs.pipe("/srv/p").read({ signal: given }),
    write: () => os.fs.pipe("/srv/full").write("y"),
    follow: () => drained(os.fs.stream("/srv/s").read({ follow: true })),
    lock: async () => os.call("lock", { path: "held", ttlMs: 1000 }),
    receive: async () => os.call("receive", { signal: given }),
    wait: () => os.wait(pid),
    watch: () => drained(os.fs.watch("/srv/**")),
    events: () => drained(os.events()),
  };
  const outcome = (wait: Promise<unknown>): Promise<unknown> =>
    wait.catch((error: unknown) => (isKernelError(error) ? error.code : error));
  const waiting = Object.entries(waits).map(async ([name, wait]) => [name, await outcome(wait())] as const);
  await new Promise((go) => setImmediate(go));

  await kernel.close();

  const interrupted = Object.fromEntries(Object.keys(waits).map((name) => [name, "ECANCELED"]));
  expect(Object.fromEntries(await Promise.all(waiting))).toEqual({ ...interrupted, watch: "ended", events: "ended" });
  for (const [name, wait] of Object.entries(waits))
    expect(await outcome((async () => wait())()), name).toBe("ECONNRESET");
  await expect(os.fs.writeFile("/srv/f", "x")).rejects.toMatchObject({ code: "ECONNRESET" });
  await kernel.close();
});
