// What bounds a process holds against itself, whatever its rights; and what is stopped stands still.

import { type Os } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bootKernel, openProgram, processWith } from "../../kernel/test/kernel-fixture.ts";

let kernel: Awaited<ReturnType<typeof bootKernel>>;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

async function child(of: Os, options: Parameters<Os["spawn"]>[1] = {}): Promise<Os> {
  const { program: open, context } = openProgram();
  await of.spawn(open, options);
  return (await context).os;
}
const settled = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn++) await new Promise((go) => setTimeout(go, 1));
};

describe("what bounds a process", () => {
  test("is not lifted by itself, nor by what is below it, though both may do everything", async () => {
    const top = await child(kernel.os, { budget: { modelCalls: 5 } });
    const below = await child(top, { budget: { modelCalls: 1 } });
    const add = async (os: Os, pid: Os["pid"]): Promise<void> =>
      os.call("allocate", { pid, budget: { modelCalls: 1 } });

    await expect(add(top, top.pid)).rejects.toMatchObject({ code: "EPERM" });
    await expect(add(below, below.pid)).rejects.toMatchObject({ code: "EPERM" });
    await expect(add(below, top.pid)).rejects.toMatchObject({ code: "EPERM" });
    await add(top, below.pid);
    await add(kernel.os, top.pid);
    const usage = await kernel.os.call("usage", { pid: top.pid });
    expect(usage["modelCalls"]).toMatchObject({ allocation: 6 });
  });

  test("as its group has it is not changed by who is in that", async () => {
    await kernel.os.call("setGroup", { group: "lab", budget: { modelCalls: 1 } });
    await kernel.os.call("setGroup", { group: "lab/night" });
    const inside = await child(kernel.os, { group: "lab/night" });
    for (const group of ["lab", "lab/night"])
      await expect(
        (async () => inside.call("setGroup", { group, budget: { modelCalls: 9 } }))(),
        group,
      ).rejects.toMatchObject({ code: "EPERM" });
    await inside.call("setGroup", { group: "lab/night/own" });
  });

  test("what narrows others is taken back only by who has all rights, or is above them", async () => {
    const narrowed = await child(kernel.os, { grants: ["fs.*", "deny fs.write:/srv/x"] });
    const layers = await kernel.os.call("caps", { pid: narrowed.pid });
    const id =
      JSON.stringify(layers)
        .match(/"(\d+:\d+)"/g)
        ?.at(-1)
        ?.replaceAll('"', "") ?? "";
    const helper = await processWith(kernel, ["self", "cap.revoke"]);
    await expect((async () => helper.call("revoke", { id }))()).rejects.toMatchObject({ code: "EPERM" });
    await kernel.os.call("revoke", { id });
  });
});

test("why judges paths as calls do", async () => {
  const { pid } = await child(kernel.os, { grants: ["fs.read:/srv/**"] });
  const why = async (resource: string) => (await kernel.os.call("why", { pid, right: "fs.read", resource })).effect;
  expect(await why("/srv/../etc/passwd")).toBe("deny");
  expect(await why("//srv//x")).toBe("allow");
  expect(await why("/srv/x")).toBe("allow");
});

test("a question shows what would be written", async () => {
  const { pid, call } = await child(kernel.os, { grants: ["self", "fs.stat", "ask fs.write:/srv/**"] });
  const writing = (async () => call("write", { path: "/srv/q", bytes: Buffer.from("judge me"), create: "maybe" }))();
  writing.catch(() => undefined);
  const asks = async () => kernel.os.call("asks", {});
  await expect.poll(async () => (await asks()).length).toBe(1);
  expect(JSON.stringify(await asks())).toContain("judge me");
  await kernel.os.kill(pid, "KILL");
});

describe("what is stopped", () => {
  test("does not come to its end before it goes on", async () => {
    await kernel.os.call("setGroup", { group: "lab" });
    const lets: (() => void)[] = [];
    const waits = program("waits", async () => {
      await new Promise<void>((go) => lets.push(go));
      return "over";
    });
    const pid = await kernel.os.spawn(waits, { group: "lab" });
    await kernel.os.call("freeze", { group: "lab" });
    lets[0]?.();
    await settled();
    expect((await kernel.os.ps({ pids: [pid] }))[0]?.state).toBe("frozen");
    await kernel.os.call("thaw", { group: "lab" });
    expect(await kernel.os.wait(pid)).toMatchObject({ code: 0, result: "over" });
    const stopped = await kernel.os.spawn(waits);
    await kernel.os.kill(stopped, "STOP");
    lets[1]?.();
    await settled();
    expect((await kernel.os.ps({ pids: [stopped] }))[0]?.state).toBe("stopped");
    await kernel.os.kill(stopped, "KILL");
    expect(await kernel.os.wait(stopped)).toMatchObject({ signal: "KILL" });
  });
});

test("an orphan belongs to who has adopted it", async () => {
  const top = await child(kernel.os);
  const middle = await child(top);
  const { pid } = await child(middle);
  await kernel.os.kill(middle.pid, "KILL").catch(() => undefined);
  const ends = program("ends", async (_input: unknown, ctx: RunContext) => {
    await ctx.os.spawn(openProgram("orphan").program);
  });
  await kernel.os.wait(await top.spawn(ends));
  const orphan = (await kernel.os.ps()).find(({ name }) => name === "orphan");
  expect(orphan?.ppid).toBe(top.pid);
  expect(await kernel.os.fs.readText(`/proc/${orphan?.pid}/status`)).toContain(`ppid:\t${top.pid}`);
  expect((await kernel.os.ps({ pids: [pid] }))[0]?.state).toBe("zombie");
});

