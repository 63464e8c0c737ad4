// `connect()`: one interface, whether this process owns the data directory or another one does.

import type { Socket } from "node:net";
import { resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  KernelError,
  SYSCALLS,
  type Exit,
  type Hook,
  type Login,
  type Os,
  type Pid,
  type Seq,
  type Schema,
  type SpawnArgs,
  assertValid,
  describe,
  fromErrorRecord,
  isKernelError,
  plainMessage,
} from "@ergos/kernel";
import { controlSocketPath } from "@ergos/server";
import {
  type Code,
  electionOf,
  holdLock,
  isReference,
  type Lease,
  type LeaseOptions,
  type RunContext,
  toRunnable,
} from "@ergos/services";
import { type BootedHost, type HostOptions, bootHost, isOwned, timers } from "./boot.ts";
import { allProcesses } from "./find-process.ts";
import { type TextPiece, withText } from "./run-text.ts";
import { OwnerLine, dial, greet } from "./remote.ts";
import { PROFILE_NAMES } from "./profile.ts";
import { zoneDirectory } from "./zone.ts";

/** What a host is made of, and how one is found: all of it may be left out. */
export interface ConnectOptions extends HostOptions {
  /** Run on what an earlier host left behind, as far as this one finds the programs (default true). */
  readonly resume?: boolean;
  /**
   * Let nothing go on by itself (default false): nothing is resumed, no schedule or trigger acts, no sleeper is woken. For
   * a look at a directory.
   */
  readonly idle?: boolean;
  /**
   * The zone of the data directory that is meant: a partition with processes, files, keys and a host of its own, made
   * when it is first opened (default: `default`).
   */
  readonly zone?: string;
  /**
   * Milliseconds to wait for the host of another process to end, where this one is to be the host itself: it has
   * programs, tools or other parts of its own (default 0: EBUSY at once). As for an application that is replaced. Where
   * another is the host, so long do calls look for the one that follows it when it ends (default: they look once).
   */
  readonly waitMs?: number;
}

/** What can be run: a pipeline, a plan, a program, a function `(input, ctx)`, or the name or module of one. */
export type Runnable = SpawnArgs["program"] | Code;

/** The system calls of the owner, or of whoever's pass was given, and the end of the connection. */
export interface ErgOs extends Omit<Os, "spawn">, AsyncDisposable {
  /** Starts a program as a child of the owner's process; its pid. */
  spawn<Input>(
    // First: a function could have `types` too.
    program: (input: Input, ctx: RunContext<NoInfer<Input>>) => unknown,
    ...options: InputOptions<Input>
  ): Promise<Pid>;
  spawn<Given extends Runnable>(program: NoFunction<Given>, ...options: OptionsOf<Given>): Promise<Pid>;
  /** Whether another process owns the directory and this one talks to it. */
  readonly isRemote: boolean;
  /**
   * The calls of whoever has a pass, for servers that others log in to.
   * @throws {ENOTSUP} another process owns the directory · {EACCES} it is no pass of this host, or is over
   */
  login(pass: string): Promise<Login>;
  /**
   * Position of the data before this host let anything go on: `events({ after })` tells all since then. Only where this
   * process owns the directory.
   */
  readonly openedAt?: Seq;
  /**
   * Installs a hook on the calls of all processes; returns a function that removes it.
   * @throws {ENOTSUP} another process owns the directory: nothing would be guarded
   */
  hook(hook: Hook): () => void;
  /** Processes that were resumed on connecting. */
  readonly resumed: readonly Pid[];
  /** Processes that could not be, and why: their program is not found here, or cannot be loaded. They sleep on. */
  readonly leftAsleep: readonly { readonly pid: Pid; readonly error: KernelError }[];
  /**
   * Spawns a program, waits for it, and returns its result.
   * @throws the error with which it failed
   */
  run<Input, Output>(
    // First: a function could have `types` too.
    program: (input: Input, ctx: RunContext<NoInfer<Input>>) => Output,
    ...options: InputOptions<Input, Followed>
  ): Promise<Awaited<Output>>;
  run<Given extends Runnable>(
    program: NoFunction<Given>,
    ...options: OptionsOf<Given, Followed>
  ): Promise<OutputOf<Given>>;
  /**
   * Takes the lock of a path or a name, and keeps it until it is given back: `await using lease = await os.lock("x")`.
   * @throws {EAGAIN} it could not be had in time
   */
  lock(path: string, options?: LeaseOptions): Promise<Lease>;
  /** Waits until the caller leads in an election, and keeps the lead until it is given back or lost (`lease.signal`). */
  elect(name: string, options?: Pick<LeaseOptions, "ttlMs" | "waitMs" | "signal">): Promise<Lease>;
  /** Ends the connection. An owning host lets go of running processes, which the next one resumes. */
  close(): Promise<void>;
}

