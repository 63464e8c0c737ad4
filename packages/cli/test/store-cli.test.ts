// `ergos clean`, `ergos fsck` and the maintenance of `ergos up` as a user meets them.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { BIN, environment, runErgos, useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();
let cwd: string;
beforeEach(() => {
  cwd = directory.path;
  writeFileSync(
    join(cwd, "large.mjs"),
    `export default async (_input, ctx) => { await ctx.os.fs.write("/large", new Uint8Array(100_000).fill(7), { create: "maybe" }); return "x".repeat(100_000); };\n`,
  );
});
const hosts: ChildProcess[] = [];
afterEach(async () => {
  for (const host of hosts.splice(0))
    if (host.exitCode === null && host.signalCode === null) {
      host.kill("SIGKILL");
      await once(host, "close");
    }
});
/** A host that stays until it is told to stop, and not longer than its test. */
async function startHost(...args: readonly string[]): Promise<ChildProcess> {
  const up = spawn(process.execPath, [BIN, "up", ...args], {
    cwd,
    env: environment(),
    stdio: ["ignore", "pipe", "ignore"],
  });
  hosts.push(up);
  await once(up.stdout, "data");
  return up;
}
const ergos = (...args: readonly string[]) => runErgos(args, { cwd });
const json = (...args: readonly string[]): unknown => JSON.parse(ergos(...args, "--json").stdout);
const ended = (): readonly unknown[] => json("ps", "--all") as readonly unknown[];
const blobs = (): readonly string[] =>
  readdirSync(join(cwd, ".ergos/blobs"), { recursive: true, withFileTypes: true })
    .filter((one) => one.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));

test("old runs are deleted when they are old enough, and only then", () => {
  expect(ergos("run", "large.mjs").status).toBe(0);
  expect(ergos("run", "large.mjs").status).toBe(0);
  expect(json("clean")).toMatchObject({ pruned: { runs: 0 }, collected: { blobs: 0 } });
  expect(ergos("clean", "--older-than", "1ms", "--dry-run").stdout).toMatch(/^would delete 2 runs of 2 processes/u);
  expect(ended()).toHaveLength(2);
  expect(json("clean", "--older-than", "1ms", "--keep", "1")).toMatchObject({
    pruned: { runs: 1, processes: 1, newest: ["large-2"] },
  });
  expect(ended()).toMatchObject([{ pid: 3 }]);
  expect(ergos("wait", "2")).toMatchObject({ status: 1, stderr: expect.stringContaining("ESRCH") as unknown });
  expect(ergos("clean", "--older-than", "soon").status).toBe(2);
  expect(ergos("clean", "--keep", "-1").status).toBe(2);
});

test("calls of days long past are summed up when somebody asks for it", () => {
  writeFileSync(join(cwd, "asks.mjs"), "export default (_, ctx) => ctx.infer('ask', 'a question');\n");
  expect(ergos("run", "asks.mjs").status).toBe(0);
  // Today's calls stay.
  expect(json("clean", "--ledger", "0s")).toMatchObject({ rolledUp: 0 });
  expect(ergos("clean", "--ledger", "90d", "--dry-run").stdout).toContain("would sum up 0 calls by their days");
  expect(ergos("clean", "--ledger", "90")).toMatchObject({ status: 2 });
  expect(json("usage", "--by", "day")).toMatchObject([{ entries: 1 }]);
});

test("a damaged data directory is told by its records, and a whole one is whole", () => {
  expect(ergos("run", "large.mjs").status).toBe(0);
  const whole = ergos("fsck", "--contents");
  expect(whole).toMatchObject({ status: 0, stdout: expect.stringMatching(/all of it holds together/u) as unknown });
  const [pack = ""] = blobs();
  const bytes = readFileSync(pack);
  bytes[1000] = (bytes[1000] ?? 0) ^ 1;
  writeFileSync(pack, bytes);
  expect(ergos("fsck", "--contents")).toMatchObject({
    status: 1,
    stdout: expect.stringContaining("sha256-") as unknown,
  });
  rmSync(pack);
  const damaged = ergos("fsck", "--json");
  expect(damaged.status).toBe(1);
  const { problems } = JSON.parse(damaged.stdout) as { readonly problems: readonly { readonly what: string }[] };
  expect(problems.map(({ what }) => what).join()).toContain("is missing");
});

test("an audit trail whose pages cannot be read is told as a fault, not as a failure", () => {
  writeFileSync(
    join(cwd, "steps.mjs"),
    "export default async (_, ctx) => { for (let at = 0; at < 600; at++) await ctx.os.fs.write(`/tmp/${at % 7}`, `${at}`, { create: 'maybe' }); };\n",
  );
  expect(ergos("run", "steps.mjs").status).toBe(0);
  expect(ergos("audit", "verify").status).toBe(0);
  const store = new DatabaseSync(join(cwd, ".ergos/store.db"));
  const damaged = store
    .prepare(
      "UPDATE segments SET head = substr(head, 2) WHERE log = 'audit' AND first = (SELECT min(first) FROM segments WHERE log = 'audit')",
    )
    .run();
  store.close();
  expect(damaged.changes).toBe(1);
  const verified = ergos("audit", "verify", "--json");
  expect(verified.status).toBe(1);
  expect(JSON.parse(verified.stdout)).toMatchObject({
    fault: { what: "unreadable", record: expect.stringMatching(/^record 1 /u) as unknown },
  });
});

