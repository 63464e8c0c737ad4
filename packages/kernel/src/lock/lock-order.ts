// The order of the kernel's own locks, as LOCKS.md gives it, and its check in a debug build.

import type { HeldLock, LockTrace } from "../abi/platform.ts";
import { KernelError } from "../base/errno.ts";

/** Whoever holds one waits only for those behind it. */
const ORDER = ["directory renames", "inode", "path of a mount"] as const;
export type LockKind = (typeof ORDER)[number];
const rankOf = (kind: string): number => (ORDER as readonly string[]).indexOf(kind);

export class LockOrder {
  readonly #trace: LockTrace | undefined;

  /** @param trace knows who holds what; without it nothing is checked */
  constructor(trace: LockTrace | undefined) {
    this.#trace = trace;
  }

  /**
   * What is done under a lock that is about to be waited for; the lock is let go of when it settles.
   * @throws {EDEADLK} whoever asks holds one of the same kind, or one that stands behind it
   */
  under<T>(kind: LockKind, name: string | number, work: () => Promise<T>): () => Promise<T> {
    const trace = this.#trace;
    if (trace === undefined) return work;
    const holding = this.#held(trace);
    const wrong = holding.find((held) => rankOf(held.kind) >= rankOf(kind));
    if (wrong !== undefined) throw outOfOrder(`${kind} ${name}`, wrong);
    const mine: HeldLock = { kind, name, isHeld: true };
    return () =>
      trace.run([...holding, mine], async () => {
        try {
          return await work();
        } finally {
          mine.isHeld = false;
        }
      });
  }

  /**
   * Whoever waits for somebody else's doing holds nothing.
   * @throws {EDEADLK} it does
   */
  assertFree(what: string): void {
    const [held] = this.#trace === undefined ? [] : this.#held(this.#trace);
    if (held !== undefined) throw outOfOrder(what, held);
  }

  #held(trace: LockTrace): readonly HeldLock[] {
    // What was begun under a lock and goes on behind it does not hold it any more.
    return trace.holding().filter(({ isHeld }) => isHeld);
  }
}

const outOfOrder = (wanted: string, held: HeldLock): KernelError =>
  new KernelError(
    "EDEADLK",
    `${wanted} is waited for by who holds ${held.kind} ${held.name}, against the order of packages/kernel/LOCKS.md`,
  );