export type RunOptions = Omit<SpawnArgs, "program">;

/** Code that says what goes in and what comes out. */
interface Typed<Input, Output> {
  readonly types?: { readonly input: Input; readonly output: Output };
}

/** Functions say themselves what goes in and what comes out; one of several things may be one. The text is for messages. */
type NoFunction<Given> = [Given] extends [(...args: never) => unknown]
  ? "a function whose input the options do not fit"
  : Given;
/** The options of a start, typed as the program is; a name, a module, or what may be anything, takes any input. */
type OptionsOf<Given, More = unknown> =
  Types<Given> extends { readonly input: infer Input } ? InputOptions<Input, More> : [options?: RunOptions & More];
type OutputOf<Given> = Types<Given> extends { readonly output: infer Output } ? Output : unknown;
/** What a program says of its types; nothing where it is one of several things. */
type Types<Given> = [Given] extends [Typed<unknown, unknown>]
  ? Given extends { readonly types?: infer T }
    ? NonNullable<T>
    : never
  : never;

/** The options of a start, with an input where one is needed. */
type InputOptions<Input, More = unknown> = [undefined] extends [Input]
  ? [options?: Omit<RunOptions, "input"> & More & { readonly input?: Input }]
  : object extends OrNothing<Input>
    ? [options?: Omit<RunOptions, "input"> & More & { readonly input?: Input }]
    : [options: Omit<RunOptions, "input"> & More & { readonly input: Input }];
/** A program that takes nothing has an input of no fields. */
type OrNothing<Input> = string extends keyof Input ? object : Input;

interface Followed {
  /** Ends the process when it aborts; the run then fails with its reason. */
  readonly signal?: AbortSignal;
  /** Hears what its models say, piece by piece; recorded answers are not said again. */
  readonly onText?: (piece: TextPiece) => void;
}

/** Opens ErgOS: `await using os = await connect({ dir: ".ergos" })`. */
export async function connect(options: ConnectOptions = {}): Promise<ErgOs> {
  const { zone, ...rest } = options;
  const dir = zone === undefined ? {} : { dir: inZone(options.dir, zone) };
  const { os } = await connectHost({ ...rest, ...dir });
  return os;
}

