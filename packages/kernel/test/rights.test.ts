import {
  Capability,
  KernelError,
  type Model,
  PROFILES,
  type Program,
  RIGHTS,
  SYSCALLS,
  formatGrant,
  parseGrant,
  parseGrants,
} from "@ergos/kernel";
import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { createPassAuthority, openKeys } from "@ergos/drivers/keys";
import { createOfflineModel } from "@ergos/drivers/model-offline";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bootKernel, openProgram, processWith } from "./kernel-fixture.ts";

const offline: Model = createOfflineModel();

describe("the grant language", () => {
  test("limits are read and written in one canonical form", () => {
    for (const [text, canonical] of [
      ["fs.read:/srv/**", "fs.read:/srv/**"],
      ["allow  fs.read", "fs.read"],
      ["ask tool.call:send_mail", "ask tool.call:send_mail"],
      [
        "tool.call:send;until=2027-01-01;uses=3;arg.to=*@example.com; arg.count <= 5",
        "tool.call:send; arg.count<=5; arg.to=*@example.com; uses=3; until=2027-01-01T00:00:00.000Z",
      ],
      ['fs.read:"/srv/a;b/**"', 'fs.read:"/srv/a;b/**"'],
      ['tool.call:x; arg.q="a; b"', 'tool.call:x; arg.q="a; b"'],
      ["deny *", "deny *"],
    ] as const) {
      expect(formatGrant(parseGrant(text))).toBe(canonical);
      expect(parseGrant(canonical)).toEqual(parseGrant(text));
    }
  });

  test.each([
    ["fs.read:/srv/../etc/**", "upwards"],
    ["fs.read:srv", "relative"],
    ["fs.read:/srv//a", "empty segment"],
    ["fs.read:/srv/", "trailing slash"],
    ["fs.read:/a; uses=-1", "negative"],
    ["fs.read:/a; uses=1.5", "fraction"],
    ["fs.read:/a; uses=NaN", "no number"],
    ["fs.read:/a; until=soon", "no instant"],
    ["fs.read:/a; arg.size<=big", "no number to compare with"],
    ["fs.read:/a; max=3", "unknown limit"],
    ["deny fs.read:/a; uses=3", "a denial with uses"],
    ["", "empty"],
    ["FS.READ", "upper case"],
  ])("%s is refused (%s)", (text) => {
    expect(() => parseGrant(text)).toThrow(/EINVAL/);
  });

  test("a right that does not exist is refused with those like it", () => {
    expect(() => parseGrants(["fs.wirte:/srv"])).toThrow(/fs\.write/);
    expect(() => parseGrants(["llmm"])).toThrow(/docs\/reference\/rights/);
  });

  test("every right of the table of system calls exists, and every profile is made of rights", () => {
    for (const row of Object.values(SYSCALLS)) expect(Object.keys(RIGHTS)).toContain(row.right);
    for (const name of Object.keys(PROFILES))
      expect(parseGrants([name.endsWith(":") ? `${name}x` : name]).length).toBeGreaterThan(0);
  });

  test("the names of other systems stand for rights, also with an effect", () => {
    expect(parseGrants(["llm", "tool:web_search", "deny secret", "ask file_write"]).map(formatGrant)).toEqual([
      "model.infer",
      "tool.call:web_search",
      "deny secret.read",
      "ask fs.write",
      "ask fs.exec",
    ]);
  });

  test.each(["/srv/../etc/passwd", "/srv/%2e%2e/etc", "/SRV/a", "/srｖ/a", "/srv\u200b/a", "/srvx"])(
    "a glob over /srv does not reach %s",
    async (path) => {
      const kernel = await bootKernel();
      await kernel.os.fs.writeFile("/etc/passwd", "secret");
      const os = await processWith(kernel, ["fs.*:/srv/**"]);

      // `%2e%2e` is a name like any other.
      if (path.startsWith("/srv/%")) await expect(os.fs.read(path)).rejects.toMatchObject({ code: "ENOENT" });
      else await expect(os.fs.read(path)).rejects.toMatchObject({ code: "EACCES" });
      await kernel.close();
    },
  );
});

