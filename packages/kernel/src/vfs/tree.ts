// Trees of files as wholes: read at one go, compared, copied without their content, and brought from one state to another.
//
// T1  What is done with a tree is one commit that checks the version of everything it was decided on: others see all of it
//     or nothing, and it was the tree's state at one moment.
// T2  A copy shares its content. Each file remembers what it was copied from, so that comparing reads no content that
//     nobody has changed.

import { entriesOf } from "../abi/entries.ts";
import type { EntryType } from "../abi/file.ts";
import type { Batch, Metastore } from "../abi/metastore.ts";
import type { Platform } from "../abi/platform.ts";
import { KernelError } from "../base/errno.ts";
import { type Ino, type Seq, SEQ_ZERO } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { PendingEvent } from "../ipc/event-bus.ts";
import type { Blobs } from "./blobs.ts";
import { type Extent, encodeExtent, extentKey, loadExtents, readExtents } from "./extent.ts";
import {
  type Attributes,
  childCountKey,
  decodeDirent,
  decodeInode,
  decodeName,
  encodeDirent,
  encodeInode,
  entriesKey,
  inodeKey,
  nameKey,
  orphanKey,
  streamLog,
} from "./inode.ts";

/** One entry of a tree, with the versions that it was read at. */
export interface TreeNode {
  /** From the top, which is `""`, as `a/b`. */
  readonly path: string;
  readonly ino: Ino;
  readonly attributes: Attributes;
  readonly generation: Seq;
  readonly version: Seq;
  /** The name that leads to it; the top has none here. */
  readonly name: { readonly key: string; readonly version: Seq } | undefined;
  /** Of the count of a directory's entries. */
  readonly countVersion: Seq;
}
export type Tree = ReadonlyMap<string, TreeNode>;

/** What is different at a path. Something that became of another type is removed and added. */
export interface TreeChange {
  readonly path: string;
  readonly kind: "added" | "removed" | "changed";
  readonly type: EntryType;
  /** Bytes of it now, or before it was removed. */
  readonly size: number;
}

type Version = NonNullable<Batch["checks"]>[number];

/** Inline content of all files of one commit; what is beyond goes to the object store. */
const INLINE_MAX = 4 * 1024 * 1024;

export interface TreeParts {
  readonly store: Metastore;
  readonly blobs: Blobs;
  readonly platform: Platform;
}

/** Reads a tree from its top. */
export async function loadTree(store: Metastore, top: Ino): Promise<Tree> {
  const nodes = new Map<string, TreeNode>();
  const pending: { readonly path: string; readonly ino: Ino; readonly name: TreeNode["name"] }[] = [
    { path: "", ino: top, name: undefined },
  ];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { path, ino, name } = next;
    const entry = await store.get(inodeKey(ino));
    // It was removed while the tree was read; what is decided on the rest will be refused.
    if (entry === undefined) continue;
    const { attributes, generation } = decodeInode(ino, entry);
    const isDirectory = attributes.type === "directory";
    const count = isDirectory ? await store.get(childCountKey(ino)) : undefined;
    const node = { path, ino, attributes, generation, version: entry.version, name };
    nodes.set(path, { ...node, countVersion: count?.version ?? SEQ_ZERO });
    if (nodes.size > LIMITS.treeNodesMax)
      throw new KernelError("E2BIG", `a tree of more than ${LIMITS.treeNodesMax} entries; take a part of it`);
    if (!isDirectory) continue;
    for await (const { key, value, version } of entriesOf(store, `n/${ino}/`)) {
      const below = path === "" ? decodeName(key) : `${path}/${decodeName(key)}`;
      pending.push({ path: below, ino: decodeDirent(value).ino, name: { key, version } });
    }
  }
  return nodes;
}

/** Versions that must still hold for a tree to be as it was read (T1). */
export function checksOf(tree: Tree): readonly Version[] {
  return [...tree.values()].flatMap(({ ino, attributes, version, name, countVersion }) => [
    { key: inodeKey(ino), version },
    ...(name === undefined ? [] : [name]),
    ...(attributes.type === "directory" ? [{ key: childCountKey(ino), version: countVersion }] : []),
  ]);
}

