// The process table: spawn, exit, wait, signals and resumption.
//
// T1  A process exists for others once its spawn is committed, and has exited once its exit is committed.
// T2  Budgets move in the same commit as the spawn and the exit.
// T3  After a crash every durable process is `sleeping` until it is resumed; one that was being resumed
//     when the host died three times is quarantined.
// T4  A branch is killed bottom-up.
// T5  Who resumes or ends a process claims it in the turn in which its state was looked at.

import { entriesOf } from "../abi/entries.ts";
import type { Metastore } from "../abi/metastore.ts";
import type { ObjectStore } from "../abi/object-store.ts";
import type { Platform } from "../abi/platform.ts";
import { cancelled, followsAbort } from "../base/abort.ts";
import { type ErrorRecord, KernelError, describe, toErrorRecord } from "../base/errno.ts";
import { PID_OWNER, type Pid, toPid } from "../base/id.ts";
import { encodeJson } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { present } from "../base/present.ts";
import type { AccountChange, AccountTree } from "../budget/account.ts";
import { assertLimits, inheritLimits, mergeLimits } from "../budget/limits.ts";
import { addAmounts, assertAmounts, resourcesOf } from "../budget/resource.ts";
import { Capability } from "../cap/capability.ts";
import type { LayerTable } from "../cap/layer-table.ts";
import type { Layer } from "../cap/layer.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import type { EventBus } from "../ipc/event-bus.ts";
import type { Message } from "../ipc/mailbox.ts";
import { JOURNAL_FORMAT, encodeRecord, journalLog } from "../journal/record.ts";
import { type Along, merge } from "./action.ts";
import { capabilityOf, identityOf } from "./birth.ts";
import { Allocations, leastAmounts, withAdds, withMerged } from "./allocation.ts";
import { Exits } from "./exit.ts";
import { type FaultCounts, assertFaults } from "./fault.ts";
import { Family } from "./family.ts";
import { type Estate, type Forwarding, LifeCycle, type Narrowing } from "./life-cycle.ts";
import { GroupTable } from "./group-table.ts";
import { ProcessArchive } from "./process-archive.ts";
import { decodeSleep, encodeProcess, liveKey, makeRunId, pidOfKey, processKey } from "./process-record.ts";
import {
  correlationOf,
  type Exit,
  Process,
  type ProcessIdentity,
  type Renewal,
  SIGNALS,
  type Signal,
} from "./process.ts";
import type { Notice } from "./post-office.ts";
import type { Program } from "./program.ts";
import { standingOf } from "./role.ts";
import { reparent } from "./reparent.ts";
import { Resumption } from "./resumption.ts";
import { assertStrategy, restartOf } from "./restart.ts";
import { Revisions } from "./revision.ts";
import { Signals } from "./signals.ts";
import { Sleeper } from "./sleeper.ts";
import type { SpawnOptions } from "./spawn-options.ts";
import { Supervisor } from "./supervisor.ts";

const PID_KEY = "sys/pid";
/** Pids written off ahead for processes that leave no record, so that none is used twice. */
const PID_BLOCK = 256;

/** What the table needs of the kernel to run a program. */
export interface ProcessRunner {
  run(process: Process, program: Program): unknown;
  /** Releases what an ended process held; with `goesOn`, only what its next life cannot take over. */
  release(process: Process, goesOn: boolean): void;
  /** Before a process runs again: drops its services and, with `isFromStart`, its schedules, triggers, locks and tasks, which its program asks for anew. */
  livesAgain(pid: Pid, isFromStart: boolean): Promise<void>;
  /** Finds the program of a process again. */
  load(process: Process): Promise<Program>;
  /** Whether a message waits for a process. */
  hasMail(pid: Pid): boolean;
  /** What waits for a process, for the commit after which another reads it; what is on its way to it has arrived. */
  forward(from: Process, to: Process): Promise<Forwarding>;
  /** @throws {EAGAIN} the mailbox of the other has no room for what waits */
  assertRoom(from: Process, to: Process): void;
  /** Gives messages that wait to others, in one commit. */
  deal(from: Process, to: (message: Message) => Pid | undefined): Promise<void>;
  /** A message to whom a process belongs, for the commit of its end. */
  notice(from: Process, kind: "exit" | "escalation", body: unknown): Notice | undefined;
}

