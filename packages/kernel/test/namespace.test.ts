// The namespace as a whole: what is promised is there, everything is listed by its parent, and whatever is listed can be
// asked what it is and read.

import { type Kernel, isKernelError } from "@ergos/kernel";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bootKernel, openProgram } from "./kernel-fixture.ts";

let kernel: Kernel;
let pid: number;
beforeAll(async () => {
  kernel = await bootKernel({ programs: [openProgram("named").program] });
  const { os } = kernel;
  pid = await os.spawn({ name: "x", revision: "1", kind: "function", run: () => 1 });
  await os.wait(pid as never);
  await os.fs.writeFile("/srv/data/file", "text");
  await os.call("lock", { path: "held", ttlMs: 60_000 });
  await os.call("schedule", { name: "s", everyMs: 3_600_000, action: { spawn: { program: "named" } } });
  await os.call("submit", { queue: "q", body: 1 });
});
afterAll(() => kernel.close());

const names = (at: string, ...below: readonly string[]): readonly string[] =>
  below.flatMap((list) => list.split(" ")).map((name) => `${at}/${name}`);

test("what is promised is there, and listed by its parent", async () => {
  const { fs } = kernel.os;
  const promised = [
    ...names(`/proc/${pid}`, "status cmdline caps budget usage mailbox journal children fd result signal artifacts"),
    ...names(`/proc/runs/x-${pid}`, "status info events result cancel artifacts"),
    ...names("/proc", "self entities runs scheduled"),
    ...names("/dev", "model ports null zero random"),
    ...names("/lib", "agents drivers tools services adapters libs"),
    ...names("/etc", "pipelines policies config"),
    ...names("/etc/config", "host limits"),
    ...names(
      "/sys",
      "version config mounts zones locks services sched groups faults errors events audit caps hosts memory",
    ),
    ...names("", "__sys__ proc dev lib etc sys srv home tmp"),
    "/home/owner",
    "/srv/queues",
    "/sys/locks/held",
    "/lib/agents/named",
    "/srv/queues/q/submit",
  ];
  for (const path of promised) {
    expect(await fs.stat(path, { noFollow: true }), path).toMatchObject({ type: expect.any(String) as unknown });
    const parent = path.slice(0, path.lastIndexOf("/")) || "/";
    const listed = (await fs.readdir(parent)).map(({ name }) => name);
    expect(listed, path).toContain(path.slice(path.lastIndexOf("/") + 1));
  }
});

test("what is virtual says what can be done with it, how much is in it, and what it is found by", async () => {
  const { fs } = kernel.os;
  expect(await fs.stat(`/proc/${pid}`)).toMatchObject({
    entityType: "process",
    capabilities: ["list"],
    tags: { program: "x", user: "owner" },
  });
  const { length } = await fs.readdir(`/proc/${pid}`);
  expect((await fs.stat(`/proc/${pid}`)).childCount).toBe(length);
  expect((await fs.stat("/lib/agents")).childCount).toBe((await fs.readdir("/lib/agents")).length);
  expect(await fs.stat("/lib/agents/named")).toMatchObject({
    capabilities: ["read", "exec"],
    tags: { kind: "function", runtime: "inline", revision: "1" },
  });
  expect(await fs.stat(`/proc/${pid}/signal`)).toMatchObject({ capabilities: ["read", "write", "exec"] });
  expect(await fs.stat("/dev/model/offline")).toMatchObject({ tags: { effect: "pure" } });
  // Nobody reads a journal through to say how long it is.
  expect(await fs.stat(`/proc/${pid}/journal`)).not.toHaveProperty("childCount");
});

test("whatever is listed can be asked what it is, and read as text and as JSON", async () => {
  const { fs } = kernel.os;
  let files = 0;
  const visit = async (at: string, depth: number): Promise<void> => {
    const entries = await fs.readdir(at);
    expect(new Set(entries.map(({ name }) => name)).size, at).toBe(entries.length);
    for (const { name, type } of entries) {
      const path = `${at === "/" ? "" : at}/${name}`;
      const stat = await fs.stat(path, { noFollow: true });
      expect(stat.type, path).toBe(path === "/__sys__" ? "link" : type);
      if (stat.type === "directory" && depth < 6) await visit(path, depth + 1);
      if (stat.type !== "file") continue;
      files++;
      // What can only be invoked has no content, and says so.
      const text = await fs.readText(path).catch((error: unknown) => {
        expect([path, stat.exec !== undefined, isKernelError(error) && error.code]).toEqual([path, true, "ENOTSUP"]);
        return undefined;
      });
      if (text === undefined || stat.size !== undefined || path.startsWith("/dev/")) continue;
      const json = await fs.readText(`${path}.json`).catch(() => undefined);
      if (json !== undefined) expect(() => JSON.parse(json) as unknown, path).not.toThrow();
    }
  };
  await visit("/", 0);
  expect(files).toBeGreaterThan(60);
});

test("older names lead to the newer, with the rights of those", async () => {
  const { fs } = kernel.os;
  expect(await fs.readText("/__sys__/version")).toBe(await fs.readText("/sys/version"));
  expect((await fs.readdir("/lib/libs")).length).toBe((await fs.readdir("/lib/services")).length);
  expect(await fs.stat("/lib/adapters/metastore")).toMatchObject({ path: "/lib/drivers/metastore" });
  const { program, context } = openProgram("narrow");
  await kernel.os.spawn(program, { grants: ["fs.*:/__sys__/**", "fs.*:/__sys__"] });
  const { os } = await context;
  await expect(os.fs.readText("/__sys__/version")).rejects.toMatchObject({ code: "EACCES" });
  const spawned = await kernel.os.spawn("/lib/agents/named");
  expect((await kernel.os.ps({ pids: [spawned] }))[0]).toMatchObject({ name: "named" });
});

test("directories that nobody made are there, hold what is made in them, and stay", async () => {
  const { fs } = kernel.os;
  expect(await fs.readdir("/tmp")).toEqual([]);
  await fs.writeFile("/tmp/a", "1");
  await fs.writeFile("/home/owner/deep/b", "2");
  expect((await fs.readdir("/tmp")).map(({ name }) => name)).toEqual(["a"]);
  await fs.unlink("/tmp", { recursive: true });
  expect(await fs.readdir("/tmp")).toEqual([]);
  expect(await fs.readText("/home/owner/deep/b")).toBe("2");
});
