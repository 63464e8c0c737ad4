// `@ergos/drivers/runtime-process`: programs in processes of the machine, each on a socket of its own.
//
// C1  A child is its process: all that it does to the world it does by system calls over descriptor 3, with the rights
//     and budgets of its process. It knows no other way in, and no secret of the host's environment.
// C2  Nothing of it outlives its process: its group, and everything that carries its mark in the environment, is killed
//     when the process is over. When the host dies the kernel of the machine kills it (where `setpriv` is installed),
//     else the end of the socket does; what it left behind the next host of the same data finds by the mark.
// C3  What it prints becomes lines of the process's log, up to a bound; a flood blocks the child, not the host.
// C5  A confined child runs in namespaces of its own, with no network but the proxy of its process; where the machine
//     cannot do that it does not run.
// C4  A child that does not greet in time, or is not heard of for three beats, is ended. Its time begins when it begins:
//     a few at a time do.

import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { accessSync, constants } from "node:fs";
import type { Socket } from "node:net";
import { availableParallelism, constants as osConstants } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { KernelError, type ProcessContext, type Program, type ProgramSource } from "@ergos/kernel";
import { Gate } from "./gate.ts";
import { PROXY_PORT, PROXY_SOCKET, findBubblewrap, sandboxArguments } from "./sandbox.ts";
import { openProxy, sweepProxies } from "./proxy.ts";
import { Reaper } from "./reaper.ts";
import { Spares, type Started } from "./spares.ts";
import { MARK, Strays } from "./strays.ts";
import { Guest, type GuestOptions, type Vessel, drainOf, failed, lastWords } from "@ergos/protocol";

export { findBubblewrap } from "./sandbox.ts";
export { findStrays, killStrays } from "./strays.ts";

export interface ProcessRuntimeOptions extends GuestOptions {
  /** Node's arguments and the module that greets the host and runs the program (`@ergos/sdk/child`). */
  readonly bootstrap: readonly string[];
  /** Environment of every child; nothing of the host's own is there unless it is here. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Names the host's data: part of the mark that children carry. */
  readonly owner: string;
  /** Children that are made ready before they are asked for (default none); those with a heap of their own never are. */
  readonly spares?: number;
  /** Folders that no confined child sees: the data of the host. */
  readonly hidden?: readonly string[];
}

/** Descriptor of the socket in the child. */
const CHANNEL = 3;
/** Children that begin at a time, for each core: more take each other's time to greet. */
const STARTING_PER_CORE = 4;
/** From the end of a child to that of its output, at the longest. */
const CLOSE_MS = 200;

const toolNamed = (name: string): string | undefined =>
  [`/usr/bin/${name}`, `/bin/${name}`].find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
const SETPRIV = toolNamed("setpriv");
const PRLIMIT = toolNamed("prlimit");
/** Files and sockets that a confined child may have open. */
const CONFINED_FILES_MAX = 1024;
const SIGXCPU_CODE = 128 + osConstants.signals.SIGXCPU;

/** What is enforced on children here, for `doctor` and people. */
export function processConfinement(): {
  readonly diesWithHost: boolean;
  readonly boundsTime: boolean;
  readonly canConfine: boolean;
} {
  return {
    diesWithHost: SETPRIV !== undefined,
    boundsTime: PRLIMIT !== undefined,
    canConfine: findBubblewrap() !== undefined,
  };
}

/** Runs modules in processes of their own. */
/** Whose a child is that nobody has asked for. */
const SPARE = "spare";

export class ProcessRuntime {
  readonly #options: ProcessRuntimeOptions;
  /** This life of the host. */
  readonly #life = randomUUID();
  readonly #reaper = new Reaper(MARK, this.#life);
  readonly #spares: Spares;
  readonly #strays = new Strays();
  /** What earlier hosts have left is gone. */
  #hasSwept = false;
  readonly #gate = new Gate(STARTING_PER_CORE * availableParallelism());

  constructor(options: ProcessRuntimeOptions) {
    this.#options = options;
    const start = (): Started => this.#start(SPARE, UNBOUNDED);
    this.#spares = new Spares(options.spares ?? 0, start, ({ child, mark }) => endChild(child, mark, this.#strays));
  }

  /** The program of a module. */
  toProgram(source: ProgramSource, revision: string): Program {
    const options = this.#options;
    return {
      name: source.name ?? source.module ?? "child",
      revision,
      kind: "function",
      tellsDefinitions: true,
      source: { ...source, runtime: "process" },
      graceMs: options.graceMs ?? 5000,
      run: async (context) => {
        if (source.confined === true) return this.#runConfined(context, source.module ?? "");
        const { memoryMb, cpuMs } = context.limits ?? {};
        // What bounds it is given to a child when it is started.
        const spare = memoryMb === undefined && cpuMs === undefined ? this.#spares.take() : undefined;
        if (spare !== undefined) return this.#guest(context, spare);
        const leave = await this.#gate.enter(enteringOf(context));
        try {
          return await this.#guest(context, this.#start(String(context.pid), boundsOf(context)), leave);
        } finally {
          leave();
        }
      },
    };
  }

