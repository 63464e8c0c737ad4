// Messages between processes, as programs use them; crashes included.

import { MemoryObjectStore } from "@ergos/drivers/memory";
import { type Kernel, LIMITS, type Message, type Os, toPid } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LastingStore, bootKernel, openProgram } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

/** A running child of a process, with its own calls. */
async function child(of: Os, options: Parameters<Os["spawn"]>[1] = {}): Promise<Os> {
  const { program: open, context } = openProgram();
  await of.spawn(open, options);
  return (await context).os;
}
const bodies = async (os: Os): Promise<readonly unknown[]> => {
  const all: unknown[] = [];
  for (;;) {
    const message = await os.call("receive", { waitMs: 0 });
    if (message === null) return all;
    all.push(
      message.kind === "copy" ? [message.kind, message.from, (message.body as { to: number }).to] : message.body,
    );
  }
};

describe("routes", () => {
  test("parents and children write to each other, siblings with a copy, branches through where they meet", async () => {
    const top = await child(kernel.os);
    const [left, right] = [await child(top), await child(top)];
    const [leaf, other] = [await child(left), await child(right)];

    await left.call("send", { to: right.pid, body: "sibling" });
    await leaf.call("send", { to: left.pid, body: "up" });
    await left.call("send", { to: leaf.pid, body: "down" });
    await leaf.call("send", { to: other.pid, body: "across" });

    expect(await bodies(right)).toEqual(["sibling"]);
    expect(await bodies(left)).toEqual(["up"]);
    expect(await bodies(leaf)).toEqual(["down"]);
    expect(await bodies(other)).toEqual(["across"]);
    expect(await bodies(top)).toEqual([
      ["copy", left.pid, right.pid],
      ["copy", leaf.pid, other.pid],
    ]);
    expect(await bodies(kernel.os)).toEqual([]);
  });

  test("a task writes to its parent alone, and nobody to another user's", async () => {
    const lead = await child(kernel.os, { role: "lead" });
    const [task, peer] = [await child(lead, { role: "task" }), await child(lead, { role: "worker" })];

    await task.call("send", { to: lead.pid, body: 1 });
    await expect((async () => task.call("send", { to: peer.pid, body: 1 }))()).rejects.toMatchObject({ code: "EPERM" });
    await expect((async () => task.call("spawn", { program: "x" }))()).rejects.toMatchObject({ code: "EACCES" });
    await expect((async () => lead.call("send", { to: toPid(999), body: 1 }))()).rejects.toMatchObject({
      code: "ESRCH",
    });
  });

  test("critical is for those above; from others it counts as high", async () => {
    const top = await child(kernel.os);
    const below = await child(top);
    await below.call("send", { to: top.pid, body: "wants", priority: "critical" });
    await top.call("send", { to: below.pid, body: "may", priority: "critical" });
    await below.call("escalate", { body: "help" });

    expect(await top.call("receive", { waitMs: 0 })).toMatchObject({ priority: "critical", kind: "escalation" });
    expect(await top.call("receive", { waitMs: 0 })).toMatchObject({ priority: "high", relation: "child" });
    expect(await below.call("receive", { waitMs: 0 })).toMatchObject({ priority: "critical", relation: "parent" });
  });
});

describe("roles and tiers", () => {
  test("nothing starts what stands above it, and a role gives no more than its rights", async () => {
    const lead = await child(kernel.os, { role: "lead", tier: "tactical" });
    const { program: any } = openProgram();
    const refused = async (role: "daemon" | "worker" | "task", tier: "strategic" | "operational") =>
      expect(lead.spawn(any, { role, tier })).rejects.toMatchObject({ code: "EPERM" });

    await refused("daemon", "operational");
    await refused("worker", "strategic");
    await refused("task", "strategic");
    const worker = await child(lead, { role: "worker" });
    expect((await kernel.os.ps({ pids: [worker.pid] }))[0]).toMatchObject({ role: "worker", tier: "tactical" });
    await expect(worker.kill(lead.pid)).rejects.toMatchObject({ code: "EACCES" });
    // Without a role of its own a child is what its parent is, where that is below an agent.
    const plain = await child(worker);
    expect((await kernel.os.ps({ pids: [plain.pid] }))[0]).toMatchObject({ role: "worker" });
  });
});

