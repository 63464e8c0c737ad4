// Processes that are held, given up or given another life while something of theirs is under way.

import { execFile } from "node:child_process";
import { once, EventEmitter } from "node:events";
import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { createOfflineModel } from "@ergos/drivers/model-offline";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { Kernel, Pid } from "@ergos/kernel";
import { type Plan, type RunContext, pipeline, planProgram, program } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LastingStore, bootKernel } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

const stateOf = async (pid: Pid): Promise<string | undefined> => (await kernel.os.ps({ pids: [pid] }))[0]?.state;

test.each<[string, (signal: AbortSignal) => Promise<unknown>]>([
  ["a timer", (signal) => sleep(60_000, undefined, { signal })],
  ["a child of its own", (signal) => promisify(execFile)("sleep", ["60"], { signal })],
  ["an event", (signal) => once(new EventEmitter(), "never", { signal })],
  [
    "an error of its own because of it",
    (signal) =>
      sleep(60_000, undefined, { signal }).catch((cause: unknown) => {
        throw new TypeError("gave up", { cause });
      }),
  ],
])("a program that is told to end while it waits for %s was cancelled, and has not failed", async (_what, wait) => {
  const waiting = program("waiting", (_input: unknown, ctx: RunContext) => ctx.step("wait", () => wait(ctx.signal)));
  const pid = await kernel.os.spawn(waiting);
  await sleep(20);
  await kernel.os.kill(pid, "TERM");

  expect(await kernel.os.wait(pid)).toEqual({ code: 143, signal: "TERM" });
});

test("a group that is frozen while one of it is resumed has it when it is thawed", async () => {
  const job = program("job", (_input: unknown, ctx: RunContext) => ctx.receive("go"));
  const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
  const first = await bootKernel({ store: store.life(), objects, programs: [job] });
  await first.os.call("setGroup", { group: "lab" });
  const pid = await first.os.spawn(job, { group: "lab" });
  await sleep(5);
  await first.close();
  await kernel.close();
  kernel = await bootKernel({ store: store.life(), objects, programs: [job] });

  await Promise.all([kernel.os.resume(pid), kernel.os.call("freeze", { group: "lab" })]);
  await kernel.os.call("thaw", { group: "lab" });
  await kernel.os.call("send", { to: pid, body: 1 });
  expect((await kernel.os.wait(pid)).result).toMatchObject({ body: 1 });
});

test("who was stopped, and told to go on while its group was frozen, goes on after that", async () => {
  await kernel.os.call("setGroup", { group: "lab" });
  const pid = await kernel.os.spawn(
    program("job", (_input: unknown, ctx: RunContext) => ctx.receive("go")),
    { group: "lab" },
  );
  await sleep(5);
  await kernel.os.kill(pid, "STOP");
  await kernel.os.call("freeze", { group: "lab" });
  await kernel.os.kill(pid, "CONT");
  expect(await stateOf(pid)).toBe("frozen");
  await kernel.os.call("thaw", { group: "lab" });

  expect(await stateOf(pid)).toBe("waiting");
});

/** A tool that acts once, and takes its time. */
const charge = (done: string[]) => ({
  name: "charge",
  description: "charges",
  inputSchema: {},
  effect: "once" as const,
  call: async () => {
    await sleep(50);
    done.push("charged");
    return "charged";
  },
});

test("a process that is put to sleep ends its call before, and goes on behind it", async () => {
  const done: string[] = [];
  await kernel.close();
  kernel = await bootKernel({ tools: [charge(done)] });
  kernel.activate();
  const paying = program("paying", async (_input: unknown, ctx: RunContext) => [
    await ctx.call("pay", "charge"),
    (await ctx.receive("go"))?.body,
  ]);
  const pid = await kernel.os.spawn(paying);
  await sleep(10);
  await kernel.os.call("sleep", { pid });
  await kernel.os.call("send", { to: pid, body: "on" });

  expect((await kernel.os.wait(pid)).result).toEqual(["charged", "on"]);
  expect(done).toEqual(["charged"]);
});

