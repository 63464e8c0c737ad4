// Commands that are the host for a moment, and what others do there meanwhile.

import { type ChildProcess, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { BIN, environment, runErgos, useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const running = new Set<ChildProcess>();
afterEach(() => {
  for (const child of running) child.kill("SIGKILL");
});

/** A command that runs beside others, and what becomes of it. */
function start(args: readonly string[]): { readonly ended: Promise<Ended> } {
  const child = spawn(process.execPath, [BIN, ...args], { cwd: directory.path, env: environment() });
  const said = { stdout: "", stderr: "" };
  child.stdout.on("data", (piece: Buffer) => (said.stdout += piece.toString()));
  child.stderr.on("data", (piece: Buffer) => (said.stderr += piece.toString()));
  running.add(child);
  child.on("close", () => running.delete(child));
  const ended = new Promise<Ended>((done) => child.on("close", (status) => done({ status, ...said })));
  return { ended };
}

const ergos = (...args: string[]): Ended => runErgos(args, { cwd: directory.path });

test("commands at the same time all do what they say, whoever of them is the host", async () => {
  ergos("write", "/srv/log", "");
  const many = Array.from({ length: 8 }, () => start(["write", "/srv/log", "line\n", "--append"]).ended);

  expect((await Promise.all(many)).map(({ status, stderr }) => [status, stderr])).toEqual(many.map(() => [0, ""]));
  expect(ergos("cat", "/srv/log").stdout).toBe("line\n".repeat(8));
});

test("a command that others have started runs in stays until those have ended", async () => {
  writeFileSync(
    join(directory.path, "slow.ts"),
    `export default async (_input, ctx) => { await ctx.sleep(3000); return "done"; };`,
  );
  const watching = start(["watch", "/home/**", "--count", "1"]);
  await expect.poll(() => ergos("ls", "/").status, { timeout: 10_000 }).toBe(0);
  const started = start(["run", "slow.ts", "--json"]);
  await expect.poll(() => ergos("ps", "--json").stdout, { timeout: 10_000 }).toContain("slow");
  ergos("write", "/home/x", "hi");

  expect(await started.ended).toMatchObject({ status: 0 });
  expect(await watching.ended).toMatchObject({ status: 0 });
});

test("numbers, names and closed pipes come out as they went in", () => {
  writeFileSync(join(directory.path, "echo.ts"), "export default async (input) => input;");
  const run = ergos(
    "run",
    "echo.ts",
    "--json",
    "--input",
    "id=12345678901234567890",
    "--input",
    "n=1.5",
    "--input",
    "__proto__=x",
  );
  expect(run.stdout).toContain(`"id":"12345678901234567890"`);
  expect(run.stdout).toContain(`"n":1.5`);
  expect(ergos("clean", "--dry-run", "--keep", "").status).toBe(2);
  expect(ergos("ps", "--limit", "").status).toBe(2);
  expect(ergos("write", "/srv/a", "x", "--append", "--if-generation", "1").status).toBe(2);
  expect(ergos("exec", "/lib/tools/list_directory", "{}", "--input", "path=/").status).toBe(2);
  expect(JSON.parse(ergos("help", "run", "--json").stdout)).toMatchObject({ command: "run" });
});
