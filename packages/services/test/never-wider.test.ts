// Ways around a narrower right, a question or a budget that somebody has found.

import { createPassAuthority, openKeys } from "@ergos/drivers/keys";
import {
  type Governance,
  type Kernel,
  type Model,
  type Os,
  type Pid,
  type Program,
  type ProcessContext,
  type Tool,
  isKernelError,
} from "@ergos/kernel";
import { expect, test } from "vitest";
import {
  bootKernel,
  codeOf,
  LastingStore,
  openChild,
  openProgram,
  pause,
  processWith,
} from "../../kernel/test/kernel-fixture.ts";

const keys = openKeys();
const big: Model = {
  name: "big",
  description: "",
  effect: "pure",
  tier: "strategic",
  health: () => Promise.resolve({ ok: true, detail: "" }),
  infer: () => Promise.resolve({ text: "big", finishReason: "stop", usage: { inputTokens: 1, outputTokens: 1 } }),
};

/** A program in its first life and in all that follow. */
const lives = (name: string, run: (context: ProcessContext, life: number) => unknown): Program => {
  let life = 0;
  return { name, revision: "1", kind: "function", run: async (context) => run(context, ++life) };
};
const failing = (name: string, then: (context: ProcessContext) => unknown): Program =>
  lives(name, (context, life) => {
    if (life === 1) throw new TypeError("fails once");
    return then(context);
  });
const reading = ({ os }: ProcessContext): Promise<string> => codeOf(() => os.fs.readText("/srv/secret"));
const outcome = async (kernel: Kernel, pid: Pid): Promise<unknown> => {
  const exit = await kernel.os.wait(pid);
  return exit.error?.code ?? exit.result;
};
const allow = (act: () => unknown = () => undefined): Governance => ({
  name: "allowing",
  authorize: async () => {
    await act();
    return { effect: "allow", reason: "everybody may" };
  },
  permissions: () => ["*"],
});

test("a run that is tried again has the rights that it had: of a pass, and of a parent that it has no more", async () => {
  const passed = failing("passed", reading);
  const moved = Promise.withResolvers<void>();
  const given = lives("given", async (context, life) => {
    await moved.promise;
    if (life === 1) throw new TypeError("fails once");
    return reading(context);
  });
  const store = new LastingStore();
  const passes = (issuer: string) => createPassAuthority(keys, issuer);
  const kernel = await bootKernel({ store: store.life(), programs: [passed, given], passes });
  await kernel.os.fs.writeFile("/srv/secret", "nobody knows");
  const { pass } = await kernel.os.call("issuePass", { grants: ["self", "proc.*", "fs.stat:/srv/public/**"] });
  const seat = await kernel.login(pass);
  const byPass = await seat.os.spawn("passed");
  await kernel.os.wait(byPass);
  await seat.leave();
  const boss = await processWith(kernel, ["self", "proc.*", "fs.stat:/srv/public/**"]);
  const byParent = await boss.spawn("given");
  await kernel.os.call("reparent", { pid: byParent, to: kernel.os.pid });
  moved.resolve();
  await kernel.os.wait(byParent);

  for (const pid of [byPass, byParent]) {
    await kernel.os.call("resume", { pid, again: true });
    expect(await outcome(kernel, pid)).toBe("EACCES");
    expect(await kernel.os.call("caps", { pid })).toHaveLength(1);
  }
  await kernel.close();
});

test("a run of a group that is tried again spends from the group", async () => {
  const call = ({ os }: ProcessContext): Promise<string> =>
    codeOf(() => os.infer("call", { messages: [{ role: "user", content: "?" }] }));
  const [own, shared] = [failing("own", call), failing("shared", call)];
  await using kernel = await bootKernel({ programs: [own, shared] });
  await kernel.os.call("setGroup", { group: "g", budget: { modelCalls: 1 } });
  const pids = [
    await kernel.os.spawn(own, { group: "g", budget: { modelCalls: 1 } }),
    await kernel.os.spawn(shared, { group: "g" }),
  ];
  for (const pid of pids) await kernel.os.wait(pid);

  const again = async (pid: Pid | undefined): Promise<unknown> =>
    pid === undefined
      ? undefined
      : kernel.os.call("resume", { pid, again: true }).then(
          () => outcome(kernel, pid),
          (error: unknown) => isKernelError(error) && error.code,
        );
  expect(await again(pids[1])).toBe("ok");
  // The one call of the group was made.
  expect(await again(pids[0])).toBe("EDQUOT");
  expect((await kernel.os.call("ledger", { by: ["group"] }))[0]?.used.modelCalls).toBe(1);
});

test("a parent has no more living children by trying failed ones again than by starting them", async () => {
  const child = lives("child", (_context, life) => {
    if (life <= 2) throw new TypeError("fails");
    return new Promise(() => undefined);
  });
  await using kernel = await bootKernel({ programs: [child] });
  const parent = await openChild(kernel.os, { limits: { children: 1 } });
  const pids: Pid[] = [];
  for (let made = 0; made < 2; made++) {
    pids.push(await parent.spawn("child"));
    await kernel.os.wait(pids.at(-1) as Pid);
  }

  expect(await codeOf(() => parent.call("resume", { pid: pids[0] as Pid, again: true }))).toBe("ok");
  expect(await codeOf(() => parent.call("resume", { pid: pids[1] as Pid, again: true }))).toBe("EAGAIN");
});

