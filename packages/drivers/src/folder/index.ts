// `@ergos/drivers/folder`: a folder of the machine as a mount, read-only unless asked.
//
// Nothing outside the folder can be reached: see `walk.ts`. Only regular files are read or written; pipes
// and devices are refused, because opening one can block or act. Linux only (it needs `/proc/self/fd`).

import { hash, randomUUID } from "node:crypto";
import { type BigIntStats, constants } from "node:fs";
import { type FileHandle, lstat, mkdir, open, readdir, readlink, rename, rmdir, unlink } from "node:fs/promises";
import {
  type DirEntry,
  type FileStat,
  KernelError,
  LIMITS,
  type MountDriver,
  SEQ_ZERO,
  type Seq,
  toSeq,
  type VfsPath,
  type WriteOptions,
  type WriteResult,
} from "@ergos/kernel";
import { translate } from "./error.ts";
import { type Root, type Spot, nameSpot, openSpot, pathOf, withSpot } from "./walk.ts";

export interface FolderOptions {
  /** Absolute path of the folder. */
  readonly path: string;
  readonly writable?: boolean;
  /**
   * Follow links that stay inside the folder (default: no). Rights are checked on the path with the link in it.
   */
  readonly followLinks?: boolean;
}

type Kind = { isFile(): boolean; isDirectory(): boolean; isSymbolicLink(): boolean };
const typeOf = (entry: Kind): DirEntry["type"] =>
  entry.isDirectory() ? "directory" : entry.isFile() ? "file" : entry.isSymbolicLink() ? "link" : "external";

/** @throws {ENOENT} there is no such folder · {ENOTDIR} it is none · {ENOTSUP} not on Linux */
export async function openFolder(options: FolderOptions): Promise<MountDriver> {
  if (process.platform !== "linux")
    throw new KernelError(
      "ENOTSUP",
      "mounting a folder needs Linux: other systems cannot open a file relative to a directory from Node",
    );
  const root = await open(options.path, constants.O_RDONLY | constants.O_DIRECTORY).catch((error: unknown) => {
    throw translate(error, options.path);
  });
  return new Folder(root, options);
}

class Folder implements MountDriver {
  readonly name = "folder";
  readonly source: string;
  readonly readOnly: boolean;
  readonly #root: Root;
  /** Directories in which nothing is left of killed hosts. */
  readonly #tidied = new Set<string>();

  constructor(root: FileHandle, options: FolderOptions) {
    this.#root = { handle: root, followsLinks: options.followLinks === true };
    this.source = options.path;
    this.readOnly = options.writable !== true;
  }

