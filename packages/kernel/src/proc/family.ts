// The tree of processes: who is here, and who belongs to whom.
//
// F1  A child belongs to its parent until that ends, then to the nearest living ancestor, at last to the owner.
// F2  Nobody ever belongs to itself: who a process belongs to is looked up among its ancestors alone.

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

  /** Adds a process, or puts one in the place of its earlier life. */
  add(process: Process): void {
    this.#processes.set(process.pid, process);
    const above = this.parentOf(process.pid);
    if (above !== undefined) this.#childrenOf(above).add(process.pid);
  }

  /** Forgets a process. */
  remove(process: Process): void {
    for (const parent of [process.identity.ppid, this.parentOf(process.pid), PID_OWNER])
      if (parent !== undefined) this.#children.get(parent)?.delete(process.pid);
    this.#processes.delete(process.pid);
  }

  /** Gives a process to another parent; the caller has seen that it is not below the process. */
  move(process: Process, to: Pid): void {
    const before = this.parentOf(process.pid);
    if (before !== undefined) this.#children.get(before)?.delete(process.pid);
    process.identity = { ...process.identity, ppid: to };
    this.#childrenOf(to).add(process.pid);
  }

  /** Gives the children of a process that has ended to whom they belong now (F1). */
  adopt(pid: Pid, ppid: Pid | undefined): void {
    const orphaned = this.#children.get(pid);
    this.#children.delete(pid);
    if (orphaned === undefined || ppid === undefined) return;
    for (const child of orphaned) this.#childrenOf(this.parentOf(child) ?? PID_OWNER).add(child);
  }

  /** The process that a process belongs to now: its parent, or who has adopted it. */
  parentOf(pid: Pid): Pid | undefined {
    if (pid === PID_OWNER) return undefined;
    for (let at = this.#processes.get(pid)?.identity.ppid; at !== undefined;) {
      const above: Process | undefined = this.#processes.get(at);
      if (above === undefined) break;
      if (above.isAlive) return at;
      at = above.identity.ppid;
    }
    return PID_OWNER;
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

  /** Whether a process is another, or was started by it or by something below it. */
  isWithin(pid: Pid, above: Pid): boolean {
    for (let at: Pid | undefined = pid; at !== undefined; at = this.#processes.get(at)?.identity.ppid)
      if (at === above) return true;
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
