// Supervision: what happens when the program of a process has ended.
//
// U1  A process that is restarted has not ended: it keeps its pid, its journal, its budget, its children and what
//     waits in its mailbox, and whoever waits for its end waits on.
// U2  Who is restarted together is recorded in one commit: after a crash all of them sleep, or none was touched.
// U3  Within the window of a process it is restarted at most as often as its spawn says. Then its supervisor is
//     restarted with its whole branch, as far up as there are supervisors; where none is left, the process exits,
//     its parent is told, and the topmost of those supervisors fails.
// U4  What was ended by a signal is not restarted, and nothing is while the host closes.

import type { Platform, Timer } from "../abi/platform.ts";
import { cancelled } from "../base/abort.ts";
import { KernelError, type ErrorRecord, toErrorRecord } from "../base/errno.ts";
import type { Pid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import { encodeRecord, journalLog } from "../journal/record.ts";
import type { Family } from "./family.ts";
import { liveKey } from "./process-record.ts";
import { lostCall } from "./lost-call.ts";
import { drained } from "./drain.ts";
import { type Exit, type Process, correlationOf } from "./process.ts";
import { type FaultCounts, type FaultPolicy, type Trap, countFault, trapOf } from "./fault.ts";
import type { Program } from "./program.ts";
import { type Restart, delayOf, hasRoom, isSupervised, recentOf } from "./restart.ts";
import { codeOver } from "./shields.ts";
import type { Sleeper } from "./sleeper.ts";

export interface SupervisorParts {
  readonly platform: Platform;
  readonly committer: Committer;
  readonly family: Family;
  readonly sleeper: Sleeper;
  readonly exit: (process: Process, exit: Exit, rider?: Rider, tells?: "exit" | "escalation") => Promise<void>;
  /** Keeps a sleeping process for inspection. */
  readonly quarantine: (process: Process, why: string, error: ErrorRecord) => Promise<void>;
  /** Counts a failure in a group and those around it; gives what they make of it. */
  readonly trapInGroup: (group: string | undefined, trap: Trap) => FaultPolicy | undefined;
  /** Puts the next life of a process in its place. */
  readonly succeed: (process: Process, exit: Exit, restarts: readonly number[]) => Process;
  /** Runs a sleeping process on. */
  readonly resume: (process: Process, program: Program) => Promise<void>;
  /** Lets go of code that is still running. */
  readonly abandon: (process: Process) => void;
  readonly kill: (process: Process) => Promise<void>;
}

/** A process that is being restarted, and what it will run. */
interface Life {
  readonly process: Process;
  /** Of one that slept it is found when it runs again. */
  readonly program: Program | undefined;
}

interface Restarting {
  readonly at: number;
  readonly delayMs: number;
  readonly restartsOf: (old: Process) => readonly number[];
}

const NOTHING_HELD = { release: (): void => undefined };

export class Supervisor {
  readonly #parts: SupervisorParts;
  readonly #timers = new Set<Timer>();
  /** Who waits for its restart, and who is run again with it. */
  readonly #waiting = new Map<Pid, Life[]>();
  #isClosed = false;
  /** Kinds of failures since the start of the host. */
  faults: FaultCounts = {};

  constructor(parts: SupervisorParts) {
    this.#parts = parts;
  }

  /** The program of a process has ended: the process exits, or is restarted. */
  async ended(process: Process, exit: Exit, rider?: Rider): Promise<void> {
    if (this.#isClosed || process.isEnding) return this.#parts.exit(process, exit, rider);
    const policy = exit.error === undefined ? undefined : this.#trap(process, exit.error);
    if (policy !== undefined && policy !== "restart") return this.#obey(policy, process, exit, rider);
    if (!wantsRestart(process, exit, policy)) return this.#parts.exit(process, exit, rider);
    const { heir, failed, waiting } = this.#heirOf(process);
    if (heir !== undefined) return this.#restart(process, heir, exit);
    if (waiting !== undefined) return this.#join(process, waiting, exit);
    await this.#parts.exit(process, exit, rider, "escalation");
    if (failed === undefined) return;
    const { pid, name } = process.identity;
    const cause = exit.error ?? { message: "it ended again and again" };
    await this.fail(failed, new KernelError("EFAILED", `its child ${pid} (${name}) was given up: ${cause.message}`));
  }

  /** Counts a failure by its kind; gives what its spawn, or else its group, says of that kind. */
  #trap(process: Process, error: ErrorRecord): FaultPolicy | undefined {
    const trap = trapOf(error);
    process.faults = countFault(process.faults, trap);
    this.faults = countFault(this.faults, trap);
    const ofGroup = this.#parts.trapInGroup(process.identity.group, trap);
    const policy = process.identity.faults?.[trap] ?? ofGroup;
    const { pid, name, program } = process.identity;
    const data = { name, program: program.name, trap, error, ...(policy === undefined ? {} : { policy }) };
    this.#parts.committer.publish({ name: "process.trapped", pid, data });
    return policy;
  }

  async #obey(
    policy: Exclude<FaultPolicy, "restart">,
    process: Process,
    exit: Exit,
    rider: Rider | undefined,
  ): Promise<void> {
    const canBeKept = process.journal !== undefined && exit.error !== undefined && !isGone(process);
    if (policy !== "quarantine" || !canBeKept) {
      const tells = { kill: undefined, notify: "exit", escalate: "escalation", quarantine: undefined } as const;
      return this.#parts.exit(process, exit, rider, tells[policy]);
    }
    process.isOver = true;
    process.cutOff(cancelled(`process ${process.pid} is quarantined`));
    process.journal?.close();
    const next = this.#parts.succeed(process, exit, process.restarts);
    await this.#parts.quarantine(next, `${trapOf(exit.error)}: ${exit.error.message}`, exit.error);
  }

  /** Who is restarted for a process that has ended: itself, or the nearest supervisor above that still may be (U3). */
  #heirOf(process: Process): {
    readonly heir?: Process;
    readonly failed?: Process;
    /** One that waits for its own restart: it is run again with that. */
    readonly waiting?: Process;
  } {
    const now = this.#parts.committer.now();
    for (let at = process, failed: Process | undefined; ;) {
      const restart = restartOf(at, at === process);
      if (restart !== undefined && hasRoom(at.restarts, restart, now)) return { heir: at };
      const above = this.#parentOf(at);
      if (above?.identity.strategy !== undefined && this.#waiting.has(above.pid) && !isGone(above))
        return { waiting: above };
      // One that is being restarted itself has nothing that could be.
      if (above?.identity.strategy === undefined || above.program === undefined || isGone(above))
        return failed === undefined ? {} : { failed };
      at = above;
      failed = above;
    }
  }

  #parentOf({ pid }: Process): Process | undefined {
    const above = this.#parts.family.parentOf(pid);
    return above === undefined ? undefined : this.#parts.family.get(above);
  }

  /** Whoever is restarted when one is: those whom the strategy of its supervisor names, and their branches (U2). */
  #restartedWith(process: Process, heir: Process): readonly Process[] {
    const above = this.#parentOf(heir);
    const siblings = above === undefined ? [] : this.#parts.family.livingChildrenOf(above.pid);
    const strategy = above?.identity.strategy ?? "one-for-one";
    const chosen = siblings.filter(
      ({ pid }) => strategy === "one-for-all" || (strategy === "rest-for-one" && pid > heir.pid),
    );
    const below = heir === process ? [] : this.#parts.family.branchOf(heir);
    const others = [...new Set([...chosen, ...below])].filter(
      (one) => one !== heir && one !== process && isRestartable(one) && (one.program !== undefined || losesState(one)),
    );
    return [...new Set([heir, process]), ...others].sort((one, two) => one.pid - two.pid);
  }

  async #restart(process: Process, heir: Process, exit: Exit): Promise<void> {
    const { committer, platform } = this.#parts;
    const restart = heir.identity.restart ?? { policy: "on-failure" };
    const at = committer.now();
    const earlier = recentOf(heir.restarts, restart, at);
    const delayMs = delayOf(restart, earlier.length, (platform.random(1)[0] ?? 0) / 255);
    const olds = this.#restartedWith(process, heir).map((old) => ({ process: old, program: old.program }));
    const lives = await this.#succeeded(process, heir, olds, exit, {
      at,
      delayMs,
      restartsOf: (old) => (old === heir ? [...earlier, at] : old.restarts),
    });
    this.#waiting.set(heir.pid, lives);
    const over = Promise.allSettled(olds.map(({ process: old, program }) => codeOver(platform, old, program)));
    this.#later(delayMs, () => void over.then(() => this.#resume(heir.pid, lives)));
  }

  /** Has a process run again with one above it that waits for its own restart. */
  async #join(process: Process, heir: Process, exit: Exit): Promise<void> {
    const { program } = process;
    // Nobody could run it again.
    if (program === undefined) return this.#parts.exit(process, exit);
    const olds = [{ process, program }];
    const at = this.#parts.committer.now();
    const more = await this.#succeeded(process, heir, olds, exit, {
      at,
      delayMs: 0,
      restartsOf: (old) => old.restarts,
    });
    await codeOver(this.#parts.platform, process, program);
    const lives = this.#waiting.get(heir.pid);
    if (lives === undefined) await this.#resume(heir.pid, more);
    else lives.push(...more);
  }

  /** Ends the lives of processes that are to be run again, and gives those that follow. */
  async #succeeded(
    process: Process,
    heir: Process,
    chosen: readonly Life[],
    exit: Exit,
    how: Restarting,
  ): Promise<Life[]> {
    process.isOver = true;
    // What only goes along has done nothing wrong: its calls come to their end, and no others begin.
    const along = chosen.flatMap(({ process: old }) => (old === process ? [] : [old]));
    const { release } = along.length === 0 ? NOTHING_HELD : await drained(this.#parts.platform, along, LIMITS.drainMs);
    try {
      // Whoever has ended meanwhile, or was given another life, is no part of it any more.
      const isHere = (old: Process): boolean =>
        !old.isEnding && !old.hasEnded && !old.isDoomed && this.#parts.family.get(old.pid) === old;
      const olds = chosen.filter(({ process: old }) => isHere(old));
      return this.#isClosed || !isHere(process) ? [] : await this.#end(process, heir, olds, exit, how);
    } finally {
      release();
    }
  }

  /** Ends the lives of processes that make no calls, in one commit, and gives those that follow. */
  async #end(
    process: Process,
    heir: Process,
    olds: readonly Life[],
    exit: Exit,
    { at, delayMs, restartsOf }: Restarting,
  ): Promise<Life[]> {
    const { committer } = this.#parts;
    const error: ErrorRecord | undefined = exit.error;
    // Whoever starts from zero does not come back to what it has called.
    const lost = olds.flatMap(({ process: { identity, journal } }) =>
      identity.restart?.from === "start" && journal !== undefined
        ? journal.unanswered().flatMap(([place, intent]) => lostCall(identity, at, place, intent))
        : [],
    );
    for (const { process: old } of olds) {
      old.cutOff(cancelled(`process ${old.pid} is restarted`));
      old.journal?.close();
      if (old !== process) this.#parts.abandon(old);
    }
    try {
      await committer.commit(
        {
          // Who slept does so no more, whoever runs it on.
          puts: olds.flatMap(({ process: { pid, sleep } }) =>
            sleep === undefined ? [] : [{ key: liveKey(pid), value: "" }],
          ),
          appends: lost.concat(
            olds.map(({ process: { pid, identity } }) => {
              const record = {
                t: "restart",
                at,
                ...(pid === heir.pid ? {} : { for: heir.pid }),
                ...(error === undefined ? {} : { error }),
                ...(identity.restart?.from === "start" ? { fresh: true as const } : {}),
              } as const;
              return { log: journalLog(pid), value: encodeRecord(record) };
            }),
          ),
        },
        olds.map(({ process: { pid, identity } }) => ({
          name: "process.restarting",
          pid,
          data: {
            name: identity.name,
            program: identity.program.name,
            delayMs,
            ...(error === undefined ? {} : { error }),
          },
        })),
      );
    } catch (unrecorded) {
      // Nothing of them runs any more: they end here, and go on from their journals with the next host.
      const ended = { code: 1, error: toErrorRecord(unrecorded) };
      await Promise.allSettled(olds.map(({ process: old }) => this.#parts.exit(old, old === process ? exit : ended)));
      throw unrecorded;
    }
    return olds.flatMap(({ process: old, program }): Life[] => {
      // A kill that came in between has the last word.
      if (old.isEnding || old.hasEnded || old.isDoomed) return [];
      const next = this.#parts.succeed(old, exit, restartsOf(old));
      return this.#isClosed ? [] : [{ process: next, program }];
    });
  }

  #later(delayMs: number, task: () => void): void {
    if (this.#isClosed) return;
    const timer = this.#parts.platform.setTimer(delayMs, () => {
      this.#timers.delete(timer);
      task();
    });
    this.#timers.add(timer);
  }

  /** One after the other, the oldest first: who was started later may need the earlier one. */
  async #resume(heir: Pid, lives: readonly Life[]): Promise<void> {
    if (this.#waiting.get(heir) === lives) this.#waiting.delete(heir);
    for (const { process, program } of lives) {
      // Somebody else has resumed or ended it meanwhile.
      if (this.#isClosed || process.state.name !== "sleeping" || process.isEnding) continue;
      try {
        await this.#parts.resume(process, program ?? (await this.#parts.sleeper.programOf(process)));
      } catch (error) {
        const isOver = process.state.name !== "sleeping" || process.isEnding || this.#isClosed;
        if (isOver) continue;
        await this.#parts
          .exit(process, { code: 1, error: toErrorRecord(error) }, undefined, "escalation")
          .catch(() => undefined);
      }
    }
  }

  /** Ends a process for a reason that is not its program's, with what is below it. */
  async fail(process: Process, error: KernelError): Promise<void> {
    if (process.program === undefined || process.isEnding) return;
    const { program, identity } = process;
    const { masker } = this.#parts.committer;
    const record = { correlationId: correlationOf(identity), ...toErrorRecord(error) };
    const exit = { code: 1, error: masker?.maskData(record) ?? record };
    const policy = this.#trap(process, exit.error);
    // What is kept for inspection is kept with all that is below it.
    if (policy === "quarantine" && process.journal !== undefined) return this.#obey(policy, process, exit, undefined);
    process.isDoomed = true;
    await Promise.all(this.#parts.family.livingChildrenOf(process.pid).map((child) => this.#parts.kill(child)));
    if (process.isEnding || process.hasEnded) return;
    // Its own end counts no more.
    this.#parts.abandon(process);
    process.abort(error);
    await codeOver(this.#parts.platform, process, program);
    if (policy !== undefined && policy !== "restart") return this.#obey(policy, process, exit, undefined);
    const escalates = isSupervised(identity) || identity.strategy !== undefined;
    await this.#parts.exit(process, exit, undefined, escalates ? "escalation" : undefined);
  }

  /** A process begins to run: it is ended, with what is below it, when it has done so for as long as it may. */
  begun(process: Process): void {
    process.startedAt = this.#parts.platform.clock.monotonic();
    const wallMs = process.limits?.wallMs;
    if (wallMs === undefined) return;
    const { pid } = process;
    const timeUp = async (): Promise<void> => {
      if (process.program === undefined || process.isEnding) return;
      const data = { resource: "wallMs", wanted: wallMs, used: wallMs, allocation: wallMs, account: pid };
      this.#parts.committer.publish({ name: "resource.exceeded", pid, data });
      const why = `process ${pid} has run for the ${wallMs} ms that its limits give it`;
      await this.fail(process, new KernelError("ETIMEDOUT", why, { pid }));
    };
    const timer = this.#parts.platform.setTimer(
      Math.max(0, wallMs - process.ranMs),
      () => void timeUp().catch(() => undefined),
      { idle: true },
    );
    void process.left.then(() => timer.cancel());
  }

  /** Nothing is restarted any more: what waits for it sleeps until the next start of the host. */
  close(): void {
    this.#isClosed = true;
    for (const timer of this.#timers) timer.cancel();
  }
}

/** How a process is restarted, if it may be; one that has failed and got here may. */
function restartOf(process: Process, hasFailed: boolean): Restart | undefined {
  const { restart } = process.identity;
  if (isRestartable(process)) return restart;
  return hasFailed ? { ...restart, policy: "on-failure" } : undefined;
}

const isGone = (process: Process): boolean => !process.isAlive || process.isEnding || process.isDoomed;

/** Whether a restart is more for a sleeping process than for it to be woken: all that it knows stands in its journal. */
const losesState = ({ sleep, identity }: Process): boolean => sleep !== undefined && identity.restart?.from === "start";

const isRestartable = (process: Process): boolean =>
  isSupervised(process.identity) && process.journal !== undefined && !isGone(process);

/** Whether what it is said to be restarted after has come (U4). */
const wantsRestart = (process: Process, exit: Exit, policy: FaultPolicy | undefined): boolean =>
  exit.signal === undefined &&
  (policy === "restart"
    ? process.journal !== undefined && !isGone(process)
    : isRestartable(process) && (mayPass(exit.error) || process.identity.restart?.policy === "always"));

/** Whether trying again may help after a failure. */
const mayPass = (error: ErrorRecord | undefined): boolean => error !== undefined && error.code !== "ETERMINAL";