/** What must be done to the first tree to make it like the second, by path. */
export async function diffTrees(parts: TreeParts, from: Tree, to: Tree): Promise<readonly TreeChange[]> {
  const changes: TreeChange[] = [];
  const say = (kind: TreeChange["kind"], { path, attributes: { type, size } }: TreeNode): void =>
    void changes.push({ path, kind, type, size });
  for (const node of to.values()) {
    const before = from.get(node.path);
    if (before === undefined) say("added", node);
    else if (before.attributes.type !== node.attributes.type) {
      say("removed", before);
      say("added", node);
    } else if (!(await isSame(parts, before, node))) say("changed", node);
  }
  for (const node of from.values()) if (!to.has(node.path)) say("removed", node);
  return changes.sort((one, two) =>
    one.path < two.path ? -1 : one.path > two.path ? 1 : one.kind === "removed" ? -1 : 1,
  );
}

async function isSame(parts: TreeParts, one: TreeNode, two: TreeNode): Promise<boolean> {
  const { type, mode, target, mime, extended } = one.attributes;
  const other = two.attributes;
  if (mode !== other.mode || target !== other.target || mime !== other.mime || !isLike(extended, other.extended))
    return false;
  if (type !== "file" || one.ino === two.ino) return type !== "file" || one.generation === two.generation;
  if (one.attributes.size !== two.attributes.size) return false;
  if (isCopyOf(one, two) || isCopyOf(two, one) || areTwins(one, two)) return true;
  const [first, second] = [await loadExtents(parts.store, one.ino), await loadExtents(parts.store, two.ino)];
  if (first.every(({ content }, at) => typeof content === "string" && content === second[at]?.content)) return true;
  const range = { offset: 0, length: COMPARED };
  for (; range.offset < one.attributes.size; range.offset += COMPARED) {
    const length = Math.min(COMPARED, one.attributes.size - range.offset);
    const wanted = { offset: range.offset, length };
    const a = await readExtents(first, wanted, parts.blobs, parts.platform);
    const b = await readExtents(second, wanted, parts.blobs, parts.platform);
    if (!a.every((byte, at) => byte === b[at])) return false;
  }
  return true;
}

const isLike = (one: Attributes["extended"] = {}, two: Attributes["extended"] = {}): boolean => {
  const names = Object.keys(one);
  return names.length === Object.keys(two).length && names.every((name) => one[name] === two[name]);
};

/** Bytes that are compared at a time. */
const COMPARED = 4 * 1024 * 1024;

/** Whether one was copied from the other as that is now, and nobody has written to it since (T2). */
const isCopyOf = ({ attributes: { origin, version } }: TreeNode, { ino, generation }: TreeNode): boolean =>
  origin !== undefined && origin.version === version && origin.ino === ino && origin.generation === generation;

const areTwins = ({ attributes: one }: TreeNode, { attributes: two }: TreeNode): boolean =>
  one.origin !== undefined &&
  one.origin.version === one.version &&
  two.origin?.version === two.version &&
  one.origin.ino === two.origin.ino &&
  one.origin.generation === two.origin.generation;

/** What an inode in memory becomes with a commit. */
export interface Followed {
  readonly attributes: Attributes;
  readonly extents: readonly Extent[] | undefined;
}

/** A commit about trees that is being put together; each key stands in it once. */
export class TreeBatch {
  readonly #parts: TreeParts;
  readonly #takeIno: () => Ino;
  readonly #checks = new Map<string, Seq>();
  readonly #puts = new Map<string, string | Uint8Array>();
  readonly #deletes = new Set<string>();
  readonly #logs = new Set<string>();
  readonly #counts = new Map<string, number>();
  readonly #directories = new Set<Ino>();
  readonly #made = new Set<Ino>();
  readonly events: PendingEvent[] = [];
  #inline = 0;

  constructor(parts: TreeParts, takeIno: () => Ino) {
    this.#parts = parts;
    this.#takeIno = takeIno;
  }

  check(checks: readonly Version[]): void {
    for (const { key, version } of checks) this.#checks.set(key, version);
  }

  /** Gives a directory an entry; `replaces` is the version of the name that stands there. */
  name(directory: Ino, name: string, ino: Ino, type: EntryType, replaces: Seq = SEQ_ZERO): void {
    const key = nameKey(directory, name);
    this.#deletes.delete(key);
    this.#puts.set(key, encodeDirent(ino, type));
    if (!this.#checks.has(key)) this.#checks.set(key, replaces);
    this.count(directory, 1);
  }

  count(directory: Ino, delta: number): void {
    const key = childCountKey(directory);
    this.#directories.add(directory);
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + delta);
  }

