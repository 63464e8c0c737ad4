// What many processes, and long lives, must not make slow, deep or large.

import { expect, test } from "vitest";
import { type Os, type Program, toPid } from "@ergos/kernel";
import { bootKernel, codeOf, openChild, openProgram } from "../../kernel/test/kernel-fixture.ts";

test("a branch that is deeper than a stack is killed bottom-up", async () => {
  await using kernel = await bootKernel();
  let os: Os = kernel.os;
  const DEPTH = 3000;
  for (let depth = 0; depth < DEPTH; depth++) {
    const { program, context } = openProgram();
    await os.spawn(program, { durable: false });
    ({ os } = await context);
  }
  const ended: number[] = [];
  const events = kernel.os.events({ names: ["process.cancelled"] });
  const listening = (async () => {
    for await (const { pid } of events) ended.push(pid);
  })();

  await kernel.os.kill(toPid(2), "KILL");

  expect(await kernel.os.ps()).toHaveLength(1);
  await expect.poll(() => ended.length).toBe(DEPTH);
  expect(ended).toEqual(ended.toSorted((a, b) => b - a));
  await events.return(undefined);
  await listening;
});

test("what a process has subscribed to ends with it, whether it was read or not", async () => {
  await using kernel = await bootKernel();
  const listening: Program = {
    name: "listening",
    revision: "1",
    kind: "function",
    run: async ({ os }) => {
      os.events({ topics: ["orders.*"] });
      void os.events({ topics: ["*.created"] }).next();
      return Promise.resolve();
    },
  };
  const subscribers = async (): Promise<number> => {
    const { subscribers: now } = JSON.parse(await kernel.os.fs.readText("/sys/events.json")) as { subscribers: number };
    return now;
  };
  const before = await subscribers();

  for (let life = 0; life < 5; life++) await kernel.os.wait(await kernel.os.spawn(listening, { durable: false }));

  expect(await subscribers()).toBe(before);
});

test("topics reach whoever wants them, by their first part or by a pattern for all", async () => {
  await using kernel = await bootKernel();
  const heard = new Map<string, string[]>();
  const streams = ["orders.*", "orders.created", "**", "*.created", "bills.paid"].map((pattern) => {
    const events = kernel.os.events({ topics: [pattern] });
    heard.set(pattern, []);
    void (async () => {
      for await (const { data } of events) heard.get(pattern)?.push(String(data["topic"]));
    })();
    return events;
  });
  for (const topic of ["orders.created", "bills.paid", "orders"]) await kernel.os.call("publish", { topic, body: 1 });

  await expect.poll(() => heard.get("bills.paid")).toEqual(["bills.paid"]);
  expect(heard.get("orders.*")).toEqual(["orders.created"]);
  expect(heard.get("orders.created")).toEqual(["orders.created"]);
  expect(heard.get("*.created")).toEqual(["orders.created"]);
  expect(heard.get("**")?.filter((topic) => topic !== "undefined")).toEqual(["orders.created", "bills.paid", "orders"]);
  for (const events of streams) await events.return(undefined);
});

test("a parent takes no more children by being given them than by starting them", async () => {
  await using kernel = await bootKernel();
  const [parent, child] = [await openChild(kernel.os, { limits: { children: 1 } }), await openChild(kernel.os)];
  await openChild(parent);

  expect(await codeOf(() => kernel.os.call("reparent", { pid: child.pid, to: parent.pid }))).toBe("EAGAIN");
});
