// The tree of processes: who is here, and who belongs to whom.
//
// F1  A child belongs to its parent until that ends, then to the nearest living ancestor, at last to the owner.
// F2  Nobody ever belongs to itself: it goes to its ancestors alone, or to whom it was given and who is not below it.

import { PID_OWNER, type Pid } from "../base/id.ts";
import type { Process } from "./process.ts";

export class Family {
  readonly #processes = new Map<Pid, Process>();
  readonly #children = new Map<Pid, Set<Pid>>();
  /** Ended processes whose records are being deleted: nobody runs them again. */
  readonly leaving = new Set<Pid>();

  get size(): number {
    return this.#processes.size;
  }

  get all(): readonly Process[] {
    return [...this.#processes.values()];
  }

  get(pid: Pid): Process | undefined {
    return this.#processes.get(pid);
  }

  /**
   * Adds a process, or puts one in the place of its earlier life.
   * @param parent whom it belongs to, where that is not known by what is here
   */
  add(process: Process, parent?: Pid): void {
    const { pid } = process;
    // Whom the life before belonged to.
    process.above = this.#processes.get(pid)?.above;
    this.#processes.set(pid, process);
    if (pid !== PID_OWNER && process.above === undefined)
      this.#link(process, parent ?? this.#heirOf(process.identity.ppid));
  }

  /** Forgets a process. */
  remove(process: Process): void {
    this.#unlink(process);
    this.#children.delete(process.pid);
    this.#processes.delete(process.pid);
  }

  /** Gives a process to another parent; the caller has seen that it is not below the process. */
  move(process: Process, to: Pid): void {
    this.#unlink(process);
    process.identity = { ...process.identity, ppid: to };
    this.#link(process, to);
  }

  /** Gives the children of a process that has ended to whom they belong now (F1). */
  adopt(pid: Pid): void {
    const heir = this.#heirOf(this.above(pid));
    for (const child of this.childrenOf(pid)) {
      const process = this.#processes.get(child);
      if (process === undefined) continue;
      this.#unlink(process);
      this.#link(process, heir);
    }
    this.#children.delete(pid);
  }

  /** Whom a process belongs to, whatever has become of that. */
  above(pid: Pid): Pid | undefined {
    return this.#processes.get(pid)?.above;
  }

  /** The process that a process answers to now: its parent, or the nearest above that is alive. */
  parentOf(pid: Pid): Pid | undefined {
    return pid === PID_OWNER ? undefined : this.#heirOf(this.above(pid));
  }

  /** The first of a process and those above it that is alive, or the owner's. */
  #heirOf(pid: Pid | undefined): Pid {
    for (let at = pid; at !== undefined;) {
      const process = this.#processes.get(at);
      if (process?.isAlive === true) return at;
      at = process?.above ?? process?.identity.ppid;
    }
    return PID_OWNER;
  }

  #link(process: Process, parent: Pid): void {
    process.above = parent;
    this.#childrenOf(parent).add(process.pid);
  }

  #unlink(process: Process): void {
    if (process.above !== undefined) this.#children.get(process.above)?.delete(process.pid);
    process.above = undefined;
  }

  childrenOf(pid: Pid): readonly Pid[] {
    return [...(this.#children.get(pid) ?? [])];
  }

  /** Children that have not ended. */
  livingChildrenOf(pid: Pid): readonly Process[] {
    return this.childrenOf(pid)
      .flatMap((child) => this.#processes.get(child) ?? [])
      .filter((child) => !child.hasEnded);
  }

  /** Whether a process is another, or below it. */
  isWithin(pid: Pid, above: Pid): boolean {
    for (let at: Pid | undefined = pid; at !== undefined; at = this.above(at)) if (at === above) return true;
    return false;
  }

  /** A process and everything below it; what has ended may be tried again. */
  branchOf(process: Process): readonly Process[] {
    return this.#walk(process, (pid) => this.childrenOf(pid).toReversed());
  }

  /** The same, each behind all that is below it. */
  bottomUp(process: Process): readonly Process[] {
    return this.#walk(process, (pid) => this.childrenOf(pid)).toReversed();
  }

  /** Each before all that is below it, last children first. A branch may be deeper than a stack. */
  #walk(process: Process, childrenOf: (pid: Pid) => readonly Pid[]): Process[] {
    const branch: Process[] = [];
    const left = [process];
    for (let at = left.pop(); at !== undefined; at = left.pop()) {
      branch.push(at);
      for (const pid of childrenOf(at.pid)) {
        const child = this.#processes.get(pid);
        if (child !== undefined) left.push(child);
      }
    }
    return branch;
  }

  #childrenOf(pid: Pid): Set<Pid> {
    let children = this.#children.get(pid);
    if (children === undefined) this.#children.set(pid, (children = new Set()));
    return children;
  }
}
