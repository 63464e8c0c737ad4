// A kernel in memory for tests, with a process whose rights can be chosen.

import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { createOfflineModel } from "@ergos/drivers/model-offline";
import { createNet } from "@ergos/drivers/net";
import { createNodePlatform } from "@ergos/drivers/platform-node";
import {
  type Batch,
  Kernel,
  KernelError,
  isKernelError,
  type KernelParts,
  type Metastore,
  type Os,
  type Program,
  type ProcessContext,
} from "@ergos/kernel";
import { expect } from "vitest";

export function bootKernel(parts: Partial<KernelParts> = {}): Promise<Kernel> {
  return Kernel.boot({
    store: new MemoryMetastore(),
    objects: new MemoryObjectStore(),
    platform: createNodePlatform({ checksLocks: true }),
    models: [createOfflineModel()],
    net: createNet(),
    ...parts,
  });
}

/** Closes a kernel whose store must be whole. */
export async function closeWhole(kernel: Kernel): Promise<void> {
  expect((await kernel.os.call("checkStore", { contents: true })).problems).toEqual([]);
  await kernel.close();
}

/** A program that hands its context out and runs until it is told to end. */
export function openProgram(name = "open"): { readonly program: Program; readonly context: Promise<ProcessContext> } {
  const { promise, resolve } = Promise.withResolvers<ProcessContext>();
  const program: Program = {
    name,
    revision: "1",
    kind: "function",
    run: (context) => {
      resolve(context);
      return new Promise((_done, fail) =>
        context.signal.addEventListener("abort", () => fail(context.signal.reason as Error), { once: true }),
      );
    },
  };
  return { program, context: promise };
}

/** The calls of a new child that runs until it is told to end. */
export async function openChild(of: Os, options: Parameters<Os["spawn"]>[1] = {}): Promise<Os> {
  const { program, context } = openProgram();
  await of.spawn(program, options);
  return (await context).os;
}

/** The code with which something fails, or `ok`. */
export async function codeOf(work: () => unknown): Promise<string> {
  try {
    await work();
    return "ok";
  } catch (error) {
    return isKernelError(error) ? error.code : String(error);
  }
}

export const pause = (ms: number): Promise<void> => new Promise((go) => setTimeout(go, ms));

/** What a promise comes to, or `waits` when it takes longer. */
export const within = <T>(ms: number, promise: Promise<T>): Promise<T | "waits"> =>
  Promise.race([promise, pause(ms).then(() => "waits" as const)]);

/** The calls of a process that holds exactly these grants. */
export async function processWith(kernel: Kernel, grants: readonly string[]): Promise<Os> {
  const { program, context } = openProgram();
  await kernel.os.spawn(program, { grants });
  return (await context).os;
}

/** A store that outlives its hosts: each life sees it until its host dies, after so many commits. */
export class LastingStore {
  readonly #store = new MemoryMetastore();

  life(commits: number = Number.POSITIVE_INFINITY): Metastore & { readonly died: Promise<void> } {
    const store = this.#store;
    const died = Promise.withResolvers<void>();
    let left = commits;
    return {
      features: store.features,
      get seq() {
        return store.seq;
      },
      get: (key) => store.get(key),
      scan: (range, options) => store.scan(range, options),
      readLog: (log, options) => store.readLog(log, options),
      tail: (after, options) => store.tail(after, options),
      commit: (batch) => {
        if (left-- > 0) return store.commit(batch);
        // A dead host hears nothing more.
        died.resolve();
        return new Promise(() => undefined);
      },
      flush: () => store.flush(),
      close: () => Promise.resolve(),
      died: died.promise,
    };
  }
}

/** Runs a program in a host that dies after so many commits, unless it ends before; and boots the next one over its stores. */
export async function bootAfterDeath(
  commits: number,
  parts: Partial<KernelParts>,
  ...spawn: Parameters<Os["spawn"]>
): Promise<{ readonly kernel: Kernel; readonly isDead: boolean }> {
  const store = new LastingStore();
  const objects = new MemoryObjectStore();
  const first = store.life(commits);
  const dying = await Promise.race([bootKernel({ store: first, objects, ...parts }), first.died]);
  const pid = await Promise.race([dying?.os.spawn(...spawn), first.died]);
  const exit = await Promise.race([pid === undefined ? undefined : dying?.os.wait(pid), first.died]);
  return { kernel: await bootKernel({ store: store.life(), objects, ...parts }), isDead: exit === undefined };
}

/** A store that refuses the commits that it is told to, with EDQUOT. */
export function refusing(isRefused: (batch: Batch) => boolean): Metastore {
  const store = new MemoryMetastore();
  const commit = store.commit.bind(store);
  store.commit = async (batch) => {
    if (isRefused(batch)) throw new KernelError("EDQUOT", "the store refuses it");
    return commit(batch);
  };
  return store;
}
