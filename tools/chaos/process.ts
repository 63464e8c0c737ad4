// Processes and messages for real: a ring of hundreds of processes, some of them processes of the machine, under a host
// that is killed again and again, while its children are too. Every outcome is that of the undisturbed run.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { isDeepStrictEqual } from "node:util";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { SqliteMetastore } from "@ergos/drivers/sqlite";
import { type Chance, createChance } from "../simulation/random.ts";
import { type RingPlan, undisturbed } from "./process-team.ts";

const HOST = join(import.meta.dirname, "process-child.ts");

export interface ProcessReport {
  readonly messages: number;
  readonly hostKills: number;
  readonly childKills: number;
  /** Processes whose outcome is not that of the undisturbed run: a message that was lost, or was there twice. */
  readonly wrong: number;
  /** Processes that have not ended, messages that nobody has read, and what still runs on the machine. */
  readonly left: number;
}

export async function processChaos(
  options: RingPlan & { readonly seed: number; readonly kills: number },
): Promise<ProcessReport> {
  const { seed, kills, ...plan } = options;
  const chance = createChance(seed);
  const folder = mkdtempSync(join(tmpdir(), "ergos-chaos-"));
  const dir = join(folder, "data");
  mkdirSync(dir);
  const counts = { hostKills: 0, childKills: 0 };
  try {
    for (;;) {
      const answer = await life(
        { ...plan, dir },
        counts.hostKills < kills ? 400 + chance.next() * 2000 : undefined,
        chance,
        counts,
      );
      if (answer === undefined) {
        counts.hostKills++;
        continue;
      }
      const { exit, left } = JSON.parse(answer) as Answer;
      if (exit.error !== undefined) console.error(`the boss failed: ${exit.error.message}`);
      const wanted = undisturbed(plan);
      const wrong = wanted.filter((outcome, at) => !isDeepStrictEqual(outcome, exit.result?.[at])).length;
      // What is on its way out is out after a moment.
      await delay(300);
      const stray = childrenOf(dir).length;
      return { ...counts, messages: plan.workers * plan.messages, wrong, left: left + stray + (await unread(dir)) };
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Answer {
  readonly exit: { readonly result?: readonly unknown[]; readonly error?: { readonly message: string } };
  /** Processes that have not ended. */
  readonly left: number;
}

/** One host: killed some moments after it starts, or left to end; its children are killed all the time. */
async function life(
  plan: RingPlan & { readonly dir: string },
  killAfterMs: number | undefined,
  chance: Chance,
  counts: { childKills: number },
): Promise<string | undefined> {
  const host = spawn(process.execPath, ["--conditions=@ergos/source", HOST, JSON.stringify(plan)], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, TMPDIR: plan.dir },
  });
  let output = "";
  host.stdout.on("data", (chunk: Buffer) => (output += String(chunk)));
  const exited = new Promise<number | null>((resolve) => host.once("exit", (code) => resolve(code)));
  const timer = killAfterMs === undefined ? undefined : setTimeout(() => host.kill("SIGKILL"), killAfterMs);
  let isOver = false;
  // In the last life the children are left alone after a while, so that it ends.
  const until = performance.now() + (killAfterMs ?? 3000);
  const hunting = (async () => {
    while (!isOver && performance.now() < until) {
      await delay(50 + chance.next() * 400);
      const children = childrenOf(plan.dir);
      const victim = children[Math.floor(chance.next() * children.length)];
      if (victim === undefined || isOver) continue;
      try {
        process.kill(victim, "SIGKILL");
        counts.childKills++;
      } catch {
        // It has ended by itself.
      }
    }
  })();
  const code = await exited;
  isOver = true;
  clearTimeout(timer);
  await hunting;
  const answer = output.split("\n").find((line) => line.startsWith("{"));
  if (answer === undefined && code !== null) throw new TypeError(`the host ended by itself with ${code}: ${output}`);
  return answer;
}

/** Processes of the machine that the hosts of a directory have started: they have its folder of temporary files. */
function childrenOf(dir: string): readonly number[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const environment = readFileSync(`/proc/${name}/environ`, "latin1").split("\0");
      const isChild = environment.some((one) => one.startsWith("ERGOS_CHILD="));
      return isChild && environment.includes(`TMPDIR=${dir}`) ? [Number(name)] : [];
    } catch {
      return [];
    }
  });
}

/** Messages that wait for anybody but the owner. */
async function unread(dir: string): Promise<number> {
  const store = await SqliteMetastore.open({ dir, thread: false });
  try {
    return (await store.scan({ from: "m/0000000002", to: "m0" }, { limit: 1000 })).length;
  } finally {
    await store.close();
  }
}
