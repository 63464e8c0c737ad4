// Kills a real host with SIGKILL at random moments, again and again, and checks what its store holds.

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SqliteMetastore } from "@ergos/drivers/sqlite";
import { SEQ_ZERO } from "@ergos/kernel";
import { type Chance, createChance } from "./random.ts";

export interface KillReport {
  readonly kills: number;
  readonly runs: number;
}

const CHILD = join(import.meta.dirname, "kill-child.ts");

/** Kills until `kills` hosts have died on the way; every run must come to `expected`. */
export async function killRounds(seed: number, kills: number, expected: string): Promise<KillReport> {
  const chance = createChance(seed);
  let done = 0;
  let runs = 0;
  while (done < kills) {
    done += await oneRun(chance, expected, seed);
    runs++;
  }
  return { kills: done, runs };
}

async function oneRun(chance: Chance, expected: string, seed: number): Promise<number> {
  const dir = mkdtempSync(join(tmpdir(), "ergos-kill-"));
  const data = join(dir, "data");
  const worldFile = join(dir, "world");
  let kills = 0;
  try {
    for (;;) {
      const finishedBefore = existsSync(join(data, "store.db")) ? await recordedSteps(data) : new Set<string>();
      const before = countOf(worldFile);
      const answer = await life(data, worldFile, chance);
      const after = countOf(worldFile);
      for (const place of finishedBefore) {
        if ((after.get(place) ?? 0) > (before.get(place) ?? 0))
          throw new TypeError(`seed ${seed}: the finished step ${place} was done again after kill ${kills}`);
      }
      if (answer === undefined) {
        kills++;
        continue;
      }
      const { code, result } = JSON.parse(answer) as { code: number; result?: unknown };
      if (code !== 0 || JSON.stringify(result) !== expected)
        throw new TypeError(`seed ${seed}: after ${kills} kills the run came to ${answer}`);
      return kills;
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** One host: killed some moments after it runs, or left to end. Its answer if it ended. */
async function life(data: string, worldFile: string, chance: Chance): Promise<string | undefined> {
  const child = spawn(process.execPath, ["--conditions=@ergos/source", CHILD, data, worldFile], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  const running = Promise.withResolvers<void>();
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
    if (output.includes("running\n")) running.resolve();
  });
  const exited = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
  await Promise.race([running.promise, exited]);
  const wait = chance.next() < 0.15 ? 3000 : chance.next() * 14;
  const timer = setTimeout(() => kill(child), wait);
  const code = await exited;
  clearTimeout(timer);
  const answer = output.split("\n").find((line) => line.startsWith("{"));
  if (answer === undefined && code !== null) throw new TypeError(`the host ended by itself with ${code}: ${output}`);
  return answer;
}

const kill = (child: ChildProcess): void => void child.kill("SIGKILL");

async function recordedSteps(data: string): Promise<Set<string>> {
  const store = await SqliteMetastore.open({ dir: data, thread: false });
  try {
    const places = new Set<string>();
    for (const { value } of await store.readLog("j/2", { after: SEQ_ZERO, limit: 100_000 })) {
      const record = JSON.parse(String(value)) as { t: string; p?: string };
      if (record.t === "step" && record.p !== undefined) places.add(record.p);
    }
    return places;
  } finally {
    await store.close();
  }
}

function countOf(worldFile: string): Map<string, number> {
  const counts = new Map<string, number>();
  if (!existsSync(worldFile)) return counts;
  for (const place of readFileSync(worldFile, "utf8").split("\n")) counts.set(place, (counts.get(place) ?? 0) + 1);
  return counts;
}
