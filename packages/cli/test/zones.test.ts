// Zones: tenants of one data directory who know nothing of each other, and the default zone, which may look into them.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { type ErgOs, type KernelEvent, connect } from "ergos";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { BIN, environment, runErgos, useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();
let dir: string;
const opened: ErgOs[] = [];
const hosts: ChildProcess[] = [];
beforeEach(() => {
  dir = join(directory.path, ".ergos");
});
afterEach(async () => {
  for (const os of opened.splice(0)) await os.close();
  for (const host of hosts.splice(0)) await end(host);
});
async function open(zone?: string, more: object = {}): Promise<ErgOs> {
  const os = await connect({ dir, ...(zone === undefined ? {} : { zone }), ...more });
  opened.push(os);
  return os;
}
async function end(host: ChildProcess): Promise<void> {
  if (host.exitCode !== null || host.signalCode !== null) return;
  host.kill("SIGKILL");
  await once(host, "close");
}
async function up(): Promise<ChildProcess> {
  const host = spawn(process.execPath, [BIN, "up", "--zone", "acme"], {
    cwd: directory.path,
    env: environment(),
    stdio: ["ignore", "pipe", "inherit"],
  });
  hosts.push(host);
  await once(host.stdout, "data");
  return host;
}
const ergos = (...args: readonly string[]) => runErgos(args, { cwd: directory.path });

describe("a tenant, with all the rights that there are in its zone", () => {
  const secret = "the plan of acme";
  const large = new Uint8Array(100_000).fill(7);
  let acme: ErgOs;
  let beta: ErgOs;
  beforeEach(async () => {
    [acme, beta] = [await open("acme"), await open("beta")];
    await acme.fs.writeFile("/srv/plan", secret);
    await acme.fs.writeFile("/srv/large", large);
  });

  test.each([
    "/srv/plan",
    "/../acme/srv/plan",
    "/srv/../../zones/acme/srv/plan",
    "/zones/acme/srv/plan",
    "/sys/zones/acme",
    "/proc/../../acme/srv/plan",
    "/srv/%2e%2e/plan",
  ])("finds nothing of another under %s, nor by a link to it", async (path) => {
    await expect(beta.fs.read(path)).rejects.toMatchObject({ code: "ENOENT" });
    await beta.fs.mkdir("/srv").catch(() => undefined);
    await beta.fs.link("/srv/way", path);
    await expect(beta.fs.read("/srv/way")).rejects.toMatchObject({
      code: expect.stringMatching(/ENOENT|ELOOP/u) as unknown,
    });
  });

  test("sees of all zones its own alone, and so do its processes", async () => {
    expect(JSON.parse(await beta.fs.readText("/sys/zones.json"))).toMatchObject([{ name: "beta", state: "open" }]);
    expect(await beta.fs.stat("/sys/zones")).not.toHaveProperty("childCount");
    const found = await beta.run(async (_input: unknown, ctx) =>
      JSON.stringify([await ctx.os.fs.readdir("/"), await ctx.os.ps(), await ctx.os.fs.readText("/sys/mounts.json")]),
    );
    expect(found).not.toContain("acme");
  });

  test("does not reach content by its id, a process by its pid, nor a lock, a topic or a mailbox by its name", async () => {
    const id = await acme.content.write(large);
    await expect(beta.content.read(id)).rejects.toMatchObject({ code: "ENOENT" });
    const pid = await acme.spawn(async (_input: unknown, ctx) => ctx.sleep(60_000), { name: "victim" });
    await expect(beta.kill(pid)).rejects.toMatchObject({ code: "ESRCH" });
    await expect(beta.call("send", { to: pid, body: "hello" })).rejects.toMatchObject({ code: "ESRCH" });
    await using mine = await acme.lock("the-lock");
    await using theirs = await beta.lock("the-lock", { waitMs: 0 });
    expect([mine.fence, theirs.fence]).toEqual([1, 1]);
    const heard: KernelEvent[] = [];
    const listening = (async () => {
      for await (const event of beta.events()) {
        heard.push(event);
        if (event.name === "topic.published") break;
      }
    })();
    await acme.call("publish", { topic: "news", body: secret });
    await beta.call("publish", { topic: "own", body: "x" });
    await listening;
    expect(JSON.stringify(heard)).not.toContain(secret);
    await acme.kill(pid);
  });

  test("cannot log in with a pass of another zone, whatever that allows there", async () => {
    const { pass } = await acme.call("issuePass", { grants: ["*"] });
    await expect(acme.login(pass)).resolves.toBeDefined();
    await expect(beta.login(pass)).rejects.toMatchObject({ code: "EACCES" });
    await expect(connect({ dir, zone: "beta", pass })).rejects.toMatchObject({ code: "EACCES" });
  });

  test("cannot mount another, nor have zones of its own", async () => {
    await beta.close();
    const mounts = [{ at: "/srv/acme", zone: "acme", path: "/srv" }];
    await expect(connect({ dir, zone: "beta", mounts })).rejects.toMatchObject({ code: "EPERM" });
    await expect(connect({ dir: join(dir, "zones", "beta"), zone: "inner" })).rejects.toMatchObject({ code: "EINVAL" });
  });

  test("has accounts, a ledger, numbers and a trail of its own", async () => {
    await acme.run(async (_input: unknown, ctx) =>
      ctx.infer("summary", { messages: [{ role: "user", content: "x" }] }),
    );
    expect(await acme.call("ledger", {})).toHaveLength(1);
    expect(await beta.call("ledger", {})).toEqual([]);
    expect(await beta.run(async (_input: unknown, ctx) => ctx.pid)).toBe(2);
    expect(await acme.call("auditVerify", {})).not.toHaveProperty("fault");
    expect(await beta.call("auditVerify", {})).not.toHaveProperty("fault");
  });
});

