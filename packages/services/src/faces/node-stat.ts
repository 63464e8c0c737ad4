// What `stat` and `readdir` give, in the shapes of `node:fs`.

import { Dirent, Stats, constants } from "node:fs";
import type { DirEntry, FileStat } from "@ergos/kernel";

const { S_IFDIR, S_IFLNK, S_IFREG, S_IFIFO } = constants;
const BLOCK = 4096;
const FORMATS: Readonly<Record<string, number>> = {
  file: S_IFREG,
  directory: S_IFDIR,
  mount: S_IFDIR,
  link: S_IFLNK,
  pipe: S_IFIFO,
  stream: S_IFIFO,
};
const MODES: Readonly<Record<string, number>> = { directory: 0o755, mount: 0o755, link: 0o777 };

/** Fields are those of `fs.Stats`; times that nobody keeps are those of the last change. */
export class NodeStats {
  readonly dev = 1;
  readonly nlink = 1;
  readonly uid = 0;
  readonly gid = 0;
  readonly rdev = 0;
  readonly blksize = BLOCK;
  readonly ino: number;
  readonly mode: number;
  readonly size: number;
  readonly blocks: number;
  readonly mtimeMs: number;
  readonly atimeMs: number;
  readonly ctimeMs: number;
  readonly birthtimeMs: number;
  readonly mtime: Date;
  readonly atime: Date;
  readonly ctime: Date;
  readonly birthtime: Date;

  constructor({ type, size, linkText, inode = 0, mode, created, modified }: FileStat) {
    this.ino = inode;
    this.mode = (FORMATS[type] ?? S_IFREG) | (mode ?? MODES[type] ?? 0o644);
    this.size = linkText === undefined ? (size ?? 0) : Buffer.byteLength(linkText);
    this.blocks = Math.ceil(this.size / 512);
    this.mtimeMs = modified ?? created ?? 0;
    this.atimeMs = this.mtimeMs;
    this.ctimeMs = this.mtimeMs;
    this.birthtimeMs = created ?? this.mtimeMs;
    this.mtime = new Date(this.mtimeMs);
    this.atime = this.mtime;
    this.ctime = this.mtime;
    this.birthtime = new Date(this.birthtimeMs);
  }

  #is(format: number): boolean {
    return (this.mode & constants.S_IFMT) === format;
  }
  isFile(): boolean {
    return this.#is(S_IFREG);
  }
  isDirectory(): boolean {
    return this.#is(S_IFDIR);
  }
  isSymbolicLink(): boolean {
    return this.#is(S_IFLNK);
  }
  isFIFO(): boolean {
    return this.#is(S_IFIFO);
  }
  isBlockDevice(): boolean {
    return false;
  }
  isCharacterDevice(): boolean {
    return false;
  }
  isSocket(): boolean {
    return false;
  }
}

/** The same with `bigint` fields, and times in nanoseconds too. */
export function bigStats(stats: NodeStats): object {
  const fields = Object.entries(stats).map(([name, value]: [string, unknown]): [string, unknown] => [
    name,
    typeof value === "number" ? BigInt(Math.round(value)) : value,
  ]);
  const times = ["atime", "mtime", "ctime", "birthtime"] as const;
  const nanoseconds = times.map((name) => [`${name}Ns`, BigInt(Math.round(stats[`${name}Ms`])) * 1_000_000n]);
  return Object.assign(Object.create(NodeStats.prototype) as object, {
    ...Object.fromEntries(fields),
    ...Object.fromEntries(nanoseconds),
    isFile: () => stats.isFile(),
    isDirectory: () => stats.isDirectory(),
    isSymbolicLink: () => stats.isSymbolicLink(),
    isFIFO: () => stats.isFIFO(),
  });
}

// Programs ask `instanceof`; the constructor of Node's own is not for others.
Object.setPrototypeOf(NodeStats.prototype, Stats.prototype);

export class NodeDirent extends Dirent {
  override readonly name: string;
  override readonly parentPath: string;
  readonly #type: DirEntry["type"];

  constructor({ name, type }: DirEntry, parentPath: string) {
    super();
    this.name = name;
    this.parentPath = parentPath;
    this.#type = type;
  }

  override isFile(): boolean {
    return this.#type === "file" || this.#type === "external";
  }
  override isDirectory(): boolean {
    return this.#type === "directory" || this.#type === "mount";
  }
  override isSymbolicLink(): boolean {
    return this.#type === "link";
  }
  override isFIFO(): boolean {
    return this.#type === "pipe" || this.#type === "stream";
  }
  override isBlockDevice(): boolean {
    return false;
  }
  override isCharacterDevice(): boolean {
    return false;
  }
  override isSocket(): boolean {
    return false;
  }
}