describe("a mailbox", () => {
  test("is bounded in messages and bytes, and says so to the sender", async () => {
    const os = await child(kernel.os);
    await expect(
      (async () => kernel.os.call("send", { to: os.pid, body: "x".repeat(LIMITS.messageBytesMax) }))(),
    ).rejects.toMatchObject({ code: "E2BIG" });
    for (let at = 0; at < LIMITS.mailboxMax; at++) await kernel.os.call("send", { to: os.pid, body: at });

    await expect((async () => kernel.os.call("send", { to: os.pid, body: "one more" }))()).rejects.toMatchObject({
      code: "EAGAIN",
    });
    expect((await os.call("receive", {}))?.body).toBe(0);
    await kernel.os.call("send", { to: os.pid, body: "one more" });
    expect(JSON.parse(await kernel.os.fs.readText(`/proc/${os.pid}/mailbox.json`))).toHaveLength(LIMITS.mailboxMax);
  });

  test("forgets what expired, repetitions under one key, and everything when its process ends", async () => {
    const os = await child(kernel.os);
    const one = await kernel.os.call("send", { to: os.pid, body: 1, key: "k" });
    expect(await kernel.os.call("send", { to: os.pid, body: 2, key: "k" })).toEqual(one);
    await kernel.os.call("send", { to: os.pid, body: "old", ttlMs: 1 });
    await kernel.os.fs.write(`/proc/${os.pid}/mailbox`, '{"written": true}\n');
    await new Promise((go) => setTimeout(go, 5));

    expect(await bodies(os)).toEqual([1, { written: true }]);
    await kernel.os.call("send", { to: os.pid, body: 3 });
    await kernel.os.kill(os.pid, "KILL");
    await expect((async () => kernel.os.call("send", { to: os.pid, body: 4 }))()).rejects.toMatchObject({
      code: "ESRCH",
    });
    for (const prefix of ["m", "ms"])
      expect(await kernel.host.store.scan({ from: `${prefix}/`, to: `${prefix}0` }, { limit: 10 })).toEqual([]);
  });

  test("gives a message back whose lease is over, unless it was acknowledged", async () => {
    const os = await child(kernel.os, { durable: false });
    await kernel.os.call("send", { to: os.pid, body: "a" });
    const first = await os.call("receive", { leaseMs: 5 });
    expect(await os.call("receive", { waitMs: 0 })).toBeNull();
    const again = await os.call("receive", { leaseMs: 10_000 });

    expect(again?.id).toBe(first?.id);
    await os.call("ack", { id: again?.id ?? "" });
    await expect((async () => os.call("ack", { id: again?.id ?? "" }))()).rejects.toMatchObject({ code: "ESTALE" });
    expect(await os.call("receive", { waitMs: 1 })).toBeNull();
  });

  test("a receiver that was told to end gives back what came in that moment", async () => {
    const os = await child(kernel.os);
    const stop = new AbortController();
    const waiting = (async () => os.call("receive", { signal: stop.signal }))().catch((error: unknown) => error);
    await new Promise((go) => setTimeout(go, 1));
    stop.abort(new Error("enough"));
    await waiting;
    await kernel.os.call("send", { to: os.pid, body: "kept" });
    expect((await os.call("receive", { waitMs: 0 }))?.body).toBe("kept");
  });
});

