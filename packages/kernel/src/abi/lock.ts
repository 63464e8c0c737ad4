// What locks look like from outside.

import type { Pid } from "../base/id.ts";
import type { VfsPath } from "../base/path.ts";

export const LOCK_MODES = ["exclusive", "shared", "counting"] as const;
export type LockMode = (typeof LOCK_MODES)[number];

export interface LockGrant {
  readonly path: VfsPath;
  readonly lockId: string;
  /** The number of the grant: it rises for ever. Writes may carry it. */
  readonly fence: number;
  /** Milliseconds for which it is held from now on. */
  readonly ttlMs: number;
}

/** Who holds a lock. */
export interface LockHolder extends LockGrant {
  readonly mode: LockMode;
  readonly pid: Pid;
  readonly owner?: string;
  /** Of a counting lock. */
  readonly maxHolders?: number;
  /** Wall-clock milliseconds: when it was granted, and when it ends unless it is extended. */
  readonly at: number;
  readonly expires: number;
  /** Milliseconds until then. */
  readonly leftMs: number;
}

export interface LockInfo {
  readonly path: VfsPath;
  readonly holders: readonly LockHolder[];
  readonly waiting: number;
}
