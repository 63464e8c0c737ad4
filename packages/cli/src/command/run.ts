// `ergos run` and `ergos resume`: run a program to its end, with live progress.

import { readFileSync } from "node:fs";
import { isatty } from "node:tty";
import { isDeepStrictEqual } from "node:util";
import { nearest } from "@ergos/compiler/names";
import {
  type ErrorRecord,
  KernelError,
  type Outlook,
  type Pid,
  type ProcessSummary,
  type ProgramSource,
  type Redoing,
  type Schema,
  describe,
  formatAmount,
  isKernelError,
  plainMessage,
  reworded,
} from "@ergos/kernel";
import {
  type Command,
  EXIT_FAILED,
  EXIT_OK,
  type Invocation,
  UsageError,
  isSet,
  listOption,
  openDirectory,
  patiently,
  readPairs,
  required,
  textOption,
  waitForOthers,
} from "../command.ts";
import { type ErgOs, connectHost } from "../connect.ts";
import { readAmounts } from "./budget.ts";
import { askText } from "./rights.ts";
import { REDO_OPTIONS, SPAWN_OPTIONS, SPAWN_USAGE, redoingOf, sourceOf, spawnOptions } from "./run-options.ts";

import { allProcesses, findProcess, waitForEnd } from "../find-process.ts";
import { findModule, isManifestFile, loadProgram } from "../module-program.ts";
import { textPrinter, withText } from "../run-text.ts";
import { withStdio } from "../stdio.ts";
import { onEnding, statusOf } from "../ending.ts";
import { type Output, createOutput, formatCount, formatMs, table } from "../terminal.ts";

/** Blocking code ends the host after this long, unless ERGOS_WATCHDOG_MS says otherwise. */
const WATCHDOG_MS = 10_000;

export const runCommand: Command = {
  name: "run",
  arguments: 1,
  summary: "run a program to its end, durably",
  usage: `<manifest | module> [--pipeline NAME] [--input key=value]... [--input-json JSON] [--resume] [--key KEY] [--text] ${SPAWN_USAGE} [--stdin PIPE] [--stdout PIPE]\n  Standard input and output become pipes of the namespace; with --stdout the report of the run goes to stderr.`,
  examples: [
    "ergos run examples/digest",
    "ergos run ./agent.ts --input topic=locks",
    "ergos run ./agent.ts --resume",
    "ergos run ./agent.ts --limit cost=0.50 --limit calls=20 --on-limit ask",
    "ergos run ./agent.ts --limit cost=2 --on-limit downgrade --downgrade-to openai/gpt-4.1-nano",
    "ergos run ./agent.ts --runtime process --memory 512 --cpu-time 2m --time 10m",
    "ergos run ./agent.ts --view /srv/project && ergos diff 2 && ergos apply 2",
    "ergos run pipeline.yaml --input-json @order.json",
    "ergos run ./agent.ts --cap llm --cap fs.read:/srv/** --cap 'ask tool.call:send_mail'",
    "cat urls.txt | ergos run ./crawl.ts --stdin /srv/in --stdout /srv/out | sort",
  ],
  options: {
    pipeline: { type: "string" },
    input: { type: "string", multiple: true, short: "i" },
    "input-json": { type: "string" },
    resume: { type: "boolean" },
    key: { type: "string" },
    text: { type: "boolean" },
    ...SPAWN_OPTIONS,
    stdin: { type: "string" },
    stdout: { type: "string" },
  },
  run: async (invocation) => {
    const file = findModule(required(invocation, 0, "the manifest or module"), process.cwd());
    const { source, schema } = await readSource(sourceOf(invocation, file));
    const input = readInput(invocation, schema);
    warnOfUnknown(input, schema, invocation.out);
    const key = textOption(invocation, "key");
    const options = { ...spawnOptions(invocation, input), ...(key === undefined ? {} : { key }) };
    await using os = await openHost(invocation);
    const pipes = { input: textOption(invocation, "stdin"), output: textOption(invocation, "stdout") };
    // What the run writes has standard output to itself.
    const out = pipes.output === undefined ? invocation.out : createOutput(invocation.out.isJson, process.stderr);
    return await withStdio(os, pipes, out, async (joined) => {
      const unfinished = isSet(invocation, "resume") ? await findUnfinished(joined, source) : undefined;
      const start = async (): Promise<Pid> => {
        if (unfinished !== undefined) {
          await tellOtherInput(joined, unfinished, input, out);
          return goOn(joined, unfinished, out);
        }
        const began = Date.now();
        const pid = await joined.spawn(source, options);
        // Under a key it may be there already, and sleep.
        const [there] = key === undefined ? [] : await joined.ps({ pids: [pid] });
        if (there !== undefined && there.created < began) {
          out.line(`${there.runId} was started under this key before`);
          await tellOtherInput(joined, there, input, out);
        }
        return there?.state === "sleeping" && there.sleep === undefined ? goOn(joined, there, out) : pid;
      };
      const isFresh = unfinished === undefined;
      const interrupted = holdInterrupts();
      const showsText = isSet(invocation, "text");
      const end = (pid: Pid): Promise<number> =>
        follow(joined, pid, out, { source, input, isFresh, showsText, interrupted });
      const printer = textPrinter(out.style, (text) => void process.stderr.write(text));
      const status = await (showsText ? withText(joined, printer.hear, start, end) : end(await start()));
      printer.end();
      await waitForOthers(joined, out);
      return status;
    });
  },
};

