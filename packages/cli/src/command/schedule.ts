// `ergos schedule`: what is started at an instant, every so often, or by cron. `ergos up`: a host that stays for it.

import { formatDuration } from "@ergos/compiler/duration";
import { plainMessage, MISSED, OVERLAPS, type KernelEvent, KernelError, type Schedule } from "@ergos/kernel";
import { maintenance } from "@ergos/services";
import {
  type Command,
  EXIT_OK,
  type Invocation,
  UsageError,
  choiceOption,
  durationOption,
  listOption,
  openDirectory,
  readPairs,
  required,
  textOption,
} from "../command.ts";
import type { ErgOs } from "../connect.ts";
import { findModule, labelOf } from "../module-program.ts";
import { onEnding } from "../ending.ts";
import { type Output, formatCount, table } from "../terminal.ts";
import { openHost, readSource, textsOf } from "./run.ts";
import { SPAWN_OPTIONS, sourceOf, spawnOptions } from "./run-options.ts";

export const scheduleCommand: Command = {
  name: "schedule",
  needsData: ([what]) => what !== "add",
  arguments: 2,
  summary: "list what is started by the clock, or add, pause, resume or remove it",
  usage: `list | add <manifest | module> (--cron PATTERN [--timezone ZONE] | --every DURATION | --in DURATION | --at INSTANT) [--input key=value]... [--pipeline NAME] [--missed skip|once|all] [--overlap allow|skip|cancel] [--times N] [how the run is started: --name, --limit, --cap, --group, --runtime and the like, as for ergos run] | pause <id | name> | resume <id | name> | remove <id | name>`,
  examples: [
    "ergos schedule add digest.yaml --cron '0 7 * * MON-FRI' --timezone Europe/Berlin --name morning",
    "ergos schedule add ./sync.ts --every 15m --overlap skip --missed skip",
    "ergos schedule add nightly.yaml --cron @daily --limit cost=1 --cap llm --cap 'fs.*:/srv/**'",
    "ergos schedule list",
    "ergos schedule pause morning",
    "ergos up",
  ],
  options: {
    cron: { type: "string" },
    timezone: { type: "string" },
    every: { type: "string" },
    in: { type: "string" },
    at: { type: "string" },
    ...SPAWN_OPTIONS,
    input: { type: "string", multiple: true, short: "i" },
    pipeline: { type: "string" },
    missed: { type: "string" },
    overlap: { type: "string" },
    times: { type: "string" },
  },
  run: async (invocation) => {
    const what = invocation.positionals[0] ?? "list";
    if (what === "list") return list(invocation);
    const request = what === "add" ? await requestOf(invocation) : undefined;
    if (request === undefined && !["pause", "resume", "remove"].includes(what))
      throw new UsageError(`schedule takes list, add, pause, resume or remove; found ${what}`);
    await using os = await openDirectory(invocation);
    const { out } = invocation;
    if (request !== undefined) {
      const made = await os.call("schedule", request);
      out.answer(made, () => `schedule ${made.id} acts ${nextText(made)}; a host must be running then: ergos up`);
      return EXIT_OK;
    }
    const { id } = await find(os, required(invocation, 1, "the schedule"));
    if (what === "remove") {
      await os.call("unschedule", { id });
      out.answer({ id }, () => `schedule ${id} is removed`);
      return EXIT_OK;
    }
    const changed = await os.call("setSchedule", { id, paused: what === "pause" });
    out.answer(changed, () => `schedule ${id} ${changed.isPaused ? "is paused" : `acts ${nextText(changed)}`}`);
    return EXIT_OK;
  },
};

async function list(invocation: Invocation): Promise<number> {
  await using os = await openDirectory(invocation);
  invocation.out.answer(await os.call("schedules", {}), (schedules) =>
    schedules.length === 0
      ? "no schedules; make one with: ergos schedule add PROGRAM --every 15m"
      : scheduleTable(schedules, invocation.out),
  );
  return EXIT_OK;
}

function scheduleTable(schedules: readonly Schedule[], out: Output): string {
  const rows = schedules.map((one) => [
    String(one.id),
    one.name ?? "",
    one.cron === undefined
      ? one.everyMs === undefined
        ? "once"
        : `every ${formatDuration(one.everyMs)}`
      : `${one.cron}${one.zone === undefined ? "" : ` ${one.zone}`}`,
    one.isPaused ? out.style("yellow", "paused") : new Date(one.next).toISOString(),
    formatCount(one.runs),
    formatCount(one.missedRuns + one.skippedRuns),
    lastText(one, out),
  ]);
  return table([["ID", "NAME", "WHEN", "NEXT", "RUNS", "LEFT OUT", "LAST"], ...rows]);
}

/** When it acted last, and what came of that. */
function lastText({ last }: Schedule, out: Output): string {
  if (last === undefined) return "";
  const at = new Date(last.at).toISOString();
  if (last.error !== undefined) return `${at} ${out.style("red", last.error.message)}`;
  return last.pid === undefined ? at : `${at} -> ${last.pid}`;
}

const nextText = ({ next }: Schedule): string => `next at ${new Date(next).toISOString()}`;

async function find(os: ErgOs, name: string): Promise<Schedule> {
  const found = (await os.call("schedules", {})).find((one) => String(one.id) === name || one.name === name);
  if (found === undefined)
    throw new KernelError("ENOENT", `there is no schedule ${name}; \`ergos schedule list\` shows them`);
  return found;
}

