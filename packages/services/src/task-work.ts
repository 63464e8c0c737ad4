// Tasks that processes hand to each other: `executeOn` on one side, `serve` and `report` on the other. Each is a message,
// each answer a reply to it.

import {
  type ErrorRecord,
  KernelError,
  type Message,
  type Os,
  type Platform,
  encodeJson,
  fromErrorRecord,
  orAborted,
  toErrorRecord,
  toPid,
} from "@ergos/kernel";
import { withoutPath } from "./failure.ts";
import type { LetterOptions, RunContext } from "./run-context.ts";

/** A mailbox without room is tried again after so long. */
const FULL_RETRY_MS = 100;

/** How long whoever has handed a task over waits for it, unless it says so. */
const TASK_TIMEOUT_MS = 60_000;

/** The side that hands tasks over, or does them. */
export interface TaskSide {
  readonly ctx: Pick<RunContext<never>, "send" | "reply" | "receive" | "step" | "signal">;
  readonly platform: Pick<Platform, "clock" | "setTimer">;
}

export interface HandOver extends Pick<LetterOptions, "priority"> {
  readonly timeoutMs?: number;
  readonly onProgress?: (progress: unknown) => void;
}

/**
 * Hands a task over and waits for what comes of it.
 * @param take receives, once, the next reply to a message
 */
export async function handOver(
  { ctx, platform: { clock } }: TaskSide,
  take: (name: string, replyTo: string, waitMs: number) => Promise<Message | null>,
  { name, pid, task }: { readonly name: string; readonly pid: number; readonly task: unknown },
  { timeoutMs = TASK_TIMEOUT_MS, onProgress, ...letter }: HandOver,
): Promise<unknown> {
  const until = clock.monotonic() + timeoutMs;
  const { id } = await ctx.send(`${name}/ask`, pid, task, { ...letter, kind: "task", ttlMs: timeoutMs });
  for (let number = 1; ; number++) {
    const waitMs = Math.max(0, Math.ceil(until - clock.monotonic()));
    const reply = await take(number === 1 ? `${name}/reply` : `${name}/reply ${number}`, id, waitMs);
    if (reply === null)
      throw new KernelError("ETIMEDOUT", `process ${pid} has not done ${name} within ${timeoutMs} ms`, { pid });
    // Made by `doTasks` and `reportProgress`.
    const answer = reply.body as {
      readonly value?: unknown;
      readonly error?: ErrorRecord;
      readonly progress?: unknown;
    };
    if (answer.progress !== undefined) {
      onProgress?.(answer.progress);
      continue;
    }
    if (answer.error !== undefined) throw fromErrorRecord(answer.error);
    return answer.value;
  }
}

/** @throws {EINVAL} no task is being done, or there is nothing to tell */
export async function reportProgress(os: Os, task: Message | undefined, progress: unknown): Promise<void> {
  if (task === undefined || progress === undefined)
    throw new KernelError("EINVAL", "ctx.report tells something of a task: call it on the context of its handler");
  const letter = { to: toPid(task.from), kind: "reply", replyTo: task.id, ttlMs: TASK_TIMEOUT_MS } as const;
  try {
    await os.call("send", { ...letter, body: { progress } });
  } catch (error) {
    const isUnheard = error instanceof KernelError && (error.code === "ESRCH" || error.code === "EAGAIN");
    if (!isUnheard) throw error;
  }
}

/** Does tasks until none came for `idleMs`: how many. */
export async function doTasks(
  side: TaskSide,
  work: (name: string, message: Message) => unknown,
  { idleMs, name: prefix = "task" }: { readonly idleMs?: number; readonly name?: string },
): Promise<number> {
  const { ctx } = side;
  for (let number = 1; ; number++) {
    const name = `${prefix} ${number}`;
    const message = await ctx.receive(name, { kind: "task", ...(idleMs === undefined ? {} : { waitMs: idleMs }) });
    if (message === null) return number - 1;
    const done = async (): Promise<{ readonly value: unknown } | { readonly error: ErrorRecord }> => {
      try {
        const value = await work(name, message);
        // What cannot be recorded is a failure of the task, not of who does it.
        encodeJson(value, `the result of ${name}`);
        return { value };
      } catch (error) {
        // Who is told to end has not failed at the task.
        ctx.signal.throwIfAborted();
        return { error: withoutPath(toErrorRecord(error)) };
      }
    };
    const answer = await ctx.step(`${name}/done`, done, { interruptible: true });
    await reply(side, `${name}/reply`, message, answer);
  }
}

/** Replies to whoever is there still, when it has room; an answer that is too large is a failure of the task. */
async function reply({ ctx, platform }: TaskSide, name: string, message: Message, answer: unknown): Promise<void> {
  const { clock } = platform;
  const until = message.expires ?? clock.now() + TASK_TIMEOUT_MS;
  for (let body = answer; ;) {
    try {
      await ctx.reply(name, message, body);
      return;
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      if (error.code === "ESRCH" || (error.code === "EAGAIN" && clock.now() >= until)) return;
      if (error.code === "E2BIG" && body === answer) body = { error: toErrorRecord(error) };
      else if (error.code !== "EAGAIN") throw error;
      else await rest(platform, FULL_RETRY_MS, ctx.signal);
    }
  }
}

function rest(platform: Pick<Platform, "setTimer">, ms: number, signal: AbortSignal): Promise<void> {
  const over = Promise.withResolvers<void>();
  const timer = platform.setTimer(ms, over.resolve);
  return orAborted(over.promise, signal).finally(() => timer.cancel());
}
