// The files of a process in the shape of `node:fs/promises`, so that libraries made for that run on them unchanged.
//
// Differences from a disk: there are no hard links, users and permission bits are kept but decide nothing, and what was
// written is committed when the call has settled. Who may do what is decided by the rights of the process.

import type * as promises from "node:fs/promises";
import { randomInt } from "node:crypto";
import { constants } from "node:fs";
import { posix } from "node:path";
import { fileURLToPath } from "node:url";
import { type FileStat, type Files, KernelError, LIMITS, isKernelError } from "@ergos/kernel";
import { type Data, type Encoded, decoded, encodingOf, gather } from "./node-data.ts";
import { asNode, asNodeError, assertGoesOn, nodeError } from "./node-error.ts";
import { NodeHandle, type Opened, openByPath, openDirectory, parseFlags, toMode, toMs } from "./node-handle.ts";
import { type Found, NodeDir } from "./node-dir.ts";
import { type GlobOptions, globbed } from "./node-glob.ts";
import { NodeDirent, NodeStats, bigStats } from "./node-stat.ts";

type Covered =
  | "access"
  | "appendFile"
  | "chmod"
  | "chown"
  | "constants"
  | "copyFile"
  | "cp"
  | "glob"
  | "lchown"
  | "link"
  | "lstat"
  | "lutimes"
  | "mkdir"
  | "mkdtemp"
  | "mkdtempDisposable"
  | "open"
  | "opendir"
  | "readFile"
  | "readdir"
  | "readlink"
  | "realpath"
  | "rename"
  | "rm"
  | "rmdir"
  | "stat"
  | "symlink"
  | "truncate"
  | "unlink"
  | "utimes"
  | "watch"
  | "writeFile";

/** The functions of `node:fs/promises`; `promises` is the same once more, for libraries that look for it in `fs`. */
export type NodeFs = Pick<typeof promises, Covered> & { readonly promises: Pick<typeof promises, Covered> };

type PathLike = string | Buffer | URL;
type Recursive = { readonly recursive?: boolean; readonly force?: boolean };
type WriteOptions =
  | Encoded
  | {
      readonly encoding?: BufferEncoding | null;
      readonly mode?: number | string;
      readonly flag?: string | number;
      readonly signal?: AbortSignal;
      readonly flush?: boolean;
    };

/**
 * Files as `node:fs/promises` has them.
 * @param cwd where relative paths begin (default `/`)
 */
export function toNodeFs(files: Files, options: { readonly cwd?: string } = {}): NodeFs {
  const face = new NodeFsFace(files, options.cwd ?? "/");
  const bound = Object.fromEntries(
    Object.getOwnPropertyNames(NodeFsFace.prototype)
      .filter((name) => name !== "constructor")
      .map((name) => [name, (face[name as keyof NodeFsFace] as (...args: unknown[]) => unknown).bind(face)]),
  );
  const shape = { ...bound, constants };
  // Each method takes what Node's overloads take; the test holds them against the real module.
  return { ...shape, promises: shape } as unknown as NodeFs;
}

class NodeFsFace {
  readonly #files: Files;
  readonly #cwd: string;

  constructor(files: Files, cwd: string) {
    this.#files = files;
    this.#cwd = cwd;
  }

