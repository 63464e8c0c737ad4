// Errors of a data directory, grouped: what is the same but for numbers, names in quotes and hashes, counts as one.

import type { Platform } from "../abi/platform.ts";
import { ERRNO, type ErrorCategory, type ErrorRecord, type ErrorSeverity } from "../base/errno.ts";
import type { Pid } from "../base/id.ts";
import type { KernelEvent } from "../abi/event.ts";
import type { EventBus } from "./event-bus.ts";

/** Events that tell of an error that somebody has to know of. */
const ERROR_EVENTS = [
  "process.failed",
  "process.quarantined",
  "process.restarting",
  "service.failed",
  "task.failed",
  "schedule.failed",
  "trigger.failed",
  "entity.failed",
] as const;

export interface ErrorGroup {
  /** The same for the same error, in every data directory. */
  readonly id: string;
  readonly code: string;
  readonly category: ErrorCategory;
  readonly severity: ErrorSeverity;
  /** Whether the same call may succeed later without anybody changing anything. */
  readonly retryable: boolean;
  /** Name of the program, or of the queue, schedule or trigger. */
  readonly program: string;
  /** That of the newest. */
  readonly message: string;
  readonly causes?: readonly string[];
  readonly count: number;
  /** Wall-clock milliseconds. */
  readonly first: number;
  readonly last: number;
  /** The newest processes that had it. */
  readonly pids: readonly Pid[];
}

const PIDS_KEPT = 5;

/** What is left of a message when what differs each time is taken out. */
const normalise = (message: string): string =>
  message
    .replaceAll(/"[^"]*"|'[^']*'|`[^`]*`/g, "…")
    .replaceAll(/\b[0-9a-f]{8,}\b/gi, "…")
    .replaceAll(/\d+(\.\d+)?/g, "N")
    .slice(0, 500);

/** Groups what the log of events still holds, the newest group first. */
export async function groupErrors(
  bus: EventBus,
  platform: Platform,
  filter: { readonly since?: number; readonly program?: string },
): Promise<readonly ErrorGroup[]> {
  const groups = new Map<string, ErrorGroup>();
  for await (const event of bus.past({ names: ERROR_EVENTS })) {
    if (filter.since !== undefined && event.at < filter.since) continue;
    const { error, program } = read(event);
    if (error === undefined || (filter.program !== undefined && program !== filter.program)) continue;
    const id = platform.hash(`${error.code} ${program} ${normalise(error.message)}`).slice(0, 12);
    const known = groups.get(id);
    const { category, severity, retryable } = ERRNO[error.code];
    const pids = [event.pid, ...(known?.pids ?? []).filter((pid) => pid !== event.pid)].slice(0, PIDS_KEPT);
    // What came last stands last.
    groups.delete(id);
    groups.set(id, {
      id,
      code: error.code,
      category,
      severity,
      retryable,
      program,
      message: error.message,
      ...(error.causes === undefined ? {} : { causes: error.causes }),
      count: (known?.count ?? 0) + 1,
      first: known?.first ?? event.at,
      last: event.at,
      pids,
    });
  }
  return [...groups.values()].toReversed();
}

function read({ data }: KernelEvent): { readonly error: ErrorRecord | undefined; readonly program: string } {
  const { error, program, queue } = data as {
    readonly error?: ErrorRecord;
    readonly program?: string;
    readonly queue?: string;
  };
  // Written by a newer program, it may have a code that this one does not know.
  const isKnown = error !== undefined && Object.hasOwn(ERRNO, error.code);
  return { error: isKnown ? error : undefined, program: program ?? `queue ${queue ?? ""}` };
}
