// Signals: those that end a branch, those that hold a process, and those that only who listens hears.

import type { Platform } from "../abi/platform.ts";
import { cancelled } from "../base/abort.ts";
import { KernelError } from "../base/errno.ts";
import { PID_OWNER, type Pid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import type { EventBus } from "../ipc/event-bus.ts";
import type { Family } from "./family.ts";
import { type Exit, type Process, SIGNALS, type Signal } from "./process.ts";
import type { Program } from "./program.ts";
import { encodeProcess, processKey } from "./process-record.ts";
import { atMost, graced } from "./shields.ts";
import type { Sleeper } from "./sleeper.ts";

export interface SignalParts {
  readonly platform: Platform;
  readonly bus: EventBus;
  readonly committer: Committer;
  readonly family: Family;
  readonly sleeper: Sleeper;
  readonly exit: (process: Process, exit: Exit, rider?: Rider) => Promise<void>;
  readonly resume: (process: Process, program: Program) => Promise<void>;
  /** Lets go of code that is still running. */
  readonly abandon: (process: Process) => void;
}

export class Signals {
  readonly #parts: SignalParts;

  constructor(parts: SignalParts) {
    this.#parts = parts;
  }

  /**
   * Sends a signal to a process and, where it ends something, to its branch bottom-up.
   * @throws {EPERM} it is the owner's · {ESRCH} it has ended
   */
  async send(process: Process, signal: Signal, rider?: Rider): Promise<void> {
    const { pid } = process;
    if (pid === PID_OWNER)
      throw new KernelError("EPERM", "the owner's process cannot be signalled; stop the host instead", {
        syscall: "kill",
        pid,
      });
    if (process.state.name === "zombie")
      throw new KernelError("ESRCH", `process ${pid} has already ended`, { syscall: "kill", pid });
    this.#published(process, signal);
    if (signal === "HUP" || signal === "USR1" || signal === "USR2" || signal === "CHLD")
      return this.tell(process, signal);
    for (const hear of process.listeners ?? []) hear(signal);
    switch (signal) {
      case "STOP":
        stop(process);
        return this.#record(process, rider);
      case "CONT": {
        const wasStopped = process.staysStopped;
        process.unstop();
        if (wasStopped) await this.#record(process, rider);
        return this.#wake(process);
      }
      case "TERM":
      case "INT":
      case "KILL":
        return this.#endBranch(process, signal, rider);
      default:
        signal satisfies never;
    }
  }

  /**
   * That it was told to end outlives its host, where there is something to do before that; so it does of those above it
   * that end with it.
   */
  async recordEnding(process: Process): Promise<void> {
    const { endedBy } = process;
    if (endedBy === undefined || !process.isShielded) return;
    await this.#record(process, undefined);
    const { family } = this.#parts;
    for (let above = family.above(process.pid); above !== undefined; above = family.above(above)) {
      const one = family.get(above);
      if (one?.isDoomed !== true) return;
      one.endedBy ??= endedBy;
      await this.#record(one, undefined);
    }
  }

  /**
   * Runs a process on to the end that it was told to come to, unless somebody else does so just now.
   * @returns whether the next host does that, as this one ends
   */
  async #goOn(process: Process): Promise<boolean> {
    const { platform, resume, sleeper } = this.#parts;
    const isAsleep = (): boolean => process.state.name === "sleeping";
    try {
      if (isAsleep()) await resume(process, await sleeper.programOf(process));
      if (isAsleep()) return true;
    } catch {
      // There is no such program here, or the process could not be run: then it ends at once.
      if (isAsleep()) return false;
    }
    // One that has killed its hosts is not run any more.
    if (process.state.name !== "quarantined") await atMost(platform, 2 * LIMITS.shieldMaxMs, process.done);
    return false;
  }

  async #record(process: Process, rider: Rider | undefined): Promise<void> {
    if (process.journal === undefined || process.isEnding || process.hasEnded) return;
    const { committer } = this.#parts;
    const record = { key: processKey(process.pid), value: encodeProcess(process, {}, committer.masker) };
    await committer.commit({ puts: [record] }, undefined, rider);
  }

  #published({ pid, identity }: Process, signal: Signal): void {
    const { bus } = this.#parts;
    const { name, program } = identity;
    if (bus.hasSubscribers)
      bus.publish({ name: "process.signalled", pid, data: { name, program: program.name, signal } });
  }

  /** All of a branch is told, from its top down, and ends from its leaves up. A branch may be deeper than a stack. */
  async #endBranch(process: Process, signal: Signal, rider: Rider | undefined): Promise<void> {
    const { family } = this.#parts;
    const isConcerned = (one: Process): boolean => one === process || !one.hasEnded;
    const concerned = family.branchOf(process).filter(isConcerned);
    for (const one of concerned) {
      if (one !== process) {
        this.#published(one, signal);
        for (const hear of one.listeners ?? []) hear(signal);
      }
      one.isDoomed = true;
    }
    const ends = new Map<Pid, Promise<void>[]>();
    let last: Promise<void> = Promise.resolve();
    for (const one of family.bottomUp(process).filter(isConcerned)) {
      const below = ends.get(one.pid) ?? [];
      const end = (): Promise<void> => this.#end(one, signal, one === process ? rider : undefined);
      last = below.length === 0 ? end() : Promise.all(below).then(end);
      const { above } = one;
      if (above === undefined) continue;
      const beside = ends.get(above);
      if (beside === undefined) ends.set(above, [last]);
      else beside.push(last);
    }
    return last.catch((error: unknown) => {
      // What could not be ended lives on, and is woken as before.
      for (const one of concerned) if (one.state.name === "sleeping" && !one.isEnding) one.isDoomed = false;
      throw error;
    });
  }

  /** A signal that asks for nothing but to be heard; who sleeps hears it when it is awake. */
  tell(process: Process, signal: "HUP" | "USR1" | "USR2" | "CHLD"): void {
    for (const hear of process.listeners ?? []) hear(signal);
    // One that is about to end is not woken for what it would do.
    if (process.isDoomed) return;
    const { unheard = [] } = process;
    if (this.#parts.sleeper.sleeps(process) && !unheard.includes(signal)) process.unheard = [...unheard, signal];
    this.#wake(process);
  }

  /** A signal that ends nothing wakes a sleeping process; one that cannot be woken now stays asleep. */
  #wake(process: Process): void {
    if (this.#parts.sleeper.sleeps(process)) void this.#parts.sleeper.wake(process.pid).catch(() => undefined);
  }

  async #end(process: Process, signal: Signal, rider: Rider | undefined): Promise<void> {
    const isRun = process.program !== undefined || process.state.name === "quarantined";
    if (!isRun && signal !== "KILL" && process.identity.program.endsAwake === true) {
      process.endedBy ??= signal;
      await this.#record(process, undefined);
    }
    // What it had to do before its end is done by its next life.
    const isLeft = process.endedBy !== undefined && process.program === undefined && signal !== "KILL";
    if (isLeft && (await this.#goOn(process))) return;
    if (process.hasEnded) return;
    const wasRunning = process.program !== undefined;
    if (process.isHeld) process.become({ name: "running" }, true);
    process.endedBy = signal;
    const reason = cancelled(`process ${process.pid} was ended by ${signal}`);
    process.abort(reason);
    if (wasRunning && signal !== "KILL") {
      // What takes longer goes on with the next host, should this one die meanwhile.
      await this.recordEnding(process);
      await graced(this.#parts.platform, process, process.program, process.done);
      // Its host ends, and the next one goes on with that.
      if (process.state.name === "sleeping") return;
    }
    process.cutOff(reason);
    // The program may have ended during the grace period; its next life has the same end.
    const now = this.#parts.family.get(process.pid);
    if (now !== undefined && now !== process && !now.hasEnded) return this.send(now, signal, rider);
    if (process.hasEnded) return;
    if (wasRunning && !process.isEnding) this.#parts.abandon(process);
    await this.#parts.exit(process, { code: 128 + SIGNALS[signal], signal }, rider);
  }
}

function stop(process: Process): void {
  const { pid, state, program } = process;
  if (program === undefined)
    throw new KernelError("EINVAL", `process ${pid} is ${state.name} and cannot be stopped`, { syscall: "kill", pid });
  if (state.name === "frozen")
    throw new KernelError("EBUSY", `process ${pid} is frozen with its group`, { syscall: "kill", pid });
  process.become({ name: "stopped" });
}
