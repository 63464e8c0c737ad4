// Rows of processes: their start, sleep and end, and who is there.

import type { AuditDraft } from "../audit/trail.ts";
import { EVENTS, EVENT_CLASSES, type KernelEvent } from "../abi/event.ts";
import { cancelled, orAborted } from "../base/abort.ts";
import { KernelError } from "../base/errno.ts";
import { PID_OWNER, type Pid, toPid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { LIMITS_SCHEMA, type ProcessLimits } from "../budget/limits.ts";
import { type Amounts, assertAmounts } from "../budget/resource.ts";
import type { Grant } from "../cap/grant.ts";
import { parseGrants } from "../cap/rights.ts";
import type { EventFilter } from "../ipc/event-bus.ts";
import { correlationOf, type Exit, type Process, SIGNALS, type Signal } from "../proc/process.ts";
import { type Along, merge } from "../proc/action.ts";
import type { Program } from "../proc/program.ts";
import type { Outlook, Redoing } from "../proc/redo.ts";
import { FAULTS_SCHEMA, type FaultPolicies } from "../proc/fault.ts";
import { RESTART_SCHEMA, type Restart, type RestartPolicy, STRATEGIES, type Strategy } from "../proc/restart.ts";
import { ROLES, type Role, TIERS, type Tier } from "../proc/role.ts";
import { type ProcessSummary, STATUSES, type Status, summarise } from "../proc/summary.ts";
import type { Host } from "./host.ts";
import { isFree, assertMay } from "./policy.ts";
import { amounts, assertMayAllocate } from "./rows-budget.ts";
import { placed } from "./placed.ts";
import { spawnOnce } from "./spawn-once.ts";
import { beginSubscription } from "./subscription.ts";
import {
  type NamedProgram,
  PROGRAM_SOURCE,
  isProgram,
  loadProgram,
  programOf,
  sourceFor,
  sourceOf,
} from "./program-source.ts";
import {
  type AtPlace,
  ORDER,
  type Ordered,
  anything,
  args,
  assertMayName,
  assertMaySay,
  atPlace,
  flag,
  integer,
  isBelow,
  label,
  managedBy,
  namedProgram,
  onProcess,
  path,
  pid,
  place,
  processOf,
  redoing,
  row,
  text,
} from "./row.ts";
import { locate, writerOf } from "./path-target.ts";
import { toPath } from "../base/path.ts";
import { type ViewTable, seenPath } from "../proc/view.ts";

/** How a process is started. */
export interface SpawnArgs extends AtPlace, Ordered {
  /** A program of this host by its name, a module with an export, or in this host a program itself. */
  readonly program: NamedProgram;
  /** What it is called; the program's name unless given. */
  readonly name?: string;
  /** Any JSON value. */
  readonly input?: unknown;
  /** Grants, as `fs.read:/srv/**`, that its rights are narrowed to: never more than those of its parent. */
  readonly grants?: readonly string[];
  /** What it and all below it may spend, moved out of its parent's budget; what is left returns with its end. */
  readonly budget?: Amounts;
  /** What bounds it beside that: time, sizes, rates, and what happens when the budget does not hold. */
  readonly limits?: ProcessLimits;
  /** Path of the group that it is started in. */
  readonly group?: string;
  /** Whose it is; the caller's user unless given, which is the owner's to do. */
  readonly user?: string;
  /** Whether it has a journal and outlives its host (default true); without one it is faster. */
  readonly durable?: boolean;
  /** What it is for: it gets no right beyond those of the role. */
  readonly role?: Role;
  /** Which models it may think with; never above its parent's. */
  readonly tier?: Tier;
  /** What happens when its program ends; a role that is given says it otherwise (kernel, daemon: always; agent, lead, worker: notify). */
  readonly restart?: Restart | RestartPolicy;
  /** What becomes of each kind of failure: memory, timeout, heartbeat, capability, syscall, stack, budget, exception. */
  readonly faults?: FaultPolicies;
  /** What it is about, as `order/7`, for whoever lists processes. */
  readonly ref?: string;
  /**
   * Makes the start once for its user: asked for again under this key, it gives the process that is there, whatever has
   * become of it, until that is deleted (`ergos clean`).
   */
  readonly key?: string;
  /** What it belongs to over processes, as the id of a request; its parent's unless given, else its own run. */
  readonly correlation?: string;
  /** A directory that it sees as a private copy-on-write copy; apply or discard its changes afterwards. */
  readonly view?: string;
  /** Makes it a supervisor: which of its children are restarted with one that fails. */
  readonly strategy?: Strategy;
}

async function spawn(
  host: Host,
  caller: Process,
  a: SpawnArgs,
  record: (outcome: Pid) => Along,
  draft: AuditDraft | undefined,
): Promise<Pid> {
  const grants: readonly Grant[] | undefined = a.grants === undefined ? undefined : parseGrants(a.grants);
  assertMayName(caller, a.user, "spawn");
  const program = await programOf(host, caller, a.program, a.input);
  const input = program.accept === undefined ? a.input : program.accept(a.input);
  const { [ORDER]: order, key } = a;
  const start = (along: (pid: Pid) => Along): Promise<Pid> =>
    begin(host, caller, { ...a, input }, { program, grants, along, draft });
  const along = order?.along ?? record;
  if (key === undefined) return start(along);
  if (order !== undefined)
    throw new KernelError("EINVAL", "what a schedule or a trigger starts has no key: it would start once", {
      syscall: "spawn",
    });
  if (a.durable === false)
    throw new KernelError("EINVAL", "only a durable process is found again by its key; leave durable out", {
      syscall: "spawn",
    });
  return spawnOnce(host, { user: a.user ?? caller.identity.user, key, program: program.name }, along, start);
}

async function begin(
  host: Host,
  caller: Process,
  a: SpawnArgs,
  {
    program,
    grants,
    along,
    draft,
  }: {
    readonly program: Program;
    readonly grants: readonly Grant[] | undefined;
    readonly along: (pid: Pid) => Along;
    readonly draft: AuditDraft | undefined;
  },
): Promise<Pid> {
  const { [ORDER]: order } = a;
  const view = a.view === undefined ? undefined : await openView(host, caller, a.view);
  const spawning = host.processes.spawn(caller, program, {
    name: a.name,
    input: a.input,
    grants,
    budget: a.budget,
    limits: a.limits,
    group: a.group,
    user: a.user,
    durable: a.durable,
    role: a.role,
    tier: a.tier,
    restart: a.restart,
    strategy: a.strategy,
    faults: a.faults,
    ref: a.ref,
    key: a.key,
    correlation: a.correlation ?? order?.correlation,
    cause: order?.cause,
    depth: order?.depth ?? caller.identity.depth,
    view: view?.view,
    along:
      view === undefined
        ? along
        : (pid) => {
            const more = along(pid);
            return { ...more, puts: [...(more.puts ?? []), ...view.puts(pid)] };
          },
    rider: draft,
  });
  try {
    const process = await spawning;
    view?.opened(process.pid);
    return process.pid;
  } catch (error) {
    await view?.abandon().catch(() => undefined);
    throw error;
  }
}

/** A view of a directory as the caller has it, links followed. */
async function openView(host: Host, caller: Process, at: string): Promise<Awaited<ReturnType<ViewTable["open"]>>> {
  const located = await locate(host, caller, at);
  const seen = seenPath(caller, located.path);
  // What a link leads to is another directory than the one that was named.
  if (seen !== toPath(at)) await assertMay(host, caller, "spawn", { right: "fs.read", resource: seen });
  return host.views.open(seen, located, writerOf(caller));
}

/** Sleeping processes whose journals one `ps` reads. */
const TALLIED_MAX = 100;

/** Ended processes that `ps` lists unless asked for more. */
const DEFAULT_HISTORY = 200;
const PAGE = 200;

/** What `ps` is asked for. */
export interface Listing {
  readonly all?: boolean;
  readonly pids?: readonly Pid[];
  readonly status?: readonly Status[];
  readonly ref?: string;
  readonly correlation?: string;
  readonly name?: string;
  /** Name of what it runs. */
  readonly program?: string;
  readonly user?: string;
  /** Those that lived at this instant or after it, and those that were there before that one; wall-clock milliseconds. */
  readonly since?: number;
  readonly until?: number;
  /** Only older ones: the smallest pid of the page before. */
  readonly before?: Pid;
  /** Order of what is given back; by pid unless given. Most first of what is counted. */
  readonly sort?: keyof typeof SORTS;
  readonly limit?: number;
}

const OVER: ReadonlySet<Status> = new Set(["completed", "failed", "cancelled"]);

const SORTS = {
  pid: (one: ProcessSummary, two: ProcessSummary) => one.pid - two.pid,
  name: (one: ProcessSummary, two: ProcessSummary) =>
    one.name < two.name ? -1 : one.name > two.name ? 1 : one.pid - two.pid,
  ended: (one: ProcessSummary, two: ProcessSummary) => (two.ended ?? 0) - (one.ended ?? 0),
  cost: (one: ProcessSummary, two: ProcessSummary) => two.usage.costMicros - one.usage.costMicros,
  tokens: (one: ProcessSummary, two: ProcessSummary) =>
    two.usage.tokensIn + two.usage.tokensOut - one.usage.tokensIn - one.usage.tokensOut,
  steps: (one: ProcessSummary, two: ProcessSummary) => two.usage.steps - one.usage.steps,
} as const;

const stringMap = { type: "object", properties: {}, additionalProperties: true } as const;
export const PROCESS_ROWS = {
  spawn: row<SpawnArgs, Promise<Pid>>({
    right: "proc.spawn",
    kind: "mutation",
    summary: "starts a program as a child process",
    plain: namedProgram,
    schema: args(
      {
        place,
        program: { anyOf: [text, PROGRAM_SOURCE] },
        name: label,
        input: anything,
        grants: { type: "array", items: text, maxItems: LIMITS.grantsMax },
        budget: amounts,
        limits: LIMITS_SCHEMA,
        group: text,
        user: { type: "string", minLength: 1, maxLength: LIMITS.nameLengthMax },
        durable: flag,
        role: { type: "string", enum: Object.keys(ROLES) },
        tier: { type: "string", enum: TIERS },
        restart: RESTART_SCHEMA,
        strategy: { type: "string", enum: STRATEGIES },
        faults: FAULTS_SCHEMA,
        ref: { type: "string", minLength: 1, maxLength: LIMITS.nameLengthMax },
        key: { type: "string", minLength: 1, maxLength: LIMITS.nameLengthMax },
        correlation: { type: "string", minLength: 1, maxLength: LIMITS.nameLengthMax },
        view: path,
      },
      ["program"],
    ),
    target: (_host, caller, { program }) => {
      if (isProgram(program)) return { resource: program.name };
      const { name, module } = sourceFor(caller, program);
      return { resource: name ?? module ?? "" };
    },
    alsoNeeds: ({ group, view }) => [
      ...(group === undefined ? [] : [{ right: "group.join", resource: `/sys/groups/${group}` }]),
      ...(view === undefined ? [] : [{ right: "fs.read", resource: toPath(view) }]),
    ],
    audited: ({ program: _program, input: _input, ...rest }) => rest,
    recordedAt: atPlace,
    handle: async (host, caller, a, _target, draft) => {
      if (a.grants !== undefined && !Array.isArray(a.grants))
        throw new KernelError("EINVAL", `grants are an array of texts, found ${typeof a.grants}`, { syscall: "spawn" });
      return placed<Pid>(caller, "spawn", a.place, (record) => spawn(host, caller, a, record, draft));
    },
  }),
  resume: row<
    {
      readonly pid: Pid;
      readonly program?: Program;
      readonly again?: boolean;
      readonly force?: boolean;
      /** Added to its budget. */
      readonly budget?: Amounts;
    } & Redoing,
    Promise<void>
  >({
    right: "proc.signal",
    kind: "mutation",
    summary:
      "runs a sleeping process on from its journal; with `again` also one that has ended: a failed one, trying its failed steps anew, or with `from` any, doing these steps anew, and with `set` having these come to something else",
    plain: ({ program: _here, ...rest }) => rest,
    schema: args({ pid, again: flag, force: flag, budget: amounts, ...redoing }, ["pid"]),
    target: onProcess,
    alsoNeeds: ({ program, budget }, _caller, { resource }) => [
      // The program will run with the rights of the process, not with the caller's.
      ...(program === undefined ? [] : [{ right: "kernel.module", resource: program.name }]),
      ...(budget === undefined ? [] : [{ right: "budget.allocate", resource }]),
    ],
    audited: ({ program: _program, ...rest }) => rest,
    handle: async (host, caller, a, _target, draft) => {
      const process = await managedBy(host, caller, a.pid, "resume");
      await assertMaySay(host, caller, process, a.set, "resume");
      host.views.assertThere(process);
      const isKept = process.state.name === "quarantined" || process.state.name === "sleeping";
      if (isKept && a.force === true) await host.processes.resumption.pardon(process, draft);
      else if (process.state.name === "quarantined") {
        throw new KernelError(
          "EQUARANTINE",
          `process ${a.pid} is quarantined; resume it with force after looking at /proc/${a.pid}`,
          { syscall: "resume", pid: a.pid },
        );
      }
      const { state } = process;
      const again = a.again === true && state.name === "zombie";
      const hadCompleted = state.name === "zombie" && state.exit.code === 0;
      assertAmounts(a.budget ?? {});
      if (a.budget !== undefined) assertMayAllocate(host, caller, a.pid, "resume");
      const { from = [], set = {} } = a;
      const changes = from.length + Object.keys(set).length > 0;
      const claim = host.processes.claim(process, again, changes);
      try {
        // From here on whoever ends its view finds it there.
        host.views.assertThere(claim.process);
        const program = a.program ?? (await loadProgram(host, caller, sourceOf(process), process.input));
        if (a.budget !== undefined && !again) await host.processes.allocations.add(a.pid, a.budget, draft);
        await host.processes.resumption.resume(claim.process, program, {
          again,
          hadCompleted,
          from,
          set,
          added: a.budget,
          rider: draft,
        });
      } catch (error) {
        claim.undo();
        throw error;
      }
    },
  }),
  previewResume: row<{ readonly pid: Pid; readonly program?: Program } & Redoing, Promise<Outlook>>({
    right: "proc.signal",
    kind: "query",
    summary: "what a resumption would take from the journal of a process, and do again; it changes nothing",
    plain: ({ program: _here, ...rest }) => rest,
    schema: args({ pid, ...redoing }, ["pid"]),
    target: onProcess,
    alsoNeeds: ({ program }) => (program === undefined ? [] : [{ right: "kernel.module", resource: program.name }]),
    handle: async (host, caller, a) => {
      const process = await managedBy(host, caller, a.pid, "previewResume");
      const program = a.program ?? (await loadProgram(host, caller, sourceOf(process), process.input));
      return host.processes.resumption.preview(process, program, a);
    },
  }),
  sleep: row<{ readonly pid?: Pid; readonly until?: number } & AtPlace, Promise<void>>({
    right: "proc.step",
    kind: "mutation",
    rests: true,
    summary:
      "takes a process out of memory until a message, a signal or an instant wakes it; the caller itself at a place",
    schema: args({ pid, until: integer, place }),
    target: (_host, caller, a) => onProcess(_host, caller, { pid: a.pid ?? caller.pid }),
    alsoNeeds: (a, caller, { resource }) =>
      a.pid === undefined || a.pid === caller.pid ? [] : [{ right: "proc.signal", resource }],
    handle: async (host, caller, a, _target, draft) => {
      const process = a.pid === undefined ? caller : await managedBy(host, caller, a.pid, "sleep");
      if (process.pid === PID_OWNER)
        throw new KernelError("EPERM", "the owner's process does not sleep", { syscall: "sleep" });
      if (process === caller && a.place === undefined)
        throw new KernelError("EINVAL", "sleep of the calling process itself needs a place, at which it goes on", {
          syscall: "sleep",
        });
      return host.processes.sleeper.sleep(process, a.until, process === caller ? a.place : undefined, draft);
    },
  }),
  wake: row<{ readonly pid: Pid }, Promise<void>>({
    right: "proc.signal",
    kind: "mutation",
    summary: "wakes a process that was put to sleep",
    schema: args({ pid }, ["pid"]),
    target: onProcess,
    audit: "full",
    handle: async (host, caller, a) => host.processes.sleeper.wake((await managedBy(host, caller, a.pid, "wake")).pid),
  }),
  reparent: row<{ readonly pid: Pid; readonly to: Pid }, Promise<void>>({
    right: "proc.signal",
    kind: "mutation",
    summary: "gives a process to another parent, with what is below it; it hears HUP",
    schema: args({ pid, to: pid }, ["pid", "to"]),
    target: onProcess,
    alsoNeeds: ({ to }) => [{ right: "proc.signal", resource: `/proc/${to}` }],
    handle: async (host, caller, a, _target, draft) =>
      host.processes.reparent(
        await managedBy(host, caller, a.pid, "reparent"),
        await managedBy(host, caller, a.to, "reparent"),
        draft,
      ),
  }),
  collapse: row<{ readonly pid?: Pid } & AtPlace, Promise<readonly Collapsed[]>>({
    right: "proc.signal",
    kind: "mutation",
    summary:
      "ends everything below a process, bottom-up, and gives what each came to; at a place it is known over restarts what that was",
    schema: args({ pid, place }),
    target: (host, caller, a) => onProcess(host, caller, { pid: a.pid ?? caller.pid }),
    audit: "place",
    handle: async (host, caller, a) => {
      const { family } = host.processes;
      const top = a.pid === undefined ? caller : await managedBy(host, caller, a.pid, "collapse");
      const pids = await placed<readonly Pid[]>(caller, "collapse", a.place, async (record) => {
        const found = family.branchOf(top).slice(1);
        const numbers = found.map((process) => process.pid);
        await host.committer.commit(merge({}, record(numbers)));
        return numbers;
      });
      // What is recorded there may be of a step that the caller has recorded itself.
      const below = (await startedBelow(host, pids, top.pid)).toSorted((one, two) => one.pid - two.pid);
      await Promise.all(family.livingChildrenOf(top.pid).map((child) => host.processes.kill(child, "TERM")));
      return Promise.all(
        below.map(async ({ pid: number, identity: { runId, name }, done }) => ({
          pid: number,
          runId,
          name,
          ...(await done),
        })),
      );
    },
  }),
  kill: row<{ readonly pid: Pid; readonly signal?: Signal }, Promise<void>>({
    right: "proc.signal",
    kind: "mutation",
    summary: "sends a signal; TERM, INT and KILL end the branch bottom-up",
    schema: args({ pid, signal: { type: "string", enum: Object.keys(SIGNALS) } }, ["pid"]),
    target: onProcess,
    handle: async (host, caller, a, _target, draft) => {
      const process = await managedBy(host, caller, a.pid, "kill");
      return host.processes.kill(process, a.signal ?? "TERM", draft);
    },
  }),
  wait: row<{ readonly pid: Pid; readonly signal?: AbortSignal }, Promise<Exit>>({
    right: "proc.wait",
    kind: "query",
    waits: true,
    waitsIdly: true,
    summary: "settles with the exit of a process once it has ended",
    schema: args({ pid }, ["pid"]),
    target: onProcess,
    handle: async (host, caller, a) => {
      if (a.pid === caller.pid)
        throw new KernelError("EDEADLK", `process ${a.pid} would wait for its own end`, {
          syscall: "wait",
          pid: a.pid,
        });
      const process = await processOf(host, a.pid, "wait");
      if (process.state.name === "quarantined") return { code: 1, error: process.state.error };
      if (process.hasEnded) return process.done;
      const wait = caller.pid === PID_OWNER ? undefined : caller.waitFor(`exit of ${a.pid}`);
      const kept = Promise.withResolvers<Exit>();
      const stop = host.processes.resumption.onQuarantine(a.pid, (error) => kept.resolve({ code: 1, error }));
      // The process lives on; whoever waits for it here would wait for ever.
      const goOn = host.processes.onClosing(() =>
        kept.reject(cancelled(`the host closes before process ${a.pid} ends`)),
      );
      const unhear = process.onDone(kept.resolve);
      try {
        return await orAborted(kept.promise, caller.signalWith(a.signal));
      } finally {
        unhear();
        stop();
        goOn();
        if (wait !== undefined) caller.stopWaiting(wait);
      }
    },
  }),
  ps: row<Listing, Promise<readonly ProcessSummary[]>>({
    right: "proc.list",
    kind: "query",
    summary: "processes of this host: those alive, the newest with `all` or a status that is over, or those of `pids`",
    schema: args({
      all: flag,
      status: { type: "array", items: { type: "string", enum: STATUSES } },
      ref: text,
      correlation: text,
      name: text,
      program: text,
      user: text,
      since: integer,
      until: integer,
      before: pid,
      sort: { type: "string", enum: Object.keys(SORTS) },
      limit: { type: "integer", minimum: 1, maximum: LIMITS.pageMax },
      pids: { type: "array", items: pid, maxItems: LIMITS.pageMax },
    }),
    target: () => ({ resource: "/proc" }),
    handle: async (host, _caller, a) => {
      if (a.before !== undefined && (a.sort ?? "pid") !== "pid")
        throw new KernelError("EINVAL", "before goes on behind a pid, and needs the order of pids; leave out sort", {
          syscall: "ps",
        });
      const found = a.pids === undefined ? await listed(host, a) : await named(host, a.pids);
      // What sleeps was brought back without its journal; what it has done stands there.
      const asleep = found.filter(({ state, usage }) => state.name === "sleeping" && usage.steps === 0);
      for (const process of asleep.slice(0, TALLIED_MAX)) {
        const tally = await process.journal?.tally();
        // It may have been resumed meanwhile, and counts by itself.
        if (process.state.name === "sleeping") Object.assign(process.usage, tally);
      }
      return host.vault.maskData(found.map((process) => summariseIn(host, process)).sort(SORTS[a.sort ?? "pid"]));
    },
  }),
  subscribe: row<EventFilter, AsyncGenerator<KernelEvent, void, undefined>>({
    right: "event.subscribe",
    kind: "query",
    isStream: true,
    summary: "events by name, class, process and path, live or from a position on",
    schema: args({
      names: { type: "array", items: { type: "string", enum: Object.keys(EVENTS) } },
      classes: { type: "array", items: { type: "string", enum: EVENT_CLASSES } },
      pids: { type: "array", items: pid },
      glob: text,
      topics: { type: "array", items: text, maxItems: 100 },
      where: stringMap,
      buffer: { type: "integer", minimum: 1, maximum: LIMITS.subscriberBufferMax },
      overflow: { type: "string", enum: ["error", "drop", "drop-oldest"] },
      after: integer,
    }),
    target: () => ({ resource: "/sys/events" }),
    handle: (host, caller, filter) => {
      const leave = beginSubscription(caller);
      // What models say is for who runs them.
      const { family } = host.processes;
      const isHeard = ({ name, pid: of }: KernelEvent): boolean =>
        name !== "model.text" || isFree(host, caller) || family.isWithin(of, caller.pid);
      // It ends with its process, whether anybody reads it or not.
      const over = new AbortController();
      const unhear = caller.pid === PID_OWNER ? undefined : caller.onDone(() => over.abort());
      const signal = AbortSignal.any([caller.signalWith(filter.signal), over.signal]);
      const ended = (): void => {
        unhear?.();
        leave();
      };
      try {
        return host.bus.subscribe({ ...filter, signal, isHeard }, ended);
      } catch (error) {
        ended();
        throw error;
      }
    },
  }),
} as const;

/** What became of one process of a branch. */
export interface Collapsed extends Exit {
  readonly pid: Pid;
  readonly runId: string;
  readonly name: string;
}

async function named(host: Host, pids: readonly Pid[]): Promise<Process[]> {
  return (await Promise.all(pids.map((number) => host.processes.recall(number)))).filter(
    (process) => process !== undefined,
  );
}

/** Those of some processes that were started below another, whatever has become of them. */
async function startedBelow(host: Host, pids: readonly Pid[], top: Pid): Promise<Process[]> {
  const found: Process[] = [];
  for (const process of await named(host, pids)) {
    if (process.pid !== top && (await isBelow(host, process, top))) found.push(process);
  }
  return found;
}

/** Processes that a listing wants, the newest of them if they are more than its limit. */
async function listed(host: Host, listing: Listing): Promise<Process[]> {
  const { status, ref, correlation, name, program, user, since, until } = listing;
  const all = listing.all === true || status?.some((one) => OVER.has(one)) === true;
  const limit = listing.limit ?? (all ? DEFAULT_HISTORY : LIMITS.pageMax);
  // The newest are those with the highest pid; of any other order every one has to be looked at.
  const order = listing.sort === undefined || listing.sort === "pid" ? undefined : SORTS[listing.sort];
  const out: Process[] = [];
  for await (const process of newestFirst(host, all, listing.before)) {
    const { identity } = process;
    const isWanted =
      (status === undefined || status.includes(summarise(process).status)) &&
      (ref === undefined || identity.ref === ref) &&
      (correlation === undefined || correlationOf(identity) === correlation) &&
      (name === undefined || identity.name === name) &&
      (program === undefined || identity.program.name === program) &&
      (user === undefined || identity.user === user) &&
      (since === undefined || process.ended === undefined || process.ended >= since) &&
      (until === undefined || identity.created < until);
    if (isWanted && out.push(process) >= limit && order === undefined) break;
  }
  if (order === undefined || out.length <= limit) return out;
  const ranked = out.map((process) => ({ process, summary: summarise(process) }));
  ranked.sort((one, two) => order(one.summary, two.summary));
  return ranked.slice(0, limit).map(({ process }) => process);
}

/** A process with the parent that it has now: its own may have ended. */
export function summariseIn({ processes: { family } }: Host, process: Process): ProcessSummary {
  return process.hasEnded ? summarise(process) : summarise(process, family.above(process.pid));
}

/** Those of this host, with `all` also those of the past, which only the store has. */
async function* newestFirst(host: Host, all: boolean, before?: Pid): AsyncGenerator<Process, void, undefined> {
  const here = host.processes.all
    .filter((process) => all || process.isAlive || process.state.name === "quarantined")
    .filter(({ pid: number }) => before === undefined || number < before)
    .sort((one, two) => two.pid - one.pid);
  let at = 0;
  for (let from = before; all;) {
    const page = await host.processes.history(PAGE, from);
    for (const past of page) {
      for (let one = here[at]; one !== undefined && one.pid >= past.pid; one = here[++at])
        if (one.pid > past.pid) yield one;
      yield past;
    }
    from = page.at(-1)?.pid;
    if (from === undefined) break;
  }
  for (let one = here[at]; one !== undefined; one = here[++at]) yield one;
}

/** The pid that a text names: a number, or the run id. */
export function parsePid(textOrNumber: string): Pid {
  const number = Number(/-?(\d+)$/.exec(textOrNumber)?.[1] ?? Number.NaN);
  if (!/^\d+$|^[A-Za-z0-9_.-]+-\d+$/.test(textOrNumber) || !Number.isSafeInteger(number) || number <= 0) {
    throw new KernelError(
      "EINVAL",
      `${JSON.stringify(textOrNumber)} is neither a pid nor a run id; \`ergos ps\` lists them`,
    );
  }
  return toPid(number);
}
