// The process table: spawn, exit, wait, signals and resumption.
//
// T1  A process exists for others once its spawn is committed, and has exited once its exit is committed.
// T2  Budgets move in the same commit as the spawn and the exit.
// T3  After a crash every durable process is `sleeping` until it is resumed; one that was being resumed
//     when the host died three times is quarantined.
// T4  A branch is killed bottom-up.

import type { Batch, Metastore } from "../abi/metastore.ts";
import type { ObjectStore } from "../abi/object-store.ts";
import type { Platform } from "../abi/platform.ts";
import { cancelled } from "../base/abort.ts";
import { KernelError, type ErrorRecord, describe, isKernelError, toErrorRecord } from "../base/errno.ts";
import { PID_OWNER, type ContentId, type Pid, toPid } from "../base/id.ts";
import { encodeJson } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { type AccountTree, type Amounts, assertAmounts } from "../budget/account.ts";
import { Capability, type Grant } from "../cap/capability.ts";
import type { Committer } from "../ipc/committer.ts";
import type { EventBus } from "../ipc/event-bus.ts";
import { Journal, type Replay } from "../journal/journal.ts";
import { JOURNAL_FORMAT, encodeRecord, journalLog } from "../journal/record.ts";
import { type Exit, Process, type ProcessIdentity, SIGNALS, type Signal } from "./process.ts";
import {
  type ProcessRecord,
  type RecordExtra,
  decodeProcess,
  encodeProcess,
  liveKey,
  makeRunId,
  pidOfKey,
  processKey,
} from "./process-record.ts";
import type { Program } from "./program.ts";

const PID_KEY = "sys/pid";
/** A resumed process is no longer suspected of killing its host after this long. */
const PROBATION_MS = 3000;

const revisionKey = (revision: string): string => `rev/${revision}`;

export interface SpawnOptions {
  readonly name?: string;
  readonly input?: unknown;
  /** Narrows the parent's rights; without it the child has the same. */
  readonly grants?: readonly Grant[];
  /** Moved out of the parent's account. */
  readonly budget?: Amounts;
  /** Without a journal the process is faster and ends with its host. */
  readonly durable?: boolean;
}

/** What the table needs of the kernel to run a program. */
export interface ProcessRunner {
  run(process: Process, program: Program): unknown;
  /** Gives back what an ended process held. */
  release(process: Process): void;
}

export class ProcessTable {
  readonly #processes = new Map<Pid, Process>();
  readonly #children = new Map<Pid, Set<Pid>>();
  readonly #zombies: Pid[] = [];
  /** Revisions whose definitions this host has stored. */
  readonly #revisions = new Set<string>();
  readonly #store: Metastore;
  readonly #objects: ObjectStore;
  readonly #platform: Platform;
  readonly #committer: Committer;
  readonly #accounts: AccountTree;
  readonly #bus: EventBus;
  readonly #runner: ProcessRunner;
  /** Where large inputs are. */
  readonly #inputRefs = new Map<Pid, ContentId>();
  #nextPid = PID_OWNER + 1;
  #orphans = 0;

  constructor(parts: {
    readonly store: Metastore;
    readonly objects: ObjectStore;
    readonly platform: Platform;
    readonly committer: Committer;
    readonly accounts: AccountTree;
    readonly bus: EventBus;
    readonly runner: ProcessRunner;
  }) {
    this.#store = parts.store;
    this.#objects = parts.objects;
    this.#platform = parts.platform;
    this.#committer = parts.committer;
    this.#accounts = parts.accounts;
    this.#bus = parts.bus;
    this.#runner = parts.runner;
  }

  /** Computations that outlived their process because they ignored its signal. */
  get orphans(): number {
    return this.#orphans;
  }