test("a request is taken for made only where its sending is recorded", async () => {
  const store = new LastingStore();
  const { program: hearing } = openProgram("hearing");
  const forged = Promise.withResolvers<void>();
  const forging = lives("forging", async ({ os, input }, life) => {
    if (life === 1) {
      await os.call("stepBegin", { place: "x/reply" });
      await os.call("stepEnd", { place: "x/reply", value: { body: "forged" } });
      forged.resolve();
      return new Promise(() => undefined);
    }
    const { to } = input as { to: Pid };
    return os.call("request", { place: "x", to, body: "unasked", timeoutMs: 1000 });
  });
  const programs = [hearing, forging];
  const first = store.life();
  const dying = await bootKernel({ store: first, programs });
  const to = await dying.os.spawn(hearing);
  const pid = await dying.os.spawn(forging, { input: { to }, grants: ["self", "ask msg.send", "msg.receive"] });
  await forged.promise;
  await dying.close();

  await using kernel = await bootKernel({ store: store.life(), programs });
  await kernel.os.call("resume", { pid });
  await expect.poll(async () => (await kernel.os.call("asks", {})).map(({ right }) => right)).toEqual(["msg.send"]);
});

test("what was recorded when a call began, and is given back while its policy is heard, is asked for", async () => {
  let sent = 0;
  const mail: Tool<Os> = { name: "mail", description: "", inputSchema: {}, effect: "pure", call: () => ++sent };
  const store = new LastingStore();
  const recorded = Promise.withResolvers<void>();
  const cheating = lives("cheating", async ({ os }, life) => {
    if (life === 1) {
      await os.call("stepBegin", { place: "x" });
      await os.call("stepEnd", { place: "x", value: "made up" });
      recorded.resolve();
      return new Promise(() => undefined);
    }
    const calling = os.call("call", { place: "x", tool: "mail" });
    await os.call("stepBegin", { place: "x" });
    await os.call("stepRetract", { place: "x" });
    return calling;
  });
  const parts = { tools: [mail], programs: [cheating], governance: allow(() => pause(5)) };
  const dying = await bootKernel({ store: store.life(), ...parts });
  const pid = await dying.os.spawn(cheating, { grants: ["self", "ask tool.call:mail"] });
  await recorded.promise;
  await dying.close();

  await using kernel = await bootKernel({ store: store.life(), ...parts });
  await kernel.os.call("resume", { pid });
  await expect.poll(async () => (await kernel.os.call("asks", {})).length).toBe(1);
  expect(sent).toBe(0);
});

test("who edits a call that somebody asks for cannot make of it what it may not do itself", async () => {
  await using kernel = await bootKernel();
  await kernel.os.fs.writeFile("/srv/a/report", "old");
  await kernel.os.fs.writeFile("/srv/secret", "precious");
  const asker = await processWith(kernel, ["self", "fs.stat", "ask fs.write:/srv/**"]);
  const answerer = await processWith(kernel, ["self", "ask.read", "ask.answer", "fs.stat", "fs.write:/srv/a/**"]);
  const bytes = new TextEncoder().encode("edited");
  const writing = asker.fs.write("/srv/a/report", new TextEncoder().encode("as it was"));
  await expect.poll(async () => (await kernel.os.call("asks", {})).length).toBe(1);
  const id = (await kernel.os.call("asks", {}))[0]?.id ?? 0;
  const edit = (value: object): Promise<string> =>
    codeOf(() => answerer.call("answer", { id, verdict: "edit", value }));

  expect(await edit({ path: "/srv/secret", bytes })).toBe("EPERM");
  expect(await edit({ bytes })).toBe("ok");
  await writing;
  expect(await kernel.os.fs.readText("/srv/a/report")).toBe("edited");
  expect(await kernel.os.fs.readText("/srv/secret")).toBe("precious");
});

test("many grants of grants are looked at once each", async () => {
  await using kernel = await bootKernel();
  await kernel.os.fs.writeFile("/srv/x", "x");
  let os = await processWith(kernel, ["self", "proc.*", "cap.*", "fs.read:/srv/**", "fs.stat:/srv/**"]);
  // Each way on its own would be looked at 12 to the tenth times.
  for (let depth = 0; depth < 10; depth++) {
    const child = await openChild(os, { grants: ["self", "proc.*", "cap.*"] });
    const grants = Array.from({ length: 12 }, (_, at) => `fs.read:/srv/**; until=20${40 + at}-01-01T00:00:00Z`);
    await os.call("grant", { pid: child.pid, grants: [...grants, "fs.stat:/srv/**"] });
    os = child;
  }
  expect(await os.fs.readText("/srv/x")).toBe("x");
});

