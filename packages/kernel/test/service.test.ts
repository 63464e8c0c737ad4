// Services: their order, their ends, their calls, and what is swapped under them.

import { createNodePlatform } from "@ergos/drivers/platform-node";
import {
  type Kernel,
  type KernelEvent,
  type Pid,
  type ServiceCall,
  type ServiceInstance,
  type ServiceModule,
  type ServiceStatus,
  hookOn,
  parseGrants,
} from "@ergos/kernel";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LastingStore, bootKernel, openProgram, pause } from "./kernel-fixture.ts";

const log: string[] = [];
let kernel: Kernel;
beforeEach(async () => {
  log.length = 0;
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

const tick = (): Promise<void> => new Promise((go) => setImmediate(go));
const until = async (look: () => boolean): Promise<void> => {
  for (let tries = 0; tries < 2000 && !look(); tries++) await new Promise((go) => setTimeout(go, 1));
  expect(look()).toBe(true);
};
const fast = { policy: "on-failure", delayMs: 1, maxDelayMs: 2 } as const;

/** A service that notes what happens to it, and echoes. */
function noting(
  name: string,
  more: Partial<ServiceModule> = {},
  members: ServiceInstance & Readonly<Record<string, unknown>> = {},
): ServiceModule {
  return {
    name,
    contract: { name: "echo/1", methods: { echo: { summary: "gives back what it got" } } },
    restart: fast,
    create: () => ({
      start: () => void log.push(`+${name}`),
      stop: () => void log.push(`-${name}`),
      echo: (args: unknown) => args,
      ...members,
    }),
    ...more,
  };
}
const enlist = async (service: ServiceModule, more: object = {}, of = kernel): Promise<ServiceStatus> =>
  of.os.call("enlist", { service, ...more });
const stateOf = (name: string): string | undefined => kernel.host.services.get(name)?.state;
const echo = async (service: string, args: unknown = { a: 1 }, of = kernel.os): Promise<unknown> =>
  of.call("callService", { service, method: "echo", args });

describe("a service that is stopped while it starts", () => {
  const slow = {
    create: () => ({ start: () => new Promise((go) => setTimeout(go, 60)), echo: (args: unknown) => args }),
  };

  test.each(["stopService", "delist"] as const)("runs no more: %s", async (how) => {
    await enlist(noting("needed", slow), { lazy: true });
    await enlist(noting("one", { needs: ["needed"] }), { lazy: true });
    const starting = kernel.os.call("startService", { name: "one" });
    const refused = expect(starting).rejects.toMatchObject({ code: "ECANCELED" });
    await tick();
    await kernel.os.call(how, { name: "one" });
    await refused;

    expect(stateOf("one")).toBe(how === "delist" ? undefined : "stopped");
    expect((await kernel.os.ps({})).map(({ name }) => name)).not.toContain("service:one");
  });
});

describe("a service whose code is wrong", () => {
  const guard = (hookSpec: ServiceInstance["hookSpec"]): ServiceModule =>
    noting("guard", {}, hookSpec === undefined ? {} : { hookSpec });
  const refusing = guard(() => [
    hookOn(["publish"], {
      pre: () => {
        throw new TypeError("vetoed");
      },
    }),
  ]);
  const broken = guard(() => {
    throw new TypeError("no config");
  });

  test("is failed when its hooks are, and says why", async () => {
    await enlist(broken);
    await until(() => stateOf("guard") === "failed");
    expect(kernel.host.services.get("guard")?.why).toMatch(/hookSpec\(\) of service guard failed: no config/);
    expect((await kernel.os.ps({})).map(({ name }) => name)).not.toContain("service:guard");
  });

  test("does not take the place of one that guards", async () => {
    await enlist(refusing);
    const publish = async (): Promise<unknown> => kernel.os.call("publish", { topic: "a.b", body: 1 });
    await expect(publish()).rejects.toThrow(/vetoed/);
    for (const service of [broken, guard(() => [{ name: "none" }])]) {
      await expect(kernel.os.call("swapService", { name: "guard", service })).rejects.toThrow(/EFAILED|EINVAL/);
      await expect(publish()).rejects.toThrow(/vetoed/);
      expect(stateOf("guard")).toBe("ready");
    }
    expect((await kernel.os.ps({})).filter(({ name }) => name === "service:guard")).toHaveLength(1);
  });

  test("answers with a code, whatever its methods throw", async () => {
    const fails = (error: unknown) => (): never => {
      throw error;
    };
    const methods = { plain: { summary: "" }, coded: { summary: "" } };
    await enlist({
      ...noting("bad"),
      contract: { name: "bad/1", methods },
      create: () => ({
        plain: fails(new Error("index is empty")),
        coded: fails(Object.assign(new Error("x"), { code: "EACCES" })),
      }),
    });
    for (const method of ["plain", "coded"])
      await expect(kernel.os.call("callService", { service: "bad", method })).rejects.toMatchObject({
        code: "EFAILED",
      });
  });

  test("is refused with all that is wrong in what it says of itself", async () => {
    const wrong = {
      ...noting("wrong"),
      needs: "other",
      restart: "sometimes",
      startMs: 0,
      health: { watchdog: "reboot", everyMs: -1 },
    };
    await expect(enlist(wrong as unknown as ServiceModule)).rejects.toThrow(
      /restart .*needs .*startMs .*health.watchdog .*health.everyMs/,
    );
    for (const contract of [null, { name: "x", methods: null }, { name: "x", methods: { a: null } }])
      await expect(enlist({ ...noting("wrong"), contract } as unknown as ServiceModule)).rejects.toThrow(/EINVAL/);
    // What a method takes is checked whole, before anything of the service is there.
    const contract = { name: "c/1", methods: { put: { summary: "puts", tool: "once", input: { uniqueItems: true } } } };
    await expect(enlist({ ...noting("wrong"), contract } as unknown as ServiceModule)).rejects.toThrow(
      /this is no service: the input of put\.uniqueItems is a keyword that is not checked/,
    );
    expect(stateOf("wrong")).toBeUndefined();
  });
});

describe("a service and what others do at the same time", () => {
  const waiting = (gate: Promise<void>): ServiceModule => noting("one", {}, { echo: async () => gate });

  test.each(["stopService", "delist", "restartService"] as const)(
    "is not swapped any more when it is to be gone: %s",
    async (how) => {
      const gate = Promise.withResolvers<void>();
      await enlist(waiting(gate.promise));
      const call = echo("one").catch(() => undefined);
      const swapping = kernel.os.call("swapService", { name: "one", service: noting("one") });
      const refused = expect(swapping).rejects.toMatchObject({ code: "EAGAIN" });
      await until(() => stateOf("one") === "swapping");
      const done = kernel.os.call(how, { name: "one" });
      await tick();
      gate.resolve();
      await Promise.all([done, refused, call]);

      expect(stateOf("one")).toBe({ stopService: "stopped", delist: undefined, restartService: "ready" }[how]);
      const running = (await kernel.os.ps({})).filter(({ name }) => name === "service:one");
      expect(running).toHaveLength(how === "restartService" ? 1 : 0);
    },
  );

  test("loses no call between the look at its state and the call", async () => {
    const answers: Promise<unknown>[] = [];
    await enlist(noting("one"));
    for (let turns = 0; turns < 40; turns++) {
      let isStarted = false;
      const next = noting("one", {}, { start: () => void (isStarted = true) });
      const swapping = kernel.os.call("swapService", { name: "one", service: next });
      while (!isStarted) await tick();
      for (let turn = 0; turn < turns; turn++) await Promise.resolve();
      answers.push(echo("one"));
      await swapping;
    }
    expect((await Promise.allSettled(answers)).filter(({ status }) => status === "rejected")).toEqual([]);
  });

  test("starts what waits for it when it is ready again", async () => {
    let isReady = true;
    await enlist(noting("slow", {}, { check: () => ({ ready: isReady }) }));
    isReady = false;
    await kernel.os.call("checkService", { name: "slow" });
    await enlist(noting("user", { needs: ["slow"] }));
    expect([stateOf("slow"), stateOf("user")]).toEqual(["degraded", "waiting"]);
    isReady = true;
    await kernel.os.call("checkService", { name: "slow" });
    await until(() => stateOf("user") === "ready");
  });

  test.each(["TERM", "INT", "KILL"] as const)("stays stopped when %s has ended it", async (signal) => {
    const { pid } = await enlist(noting("one"));
    await kernel.os.kill(pid as Pid, signal);
    await until(() => stateOf("one") === "stopped");
    expect(kernel.host.services.get("one")?.restarts).toBe(0);
  });

  test("is restarted, or not, by a policy in text", async () => {
    for (const restart of ["always", "never"] as const)
      await enlist(noting(restart, { restart, create: ({ fail }) => ({ echo: () => fail(new TypeError("over")) }) }));
    for (const name of ["always", "never"]) await echo(name).catch(() => undefined);
    await until(() => stateOf("never") === "failed");
    await until(() => stateOf("always") === "ready");
    expect(["always", "never"].map((name) => kernel.host.services.get(name)?.restarts)).toEqual([1, 0]);
  });

  test("that was stopped is not started again by who needs it, unless somebody asks", async () => {
    await enlist(noting("needed"));
    await enlist(
      noting("user", { needs: ["needed"], create: ({ fail }) => ({ echo: () => fail(new TypeError("over")) }) }),
    );
    await kernel.os.call("stopService", { name: "needed" });
    expect(stateOf("user")).toBe("waiting");
    await enlist(noting("other", { needs: ["needed"] }), { lazy: true });
    await pause(20);
    expect([stateOf("needed"), stateOf("user")]).toEqual(["stopped", "waiting"]);
    await kernel.os.call("startService", { name: "user" });
    expect([stateOf("needed"), stateOf("user")]).toEqual(["ready", "ready"]);
  });

  test("is guarded by its hooks exactly once while it is swapped", async () => {
    const counting = (): ServiceModule =>
      noting(
        "guard",
        {},
        {
          hookSpec: () => [hookOn(["publish"], { pre: (_call, args) => ({ ...args, body: `${String(args.body)}1` }) })],
        },
      );
    await enlist(counting());
    const bodies: unknown[] = [];
    kernel.host.bus.observe({ names: ["topic.published"] }, ({ data }) => bodies.push(data["body"]));
    for (let swaps = 0; swaps < 20; swaps++) {
      const swapping = kernel.os.call("swapService", { name: "guard", service: counting() });
      let isOver = false;
      void swapping.finally(() => (isOver = true));
      while (!isOver) await kernel.os.call("publish", { topic: "a", body: "x" });
      await swapping;
    }
    expect(new Set(bodies)).toEqual(new Set(["x1"]));
  });
});

describe("a service", () => {
  test("is made, started, called, shown and stopped, as a child of who enlisted it", async () => {
    const status = await enlist(noting("one", { description: "echoes" }));

    expect(status).toMatchObject({ name: "one", state: "ready", owner: 1, methods: ["echo"], attestation: "basic" });
    expect(await echo("one")).toEqual({ a: 1 });
    expect((await kernel.os.ps({ pids: [status.pid as Pid] }))[0]).toMatchObject({ name: "service:one", ppid: 1 });
    expect(JSON.parse(await kernel.os.fs.readText("/sys/services/one/status"))).toMatchObject({
      state: "ready",
      calls: 1,
    });
    expect(await kernel.os.fs.exec("/lib/services/one/echo", { b: 2 })).toEqual({ b: 2 });
    expect(await kernel.os.fs.exec("/sys/services/one/stop")).toMatchObject({ state: "stopped" });
    expect(log).toEqual(["+one", "-one"]);
    await expect(echo("one")).rejects.toMatchObject({ code: "ECONNREFUSED" });
    await kernel.os.call("startService", { name: "one" });
    await kernel.os.call("delist", { name: "one" });
    await expect(echo("one")).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("that is none, keeps no contract, or has a name that is taken, is refused with all that is wrong", async () => {
    const wrong = { name: "No Name", create: 3 } as unknown as ServiceModule;
    await expect(enlist(wrong)).rejects.toThrow(/contract is missing.*its name "No Name".*no create/u);
    const broken = noting("broken", { create: () => ({ start: () => undefined }) });
    const methods = { echo: { summary: "" }, count: { summary: "" } };
    await expect(enlist({ ...broken, contract: { name: "two", methods } })).rejects.toThrow(
      /does not keep its contract two: echo, count are missing/u,
    );
    await expect(enlist(noting("thrower", { create: () => Promise.reject(new Error("no luck")) }))).rejects.toThrow(
      "no luck",
    );
    await enlist(noting("one"));
    await expect(enlist(noting("one"))).rejects.toMatchObject({ code: "EEXIST" });
    await expect(enlist(noting("self", { needs: ["self"] }))).rejects.toThrow("needs itself");
    expect((await kernel.os.call("services", {})).map(({ name }) => name)).toEqual(["one"]);
    await expect(
      (async () => kernel.os.call("callService", { service: "one", method: "none" }))(),
    ).rejects.toMatchObject({
      code: "ENOSYS",
    });
  });

  test("acts for its caller with that one's rights, and takes only what fits its contract", async () => {
    const reader = noting("reader", {
      contract: {
        name: "reader",
        methods: {
          read: {
            summary: "reads",
            input: { type: "object", properties: { path: { type: "string" } }, required: ["path"] },
          },
        },
      },
      create: () => ({ read: ({ path }: { path: string }, { os }: ServiceCall) => os.fs.readText(path) }),
    });
    await enlist(reader);
    await kernel.os.fs.writeFile("/srv/a.txt", "hello");
    const { program, context } = openProgram();
    await kernel.os.spawn(program, { grants: ["self", "service.call:/sys/services/reader"] });
    const narrow = (await context).os;
    const read = async (os = kernel.os, args: unknown = { path: "/srv/a.txt" }) =>
      os.call("callService", { service: "reader", method: "read", args });

    expect(await read()).toBe("hello");
    await expect(read(narrow)).rejects.toMatchObject({ code: "EACCES" });
    await expect(read(kernel.os, {})).rejects.toMatchObject({ code: "EINVAL" });
    await expect(echo("other", {}, narrow)).rejects.toMatchObject({ code: "EACCES" });
  });

  test("of a process ends with it, and its rights are that one's", async () => {
    const { program, context } = openProgram();
    const pid = await kernel.os.spawn(program, { grants: ["self", "service.*", "proc.*", "fs.stat:/srv/**"] });
    const mine = (await context).os;
    let rights: unknown;
    await mine.call("enlist", {
      service: noting("mine", {
        create: async ({ os }) => {
          rights = await os.fs.exists("/tmp").catch((error: { code: string }) => error.code);
          await os.fs.writeFile("/tmp/x", "").catch((error: { code: string }) => void (rights = error.code));
          return { echo: (args: unknown) => args };
        },
      }),
    });
    expect(rights).toBe("EACCES");
    expect(kernel.host.services.get("mine")?.owner).toBe(pid);
    await mine.call("exit", {});
    await kernel.os.wait(pid);
    await until(() => stateOf("mine") === undefined);
  });

  test("offers tools by the names of its methods, while it is there", async () => {
    const tools = noting("calc", {
      contract: { name: "calc", methods: { double: { summary: "twice", tool: "pure", input: { type: "object" } } } },
      create: () => ({ double: ({ of }: { of: number }) => of * 2 }),
    });
    await enlist(tools);
    expect(await kernel.os.fs.exec("/lib/tools/calc.double", { of: 21 })).toBe(42);
    await kernel.os.call("stopService", { name: "calc" });
    expect(await kernel.os.fs.exists("/lib/tools/calc.double")).toBe(false);
  });
});

describe("needs", () => {
  test("start first, stop last, and come back together", async () => {
    await enlist(noting("web", { needs: ["db", "cache"] }));
    expect(kernel.host.services.get("web")).toMatchObject({
      state: "waiting",
      why: expect.stringContaining("db is not enlisted") as string,
    });
    await enlist(noting("cache", { needs: ["db"] }));
    await enlist(noting("db"));
    await until(() => stateOf("web") === "ready");
    expect(log).toEqual(["+db", "+cache", "+web"]);

    await kernel.os.call("restartService", { name: "db" });
    await until(() => stateOf("web") === "ready");
    expect(log.slice(3)).toEqual(["-web", "-cache", "-db", "+db", "+cache", "+web"]);

    await kernel.os.call("stopService", { name: "db" });
    expect([stateOf("web"), stateOf("cache"), stateOf("db")]).toEqual(["waiting", "waiting", "stopped"]);
    await kernel.os.call("startService", { name: "web" });
    expect([stateOf("web"), stateOf("cache"), stateOf("db")]).toEqual(["ready", "ready", "ready"]);
    log.length = 0;
    await kernel.close();
    expect(log).toEqual(["-web", "-cache", "-db"]);
  });

  test("that go round are refused with the way", async () => {
    await enlist(noting("a", { needs: ["b"] }));
    await enlist(noting("b", { needs: ["c"] }));
    await expect(enlist(noting("c", { needs: ["a"] }))).rejects.toThrow("c → a → b → c");
  });

  test("of one that fails for good wait, and say why", async () => {
    await enlist(noting("top", { needs: ["base"] }));
    let lives = 0;
    await enlist(
      noting(
        "base",
        { restart: { ...fast, max: 2 } },
        { start: () => void (lives++, log.push("+base")), run: () => Promise.reject(new Error("gone")) },
      ),
    );
    await until(() => stateOf("base") === "failed");
    expect(lives).toBe(3);
    expect(kernel.host.services.get("base")?.why).toContain("3 times; the last time: gone");
    await until(() => stateOf("top") === "waiting");
    await expect((async () => kernel.os.call("startService", { name: "top" }))()).rejects.toThrow(/top waits|gone/u);
  });
});

describe("an end", () => {
  test("by failure is followed by another life, with those that need it; calls wait for it", async () => {
    let fail: (error: unknown) => void = () => undefined;
    await enlist(
      noting("base", {
        create: (context) => {
          fail = context.fail;
          return {
            start: () => void log.push("+base"),
            stop: () => void log.push("-base"),
            echo: (args: unknown) => args,
          };
        },
      }),
    );
    await enlist(noting("top", { needs: ["base"] }));
    fail(new Error("broken"));
    await until(() => stateOf("base") === "waiting");
    const errors = await kernel.os.call("errors", {});
    expect(errors).toMatchObject([{ program: "service:base", code: "EFAILED", count: 1 }]);
    await tick();
    expect(await echo("base")).toEqual({ a: 1 });
    await until(() => stateOf("top") === "ready");
    expect(log).toEqual(["+base", "+top", "-base", "-top", "+base", "+top"]);
    expect(kernel.host.services.get("base")).toMatchObject({ restarts: 1, recentRestarts: 1 });
  });

  test("by a signal is its last, and calls under way end with it", async () => {
    const { pid } = await enlist(noting("slow", {}, { echo: () => new Promise(() => undefined) }));
    const calling = echo("slow");
    await tick();
    const dying = expect(calling).rejects.toMatchObject({ code: "ECONNRESET" });
    await kernel.os.kill(pid as Pid, "KILL");
    await dying;
    await until(() => stateOf("slow") === "stopped");
    expect(kernel.host.services.get("slow")?.why).toContain("KILL");
  });

  test("of what never becomes ready, or never stops, comes in its time", async () => {
    const hanging = noting(
      "hangs",
      { startMs: 20, restart: { policy: "never" } },
      { start: () => new Promise(() => undefined) },
    );
    expect(await enlist(hanging)).toMatchObject({ state: "failed", error: { code: "ETIMEDOUT" } });
    await enlist(noting("stays", { stopMs: 20 }, { stop: () => new Promise(() => undefined) }));
    expect(await kernel.os.call("stopService", { name: "stays" })).toMatchObject({ state: "stopped" });
  });

  test("of the caller ends the call", async () => {
    await enlist(
      noting(
        "slow",
        {},
        {
          echo: (_args: unknown, { signal }: ServiceCall) =>
            new Promise((_, no) => signal.addEventListener("abort", () => no(signal.reason))),
        },
      ),
    );
    const { program, context } = openProgram();
    const pid = await kernel.os.spawn(program);
    const calling = echo("slow", {}, (await context).os);
    const dying = expect(calling).rejects.toMatchObject({ code: "ECANCELED" });
    await tick();
    await kernel.os.kill(pid);
    await dying;
    expect(kernel.host.services.get("slow")?.callsUnderWay).toBe(0);
  });
});

describe("health", () => {
  const sick = (watchdog: "restart" | "kill" | "escalate", isWell: () => boolean) =>
    noting(
      "sick",
      { health: { everyMs: 2, failures: 2, watchdog } },
      {
        check: () => {
          if (!isWell()) throw new Error("fever");
          return undefined;
        },
      },
    );

  test("is asked for, and one that is not ready takes calls when it is again", async () => {
    let ready = false;
    await enlist(noting("lazy", { health: { everyMs: 2 } }, { check: () => ({ ready, note: "warming up" }) }));
    expect(await kernel.os.call("checkService", { name: "lazy" })).toMatchObject({
      ok: true,
      ready: false,
      note: "warming up",
    });
    expect(stateOf("lazy")).toBe("degraded");
    const calling = echo("lazy");
    ready = true;
    expect(await calling).toEqual({ a: 1 });
  });

  test("that fails again and again restarts, kills or escalates, as the service says", async () => {
    let checks = 0;
    await enlist(sick("restart", () => ++checks > 2));
    await until(() => kernel.host.services.get("sick")?.restarts === 1);
    await until(() => stateOf("sick") === "ready");
    await kernel.os.call("delist", { name: "sick" });

    await enlist(sick("kill", () => false));
    await until(() => stateOf("sick") === "failed");
    expect(kernel.host.services.get("sick")?.why).toContain("2 checks: fever");
    await kernel.os.call("delist", { name: "sick" });

    const events: KernelEvent[] = [];
    void (async () => {
      for await (const event of kernel.os.events({ names: ["process.escalated"] })) events.push(event);
    })();
    await enlist(sick("escalate", () => false));
    await until(() => events.length === 1);
    expect(events[0]?.data).toMatchObject({ name: "service:sick", to: 1 });
  });
});

describe("swapping", () => {
  test("under load fails no call, and each is answered by one of both", async () => {
    let waits = 0;
    const version = (number: number) =>
      noting(
        "store",
        {},
        {
          echo: async () => {
            await new Promise((go) => setTimeout(go, (waits = (waits + 7) % 4)));
            return number;
          },
        },
      );
    await enlist(version(1));
    await enlist(noting("user", { needs: ["store"] }));
    const answers: unknown[] = [];
    let isOver = false;
    const callers = Array.from({ length: 20 }, async () => {
      while (!isOver) answers.push(await echo("store"));
    });
    for (let number = 2; number < 8; number++) {
      await new Promise((go) => setTimeout(go, 5));
      await kernel.os.call("swapService", { name: "store", service: version(number) });
    }
    isOver = true;
    await Promise.all(callers);
    expect(new Set(answers)).toEqual(new Set([1, 2, 3, 4, 5, 6, 7]));
    expect(answers).toEqual(answers.toSorted((one, two) => Number(one) - Number(two)));
    expect(stateOf("user")).toBe("ready");
  });

  test("is refused for what offers less, and changes nothing when the new one does not start", async () => {
    await enlist(noting("store"));
    const less = noting("store", { contract: { name: "less", methods: {} } });
    const swap = async (service: ServiceModule) => kernel.os.call("swapService", { name: "store", service });
    await expect(swap(less)).rejects.toThrow("it lacks echo");
    await expect(swap(noting("other"))).rejects.toThrow("it is called other");
    await expect(swap(noting("store", {}, { start: () => Promise.reject(new Error("no port")) }))).rejects.toThrow(
      "no port",
    );
    expect(await echo("store")).toEqual({ a: 1 });
  });
});

test("hooks see the calls of others, may refuse them, and are gone with the service; they need their right", async () => {
  const seen: string[] = [];
  const guard = noting(
    "guard",
    {},
    {
      hookSpec: () => [
        {
          calls: ["write"],
          pre: ({ name, resource }: { name: string; resource: string }) => {
            seen.push(`${name} ${resource}`);
            if (resource === "/srv/secret") throw new Error("not there");
            return undefined;
          },
        },
      ],
    },
  );
  await enlist(guard);
  await kernel.os.fs.writeFile("/srv/open", "");
  await expect(kernel.os.fs.writeFile("/srv/secret", "")).rejects.toThrow("not there");
  expect(seen).toEqual(["write /srv/open", "write /srv/secret"]);
  await kernel.os.call("stopService", { name: "guard" });
  await kernel.os.fs.writeFile("/srv/secret", "");
  const narrow = await enlist({ ...guard, name: "weak", grants: parseGrants(["self"]), restart: { policy: "never" } });
  await until(() => stateOf("weak") === "failed");
  expect(narrow.name).toBe("weak");
  expect(kernel.host.services.get("weak")?.error?.code).toBe("EACCES");
});

test("those of a source are attested, and are there again with the next host of their owner", async () => {
  const store = new LastingStore();
  const service = noting("lasting");
  let hash = "a1";
  const parts = {
    serviceLoader: async () => ({ module: service, hash }),
    signer: {
      keyId: "k1",
      sign: (text: string) => `signed ${text}`,
      verify: (text: string, signature: string) => signature === `signed ${text}`,
    },
  };
  const first = await bootKernel({ store: store.life(), ...parts });
  const source = { module: "/srv/lasting.ts" };
  const add = async (attest: object) => first.os.call("enlist", { source, attest: attest as { level: "basic" } });
  await expect(add({ level: "enhanced", hash: "b2" })).rejects.toMatchObject({ code: "EACCES" });
  await expect(add({ level: "strict", hash: "a1", signature: "mine", keyId: "k1" })).rejects.toMatchObject({
    code: "EACCES",
  });
  await expect(
    (async () => first.os.call("enlist", { service, attest: { level: "enhanced", hash: "a1" } }))(),
  ).rejects.toThrow("no content");
  await add({ level: "strict", hash: "a1", signature: "signed ergos-service lasting a1", keyId: "k1" });
  await first.close();

  const second = await bootKernel({ store: store.life(), ...parts });
  expect(second.host.services.get("lasting")).toMatchObject({ state: "stopped", source });
  second.activate();
  await until(() => second.host.services.get("lasting")?.state === "ready");
  await second.close();
  hash = "changed";
  const third = await bootKernel({ store: store.life(), ...parts });
  third.activate();
  await until(() => third.host.services.get("lasting")?.state === "failed");
  expect(third.host.services.get("lasting")?.error?.code).toBe("EACCES");
  await third.os.call("delist", { name: "lasting" });
  await third.close();
  const fourth = await bootKernel({ store: store.life(), platform: createNodePlatform(), ...parts });
  expect(fourth.host.services.all).toEqual([]);
  await fourth.close();
});

test("what a host knows is started with its first call, by one start for many callers", async () => {
  const booted = await bootKernel({ services: [noting("lib")] });
  expect(booted.host.services.get("lib")?.state).toBe("stopped");
  expect(booted.host.processes.all.length).toBe(1);
  const answers = await Promise.all(Array.from({ length: 10 }, (_, at) => echo("lib", at, booted.os)));
  expect(answers).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(log).toEqual(["+lib"]);
  await booted.close();
});