test("requests are answered, and time out when nobody answers", async () => {
  const server = program("server", async (_input: unknown, ctx: RunContext) => {
    for (let at = 0; at < 2; at++) {
      const message = await ctx.receive(`in ${at}`);
      if (message !== null) await ctx.reply(`out ${at}`, message, { double: Number(message.body) * 2 });
    }
  });
  const pid = await kernel.os.spawn(server);
  const client = program("client", async (_input: unknown, ctx: RunContext) => {
    const answers: unknown[] = [];
    for (const number of [4, 5]) answers.push((await ctx.request(`ask ${number}`, pid, number)).body);
    return answers;
  });

  expect((await kernel.os.wait(await kernel.os.spawn(client))).result).toEqual([{ double: 8 }, { double: 10 }]);
  await kernel.os.wait(pid);
  const deaf = await child(kernel.os);
  await expect(
    (async () => kernel.os.call("request", { to: deaf.pid, body: 1, timeoutMs: 5 }))(),
  ).rejects.toMatchObject({ code: "ETIMEDOUT" });
});

test("each message takes effect once, wherever the host ends", async () => {
  const store = new LastingStore();
  const objects = new MemoryObjectStore();
  const sender = program("sender", async (to: number, ctx: RunContext) => {
    for (let at = 0; at < 20; at++) await ctx.send(`send ${at}`, to, at);
    return "sent";
  });
  const receiver = program("receiver", async (_input: unknown, ctx: RunContext) => {
    const got: unknown[] = [];
    for (let at = 0; at < 20; at++) got.push(((await ctx.receive(`take ${at}`)) as Message).body);
    return got;
  });
  const programs = [sender, receiver];
  const first = store.life(12);
  let host = await bootKernel({ store: first, objects, programs });
  const to = await host.os.spawn(receiver);
  const from = await host.os.spawn(sender, { input: to });
  await first.died;
  for (let life = 1; life <= 12; life++) {
    const next = store.life(life === 12 ? undefined : 16 + 4 * life);
    const booted = await Promise.race([bootKernel({ store: next, objects, programs }), next.died]);
    if (booted === undefined) continue;
    host = booted;
    const asleep = (await host.os.ps()).filter(({ state }) => state === "sleeping");
    for (const { pid } of asleep) void host.os.resume(pid, {}).catch(() => undefined);
    const ended = Promise.all([host.os.wait(from), host.os.wait(to)]);
    await Promise.race([next.died, ended]);
  }
  expect((await host.os.wait(from)).result).toBe("sent");
  expect((await host.os.wait(to)).result).toEqual(Array.from({ length: 20 }, (_, at) => at));
  expect(await host.host.store.scan({ from: "m/", to: "m0" }, { limit: 10 })).toEqual([]);
});

describe("tasks that others do", () => {
  const worker = program("worker", (_input: unknown, ctx: RunContext) =>
    ctx.serve(async (task, inner) => {
      const { parts } = task as { parts: number };
      for (let at = 1; at <= parts; at++) await inner.report({ at });
      if (parts > 5) throw new TypeError("too many");
      return parts * 2;
    }),
  );

  test("what is reported on the way comes in order, before the result", async () => {
    const heard: unknown[] = [];
    const lead = program("lead", async (_input: unknown, ctx: RunContext) => {
      const pid = await ctx.spawn("worker", worker);
      const onProgress = (progress: unknown): void => void heard.push(progress);
      const first = await ctx.executeOn("first", pid, { parts: 3 }, { onProgress });
      const second = await ctx.executeOn("second", pid, { parts: 2 });
      const third = await ctx.executeOn("third", pid, { parts: 6 }).catch((error: Error) => error.message);
      return [first, second, third];
    });
    const { result } = await kernel.os.wait(await kernel.os.spawn(lead));
    expect(result).toEqual([6, 4, expect.stringContaining("too many")]);
    expect(heard).toEqual([{ at: 1 }, { at: 2 }, { at: 3 }]);
  });

  test("nobody hears of it: it times out, and a report outside of a task is refused", async () => {
    const lead = program("lead", async (_input: unknown, ctx: RunContext) => {
      const deaf = await ctx.spawn("deaf", openProgram().program);
      await expect(ctx.report(1)).rejects.toMatchObject({ code: "EINVAL" });
      await ctx.executeOn("never", deaf, 1, { timeoutMs: 20 });
    });
    const { error } = await kernel.os.wait(await kernel.os.spawn(lead));
    expect(error).toMatchObject({ code: "ETIMEDOUT" });
  });
});