export interface ProcessTableParts {
  readonly store: Metastore;
  readonly objects: ObjectStore;
  readonly platform: Platform;
  readonly committer: Committer;
  readonly accounts: AccountTree;
  readonly layers: LayerTable;
  readonly bus: EventBus;
  readonly runner: ProcessRunner;
}

export class ProcessTable {
  readonly family = new Family();
  readonly #zombies: Pid[] = [];
  readonly #store: Metastore;
  readonly #committer: Committer;
  readonly #accounts: AccountTree;
  readonly #layers: LayerTable;
  readonly #runner: ProcessRunner;
  readonly #archive: ProcessArchive;
  /** Adds to budgets, and closes those that nobody uses. */
  readonly allocations: Allocations;
  readonly groups: GroupTable;
  readonly revisions: Revisions;
  readonly #supervisor: Supervisor;
  readonly #signals: Signals;
  readonly #exits: Exits;
  /** Takes processes out of memory, and brings them back. */
  readonly sleeper: Sleeper;
  /** Twins, other programs, narrower rights, and who goes into another. */
  readonly lives: LifeCycle;
  /** Brings processes of earlier lives back. */
  readonly resumption: Resumption;
  #nextPid = PID_OWNER + 1;
  #reservedPid = PID_OWNER + 1;
  #orphans = 0;
  /** The host is ending: nothing new starts. */
  #isClosing = false;
  /** It waits for what is under way: what would leave a journal is left to the next host. */
  #isLeaving = false;
  readonly #closing = new Set<() => void>();