  async #runConfined(context: ProcessContext, module: string): Promise<never> {
    const options = this.#options;
    if (!this.#hasSwept) sweepProxies();
    this.#hasSwept = true;
    const leave = await this.#gate.enter(enteringOf(context));
    try {
      const { wrap, close } = await confine(context, options, module);
      try {
        const started = this.#start(String(context.pid), boundsOf(context, true), wrap);
        return await this.#guest(context, started, leave);
      } finally {
        close();
      }
    } finally {
      leave();
    }
  }

  /** @param greeted is called when it has greeted the host */
  #guest(context: ProcessContext, started: Started, greeted?: () => void): Promise<never> {
    const vessel = vesselOf(context, started, this.#strays);
    return new Guest(context, greeted === undefined ? vessel : { ...vessel, greeted }, this.#options).run();
  }

  #start(whose: string, bounds: Bounds, wrap?: Wrap): Started {
    this.#reaper.watch();
    // Of this life of the process: the next has its own.
    const mark = `${this.#options.owner}/${whose}/${this.#life}.${randomUUID()}`;
    // It has time to practise.
    const environment =
      whose === SPARE ? { ...this.#options.environment, ERGOS_SPARE: "1" } : this.#options.environment;
    return startChild({ ...this.#options, ...(environment === undefined ? {} : { environment }) }, mark, bounds, wrap);
  }

  /** Ends the children that nobody has asked for. */
  close(): void {
    this.#spares.close();
    this.#reaper.close();
  }
}

/** What stands before the command of a child, and what Node is told. */
interface Bounds {
  readonly command: readonly string[];
  readonly node: readonly string[];
}
const UNBOUNDED: Bounds = { command: [], node: [] };

/**
 * The bounds of a child, by the machine and by Node.
 * @throws {ENOTSUP} its processor time is bounded, and this machine cannot
 */
function boundsOf({ pid, limits: { memoryMb, cpuMs } = {} }: ProcessContext, isConfined = false): Bounds {
  const node = memoryMb === undefined ? [] : [`--max-old-space-size=${memoryMb}`];
  if (cpuMs !== undefined && PRLIMIT === undefined)
    throw new KernelError(
      "ENOTSUP",
      "a bound of processor time needs prlimit; install the package `util-linux`, or leave out cpuMs",
      { pid },
    );
  if (PRLIMIT === undefined || (cpuMs === undefined && !isConfined)) return { command: [], node };
  const seconds = cpuMs === undefined ? undefined : Math.ceil(cpuMs / 1000);
  // Told by SIGXCPU, and ended a second later.
  const time = seconds === undefined ? [] : [`--cpu=${seconds}:${seconds + 1}`];
  const files = isConfined ? ["--core=0:0", `--nofile=${CONFINED_FILES_MAX}:${CONFINED_FILES_MAX}`] : [];
  return { command: [PRLIMIT, ...time, ...files], node };
}

/** What stands around the command of a confined child, and its environment there. */
interface Wrap {
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

/**
 * Opens the way out of a confined child, and makes what it runs in.
 * @throws {ENOTSUP} this machine confines nothing
 */
async function confine(
  { os, pid }: ProcessContext,
  { bootstrap, hidden = [] }: ProcessRuntimeOptions,
  module: string,
): Promise<{ readonly wrap: Wrap; readonly close: () => void }> {
  const bubblewrap = findBubblewrap();
  if (bubblewrap === undefined)
    throw new KernelError(
      "ENOTSUP",
      "a confined process needs bubblewrap, and a machine that lets it work; install the package `bubblewrap`, or run it unconfined",
      { pid },
    );
  const proxy = await openProxy(os);
  const address = `http://127.0.0.1:${PROXY_PORT}`;
  const names = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];
  const environment = {
    ...Object.fromEntries(names.map((name) => [name, address])),
    NODE_USE_ENV_PROXY: "1",
    ERGOS_PROXY: PROXY_SOCKET,
    HOME: "/tmp",
    TMPDIR: "/tmp",
  };
  try {
    const modules = [...bootstrap.filter((argument) => argument.startsWith("/")), module];
    const command = [bubblewrap, ...sandboxArguments({ modules, hidden, proxyFolder: proxy.folder })];
    return { wrap: { command, environment }, close: () => proxy.close() };
  } catch (error) {
    proxy.close();
    throw error;
  }
}

/** Starts a child of the machine. */
function startChild(options: ProcessRuntimeOptions, mark: string, bounds: Bounds, wrap?: Wrap): Started {
  const { beatMs = 5000 } = options;
  const environment = {
    ...options.environment,
    ...wrap?.environment,
    ERGOS_BEAT_MS: String(beatMs),
    [MARK]: mark,
  };
  // What confines begins without an environment, so that nothing of the host's is there.
  const around = wrap === undefined ? [] : [...wrap.command, ...setenv(environment), "--"];
  const plain = [...bounds.command, ...around, process.execPath, ...bounds.node, ...options.bootstrap];
  const [command = "", ...args] = SETPRIV === undefined ? plain : [SETPRIV, "--pdeathsig", "KILL", "--", ...plain];
  const child = spawn(command, args, {
    stdio: ["ignore", "pipe", "pipe", "pipe"],
    // A group of its own, which can be killed with all that it has started.
    detached: true,
    env: environment,
  });
  // Whoever waits for it hears of it, too.
  child.on("error", () => undefined);
  // Where the machine has no descriptors left Node makes no pipes, whatever the types say.
  if ((child as { readonly stdio?: unknown }).stdio === undefined)
    throw new KernelError(
      "EAGAIN",
      "the machine starts no more processes: this host, or all of them, have too many open files; end some children, or allow more (ulimit -n)",
    );
  return { child, mark };
}

function vesselOf(context: ProcessContext, { child, mark }: Started, strays: Strays): Vessel {
  return {
    what: "child",
    channel: channelOf(child),
    stdout: child.stdout,
    stderr: child.stderr,
    gone: (tail) =>
      new Promise((resolve) => {
        child.once("error", (cause) => resolve(failed("child", `cannot be started: ${cause.message}`, cause)));
        child.once("exit", (code, signal) => {
          // What it has started may hold its output open; that ends with it.
          killGroup(child, "SIGKILL");
          const closed = new Promise((over) => child.once("close", over));
          const over = [strays.kill(mark), Promise.race([closed, delay(CLOSE_MS)])];
          void Promise.all(over).then(() => resolve(endOf(context, code, signal, tail())));
        });
      }),
    terminate: () => killGroup(child, "SIGTERM"),
    kill: () => endChild(child, mark, strays),
  };
}

/** Ends a child with all that it has started. */
function endChild(child: ChildProcess, mark: string, strays: Strays): void {
  killGroup(child, "SIGKILL");
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) void strays.kill(mark);
  else child.once("exit", () => void strays.kill(mark));
}

const setenv = (environment: Readonly<Record<string, string>>): readonly string[] =>
  Object.entries(environment).flatMap(([name, value]) => ["--setenv", name, value]);

function channelOf(child: ChildProcess): Vessel["channel"] {
  // A pipe beyond the standard three is a socket pair, open both ways; a child that did not start has none.
  const socket = child.stdio[CHANNEL] as Socket | undefined;
  socket?.on("error", () => undefined);
  return {
    write: (part) => void socket?.write(part),
    drained: socket === undefined ? () => Promise.resolve() : drainOf(socket),
    pause: () => void socket?.pause(),
    resume: () => void socket?.resume(),
    end: () => void socket?.end(),
    onData: (hear) => void socket?.on("data", hear),
  };
}

function killGroup({ pid }: ChildProcess, signal: "SIGTERM" | "SIGKILL"): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // The whole group is gone already.
  }
}

/** What ends the wait for room: of a process that was told to end in its last life, nothing does. */
const enteringOf = ({ signal }: ProcessContext): AbortSignal =>
  signal.aborted ? new AbortController().signal : signal;

/** How a child has ended that has not said so itself. */
function endOf(
  { pid, limits, signal: told }: ProcessContext,
  code: number | null,
  signal: NodeJS.Signals | null,
  tail: string,
): KernelError {
  if (tail.includes("JavaScript heap out of memory"))
    return new KernelError(
      "ENOMEM",
      `the child has used up its heap of ${limits?.memoryMb ?? "?"} MiB${lastWords(tail)}`,
      { pid },
    );
  // It was told to end, and has.
  if (told.aborted && told.reason instanceof KernelError) return told.reason;
  // What confines tells the signal as a code.
  if (signal === "SIGXCPU" || code === SIGXCPU_CODE)
    return new KernelError("ETIMEDOUT", `the child has used up its processor time of ${limits?.cpuMs ?? "?"} ms`, {
      pid,
    });
  const how = signal === null ? `ended with code ${code ?? "?"}` : `was ended by ${signal}`;
  return failed("child", `${how} without telling a result${lastWords(tail)}`);
}
