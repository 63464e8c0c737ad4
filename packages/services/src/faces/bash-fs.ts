// The files of a process as the shell `just-bash` wants them, and a shell over them.
//
// The shell runs in this host and has nothing of it: no files but those of the process, no programs of the machine, and no
// network. What it does is checked by the rights of the process, like everything that goes through its files.

import { AsyncLocalStorage } from "node:async_hooks";
import type { Stats } from "node:fs";
import { posix } from "node:path";
import { type Files, KernelError } from "@ergos/kernel";
import { type NodeFs, toNodeFs } from "./node-fs.ts";

interface BashStat {
  isFile: boolean;
  isDirectory: boolean;
  isSymbolicLink: boolean;
  mode: number;
  size: number;
  mtime: Date;
  dev?: number;
  ino?: number;
}
type Encoding = BufferEncoding | { readonly encoding?: BufferEncoding | null } | undefined;

/** Files as the interface `IFileSystem` of just-bash has them. */
export function toBashFs(files: Files): BashFs {
  return new BashFs(files);
}

/** Has the shape of `IFileSystem`: that package is not there for everybody who uses this one. */
class BashFs {
  readonly #fs: NodeFs;
  readonly #files: Files;

  constructor(files: Files) {
    this.#files = files;
    this.#fs = toNodeFs(files);
  }

