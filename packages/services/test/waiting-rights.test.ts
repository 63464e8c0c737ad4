// Rights and targets of calls that wait: for a person, a budget, a rate, a letter, or the next item of a stream.

import { createOfflineModel } from "@ergos/drivers/model-offline";
import { type Kernel, type Os, type Pid, toPid } from "@ergos/kernel";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { bootKernel, codeOf, openChild, pause, refusing } from "../../kernel/test/kernel-fixture.ts";

let asked = 0;
const model = createOfflineModel({ name: "m", effect: "idempotent", script: () => (asked++, "1234") });
let kernel: Kernel;
let os: Os;
beforeEach(async () => {
  asked = 0;
  kernel = await bootKernel({ models: [model] });
  ({ os } = kernel);
});
afterEach(() => kernel.close());

/** Takes back every grant of a process that names something. */
async function revoke(pid: Pid, what: RegExp): Promise<void> {
  for (const { grants } of await os.call("caps", { pid }))
    for (const { id, grant } of grants) if (what.test(grant)) await os.call("revoke", { id });
}
const ask = (of: Os, place: string): Promise<string> =>
  codeOf(() => of.infer(place, { messages: [], maxOutputTokens: 10 }));
const firstAsk = (): Promise<number> =>
  vi.waitFor(async () => {
    const [found] = await os.call("asks", {});
    if (found === undefined) throw new TypeError("nobody has asked");
    return found.id;
  });

describe("what a call is about", () => {
  const grants = ["self", "ask fs.*:/srv/pub/**", "fs.stat", "deny fs.*:/srv/secret/**"];

  test.each([
    ["read", (of: Os) => of.fs.readText("/srv/pub/x"), "ENOENT"],
    ["written", (of: Os) => of.fs.writeFile("/srv/pub/x", "allowed"), "ok"],
  ] as const)("is not followed to where it was moved while a person was asked: %s", async (_what, act, code) => {
    await os.fs.writeFile("/srv/pub/x", "public");
    await os.fs.mkdir("/srv/secret");
    const caller = await openChild(os, { grants });
    const waiting = codeOf(() => act(caller));
    const id = await firstAsk();
    await os.fs.rename("/srv/pub/x", "/srv/secret/x");
    await os.call("answer", { id, verdict: "allow" });

    expect(await waiting).toBe(code);
    expect(await os.fs.readText("/srv/secret/x")).toBe("public");
  });

  test("nor while a budget was waited for; a link that leads elsewhere now is told", async () => {
    await os.fs.writeFile("/srv/one/x", "one");
    await os.fs.writeFile("/srv/two/x", "two");
    await os.fs.link("/srv/current", "/srv/one");
    const caller = await openChild(os, { budget: { bytesWritten: 4 }, limits: { onLimit: "suspend" } });
    await caller.fs.writeFile("/srv/one/x", "1234");
    const [direct, linked] = ["/srv/one/x", "/srv/current/x"].map((path) =>
      codeOf(() => caller.fs.writeFile(path, "later")),
    );
    await pause(5);
    await os.fs.rename("/srv/one/x", "/srv/one/y");
    await os.fs.unlink("/srv/current");
    await os.fs.link("/srv/current", "/srv/two");
    await os.call("allocate", { pid: caller.pid, budget: { bytesWritten: 100 } });

    expect([await direct, await linked]).toEqual(["ok", "EAGAIN"]);
    expect([await os.fs.readText("/srv/one/x"), await os.fs.readText("/srv/one/y")]).toEqual(["later", "1234"]);
    expect(await os.fs.readText("/srv/two/x")).toBe("two");
  });
});

