// `/proc`: the process table as files. `/proc/runs` is a view of it by run id.

import type { DirEntry } from "../abi/file.ts";
import { type Pid, toPid, toSeq } from "../base/id.ts";
import { present } from "../base/present.ts";
import type { JsonValue } from "../base/json.ts";
import { formatGrant } from "../cap/grant.ts";
import { formatRecord } from "../journal/format.ts";
import type { JournalRecord } from "../journal/record.ts";
import { pidOfRunId } from "../proc/process-record.ts";
import { SIGNALS, type Process } from "../proc/process.ts";
import type { Schedule } from "../proc/schedule-table.ts";
import { summariseIn } from "../syscall/rows-process.ts";
import type { Host } from "../syscall/host.ts";
import { usageOf } from "../syscall/rows-budget.ts";
import { artifactsNode } from "./artifacts.ts";
import { entitiesNode } from "./entities.ts";
import { bodyOf } from "./queues.ts";
import { type Provider, type RowCall, type VirtualNode, collection, directory, jsonFile } from "../vfs/provider.ts";
import type { VfsPath } from "../base/path.ts";

/** Summaries hold only JSON. */
const asJson = (value: unknown): JsonValue => JSON.parse(JSON.stringify(value ?? null)) as JsonValue;
/** What a program was given, or calls itself, without secrets. */
const shown = (host: Host, value: unknown): JsonValue => asJson(host.vault.maskData(value));
const toDirectories = (names: readonly string[]): readonly DirEntry[] =>
  names.map((name) => ({ name, type: "directory" }));
const signalSchema = { type: "string", enum: Object.keys(SIGNALS) } as const;

export function procProvider(host: Host): Provider {
  const byPid = async (name: string): Promise<VirtualNode | undefined> => {
    if (!/^[1-9]\d{0,14}$/.test(name)) return undefined;
    const process = await host.processes.recall(toPid(Number(name)));
    return process === undefined ? undefined : processNode(host, process);
  };
  const byRun = async (name: string): Promise<VirtualNode | undefined> => {
    const pid = pidOfRunId(name);
    const process = pid === undefined ? undefined : await host.processes.recall(pid);
    return process?.identity.runId === name ? runNode(host, process) : undefined;
  };
  const runs = collection(
    async () => toDirectories((await host.processes.history(1000)).map((process) => process.identity.runId)),
    byRun,
    { description: "runs by their id, newest first", isLong: true },
  );
  const scheduled = collection(
    () => host.schedules.all.map(({ id }): DirEntry => ({ name: String(id), type: "directory" })),
    (name) => {
      const id = Number(name);
      const schedule = host.schedules.get(id);
      return schedule === undefined || String(id) !== name ? undefined : scheduleNode(host, schedule);
    },
    { description: "schedules by their number, the next to come first" },
  );
  const entities = entitiesNode(host);
  const root = collection(
    () => [
      ...host.processes.all.map((process): DirEntry => ({ name: String(process.pid), type: "directory" })),
      { name: "runs", type: "directory" },
      { name: "scheduled", type: "directory" },
      { name: "entities", type: "directory" },
      { name: "self", type: "link" },
    ],
    (name, viewer) => {
      if (name === "runs") return runs;
      if (name === "scheduled") return scheduled;
      if (name === "entities") return entities;
      if (name === "self") return { type: "link", target: `/proc/${viewer}` as VfsPath };
      return byPid(name);
    },
    { description: "processes" },
  );
  return { name: "proc", root };
}

