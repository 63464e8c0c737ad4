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

test("a manifest, and a runtime that nobody knows, are refused", () => {
  writeFileSync(
    join(cwd, "p.yaml"),
    "apiVersion: ergos/v1\nkind: Pipeline\nmetadata: { name: p }\nspec: { nodes: [] }\n",
  );

  expect(runErgos(["run", "p.yaml", "--runtime", "process"], { cwd }).status).toBe(1);
  expect(runErgos(["run", "p.yaml", "--runtime", "moon"], { cwd }).status).toBe(2);
});