  /** Makes an entry like another, with its content. */
  async copy(node: TreeNode, more: Partial<Attributes>): Promise<Ino> {
    const ino = this.#takeIno();
    this.#made.add(ino);
    const { ino: from, generation, attributes } = node;
    const origin = { ino: from, generation, version: attributes.version };
    this.#puts.set(
      inodeKey(ino),
      encodeInode({ ...attributes, ...more, ...(attributes.type === "file" ? { origin } : {}) }),
    );
    if (attributes.type === "file") await this.#content(from, ino);
    return ino;
  }

  /**
   * Gives an entry the content and attributes of another.
   * @returns how it is in memory once the commit is there
   */
  async change(target: TreeNode, node: TreeNode, more: Partial<Attributes>): Promise<Followed> {
    const { size, mime, mode, target: link, extended } = node.attributes;
    const {
      mime: _mime,
      mode: _mode,
      target: _target,
      extended: _extended,
      origin: _origin,
      ...kept
    } = target.attributes;
    const attributes: Attributes = {
      ...kept,
      size,
      version: kept.version + 1,
      ...(mime === undefined ? {} : { mime }),
      ...(mode === undefined ? {} : { mode }),
      ...(link === undefined ? {} : { target: link }),
      ...(extended === undefined ? {} : { extended }),
      ...more,
    };
    this.#checks.set(inodeKey(target.ino), target.version);
    if (target.name !== undefined) this.#checks.set(target.name.key, target.name.version);
    this.#puts.set(inodeKey(target.ino), encodeInode(attributes));
    if (attributes.type !== "file") return { attributes, extents: undefined };
    for (const { offset } of await loadExtents(this.#parts.store, target.ino))
      this.#deletes.add(extentKey(target.ino, offset));
    return { attributes, extents: await this.#content(node.ino, target.ino) };
  }

  /** Removes an entry; content that a handle holds goes with that. */
  async remove(node: TreeNode, parent: Ino, isHeld: boolean): Promise<void> {
    const { ino, attributes, version, name, countVersion } = node;
    if (name === undefined) return;
    this.#checks.set(inodeKey(ino), version).set(name.key, name.version);
    this.#deletes.add(name.key);
    this.count(parent, -1);
    if (attributes.type === "directory") {
      this.#checks.set(childCountKey(ino), countVersion);
      this.#counts.delete(childCountKey(ino));
      this.#deletes.add(childCountKey(ino)).add(entriesKey(ino));
    }
    if (attributes.type === "stream") this.#logs.add(streamLog(ino));
    if (isHeld) {
      this.#puts.set(orphanKey(ino), "");
      return;
    }
    this.#deletes.add(inodeKey(ino));
    if (attributes.type === "file")
      for (const { offset } of await loadExtents(this.#parts.store, ino)) this.#deletes.add(extentKey(ino, offset));
  }

  put(key: string, value: string): void {
    this.#puts.set(key, value);
  }

  /** Directories in which entries come and go; those that are made have the time that they are made with. */
  get directories(): readonly Ino[] {
    return [...this.#directories].filter((ino) => !this.#made.has(ino) && !this.#deletes.has(childCountKey(ino)));
  }

  /** @param now when it happens, in ms */
  build(now: number): Batch {
    for (const directory of this.directories) this.#puts.set(entriesKey(directory), String(now));
    const counts = [...this.#counts].filter(([key, delta]) => delta !== 0 && !this.#deletes.has(key));
    return {
      checks: [...this.#checks].map(([key, version]) => ({ key, version })),
      puts: [...this.#puts].map(([key, value]) => ({ key, value })),
      deletes: [...this.#deletes].filter((key) => !this.#puts.has(key)),
      trims: [...this.#logs].map((log) => ({ log, through: this.#parts.store.seq })),
      adds: counts.map(([key, delta]) => ({ key, delta, max: Number.MAX_SAFE_INTEGER })),
    };
  }

  async #content(from: Ino, to: Ino): Promise<readonly Extent[]> {
    const extents: Extent[] = [];
    for (const extent of await loadExtents(this.#parts.store, from)) {
      const key = extentKey(to, extent.offset);
      const shared = { ...extent, content: await this.#shared(extent) };
      this.#deletes.delete(key);
      this.#puts.set(key, encodeExtent(shared));
      extents.push(shared);
    }
    return extents;
  }

  /** Content as two may name it: what is collected meanwhile is not among it, and a commit does not grow without bound. */
  async #shared({ content }: Extent): Promise<Extent["content"]> {
    const { blobs } = this.#parts;
    if (typeof content === "string") {
      blobs.remember(content);
      return content;
    }
    if (this.#inline + content.length > INLINE_MAX) return blobs.put(content);
    this.#inline += content.length;
    return content;
  }
}
