// Going on after the death of a host, with processes below processes; and what passes let a run do.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { BIN, environment, runErgos, useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();
let cwd: string;
beforeEach(() => {
  cwd = directory.path;
  writeFileSync(
    join(cwd, "two.ts"),
    `import { existsSync, readFileSync, writeFileSync } from "node:fs";
export const kid = async (_input: unknown, ctx: any) => {
  writeFileSync(${JSON.stringify(join(cwd, "started"))}, "");
  while (!existsSync(${JSON.stringify(join(cwd, "later"))})) await new Promise((go) => setTimeout(go, 20));
  return "kid";
};
export default async (_input: unknown, ctx: any) => {
  const pid = await ctx.spawn("k", { export: "kid" });
  return "parent of " + (await ctx.wait("end", pid));
};
`,
  );
});

/** Runs until the child has begun, and kills the host. */
async function killed(): Promise<void> {
  const run = spawn(process.execPath, [BIN, "run", "two.ts"], { cwd, env: environment(), stdio: "ignore" });
  await expect.poll(() => existsSync(join(cwd, "started")), { timeout: 10_000 }).toBe(true);
  run.kill("SIGKILL");
  await once(run, "exit");
  writeFileSync(join(cwd, "later"), "");
}

test("resume goes on with a run and with what that has started", async () => {
  await killed();
  const { status, stdout } = runErgos(["resume", "--json"], { cwd });
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ pid: 2, result: "parent of kid" });
});

test.each(["inline", "worker", "process"])("of a changed plan what has changed is done again, in %s", (runtime) => {
  const plan = (a: string, b: string): void =>
    writeFileSync(
      join(cwd, "plan.ts"),
      `import { pipeline } from "ergos";
import { appendFileSync } from "node:fs";
export const nightly = pipeline("nightly")
  .node("kept", () => { appendFileSync(${JSON.stringify(join(cwd, "done"))}, "kept "); return 1; })
  .node("a", { needs: ["kept"] }, () => ${a})
  .node("b", { needs: ["a"] }, ({ a }: { a: number }) => { ${b} })
  .output("b");
`,
    );
  plan("1", "throw new Error('not yet')");
  mkdirSync(join(cwd, "node_modules"));
  symlinkSync(join(import.meta.dirname, ".."), join(cwd, "node_modules/ergos"));
  const failed = runErgos(["run", "plan.ts", "--pipeline", "nightly", "--runtime", runtime], { cwd });
  expect(failed.status).toBe(1);
  plan("100", "return a + 1");
  const { status, stdout, stderr } = runErgos(["resume", "2", "--json"], { cwd });
  expect([status, stderr]).toEqual([0, ""]);
  expect(JSON.parse(stdout)).toMatchObject({ result: 101 });
  expect(readFileSync(join(cwd, "done"), "utf8")).toBe("kept ");
});

test("run --resume goes on with the run and not with a part of it", async () => {
  await killed();
  const { status, stdout } = runErgos(["run", "two.ts", "--resume", "--json"], { cwd });
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ pid: 2, result: "parent of kid" });
});

test("a run with a pass has the rights of that, and one with a wrong pass does not begin", () => {
  writeFileSync(
    join(cwd, "writes.ts"),
    `export default async (_input: unknown, ctx: any) => { await ctx.os.fs.writeFile("/home/evil", "x"); };\n`,
  );
  const pass = runErgos(["pass", "issue", "--cap", "read", "--cap", "proc.*", "--cap", "kernel.module"], { cwd });
  const env = { ERGOS_PASS: pass.stdout.trim() };
  const refused = runErgos(["run", "writes.ts"], { cwd, env });
  expect(refused.status).toBe(1);
  expect(refused.stderr).toContain("EACCES");
  expect(runErgos(["stat", "/home/evil"], { cwd }).status).toBe(1);
  expect(runErgos(["run", "writes.ts"], { cwd, env: { ERGOS_PASS: "garbage" } }).stderr).toContain("EACCES");
  expect(runErgos(["run", "writes.ts"], { cwd }).status).toBe(0);
});

test("what an inline program prints is not the answer of --json", () => {
  writeFileSync(join(cwd, "prints.ts"), `export default () => { console.log("hello"); return 1; };\n`);
  const { stdout, stderr } = runErgos(["run", "prints.ts", "--json"], { cwd });
  expect(JSON.parse(stdout)).toMatchObject({ result: 1 });
  expect(stderr).toContain("hello");
});

