// Immutable content addressed by its hash. Knowing a content id is no right to read it.

import type { ContentId } from "../base/id.ts";

export interface ObjectStore {
  /** Stores bytes; resolves when they survive what the driver promises. Equal bytes are stored once. */
  put(bytes: Uint8Array): Promise<ContentId>;
  /**
   * Reads a part of the content, into memory that is the caller's from then on; a range beyond its end is cut off.
   * @throws {ENOENT} it is not here
   * @throws {ECORRUPT} a whole read does not match its id
   */
  get(id: ContentId, range?: { readonly offset: number; readonly length: number }): Promise<Uint8Array>;
  /** Size in bytes, or `undefined` when it is not here. */
  size(id: ContentId): Promise<number | undefined>;
  /** Forgets content; what is absent is already forgotten. */
  delete(id: ContentId): Promise<void>;
  /** Ids of all content, in no order; what is stored or forgotten meanwhile may or may not be among them. */
  list(): AsyncIterable<ContentId>;
  close(): Promise<void>;
}
