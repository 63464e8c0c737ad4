// The shape of a row of the syscall table.

import type { AuditDraft } from "../audit/trail.ts";
import { CAUSES_MAX, KernelError } from "../base/errno.ts";
import type { Pid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { Amounts } from "../budget/resource.ts";
import type { Schema } from "../base/schema.ts";
import type { VfsPath } from "../base/path.ts";
import type { Along, Order } from "../proc/action.ts";
import type { Process } from "../proc/process.ts";
import { ROLES, roleOf } from "../proc/role.ts";
import type { Located } from "../vfs/namespace.ts";
import type { Need } from "./policy.ts";
import type { Host } from "./host.ts";

/** What a call acts on: the canonical name that rights are checked against, and what was found there. */
export interface Target {
  readonly resource: string;
  readonly located?: Located;
  /** Bytes of it, where a budget is asked for them. */
  readonly size?: number;
  /** A second object and its right, as of `rename` and `copy`. */
  readonly second?: { readonly right: string; readonly located: Located; readonly resource: string };
}

export interface Row<Args, Result> {
  /** The right that the caller needs on the target. */
  readonly right: string;
  readonly kind: "query" | "mutation";
  /** Its result is an async generator. */
  readonly isStream?: true;
  /** It ends when something else happens, which may be another call of its caller: of a client it holds up no other. */
  readonly waits?: true;
  /**
   * Until something comes it has done nothing: it is given up when the client that waits for it is gone, or may not wait
   * for it any more.
   */
  readonly waitsIdly?: true;
  /** It may take as long as it likes: a host that closes does not wait for its answer. */
  readonly isLong?: true;
  /** Its answer may be large: a client gets one such answer after the other. */
  readonly isLarge?: true;
  /** It is answered to who is stopped or frozen, too: it tells what was done, or ends what is. */
  readonly whileHeld?: true;
  /** Whoever makes it does nothing meanwhile, as with one that waits. */
  readonly rests?: true;
  readonly summary: string;
  readonly schema: Schema;
  /** It is called all the time: its arguments are not held against the schema, its own code looks at what it uses. */
  readonly isHot?: true;
  /** Its arguments as the wire would carry them, where callers in this host have more to give; they are what is checked. */
  readonly plain?: (args: Args) => unknown;
  /** Absent: the caller itself is the target, as `/proc/<pid>`. */
  readonly target?: (host: Host, caller: Process, args: Args) => Target | Promise<Target>;
  /** Rights beside its own that a call needs. */
  readonly alsoNeeds?: (args: Args, caller: Process, target: Target) => readonly Need[];
  /** What of a budget the call itself uses, whatever comes of it; taken before the act, back if it fails. */
  readonly spends?: (args: Args, target: Target, caller: Process) => Amounts;
  /** What the conditions of grants look at, in its one form; the arguments themselves unless given. */
  readonly conditions?: (args: Args, host: Host, caller: Process) => unknown;
  /**
   * What the audit record of a mutation holds of it: right, resource and these arguments (`full`, the default), the
   * place of the step (`place`), or no record at all for what only the caller's memory knows (`none`).
   */
  readonly audit?: "full" | "place" | "none";
  /** What of the arguments the record holds; short scalars unless given. */
  readonly audited?: (args: Args) => Readonly<Record<string, unknown>>;
  /** Where all that it comes to is recorded, given its place: once that is, the call only takes it from there. */
  readonly recordedAt?: (place: string) => readonly string[];
  readonly handle: (host: Host, caller: Process, args: Args, target: Target, draft?: AuditDraft) => Result;
}

/** Of most: at the place itself. */
export const atPlace = (at: string): readonly string[] => [at];

/** A program as the wire has it: by its name, or by where it is found. */
export const namedProgram = <Args extends { readonly program?: unknown }>(args: Args): unknown => {
  const { program } = args;
  const isOwn = typeof program === "object" && program !== null && "run" in program && "name" in program;
  return isOwn ? { ...args, program: program.name } : args;
};

/** Keeps the types of a row's arguments and result. */
export const row = <Args, Result>(definition: Row<Args, Result>): Row<Args, Result> => definition;

/** Marks a call that the kernel makes itself, for a schedule or a trigger. */
export const ORDER: unique symbol = Symbol("order");
export interface Ordered {
  readonly [ORDER]?: {
    /** What belongs into the commit of the call; of one that starts something, with its pid. */
    readonly along: (pid?: Pid) => Along;
  } & Order;
}

export interface AtPlace {
  /** Path of the step in its program: at a place it is done once, over restarts too. */
  readonly place?: string;
}

/** Marks the arguments of a call that is made inside of a tool: a symbol does not come over the wire. */
export const NESTED: unique symbol = Symbol("nested");
export const isNested = (args: unknown): boolean => typeof args === "object" && args !== null && NESTED in args;

/** Marks the arguments of a call that is made inside of a step that acts, with the place of that. */
export const WITHIN_STEP: unique symbol = Symbol("within step");
export const stepAround = (args: unknown): string | undefined =>
  typeof args === "object" && args !== null && WITHIN_STEP in args && typeof args[WITHIN_STEP] === "string"
    ? args[WITHIN_STEP]
    : undefined;

/** Whether a call is part of something that comes to its end although this life of the process does. */
export const isUnderWay = (caller: Process, args: unknown): boolean =>
  isNested(args) || caller.isInStep(stepAround(args));

export const text: Schema = { type: "string" };
/** A name, or another short text that is kept. */
export const label: Schema = { type: "string", maxLength: LIMITS.nameLengthMax };
export const path: Schema = { type: "string", format: "path" };
export const integer: Schema = { type: "integer", minimum: 0 };
export const flag: Schema = { type: "boolean" };
export const pid: Schema = { type: "integer", minimum: 1, description: "process id" };
export const bytes: Schema = { format: "bytes", description: "raw bytes" };
export const place: Schema = {
  type: "string",
  minLength: 1,
  maxLength: LIMITS.placeMax,
  description: "path of the step in its program",
};
/** Of what a process has recorded: steps that are done anew, and what steps come to instead. */
export const redoing: Readonly<Record<"from" | "set", Schema>> = {
  from: { type: "array", items: place, maxItems: LIMITS.redoneMax },
  set: { type: "object", properties: {}, additionalProperties: true },
};
export const anything: Schema = { description: "any JSON value" };
/** An error as programs tell it; `knownError` makes it one of the kernel's. */
export const errorRecord: Schema = {
  type: "object",
  properties: {
    code: text,
    message: text,
    syscall: text,
    path: text,
    pid: integer,
    correlationId: text,
    causes: { type: "array", items: text, maxItems: CAUSES_MAX },
    at: text,
    type: text,
    retryAfterMs: { type: "number", minimum: 0 },
    mayHaveActed: flag,
  },
  required: ["code", "message"],
};

export const args = (properties: Readonly<Record<string, Schema>>, required: readonly string[] = []): Schema => ({
  type: "object",
  properties,
  required,
  additionalProperties: false,
});

const procPath = (number: number): VfsPath => `/proc/${number}` as VfsPath;

/** A row about a process: rights are checked on its directory. */
export const onProcess = (_host: Host, caller: Process, a: { readonly pid: Pid }): Target =>
  a.pid === caller.pid ? caller.self : { resource: procPath(a.pid) };

/** What ends a call that waits: what ends those of its caller, and what that gives it up with. */
export const signalsOf = ({ callSignal }: Process, given: AbortSignal | undefined): readonly AbortSignal[] =>
  given === undefined ? [callSignal] : [callSignal, given];

export const hasEnded = (caller: Process, syscall: string): KernelError =>
  new KernelError("ESRCH", `process ${caller.pid} has ended and can call nothing`, { syscall, pid: caller.pid });

/**
 * Somebody else's name is given by who may do everything.
 * @throws {EPERM} the caller acts in the name of its own user alone
 */
export function assertMayName({ pid, identity, capability }: Process, user: string | undefined, syscall: string): void {
  if (user === undefined || user === identity.user || capability.isAll) return;
  throw new KernelError("EPERM", `process ${pid} acts in the name of ${identity.user} alone, not of ${user}`, {
    syscall,
    pid,
  });
}

/**
 * A process that the caller may change. What its role is bounds it to itself and what is below it, but for daemons;
 * without one it may what its grants say, as far as that is not somebody else's.
 * @throws {ESRCH} there is and was no such process · {EPERM} it is not the caller's to change
 */
export async function managedBy(host: Host, caller: Process, number: Pid, syscall: string): Promise<Process> {
  const process = await processOf(host, number, syscall);
  const { role, user } = caller.identity;
  const isAbove = ROLES[roleOf(caller.identity)] <= ROLES.daemon || (await isBelow(host, process, caller.pid));
  if (isAbove || (role === undefined && process.identity.user === user)) return process;
  const why =
    role === undefined
      ? `it belongs to ${process.identity.user}, not to ${user}`
      : `a process of role ${role} changes what is below it alone`;
  throw new KernelError("EPERM", `process ${caller.pid} may not change process ${number}: ${why}`, {
    syscall,
    pid: caller.pid,
  });
}

/**
 * What steps come to is said to a program that acts with the rights of its process.
 * @throws {EPERM} the caller neither is the process nor stands above it
 */
export async function assertMaySay(
  host: Host,
  caller: Process,
  process: Process,
  set: Readonly<Record<string, unknown>> | undefined,
  syscall: string,
): Promise<void> {
  if (Object.keys(set ?? {}).length === 0 || caller === process || (await isBelow(host, process, caller.pid))) return;
  throw new KernelError(
    "EPERM",
    `process ${caller.pid} may not say what steps of process ${process.pid} come to, which acts on that with its own rights: it does not stand above`,
    { syscall, pid: caller.pid },
  );
}

/** Whether a process is another, or below it; of what has ended and is not here its record says so. */
export async function isBelow(host: Host, process: Process, above: Pid): Promise<boolean> {
  for (let at: Process | undefined = process; at !== undefined;) {
    if (host.processes.family.get(at.pid) !== undefined) return host.processes.family.isWithin(at.pid, above);
    const { ppid }: { readonly ppid: Pid | undefined } = at.identity;
    at = ppid === undefined ? undefined : await host.processes.recall(ppid);
  }
  return false;
}

/** @throws {ESRCH} there is and was no such process */
export async function processOf(host: Host, number: Pid, syscall: string): Promise<Process> {
  const process = await host.processes.recall(number);
  if (process === undefined)
    throw new KernelError("ESRCH", `process ${number} does not exist; \`ergos ps\` lists them`, {
      syscall,
      pid: number,
    });
  return process;
}
