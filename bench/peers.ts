// Beside peers, in one process and one run: what a node costs here, in Mastra, in LangGraph.
//
// They are installed by `npm run bench -- peers` alone, into bench/peers.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type RunContext, createOfflineModel, planProgram, program } from "ergos";
import { withHost } from "./host.ts";
import { type Bench, alternate, microsecondsPer, toResult } from "./measure.ts";
import { chain, layered } from "./plans.ts";

const folder = join(import.meta.dirname, "peers");

type Work = () => Promise<unknown>;
interface Mastra {
  chain(length: number, execute?: Work): unknown;
  layered(layers: number, width: number): unknown;
  runner(workflow: unknown): Work;
  stored(workflow: unknown, file: string): Work;
}
interface LangGraph {
  chain(length: number, saver?: boolean): Work;
  layered(layers: number, width: number): Work;
}

interface Dbos {
  /** Undefined where PostgreSQL is not installed. */
  chain(length: number): Promise<{ run: Work; stop(): Promise<void> } | undefined>;
}

export const arePeersInstalled = (): boolean => existsSync(join(folder, "node_modules"));

function install(): void {
  if (arePeersInstalled()) return;
  console.log("installing the peers into bench/peers");
  execFileSync("npm", ["ci", "--no-audit", "--no-fund", "--ignore-scripts"], { cwd: folder, stdio: "inherit" });
}

/** What a module of the peers exports; plain JavaScript, outside of the types of this project. */
async function load<T>(name: string): Promise<T> {
  install();
  return (await import(join(folder, `${name}.mjs`))) as T;
}

/** A volatile node: no journal here, no storage there. */
const volatilePeers: Bench = {
  name: "peers: volatile nodes",
  run: () =>
    withHost({ inMemory: true }, async ({ kernel: { os } }) => {
      const [mastra, langgraph] = [await load<Mastra>("mastra"), await load<LangGraph>("langgraph")];
      const plans = { chain: chain(10), dag: layered(20, 50) };
      const ours = (plan: (typeof plans)["chain"]): Work => {
        const made = planProgram(plan);
        return async () => os.wait(await os.spawn(made, { durable: false }));
      };
      const each = (count: number, nodes: number, work: Work) => () =>
        microsecondsPer(count * nodes, async () => {
          for (let at = 0; at < count; at++) await work();
        });
      const samples = await alternate(7, {
        chain: each(200, 10, ours(plans.chain)),
        mastraChain: each(20, 10, mastra.runner(mastra.chain(10))),
        langgraphChain: each(20, 10, langgraph.chain(10)),
        dag: each(10, 1000, ours(plans.dag)),
        mastraDag: each(1, 1000, mastra.runner(mastra.layered(20, 50))),
        langgraphDag: each(1, 1000, langgraph.layered(20, 50)),
      });
      const beside = (name: string, key: string, peer: string, peerKey: string, target: number) =>
        toResult(name, "µs", samples[key] ?? [], { peer: { name: peer, samples: samples[peerKey] ?? [] }, target });
      return [
        beside("a volatile node in a chain of 10, beside Mastra", "chain", "Mastra", "mastraChain", 1 / 8),
        beside("a volatile node in a chain of 10, beside LangGraph", "chain", "LangGraph", "langgraphChain", 1 / 100),
        beside("a volatile node in a layered DAG of 1,000, beside Mastra", "dag", "Mastra", "mastraDag", 1 / 50),
        beside(
          "a volatile node in a layered DAG of 1,000, beside LangGraph",
          "dag",
          "LangGraph",
          "langgraphDag",
          1 / 100,
        ),
        toResult("a volatile node in the layered DAG, over one in the chain", "µs", samples["dag"] ?? [], {
          floor: samples["chain"] ?? [],
          target: 1.3,
        }),
      ];
    }),
};