  async stat(
    path: VfsPath,
    { noFollow = false }: { readonly noFollow?: boolean } = {},
  ): Promise<Omit<FileStat, "path"> | undefined> {
    try {
      return await withSpot(this.#root, path, !noFollow, async (spot) => {
        await using handle = await nameSpot(spot);
        const stat = await handle.stat({ bigint: true });
        return {
          type: typeOf(stat),
          size: Number(stat.size),
          generation: stat.isFile() ? generationOf(stat) : SEQ_ZERO,
          version: 0,
          modified: Number(stat.mtimeMs),
          created: Number(stat.birthtimeMs),
          ...(stat.isSymbolicLink() ? { linkText: await readlink(pathOf(spot)) } : {}),
        };
      });
    } catch (error) {
      if (error instanceof KernelError && error.code === "ENOENT") return undefined;
      throw error;
    }
  }

  readdir(path: VfsPath): Promise<readonly DirEntry[]> {
    return withSpot(this.#root, path, true, async (spot) => {
      await using handle = await openSpot(spot, constants.O_RDONLY | constants.O_DIRECTORY);
      const entries = await readdir(`/proc/self/fd/${handle.fd}`, { withFileTypes: true });
      const found = entries.map((entry) => ({ name: entry.name, type: typeOf(entry) }));
      return found.filter(({ name }) => !TEMPORARY.test(name));
    });
  }

  read(path: VfsPath, range: { readonly offset: number; readonly length: number }): Promise<Uint8Array> {
    return withSpot(this.#root, path, true, async (spot) => {
      await using handle = await openSpot(spot, constants.O_RDONLY | constants.O_NONBLOCK);
      const stat = await handle.stat();
      if (stat.isDirectory()) throw new KernelError("EISDIR", `${path} is a directory; list it instead`, { path });
      if (!stat.isFile()) throw notRegular(path);
      const length = Math.max(0, Math.min(range.length, stat.size - range.offset));
      if (length >= LIMITS.ioBytesMax) {
        throw new KernelError(
          "EFBIG",
          `${path} has ${stat.size} bytes, one read carries less than ${LIMITS.ioBytesMax}; read it in parts with offset and length`,
          { path },
        );
      }
      const bytes = Buffer.allocUnsafe(length);
      let filled = 0;
      while (filled < length) {
        const { bytesRead } = await handle.read(bytes, filled, length - filled, range.offset + filled);
        // A file that shrinks while it is read ends where it ends now.
        if (bytesRead === 0) break;
        filled += bytesRead;
      }
      return bytes.subarray(0, filled);
    });
  }

  async write(path: VfsPath, bytes: Uint8Array, options: WriteOptions): Promise<WriteResult> {
    this.#assertWritable(path);
    return withSpot(this.#root, path, true, async (spot) => {
      const before = await fileAt(spot, path);
      if (options.ifGeneration !== undefined) assertGeneration(before, options.ifGeneration, path);
      if (before === undefined && (options.create ?? "never") === "never") {
        throw new KernelError("ENOENT", `${path} does not exist; pass create`, { path });
      }
      if (before !== undefined && options.create === "must")
        throw new KernelError("EEXIST", `${path} exists already`, { path });
      if (options.offset !== undefined) {
        await using handle = await openSpot(spot, constants.O_RDWR | constants.O_CREAT, 0o644);
        await writeAll(handle, bytes, options.offset);
        if (options.durability === "flushed") await handle.datasync();
        return resultOf(handle);
      }
      // Its other names are to have what is written too.
      if (before !== undefined && before.nlink > 1n) return this.#overwrite(spot, bytes, options);
      await this.#tidy(path, spot);
      // A reader sees the old content or the new, never a part of it; but of a file with several names.
      const temporary = { directory: spot.directory, name: `${TEMPORARY_PREFIX}${randomUUID()}` };
      try {
        await using handle = await openSpot(
          temporary,
          constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL,
          0o644,
        );
        await handle.writeFile(bytes);
        if (before !== undefined) await takeOver(handle, before);
        if (options.durability === "flushed") await handle.datasync();
        await rename(pathOf(temporary), pathOf(spot));
        return await resultOf(handle);
      } catch (error) {
        await unlink(pathOf(temporary)).catch(() => undefined);
        throw error;
      }
    });
  }

  /** In place, so that a reader may see a part of it; what was there before is cut off last, and never all of it gone. */
  async #overwrite(spot: Spot, bytes: Uint8Array, { durability }: WriteOptions): Promise<WriteResult> {
    await using handle = await openSpot(spot, constants.O_WRONLY);
    await writeAll(handle, bytes, 0);
    await handle.truncate(bytes.length);
    if (durability === "flushed") await handle.datasync();
    return resultOf(handle);
  }

  /** Before the first write to a directory what killed hosts have left there is removed; what others write now is young. */
  async #tidy(path: VfsPath, { directory }: Spot): Promise<void> {
    const name = path.slice(0, path.lastIndexOf("/"));
    if (this.#tidied.has(name)) return;
    if (this.#tidied.size >= TIDIED_MAX) this.#tidied.clear();
    this.#tidied.add(name);
    await removeTemporaries(`/proc/self/fd/${directory.fd}`, Date.now() - LEFT_AFTER_MS).catch(() => 0);
  }

  async append(path: VfsPath, bytes: Uint8Array, options: WriteOptions): Promise<WriteResult> {
    this.#assertWritable(path);
    const { create = "never", ifGeneration } = options;
    return withSpot(this.#root, path, true, async (spot) => {
      const before = await fileAt(spot, path);
      if (ifGeneration !== undefined) assertGeneration(before, ifGeneration, path);
      const make = create === "never" ? 0 : constants.O_CREAT | (create === "must" ? constants.O_EXCL : 0);
      // The machine itself finds the end, whoever else writes.
      const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_NONBLOCK | make;
      await using handle = await openSpot(spot, flags, 0o644);
      await writeAll(handle, bytes);
      if (options.durability === "flushed") await handle.datasync();
      return resultOf(handle);
    });
  }

  async truncate(path: VfsPath, size: number): Promise<WriteResult> {
    this.#assertWritable(path);
    return withSpot(this.#root, path, true, async (spot) => {
      await fileAt(spot, path);
      await using handle = await openSpot(spot, constants.O_RDWR | constants.O_NONBLOCK);
      await handle.truncate(size);
      return resultOf(handle);
    });
  }

  async mkdir(path: VfsPath): Promise<void> {
    this.#assertWritable(path);
    await withSpot(this.#root, path, false, (spot) => mkdir(pathOf(spot)));
  }

  async unlink(path: VfsPath): Promise<void> {
    this.#assertWritable(path);
    await withSpot(this.#root, path, false, async (spot) => {
      await using handle = await nameSpot(spot).catch(() => undefined);
      if (handle === undefined || !(await handle.stat()).isDirectory()) return unlink(pathOf(spot));
      try {
        await rmdir(pathOf(spot));
      } catch (error) {
        // What nobody sees does not keep a directory.
        if ((await removeTemporaries(pathOf(spot))) === 0) throw error;
        await rmdir(pathOf(spot));
      }
    });
  }

  async rename(from: VfsPath, to: VfsPath): Promise<void> {
    this.#assertWritable(from);
    await withSpot(this.#root, from, false, async (source) => {
      // That it is not there is said of it, and not of where it goes.
      await lstat(pathOf(source));
      await withSpot(this.#root, to, false, (target) => rename(pathOf(source), pathOf(target)));
    });
  }

  close(): Promise<void> {
    return this.#root.handle.close();
  }

  #assertWritable(path: string): void {
    if (this.readOnly)
      throw new KernelError("EROFS", `${this.source} is mounted read-only; mount it with writable to change ${path}`, {
        path,
      });
  }
}