export const resumeCommand: Command = {
  name: "resume",
  needsData: true,
  summary: "run a process on that its host left behind, or try a failed one again; or any again from a step of it",
  usage: "[pid|run]... [--from step]... [--set step=value]... [--dry-run] [--force] [--limit resource=amount]...",
  examples: [
    "ergos resume",
    "ergos resume 7",
    "ergos resume 7 --from summarise",
    "ergos resume 7 --from summarise --dry-run",
    'ergos resume 7 --set \'charge={"id":"ch_1"}\'',
    "ergos resume digest-7 --force",
    "ergos resume 7 --limit cost=0.50",
  ],
  options: {
    ...REDO_OPTIONS,
    "dry-run": { type: "boolean" },
    force: { type: "boolean" },
    limit: { type: "string", multiple: true },
  },
  run: async (invocation) => {
    const added = readAmounts(listOption(invocation, "limit"));
    const redoing = redoingOf(invocation);
    const isChanged = redoing.from !== undefined || redoing.set !== undefined;
    if (isChanged && invocation.positionals.length !== 1)
      throw new UsageError("--from and --set name steps of one run: ergos resume RUN --from STEP");
    if (isSet(invocation, "dry-run")) return preview(invocation, redoing);
    await using os = await openHost(invocation);
    const chosen =
      invocation.positionals.length === 0
        ? (await allProcesses(os)).filter((process) => process.state === "sleeping" && process.sleep === undefined)
        : await Promise.all([...new Set(invocation.positionals)].map((name) => findProcess(os, name)));
    if (chosen.length === 0) {
      invocation.out.answer([], () => "nothing to resume: no process sleeps here");
      return EXIT_OK;
    }
    const owner = chosen.find(({ ppid }) => ppid === undefined);
    if (owner !== undefined) throw new UsageError(`process ${owner.pid} is this host itself; nothing of it sleeps`);
    let status = EXIT_OK;
    const interrupted = holdInterrupts();
    // The same process may have been named in two ways; of a branch the topmost takes what is below it along.
    const pids = new Set(chosen.map(({ pid }) => pid));
    const tops = chosen.filter(({ ppid }) => ppid === undefined || !pids.has(ppid));
    const isNamed = invocation.positionals.length > 0;
    const left = new Set<Pid>();
    const children = Map.groupBy(await allProcesses(os), ({ ppid }) => ppid);
    for (const process of isNamed ? new Map(chosen.map((one) => [one.pid, one])).values() : tops) {
      if (process.state === "running" || process.state === "waiting") {
        if (isChanged)
          throw new KernelError("EBUSY", `${process.runId} runs; end it first, with: ergos kill ${process.pid}`);
        invocation.out.line(`${process.runId} is running already`);
      } else if (process.state === "zombie" && process.code === 0 && !isChanged)
        invocation.out.line(`${process.runId} has completed; nothing is left to do`);
      else {
        const how = {
          again: process.state === "zombie",
          force: isSet(invocation, "force"),
          ...redoing,
          ...(added === undefined ? {} : { budget: added }),
        };
        try {
          await os.resume(process.pid, how);
        } catch (error) {
          // Of all that sleep each is tried; whoever names one hears why it cannot go on, and what would let it.
          if (isNamed) throw withAdvice(error, process);
          invocation.out.error(`${process.runId} sleeps on: ${describe(withAdvice(error, process))}`);
          left.add(process.pid);
          status = EXIT_FAILED;
          continue;
        }
        await resumeBelow(os, process.pid, children, invocation.out);
      }
    }
    const stopped = (await os.ps({ pids: tops.map(({ pid }) => pid) })).filter(({ state }) => state === "stopped");
    for (const { pid, runId } of stopped)
      invocation.out.error(`${runId} was stopped, and stays so; it goes on with: ergos signal CONT ${pid}`);
    // The topmost tells how it went.
    if (tops.length > 1) invocation.out.gather();
    for (const { pid } of tops.filter((one) => !left.has(one.pid)))
      status = Math.max(status, await follow(os, pid, invocation.out, { interrupted }));
    await waitForOthers(os, invocation.out);
    return status;
  },
};

