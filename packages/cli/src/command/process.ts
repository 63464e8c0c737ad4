// `ergos ps`, `tree`, `logs`, `kill`: processes, their log and their end.

import { nearest } from "@ergos/compiler/names";
import {
  LIMITS,
  KernelError,
  type Pid,
  type ProcessSummary,
  SIGNALS,
  STATUSES,
  type Signal,
  parsePid,
  placeOfStep,
  stepName,
} from "@ergos/kernel";
import {
  type Command,
  EXIT_FAILED,
  EXIT_OK,
  type Invocation,
  isSet,
  listOption,
  openDirectory,
  required,
  instantOption,
  limitOption,
  textOption,
  UsageError,
} from "../command.ts";
import type { ErgOs } from "../connect.ts";
import { allProcesses, findPid, findProcess, waitForEnd } from "../find-process.ts";
import { type Output, formatCount, formatMs, table } from "../terminal.ts";

const SORTS = ["pid", "name", "ended", "cost", "tokens", "steps"] as const;

export const psCommand: Command = {
  name: "ps",
  needsData: true,
  arguments: 0,
  summary: "list processes",
  usage: `[--all] [--status ${STATUSES.join("|")}]... [--ref REF] [--correlation ID] [--name NAME] [--program NAME] [--since DATE|DURATION] [--until DATE|DURATION] [--sort ${SORTS.join("|")}] [--before PID] [--limit N]`,
  examples: [
    "ergos ps",
    "ergos ps --all --json",
    "ergos ps --status failed --sort ended",
    "ergos ps --status failed --since 2h",
    "ergos ps --ref order/7",
  ],
  options: {
    all: { type: "boolean", short: "a" },
    status: { type: "string", multiple: true },
    ref: { type: "string" },
    correlation: { type: "string" },
    name: { type: "string" },
    program: { type: "string" },
    since: { type: "string" },
    until: { type: "string" },
    sort: { type: "string" },
    before: { type: "string" },
    limit: { type: "string" },
  },
  run: async (invocation) => {
    // Two more are asked for: the host itself is left out, and another says that there are others.
    const limit = limitOption(invocation, 200, LIMITS.pageMax - 2);
    const since = instantOption(invocation, "since");
    const until = instantOption(invocation, "until");
    const status = listOption(invocation, "status").map((one) => choice("status", one, STATUSES));
    const sort = textOption(invocation, "sort");
    const before = textOption(invocation, "before");
    const wanted = ["ref", "correlation", "name", "program"].flatMap((name) => {
      const value = textOption(invocation, name);
      return value === undefined ? [] : [[name, value] as const];
    });
    await using os = await openDirectory(invocation);
    const found = (
      await os.ps({
        // What somebody looks for may be over.
        all: isSet(invocation, "all") || ((wanted.length > 0 || (since ?? until) !== undefined) && status.length === 0),
        limit: limit + 2,
        ...Object.fromEntries(wanted),
        ...(since === undefined ? {} : { since }),
        ...(until === undefined ? {} : { until }),
        ...(status.length === 0 ? {} : { status }),
        ...(sort === undefined ? {} : { sort: choice("sort", sort, SORTS) }),
        ...(before === undefined ? {} : { before: parsePid(before) }),
      })
    ).filter((process) => process.ppid !== undefined);
    // Of pids the newest, in their order; of another order the first.
    const list = found.slice(...(sort === undefined || sort === "pid" ? [-limit] : [0, limit]));
    if (found.length > limit) invocation.out.error(`there are more than these ${limit}; --limit N shows more of them`);
    invocation.out.answer(list, (processes) => psText(processes, invocation.out));
    return EXIT_OK;
  },
};

function choice<const Choice extends string>(option: string, text: string, choices: readonly Choice[]): Choice {
  const found = choices.find((one) => one === text);
  if (found === undefined) throw new UsageError(`--${option} takes ${choices.join(", ")}; found ${text}`);
  return found;
}

/** Processes that have ended, which a tree shows at most: the newest. */
const TREE_HISTORY_MAX = 1000;

export const treeCommand: Command = {
  name: "tree",
  needsData: true,
  arguments: 0,
  summary: "show processes as a tree",
  usage: "[--all]",
  examples: ["ergos tree"],
  options: { all: { type: "boolean", short: "a" } },
  run: async (invocation) => {
    await using os = await openDirectory(invocation);
    const list = await allProcesses(os, isSet(invocation, "all") ? TREE_HISTORY_MAX : undefined);
    if (isSet(invocation, "all") && list.length >= TREE_HISTORY_MAX)
      invocation.out.error("of those that have ended the newest are shown; older ones: ergos ps --all --before PID");
    invocation.out.answer(list, (processes) => treeText(processes, invocation.out));
    return EXIT_OK;
  },
};