test("who is restarted with a sibling that failed has done its call once, and goes on behind it", async () => {
  const done: string[] = [];
  await kernel.close();
  kernel = await bootKernel({ tools: [charge(done)] });
  let lives = 0;
  const bad = program("bad", async () => {
    await sleep(10);
    if (++lives === 1) throw new TypeError("first");
    return "good";
  });
  const healthy = program("healthy", (_input: unknown, ctx: RunContext) => ctx.call("pay", "charge"));
  const restart = { policy: "on-failure", delayMs: 1, max: 3 } as const;
  const boss = program("boss", async (_input: unknown, ctx: RunContext) => {
    const pids = [await ctx.spawn("bad", bad, { restart }), await ctx.spawn("healthy", healthy, { restart })];
    return Promise.all(pids.map((pid) => ctx.wait(`end ${pid}`, pid)));
  });

  const pid = await kernel.os.spawn(boss, { strategy: "one-for-all" });
  expect((await kernel.os.wait(pid)).result).toEqual(["good", "charged"]);
  expect(done).toEqual(["charged"]);
});

test.each([
  ["quarantine", "quarantined"],
  ["notify", "zombie"],
] as const)(
  "a time that is over is a failure of its kind: what `faults` says of it, here %s, is done",
  async (timeout, state) => {
    const slow = program("slow", (_input: unknown, ctx: RunContext) => ctx.sleep(60_000));
    const pid = await kernel.os.spawn(slow, { limits: { wallMs: 10 }, faults: { timeout } });

    expect((await kernel.os.wait(pid)).error).toMatchObject({
      code: timeout === "quarantine" ? "EQUARANTINE" : "ETIMEDOUT",
      ...(timeout === "notify" ? { correlationId: `slow-${pid}` } : {}),
    });
    expect(await stateOf(pid)).toBe(state);
    expect(JSON.parse(await kernel.os.fs.readText("/sys/faults"))).toEqual({ timeout: 1 });
  },
);

test("a restart from the start, begun by a person, takes back what the life before has made", async () => {
  let lives = 0;
  const child = program("child", (_input: unknown, ctx: RunContext) => ctx.receive("go"));
  const parent = program("parent", async (_input: unknown, ctx: RunContext) => {
    await ctx.spawn("child", child);
    await ctx.schedule("nightly", { everyMs: 1e6, action: { message: { to: ctx.pid } } });
    if (++lives === 1) throw new TypeError("first");
    await ctx.receive("go");
  });
  const pid = await kernel.os.spawn(parent, { restart: { policy: "on-failure", from: "start", delayMs: 60_000 } });
  await expect.poll(() => stateOf(pid)).toBe("sleeping");
  await kernel.os.resume(pid, { program: parent });
  await expect.poll(() => stateOf(pid)).toBe("waiting");

  expect((await kernel.os.ps()).filter(({ name }) => name === "child")).toHaveLength(1);
  expect(await kernel.os.call("schedules", {})).toHaveLength(1);
});

test("a tool that makes calls of its own comes to its end before its process sleeps; what comes later waits", async () => {
  const done: string[] = [];
  await kernel.close();
  const writing = {
    ...charge(done),
    call: async (_args: object, { os }: { readonly os: Kernel["os"] }) => {
      await sleep(20);
      await os.fs.writeFile(`/srv/${done.push("charged")}`, "x");
      return done.length;
    },
  };
  kernel = await bootKernel({ tools: [writing] });
  kernel.activate();
  const paying = program("paying", async (_input: unknown, ctx: RunContext) => {
    const first = ctx.call("first", "charge");
    await sleep(5);
    return Promise.all([first, ctx.call("second", "charge"), ctx.receive("go").then((message) => message?.body)]);
  });
  const pid = await kernel.os.spawn(paying);
  await sleep(8);
  await kernel.os.call("sleep", { pid });
  await kernel.os.call("send", { to: pid, body: "on" });

  expect((await kernel.os.wait(pid)).result).toEqual([1, 2, "on"]);
  expect(done).toEqual(["charged", "charged"]);
});

