// `npm run demo:crash`: kills the digest with SIGKILL three times on the way, and shows from its journal that
// no finished step ran twice.

import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

const root = join(import.meta.dirname, "..");
const bin = join(root, "packages/cli/bin/ergos.js");
const data = mkdtempSync(join(tmpdir(), "ergos-demo-"));
const KILLS = 3;

interface Status {
  readonly pid: number;
  readonly runId: string;
  readonly usage: { readonly steps: number };
}

function ask(...args: readonly string[]): string {
  return spawnSync(process.execPath, [bin, ...args, "--dir", data], { cwd: root, encoding: "utf8" }).stdout;
}

/** Steps in the run's journal, place by place. */
function stepsOf(runId: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const line of ask("cat", `/proc/runs/${runId}/events`).split("\n")) {
    const place = /\bstep {4}(\S+)/.exec(line)?.[1];
    if (place !== undefined) counts.set(place, (counts.get(place) ?? 0) + 1);
  }
  return counts;
}

/** The run that is there, as far as anything is. */
function run(): Status | undefined {
  try {
    const [found] = JSON.parse(ask("ps", "--json")) as Status[];
    return found;
  } catch {
    return undefined;
  }
}

/** @param known steps that were finished before; it is killed some time after it has finished more */
async function life(killAfterMs: number | undefined, known = 0): Promise<string> {
  const child = spawn(
    process.execPath,
    [bin, "run", "examples/digest", "--resume", "--input", "slowMs=150", "--dir", data],
    { cwd: root, stdio: ["ignore", "pipe", "inherit"] },
  );
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  if (killAfterMs !== undefined) {
    // Whoever asks before there is a host becomes one.
    const socket = join(data, "control.sock");
    while (child.exitCode === null && child.signalCode === null) {
      const found = existsSync(socket) ? run() : undefined;
      if (found !== undefined && stepsOf(found.runId).size > known) break;
      await delay(50);
    }
    await delay(killAfterMs);
    child.kill("SIGKILL");
    await exited;
  } else await exited;
  return output;
}

let failures = 0;
try {
  let before = new Map<string, number>();
  for (let kill = 1; kill <= KILLS; kill++) {
    await life(kill * 150, before.size);
    // `ps` asks the store directly: nobody owns it any more.
    const left = run();
    if (left === undefined) throw new TypeError("the digest ended before it could be killed; it has nothing to show");
    const now = stepsOf(left.runId);
    console.log(
      `kill -9 number ${kill}: ${now.size} steps are finished and kept (${now.size - before.size} of them since the last start)`,
    );
    for (const place of before.keys()) if (!now.has(place)) failures++;
    before = now;
  }
  const output = await life(undefined);
  console.log(`\n${output}`);
  const runId = /(digest-\d+) /.exec(output)?.[1] ?? "digest-2";
  const all = stepsOf(runId);
  const twice = [...all].filter(([, count]) => count > 1);
  failures += twice.length;
  console.log(
    `demo:crash: ${KILLS} times killed, ${all.size} steps in the journal, ${twice.length} of them recorded twice, ${failures === 0 ? "none lost" : `${failures} failures: ${twice.map(([place]) => place).join(", ")}`}`,
  );
  if (!output.includes("completed")) failures++;
} finally {
  rmSync(data, { recursive: true, force: true });
}
process.exitCode = failures === 0 ? 0 : 1;
