// Sleep: a process that waits for long is taken out of memory, and is there again when something happens.
//
// Z1  That a process sleeps, and until when, stands in the commit after which nothing of it runs any more.
// Z2  A message, a signal or the time wakes it; what came in the moment in which it fell asleep does too.
// Z3  Nothing is woken before the host is told to act (`activate`): whoever only looks at a data directory starts
//     nothing in it.

import type { Platform, Timer } from "../abi/platform.ts";
import { setAlarm } from "./alarm.ts";
import { cancelled, orAborted } from "../base/abort.ts";
import { KernelError } from "../base/errno.ts";
import { LIMITS } from "../base/limits.ts";
import type { Pid } from "../base/id.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import type { Journal } from "../journal/journal.ts";
import { encodeRecord } from "../journal/record.ts";
import type { Family } from "./family.ts";
import { encodeSleep, liveKey } from "./process-record.ts";
import { drained } from "./drain.ts";
import type { Exit, Process } from "./process.ts";
import type { Program } from "./program.ts";

export interface SleeperParts {
  readonly platform: Platform;
  readonly committer: Committer;
  readonly family: Family;
  /** Puts the next life of a process in its place. */
  readonly succeed: (process: Process, exit: Exit, restarts: readonly number[]) => Process;
  readonly abandon: (process: Process) => void;
  readonly resume: (process: Process, program: Program) => Promise<void>;
  /** Finds the program of a process again. */
  readonly load: (process: Process) => Promise<Program>;
  readonly hasMail: (pid: Pid) => boolean;
}

export class Sleeper {
  readonly #parts: SleeperParts;
  readonly #alarms = new Map<Pid, Timer>();
  readonly #programs = new Map<Pid, Program>();
  /** Processes whose sleep is being recorded; whether something has woken them already. */
  readonly #falling = new Map<Pid, { isWoken: boolean }>();
  #isActive = false;

  constructor(parts: SleeperParts) {
    this.#parts = parts;
  }

  /** From now on what sleeps is woken; what should have been meanwhile is at once. */
  activate(): void {
    this.#isActive = true;
    for (const process of this.#parts.family.all) this.#arm(process);
  }

  /**
   * Puts a process to sleep. One that does so itself, at a place, goes on behind it when it is woken.
   * @param until wall-clock milliseconds at which it is woken at the latest
   * @throws {EINVAL} it has no journal to go on from · {EBUSY} it does not run
   */
  async sleep(process: Process, until?: number, place?: string, rider?: Rider): Promise<void> {
    const { pid, journal } = process;
    const before = place === undefined ? undefined : journal?.begin(place, "sleep");
    if (before !== undefined) return void process.replay(await before);
    if (journal === undefined)
      throw new KernelError("EINVAL", `process ${pid} is not durable: it has no journal to go on from`, { pid });
    // Who is being ended hears of it in a moment.
    if (place !== undefined && (process.isDoomed || process.isAborted))
      await orAborted(new Promise(() => undefined), process.signal);
    // Nothing acts from here on until it sleeps.
    const { isQuiet, release } = await drained(this.#parts.platform, [process], LIMITS.drainMs);
    try {
      const { program, state } = process;
      const isLeaving = process.isEnding || process.isDoomed || process.isOver || this.#falling.has(pid);
      if (!isQuiet || program === undefined || isLeaving || process.isHalted) {
        if (place !== undefined) journal.retract(place);
        const why = isQuiet ? `is ${state.name}` : `has calls under way for more than ${LIMITS.drainMs} ms`;
        throw new KernelError("EBUSY", `process ${pid} ${why} and cannot be put to sleep`, { pid });
      }
      await this.#fall(process, { journal, program, until, place, rider });
    } finally {
      release();
    }
  }

  /** Puts a process to sleep that makes no calls. */
  async #fall(
    process: Process,
    {
      journal,
      program,
      until,
      place,
      rider,
    }: {
      readonly journal: Journal;
      readonly program: Program;
      readonly until: number | undefined;
      readonly place: string | undefined;
      readonly rider: Rider | undefined;
    },
  ): Promise<void> {
    const { pid, identity } = process;
    const { committer } = this.#parts;
    const at = committer.now();
    const record =
      place === undefined
        ? { log: journal.log, value: encodeRecord({ t: "alive", at }) }
        : journal.recordOf(place, null);
    const falling = { isWoken: false };
    this.#falling.set(pid, falling);
    try {
      await committer.commit(
        { puts: [{ key: liveKey(pid), value: encodeSleep({ until }) }], appends: [record] },
        [
          {
            name: "process.sleeping",
            pid,
            data: { name: identity.name, program: identity.program.name, ...(until === undefined ? {} : { until }) },
          },
        ],
        rider,
      );
    } catch (error) {
      if (place !== undefined) journal.retract(place);
      throw error;
    } finally {
      this.#falling.delete(pid);
    }
    // A kill in the meantime has the last word, and so has whatever else has ended this life.
    const isGone = process.isEnding || process.isDoomed || process.isOver || process.hasEnded;
    if (isGone || this.#parts.family.get(pid) !== process) throw cancelled(`process ${pid} ends`);
    const why = cancelled(`process ${pid} sleeps`);
    journal.close();
    this.#parts.abandon(process);
    process.cutOff(why);
    const next = this.#parts.succeed(process, { code: 0 }, process.restarts);
    next.sleep = until === undefined ? {} : { until };
    this.#programs.set(pid, program);
    this.#arm(next);
    if (falling.isWoken) void this.wake(pid).catch(() => undefined);
    // Who has put itself to sleep does nothing more in this life.
    if (place !== undefined) throw why;
  }

  /** Wakes a process if it sleeps; anything else is as it should be. */
  async wake(pid: Pid): Promise<void> {
    const falling = this.#falling.get(pid);
    if (falling !== undefined) falling.isWoken = true;
    const process = this.#parts.family.get(pid);
    if (!this.#isActive || process?.sleep === undefined || process.isEnding || process.isDoomed) return;
    if (process.state.name !== "sleeping") return;
    const program = await this.programOf(process);
    if (process.state.name !== "sleeping" || process.isEnding || process.isDoomed) return;
    await this.#parts.resume(process, program);
    this.forget(pid);
  }

  /** What a sleeping process runs. */
  async programOf(process: Process): Promise<Program> {
    return this.#programs.get(process.pid) ?? (await this.#parts.load(process));
  }

  /** Whether a process sleeps, or is about to. */
  sleeps({ pid, sleep }: Process): boolean {
    return sleep !== undefined || this.#falling.has(pid);
  }

  /** It is awake, or gone. */
  forget(pid: Pid): void {
    this.#alarms.get(pid)?.cancel();
    this.#alarms.delete(pid);
    this.#programs.delete(pid);
  }

  /** Sees that a sleeping process is woken when it should be. */
  #arm(process: Process): void {
    const { pid, sleep } = process;
    if (!this.#isActive || sleep === undefined || process.state.name !== "sleeping") return;
    const { until } = sleep;
    this.#alarms.get(pid)?.cancel();
    // What cannot be woken now stays asleep; `resume` tells why.
    const wake = (): void => void this.wake(pid).catch(() => undefined);
    if (this.#parts.hasMail(pid)) this.#alarms.set(pid, this.#parts.platform.setTimer(0, wake));
    else if (until !== undefined) this.#alarms.set(pid, setAlarm(this.#parts.platform, until, wake, { idle: true }));
  }

  close(): void {
    this.#isActive = false;
    for (const alarm of this.#alarms.values()) alarm.cancel();
  }
}
