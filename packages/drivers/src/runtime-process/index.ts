// `@ergos/drivers/runtime-process`: programs in processes of the machine, each on a socket of its own.
//
// C1  A child is its process: all that it does to the world it does by system calls over descriptor 3, with the rights
//     and budgets of its process. It knows no other way in, and no secret of the host's environment.
// C2  Nothing of it outlives its process: its group, and everything that carries its mark in the environment, is killed
//     when the process is over. When the host dies the kernel of the machine kills it (where `setpriv` is installed),
//     else the end of the socket does; what it left behind the next host of the same data finds by the mark.
// C3  What it prints becomes lines of the process's log, up to a bound; a flood blocks the child, not the host.
// C4  A child that does not greet in time, or is not heard of for three beats, is ended.

import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { accessSync, constants, readFileSync, readdirSync } from "node:fs";
import type { Socket } from "node:net";
import type { Readable } from "node:stream";
import {
  KernelError,
  LIMITS,
  type Os,
  type ProcessContext,
  type Program,
  type ProgramSource,
  type SyscallName,
} from "@ergos/kernel";
import { Requests, Session } from "@ergos/protocol";

export interface ProcessRuntimeOptions {
  /** Node's arguments and the module that greets the host and runs the program (`@ergos/sdk/child`). */
  readonly bootstrap: readonly string[];
  /** Environment of every child; nothing of the host's own is there unless it is here. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Milliseconds in which a child must greet (default 10,000). */
  readonly readyMs?: number;
  /** Milliseconds between signs of life (default 5,000). */
  readonly beatMs?: number;
  /** Milliseconds that it has to end by itself when it is told to (default 5,000). */
  readonly graceMs?: number;
  readonly hostVersion?: string;
  /** Names the host's data: part of the mark that children carry. */
  readonly owner: string;
}

/** Descriptor of the socket in the child. */
const CHANNEL = 3;
/** Bytes of output that are kept of one child. */
const OUTPUT_MAX = 4 * 1024 * 1024;
/** Bytes of the end of stderr that an error shows. */
const TAIL_BYTES = 2000;
/** From the end of the process to the death of its group: for what is on its way out. */
const LEAVE_MS = 200;
const NOBODY_LEAVES = new Promise<void>(() => undefined);

const SETPRIV = ["/usr/bin/setpriv", "/bin/setpriv"].find((path) => {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
});

/** What is enforced on children here, for `doctor` and people. */
export function processConfinement(): { readonly diesWithHost: boolean; readonly network: string } {
  return { diesWithHost: SETPRIV !== undefined, network: "not confined: a child can reach the network beside fetch" };
}

/** Makes programs of modules that run in processes of their own. */
export function createProcessRuntime(
  options: ProcessRuntimeOptions,
): (source: ProgramSource, revision: string) => Program {
  return (source, revision) => ({
    name: source.name ?? source.module ?? "child",
    revision,
    kind: "function",
    source: { ...source, runtime: "process" },
    graceMs: options.graceMs ?? 5000,
    run: (context) => new Child(context, options).run(),
  });
}

class Child {
  readonly #context: ProcessContext;
  readonly #options: ProcessRuntimeOptions;
  readonly #child: ChildProcess;
  readonly #mark: string;
  readonly #failure = Promise.withResolvers<never>();
  #hasGreeted = false;
  #hasExited = false;
  #heardAt = 0;
  #tail = "";
  #kept = 0;

