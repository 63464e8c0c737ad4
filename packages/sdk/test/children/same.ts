// Programs that come to the same wherever they run.

import type { ErrorRecord, KernelError, Signal } from "@ergos/kernel";
import type { RunContext } from "@ergos/services";

export const sleeps = async (count: number, ctx: RunContext): Promise<string> => {
  await Promise.all(Array.from({ length: count }, () => ctx.sleep(1)));
  return "slept";
};

/** Waits for more tasks than it may have calls under way, and does them itself. */
export const queues = async (count: number, ctx: RunContext): Promise<number> => {
  const ends: Promise<unknown>[] = [];
  for (let at = 0; at < count; at++) ends.push(ctx.taskEnd(`end${at}`, await ctx.submit(`t${at}`, "own", at)));
  await ctx.work("own", (body) => body, { idleMs: 0 });
  return (await Promise.all(ends)).reduce<number>((sum, one) => sum + Number(one), 0);
};

export const hears = async (_input: unknown, ctx: RunContext): Promise<readonly Signal[]> => {
  const heard: Signal[] = [];
  const signals = ctx.signals();
  const first = signals.next();
  // Who is told so is told after it listens.
  await ctx.log("listens");
  const { value } = await first;
  if (value !== undefined) heard.push(value);
  for await (const signal of signals) heard.push(signal);
  return heard;
};

export const gives = async (_input: unknown, ctx: RunContext): Promise<boolean> => {
  await ctx.log("waits");
  return ctx.receive("m").then(
    () => false,
    () => ctx.signal.aborted,
  );
};

/** Calls a tool that is busy, in the time that this asks for. */
export const waits = async (_input: unknown, ctx: RunContext): Promise<unknown> => {
  const began = performance.now();
  const answer = await ctx.step("ask", () => ctx.call("busy", "busy", {}), { retry: { attempts: 2, delayMs: 1 } });
  const once = await ctx.call("refused", "busy", { never: true }).catch((error: unknown) => error as KernelError);
  const { retryAfterMs, mayHaveActed } = once as KernelError;
  return { answer, hasWaited: performance.now() - began >= 300, retryAfterMs, mayHaveActed };
};

export const fails = (): never => {
  throw new Error("outer", { cause: new TypeError("inner") });
};

export const hides = (): never => {
  throw Object.defineProperty(new Error("hidden"), "stack", { get: () => JSON.parse("no") as string });
};

export const ends = async (error: ErrorRecord, ctx: RunContext): Promise<void> => ctx.os.call("exit", { error });

export const prints = (): string => {
  process.stdout.write("no end");
  process.stdout.write("\u{1f600}".repeat(9000));
  return "printed";
};

export const rests = async (_input: unknown, ctx: RunContext): Promise<string> => {
  await ctx.log("rests");
  await new Promise((go) => setTimeout(go, 500));
  // More than a client may have calls under way.
  const beat = async (): Promise<void> => ctx.os.call("beat", {});
  for (let sent = 0; sent < 300; sent++) beat().catch(() => undefined);
  return "rested";
};

export const spawns = async (_input: unknown, ctx: RunContext): Promise<unknown> => ctx.spawn("kid", () => "kid");

/** Fails in its first life; in the second it knows what that has done. */
export async function remembers(_input: unknown, ctx: RunContext): Promise<boolean> {
  const knew = ctx.hasOutcome("a");
  await ctx.step("a", () => 1);
  if (!knew) throw new Error("the first life");
  return knew;
}

/** Takes longer to take back what it has done than it is given to end, and asks a model on the way. */
export const books = async (_input: unknown, ctx: RunContext): Promise<void> => {
  await ctx.log("booked");
  try {
    await ctx.sleep(600_000);
  } finally {
    await ctx.shield(async (own) => {
      await own.sleep(300);
      await own.infer("told", "Tell them that we are sorry.");
      await own.step("cancel", () => own.log("cancelled"));
    });
  }
};

export const renews = async (left: number, ctx: RunContext<number>): Promise<string> => {
  await ctx.step("count", () => left);
  await ctx.log(`left: ${left}`);
  return left === 0 ? "lift off" : ctx.continueAsNew(left - 1);
};

/** Dies behind a shield of its own. */
export const falls = async (_input: unknown, ctx: RunContext): Promise<void> =>
  ctx.shield(
    async () => {
      await ctx.log("behind");
      process.exit(7);
    },
    { timeoutMs: 30_000 },
  );

/** Rings three times in its first life, goes on from that, and rings again. */
export const rings = async (_input: unknown, ctx: RunContext): Promise<readonly string[]> => {
  const ring = (): Promise<string> =>
    ctx.call("ring", "ring", {}, { retry: { attempts: 3, delayMs: 1 } }).then(String, () => "nobody answers");
  const first = await ring();
  await ctx.step("noted", () => true);
  await ctx.log("rung");
  await ctx.receive("go");
  return [first, await ring()];
};

/** A step that calls, beside a branch that calls too. */
export const posts = async (_input: unknown, ctx: RunContext): Promise<void> => {
  const pause = (ms: number): Promise<void> => new Promise((go) => setTimeout(go, ms));
  const post = ctx.step("post", async () => {
    await ctx.log("posting");
    await pause(900);
    await ctx.call("posted", "ring");
  });
  const more = async (): Promise<void> => {
    await pause(600);
    for (const at of [1, 2, 3]) await ctx.call(`more ${at}`, "ring");
  };
  await Promise.all([post, more()]);
};