describe("a right that is revoked meanwhile", () => {
  test("is gone for calls that wait for a budget", async () => {
    const caller = await openChild(os, {
      grants: ["self", "llm", "fs.*:/srv/**"],
      budget: { modelCalls: 1, bytesWritten: 4 },
      limits: { onLimit: "suspend" },
    });
    await ask(caller, "first");
    await caller.fs.writeFile("/srv/x", "1234");
    const waiting = [ask(caller, "second"), codeOf(() => caller.fs.writeFile("/srv/x", "5678"))];
    await pause(5);
    await revoke(caller.pid, /infer|fs/);
    await os.call("allocate", { pid: caller.pid, budget: { modelCalls: 5, bytesWritten: 100 } });

    expect(await Promise.all(waiting)).toEqual(["EACCES", "EACCES"]);
    expect([asked, await os.fs.readText("/srv/x")]).toEqual([1, "1234"]);
    // What they had reserved is there again.
    expect(await os.call("usage", { pid: caller.pid })).toMatchObject({
      modelCalls: { used: 1 },
      bytesWritten: { used: 4 },
    });
  });

  test("is gone for calls that wait for a rate, and a right that ends meanwhile is over", async () => {
    const rates = [{ resource: "modelCalls", per: "process", max: 1, windowMs: 150 }] as const;
    const until = new Date(Date.now() + 60).toISOString();
    const one = await openChild(os, { grants: ["self", "llm"], limits: { rates } });
    const two = await openChild(os, { grants: ["self", `model.infer; until=${until}`], limits: { rates } });
    expect([await ask(one, "first"), await ask(two, "first")]).toEqual(["ok", "ok"]);
    const waiting = [ask(one, "second"), ask(two, "second")];
    await pause(5);
    await revoke(one.pid, /infer/);

    expect(await Promise.all(waiting)).toEqual(["EACCES", "EACCES"]);
    expect(asked).toBe(2);
  });

  test("a call that waits for a rate waits on while its process is frozen", async () => {
    const rates = [{ resource: "modelCalls", per: "process", max: 1, windowMs: 60 }] as const;
    await os.call("setGroup", { group: "g" });
    const caller = await openChild(os, { group: "g", limits: { rates } });
    await ask(caller, "first");
    const waiting = ask(caller, "second");
    await os.call("freeze", { group: "g" });
    await pause(120);
    expect(asked).toBe(1);
    await os.call("thaw", { group: "g" });

    expect([await waiting, asked]).toEqual(["ok", 2]);
  });

  test("leaves a letter where it is, and ends streams", async () => {
    const reader = await openChild(os, { grants: ["self", "msg.receive", "event.subscribe", "fs.watch", "fs.stat"] });
    const received = codeOf(async () => reader.call("receive", {}));
    const events = codeOf(() => Array.fromAsync(reader.events({ classes: ["fs"] })));
    const watched = codeOf(() => Array.fromAsync(reader.fs.watch("/srv/**")));
    await pause(5);
    await revoke(reader.pid, /msg|event|watch/);
    await os.call("send", { to: reader.pid, body: "secret" });
    await os.fs.writeFile("/srv/x", "secret");

    expect(await Promise.all([received, events, watched])).toEqual(["EACCES", "EACCES", "EACCES"]);
    expect(await os.fs.readText(`/proc/${reader.pid}/mailbox`)).toContain("secret");
  });

  test("a condition is looked at again with the arguments of the call", async () => {
    const grants = ["self", "model.infer; arg.maxOutputTokens<=100", "msg.receive; arg.kind=message"];
    const caller = await openChild(os, { grants });
    await os.call("send", { to: caller.pid, body: "hello" });

    expect(await ask(caller, "one")).toBe("ok");
    expect(await codeOf(async () => caller.call("receive", { kind: "message" }))).toBe("ok");
    expect(await codeOf(async () => caller.call("receive", {}))).toBe("EACCES");
  });

  test("a stream that is given back before it was begun leaves nothing", async () => {
    const caller = await openChild(os, { grants: ["self", "event.subscribe", "fs.watch", "fs.stat"] });
    const before = kernel.host.bus.counters.subscribers;
    for (let at = 0; at < 20; at++) {
      await caller.events({}).return(undefined);
      await caller.fs.watch("/srv/**").return(undefined);
    }

    expect(kernel.host.bus.counters.subscribers).toBe(before);
  });

  test("one use is enough for a call that has begun", async () => {
    await os.fs.mkdir("/srv/in");
    const caller = await openChild(os, { grants: ["self", "model.infer; uses=1", "fs.watch; uses=1", "fs.stat"] });
    const watched = caller.fs.watch("/srv/in/**");
    const first = watched.next();
    await pause(1);
    await os.fs.writeFile("/srv/in/x", "1");

    expect((await first).value).toMatchObject({ name: "file.written" });
    expect([await ask(caller, "one"), await ask(caller, "two")]).toEqual(["ok", "EACCES"]);
  });
});

describe("what was given up", () => {
  test.each(["that heeds its signal", "that does not"])(
    "a call of a tool %s may have acted, and is charged",
    async (how) => {
      let sent = 0;
      const tool = {
        name: "mail",
        description: "",
        inputSchema: {},
        effect: "once",
        call: async (_args: unknown, { signal }: { readonly signal: AbortSignal }) => {
          sent++;
          await new Promise((_done, fail) => {
            if (how === "that heeds its signal") signal.addEventListener("abort", () => fail(signal.reason as Error));
          });
        },
      } as const;
      await using host = await bootKernel({ tools: [tool] }).then((booted) => ({
        os: booted.os,
        [Symbol.asyncDispose]: () => booted.close(),
      }));
      const caller = await openChild(host.os, { budget: { toolCalls: 1 }, limits: { callMs: 10 } });
      const call = (place: string): Promise<string> =>
        codeOf(async () => caller.call("call", { place, tool: "mail", arguments: {} }));

      expect([await call("one"), await call("two"), sent]).toEqual(["ETIMEDOUT", "EDQUOT", 1]);
      expect(await host.os.call("ledger", { by: ["tool"] })).toMatchObject([{ used: { toolCalls: 1 } }]);
    },
  );
});