  constructor(context: ProcessContext, options: ProcessRuntimeOptions) {
    this.#context = context;
    this.#options = options;
    this.#failure.promise.catch(() => undefined);
    // Of this life of the process: the next has its own.
    this.#mark = `${options.owner}/${context.pid}/${randomUUID()}`;
    const memoryMb = context.limits?.memoryMb;
    const node = [...(memoryMb === undefined ? [] : [`--max-old-space-size=${memoryMb}`]), ...options.bootstrap];
    const wrapped = ["--pdeathsig", "KILL", "--", process.execPath, ...node];
    const [command, args] = SETPRIV === undefined ? [process.execPath, node] : [SETPRIV, wrapped];
    const { beatMs = 5000, environment = {} } = options;
    this.#child = spawn(command, args, {
      stdio: ["ignore", "pipe", "pipe", "pipe"],
      // A group of its own, which can be killed with all that it has started.
      detached: true,
      env: { ...environment, ERGOS_BEAT_MS: String(beatMs), [MARK]: this.#mark },
    });
  }

  /** Settles when the child is gone. Its exit was told by itself; anything else is a failure. */
  async run(): Promise<never> {
    const child = this.#child;
    const { signal, left } = this.#context;
    const gone = new Promise<KernelError>((resolve) => {
      child.once("error", (cause) => resolve(failed(`cannot be started: ${cause.message}`, cause)));
      child.once("close", (code, name) => resolve(this.#endOf(code, name)));
    });
    const session = this.#serve();
    const output = Promise.all([this.#log(child.stdout, "info"), this.#log(child.stderr, "warn")]);
    const alarm = this.#watch();
    const { graceMs = 5000 } = this.#options;
    let politely: NodeJS.Timeout | undefined;
    signal.addEventListener(
      "abort",
      () => {
        // It has heard of it over its socket; who does not listen there may have a handler.
        politely = setTimeout(() => this.#kill("SIGTERM"), graceMs / 2);
        politely.unref();
      },
      { once: true },
    );
    void left.then(() => {
      session?.close();
      setTimeout(() => this.#kill("SIGKILL"), this.#hasExited ? LEAVE_MS : 0).unref();
    });
    try {
      const failure = await Promise.race([gone, this.#failure.promise]);
      await output.catch(() => undefined);
      throw failure;
    } finally {
      clearTimeout(politely);
      clearInterval(alarm);
      session?.close();
      this.#kill("SIGKILL");
      killStrays(this.#mark);
    }
  }

  /** Serves the child's calls on its socket. */
  #serve(): Session | undefined {
    // A pipe beyond the standard three is a socket pair, open both ways.
    const socket = this.#child.stdio[CHANNEL] as Socket | undefined;
    if (socket === undefined) return undefined;
    const { os } = this.#context;
    const call = (name: string, args: object): unknown => {
      if (name === "exit") this.#hasExited = true;
      return os.call(name as SyscallName, args as never);
    };
    const seat: Os = Object.create(os, { call: { value: call } }) as Os;
    const session = new Session(
      () => {
        this.#hasGreeted = true;
        return Promise.resolve({
          os: seat,
          identity: `process ${this.#context.pid}`,
          ended: NOBODY_LEAVES,
          flush: () => os.flush(),
          leave: () => Promise.resolve(),
        });
      },
      {
        write: (parts) => {
          for (const part of parts) socket.write(part);
        },
        drained: () =>
          socket.writableNeedDrain ? new Promise((resolve) => socket.once("drain", resolve)) : Promise.resolve(),
        pause: () => socket.pause(),
        resume: () => socket.resume(),
        close: () => {
          socket.end();
          // Whoever has said what is no message of the wire has lost its way.
          if (!this.#hasExited && !this.#context.isAborted)
            this.#failure.reject(failed("does not speak the wire on descriptor 3, or has closed it"));
        },
      },
      new Requests(),
      this.#options.hostVersion ?? "",
    );
    socket.on("data", (chunk: Uint8Array) => {
      this.#heardAt = performance.now();
      session.receive(chunk);
    });
    socket.on("error", () => undefined);
    return session;
  }

  /** Ends a child that was not heard of for too long (C4). */
  #watch(): NodeJS.Timeout {
    const { readyMs = 10_000, beatMs = 5000 } = this.#options;
    this.#heardAt = performance.now();
    const alarm = setInterval(
      () => {
        const silent = performance.now() - this.#heardAt;
        const allowed = this.#hasGreeted ? 3 * beatMs : readyMs;
        if (silent <= allowed) return;
        const what = this.#hasGreeted
          ? `gave no sign of life for ${Math.round(silent)} ms: its loop is blocked`
          : `did not become ready within ${readyMs} ms`;
        this.#failure.reject(new KernelError("ETIMEDOUT", `the child ${what}`, { pid: this.#context.pid }));
      },
      Math.min(beatMs, readyMs, 1000) / 2,
    );
    alarm.unref();
    return alarm;
  }

  /** Lines of output as lines of the log (C3). */
  async #log(from: Readable | null, level: "info" | "warn"): Promise<void> {
    if (from === null) return;
    if (level === "warn")
      from.on("data", (chunk: Buffer) => (this.#tail = `${this.#tail}${chunk.toString()}`.slice(-TAIL_BYTES)));
    // A line without an end would be kept whole otherwise.
    for await (const line of cutLines(from)) {
      const before = this.#kept;
      this.#kept += line.length + 1;
      if (before > OUTPUT_MAX) continue;
      const text = this.#kept > OUTPUT_MAX ? `[more than ${OUTPUT_MAX} bytes of output; the rest is not kept]` : line;
      const write = async (): Promise<void> => this.#context.os.call("log", { text, level });
      await write().catch(() => undefined);
    }
  }

  #kill(signal: "SIGTERM" | "SIGKILL"): void {
    const { pid } = this.#child;
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // The whole group is gone already.
    }
  }

  /** How it has ended, where it has not said so itself. */
  #endOf(code: number | null, signal: NodeJS.Signals | null): KernelError {
    const tail = this.#tail.trim();
    const said = tail === "" ? "" : `; its last words: ${tail}`;
    const { pid } = this.#context;
    if (tail.includes("JavaScript heap out of memory"))
      return new KernelError(
        "ENOMEM",
        `the child has used up its heap of ${this.#context.limits?.memoryMb ?? "?"} MiB${said}`,
        { pid },
      );
    const how = signal === null ? `ended with code ${code ?? "?"}` : `was ended by ${signal}`;
    return failed(`${how} without telling a result${said}`);
  }
}

/** In the environment of a child and of all that it starts. */
const MARK = "ERGOS_CHILD";

/**
 * Kills what carries a mark, or with a trailing slash all marks of one owner: processes that have left their group.
 * @returns how many there were; none where the machine does not tell
 */
export function killStrays(mark: string): number {
  const wanted = mark.endsWith("/") ? `${MARK}=${mark}` : `${MARK}=${mark}\0`;
  let found = 0;
  for (const name of readFolder("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    try {
      if (!`\0${readFileSync(`/proc/${name}/environ`, "latin1")}`.includes(`\0${wanted}`)) continue;
      process.kill(Number(name), "SIGKILL");
      found++;
    } catch {
      // It has ended meanwhile, or is not ours to read.
    }
  }
  return found;
}

function readFolder(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

const failed = (what: string, cause?: unknown): KernelError =>
  new KernelError("EFAILED", `the child ${what}`, cause === undefined ? {} : { cause });

/** Lines, those without an end cut at the length that a log line may have. */
async function* cutLines(from: Readable): AsyncGenerator<string, void, undefined> {
  let rest = "";
  for await (const chunk of from) {
    rest += String(chunk);
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield line;
    for (; rest.length > LIMITS.logLineMax; rest = rest.slice(LIMITS.logLineMax))
      yield rest.slice(0, LIMITS.logLineMax);
  }
  if (rest !== "") yield rest;
}