/** A durable chain: journaled and flushed here; Mastra's SQLite store, which does not flush; LangGraph's memory. */
const durablePeers: Bench = {
  name: "peers: durable nodes",
  run: () =>
    withHost({}, async ({ kernel: { os } }) => {
      const [mastra, langgraph] = [await load<Mastra>("mastra"), await load<LangGraph>("langgraph")];
      const dir = mkdtempSync(join(tmpdir(), "ergos-bench-peers-"));
      const dbos = await (await load<Dbos>("dbos")).chain(10);
      if (dbos === undefined) console.log("left out: DBOS (install PostgreSQL: apt-get install postgresql)");
      try {
        const plan = planProgram(chain(10));
        const each = (count: number, work: Work) => () =>
          microsecondsPer(count * 10, async () => {
            for (let at = 0; at < count; at++) await work();
          });
        const samples = await alternate(7, {
          ours: each(50, async () => {
            await os.wait(await os.spawn(plan));
            await os.flush();
          }),
          mastra: each(10, mastra.stored(mastra.chain(10), join(dir, "mastra.db"))),
          langgraph: each(10, langgraph.chain(10, true)),
          ...(dbos === undefined ? {} : { dbos: each(5, dbos.run) }),
        });
        const beside = (name: string, key: string, target = 1 / 10) =>
          toResult(`a durable, flushed node in a chain of 10, beside ${name}`, "µs", samples["ours"] ?? [], {
            peer: { name, samples: samples[key] ?? [] },
            target,
          });
        return [
          beside("Mastra's SQLite store (not flushed)", "mastra"),
          beside("LangGraph's store in memory", "langgraph"),
          ...(dbos === undefined ? [] : [beside("DBOS on PostgreSQL (flushed)", "dbos", 1 / 15)]),
        ];
      } finally {
        await dbos?.stop();
        rmSync(dir, { recursive: true, force: true });
      }
    }),
};

const CALL_MS = 50;

/** Processor time of 1,000 runs of 10 calls of 50 ms. */
const cpuPeers: Bench = {
  name: "peers: processor time",
  run: () =>
    withHost(
      { inMemory: true, models: [createOfflineModel({ name: "mock", delayMs: CALL_MS, script: () => "answer" })] },
      async ({ kernel: { os } }) => {
        const mastra = await load<Mastra>("mastra");
        const calls = program("calls", async (_input: unknown, ctx: RunContext) => {
          for (let at = 0; at < 10; at++) await ctx.infer(`call${at}`, "question");
        });
        const run = mastra.runner(
          mastra.chain(10, () => new Promise((resolve) => setTimeout(() => resolve(1), CALL_MS))),
        );
        const cpu = (work: Work) => async () => {
          const before = process.cpuUsage();
          await Promise.all(Array.from({ length: 1000 }, work));
          const { user, system } = process.cpuUsage(before);
          return (user + system) / 1000;
        };
        const samples = await alternate(3, {
          ours: cpu(async () => os.wait(await os.spawn(calls, { durable: false }))),
          mastra: cpu(run),
        });
        return [
          toResult(
            "processor time of 1,000 volatile runs of 10 calls of 50 ms, beside Mastra",
            "ms",
            samples["ours"] ?? [],
            {
              peer: { name: "Mastra", samples: samples["mastra"] ?? [] },
              target: 1 / 8,
            },
          ),
        ];
      },
    ),
};

/** One model call through the kernel (rights, budget, journal off), beside `generateText`. */
const callPeers: Bench = {
  name: "peers: a model call",
  run: () =>
    withHost(
      { inMemory: true, models: [createOfflineModel({ name: "mock", script: () => "answer" })] },
      async ({ kernel: { os } }) => {
        const { ask } = await load<{ ask(): Work }>("ai");
        const generate = ask();
        let places = 0;
        const samples = await alternate(7, {
          ours: () =>
            microsecondsPer(500, async () => {
              for (let at = 0; at < 500; at++)
                await os.infer(`p${places++}`, { messages: [{ role: "user", content: "question" }] });
            }),
          ai: () =>
            microsecondsPer(500, async () => {
              for (let at = 0; at < 500; at++) await generate();
            }),
        });
        return [
          toResult("a model call that answers at once, beside the ai package", "µs", samples["ours"] ?? [], {
            peer: { name: "ai", samples: samples["ai"] ?? [] },
          }),
        ];
      },
    ),
};

export const peerBenches: readonly Bench[] = [volatilePeers, durablePeers, cpuPeers, callPeers];
