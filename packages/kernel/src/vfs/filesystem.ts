// Operations on what a path was resolved to. The dispatcher has checked the caller's rights before.
//
// F1  Mutations of one inode take turns; a race that is lost in the store is tried again, a bounded
//     number of times, then EAGAIN; never on another path than the one that was checked.
// F2  Moves of directories take turns in the zone.

import type { Metastore } from "../abi/metastore.ts";
import type { Platform } from "../abi/platform.ts";
import type { DirEntry, EntryType, FileStat, WriteOptions, WriteResult } from "../abi/file.ts";
import { KernelError, isKernelError, isLostRace } from "../base/errno.ts";
import { INO_ROOT, PID_OWNER, type Pid, SEQ_ZERO, type Seq } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { ROOT, type VfsPath, childOf, isWithin, parentOf, toPath } from "../base/path.ts";
import { Serial } from "../base/serial.ts";
import type { Committer } from "../ipc/committer.ts";
import { type Extent, readExtents, storeExtents, writeExtents } from "./extent.ts";
import { type Content, InodeStore, type NewEntry, type Writer } from "./inode-store.ts";
import {
  type Attributes,
  type Inode,
  direntType,
  decodeName,
  encodeInode,
  entriesKey,
  inodeKey,
  nameKey,
  nameRange,
} from "./inode.ts";
import { type Located, Namespace } from "./namespace.ts";
import {
  assertGeneration,
  assertHole,
  assertRange,
  exists,
  isDirectory,
  lostRace,
  outgrown,
  missing,
  notDirectory,
  unsupported,
} from "./path-error.ts";
import { contentOf } from "./provider.ts";
import { LockOrder } from "../lock/lock-order.ts";
import { type Foreign, ForeignTrees, type RenameOptions, type UnlinkOptions } from "./foreign-trees.ts";
import type { Blobs } from "./blobs.ts";
import { type Held, isPath, noHandle, pin } from "./held.ts";
import { TreeStore } from "./tree-store.ts";
import { statOfInode, statOfNode } from "./file-stat.ts";
import { FlowTable } from "./flow-table.ts";
import { pageOf } from "./page.ts";
import { Turns } from "./turns.ts";

type AttributeChange = Pick<Attributes, "mime" | "mode" | "extended"> & Partial<Pick<Attributes, "owner" | "modified">>;

/** Bytes of content that pass by at a time. */
const COPY_PIECE = 8 * 1024 * 1024;

export class FileSystem {
  /** Pipes and streams. */
  readonly flows: FlowTable;
  /** Trees as wholes: copies, differences, merges. */
  readonly trees: TreeStore;
  readonly #order: LockOrder;
  readonly #turns: Turns;
  readonly #foreign: ForeignTrees;
  readonly namespace: Namespace;
  readonly #zone: string;
  readonly #store: Metastore;
  readonly #objects: Blobs;
  readonly #platform: Platform;
  readonly #committer: Committer;
  readonly #inodes: InodeStore;
  readonly #directoryRenames = new Serial();

  constructor(zone: string, store: Metastore, objects: Blobs, platform: Platform, committer: Committer) {
    this.#order = new LockOrder(platform.locks);
    this.#turns = new Turns(this.#order);
    this.#foreign = new ForeignTrees(committer, this.#order);
    this.namespace = new Namespace(store);
    this.#zone = zone;
    this.#store = store;
    this.#objects = objects;
    this.#platform = platform;
    this.#committer = committer;
    this.flows = new FlowTable(store, committer, platform);
    this.#inodes = new InodeStore(this.namespace, store, committer, this.#turns, (ino) => this.flows.forget(ino));
    this.trees = new TreeStore(
      { store, blobs: objects, platform },
      this.namespace,
      this.#inodes,
      committer,
      this.#turns,
      (ino) => this.flows.forget(ino),
    );
  }

  /** Takes the inodes over from the store. */
  boot(): Promise<void> {
    return this.#inodes.boot();
  }