function processNode(host: Host, process: Process): VirtualNode {
  const { pid } = process;
  return directory(
    {
      status: statusFile(host, process),
      cmdline: jsonFile(() => shown(host, { program: process.identity.program, input: process.input }), {
        description: "program and input",
      }),
      caps: {
        type: "file",
        description: "grants, one layer for each ancestor that narrowed them",
        text: () =>
          process.capability.isAll
            ? "all rights\n"
            : process.capability.grants.map((layer) => `${layer.map(formatGrant).join("\n")}\n`).join("---\n"),
        json: () => asJson(process.capability.grants.map((layer) => layer.map(formatGrant))),
      },
      budget: jsonFile(async () => asJson(await usageOf(host, process)), {
        description: "allocation and use, resource by resource",
      }),
      usage: jsonFile(() => asJson(process.usage), { description: "what the process has used" }),
      result: jsonFile(() => shown(host, process.state.name === "zombie" ? process.state.exit : null), {
        description: "its exit, null before",
      }),
      log: {
        type: "file",
        description: "lines that the process logged",
        text: () => logText(process),
        json: async () => {
          const lines = await Array.fromAsync(logLines(process));
          return shown(
            host,
            lines.map(({ at, level, text }) => ({ at, level, text })),
          );
        },
      },
      journal: journalNode(process),
      steps: stepsNode(process),
      children: collection(
        () => host.processes.family.childrenOf(pid).map((child): DirEntry => ({ name: String(child), type: "link" })),
        (name) =>
          host.processes.family.childrenOf(pid).some((child) => String(child) === name)
            ? { type: "link", target: `/proc/${name}` as VfsPath }
            : undefined,
      ),
      fd: jsonFile(
        () =>
          asJson([...(process.files ?? [])].map(([fd, file]) => ({ fd, path: file.path, rights: [...file.rights] }))),
        { description: "open handles" },
      ),
      artifacts: artifactsNode(host, process),
      mailbox: {
        type: "file",
        description: "messages that wait, in the order in which they are read; what is written here is sent",
        text: () =>
          host.post
            .waiting(pid)
            .map((message) => `${JSON.stringify(shown(host, message))}\n`)
            .join(""),
        json: () => shown(host, host.post.waiting(pid)),
        write: (bytes) => ({ row: "send", args: { to: pid, body: bodyOf(new TextDecoder().decode(bytes)) } }),
      },
      signal: {
        type: "file",
        description: "write or exec a signal name to send it",
        text: () => `${Object.keys(SIGNALS).join(" ")}\n`,
        write: (bytes) => killCall(pid, new TextDecoder().decode(bytes).trim()),
        exec: { inputSchema: signalSchema, call: (input) => killCall(pid, typeof input === "string" ? input : "TERM") },
      },
    },
    {
      entityType: "process",
      description: process.identity.name,
      status: process.state.name,
      tags: tagsOf(process),
    },
  );
}

/** What a process is found by. */
function tagsOf({ identity }: Process): Readonly<Record<string, string>> {
  const { user, role, tier, group, ref, program } = identity;
  return present({ program: program.name, user, role, tier, group, ref });
}

function scheduleNode(host: Host, schedule: Schedule): VirtualNode {
  const { id, name, isPaused } = schedule;
  const order = (what: string, call: RowCall): VirtualNode => ({
    type: "file",
    description: `exec it to ${what} the schedule`,
    text: () => `exec this file to ${what} the schedule\n`,
    exec: { inputSchema: {}, call: () => call },
  });
  return directory(
    {
      status: jsonFile(() => shown(host, host.schedules.get(id) ?? null), {
        description: "when it acts, and how it went",
      }),
      cancel: order("end", { row: "unschedule", args: { id } }),
      pause: order("pause", { row: "setSchedule", args: { id, paused: true } }),
      resume: order("resume", { row: "setSchedule", args: { id, paused: false } }),
    },
    {
      entityType: "schedule",
      status: isPaused ? "paused" : "active",
      ...(name === undefined ? {} : { description: name }),
    },
  );
}

function runNode(host: Host, process: Process): VirtualNode {
  const node = processNode(host, process);
  const status = statusFile(host, process);
  const own: Readonly<Record<string, VirtualNode>> = {
    status,
    artifacts: artifactsNode(host, process),
    info: jsonFile(() => shown(host, { ...process.identity, input: process.input })),
    events: {
      type: "file",
      description: "what happened, from the journal",
      text: () => eventsText(process),
      json: async () => shown(host, await Array.fromAsync(process.journal?.records() ?? [])),
    },
    result: jsonFile(() => shown(host, process.state.name === "zombie" ? (process.state.exit.result ?? null) : null)),
    cancel: {
      type: "file",
      description: "exec it to cancel the run",
      text: () => "exec this file to cancel the run\n",
      exec: { inputSchema: {}, call: () => killCall(process.pid, "TERM") },
    },
  };
  return directory(own, {
    entityType: "run",
    description: process.identity.name,
    status: process.state.name,
    tags: tagsOf(process),
    ...(node.status === undefined ? {} : { status: node.status }),
  });
}

