// `@ergos/drivers/zone`: a tree of one zone as a mount in another, read-only unless asked.
//
// Z1  Nothing of the zone but the tree is reached: what a link inside leads to outside of it is not there. Who swaps
//     links at the right moment leads a caller astray in its own zone, and never out of it.
// Z2  Only files and directories are: what acts when it is written (a process's signal) is no content.
// Z3  Whoever serves the zone may end: reads find who serves it then, of changes the caller is told.

import {
  type DirEntry,
  type FileStat,
  type Files,
  KernelError,
  type MountDriver,
  type VfsPath,
  type WriteOptions,
  type WriteResult,
  isKernelError,
} from "@ergos/kernel";

/** The files of a zone, as long as they are open. */
export interface OpenZone {
  readonly fs: Files;
  close(): Promise<void>;
}

export interface ZoneMountOptions {
  /** Name of the zone. */
  readonly zone: string;
  /** The directory in it that is mounted. */
  readonly path: VfsPath;
  readonly writable?: boolean;
  /** Opens the zone; called again when the connection was lost. */
  readonly open: () => Promise<OpenZone>;
}

/** What of a zone is listed: links stand for what they lead to. */
const LISTED: ReadonlySet<DirEntry["type"]> = new Set(["file", "directory", "link"]);
const isPlain = ({ type }: Pick<FileStat, "type">): boolean => type === "file" || type === "directory";

/** @throws {ENOENT} the zone has no such directory · {ENOTDIR} it is none */
export async function openZoneMount(options: ZoneMountOptions): Promise<MountDriver> {
  const mount = new ZoneMount(options);
  try {
    const stat = await mount.stat("/" as VfsPath);
    if (stat?.type === "directory") return mount;
    throw new KernelError(
      stat === undefined ? "ENOENT" : "ENOTDIR",
      `zone ${options.zone} has no directory ${options.path}`,
      { path: options.path },
    );
  } catch (error) {
    await mount.close();
    throw error;
  }
}