test("a question beside a call does not cut the call off", async () => {
  const done: string[] = [];
  await kernel.close();
  kernel = await bootKernel({ tools: [charge(done)] });
  const both = program("both", async (_input: unknown, ctx: RunContext) => {
    const asked = ctx.ask("go", "Go on?");
    return [await ctx.call("pay", "charge"), await asked];
  });
  const pid = await kernel.os.spawn(both);
  await sleep(10);
  await kernel.os.call("upgrade", { pid, program: both });
  const [asked] = await kernel.os.call("asks", {});
  await kernel.os.call("answer", { id: asked?.id ?? 0, verdict: "reply", value: "yes" });

  expect((await kernel.os.wait(pid)).result).toEqual(["charged", "yes"]);
  expect(done).toEqual(["charged"]);
});

test("a write that waits for budget beside a call is no end of that call", async () => {
  const done: string[] = [];
  await kernel.close();
  kernel = await bootKernel({ tools: [charge(done)] });
  const short = program("short", async (_input: unknown, ctx: RunContext) => {
    const written = ctx.os.fs.writeFile("/srv/long", "0123456789");
    return [await ctx.call("pay", "charge"), (await written).size];
  });
  const pid = await kernel.os.spawn(short, { budget: { bytesWritten: 1 }, limits: { onLimit: "suspend" } });
  await sleep(10);
  await kernel.os.call("upgrade", { pid, program: short });
  expect(done).toEqual(["charged"]);
  await kernel.os.call("allocate", { pid, budget: { bytesWritten: 100 } });

  expect((await kernel.os.wait(pid)).result).toEqual(["charged", 10]);
  expect(done).toEqual(["charged"]);
});

test("what a call under way needs is there until it ends, when its host does", async () => {
  const heard: string[] = [];
  const service = {
    name: "desk",
    contract: { name: "Desk", methods: { hear: { summary: "hears", input: {} } } },
    create: () => ({ hear: async () => heard.push("heard") }),
  };
  const asking = {
    ...charge([]),
    call: async (_args: object, { os }: { readonly os: Kernel["os"] }) => {
      await sleep(30);
      return os.call("callService", { service: "desk", method: "hear", args: {} });
    },
  };
  const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
  const paying = program("paying", (_input: unknown, ctx: RunContext) => ctx.call("pay", "charge"));
  const first = await bootKernel({ store: store.life(), objects, tools: [asking], services: [service] });
  const pid = await first.os.spawn(paying);
  await sleep(10);
  await first.close({ drainMs: 5000 });
  await kernel.close();
  kernel = await bootKernel({ store: store.life(), objects, tools: [asking], programs: [paying] });
  await kernel.os.resume(pid);

  expect((await kernel.os.wait(pid)).result).toBe(1);
  expect(heard).toEqual(["heard"]);
});

test("a program that returns while steps of its are under way says which, once it has completed", async () => {
  const gate = Promise.withResolvers<void>();
  const hasty = program("hasty", async (fails: unknown, ctx: RunContext) => {
    const mails = ["mail", "note"].map((name) => ctx.step(name, () => gate.promise));
    void Promise.allSettled(mails);
    await ctx.step("paid", () => 1);
    if (fails === true) throw new TypeError("no");
  });
  const logOf = async (input: unknown): Promise<string> => {
    const pid = await kernel.os.spawn(hasty, { input });
    await kernel.os.wait(pid);
    return kernel.os.fs.readText(`/proc/${pid}/log`);
  };

  expect(await logOf(false)).toMatch(
    /warn +the program returned while its steps are under way: "mail", "note"; .* Await it/,
  );
  expect(await logOf(true)).toBe("");
  gate.resolve();
});

test("what is started while a host waits for its end is left to the next one", async () => {
  const done: string[] = [];
  const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
  const posting = program("posting", (_input: unknown, ctx: RunContext) =>
    ctx.step("post", async () => {
      done.push("posts");
      await sleep(60);
    }),
  );
  const paying = program("paying", (_input: unknown, ctx: RunContext) => ctx.call("pay", "charge"));
  const first = await bootKernel({ store: store.life(), objects, tools: [charge(done)] });
  await first.os.spawn(posting);
  await sleep(10);
  const closing = first.close({ drainMs: 5000 });
  const pid = await first.os.spawn(paying);
  await closing;
  expect(done).toEqual(["posts"]);
  await kernel.close();
  kernel = await bootKernel({ store: store.life(), objects, programs: [paying], tools: [charge(done)] });
  await kernel.os.resume(pid);

  expect((await kernel.os.wait(pid)).code).toBe(0);
  expect(done).toEqual(["posts", "charged"]);
});

