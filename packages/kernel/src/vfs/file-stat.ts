// What `stat` says of what the zone itself keeps, and of virtual files.

import type { FileStat } from "../abi/file.ts";
import { SEQ_ZERO } from "../base/id.ts";
import { type VfsPath, parentOf, toPath } from "../base/path.ts";
import { present } from "../base/present.ts";
import type { Inode } from "./inode.ts";
import type { VirtualNode } from "./provider.ts";

/** @param modified of a directory or a stream it is not an attribute of its own */
export function statOfInode(
  { ino, generation, attributes }: Inode,
  path: VfsPath,
  { zone, modified }: { readonly zone: string; readonly modified: number },
): FileStat {
  const { type, size, version, owner, created, mime, target, mode, lastWriter } = attributes;
  // One of the most frequent calls: no field is looked at twice.
  return {
    path,
    type,
    ...(type === "pipe" || type === "stream" ? {} : { size }),
    generation,
    version,
    owner,
    zone,
    created,
    modified,
    ...(mime === undefined ? {} : { mime }),
    ...(target === undefined ? {} : { target: toPath(target, parentOf(path)), linkText: target }),
    ...(mode === undefined ? {} : { mode }),
    inode: ino,
    ...(lastWriter === undefined ? {} : { lastWriter }),
  };
}

export function statOfNode(node: VirtualNode, path: VfsPath): FileStat {
  const { type, entityType, description, status, target, exec } = node;
  return {
    path,
    type,
    generation: SEQ_ZERO,
    version: 0,
    ...present({
      entityType,
      description,
      status,
      target,
      exec: exec === undefined ? undefined : { inputSchema: exec.inputSchema },
    }),
  };
}
