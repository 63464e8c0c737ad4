// Copies of trees, what is different between two, and bringing changes of one into another.

import type { Receipt } from "../abi/metastore.ts";
import { KernelError, isKernelError, isLostRace } from "../base/errno.ts";
import { type Ino, PID_OWNER, type Seq } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { type VfsPath, childOf, nameOf, parentOf } from "../base/path.ts";
import type { Committer } from "../ipc/committer.ts";
import type { Attributes, Inode } from "./inode.ts";
import type { InodeStore, Writer } from "./inode-store.ts";
import type { Located, Namespace } from "./namespace.ts";
import { exists, lostRace, missing } from "./path-error.ts";
import {
  type Tree,
  TreeBatch,
  type TreeChange,
  type TreeNode,
  type TreeParts,
  checksOf,
  diffTrees,
  loadTree,
} from "./tree.ts";
import type { Turns } from "./turns.ts";

/** A change that cannot be brought in, because something else has happened there. */
export interface TreeConflict extends TreeChange {
  /** What has happened there, as far as it is at the same path. */
  readonly theirs?: TreeChange["kind"];
  readonly why: string;
}

export interface TreeMerge {
  /** What was brought in; nothing where there are conflicts. */
  readonly changes: readonly TreeChange[];
  readonly conflicts: readonly TreeConflict[];
}

export class TreeStore {
  readonly #parts: TreeParts;
  readonly #namespace: Namespace;
  readonly #inodes: InodeStore;
  readonly #committer: Committer;
  readonly #turns: Turns;
  readonly #gone: (ino: Ino) => void;

  /** @param gone hears of an inode that has lost its name */
  constructor(
    parts: TreeParts,
    namespace: Namespace,
    inodes: InodeStore,
    committer: Committer,
    turns: Turns,
    gone: (ino: Ino) => void,
  ) {
    this.#turns = turns;
    this.#gone = gone;
    this.#parts = parts;
    this.#namespace = namespace;
    this.#inodes = inodes;
    this.#committer = committer;
  }

