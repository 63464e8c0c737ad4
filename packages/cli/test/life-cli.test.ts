// Twins, upgrades, mergers and splits on the command line, over the socket of a host that runs.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { BIN, environment, runErgos, useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();

const worker = (mark: string): string => `export default async function worker(_input, ctx) {
  const first = await ctx.step("first", () => "step of ${mark}");
  const letter = await ctx.receive("letter");
  return first + ", read by ${mark}: " + letter.body;
}
`;

test("a process is twinned, upgraded where it is, and goes into another", async () => {
  const cwd = directory.path;
  const ergos = (...args: readonly string[]) => runErgos(args, { cwd });
  const file = join(cwd, "worker.mjs");
  writeFileSync(file, worker("v1"));
  const started: ChildProcess[] = [];
  const start = (...args: readonly string[]): void =>
    void started.push(spawn(process.execPath, [BIN, ...args], { cwd, env: environment(), stdio: "ignore" }));
  start("up");
  try {
    await expect.poll(() => ergos("ps").status, { timeout: 10_000 }).toBe(0);
    for (const name of ["one", "two"]) start("run", "worker.mjs", "--ref", name);
    await expect.poll(() => ergos("ps").stdout.match(/waiting \(message/g)?.length, { timeout: 10_000 }).toBe(2);
    const [one, two] = (JSON.parse(ergos("ps", "--json").stdout) as { pid: number; name: string }[])
      .filter(({ name }) => name === "worker")
      .map(({ pid }) => String(pid));
    if (one === undefined || two === undefined) throw new TypeError("two workers were started");
    const twin = (JSON.parse(ergos("clone", one, "--name", "twin", "--json").stdout) as { pid: number }).pid;
    writeFileSync(file, worker("v2"));
    expect(ergos("upgrade", one)).toMatchObject({ status: 0 });
    expect(ergos("write", `/proc/${two}/mailbox`, '"moved"').status).toBe(0);
    expect(ergos("write", `/proc/${one}/mailbox`, '"hello"').status).toBe(0);
    expect(ergos("wait", one, two)).toMatchObject({ status: 0 });
    expect(ergos("cat", `/proc/${one}/result`).stdout).toContain("step of v1, read by v2: hello");
    expect(ergos("cat", `/proc/${two}/result`).stdout).toContain("step of v1, read by v1: moved");
    expect(ergos("merge", String(twin), one)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining("ESRCH") as unknown,
    });
    expect(ergos("clone", "99")).toMatchObject({ status: 1, stderr: expect.stringContaining("ESRCH") as unknown });
    expect(ergos("split", String(twin), "--input", "{").status).toBe(2);
    expect(ergos("split", String(twin)).status).toBe(2);
    const split = ergos("split", String(twin), "--input", '{"part":1}', "--input", '{"part":2}', "--json");
    const { parts } = JSON.parse(split.stdout) as { parts: readonly number[] };
    expect(parts).toHaveLength(2);
    expect(JSON.parse(ergos("cat", `/proc/${String(parts[1])}/cmdline.json`).stdout)).toMatchObject({
      input: { part: 2 },
    });
    expect(ergos("kill", String(twin)).status).toBe(0);
  } finally {
    for (const child of started.toReversed()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const over = once(child, "exit");
      child.kill("SIGTERM");
      await over;
    }
  }
});