test("an input comes from a file, or from what is piped in, however long", () => {
  writeFileSync(join(cwd, "long.ts"), "export default ({ text }: { text: string }) => text.length;\n");
  const input = JSON.stringify({ text: "x".repeat(300_000) });
  writeFileSync(join(cwd, "input.json"), input);
  const args = ["run", "long.ts", "--json", "--input-json"];
  expect(JSON.parse(runErgos([...args, "@input.json"], { cwd }).stdout)).toMatchObject({ result: 300_000 });
  const piped = spawnSync(process.execPath, [BIN, ...args, "-"], { cwd, env: environment(), input, encoding: "utf8" });
  expect(JSON.parse(piped.stdout)).toMatchObject({ result: 300_000 });
  expect(runErgos([...args, "@none.json"], { cwd })).toMatchObject({
    status: 2,
    stdout: expect.stringContaining("--input-json cannot read none.json: ENOENT") as unknown,
  });
  expect(runErgos([...args, "@long.ts"], { cwd })).toMatchObject({
    status: 2,
    stdout: expect.stringContaining("takes a JSON object: as text, @file, or -") as unknown,
  });
});

test("who starts what is there already, with another input, is told so", () => {
  const ergos = (...args: readonly string[]) => runErgos(args, { cwd });
  writeFileSync(join(cwd, "given.ts"), "export default ({ n }: { n: number }) => n;\n");
  expect(ergos("run", "given.ts", "--input", "n=3", "--key", "k").stdout).not.toContain("before");
  const again = ergos("run", "given.ts", "--input", "n=4", "--key", "k");
  expect(again.stdout).toMatch(/given-2 was started under this key before\n[^]*\n3\n$/);
  expect(again.stderr).toContain("given-2 has the input that it was started with, and not this one");
  expect(ergos("run", "given.ts", "--input", "n=3", "--key", "k")).toMatchObject({ status: 0, stderr: "" });
});

test.each([
  ["SIGINT", 130],
  ["SIGHUP", 129],
] as const)("a run that is interrupted by %s says what has become of it, as JSON too", async (signal, expected) => {
  const args = [BIN, "run", "two.ts", "--json"];
  const run = spawn(process.execPath, args, { cwd, env: environment(), stdio: ["ignore", "pipe", "ignore"] });
  let said = "";
  run.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
  await expect.poll(() => existsSync(join(cwd, "started")), { timeout: 10_000 }).toBe(true);
  run.kill(signal);
  const [status] = (await once(run, "close")) as [number];
  expect([status, JSON.parse(said)]).toEqual([expected, { pid: 2, state: "sleeping" }]);
});

test("of many that sleep those go on that can; of the others it is said why, and what would let them", async () => {
  const ergos = (...args: readonly string[]) => runErgos(args, { cwd });
  const waits = (name: string): string => `import { existsSync, writeFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
export default (_input, ctx) => ctx.step("waits", async () => {
  writeFileSync("${name}", "");
  while (!existsSync("go")) await setTimeout(20);
}, { interruptible: true });
`;
  const runs = [];
  for (const name of ["gone", "stays"]) {
    writeFileSync(join(cwd, `${name}.mjs`), waits(name));
    runs.push(spawn(process.execPath, [BIN, "run", `${name}.mjs`], { cwd, env: environment(), stdio: "ignore" }));
    await expect.poll(() => existsSync(join(cwd, name)), { timeout: 10_000 }).toBe(true);
  }
  const ends = runs.map((run) => once(run, "close"));
  for (const run of runs) run.kill("SIGKILL");
  await Promise.all(ends);
  renameSync(join(cwd, "gone.mjs"), join(cwd, "moved.mjs"));
  writeFileSync(join(cwd, "go"), "");
  const resumed = ergos("resume");
  expect(resumed).toMatchObject({ status: 1, stdout: expect.stringMatching(/stays-3 completed/) as unknown });
  expect(resumed.stderr).toMatch(/gone-2 sleeps on: .*gone\.mjs.*ergos upgrade 2 FILE/);
  expect(ergos("upgrade", "2", "moved.mjs").status).toBe(0);
  expect(ergos("resume")).toMatchObject({ status: 0, stdout: expect.stringMatching(/gone-2 completed/) as unknown });
});

test("a terminal that is closed ends a host once, however often that is told", async () => {
  writeFileSync(
    join(cwd, "works.ts"),
    `import { setTimeout } from "node:timers/promises";
import { writeFileSync } from "node:fs";
export default (_input: unknown, ctx: any) =>
  ctx.step("works", async () => { writeFileSync("begun", ""); await setTimeout(700); writeFileSync("done", ""); });
`,
  );
  const run = spawn(process.execPath, [BIN, "run", "works.ts"], { cwd, env: environment(), stdio: "ignore" });
  await expect.poll(() => existsSync(join(cwd, "begun")), { timeout: 10_000 }).toBe(true);
  for (let times = 0; times < 3; times++) run.kill("SIGHUP");
  expect(await once(run, "close")).toEqual([129, null]);
  expect(existsSync(join(cwd, "done"))).toBe(true);
});

