// The object store of a host, guarded: what is being stored is not collected at the same time.
//
// B1  Content that was stored, or stored again, since a given moment is not collected: the commit that names it may be
//     under way.
// B2  Content that leaves while something is being stored is stored again if that was it.

import type { ObjectStore } from "../abi/object-store.ts";
import type { Clock } from "../abi/platform.ts";
import type { ContentId } from "../base/id.ts";

const REMEMBERED_MAX = 10_000;

export class Blobs implements ObjectStore {
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  /** When content was last stored, oldest first, in monotonic milliseconds. */
  readonly #stored = new Map<ContentId, number>();
  /** When the newest was stored that is not remembered; what an earlier life of the host stored has its commit, or none. */
  #forgotten = Number.NEGATIVE_INFINITY;
  readonly #leaving = new Map<ContentId, Promise<void>>();
  /** What has left since the oldest of what is being stored began. */
  readonly #left = new Set<ContentId>();
  #storing = 0;

  constructor(store: ObjectStore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  async put(bytes: Uint8Array): Promise<ContentId> {
    this.#storing++;
    try {
      // Which content it is is known only afterwards.
      const id = await this.#store.put(bytes);
      this.remember(id);
      await this.#leaving.get(id);
      if (this.#left.has(id)) await this.#store.put(bytes);
      return id;
    } finally {
      if (--this.#storing === 0) this.#left.clear();
    }
  }

  get(id: ContentId, range?: { readonly offset: number; readonly length: number }): Promise<Uint8Array> {
    return this.#store.get(id, range);
  }

  size(id: ContentId): Promise<number | undefined> {
    return this.#store.size(id);
  }

  list(): AsyncIterable<ContentId> {
    return this.#store.list();
  }

  delete(id: ContentId): Promise<void> {
    const leaving = this.#store.delete(id).finally(() => {
      this.#leaving.delete(id);
      if (this.#storing > 0) this.#left.add(id);
    });
    this.#leaving.set(id, leaving);
    return leaving;
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  /** Whether content was stored after a moment of the monotonic clock (B1). */
  isNewer(id: ContentId, than: number): boolean {
    return (this.#stored.get(id) ?? this.#forgotten) >= than;
  }

  /** Content is about to be named once more, by a commit that checks that it is named now. */
  remember(id: ContentId): void {
    // Behind those that were stored before it.
    this.#stored.delete(id);
    this.#stored.set(id, this.#clock.monotonic());
    if (this.#stored.size <= REMEMBERED_MAX) return;
    const [oldest] = this.#stored;
    if (oldest === undefined) return;
    this.#stored.delete(oldest[0]);
    this.#forgotten = oldest[1];
  }
}