describe("what bounds others", () => {
  test("a member of a group adds nothing to the budget of the group", async () => {
    await os.call("setGroup", { group: "g", budget: { modelCalls: 1 } });
    const member = await openChild(os, { group: "g" });
    const account = toPid((await os.call("usage", { pid: member.pid }))["modelCalls"]?.account ?? 0);

    expect(await codeOf(async () => member.call("allocate", { pid: account, budget: { modelCalls: 9 } }))).toBe(
      "EPERM",
    );
  });

  test("the same rate of a parent and a child counts once", async () => {
    const rates = [{ resource: "modelCalls", per: "process", max: 2, windowMs: 60_000, onLimit: "fail" }] as const;
    const child = await openChild(await openChild(os, { limits: { rates } }), { limits: { rates } });

    expect([await ask(child, "1"), await ask(child, "2"), await ask(child, "3")]).toEqual(["ok", "ok", "EAGAIN"]);
  });

  test("a group that is being removed takes nobody in", async () => {
    await os.call("setGroup", { group: "g" });
    const removing = codeOf(async () => os.call("removeGroup", { group: "g" }));
    const spawning = codeOf(() => openChild(os, { group: "g" }));
    const codes = await Promise.all([removing, spawning]);

    expect([
      ["ok", "ENOENT"],
      ["ENOTEMPTY", "ok"],
    ]).toContainEqual(codes);
  });

  test("nobody but its process looks into the copies of a view", async () => {
    await os.fs.writeFile("/srv/secret/x", "secret");
    await os.fs.writeFile("/srv/open", "open");
    const grants = ["self", "fs.*", "proc.*", "deny fs.*:/srv/secret/**"];
    const caller = await openChild(os, { grants });
    const worker = await openChild(caller, { view: "/srv" });
    const [view] = await os.call("views", {});
    const dir = view?.dir ?? "";

    for (const copy of ["work", "base"])
      for (const [path, act] of [
        [`${dir}/${copy}/secret/x`, (at: string) => caller.fs.readText(at)],
        [`${dir}/${copy}/open`, (at: string) => caller.fs.readText(at)],
        [`${dir}/${copy}`, (at: string) => caller.fs.readdir(at)],
        [`${dir}/${copy}/open`, (at: string) => caller.fs.copy(at, "/srv/mine")],
      ] as const)
        expect([path, await codeOf(() => act(path))]).toEqual([path, "EACCES"]);
    expect(await worker.fs.readText("/srv/open")).toBe("open");
    expect(await codeOf(() => worker.fs.readText("/srv/secret/x"))).toBe("EACCES");
  });

  test("conditions of arguments look into lists; a denial compares what can be compared", async () => {
    const sent: unknown[] = [];
    const send = {
      name: "send",
      description: "",
      inputSchema: {},
      effect: "pure",
      call: (args: unknown) => sent.push(args),
    } as const;
    await using host = await bootKernel({ tools: [send] }).then((booted) => ({
      os: booted.os,
      [Symbol.asyncDispose]: () => booted.close(),
    }));
    let number = 0;
    const may = async (grants: readonly string[], args: Readonly<Record<string, unknown>>): Promise<string> => {
      const caller = await openChild(host.os, { grants: ["self", ...grants] });
      return codeOf(async () => caller.call("call", { place: `p${number++}`, tool: "send", arguments: args }));
    };
    const denied = ["tool.call:send", "deny tool.call:send; arg.to=*@evil.com", "deny tool.call:send; arg.amount>100"];
    const allowed = ["tool.call:send; arg.to=*@good.com"];

    expect(await may(denied, { to: ["a@good.com", "b@evil.com"] })).toBe("EACCES");
    expect(await may(denied, { amount: "500" })).toBe("EACCES");
    expect(await may(denied, { to: ["a@good.com"], amount: "50" })).toBe("ok");
    expect(await may(allowed, { to: ["a@good.com", "b@good.com"] })).toBe("ok");
    expect(await may(allowed, { to: ["a@good.com", "b@evil.com"] })).toBe("EACCES");
    expect(await may(allowed, { to: [] })).toBe("EACCES");
    expect(await may(["tool.call:send; arg.to!=*@evil.com"], { to: { address: "a@evil.com" } })).toBe("EACCES");
    expect(sent).toHaveLength(2);
  });
});

test("what a call has come to is told, also where the answer to it cannot be forgotten", async () => {
  let charged = 0;
  const store = refusing(({ deletes = [] }) => deletes.some((key) => key.startsWith("ask/")));
  const charge = { name: "charge", description: "", inputSchema: {}, effect: "once", call: () => ++charged } as const;
  await using other = await bootKernel({ store, tools: [charge] });
  const caller = await openChild(other.os, { grants: ["self", "ask tool.call:charge"] });
  const called = caller.call("call", { place: "charge", tool: "charge", arguments: {} });
  const id = await vi.waitFor(async () => (await other.os.call("asks", {}))[0]?.id ?? Promise.reject(new TypeError()));
  await other.os.call("answer", { id, verdict: "allow" });
  expect(await called).toBe(1);
});
