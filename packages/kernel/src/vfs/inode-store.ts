// Mutations of inodes and names: each is one commit that checks the versions it was decided on.
//
// I1  Memory follows the commit; only new inodes are known while their commit is under way, and whoever
//     changes them waits for it.
// I2  A directory is removed only if its count of children is still 0 in the same commit.
// I3  Content goes with its name, or with the last handle, or, when there is much of it, in batches after its name.

import type { FlowSettings } from "../abi/flow.ts";
import { entriesOf } from "../abi/entries.ts";
import type { Batch, Metastore, Receipt } from "../abi/metastore.ts";
import type { WriteOptions, WriteResult } from "../abi/file.ts";
import { KernelError } from "../base/errno.ts";
import { INO_ROOT, type Ino, PID_OWNER, type Pid, type Seq, SEQ_ZERO, toIno } from "../base/id.ts";
import { type VfsPath, childOf, nameOf, parentOf } from "../base/path.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import type { PendingEvent } from "../ipc/event-bus.ts";
import { type Extent, encodeExtent, extentKey, loadExtents } from "./extent.ts";
import {
  type Attributes,
  Inode,
  childCountKey,
  decodeDirent,
  encodeDirent,
  encodeInode,
  entriesKey,
  inodeKey,
  nameKey,
  orphanKey,
  streamLog,
} from "./inode.ts";
import type { RenameOptions } from "./foreign-trees.ts";
import type { Located, Namespace } from "./namespace.ts";
import { assertGeneration, exists, isDirectory, lostRace, missing, notDirectory } from "./path-error.ts";
import type { Turns } from "./turns.ts";

const INO_KEY = "sys/ino";
const COUNT_MAX = Number.MAX_SAFE_INTEGER;
/** Content with more extents than this is removed after its name, in several commits. */
const DELETES_PER_COMMIT = 1000;

export interface NewEntry {
  readonly type: "file" | "directory" | "link" | "pipe" | "stream";
  readonly target?: string;
  readonly flow?: FlowSettings;
  readonly mime?: string;
}

export interface Content {
  readonly extents: readonly Extent[];
  readonly size: number;
}

/** Who writes, for the attributes and the event. */
export interface Writer {
  readonly pid: Pid;
  readonly user: string;
  /** Goes along with the commit of the change. */
  readonly rider?: Rider | undefined;
  /** What else must hold for content to be written, looked at before each try. */
  readonly guard?: (() => { readonly key: string; readonly version: Seq }) | undefined;
}

const guardsOf = ({ guard }: Writer): readonly { readonly key: string; readonly version: Seq }[] =>
  guard === undefined ? [] : [guard()];

export class InodeStore {
  readonly #namespace: Namespace;
  readonly #store: Metastore;
  readonly #committer: Committer;
  readonly #turns: Turns;
  readonly #gone: (ino: Ino) => void;
  #nextIno = INO_ROOT + 1;

  /** @param gone hears of an inode that has lost its name */
  constructor(namespace: Namespace, store: Metastore, committer: Committer, turns: Turns, gone: (ino: Ino) => void) {
    this.#turns = turns;
    this.#gone = gone;
    this.#namespace = namespace;
    this.#store = store;
    this.#committer = committer;
  }

