// What `stat` says of what the zone itself keeps, and of virtual files.

import type { FileStat } from "../abi/file.ts";
import { type Pid, SEQ_ZERO } from "../base/id.ts";
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

export function statOfNode(node: VirtualNode, path: VfsPath, viewer: Pid): FileStat | Promise<FileStat> {
  const entries = node.isLong === true ? undefined : node.list?.(viewer);
  if (entries instanceof Promise) return entries.then((found) => statWith(node, path, found.length));
  return statWith(node, path, entries?.length);
}

function statWith(node: VirtualNode, path: VfsPath, childCount: number | undefined): FileStat {
  const { type, entityType, description, status, target, exec, tags } = node;
  const capabilities = capabilitiesOf(node);
  return {
    path,
    type,
    generation: SEQ_ZERO,
    version: 0,
    ...present({
      entityType,
      description,
      status,
      childCount,
      capabilities: capabilities.length === 0 ? undefined : capabilities,
      tags,
      target,
      exec: exec === undefined ? undefined : { inputSchema: exec.inputSchema },
    }),
  };
}

function capabilitiesOf({ list, text, json, bytes, write, exec }: VirtualNode): NonNullable<FileStat["capabilities"]> {
  return [
    ...(list === undefined ? [] : (["list"] as const)),
    ...((text ?? json ?? bytes) === undefined ? [] : (["read"] as const)),
    ...(write === undefined ? [] : (["write"] as const)),
    ...(exec === undefined ? [] : (["exec"] as const)),
  ];
}