describe("limits of grants", () => {
  test("a grant with conditions holds for the arguments that fit", async () => {
    const kernel = await bootKernel({
      tools: [{ name: "mail", description: "sends", inputSchema: {}, effect: "pure", call: () => "sent" }],
    });
    const os = await processWith(kernel, ["self", "tool.call:mail; arg.to=*@example.com; arg.count<=2"]);
    const mail = async (place: string, given: Readonly<Record<string, unknown>>): Promise<unknown> =>
      os.call("call", { place, tool: "mail", arguments: given });

    await expect(mail("1", { to: "a@example.com", count: 2 })).resolves.toBe("sent");
    await expect(mail("2", { to: "a@example.com", count: 3 })).rejects.toThrow(/does not hold for these arguments/);
    await expect(mail("3", { to: "a@evil.com", count: 1 })).rejects.toMatchObject({ code: "EACCES" });
    await expect(mail("4", {})).rejects.toMatchObject({ code: "EACCES" });
    await kernel.close();
  });

  test("expiry ends a right, for open handles too, and a clock that jumps back does not bring it back", async () => {
    let offset = 0;
    const platform = (await import("@ergos/drivers/platform-node")).createNodePlatform();
    const kernel = await bootKernel({
      platform: { ...platform, clock: { now: () => Date.now() + offset, monotonic: () => platform.clock.monotonic() } },
    });
    await kernel.os.fs.writeFile("/srv/a", "x");
    const os = await processWith(kernel, [
      "self",
      "fs.stat",
      `fs.read:/srv/**; until=${new Date(Date.now() + 3600_000).toISOString()}`,
    ]);
    const handle = await os.fs.open("/srv/a", ["read"]);
    await expect(os.fs.readText("/srv/a")).resolves.toBe("x");

    offset = 3601_000;

    await expect(os.fs.readText("/srv/a")).rejects.toThrow(/has expired/);
    await expect(handle.read()).rejects.toMatchObject({ code: "EACCES" });
    offset = -3600_000;
    await expect(os.fs.readText("/srv/a")).rejects.toMatchObject({ code: "EACCES" });
    await kernel.close();
  });

  test("uses are counted over every process that holds the grant, and over restarts", async () => {
    const store = new MemoryMetastore();
    const objects = new MemoryObjectStore();
    const kernel = await bootKernel({ store, objects });
    await kernel.os.fs.writeFile("/srv/a", "x");
    const parent = openProgram();
    await kernel.os.spawn(parent.program, { grants: ["self", "proc.spawn", "fs.read:/srv/**; uses=3"] });
    const { os } = await parent.context;
    const child = openProgram("child");
    await os.spawn(child.program);
    const below = (await child.context).os;

    await Promise.all([os.fs.read("/srv/a"), below.fs.read("/srv/a"), os.fs.read("/srv/a")]);

    await expect(below.fs.read("/srv/a")).rejects.toThrow(/is used up/);
    await expect(os.fs.read("/srv/a")).rejects.toMatchObject({ code: "EACCES" });
    expect(String((await store.get(`use/${os.pid}:6`))?.value)).toBe("3");
    await kernel.close();
  });

  test("of a hundred calls at once no more pass than there are uses", async () => {
    const kernel = await bootKernel();
    await kernel.os.fs.writeFile("/srv/a", "x");
    const os = await processWith(kernel, ["fs.read:/srv/**; uses=7"]);

    const results = await Promise.allSettled(Array.from({ length: 100 }, () => os.fs.read("/srv/a")));

    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(7);
    await kernel.close();
  });
});

