// `@ergos/drivers/folder`: a folder of the machine as a mount, read-only unless asked.
//
// Nothing outside the folder can be reached: see `walk.ts`. Only regular files are read or written; pipes
// and devices are refused, because opening one can block or act. Linux only (it needs `/proc/self/fd`).

import { randomUUID } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, mkdir, open, readdir, rename, rmdir, unlink } from "node:fs/promises";
import {
  type DirEntry,
  type FileStat,
  KernelError,
  LIMITS,
  type MountDriver,
  SEQ_ZERO,
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

  constructor(root: FileHandle, options: FolderOptions) {
    this.#root = { handle: root, followsLinks: options.followLinks === true };
    this.source = options.path;
    this.readOnly = options.writable !== true;
  }

  async stat(path: VfsPath): Promise<Omit<FileStat, "path"> | undefined> {
    try {
      return await withSpot(this.#root, path, true, async (spot) => {
        await using handle = await nameSpot(spot);
        const stat = await handle.stat();
        return {
          type: typeOf(stat),
          size: stat.size,
          generation: SEQ_ZERO,
          version: 0,
          modified: Math.round(stat.mtimeMs),
          created: Math.round(stat.birthtimeMs),
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
      return entries.map((entry) => ({ name: entry.name, type: typeOf(entry) }));
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
    if (options.ifGeneration !== undefined)
      throw new KernelError("ENOTSUP", "a folder has no generations to compare; leave `ifGeneration` out", { path });
    return withSpot(this.#root, path, true, async (spot) => {
      const mode = await modeOf(spot, path);
      if (mode === undefined && (options.create ?? "never") === "never") {
        throw new KernelError("ENOENT", `${path} does not exist; pass create`, { path });
      }
      if (mode !== undefined && options.create === "must")
        throw new KernelError("EEXIST", `${path} exists already`, { path });
      if (options.offset !== undefined) {
        await using handle = await openSpot(spot, constants.O_RDWR | constants.O_CREAT, 0o644);
        await handle.write(bytes, 0, bytes.length, options.offset);
        if (options.durability === "flushed") await handle.datasync();
        return { generation: SEQ_ZERO, size: (await handle.stat()).size };
      }
      // A reader sees the old content or the new, never a part of it.
      const temporary = { directory: spot.directory, name: `.ergos-${randomUUID()}` };
      try {
        await using handle = await openSpot(
          temporary,
          constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL,
          0o644,
        );
        await handle.writeFile(bytes);
        if (mode !== undefined) await handle.chmod(mode & 0o7777);
        if (options.durability === "flushed") await handle.datasync();
        await rename(pathOf(temporary), pathOf(spot));
      } catch (error) {
        await unlink(pathOf(temporary)).catch(() => undefined);
        throw error;
      }
      return { generation: SEQ_ZERO, size: bytes.length };
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
      if (handle !== undefined && (await handle.stat()).isDirectory()) await rmdir(pathOf(spot));
      else await unlink(pathOf(spot));
    });
  }

  async rename(from: VfsPath, to: VfsPath): Promise<void> {
    this.#assertWritable(from);
    await withSpot(this.#root, from, false, (source) =>
      withSpot(this.#root, to, false, (target) => rename(pathOf(source), pathOf(target))),
    );
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

/** Permission bits of a regular file, or `undefined` when there is nothing. */
async function modeOf(spot: Spot, path: string): Promise<number | undefined> {
  await using handle = await nameSpot(spot).catch((error: unknown) => {
    const kernelError = translate(error, path);
    if (kernelError.code === "ENOENT") return undefined;
    throw kernelError;
  });
  const stat = await handle?.stat();
  if (stat?.isDirectory() === true) throw new KernelError("EISDIR", `${path} is a directory`, { path });
  if (stat?.isFile() === false) throw notRegular(path);
  return stat?.mode;
}

const notRegular = (path: string): KernelError =>
  new KernelError("ENOTSUP", `${path} is no regular file (a pipe, a socket or a device); it is not opened`, { path });