  /**
   * Makes `to` a copy of a file or a tree, as that is at one moment, without copying content.
   * @throws {EEXIST} something is there · {E2BIG} the tree is too large for one commit
   */
  clone(from: Located, to: Located, writer: Writer): Promise<void> {
    return this.#again(from, to, async (source, target) => {
      if (target.kind === "foreign") inoOf(target);
      if (target.kind !== "missing") throw exists(target.path);
      if (target.within === undefined || target.within.names.length !== 1) throw missing(parentOf(target.path));
      if (isWithin(target.path, source.path))
        throw new KernelError("EINVAL", "a tree cannot be copied into itself", { path: target.path });
      this.#namespace.assertPlain(source.path);
      const tree = await loadTree(this.#parts.store, inoOf(source));
      assertNoFlows(tree, source.path);
      const batch = this.#batch();
      batch.check(checksOf(tree));
      const { directory } = target.within;
      batch.check([{ key: `i/${directory.ino}`, version: directory.recordVersion }]);
      const made = new Map<string, Ino>();
      for (const node of inOrder(tree)) {
        const ino = await batch.copy(node, { lastWriter: writer.pid });
        made.set(node.path, ino);
        const parent = node.path === "" ? directory.ino : made.get(above(node.path));
        if (parent !== undefined)
          batch.name(
            parent,
            node.path === "" ? nameOf(target.path) : nameOf(node.path as VfsPath),
            ino,
            node.attributes.type,
          );
      }
      const { type } = source.inode.attributes;
      batch.events.push({
        name: "file.copied",
        pid: writer.pid,
        data: { path: target.path, oldPath: source.path, type },
      });
      await this.#commit(batch, writer);
    });
  }

  /** What must be done to one tree to make it like another. */
  async diff(from: Located, to: Located): Promise<readonly TreeChange[]> {
    const { store } = this.#parts;
    for (const { path } of [from, to]) this.#namespace.assertPlain(path);
    return diffTrees(this.#parts, await loadTree(store, inoOf(from)), await loadTree(store, inoOf(to)));
  }

  /**
   * Brings what has changed between two trees into a third, in one commit, or tells what stands against it and does nothing.
   * With the third as the first it becomes like the second.
   * @param assertMay throws for a path that may not be changed
   * @param isStill nobody changes the first two any more: they need not be held to what was read
   */
  async merge(
    target: Located,
    base: Located,
    changed: Located,
    writer: Writer,
    assertMay?: (path: VfsPath) => Promise<void>,
    isStill = false,
  ): Promise<TreeMerge> {
    let answer: TreeMerge = { changes: [], conflicts: [] };
    await this.#again(target, changed, async (into, source) => {
      const { store } = this.#parts;
      for (const { path } of [into, source]) this.#namespace.assertPlain(path);
      const now = await loadTree(store, inoOf(into));
      const isRestore = inoOf(base) === inoOf(into);
      const before = isRestore ? now : await loadTree(store, inoOf(base));
      const wanted = await loadTree(store, inoOf(source));
      if (now.get("")?.attributes.type !== wanted.get("")?.attributes.type)
        throw new KernelError("EINVAL", "a directory and a file cannot become like each other", { path: into.path });
      assertNoFlows(wanted, source.path);
      const ours = await diffTrees(this.#parts, before, wanted);
      const theirs = isRestore ? [] : await diffTrees(this.#parts, before, now);
      const { changes, conflicts } = await this.#compare(ours, theirs, now, wanted);
      answer = { changes: conflicts.length === 0 ? changes : [], conflicts };
      if (conflicts.length > 0 || changes.length === 0) return;
      for (const { path } of changes) await assertMay?.(below(into.path, path));
      const touched = await this.#touched(changes, now, into.path);
      // Whoever writes to one of them is done, or begins when it is what it will be.
      await this.#turns.ofAll([...touched.values()], async () => {
        for (const inode of touched.values())
          if (inode.attributes.type === "file") await this.#inodes.extentsOf(inode, into.path);
        const batch = this.#batch();
        // What is decided on is as it was when it was read: what is copied as a whole, what is changed by its way from the top.
        if (!isStill) batch.check(checksOf(wanted));
        if (!isRestore && !isStill) batch.check(checksOf(before));
        if (isRestore) batch.check(checksOf(now));
        else for (const { path } of changes) batch.check(wayTo(now, path));
        const follow = await this.#plan(batch, changes, now, wanted, into.path, writer, touched);
        const receipt = await this.#commit(batch, writer);
        // Nothing waits between the commit and what is in memory.
        for (const one of follow) one(receipt);
        this.#namespace.forget();
      });
      for (const inode of touched.values()) if (!inode.linked) await this.#inodes.forgetOrphan(inode);
    });
    return answer;
  }

  /** Inodes that changes are about, in memory, so that readers see one state or the other. */
  async #touched(changes: readonly TreeChange[], now: Tree, top: VfsPath): Promise<ReadonlyMap<Ino, Inode>> {
    const touched = new Map<Ino, Inode>();
    for (const { path, kind } of changes) {
      const node = kind === "added" ? undefined : now.get(path);
      if (node === undefined) continue;
      const inode = await this.#namespace.inode(node.ino);
      if (inode === undefined) throw lostRace(below(top, path));
      touched.set(node.ino, inode);
    }
    return touched;
  }

  /** What of ours is still to be done, and what stands against it. */
  async #compare(
    ours: readonly TreeChange[],
    theirs: readonly TreeChange[],
    now: Tree,
    wanted: Tree,
  ): Promise<TreeMerge> {
    const changes: TreeChange[] = [];
    const conflicts: TreeConflict[] = [];
    const theirsAt = new Map(theirs.map((change) => [change.path, change]));
    const occupied = keepersOf(now, ours);
    const coming = new Set(
      ours.filter(({ kind, type }) => kind === "added" && type === "directory").map(({ path }) => path),
    );
    for (const change of ours) {
      const { path, kind } = change;
      const other = theirsAt.get(path);
      const [there, want] = [now.get(path), wanted.get(path)];
      if (other !== undefined) {
        const isAgreed =
          there === undefined || want === undefined
            ? there === want
            : there.attributes.type === want.attributes.type &&
              (await diffTrees(this.#parts, new Map([[path, there]]), new Map([[path, want]]))).length === 0;
        if (!isAgreed) conflicts.push({ ...change, theirs: other.kind, why: WHY[other.kind] });
        continue;
      }
      if (kind !== "removed" && !hasDirectory(now, coming, path))
        conflicts.push({ ...change, why: "the directory that it is in is not there any more" });
      else if (kind === "removed" && there?.attributes.type === "directory" && occupied.has(path))
        conflicts.push({ ...change, why: "names have appeared in the directory" });
      else changes.push(change);
    }
    return { changes, conflicts };
  }

  async #plan(
    batch: TreeBatch,
    changes: readonly TreeChange[],
    now: Tree,
    wanted: Tree,
    into: VfsPath,
    writer: Writer,
    touched: ReadonlyMap<Ino, Inode>,
  ): Promise<readonly ((receipt: Receipt) => void)[]> {
    const follow: ((receipt: Receipt) => void)[] = [];
    const made = new Map<string, Ino>();
    const more: Partial<Attributes> = { modified: this.#committer.now(), lastWriter: writer.pid };
    const directoryOf = (path: string): Ino => {
      const parent = above(path);
      const ino = made.get(parent) ?? now.get(parent)?.ino;
      if (ino === undefined)
        throw new KernelError("ESTALE", "the tree has changed meanwhile; try again", { path: into });
      return ino;
    };
    // What goes, from below; then what comes, from above.
    for (const { path } of changes.filter(({ kind }) => kind === "removed").toReversed()) {
      const node = now.get(path);
      if (node === undefined) continue;
      const inode = touched.get(node.ino);
      await batch.remove(node, directoryOf(path), (inode?.handles ?? 0) > 0);
      follow.push(() => {
        this.#gone(node.ino);
        if (inode === undefined) return;
        inode.linked = false;
        if (inode.handles === 0) this.#namespace.drop(inode);
      });
      const isDirectory = node.attributes.type === "directory";
      batch.events.push({
        name: isDirectory ? "directory.deleted" : "file.deleted",
        pid: writer.pid,
        data: { path: below(into, path) },
      });
    }
    for (const { path, kind } of changes) {
      const [there, want] = [now.get(path), wanted.get(path)];
      if (kind === "removed" || want === undefined) continue;
      const { type, size } = want.attributes;
      if (kind === "changed" && there !== undefined) {
        const { attributes, extents } = await batch.change(there, want, more);
        const inode = touched.get(there.ino);
        follow.push(({ seq }) => {
          if (inode !== undefined) Object.assign(inode, { attributes, extents, recordVersion: seq, generation: seq });
        });
      } else {
        const parent = now.get(above(path));
        if (parent !== undefined && !made.has(parent.path))
          batch.check([{ key: `i/${parent.ino}`, version: parent.version }]);
        const ino = await batch.copy(want, more);
        made.set(path, ino);
        batch.name(directoryOf(path), nameOf(`/${path}` as VfsPath), ino, type, there?.name?.version);
      }
      const data = { path: below(into, path), type };
      const { pid } = writer;
      if (type !== "directory")
        batch.events.push({ name: "file.written", pid, data: { ...data, size, created: kind === "added" } });
      else if (kind === "added") batch.events.push({ name: "directory.created", pid, data: { path: data.path } });
      else batch.events.push({ name: "file.metadata", pid, data });
    }
    return follow;
  }

  #batch(): TreeBatch {
    return new TreeBatch(this.#parts, () => this.#inodes.takeIno());
  }

  async #commit(batch: TreeBatch, writer: Writer): Promise<Receipt> {
    const { key, value } = this.#inodes.inoPut;
    batch.put(key, value);
    const now = this.#committer.now();
    try {
      const receipt = await this.#committer.commit(batch.build(now), batch.events, writer.rider);
      for (const directory of batch.directories) {
        const inode = this.#namespace.loaded(directory);
        if (inode !== undefined) inode.entriesModified = now;
      }
      return receipt;
    } catch (error) {
      if (isKernelError(error) && error.code === "E2BIG")
        throw new KernelError("E2BIG", "there is too much of it for one commit; do it in parts", { cause: error });
      throw error;
    }
  }

  /** Does something with two paths, and again, as they are then, when somebody else was faster. */
  async #again(
    one: Located,
    two: Located,
    work: (one: Located & { readonly kind: "inode" }, two: Located) => Promise<void>,
  ): Promise<void> {
    for (let tries = 1; ; tries++) {
      const first = tries === 1 ? one : await this.#namespace.resolve(one.path, PID_OWNER, false);
      const second = tries === 1 ? two : await this.#namespace.resolve(two.path, PID_OWNER, false);
      if (first.kind === "missing") throw missing(first.path);
      inoOf(first);
      // What was checked is another object now.
      if (first.path !== one.path || second.path !== two.path || (tries > 1 && first.hops.length > 0))
        throw new KernelError("EAGAIN", "the path leads elsewhere by now; try again", { path: one.path });
      try {
        return await work(first as Located & { readonly kind: "inode" }, second);
      } catch (error) {
        if (!isLostRace(error) || tries >= LIMITS.casRetriesMax) throw error;
        await new Promise<void>((resolve) => this.#parts.platform.defer(resolve));
      }
    }
  }
}