  async readFile(path: string, options?: Encoding): Promise<string> {
    return (await this.#fs.readFile(path)).toString(encodingOf(options));
  }

  async readFileBuffer(path: string): Promise<Uint8Array> {
    return this.#fs.readFile(path);
  }

  writeFile(path: string, content: string | Uint8Array, options?: Encoding): Promise<void> {
    return this.#fs.writeFile(path, content, { encoding: encodingOf(options) });
  }

  appendFile(path: string, content: string | Uint8Array, options?: Encoding): Promise<void> {
    return this.#fs.appendFile(path, content, { encoding: encodingOf(options) });
  }

  exists(path: string): Promise<boolean> {
    return this.#files.exists(path);
  }

  async stat(path: string): Promise<BashStat> {
    return shown(await this.#fs.stat(path));
  }

  async lstat(path: string): Promise<BashStat> {
    return shown(await this.#fs.lstat(path));
  }

  async mkdir(path: string, options: { readonly recursive?: boolean } = {}): Promise<void> {
    await this.#fs.mkdir(path, options);
  }

  readdir(path: string): Promise<string[]> {
    return this.#fs.readdir(path);
  }

  async readdirWithFileTypes(
    path: string,
  ): Promise<{ name: string; isFile: boolean; isDirectory: boolean; isSymbolicLink: boolean }[]> {
    const entries = await this.#fs.readdir(path, { withFileTypes: true });
    return entries.map((entry) => ({
      name: entry.name,
      isFile: entry.isFile(),
      isDirectory: entry.isDirectory(),
      isSymbolicLink: entry.isSymbolicLink(),
    }));
  }

  rm(path: string, options: { readonly recursive?: boolean; readonly force?: boolean } = {}): Promise<void> {
    return options.recursive === true ? this.#fs.rm(path, options) : this.#removeOne(path, options.force === true);
  }

  cp(from: string, to: string, options: { readonly recursive?: boolean } = {}): Promise<void> {
    return this.#fs.cp(from, to, { ...options, verbatimSymlinks: true });
  }

  async mv(from: string, to: string): Promise<void> {
    try {
      await this.#fs.rename(from, to);
    } catch (error) {
      if ((error as { readonly code?: string }).code !== "EXDEV") throw error;
      await this.cp(from, to, { recursive: true });
      await this.rm(from, { recursive: true });
    }
  }

  resolvePath(base: string, path: string): string {
    return posix.resolve(base, path);
  }

  /** Nobody can list a tree without waiting; the shell walks directories instead. */
  getAllPaths(): string[] {
    return [];
  }

  chmod(path: string, mode: number): Promise<void> {
    return this.#fs.chmod(path, mode);
  }

  symlink(target: string, path: string): Promise<void> {
    return this.#fs.symlink(target, path);
  }

  link(path: string, to: string): Promise<void> {
    return this.#fs.link(path, to);
  }

  readlink(path: string): Promise<string> {
    return this.#fs.readlink(path);
  }

  realpath(path: string): Promise<string> {
    return this.#fs.realpath(path);
  }

  utimes(path: string, accessed: Date, modified: Date): Promise<void> {
    return this.#fs.utimes(path, accessed, modified);
  }

  /** An empty directory goes without being asked for, as the shell's `rmdir` expects. */
  async #removeOne(path: string, force: boolean): Promise<void> {
    const stat = await this.#fs.lstat(path).catch((error: unknown) => {
      if (force && (error as { readonly code?: string }).code === "ENOENT") return undefined;
      throw error;
    });
    if (stat === undefined) return;
    await (stat.isDirectory() ? this.#fs.rmdir(path) : this.#fs.unlink(path));
  }
}

const encodingOf = (options: Encoding): BufferEncoding =>
  (typeof options === "object" ? options.encoding : options) ?? "utf8";

const shown = (stat: Stats): BashStat => ({
  isFile: stat.isFile(),
  isDirectory: stat.isDirectory(),
  isSymbolicLink: stat.isSymbolicLink(),
  mode: stat.mode & 0o7777,
  size: stat.size,
  mtime: stat.mtime,
  ...(stat.ino === 0 ? {} : { dev: stat.dev, ino: stat.ino }),
});

/**
 * Files whose calls are made as if from outside of the shell: while a script runs, just-bash takes timers and the like
 * away from all that runs on its behalf, and the kernel needs its own.
 */
function fromOutside(files: Files): Files {
  const outside = AsyncLocalStorage.snapshot();
  return new Proxy(files, {
    get: (target, name) => {
      const member: unknown = Reflect.get(target, name);
      return typeof member === "function"
        ? (...args: readonly unknown[]): unknown => outside(() => Reflect.apply(member, target, args) as unknown)
        : member;
    },
  });
}

export interface ShellOptions {
  /** Where it begins (default `/`). */
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface ShellAnswer {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

/** A shell that remembers its directory and its variables from one line to the next. */
export interface Shell {
  readonly cwd: string;
  exec(
    line: string,
    options?: { readonly stdin?: string | Uint8Array; readonly signal?: AbortSignal },
  ): Promise<ShellAnswer>;
}

/**
 * Opens a shell over files, and nothing else.
 * @throws {ENOTSUP} the package `just-bash` is not installed
 */
export async function openShell(files: Files, { cwd = "/", env = {} }: ShellOptions = {}): Promise<Shell> {
  const { Bash } = await import("just-bash").catch((error: unknown) => {
    throw new KernelError("ENOTSUP", "the shell is a package of its own: run `npm install just-bash`", {
      cause: error,
    });
  });
  const bash = new Bash({
    fs: toBashFs(fromOutside(files)),
    cwd,
    env: { HOME: "/home", PATH: "/usr/bin:/bin", ...env },
  });
  let last: Record<string, string> | undefined;
  return {
    get cwd() {
      return last?.["PWD"] ?? cwd;
    },
    exec: async (line, { stdin, ...options } = {}) => {
      // Bytes as this shell has them: a character each.
      const input =
        stdin === undefined
          ? {}
          : typeof stdin === "string"
            ? { stdin }
            : { stdin: Buffer.from(stdin).toString("latin1"), stdinKind: "bytes" as const };
      const state = last === undefined ? {} : { env: last, replaceEnv: true, cwd: last["PWD"] ?? cwd };
      try {
        const { stdout, stderr, exitCode, env: left } = await bash.exec(line, { ...state, ...options, ...input });
        last = left;
        return { stdout, stderr, exitCode };
      } catch (error) {
        // A redirection that is not allowed ends the script there, in this shell.
        if (!(error instanceof Error && "syscall" in error)) throw error;
        return { stdout: "", stderr: `bash: ${error.message}\n`, exitCode: 1 };
      }
    },
  };
}