  get all(): readonly Process[] {
    return [...this.#processes.values()];
  }

  get(pid: Pid): Process | undefined {
    return this.#processes.get(pid);
  }

  childrenOf(pid: Pid): readonly Pid[] {
    return [...(this.#children.get(pid) ?? [])];
  }

  /** Brings the table back: the owner's process, and everything that was not over as `sleeping`. */
  async boot(user: string): Promise<Process> {
    this.#nextPid = Number((await this.#store.get(PID_KEY))?.value ?? PID_OWNER + 1);
    const identity: ProcessIdentity = {
      pid: PID_OWNER,
      ppid: undefined,
      runId: makeRunId("owner", PID_OWNER),
      name: "owner",
      user,
      created: this.#committer.now(),
      program: { name: "owner", revision: "" },
    };
    const owner = new Process(identity, Capability.all, undefined, undefined);
    owner.become({ name: "running" });
    this.#processes.set(PID_OWNER, owner);
    this.#accounts.attach(PID_OWNER, undefined);
    for (let from = "l/"; ;) {
      const page = await this.#store.scan({ from, to: "l0" }, { limit: 1000 });
      for (const { key } of page) await this.#reload(pidOfKey(key));
      const last = page.at(-1);
      if (last === undefined) return owner;
      from = `${last.key}0`;
    }
  }

  async spawn(parent: Process, program: Program, options: SpawnOptions): Promise<Process> {
    if (!parent.isAlive)
      throw new KernelError("ESRCH", `the parent ${parent.pid} has ended`, { syscall: "spawn", pid: parent.pid });
    if (this.#processes.size - this.#zombies.length >= LIMITS.processesMax) {
      throw new KernelError(
        "EAGAIN",
        `this host runs ${LIMITS.processesMax} processes, which is its limit; wait for some to end`,
        { syscall: "spawn" },
      );
    }
    const inputJson = encodeJson(options.input, "the input of a process");
    const name = options.name ?? program.name;
    if (name === "") throw new KernelError("EINVAL", "a process needs a name", { syscall: "spawn" });
    const pid = toPid(this.#nextPid++);
    const durable = options.durable !== false;
    const identity: ProcessIdentity = {
      pid,
      ppid: parent.pid,
      runId: makeRunId(name, pid),
      name,
      user: parent.identity.user,
      created: this.#committer.now(),
      program: {
        name: program.name,
        revision: program.revision,
        ...(program.source === undefined ? {} : { source: program.source }),
      },
    };
    const capability = options.grants === undefined ? parent.capability : parent.capability.narrow(options.grants);
    const journal = durable ? new Journal(pid, this.#committer, this.#objects) : undefined;
    const process = new Process(identity, capability, journal, options.input);
    const allocation = options.budget ?? {};
    assertAmounts(allocation);
    const account = this.#accounts.open(pid, parent.pid, allocation);
    try {
      if (durable) await this.#commitSpawn(process, program, inputJson, account);
      else if (account.puts.length > 0) await this.#committer.commit(account);
    } catch (error) {
      this.#accounts.forget(pid);
      throw refusedBudget(error, "spawn", parent.pid);
    }
    this.#add(process);
    this.#start(process, program);
    return process;
  }

  async #commitSpawn(
    process: Process,
    program: Program,
    inputJson: string | undefined,
    account: ReturnType<AccountTree["open"]>,
  ): Promise<void> {
    const { pid, name, created, ppid } = process.identity;
    const inputRef =
      inputJson !== undefined && inputJson.length > LIMITS.inlineOutcomeMax
        ? await this.#objects.put(new TextEncoder().encode(inputJson))
        : undefined;
    if (inputRef !== undefined) this.#inputRefs.set(pid, inputRef);
    await this.#committer.commit(
      {
        puts: [
          { key: processKey(pid), value: encodeProcess(process, { inputRef }) },
          { key: liveKey(pid), value: "" },
          { key: PID_KEY, value: String(this.#nextPid) },
          ...this.#definitionsOf(program),
          ...account.puts,
        ],
        adds: account.adds,
        appends: [
          {
            log: journalLog(pid),
            value: encodeRecord({
              t: "start",
              v: JOURNAL_FORMAT,
              at: created,
              program: program.name,
              revision: program.revision,
            }),
          },
        ],
      },
      [{ name: "process.started", pid, data: { name, program: program.name, ppid: ppid ?? 0 } }],
    );
  }

  /** Runs a sleeping process on from its journal. A failed run with `again` tries its failed steps anew. */
  async resume(process: Process, program: Program, again: boolean): Promise<void> {
    const { journal } = process;
    if (journal === undefined) {
      throw new KernelError("EINVAL", `process ${process.pid} has no journal to resume from`, { pid: process.pid });
    }
    // From here on a second call finds it busy.
    process.become({ name: "ready" });
    try {
      if (again) await journal.note({ t: "retry", at: this.#committer.now() });
      const replay = await this.#load(journal, program);
      if (replay.deaths >= LIMITS.resumeDeathsMax) {
        return await this.quarantine(process, `its host died ${replay.deaths} times while resuming it`);
      }
      Object.assign(process.usage, replay.usage, { steps: replay.steps, replayed: 0 });
      await this.#commitResume(process, program, journal);
    } catch (error) {
      process.become({ name: "sleeping" });
      throw error;
    }
    process.isResumed = true;
    this.#start(process, program);
    this.#probation(process, journal);
  }

  /** Loads the outcomes; under a new revision without those that it has outdated. */
  async #load(journal: Journal, program: Program): Promise<Replay> {
    const replay = await journal.load();
    if (replay.revision === program.revision || program.outdated === undefined) return replay;
    const entry = await this.#store.get(revisionKey(replay.revision));
    // Written by `#definitionsOf` only.
    const previous = entry === undefined ? {} : (JSON.parse(String(entry.value)) as Readonly<Record<string, string>>);
    return journal.load(program.outdated(previous));
  }

  #commitResume(process: Process, program: Program, journal: Journal): Promise<unknown> {
    const { pid, name } = process.identity;
    return this.#committer.commit(
      {
        puts: [
          { key: processKey(pid), value: encodeProcess(process, this.#inputOf(process)) },
          { key: liveKey(pid), value: "" },
          ...this.#definitionsOf(program),
        ],
        appends: [
          {
            log: journal.log,
            value: encodeRecord({ t: "resume", at: this.#committer.now(), revision: program.revision }),
          },
        ],
      },
      [{ name: "process.resumed", pid, data: { name, program: program.name } }],
    );
  }

  /** A process that lives for a while has not killed its host by being resumed, even if it finished nothing. */
  #probation(process: Process, journal: Journal): void {
    const { steps } = process.usage;
    this.#platform.setTimer(
      PROBATION_MS,
      () => {
        if (!process.isAlive || process.isAbandoned || process.usage.steps > steps) return;
        journal.note({ t: "alive", at: this.#committer.now() }).catch(() => undefined);
      },
      { idle: true },
    );
  }

  /** Lets a quarantined process be resumed again, on somebody's word. */
  async pardon(process: Process): Promise<void> {
    await process.journal?.note({ t: "alive", at: this.#committer.now() });
    process.become({ name: "sleeping" });
  }

  /** The definitions of a program, stored once for each revision. */
  #definitionsOf(program: Program): NonNullable<Batch["puts"]> {
    if (program.definitions === undefined || this.#revisions.has(program.revision)) return [];
    this.#revisions.add(program.revision);
    return [{ key: revisionKey(program.revision), value: JSON.stringify(program.definitions) }];
  }

  /** A fresh object for an ended process, asleep again, so that it can be resumed under its own pid. */
  reopen(ended: Process): Process {
    const { pid, ppid } = ended.identity;
    const process = new Process(
      ended.identity,
      ended.capability,
      new Journal(pid, this.#committer, this.#objects),
      ended.input,
    );
    process.become({ name: "sleeping" });
    this.#accounts.attach(pid, ppid);
    this.#add(process);
    const at = this.#zombies.indexOf(pid);
    if (at >= 0) this.#zombies.splice(at, 1);
    return process;
  }

  async quarantine(process: Process, why: string): Promise<void> {
    const error: ErrorRecord = toErrorRecord(
      new KernelError(
        "EQUARANTINE",
        `process ${process.pid} (${process.identity.name}) is quarantined: ${why}; inspect /proc/${process.pid}, then \`ergos kill ${process.pid}\` or \`ergos resume ${process.pid} --force\``,
        {
          pid: process.pid,
        },
      ),
    );
    await this.#committer.commit(
      {
        puts: [
          {
            key: processKey(process.pid),
            value: encodeProcess(process, { ...this.#inputOf(process), quarantined: error }),
          },
        ],
      },
      [
        {
          name: "process.quarantined",
          pid: process.pid,
          data: { name: process.identity.name, program: process.identity.program.name, error },
        },
      ],
    );
    process.become({ name: "quarantined", error });
  }

  /** Sends a signal to a process and, where it ends something, to its branch bottom-up (T4). */
  async kill(process: Process, signal: Signal): Promise<void> {
    if (process.pid === PID_OWNER)
      throw new KernelError("EPERM", "the owner's process cannot be signalled; stop the host instead", {
        syscall: "kill",
        pid: process.pid,
      });
    if (process.state.name === "zombie")
      throw new KernelError("ESRCH", `process ${process.pid} has already ended`, { syscall: "kill", pid: process.pid });
    this.#bus.publish({
      name: "process.signalled",
      pid: process.pid,
      data: { name: process.identity.name, program: process.identity.program.name, signal },
    });
    switch (signal) {
      case "STOP":
        return process.become({ name: "stopped" });
      case "CONT":
        if (process.state.name === "stopped") process.become({ name: "running" });
        return;
      case "TERM":
      case "INT":
      case "KILL": {
        const children = this.childrenOf(process.pid).flatMap((pid) => this.#processes.get(pid) ?? []);
        await Promise.all(
          children.filter((child) => child.state.name !== "zombie").map((child) => this.kill(child, signal)),
        );
        return this.#end(process, signal);
      }
      default:
        signal satisfies never;
    }
  }

  async #end(process: Process, signal: Signal): Promise<void> {
    const wasRunning =
      process.state.name !== "sleeping" && process.state.name !== "quarantined" && process.program !== undefined;
    if (process.state.name === "stopped") process.become({ name: "running" });
    process.abort(cancelled(`process ${process.pid} was ended by ${signal}`));
    if (wasRunning && signal !== "KILL") {
      const timer = Promise.withResolvers<void>();
      const handle = this.#platform.setTimer(LIMITS.cancelGraceMs, timer.resolve);
      await Promise.race([process.done, timer.promise]);
      handle.cancel();
    }
    // Read anew: the program may have ended during the grace period.
    if ((process.state as { name: string }).name === "zombie") return;
    if (wasRunning) {
      process.isAbandoned = true;
      this.#orphans++;
    }
    await this.exit(process, { code: 128 + SIGNALS[signal], signal });
  }

  /** Ends a process: journal, result, budget and event in one commit. */
  async exit(process: Process, exit: Exit): Promise<void> {
    if (process.ended !== undefined) return;
    process.ended = this.#committer.now();
    const { pid, ppid, name, program } = process.identity;
    const { extra, stored } = await this.#storeResult(process, exit);
    if (process.journal !== undefined) {
      const account = await this.#accounts.close(pid);
      const { result: _result, ...rest } = stored;
      await this.#committer.commit(
        {
          checks: account.checks,
          adds: account.adds,
          puts: [{ key: processKey(pid), value: encodeProcess(process, { ...this.#inputOf(process), ...extra }) }],
          deletes: [liveKey(pid), ...account.deletes],
          appends: [{ log: journalLog(pid), value: encodeRecord({ t: "exit", at: process.ended, ...rest }) }],
        },
        [{ name: exitEvent(stored), pid, data: exitData(process, stored) }],
      );
      process.journal.close();
    } else {
      const account = await this.#accounts.close(pid);
      if (account.deletes.length > 0) await this.#committer.commit(account);
      if (this.#bus.hasSubscribers)
        this.#bus.publish({ name: exitEvent(stored), pid, data: { name, program: program.name } });
    }
    this.#accounts.forget(pid);
    process.program = undefined;
    this.#runner.release(process);
    process.become({ name: "zombie", exit: stored });
    this.#adopt(pid, ppid);
    this.#zombies.push(pid);
    if (this.#zombies.length > LIMITS.zombiesMax) this.#forgetOldest();
  }

  /** Lets go of everything that runs: the host ends, the processes do not. Their late outcomes are discarded. */
  suspendAll(): Promise<void> {
    for (const process of this.#processes.values()) {
      if (process.pid === PID_OWNER || !process.isAlive || process.state.name === "sleeping") continue;
      process.isAbandoned = true;
      this.#orphans++;
      process.abort(cancelled("the host is closing"));
      process.journal?.close();
      process.become({ name: "sleeping" });
    }
    return this.#committer.store.flush();
  }

  /** A process of the past, as the store remembers it. */
  async recall(pid: Pid): Promise<Process | undefined> {
    const here = this.#processes.get(pid);
    if (here !== undefined) return here;
    const entry = await this.#store.get(processKey(pid));
    return entry === undefined ? undefined : this.#revive(decodeProcess(entry));
  }

  /** Processes of the past, newest first. */
  async history(limit: number): Promise<readonly Process[]> {
    const page = await this.#store.scan({ from: "p/", to: "p0" }, { limit, reverse: true });
    const out: Process[] = [];
    for (const entry of page)
      out.push(this.#processes.get(pidOfKey(entry.key)) ?? (await this.#revive(decodeProcess(entry))));
    return out;
  }

  #start(process: Process, program: Program): void {
    process.program = program;
    process.become({ name: "running" });
    let running: unknown;
    try {
      running = this.#runner.run(process, program);
    } catch (error) {
      running = Promise.reject(error instanceof Error ? error : new KernelError("EFAILED", describe(error)));
    }
    Promise.resolve(running)
      .then(
        (result) => this.#finished(process, { code: 0, ...(result === undefined ? {} : { result }) }),
        (error: unknown) => this.#finished(process, this.#failureOf(process, error)),
      )
      // Only a poisoned store gets here: the exit cannot be recorded, and the next start goes on.
      .catch((error: unknown) =>
        process.become({ name: "zombie", exit: { code: 1, error: toErrorRecord(error, "EIO") } }),
      );
  }

  #finished(process: Process, exit: Exit): Promise<void> {
    if (process.isAbandoned) {
      this.#orphans--;
      return Promise.resolve();
    }
    return this.exit(process, exit);
  }

  #failureOf(process: Process, error: unknown): Exit {
    if (process.isAborted && isKernelError(error) && error.code === "ECANCELED")
      return { code: 128 + SIGNALS.TERM, signal: "TERM" };
    return { code: 1, error: toErrorRecord(error) };
  }

  /** Result in the record, or in the object store when it is large. A result that is no JSON fails the process. */
  async #storeResult(process: Process, exit: Exit): Promise<{ extra: RecordExtra; stored: Exit }> {
    try {
      const json = encodeJson(exit.result, `the result of ${process.identity.name}`);
      if (json === undefined || json.length <= LIMITS.inlineOutcomeMax || process.journal === undefined)
        return { extra: { exit }, stored: exit };
      const resultRef = await this.#objects.put(new TextEncoder().encode(json));
      const { result: _result, ...rest } = exit;
      return { extra: { exit: rest, resultRef }, stored: exit };
    } catch (error) {
      const failed: Exit = { code: 1, error: toErrorRecord(error) };
      return { extra: { exit: failed }, stored: failed };
    }
  }

  #inputOf(process: Process): RecordExtra {
    const ref = this.#inputRefs.get(process.pid);
    return ref === undefined ? {} : { inputRef: ref };
  }

  async #reload(pid: Pid): Promise<void> {
    const entry = await this.#store.get(processKey(pid));
    if (entry === undefined) return;
    const record = decodeProcess(entry);
    const process = await this.#revive(record);
    this.#add(process);
    this.#accounts.attach(pid, record.identity.ppid);
    this.#committer.notBefore(record.identity.created);
  }

  async #revive(record: ProcessRecord): Promise<Process> {
    const { pid } = record.identity;
    if (record.inputRef !== undefined) this.#inputRefs.set(pid, record.inputRef);
    const input = record.inputRef === undefined ? record.input : await this.#readJson(record.inputRef);
    const process = new Process(
      record.identity,
      Capability.fromLayers(record.layers),
      new Journal(pid, this.#committer, this.#objects),
      input,
    );
    process.ended = record.ended;
    if (record.usage !== undefined) Object.assign(process.usage, record.usage);
    if (record.exit !== undefined) {
      const result = record.resultRef === undefined ? record.exit.result : await this.#readJson(record.resultRef);
      process.become({ name: "zombie", exit: { ...record.exit, ...(result === undefined ? {} : { result }) } });
    } else if (record.quarantined !== undefined) process.become({ name: "quarantined", error: record.quarantined });
    else process.become({ name: "sleeping" });
    return process;
  }

  async #readJson(ref: ContentId): Promise<unknown> {
    return JSON.parse(new TextDecoder().decode(await this.#objects.get(ref))) as unknown;
  }

  #add(process: Process): void {
    this.#processes.set(process.pid, process);
    const { ppid } = process.identity;
    if (ppid === undefined) return;
    let siblings = this.#children.get(ppid);
    if (siblings === undefined) this.#children.set(ppid, (siblings = new Set()));
    siblings.add(process.pid);
  }

  /** Children of an ended process belong to the nearest living ancestor, at last to the owner. */
  #adopt(pid: Pid, ppid: Pid | undefined): void {
    const orphaned = this.#children.get(pid);
    this.#children.delete(pid);
    if (orphaned === undefined || ppid === undefined) return;
    const heir = this.#processes.get(ppid)?.isAlive === true ? ppid : PID_OWNER;
    const siblings = this.#children.get(heir) ?? new Set<Pid>();
    for (const child of orphaned) siblings.add(child);
    this.#children.set(heir, siblings);
  }

  #forgetOldest(): void {
    const pid = this.#zombies.shift();
    const gone = pid === undefined ? undefined : this.#processes.get(pid);
    if (gone === undefined) return;
    this.#processes.delete(gone.pid);
    if (gone.identity.ppid !== undefined) this.#children.get(gone.identity.ppid)?.delete(gone.pid);
    this.#inputRefs.delete(gone.pid);
  }
}

function exitEvent(exit: Exit): "process.completed" | "process.failed" | "process.cancelled" {
  if (exit.signal !== undefined) return "process.cancelled";
  return exit.error === undefined ? "process.completed" : "process.failed";
}

function exitData(process: Process, exit: Exit): Readonly<Record<string, unknown>> {
  const { name, program } = process.identity;
  return {
    name,
    program: program.name,
    ...(exit.signal === undefined ? {} : { signal: exit.signal }),
    ...(exit.error === undefined ? {} : { error: exit.error }),
  };
}

/** Says whose budget refused, instead of which counter. */
export function refusedBudget(error: unknown, syscall: string, pid: Pid): unknown {
  if (!isKernelError(error) || error.code !== "EDQUOT") return error;
  return new KernelError(
    "EDQUOT",
    `the budget of process ${pid} or of an ancestor does not hold this; see /proc/${pid}/budget`,
    { syscall, pid, cause: error },
  );
}