  constructor(parts: ProcessTableParts) {
    this.#store = parts.store;
    this.#committer = parts.committer;
    this.#accounts = parts.accounts;
    this.#layers = parts.layers;
    this.#runner = parts.runner;
    this.#archive = new ProcessArchive(parts.store, parts.objects, parts.committer, parts.layers);
    parts.layers.setGranters({
      live: (pid) => this.family.get(pid),
      layersOf: (pid) => this.#archive.layersOf(pid),
    });
    this.revisions = new Revisions(parts.store);
    this.allocations = new Allocations(parts.accounts, parts.committer, (pid) => this.family.get(pid));
    this.groups = new GroupTable({
      store: parts.store,
      committer: parts.committer,
      accounts: parts.accounts,
      allocations: this.allocations,
      processes: () => this.family.all,
      takeNumber: () => {
        const number = toPid(this.#nextPid++);
        return { number, put: { key: PID_KEY, value: String(Math.max(this.#reservedPid, this.#nextPid)) } };
      },
    });
    this.resumption = new Resumption({
      platform: parts.platform,
      committer: parts.committer,
      accounts: parts.accounts,
      revisions: this.revisions,
      recall: (pid) => this.recall(pid),
      live: (pid) => this.family.get(pid),
      groupOf: (path) => (this.groups.find(path) === undefined ? undefined : { account: this.groups.accountOf(path) }),
      close: (departure) => this.allocations.close(departure),
      start: (process, program) => this.#start(process, program),
      // What the next life asks for again: services have code of the life before; and who starts from zero makes its children, too.
      livesAgain: async ({ pid }, isFromStart) => {
        const below = isFromStart ? this.family.livingChildrenOf(pid) : [];
        await Promise.allSettled(below.map((child) => this.kill(child, "TERM")));
        await parts.runner.livesAgain(pid, isFromStart);
      },
    });
    const lives = {
      platform: parts.platform,
      committer: parts.committer,
      family: this.family,
      succeed: (process: Process, exit: Exit, restarts: readonly number[], as?: Renewal) =>
        this.#succeed(process, exit, restarts, as),
      resume: (process: Process, program: Program) => this.resume(process, program),
      abandon: (process: Process) => this.#abandon(process),
    };
    this.sleeper = new Sleeper({
      ...lives,
      load: (process) => parts.runner.load(process),
      hasMail: (pid) => parts.runner.hasMail(pid),
    });
    const exit = (...ended: Parameters<ProcessTable["exit"]>): Promise<void> => this.exit(...ended);
    this.lives = new LifeCycle({
      ...lives,
      accounts: parts.accounts,
      layers: parts.layers,
      spawn: (parent, program, options) => this.spawn(parent, program, options),
      storeInput: (json) => this.#archive.storeInput(json),
      revisions: this.revisions,
      standingOf: (process) => this.resumption.standingOf(process),
      hasGroup: (path) => path !== undefined && this.groups.find(path) !== undefined,
      narrow: (process, layers, rider) => this.narrow(process, layers, rider),
      narrowing: (process, layers) => this.#narrowing(process, layers),
      exit: (process, ended, rider, estate) => this.exit(process, ended, rider, undefined, estate),
      forward: (from, to) => parts.runner.forward(from, to),
      assertRoom: (from, to) => parts.runner.assertRoom(from, to),
      deal: (from, to) => parts.runner.deal(from, to),
    });
    this.#exits = new Exits({
      platform: parts.platform,
      committer: parts.committer,
      accounts: parts.accounts,
      bus: parts.bus,
      archive: this.#archive,
      notice: (from, kind, told) => parts.runner.notice(from, kind, told),
      settle: (process, ended) => this.#settle(process, ended),
    });
    this.#signals = new Signals({ ...lives, bus: parts.bus, sleeper: this.sleeper, exit });
    this.#supervisor = new Supervisor({
      ...lives,
      exit,
      sleeper: this.sleeper,
      quarantine: (process, why, error) => this.resumption.quarantine(process, why, error),
      trapInGroup: (group, trap) => this.groups.trap(group, trap),
      kill: (process) => this.kill(process, "TERM"),
    });
  }

  /** Tells when the host closes; returns what ends that. */
  onClosing(tell: () => void): () => void {
    this.#closing.add(tell);
    return () => void this.#closing.delete(tell);
  }

  /** Kinds of failures that programs have ended with, since the start of the host. */
  get faults(): FaultCounts {
    return this.#supervisor.faults;
  }

  /** Computations that outlived their process because they ignored its signal. */
  get orphans(): number {
    return this.#orphans;
  }

  get all(): readonly Process[] {
    return this.family.all;
  }

  get(pid: Pid): Process | undefined {
    return this.family.get(pid);
  }

  get #ownerProcess(): Process {
    const owner = this.family.get(PID_OWNER);
    if (owner === undefined) throw new KernelError("EBUSY", "the kernel is still booting");
    return owner;
  }

  /** A process of this host, or of the past as the store remembers it. */
  async recall(pid: Pid): Promise<Process | undefined> {
    if (this.family.leaving.has(pid)) return undefined;
    return this.family.get(pid) ?? this.#archive.recall(pid);
  }

  /** Processes that have left a record, newest first; those before a pid if one is given. */
  history(limit: number, before?: Pid): Promise<readonly Process[]> {
    return this.#archive.history(limit, (pid) => this.family.get(pid), before);
  }

