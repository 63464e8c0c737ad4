// Resumption: a process of an earlier life of the host goes on from its journal.
//
// R1  Whoever resumes has claimed the process before; a kill in the meantime has the last word.
// R2  What a new revision of the program has outdated is recorded in the commit of the resumption.
// R3  A process whose host died three times in a row while resuming it, without a step done in between, is
//     quarantined. An orderly end of the host, a while of life, or that it came to wait for something, is no such
//     death; nor is that of a program in a process of its own, which cannot kill its host.

import type { Platform } from "../abi/platform.ts";
import { type ErrorRecord, KernelError, fromErrorRecord, toErrorRecord } from "../base/errno.ts";
import type { Pid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { AccountTree, Departure } from "../budget/account.ts";
import { type Amounts, addAmounts, resourcesOf } from "../budget/resource.ts";
import type { Capability } from "../cap/capability.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import { encodeRecord } from "../journal/record.ts";
import { lostCall } from "./lost-call.ts";
import { encodeProcess, liveKey, processKey } from "./process-record.ts";
import type { Process } from "./process.ts";
import type { Program } from "./program.ts";
import { type Outlook, type Redoing, type Redone, assertTold, outlookOf, redo } from "./redo.ts";
import type { Revisions } from "./revision.ts";
import { lowerTier } from "./role.ts";

/** A resumed process is no longer suspected of killing its host after this long. */
const PROBATION_MS = 3000;

/** What a resumption needs of the table. */
export interface ResumptionParts {
  readonly platform: Platform;
  readonly committer: Committer;
  readonly accounts: AccountTree;
  readonly revisions: Revisions;
  readonly recall: (pid: Pid) => Promise<Process | undefined>;
  readonly live: (pid: Pid) => Process | undefined;
  /** A group that is there, and the account that its processes spend from. */
  readonly groupOf: (path: string) => { readonly account: Pid | undefined } | undefined;
  readonly close: (departure: Departure) => Promise<void>;
  readonly start: (process: Process, program: Program) => void;
  /** Takes back what a life before has made and its restart makes again; with `isFromStart` everything. */
  readonly livesAgain: (process: Process, isFromStart: boolean) => Promise<void>;
}

/** How a process is resumed. */
export interface Resuming extends Redoing {
  /** It has ended, and is tried again. */
  readonly again?: boolean;
  /** It had completed. */
  readonly hadCompleted?: boolean;
  /** For its budget. */
  readonly added?: Amounts | undefined;
  readonly rider?: Rider | undefined;
}

/** What a process that has ended would have, were it tried again. */
export interface EndedStanding {
  /** The nearest above it that lives. */
  readonly parent: Process | undefined;
  readonly capability: Capability;
  readonly account: Pid | undefined;
}

export class Resumption {
  readonly #platform: Platform;
  readonly #committer: Committer;
  readonly #accounts: AccountTree;
  readonly #revisions: Revisions;
  readonly #recall: ResumptionParts["recall"];
  readonly #live: ResumptionParts["live"];
  readonly #groupOf: ResumptionParts["groupOf"];
  readonly #close: ResumptionParts["close"];
  readonly #start: ResumptionParts["start"];
  readonly #livesAgain: ResumptionParts["livesAgain"];
  /** Who waits for processes, and hears when they are quarantined. */
  readonly #kept = new Map<Pid, Set<(error: ErrorRecord) => void>>();

  constructor(parts: ResumptionParts) {
    this.#platform = parts.platform;
    this.#committer = parts.committer;
    this.#accounts = parts.accounts;
    this.#revisions = parts.revisions;
    this.#recall = parts.recall;
    this.#live = parts.live;
    this.#groupOf = parts.groupOf;
    this.#close = parts.close;
    this.#start = parts.start;
    this.#livesAgain = parts.livesAgain;
  }

  /**
   * Runs a claimed process on from its journal; with `again` its failed steps are tried anew.
   * @throws {ENOENT} there is no step to do anew from, or to give another outcome
   */
  async resume(
    process: Process,
    program: Program,
    { again = false, hadCompleted = false, from, set, added = {}, rider }: Resuming = {},
  ): Promise<void> {
    const { journal } = process;
    if (journal === undefined)
      throw new KernelError("EINVAL", `process ${process.pid} has no journal to resume from`, { pid: process.pid });
    const { replay, outdated: changed } = await this.#revisions.load(journal, program);
    const redone = await redo(journal, program, { from, set, at: this.#committer.now() });
    // Who is run to be ended does not go on behind its sleep.
    const unslept = process.endedBy === undefined ? undefined : journal.sleepingAt;
    const outdated = [...changed, ...(unslept === undefined ? [] : journal.outdate((place) => place === unslept))];
    let { account } = process;
    if (again) {
      journal.forgetFailures(!hadCompleted);
      process.capability = await this.#rightsOf(process);
      await this.#lowerTier(process);
      // Children that live on have kept its account open.
      const isOpen = process.identity.budget !== undefined && this.#accounts.isOpen(process.pid);
      account = isOpen ? process.pid : await this.#findAccount(process);
    }
    if (replay.deaths >= LIMITS.resumeDeathsMax && !again && isSuspect(program)) {
      return this.quarantine(process, `its host died ${replay.deaths} times while resuming it`);
    }
    Object.assign(process.usage, replay.usage, { steps: replay.steps, replayed: 0 });
    process.ranMs = replay.ranMs;
    process.restarts = replay.restarts;
    // Whoever it is that begins the life which a restart was for: its supervisor, a person, or the next host.
    if (replay.restart !== undefined) await this.#livesAgain(process, replay.restart === "start");
    this.#assertClaimed(process);
    await this.#commitResume(process, program, {
      again,
      hadCompleted,
      account,
      outdated,
      redone,
      // Until it has told its definitions it is what it was.
      revision: program.tellsDefinitions === true && replay.revision !== "" ? replay.revision : program.revision,
      log: journal.log,
      added,
      rider,
    });
    this.#assertClaimed(process);
    process.isResumed = true;
    // Who has come to wait for something has not killed its host either; that is worth a record after a death alone.
    if (replay.deaths > 0) process.onWaiting = () => this.#noteAlive(process);
    this.#start(process, program);
    if (isSuspect(program)) this.#probation(process);
  }

  /**
   * What a resumption would take from the journal, and do again.
   * @throws {EINVAL} it leaves no journal · {ENOTSUP} only where its program runs it is known what has changed · {ENOENT}
   */
  async preview(process: Process, program: Program, to: Redoing): Promise<Outlook> {
    const { pid, journal, state } = process;
    if (journal === undefined) throw new KernelError("EINVAL", `process ${pid} has no journal to resume from`, { pid });
    assertTold(program);
    const before = journal.unread();
    await before.load();
    const after = journal.unread();
    const { outdated } = await this.#revisions.load(after, program);
    const ended = state.name === "zombie" ? { hasFailed: state.exit.code !== 0 } : {};
    return outlookOf(before, after, program, { changed: outdated, ...ended, ...to });
  }

  /** A kill in the meantime has the last word (R1). */
  #assertClaimed(process: Process): void {
    if (process.state.name === "ready" && !process.isEnding) return;
    throw new KernelError("ECANCELED", `process ${process.pid} was ended while it was resumed`, {
      syscall: "resume",
      pid: process.pid,
    });
  }

  async #commitResume(
    process: Process,
    program: Program,
    how: {
      readonly again: boolean;
      readonly hadCompleted: boolean;
      /** The account that it spends from, unless it gets one of its own; one that is tried again joins it. */
      readonly account: Pid | undefined;
      readonly outdated: readonly string[];
      /** What somebody wants to be different. */
      readonly redone: Redone;
      readonly revision: string;
      readonly log: string;
      readonly added: Amounts;
      readonly rider: Rider | undefined;
    },
  ): Promise<void> {
    const { pid, name, budget } = process.identity;
    const at = this.#committer.now();
    const records = [
      ...(how.again ? [encodeRecord({ t: "retry", at, ...(how.hadCompleted ? { completed: true } : {}) })] : []),
      ...(how.outdated.length === 0 ? [] : [encodeRecord({ t: "outdated", at, places: how.outdated })]),
      ...how.redone.records,
      encodeRecord({ t: "resume", at, revision: how.revision }),
    ];
    // A run that is tried again gets what it had not spent of its budget: in all its lives never more.
    const above = how.account;
    const isOpen = above === pid;
    const added = how.again && isOpen && resourcesOf(how.added).length > 0;
    const increase = added ? await this.#accounts.allocate(pid, how.added) : undefined;
    const left = isOpen ? undefined : await this.#leftOf(process, how);
    const opened = left === undefined ? undefined : this.#accounts.open(pid, above, left);
    const account = increase ?? opened;
    // From here on it counts as a user, and departs when it ends.
    process.account = account === undefined ? above : pid;
    if (account !== undefined) {
      process.identity = { ...process.identity, budget: addAmounts(budget ?? {}, how.added) };
    }
    if (how.again) this.#accounts.join(process.account);
    await this.#committer
      .commit(
        {
          puts: [
            { key: processKey(pid), value: encodeProcess(process, {}, this.#committer.masker) },
            { key: liveKey(pid), value: "" },
            ...this.#revisions.putsOf(program),
            ...(account?.puts ?? []),
          ],
          ...(account === undefined ? {} : { checks: account.checks, adds: account.adds, deletes: account.deletes }),
          appends: [
            ...how.redone.answered.flatMap(([place, intent]) => lostCall(process.identity, at, place, intent)),
            ...records.map((value) => ({ log: how.log, value })),
          ],
        },
        [{ name: "process.resumed", pid, data: { name, program: program.name } }],
        how.rider,
      )
      .then(
        () => {
          process.sleep = undefined;
          this.#revisions.markStored(program);
          increase?.applied();
        },
        async (error: unknown) => {
          const refusal = await this.#accounts.refusal(error, above, left ?? {}, "resume", pid);
          if (opened !== undefined) await this.#close(this.#accounts.undo(pid));
          else if (how.again) await this.#close(this.#accounts.depart(process.account));
          throw refusal;
        },
      );
  }

  /**
   * What a process that has ended would have, were it tried again: whom it belongs to, its rights, and what it spends from.
   * @throws {EDQUOT} what it spent from has ended
   */
  async standingOf(process: Process): Promise<EndedStanding> {
    let parent: Process | undefined;
    for (let at = process.above ?? process.identity.ppid; at !== undefined && parent === undefined;) {
      const ancestor = await this.#recall(at);
      if (ancestor?.isAlive === true && this.#live(at) === ancestor) parent = ancestor;
      at = ancestor?.above ?? ancestor?.identity.ppid;
    }
    return { parent, capability: await this.#rightsOf(process), account: await this.#findAccount(process) };
  }

  /** All layers that it had, behind those that its ancestors have now: what they lost meanwhile it has lost too. */
  async #rightsOf(process: Process): Promise<Capability> {
    const { ppid } = process.identity;
    if (ppid === undefined) return process.capability;
    const parent = this.#live(ppid) ?? (await this.#recall(ppid));
    if (parent === undefined) return process.capability;
    const isLive = parent.isAlive && this.#live(ppid) === parent;
    const above = isLive ? parent.capability : await this.#rightsOf(parent);
    return process.capability.under(above);
  }

  /** It thinks with nothing better than whoever is above it now. */
  async #lowerTier(process: Process): Promise<void> {
    const { ppid } = process.identity;
    const parent = ppid === undefined ? undefined : (this.#live(ppid) ?? (await this.#recall(ppid)));
    const tier = parent === undefined ? undefined : lowerTier(process.identity, parent.identity);
    if (tier !== undefined) process.identity = { ...process.identity, tier };
  }

  /** What a process that is tried again has of its budget, with what is added now. */
  async #leftOf(
    { pid, identity }: Process,
    { again, added }: { readonly again: boolean; readonly added: Amounts },
  ): Promise<Amounts | undefined> {
    if (!again) return undefined;
    if (identity.budget === undefined) {
      if (resourcesOf(added).length === 0) return undefined;
      throw new KernelError("EINVAL", `process ${pid} has no budget of its own: there is nothing to add to`, { pid });
    }
    return addAmounts(await this.#accounts.leftAt(pid, identity.budget), added);
  }

  /**
   * The account that a process which is tried again spends from: the nearest open one of its ancestors in its group,
   * then the group's. Where it had one and none is left, there is nothing to spend.
   */
  async #findAccount(process: Process): Promise<Pid | undefined> {
    const { account, budget, pid, group } = process.identity;
    const around = group === undefined ? undefined : this.#groupOf(group);
    let had = account !== undefined && budget === undefined;
    for (let at = process.identity.ppid; at !== undefined;) {
      const ancestor = await this.#recall(at);
      if (around !== undefined && ancestor?.identity.group !== group) return around.account;
      const candidate = ancestor?.account;
      had ||= candidate !== undefined;
      if (candidate !== undefined && this.#accounts.isOpen(candidate)) return candidate;
      at = ancestor?.identity.ppid;
    }
    if (had) {
      throw new KernelError(
        "EDQUOT",
        `the budget that process ${pid} spent from ended with its parent; run the parent again`,
        { syscall: "resume", pid },
      );
    }
    return undefined;
  }

  /** A process that lives for a while has not killed its host by being resumed, even if it finished nothing. */
  #probation(process: Process): void {
    const { steps } = process.usage;
    const look = (): void => {
      if (process.isAlive && !process.isAbandoned && process.usage.steps === steps) this.#noteAlive(process);
    };
    this.#platform.setTimer(PROBATION_MS, look, { idle: true });
  }

  #noteAlive({ journal }: Process): void {
    journal?.note({ t: "alive", at: this.#committer.now() }).catch(() => undefined);
  }

  /** Lets a quarantined process be resumed again, on somebody's word. */
  async pardon(process: Process, rider?: Rider): Promise<void> {
    await process.journal?.note({ t: "alive", at: this.#committer.now() }, undefined, rider);
    process.become({ name: "sleeping" });
  }

  /** Tells when a process is quarantined; returns what ends that. */
  onQuarantine(pid: Pid, tell: (error: ErrorRecord) => void): () => void {
    const waiting = this.#kept.get(pid) ?? new Set();
    this.#kept.set(pid, waiting.add(tell));
    return () => {
      waiting.delete(tell);
      if (waiting.size === 0 && this.#kept.get(pid) === waiting) this.#kept.delete(pid);
    };
  }

  /** Keeps a process for inspection, until somebody resumes it with force or kills it. */
  async quarantine(process: Process, why: string, cause?: ErrorRecord): Promise<void> {
    const { pid, name, program } = process.identity;
    const error: ErrorRecord = toErrorRecord(
      new KernelError(
        "EQUARANTINE",
        `process ${pid} (${name}) is quarantined: ${why}; inspect /proc/${pid}, then \`ergos kill ${pid}\` or \`ergos resume ${pid} --force\``,
        { pid, ...(cause === undefined ? {} : { cause: fromErrorRecord(cause) }) },
      ),
    );
    await this.#committer.commit(
      {
        puts: [{ key: processKey(pid), value: encodeProcess(process, { quarantined: error }, this.#committer.masker) }],
      },
      [{ name: "process.quarantined", pid, data: { name, program: program.name, error } }],
    );
    process.become({ name: "quarantined", error });
    for (const tell of this.#kept.get(pid) ?? []) tell(error);
  }
}

const isSuspect = ({ source }: Program): boolean => (source?.runtime ?? "inline") === "inline";
