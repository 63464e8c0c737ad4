// The tree of processes: who is here, and who belongs to whom.
//
// F1  A child belongs to its parent until that ends, then to the nearest living ancestor, at last to the owner.
// F2  Nobody ever belongs to itself: it goes to its ancestors alone, or to whom it was given and who is not below it.

import { PID_OWNER, type Pid } from "../base/id.ts";
import type { Process } from "./process.ts";

export class Family {
  readonly #processes = new Map<Pid, Process>();
  readonly #children = new Map<Pid, Set<Pid>>();
  /** Whom each belongs to. */
  readonly #parents = new Map<Pid, Pid>();
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
    this.#processes.set(pid, process);
    if (pid !== PID_OWNER && !this.#parents.has(pid)) this.#link(pid, parent ?? this.#heirOf(process.identity.ppid));
  }

  /** Forgets a process. */
  remove({ pid }: Process): void {
    this.#unlink(pid);
    this.#children.delete(pid);
    this.#processes.delete(pid);
  }

  /** Gives a process to another parent; the caller has seen that it is not below the process. */
  move(process: Process, to: Pid): void {
    this.#unlink(process.pid);
    process.identity = { ...process.identity, ppid: to };
    this.#link(process.pid, to);
  }

  /** Gives the children of a process that has ended to whom they belong now (F1). */
  adopt(pid: Pid): void {
    const heir = this.#heirOf(this.#parents.get(pid));
    for (const child of this.childrenOf(pid)) {
      this.#unlink(child);
      this.#link(child, heir);
    }
    this.#children.delete(pid);
  }

  /** Whom a process belongs to, whatever has become of that. */
  above(pid: Pid): Pid | undefined {
    return this.#parents.get(pid);
  }

  /** The process that a process answers to now: its parent, or the nearest above that is alive. */
  parentOf(pid: Pid): Pid | undefined {
    return pid === PID_OWNER ? undefined : this.#heirOf(this.#parents.get(pid));
  }

  /** The first of a process and those above it that is alive, or the owner's. */
  #heirOf(pid: Pid | undefined): Pid {
    for (let at = pid; at !== undefined;) {
      const process = this.#processes.get(at);
      if (process?.isAlive === true) return at;
      at = this.#parents.get(at) ?? process?.identity.ppid;
    }
    return PID_OWNER;
  }

  #link(pid: Pid, parent: Pid): void {
    this.#parents.set(pid, parent);
    this.#childrenOf(parent).add(pid);
  }

  #unlink(pid: Pid): void {
    const parent = this.#parents.get(pid);
    if (parent !== undefined) this.#children.get(parent)?.delete(pid);
    this.#parents.delete(pid);
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
    for (let at: Pid | undefined = pid; at !== undefined; at = this.#parents.get(at)) if (at === above) return true;
    return false;
  }

  /** A process and everything below it; what has ended may be tried again. */
  branchOf(process: Process): readonly Process[] {
    const below = this.childrenOf(process.pid).flatMap((pid) => this.#processes.get(pid) ?? []);
    return [process, ...below.flatMap((child) => this.branchOf(child))];
  }

  #childrenOf(pid: Pid): Set<Pid> {
    let children = this.#children.get(pid);
    if (children === undefined) this.#children.set(pid, (children = new Set()));
    return children;
  }
}
