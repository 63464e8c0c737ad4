// `ergos schedule`, `ergos trigger`, `ergos queue` and `ergos up` as a user types them, with a host that is killed in between.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { BIN, environment, runErgos, useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();
let cwd: string;
let host: ChildProcess | undefined;
beforeEach(() => {
  cwd = directory.path;
  writeFileSync(
    join(cwd, "job.mjs"),
    `import { appendFileSync } from "node:fs";
export default (input, ctx) => ctx.step("run", () => appendFileSync(input.file, ctx.pid + "\\n"));
`,
  );
});
afterEach(() => host?.kill("SIGKILL"));

const ergos = (...args: readonly string[]) => runErgos(args, { cwd });
const json = (...args: readonly string[]): unknown => JSON.parse(ergos(...args, "--json").stdout);
function up(): { readonly child: ChildProcess; readonly output: () => string } {
  const child = spawn(process.execPath, [BIN, "up"], { cwd, env: environment(), stdio: ["ignore", "pipe", "pipe"] });
  host = child;
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (piece: Buffer) => (text += piece.toString()));
  return { child, output: () => text };
}
const lines = (): readonly string[] =>
  existsSync(join(cwd, "ran")) ? readFileSync(join(cwd, "ran"), "utf8").trim().split("\n") : [];
async function until(isSo: () => boolean): Promise<void> {
  for (let tries = 0; tries < 2000 && !isSo(); tries++) await delay(5);
}

test("a schedule acts while a host is up, not while it is down, and goes on with the next", async () => {
  const add = ["schedule", "add", "job.mjs", "--input", `file=${join(cwd, "ran")}`];
  expect(ergos(...add, "--every", "100ms", "--name", "often", "--missed", "skip")).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/schedule 1 acts next at .*ergos up/) as unknown,
  });
  await delay(250);
  // Nobody who only looks does anything.
  expect(ergos("schedule").stdout).toMatch(/often +every 100ms/);
  expect(lines()).toEqual([]);

  const first = up();
  await until(() => lines().length >= 3);
  expect(ergos("schedule", "add", "job.mjs", "--in", "1h").stdout).toContain("schedule 2");
  first.child.kill("SIGKILL");
  await once(first.child, "close");
  expect(first.output()).toMatch(/up over .*: 0 runs go on, 1 schedules, the first next at/);
  expect(first.output()).toMatch(/schedule\.fired 1 often spawn process \d+/);
  const ran = lines().length;

  const second = up();
  await until(() => lines().length >= ran + 2);
  expect(ergos("schedule", "pause", "often").stdout).toContain("is paused");
  expect(ergos("schedule").stdout).toMatch(/often .* \d{4}-\d\d-\d\dT[\d:.]+Z -> \d+$/m);
  await delay(150);
  const paused = lines().length;
  await delay(250);
  expect(lines()).toHaveLength(paused);
  expect(ergos("up")).toMatchObject({ status: 1, stderr: expect.stringContaining("EBUSY") as unknown });
  expect(json("schedule", "list")).toMatchObject([
    { id: 1, isPaused: true },
    { id: 2, runs: 0 },
  ]);
  expect(ergos("schedule", "remove", "often").status).toBe(0);
  second.child.kill("SIGTERM");
  const [status] = (await once(second.child, "close")) as [number];
  expect([status, new Set(lines()).size]).toEqual([0, lines().length]);
});