/** Content that is being written, until it takes its name; of a host that was killed it stays behind, and is not listed. */
const TEMPORARY_PREFIX = ".ergos-";
const TEMPORARY = /^\.ergos-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** A write that has not ended after this long has died with its host. */
const LEFT_AFTER_MS = 3_600_000;
/** Directories that are remembered to have been looked through. */
const TIDIED_MAX = 10_000;

/** Removes what writes of killed hosts have left in a directory, as far as it is old enough; how many. */
async function removeTemporaries(directory: string, before = Number.POSITIVE_INFINITY): Promise<number> {
  let count = 0;
  for (const name of await readdir(directory)) {
    if (!TEMPORARY.test(name)) continue;
    const at = `${directory}/${name}`;
    if ((await lstat(at)).mtimeMs >= before) continue;
    await unlink(at);
    count++;
  }
  return count;
}

/** What takes the place of a file is whose that was, as far as this process may say so, and has its mode. */
async function takeOver(handle: FileHandle, { uid, gid, mode }: BigIntStats): Promise<void> {
  const own = await handle.stat({ bigint: true });
  if (own.uid !== uid || own.gid !== gid) await handle.chown(Number(uid), Number(gid)).catch(() => undefined);
  await handle.chmod(Number(mode) & 0o7777);
}

/** Another number after each change: which file it is, how large, and when it was changed by the machine's clock. */
const generationOf = ({ ino, size, ctimeNs }: Pick<BigIntStats, "ino" | "size" | "ctimeNs">): Seq =>
  // 52 bits are a whole number, and 0 would say that there are none.
  toSeq(Number.parseInt(hash("sha256", `${ino} ${size} ${ctimeNs}`).slice(0, 13), 16) || 1);

async function resultOf(handle: FileHandle): Promise<WriteResult> {
  const stat = await handle.stat({ bigint: true });
  return { generation: generationOf(stat), size: Number(stat.size) };
}

function assertGeneration(stat: BigIntStats | undefined, wanted: Seq, path: string): void {
  const found = stat === undefined ? SEQ_ZERO : generationOf(stat);
  if (found !== wanted)
    throw new KernelError("ESTALE", `generation ${wanted} was expected, found ${found}; read the file again`, { path });
}

/** @param offset where in the file; behind its end when the machine finds that */
async function writeAll(handle: FileHandle, bytes: Uint8Array, offset?: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const at = offset === undefined ? null : offset + done;
    done += (await handle.write(bytes, done, bytes.length - done, at)).bytesWritten;
  }
}

/** What a regular file is, or `undefined` when there is nothing. */
async function fileAt(spot: Spot, path: string): Promise<BigIntStats | undefined> {
  await using handle = await nameSpot(spot).catch((error: unknown) => {
    const kernelError = translate(error, path);
    if (kernelError.code === "ENOENT") return undefined;
    throw kernelError;
  });
  const stat = await handle?.stat({ bigint: true });
  if (stat?.isDirectory() === true) throw new KernelError("EISDIR", `${path} is a directory`, { path });
  if (stat?.isFile() === false) throw notRegular(path);
  return stat;
}

const notRegular = (path: string): KernelError =>
  new KernelError("ENOTSUP", `${path} is no regular file (a pipe, a socket or a device); it is not opened`, { path });
