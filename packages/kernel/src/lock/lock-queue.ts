// Who holds what, and who waits for it in which order. Knows nothing of time or of a store.
//
// Q1  Whoever came first is served first among those that exclude each other; a newcomer never passes one that waits.
// Q2  A release serves everybody that it makes room for, at once.

import type { LockMode } from "../abi/lock.ts";
import type { VfsPath } from "../base/path.ts";
import { LockTree, ancestorsOf } from "./lock-tree.ts";

export interface LockRequest {
  readonly path: VfsPath;
  readonly mode: LockMode;
  /** Counting holders that there may be at the path. */
  readonly room: number;
}

export interface LockWaiter extends LockRequest {
  /** It holds the lock now. */
  served(): void;
}

interface Waiting {
  readonly ticket: number;
  readonly waiter: LockWaiter;
}

export class LockQueue {
  readonly #held = new LockTree();
  readonly #wanted = new LockTree();
  /** Those that wait, by path, the first one first. */
  readonly #waiting = new Map<string, Waiting[]>();
  readonly #tickets = new Map<LockRequest, number>();
  #next = 1;

  /** How many wait. */
  get size(): number {
    return this.#tickets.size;
  }

  /** Takes a lock if nobody is in the way, or waits before (Q1). */
  take({ path, mode, room }: LockRequest): boolean {
    if (this.#held.conflicts(path, mode, room)) return false;
    if (this.#tickets.size > 0 && this.#wanted.conflicts(path, mode, 1)) return false;
    this.#held.add(path, mode);
    return true;
  }

  /** Notes what is held from before. */
  hold(path: VfsPath, mode: LockMode): void {
    this.#held.add(path, mode);
  }

  wait(waiter: LockWaiter): void {
    const queue = this.#waiting.get(waiter.path);
    const waiting = { ticket: this.#next++, waiter };
    this.#tickets.set(waiter, waiting.ticket);
    if (queue === undefined) this.#waiting.set(waiter.path, [waiting]);
    else queue.push(waiting);
    this.#wanted.add(waiter.path, waiter.mode);
  }

  /** Gives waiting up; whoever waited behind it may be served. */
  leave(waiter: LockWaiter): void {
    const ticket = this.#tickets.get(waiter);
    if (ticket === undefined) return;
    const queue = this.#waiting.get(waiter.path) ?? [];
    const at = firstFrom(queue, ticket);
    this.#remove(queue, at);
    this.#serve(waiter.path);
  }

  release(path: VfsPath, mode: LockMode): void {
    this.#held.remove(path, mode);
    if (this.size > 0) this.#serve(path);
  }

  countAt(path: VfsPath): number {
    return this.#waiting.get(path)?.length ?? 0;
  }

  /** Whether somebody holds something below a path. */
  isHeldBelow(path: VfsPath): boolean {
    return this.#held.countBelow(path) > 0;
  }

  /**
   * Those that wait and that a newcomer, or one that waits too, may not pass.
   * @param seen up to which ticket others of a kind have been told before, by path: they are not told again
   */
  *aheadOf(request: LockRequest, seen?: Map<string, number>): Generator<LockWaiter, void, undefined> {
    const own = this.#tickets.get(request) ?? this.#next;
    for (const path of this.#pathsAround(request.path)) {
      const queue = this.#waiting.get(path) ?? [];
      const key = `${request.mode} ${path}`;
      const from = seen?.get(key) ?? 0;
      if (from < own) seen?.set(key, own);
      for (let at = firstFrom(queue, from); at < queue.length; at++) {
        const next = queue[at];
        if (next === undefined || next.ticket >= own) break;
        if (excludes(next.waiter, request)) yield next.waiter;
      }
    }
  }

  #remove(queue: Waiting[], at: number): void {
    const [gone] = queue.splice(at, 1);
    if (gone === undefined) return;
    if (queue.length === 0) this.#waiting.delete(gone.waiter.path);
    this.#wanted.remove(gone.waiter.path, gone.waiter.mode);
    this.#tickets.delete(gone.waiter);
  }

  /** Serves those around a path in the order in which they came, as far as there is room. */
  #serve(around: VfsPath): void {
    const open = new Set(this.#pathsAround(around));
    for (;;) {
      let first: Waiting[] | undefined;
      for (const path of open) {
        const queue = this.#waiting.get(path);
        if (queue === undefined) open.delete(path);
        else if (first === undefined || (queue[0]?.ticket ?? 0) < (first[0]?.ticket ?? 0)) first = queue;
      }
      const head = first?.[0]?.waiter;
      if (first === undefined || head === undefined) return;
      if (this.#held.conflicts(head.path, head.mode, head.room) || this.aheadOf(head).next().done !== true) {
        // Whoever came later to this path waits behind it.
        open.delete(head.path);
        continue;
      }
      this.#remove(first, 0);
      this.#held.add(head.path, head.mode);
      head.served();
    }
  }

  /** Paths at which somebody waits: a path, those above it and those below it. */
  #pathsAround(path: VfsPath): readonly string[] {
    const found = [path, ...ancestorsOf(path)].filter((one) => this.#waiting.has(one));
    if (this.#wanted.countBelow(path) > 0) {
      const below = path === "/" ? "/" : `${path}/`;
      for (const one of this.#waiting.keys()) if (one.startsWith(below) && one !== path) found.push(one);
    }
    return found;
  }
}

/** Where those with a ticket, or a later one, begin. */
function firstFrom(queue: readonly Waiting[], ticket: number): number {
  let [low, high] = [0, queue.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((queue[middle]?.ticket ?? 0) >= ticket) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Whether two, at the same path or one above the other, cannot hold at the same time. */
export function excludes(one: LockRequest, other: LockRequest): boolean {
  if (one.mode === "exclusive" || other.mode === "exclusive") return true;
  return one.path === other.path && one.mode !== other.mode;
}
