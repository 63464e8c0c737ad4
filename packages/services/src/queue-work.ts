// Work on the tasks of a queue: claimed one after the other, kept while they are done, ended or given back.

import {
  type ErrorRecord,
  KernelError,
  LIMITS,
  type Os,
  type Platform,
  type Task,
  encodeJson,
  toErrorRecord,
} from "@ergos/kernel";

/** Of the program that works. */
interface Worker {
  readonly os: Os;
  readonly signal: AbortSignal;
  readonly platform: Pick<Platform, "setTimer">;
  step<T>(name: string, work: () => Promise<T>): Promise<T>;
}

/** What is recorded, and under which places. */
interface Places<Context> {
  placeOf(name: string): string;
  once<T>(place: string, act: () => T | Promise<T>): Promise<T>;
  /** A context for the steps of one task. */
  inTask(name: string): Context;
}

interface Work<Context> {
  readonly queue: string;
  readonly handler: (body: unknown, ctx: Context, task: Task) => unknown;
  readonly idleMs?: number;
  readonly leaseMs?: number;
  readonly name?: string;
}

/** Does tasks until none came for `idleMs`: how many. */
export async function workOn<Context>(
  worker: Worker,
  places: Places<Context>,
  { queue, handler, idleMs, leaseMs = 60_000, name: prefix = queue }: Work<Context>,
): Promise<number> {
  const { os, signal } = worker;
  for (let number = 1, done = 0; ; number++) {
    const name = `${prefix} ${number}`;
    const place = places.placeOf(`${name}/claim`);
    const wanted = { queue, leaseMs, ...(idleMs === undefined ? {} : { waitMs: idleMs }), signal };
    const task = await places.once(place, () => os.call("claim", { place, ...wanted }));
    if (task === null) return done;
    const { id } = task;
    const inner = places.inTask(name);
    const stop = keep(worker, id, leaseMs);
    try {
      const outcome = await worker.step(`${name}/done`, () =>
        attempt(worker, id, () => handler(task.body, inner, task)),
      );
      const end = { place: places.placeOf(`${name}/end`), id };
      if ("result" in outcome) await os.call("complete", { ...end, result: outcome.result });
      else if (outcome.error !== undefined)
        await os.call("fail", { ...end, error: outcome.error, again: outcome.error.code !== "ETERMINAL" });
      if ("result" in outcome) done++;
    } catch (error) {
      // It was taken away meanwhile, and is somebody else's.
      if (!isLost(error)) throw error;
    } finally {
      stop();
    }
  }
}

/** What an attempt at a task came to; nothing where the task is not this process's any more. */
async function attempt(
  { os, signal }: Worker,
  id: number,
  work: () => unknown,
): Promise<{ readonly result: unknown } | { readonly error?: ErrorRecord }> {
  try {
    await os.call("renew", { id });
    const result = (await work()) ?? null;
    encodeJson(result, "the result of the task", LIMITS.taskBytesMax);
    return { result };
  } catch (error) {
    // Who is told to end keeps it: its next life goes on.
    signal.throwIfAborted();
    return isLost(error) ? {} : { error: toErrorRecord(error) };
  }
}

/** Renews the lease of a task until it is stopped. */
function keep({ os, platform }: Worker, id: number, leaseMs: number): () => void {
  const every = Math.max(1, Math.floor(leaseMs / 3));
  const renew = async (): Promise<void> => os.call("renew", { id });
  let timer = platform.setTimer(every, beat, { idle: true });
  function beat(): void {
    timer = platform.setTimer(every, beat, { idle: true });
    // A task that is lost is told by its completion.
    renew().catch(() => undefined);
  }
  return () => timer.cancel();
}

const isLost = (error: unknown): boolean => error instanceof KernelError && error.code === "ESTALE";
