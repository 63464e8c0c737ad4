import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { type Answer, BIN, runErgos, useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();
let cwd: string;
beforeEach(() => {
  cwd = directory.path;
});

const ergos = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Answer =>
  runErgos(args, { cwd, env });
const json = (args: readonly string[]): unknown => JSON.parse(ergos([...args, "--json"]).stdout) as unknown;

const module = (text: string, name = "program.mjs"): string => {
  writeFileSync(join(cwd, name), text);
  return name;
};
const HELLO =
  "export default async (input, ctx) => { await ctx.log('hello ' + input.name); return ctx.step('greet', () => ({ greeting: 'hello ' + input.name })); };\n";

describe("running programs", () => {
  test("a run prints its result, and ps, tree, logs, ls and cat show it afterwards", () => {
    const file = module(HELLO);
    const run = ergos(["run", file, "--input", "name=world", "--name", "greeter"]);

    expect(run.status).toBe(0);
    expect(run.stdout).toContain("greeter-2 completed");
    expect(run.stdout).toContain('"greeting": "hello world"');
    expect(ergos(["ps", "--all"]).stdout).toMatch(/greeter-2 .*completed/);
    expect(ergos(["tree", "--all"]).stdout).toMatch(/└─ 2 greeter completed/);
    expect(ergos(["logs", "greeter-2"]).stdout).toMatch(/info {2}hello world/);
    expect(ergos(["logs", "2", "--events"]).stdout).toMatch(/step {4}greet/);
    expect(ergos(["ls", "/"]).stdout).toBe("__sys__/\ndev/\netc/\nhome/\nlib/\nproc/\nsrv/\nsys/\ntmp/\n");
    expect(ergos(["ls", "/dev", "--long"]).stdout).toMatch(/model/);
    expect(ergos(["cat", "/proc/2/status"]).stdout).toMatch(/state:\tzombie/);
  });

  test("--json is one JSON document and nothing else", () => {
    const file = module(HELLO);

    expect(json(["run", file, "--input-json", '{"name":"x"}'])).toMatchObject({
      pid: 2,
      code: 0,
      result: { greeting: "hello x" },
      usage: { steps: 1 },
    });
    expect(json(["ps", "--all"])).toMatchObject([{ pid: 2, state: "zombie", status: "completed", code: 0 }]);
    expect(json(["ls", "/proc/2"])).toEqual(expect.arrayContaining([{ name: "status", type: "file" }]));
    expect(json(["logs", "2"])).toMatchObject([{ level: "info", text: "hello x" }]);
    expect(json(["logs", "2", "--events"])).toMatchObject([
      { t: "start" },
      { t: "log" },
      { t: "step", p: "greet" },
      { t: "exit", code: 0 },
    ]);
    expect(json(["cat", "/sys/version"])).toMatchObject({ path: "/sys/version", text: "0.1.0\n" });
    expect(json(["nonsense-pid", "x"])).toMatchObject({
      error: { message: expect.stringMatching(/nonsense-pid/) as string },
    });
    expect(json(["cat", "/sys/version", "/proc/2/result"])).toMatchObject([{ path: "/sys/version" }, {}]);
    expect(json(["cat", "/sys/version", "/nowhere"])).toMatchObject([{}, { error: { code: "ENOENT" } }]);
    expect(json(["stat", "/sys", "/proc"])).toMatchObject([{ type: "directory" }, { type: "directory" }]);
    expect(json(["wait", "2", "2"])).toMatchObject([{ code: 0 }, { code: 0 }]);
    expect(json(["run", "--help"])).toMatchObject({ command: "run" });
  }, 60_000);

  test("a program that fails prints its cause without a stack, and the status is 1", () => {
    const run = ergos(["run", module("export default async () => { throw new Error('no luck'); };\n")]);

    expect(run.status).toBe(1);
    expect(run.stderr).toContain("no luck");
    expect(run.stderr).toMatch(/thrown at .*program\.mjs:1:\d+/);
    expect(`${run.stdout}${run.stderr}`).not.toMatch(/\n\s+at /);
  });

  test("modules that are missing, broken or no program have one clear error", () => {
    expect(ergos(["run", "absent.mjs"])).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/ENOENT.*absent\.mjs/) as unknown,
    });
    expect(ergos(["run", module("export const x = 1;\n")]).stderr).toMatch(/ENOEXEC.*exports x. Name one of them/);
    expect(ergos(["run", module("this is no code\n", "broken.mjs")]).stderr).toMatch(/ENOEXEC.*broken\.mjs/);
    expect(ergos(["run", module("throw new TypeError('at import');\n", "throws.mjs")]).stderr).toMatch(
      /ENOEXEC.*at import/,
    );
    expect(ergos(["run"]).status).toBe(2);
    expect(ergos(["run", "x", "--bogus"]).status).toBe(2);
    expect(ergos(["frobnicate"]).status).toBe(2);
  }, 60_000);

  test("a budget given on the command line holds", () => {
    const file = module(
      "export default async (_input, ctx) => { for (let at = 0; at < 50; at++) await ctx.infer('c' + at, { messages: [{ role: 'user', content: 'x' }], maxOutputTokens: 30 }); };\n",
    );
    const run = ergos(["run", file, "--budget", "modelCalls=3"]);

    expect(run.status).toBe(1);
    expect(run.stderr).toContain("EDQUOT");
    expect(run.stdout).toContain("3 model calls");
  });

  test("help has examples, and .env is read while the real environment wins", () => {
    writeFileSync(join(cwd, ".env"), "FROM_FILE=file\nBOTH=file\n");
    const file = module("export default () => [process.env.FROM_FILE, process.env.BOTH];\n");

    expect(ergos(["run", "--help"]).stdout).toMatch(/examples:\n {2}ergos run/);
    expect(ergos(["help"]).stdout).toMatch(/Exit status/);
    const answer = JSON.parse(ergos(["run", file, "--json"], { BOTH: "real" }).stdout) as { result: unknown };
    expect(answer.result).toEqual(["file", "real"]);
  });

  test("doctor says what is enforced and what the offline model is", () => {
    const doctor = ergos(["doctor"]);

    expect(doctor.status).toBe(0);
    expect(doctor.stdout).toMatch(/no language model is asked/);
    expect(doctor.stdout).toMatch(/enforces inline programs +memory and network are not confined/);
  });
});

