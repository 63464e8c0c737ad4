// Rows about the caller itself: what a program in another process needs of its own.

import { cancelled } from "../base/abort.ts";
import { type ErrorRecord, KernelError, knownError } from "../base/errno.ts";
import { PID_OWNER, type Pid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { ProcessLimits } from "../budget/limits.ts";
import type { Process, ProcessIdentity, Signal } from "../proc/process.ts";
import type { Revised } from "../proc/revision.ts";
import type { Host } from "./host.ts";
import { anything, args, errorRecord, integer, row, text } from "./row.ts";

export const SELF_ROWS = {
  context: row<Record<string, never>, Facts>({
    right: "proc.step",
    kind: "query",
    summary: "what a program is told about its process",
    schema: args({}),
    target: (_host, caller) => caller.self,
    handle: (_host, caller) => {
      const { pid, ppid, runId, name, user, program } = caller.identity;
      return {
        pid,
        runId,
        name,
        user,
        program,
        ...(ppid === undefined ? {} : { ppid }),
        ...(caller.input === undefined ? {} : { input: caller.input }),
        ...(caller.limits === undefined ? {} : { limits: caller.limits }),
        durable: caller.journal !== undefined,
        isResumed: caller.isResumed,
      };
    },
  }),
  revise: row<
    { readonly definitions: Readonly<Record<string, string>>; readonly outdated?: readonly string[] },
    Promise<Revised>
  >({
    right: "proc.step",
    kind: "mutation",
    audit: "none",
    summary:
      "tells what the steps of the caller's program are, where the host does not know; with `outdated` which recorded ones count no more",
    schema: args(
      { definitions: { type: "object", additionalProperties: text }, outdated: { type: "array", items: text } },
      ["definitions"],
    ),
    target: (_host, caller) => caller.self,
    handle: (host, caller, told) => host.processes.revisions.revise(caller, told, host.committer),
  }),
  beat: row<Record<string, never>, void>({
    right: "proc.step",
    kind: "query",
    whileHeld: true,
    summary: "shows that the program lives",
    schema: args({}),
    target: (_host, caller) => caller.self,
    handle: () => undefined,
  }),
  exit: row<{ readonly result?: unknown; readonly error?: ErrorRecord }, Promise<void>>({
    right: "proc.step",
    kind: "mutation",
    summary: "ends the caller: completed with a result, or failed with an error",
    schema: args({ result: anything, error: errorRecord }),
    target: (_host, caller) => caller.self,
    audited: ({ error }) => (error === undefined ? {} : { error: error.code }),
    handle: async (host, caller, { result, error }, _target, draft) => {
      if (caller.pid === PID_OWNER)
        throw new KernelError("EPERM", "the owner's process ends with its host", { syscall: "exit" });
      const done = { code: 0, ...(result === undefined ? {} : { result }) };
      const exit = error === undefined ? done : host.processes.failedWith(caller, knownError(error));
      await host.processes.finished(caller, exit, draft);
      caller.abort(cancelled(`process ${caller.pid} has exited`));
    },
  }),
  continueAsNew: row<{ readonly input?: unknown }, Promise<void>>({
    right: "proc.step",
    kind: "mutation",
    rests: true,
    summary:
      "goes on as new with another input: the program is called from its start, and nothing recorded counts any more; the call does not return",
    schema: args({ input: anything }),
    target: (_host, caller) => caller.self,
    audited: () => ({}),
    handle: (host, caller, { input }, _target, draft) => host.processes.lives.renew(caller, input, draft),
  }),
  shield: row<{ readonly ms?: number }, Promise<number>>({
    right: "proc.step",
    kind: "mutation",
    audit: "none",
    whileHeld: true,
    summary:
      "shields what the caller does from its being told to end, for so many milliseconds: that waits for it; gives the number of the shield",
    schema: args({ ms: { ...integer, minimum: 1, maximum: LIMITS.shieldMaxMs } }),
    target: (_host, caller) => caller.self,
    handle: async (host, caller, { ms = LIMITS.shieldMs }) => {
      if (caller.pid === PID_OWNER)
        throw new KernelError("EPERM", "the owner's process ends with its host: nothing shields it", {
          syscall: "shield",
        });
      const shield = caller.shield(host.platform, ms);
      await host.processes.recordEnding(caller);
      return shield;
    },
  }),
  unshield: row<{ readonly shield: number }, void>({
    right: "proc.step",
    kind: "mutation",
    audit: "none",
    whileHeld: true,
    summary: "ends what `shield` has begun",
    schema: args({ shield: integer }, ["shield"]),
    target: (_host, caller) => caller.self,
    handle: (_host, caller, { shield }) => caller.shields?.lower(shield),
  }),
  signals: row<{ readonly signal?: AbortSignal }, AsyncGenerator<Signal, void, undefined>>({
    right: "proc.step",
    kind: "query",
    isStream: true,
    summary: "signals that are sent to the caller, as they come",
    schema: args({}),
    target: (_host, caller) => caller.self,
    handle: (host, caller, { signal }) => signalsTo(host, caller, signal),
  }),
} as const;

/** What a program outside of the host is told about its process; one inside has it as its context. */
export interface Facts extends Pick<ProcessIdentity, "pid" | "runId" | "name" | "user" | "program"> {
  readonly ppid?: Pid;
  readonly input?: unknown;
  readonly limits?: ProcessLimits;
  readonly durable: boolean;
  readonly isResumed: boolean;
}

/** Signals from this call on, kept for a slow listener as often as there are kinds of them. */
function signalsTo(
  host: Host,
  process: Process,
  stop: AbortSignal | undefined,
): AsyncGenerator<Signal, void, undefined> {
  const heard: Signal[] = process.unheard ?? [];
  process.unheard = undefined;
  let wake: (() => void) | undefined;
  const hear = (signal: Signal): void => {
    if (!heard.includes(signal)) heard.push(signal);
    wake?.();
  };
  (process.listeners ??= new Set()).add(hear);
  let isClosing = false;
  // It ends when the process is to stop, whatever for: one in another thread hears of that by this.
  const isOver = (): boolean => isClosing || stop?.aborted === true || process.isAborted || process.hasEnded;
  return (async function* follow(): AsyncGenerator<Signal, void, undefined> {
    const onStop = (): void => wake?.();
    for (const one of [stop, process.signal]) one?.addEventListener("abort", onStop, { once: true });
    const forget = host.processes.onClosing(() => {
      isClosing = true;
      wake?.();
    });
    void process.done.then(onStop);
    try {
      for (;;) {
        for (let signal = heard.shift(); signal !== undefined; signal = heard.shift()) yield signal;
        if (isOver()) return;
        await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      forget();
      process.listeners?.delete(hear);
      for (const one of [stop, process.signal]) one?.removeEventListener("abort", onStop);
    }
  })();
}
