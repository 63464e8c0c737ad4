// Trees that a driver keeps. They have no transactions: what is asked of a path is done one after the other in this host.
//
// X1  Whoever changes something is alone with it and all below it; whoever reads is with other readers.
// X2  What was changed is told and recorded in one commit, after the driver has done it.
// X3  A link is removed, never what it leads to.

import type { DirEntry, FileStat, MountDriver, WriteOptions, WriteResult } from "../abi/file.ts";
import { isKernelError } from "../base/errno.ts";
import type { Seq } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { ROOT, type VfsPath, childOf, nameOf, parentOf } from "../base/path.ts";
import type { Committer } from "../ipc/committer.ts";
import type { PendingEvent } from "../ipc/event-bus.ts";
import type { LockOrder } from "../lock/lock-order.ts";
import { PathLocks } from "../lock/path-locks.ts";
import type { NewEntry, Writer } from "./inode-store.ts";
import type { Located } from "./namespace.ts";
import { assertGeneration, assertRange, exists, missing, unsupported } from "./path-error.ts";

/** A path of a driver's tree. */
export type Foreign = Located & { readonly kind: "foreign" };

export interface UnlinkOptions {
  readonly recursive?: boolean;
  /** Only if its generation is still this one. */
  readonly ifGeneration?: Seq;
  /** Throws when the caller may not remove what lies at a path below. */
  readonly assertMay?: (path: VfsPath) => Promise<void>;
}

export interface RenameOptions {
  /** Whether what is there is replaced (default) or is `EEXIST`. */
  readonly replace?: boolean;
  /** Only if the generation of what is replaced is still this one. */
  readonly ifGeneration?: Seq;
}

/** Takes what is to be told of a change. */
type Tell = (name: PendingEvent["name"], data: PendingEvent["data"]) => void;

export class ForeignTrees {
  readonly #committer: Committer;
  readonly #locks: PathLocks;

  constructor(committer: Committer, order: LockOrder) {
    this.#committer = committer;
    this.#locks = new PathLocks(order);
  }

  async stat({ driver, inner, path }: Foreign, noFollow = false): Promise<FileStat> {
    const stat = await driver.stat(inner, { noFollow });
    if (stat === undefined) throw missing(path);
    return { ...stat, path };
  }

  readdir({ driver, inner, path }: Foreign): Promise<readonly DirEntry[]> {
    return this.#locks.read(path, () => driver.readdir(inner));
  }

  read(
    { driver, inner, path }: Foreign,
    range: { readonly offset?: number; readonly length?: number },
  ): Promise<Uint8Array> {
    const wanted = { offset: range.offset ?? 0, length: range.length ?? LIMITS.ioBytesMax };
    return this.#locks.read(path, () => driver.read(inner, wanted));
  }

