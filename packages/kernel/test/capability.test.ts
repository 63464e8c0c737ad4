import { Capability, SYSCALLS, type SyscallName, formatGrant, parseGrant, toPid } from "@ergos/kernel";
import { describe, expect, test } from "vitest";
import { bootKernel, openProgram, processWith } from "./kernel-fixture.ts";

/** Arguments with which each row can be called: every row must be here. */
const ARGUMENTS: Readonly<Record<SyscallName, Readonly<Record<string, unknown>>>> = {
  stat: { path: "/home/a" },
  readdir: { path: "/home" },
  read: { path: "/home/a" },
  write: { path: "/home/a", bytes: new Uint8Array(1), create: "maybe" },
  append: { path: "/home/a", bytes: new Uint8Array(1) },
  truncate: { path: "/home/a", size: 0 },
  setattr: { path: "/home/new", type: "directory" },
  rename: { from: "/home/a", to: "/home/b" },
  copy: { from: "/home/a", to: "/home/b" },
  unlink: { path: "/home/a" },
  open: { path: "/home/a", rights: ["read"] },
  close: { fd: 3 },
  readHandle: { fd: 3 },
  writeHandle: { fd: 3, bytes: new Uint8Array(1) },
  watch: { glob: "/home/**" },
  spawn: { program: openProgram().program },
  resume: { pid: 1 },
  previewResume: { pid: 1 },
  sleep: { pid: 2 },
  wake: { pid: 2 },
  connect: { url: "http://example.com/" },
  transfer: { url: "http://example.com/", bytes: 1 },
  clone: { pid: 2 },
  upgrade: { pid: 2, program: "x" },
  specialize: { pid: 2 },
  merge: { pid: 2, into: 3 },
  split: { pid: 2, parts: [{}] },
  collapse: { pid: 2 },
  schedule: { inMs: 1000, action: { wake: 2 } },
  schedules: {},
  unschedule: { id: 1 },
  setSchedule: { id: 1, paused: true },
  publish: { topic: "orders.created" },
  trigger: { topic: "orders.*", action: { wake: 2 } },
  triggers: {},
  untrigger: { id: 1 },
  submit: { queue: "work", body: 1 },
  claim: { queue: "work", waitMs: 0 },
  renew: { id: 1 },
  complete: { id: 1 },
  fail: { id: 1, error: { code: "EFAILED", message: "no" } },
  cancelTask: { id: 1 },
  resubmit: { id: 1 },
  tasks: {},
  taskEnd: { id: 1 },
  defineEntity: { type: "order", initial: "new", transitions: [] },
  createEntity: { type: "order", id: "1" },
  transition: { type: "order", id: "1", to: "paid" },
  entity: { type: "order", id: "1" },
  entities: { type: "order" },
  entityHistory: { type: "order", id: "1" },
  errors: {},
  putArtifact: { name: "a", bytes: new Uint8Array() },
  artifact: { name: "a" },
  readArtifact: { name: "a" },
  artifacts: {},
  removeArtifact: { name: "a" },
  reparent: { pid: 2, to: 1 },
  kill: { pid: 1 },
  wait: { pid: 1 },
  ps: {},
  subscribe: {},
  stepBegin: { place: "a" },
  stepEnd: { place: "a" },
  stepRetract: { place: "a" },
  stepFail: { place: "a", error: { code: "EIO", message: "failed" } },
  stepSkip: { place: "a", why: "because" },
  call: { place: "p", tool: "none" },
  infer: { place: "a", request: { messages: [] } },
  now: { place: "n" },
  random: { place: "r" },
  sleepUntil: { place: "s", until: 0 },
  log: { text: "line" },
  progress: { done: 0, total: 1 },
  nodeEvent: { name: "node.started", data: {} },
  usage: { pid: 1 },
  flush: {},
  auditLog: {},
  auditVerify: {},
  auditRedact: { ids: ["1-1"], why: "test" },
  auditTrim: { before: 0, why: "test" },
  fetch: { place: "f", url: "http://127.0.0.1:1/" },
  policy: {},
  secret: { name: "KEY" },
  issuePass: { grants: ["fs.read"] },
  revokePass: { id: "x" },
  groups: {},
  setGroup: { group: "a" },
  removeGroup: { group: "a" },
  freeze: { group: "a" },
  thaw: { group: "a" },
  allocate: { pid: 1, budget: {} },
  requestBudget: { budget: { tokens: 1 } },
  ledger: {},
  caps: { pid: 1 },
  why: { pid: 1, right: "fs.read", resource: "/" },
  grant: { pid: 1, grants: ["fs.read"] },
  revoke: { id: "1:1" },
  ask: { place: "q", question: "why?" },
  asks: {},
  answer: { id: 1, verdict: "allow" },
  context: {},
  revise: { definitions: {} },
  beat: {},
  stepForget: { place: "" },
  continueAsNew: {},
  shield: {},
  unshield: { shield: 1 },
  exit: {},
  signals: {},
  send: { to: toPid(1), body: 1 },
  receive: { waitMs: 0 },
  ack: { id: "x" },
  request: { to: toPid(1), body: 1 },
  escalate: { body: 1 },
  enlist: { service: { name: "s", contract: { name: "c", methods: {} }, create: () => ({}) } },
  delist: { name: "s" },
  startService: { name: "s" },
  stopService: { name: "s" },
  restartService: { name: "s" },
  swapService: { name: "s" },
  checkService: { name: "s" },
  services: {},
  callService: { service: "s", method: "m" },
  lock: { path: "l", ttlMs: 1000 },
  unlock: { path: "l" },
  locks: {},
  statHandle: { fd: 3 },
  truncateHandle: { fd: 3, size: 0 },
  readInto: { path: "/srv/a", into: new Uint8Array(1) },
  readHandleInto: { fd: 3, into: new Uint8Array(1) },
  setattrHandle: { fd: 3, mode: 0o600 },
  cloneTree: { from: "/home", to: "/copy" },
  compareTrees: { from: "/home", to: "/home" },
  restoreTree: { from: "/home", to: "/copy" },
  views: {},
  viewChanges: { pid: 2 },
  applyView: { pid: 2 },
  discardView: { pid: 2 },
  getxattr: { path: "/home" },
  setxattr: { path: "/home", values: { a: "b" } },
  writeContent: { bytes: new Uint8Array(1) },
  readContent: { id: `sha256-${"0".repeat(64)}` },
  statContent: { id: `sha256-${"0".repeat(64)}` },
  channelWrite: { bytes: new Uint8Array(1) },
  channelRead: {},
  channelClose: {},
  makeFlow: { path: "/home/p", type: "pipe" },
  streamShare: { path: "/srv/s" },
  streamAppend: { path: "/home/s", entries: [new Uint8Array(1)] },
  streamRead: { path: "/home/s" },
  pipeWrite: { path: "/home/p", bytes: new Uint8Array(1) },
  pipeRead: { path: "/home/p" },
  pipeClose: { path: "/home/p" },
  prune: { endedBefore: 0 },
  collect: {},
  rollUpLedger: { before: 0 },
  checkStore: {},
  exec: { path: "/home/a" },
};