test("what cannot be scheduled is told before anything is kept", () => {
  const add = (...more: readonly string[]) => ergos("schedule", "add", "job.mjs", ...more);
  expect(add("--cron", "61 * * * *")).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("minute") as unknown,
  });
  expect(add("--cron", "0 7 * * *", "--timezone", "Mars/Base").stderr).toContain("Europe/Berlin");
  expect(add().stderr).toContain("one of --cron");
  for (const wrong of [
    [],
    ["--every", "soon"],
    ["--every", "1"],
    ["--at", "tomorrow"],
    ["--in", "1h", "--times", "0"],
    ["--in", "1h", "--missed", "no"],
  ])
    expect(add(...wrong).status).toBe(2);
  expect(ergos("schedule", "add", "nothing.mjs", "--in", "1h").stderr).toContain("nothing.mjs does not exist");
  expect(ergos("schedule", "remove", "nightly").stderr).toContain("there is no schedule nightly");
  expect(ergos("schedule", "dance").status).toBe(2);
  expect(json("schedule")).toEqual([]);
});

test("a run starts when another completes, and when something is published, also while no host was up", async () => {
  writeFileSync(
    join(cwd, "seen.mjs"),
    `import { appendFileSync } from "node:fs";
export default (input, ctx) =>
  ctx.step("run", () => appendFileSync(${JSON.stringify(join(cwd, "ran"))}, input.topic + " " + JSON.stringify(input.body.name ?? input.body) + "\\n"));
`,
  );
  writeFileSync(join(cwd, "first.mjs"), "export default () => 1;\n");
  expect(
    ergos("trigger", "add", "process.completed", "seen.mjs", "--where", "name=first", "--name", "after"),
  ).toMatchObject({
    status: 0,
    stdout: expect.stringContaining("trigger 1 acts on process.completed") as unknown,
  });
  expect(ergos("trigger", "add", "orders.*", "seen.mjs").status).toBe(0);
  expect(ergos("publish", "orders.created", '{"number":7}').stdout).toBe("published orders.created\n");
  expect(ergos("run", "first.mjs").status).toBe(0);
  // Its own run has ended, and with it the host that could have started what follows.
  const first = up();
  await until(() => lines().length >= 2);
  expect(ergos("publish", "orders.paid", "8")).toMatchObject({ status: 0, stderr: "" });
  await until(() => lines().length >= 3);
  first.child.kill("SIGTERM");
  await once(first.child, "close");

  expect(lines().toSorted()).toEqual(['orders.created {"number":7}', "orders.paid 8", 'process.completed "first"']);
  expect(json("trigger", "list")).toMatchObject([
    { name: "after", runs: 1 },
    { topic: "orders.*", runs: 2 },
  ]);
  expect(ergos("trigger", "remove", "after").status).toBe(0);
  expect(ergos("trigger", "remove", "after").stderr).toContain("there is no trigger after");
  expect(ergos("publish", "process.completed").stderr).toContain("EINVAL");
  expect(ergos("publish", "orders.x", "{").status).toBe(2);
  expect(ergos("trigger", "add", "a b", "seen.mjs").stderr).toContain("no pattern");
}, 60_000);

test("tasks of queues are submitted, listed, done by a run, cancelled and resubmitted", () => {
  writeFileSync(
    join(cwd, "worker.mjs"),
    `export default (_input, ctx) => ctx.work("sums", ({ a, b }) => a + b, { idleMs: 50 });\n`,
  );
  expect(ergos("queue", "submit", "sums", '{"a":1,"b":2}', "--key", "first").stdout).toBe("task 1 waits in sums\n");
  expect(json("queue", "submit", "sums", '{"a":1,"b":2}', "--key", "first")).toEqual({ id: 1, queue: "sums" });
  expect(ergos("queue", "submit", "sums", '{"a":5,"b":5}', "--priority", "high").status).toBe(0);
  expect(ergos("queue", "cancel", "2").stdout).toBe("task 2 is cancelled\n");
  expect(json("run", "worker.mjs")).toMatchObject({ code: 0, result: 1 });
  expect(json("queue", "list", "sums")).toMatchObject([
    { id: 1, state: "completed", result: 3 },
    { id: 2, state: "cancelled" },
  ]);
  expect(ergos("queue", "resubmit", "2").status).toBe(0);
  expect(ergos("queue", "list", "--state", "pending").stdout).toMatch(/2 +sums +pending/);
  expect(json("run", "worker.mjs")).toMatchObject({ result: 1 });
  expect(JSON.parse(ergos("cat", "/srv/queues/sums/2").stdout)).toMatchObject({ state: "completed", result: 10 });
  for (const wrong of [
    ["submit", "sums", "{"],
    ["submit", "sums", "1", "--priority", "huge"],
    ["cancel", "one"],
    ["list", "--state", "gone"],
    ["dance"],
  ])
    expect(ergos("queue", ...wrong).status).toBe(2);
  expect(ergos("queue", "cancel", "99").stderr).toContain("there is no task 99");
});