  async access(path: PathLike): Promise<void> {
    const at = this.#at(path);
    await asNode("access", at, async () => this.#files.stat(await this.#named(path)));
  }

  async stat(
    path: PathLike,
    options: { readonly bigint?: boolean; readonly throwIfNoEntry?: boolean } = {},
  ): Promise<unknown> {
    return this.#stats("stat", path, options, false);
  }

  async lstat(
    path: PathLike,
    options: { readonly bigint?: boolean; readonly throwIfNoEntry?: boolean } = {},
  ): Promise<unknown> {
    return this.#stats("lstat", path, options, true);
  }

  async readFile(
    path: PathLike | NodeHandle,
    options?:
      | Encoded
      | { readonly encoding?: BufferEncoding | null; readonly flag?: string; readonly signal?: AbortSignal },
  ): Promise<Buffer | string> {
    if (path instanceof NodeHandle) return path.readFile(options);
    assertGoesOn(signalOf(options));
    const at = this.#at(path);
    const flag = flagOf(options, "r");
    try {
      if (flag === "r") return decoded(await this.#files.read(await this.#named(path)), options);
    } catch (error) {
      // Too large for one read.
      if (!isKernelError(error) || error.code !== "EFBIG") throw asNodeError(error, "open", at);
    }
    await using handle = await this.open(path, flag);
    return await handle.readFile(options);
  }

  async writeFile(path: PathLike | NodeHandle, data: Data, options?: WriteOptions): Promise<void> {
    return this.#put(path, data, options, "w");
  }

  async appendFile(path: PathLike | NodeHandle, data: Data, options?: WriteOptions): Promise<void> {
    return this.#put(path, data, options, "a");
  }

  async open(path: PathLike, flags: string | number = "r", mode: number | string = 0o666): Promise<NodeHandle> {
    const at = this.#at(path);
    const wanted = parseFlags(flags);
    return asNode("open", at, async () => {
      await this.#named(path);
      if (wanted.noFollow && (await this.#lookUp(at))?.type === "link")
        throw new KernelError("ELOOP", "it is a link", { path: at });
      if (wanted.directory) await this.#assertDirectory(at, "ENOTDIR");
      if (!wanted.write && !wanted.create) {
        const found = await this.#files.stat(at);
        if (isDirectory(found)) return new NodeHandle(openDirectory(this.#files, at), at, wanted);
      }
      if (wanted.exclusive) await this.#assertNothing(at);
      if (wanted.exclusive) await this.#create(at, new Uint8Array(), mode);
      else if (wanted.create) await this.#createIfMissing(at, new Uint8Array(), mode);
      const opened = await this.#open(at, [
        ...(wanted.read ? (["read"] as const) : []),
        ...(wanted.write ? (["write"] as const) : []),
      ]);
      try {
        if (wanted.truncate) await opened.truncate(0);
        else if (opened.fd < 0) await this.#assertFile(at);
      } catch (error) {
        await opened.close();
        throw error;
      }
      return new NodeHandle(opened, at, wanted);
    });
  }

  async mkdir(
    path: PathLike,
    options?: number | string | null | { readonly recursive?: boolean; readonly mode?: number | string },
  ): Promise<string | undefined> {
    const at = this.#at(path);
    const { recursive = false, mode } =
      typeof options === "object" && options !== null ? options : { mode: options ?? undefined };
    const make = async (one: string): Promise<void> => {
      await this.#files.mkdir(one);
      if (mode !== undefined) await this.#change("mkdir", one, { mode: toMode(mode) }, false);
    };
    return asNode("mkdir", at, async () => {
      if (recursive) return this.#makeAll(at, make);
      await this.#assertParent(at);
      await make(at);
      return undefined;
    });
  }

  /** Makes what is missing on the way to a directory: the first that was made here. */
  async #makeAll(at: string, make: (one: string) => Promise<void>): Promise<string | undefined> {
    let first: string | undefined;
    for (const one of await this.#missing(at)) {
      try {
        await make(one);
        first ??= one;
      } catch (error) {
        if (!isKernelError(error) || error.code !== "EEXIST") throw error;
        // Somebody else has made it meanwhile, or a link stands there that leads nowhere.
        if (one === at) await this.#assertDirectory(one);
        else if (!isDirectory(await this.#lookUp(one, false))) throw nodeError("ENOTDIR", "mkdir", one);
      }
    }
    if (first === undefined) await this.#assertDirectory(at);
    return first;
  }

  async mkdtemp(prefix: PathLike, options?: Encoded): Promise<Buffer | string> {
    const begin = textOf(prefix);
    for (;;) {
      const path = `${begin}${randomName()}`;
      try {
        await this.mkdir(path, 0o700);
        return decodedName(path, options);
      } catch (error) {
        if ((error as { readonly code?: string }).code !== "EEXIST") throw error;
      }
    }
  }

  async mkdtempDisposable(
    prefix: PathLike,
    options?: Encoded,
  ): Promise<AsyncDisposable & { readonly path: Buffer | string; remove(): Promise<void> }> {
    const path = await this.mkdtemp(prefix, options);
    const remove = (): Promise<void> => this.rm(path, { recursive: true, force: true });
    return { path, remove, [Symbol.asyncDispose]: remove };
  }

  async *glob(
    patterns: string | readonly string[],
    options: GlobOptions = {},
  ): AsyncGenerator<string | NodeDirent, void, undefined> {
    const list = async function* (this: NodeFsFace, directory: string): AsyncGenerator<Found, void, undefined> {
      try {
        if (isDirectory(await this.#lookUp(directory, false))) yield* this.#entries(directory, false);
      } catch (error) {
        // What may not be seen is not found.
        if (!isKernelError(error)) throw error;
      }
    };
    yield* globbed(patterns, this.#at(options.cwd ?? this.#cwd), options, list.bind(this));
  }

  async readdir(
    path: PathLike,
    options?:
      | Encoded
      | {
          readonly encoding?: BufferEncoding | "buffer" | null;
          readonly withFileTypes?: boolean;
          readonly recursive?: boolean;
        },
  ): Promise<unknown[]> {
    const at = this.#at(path);
    const { withFileTypes = false, recursive = false } =
      typeof options === "object" && options !== null
        ? (options as { readonly withFileTypes?: boolean; readonly recursive?: boolean })
        : {};
    return asNode("scandir", at, async () => {
      const found: unknown[] = [];
      for await (const { entry, parent } of this.#entries(at, recursive)) {
        const below = posix.relative(at, parent);
        found.push(
          withFileTypes
            ? new NodeDirent(entry, parent)
            : decodedName(below === "" ? entry.name : `${below}/${entry.name}`, options as Encoded),
        );
      }
      return found;
    });
  }

  async opendir(path: PathLike, options: { readonly recursive?: boolean } = {}): Promise<NodeDir> {
    const at = this.#at(path);
    await asNode("opendir", at, () => this.#assertDirectory(at, "ENOTDIR"));
    return new NodeDir(at, this.#entries(at, options.recursive === true));
  }

  async rm(path: PathLike, { recursive = false, force = false }: Recursive = {}): Promise<void> {
    const at = this.#at(path);
    await asNode("rm", at, async () => {
      const found = await this.#lookUp(at);
      if (found !== undefined) await this.#named(path);
      if (found === undefined) {
        if (force) return;
        throw new KernelError("ENOENT", "there is nothing to remove", { path: at });
      }
      if (found.type === "directory" && !recursive)
        throw Object.assign(nodeError("EISDIR", "rm", at), { code: "ERR_FS_EISDIR", name: "SystemError" });
      try {
        await this.#files.unlink(at, { recursive });
      } catch (error) {
        if (!force || !isKernelError(error) || error.code !== "ENOENT") throw error;
      }
    });
  }

  async rmdir(path: PathLike, { recursive = false }: Recursive = {}): Promise<void> {
    const at = this.#at(path);
    await asNode("rmdir", at, async () => {
      const { type } = await this.#files.stat(at, { noFollow: true });
      if (type !== "directory")
        throw new KernelError("ENOTDIR", "rmdir removes directories only; use unlink or rm", { path: at });
      await this.#files.unlink(at, { recursive });
    });
  }

  async unlink(path: PathLike): Promise<void> {
    const at = this.#at(path);
    await asNode("unlink", at, async () => {
      await this.#named(path);
      const { type } = await this.#files.stat(at, { noFollow: true });
      if (type === "link" && textOf(path).endsWith("/"))
        throw new KernelError("ENOTDIR", "the link itself has no slash behind its name", { path: at });
      if (type === "directory") throw new KernelError("EISDIR", "directories are removed by rmdir", { path: at });
      await this.#files.unlink(at);
    });
  }

  async rename(from: PathLike, to: PathLike): Promise<void> {
    const [source, target] = [this.#at(from), this.#at(to)];
    await asNode(
      "rename",
      source,
      async () => {
        await this.#files.stat(source, { noFollow: true });
        await this.#named(from);
        await this.#assertParent(target);
        await this.#files.rename(source, target);
      },
      target,
    );
  }

  async copyFile(from: PathLike, to: PathLike, mode = 0): Promise<void> {
    const [source, target] = [this.#at(from), this.#at(to)];
    await asNode(
      "copyfile",
      source,
      async () => {
        const found = await this.#assertFile(await this.#named(from));
        const isNew = (mode & constants.COPYFILE_EXCL) !== 0;
        if (isNew) await this.#assertNothing(target);
        const there = isNew ? undefined : await this.#files.stat(target).catch(() => undefined);
        // Onto itself, under whatever name.
        if (isSame(found, there)) return;
        await this.#assertParent(target);
        if (isNew) await this.#files.write(target, "", { create: "must" });
        await this.#files.copy(source, target);
        if (found.mode !== undefined) await this.#change("copyfile", target, { mode: found.mode }, false);
      },
      target,
    );
  }

  async cp(
    from: PathLike,
    to: PathLike,
    options: Recursive & {
      readonly errorOnExist?: boolean;
      readonly filter?: (from: string, to: string) => boolean | Promise<boolean>;
      readonly dereference?: boolean;
      readonly verbatimSymlinks?: boolean;
      readonly preserveTimestamps?: boolean;
    } = {},
  ): Promise<void> {
    const [source, target] = [this.#at(from), this.#at(to)];
    const {
      recursive = false,
      force = true,
      errorOnExist = false,
      filter,
      dereference = false,
      verbatimSymlinks = false,
    } = options;
    if (filter !== undefined && !(await filter(source, target))) return;
    const found = await asNode("cp", source, () => this.#files.stat(source, { noFollow: !dereference }));
    const there = await asNode("cp", target, () => this.#lookUp(target, !dereference));
    const refuse = (code: string, errno: string): Error =>
      Object.assign(nodeError(errno, "cp", source, target), { code: `ERR_FS_${code}` });
    if (isSame(found, there)) throw refuse("CP_EINVAL", "EINVAL");
    if (found.type === "directory") {
      if (there !== undefined && there.type !== "directory") throw refuse("CP_DIR_TO_NON_DIR", "EISDIR");
      if (!recursive) throw Object.assign(nodeError("EISDIR", "cp", source), { code: "ERR_FS_EISDIR" });
      // Also where links lead into it.
      const [into, out] = await asNode("cp", target, () =>
        Promise.all([this.#canonical(target), this.#canonical(source)]),
      );
      if (`${into}/`.startsWith(`${out}/`)) throw refuse("CP_EINVAL", "EINVAL");
      await this.mkdir(target, { recursive: true });
      for (const name of await this.readdir(source))
        await this.cp(posix.join(source, String(name)), posix.join(target, String(name)), options);
      return;
    }
    if (there?.type === "directory") throw refuse("CP_NON_DIR_TO_DIR", "ENOTDIR");
    if (there !== undefined && !force) {
      if (errorOnExist) throw refuse("CP_EEXIST", "EEXIST");
      return;
    }
    await this.mkdir(posix.dirname(target), { recursive: true });
    if (found.type === "link") {
      if (there !== undefined && there.type !== "link") throw nodeError("EEXIST", "symlink", source, target);
      await this.#putLink((verbatimSymlinks ? found.linkText : found.target) ?? "/", target, there !== undefined);
    } else {
      // What a link leads to is not what is replaced.
      if (there?.type === "link") await this.unlink(target);
      await this.copyFile(source, target);
    }
    if (options.preserveTimestamps === true && found.modified !== undefined)
      await this.#files.setattr(target, { modified: found.modified });
  }

  /** A link in the place of another: that goes once this one is there. */
  async #putLink(text: string, target: string, isReplaced: boolean): Promise<void> {
    const at = isReplaced ? posix.join(posix.dirname(target), `.${randomName()}~`) : target;
    await this.symlink(text, at);
    if (!isReplaced) return;
    try {
      await this.rename(at, target);
    } catch (error) {
      await this.unlink(at).catch(() => undefined);
      throw error;
    }
  }

  async readlink(path: PathLike, options?: Encoded): Promise<Buffer | string> {
    const at = this.#at(path);
    return asNode("readlink", at, async () => {
      const { type, linkText, target } = await this.#files.stat(at, { noFollow: true });
      if (type !== "link") throw new KernelError("EINVAL", "it is no link", { path: at });
      return decodedName(linkText ?? target ?? "/", options);
    });
  }

  async symlink(target: PathLike, path: PathLike): Promise<void> {
    const at = this.#at(path);
    await asNode("symlink", at, async () => {
      await this.#assertParent(at);
      await this.#files.link(at, textOf(target));
    });
  }

  async link(path: PathLike, to: PathLike): Promise<void> {
    const [source, target] = [this.#at(path), this.#at(to)];
    await asNode(
      "link",
      source,
      async () => {
        await this.#files.stat(source, { noFollow: true });
        await this.#assertParent(target);
        await this.#assertNothing(target);
      },
      target,
    );
    throw nodeError("ENOTSUP", "link", source, target);
  }

  async realpath(path: PathLike, options?: Encoded): Promise<Buffer | string> {
    const at = this.#at(path);
    return decodedName((await asNode("realpath", at, () => this.#files.stat(at))).path, options);
  }

  async truncate(path: PathLike, size = 0): Promise<void> {
    const at = this.#at(path);
    await asNode("open", at, async () => this.#files.truncate(await this.#named(path), Math.max(0, size)));
  }

  async chmod(path: PathLike, mode: number | string): Promise<void> {
    await this.#change("chmod", path, { mode: toMode(mode) }, false);
  }

  async utimes(path: PathLike, _access: unknown, modified: number | string | Date): Promise<void> {
    await this.#change("utime", path, { modified: toMs(modified) }, false);
  }

  async lutimes(path: PathLike, _access: unknown, modified: number | string | Date): Promise<void> {
    await this.#change("lutime", path, { modified: toMs(modified) }, true);
  }

  /** There is one owner, the user of who made it. */
  async chown(path: PathLike): Promise<void> {
    await this.#change("chown", path, undefined, false);
  }

  async lchown(path: PathLike): Promise<void> {
    await this.#change("lchown", path, undefined, true);
  }

  async *watch(
    path: PathLike,
    options:
      | { readonly recursive?: boolean; readonly signal?: AbortSignal; readonly encoding?: BufferEncoding }
      | BufferEncoding = {},
  ): AsyncGenerator<{ eventType: string; filename: string }, void, undefined> {
    const { recursive = false, signal } = typeof options === "string" ? {} : options;
    const at = this.#at(path);
    const { type, path: canonical } = await asNode("watch", at, () => this.#files.stat(at));
    const below = canonical === "/" ? "" : canonical;
    const glob = type === "directory" ? `${escaped(below)}/${recursive ? "**" : "*"}` : escaped(canonical);
    const events = this.#files.watch(glob, signal === undefined ? {} : { signal });
    const nameOf = (changed: string): string =>
      type === "directory" ? changed.slice(below.length + 1) : posix.basename(changed);
    for await (const { name, data } of events) {
      const {
        path: changed,
        oldPath,
        created,
      } = data as { readonly path: string; readonly oldPath?: string; readonly created?: boolean };
      const isChange = (name === "file.written" && created !== true) || name === "file.metadata";
      const isInside = (one: string | undefined): one is string =>
        one !== undefined && (one === canonical || one.startsWith(`${below}/`));
      if (name === "file.renamed" && isInside(oldPath)) yield { eventType: "rename", filename: nameOf(oldPath) };
      if (isInside(changed)) yield { eventType: isChange ? "change" : "rename", filename: nameOf(changed) };
    }
    assertGoesOn(signal);
  }

  #at(path: PathLike): string {
    const text = textOf(path);
    if (text.includes("\0"))
      throw Object.assign(new TypeError("a path is a text without null bytes"), { code: "ERR_INVALID_ARG_VALUE" });
    if (text === "") throw nodeError("ENOENT", "open", "");
    return posix.resolve(this.#cwd, text);
  }

  /** Where something is; a slash behind its name says that it is a directory. */
  async #named(path: PathLike): Promise<string> {
    const at = this.#at(path);
    if (textOf(path).endsWith("/")) await this.#assertDirectory(at, "ENOTDIR");
    return at;
  }

  async #stats(
    syscall: string,
    path: PathLike,
    options: { readonly bigint?: boolean; readonly throwIfNoEntry?: boolean },
    noFollow: boolean,
  ): Promise<unknown> {
    const at = this.#at(path);
    // A slash at its end makes it a directory.
    const isNamedSo = textOf(path).endsWith("/");
    const found = await asNode(syscall, at, () => this.#files.stat(at, { noFollow: noFollow && !isNamedSo })).catch(
      (error: unknown) => {
        const { code } = error as { readonly code?: string };
        if (options.throwIfNoEntry === false && (code === "ENOENT" || code === "ENOTDIR")) return undefined;
        throw error;
      },
    );
    if (found === undefined) return undefined;
    if (isNamedSo && !isDirectory(found)) throw nodeError("ENOTDIR", syscall, at);
    const stats = new NodeStats(found);
    return options.bigint === true ? bigStats(stats) : stats;
  }

  async #put(path: PathLike | NodeHandle, data: Data, options: WriteOptions, flag: string): Promise<void> {
    if (path instanceof NodeHandle) return path.writeFile(data, options);
    const signal = signalOf(options);
    assertGoesOn(signal);
    const at = this.#at(path);
    const flags = parseFlags(flagOf(options, flag));
    const bytes = await gather(data, encodingOf(options), signal);
    assertGoesOn(signal);
    const { mode = 0o666 } =
      typeof options === "object" && options !== null ? (options as { readonly mode?: number | string }) : {};
    await asNode("open", at, async () => {
      await this.#named(path);
      if (!flags.write) throw new KernelError("EBADF", "the flags do not let it be written", { path: at });
      if (flags.exclusive) await this.#assertNothing(at);
      if (flags.exclusive) return this.#create(at, bytes, mode);
      for (;;) {
        try {
          if (flags.append) await this.#files.append(at, bytes, { create: "never" });
          else await this.#files.write(at, bytes, flags.truncate ? {} : { offset: 0 });
          return;
        } catch (error) {
          if (!flags.create || !isKernelError(error) || error.code !== "ENOENT") throw error;
        }
        // Another may have made it by now: then this write comes after that one.
        if (await this.#createIfMissing(at, bytes, mode)) return;
      }
    });
  }

  /** Makes a file unless somebody has made it already: whether it was made here. */
  async #createIfMissing(at: string, bytes: Uint8Array, mode: number | string): Promise<boolean> {
    if (await this.#files.exists(at)) return false;
    try {
      await this.#create(at, bytes, mode);
      return true;
    } catch (error) {
      if (isKernelError(error) && error.code === "EEXIST") return false;
      throw error;
    }
  }

  /** Makes a file with its content; its directory must be there. */
  async #create(at: string, bytes: Uint8Array, mode: number | string): Promise<void> {
    const bits = toMode(mode);
    await this.#assertParent(at);
    await this.#files.write(at, bytes, { create: "must" });
    if (bits !== 0o666) await this.#change("chmod", at, { mode: bits }, false);
  }

  async #open(at: string, rights: readonly ("read" | "write")[]): Promise<Opened> {
    try {
      return await this.#files.open(at, rights);
    } catch (error) {
      if (!isKernelError(error) || error.code !== "ENOTSUP") throw error;
      return openByPath(this.#files, at);
    }
  }

  async *#entries(at: string, recursive: boolean): AsyncGenerator<Found, void, undefined> {
    for (let after: string | undefined; ;) {
      const page = await this.#files.readdir(at, { limit: PAGE, ...(after === undefined ? {} : { after }) });
      for (const entry of page) {
        yield { entry, parent: at };
        if (recursive && entry.type === "directory") yield* this.#entries(posix.join(at, entry.name), true);
      }
      after = page.at(-1)?.name;
      if (after === undefined || page.length < PAGE) return;
    }
  }

  async #change(
    syscall: string,
    path: PathLike,
    change: { readonly mode?: number; readonly modified?: number } | undefined,
    noFollow: boolean,
  ): Promise<void> {
    const at = this.#at(path);
    await asNode(syscall, at, async () => {
      await this.#named(path);
      const found = await this.#files.stat(at, { noFollow });
      // Mounted trees keep their own.
      if (change !== undefined && found.inode !== undefined) await this.#files.setattr(found.path, change);
    });
  }

  /** Where something is, or would be, behind all links. */
  async #canonical(at: string): Promise<string> {
    try {
      return (await this.#files.stat(at)).path;
    } catch (error) {
      if (at === "/" || !isKernelError(error) || error.code !== "ENOENT") throw error;
      return posix.join(await this.#canonical(posix.dirname(at)), posix.basename(at));
    }
  }

  async #lookUp(at: string, noFollow = true): Promise<FileStat | undefined> {
    try {
      return await this.#files.stat(at, { noFollow });
    } catch (error) {
      if (isKernelError(error) && error.code === "ENOENT") return undefined;
      throw error;
    }
  }

  /** The directories on the way to a path that are not there, the topmost first. */
  async #missing(at: string): Promise<readonly string[]> {
    const missing: string[] = [];
    for (let path = at; path !== "/"; path = posix.dirname(path)) {
      const found = await this.#lookUp(path, false);
      if (found === undefined) missing.unshift(path);
      else if (path === at || isDirectory(found)) break;
      else throw new KernelError("ENOTDIR", "a part of the path is no directory", { path });
    }
    return missing;
  }

  /** What must be new is not made behind a link that leads nowhere. */
  async #assertNothing(at: string): Promise<void> {
    if ((await this.#lookUp(at)) !== undefined) throw new KernelError("EEXIST", "it exists already", { path: at });
  }

  async #assertParent(at: string): Promise<void> {
    await this.#assertDirectory(posix.dirname(at), "ENOTDIR");
  }

  async #assertDirectory(at: string, code: "ENOTDIR" | "EEXIST" = "EEXIST"): Promise<void> {
    if (!isDirectory(await this.#files.stat(at))) throw new KernelError(code, "it is no directory", { path: at });
  }

  async #assertFile(at: string): Promise<FileStat> {
    const found = await this.#files.stat(at);
    if (isDirectory(found)) throw new KernelError("EISDIR", "it is a directory", { path: at });
    return found;
  }
}

const isDirectory = (found: FileStat | undefined): boolean => found?.type === "directory" || found?.type === "mount";

/** Whether two are one file, as far as they tell. */
const isSame = (one: FileStat, other: FileStat | undefined): boolean =>
  other !== undefined && (one.inode === undefined ? one.path === other.path : one.inode === other.inode);

/** As much of a directory as comes at once: a folder of the machine is listed whole for each page. */
const PAGE = LIMITS.pageMax;

/** Six letters and digits, as `mkdtemp` puts behind its prefix. */
const randomName = (): string =>
  randomInt(36 ** 6)
    .toString(36)
    .padStart(6, "0");

const textOf = (path: PathLike): string => {
  if (typeof path === "string") return path;
  if (path instanceof URL) return fileURLToPath(path);
  if (Buffer.isBuffer(path) || ArrayBuffer.isView(path)) return Buffer.from(path).toString();
  throw Object.assign(new TypeError(`a path is a text, a Buffer or a URL; found ${typeof path}`), {
    code: "ERR_INVALID_ARG_TYPE",
  });
};

const decodedName = (name: string, options: Encoded): Buffer | string => {
  const encoding: string | undefined = encodingOf(options);
  return encoding === "buffer" ? Buffer.from(name) : name;
};

const flagOf = (options: unknown, otherwise: string): string | number =>
  (typeof options === "object" && options !== null
    ? "flag" in options
      ? (options.flag as string | number | undefined)
      : undefined
    : undefined) ?? otherwise;

const signalOf = (options: unknown): AbortSignal | undefined =>
  typeof options === "object" && options !== null
    ? "signal" in options
      ? (options.signal as AbortSignal | undefined)
      : undefined
    : undefined;

/** A glob of a path, and of those that differ from it where wildcards stand in it. */
const escaped = (path: string): string => path.replace(/[*?]/g, "?");