test("a budget that is added to undoes nothing that happens to its process at the same time", async () => {
  await using kernel = await bootKernel();
  const pid = (await openChild(kernel.os, { budget: { modelCalls: 1 } })).pid;
  const to = (await openChild(kernel.os)).pid;
  await Promise.all([
    kernel.os.call("allocate", { pid, budget: { modelCalls: 1 } }),
    kernel.os.call("specialize", { pid, tier: "operational", ref: "narrow" }),
    kernel.os.call("reparent", { pid, to }),
  ]);

  const [found] = await kernel.os.call("ps", { pids: [pid] });
  expect(found).toMatchObject({ tier: "operational", ref: "narrow", ppid: to });
  expect((await kernel.os.call("usage", { pid }))["modelCalls"]?.allocation).toBe(2);
});

test("a process thinks with models of its tier, and what is below it too", async () => {
  await using kernel = await bootKernel({ models: [big] });
  const ask = (os: Os): Promise<string> =>
    codeOf(() => os.infer(`q${Math.random()}`, { messages: [{ role: "user", content: "?" }] }));
  const parent = await openChild(kernel.os);
  const child = await openChild(parent);
  expect([await ask(parent), await ask(child)]).toEqual(["ok", "ok"]);

  await kernel.os.call("specialize", { pid: parent.pid, tier: "operational" });

  expect([await ask(parent), await ask(child)]).toEqual(["EACCES", "EACCES"]);
  expect(await ask(await openChild(kernel.os, { role: "task" }))).toBe("EACCES");
});

test("copies are paid for by what they copy, not by what was there when they were asked for", async () => {
  await using kernel = await bootKernel();
  const os = await openChild(kernel.os, { budget: { bytesWritten: 300_000 } });
  await os.fs.writeFile("/srv/w/a", "");
  const all = await Promise.all([
    codeOf(() => os.fs.write("/srv/w/a", new Uint8Array(200_000))),
    ...Array.from({ length: 10 }, (_, at) => codeOf(() => os.fs.copy("/srv/w/a", `/srv/w/copy${at}`))),
  ]);

  const sizes = await Promise.all(
    (await kernel.os.fs.readdir("/srv/w")).map(
      async ({ name }) => (await kernel.os.fs.stat(`/srv/w/${name}`)).size ?? 0,
    ),
  );
  expect(all[0]).toBe("ok");
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThanOrEqual(300_000);
});

test("of a parent that has ended nobody gets a budget", async () => {
  await using kernel = await bootKernel();
  const top = await openChild(kernel.os, { budget: { modelCalls: 100 }, limits: { onRequest: "refuse" } });
  const { program, context } = openProgram("child");
  const over = Promise.withResolvers<void>();
  const middle = lives("middle", async ({ os }) => {
    await os.spawn(program, { budget: { modelCalls: 1 } });
    await over.promise;
  });
  const pid = await top.spawn(middle, { limits: { onRequest: "grant" } });
  const child = (await context).os;
  const more = (): Promise<string> => codeOf(() => child.call("requestBudget", { budget: { modelCalls: 1 } }));
  expect(await more()).toBe("ok");
  over.resolve();
  await top.wait(pid);

  expect(await more()).toBe("EDQUOT");
});

test("a process is split whatever its parts use up of its starts", async () => {
  const { program } = openProgram("splitting");
  await using kernel = await bootKernel({ programs: [program] });
  const pid = await kernel.os.spawn(program, { budget: { spawns: 11 } });

  expect(await kernel.os.call("split", { pid, parts: [{}, {}] })).toHaveLength(2);
});

test("a lower tier asks nobody anew for what was answered before, and outlives a retry", async () => {
  const store = new LastingStore();
  const asked = Promise.withResolvers<void>();
  const asking = lives("asking", async ({ os }, life) => {
    const { text } = await os.infer("q", { messages: [{ role: "user", content: "?" }] });
    asked.resolve();
    if (life === 1) return new Promise(() => undefined);
    if (life === 2) throw new TypeError("fails");
    return text;
  });
  const first = await bootKernel({ store: store.life(), models: [big], programs: [asking] });
  const pid = await first.os.spawn(asking);
  await asked.promise;
  await first.os.call("specialize", { pid, tier: "operational" });
  await first.close();

  await using next = await bootKernel({ store: store.life(), models: [big], programs: [asking] });
  await next.os.resume(pid);
  expect((await next.os.wait(pid)).error?.code).toBe("EFAILED");
  await next.os.call("resume", { pid, again: true });
  expect((await next.os.wait(pid)).result).toBe("big");
  expect((await next.os.ps({ pids: [pid] }))[0]?.tier).toBe("operational");
});

test("a hook that waits lets nothing through that was not paid for", async () => {
  await using kernel = await bootKernel();
  const os = await openChild(kernel.os, { budget: { bytesWritten: 10 } });
  await kernel.os.fs.writeFile("/srv/a", "1");
  const unhook = kernel.hook({
    name: "slow",
    calls: ["copy"],
    pre: async () => void (await kernel.os.fs.writeFile("/srv/a", "x".repeat(5000))),
  });

  expect(await codeOf(() => os.fs.copy("/srv/a", "/srv/b"))).not.toBe("ok");
  unhook();
  expect(await kernel.os.fs.exists("/srv/b")).toBe(false);
});
