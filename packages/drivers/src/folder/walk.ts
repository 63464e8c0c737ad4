// Walks a path below a folder without ever leaving it, also while somebody swaps links underneath.
//
// Each step opens the next name relative to the directory that is already open (through `/proc/self/fd`,
// which is openat(2) for Node) and refuses to follow a link there. A link is read and walked by ourselves,
// within the folder. So there is no moment between a check and its use.

import { constants } from "node:fs";
import { type FileHandle, open, readlink } from "node:fs/promises";
import { KernelError, LIMITS, type VfsPath, segmentsOf } from "@ergos/kernel";
import { translate } from "./error.ts";

/** O_PATH names a file without opening it: it works on links, pipes and files that cannot be read. */
const O_PATH = 0o10000000;
const AS_DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** The folder that is mounted. */
export interface Root {
  readonly handle: FileHandle;
  /** Rights are checked on the path that was asked for: only who trusts the folder's links lets them be followed. */
  readonly followsLinks: boolean;
}

/** A name in an open directory. */
export interface Spot {
  readonly directory: FileHandle;
  /** Empty for the folder itself. */
  readonly name: string;
}

export const pathOf = ({ directory, name }: Spot): string =>
  `/proc/self/fd/${directory.fd}${name === "" ? "" : `/${name}`}`;

/** Runs `work` on the spot that a path leads to, with links on the way (and at its end, if `follow`) resolved. */
export async function withSpot<T>(
  root: Root,
  path: VfsPath,
  follow: boolean,
  work: (spot: Spot) => Promise<T>,
): Promise<T> {
  const opened: FileHandle[] = [];
  try {
    return await work(await walk(root, path, follow, opened));
  } catch (error) {
    throw translate(error, path);
  } finally {
    await Promise.all(opened.map((handle) => handle.close()));
  }
}

async function walk(
  { handle: root, followsLinks }: Root,
  path: VfsPath,
  follow: boolean,
  opened: FileHandle[],
): Promise<Spot> {
  const stack: FileHandle[] = [root];
  const todo = segmentsOf(path);
  for (let hops = 0; ;) {
    const name = todo.shift();
    const directory = stack.at(-1) ?? root;
    if (name === undefined) return { directory, name: "" };
    if (name === "." || name === "") continue;
    if (name === "..") {
      if (stack.length === 1) throw escapes(path);
      stack.pop();
      continue;
    }
    const spot = { directory, name };
    if (todo.length === 0 && !follow) return spot;
    const target = await targetOf(spot, todo.length === 0);
    if (target !== undefined && !followsLinks) throw linked(path);
    if (target !== undefined) {
      if (++hops > LIMITS.linkHopsMax)
        throw new KernelError("ELOOP", `more than ${LIMITS.linkHopsMax} links on the way`, { path });
      if (target.startsWith("/")) throw escapes(path);
      todo.unshift(...target.split("/"));
    } else if (todo.length === 0) {
      return spot;
    } else {
      const next = await open(pathOf(spot), AS_DIRECTORY);
      opened.push(next);
      stack.push(next);
    }
  }
}

/** Where a link points; `undefined` when the name is no link, or, at the end of a path, when there is nothing yet. */
async function targetOf(spot: Spot, isLast: boolean): Promise<string | undefined> {
  try {
    return await readlink(pathOf(spot));
  } catch (error) {
    const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
    if (code === "EINVAL" || (code === "ENOENT" && isLast)) return undefined;
    throw error;
  }
}

/** Opens the last name itself; a link that was put there meanwhile is refused. */
export const openSpot = (spot: Spot, flags: number, mode?: number): Promise<FileHandle> =>
  open(pathOf(spot), spot.name === "" ? flags : flags | constants.O_NOFOLLOW, mode);

/** Names the last name without opening it. */
export const nameSpot = (spot: Spot): Promise<FileHandle> => openSpot(spot, O_PATH);

const linked = (path: string): KernelError =>
  new KernelError(
    "ELOOP",
    `${path} is or passes a link, and links of this folder are not followed; mount its target, or mount with followLinks`,
    { path },
  );

const escapes = (path: string): KernelError =>
  new KernelError("EACCES", `a link at ${path} leads out of the mounted folder; it is not followed`, { path });