test("a step comes to its end, with what it calls, when its host does; what comes behind it waits for the next life", async () => {
  const done: string[] = [];
  const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
  const posting = program("posting", async (_input: unknown, ctx: RunContext) => {
    await ctx.step("post", async () => {
      done.push("posts");
      await sleep(30);
      await ctx.call("pay", "charge");
      await ctx.step("inside", () => done.push("inside"));
      done.push("posted");
    });
    await ctx.step("behind", () => done.push("behind"));
    return done;
  });
  const first = await bootKernel({ store: store.life(), objects, tools: [charge(done)] });
  const pid = await first.os.spawn(posting);
  await sleep(10);
  await first.close({ drainMs: 5000 });
  const before = ["posts", "charged", "inside", "posted"];
  expect(done).toEqual(before);
  await kernel.close();
  kernel = await bootKernel({ store: store.life(), objects, programs: [posting], tools: [charge(done)] });
  await kernel.os.resume(pid);

  expect((await kernel.os.wait(pid)).code).toBe(0);
  expect(done).toEqual([...before, "behind"]);
});

test("a step that ends while its process is stopped is recorded, and holds nobody up", async () => {
  const stepping = program("stepping", async (_input: unknown, ctx: RunContext) => {
    await ctx.step("work", () => sleep(30));
    await ctx.step("next", () => 1);
  });
  const pid = await kernel.os.spawn(stepping);
  await sleep(10);
  await kernel.os.kill(pid, "STOP");
  await sleep(60);
  const from = performance.now();
  await kernel.close({ drainMs: 5000 });
  expect(performance.now() - from).toBeLessThan(2500);
});

test("a step that only waits in a call is no reason to wait: for sleep, an upgrade, or going on as new", async () => {
  let lives = 0;
  const turning = program(
    "turning",
    async (input: { readonly turn: number }, ctx: RunContext<{ readonly turn: number }>) => {
      lives++;
      if (input.turn === 1) await ctx.step("renews", () => ctx.continueAsNew({ turn: 2 }));
      await ctx.step("sleeps", () => ctx.hibernate("night"));
      return ctx.step("asks", () => ctx.ask("question", "Go on?"));
    },
    { version: "1" },
  );
  await kernel.close();
  kernel = await bootKernel({ programs: [turning] });
  kernel.activate();
  const pid = await kernel.os.spawn(turning, { input: { turn: 1 } });
  // A life that has gone on as new sleeps for a moment before the next.
  await expect.poll(async () => lives === 2 && (await stateOf(pid))).toBe("sleeping");
  await kernel.os.call("wake", { pid });
  await expect.poll(async () => (await kernel.os.call("asks", {})).length).toBe(1);
  const from = performance.now();
  await kernel.os.call("upgrade", { pid, program: "turning" });
  expect(performance.now() - from).toBeLessThan(5000);
  await expect.poll(() => lives).toBe(4);
});

test("the end of a host waits for no step that says it may be cut off, nor for one that only waits for a process", async () => {
  const waiting = program("waiting", async (_input: unknown, ctx: RunContext) => {
    const forEver = (): Promise<void> => new Promise(() => undefined);
    const child = await ctx.spawn("child", program("child", forEver));
    await Promise.all([ctx.wait("child's end", child), ctx.step("watch", forEver, { interruptible: true })]);
  });
  await kernel.os.spawn(waiting);
  await sleep(10);
  const from = performance.now();
  await kernel.close({ drainMs: 5000 });
  expect(performance.now() - from).toBeLessThan(2500);
});