const WHY: Readonly<Record<TreeChange["kind"], string>> = {
  added: "a name has appeared there",
  removed: "it was removed meanwhile",
  changed: "it was changed meanwhile",
};

const above = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf("/")));
const below = (top: VfsPath, path: string): VfsPath =>
  path.split("/").reduce<VfsPath>((at, name) => (name === "" ? at : childOf(at, name)), top);
const isWithin = (path: VfsPath, top: VfsPath): boolean => path === top || path.startsWith(`${top}/`) || top === "/";

/** Whether the directory of an entry is there, or comes with it. */
function hasDirectory(now: Tree, coming: ReadonlySet<string>, path: string): boolean {
  return path === "" || now.get(above(path))?.attributes.type === "directory" || coming.has(above(path));
}

/** Names and versions on the way from the top of a tree to an entry. */
function wayTo(tree: Tree, path: string): readonly { readonly key: string; readonly version: Seq }[] {
  const way: { readonly key: string; readonly version: Seq }[] = [];
  for (let at = path; at !== ""; at = above(at)) {
    const { name } = tree.get(at) ?? {};
    if (name !== undefined) way.push(name);
  }
  return way;
}

/** @throws {ENOTSUP} what passes through a stream or a pipe is no content that two trees could share */
function assertNoFlows(tree: Tree, top: VfsPath): void {
  for (const { path, attributes } of tree.values()) {
    const { type } = attributes;
    if (type !== "stream" && type !== "pipe") continue;
    throw new KernelError("ENOTSUP", `${below(top, path)} is a ${type}, which is not copied; move it out of the tree`, {
      path: below(top, path),
    });
  }
}

/** Directories of a tree that hold something which is not removed. */
function keepersOf(tree: Tree, changes: readonly TreeChange[]): ReadonlySet<string> {
  const removed = new Set(changes.filter(({ kind }) => kind === "removed").map(({ path }) => path));
  const keepers = new Set<string>();
  for (const path of tree.keys())
    if (!removed.has(path)) for (let at = above(path); at !== "" && !keepers.has(at); at = above(at)) keepers.add(at);
  return keepers;
}

/** Directories before what is in them. */
const inOrder = (tree: Tree): readonly TreeNode[] =>
  [...tree.values()].sort((one, two) => (one.path === two.path ? 0 : one.path < two.path ? -1 : 1));

/** @throws {ENOENT} there is nothing · {ENOTSUP} it is no tree of the zone */
function inoOf(located: Located): Ino {
  if (located.kind === "missing") throw missing(located.path);
  if (located.kind !== "inode")
    throw new KernelError("ENOTSUP", `${located.path} is not of this zone; copy what is mounted there first`, {
      path: located.path,
    });
  return located.inode.ino;
}