/** A program that is not found any more may be somewhere else. */
function withAdvice(error: unknown, { pid }: ProcessSummary): unknown {
  if (!isKernelError(error) || error.path === undefined || (error.code !== "ENOEXEC" && error.code !== "ENOENT"))
    return error;
  const message = `${plainMessage(error.message)}. Where its program is in another file now: ergos upgrade ${pid} FILE`;
  return reworded(error, { message });
}

/** What a resumption would do. */
async function preview(invocation: Invocation, redoing: Redoing): Promise<number> {
  const [wanted, other] = invocation.positionals;
  if (wanted === undefined || other !== undefined)
    throw new UsageError("--dry-run looks at one run: ergos resume RUN --dry-run");
  await using os = await openDirectory(invocation);
  const { pid, runId, state, code } = await findProcess(os, wanted);
  const outlook = await os.call("previewResume", { pid, ...redoing });
  const isDone = state === "zombie" && code === 0 && Object.keys(redoing).length === 0;
  invocation.out.answer({ pid, runId, ...outlook }, () =>
    isDone ? `${runId} has completed; nothing is left to do` : outlookText(runId, outlook, redoing),
  );
  return EXIT_OK;
}

const WHY = {
  asked: "as asked for",
  builds: "builds on that",
  changed: "changed since",
  failed: "failed, or ended with it",
} as const;

function outlookText(runId: string, { kept, again, unknown }: Outlook, { set = {} }: Redoing): string {
  const given = Object.keys(set);
  const rows = again.map(({ place, call, why, model, tool, tokensIn = 0, tokensOut = 0, costMicros = 0 }) => [
    place,
    WHY[why],
    model === undefined && tool === undefined ? call : `${call} ${model ?? tool ?? ""}`,
    tokensIn + tokensOut === 0 ? "" : `${formatCount(tokensIn + tokensOut)} tokens`,
    costMicros === 0 ? "" : formatAmount("costMicros", costMicros),
  ]);
  return [
    `${runId} takes ${kept} recorded ${kept === 1 ? "step" : "steps"} from its journal${again.length === 0 ? "; none is done again" : ", and does again:"}`,
    ...(rows.length === 0 ? [] : [table([["STEP", "WHY", "CALL", "IT USED", ""], ...rows])]),
    ...(given.length === 0 ? [] : [`what comes instead of what was recorded: ${given.join(", ")}`]),
    ...(unknown.length === 0 ? [] : [`cut off, and may have acted: ${unknown.join(", ")}`]),
  ].join("\n");
}