describe("a host that is running", () => {
  const SLOW =
    "export default async (_input, ctx) => { for (let at = 0; at < 200; at++) { await ctx.step('s' + at, () => at); await ctx.sleep(25); } return 'done'; };\n";

  /** Until process 2 runs in a host. */
  const acts = (): Promise<void> =>
    expect
      .poll(() => ergos(["ps", "--json"]).stdout, { timeout: 15_000, interval: 100 })
      .toMatch(/"pid":2.*"state":"(?:running|waiting)"/);

  async function withHost<T>(work: (host: ChildProcess) => Promise<T>): Promise<T> {
    const host = spawn(process.execPath, [BIN, "run", module(SLOW)], { cwd, stdio: "ignore" });
    try {
      await acts();
      return await work(host);
    } finally {
      host.kill("SIGKILL");
    }
  }

  test("other commands go to it over its socket", async () => {
    await withHost(async (host) => {
      expect(json(["ps"])).toMatchObject([{ pid: 2, state: expect.stringMatching(/running|waiting/) as unknown }]);
      expect(ergos(["doctor"]).stdout).toContain(`process ${host.pid}, reached over its control socket`);
      expect(ergos(["kill", "other-2"]).stderr).toMatch(/ESRCH/);
      expect(ergos(["kill", "2"]).stdout).toContain("TERM sent to 2");
      expect(json(["ps", "--all"])).toMatchObject([{ pid: 2, signal: "TERM" }]);
    });
  }, 60_000);

  test("a run that another command has started here ends although the host's own run is over", async () => {
    const slow = (ms: number, name: string): string =>
      module(`export default async (_input, ctx) => { await ctx.sleep(${ms}); return "done"; };\n`, name);
    const host = spawn(process.execPath, [BIN, "run", slow(4000, "short.mjs")], { cwd, stdio: "ignore" });
    const ended = new Promise<number | null>((resolve) => host.once("exit", resolve));
    await acts();

    const second = ergos(["run", slow(5000, "long.mjs"), "--json"]);

    expect(JSON.parse(second.stdout)).toMatchObject({ code: 0, result: "done" });
    // It was a guest, not the host of the other.
    expect(second.stderr).not.toContain("still the host of");
    expect(await ended).toBe(0);
  }, 30_000);

  test("a host that is killed leaves a sleeping process, and resume goes on with it", async () => {
    await withHost(async (host) => {
      await new Promise((resolve) => setTimeout(resolve, 300));
      const gone = new Promise((resolve) => host.once("exit", resolve));
      host.kill("SIGKILL");
      await gone;

      expect(json(["ps"])).toMatchObject([{ pid: 2, state: "sleeping" }]);
      const resumed = spawnSync(process.execPath, [BIN, "resume", "2", "--json"], { cwd, encoding: "utf8" });
      const answer = JSON.parse(resumed.stdout) as { result: string; usage: { replayed: number } };
      expect(answer.result).toBe("done");
      expect(answer.usage.replayed).toBeGreaterThan(2);
    });
  }, 60_000);
});