  /** Brings the table back: the owner's process, and everything that was not over as `sleeping`. */
  async boot(user: string): Promise<Process> {
    this.#nextPid = Number((await this.#store.get(PID_KEY))?.value ?? PID_OWNER + 1);
    this.#reservedPid = this.#nextPid;
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
    this.family.add(owner);
    await this.#reload();
    await this.groups.boot();
    // Accounts of processes that left no record, or whose last user ended while the host died.
    for (const departure of this.#accounts.takeAbandoned()) await this.allocations.close(departure);
    return owner;
  }

  async #reload(): Promise<void> {
    const found = new Map<Pid, Process>();
    for await (const entry of entriesOf(this.#store, "l/")) {
      const process = await this.#archive.recall(pidOfKey(entry.key));
      if (process === undefined) continue;
      process.sleep = decodeSleep(entry);
      found.set(process.pid, process);
      this.#accounts.join(process.account);
      this.#committer.notBefore(process.identity.created);
    }
    // Who belongs to whom is known when all are here; those above may have ended.
    const ended = new Map<Pid, Pid | undefined>();
    for (const process of found.values()) {
      let above = process.identity.ppid;
      while (above !== undefined && above !== PID_OWNER && !found.has(above)) {
        if (!ended.has(above)) ended.set(above, (await this.#archive.recall(above))?.identity.ppid);
        above = ended.get(above);
      }
      this.family.add(process, above ?? PID_OWNER);
    }
  }

  async spawn(parent: Process, program: Program, options: SpawnOptions): Promise<Process> {
    const inputJson = encodeJson(options.input, "the input of a process");
    const name = options.name ?? program.name;
    if (name === "") throw new KernelError("EINVAL", "a process needs a name", { syscall: "spawn" });
    const allocation = leastAmounts(program.budget, options.budget);
    assertAmounts(allocation);
    const own = mergeLimits(program.limits, options.limits);
    assertLimits(own);
    const limits = inheritLimits(parent.limits, own);
    const standing = standingOf(parent.identity, options);
    const durable = options.durable !== false;
    const restart = restartOf(options.restart, options.role, durable);
    assertStrategy(options.strategy);
    assertFaults(options.faults);
    const inputRef = durable ? await this.#archive.storeInput(inputJson) : undefined;
    // From here to the commit nothing waits: the parent cannot end in between and take its budget with it.
    this.#assertMaySpawn(parent);
    const { of: original, as } = options.twin ?? {};
    if (original?.hasEnded === false) this.#assertMaySpawn(original);
    const group = options.group ?? parent.identity.group;
    // Who names its parent's group says what would be without it.
    const isNamed = options.group !== undefined && options.group !== parent.identity.group;
    if (group !== undefined) this.groups.assertRoom(group, parent, isNamed);
    const pid = toPid(this.#nextPid++);
    const hasAccount = resourcesOf(allocation).length > 0;
    // A group that is named is where its budget comes from; one that is inherited has it in its parent's already.
    const around = isNamed && group !== undefined ? this.groups.accountOf(group) : parent.account;
    const above = as === undefined ? around : as.account;
    const account = hasAccount ? pid : above;
    const spawning = this.#accounts.reserve(above, { spawns: 1 }).adds;
    const identity = identityOf(pid, parent, program, options, {
      ...standing,
      created: this.#committer.now(),
      name,
      account,
      budget: hasAccount ? allocation : undefined,
      limits,
      group,
      restart,
    });
    const capability = capabilityOf(pid, parent, program, options, this.#layers);
    const process = new Process(
      identity,
      capability,
      durable ? this.#archive.createJournal(pid) : undefined,
      inputJson,
    );
    process.inputRef = inputRef;
    const opened = hasAccount ? this.#accounts.open(pid, above, allocation) : undefined;
    const moved = withMerged(opened, spawning);
    const counted = this.groups.started(group);
    const change = withAdds(moved, counted.adds);
    this.#accounts.join(account);
    // A child from now on: whoever ends the branch ends it too.
    this.family.add(process);
    try {
      const along = options.along?.(pid);
      const isAlone = along === undefined || Object.keys(along).length === 0;
      if (durable) await this.#commitSpawn(process, program, change, options, along);
      else if (change !== undefined || !isAlone || pid >= this.#reservedPid)
        await this.#commitVolatileSpawn(change, options.rider, along);
    } catch (error) {
      this.family.remove(process);
      counted.undo();
      const refusal = await this.#accounts.refusal(
        error,
        above,
        addAmounts(allocation, { spawns: 1 }),
        "spawn",
        parent.pid,
      );
      await this.allocations.close(hasAccount ? this.#accounts.undo(pid) : this.#accounts.depart(account));
      throw refusal;
    }
    if (options.twin !== undefined) {
      await process.journal?.load();
      process.isResumed = true;
    }
    if (!process.isEnding) this.#start(process, program);
    return process;
  }

  #assertMaySpawn(parent: Process): void {
    if (!parent.isAlive || parent.isEnding || parent.isDoomed || this.#isClosing) {
      throw new KernelError("ESRCH", `the parent ${parent.pid} has ended`, { syscall: "spawn", pid: parent.pid });
    }
    this.#assertRoom(parent, "spawn");
  }

  /** @throws {EAGAIN} the parent, or the host, has as many processes as it may have */
  #assertRoom(parent: Process | undefined, syscall: string): void {
    const bound = parent?.limits?.children;
    const living = parent === undefined || bound === undefined ? 0 : this.family.livingChildrenOf(parent.pid).length;
    if (bound !== undefined && living >= bound) {
      throw new KernelError(
        "EAGAIN",
        `process ${parent?.pid} has ${living} living children, which is its limit; wait for one to end`,
        { syscall, ...(parent === undefined ? {} : { pid: parent.pid }) },
      );
    }
    if (this.family.size - this.#zombies.length >= LIMITS.processesMax) {
      throw new KernelError(
        "EAGAIN",
        `this host runs ${LIMITS.processesMax} processes, which is its limit; wait for some to end`,
        { syscall },
      );
    }
  }

  #commitSpawn(
    process: Process,
    program: Program,
    account: AccountChange | undefined,
    { rider, twin }: SpawnOptions,
    along: Along | undefined,
  ): Promise<unknown> {
    const { pid, name, created, ppid } = process.identity;
    const { revision } = program;
    const reserved = Math.max(this.#reservedPid, this.#nextPid);
    return this.#committer
      .commit(
        merge(
          {
            puts: [
              { key: processKey(pid), value: encodeProcess(process, {}, this.#committer.masker) },
              { key: liveKey(pid), value: "" },
              { key: PID_KEY, value: String(reserved) },
              ...this.revisions.putsOf(program),
              ...this.#layers.putsOf(process.capability),
              ...(account?.puts ?? []),
            ],
            ...(account === undefined ? {} : { adds: account.adds }),
            appends: [
              {
                log: journalLog(pid),
                value: encodeRecord({ t: "start", v: JOURNAL_FORMAT, at: created, program: program.name, revision }),
              },
              ...(twin?.past ?? []).map((value) => ({ log: journalLog(pid), value })),
            ],
          },
          along,
        ),
        [
          {
            name: "process.started",
            pid,
            data: present({ name, program: program.name, ppid: ppid ?? 0, correlation: process.identity.correlation }),
          },
          ...(along?.events ?? []),
        ],
        rider,
      )
      .then(() => {
        this.#reservedPid = Math.max(this.#reservedPid, reserved);
        this.revisions.markStored(program);
        this.#layers.markStored(process.capability);
      });
  }

  /** Puts layers between a process and what is below it, at once; who has a record has it changed. */
  async narrow(process: Process, added: readonly Layer[], rider?: Rider): Promise<void> {
    const { puts, stored } = this.#narrowing(process, added);
    await this.#committer.commit({ puts }, undefined, rider);
    stored();
  }

  /** Narrows in memory, at once: what belongs into the commit of that, what follows it, and what undoes it. */
  #narrowing(process: Process, added: readonly Layer[]): Narrowing {
    const depth = process.capability.layers.length;
    const branch = this.family.branchOf(process);
    for (const one of added.length === 0 ? [] : branch) {
      const { layers } = one.capability;
      one.capability = Capability.withLayers([...layers.slice(0, depth), ...added, ...layers.slice(depth)]);
    }
    this.#layers.narrowed();
    const recorded = branch.filter((one) => one.journal !== undefined && !one.isEnding && !one.hasEnded);
    return {
      puts: [
        ...this.#layers.putsOf(process.capability),
        ...recorded.map((one) => ({
          key: processKey(one.pid),
          value: encodeProcess(one, {}, this.#committer.masker),
        })),
      ],
      stored: () => {
        for (const layer of added) layer.isStored = true;
      },
      undo: () => {
        for (const one of branch)
          one.capability = Capability.withLayers(one.capability.layers.filter((layer) => !added.includes(layer)));
      },
    };
  }

  /** Gives a process to another parent, with what is below it; it hears HUP unless it has ended meanwhile. */
  async reparent(process: Process, to: Process, rider?: Rider): Promise<void> {
    const parts = { family: this.family, accounts: this.#accounts, committer: this.#committer };
    await reparent(parts, process, to, rider);
    if (process.isAlive) await this.kill(process, "HUP");
  }

  /** A process without a record still uses up its pid, and moves its budget. */
  async #commitVolatileSpawn(account?: AccountChange, rider?: Rider, along?: Along): Promise<void> {
    const reserved = this.#nextPid + PID_BLOCK;
    const batch = {
      puts: [{ key: PID_KEY, value: String(reserved) }, ...(account?.puts ?? [])],
      ...(account === undefined ? {} : { adds: account.adds }),
    };
    await this.#committer.commit(merge(batch, along), along?.events, rider);
    this.#reservedPid = Math.max(this.#reservedPid, reserved);
  }

  /** A process without a program: whoever acts through it is outside. It leaves no record and ends with its host. */
  async seat(parent: Process, user: string, capability: Capability): Promise<Process> {
    this.#assertMaySpawn(parent);
    if (parent.identity.group !== undefined) this.groups.assertRoom(parent.identity.group, parent, false);
    const pid = toPid(this.#nextPid++);
    const identity: ProcessIdentity = {
      pid,
      ppid: parent.pid,
      runId: makeRunId("seat", pid),
      name: "seat",
      user,
      created: this.#committer.now(),
      program: { name: "seat", revision: "" },
      ...(parent.account === undefined ? {} : { account: parent.account }),
      ...(parent.limits === undefined ? {} : { limits: parent.limits }),
      ...(parent.identity.group === undefined ? {} : { group: parent.identity.group }),
      ...(parent.identity.views === undefined ? {} : { views: parent.identity.views }),
    };
    const process = new Process(identity, capability, undefined, undefined);
    this.#accounts.join(process.account);
    process.become({ name: "running" });
    this.family.add(process);
    // Its number is used up, over restarts too.
    if (pid >= this.#reservedPid) await this.#commitVolatileSpawn();
    return process;
  }

  /**
   * Takes a process that sleeps, or with `again` one that has failed, so that nobody else resumes it (T5).
   * @throws {EBUSY} it is in another state
   */
  claim(process: Process, again: boolean, redo = false): { readonly process: Process; readonly undo: () => void } {
    const { pid, state } = process;
    const current = this.family.get(pid) ?? process;
    if (this.family.leaving.has(pid))
      throw new KernelError("ESRCH", `process ${pid} is being deleted`, { syscall: "resume", pid });
    const { group } = process.identity;
    if (again && group !== undefined && this.groups.find(group) !== undefined)
      this.groups.assertRoom(group, this.#ownerProcess, true);
    if (state.name === "zombie" && again && (state.exit.code !== 0 || redo) && current === process) {
      const parent = process.identity.ppid === undefined ? undefined : this.family.get(process.identity.ppid);
      this.#assertRoom(parent?.isAlive === true ? parent : undefined, "resume");
      const fresh = process.next(this.#archive.createJournal(pid, process.journal?.history));
      fresh.become({ name: "ready" });
      const at = this.#zombies.indexOf(pid);
      if (at >= 0) this.#zombies.splice(at, 1);
      this.family.add(fresh);
      return {
        process: fresh,
        undo: () => {
          if (fresh.state.name !== "ready" || fresh.isEnding) return;
          // Who waits for the fresh one hears what became of the old one.
          fresh.become(process.state);
          this.family.add(process);
          this.#zombies.push(pid);
        },
      };
    }
    if (current.state.name !== "sleeping") {
      const what = current.hasEnded ? "has ended; `again` runs it once more" : `is ${current.state.name}, not sleeping`;
      throw new KernelError("EBUSY", `process ${pid} ${what}`, { syscall: "resume", pid });
    }
    current.become({ name: "ready" });
    return {
      process: current,
      undo: () => {
        if (current.state.name === "ready" && !current.isEnding) current.become({ name: "sleeping" });
      },
    };
  }

  /** Runs a process on that sleeps. */
  async resume(process: Process, program: Program): Promise<void> {
    const claim = this.claim(process, false);
    try {
      await this.resumption.resume(claim.process, program);
    } catch (error) {
      claim.undo();
      throw error;
    }
  }

  #succeed(process: Process, exit: Exit, restarts: readonly number[], as?: Renewal): Process {
    const history = as?.history ?? process.journal?.history;
    const next = process.succeed(this.#archive.createJournal(process.pid, history), exit, restarts, as);
    process.program = undefined;
    this.#runner.release(process, true);
    this.family.add(next);
    return next;
  }

  /** Code outlives its process: nobody waits for it any more. */
  #abandon(process: Process): void {
    if (process.isAbandoned) return;
    process.isAbandoned = true;
    // Of one that slept nothing runs.
    if (process.code !== undefined && !process.isCodeOver) this.#orphans++;
  }

  /** Sends a signal to a process and, where it ends something, to its branch bottom-up (T4). */
  kill(process: Process, signal: Signal, rider?: Rider): Promise<void> {
    return this.#signals.send(process, signal, rider);
  }

  /** Keeps that a process was told to end, while it does what is shielded from that. */
  recordEnding(process: Process): Promise<void> {
    return this.#signals.recordEnding(process);
  }

  /** Ends a process: journal, result, budget and event in one commit. Whoever comes second waits for the first. */
  exit(process: Process, exit: Exit, rider?: Rider, tells?: "exit" | "escalation", estate?: Estate): Promise<void> {
    process.ending ??= this.#exits.end(process, exit, { rider, tells, estate });
    return process.ending;
  }

  /** What the end of a process lets go of. */
  #settle(process: Process, exit: Exit): void {
    const { pid } = process;
    process.journal?.close();
    process.program = undefined;
    process.shields?.cut(cancelled(`process ${pid} has ended`));
    this.sleeper.forget(pid);
    this.#runner.release(process, false);
    process.become({ name: "zombie", exit });
    const above = this.family.get(this.family.parentOf(pid) ?? PID_OWNER);
    if (above !== undefined) this.#signals.tell(above, "CHLD");
    this.family.adopt(pid);
    this.#zombies.push(pid);
    if (this.#zombies.length > LIMITS.zombiesMax) this.#forgetOldest();
  }

  /** What is started, or run on, from now on sleeps until the next host; volatile services are there for what is under way. */
  leaveToNext(): void {
    this.#isLeaving = true;
  }

  /**
   * Lets go of everything that runs: the host ends, the processes do not. Their late outcomes are discarded.
   * That they live on is written down: an orderly end is no death while resuming.
   */
  async suspendAll(): Promise<void> {
    this.#isClosing = true;
    for (const tell of this.#closing) tell();
    this.#supervisor.close();
    this.sleeper.close();
    const at = this.#committer.now();
    const notes: Promise<unknown>[] = [];
    for (const process of this.all) {
      if (process.pid === PID_OWNER || process.program === undefined || process.isEnding) continue;
      this.#abandon(process);
      process.cutOff(cancelled("the host is closing"));
      if (process.isResumed && process.journal !== undefined) notes.push(process.journal.note({ t: "alive", at }));
      process.journal?.close();
      process.become({ name: "sleeping" });
    }
    // What the owner waits for does not come any more.
    this.get(PID_OWNER)?.abort(cancelled("the host is closing"));
    await Promise.allSettled([...notes, ...this.all.flatMap((process) => process.ending ?? [])]);
    await this.#committer.store.flush();
  }

  #start(process: Process, program: Program): void {
    if (this.#isClosing || (this.#isLeaving && process.journal !== undefined)) {
      process.journal?.note({ t: "alive", at: this.#committer.now() }).catch(() => undefined);
      process.journal?.close();
      return process.become({ name: "sleeping" });
    }
    process.program = program;
    process.become({ name: process.isStopped ? "stopped" : "running" });
    process.isStopped = false;
    this.sleeper.forget(process.pid);
    if (this.groups.isFrozen(process.identity.group)) process.freeze();
    this.#supervisor.begun(process);
    const { endedBy } = process;
    // It was told to end in its last life already, and had something to do before that.
    process.isTwiceTold = endedBy !== undefined;
    if (endedBy !== undefined) process.abort(cancelled(`process ${process.pid} was ended by ${endedBy}`));
    let running: unknown;
    try {
      running = this.#runner.run(process, program);
    } catch (error) {
      running = Promise.reject(error instanceof Error ? error : new KernelError("EFAILED", describe(error)));
    }
    process.code = Promise.resolve(running).then(
      (result) => this.#codeOver(process, { code: 0, ...(result === undefined ? {} : { result }) }),
      (error: unknown) => this.#codeOver(process, this.failureOf(process, error)),
    );
    if (endedBy !== undefined) this.kill(process, endedBy).catch(() => undefined);
  }

  async #codeOver(process: Process, exit: Exit): Promise<void> {
    process.isCodeOver = true;
    if (process.isAbandoned) this.#orphans--;
    // Nobody is left to lower those of a program that ran elsewhere.
    if ((process.program?.source?.runtime ?? "inline") !== "inline")
      process.shields?.cut(cancelled(`the code of process ${process.pid} is over`));
    // Who is stopped, or frozen with its group, does not come to its end either.
    while (process.isAlive && !process.isEnding && !process.isOver && process.isHeld) await process.continued();
    try {
      await this.finished(process, exit);
    } catch {
      // The exit could not be recorded: the store is poisoned and says so to everybody; the next start goes on.
    }
  }

  /** The program of a process is over: the process exits, or is restarted. */
  finished(process: Process, exit: Exit, rider?: Rider): Promise<void> {
    // Its end was told already, by a call of its own, or by somebody else.
    if (process.isAbandoned || process.isOver) return Promise.resolve();
    // What it has not waited for itself.
    const { shields } = process;
    if (shields?.areUp === true) return shields.allDown().then(() => this.finished(process, exit, rider));
    return this.#supervisor.ended(process, exit, rider);
  }

  /** How a process ends whose program has failed; who was told to end has done so. */
  failureOf(process: Process, error: unknown): Exit {
    const isGivenUp = process.isAborted && followsAbort(error, process.signal);
    const record = toErrorRecord(error);
    return this.failedWith(process, isGivenUp ? { ...record, code: "ECANCELED" } : record);
  }

  /** The same of an error that was told. */
  failedWith(process: Process, error: ErrorRecord): Exit {
    // It may hear of its end, and give up, before those below it have ended and it is told itself.
    if ((process.isAborted || process.isDoomed) && error.code === "ECANCELED") {
      const { endedBy: signal = "TERM" } = process;
      return { code: 128 + SIGNALS[signal], signal };
    }
    const record = { correlationId: correlationOf(process.identity), ...error };
    return { code: 1, error: this.#committer.masker?.maskData(record) ?? record };
  }

  #forgetOldest(): void {
    const pid = this.#zombies.shift();
    const gone = pid === undefined ? undefined : this.family.get(pid);
    if (gone?.hasEnded === true) this.family.remove(gone);
  }
}