  write(
    at: Foreign,
    bytes: Uint8Array,
    { append = false, ...options }: WriteOptions & { readonly append?: boolean },
    writer: Writer,
  ): Promise<WriteResult> {
    const { driver, inner, path } = at;
    assertRange(options, path);
    return this.#change(path, writer, async (tell) => {
      writer.guard?.();
      const before = await driver.stat(inner);
      const write = (): Promise<WriteResult> =>
        append ? driver.append(inner, bytes, options) : driver.write(inner, bytes, options);
      const isMaking = before === undefined && (options.create ?? "never") !== "never";
      const result = isMaking ? await this.#withParents(at, tell, write) : await write();
      const { size } = result;
      tell("file.written", { path, size, type: "file", ...(before === undefined ? { created: true } : {}) });
      return result;
    });
  }

  /** Writes content that comes in pieces; nobody else writes in between. */
  writeAll(at: Foreign, pieces: AsyncIterable<Uint8Array>, writer: Writer): Promise<WriteResult> {
    const { driver, inner, path } = at;
    return this.#change(path, writer, async (tell) => {
      writer.guard?.();
      let result: WriteResult | undefined;
      let offset = 0;
      try {
        for await (const piece of pieces) {
          const options: WriteOptions = offset === 0 ? { create: "maybe" } : { offset };
          const write = (): Promise<WriteResult> => driver.write(inner, piece, options);
          result = offset === 0 ? await this.#withParents(at, tell, write) : await write();
          offset += piece.length;
        }
        const empty = (): Promise<WriteResult> => driver.write(inner, new Uint8Array(0), { create: "maybe" });
        return (result ??= await this.#withParents(at, tell, empty));
      } finally {
        // A part of it is a change too.
        if (result !== undefined) tell("file.written", { path, size: result.size, type: "file" });
      }
    });
  }

  truncate({ driver, inner, path }: Foreign, size: number, writer: Writer): Promise<WriteResult> {
    return this.#change(path, writer, async (tell) => {
      const result = await driver.truncate(inner, size);
      tell("file.written", { path, size, type: "file" });
      return result;
    });
  }

  /** Makes a file or a directory; missing directories on the way are made with it. */
  create(at: Foreign, { type }: NewEntry, writer: Writer): Promise<void> {
    const { driver, inner, path } = at;
    if (type !== "file" && type !== "directory") throw unsupported(`a ${type} in a mounted tree`, path);
    return this.#change(path, writer, async (tell) => {
      await this.#withParents(at, tell, async () => {
        if (type === "directory") await driver.mkdir(inner);
        else await driver.write(inner, new Uint8Array(0), { create: "must" });
      });
      if (type === "directory") tell("directory.created", { path });
      else tell("file.written", { path, size: 0, type, created: true });
    });
  }

  unlink(at: Foreign, options: UnlinkOptions, writer: Writer): Promise<void> {
    const { driver, inner, path } = at;
    return this.#change(path, writer, async (tell) => {
      if (options.ifGeneration !== undefined)
        assertGeneration((await driver.stat(inner))?.generation, options.ifGeneration, path);
      let type = (await driver.stat(inner).catch(() => undefined))?.type ?? "file";
      if (type === "directory" && options.recursive === true) {
        // Its own kind, not that of what it may lead to (X3).
        const above = await driver.readdir(parentOf(inner));
        type = above.find(({ name }) => name === nameOf(inner))?.type ?? type;
      }
      await remove(driver, { inner, path, type }, options, tell);
    });
  }

  /** Moves within one driver's tree. */
  rename(from: Foreign, to: Foreign, options: RenameOptions, writer: Writer): Promise<void> {
    return this.#change(
      from.path,
      writer,
      async (tell) => {
        if (options.replace === false || options.ifGeneration !== undefined) {
          const there = await to.driver.stat(to.inner);
          if (options.replace === false && there !== undefined) throw exists(to.path);
          if (options.ifGeneration !== undefined) assertGeneration(there?.generation, options.ifGeneration, to.path);
        }
        const type = (await from.driver.stat(from.inner).catch(() => undefined))?.type ?? "file";
        await from.driver.rename(from.inner, to.inner);
        tell("file.renamed", { path: to.path, oldPath: from.path, type });
      },
      to.path,
    );
  }

  /** Does something alone with one or two paths, and tells what was done, also where that was a part of it. */
  async #change<T>(path: VfsPath, writer: Writer, work: (tell: Tell) => Promise<T>, other?: VfsPath): Promise<T> {
    const events: PendingEvent[] = [];
    const tell: Tell = (name, data) => void events.push({ name, pid: writer.pid, data });
    const act = async (): Promise<T> => {
      try {
        return await work(tell);
      } finally {
        if (events.length > 0) await this.#committer.commit({}, events, writer.rider);
      }
    };
    return other === undefined ? this.#locks.write(path, act) : this.#locks.writeBoth(path, other, act);
  }

  /** Does something, and again with the directories on the way, where it fails for want of them. */
  async #withParents<T>({ driver, inner, path }: Foreign, tell: Tell, act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      if (!isKernelError(error) || error.code !== "ENOENT") throw error;
      await makeDirectory(driver, parentOf(inner), parentOf(path), tell);
      return act();
    }
  }
}

/** Makes a directory that is not there, and those above it. */
async function makeDirectory(driver: MountDriver, inner: VfsPath, path: VfsPath, tell: Tell): Promise<void> {
  if (inner === ROOT || (await driver.stat(inner)) !== undefined) return;
  await makeDirectory(driver, parentOf(inner), parentOf(path), tell);
  try {
    await driver.mkdir(inner);
    tell("directory.created", { path });
  } catch (error) {
    // Somebody else needs it too.
    if (!isKernelError(error) || error.code !== "EEXIST") throw error;
  }
}

async function remove(
  driver: MountDriver,
  { inner, path, type }: { readonly inner: VfsPath; readonly path: VfsPath; readonly type: DirEntry["type"] },
  options: UnlinkOptions,
  tell: Tell,
): Promise<void> {
  if (type === "directory" && options.recursive === true) {
    for (const { name, type: kind } of await driver.readdir(inner)) {
      const child = { inner: childOf(inner, name), path: childOf(path, name), type: kind };
      await options.assertMay?.(child.path);
      await remove(driver, child, options, tell);
    }
  }
  await driver.unlink(inner);
  tell(type === "directory" ? "directory.deleted" : "file.deleted", { path });
}
