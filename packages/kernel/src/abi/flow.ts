// Pipes and streams: what passes between processes in pieces.

import type { Seq } from "../base/id.ts";

/** What a pipe or a stream is made with. */
export interface FlowSettings {
  /** Of a pipe: bytes that may wait in it; of a shared stream: bytes of its memory (default 1 MiB of both). */
  readonly capacity?: number;
  /** Of a stream: newest entries that are kept at least (default 100,000); older ones are forgotten, some at a time. */
  readonly keep?: number;
  /** Of a stream: milliseconds for which entries are kept (default for ever). */
  readonly keepMs?: number;
  /** Of a stream: it is kept in memory, and is empty after a restart of the host. */
  readonly isVolatile?: boolean;
  /**
   * Of a stream: it is kept in memory that threads of the host share, as much as its `capacity`. The oldest entries give
   * way to new ones, and it is empty after a restart of the host.
   */
  readonly isShared?: boolean;
}

/** One entry of a stream. */
export interface StreamEntry {
  /** Where it is: reading goes on behind it. Entries that were appended together have the same. */
  readonly seq: Seq;
  /** Wall-clock milliseconds. */
  readonly at: number;
  readonly bytes: Uint8Array;
}