test.each(["../x", "", "A", "a/b", ".", "x".repeat(64), "a b", "ä"])("%j is no name of a zone", async (zone) => {
  await expect(connect({ dir, zone })).rejects.toMatchObject({ code: "EINVAL" });
  await expect(connect({ zone: "x" })).rejects.toMatchObject({ code: "EINVAL" });
});

describe("a zone that the default one has mounted", () => {
  test("is read and, where it may be, written, with its generations and without what lies around it", async () => {
    const acme = await open("acme");
    await acme.fs.writeFile("/srv/a/b", "one");
    await acme.fs.writeFile("/home/private", "not shown");
    await acme.fs.link("/srv/inside", "a/b");
    await acme.fs.link("/srv/outside", "/home/private");
    await acme.fs.link("/srv/gap", "/home/none");
    await acme.fs.link("/srv/stop", "/proc/1/signal");
    const os = await open(undefined, {
      mounts: [
        { at: "/srv/acme", zone: "acme", path: "/srv" },
        { at: "/srv/open", zone: "acme", path: "/srv", writable: true },
      ],
    });
    expect(await os.fs.readText("/srv/acme/a/b")).toBe("one");
    expect(await os.fs.readText("/srv/acme/inside")).toBe("one");
    expect((await os.fs.readdir("/srv/acme")).map(({ name }) => name)).toContain("a");
    for (const hidden of ["outside", "stop", "gap", "none"])
      await expect(os.fs.read(`/srv/acme/${hidden}`)).rejects.toMatchObject({ code: "ENOENT" });
    await expect(os.fs.write("/srv/acme/a/b", "two")).rejects.toMatchObject({ code: "EROFS" });
    for (const hidden of ["outside", "gap", "stop"])
      await expect(os.fs.write(`/srv/open/${hidden}`, "KILL", { create: "maybe" })).rejects.toMatchObject({
        code: "ENOENT",
      });
    expect(await acme.fs.exists("/home/none")).toBe(false);
    expect(await acme.fs.readText("/home/private")).toBe("not shown");
    const { generation, zone } = await os.fs.stat("/srv/open/a/b");
    expect(zone).toBe("acme");
    await os.fs.write("/srv/open/a/b", "two", { ifGeneration: generation });
    await expect(os.fs.write("/srv/open/a/b", "three", { ifGeneration: generation })).rejects.toMatchObject({
      code: "ESTALE",
    });
    await os.fs.mkdir("/srv/open/c");
    await os.fs.write("/srv/open/c/new", "made", { create: "must" });
    await os.fs.rename("/srv/open/c/new", "/srv/open/c/old");
    await os.fs.unlink("/srv/open/outside");
    expect(await acme.fs.readText("/srv/c/old")).toBe("made");
    expect(await acme.fs.readText("/home/private")).toBe("not shown");
    expect(JSON.parse(await os.fs.readText("/sys/zones.json"))).toMatchObject([
      { name: "default" },
      { name: "acme", state: "open" },
    ]);
    await expect(
      connect({ dir: join(directory.path, "other"), mounts: [{ at: "/x", zone: "none", path: "/" }] }),
    ).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("is found again when its host has ended and another serves it", async () => {
    expect(ergos("write", "/srv/a", "one", "--zone", "acme").status).toBe(0);
    const first = await up();
    const os = await open(undefined, { mounts: [{ at: "/srv/acme", zone: "acme", path: "/srv" }] });
    expect(await os.fs.readText("/srv/acme/a")).toBe("one");
    await end(first);
    expect(ergos("write", "/srv/a", "two", "--zone", "acme").status).toBe(0);
    await up();
    expect(await os.fs.readText("/srv/acme/a")).toBe("two");
  });
});

test("zones are listed and removed, and an open one is not", async () => {
  expect(ergos("zone", "list")).toMatchObject({ status: 0, stdout: expect.stringContaining("no zones") as unknown });
  expect(ergos("write", "/srv/a", "x", "--zone", "acme").status).toBe(0);
  const host = await up();
  expect(JSON.parse(ergos("zone", "list", "--json").stdout)).toEqual([{ name: "acme", isOpen: true }]);
  expect(ergos("cat", "/srv/a", "--zone", "acme").stdout).toBe("x");
  expect(ergos("zone", "remove", "acme")).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("EBUSY") as unknown,
  });
  await end(host);
  expect(ergos("zone", "remove", "acme").status).toBe(0);
  expect(ergos("zone", "remove", "acme")).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("ENOENT") as unknown,
  });
  expect(ergos("ps", "--zone", "../../etc")).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("EINVAL") as unknown,
  });
});

test("a data directory in a folder that is called zones is none, and has zones", async () => {
  dir = join(directory.path, "zones", ".ergos");
  const root = await open();
  const acme = await open("acme");
  await acme.fs.writeFile("/srv/a", "x");
  await root.fs.writeFile("/srv/x", "x");
  expect((await acme.fs.stat("/srv/a")).zone).toBe("acme");
  expect((await root.fs.stat("/srv/x")).zone).toBe("default");
});