/** A process may wait for what it has started: what sleeps of that goes on with it. */
async function resumeBelow(
  os: ErgOs,
  pid: Pid,
  children: ReadonlyMap<Pid | undefined, readonly ProcessSummary[]>,
  out: Output,
): Promise<void> {
  const left = [...(children.get(pid) ?? [])];
  for (let at = left.pop(); at !== undefined; at = left.pop()) {
    left.push(...(children.get(at.pid) ?? []));
    if (at.state !== "sleeping" || at.sleep !== undefined) continue;
    await os.resume(at.pid).catch((error: unknown) => out.error(describe(error)));
  }
}

/** Opens a host that acts, or the one that runs here; with `resume` what its last host left behind goes on. */
export async function openHost(invocation: Invocation, resume = false): Promise<ErgOs> {
  const text = process.env["ERGOS_WATCHDOG_MS"] ?? "";
  const configured = text === "" ? WATCHDOG_MS : Number(text);
  if (!Number.isFinite(configured) || configured < 0)
    throw new UsageError(`ERGOS_WATCHDOG_MS must be milliseconds, found ${text}`);
  const { ERGOS_PASS: pass } = process.env;
  const seat = pass === undefined || pass === "" ? {} : { pass };
  const opening = connectHost({ dir: invocation.dir, watchdogMs: configured, resume, ...seat });
  const { os, host } = await patiently(invocation, opening);
  const report = host?.watchdogReport;
  if (report !== undefined) {
    const who =
      report.pid === 0
        ? `a module that was being loaded blocked the event loop for ${formatMs(report.blockedMs)}`
        : `process ${report.pid} blocked the event loop for ${formatMs(report.blockedMs)} (see ergos cat /proc/${report.pid}/status)`;
    invocation.out.error(`the last host was ended by the watchdog: ${who}`);
  }
  if (host === undefined) return os;
  // Until it is closed nothing but a program ends this process.
  const onExit = (code: number): void => {
    invocation.out.error(
      `[EFAILED] a program called process.exit(${code}), which ends its host; its runs sleep. Go on with: ergos resume`,
    );
    // Nothing was completed, whatever the program says; its number would be taken for one of this command's.
    process.exitCode = EXIT_FAILED;
  };
  process.on("exit", onExit);
  const close = (): Promise<void> => {
    process.off("exit", onExit);
    return os.close();
  };
  return { ...os, close, [Symbol.asyncDispose]: close };
}

async function goOn(os: ErgOs, process: ProcessSummary, out: Output): Promise<Pid> {
  if (process.state === "sleeping") {
    await os.resume(process.pid);
    await resumeBelow(
      os,
      process.pid,
      Map.groupBy(await allProcesses(os), ({ ppid }) => ppid),
      out,
    );
    out.line(`going on with ${process.runId}, which its last host left behind`);
  }
  return process.pid;
}

/** Who gives an input to a run that is there already may think that it takes it. */
async function tellOtherInput(os: ErgOs, { pid, runId }: ProcessSummary, given: object, out: Output): Promise<void> {
  const input = { ...((await cmdlineOf(os, pid)).input as Readonly<Record<string, unknown>> | undefined) };
  // What was not given has its default there.
  if (Object.entries(given).some(([name, value]) => !isDeepStrictEqual(value, input[name])))
    out.error(`${runId} has the input that it was started with, and not this one: ergos cat /proc/${pid}/cmdline.json`);
}

const cmdlineOf = async (
  os: ErgOs,
  pid: Pid,
): Promise<{ readonly program?: { readonly source?: ProgramSource }; readonly input?: unknown }> =>
  // As the kernel shows it.
  JSON.parse(await os.fs.readText(`/proc/${pid}/cmdline.json`)) as { readonly input?: unknown };