  /** Reads where inode numbers go on and removes what was unlinked while a dead host had it open. */
  async boot(): Promise<void> {
    this.#nextIno = Number((await this.#store.get(INO_KEY))?.value ?? INO_ROOT + 1);
    for await (const { key } of entriesOf(this.#store, "o/")) await this.forgetContent(toIno(Number(key.slice(2))));
  }

  takeIno(): Ino {
    return toIno(this.#nextIno++);
  }

  /** What records which numbers are taken. */
  get inoPut(): { readonly key: string; readonly value: string } {
    return { key: INO_KEY, value: String(this.#nextIno) };
  }

  async makeEntry(
    at: Located & { readonly kind: "missing" },
    entry: NewEntry,
    content: Content,
    writer: Writer,
  ): Promise<Receipt> {
    if (at.within === undefined)
      throw new KernelError("EROFS", "nothing can be created here; it is a virtual directory", { path: at.path });
    const { directory, names } = at.within;
    // A directory that is just being made has no version to check yet.
    if (directory.recordVersion === SEQ_ZERO) await directory.tail;
    const now = this.#committer.now();
    const puts: { key: string; value: string | Uint8Array }[] = [];
    const checks = [{ key: inodeKey(directory.ino), version: directory.recordVersion }, ...guardsOf(writer)];
    const adds: { key: string; delta: number; max: number }[] = [];
    const made: Inode[] = [];
    const events: PendingEvent[] = [];
    let parent: Ino = directory.ino;
    let path = at.within.at;
    for (const [index, name] of names.entries()) {
      const isLast = index === names.length - 1;
      const ino = this.takeIno();
      const attributes: Attributes = {
        type: isLast ? entry.type : "directory",
        size: isLast ? content.size : 0,
        version: isLast && entry.type === "file" ? 1 : 0,
        created: now,
        modified: now,
        owner: writer.user,
        lastWriter: writer.pid,
        ...(isLast && entry.mime !== undefined ? { mime: entry.mime } : {}),
        ...(isLast && entry.target !== undefined ? { target: entry.target } : {}),
        ...(isLast && entry.flow !== undefined ? { flow: entry.flow } : {}),
      };
      path = childOf(path, name);
      checks.push({ key: nameKey(parent, name), version: SEQ_ZERO });
      puts.push(
        { key: nameKey(parent, name), value: encodeDirent(ino, attributes.type) },
        { key: inodeKey(ino), value: encodeInode(attributes) },
      );
      adds.push({ key: childCountKey(parent), delta: 1, max: COUNT_MAX });
      const inode = new Inode(ino, attributes, SEQ_ZERO, SEQ_ZERO);
      if (attributes.type !== "directory") inode.extents = content.extents;
      made.push(inode);
      events.push(
        attributes.type === "directory"
          ? { name: "directory.created", pid: writer.pid, data: { path } }
          : {
              name: "file.written",
              pid: writer.pid,
              data: { path, size: attributes.size, type: attributes.type, created: true },
            },
      );
      parent = ino;
    }
    puts.push(this.inoPut, { key: entriesKey(directory.ino), value: String(now) });
    for (const extent of content.extents)
      puts.push({ key: extentKey(parent, extent.offset), value: encodeExtent(extent) });
    // Whoever looks from now on gets these objects, and whoever changes them waits for the commit.
    const committing = this.#committer.commit({ checks, puts, adds }, events, writer.rider);
    for (const inode of made) {
      this.#namespace.adopt(inode);
      this.#turns.after(inode, committing);
    }
    let receipt: Receipt;
    try {
      receipt = await committing;
    } catch (error) {
      for (const inode of made) this.#namespace.drop(inode);
      throw error;
    }
    for (const inode of made) {
      inode.recordVersion = receipt.seq;
      inode.generation = receipt.seq;
    }
    directory.entriesModified = now;
    return receipt;
  }

  /** The layout of content, within a turn: nobody changes it while it is read. */
  async extentsOf(inode: Inode, path: VfsPath): Promise<readonly Extent[]> {
    if (inode.evicted) throw lostRace(path);
    return (inode.extents ??= await loadExtents(this.#store, inode.ino));
  }

  async commitContent(
    inode: Inode,
    change: {
      readonly extents: readonly Extent[];
      readonly puts: readonly Extent[];
      readonly deletes: readonly number[];
      readonly size: number;
    },
    options: WriteOptions,
    writer: Writer,
    path: VfsPath,
  ): Promise<WriteResult> {
    const old = inode.attributes;
    const attributes: Attributes = {
      ...old,
      size: change.size,
      version: old.version + 1,
      modified: this.#committer.now(),
      lastWriter: writer.pid,
      ...(options.mime === undefined ? {} : { mime: options.mime }),
    };
    const receipt = await this.#committer.commit(
      {
        checks: [{ key: inodeKey(inode.ino), version: inode.recordVersion }, ...guardsOf(writer)],
        puts: [
          { key: inodeKey(inode.ino), value: encodeInode(attributes) },
          ...change.puts.map((extent) => ({ key: extentKey(inode.ino, extent.offset), value: encodeExtent(extent) })),
        ],
        deletes: change.deletes.map((offset) => extentKey(inode.ino, offset)),
      },
      [{ name: "file.written", pid: writer.pid, data: { path, size: change.size, type: attributes.type } }],
      writer.rider,
    );
    inode.attributes = attributes;
    inode.extents = change.extents;
    inode.recordVersion = receipt.seq;
    inode.generation = receipt.seq;
    if (options.durability === "flushed") await receipt.flushed;
    return { generation: receipt.seq, size: change.size };
  }

  unlinkOne(inode: Inode, path: VfsPath, writer: Writer, ifGeneration?: Seq): Promise<void> {
    return this.#turns.of(inode, async () => {
      if (ifGeneration !== undefined) assertGeneration(inode.generation, ifGeneration, path);
      const parent = await this.#parentOf(path);
      const isDirectoryNode = inode.attributes.type === "directory";
      const countKey = childCountKey(inode.ino);
      const count = isDirectoryNode ? await this.#store.get(countKey) : undefined;
      if (count !== undefined && count.value !== "0") {
        throw new KernelError(
          "ENOTEMPTY",
          `the directory still holds ${String(count.value)} entries; remove them or pass recursive`,
          { path },
        );
      }
      const entry = await this.#store.get(nameKey(parent.ino, nameOf(path)));
      if (entry === undefined || decodeDirent(entry.value).ino !== inode.ino) throw lostRace(path);
      const contentKeys = await this.#contentKeys(inode);
      const now = this.#committer.now();
      const isLater = inode.handles > 0 || contentKeys.length > DELETES_PER_COMMIT;
      const gone = isLater
        ? { deletes: [], puts: [{ key: orphanKey(inode.ino), value: "" }] }
        : { deletes: contentKeys, puts: [] };
      await this.#committer.commit(
        {
          checks: [
            { key: inodeKey(inode.ino), version: inode.recordVersion },
            { key: nameKey(parent.ino, nameOf(path)), version: entry.version },
            ...(isDirectoryNode ? [{ key: countKey, version: count?.version ?? SEQ_ZERO }] : []),
          ],
          puts: [...gone.puts, { key: entriesKey(parent.ino), value: String(now) }],
          deletes: [
            nameKey(parent.ino, nameOf(path)),
            ...(isDirectoryNode ? [countKey, entriesKey(inode.ino)] : []),
            ...gone.deletes,
          ],
          adds: [{ key: childCountKey(parent.ino), delta: -1, max: COUNT_MAX }],
          trims: this.#trimsOf(inode),
        },
        [{ name: isDirectoryNode ? "directory.deleted" : "file.deleted", pid: writer.pid, data: { path } }],
        writer.rider,
      );
      parent.entriesModified = now;
      inode.linked = false;
      this.#gone(inode.ino);
      if (inode.handles === 0) this.#namespace.drop(inode);
      this.#namespace.forget(isDirectoryNode ? undefined : path);
      if (isLater && inode.handles === 0) await this.forgetContent(inode.ino);
    });
  }

  async renameOnce(
    fromPath: VfsPath,
    inode: Inode,
    to: Located,
    { replace = true, ifGeneration }: RenameOptions,
    writer: Writer,
  ): Promise<void> {
    if (to.kind !== "inode") {
      if (ifGeneration !== undefined) assertGeneration(undefined, ifGeneration, to.path);
      return this.#renameTo(fromPath, inode, to, undefined, writer);
    }
    if (!replace) throw exists(to.path);
    return this.#turns.of(to.inode, async () => {
      if (ifGeneration !== undefined) assertGeneration(to.inode.generation, ifGeneration, to.path);
      await this.#renameTo(fromPath, inode, to, to.inode, writer);
    });
  }

  async #renameTo(
    fromPath: VfsPath,
    inode: Inode,
    to: Located,
    target: Inode | undefined,
    writer: Writer,
  ): Promise<void> {
    if (inode.evicted || target?.evicted === true) throw lostRace(to.path);
    const fromParent = await this.#parentOf(fromPath);
    if (to.kind === "missing" && to.within?.names.length !== 1) throw missing(parentOf(to.path));
    const toParent = await this.#parentOf(to.path);
    const isDirectoryNode = inode.attributes.type === "directory";
    if (target !== undefined && (target.attributes.type === "directory") !== isDirectoryNode) {
      throw isDirectoryNode ? notDirectory(to.path) : isDirectory(to.path);
    }
    const [fromKey, toKey] = [nameKey(fromParent.ino, nameOf(fromPath)), nameKey(toParent.ino, nameOf(to.path))];
    const [fromEntry, toEntry] = [await this.#store.get(fromKey), await this.#store.get(toKey)];
    if (fromEntry === undefined || decodeDirent(fromEntry.value).ino !== inode.ino) throw lostRace(fromPath);
    // What is replaced is what was looked at: its content goes, and nothing else's.
    if ((toEntry === undefined ? undefined : decodeDirent(toEntry.value).ino) !== target?.ino) throw lostRace(to.path);
    const targetCount =
      target !== undefined && isDirectoryNode ? await this.#store.get(childCountKey(target.ino)) : undefined;
    if (targetCount !== undefined && targetCount.value !== "0")
      throw new KernelError("ENOTEMPTY", "the target directory is not empty", { path: to.path });
    const moved =
      fromParent.ino === toParent.ino
        ? target === undefined
          ? []
          : [{ key: childCountKey(toParent.ino), delta: -1, max: COUNT_MAX }]
        : [
            { key: childCountKey(fromParent.ino), delta: -1, max: COUNT_MAX },
            ...(target === undefined ? [{ key: childCountKey(toParent.ino), delta: 1, max: COUNT_MAX }] : []),
          ];
    const isPinned = target !== undefined && target.handles > 0;
    const now = this.#committer.now();
    const parents = fromParent === toParent ? [toParent] : [fromParent, toParent];
    await this.#committer.commit(
      {
        checks: [
          { key: fromKey, version: fromEntry.version },
          { key: toKey, version: toEntry?.version ?? SEQ_ZERO },
          { key: inodeKey(toParent.ino), version: toParent.recordVersion },
          ...(target === undefined ? [] : [{ key: inodeKey(target.ino), version: target.recordVersion }]),
          ...(target === undefined || !isDirectoryNode
            ? []
            : [{ key: childCountKey(target.ino), version: targetCount?.version ?? SEQ_ZERO }]),
        ],
        puts: [
          { key: toKey, value: fromEntry.value },
          ...parents.map(({ ino }) => ({ key: entriesKey(ino), value: String(now) })),
          ...(isPinned ? [{ key: orphanKey(target.ino), value: "" }] : []),
        ],
        deletes: [
          fromKey,
          ...(target === undefined || isPinned ? [] : await this.#contentKeys(target)),
          ...(target !== undefined && isDirectoryNode ? [childCountKey(target.ino), entriesKey(target.ino)] : []),
        ],
        adds: moved,
        ...(target === undefined ? {} : { trims: this.#trimsOf(target) }),
      },
      [
        {
          name: "file.renamed",
          pid: writer.pid,
          data: { path: to.path, oldPath: fromPath, type: inode.attributes.type },
        },
      ],
      writer.rider,
    );
    for (const parent of parents) parent.entriesModified = now;
    if (target !== undefined) {
      target.linked = false;
      this.#gone(target.ino);
      if (!isPinned) this.#namespace.drop(target);
      else if (target.handles === 0) await this.forgetContent(target.ino);
    }
    if (isDirectoryNode) this.#namespace.forget();
    else {
      this.#namespace.forget(fromPath);
      this.#namespace.forget(to.path);
    }
  }

  async #parentOf(path: VfsPath): Promise<Inode> {
    const parent = await this.#namespace.resolve(parentOf(path), PID_OWNER);
    if (parent.kind !== "inode") throw lostRace(path);
    return parent.inode;
  }

  /** The entries of a stream go with its name. */
  #trimsOf({ ino, attributes }: Inode): NonNullable<Batch["trims"]> {
    return attributes.type === "stream" ? [{ log: streamLog(ino), through: this.#store.seq }] : [];
  }

  async #contentKeys(inode: Inode): Promise<string[]> {
    const extents =
      inode.attributes.type === "directory" ? [] : (inode.extents ?? (await loadExtents(this.#store, inode.ino)));
    return [inodeKey(inode.ino), ...extents.map((extent) => extentKey(inode.ino, extent.offset))];
  }

  /** Removes the content of an inode without a name, once nobody writes to it any more, unless a handle still holds it. */
  forgetOrphan(inode: Inode): Promise<void> {
    return this.#turns.of(inode, async () => {
      if (inode.linked || inode.handles > 0) return;
      if ((await this.#store.get(orphanKey(inode.ino))) !== undefined) await this.forgetContent(inode.ino);
      this.#namespace.drop(inode);
    });
  }

  /** Removes the content of an orphan, in commits of bounded size; its mark goes with the last. */
  async forgetContent(ino: Ino): Promise<void> {
    const keys = (await loadExtents(this.#store, ino)).map((extent) => extentKey(ino, extent.offset));
    for (let at = 0; at < keys.length; at += DELETES_PER_COMMIT) {
      await this.#committer.commit({ deletes: keys.slice(at, at + DELETES_PER_COMMIT) });
    }
    await this.#committer.commit({ deletes: [orphanKey(ino), inodeKey(ino)] });
  }
}