test("a host that ends answers until what is under way has ended, and a run that was stopped says so", async () => {
  writeFileSync(
    join(cwd, "slow.ts"),
    `import { setTimeout } from "node:timers/promises";
import { writeFileSync } from "node:fs";
export default async (_input: unknown, ctx: any) => {
  await ctx.step("slow", async () => { writeFileSync("begun", ""); await setTimeout(3000); });
  await ctx.sleep(60_000);
};
`,
  );
  const run = spawn(process.execPath, [BIN, "run", "slow.ts"], { cwd, env: environment(), stdio: "ignore" });
  await expect.poll(() => existsSync(join(cwd, "begun")), { timeout: 10_000 }).toBe(true);
  run.kill("SIGINT");
  expect(runErgos(["ps"], { cwd })).toMatchObject({ status: 0, stdout: expect.stringContaining("slow-2") as unknown });
  expect(runErgos(["kill", "2", "--signal", "STOP"], { cwd }).status).toBe(0);
  await once(run, "close");
  expect(runErgos(["ps"], { cwd }).stdout).toMatch(/slow-2 .* stopped$/m);

  const again = spawn(process.execPath, [BIN, "resume", "2"], {
    cwd,
    env: environment(),
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  again.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  await expect.poll(() => said, { timeout: 10_000 }).toContain("goes on with: ergos signal CONT 2");
  again.kill("SIGINT");
  await once(again, "close");
});

test.each(["inline", "worker", "process"])(
  "attempts before the death of a host count after it, in %s",
  async (runtime) => {
    const tried = join(cwd, "tried");
    writeFileSync(
      join(cwd, "dial.ts"),
      `import { appendFileSync } from "node:fs";
export default (_input: unknown, ctx: any) => ctx.step("dial", ({ attempt }: any) => {
  appendFileSync(${JSON.stringify(tried)}, attempt + " ");
  throw new Error("nobody is there");
}, { retry: { attempts: 2, delayMs: 1500 } });
`,
    );
    const args = [BIN, "run", "dial.ts", "--runtime", runtime];
    const run = spawn(process.execPath, args, { cwd, env: environment(), stdio: "ignore" });
    await expect.poll(() => runErgos(["ps"], { cwd }).stdout, { timeout: 10_000 }).toContain("attempt 2 of 2 of dial");
    run.kill("SIGKILL");
    await once(run, "exit");
    expect(runErgos(["resume"], { cwd })).toMatchObject({ status: 1 });
    expect(readFileSync(tried, "utf8")).toBe("1 2 ");
  },
);

test("a run that waits for more budget says what it lacks, and how it gets that", async () => {
  writeFileSync(
    join(cwd, "asks.ts"),
    `export default async (_input: unknown, ctx: any) => { for (const at of [1, 2]) await ctx.infer("ask" + at, "question"); };\n`,
  );
  const args = [BIN, "run", "asks.ts", "--limit", "calls=1", "--on-limit", "suspend"];
  const run = spawn(process.execPath, args, { cwd, env: environment(), stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  run.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const add = /asks-2 waits: its budget of modelCalls is used up. Add to it with: ergos (budget 2 --add modelCalls=)N/;
  await expect.poll(() => add.exec(said)?.[1], { timeout: 10_000 }).toBeDefined();
  const [listed] = JSON.parse(runErgos(["ps", "--json"], { cwd }).stdout) as { readonly lacks?: string }[];
  expect(listed).toMatchObject({ channel: "budget of modelCalls", lacks: "modelCalls" });
  expect(runErgos(["budget", "2", "--add", "modelCalls=1"], { cwd }).status).toBe(0);
  expect(await once(run, "close")).toEqual([0, null]);
});

test("a run that has completed is done again from a step on", () => {
  writeFileSync(
    join(cwd, "three.ts"),
    `import { appendFileSync } from "node:fs";
export default async (_input: unknown, ctx: any) => {
  for (const name of ["one", "two", "three"]) await ctx.step(name, () => appendFileSync("did", name + " "));
};
`,
  );
  const ergos = (...args: string[]) => runErgos(args, { cwd });
  expect(ergos("run", "three.ts").status).toBe(0);
  expect(ergos("resume", "2").stdout).toContain("has completed; nothing is left to do");
  expect(ergos("resume", "2", "--from", "two").status).toBe(0);
  expect(readFileSync(join(cwd, "did"), "utf8")).toBe("one two three two three ");
  expect(ergos("resume", "2", "--from", "four")).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/ENOENT.*"four".*one, two, three/) as unknown,
  });
  expect(ergos("resume", "--from", "two")).toMatchObject({
    status: 2,
    stderr: expect.stringMatching(/--from and --set name steps of one run/) as unknown,
  });
});

test("what a resumption would do is told before; a step comes to something else, here or for a twin of the run", () => {
  writeFileSync(
    join(cwd, "sum.ts"),
    `export default async (_input: unknown, ctx: any) => {
  const a = await ctx.step("a", () => 1);
  const asked = await ctx.infer("ask", "what?");
  return ctx.step("sum", () => a + asked.text.length);
};
`,
  );
  const ergos = (...args: string[]) => runErgos(args, { cwd });
  const json = (...args: string[]): unknown => JSON.parse(ergos(...args, "--json").stdout);
  expect(ergos("run", "sum.ts").status).toBe(0);
  const { stdout } = ergos("resume", "2", "--from", "ask", "--dry-run");
  expect(stdout).toMatch(/sum-2 takes 1 recorded step from its journal, and does again:/);
  expect(stdout).toMatch(/ask +as asked for +infer offline +\d+ tokens/);
  expect(stdout).toMatch(/sum +builds on that +step/);
  expect(json("resume", "2", "--set", "a=5", "--dry-run")).toMatchObject({ pid: 2, kept: 1, unknown: [] });
  expect(json("clone", "2", "--set", 'ask={"text":"12345"}', "--name", "twin")).toMatchObject({ pid: 3, result: 6 });
  expect(json("cat", "/proc/3/result")).toMatchObject({ text: expect.stringMatching(/"result": 6/) as unknown });
  expect(json("resume", "2", "--set", 'ask={"text":"1234"}')).toMatchObject({ result: 5 });
  expect(ergos("resume", "--dry-run")).toMatchObject({ status: 2 });
  expect(ergos("resume", "2", "--set", "b=1")).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/"b".*these are a, ask, sum/) as unknown,
  });
});