  /** @param noFollow of a link, itself; where names are resolved here they were not followed already */
  stat(located: Located, noFollow = false, viewer: Pid = PID_OWNER): Promise<FileStat> | FileStat {
    switch (located.kind) {
      case "inode":
        return this.#statInode(located.inode, located.path);
      case "virtual":
        return statOfNode(located.node, located.path, viewer);
      case "foreign":
        return this.#foreign.stat(located, noFollow);
      case "missing":
        throw missing(located.path);
      default:
        return located satisfies never;
    }
  }

  async readdir(
    located: Located,
    viewer: Pid,
    options: { readonly limit?: number; readonly after?: string } = {},
  ): Promise<readonly DirEntry[]> {
    const limit = Math.min(options.limit ?? LIMITS.pageMax, LIMITS.pageMax);
    const entries = new Map<string, DirEntry>();
    if (located.kind === "missing") throw missing(located.path);
    if (located.kind === "inode") {
      if (located.inode.attributes.type !== "directory") throw notDirectory(located.path);
      const page = await this.#store.scan(nameRange(located.inode.ino, options.after), { limit });
      const start = nameKey(located.inode.ino, "").length;
      const found = page.map(({ key, value }) => ({ name: decodeName(key, start), type: direntType(value) }));
      // They come in the order of their keys.
      if (this.namespace.mountNamesIn(located.path).length === 0) return found;
      for (const entry of found) entries.set(entry.name, entry);
    } else if (located.kind === "foreign") {
      for (const entry of await this.#foreign.readdir(located)) entries.set(entry.name, entry);
    } else if (located.node.list !== undefined) {
      for (const entry of await located.node.list(viewer)) entries.set(entry.name, entry);
    } else if (located.node.type !== "directory") throw notDirectory(located.path);
    for (const name of this.namespace.mountNamesIn(located.path)) {
      if (located.kind !== "inode" || options.after === undefined || name > options.after)
        entries.set(name, { name, type: "directory" });
    }
    return pageOf(entries.values(), options.after, limit);
  }

  async read(
    located: Located,
    range: { readonly offset?: number; readonly length?: number } = {},
  ): Promise<Uint8Array> {
    if (located.kind === "inode") {
      if (located.inode.extents !== undefined && !located.inode.evicted)
        return this.#readInode(located.inode, range, located.path);
      return this.#retry(located, PID_OWNER, (now) => {
        if (now.kind !== "inode") throw missing(now.path);
        return this.#readInode(now.inode, range, now.path);
      });
    }
    if (located.kind === "missing") throw missing(located.path);
    assertRange(range, located.path);
    const offset = range.offset ?? 0;
    if (located.kind === "foreign") return this.#foreign.read(located, range);
    const { node } = located;
    if (node.bytes !== undefined) return node.bytes({ offset, length: range.length ?? 4096 });
    const content = await contentOf(node);
    if (content === undefined)
      throw node.type === "directory" ? isDirectory(located.path) : unsupported("read", located.path);
    return content.slice(offset, range.length === undefined ? undefined : offset + range.length);
  }

  /** Reads as much as there is, and fits, into memory of the caller; how much that was. */
  async readInto(located: Located, into: Uint8Array, offset: number | undefined): Promise<number> {
    const range = { length: into.length, ...(offset === undefined ? {} : { offset }) };
    if (located.kind === "inode" && located.inode.extents !== undefined && !located.inode.evicted)
      return (await this.#readInode(located.inode, range, located.path, into)).length;
    const bytes = await this.read(located, range);
    into.set(bytes);
    return bytes.length;
  }

  /** @param into memory for at least as many bytes as are asked for */
  async #readInode(
    inode: Inode,
    range: { readonly offset?: number; readonly length?: number },
    path: VfsPath,
    into?: Uint8Array,
  ): Promise<Uint8Array> {
    const { type } = inode.attributes;
    if (type === "directory") throw isDirectory(path);
    if (type === "pipe") throw notPlain(type, path);
    if (type === "stream") {
      const whole = await this.#wholeStream(inode, range, path);
      into?.set(whole);
      return whole;
    }
    assertRange(range, path);
    for (let tries = 1; ; tries++) {
      const extents = inode.extents ?? (await this.#turns.of(inode, () => this.#inodes.extentsOf(inode, path)));
      const { size } = inode.attributes;
      const offset = range.offset ?? 0;
      const length = Math.max(0, Math.min(range.length ?? size, size - offset));
      if (length > LIMITS.ioBytesMax) {
        throw new KernelError("EFBIG", `one read carries at most ${LIMITS.ioBytesMax} bytes; read the file in parts`, {
          path,
        });
      }
      const out = into === undefined || into.length === length ? into : into.subarray(0, length);
      try {
        return await readExtents(extents, { offset, length }, this.#objects, this.#platform, out);
      } catch (error) {
        // It was overwritten meanwhile, and what it held before was collected: what it holds now is read.
        const isOld = isKernelError(error) && error.code === "ECORRUPT" && inode.extents !== extents;
        if (!isOld || tries >= LIMITS.casRetriesMax) throw error;
        if (!inode.linked) throw missing(path);
      }
    }
  }

  /** Writes content; see `WriteOptions` for what may be created and what must still hold. */
  async write(
    located: Located,
    bytes: Uint8Array,
    options: WriteOptions & { readonly append?: boolean },
    writer: Writer,
  ): Promise<WriteResult> {
    assertIoSize(bytes, located.path);
    if (located.kind === "foreign") return this.#foreign.write(located, bytes, options, writer);
    return this.#retry(located, writer.pid, async (now) => {
      if (now.kind === "missing") return this.#createFile(now, bytes, options, writer);
      if (isSink(now)) return NOTHING_WRITTEN;
      if (now.kind !== "inode") throw unsupported("write", now.path);
      if (options.create === "must") throw exists(now.path);
      return this.#writeInode(now.inode, bytes, options, writer, now.path);
    });
  }

  #writeInode(
    inode: Inode,
    bytes: Uint8Array,
    options: WriteOptions & { readonly append?: boolean },
    writer: Writer,
    path: VfsPath,
  ): Promise<WriteResult> {
    assertRange(options, path);
    return this.#turns.of(inode, async () => {
      assertWritable(inode, path);
      if (options.ifGeneration !== undefined) assertGeneration(inode.generation, options.ifGeneration, path);
      const extents = await this.#inodes.extentsOf(inode, path);
      const { attributes } = inode;
      const offset = options.append === true ? attributes.size : (options.offset ?? 0);
      const truncate = options.append !== true && options.offset === undefined;
      assertHole(offset - attributes.size, path);
      const change = await writeExtents(
        extents,
        attributes.size,
        { offset, bytes, truncate },
        this.#objects,
        this.#platform,
      );
      const size = truncate ? bytes.length : Math.max(attributes.size, offset + bytes.length);
      return this.#inodes.commitContent(inode, { ...change, size }, options, writer, path);
    });
  }

  /** Grows by no more than was paid for. @throws {EBUSY} it would be more */
  truncate(located: Located, size: number, writer: Writer, paid?: number): Promise<WriteResult> {
    if (located.kind === "foreign") return this.#foreign.truncate(located, size, writer);
    return this.#retry(located, writer.pid, async (now) => {
      if (isSink(now)) return NOTHING_WRITTEN;
      if (now.kind !== "inode") throw now.kind === "missing" ? missing(now.path) : unsupported("truncate", now.path);
      return this.#truncateInode(now.inode, size, writer, now.path, paid);
    });
  }

  #truncateInode(inode: Inode, size: number, writer: Writer, path: VfsPath, paid?: number): Promise<WriteResult> {
    return this.#turns.of(inode, async () => {
      assertWritable(inode, path);
      const extents = await this.#inodes.extentsOf(inode, path);
      const old = inode.attributes.size;
      if (paid !== undefined && size - old > paid) throw outgrown(path);
      assertHole(size - old, path);
      // Growing writes zeros behind the end; shrinking rewrites the extent that is cut.
      const cutAt = extents.findLast((extent) => extent.offset <= size)?.offset ?? 0;
      const kept =
        size < old
          ? await readExtents(extents, { offset: cutAt, length: size - cutAt }, this.#objects, this.#platform)
          : new Uint8Array(size - old);
      const change = await writeExtents(
        extents,
        old,
        { offset: size < old ? cutAt : old, bytes: kept, truncate: true },
        this.#objects,
        this.#platform,
      );
      return this.#inodes.commitContent(inode, { ...change, size }, {}, writer, path);
    });
  }

  /** Makes a file, directory or link; missing directories on the way are made with it. */
  create(located: Located, entry: NewEntry, writer: Writer): Promise<Seq> {
    if (located.kind === "foreign") return this.#foreign.create(located, entry, writer).then(() => SEQ_ZERO);
    return this.#retry(located, writer.pid, async (now) => {
      if (now.kind !== "missing") throw exists(now.path);
      return (await this.#inodes.makeEntry(now, entry, { size: 0, extents: [] }, writer)).seq;
    });
  }

  /** Changes attributes; what depends on those that are there is decided when nobody else changes them. */
  async setAttributes(
    located: Located,
    change: AttributeChange | ((now: Attributes) => AttributeChange),
    writer: Writer,
  ): Promise<void> {
    await this.#retry(located, writer.pid, (now) => {
      if (now.kind !== "inode") throw now.kind === "missing" ? missing(now.path) : unsupported("setattr", now.path);
      return this.#setInodeAttributes(now.inode, change, writer, now.path);
    });
  }

  #setInodeAttributes(
    inode: Inode,
    change: AttributeChange | ((now: Attributes) => AttributeChange),
    writer: Writer,
    path: VfsPath,
  ): Promise<void> {
    return this.#turns.of(inode, async () => {
      if (inode.evicted) throw lostRace(path);
      const changed = typeof change === "function" ? change(inode.attributes) : change;
      const attributes: Attributes = { ...inode.attributes, ...changed, lastWriter: writer.pid };
      const isTimed = changed.modified !== undefined && inode.entriesModified !== undefined;
      const receipt = await this.#committer.commit(
        {
          checks: [{ key: inodeKey(inode.ino), version: inode.recordVersion }],
          puts: [{ key: inodeKey(inode.ino), value: encodeInode(attributes, inode.generation) }],
          deletes: isTimed ? [entriesKey(inode.ino)] : [],
        },
        [{ name: "file.metadata", pid: writer.pid, data: { path, type: attributes.type } }],
        writer.rider,
      );
      inode.attributes = attributes;
      inode.recordVersion = receipt.seq;
      if (isTimed) inode.entriesModified = undefined;
    });
  }

  /** Removes a name; content goes when the last handle closes. */
  async unlink(located: Located, options: UnlinkOptions, writer: Writer): Promise<void> {
    if (located.kind === "missing") throw missing(located.path);
    this.#assertNoMount(located);
    if (located.kind === "foreign") return this.#foreign.unlink(located, options, writer);
    if (located.kind !== "inode") throw unsupported("unlink", located.path);
    if (located.inode.ino === INO_ROOT)
      throw new KernelError("EBUSY", "the root directory cannot be removed", { path: located.path });
    if (located.inode.attributes.type === "directory" && options.recursive === true) {
      await this.#unlinkBelow(located, options, writer);
    }
    await this.#retry(located, writer.pid, (now) =>
      now.kind === "inode"
        ? this.#inodes.unlinkOne(now.inode, now.path, writer, options.ifGeneration)
        : Promise.reject(missing(now.path)),
    );
  }

  async #unlinkBelow(directory: Located, options: UnlinkOptions, writer: Writer): Promise<void> {
    const { ifGeneration: _ofTheTop, ...below } = options;
    for (;;) {
      const children = await this.readdir(directory, writer.pid, { limit: 256 });
      if (children.length === 0) return;
      let removed = 0;
      for (const { name } of children) {
        const child = await this.namespace.resolve(childOf(directory.path, name), writer.pid, false);
        if (child.kind !== "inode") continue;
        await options.assertMay?.(child.path);
        await this.unlink(child, below, writer);
        removed++;
      }
      if (removed > 0) continue;
      // Somebody else removes them too, or the directory was moved and they are not under this path any more.
      const now = await this.namespace.resolve(directory.path, writer.pid, false);
      if (now.kind === "missing") throw missing(directory.path);
      if (now.kind !== "inode" || directory.kind !== "inode" || now.inode !== directory.inode)
        throw lostRace(directory.path);
      await new Promise<void>((resolve) => this.#platform.defer(resolve));
    }
  }

  /** What goes into a directory that is there without having been made finds it. */
  async settled(to: Located, writer: Writer): Promise<Located> {
    if (to.kind !== "missing" || (to.within?.names.length ?? 0) < 2) return to;
    const parent = parentOf(to.path);
    if (!this.namespace.isPromised(parent)) return to;
    const at = await this.namespace.resolve(parent, writer.pid, false);
    if (at.kind === "virtual" && to.within !== undefined)
      await this.create(
        { ...to, path: parent, within: { ...to.within, names: to.within.names.slice(0, -1) } },
        { type: "directory" },
        writer,
      ).catch((error: unknown) => {
        // Somebody else has made it meanwhile.
        if (!isKernelError(error) || error.code !== "EEXIST") throw error;
      });
    return this.namespace.resolve(to.path, writer.pid, false);
  }

  async rename(from: Located, target: Located, options: RenameOptions, writer: Writer): Promise<void> {
    if (from.kind === "missing") throw missing(from.path);
    const to = from.kind === "inode" ? await this.settled(target, writer) : target;
    if (from.path !== to.path && isWithin(to.path, from.path))
      throw new KernelError("EINVAL", `a directory cannot move into itself (${to.path})`, { path: from.path });
    for (const one of [from, to]) this.#assertNoMount(one);
    if (from.kind === "foreign" && to.kind === "foreign" && from.driver === to.driver)
      return this.#foreign.rename(from, to, options, writer);
    if (from.kind !== "inode" || (to.kind !== "inode" && !(to.kind === "missing" && to.within !== undefined))) {
      throw new KernelError("EXDEV", `${to.path} is on another mount; copy the file and remove the old one`, {
        path: from.path,
      });
    }
    if (from.path === to.path) return;
    let first = true;
    const move = (): Promise<void> =>
      this.#retry(to, writer.pid, async (now) => {
        const source = first ? from : await this.namespace.resolve(from.path, writer.pid, false);
        first = false;
        if (source.kind !== "inode" || source.path !== from.path) throw missing(from.path);
        // Another one at its place has not been looked at: its kind decides how it moves.
        if (source.inode.attributes.type !== from.inode.attributes.type) throw lostRace(from.path);
        return this.#inodes.renameOnce(from.path, source.inode, now, options, writer);
      });
    if (from.inode.attributes.type !== "directory") return move();
    // Two at once could move each below the other. In turn, each looks at the paths that the last one left.
    const moving = this.#order.under("directory renames", from.path, move);
    return this.#directoryRenames.run(moving);
  }

  /** Content is shared where both are files of the zone; of another tree it passes by in pieces. One commit makes it seen. */
  copy(from: Located, to: Located, writer: Writer, paid?: number): Promise<WriteResult> {
    if (to.kind === "foreign" || to.kind === "virtual") return this.#copyOut(from, to, writer);
    return this.#retry(to, writer.pid, async (now) => {
      if (now.kind !== "inode" && now.kind !== "missing") throw unsupported("copy", now.path);
      const { extents, size, mime, guard } = await this.#contentOf(from, writer);
      if (paid !== undefined && size > paid) throw outgrown(from.path);
      if (extents.length > LIMITS.commitOpsMax / 2)
        throw new KernelError(
          "EFBIG",
          `a copy names at most ${LIMITS.commitOpsMax / 2} parts, found ${extents.length}`,
          {
            path: from.path,
          },
        );
      const guarded = { ...writer, guard };
      if (now.kind === "missing") {
        const entry: NewEntry = { type: "file", ...(mime === undefined ? {} : { mime }) };
        const receipt = await this.#inodes.makeEntry(now, entry, { size, extents }, guarded);
        return { generation: receipt.seq, size };
      }
      const { inode } = now;
      return this.#turns.of(inode, async () => {
        assertWritable(inode, now.path);
        const kept = new Set(extents.map(({ offset }) => offset));
        const before = await this.#inodes.extentsOf(inode, now.path);
        const deletes = before.flatMap(({ offset }) => (kept.has(offset) ? [] : [offset]));
        return this.#inodes.commitContent(inode, { extents, puts: extents, deletes, size }, {}, guarded, now.path);
      });
    });
  }

  /** Content as a file of the zone has it, and what must hold for it to be that when it is named. */
  async #contentOf(
    from: Located,
    writer: Writer,
  ): Promise<Content & { readonly mime?: string | undefined; readonly guard: Writer["guard"] }> {
    if (from.kind === "inode" && from.inode.attributes.type === "file") {
      const found = from.inode.evicted ? await this.namespace.resolve(from.path, writer.pid, false) : from;
      if (found.kind !== "inode") throw missing(from.path);
      const { inode } = found;
      return this.#turns.of(inode, async () => {
        const extents = await this.#inodes.extentsOf(inode, from.path);
        for (const { content } of extents) if (typeof content === "string") this.#objects.remember(content);
        const named = { key: inodeKey(inode.ino), version: inode.recordVersion };
        const { size, mime } = inode.attributes;
        return { extents, size, mime, guard: () => named };
      });
    }
    if (from.kind === "foreign") return { ...(await this.#takeIn(from)), guard: writer.guard };
    const bytes = await this.read(from);
    const { extents } = await writeExtents([], 0, { offset: 0, bytes, truncate: true }, this.#objects, this.#platform);
    return { extents, size: bytes.length, guard: writer.guard };
  }

  /** Content of a foreign file as it is at one time, put into the object store piece by piece. */
  async #takeIn(from: Foreign): Promise<Content> {
    for (let tries = 1; ; tries++) {
      const before = await this.#foreign.stat(from);
      const extents: Extent[] = [];
      let size = 0;
      for (let length = -1; length !== 0; size += length) {
        const piece = await this.read(from, { offset: size, length: COPY_PIECE });
        extents.push(...(await storeExtents(size, piece, this.#objects)));
        ({ length } = piece);
      }
      const now = await this.#foreign.stat(from);
      if (now.generation === before.generation && now.modified === before.modified && now.size === before.size)
        return { extents, size };
      if (tries >= LIMITS.casRetriesMax) throw lostRace(from.path);
    }
  }

  /** To a tree that has no transactions: its readers may see a part of a large file, but of one content only. */
  async #copyOut(from: Located, to: Located, writer: Writer): Promise<WriteResult> {
    if (to.kind !== "foreign") throw unsupported("copy", to.path);
    const { extents, size } = await this.#contentOf(from, writer);
    const read = (offset: number): Promise<Uint8Array> => {
      const range = { offset, length: Math.min(COPY_PIECE, size - offset) };
      return readExtents(extents, range, this.#objects, this.#platform);
    };
    async function* pieces(): AsyncGenerator<Uint8Array, void, undefined> {
      for (let offset = 0; offset < size; offset += COPY_PIECE) yield await read(offset);
    }
    return this.#foreign.writeAll(to, pieces(), writer);
  }

  /** All that is kept of a stream, one entry behind the other. */
  async #wholeStream(
    inode: Inode,
    range: { readonly offset?: number; readonly length?: number },
    path: string,
  ): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    let size = 0;
    for await (const { bytes } of this.flows.read(inode, path)) {
      parts.push(bytes);
      size += bytes.length;
      if (size > LIMITS.ioBytesMax)
        throw new KernelError("EFBIG", `more than ${LIMITS.ioBytesMax} bytes; read the stream from a position`, {
          path,
        });
    }
    const whole = this.#platform.allocate(size);
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
    const offset = range.offset ?? 0;
    return whole.slice(offset, range.length === undefined ? undefined : offset + range.length);
  }

  /**
   * Pins the file at a path for a handle; whoever is about to change it, or to take its name away, comes first.
   * @throws {ENOENT} it is gone · {EISDIR} it is a directory
   */
  hold(located: Located): Held | Promise<Held> {
    if (located.kind === "inode" && located.inode.tail === undefined && !located.inode.evicted) return pin(located);
    return this.#retry(located, PID_OWNER, async (now) => {
      if (now.kind === "inode") return this.#turns.of(now.inode, async () => pin(now));
      if (now.kind === "missing") throw missing(now.path);
      const { type } = await this.stat(now);
      if (type === "directory") throw noHandle(now.path);
      return now;
    });
  }

  async release(held: Held): Promise<void> {
    if (isPath(held)) return;
    if (--held.handles === 0 && !held.linked) await this.#inodes.forgetOrphan(held);
  }

  /** Content of what a handle is of. @param into memory for at least as many bytes as are asked for */
  async readHeld(
    held: Held,
    range: { readonly offset?: number; readonly length?: number },
    path: VfsPath,
    into?: Uint8Array,
  ): Promise<Uint8Array> {
    if (!isPath(held)) return this.#readInode(held, range, path, into);
    const bytes = await this.read(held, range);
    into?.set(bytes);
    return bytes;
  }

  writeHeld(
    held: Held,
    bytes: Uint8Array,
    options: Omit<WriteOptions, "create"> & { readonly append?: boolean },
    writer: Writer,
    path: VfsPath,
  ): Promise<WriteResult> {
    if (isPath(held)) return this.write(held, bytes, options, writer);
    assertIoSize(bytes, path);
    return this.#writeInode(held, bytes, options, writer, path);
  }

  truncateHeld(held: Held, size: number, writer: Writer, path: VfsPath): Promise<WriteResult> {
    return isPath(held) ? this.truncate(held, size, writer) : this.#truncateInode(held, size, writer, path);
  }

  statHeld(held: Held, path: VfsPath): FileStat | Promise<FileStat> {
    return isPath(held) ? this.stat(held) : this.#statInode(held, path);
  }

  setHeldAttributes(held: Held, change: AttributeChange, writer: Writer, path: VfsPath): Promise<void> {
    return isPath(held)
      ? this.setAttributes(held, change, writer)
      : this.#setInodeAttributes(held, change, writer, path);
  }

  #statInode(inode: Inode, path: VfsPath): FileStat {
    const { type, modified } = inode.attributes;
    const changed = type === "stream" ? Math.max(modified, this.flows.changedAt(inode.ino) ?? 0) : inode.modified;
    return statOfInode(inode, path, { zone: this.#zone, modified: changed });
  }

  /** @throws {EBUSY} a name under which something is mounted neither goes nor moves */
  #assertNoMount(located: Located): void {
    const { path } = located;
    if (located.kind === "foreign" && located.inner === ROOT)
      throw new KernelError("EBUSY", "something is mounted here; unmount it first", { path });
    if (this.namespace.mountNamesIn(path).length > 0)
      throw new KernelError("EBUSY", "something is mounted below; unmount it first", { path });
  }

  async #createFile(
    at: Located & { readonly kind: "missing" },
    bytes: Uint8Array,
    options: WriteOptions,
    writer: Writer,
  ): Promise<WriteResult> {
    if (options.create === undefined || options.create === "never") throw missing(at.path);
    if (options.ifGeneration !== undefined && options.ifGeneration !== SEQ_ZERO)
      assertGeneration(undefined, options.ifGeneration, at.path);
    assertHole(options.offset ?? 0, at.path);
    const change = await writeExtents(
      [],
      0,
      { offset: options.offset ?? 0, bytes, truncate: true },
      this.#objects,
      this.#platform,
    );
    const size = (options.offset ?? 0) + bytes.length;
    const entry: NewEntry = { type: "file", ...(options.mime === undefined ? {} : { mime: options.mime }) };
    const receipt = await this.#inodes.makeEntry(at, entry, { size, extents: change.extents }, writer);
    if (options.durability === "flushed") await receipt.flushed;
    return { generation: receipt.seq, size };
  }

  /**
   * Tries again with a fresh look at the path when another commit came in between. What the path leads to
   * must still be what the caller's rights were checked on: nothing is followed here.
   */
  async #retry<T>(located: Located, viewer: Pid, attempt: (now: Located) => Promise<T>): Promise<T> {
    let now = located;
    for (let tries = 1; ; tries++) {
      try {
        return await attempt(now);
      } catch (error) {
        if (!isLostRace(error) || tries >= LIMITS.casRetriesMax) throw error;
        // Whoever won has decided, but perhaps not committed yet: look again in another turn of the loop.
        await new Promise<void>((resolve) => this.#platform.defer(resolve));
        if (now.kind === "inode" && !now.inode.isBusy) this.namespace.drop(now.inode);
        if (now.kind === "missing" && now.within !== undefined && !now.within.directory.isBusy) {
          this.namespace.drop(now.within.directory);
        }
        this.namespace.forget();
        now = await this.namespace.resolve(located.path, viewer, false);
        if (now.path !== located.path || now.hops.length > 0) throw error;
      }
    }
  }
}