/** What an action starts: the program at a place of the arguments, as `ergos run` would. */
export async function startingOf(invocation: Invocation, place: number): Promise<Readonly<Record<string, unknown>>> {
  const file = findModule(required(invocation, place, "the manifest or module"), process.cwd());
  const program = sourceOf(invocation, file);
  const pairs = listOption(invocation, "input");
  const input = pairs.length === 0 ? undefined : readPairs("input", pairs, textsOf((await readSource(program)).schema));
  return { program, name: textOption(invocation, "pipeline") ?? labelOf(file), ...spawnOptions(invocation, input) };
}

export function timesOf(invocation: Invocation): { readonly times?: number } {
  const times = textOption(invocation, "times");
  if (times === undefined) return {};
  if (/^[1-9]\d{0,14}$/.test(times)) return { times: Number(times) };
  throw new UsageError(`--times takes a whole number of at least 1, found ${times}`);
}

async function requestOf(invocation: Invocation) {
  const spawn = await startingOf(invocation, 1);
  const at = textOption(invocation, "at");
  const instant = at === undefined ? undefined : Date.parse(at);
  if (Number.isNaN(instant)) throw new UsageError(`--at takes an instant as 2026-12-24T18:00:00Z, found ${at ?? ""}`);
  const cron = textOption(invocation, "cron");
  const zone = textOption(invocation, "timezone");
  const name = textOption(invocation, "name");
  const everyMs = durationOption(invocation, "every");
  if (["cron", "every", "in", "at"].every((option) => textOption(invocation, option) === undefined))
    throw new UsageError("when? Give one of --cron, --every, --in and --at");
  const inMs = durationOption(invocation, "in");
  const missed = choiceOption(invocation, "missed", MISSED);
  const overlap = choiceOption(invocation, "overlap", OVERLAPS);
  return {
    action: { spawn },
    ...(name === undefined ? {} : { name }),
    ...(cron === undefined ? {} : { cron }),
    // Patterns are read as the clock on the wall shows them.
    ...(cron === undefined && zone === undefined
      ? {}
      : { zone: zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone }),
    ...(everyMs === undefined ? {} : { everyMs }),
    ...(inMs === undefined ? {} : { inMs }),
    ...(instant === undefined ? {} : { at: instant }),
    ...(missed === undefined ? {} : { missed }),
    ...(overlap === undefined ? {} : { overlap }),
    ...timesOf(invocation),
  };
}

/** Events that whoever watches a host wants to see. */
const SHOWN = [
  "process.started",
  "process.resumed",
  "process.completed",
  "process.failed",
  "process.cancelled",
  "process.restarting",
  "process.escalated",
  "process.quarantined",
  "schedule.fired",
  "schedule.missed",
  "schedule.skipped",
  "schedule.failed",
  "trigger.fired",
  "trigger.missed",
  "trigger.failed",
  "entity.failed",
  "ask.raised",
] as const;

export const upCommand: Command = {
  name: "up",
  arguments: 0,
  summary: "keep a host running: runs go on, schedules act, sleepers are woken",
  usage: "[--keep DURATION] [--ledger DURATION]",
  examples: ["ergos up", "ergos up --keep 30d --ledger 90d", "ergos up --json >> ergos.log"],
  options: { keep: { type: "string" }, ledger: { type: "string" } },
  run: async (invocation) => {
    const { out } = invocation;
    const keepMs = durationOption(invocation, "keep");
    const ledgerMs = durationOption(invocation, "ledger");
    await using os = await openHost(invocation, true);
    if (os.isRemote)
      throw new KernelError("EBUSY", `a host is running over ${invocation.dir} already; other commands reach it`);
    const stopped = Promise.withResolvers<void>();
    const unhear = onEnding(() => stopped.resolve());
    await os.call("enlist", {
      service: maintenance({
        ...(keepMs === undefined ? {} : { keepMs }),
        ...(ledgerMs === undefined ? {} : { ledgerMs }),
      }),
    });
    // What goes on may have ended by now.
    const events = os.events({ names: SHOWN, ...(os.openedAt === undefined ? {} : { after: os.openedAt }) });
    const schedules = await os.call("schedules", {});
    const triggers = await os.call("triggers", {});
    const [first] = schedules;
    out.line(
      `up over ${invocation.dir}: ${os.resumed.length} runs go on, ${schedules.length} schedules${first === undefined ? "" : `, the first ${nextText(first)}`}, ${triggers.length} triggers. Ctrl-C ends it; what runs then sleeps`,
    );
    for (const { pid, error } of os.leftAsleep)
      out.error(`process ${pid} cannot go on and sleeps: ${plainMessage(error.message)}. Then: ergos resume ${pid}`);
    const showing = (async () => {
      for await (const event of events) out.answer(event, eventText);
    })();
    await Promise.race([stopped.promise, showing]);
    // It ends with the host.
    showing.catch(() => undefined);
    unhear();
    return EXIT_OK;
  },
};

function eventText({ at, name, pid, data }: KernelEvent): string {
  const {
    name: label,
    error,
    child,
    action,
    delayMs,
  } = data as {
    readonly name?: string;
    readonly error?: { readonly message: string };
    readonly child?: number;
    readonly action?: string;
    readonly delayMs?: number;
  };
  const more = [
    label,
    action,
    child === undefined ? undefined : `process ${child}`,
    delayMs === undefined ? undefined : `in ${delayMs} ms`,
    error?.message,
  ];
  return [new Date(at).toISOString(), name, pid, ...more.filter((text) => text !== undefined)].join(" ");
}
