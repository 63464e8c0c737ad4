// Faults: what kind of failure a program has ended with, and what its spawn says becomes of each kind.

import type { Errno, ErrorRecord } from "../base/errno.ts";
import { type Schema, assertValid } from "../base/schema.ts";

export const TRAPS = [
  "memory",
  "timeout",
  "heartbeat",
  "capability",
  "syscall",
  "stack",
  "budget",
  "exception",
] as const;
export type Trap = (typeof TRAPS)[number];

/**
 * `kill`: it exits, whatever its restart says · `restart`: it is restarted, within the intensity of its restart ·
 * `quarantine`: it is kept for inspection until somebody resumes or kills it · `notify`, `escalate`: it exits, and the
 * process above gets a message of kind `exit` or `escalation`.
 */
export const FAULT_POLICIES = ["kill", "restart", "quarantine", "notify", "escalate"] as const;
export type FaultPolicy = (typeof FAULT_POLICIES)[number];

/** What becomes of each kind of failure; of others what `restart` says. */
export type FaultPolicies = Readonly<Partial<Record<Trap, FaultPolicy>>>;

export const FAULTS_SCHEMA: Schema = {
  type: "object",
  properties: Object.fromEntries(TRAPS.map((trap) => [trap, { type: "string", enum: FAULT_POLICIES }])),
  additionalProperties: false,
};

/** @throws {EINVAL} there is no such kind of failure, or no such policy */
export function assertFaults(faults: FaultPolicies | undefined): void {
  if (faults !== undefined) assertValid(FAULTS_SCHEMA, faults, "what becomes of the faults of a process");
}

/** The kind of a failure, by its error. */
export function trapOf({ code, syscall, message }: ErrorRecord): Trap {
  // Said by whoever listens for signs of life.
  if (code === "ETIMEDOUT" && syscall === "beat") return "heartbeat";
  return OF_CODE[code] ?? (message.includes("Maximum call stack size exceeded") ? "stack" : "exception");
}

const OF_CODE: Readonly<Partial<Record<Errno, Trap>>> = {
  ENOMEM: "memory",
  ETIMEDOUT: "timeout",
  EACCES: "capability",
  EPERM: "capability",
  ENOSYS: "syscall",
  EDQUOT: "budget",
};

/** How often each kind has come. */
export type FaultCounts = Readonly<Partial<Record<Trap, number>>>;

export const countFault = (counts: FaultCounts, trap: Trap): FaultCounts => ({
  ...counts,
  [trap]: (counts[trap] ?? 0) + 1,
});