async function findUnfinished(os: ErgOs, wanted: ProgramSource): Promise<ProcessSummary | undefined> {
  const all = await os.ps();
  const started = new Set(all.flatMap(({ pid, ppid }) => (ppid === undefined ? [] : [pid])));
  for (const process of all.toReversed()) {
    // What a run has started goes on with that.
    if (process.ppid !== undefined && started.has(process.ppid)) continue;
    if (process.state === "zombie" || process.state === "quarantined" || process.ppid === undefined) continue;
    const cmdline = await cmdlineOf(os, process.pid);
    const { module, export: name } = cmdline.program?.source ?? {};
    if (module === wanted.module && (wanted.export ?? name) === name) return process;
  }
  return undefined;
}

/** Shows a process until it ends; its exit is the command's. */
export async function follow(
  os: ErgOs,
  pid: Pid,
  out: Output,
  {
    source,
    input,
    isFresh = false,
    showsText = false,
    interrupted,
  }: {
    readonly source?: ProgramSource;
    readonly input?: unknown;
    readonly isFresh?: boolean;
    /** What its models say is shown meanwhile. */
    readonly showsText?: boolean;
    /** What came since its start began. */
    readonly interrupted?: () => NodeJS.Signals | undefined;
  } = {},
): Promise<number> {
  const started = performance.now();
  const interrupt = onInterrupt(os, pid, out, interrupted);
  const display = out.isTerminal && !showsText ? showProgress(os, pid, out, started) : undefined;
  const tellWaiting = showWaiting(os, pid, out);
  try {
    const exit = await waitForEnd(os, pid);
    // What is printed has left this host: it must not be lost by a crash that follows.
    await os.flush();
    display?.();
    out.clearProgress();
    const summary = (await os.ps({ pids: [pid] }))[0];
    // Of a run that begins here, as long as it took: its code may have begun before anybody heard of it.
    const hasEndTime = isFresh && summary?.ended !== undefined;
    const ms = hasEndTime ? summary.ended - summary.created : performance.now() - started;
    const epilogue =
      source === undefined || exit.code !== 0 ? undefined : await epilogueOf(source, exit.result, input, out);
    out.answer({ pid, runId: summary?.runId, ...exit, usage: summary?.usage, ms: Math.round(ms) }, () =>
      report(out, summary, exit.result, ms, epilogue),
    );
    if (exit.error !== undefined && !out.isJson) out.error(errorText(out, exit.error));
    return exit.code === 0 ? EXIT_OK : exit.signal === undefined ? EXIT_FAILED : exit.code;
  } finally {
    display?.();
    tellWaiting();
    interrupt();
  }
}

/** What the program says of its result. The run is over: that this fails changes nothing of what it came to. */
async function epilogueOf(
  source: ProgramSource,
  result: unknown,
  input: unknown,
  out: Output,
): Promise<string | undefined> {
  try {
    return (await loadProgram(source)).epilogue(result, input);
  } catch (error) {
    out.error(`the run has completed; its epilogue has failed: ${describe(error)}`);
    return undefined;
  }
}

/** Milliseconds between two looks at whether anything waits for a person. */
const WAITING_POLL_MS = 250;

/** Says once for each what waits for a person: a question, or a budget that is used up. */
function showWaiting(os: ErgOs, pid: Pid, out: Output): () => void {
  const told = new Set<string>();
  const tell = (key: string, text: string): void => {
    if (told.has(key)) return;
    told.add(key);
    out.error(text);
  };
  const look = async (): Promise<void> => {
    for (const ask of await os.call("asks", {})) tell(`ask ${ask.id}`, askText(ask, out));
    const [process] = await os.ps({ pids: [pid] });
    if (process?.lacks !== undefined)
      tell(
        `budget ${process.lacks}`,
        `${process.runId} waits: its budget of ${process.lacks} is used up. Add to it with: ergos budget ${pid} --add ${process.lacks}=N`,
      );
  };
  const poll = poller(look, WAITING_POLL_MS);
  return () => poll.stop();
}