describe("every row of the table", () => {
  for (const name of Object.keys(SYSCALLS) as SyscallName[]) {
    test(`${name} is EACCES for a process without rights`, async () => {
      const kernel = await bootKernel();
      await kernel.os.fs.writeFile("/home/a", "secret");
      const os = await processWith(kernel, []);

      const call = Promise.resolve().then(() => os.call(name, ARGUMENTS[name] as never));

      await expect(call).rejects.toMatchObject({ code: "EACCES", syscall: name });
      await kernel.close();
    });
  }
});

describe("rights narrow and never widen", () => {
  test("a child cannot hold what its parent lacks, whatever it asks for", () => {
    const parent = Capability.of([parseGrant("fs.read:/srv/**")]);
    const child = parent.narrow([parseGrant("fs.*"), parseGrant("proc.spawn")]);

    expect(child.allows("fs.read", "/srv/a")).toBe(true);
    expect(child.allows("fs.read", "/etc/a")).toBe(false);
    expect(child.allows("fs.write", "/srv/a")).toBe(false);
    expect(child.allows("proc.spawn", "x")).toBe(false);
  });

  test("a denial wins over every allowance", () => {
    const capability = Capability.of([parseGrant("fs.*:/**"), parseGrant("deny fs.read:/etc/secret/**")]);

    expect(capability.allows("fs.read", "/etc/other")).toBe(true);
    expect(capability.allows("fs.read", "/etc/secret/key")).toBe(false);
  });

  test("what may not be seen is EACCES, also when it does not exist", async () => {
    const kernel = await bootKernel();
    await kernel.os.fs.writeFile("/etc/hidden", "x");
    const os = await processWith(kernel, ["fs.*:/srv/**"]);

    await expect(os.fs.stat("/etc/hidden")).rejects.toMatchObject({ code: "EACCES" });
    await expect(os.fs.stat("/etc/absent")).rejects.toMatchObject({ code: "EACCES" });
    await expect(os.fs.stat("/srv/absent")).rejects.toMatchObject({ code: "ENOENT" });
    await kernel.close();
  });

  test("a link does not lead around a right: its target is what is checked, and each hop", async () => {
    const kernel = await bootKernel();
    await kernel.os.fs.writeFile("/etc/secret", "x");
    await kernel.os.fs.link("/srv/door", "/etc/secret");
    const os = await processWith(kernel, ["fs.*:/srv/**"]);

    await expect(os.fs.read("/srv/door")).rejects.toMatchObject({ code: "EACCES", path: "/etc/secret" });
    await kernel.close();
  });

  test("writing a signal file needs the right to signal, not the right to write", async () => {
    const kernel = await bootKernel();
    const { program, context } = openProgram();
    const victim = await kernel.os.spawn(program);
    await context;
    const writer = await processWith(kernel, ["fs.*:/**"]);
    const killer = await processWith(kernel, [`fs.stat:/proc/**`, `proc.signal:/proc/${victim}`]);

    await expect(writer.fs.write(`/proc/${victim}/signal`, "KILL")).rejects.toMatchObject({
      code: "EACCES",
      syscall: "kill",
    });
    await killer.fs.write(`/proc/${victim}/signal`, "KILL");

    expect((await kernel.os.wait(victim)).signal).toBe("KILL");
    await kernel.close();
  });

  test("a denial is an event with the missing grant in it", async () => {
    const kernel = await bootKernel();
    const events = kernel.os.events({ names: ["capability.denied"] });
    const os = await processWith(kernel, []);
    await os.fs.stat("/srv/x").catch(() => undefined);

    const { value } = await events.next();

    expect(value?.data).toMatchObject({ missing: "fs.stat:/srv/x", syscall: "stat" });
    await kernel.close();
  });

  test("text that is no grant is refused with its form", () => {
    for (const text of ["", "FS.READ", "fs read", "allow:", "deny"]) {
      if (text === "deny") expect(parseGrant(text).right).toBe("deny");
      else expect(() => parseGrant(text)).toThrow(/EINVAL/);
    }
    for (const text of ["a.b:", 'a.b:""', "a.b; uses=", "a.b; uses=x", "a.b; arg.n<"])
      expect(() => parseGrant(text)).toThrow(/EINVAL/);
  });

  test("a text that was made of a grant is that grant; of limits of one kind all hold", () => {
    const canonical = (text: string): string => formatGrant(parseGrant(text));
    for (const text of ["tool.call:x; arg.a=", 'tool.call:x; arg.a=""', "deny net.connect:Example.COM:8080"])
      expect(canonical(canonical(text))).toBe(canonical(text));
    expect(parseGrant("net.connect:LocalHost").resource).toBe("localhost");
    expect(parseGrant("tool.call:x; arg.a=").where).toEqual([{ name: "a", op: "=", value: "" }]);
    expect(parseGrant("tool.call:x; uses=1; uses=3").uses).toBe(1);
    const until = ["2030-01-01T00:00:00Z", "2027-01-01T00:00:00Z"].map((at) => `; until=${at}`).join("");
    expect(parseGrant(`tool.call:x${until}`).expires).toBe(Date.parse("2027-01-01T00:00:00Z"));
  });
});

describe("a process", () => {
  test("that has ended can call nothing", async () => {
    const kernel = await bootKernel();
    const os = await processWith(kernel, ["*"]);
    await kernel.os.kill(toPid(os.pid), "KILL");

    await expect(os.fs.stat("/")).rejects.toMatchObject({ code: "ESRCH" });
    await kernel.close();
  });
});
