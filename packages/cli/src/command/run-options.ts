// What `ergos run` takes beside the program: how the process is started.

import {
  ON_LIMIT,
  type ProcessLimits,
  type ProgramSource,
  RESTART_POLICIES,
  RUNTIMES,
  type Redoing,
  type Runtime,
  present,
} from "@ergos/kernel";
import {
  type Invocation,
  UsageError,
  choiceOption,
  durationOption,
  grantsOption,
  isSet,
  listOption,
  readPairs,
  textOption,
  wholeOption,
} from "../command.ts";
import type { RunOptions } from "../connect.ts";
import { readAmounts } from "./budget.ts";

export const SPAWN_USAGE =
  "[--name NAME] [--limit resource=amount]... [--on-limit POLICY] [--downgrade-to MODEL]... [--time DURATION] [--cpu-time DURATION] [--memory MIB] [--cap GRANT]... [--group GROUP] [--runtime inline|worker|process] [--confined] [--restart POLICY] [--ref REF] [--correlation ID] [--view DIRECTORY]";

export const SPAWN_OPTIONS = {
  name: { type: "string" },
  limit: { type: "string", multiple: true },
  budget: { type: "string", multiple: true },
  "on-limit": { type: "string" },
  "downgrade-to": { type: "string", multiple: true },
  time: { type: "string" },
  "cpu-time": { type: "string" },
  memory: { type: "string" },
  cap: { type: "string", multiple: true },
  group: { type: "string" },
  runtime: { type: "string" },
  confined: { type: "boolean" },
  restart: { type: "string" },
  ref: { type: "string" },
  correlation: { type: "string" },
  view: { type: "string" },
} as const;

export const REDO_OPTIONS = {
  from: { type: "string", multiple: true },
  set: { type: "string", multiple: true },
} as const;

/** What is to be different of what a run has recorded. */
export function redoingOf(invocation: Invocation): Redoing {
  const from = listOption(invocation, "from");
  const set = listOption(invocation, "set");
  return { ...(from.length === 0 ? {} : { from }), ...(set.length === 0 ? {} : { set: readPairs("set", set) }) };
}

const runtimeOption = (invocation: Invocation): Runtime =>
  choiceOption(invocation, "runtime", RUNTIMES) ?? (isSet(invocation, "confined") ? "process" : "inline");

/** The program of a file, and where it runs. */
export function sourceOf(invocation: Invocation, file: string): ProgramSource {
  const runtime = runtimeOption(invocation);
  return {
    module: file,
    cwd: process.cwd(),
    ...(runtime === "inline" ? {} : { runtime }),
    ...present({
      confined: isSet(invocation, "confined") ? true : undefined,
      export: textOption(invocation, "pipeline"),
    }),
  };
}

export function spawnOptions(invocation: Invocation, input: unknown): RunOptions {
  const caps = grantsOption(invocation, "cap");
  return present({
    input,
    name: textOption(invocation, "name"),
    budget: readAmounts([...listOption(invocation, "limit"), ...listOption(invocation, "budget")]),
    limits: limitsOf(invocation),
    group: textOption(invocation, "group"),
    restart: choiceOption(invocation, "restart", RESTART_POLICIES),
    ref: textOption(invocation, "ref"),
    correlation: textOption(invocation, "correlation"),
    view: textOption(invocation, "view"),
    // A run may always record its own steps.
    grants: caps.length === 0 ? undefined : [...new Set(["self", ...caps])],
  });
}

const HEAP_LEAST_MB = 8;

function limitsOf(invocation: Invocation): ProcessLimits | undefined {
  const onLimit = choiceOption(invocation, "on-limit", ON_LIMIT);
  const downgrade = listOption(invocation, "downgrade-to");
  if ((onLimit === "downgrade") !== downgrade.length > 0)
    throw new UsageError(
      "--on-limit downgrade and --downgrade-to MODEL, which names the models to go down to, go together",
    );
  const cpuMs = durationOption(invocation, "cpu-time");
  const memoryMb =
    textOption(invocation, "memory") === undefined ? undefined : wholeOption(invocation, "memory", 0, HEAP_LEAST_MB);
  if ((cpuMs ?? memoryMb) !== undefined && runtimeOption(invocation) === "inline")
    throw new UsageError(
      "--memory and --cpu-time bound a thread or a process of its own; choose --runtime worker or --runtime process",
    );
  const limits = present({
    onLimit,
    downgrade: downgrade.length === 0 ? undefined : downgrade,
    wallMs: durationOption(invocation, "time"),
    cpuMs,
    memoryMb,
  });
  return Object.keys(limits).length === 0 ? undefined : limits;
}
