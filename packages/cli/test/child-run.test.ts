// A program in a process of its own, as a user runs it: its host killed, and resumed.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { beforeEach, expect, test } from "vitest";
import { BIN, environment, runErgos, useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();
let cwd: string;
beforeEach(() => {
  cwd = directory.path;
});

const AGENT = `import { appendFileSync } from "node:fs";
export default async (input, ctx) => {
  await ctx.log("child " + process.pid);
  for (let at = 0; at < 6; at++) {
    await ctx.step("step " + at, () => appendFileSync(input.file, at + "\\n"));
    await ctx.os.flush();
    await ctx.sleep(at < 3 && !input.fast ? 20 : 100);
  }
  return "done";
};
`;

/** Whether a process of the machine runs: nobody may have reaped one that has ended. */
function isRunning(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

test("a child dies with its host, and goes on with the next one where it was", async () => {
  const file = join(cwd, "effects");
  writeFileSync(join(cwd, "agent.mjs"), AGENT);
  const args = ["run", "agent.mjs", "--runtime", "process", "--input", `file=${file}`];
  const host = spawn(process.execPath, [BIN, ...args], { cwd, env: environment(), stdio: "ignore" });
  const lines = (): number => (existsSync(file) ? readFileSync(file, "utf8").split("\n").length - 1 : 0);
  for (let tries = 0; tries < 1000 && lines() < 4; tries++) await delay(5);
  host.kill("SIGKILL");
  await once(host, "close");
  await delay(50);
  const log = runErgos(["cat", "/proc/2/log"], { cwd }).stdout;
  const child = Number(/child (\d+)/.exec(log)?.[1]);
  const isThere = isRunning(child);
  const resumed = runErgos(["resume", "--json"], { cwd });

  expect([child > 0, isThere]).toEqual([true, false]);
  expect(resumed).toMatchObject({ status: 0, stdout: expect.stringContaining('"done"') as unknown });
  // What was flushed is not done again; the step that the death cut off may be.
  const effects = readFileSync(file, "utf8").trim().split("\n").map(Number);
  expect(effects.slice(0, 3)).toEqual([0, 1, 2]);
  expect(new Set(effects)).toEqual(new Set([0, 1, 2, 3, 4, 5]));
  expect(effects.length).toBeLessThanOrEqual(7);
});

test("a program runs in a thread of its own", () => {
  const file = join(cwd, "effects");
  writeFileSync(join(cwd, "agent.mjs"), AGENT);
  const run = runErgos(["run", "agent.mjs", "--runtime", "worker", "--input", `file=${file}`, "--json"], { cwd });
  expect(run.stderr).toBe("");
  expect(JSON.parse(run.stdout)).toMatchObject({ code: 0, result: "done" });
});

test("a manifest, and a runtime that nobody knows, are refused", () => {
  writeFileSync(
    join(cwd, "p.yaml"),
    "apiVersion: ergos/v1\nkind: Pipeline\nmetadata: { name: p }\nspec: { nodes: [] }\n",
  );

  expect(runErgos(["run", "p.yaml", "--runtime", "process"], { cwd }).status).toBe(1);
  expect(runErgos(["run", "p.yaml", "--runtime", "moon"], { cwd }).status).toBe(2);
});

const BRANCH = `import { appendFileSync, existsSync, writeFileSync } from "node:fs";
export const worker = async ({ file, number }, ctx) => {
  for (let at = 0; at < 4; at++) {
    await ctx.step("step " + at, () => appendFileSync(file, number + "." + at + "\\n"));
    await ctx.sleep(60);
  }
  const mark = file + number;
  if (number === 2 && !existsSync(mark)) {
    writeFileSync(mark, "");
    process.kill(process.pid, "SIGKILL");
  }
  return number * number;
};
export default async ({ file }, ctx) => {
  const pids = [];
  for (const number of [1, 2, 3]) {
    const options = { input: { file, number }, restart: { policy: "on-failure", delayMs: 10 } };
    pids.push(await ctx.spawn("worker " + number, { export: "worker", runtime: "process" }, options));
  }
  return Promise.all(pids.map((pid) => ctx.wait("of " + pid, pid)));
};
`;

test("a branch of children goes on with the next host, and the one that is killed is restarted", async () => {
  const file = join(cwd, "effects");
  writeFileSync(join(cwd, "branch.mjs"), BRANCH);
  const host = spawn(process.execPath, [BIN, "run", "branch.mjs", "--input", `file=${file}`], {
    cwd,
    env: environment(),
    stdio: "ignore",
  });
  const lines = (): readonly string[] => (existsSync(file) ? readFileSync(file, "utf8").trim().split("\n") : []);
  for (let tries = 0; tries < 1000 && lines().length < 6; tries++) await delay(5);
  host.kill("SIGKILL");
  await once(host, "close");
  const resumed = runErgos(["resume", "2", "--json"], { cwd });

  expect(resumed.stderr).toBe("");
  expect(JSON.parse(resumed.stdout)).toMatchObject({ pid: 2, code: 0, result: [1, 4, 9] });
  const effects = lines();
  const wanted = [1, 2, 3].flatMap((number) => [0, 1, 2, 3].map((at) => `${number}.${at}`));
  expect([...new Set(effects)].sort()).toEqual(wanted);
  // Each step that the death cut off may be done again.
  expect(effects.length).toBeLessThanOrEqual(wanted.length + 3);
  const children = JSON.parse(runErgos(["ps", "--all", "--json"], { cwd }).stdout) as readonly object[];
  expect(children).toMatchObject([{ pid: 2 }, { pid: 3, ppid: 2 }, { pid: 4, ppid: 2 }, { pid: 5, ppid: 2 }]);
  expect(runErgos(["logs", "4", "--events"], { cwd }).stdout).toMatch(/restart: .*SIGKILL/);
  expect(runErgos(["wait", "2", "4", "--json"], { cwd })).toMatchObject({
    status: 0,
    stdout: expect.stringContaining("[1,4,9]") as unknown,
  });
});

test("signals have names, and what sleeps is not waited for", async () => {
  writeFileSync(join(cwd, "agent.mjs"), AGENT);
  const args = ["run", "agent.mjs", "--input", `file=${join(cwd, "effects")}`, "--restart", "always"];
  const host = spawn(process.execPath, [BIN, ...args], { cwd, env: environment(), stdio: "ignore" });
  for (let tries = 0; tries < 1000 && !existsSync(join(cwd, "effects")); tries++) await delay(5);
  expect(runErgos(["signal", "hup", "2"], { cwd })).toMatchObject({ status: 0, stdout: "HUP sent to 2\n" });
  expect(runErgos(["signal", "PING", "2"], { cwd }).status).toBe(2);
  host.kill("SIGKILL");
  await once(host, "close");

  expect(runErgos(["wait", "2"], { cwd })).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("ergos resume 2") as unknown,
  });
  expect(runErgos(["kill", "2"], { cwd }).status).toBe(0);
  expect(runErgos(["wait", "2"], { cwd })).toMatchObject({ status: 143, stdout: "agent-2 ended by TERM\n" });
  expect(runErgos(["run", "agent.mjs", "--restart", "sometimes"], { cwd }).status).toBe(2);
});