test("a process goes to sleep when the steps that it does have ended, and not before", async () => {
  const done: string[] = [];
  const sleeping = program("sleeping", async (_input: unknown, ctx: RunContext) => {
    const step = ctx.step("slow", async () => {
      done.push("begins");
      await sleep(30);
      done.push("ends");
    });
    await Promise.all([ctx.hibernate("night"), step]);
  });
  await kernel.close();
  kernel = await bootKernel({ programs: [sleeping] });
  kernel.activate();
  const pid = await kernel.os.spawn(sleeping);
  await expect.poll(() => stateOf(pid)).toBe("sleeping");
  expect(done).toEqual(["begins", "ends"]);
  await kernel.os.call("wake", { pid });
  expect((await kernel.os.wait(pid)).code).toBe(0);
  expect(done).toEqual(["begins", "ends"]);
});

describe("a plan whose host ends", () => {
  const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
  let done: string[];
  beforeEach(() => {
    done = [];
  });

  /** Runs it until something is under way, ends the host in an orderly way, and lets the next one finish it. */
  const inTwoHosts = async (plan: Plan, begins = 10): Promise<{ readonly ms: number; readonly before: string[] }> => {
    const own = planProgram(plan);
    const parts = { objects, tools: [charge(done)] };
    const first = await bootKernel({ ...parts, store: store.life() });
    const pid = await first.os.spawn(own);
    await sleep(begins);
    const from = performance.now();
    await first.close({ drainMs: 5000 });
    const [ms, before] = [performance.now() - from, [...done]];
    await kernel.close();
    kernel = await bootKernel({ ...parts, store: store.life() });
    await kernel.os.resume(pid, { program: own });
    expect((await kernel.os.wait(pid)).code).toBe(0);
    return { ms, before };
  };

  const slow = async (name: string): Promise<void> => {
    done.push(`${name} begins`);
    await sleep(40);
    done.push(name);
  };

  test("finishes the nodes and items that it is doing, and no others", async () => {
    const { before } = await inTwoHosts(
      pipeline("nodes")
        .node("a", () => slow("a"))
        .node("names", () => ["x", "y"])
        .map("items", { over: "names", concurrency: 1 }, (item) => slow(item).then(() => item))
        .node("b", { needs: ["a"] }, () => slow("b"))
        .build(),
    );
    expect(before.toSorted()).toEqual(["a", "a begins", "x", "x begins"]);
    expect(done.toSorted()).toEqual(["a", "a begins", "b", "b begins", "x", "x begins", "y", "y begins"]);
  });

  test("lets a node that makes calls finish the one that is under way, and go on behind it later", async () => {
    const { before, ms } = await inTwoHosts(
      pipeline("agent")
        .node("agent", async (_given, ctx) => {
          for (const turn of [1, 2, 3]) await ctx.call(`turn ${turn}`, "charge");
        })
        .build(),
    );
    expect(before).toEqual(["charged"]);
    expect(done).toEqual(["charged", "charged", "charged"]);
    expect(ms).toBeLessThan(2500);
  });

  test("waits for none that only waits: for a time, a message, or its next attempt", async () => {
    let isUp = false;
    const { ms } = await inTwoHosts(
      pipeline("resting")
        .node("sleeps", (_given, ctx) => ctx.sleep(300))
        .node("listens", (_given, ctx) => ctx.receive("mail", { waitMs: 300 }).then(() => undefined))
        .node("fails", { retry: { attempts: 2, delayMs: 3000 } }, () => {
          if (isUp) return;
          isUp = true;
          throw new Error("down");
        })
        .build(),
    );
    expect(ms).toBeLessThan(2500);
  });
});