test("errors are grouped and shown whole, and an alert is told when they are too many", () => {
  writeFileSync(
    join(cwd, "bad.mjs"),
    "export default (input) => { throw new Error('order ' + input.n + ' is bad'); };\n",
  );
  expect(ergos("errors")).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("there is no data in") as unknown,
  });
  expect(existsSync(join(cwd, ".ergos"))).toBe(false);
  ergos("ls");
  expect(ergos("errors").stdout).toContain("nothing has failed lately");
  for (const n of [1, 2]) ergos("run", "bad.mjs", "--input", `n=${n}`);
  const [group] = json("errors") as readonly { readonly id: string; readonly count: number }[];
  expect(group).toMatchObject({ count: 2, program: "bad" });
  expect(ergos("errors", group?.id ?? "").stdout).toMatch(
    /order 2 is bad[\s\S]*2 times in bad[\s\S]*newest processes: 3, 2/,
  );
  expect(ergos("errors", "zzz").status).toBe(1);
  expect(ergos("alerts").stdout).toContain("no alerts");
  expect(ergos("trigger", "add", "process.failed", "job.mjs", "--count", "2", "--within", "10m").status).toBe(0);
  expect(ergos("alerts").stdout).toMatch(/process\.failed +2 in 10/);
  expect(ergos("trigger", "add", "process.failed", "job.mjs", "--count", "2").status).toBe(2);
});

test("what is started by the clock is bounded as a run is", async () => {
  writeFileSync(join(cwd, "asks.mjs"), "export default async (input, ctx) => (await ctx.infer('a', 'hello')).text;\n");
  const bounded = ["asks.mjs", "--limit", "calls=0", "--cap", "llm", "--ref", "night/1"];
  expect(ergos("schedule", "add", ...bounded, "--in", "1ms").status).toBe(0);
  expect(ergos("trigger", "add", "orders.*", ...bounded).status).toBe(0);
  expect(ergos("schedule", "add", "asks.mjs", "--in", "1h", "--limit", "calls=many").status).toBe(2);

  const { output } = up();
  await until(() => output().includes("process.failed"));
  expect(ergos("publish", "orders.new", "1").status).toBe(0);
  await until(() => output().split("process.failed").length > 2);
  const failed = { ref: "night/1", status: "failed" };
  expect(json("ps", "--all", "--ref", "night/1")).toMatchObject([failed, failed]);
  expect(ergos("errors").stdout).toMatch(/EDQUOT/);
});

test("a host that is up says which runs cannot go on, and why", async () => {
  writeFileSync(join(cwd, "asks.mjs"), `export default (_input, ctx) => ctx.ask("go", "Shall it?");\n`);
  const run = spawn(process.execPath, [BIN, "run", "asks.mjs"], {
    cwd,
    env: environment(),
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  run.stderr.on("data", (piece: Buffer) => (said += piece.toString()));
  await until(() => said.includes("Shall it?"));
  run.kill("SIGKILL");
  await once(run, "close");
  writeFileSync(join(cwd, "asks.mjs"), "export default (");
  const { output } = up();
  await until(() => output().includes("cannot go on"));

  expect(output()).toMatch(/process 2 cannot go on and sleeps: .*asks\.mjs.*ergos resume 2/);
});
