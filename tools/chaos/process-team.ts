// What runs in the chaos of processes: a ring of workers, some of them processes of the machine, each of which sends
// its neighbour messages and reads those of the other one. What each comes to does not depend on what dies when.

import type { RunContext } from "@ergos/services";

export interface RingPlan {
  readonly workers: number;
  /** How many of them are processes of the machine. */
  readonly children: number;
  /** Messages that each sends. */
  readonly messages: number;
}

/** Permanent: whatever ends it, it is started again. */
const RESTART = { policy: "on-failure", max: 10_000, withinMs: 60_000, delayMs: 1, maxDelayMs: 20 } as const;

export async function boss({ workers, children, messages }: RingPlan, ctx: RunContext): Promise<readonly unknown[]> {
  const pids: number[] = [];
  for (let number = 0; number < workers; number++) {
    const runtime = number < children ? "process" : "inline";
    const options = { input: { number, messages }, restart: RESTART };
    pids.push(await ctx.spawn(`worker-${number}`, { export: "worker", runtime }, options));
  }
  for (const [at, pid] of pids.entries())
    await ctx.send(`start ${at}`, pid, pids[(at + 1) % pids.length], { kind: "task" });
  const results: unknown[] = [];
  for (const pid of pids) results.push(await ctx.wait(`end of ${pid}`, pid));
  return results;
}

export async function worker(
  { number, messages }: { readonly number: number; readonly messages: number },
  ctx: RunContext,
): Promise<unknown> {
  const start = await ctx.receive("start", { kind: "task" });
  const got: unknown[] = [];
  for (let at = 0; at < messages; at++) {
    await ctx.send(`send ${at}`, Number(start?.body), [number, at]);
    const message = await ctx.receive(`take ${at}`, { kind: "message" });
    got.push(message?.body);
    if (at % 10 === 9) await ctx.step(`work ${at}`, () => at);
  }
  return got;
}

/** What the boss comes to when nothing dies. */
export const undisturbed = ({ workers, messages }: RingPlan): readonly unknown[] =>
  Array.from({ length: workers }, (_, number) =>
    Array.from({ length: messages }, (_one, at) => [(number + workers - 1) % workers, at]),
  );
