// Budgets for real: thousands of model calls of hundreds of processes against a server that fails and breaks off,
// under a host that is killed again and again. Nothing may be overshot, nothing may leak.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SqliteMetastore } from "@ergos/drivers/sqlite";
import { type Amounts, RESOURCES, type Resource, SEQ_ZERO, usageEntries } from "@ergos/kernel";
import { type Chance, createChance } from "../simulation/random.ts";
import { type ChaosPlan, budgetOf } from "./budget-plan.ts";
import { startModelServer } from "./budget-server.ts";

const CHILD = join(import.meta.dirname, "budget-child.ts");

export interface BudgetReport {
  readonly calls: number;
  readonly kills: number;
  readonly answered: number;
  /** Tokens that the server gave beyond a worker's budget, over all workers. */
  readonly overshoot: number;
  /** Counters that are not what the ledger and the lost reservations say, and what did not come back. */
  readonly leak: number;
}

export async function budgetChaos(options: {
  readonly seed: number;
  readonly workers: number;
  readonly calls: number;
  readonly kills: number;
}): Promise<BudgetReport> {
  const chance = createChance(options.seed);
  const dir = mkdtempSync(join(tmpdir(), "ergos-chaos-"));
  const maxOutput = 20;
  const server = await startModelServer(chance, maxOutput);
  const callsEach = Math.ceil(options.calls / options.workers);
  const plan: ChaosPlan = {
    dir: join(dir, "data"),
    url: server.url,
    workers: options.workers,
    callsEach,
    maxOutput,
    share: 0.7,
  };
  try {
    let kills = 0;
    for (;;) {
      const answer = await life(plan, kills < options.kills ? 150 + chance.next() * 1200 : undefined, chance);
      if (answer !== undefined) break;
      kills++;
    }
    const limit = budgetOf(plan, 1).tokensOut ?? 0;
    const overshoot = [...server.given.values()].reduce((sum, given) => sum + Math.max(0, given - limit), 0);
    const { leak, answered } = await audit(plan);
    return { calls: server.calls, kills, answered, overshoot, leak };
  } finally {
    await server.close();
    rmSync(dir, { recursive: true, force: true });
  }
}

/** One host: killed some moments after it runs, or left to end. Its last line if it ended. */
async function life(plan: ChaosPlan, killAfterMs: number | undefined, chance: Chance): Promise<string | undefined> {
  const child = spawn(process.execPath, ["--conditions=@ergos/source", CHILD, JSON.stringify(plan)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += String(chunk)));
  const exited = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
  // Some die while they start.
  const wait = killAfterMs === undefined ? undefined : chance.next() < 0.1 ? chance.next() * 300 : killAfterMs;
  const timer = wait === undefined ? undefined : setTimeout(() => child.kill("SIGKILL"), wait);
  const code = await exited;
  clearTimeout(timer);
  const answer = output.split("\n").find((line) => line.startsWith("{"));
  if (answer === undefined && code !== null) throw new TypeError(`the host ended by itself with ${code}: ${output}`);
  return answer;
}

/** Holds the counters against the ledger and the journals. */
async function audit(plan: ChaosPlan): Promise<{ readonly leak: number; readonly answered: number }> {
  const store = await SqliteMetastore.open({ dir: plan.dir, thread: false });
  try {
    const used = new Map<number, Partial<Record<Resource, number>>>();
    const add = (pid: number, amounts: Amounts): void => {
      const sum = used.get(pid) ?? {};
      for (const resource of RESOURCES)
        if (amounts[resource] !== undefined) sum[resource] = (sum[resource] ?? 0) + (amounts[resource] ?? 0);
      used.set(pid, sum);
    };
    let answered = 0;
    for await (const entry of usageEntries(store)) {
      add(entry.pid, entry.used);
      answered++;
    }
    const open = await store.scan({ from: "A/", to: "A0" }, { limit: 10 });
    // The group's own account is open still, and every worker's is closed.
    let leak = open.length === 1 ? 0 : 1;
    const total: Partial<Record<Resource, number>> = {};
    for (const { key, value } of await store.scan({ from: "al/", to: "al0" }, { limit: 10_000 })) {
      const pid = Number(key.slice(3));
      await addLost(store, pid, (amounts) => add(pid, amounts));
      const left = JSON.parse(String(value)) as Amounts;
      const given = budgetOf(plan, 1);
      for (const resource of ["tokensOut", "costMicros", "modelCalls"] as const) {
        const spent = used.get(pid)?.[resource] ?? 0;
        leak += Math.abs((given[resource] ?? 0) - (left[resource] ?? 0) - spent);
        total[resource] = (total[resource] ?? 0) + spent;
      }
    }
    const group = Number(open[0]?.key.slice(2));
    for (const resource of ["tokensOut", "costMicros", "modelCalls"] as const)
      leak += Math.abs(Number((await store.get(`a/${group}/${resource}`))?.value ?? 0) - (total[resource] ?? 0));
    return { leak, answered };
  } finally {
    await store.close();
  }
}

/** What calls had reserved whose end nobody saw: each intent without an outcome or a release behind it. */
async function addLost(store: SqliteMetastore, pid: number, add: (amounts: Amounts) => void): Promise<void> {
  const standing = new Map<string, Amounts>();
  for (let after = SEQ_ZERO; ;) {
    const page = await store.readLog(`j/${pid}`, { after, limit: 1000 });
    for (const { value } of page) {
      const record = JSON.parse(String(value)) as { t: string; p?: string; reserved?: { amounts: Amounts } };
      const place = record.p ?? "";
      if (record.t === "intent") {
        const before = standing.get(place);
        if (before !== undefined) add(before);
        standing.set(place, record.reserved?.amounts ?? {});
      } else if (record.t === "step" || record.t === "release" || record.t === "lost") standing.delete(place);
    }
    const last = page.at(-1);
    if (last === undefined) break;
    after = last.seq;
  }
  for (const amounts of standing.values()) add(amounts);
}
