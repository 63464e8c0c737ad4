// The object store of a host, guarded: what is being stored is not collected at the same time.
//
// B1  Content that was stored, or stored again, since a given moment is not collected: the commit that names it may be
//     under way.
// B2  Content that leaves while something is being stored is stored again if that was it.

import type { ObjectStore } from "../abi/object-store.ts";
import type { Clock } from "../abi/platform.ts";
import type { ContentId } from "../base/id.ts";

/** How long each of two generations of what was stored is remembered, in milliseconds: at least so far back nothing is forgotten. */
const GENERATION_MS = 3_600_000;

export class Blobs implements ObjectStore {
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  /** When content was last stored, in monotonic milliseconds: lately, and before that. */
  #recent = new Map<ContentId, number>();
  #earlier = new Map<ContentId, number>();
  #recentSince: number;
  /** Since when all that was stored is remembered; what an earlier life of the host stored has its commit, or none. */
  #knownSince = Number.NEGATIVE_INFINITY;
  readonly #leaving = new Map<ContentId, Promise<void>>();
  /** What has left since the oldest of what is being stored began. */
  readonly #left = new Set<ContentId>();
  #storing = 0;

  constructor(store: ObjectStore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
    this.#recentSince = clock.monotonic();
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

  /** Whether content was stored after a moment of the monotonic clock, as far as anybody knows (B1). */
  isNewer(id: ContentId, than: number): boolean {
    const stored = this.#recent.get(id) ?? this.#earlier.get(id);
    return stored === undefined ? than < this.#knownSince : stored >= than;
  }

  /** Content is about to be named once more, by a commit that checks that it is named now. */
  remember(id: ContentId): void {
    const now = this.#clock.monotonic();
    if (now - this.#recentSince > GENERATION_MS) {
      if (this.#earlier.size > 0) this.#knownSince = this.#recentSince;
      this.#earlier = this.#recent;
      this.#recent = new Map();
      this.#recentSince = now;
    }
    this.#recent.set(id, now);
  }
}
