// Whatever a module may export as its program, made into one.

import { KernelError, type Program, type ProgramSource, type SpawnArgs } from "@ergos/kernel";
import { program } from "./function-program.ts";
import type { RunContext } from "./run-context.ts";
import { PipelineBuilder, type Plan, isPlan } from "./plan/plan.ts";
import { planProgram } from "./plan/runner.ts";

/** What runs in this process: a pipeline, a plan, a program, a function `(input, ctx)`. */
export type Code = Program | Plan | { build(): Plan } | ((input: never, ctx: RunContext<never>) => unknown);

/** Code becomes a program; names and sources stay what they are. */
export const toRunnable = (program: unknown): SpawnArgs["program"] =>
  // A name or a source, as just looked at.
  isReference(program) ? (program as SpawnArgs["program"]) : toProgram(program);

/**
 * Code that is to be found by name.
 * @throws {EINVAL} one of it is none, has no name, or has that of another
 */
export function toPrograms(all: readonly Code[]): readonly Program[] {
  const names = new Set<string>();
  return all.map((code, at) => {
    const isNameless = typeof code === "function" && code.name === "";
    const found = isNameless ? undefined : toProgram(code, typeof code === "function" ? code.name : `programs[${at}]`);
    if (found === undefined)
      throw new KernelError("EINVAL", `programs[${at}] is a function without a name, by which nobody finds it again`);
    if (names.has(found.name))
      throw new KernelError(
        "EINVAL",
        `programs[${at}] has the same name as one before it, ${found.name}; rename one of them`,
      );
    names.add(found.name);
    return found;
  });
}

/** Whether something names a program, or says where it is found. */
export const isReference = (program: unknown): boolean =>
  typeof program === "string" ||
  (typeof program === "object" &&
    program !== null &&
    !["run", "nodes", "build"].some((name) => name in program) &&
    ["module", "name", "export"].some((name) => name in program));

/**
 * Accepts a program, a plan, a pipeline under construction, or a plain function `(input, ctx)`.
 * @throws {ENOEXEC} it is none of these
 */
export function toProgram(value: unknown, name: string = nameOf(value), source?: ProgramSource): Program {
  if (isProgram(value)) return source === undefined ? value : { ...value, source };
  const plan = toPlan(value);
  if (plan !== undefined) return planProgram(plan, source);
  // A function export is called as `(input, ctx)`; what it takes is its author's promise.
  if (typeof value === "function")
    return program(name, value as Parameters<typeof program>[1], source === undefined ? {} : { source });
  const missing = source === undefined ? "not there" : "not exported";
  const found =
    value === undefined
      ? missing
      : value === null
        ? "null"
        : typeof value === "object"
          ? "an object"
          : `a ${typeof value}`;
  throw new KernelError(
    "ENOEXEC",
    `${name} is ${found}; ${source === undefined ? "give" : "export"} a pipeline, a program or a function (input, ctx)`,
  );
}

const nameOf = (value: unknown): string => (typeof value === "function" && value.name !== "" ? value.name : "function");

/** The plan of what a module exports, if it is one. */
export function toPlan(value: unknown): Plan | undefined {
  if (isPlan(value)) return value;
  return value instanceof PipelineBuilder || isBuilder(value) ? value.build() : undefined;
}

function isProgram(value: unknown): value is Program {
  return (
    typeof value === "object" &&
    value !== null &&
    "run" in value &&
    typeof value.run === "function" &&
    "revision" in value
  );
}

/** A builder of another copy of this package. */
function isBuilder(value: unknown): value is PipelineBuilder<unknown, unknown> {
  return (
    typeof value === "object" &&
    value !== null &&
    "build" in value &&
    typeof value.build === "function" &&
    "node" in value &&
    "map" in value
  );
}