export const logsCommand: Command = {
  name: "logs",
  needsData: true,
  arguments: 1,
  summary: "show what a process logged, and what happened to it",
  usage: "<pid|run> [--events] [--follow] | --step NAME",
  examples: [
    "ergos logs 7",
    "ergos logs digest-7 --events",
    "ergos logs 7 --follow",
    "ergos logs digest-7 --step summary",
    "ergos logs 7 --step 'files[a.md]/summary'",
  ],
  options: {
    events: { type: "boolean", short: "e" },
    follow: { type: "boolean", short: "f" },
    step: { type: "string", short: "s" },
  },
  run: async (invocation) => {
    const name = required(invocation, 0, "the process");
    const { out } = invocation;
    const isLive = isSet(invocation, "follow");
    await using os = await openDirectory(invocation, isLive);
    const summary = await findProcess(os, name);
    const { pid } = summary;
    const step = textOption(invocation, "step");
    if (step !== undefined) {
      out.answer(await outcomeOf(os, pid, step), (value) =>
        typeof value === "string" ? value : JSON.stringify(value, undefined, 2),
      );
      return EXIT_OK;
    }
    const path = isSet(invocation, "events") ? `/proc/runs/${summary.runId}/events` : `/proc/${pid}/log`;
    const live = isLive ? os.events({ pids: [pid] }) : undefined;
    const text = await os.fs.readText(out.isJson ? `${path}.json` : path);
    // Who follows gets a line for each, those that are there as those that come.
    if (out.isJson && isLive) for (const one of JSON.parse(text) as readonly unknown[]) out.answer(one, String);
    else
      out.answer(out.isJson ? JSON.parse(text) : undefined, () =>
        text === "" && live === undefined ? "no log lines; `--events` shows its steps" : text.trimEnd(),
      );
    if (live === undefined || summary.state === "zombie") return EXIT_OK;
    for await (const event of live) {
      const isLog = event.name === "process.log";
      if (isLog || isSet(invocation, "events")) {
        const { at, name, data } = event;
        // As the call that logs has it.
        const { level = "info", text: told = "" } = data as { readonly level?: string; readonly text?: string };
        const line = { at, level, text: told };
        const said = isLog ? `${level.padEnd(5)} ${told}` : `${name} ${JSON.stringify(data)}`;
        out.answer(isLog && !isSet(invocation, "events") ? line : event, () => `${new Date(at).toISOString()} ${said}`);
      }
      if (/^process\.(completed|failed|cancelled|quarantined)$/.test(event.name)) break;
    }
    return EXIT_OK;
  },
};

/** What a step came to; of a step that is not there, what there is. */
async function outcomeOf(os: ErgOs, pid: Pid, step: string): Promise<unknown> {
  const steps = `/proc/${pid}/steps`;
  try {
    return JSON.parse(await os.fs.readText(`${steps}/${stepName(step)}.json`));
  } catch (error) {
    if (!(error instanceof KernelError) || error.code !== "ENOENT") throw error;
    const names = (await os.fs.readdir(steps)).map(({ name }) => placeOfStep(name));
    const match = nearest(step, names);
    const known = names.length === 0 ? "it has recorded none" : `it has recorded ${names.slice(0, 12).join(", ")}`;
    throw new KernelError(
      "ENOENT",
      `process ${pid} has no step ${step}; ${match === undefined ? known : `did you mean ${match}?`}`,
      { pid },
    );
  }
}

export const killCommand: Command = {
  name: "kill",
  needsData: true,
  summary: "send a signal to a process and its branch (TERM unless given)",
  usage: `<pid|run>... [--signal ${Object.keys(SIGNALS).join("|")}]`,
  examples: ["ergos kill 7", "ergos kill 7 --signal STOP"],
  options: { signal: { type: "string", short: "s" } },
  run: async (invocation) => {
    required(invocation, 0, "the process");
    return send(invocation, textOption(invocation, "signal") ?? "TERM", invocation.positionals);
  },
};

export const signalCommand: Command = {
  name: "signal",
  needsData: true,
  summary: "send a signal to processes",
  usage: `<${Object.keys(SIGNALS).join("|")}> <pid|run>...`,
  examples: ["ergos signal HUP 7", "ergos signal USR1 7 8"],
  options: {},
  run: async (invocation) => {
    const signal = required(invocation, 0, "the signal");
    required(invocation, 1, "the process");
    return send(invocation, signal, invocation.positionals.slice(1));
  },
};