test("a step in the body of a manifest is given its value as it is", () => {
  writeFileSync(
    join(cwd, "make.mjs"),
    "export const mark = (input) => input.item + '1';\nexport const twice = (input) => input.mark + '2';\n",
  );
  writeFileSync(
    join(cwd, "marks.yaml"),
    `apiVersion: ergos/v1
kind: Pipeline
metadata: { name: marks }
spec:
  nodes:
    - name: items
      kind: map
      items: "['a', 'b']"
      body:
        - { name: mark, kind: function, module: ./make.mjs, export: mark, input_mapping: { item: item } }
        - { name: twice, kind: function, module: ./make.mjs, export: twice, input_mapping: { mark: mark } }
    - { name: all, kind: expression, value: "items | join(',')" }
  output: all
`,
  );
  const json = (...args: string[]): unknown => JSON.parse(runErgos([...args, "--json"], { cwd }).stdout);
  expect(json("run", "marks.yaml")).toMatchObject({ result: "a12,b12" });
  expect(json("resume", "2", "--set", "items[1]/mark=Q")).toMatchObject({ result: "a12,Q2" });
  expect(json("resume", "2", "--set", "items[0]=first")).toMatchObject({ result: "first,Q2" });
});

test("a module brings its tools, and says what is wrong with it", () => {
  writeFileSync(
    join(cwd, "tooled.ts"),
    `export const tools = [{ name: "double", description: "doubles", effect: "pure", call: ({ n }) => n * 2,
  inputSchema: { type: "object", properties: { n: { type: "number", exclusiveMinimum: 0 } }, required: ["n"] } }];
export default async (input: { n: number }, ctx: any) => ctx.call("d", "double", { n: input.n });
`,
  );
  const run = (...args: string[]) => runErgos(["run", ...args, "--json"], { cwd });
  expect(JSON.parse(run("tooled.ts", "--input", "n=4").stdout)).toMatchObject({ result: 8 });
  expect(run("tooled.ts", "--input", "n=-4").stdout).toMatch(/n must be more than 0/);
  writeFileSync(join(cwd, "wrong.ts"), "export const tools = [{ name: 'x' }];\nexport default () => 1;\n");
  expect(run("wrong.ts").stdout).toMatch(/ENOEXEC.*the export tools of/);

  writeFileSync(join(cwd, "package.json"), JSON.stringify({ type: "commonjs" }));
  writeFileSync(join(cwd, "older.js"), "import { x } from './x.js';\nexport default () => x;\n");
  expect(run("older.js").stdout).toMatch(/write \\"type\\": \\"module\\" into the package\.json/);
});