test("runs are found by how they ended, by what they are about, by name and by when they lived", () => {
  writeFileSync(join(cwd, "good.mjs"), "export default () => 1;\n");
  writeFileSync(join(cwd, "bad.mjs"), "export default () => { throw new Error('no'); };\n");
  runErgos(["run", "good.mjs", "--ref", "order/7"], { cwd });
  runErgos(["run", "bad.mjs", "--ref", "order/7"], { cwd });
  const between = new Date().toISOString();
  runErgos(["run", "good.mjs", "--name", "other"], { cwd });
  const names = (...args: readonly string[]): readonly string[] =>
    (JSON.parse(runErgos(["ps", ...args, "--json"], { cwd }).stdout) as readonly { readonly name: string }[]).map(
      ({ name }) => name,
    );
  expect(names("--ref", "order/7")).toEqual(["good", "bad"]);
  expect(names("--status", "failed")).toEqual(["bad"]);
  expect(names("--status", "failed", "--status", "completed", "--sort", "name")).toEqual(["bad", "good", "other"]);
  expect(names("--program", "good", "--before", "3")).toEqual(["good"]);
  expect(names("--all", "--limit", "1")).toEqual(["other"]);
  expect(names("--since", between)).toEqual(["other"]);
  expect(names("--until", between)).toEqual(["good", "bad"]);
  expect(names("--since", "1h", "--status", "completed")).toEqual(["good", "other"]);
  expect(names("--until", "1h")).toEqual([]);
  for (const wrong of ["--since=yesterday", "--until=5", "--limit=100000"])
    expect([wrong, runErgos(["ps", wrong], { cwd }).status]).toEqual([wrong, 2]);
  expect(runErgos(["ps", "--status", "gone"], { cwd }).status).toBe(2);
  expect(runErgos(["ps", "--sort", "colour"], { cwd }).status).toBe(2);
});

