// Tools over runs, schedules and entities: the process calls of hexDAG by their names, with the rights of who calls.

import {
  type Os,
  type ProcessSummary,
  type SpawnArgs,
  STATUSES,
  type Schema,
  type Tool,
  parsePid,
  statusOf,
} from "@ergos/kernel";

const LISTED = 50;
const text = { type: "string", minLength: 1 } as const;
const anything: Schema = {};
const schema = (properties: Readonly<Record<string, Schema>>, required: readonly string[] = []): Schema => ({
  type: "object",
  properties,
  required,
  additionalProperties: false,
});
const entity = { entity_type: text, entity_id: text };

/** A run as these tools tell of it. */
interface PipelineRun {
  readonly run_id: string;
  readonly pipeline_name: string;
  readonly status: string;
  readonly parent_run_id?: string;
  readonly ref_id?: string;
  readonly created_at: string;
  readonly ended_at?: string;
  readonly error?: string;
}

const iso = (at: number): string => new Date(at).toISOString();

async function toRun(os: Os, process: ProcessSummary): Promise<PipelineRun> {
  const { runId, program, ref, ppid, created, ended, error } = process;
  const [parent] = ppid === undefined ? [] : await os.ps({ pids: [ppid] });
  return {
    run_id: runId,
    pipeline_name: program,
    status: statusOf(process),
    ...(parent?.ppid === undefined ? {} : { parent_run_id: parent.runId }),
    ...(ref === undefined ? {} : { ref_id: ref }),
    created_at: iso(created),
    ...(ended === undefined ? {} : { ended_at: iso(ended) }),
    ...(error === undefined ? {} : { error: error.message }),
  };
}

export const PROCESS_TOOLS: readonly Tool<Os>[] = [
  {
    name: "list_pipeline_runs",
    description: "lists runs, the newest first",
    inputSchema: schema({
      pipeline_name: text,
      status: { type: "string", enum: STATUSES },
      ref_id: text,
      before: { ...text, description: "run id: only older ones" },
      limit: { type: "integer", minimum: 1, maximum: 1000 },
    }),
    effect: "pure",
    call: async ({ pipeline_name: program, status, ref_id: ref, before, limit = LISTED }, { os }) => {
      const found = await os.ps({
        all: true,
        limit: limit as number,
        ...(program === undefined ? {} : { program: program as string }),
        ...(status === undefined ? {} : { status: [status as (typeof STATUSES)[number]] }),
        ...(ref === undefined ? {} : { ref: ref as string }),
        ...(before === undefined ? {} : { before: parsePid(before as string) }),
      });
      const runs = found.filter(({ ppid }) => ppid !== undefined).toReversed();
      return Promise.all(runs.map((process) => toRun(os, process)));
    },
  },
  {
    name: "get_pipeline_run",
    description: "tells of one run: its status, its result or error, what it has used",
    inputSchema: schema({ run_id: text }, ["run_id"]),
    effect: "pure",
    call: async ({ run_id: id }, { os }) => {
      const [process] = await os.ps({ pids: [parsePid(id as string)] });
      if (process === undefined) return null;
      const run = await toRun(os, process);
      const exit = run.status === "completed" ? await os.wait(process.pid) : undefined;
      return { ...run, usage: process.usage, ...(exit?.result === undefined ? {} : { result: exit.result }) };
    },
  },
  {
    name: "spawn_pipeline",
    description: "starts a program that this host knows by its name, or of a module",
    inputSchema: schema({ pipeline_name: text, module: text, input: anything, ref_id: text }),
    effect: "once",
    call: async ({ pipeline_name: name, module, input, ref_id: ref }, { os }) => {
      const pid = await os.spawn(programOf(name, module), {
        ...(input === undefined ? {} : { input }),
        ...(ref === undefined ? {} : { ref: ref as string }),
      });
      const [process] = await os.ps({ pids: [pid] });
      return { run_id: process?.runId ?? String(pid) };
    },
  },
  {
    name: "schedule_pipeline",
    description: "has a program started by cron, every so many milliseconds, or at an instant",
    inputSchema: schema({
      pipeline_name: text,
      module: text,
      input: anything,
      name: text,
      cron: text,
      zone: text,
      every_ms: { type: "integer", minimum: 1 },
      at: { ...text, description: "instant, as 2026-12-24T18:00:00Z" },
    }),
    effect: "once",
    call: async ({ pipeline_name: program, module, input, name, cron, zone, every_ms: everyMs, at }, { os }) => {
      const spawn = { program: programOf(program, module), ...(input === undefined ? {} : { input }) };
      const { id, next } = await os.call("schedule", {
        action: { spawn },
        ...(name === undefined ? {} : { name: name as string }),
        ...(cron === undefined ? {} : { cron: cron as string }),
        ...(zone === undefined ? {} : { zone: zone as string }),
        ...(everyMs === undefined ? {} : { everyMs: everyMs as number }),
        ...(at === undefined ? {} : { at: Date.parse(at as string) }),
      });
      return { schedule_id: id, next: iso(next) };
    },
  },
  {
    name: "cancel_scheduled",
    description: "ends a schedule; what it has started goes on",
    inputSchema: schema({ schedule_id: { type: "integer", minimum: 1 } }, ["schedule_id"]),
    effect: "once",
    call: async ({ schedule_id: id }, { os }) => {
      await os.call("unschedule", { id: id as number });
      return { cancelled: true };
    },
  },
  {
    name: "list_scheduled",
    description: "lists schedules, the next to come first",
    inputSchema: schema({}),
    effect: "pure",
    call: async (_args, { os }) =>
      (await os.call("schedules", {})).map(({ id, name, cron, everyMs, next, isPaused, runs }) => ({
        schedule_id: id,
        ...(name === undefined ? {} : { name }),
        ...(cron === undefined ? {} : { cron }),
        ...(everyMs === undefined ? {} : { every_ms: everyMs }),
        next: iso(next),
        paused: isPaused,
        runs,
      })),
  },
  {
    name: "get_entity_state",
    description: "tells the state and the data of an entity; null where there is none",
    inputSchema: schema(entity, ["entity_type", "entity_id"]),
    effect: "pure",
    call: async ({ entity_type: type, entity_id: id }, { os }) =>
      os.call("entity", { type: type as string, id: id as string }),
  },
  {
    name: "transition_entity",
    description: "moves an entity to another state, as its type allows",
    inputSchema: schema({ ...entity, to_state: text, reason: text, payload: { type: "object" } }, [
      "entity_type",
      "entity_id",
      "to_state",
    ]),
    effect: "once",
    call: async ({ entity_type: type, entity_id: id, to_state: to, reason, payload }, { os }) =>
      os.call("transition", {
        type: type as string,
        id: id as string,
        to: to as string,
        ...(reason === undefined ? {} : { why: reason as string }),
        ...(payload === undefined ? {} : { data: payload as Readonly<Record<string, unknown>> }),
      }),
  },
  {
    name: "get_entity_history",
    description: "tells what has happened to an entity, oldest first",
    inputSchema: schema(entity, ["entity_type", "entity_id"]),
    effect: "pure",
    call: async ({ entity_type: type, entity_id: id }, { os }) =>
      os.call("entityHistory", { type: type as string, id: id as string }),
  },
];

/** Arguments are checked before the call; one of both names the program. */
function programOf(named: unknown, where: unknown): SpawnArgs["program"] {
  const [name, module] = [named as string | undefined, where as string | undefined];
  return module === undefined ? (name ?? "") : { module, ...(name === undefined ? {} : { export: name }) };
}
