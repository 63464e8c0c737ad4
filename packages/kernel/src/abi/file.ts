// What files look like from outside.

import type { ContentId, Seq } from "../base/id.ts";
import type { VfsPath } from "../base/path.ts";
import type { Hook } from "./hook.ts";
import type { LockInfo } from "./lock.ts";
import type { Schema } from "../base/schema.ts";

export const ENTRY_TYPES = ["file", "directory", "mount", "pipe", "stream", "link", "external"] as const;
export type EntryType = (typeof ENTRY_TYPES)[number];

export interface FileStat {
  readonly path: VfsPath;
  readonly type: EntryType;
  /** What a virtual entry stands for: process, model, mount, … */
  readonly entityType?: string;
  readonly description?: string;
  readonly status?: string;
  /** Entries of a virtual directory, where they are known without looking through a store. */
  readonly childCount?: number;
  /** What can be done with a virtual entry, by who may. */
  readonly capabilities?: readonly ("list" | "read" | "write" | "exec")[];
  /** Facts about it, as the effect of a tool or the role of a process. */
  readonly tags?: Readonly<Record<string, string>>;
  /** Bytes; absent where it is known only by reading. */
  readonly size?: number;
  /** Position of the commit that last wrote the content; 0 on mounts without transactions. */
  readonly generation: Seq;
  /** Count of content writes. */
  readonly version: number;
  readonly contentId?: ContentId;
  readonly mime?: string;
  readonly owner?: string;
  /** The partition of the data that holds it; absent where that is not the zone's own. */
  readonly zone?: string;
  /** Wall-clock milliseconds. */
  readonly created?: number;
  readonly modified?: number;
  /** Where a link leads, and how that was written. */
  readonly target?: VfsPath;
  readonly linkText?: string;
  /** Number of the file in its zone: the same under a new name. */
  readonly inode?: number;
  /** Permission bits, as somebody has set them; rights do not look at them. */
  readonly mode?: number;
  readonly lastWriter?: number;
  /** Who holds a lock of exactly this path; only when it was asked for. */
  readonly lock?: LockInfo;
  /** What `exec` of this path takes and gives. */
  readonly exec?: { readonly inputSchema: Schema; readonly outputSchema?: Schema };
}

export interface DirEntry {
  readonly name: string;
  readonly type: EntryType;
}

export interface WriteOptions {
  readonly offset?: number;
  /** `never` (default): the file must exist. `maybe`: create it if absent. `must`: it must be absent. */
  readonly create?: "never" | "maybe" | "must";
  /** Write only if the file's generation is still this one. */
  readonly ifGeneration?: Seq;
  readonly durability?: "committed" | "flushed";
  /**
   * `strong` (default): all hosts of the zone decide it in one order. `eventual`: this host decides alone and the others
   * follow. Where a zone has one host both are the same.
   */
  readonly consistency?: "strong" | "eventual";
  readonly mime?: string;
  /** Number of a lock's grant: written only while that is held. */
  readonly fence?: number;
}

export interface WriteResult {
  readonly generation: Seq;
  readonly size: number;
}

/**
 * A tree whose content is not the zone's: a folder of the machine, a bucket. Paths are relative to the
 * mount, normalised, and begin with `/`.
 */
export interface MountDriver {
  readonly name: string;
  /** What is mounted, for people and to recognise it: the folder's path, the bucket. */
  readonly source: string;
  readonly readOnly: boolean;
  /**
   * What a path is. The generation of a file is another one after each change of its content, and `write` holds
   * `ifGeneration` against it; one that is 0 says that this driver has none, and such a write is `ENOTSUP`. With
   * `noFollow` a link is told of itself, whether or not it would be followed.
   */
  stat(path: VfsPath, options?: { readonly noFollow?: boolean }): Promise<Omit<FileStat, "path"> | undefined>;
  readdir(path: VfsPath): Promise<readonly DirEntry[]>;
  read(path: VfsPath, range: { readonly offset: number; readonly length: number }): Promise<Uint8Array>;
  write(path: VfsPath, bytes: Uint8Array, options: WriteOptions): Promise<WriteResult>;
  /** Adds at the end, whoever else does at the same time. */
  append(path: VfsPath, bytes: Uint8Array, options: WriteOptions): Promise<WriteResult>;
  /** Cuts a file off, or fills it with zeros up to a size. */
  truncate(path: VfsPath, size: number): Promise<WriteResult>;
  mkdir(path: VfsPath): Promise<void>;
  unlink(path: VfsPath): Promise<void>;
  rename(from: VfsPath, to: VfsPath): Promise<void>;
  /** It is in the namespace now: opens what it needs. What it throws ends the mount. */
  mounted?(at: VfsPath): unknown;
  /** It is about to leave: nothing new is asked of it, and nothing is under way. */
  unmounting?(at: VfsPath): unknown;
  /** Hooks that are in the host for as long as it is mounted. */
  hookSpec?(): readonly Hook[];
  close(): Promise<void>;
}
