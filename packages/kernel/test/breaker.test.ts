// Circuit breakers: what is counted, when a device is left alone, and how it comes back.

import { createOfflineModel } from "@ergos/drivers/model-offline";
import { createNodePlatform } from "@ergos/drivers/platform-node";
import { type Kernel, type KernelEvent, KernelError, type Model, type NetDriver } from "@ergos/kernel";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bootKernel, openProgram } from "./kernel-fixture.ts";

let kernel: Kernel;
let now: number;
let fails: (() => Error) | undefined;
let asked: number;
const events: KernelEvent[] = [];

const flaky: Model = {
  name: "flaky",
  description: "fails when it is told to",
  effect: "idempotent",
  health: async () => ({ ok: true, detail: "" }),
  infer: async () => {
    asked++;
    if (fails !== undefined) throw fails();
    return { text: "fine", finishReason: "stop", usage: { inputTokens: 1, outputTokens: 1 } };
  },
};
const net: NetDriver = {
  locate: (url) => ({ url, host: new URL(url).host, origin: new URL(url).origin }),
  check: () => undefined,
  resolve: () => Promise.resolve({ addresses: [], isPrivate: false }),
  send: async () => {
    asked++;
    if (fails !== undefined) throw fails();
    return { status: 500, headers: {}, body: new Uint8Array(0) };
  },
};

beforeEach(async () => {
  now = 1_000_000;
  asked = 0;
  fails = undefined;
  events.length = 0;
  const platform = createNodePlatform();
  kernel = await bootKernel({
    models: [flaky, { ...flaky, name: "other" }],
    net,
    platform: { ...platform, clock: { ...platform.clock, monotonic: () => now } },
    breakers: { failures: 3, coolMs: 1000, coolMsMax: 3000 },
  });
  kernel.host.bus.observe({}, (event) => void (event.name.startsWith("breaker.") && events.push(event)));
});
afterEach(() => kernel.close());

let place = 0;
const ask = (model = "flaky"): Promise<unknown> =>
  kernel.os.infer(`ask ${place++}`, { model, messages: [{ role: "user", content: "?" }] });
const io = (): Error => new KernelError("EIO", "no answer");
const failing = async (times: number, model?: string): Promise<void> => {
  for (let at = 0; at < times; at++) await expect(ask(model)).rejects.toMatchObject({ code: "EIO" });
};

test("what is the caller's own fault opens no breaker, and an answer comes to its end beside a listener that fails", async () => {
  const slow = { ...createOfflineModel({ name: "slow", delayMs: 30 }), effect: "once" as const };
  const kernel = await bootKernel({ models: [slow] });
  const { program, context } = openProgram();
  await kernel.os.spawn(program, { limits: { callMs: 1 } });
  const { os } = await context;
  const request = { model: "slow", messages: [] };
  for (let at = 0; at < 12; at++)
    await expect((async () => os.call("infer", { place: `p${at}`, request }))()).rejects.toMatchObject({
      code: "ETIMEDOUT",
    });
  let onText = (): unknown => {
    throw new TypeError("my bug");
  };
  const asking = async (): Promise<unknown> => kernel.os.call("infer", { place: "q", request, onText: () => onText() });
  expect(await asking()).toMatchObject({ finishReason: "stop" });
  onText = async () => Promise.reject(new TypeError("my other bug"));
  expect(await asking()).toMatchObject({ finishReason: "stop" });
  expect(kernel.host.breakers.all).toEqual([]);
  await kernel.close();
});

describe("a breaker", () => {
  test("opens after failures in a row, refuses without asking, and says when to try again", async () => {
    fails = io;
    await failing(2);
    fails = undefined;
    await ask();
    fails = io;
    await failing(3);
    expect(asked).toBe(6);
    now += 400;
    await expect(ask()).rejects.toMatchObject({ code: "EAGAIN", retryAfterMs: 600 });
    expect(asked).toBe(6);
    await failing(1, "other");
    expect(events.map(({ name, data }) => [name, data["device"]])).toEqual([["breaker.opened", "model flaky"]]);
    expect(JSON.parse(await kernel.os.fs.readText("/sys/breakers.json"))).toMatchObject([
      { device: "model flaky", state: "open", failures: 3, retryAfterMs: 600, error: { code: "EIO" } },
      { device: "model other", state: "closed", failures: 1 },
    ]);
  });

  test("lets one call through when its time is over: a failure opens it for longer, a success closes it", async () => {
    fails = io;
    await failing(3);
    for (const coolMs of [2000, 3000, 3000]) {
      now += 3000;
      await failing(1);
      await expect(ask()).rejects.toMatchObject({ code: "EAGAIN", retryAfterMs: coolMs });
    }
    now += 3000;
    fails = undefined;
    await ask();
    await ask();
    expect(events.map(({ name }) => name)).toEqual(["breaker.opened", "breaker.closed"]);
    expect(JSON.parse(await kernel.os.fs.readText("/sys/breakers.json"))).toEqual([]);
  });

  test("counts what is the device's alone, and calls that were under way together once they are over", async () => {
    fails = () => new KernelError("EINVAL", "wrong arguments");
    for (let at = 0; at < 5; at++) await expect(ask()).rejects.toMatchObject({ code: "EINVAL" });
    fails = io;
    const many = await Promise.allSettled(Array.from({ length: 8 }, () => ask()));
    expect(many.every(({ status }) => status === "rejected")).toBe(true);
    await expect(ask()).rejects.toMatchObject({ code: "EAGAIN", retryAfterMs: 1000 });
  });

  test("takes nothing of a budget for what it refuses", async () => {
    fails = io;
    await failing(3);
    const pid = await kernel.os.spawn(
      {
        name: "asks",
        revision: "1",
        kind: "function",
        run: ({ os }) => os.infer("a", { model: "flaky", messages: [{ role: "user", content: "?" }] }),
      },
      { budget: { modelCalls: 1 } },
    );
    expect((await kernel.os.wait(pid)).error).toMatchObject({ code: "EAGAIN" });
    expect((await kernel.os.call("usage", { pid }))["modelCalls"]).toMatchObject({ used: 0 });
  });

  test("of a host of the network counts connections that fail, not answers", async () => {
    const get = async (url: string) => kernel.os.call("fetch", { place: `get ${place++}`, url });
    for (let at = 0; at < 5; at++) expect((await get("http://a/")).status).toBe(500);
    fails = () => new KernelError("ECONNREFUSED", "nobody listens");
    for (let at = 0; at < 3; at++) await expect(get("http://a/x")).rejects.toMatchObject({ code: "ECONNREFUSED" });
    await expect(get("http://a/y")).rejects.toMatchObject({ code: "EAGAIN" });
    await expect(get("http://b/")).rejects.toMatchObject({ code: "ECONNREFUSED" });
  });
});