test("what a child has started ends with the host too, also what has left its group", async () => {
  writeFileSync(
    join(cwd, "forks.mjs"),
    `import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
export default async (input, ctx) => {
  const kids = [spawn("sleep", ["600"], { stdio: "ignore" }), spawn("sleep", ["600"], { stdio: "ignore", detached: true })];
  writeFileSync(input.file, kids.map(({ pid }) => pid).join(" "));
  await ctx.sleep(60000);
};
`,
  );
  const file = join(cwd, "kids");
  const args = ["run", "forks.mjs", "--runtime", "process", "--input", `file=${file}`];
  const host = spawn(process.execPath, [BIN, ...args], { cwd, env: environment(), stdio: "ignore" });
  await expect.poll(() => existsSync(file) && readFileSync(file, "utf8").includes(" "), { timeout: 10_000 }).toBe(true);
  const kids = readFileSync(file, "utf8").split(" ").map(Number);
  expect(kids.map(isRunning)).toEqual([true, true]);
  host.kill("SIGKILL");
  await once(host, "close");
  await expect.poll(() => kids.map(isRunning), { timeout: 10_000 }).toEqual([false, false]);
});

test.each(["inline", "worker", "process"])("an answer of a model is heard in any runtime: %s", (runtime) => {
  const body = `const heard = []; const { text } = await ctx.infer("a", "hello", { onText: (piece) => heard.push(piece) }); return heard.join("") === text && text !== "";`;
  writeFileSync(join(cwd, "hears.mjs"), `export default async (_input, ctx) => { ${body} };\n`);
  const { stdout } = runErgos(["run", "hears.mjs", "--runtime", runtime, "--json"], { cwd });
  expect(JSON.parse(stdout)).toMatchObject({ code: 0, result: true });
});

test("a run is held to the heap, the processor time and the time that it is given", () => {
  writeFileSync(
    join(cwd, "hungry.mjs"),
    "export default () => { const all = []; for (;;) all.push({ text: `${all.length} words` }); };\n",
  );
  writeFileSync(join(cwd, "busy.mjs"), "export default () => { for (;;); };\n");
  writeFileSync(join(cwd, "slow.mjs"), "export default (input, ctx) => ctx.sleep(60_000);\n");
  const run = (...args: string[]) => runErgos(["run", ...args], { cwd });

  expect(run("hungry.mjs", "--runtime", "worker", "--memory", "32").stderr).toMatch(/heap of 32 MiB/);
  expect(run("busy.mjs", "--runtime", "process", "--cpu-time", "1s").stderr).toMatch(/processor time of 1000 ms/);
  expect(run("slow.mjs", "--time", "50ms").stderr).toMatch(/ETIMEDOUT.*50 ms that its limits give it/);
  expect(run("slow.mjs", "--memory", "32")).toMatchObject({
    status: 2,
    stderr: expect.stringMatching(/--runtime/) as string,
  });
  expect(run("slow.mjs", "--runtime", "worker", "--memory", "7").status).toBe(2);
});
