// Locks around one call of a mount without transactions: whoever changes something there is alone with it, whoever reads
// is with other readers. Held for that call only, by nobody that could wait for something else meanwhile.

import { type VfsPath, parentOf } from "../base/path.ts";
import type { LockOrder } from "./lock-order.ts";
import { LockQueue } from "./lock-queue.ts";

export class PathLocks {
  readonly #queue = new LockQueue();
  readonly #order: LockOrder;

  constructor(order: LockOrder) {
    this.#order = order;
  }

  /** Does something as a reader of a path. */
  read<T>(path: VfsPath, work: () => Promise<T>): Promise<T> {
    return this.#with(path, "shared", work);
  }

  /** Does something alone with a path and all below it. */
  write<T>(path: VfsPath, work: () => Promise<T>): Promise<T> {
    return this.#with(path, "exclusive", work);
  }

  /** Does something alone with two paths, by the directory that holds both: one call never waits for a second lock. */
  writeBoth<T>(one: VfsPath, other: VfsPath, work: () => Promise<T>): Promise<T> {
    let shared: VfsPath = one;
    while (shared !== "/" && shared !== other && !other.startsWith(`${shared}/`)) shared = parentOf(shared);
    return this.write(shared, work);
  }

  #with<T>(path: VfsPath, mode: "shared" | "exclusive", work: () => Promise<T>): Promise<T> {
    const guarded = this.#order.under("path of a mount", path, work);
    const request = { path, mode, room: 1 };
    if (this.#queue.take(request)) return this.#held(path, mode, guarded);
    return new Promise<void>((served) => this.#queue.wait({ ...request, served })).then(() =>
      this.#held(path, mode, guarded),
    );
  }

  async #held<T>(path: VfsPath, mode: "shared" | "exclusive", work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } finally {
      this.#queue.release(path, mode);
    }
  }
}