describe("grants and revocations at run time", () => {
  test("what is revoked is gone at once, for descendants and for open handles", async () => {
    const kernel = await bootKernel();
    await kernel.os.fs.writeFile("/srv/a", "x");
    const parent = openProgram();
    await kernel.os.spawn(parent.program, { grants: ["self", "proc.spawn", "fs.*:/srv/**"] });
    const { os } = await parent.context;
    const child = openProgram("child");
    await os.spawn(child.program, { grants: ["self", "fs.*"] });
    const below = (await child.context).os;
    const handle = await below.fs.open("/srv/a", ["read"]);
    await expect(below.fs.readText("/srv/a")).resolves.toBe("x");

    await kernel.os.call("revoke", { id: `${os.pid}:6` });
    const layers = await kernel.os.call("caps", { pid: os.pid });

    expect(layers[0]?.grants.map(({ grant }) => grant)).not.toContain("fs.*:/srv/**");
    await expect(below.fs.readText("/srv/a")).rejects.toMatchObject({ code: "EACCES" });
    await expect(handle.read()).rejects.toMatchObject({ code: "EACCES" });
    await expect(kernel.os.call("revoke", { id: `${os.pid}:6` })).rejects.toMatchObject({ code: "ENOENT" });
    await kernel.close();
  });

  test("a grant reaches a running process, and not beyond what its ancestors may", async () => {
    const kernel = await bootKernel();
    for (const path of ["/srv/a", "/etc/a"]) await kernel.os.fs.writeFile(path, "x");
    const parent = openProgram();
    await kernel.os.spawn(parent.program, { grants: ["self", "proc.spawn", "fs.*:/srv/**"] });
    const child = openProgram("child");
    await (await parent.context).os.spawn(child.program, { grants: ["self"] });
    const { os } = await child.context;
    await expect(os.fs.read("/srv/a")).rejects.toMatchObject({ code: "EACCES" });

    await kernel.os.call("grant", { pid: os.pid, grants: ["fs.read:/**"] });

    await expect(os.fs.readText("/srv/a")).resolves.toBe("x");
    await expect(os.fs.read("/etc/a")).rejects.toMatchObject({ code: "EACCES" });
    await kernel.close();
  });

  test("a granter cannot give what it does not have, and what it loses its grants lose too", async () => {
    const kernel = await bootKernel();
    for (const path of ["/srv/a", "/etc/a"]) await kernel.os.fs.writeFile(path, "x");
    const victim = await processWith(kernel, ["self"]);
    const granter = await processWith(kernel, ["self", "cap.grant", "fs.read:/srv/**"]);

    await granter.call("grant", { pid: victim.pid, grants: ["fs.read:/**"] });

    await expect(victim.fs.readText("/srv/a")).resolves.toBe("x");
    await expect(victim.fs.read("/etc/a")).rejects.toThrow(/may not do it itself/);
    const own = (await kernel.os.call("caps", { pid: granter.pid }))[0]?.grants.find(({ grant }) =>
      grant.startsWith("fs.read"),
    );
    await kernel.os.call("revoke", { id: own?.id ?? "" });
    await expect(victim.fs.read("/srv/a")).rejects.toMatchObject({ code: "EACCES" });
    await kernel.close();
  });

  test("grants over a circle of granters allow nothing", async () => {
    const kernel = await bootKernel();
    await kernel.os.fs.writeFile("/srv/a", "x");
    const [one, two] = [
      await processWith(kernel, ["self", "cap.grant"]),
      await processWith(kernel, ["self", "cap.grant"]),
    ];

    await one.call("grant", { pid: two.pid, grants: ["fs.read"] });
    await two.call("grant", { pid: one.pid, grants: ["fs.read"] });

    await expect(one.fs.read("/srv/a")).rejects.toMatchObject({ code: "EACCES" });
    await expect(two.fs.read("/srv/a")).rejects.toMatchObject({ code: "EACCES" });
    await kernel.close();
  });

  test("nobody narrows or widens what belongs to another user", async () => {
    const keys = openKeys();
    const kernel = await bootKernel({ passes: (issuer) => createPassAuthority(keys, issuer) });
    const mine = openProgram("mine");
    const pid = await kernel.os.spawn(mine.program, { grants: ["*"] });
    const { pass } = await kernel.os.call("issuePass", { user: "ann", grants: ["cap.*", "proc.*", "fs.*"] });
    const ann = (await kernel.login(pass)).os;
    for (const grants of [["deny fs.read"], ["fs.read"]])
      await expect(ann.call("grant", { pid, grants })).rejects.toThrow(/EPERM.*belongs to owner/);
    await expect(ann.call("revoke", { id: `${pid}:1` })).rejects.toThrow(/EPERM.*belongs to owner/);
    await (await mine.context).os.fs.writeFile("/srv/still", "allowed");
    await kernel.close();
  });

  test("a watcher of a wide glob hears of what it may watch", async () => {
    const kernel = await bootKernel();
    for (const path of ["/srv/a", "/srv/b"]) await kernel.os.fs.mkdir(path);
    const os = await processWith(kernel, ["fs.stat", "fs.watch:/srv/**", "deny fs.watch:/srv/b/**"]);
    const watched = os.fs.watch("/srv/**");
    const next = watched.next();
    await kernel.os.fs.writeFile("/srv/b/secret", "x");
    await kernel.os.fs.writeFile("/srv/a/open", "x");
    expect((await next).value?.data["path"]).toBe("/srv/a/open");
    await kernel.close();
  });

  test("a stored rule that cannot be read forbids, and the rest is there", async () => {
    const store = new MemoryMetastore();
    const objects = new MemoryObjectStore();
    const kernel = await bootKernel({ store, objects });
    const { program } = openProgram("narrow");
    const pid = await kernel.os.spawn(program, { grants: ["self", "tool.call:x; arg.a="] });
    const layer = await store.get(`cap/${pid}`);
    expect(String(layer?.value)).toContain("arg.a");
    const unreadable = String(layer?.value).replace("tool.call:x;", "tool.call:x; nonsense;");
    await store.commit({ puts: [{ key: `cap/${pid}`, value: unreadable }] });
    const again = await bootKernel({ store: await copyOf(store), objects });
    const revived = await again.host.processes.recall(pid);
    expect(revived?.capability.allows("proc.step", "/proc/2")).toBe(false);
    await again.os.call("grant", { pid, grants: ["fs.read"] }).catch(() => undefined);
    expect(String((await again.host.store.get(`cap/${pid}`))?.value)).toContain("nonsense");
    await again.close();
  });

  test("a process that was never narrowed can be, with all that is below it, and stays so after a restart", async () => {
    const store = new MemoryMetastore();
    const objects = new MemoryObjectStore();
    const kernel = await bootKernel({ store, objects });
    await kernel.os.fs.writeFile("/etc/a", "x");
    const parent = openProgram("parent");
    await kernel.os.spawn(parent.program);
    const child = openProgram("child");
    const pid = await (await parent.context).os.spawn(child.program, { grants: ["self", "fs.*"] });
    const { os } = await child.context;

    await kernel.os.call("grant", { pid: (await parent.context).pid, grants: ["deny fs.*:/etc/**"] });

    await expect(os.fs.read("/etc/a")).rejects.toThrow(/deny fs\.\*/);
    const free = openProgram("free");
    const unnarrowed = await kernel.os.spawn(free.program);
    await expect(kernel.os.call("grant", { pid: unnarrowed, grants: ["fs.read"] })).rejects.toMatchObject({
      code: "EINVAL",
    });
    await expect(kernel.os.call("grant", { pid: 1 as never, grants: ["deny fs.*"] })).rejects.toMatchObject({
      code: "EPERM",
    });
    const ids = kernel.host.processes.get(pid)?.capability.layers.map(({ id }) => id);
    const again = await bootKernel({ store: await copyOf(store), objects });
    const revived = await again.host.processes.recall(pid);
    expect(revived?.capability.layers.map(({ id }) => id)).toEqual(ids);
    expect(revived?.capability.allows("fs.read", "/etc/a")).toBe(false);
    expect(revived?.capability.allows("fs.read", "/srv/a")).toBe(true);
    await again.close();
    await kernel.close();
  });

  test("why says what each layer thinks, and names the grant that is missing", async () => {
    const kernel = await bootKernel();
    const os = await processWith(kernel, ["self", "fs.read:/srv/**", "deny fs.read:/srv/secret/**"]);

    const allowed = await kernel.os.call("why", { pid: os.pid, right: "fs.read", resource: "/srv/a" });
    const denied = await kernel.os.call("why", { pid: os.pid, right: "fs.read", resource: "/srv/secret/a" });
    const missing = await kernel.os.call("why", { pid: os.pid, right: "net.connect", resource: "example.com" });

    expect(allowed).toMatchObject({ effect: "allow", layers: [{ grant: "fs.read:/srv/**" }] });
    expect(denied).toMatchObject({ effect: "deny", layers: [{ grant: "deny fs.read:/srv/secret/**" }] });
    expect(missing).toMatchObject({ effect: "deny", missing: "net.connect:example.com" });
    await kernel.close();
  });
});

