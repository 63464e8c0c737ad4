// The beginning of a process of the machine, or of a thread, that runs a program for a host: greets it on descriptor 3,
// or on the port that it was given, runs the module that its process names, tells the result, and ends.
//
// D1  The end of the channel is the end of the host: nothing is left to do, and nobody to do it for.

import { randomUUID } from "node:crypto";
import { Socket } from "node:net";
import { pathToFileURL } from "node:url";
import { type MessagePort, workerData } from "node:worker_threads";
import {
  type Facts,
  KernelError,
  type Os,
  type ProcessContext,
  type Program,
  type SyscallArgs,
  type SyscallResult,
  cancelled,
  followsAbort,
  makeOs,
  toErrorRecord,
} from "@ergos/kernel";
import { type SharedMemory, type Transport, WireClient, ownBytes } from "@ergos/protocol";
import { toProgram } from "@ergos/services";
import { platform } from "./platform.ts";
import { practise } from "./practice.ts";
import { forwardPort } from "./proxy.ts";

export { practise };

const CHANNEL = 3;
const DEFAULT_BEAT_MS = 5000;

/** Runs the program of the host at the other end of the channel, and ends this process, or this thread. */
export async function runChild(): Promise<never> {
  // Given by the runtime of workers alone.
  const { ergos: port } = (workerData ?? {}) as { readonly ergos?: MessagePort };
  const transport =
    port === undefined ? transportOf(new Socket({ fd: CHANNEL, readable: true, writable: true })) : portTransport(port);
  const greeting = WireClient.greet(transport, "ergos-child", randomUUID);
  // Nobody waits for it yet. That it fails shows when it matters.
  if (takeMark("ERGOS_SPARE")) await practise((os) => outcomeOf(os, new AbortController())).catch(() => undefined);
  const { client, welcome } = await greeting;
  void client.closed.then(() => process.exit(1));
  const os = client.toOs(welcome.pid);
  const stop = new AbortController();
  // Who may not hear them is not told of its context either, which says so.
  obey(os, stop).catch(() => undefined);
  const beat = async (): Promise<void> => os.call("beat", {});
  const beatMs = Number(process.env["ERGOS_BEAT_MS"] ?? DEFAULT_BEAT_MS);
  setInterval(() => void beat().catch(() => undefined), beatMs).unref();
  const { ERGOS_PROXY: proxy } = process.env;
  // A confined child has no other way out; its environment names the port.
  if (proxy !== undefined) await forwardPort(Number(new URL(process.env["HTTP_PROXY"] ?? "").port), proxy);
  const outcome = await outcomeOf(os, stop);
  // What was printed is on its way before the end is told.
  for (const stream of [process.stdout, process.stderr])
    await new Promise<void>((resolve) => stream.write("", () => resolve()));
  try {
    await os.call("exit", outcome);
  } catch (error) {
    // What cannot be told is an end too: of a result that is no JSON, why.
    await os.call("exit", { error: toErrorRecord(error) });
  }
  process.exit(0);
}

/** Whether the host has set a mark, of which the program knows nothing. */
function takeMark(name: string): boolean {
  const { [name]: mark } = process.env;
  delete process.env[name];
  return mark !== undefined;
}

/** Runs the program to its end. */
async function outcomeOf(os: Os, stop: AbortController): Promise<SyscallArgs<"exit">> {
  try {
    const { program, ...facts } = await os.call("context", {});
    const { name, source } = program;
    if (source?.module === undefined)
      throw new KernelError("ENOEXEC", `the program ${name} names no module: a process of its own cannot find it`);
    const module = await load(source.module);
    // Folders are mounted by the host, for modules that it loads itself.
    if ("mounts" in module)
      throw new KernelError(
        "ENOTSUP",
        `${source.module} asks for mounts, which only modules that run inline get; run it inline, or give them to connect()`,
      );
    const own = toProgram(module[source.export ?? "default"], name, source);
    const past = facts.durable ? await revise(os, own) : {};
    const result = await own.run(contextOf(facts, os, stop, past));
    return result === undefined ? {} : { result };
  } catch (error) {
    const record = toErrorRecord(error);
    return { error: followsAbort(error, stop.signal) ? { ...record, code: "ECANCELED" } : record };
  }
}