/** What is meant for the zone: locks, and whatever else comes along, are of the zone that asks. */
function ownOptions({ offset, create, ifGeneration, durability, consistency, mime }: WriteOptions): WriteOptions {
  const options = { offset, create, ifGeneration, durability, consistency, mime };
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

const join = (directory: string, name: string): string => `${directory === "/" ? "" : directory}/${name}`;

function nothingThere(error: unknown): undefined {
  if (isKernelError(error) && (error.code === "ENOENT" || error.code === "ENOTDIR")) return undefined;
  throw error;
}

class ZoneMount implements MountDriver {
  readonly name = "zone";
  readonly source: string;
  readonly readOnly: boolean;
  readonly #options: ZoneMountOptions;
  #opened: Promise<OpenZone> | undefined;

  constructor(options: ZoneMountOptions) {
    this.#options = options;
    this.source = `${options.zone}:${options.path}`;
    this.readOnly = options.writable !== true;
  }

  async stat(path: VfsPath, options?: { readonly noFollow?: boolean }): Promise<Omit<FileStat, "path"> | undefined> {
    return this.#ask(async (fs) => {
      const found = options?.noFollow === true ? await this.#findName(fs, path) : await this.#find(fs, path);
      if (found === undefined || (!isPlain(found) && found.type !== "link")) return undefined;
      const { path: _path, owner: _owner, inode: _inode, lastWriter: _writer, ...stat } = found;
      return stat;
    });
  }

  readdir(path: VfsPath): Promise<readonly DirEntry[]> {
    return this.#ask(async (fs) => {
      // What else there is in a zone stays there.
      return (await fs.readdir(await this.#inside(fs, path))).filter(({ type }) => LISTED.has(type));
    });
  }

  read(path: VfsPath, range: { readonly offset: number; readonly length: number }): Promise<Uint8Array> {
    return this.#ask(async (fs) => fs.read(await this.#inside(fs, path), range));
  }

  async write(path: VfsPath, bytes: Uint8Array, options: WriteOptions): Promise<WriteResult> {
    const own = ownOptions(options);
    return this.#change(path, async (fs) => fs.write(await this.#place(fs, path), bytes, own));
  }

  append(path: VfsPath, bytes: Uint8Array, options: WriteOptions): Promise<WriteResult> {
    const own = ownOptions(options);
    return this.#change(path, async (fs) => fs.append(await this.#place(fs, path), bytes, { create: "never", ...own }));
  }

  truncate(path: VfsPath, size: number): Promise<WriteResult> {
    return this.#change(path, async (fs) => fs.truncate(await this.#inside(fs, path), size));
  }

  mkdir(path: VfsPath): Promise<void> {
    return this.#change(path, async (fs) => fs.mkdir(await this.#place(fs, path)));
  }

  unlink(path: VfsPath): Promise<void> {
    return this.#change(path, async (fs) => fs.unlink(await this.#named(fs, path)));
  }

  rename(from: VfsPath, to: VfsPath): Promise<void> {
    return this.#change(from, async (fs) => fs.rename(await this.#named(fs, from), await this.#place(fs, to)));
  }

  async close(): Promise<void> {
    const opened = this.#opened;
    this.#opened = undefined;
    await opened?.then(
      (zone) => zone.close(),
      () => undefined,
    );
  }

  #path(path: VfsPath): string {
    const { path: base } = this.#options;
    return base === "/" ? path : `${base}${path === "/" ? "" : path}`;
  }

  /** What a path is; nothing where it leads out of the tree (Z1). */
  async #find(fs: Files, path: VfsPath): Promise<FileStat | undefined> {
    try {
      const found = await fs.stat(this.#path(path));
      return this.#isWithin(found.path) ? found : undefined;
    } catch (error) {
      return nothingThere(error);
    }
  }

  /** What a name is, a link of itself; nothing where its directory leads out of the tree. */
  async #findName(fs: Files, path: VfsPath): Promise<FileStat | undefined> {
    const slash = path.lastIndexOf("/");
    const directory = await this.#find(fs, (slash <= 0 ? "/" : path.slice(0, slash)) as VfsPath);
    if (directory === undefined || path === "/") return directory;
    return fs.stat(join(directory.path, path.slice(slash + 1)), { noFollow: true }).catch(nothingThere);
  }

  /** The canonical path of what is there (Z1, Z2). */
  async #inside(fs: Files, path: VfsPath): Promise<string> {
    const found = await this.#find(fs, path);
    if (found !== undefined && isPlain(found)) return found.path;
    throw new KernelError("ENOENT", `zone ${this.#options.zone} has no file or directory here`, { path });
  }

  /** A path under which something may be made: what it names, or a name in a directory that is there. */
  async #place(fs: Files, path: VfsPath): Promise<string> {
    const found = await this.#find(fs, path);
    if (found !== undefined) return this.#inside(fs, path);
    return this.#named(fs, path, false);
  }

  /** A name in its directory. A link is not followed: where one may not be, it would lead what is written out of the tree. */
  async #named(fs: Files, path: VfsPath, mayBeLink = true): Promise<string> {
    const slash = path.lastIndexOf("/");
    // A part of a normalised path is one.
    const directory = await this.#inside(fs, (slash <= 0 ? "/" : path.slice(0, slash)) as VfsPath);
    const name = path.slice(slash + 1);
    const at = join(directory, name);
    const there = await fs.stat(at, { noFollow: true }).catch(nothingThere);
    if (there !== undefined && !isPlain(there) && !(mayBeLink && there.type === "link"))
      throw new KernelError("ENOENT", `zone ${this.#options.zone} has no file or directory here`, { path });
    return at;
  }

  #isWithin(path: string): boolean {
    const { path: base } = this.#options;
    return base === "/" || path === base || path.startsWith(`${base}/`);
  }

  async #change<T>(path: VfsPath, work: (fs: Files) => Promise<T>): Promise<T> {
    if (this.readOnly) throw new KernelError("EROFS", `zone ${this.#options.zone} is mounted read-only`, { path });
    return this.#ask(work, false);
  }

  async #ask<T>(work: (fs: Files) => Promise<T>, mayRepeat = true): Promise<T> {
    const opened = (this.#opened ??= this.#options.open());
    // One that cannot be opened now may be later.
    opened.catch(() => {
      if (this.#opened === opened) this.#opened = undefined;
    });
    try {
      return await work((await opened).fs);
    } catch (error) {
      const isLost = isKernelError(error) && error.code === "ECONNRESET";
      if (this.#opened === opened && isLost) this.#opened = undefined;
      if (isLost && mayRepeat) return this.#ask(work, false);
      throw error;
    }
  }
}