describe("a program that ends its own host", () => {
  test("what a step did before is not done again", () => {
    const file = module(
      "import { appendFileSync } from 'node:fs';\nexport default async (_input, ctx) => { await ctx.step('pay', () => appendFileSync('paid', 'paid\\n')); process.kill(process.pid, 'SIGKILL'); };\n",
    );
    ergos(["run", file]);
    ergos(["resume"]);

    expect(readFileSync(join(cwd, "paid"), "utf8")).toBe("paid\n");
    expect(ergos(["logs", "2", "--events"]).stdout).toMatch(/step {4}pay/);
  });

  test("logs --step tells what one step came to, whatever its name, size and end", () => {
    const file = module(
      "export default async (_input, ctx) => { await ctx.step('a/50%', () => ({ x: 1 })); await ctx.step('text', () => 'plain'); await ctx.step('large', () => 'y'.repeat(300_000)); await ctx.step('nothing', () => undefined); };\n",
    );
    ergos(["run", file]);

    expect(json(["logs", "2", "--step", "a/50%"])).toEqual({ x: 1 });
    expect(ergos(["logs", "2", "--step", "text"]).stdout).toBe("plain\n");
    expect(ergos(["logs", "2", "--step", "large"]).stdout).toHaveLength(300_001);
    expect(json(["logs", "2", "--step", "nothing"])).toBeNull();
    const missing = ergos(["logs", "2", "--step", "larg"]);
    expect(missing.status).toBe(1);
    expect(missing.stderr).toContain("did you mean large?");
    expect(ergos(["ls", "/proc/2/steps"]).stdout).toContain("a%2F50%25\n");

    module("export default () => { throw new Error('no luck'); };\n", "bad.mjs");
    module(
      "{ apiVersion: ergos/v1, kind: Pipeline, metadata: { name: p }, spec: { nodes: [{ name: bad, kind: function, module: ./bad.mjs }] } }\n",
      "p.yaml",
    );
    expect(ergos(["run", "p.yaml"]).status).toBe(1);
    expect(json(["logs", "3", "--step", "bad"])).toMatchObject({
      error: { message: "[EFAILED] node bad failed: no luck" },
    });
  });

  test("a failure that nobody waits for has one message, and the run sleeps", () => {
    const run = ergos([
      "run",
      module(
        "export default async () => { setTimeout(() => { throw new Error('stray'); }, 5); await new Promise(() => {}); };\n",
      ),
    ]);

    expect(run.status).toBe(1);
    expect(run.stderr).toMatch(/nobody waits for failed at .*program\.mjs.*: stray/);
    expect(run.stderr).not.toMatch(/\n\s+at /);
    expect(json(["ps"])).toMatchObject([{ state: "sleeping" }]);
    const again = ergos(["resume", "--json"]);
    expect(again).toMatchObject({ status: 1, stderr: "" });
    expect(JSON.parse(again.stdout)).toMatchObject({ error: { code: "EFAILED" } });
  });
});

describe("code that blocks the loop", () => {
  test("the watchdog ends the host with its name, the next start goes on, and the third death quarantines", () => {
    const file = module("export default async (_input, ctx) => { await ctx.step('before', () => 1); for (;;); };\n");
    const env = { ERGOS_WATCHDOG_MS: "400" };
    const first = spawnSync(process.execPath, [BIN, "run", file], {
      cwd,
      encoding: "utf8",
      env: { ...process.env, ...env },
    });

    expect(first.signal).toBe("SIGALRM");
    expect(first.stderr).toMatch(/\[EWATCHDOG\] process 2 blocked the event loop for \d+ ms/);
    const second = spawnSync(process.execPath, [BIN, "run", file, "--resume"], {
      cwd,
      encoding: "utf8",
      env: { ...process.env, ...env },
    });
    expect(second.signal).toBe("SIGALRM");
    expect(second.stderr).toMatch(/the last host was ended by the watchdog: process 2/);
    for (let life = 0; life < 2; life++)
      spawnSync(process.execPath, [BIN, "resume", "2"], { cwd, env: { ...process.env, ...env } });
    const last = ergos(["resume", "2"]);
    expect(last.status).toBe(1);
    expect(last.stderr).toMatch(/EQUARANTINE/);
    expect(json(["ps"])).toMatchObject([{ pid: 2, state: "quarantined" }]);
  }, 60_000);
});

test("a module that never has finished loading is told, and keeps nobody waiting", () => {
  const file = module("await new Promise(() => {});\nexport default () => 1;\n");
  const { status, stderr } = ergos(["run", file], { ERGOS_LOAD_MS: "300" });
  expect(status).not.toBe(0);
  expect(stderr).toMatch(/ETIMEDOUT.*program\.mjs has not finished loading within 0\.3 s: .*top level/);
});

describe("folders", () => {
  test("a module may ask for a folder, which is read-only", () => {
    mkdirSync(join(cwd, "docs"));
    writeFileSync(join(cwd, "docs/a.txt"), "text");
    const file = module(
      "export const mounts = [{ at: '/srv/docs', path: 'docs' }];\nexport default async (_input, ctx) => [await ctx.os.fs.readText('/srv/docs/a.txt'), await ctx.os.fs.writeFile('/srv/docs/b', 'x').catch((e) => e.code)];\n",
    );

    expect(json(["run", file])).toMatchObject({ result: ["text", "EROFS"] });
  });
});
