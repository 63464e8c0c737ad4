// Caches: one in memory, and one that keeps nothing.

import { type CacheStore, type CacheValue, KernelError, LIMITS } from "@ergos/kernel";

export interface MemoryCacheOptions {
  /** Bytes of keys and values; what was used longest ago makes room. */
  readonly bytesMax?: number;
  /** Milliseconds of a clock that only goes on. */
  readonly now?: () => number;
}

interface Kept {
  readonly value: CacheValue;
  readonly bytes: number;
  /** When it is gone. */
  readonly until: number;
}

export class MemoryCacheStore implements CacheStore {
  readonly #bytesMax: number;
  readonly #now: () => number;
  /** The one used longest ago first. */
  readonly #kept = new Map<string, Kept>();
  #bytes = 0;
  readonly #listening = new Map<string, Set<(message: string) => void>>();

  constructor(options: MemoryCacheOptions = {}) {
    this.#bytesMax = options.bytesMax ?? LIMITS.cacheBytes;
    this.#now = options.now ?? (() => performance.now());
  }

  async get(key: string): Promise<CacheValue | undefined> {
    const kept = this.#kept.get(key);
    if (kept === undefined) return undefined;
    this.#remove(key);
    if (kept.until <= this.#now()) return undefined;
    this.#add(key, kept);
    return copyOf(kept.value);
  }

  async set(key: string, value: CacheValue, options: { readonly ttlMs?: number } = {}): Promise<void> {
    const { ttlMs = Number.POSITIVE_INFINITY } = options;
    assertTtl(ttlMs);
    this.#remove(key);
    const bytes = 2 * key.length + (typeof value === "string" ? 2 * value.length : value.length);
    if (bytes > this.#bytesMax) return;
    this.#add(key, { value: copyOf(value), bytes, until: this.#now() + ttlMs });
    for (const oldest of this.#kept.keys()) {
      if (this.#bytes <= this.#bytesMax) return;
      this.#remove(oldest);
    }
  }

  async delete(key: string): Promise<boolean> {
    return (this.#remove(key)?.until ?? 0) > this.#now();
  }

  async publish(channel: string, message: string): Promise<void> {
    for (const hear of this.#listening.get(channel) ?? []) {
      try {
        hear(message);
      } catch {
        // Others hear it all the same.
      }
    }
  }

  async subscribe(channel: string, hear: (message: string) => void): Promise<() => Promise<void>> {
    const listening = this.#listening.get(channel) ?? new Set();
    // Two that listen with one function are two.
    const own = (message: string): void => hear(message);
    this.#listening.set(channel, listening.add(own));
    return async () => {
      listening.delete(own);
      if (listening.size === 0 && this.#listening.get(channel) === listening) this.#listening.delete(channel);
    };
  }

  async close(): Promise<void> {
    this.#kept.clear();
    this.#listening.clear();
    this.#bytes = 0;
  }

  #add(key: string, kept: Kept): void {
    this.#kept.set(key, kept);
    this.#bytes += kept.bytes;
  }

  #remove(key: string): Kept | undefined {
    const kept = this.#kept.get(key);
    if (kept === undefined) return undefined;
    this.#kept.delete(key);
    this.#bytes -= kept.bytes;
    return kept;
  }
}

/** Keeps nothing and tells nobody: the default where a cache is not worth its memory. */
export class NullCacheStore implements CacheStore {
  get(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  async set(_key: string, _value: CacheValue, options: { readonly ttlMs?: number } = {}): Promise<void> {
    assertTtl(options.ttlMs ?? 1);
  }

  delete(): Promise<boolean> {
    return Promise.resolve(false);
  }

  publish(): Promise<void> {
    return Promise.resolve();
  }

  subscribe(): Promise<() => Promise<void>> {
    return Promise.resolve(() => Promise.resolve());
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

const copyOf = (value: CacheValue): CacheValue => (typeof value === "string" ? value : Uint8Array.from(value));

function assertTtl(ttlMs: number): void {
  if (!(ttlMs > 0))
    throw new KernelError("EINVAL", `a time to live is a number of milliseconds above 0, found ${ttlMs}`);
}
