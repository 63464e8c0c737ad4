// What `ps` and `/proc` tell of a process.

import type { Resource } from "../budget/resource.ts";
import type { ErrorRecord } from "../base/errno.ts";
import type { Pid, RunId } from "../base/id.ts";
import type { FaultCounts } from "./fault.ts";
import type { Process, Progress, Sleep, Usage } from "./process.ts";
import { type Role, type Tier, roleOf, tierOf } from "./role.ts";

/** A process as listings show it. Times are wall-clock milliseconds. */
export interface ProcessSummary {
  readonly pid: Pid;
  readonly ppid: Pid | undefined;
  readonly runId: RunId;
  readonly name: string;
  readonly user: string;
  readonly program: string;
  readonly role: Role;
  readonly tier: Tier;
  /** As the kernel has it: `ready`, `running`, `waiting`, `sleeping`, `stopped`, `frozen`, `quarantined`, `zombie`. */
  readonly state: string;
  /** How it stands, in the words that listings are asked by. */
  readonly status: Status;
  /** What a waiting process waits for. */
  readonly channel?: string;
  /** The resource whose budget is used up, where it waits for more of that. */
  readonly lacks?: Resource;
  readonly created: number;
  readonly ended?: number;
  /** Exit code of one that has ended: 0 completed, 1 failed, 128 + number by a signal. */
  readonly code?: number;
  readonly signal?: string;
  readonly error?: ErrorRecord;
  /** Where it runs, if not in the host. */
  readonly runtime?: string;
  /** It sees only what it needs to run, and has no network but a proxy that asks its rights. */
  readonly confined?: boolean;
  /** What it is about. */
  readonly ref?: string;
  /** Under which its start is made once. */
  readonly key?: string;
  /** What it belongs to over processes, where that is not its own run. */
  readonly correlation?: string;
  /** On whose order the kernel has started it, as `schedule 3`. */
  readonly cause?: string;
  /** Kinds of failures that its program has ended with, since the start of the host. */
  readonly faults?: FaultCounts;
  /** How often it was restarted lately. */
  readonly restarts?: number;
  /** It was put to sleep, and is woken by a message, a signal, or at this instant. */
  readonly sleep?: Sleep;
  readonly usage: Usage;
  readonly progress?: Progress;
}

/** @param ppid the process that it belongs to now, where that is not the one that has started it */
export function summarise(process: Process, ppid: Pid | undefined = process.identity.ppid): ProcessSummary {
  const { identity, state } = process;
  const { source } = identity.program;
  const exit = state.name === "zombie" ? state.exit : undefined;
  const error = state.name === "quarantined" ? state.error : exit?.error;
  return {
    pid: identity.pid,
    ppid,
    runId: identity.runId,
    name: identity.name,
    user: identity.user,
    program: identity.program.name,
    role: roleOf(identity),
    tier: tierOf(identity),
    state: state.name,
    status: statusOf({
      // Of one that no host runs it is known that it does not go on with the next.
      state: process.staysStopped && state.name === "sleeping" ? "stopped" : state.name,
      ...(exit?.signal === undefined ? {} : { signal: exit.signal }),
      ...(error === undefined ? {} : { error }),
    }),
    ...(state.name === "waiting" ? { channel: state.channel } : {}),
    ...(state.name === "waiting" && state.lacks !== undefined ? { lacks: state.lacks } : {}),
    created: identity.created,
    ...(process.ended === undefined ? {} : { ended: process.ended }),
    ...(exit === undefined ? {} : { code: exit.code }),
    ...(exit?.signal === undefined ? {} : { signal: exit.signal }),
    ...(error === undefined ? {} : { error }),
    ...(source?.runtime === undefined || source.runtime === "inline" ? {} : { runtime: source.runtime }),
    ...(source?.confined === true ? { confined: true } : {}),
    ...(identity.ref === undefined ? {} : { ref: identity.ref }),
    ...(identity.key === undefined ? {} : { key: identity.key }),
    ...(identity.correlation === undefined ? {} : { correlation: identity.correlation }),
    ...(identity.cause === undefined ? {} : { cause: identity.cause }),
    ...(Object.keys(process.faults).length === 0 ? {} : { faults: process.faults }),
    ...(process.restarts.length === 0 ? {} : { restarts: process.restarts.length }),
    ...(process.sleep === undefined || process.hasEnded ? {} : { sleep: process.sleep }),
    usage: { ...process.usage },
    ...(process.progress === undefined ? {} : { progress: process.progress }),
  };
}

export const STATUSES = ["running", "sleeping", "stopped", "quarantined", "completed", "failed", "cancelled"] as const;
export type Status = (typeof STATUSES)[number];

/** How a process stands, as people ask: `running` is whatever is on its way, `stopped` also what is frozen. */
export function statusOf({ state, signal, error }: Pick<ProcessSummary, "state" | "signal" | "error">): Status {
  switch (state) {
    case "zombie":
      return signal === undefined ? (error === undefined ? "completed" : "failed") : "cancelled";
    case "sleeping":
    case "quarantined":
    case "stopped":
      return state;
    case "frozen":
      return "stopped";
    default:
      return "running";
  }
}
