// Durable steps beside the disk's own floor: `pwrite` and asynchronous `fs.fdatasync` of 150 bytes.

import { closeSync, fdatasync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { type RunContext, planProgram, program } from "ergos";
import { withHost } from "./host.ts";
import { type Bench, type Result, alternate, microsecondsPer, toResult } from "./measure.ts";
import { layered } from "./plans.ts";

const RECORD = Buffer.alloc(150, 65);

/** One write into a grown file and its sync, `times` in a row. */
export function openFloor(dir: string): { readonly run: (times: number) => Promise<void>; readonly close: () => void } {
  const file = join(dir, "floor");
  writeFileSync(file, Buffer.alloc(1024 * 1024));
  const fd = openSync(file, "r+");
  let at = 0;
  const once = (): Promise<void> =>
    new Promise((resolve, reject) => {
      writeSync(fd, RECORD, 0, RECORD.length, (at++ % 6000) * RECORD.length);
      fdatasync(fd, (error) => (error === null ? resolve() : reject(error)));
    });
  return {
    run: async (times) => {
      for (let round = 0; round < times; round++) await once();
    },
    close: () => closeSync(fd),
  };
}

const stepAlone: Bench = {
  name: "durable step",
  run: () =>
    withHost({}, async ({ kernel: { os } }, dir) => {
      const floor = openFloor(dir);
      const steps = 50;
      const alone = program("alone", async (_input: unknown, ctx: RunContext) => {
        for (let at = 0; at < steps; at++) {
          await ctx.step(`s${at}`, () => ({ answer: at, text: "a result of some length, as steps have" }));
          await ctx.os.flush();
        }
      });
      // A log that has grown once is overwritten in place, as that of a host that has run for a while.
      for (let round = 0; round < 40; round++) await os.wait(await os.spawn(alone));
      const samples = await alternate(30, {
        step: () => microsecondsPer(steps, async () => os.wait(await os.spawn(alone))),
        floor: () => microsecondsPer(steps, () => floor.run(steps)),
      });
      const results: Result[] = [
        toResult("a step alone, flushed", "µs", samples["step"] ?? [], { floor: samples["floor"] ?? [], target: 1.3 }),
      ];
      for (const runs of [100, 1000]) {
        const each = 10;
        const wide = program("wide", async (_input: unknown, ctx: RunContext) => {
          for (let at = 0; at < each; at++) {
            await ctx.step(`s${at}`, () => ({ answer: at, text: "a result of some length, as steps have" }));
            await ctx.os.flush();
          }
        });
        const fan = await alternate(runs === 100 ? 15 : 7, {
          step: () =>
            microsecondsPer(runs * each, () =>
              Promise.all(Array.from({ length: runs }, async () => os.wait(await os.spawn(wide)))),
            ),
          floor: () => microsecondsPer(steps, () => floor.run(steps)),
        });
        results.push(
          toResult(`a step in ${runs} runs at once, flushed`, "µs", fan["step"] ?? [], {
            floor: fan["floor"] ?? [],
            target: 1 / 8,
          }),
        );
      }
      floor.close();
      return results;
    }),
};

const durableDag: Bench = {
  name: "durable dag",
  run: () =>
    withHost({}, async ({ kernel: { os } }) => {
      const dag = planProgram(layered(20, 50));
      for (let round = 0; round < 20; round++) await os.wait(await os.spawn(dag));
      const samples = await alternate(20, {
        dag: async () =>
          (await microsecondsPer(1, async () => {
            await os.wait(await os.spawn(dag));
            await os.flush();
          })) / 1000,
      });
      return [toResult("a durable layered DAG of 1,000 nodes, flushed", "ms", samples["dag"] ?? [], { target: 5 })];
    }),
};

const flatCost: Bench = {
  name: "flat cost",
  run: () =>
    withHost({}, async ({ kernel: { os } }) => {
      const timed = program("timed", async (_input: unknown, ctx: RunContext) => {
        const marks: number[] = [];
        for (let at = 0; at < 10_000; at++) {
          if (at % 1000 === 0) marks.push(performance.now());
          await ctx.step(`s${at}`, () => at);
        }
        marks.push(performance.now());
        return marks;
      });
      const first: number[] = [];
      const last: number[] = [];
      for (let round = 0; round < 6; round++) {
        const exit = await os.wait(await os.spawn(timed));
        // What `timed` returns.
        const marks = exit.result as number[];
        if (round === 0) continue;
        first.push((marks[2] ?? 0) - (marks[1] ?? 0));
        last.push((marks[10] ?? 0) - (marks[9] ?? 0));
      }
      return [
        toResult("steps 9,000-10,000 of a run, against steps 1,000-2,000", "µs", last, { floor: first, target: 1.3 }),
      ];
    }),
};

/** Delays of the loop, in milliseconds, while 1,000 runs that began at different times flush each of their steps. */
function loopDelays(inMemory: boolean): Promise<{ readonly p50: number; readonly p99: number; readonly max: number }> {
  return withHost({ inMemory }, async ({ kernel: { os } }) => {
    const writer = program("writer", async (_input: unknown, ctx: RunContext) => {
      for (let at = 0; at < 20; at++) {
        await ctx.step(`s${at}`, () => ({ answer: at, text: "x".repeat(300) }));
        await ctx.os.flush();
        // In memory nothing waits for the disk: the turn of the loop that a flush costs is taken here.
        if (inMemory) await new Promise((resolve) => setImmediate(resolve));
      }
    });
    await Promise.all(Array.from({ length: 1000 }, async () => os.wait(await os.spawn(writer))));
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    const running = Array.from({ length: 1000 }, async (_, at) => {
      await new Promise((resolve) => setTimeout(resolve, at / 2));
      return os.wait(await os.spawn(writer));
    });
    await Promise.all(running);
    delay.disable();
    return { p50: delay.percentile(50) / 1e6, p99: delay.percentile(99) / 1e6, max: delay.max / 1e6 };
  });
}

/** What the store adds to the pauses that the same work has without it (collections, above all). */
const loopStall: Bench = {
  name: "loop stall",
  run: async () => {
    const p99: { with: number[]; without: number[] } = { with: [], without: [] };
    const max: { with: number[]; without: number[] } = { with: [], without: [] };
    for (let round = 0; round < 5; round++) {
      for (const kind of round % 2 === 0 ? (["with", "without"] as const) : (["without", "with"] as const)) {
        const delays = await loopDelays(kind === "without");
        p99[kind].push(delays.p99);
        max[kind].push(delays.max);
      }
    }
    return [
      toResult("p99 delay of the loop while 1,000 runs are flushed, over the same in memory", "ms", p99.with, {
        floor: p99.without,
        target: 1.3,
      }),
      toResult("longest delay of the loop while 1,000 runs are flushed, over the same in memory", "ms", max.with, {
        floor: max.without,
        target: 1.3,
      }),
    ];
  },
};

export const durableBenches: readonly Bench[] = [stepAlone, durableDag, flatCost, loopStall];