async function send(invocation: Invocation, wanted: string, names: readonly string[]): Promise<number> {
  const signal = wanted.toUpperCase().replace(/^SIG/, "");
  if (!isSignal(signal)) throw new UsageError(`${signal} is no signal; known are ${Object.keys(SIGNALS).join(", ")}`);
  await using os = await openDirectory(invocation);
  for (const name of names) {
    const { pid } = await findPid(os, name);
    await os.kill(pid, signal);
    invocation.out.answer({ pid, signal }, () => `${signal} sent to ${pid}`);
  }
  return EXIT_OK;
}

export const waitCommand: Command = {
  name: "wait",
  needsData: true,
  summary: "wait for processes to end; the status is that of the last one that failed",
  usage: "<pid|run>...",
  examples: ["ergos wait 7", "ergos wait digest-7 --json"],
  options: {},
  run: async (invocation) => {
    required(invocation, 0, "the process");
    await using os = await openDirectory(invocation);
    let status = EXIT_OK;
    if (invocation.positionals.length > 1) invocation.out.gather();
    for (const name of invocation.positionals) {
      const { pid, runId, state } = await findProcess(os, name);
      if (state === "sleeping" && !os.isRemote)
        throw new UsageError(`${runId} sleeps, and no host runs here that could wake it; ergos resume ${pid} does`);
      const exit = await waitForEnd(os, pid);
      const summary = (await os.ps({ pids: [pid] }))[0];
      invocation.out.answer({ pid, runId, ...exit }, () =>
        summary === undefined ? runId : `${runId} ${stateText(summary, invocation.out)}`,
      );
      if (exit.error !== undefined && !invocation.out.isJson) invocation.out.error(exit.error.message);
      if (exit.code !== 0) status = exit.signal === undefined ? EXIT_FAILED : exit.code;
    }
    return status;
  },
};

const isSignal = (text: string): text is Signal => Object.hasOwn(SIGNALS, text);

function stateText({ state, status, code, signal, channel, restarts, sleep }: ProcessSummary, out: Output): string {
  if (state === "sleeping" && status === "stopped") return "stopped";
  if (state === "sleeping" && sleep?.until !== undefined)
    return `sleeping until ${new Date(sleep.until).toISOString()}`;
  if (state === "sleeping" && restarts !== undefined) return out.style("yellow", `restarting (${restarts})`);
  if (state !== "zombie") return channel === undefined ? state : `waiting (${channel})`;
  if (signal !== undefined) return out.style("yellow", `ended by ${signal}`);
  return code === 0 ? out.style("green", "completed") : out.style("red", `failed`);
}

function psText(processes: readonly ProcessSummary[], out: Output): string {
  if (processes.length === 0) return "no processes; `ergos ps --all` shows ended ones";
  const rows = processes.map((process) => [
    String(process.pid),
    process.runId,
    process.program,
    formatCount(process.usage.steps),
    formatCount(process.usage.tokensIn + process.usage.tokensOut),
    process.ended === undefined ? "" : formatMs(process.ended - process.created),
    process.progress === undefined || process.state === "zombie"
      ? ""
      : `${process.progress.done}/${process.progress.total}`,
    stateText(process, out),
  ]);
  return table([["PID", "RUN", "PROGRAM", "STEPS", "TOKENS", "TIME", "DONE", "STATE"], ...rows]);
}

function treeText(processes: readonly ProcessSummary[], out: Output): string {
  const known = new Set(processes.map(({ pid }) => pid));
  const children = Map.groupBy(processes, ({ ppid }) => (ppid !== undefined && known.has(ppid) ? ppid : 0));
  const lines: string[] = [];
  interface Line {
    readonly process: ProcessSummary;
    /** What stands before it, and before what is below it. */
    readonly lead: string;
    readonly below: string;
  }
  const left: Line[] = (children.get(0) ?? []).map((process) => ({ process, lead: "", below: "" })).toReversed();
  // Not by itself: a branch may be deeper than a stack.
  for (let at = left.pop(); at !== undefined; at = left.pop()) {
    const { process, lead, below } = at;
    lines.push(`${lead}${process.pid} ${out.style("bold", process.name)} ${stateText(process, out)}`);
    const some = children.get(process.pid) ?? [];
    for (const [number, child] of [...some.entries()].toReversed()) {
      const isLast = number === some.length - 1;
      left.push({
        process: child,
        lead: `${below}${isLast ? "└─ " : "├─ "}`,
        below: `${below}${isLast ? "   " : "│  "}`,
      });
    }
  }
  return lines.join("\n");
}
