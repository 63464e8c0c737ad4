// Values that may be gone at any time, and messages that nobody keeps. What must last is in the metastore.

export type CacheValue = string | Uint8Array;

export interface CacheStore {
  /** Undefined where there is none, or none any more. */
  get(key: string): Promise<CacheValue | undefined>;
  /** Keeps a value, for `ttlMs` milliseconds at most. */
  set(key: string, value: CacheValue, options?: { readonly ttlMs?: number }): Promise<void>;
  /** Whether there was one. */
  delete(key: string): Promise<boolean>;
  /** Tells those who listen to a channel now. */
  publish(channel: string, message: string): Promise<void>;
  /** Hears what is published on a channel from now on; what it gives ends that. */
  subscribe(channel: string, hear: (message: string) => void): Promise<() => Promise<void>>;
  close(): Promise<void>;
}