/** Opens ErgOS and gives the host too, if this process owns it; for the command line. */
export async function connectHost(
  given: Omit<ConnectOptions, "zone">,
): Promise<{ readonly os: ErgOs; readonly host: BootedHost | undefined }> {
  assertOptions(given);
  const { waitMs = 0, resume = true, idle = false, ...options } = given;
  if (options.profile === "remote") return { os: await connectRunning(options, waitMs), host: undefined };
  let host: BootedHost | undefined;
  const last = performance.now() + Math.max(HANDOVERS_MS, waitMs);
  const giveUp = performance.now() + waitMs;
  for (let until = performance.now() + HANDOVER_MS; host === undefined;) {
    try {
      host = await bootHost(options, openZone);
    } catch (error) {
      // Busy is a mount, too, whose place is taken.
      const { dir } = options;
      if (dir === undefined || !isKernelError(error) || error.code !== "EBUSY" || error.path !== resolve(dir))
        throw error;
      const os = await connectRemote(options, dir, error, {
        isLast: performance.now() > Math.max(until, giveUp),
        mayOutlast: performance.now() < giveUp,
        waitMs,
      });
      if (os === "closing" || os === "in the way") until = Math.min(performance.now() + HANDOVER_MS, last);
      else if (os !== undefined) return { os, host: undefined };
      await delay(HANDOVER_POLL_MS);
    }
  }
  const { kernel, close } = host;
  try {
    // Whoever shows a pass has its rights, here as over the socket.
    const { os } = options.pass === undefined ? kernel : await kernel.login(options.pass);
    const openedAt = kernel.host.store.seq;
    if (!idle) kernel.activate();
    const goingOn = resume && !idle ? await resumeAll(os) : NOTHING_RESUMED;
    const login = (pass: string): Promise<Login> => kernel.login(pass);
    const own = { login, hook: (hook: Hook) => kernel.hook(hook) };
    // Whoever has come with a pass is not the owner.
    const may = options.pass === undefined ? { ...own, openedAt } : { login };
    return { os: toErgOs(os, { isRemote: false, ...goingOn, close, ...may }), host };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A zone for whoever mounts it: its processes are left alone, and others reach it meanwhile. */
const openZone = (dir: string): Promise<ErgOs> => connect({ dir, idle: true });

function inZone(dir: string | undefined, zone: string): string {
  if (dir !== undefined) return zoneDirectory(dir, zone);
  throw new KernelError("EINVAL", "a zone is a part of a data directory; name that with `dir`");
}

/** A host that starts or closes holds the directory a moment before and after it answers. */
const HANDOVER_MS = 2000;
const HANDOVER_POLL_MS = 50;
/** Many commands at once may each be the host for a moment. */
const HANDOVERS_MS = 30_000;

const OPTIONS: Schema = {
  type: "object",
  properties: {
    dir: { type: "string", minLength: 1 },
    pass: { type: "string", minLength: 1 },
    user: { type: "string", minLength: 1 },
    serve: { type: "boolean" },
    profile: { type: "string", enum: PROFILE_NAMES },
    store: { type: "string", enum: ["sqlite", "lmdb"] },
    zone: { type: "string" },
    waitMs: { type: "number", minimum: 0 },
    resume: { type: "boolean" },
    idle: { type: "boolean" },
    watchdogMs: { type: "number", minimum: 0 },
    drainMs: { type: "number", minimum: 0 },
    models: { type: "array", items: { type: "object", required: ["name", "infer"] } },
    tools: { type: "array", items: { type: "object", required: ["name", "call"] } },
    prices: { type: "object" },
    services: { type: "array", items: { type: "object", required: ["name", "contract", "create"] } },
    programs: { type: "array" },
    mounts: {
      type: "array",
      items: {
        type: "object",
        properties: {
          at: { type: "string", minLength: 1 },
          path: { type: "string", minLength: 1 },
          zone: { type: "string", minLength: 1 },
          writable: { type: "boolean" },
          followLinks: { type: "boolean" },
          quota: {
            type: "object",
            properties: { bytes: { type: "integer", minimum: 0 }, entries: { type: "integer", minimum: 0 } },
            additionalProperties: false,
          },
        },
        required: ["at", "path"],
        additionalProperties: false,
      },
    },
  },
  additionalProperties: false,
};

/** What a caller without types got wrong is said before anything is opened. */
function assertOptions(options: ConnectOptions): void {
  // `undefined` is the same as absent for who calls from JavaScript.
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  assertValid(OPTIONS, given, "the options of connect()");
}

/** @throws {EINVAL} there is no directory to find a host by · {ENOENT} no host runs over it */
async function connectRunning(options: HostOptions, waitMs: number): Promise<ErgOs> {
  const { dir } = options;
  if (dir === undefined) throw new KernelError("EINVAL", "a host is found by its data directory; name that with `dir`");
  const none = new KernelError("ENOENT", `no host runs over ${dir}; start one with: ergos up`, { path: dir });
  const os = isOwned(dir)
    ? await connectRemote(options, dir, none, { isLast: true, mayOutlast: false, waitMs })
    : undefined;
  if (os === undefined || typeof os === "string") throw none;
  return os;
}

/** Options that make a host what it is: of one that another process has they would be ignored. */
const HOST_PARTS = ["models", "tools", "programs", "services", "mounts", "prices", "user", "store"] as const;

/**
 * The owner over its socket; undefined while it does not answer, until `isLast`, when that is an error. One that breaks
 * off is closing: another comes. One that stands where this process is to be the host may be outlasted.
 */
async function connectRemote(
  options: HostOptions,
  dir: string,
  busy: KernelError,
  { isLast, mayOutlast, waitMs }: { readonly isLast: boolean; readonly mayOutlast: boolean; readonly waitMs: number },
): Promise<ErgOs | "closing" | "in the way" | undefined> {
  const path = controlSocketPath(resolve(dir));
  let socket: Socket | undefined;
  let greeted: Awaited<ReturnType<typeof greet>>;
  try {
    socket = await dial(path);
    greeted = await greet(socket, resolve(dir), options.pass);
  } catch (cause) {
    socket?.destroy();
    // A host that answers and will not talk to us says why; one that breaks off is closing.
    if (isKernelError(cause) && cause.code !== "ECONNRESET") throw cause;
    if (socket !== undefined && !isLast) return "closing";
    if (!isLast) return undefined;
    // The owner holds the lock but does not answer: starting, closing, or a program that embeds us silently.
    throw new KernelError("EBUSY", `${plainMessage(busy.message)}; its control socket does not answer`, {
      path,
      cause,
    });
  }
  const { client, welcome } = greeted;
  const idle = HOST_PARTS.filter((name) => {
    const { [name]: given } = options;
    return Array.isArray(given) ? given.length > 0 : given !== undefined;
  });
  if (idle.length > 0) {
    client.close();
    if (mayOutlast) return "in the way";
    throw new KernelError(
      "EBUSY",
      `${plainMessage(busy.message)}; ${idle.join(", ")} apply only to the process that is the host: stop the other one, wait for its end with waitMs, or connect without them`,
      { path: dir },
    );
  }
  // Whoever has come with a pass has a process of its own there, which is another in every host.
  if (options.pass !== undefined) {
    const close = (): Promise<void> => {
      client.close();
      return client.closed;
    };
    return toErgOs(client.toOs(welcome.pid), { isRemote: true, ...NOTHING_RESUMED, close });
  }
  const line = new OwnerLine(client, { dir: resolve(dir), waitMs });
  return toErgOs(line.toOs(welcome.pid), { isRemote: true, ...NOTHING_RESUMED, close: () => line.close() });
}

/** Resumes what sleeps. What cannot go on now (its module is gone, its mount is taken) stays asleep. */
const NOTHING_RESUMED: Pick<ErgOs, "resumed" | "leftAsleep"> = { resumed: [], leftAsleep: [] };

async function resumeAll(os: Os): Promise<typeof NOTHING_RESUMED> {
  const resumed: Pid[] = [];
  const leftAsleep: { readonly pid: Pid; readonly error: KernelError }[] = [];
  for (const process of await allProcesses(os)) {
    // What was put to sleep is woken in its time.
    if (process.state !== "sleeping" || process.sleep !== undefined) continue;
    try {
      await os.resume(process.pid);
      resumed.push(process.pid);
    } catch (error) {
      if (!isKernelError(error)) throw error;
      leftAsleep.push({ pid: process.pid, error });
    }
  }
  return { resumed, leftAsleep };
}

/** What is waited for keeps the loop of Node, also where only a clock, or somebody else, can bring it about. */
async function holding<T>(promise: Promise<T>): Promise<T> {
  const held = setInterval(() => undefined, 2 ** 30);
  try {
    return await promise;
  } finally {
    clearInterval(held);
  }
}

const notHere = (what: string): KernelError =>
  new KernelError(
    "ENOTSUP",
    `${what} is for the owner of a data directory, in the process that is its host; this one talks to another, or has a pass`,
    { syscall: what },
  );

function toErgOs(
  os: Os,
  parts: Pick<ErgOs, "isRemote" | "openedAt" | "resumed" | "leftAsleep" | "close"> &
    Partial<Pick<ErgOs, "login" | "hook">>,
): ErgOs {
  const spawn = async (program: Runnable, options?: RunOptions): Promise<Pid> =>
    os.spawn(asProgram(program, parts.isRemote), options);
  const wait: Os["wait"] = (pid, options) => holding(os.wait(pid, options));
  const run = async (program: Runnable, options: RunOptions & Followed = {}): Promise<unknown> => {
    const { signal, onText, ...rest } = options;
    signal?.throwIfAborted();
    if (program === undefined || program === null)
      throw new KernelError("EINVAL", `os.run() takes a program, found ${String(program)}; is it exported?`);
    const ended = async (pid: Pid): Promise<Exit> => {
      const end = (): void => void os.kill(pid, "TERM").catch(() => undefined);
      signal?.addEventListener("abort", end, { once: true });
      if (signal?.aborted === true) end();
      return wait(pid).finally(() => signal?.removeEventListener("abort", end));
    };
    const start = (): Promise<Pid> => spawn(program, rest);
    const exit = onText === undefined ? await ended(await start()) : await withText(os, onText, start, ended);
    if (exit.signal !== undefined) signal?.throwIfAborted();
    if (exit.error !== undefined) throw fromErrorRecord(exit.error);
    if (exit.signal !== undefined) throw new KernelError("ECANCELED", `the process was ended by ${exit.signal}`);
    return exit.result;
  };
  return {
    pid: os.pid,
    fs: os.fs,
    call: rejecting(os.call),
    spawn,
    // What comes out is what its types have promised.
    run,
    wait,
    kill: (pid, signal) => os.kill(pid, signal),
    resume: (pid, options) => os.resume(pid, options),
    ps: (options) => os.ps(options),
    events: (filter) => os.events(filter),
    infer: (place, request) => os.infer(place, request),
    service: (name) => os.service(name),
    flush: () => os.flush(),
    lock: (path, options) => holdLock(os, timers(), path, options),
    elect: (name, options) => holdLock(os, timers(), electionOf(name), options),
    content: os.content,
    channel: (pid) => os.channel(pid),
    isRemote: parts.isRemote,
    login: parts.login ?? ((): Promise<never> => Promise.reject(notHere("login"))),
    hook:
      parts.hook ??
      ((): never => {
        throw notHere("hook");
      }),
    ...(parts.openedAt === undefined ? {} : { openedAt: parts.openedAt }),
    resumed: parts.resumed,
    leftAsleep: parts.leftAsleep,
    close: parts.close,
    [Symbol.asyncDispose]: parts.close,
  };
}

/** What is refused at once is a rejection too, in this host as over the socket; streams tell when they are read. */
function rejecting(call: Os["call"]): Os["call"] {
  return (name, args) => {
    try {
      return call(name, args);
    } catch (error) {
      if (Object.hasOwn(SYSCALLS, name) && "isStream" in SYSCALLS[name]) throw error;
      return Promise.reject(error instanceof Error ? error : new KernelError("EFAILED", describe(error)));
    }
  };
}

const VIRTUAL_NAME = "virtual";

const nameOf = (program: unknown): string => {
  const made = toRunnable(program);
  return typeof made === "string" ? made : (made.name ?? "");
};

function asProgram(program: unknown, isRemote: boolean): SpawnArgs["program"] {
  if (!isRemote || isReference(program)) return toRunnable(program);
  // Code stays where it is: the host has its own of that name, or says so.
  const name = typeof program === "function" ? program.name : nameOf(program);
  // What the kernel itself calls so is no code of anybody's.
  if (name === "" || name === VIRTUAL_NAME)
    throw new KernelError(
      "ENOTSUP",
      "another process owns the directory, and code without a name cannot be found there: spawn a program by its name or module",
    );
  return name;
}