describe("ask", () => {
  const answered = async (kernel: Awaited<ReturnType<typeof bootKernel>>): Promise<number> => {
    for (;;) {
      const [first] = await kernel.os.call("asks", {});
      if (first !== undefined) return first.id;
      await new Promise((go) => setTimeout(go, 1));
    }
  };

  test("a call waits for a person, and goes on or is refused", async () => {
    const kernel = await bootKernel();
    const os = await processWith(kernel, ["self", "fs.stat", "ask fs.write:/srv/**"]);

    const first = os.fs.writeFile("/srv/a", "one");
    const id = await answered(kernel);
    expect((await kernel.os.ps({ pids: [os.pid] }))[0]).toMatchObject({ state: "waiting", channel: `ask ${id}` });
    await expect((async () => os.call("answer", { id, verdict: "allow" }))()).rejects.toMatchObject({ code: "EACCES" });
    await kernel.os.call("answer", { id, verdict: "allow" });
    await first;
    const second = os.fs.writeFile("/srv/a", "two");
    await kernel.os.call("answer", { id: await answered(kernel), verdict: "deny", why: "not today" });

    await expect(second).rejects.toThrow(/not today/);
    expect(await kernel.os.fs.readText("/srv/a")).toBe("one");
    await kernel.close();
  });

  test("an answer may put other arguments in their place, which are checked again", async () => {
    const kernel = await bootKernel();
    await kernel.os.fs.writeFile("/etc/a", "x");
    const os = await processWith(kernel, ["self", "fs.stat", "ask fs.write:/srv/**"]);

    const write = os.fs.writeFile("/srv/prod", "bytes");
    await kernel.os.call("answer", { id: await answered(kernel), verdict: "edit", value: { path: "/srv/staging" } });
    await write;
    const outside = os.fs.writeFile("/srv/prod", "bytes");
    await kernel.os.call("answer", { id: await answered(kernel), verdict: "edit", value: { path: "/etc/a" } });

    await expect(outside).rejects.toMatchObject({ code: "EACCES" });
    expect(await kernel.os.fs.readText("/srv/staging")).toBe("bytes");
    expect(await kernel.os.fs.exists("/srv/prod")).toBe(false);
    await kernel.close();
  });

  test("an edit that cannot be what was asked is refused, and the question stays", async () => {
    const kernel = await bootKernel({
      models: [createOfflineModel()],
      tools: [
        {
          name: "note",
          description: "notes",
          inputSchema: { type: "object", properties: { to: { type: "string" }, text: { type: "string" } } },
          effect: "idempotent",
          call: (args) => args,
        },
      ],
    });
    const edit = async (id: number, value: unknown): Promise<void> =>
      kernel.os.call("answer", { id, verdict: "edit", value });
    const writer = await processWith(kernel, ["self", "fs.stat", "ask fs.write:/srv/**"]);
    const write = writer.fs.writeFile("/srv/prod", "bytes");
    const id = await answered(kernel);
    await expect(edit(id, { pth: "/srv/x" })).rejects.toMatchObject({ code: "EINVAL" });
    await edit(id, { path: "/srv/x" });
    await write;

    const caller = await processWith(kernel, ["self", "ask tool.call:note"]);
    const call = caller.call("call", { place: "n", tool: "note", arguments: { to: "all", text: "hi" } });
    await edit(await answered(kernel), { to: "me" });
    expect(await call).toEqual({ to: "me", text: "hi" });

    const { program, context } = openProgram();
    await kernel.os.spawn(program, { budget: { modelCalls: 0 }, limits: { onLimit: "ask" } });
    const answer = (await context).os.infer("a", { messages: [{ role: "user", content: "hi" }] });
    const budget = await answered(kernel);
    for (const value of [{ calls: 5 }, { modelCalls: -3 }, { costMicros: 5 }])
      await expect(edit(budget, value)).rejects.toMatchObject({ code: "EINVAL" });
    await edit(budget, { modelCalls: 2 });
    expect((await answer).text).toBeTypeOf("string");
    await kernel.close();
  });

  test("a right that is revoked while a person thinks stays revoked", async () => {
    const kernel = await bootKernel();
    const os = await processWith(kernel, ["self", "fs.stat", "ask fs.write:/srv/**"]);

    const write = os.fs.writeFile("/srv/a", "bytes");
    const id = await answered(kernel);
    await kernel.os.call("revoke", { id: `${os.pid}:6` });
    await kernel.os.call("answer", { id, verdict: "allow" });

    await expect(write).rejects.toMatchObject({ code: "EACCES" });
    await kernel.close();
  });

  test("a question outlives its host, and its answer is found by the resumed process", async () => {
    const store = new MemoryMetastore();
    const objects = new MemoryObjectStore();
    const program: Program = {
      name: "asker",
      revision: "1",
      kind: "function",
      run: (context) => context.os.infer("answer", { messages: [{ role: "user", content: "hello" }] }),
    };
    const kernel = await bootKernel({ store, objects, programs: [program] });
    const pid = await kernel.os.spawn("asker", { grants: ["self", "ask model.infer"] });
    const id = await answered(kernel);
    const next = await bootKernel({
      store: await copyOf(store),
      objects,
      programs: [program],
      models: [offline],
    });

    expect(await next.os.call("asks", {})).toMatchObject([{ id, pid }]);
    await next.os.call("answer", { id, verdict: "allow" });
    await next.os.resume(pid);

    expect((await next.os.wait(pid)).code).toBe(0);
    expect(await next.os.call("asks", {})).toEqual([]);
    await next.close();
    await kernel.close();
  });

  test("the questions of a process end with it", async () => {
    const kernel = await bootKernel();
    const os = await processWith(kernel, ["self", "fs.stat", "ask fs.write"]);
    const write = os.fs.writeFile("/srv/a", "x");
    const id = await answered(kernel);

    await kernel.os.kill(os.pid, "KILL");

    await expect(write).rejects.toMatchObject({ code: "ECANCELED" });
    await expect(kernel.os.call("answer", { id, verdict: "allow" })).rejects.toMatchObject({ code: "ENOENT" });
    await kernel.close();
  });

  test("a program asks a question, with choices, and its answer is recorded", async () => {
    const kernel = await bootKernel();
    const os = await processWith(kernel, ["self"]);

    const asked = os.call("ask", { place: "q", question: "left or right?", choices: ["left", "right"] });
    const id = await answered(kernel);
    await expect(kernel.os.call("answer", { id, verdict: "reply", value: "up" })).rejects.toMatchObject({
      code: "EINVAL",
    });
    await expect(kernel.os.call("answer", { id, verdict: "allow" })).rejects.toMatchObject({ code: "EINVAL" });
    await kernel.os.call("answer", { id, verdict: "reply", value: "left" });

    expect(await asked).toBe("left");
    await kernel.close();
  });
});

