// `@ergos/drivers/runtime-worker`: programs in threads of the host's own process, each with a heap and a loop of its own.
//
// V1  A thread that blocks, crashes or runs out of memory ends alone: the host's loop never waits for it. It is no wall,
//     though: its code can reach what the process can. Code that is not trusted runs in a process of its own.
// V2  All that it does to the world through ErgOS are system calls over its port, with the rights and budgets of its
//     process, as of a child of the machine.
// V3  What it sends and nobody has read yet is bounded; a thread that floods its port is ended.

import { setTimeout as delay } from "node:timers/promises";
import { MessageChannel, Worker } from "node:worker_threads";
import { KernelError, type ProcessContext, type Program, type ProgramSource } from "@ergos/kernel";
import { Guest, type GuestOptions, type Vessel, failed, lastWords, ownBytes } from "@ergos/protocol";

export interface WorkerRuntimeOptions extends GuestOptions {
  /** The module that greets the host and runs the program (`@ergos/sdk/child`). */
  readonly bootstrap: string;
  /** Environment of every thread; nothing of the host's own is there unless it is here. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** Mebibytes of heap of a thread that has no limit of its own. */
const HEAP_MB = 512;
const STACK_MB = 4;
const CPU_LOOK_MS = 100;
const UNREAD_BYTES_MAX = 64 * 1024 * 1024;

/** Makes programs of modules that run in threads of their own. */
export function createWorkerRuntime(
  options: WorkerRuntimeOptions,
): (source: ProgramSource, revision: string) => Program {
  return (source, revision) => ({
    name: source.name ?? source.module ?? "worker",
    revision,
    kind: "function",
    tellsDefinitions: true,
    source: { ...source, runtime: "worker" },
    graceMs: options.graceMs ?? 5000,
    run: (context) => new Guest(context, launch(context, options), options).run(),
  });
}

function launch(context: ProcessContext, { bootstrap, environment = {}, beatMs = 5000 }: WorkerRuntimeOptions): Vessel {
  const { port1: own, port2: port } = new MessageChannel();
  const heapMb = context.limits?.memoryMb ?? HEAP_MB;
  const worker = new Worker(bootstrap, {
    stdout: true,
    stderr: true,
    env: { ...environment, ERGOS_BEAT_MS: String(beatMs) },
    workerData: { ergos: port },
    transferList: [port],
    resourceLimits: { maxOldGenerationSizeMb: heapMb, stackSizeMb: STACK_MB },
  });
  let why: KernelError | undefined;
  const end = (): void => {
    own.close();
    void worker.terminate();
  };
  const { cpuMs } = context.limits ?? {};
  const watch =
    cpuMs === undefined
      ? undefined
      : watchTime(worker, cpuMs, () => {
          why = new KernelError("ETIMEDOUT", `the worker has used up its processor time of ${cpuMs} ms`, {
            pid: context.pid,
          });
          end();
        });
  return {
    what: "worker",
    channel: channelOf(own, () => {
      why = failed("worker", `has sent more than ${UNREAD_BYTES_MAX} bytes that nobody has read yet`);
      end();
    }),
    stdout: worker.stdout,
    stderr: worker.stderr,
    gone: (tail) =>
      new Promise((resolve) => {
        let cause: Error | undefined;
        worker.once("error", (error: Error) => (cause = error));
        worker.once("exit", (code) => {
          clearInterval(watch);
          // Its streams end a moment after it.
          void delay(1).then(() => resolve(why ?? endOf(context, code, cause, heapMb, tail())));
        });
      }),
    // A thread hears no signal of the machine; it has heard of its end over its port.
    terminate: () => undefined,
    kill: end,
  };
}

/** Looks every so often at the processor time of a thread. */
function watchTime(worker: Worker, cpuMs: number, over: () => void): NodeJS.Timeout {
  return setInterval(() => {
    worker.cpuUsage().then(
      ({ user, system }) => {
        if (user + system > cpuMs * 1000) over();
      },
      // It has ended, or has not begun.
      () => undefined,
    );
  }, CPU_LOOK_MS).unref();
}

function channelOf(port: MessageChannel["port1"], flooded: () => void): Vessel["channel"] {
  let hear: ((chunk: Uint8Array) => void) | undefined;
  let isPaused = false;
  let unread = 0;
  const held: Uint8Array[] = [];
  const deliver = (): void => {
    while (!isPaused) {
      const chunk = held.shift();
      if (chunk === undefined) return;
      unread -= chunk.buffer.byteLength;
      hear?.(chunk);
    }
  };
  port.on("message", (chunk: Uint8Array) => {
    // A single piece may be as large as a frame.
    const isFlooded = unread > UNREAD_BYTES_MAX;
    held.push(chunk);
    unread += chunk.buffer.byteLength;
    if (isFlooded) flooded();
    else deliver();
  });
  return {
    write: (part) => port.postMessage(ownBytes(part)),
    share: (answer) => port.postMessage(answer),
    drained: () => Promise.resolve(),
    pause: () => void (isPaused = true),
    resume: () => {
      isPaused = false;
      deliver();
    },
    end: () => port.close(),
    onData: (listener) => void (hear = listener),
  };
}

/** How a thread has ended that has not said so itself. */
function endOf(
  { pid }: ProcessContext,
  code: number,
  cause: Error | undefined,
  heapMb: number,
  tail: string,
): KernelError {
  const { code: name } = (cause ?? {}) as { readonly code?: unknown };
  if (name === "ERR_WORKER_OUT_OF_MEMORY")
    return new KernelError("ENOMEM", `the worker has used up its heap of ${heapMb} MiB${lastWords(tail)}`, {
      pid,
      cause,
    });
  if (cause !== undefined) return failed("worker", `has crashed: ${cause.message}${lastWords(tail)}`, cause);
  return failed("worker", `ended with code ${code} without telling a result${lastWords(tail)}`);
}
