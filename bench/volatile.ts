// Without a journal: the runner beside a bare ready queue, many model calls, and what a parked run costs.

import { type RunContext, createOfflineModel, planProgram, program } from "ergos";
import { withHost } from "./host.ts";
import { type Bench, type Result, alternate, microsecondsPer, toResult } from "./measure.ts";
import { bareExecutor, chain, fanOut, layered } from "./plans.ts";

const executor: Bench = {
  name: "executor",
  run: () =>
    withHost({ inMemory: true }, async ({ kernel: { os } }) => {
      const results: Result[] = [];
      for (const [name, plan, times] of [
        ["a chain of 10", chain(10), 500],
        ["a fan-out of 100", fanOut(100), 50],
        ["a layered DAG of 1,000", layered(20, 50), 10],
      ] as const) {
        const run = planProgram(plan);
        const bare = bareExecutor(plan);
        const nodes = plan.nodes.length;
        const samples = await alternate(21, {
          ours: () =>
            microsecondsPer(times * nodes, async () => {
              for (let at = 0; at < times; at++) await os.wait(await os.spawn(run, { durable: false }));
            }),
          bare: () =>
            microsecondsPer(times * nodes, () => {
              for (let at = 0; at < times; at++) bare();
            }),
        });
        results.push(
          toResult(`a volatile no-op node in ${name}`, "µs", samples["ours"] ?? [], {
            floor: samples["bare"] ?? [],
            target: 15,
          }),
        );
      }
      return results;
    }),
};

const modelCalls: Bench = {
  name: "model calls",
  run: () =>
    withHost(
      { models: [createOfflineModel({ name: "mock", delayMs: 50, effect: "idempotent", script: () => "answer" })] },
      async ({ kernel: { os } }) => {
        const calls = program("calls", async (_input: unknown, ctx: RunContext) => {
          for (let at = 0; at < 10; at++) await ctx.infer(`call${at}`, "question");
        });
        const samples = await alternate(5, {
          runs: async () =>
            (await microsecondsPer(1, () =>
              Promise.all(Array.from({ length: 1000 }, async () => os.wait(await os.spawn(calls)))),
            )) / 1000,
        });
        return [
          toResult("1,000 durable runs of 10 model calls of 50 ms", "ms", samples["runs"] ?? [], {
            floor: [500],
            target: 1.1,
          }),
        ];
      },
    ),
};

/** In the embedded store: what its records take is on the disk. */
const parkedHeap: Bench = {
  name: "parked heap",
  run: () =>
    withHost(
      { models: [createOfflineModel({ name: "mock", delayMs: 600_000, script: () => "never" })] },
      async ({ kernel }) => {
        const { os } = kernel;
        const plan = chain(10);
        const nodes = plan.nodes.map((node, at) =>
          at === 0 ? { ...node, run: (_input: never, ctx: RunContext<never>) => ctx.infer("wait", "question") } : node,
        );
        const parked = planProgram({ ...plan, nodes });
        const collect = globalThis.gc;
        if (collect === undefined) throw new TypeError("run the benchmarks with --expose-gc, as `npm run bench` does");
        const park = async (): Promise<number[]> =>
          Promise.all(Array.from({ length: 1000 }, () => os.spawn(parked, { input: { topic: "what is a lease?" } })));
        const samples: number[] = [];
        for (let round = 0; round < 4; round++) {
          collect();
          collect();
          const before = process.memoryUsage().heapUsed;
          await park();
          // Until the records are on the disk and the audit has sealed its own.
          await new Promise((resolve) => setTimeout(resolve, 1500));
          collect();
          collect();
          if (round > 0) samples.push((process.memoryUsage().heapUsed - before) / 1000 / 1024);
        }
        return [toResult("heap of a parked run", "KiB", samples, { target: 6 })];
      },
    ),
};

export const volatileBenches: readonly Bench[] = [executor, modelCalls, parkedHeap];
