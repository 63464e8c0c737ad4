// What the kernel does for a process when the time has come, or something has happened: plain data, kept in the store.

import type { Batch } from "../abi/metastore.ts";
import { type ErrorRecord, KernelError } from "../base/errno.ts";
import type { Pid } from "../base/id.ts";
import type { Schema } from "../base/schema.ts";
import type { PendingEvent } from "../ipc/event-bus.ts";
import type { Process } from "./process.ts";

/** Changes that belong into the commit of something else, with what it tells of them. */
export interface Along extends Pick<Batch, "checks" | "puts" | "deletes" | "appends"> {
  readonly events?: readonly PendingEvent[];
}

/** On whose word the kernel does something: `cause` as `schedule 3`. */
export interface Order {
  readonly cause: string;
  /** How many orders stand one behind the other, each given because of what the one before did. */
  readonly depth: number;
  /** What that belongs to which it follows from. */
  readonly correlation?: string | undefined;
}

/** What came of an action whose commit has gone through. */
export interface Acted {
  /** What it has started. */
  readonly pid?: Pid;
  /** What it does behind its commit: settles with why that has failed, if it has. It counts as done, and is not done again. */
  readonly failing?: Promise<ErrorRecord | undefined>;
}

/** Does something as a process, with what belongs into the same commit. What it throws has not happened. */
export type Act = (process: Process, action: Action, along: (pid?: Pid) => Along, order: Order) => Promise<Acted>;

/** A commit with what goes along. */
export function merge(batch: Batch, { checks, puts, deletes, appends }: Along = {}): Batch {
  return {
    ...batch,
    ...(checks === undefined ? {} : { checks: [...(batch.checks ?? []), ...checks] }),
    ...(puts === undefined ? {} : { puts: [...(batch.puts ?? []), ...puts] }),
    ...(deletes === undefined ? {} : { deletes: [...(batch.deletes ?? []), ...deletes] }),
    ...(appends === undefined ? {} : { appends: [...(batch.appends ?? []), ...appends] }),
  };
}

/**
 * One of: start a program as `spawn` does, send a message as `send` does, wake a sleeping process, execute what a path
 * names as `exec` does, at most once.
 */
export interface Action {
  readonly spawn?: Readonly<Record<string, unknown>>;
  readonly message?: Readonly<Record<string, unknown>>;
  readonly wake?: Pid;
  readonly exec?: { readonly path: string; readonly input?: unknown };
}

export const ACTION_SCHEMA: Schema = {
  type: "object",
  properties: {
    spawn: { type: "object", required: ["program"], properties: {}, additionalProperties: true },
    message: { type: "object", required: ["to"], properties: {}, additionalProperties: true },
    wake: { type: "integer", minimum: 1 },
    exec: {
      type: "object",
      required: ["path"],
      properties: { path: { type: "string", format: "path" }, input: {} },
      additionalProperties: false,
    },
  },
  additionalProperties: false,
};

/** @throws {EINVAL} it names none, or several, or holds a program that cannot be kept */
export function assertAction(action: Action): void {
  const named = (["spawn", "message", "wake", "exec"] as const).filter((name) => action[name] !== undefined);
  if (named.length !== 1)
    throw new KernelError(
      "EINVAL",
      `an action is one of spawn, message, wake and exec; found ${named.join(" and ") || "none"}`,
    );
  if (action.spawn?.["place"] !== undefined || action.message?.["place"] !== undefined)
    throw new KernelError("EINVAL", "an action is no step of a program: it has no place");
  const program = action.spawn?.["program"];
  const isData =
    typeof program === "string" || (typeof program === "object" && program !== null && !("run" in program));
  if (action.spawn !== undefined && !isData)
    throw new KernelError("EINVAL", "an action is kept: it names its program, or the module that it is in");
}

export const nameOfAction = (action: Action): string =>
  (["spawn", "message", "exec"] as const).find((name) => action[name] !== undefined) ?? "wake";