const statusFile = (host: Host, process: Process): VirtualNode => ({
  type: "file",
  description: "identity, state, progress and use",
  json: () => shown(host, summariseIn(host, process)),
  text: () => host.vault.maskText(statusText(host, process)),
});

function statusText(host: Host, process: Process): string {
  const { usage, progress, error, sleep, faults, ...rest } = summariseIn(host, process);
  const lines = Object.entries(rest).map(
    ([key, value]) =>
      `${key}:\t${key === "created" || key === "ended" ? new Date(Number(value)).toISOString() : String(value ?? "")}`,
  );
  for (const [trap, count] of Object.entries(faults ?? {})) lines.push(`fault ${trap}:\t${count}`);
  if (sleep !== undefined)
    lines.push(`sleeps until:\t${sleep.until === undefined ? "woken" : new Date(sleep.until).toISOString()}`);
  if (progress !== undefined) lines.push(`progress:\t${progress.done}/${progress.total} ${progress.label}`.trimEnd());
  for (const [key, value] of Object.entries(usage)) lines.push(`${key}:\t${String(value)}`);
  if (error !== undefined)
    lines.push(`error:\t${error.message}`, ...(error.causes ?? []).map((cause) => `cause:\t${cause}`));
  if (error?.at !== undefined) lines.push(`at:\t${error.at}`);
  return `${lines.join("\n")}\n`;
}

async function* logLines(process: Process): AsyncGenerator<Extract<JournalRecord, { readonly t: "log" }>> {
  for await (const record of process.journal?.records() ?? []) if (record.t === "log") yield record;
}

async function logText(process: Process): Promise<string> {
  let out = "";
  for await (const { at, level, text } of logLines(process))
    out += `${new Date(at).toISOString()} ${level.padEnd(5)} ${text}\n`;
  return out;
}

async function eventsText(process: Process): Promise<string> {
  let out = "";
  for await (const record of process.journal?.records() ?? []) out += `${formatRecord(record)}\n`;
  return out;
}

/** The journal as numbered files: a directory of positions, each a record. */
function journalNode(process: Process): VirtualNode {
  const { journal } = process;
  return collection(
    async () => {
      const names = new Set<string>();
      for await (const record of journal?.records() ?? []) names.add(String(record.seq));
      return [...names].map((name): DirEntry => ({ name, type: "file" }));
    },
    async (name) => {
      const seq = Number(name);
      if (!Number.isSafeInteger(seq) || seq < 1 || String(seq) !== name) return undefined;
      const records: JsonValue[] = [];
      if (seq <= (journal?.history.kept ?? 0)) return undefined;
      for await (const record of journal?.records(toSeq(seq - 1)) ?? []) {
        if (record.seq !== seq) break;
        records.push(asJson(record));
      }
      return records.length === 0 ? undefined : jsonFile(() => records);
    },
    { description: "records by their position", isLong: true },
  );
}

/** What each step came to, by its place, which is one name here: its slashes stand as %2F. */
function stepsNode({ journal }: Process): VirtualNode {
  return collection(
    async () => {
      const names = new Set<string>();
      for await (const record of journal?.records(journal.history.since) ?? [])
        if (record.t === "step") names.add(stepName(record.p));
      return [...names].map((name): DirEntry => ({ name, type: "file" }));
    },
    async (name) => {
      const outcome = await journal?.outcomeAt(placeOfStep(name));
      if (outcome === undefined) return undefined;
      const { value = null, error } = outcome;
      const shown = asJson(error === undefined ? value : { error });
      return typeof shown === "string" ? jsonFile(() => shown, { text: () => shown }) : jsonFile(() => shown);
    },
    { description: "what each step came to", isLong: true },
  );
}

/** The name that the file of a step has in `/proc/<pid>/steps`. */
export const stepName = (place: string): string => place.replaceAll("%", "%25").replaceAll("/", "%2F");

export const placeOfStep = (name: string): string => name.replaceAll("%2F", "/").replaceAll("%25", "%");

function killCall(pid: Pid, signal: string): RowCall {
  return { row: "kill", args: { pid, signal: signal.toUpperCase().replace(/^SIG/, "") } };
}