/** How long the top level of a module may take. */
const LOAD_MS = 60_000;

/** @throws {ETIMEDOUT} something that it awaits at its top level does not settle */
async function load(file: string): Promise<Readonly<Record<string, unknown>>> {
  const loadMs = Number(process.env["ERGOS_LOAD_MS"] ?? "") || LOAD_MS;
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    const why = `${file} has not finished loading within ${loadMs / 1000} s: something that it awaits at its top level does not settle; await it in its program, or give it more time by ERGOS_LOAD_MS`;
    late.reject(new KernelError("ETIMEDOUT", why, { path: file }));
  }, loadMs);
  try {
    // That of the practice has no file.
    const url = file.startsWith("data:") ? file : pathToFileURL(file).href;
    return (await Promise.race([import(url), late.promise])) as Readonly<Record<string, unknown>>;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Tells the host what the steps of the program are, and which outcomes of an earlier life they leave: the places of
 * those that count, and what was tried at others.
 */
async function revise(os: Os, program: Program): Promise<Past> {
  const { definitions = {} } = program;
  const past = await os.call("revise", { definitions });
  if (past.previous === undefined) return past;
  const isOutdated = program.outdated?.(past.previous) ?? ((): boolean => false);
  const places = [...(past.places ?? []), ...Object.keys(past.attempts ?? {})];
  return os.call("revise", { definitions, outdated: places.filter(isOutdated) });
}

type Past = Pick<Awaited<SyscallResult<"revise">>, "places" | "attempts">;

function contextOf(own: Omit<Facts, "program">, os: Os, stop: AbortController, past: Past): ProcessContext {
  const { ppid, user: _user, ...same } = own;
  const recorded = new Set(past.places);
  const attempts = new Map(Object.entries(past.attempts ?? {}));
  // What is taken from the journal is taken once, as in the host.
  const call = (name: string, args: { readonly place?: unknown } | undefined): unknown => {
    if (typeof args?.place === "string") recorded.delete(args.place);
    return os.call(name as never, args);
  };
  return {
    ...same,
    parentPid: ppid,
    input: own.input,
    isRecorded: (place) => recorded.has(place),
    takeAttempts: (place) => {
      const found = attempts.get(place);
      attempts.delete(place);
      return found;
    },
    limits: own.limits,
    signal: stop.signal,
    get isAborted() {
      return stop.signal.aborted;
    },
    // Whoever listens does so in the host, which also waits for what is shielded.
    isObserved: true,
    isShielded: false,
    held: undefined,
    // The end of the host waits for its calls and steps alone: of nodes only the host of their plan knows.
    workBegun: () => undefined,
    workOver: () => undefined,
    left: new Promise(() => undefined),
    abort: (reason) => stop.abort(reason),
    platform,
    os: makeOs(os.pid, call as Os["call"]),
  };
}

/** Tells the program to end when its process is told to. */
async function obey(os: Os, stop: AbortController): Promise<void> {
  for await (const signal of await os.call("signals", {}))
    if (signal === "TERM" || signal === "INT") stop.abort(cancelled(`process ${os.pid} was ended by ${signal}`));
  // There are no more: it is to stop for another reason, as a limit or another program.
  stop.abort(cancelled(`process ${os.pid} was told to stop`));
}

function portTransport(port: MessagePort): Transport {
  return {
    write: (parts) => {
      for (const part of parts) port.postMessage(ownBytes(part));
    },
    onData: (handler) =>
      void port.on("message", (message: Uint8Array | SharedMemory) => {
        if (message instanceof Uint8Array) handler(message);
      }),
    onMemory: (handler) =>
      void port.on("message", (message: Uint8Array | SharedMemory) => {
        if (!(message instanceof Uint8Array)) handler(message);
      }),
    onClose: (handler) => void port.on("close", () => handler(undefined)),
    close: () => port.close(),
  };
}

function transportOf(channel: Socket): Transport {
  return {
    write: (parts) => {
      for (const part of parts) channel.write(part);
    },
    onData: (handler) => void channel.on("data", handler),
    onClose: (handler) => {
      let cause: Error | undefined;
      channel.on("error", (error) => (cause = error));
      channel.on("close", () => handler(cause));
    },
    close: () => channel.destroy(),
  };
}
