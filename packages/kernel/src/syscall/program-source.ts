// Which program is meant: one itself, one that the host knows by name, or a module, which needs a right of its own.

import { KernelError } from "../base/errno.ts";
import type { Process } from "../proc/process.ts";
import { type Program, type ProgramSource, RUNTIMES } from "../proc/program.ts";
import type { Host } from "./host.ts";
import { assertMay } from "./policy.ts";
import { flag, text } from "./row.ts";

/**
 * A program itself (only in the same host), its name under `/etc/pipelines`, or where its module is; with an export
 * alone, one of the caller's own module, in the same runtime.
 */
export type NamedProgram = Program | string | ProgramSource;

export const PROGRAM_SOURCE = {
  type: "object",
  properties: {
    module: text,
    export: text,
    name: text,
    runtime: { type: "string", enum: RUNTIMES },
    confined: flag,
    cwd: text,
    environment: { type: "object", additionalProperties: { type: ["string", "null"] } },
  },
  additionalProperties: false,
} as const;

export async function programOf(host: Host, caller: Process, program: NamedProgram, input: unknown): Promise<Program> {
  return isProgram(program) ? program : loadProgram(host, caller, sourceFor(caller, program), input);
}

/** Whether it is a program itself: only code of this host has one, what comes over the wire is data. */
export const isProgram = (program: NamedProgram): program is Program =>
  typeof program === "object" && "run" in program && typeof program.run === "function";

/** Where a program is that was named; an export alone is one of the module that the caller itself was loaded from. */
export function sourceFor(caller: Process, program: string | ProgramSource): ProgramSource {
  if (typeof program === "string") return { name: program.replace(/^\/(?:lib\/agents|etc\/pipelines)\//, "") };
  const own = caller.identity.program.source;
  const isOwn = program.module === undefined && program.name === undefined && program.export !== undefined;
  return isOwn && own?.module !== undefined ? { ...own, name: program.export, ...program } : program;
}

/** A program that the host knows by name, or a module: importing one is code of the owner's and needs its right. */
export async function loadProgram(
  host: Host,
  caller: Process,
  source: ProgramSource,
  input: unknown,
): Promise<Program> {
  const isModule = source.module !== undefined && host.loader !== undefined;
  if (isModule && !isOwnModule(caller, source))
    await assertMay(host, caller, "load", { right: "kernel.module", resource: source.module ?? "" });
  return findProgram(host, source, input);
}

/** @throws {ENOEXEC} this host knows no such program */
async function findProgram(host: Host, source: ProgramSource, input: unknown): Promise<Program> {
  if (source.name !== undefined && source.module === undefined) {
    const known = host.programs.get(source.name);
    if (known !== undefined) return known;
  }
  if (source.module === undefined || host.loader === undefined) {
    throw new KernelError(
      "ENOEXEC",
      `no program ${JSON.stringify(source.name ?? source.module ?? "")} is known to this host; give it to connect() in \`programs\`, or name its module. /etc/pipelines lists those that are known`,
      { syscall: "spawn" },
    );
  }
  return host.loader(source, input);
}

/** The program of a process that its host, not somebody's call, runs again. */
export function programAgain(host: Host, process: Process): Promise<Program> {
  return findProgram(host, sourceOf(process), process.input);
}

/** Whether it is the module whose code the caller is, in a runtime that confines it as much. */
function isOwnModule({ identity }: Process, { module, runtime = "inline", confined }: ProgramSource): boolean {
  const own = identity.program.source;
  const around = own?.runtime ?? "inline";
  if (own?.confined === true && confined !== true) return false;
  return own?.module !== undefined && own.module === module && (around === "inline" || around === runtime);
}

export const sourceOf = (process: Process): ProgramSource =>
  process.identity.program.source ?? { name: process.identity.program.name };
