// What a handle is of: a file of the zone, wherever it is by now, or a path of a mounted or virtual tree, whose files
// have no other identity.

import { KernelError } from "../base/errno.ts";
import type { VfsPath } from "../base/path.ts";
import type { Inode } from "./inode.ts";
import type { Located } from "./namespace.ts";
import { lostRace } from "./path-error.ts";

type HeldPath = Located & { readonly kind: "foreign" | "virtual" };

export type Held = Inode | HeldPath;

export const isPath = (held: Held): held is HeldPath => "kind" in held;

/** Bytes that are known to be in it; of a path nobody knows before asking. */
export const sizeOfHeld = (held: Held | undefined): number =>
  held === undefined || isPath(held) ? 0 : held.attributes.size;

/** Counts a handle of what was found at a path. */
export function pin({ inode, path }: Located & { readonly kind: "inode" }): Inode {
  if (inode.evicted || !inode.linked) throw lostRace(path);
  if (inode.attributes.type === "directory") throw noHandle(path);
  inode.handles++;
  return inode;
}

export const noHandle = (path: VfsPath): KernelError =>
  new KernelError("EISDIR", `${path} is a directory; handles are for files`, { path });