function report(
  out: Output,
  summary: ProcessSummary | undefined,
  result: unknown,
  ms: number,
  epilogue: string | undefined,
): string {
  if (summary === undefined) return "";
  const { usage, runId, code, signal } = summary;
  const how =
    signal !== undefined
      ? out.style("yellow", `ended by ${signal}`)
      : code === 0
        ? out.style("green", "completed")
        : out.style("red", "failed");
  const replayed = usage.replayed > 0 ? ` (${formatCount(usage.replayed)} kept from before)` : "";
  const tokens = usage.tokensIn + usage.tokensOut;
  const line = `${out.style("bold", runId)} ${how} in ${formatMs(ms)}: ${formatCount(usage.steps)} steps${replayed}, ${formatCount(usage.modelCalls)} model calls, ${formatCount(tokens)} tokens`;
  if (epilogue !== undefined) return `${epilogue}\n\n${line}`;
  return result === undefined || code !== 0
    ? line
    : `${line}\n${shorten(typeof result === "string" ? result : JSON.stringify(result, undefined, 2), runId)}`;
}

/** Characters of a result that are shown to people; `--json` and `/proc` have all of it. */
const RESULT_SHOWN_MAX = 20_000;

const shorten = (text: string, runId: string): string =>
  text.length <= RESULT_SHOWN_MAX
    ? text
    : `${text.slice(0, RESULT_SHOWN_MAX)}…\n(${formatCount(text.length)} characters; all of it: ergos cat /proc/runs/${runId}/result)`;

/** What stands behind an error and is not said by it. */
export const causesText = ({ message, causes = [] }: Pick<ErrorRecord, "message" | "causes">): readonly string[] =>
  causes.filter((cause) => !message.includes(plainMessage(cause))).map((cause) => `  because: ${cause}`);

export function errorText(
  out: Output,
  record: { readonly message: string; readonly causes?: readonly string[]; readonly at?: string },
): string {
  return [
    out.style("red", record.message),
    ...causesText(record),
    ...(record.at === undefined ? [] : [`  thrown at ${record.at}`]),
  ].join("\n");
}

function showProgress(os: ErgOs, pid: Pid, out: Output, started: number): () => void {
  const frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏";
  let turn = 0;
  const draw = async (): Promise<void> => {
    const process = (await os.ps({ pids: [pid] }))[0];
    if (process === undefined) return;
    const { progress, usage } = process;
    const part =
      progress === undefined
        ? process.state
        : `${progress.label === "" ? "nodes" : progress.label} ${formatCount(progress.done)}/${formatCount(progress.total)}`;
    const tokens = formatCount(usage.tokensIn + usage.tokensOut);
    out.progress(
      `${frames[turn++ % frames.length] ?? ""} ${process.runId}  ${part}  ${formatCount(usage.steps)} steps  ${tokens} tokens  ${formatMs(performance.now() - started)}`,
    );
  };
  const poll = poller(draw, 100);
  return () => poll.stop();
}

/** Does something again and again, never twice at the same time. */
function poller(work: () => Promise<void>, everyMs: number): { readonly stop: () => void } {
  let isBusy = false;
  const timer = setInterval(() => {
    if (isBusy) return;
    isBusy = true;
    void work()
      .catch(() => undefined)
      .finally(() => (isBusy = false));
  }, everyMs);
  return { stop: () => clearInterval(timer) };
}

/** Ctrl-C stops this host, or leaves that of others alone; it does not end the run. A second one does not wait. */
function onInterrupt(
  os: ErgOs,
  pid: Pid,
  out: Output,
  interrupted: (() => NodeJS.Signals | undefined) | undefined,
): () => void {
  let isAsked = false;
  const handler = (signal: NodeJS.Signals): void => {
    const status = statusOf(signal);
    if (isAsked) process.exit(status);
    isAsked = true;
    out.error(
      os.isRemote
        ? `the run goes on in the host of this directory. Follow it with: ergos logs ${pid} --follow   End it with: ergos kill ${pid}`
        : `stopping; finished steps are kept, and calls under way come to their end (Ctrl-C again: they are cut off). Go on with: ergos resume ${pid}   End it with: ergos kill ${pid}`,
    );
    if (out.isJson) out.answer({ pid, state: os.isRemote ? "running" : "sleeping" }, () => "");
    void os.close().finally(() => process.exit(status));
  };
  const unhear = onEnding(handler);
  // Behind those above: where nobody listens in between, a signal that is on its way is lost.
  const early = interrupted?.();
  if (early !== undefined) handler(early);
  return unhear;
}