test.each([
  ["a rate", { limits: { rates: [{ resource: "modelCalls", per: "model", max: 2, kind: "concurrent" }] } }, {}],
  ["a budget", { group: "g" }, { tokens: 2500 }],
] as const)(
  "a call that waits for %s begins no more when its host ends, and is made by the next",
  async (_what, args, budget) => {
    const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
    const made = { calls: 0, answers: 0 };
    const slow = createOfflineModel({ name: "slow", delayMs: 40, effect: "once", script: () => `${made.answers++}` });
    const model = {
      ...slow,
      infer: (...call: Parameters<typeof slow.infer>) => {
        made.calls++;
        return slow.infer(...call);
      },
    };
    const asks = program("asks", async (_input: unknown, ctx: RunContext) => {
      for (const place of ["a", "b", "c"])
        await ctx.infer(place, { messages: [{ role: "user", content: "text" }], maxOutputTokens: 1000 });
    });
    const parts = { objects, models: [model], programs: [asks] };
    const first = await bootKernel({ store: store.life(), ...parts });
    await first.os.call("setGroup", { group: "g", budget });
    const pids = await Promise.all(Array.from({ length: 5 }, () => first.os.spawn("asks", args as never)));
    await sleep(60);
    await first.close({ drainMs: 5000 });
    expect(made.calls).toBe(made.answers);
    expect(made.calls).toBeLessThan(15);
    await kernel.close();
    kernel = await bootKernel({ store: store.life(), ...parts });
    for (const pid of pids) await kernel.os.resume(pid);
    for (const pid of pids) expect(await kernel.os.wait(pid)).toMatchObject({ code: 0 });
    expect(made).toEqual({ calls: 15, answers: 15 });
  },
);

test("a call in a step is made when its turn at a rate comes while the host ends, and waited for", async () => {
  const [store, objects] = [new LastingStore(), new MemoryObjectStore()];
  const slow = createOfflineModel({ name: "slow", delayMs: 40, effect: "once" });
  const steps = program("steps", (_input: unknown, ctx: RunContext) =>
    ctx.step("work", async () => {
      await ctx.infer("inside", "text");
      return "worked";
    }),
  );
  const parts = { objects, models: [slow], programs: [steps] };
  const first = await bootKernel({ store: store.life(), ...parts });
  const limits = { rates: [{ resource: "modelCalls", per: "model", max: 1, kind: "concurrent" }] } as const;
  const pids = await Promise.all(Array.from({ length: 4 }, () => first.os.spawn("steps", { limits })));
  await sleep(20);
  await first.close({ drainMs: 5000 });
  await kernel.close();
  kernel = await bootKernel({ store: store.life(), ...parts });
  for (const pid of pids) await kernel.os.resume(pid);
  for (const pid of pids) expect(await kernel.os.wait(pid)).toMatchObject({ code: 0, result: "worked" });
  expect((await kernel.os.call("ledger", { by: ["model"] }))[0]).toMatchObject({ entries: 4 });
});

test("a host ends although a call that nobody awaits waits for its turn, and its process is ending", async () => {
  const store = new MemoryMetastore();
  const commit = store.commit.bind(store);
  // A disk that is slow for once: an end takes a while.
  store.commit = async (batch) => {
    const receipt = await commit(batch);
    if (batch.appends?.some(({ value }) => String(value).includes('"t":"exit"')) === true) await sleep(30);
    return receipt;
  };
  const host = await bootKernel({ store, models: [createOfflineModel({ name: "slow", delayMs: 80, effect: "once" })] });
  const limits = { rates: [{ resource: "modelCalls", per: "model", max: 1, kind: "concurrent" }] } as const;
  const hasty = program("hasty", async (_input: unknown, ctx: RunContext) => {
    for (const place of ["a", "b"]) ctx.infer(place, "text").catch(() => undefined);
    await sleep(10);
  });
  await host.os.spawn(program("other", (_input: unknown, ctx: RunContext) => ctx.step("s", () => sleep(200))));
  await host.os.spawn(hasty, { limits });
  await sleep(20);
  await host.close({ drainMs: 5000 });
});

test("a node that works is waited for although calls beside it are held back", async () => {
  const done: string[] = [];
  const plan = pipeline("p")
    .node("x", (_given, ctx) => ctx.infer("i", "text"))
    .node("y", (_given, ctx) => ctx.infer("i", "text"))
    .node("works", async () => {
      await sleep(400);
      done.push("ended");
    })
    .build();
  const host = await bootKernel({ models: [createOfflineModel({ name: "slow", delayMs: 60, effect: "once" })] });
  const limits = { rates: [{ resource: "modelCalls", per: "model", max: 1, kind: "concurrent" }] } as const;
  await host.os.spawn(planProgram(plan), { limits });
  await sleep(20);
  await host.close({ drainMs: 5000 });
  expect(done).toEqual(["ended"]);
});