describe("rights never widen", () => {
  const RESOURCES = ["/a", "/a/b", "/a/b/c", "/d"] as const;
  const CALLS = ["fs.read", "fs.write"] as const;

  /** An evaluator that shares nothing with the kernel's: sets of plain triples, walked each time. */
  interface Reference {
    readonly parent: Reference | undefined;
    own: { right: string; glob: string; deny: boolean; by: Reference | undefined; id: number }[] | undefined;
  }
  const covers = (glob: string, resource: string): boolean =>
    glob === "**" ||
    (glob.endsWith("/**")
      ? resource === glob.slice(0, -3) || resource.startsWith(glob.slice(0, -2))
      : glob === resource);
  const may = (holder: Reference, right: string, resource: string, seen: readonly Reference[] = []): boolean => {
    if (seen.includes(holder)) return false;
    if (holder.parent !== undefined && !may(holder.parent, right, resource, seen)) return false;
    if (holder.own === undefined) return true;
    const matching = holder.own.filter(
      (rule) => (rule.right === right || rule.right === "fs.*" || rule.right === "*") && covers(rule.glob, resource),
    );
    if (matching.some((rule) => rule.deny)) return false;
    return matching.some((rule) => rule.by === undefined || may(rule.by, right, resource, [...seen, holder]));
  };

  const grantOf = fc.record({
    right: fc.constantFrom("fs.read", "fs.write", "fs.*", "*"),
    glob: fc.constantFrom("**", "/a/**", "/a/b/**", "/a/b", "/d"),
    deny: fc.boolean(),
  });
  const action = fc.oneof(
    fc.record({
      do: fc.constant("spawn" as const),
      at: fc.nat(),
      grants: fc.option(fc.array(grantOf, { maxLength: 3 }), { nil: undefined }),
    }),
    fc.record({ do: fc.constant("grant" as const), at: fc.nat(), by: fc.nat(), grant: grantOf }),
    fc.record({ do: fc.constant("revoke" as const), at: fc.nat(), rule: fc.nat() }),
  );
  const textOf = ({ right, glob, deny }: { right: string; glob: string; deny: boolean }): string =>
    `${deny ? "deny " : ""}${right}${glob === "**" ? "" : `:${glob}`}`;

  test("no order of spawns, grants and revocations gives what an independent evaluator denies", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 25 }), async (actions) => {
        const kernel = await bootKernel();
        const processes: { reference: Reference; context: Awaited<ReturnType<typeof openProgram>["context"]> }[] = [];
        const start = async (
          parent: (typeof processes)[number] | undefined,
          grants: readonly { right: string; glob: string; deny: boolean }[] | undefined,
        ) => {
          const { program, context } = openProgram();
          const by = parent?.context.pid;
          const owner = by === undefined ? kernel.host.owner : kernel.host.processes.get(by);
          if (owner === undefined) throw new KernelError("ESRCH", "gone");
          await kernel.host.processes.spawn(
            owner,
            program,
            grants === undefined ? {} : { grants: grants.map((one) => parseGrant(textOf(one))), durable: false },
          );
          processes.push({
            context: await context,
            reference: {
              parent: parent?.reference,
              own: grants?.map((one, at) => ({ ...one, by: undefined, id: at + 1 })),
            },
          });
        };
        await start(undefined, [{ right: "fs.*", glob: "/a/**", deny: false }]);
        await start(undefined, undefined);
        for (const step of actions) {
          const chosen = processes[step.at % processes.length];
          if (chosen === undefined) continue;
          const { pid } = chosen.context;
          if (step.do === "spawn") await start(chosen, step.grants);
          else if (step.do === "grant") {
            const granter = processes[step.by % processes.length];
            const process = kernel.host.processes.get(pid);
            const layer = process?.capability.layers.find(({ id }) => id === String(pid));
            const holder = granter === undefined ? undefined : kernel.host.processes.get(granter.context.pid);
            if (layer === undefined || holder === undefined || chosen.reference.own === undefined) continue;
            const [id = ""] = await kernel.host.layers.grant(
              layer,
              [parseGrant(textOf(step.grant))],
              holder.capability.isAll ? undefined : holder,
            );
            chosen.reference.own.push({
              ...step.grant,
              by: step.grant.deny || holder.capability.isAll ? undefined : granter?.reference,
              id: Number(id.split(":")[1]),
            });
          } else {
            const own = chosen.reference.own ?? [];
            const rule = own[step.rule % Math.max(1, own.length)];
            if (rule === undefined) continue;
            await kernel.host.layers.revoke(`${pid}:${rule.id}`);
            own.splice(own.indexOf(rule), 1);
          }
          for (const { context, reference } of processes) {
            const capability = kernel.host.processes.get(context.pid)?.capability;
            for (const right of CALLS)
              for (const resource of RESOURCES)
                expect([right, resource, capability?.decide(right, resource, {}).effect === "allow"]).toEqual([
                  right,
                  resource,
                  may(reference, right, resource),
                ]);
          }
        }
        await kernel.close();
      }),
      { numRuns: 60 },
    );
  }, 60_000);

  test("ten thousand grants are found as few are", () => {
    const many = Array.from({ length: 1000 }, (_, at) => parseGrant(`fs.read:/srv/${at}/**`));
    const capability = Capability.of(many);

    expect(capability.allows("fs.read", "/srv/999/x/y")).toBe(true);
    expect(capability.allows("fs.read", "/srv/1000/x")).toBe(false);
    expect(capability.allows("fs.read", "/srv")).toBe(false);
  });
});

/** What another host would find in the store. */
async function copyOf(store: MemoryMetastore): Promise<MemoryMetastore> {
  const copy = new MemoryMetastore();
  for (const record of await store.tail(0 as never, { limit: 100_000 }))
    await copy.commit({ puts: record.puts, deletes: record.deletes, appends: record.appends });
  return copy;
}