test("a host that stays deletes what ended long ago", async () => {
  expect(ergos("run", "large.mjs").status).toBe(0);
  const up = await startHost("--keep", "1ms");
  for (let tries = 0; tries < 100 && (ended() as readonly { readonly pid: number }[]).some(({ pid }) => pid === 2);)
    tries++;
  expect(json("ps", "--all")).toMatchObject([{ name: "service:maintenance", pid: 3 }]);
  expect(json("service", "call", "maintenance", "verify")).toMatchObject({ problems: [] });
  up.kill("SIGTERM");
  const [status] = (await once(up, "close")) as [number];
  expect(status).toBe(0);
});

test("a command runs while a lock is held, and others wait for it", async () => {
  const script = join(cwd, "job.mjs");
  writeFileSync(
    script,
    `import { appendFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
appendFileSync("order", "+" + process.env.ERGOS_FENCE); await setTimeout(150); appendFileSync("order", "-");
if (process.argv[2] === "fail") process.exitCode = 7;
`,
  );
  const run = (...words: readonly string[]) => {
    const child = spawn(process.execPath, [BIN, "lock", "run", "job", "--", process.execPath, script, ...words], {
      cwd,
      env: environment(),
      stdio: "ignore",
    });
    return once(child, "close") as Promise<[number]>;
  };
  const up = await startHost();
  const codes = (await Promise.all([run(), run("fail"), run()])).map(([code]) => code);
  expect(codes).toEqual([0, 7, 0]);
  expect(readFileSync(join(cwd, "order"), "utf8")).toBe("+1-+2-+3-");
  expect(ergos("lock").stdout).toContain("nobody holds a lock");
  expect(ergos("lock", "run", "job", "--", "no-such-command")).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("there is no command") as unknown,
  });
  expect(ergos("lock", "release", "job")).toMatchObject({ status: 1, stdout: "nobody holds job\n" });
  up.kill("SIGTERM");
  await once(up, "close");
});

test("a command under a lock serves others meanwhile, who end it only by force", async () => {
  const held = spawn(process.execPath, [BIN, "lock", "run", "job", "--", "sleep", "6"], { cwd, env: environment() });
  await vi.waitFor(() => expect(ergos("lock").stdout).toContain("job"), { timeout: 15_000, interval: 200 });
  expect(ergos("lock", "release", "job")).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/EPERM.*job is held by process 1.*--force/) as unknown,
  });
  expect(ergos("lock", "release", "job", "--force")).toMatchObject({ status: 0, stdout: "job is free\n" });
  // It was not alone to the end, whatever it came to.
  let said = "";
  held.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  expect(await once(held, "close")).toEqual([1, null]);
  expect(said).toMatch(/ESTALE.*the lock \S*job is lost/);
}, 60_000);

test("whoever ends the command ends what runs under its lock, and it is free", async () => {
  const script = join(cwd, "job.mjs");
  writeFileSync(
    script,
    `import { writeFileSync } from "node:fs";
process.on("SIGTERM", () => { writeFileSync("end", "told"); process.exit(3); });
setInterval(() => {}, 1000);
writeFileSync("begin", "");
`,
  );
  const held = spawn(process.execPath, [BIN, "lock", "run", "job", "--", process.execPath, script], {
    cwd,
    env: environment(),
    stdio: "ignore",
  });
  hosts.push(held);
  await vi.waitFor(() => readFileSync(join(cwd, "begin")), { timeout: 15_000, interval: 50 });
  held.kill("SIGTERM");
  expect(await once(held, "close")).toEqual([3, null]);
  expect(readFileSync(join(cwd, "end"), "utf8")).toBe("told");
  expect(ergos("lock").stdout).toContain("nobody holds a lock");
}, 60_000);

test("a shell works on the namespace, from a script, from what comes in, and as a tool", () => {
  const sh = (...args: readonly string[]) =>
    spawnSync(process.execPath, [BIN, "sh", ...args], {
      cwd,
      env: environment(),
      encoding: "utf8",
      input: "echo in; exit 4",
    });
  expect(sh("-c", "mkdir -p /home/a && cd /home/a && echo 1 > x && cat x - ")).toMatchObject({
    status: 0,
    stdout: "1\necho in; exit 4",
  });
  expect(sh("--cwd", "/home/a")).toMatchObject({ status: 4, stdout: "in\n" });
  expect(JSON.parse(sh("-c", "ls /home/a; nothing", "--json").stdout)).toMatchObject({ stdout: "x\n", exitCode: 127 });
  expect(json("exec", "/lib/tools/bash", '{"script":"cat /home/a/x"}')).toMatchObject({ stdout: "1\n" });
});
