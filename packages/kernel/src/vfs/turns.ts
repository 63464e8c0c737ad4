// Mutations of inodes, one after the other.

import type { LockOrder } from "../lock/lock-order.ts";
import type { Inode } from "./inode.ts";

/** Runs mutations of one inode one after the other, in the order of their calls. */
export class Turns {
  readonly #order: LockOrder;

  constructor(order: LockOrder) {
    this.#order = order;
  }

  of<T>(inode: Inode, work: () => Promise<T>): Promise<T> {
    return queue(inode, this.#order.under("inode", inode.ino, work));
  }

  /** Does something while nobody else changes any of some inodes: it queues for all of them in one step. */
  ofAll(inodes: readonly Inode[], work: () => Promise<void>): Promise<void> {
    const { promise: go, resolve: open } = Promise.withResolvers<void>();
    const { promise: over, resolve: close } = Promise.withResolvers<void>();
    const guarded = this.#order.under("inode", inodes.map(({ ino }) => ino).join(" and "), work);
    let waiting = inodes.length;
    const entered = inodes.map((inode) =>
      queue(inode, () => {
        if (--waiting === 0) open();
        return over;
      }),
    );
    if (waiting === 0) open();
    return go.then(guarded).finally(() => {
      close();
      void Promise.all(entered);
    });
  }

  /** Lets whoever changes an inode wait for something that is under way and fails by itself. */
  after(inode: Inode, underWay: Promise<unknown>): void {
    void queue(inode, () => underWay.then(() => undefined)).catch(() => undefined);
  }
}

function queue<T>(inode: Inode, work: () => Promise<T>): Promise<T> {
  const before = inode.tail;
  const turn = before === undefined ? work() : before.then(work, work);
  const mine: Promise<unknown> = turn.then(
    () => void (inode.tail === mine && (inode.tail = undefined)),
    () => void (inode.tail === mine && (inode.tail = undefined)),
  );
  inode.tail = mine;
  return turn;
}