/** A start that takes longer than this after an interrupt is cut off. */
const STARTING_MS = 1000;

/** Keeps an interrupt for whoever follows a run that is being started: it may be at work before that is known. */
export function holdInterrupts(): () => NodeJS.Signals | undefined {
  let held: NodeJS.Signals | undefined;
  let timer: NodeJS.Timeout | undefined;
  const release = (): void => {
    clearTimeout(timer);
    unhear();
  };
  const hold = (signal: NodeJS.Signals): void => {
    // As without this: nothing of a program has ended it.
    const cutOff = (): void => {
      release();
      process.kill(process.pid, signal);
    };
    if (held !== undefined) return cutOff();
    held = signal;
    timer = setTimeout(cutOff, STARTING_MS);
  };
  const unhear = onEnding(hold);
  return () => {
    release();
    return held;
  };
}

function readInput(invocation: Invocation, schema: Schema | undefined): Readonly<Record<string, unknown>> {
  const given = textOption(invocation, "input-json");
  return {
    ...(given === undefined ? {} : asObject(jsonOf(given, textOption(invocation, "stdin")))),
    ...readPairs("input", listOption(invocation, "input"), textsOf(schema)),
  };
}

/** Not `process.stdin`, which reads by itself as soon as somebody looks at it. */
const STDIN = 0;

/** `@file` is what that file holds, `-` what comes in; anything else is the text itself. */
function jsonOf(given: string, stdin: string | undefined): string {
  if (given === "-" && (isatty(STDIN) || stdin !== undefined))
    throw new UsageError(
      stdin === undefined
        ? "--input-json - takes what is piped in"
        : "--stdin takes what comes in; give --input-json a file",
    );
  if (given !== "-" && !given.startsWith("@")) return given;
  try {
    return readFileSync(given === "-" ? STDIN : given.slice(1), "utf8");
  } catch (error) {
    throw new UsageError(
      `--input-json cannot read ${given === "-" ? "what comes in" : given.slice(1)}: ${describe(error)}`,
    );
  }
}

function asObject(json: string): Record<string, unknown> {
  try {
    const value = JSON.parse(json) as unknown;
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value };
  } catch {
    // Said below, together with JSON that is no object.
  }
  throw new UsageError("--input-json takes a JSON object: as text, @file, or - for what comes in");
}

/** What the schema calls a text is one, whatever it looks like. */
export const textsOf = (schema: Schema | undefined): ReadonlySet<string> =>
  new Set(Object.entries(schema?.properties ?? {}).flatMap(([name, { type }]) => (type === "string" ? [name] : [])));

/**
 * What a manifest says of its input, nothing for a program that says nothing; and the source with the variables that it
 * reads here, whatever the environment of its host is.
 */
export async function readSource(
  source: ProgramSource,
): Promise<{ readonly source: ProgramSource; readonly schema?: Schema | undefined }> {
  if (!isManifestFile(source.module ?? "")) return { source };
  const { pipelineOf } = await import("../manifest-file.ts");
  const found = pipelineOf(source);
  return { source: found.source, schema: found.document.inputSchema };
}

/** A name that the schema does not have is most likely a slip; the schema alone may refuse it. */
function warnOfUnknown(input: object, schema: Schema | undefined, out: Output): void {
  const declared = schema?.properties;
  // Where the schema says what becomes of other names, that is enough.
  if (declared === undefined || schema?.additionalProperties !== undefined) return;
  for (const name of Object.keys(input)) {
    if (Object.hasOwn(declared, name)) continue;
    const match = nearest(name, Object.keys(declared));
    const advice = match === undefined ? `it has ${Object.keys(declared).join(", ")}` : `did you mean ${match}?`;
    out.error(out.style("yellow", `the input_schema has no ${JSON.stringify(name)}; ${advice}`));
  }
}