function assertIoSize({ length }: Uint8Array, path: VfsPath): void {
  if (length <= LIMITS.ioBytesMax) return;
  throw new KernelError("EFBIG", `one write carries at most ${LIMITS.ioBytesMax} bytes; write the file in parts`, {
    path,
  });
}

/** @throws {EAGAIN} it is not what it was any more · {EISDIR} {EINVAL} it is no file */
function assertWritable(inode: Inode, path: VfsPath): void {
  const { type } = inode.attributes;
  if (inode.evicted || type === "link") throw lostRace(path);
  if (type === "directory") throw isDirectory(path);
  if (type !== "file") throw notPlain(type, path);
}

const notPlain = (type: EntryType, path: string): KernelError =>
  new KernelError(
    "EINVAL",
    type === "pipe"
      ? "pieces of a pipe are put in by pipeWrite and taken by pipeRead"
      : `entries of a ${type} are added by streamAppend and read from a position by streamRead`,
    { path },
  );

/** The type a new entry may have, from outside. */
export function toNewEntry(type: EntryType, target: string | undefined, at: VfsPath): NewEntry {
  if (type === "file" || type === "directory") return { type };
  if (type === "pipe" || type === "stream") return { type };
  if (type !== "link") throw unsupported(`making a ${type}`, at);
  if (target === undefined || target === "") throw new KernelError("EINVAL", "a link needs a target", { path: at });
  const full = toPath(target, parentOf(at));
  if (full === at) throw new KernelError("ELOOP", "a link cannot point to itself", { path: at });
  return { type, target };
}

const isSink = (located: Located): boolean => located.kind === "virtual" && located.node.isSink === true;

const NOTHING_WRITTEN: WriteResult = { generation: SEQ_ZERO, size: 0 };
