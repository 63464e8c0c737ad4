// Virtual processes: agents outside of the host that act as processes of it, by a pass.

import { MemoryObjectStore } from "@ergos/drivers/memory";
import { createPassAuthority, openKeys } from "@ergos/drivers/keys";
import { type Kernel, type KernelParts, type Login, type Pid, type Program } from "@ergos/kernel";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LastingStore, bootKernel } from "../../kernel/test/kernel-fixture.ts";

const keys = openKeys();
const boot = (parts: Partial<KernelParts> = {}): Promise<Kernel> =>
  bootKernel({ signer: keys, passes: (issuer) => createPassAuthority(keys, issuer), ...parts });
let kernel: Kernel;
beforeEach(async () => {
  kernel = await boot();
});
afterEach(() => kernel.close());

const passOf = async (pid: Pid, of = kernel): Promise<{ readonly pass: string; readonly id: string }> =>
  of.os.call("issuePass", { as: pid });
const agent = async (
  options: object = {},
  of = kernel,
): Promise<Login & { readonly pid: Pid; readonly id: string; readonly pass: string }> => {
  const pid = await of.os.spawn("virtual", { name: "outside", ...options });
  const issued = await passOf(pid, of);
  return { ...(await of.login(issued.pass)), ...issued, pid };
};

test("acts as its process: its rights, its mailbox, its budget, its end", async () => {
  const { os, pid } = await agent({
    grants: ["self", "msg.*", "model.infer:*", "fs.*:/srv/own/**"],
    budget: { modelCalls: 1 },
  });
  expect(os.pid).toBe(pid);
  await os.fs.writeFile("/srv/own/x", "by the agent");
  await expect(os.fs.writeFile("/srv/other", "")).rejects.toMatchObject({ code: "EACCES" });
  expect((await os.infer("ask", { messages: [{ role: "user", content: "hello" }] })).text).toBeTypeOf("string");
  await expect(os.infer("again", { messages: [{ role: "user", content: "hello" }] })).rejects.toMatchObject({
    code: "EDQUOT",
  });
  await kernel.os.call("send", { to: pid, body: "task" });
  expect((await os.call("receive", { place: "first" }))?.body).toBe("task");
  const end = kernel.os.wait(pid);
  await os.call("exit", { result: { done: true } });
  expect(await end).toMatchObject({ code: 0, result: { done: true } });
  await expect(os.fs.writeFile("/srv/own/y", "")).rejects.toMatchObject({ code: "ESRCH" });
});

test("hears signals, and is ended by one; nobody logs in as what has ended", async () => {
  const { os, pid, pass, ended } = await agent();
  const heard: string[] = [];
  const listening = (async () => {
    for await (const signal of await os.call("signals", {})) heard.push(signal);
  })();
  await new Promise((go) => setTimeout(go, 5));
  await kernel.os.kill(pid, "HUP");
  await kernel.os.kill(pid);
  expect(await kernel.os.wait(pid)).toMatchObject({ signal: "TERM" });
  await Promise.all([listening, ended]);
  expect(heard).toEqual(["HUP", "TERM"]);
  await expect(kernel.login(pass)).rejects.toMatchObject({ code: "EACCES" });
});

test("lives on when its agent leaves, and over restarts of the host; its pass holds until it is revoked", async () => {
  const store = new LastingStore();
  const objects = new MemoryObjectStore();
  const first = await boot({ store: store.life(), objects });
  const { pid, pass, id, leave, os } = await agent({}, first);
  expect(await os.call("now", { place: "then" })).toBeTypeOf("number");
  await leave();
  expect((await first.os.ps({ pids: [pid] }))[0]?.state).toBe("running");
  const next = await boot({ store: store.life(), objects });
  await next.os.resume(pid);
  const again = await next.login(pass);
  expect(again.os.pid).toBe(pid);
  await next.os.call("revokePass", { id });
  await again.ended;
  await expect(next.login(pass)).rejects.toMatchObject({ code: "EACCES" });
  expect((await next.os.ps({ pids: [pid] }))[0]?.state).toBe("running");
  await next.close();
});

test("a pass that it issues itself, or that was narrowed, is a seat below it", async () => {
  const { os, pid } = await agent();
  const { pass } = await os.call("issuePass", { grants: ["fs.read:/srv/**", "self"] });
  const seat = await kernel.login(pass);
  expect(seat.os.pid).not.toBe(pid);
  await expect(seat.os.fs.writeFile("/srv/x", "")).rejects.toMatchObject({ code: "EACCES" });
});

test("is nobody else's to give: only who stands above a virtual process has its pass", async () => {
  const { os } = await agent();
  const other = await agent();
  await expect((async () => os.call("issuePass", { as: other.pid }))()).rejects.toMatchObject({ code: "EPERM" });
  const plain = await kernel.os.spawn({
    name: "virtual",
    revision: "1",
    kind: "function",
    source: { name: "virtual" },
    run: () => new Promise(() => undefined),
  });
  await expect(passOf(plain)).rejects.toMatchObject({ code: "EINVAL" });
  await expect((async () => kernel.os.call("issuePass", {}))()).rejects.toMatchObject({ code: "EINVAL" });
});

test("a tenant's place: its user, its group and its budget hold for all that it does and starts", async () => {
  const { os: owner } = kernel;
  await owner.call("setGroup", { group: "bob", budget: { modelCalls: 3 } });
  const grants = ["self", "proc.spawn", "model.infer", "kernel.module", "pass.issue"];
  const { os, pid } = await agent({ user: "bob", group: "bob", budget: { modelCalls: 2 }, grants });
  const asks: Program = {
    name: "asks",
    revision: "1",
    kind: "function",
    run: async (ctx) => {
      await ctx.os.infer("ask", { messages: [{ role: "user", content: "hello" }] });
    },
  };

  const child = await os.spawn(asks);
  expect(await owner.wait(child)).toMatchObject({ code: 0 });
  await os.infer("one", { messages: [{ role: "user", content: "hello" }] });
  await expect(os.infer("two", { messages: [{ role: "user", content: "hello" }] })).rejects.toMatchObject({
    code: "EDQUOT",
  });

  expect((await owner.ps({ pids: [child] }))[0]).toMatchObject({ user: "bob" });
  expect(await owner.call("ledger", { by: ["user", "group"] })).toMatchObject([
    { key: { user: "bob", group: "bob" }, entries: 2 },
  ]);
  await expect(async () => owner.call("issuePass", { as: pid, user: "jane" })).rejects.toMatchObject({
    code: "EINVAL",
  });
  await expect(os.spawn(asks, { user: "jane" })).rejects.toMatchObject({ code: "EPERM" });
});