test("what a task comes to that is no JSON is a failure of that task alone", async () => {
  const serves = program("serves", (_input: unknown, ctx: RunContext) =>
    ctx.serve((task) => (task === "bad" ? new Date(0) : task)),
  );
  const lead = program("lead", async (_input: unknown, ctx: RunContext) => {
    const pid = await ctx.spawn("serves", serves);
    const bad = await ctx.executeOn("bad", pid, "bad").catch((error: { code: string }) => error.code);
    const worked = ctx.work("jobs", (body) => (body === "bad" ? new Map() : body), { idleMs: 50 });
    const id = await ctx.submit("job", "jobs", "bad", { attemptsMax: 1 });
    const failed = await ctx.taskEnd("end", id).catch((error: { code: string }) => error.code);
    await worked;
    return [bad, await ctx.executeOn("good", pid, "good"), failed];
  });
  expect((await kernel.os.wait(await kernel.os.spawn(lead))).result).toEqual(["EINVAL", "good", "EINVAL"]);
});

describe("what one may take from others", () => {
  test("of subscriptions and watches is bounded, and given back", async () => {
    const os = await child(kernel.os, { grants: ["self", "event.subscribe", "fs.watch"] });
    const stop = new AbortController();
    const begin = async (): Promise<unknown> => os.call("watch", { glob: "/srv/**", signal: stop.signal });
    for (let count = 0; count < 1100; count++)
      await expect((async () => os.call("subscribe", { topics: ["a..b"] }))()).rejects.toMatchObject({
        code: "EINVAL",
      });
    for (let count = 0; count < 1000; count++) await begin();

    await expect(begin()).rejects.toMatchObject({ code: "EMFILE" });
    await expect((async () => os.call("subscribe", {}))()).rejects.toMatchObject({ code: "EMFILE" });
    stop.abort();
    await settled();
    await (await (async () => os.call("subscribe", {}))()).return();
  });

  test("of triggers is half of what the host has room for", async () => {
    const grants = ["self", "trigger.manage", "event.subscribe"];
    const [one, same, other] = [
      await child(kernel.os, { grants, user: "eve" }),
      await child(kernel.os, { grants, user: "eve" }),
      await child(kernel.os, { grants, user: "bob" }),
    ];
    const add = async (os: Os): Promise<unknown> =>
      os.call("trigger", { topic: "x", action: { message: { to: os.pid } } });
    for (let count = 0; count < 500; count++) await add(count % 2 === 0 ? one : same);

    await expect(add(same)).rejects.toMatchObject({ code: "EAGAIN" });
    await add(other);
  });

  test("are no answers to questions of another user", async () => {
    const eve = await child(kernel.os, { grants: ["self", "ask.*"], user: "eve" });
    const alice = await child(kernel.os, { grants: ["self", "ask.*"], user: "alice" });
    const asking = program("asking", (_input: unknown, ctx: RunContext) => ctx.ask("pay", "Pay 10,000?"));
    const pid = await kernel.os.spawn(asking, { user: "alice" });
    await settled();
    const [asked] = await kernel.os.call("asks", {});
    const answer = async (os: Os, verdict: "reply" | "deny"): Promise<void> =>
      os.call("answer", { id: asked?.id ?? 0, verdict, ...(verdict === "reply" ? { value: "yes" } : {}) });

    for (const verdict of ["reply", "deny"] as const)
      await expect(answer(eve, verdict)).rejects.toMatchObject({ code: "EPERM" });
    await answer(alice, "reply");
    expect((await kernel.os.wait(pid)).result).toBe("yes");
  });

  test("is no word of what is there, however a path goes on", async () => {
    await kernel.os.fs.mkdir("/srv/secret");
    await kernel.os.fs.writeFile("/srv/secret/there", "x");
    const os = await child(kernel.os, { grants: ["self"] });
    const refusal = (name: string): Promise<string> =>
      os.fs
        .read(`/srv/secret/${name}/_`)
        .then(String, (error: Error) => error.message.replaceAll(`/${name}/`, "/NAME/"));

    expect(await refusal("there")).toBe(await refusal("not"));
  });
});

test("a gap before what is written is paid for, by a path and by a handle", async () => {
  const os = await child(kernel.os, { budget: { bytesWritten: 100 } });
  await os.fs.writeFile("/srv/small", "0123456789");
  const fd = await os.call("open", { path: "/srv/small", rights: ["write"] });

  await expect(
    (async () => os.call("write", { path: "/srv/small", bytes: new Uint8Array(1), offset: 200 }))(),
  ).rejects.toMatchObject({ code: "EDQUOT" });
  await expect(
    (async () => os.call("writeHandle", { fd, bytes: new Uint8Array(1), offset: 200 }))(),
  ).rejects.toMatchObject({ code: "EDQUOT" });
  await os.call("write", { path: "/srv/small", bytes: new Uint8Array(1), offset: 98 });
  expect((await os.call("usage", { pid: os.pid }))["bytesWritten"]).toMatchObject({ used: 99 });
});
