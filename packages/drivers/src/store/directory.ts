// The data directory: one owner at a time, on a local disk.
//
// The lock is a small SQLite database held exclusively: it refuses a second process and a second opener in
// this one, and the operating system frees it when the owner dies, however it dies. The owner's pid for the
// message is a file beside it.

import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  statfsSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type Errno, KernelError, isKernelError } from "@ergos/kernel";
import { sqliteError } from "./sqlite-error.ts";

export interface Ownership {
  readonly dir: string;
  /** Lets another process have the directory; idempotent. */
  release(): void;
}

export interface Owner {
  readonly pid: number;
  readonly since: number;
}

/** Magic numbers of statfs(2) for filesystems whose locks and syncs cannot be trusted. */
const NETWORK_FILESYSTEMS: Readonly<Record<number, string>> = {
  0x6969: "NFS",
  0x517b: "SMB",
  0xff534d42: "CIFS",
  0xfe534d42: "SMB2",
  0x5346414f: "AFS",
  0x00c36400: "CephFS",
};

/**
 * Takes a data directory, making it if need be.
 * @throws {EBUSY} another process owns it · {EROFS} it cannot be written · {ENOTSUP} it is on a network filesystem
 */
export function takeDirectory(dir: string): Ownership {
  makeDirectory(dir);
  refuseNetwork(dir);
  const lock = openLock(dir);
  writeFileSync(ownerFile(dir), JSON.stringify({ pid: process.pid, since: Date.now() } satisfies Owner), {
    mode: 0o600,
  });
  let held = true;
  return {
    dir,
    release: () => {
      if (!held) return;
      held = false;
      lock.close();
    },
  };
}

/** Names that a directory cannot be made for, by what the system says about them. */
const UNMAKEABLE: Readonly<Record<string, Errno>> = {
  ENOTDIR: "ENOTDIR",
  EEXIST: "ENOTDIR",
  ENAMETOOLONG: "ENAMETOOLONG",
  ENOSPC: "ENOSPC",
  EACCES: "EACCES",
};

/** Makes a directory and those above it. One at a time: `recursive` tries for ever where a filesystem like /proc says ENOENT. */
function makeDirectory(dir: string): void {
  try {
    const missing: string[] = [];
    for (let at = dir; !existsSync(at) && at !== dirname(at); at = dirname(at)) missing.push(at);
    for (const path of missing.toReversed()) mkdirSync(path, { mode: 0o700 });
    if (!statSync(dir).isDirectory()) throw Object.assign(new TypeError(`${dir} is a file`), { code: "ENOTDIR" });
  } catch (cause) {
    const found = cause instanceof Error && "code" in cause ? String(cause.code) : "";
    const code = UNMAKEABLE[found] ?? "EROFS";
    const what = code === "ENOTDIR" ? "is or goes through a file" : "cannot be made";
    throw new KernelError(code, `the data directory ${dir} ${what}; choose one that you may write to`, {
      path: dir,
      cause,
    });
  }
}

function openLock(dir: string): DatabaseSync {
  let lock: DatabaseSync | undefined;
  try {
    lock = new DatabaseSync(lockFile(dir), { timeout: 0 });
    lock.exec(
      "PRAGMA journal_mode=MEMORY; PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE; CREATE TABLE IF NOT EXISTS owner(pid)",
    );
    return lock;
  } catch (cause) {
    lock?.close();
    const error = sqliteError(cause, dir);
    if (error.code !== "EBUSY") throw error;
    const owner = readOwner(dir);
    const who = owner === undefined ? "another process" : `process ${owner.pid}`;
    throw new KernelError(
      "EBUSY",
      `${dir} is owned by ${who}; commands reach it over its control socket, or end it first`,
      { path: dir, cause },
    );
  }
}

/** Whether a process has the directory now. */
export function isOwned(dir: string): boolean {
  // Whoever only looks leaves nothing behind.
  if (!existsSync(lockFile(dir))) return false;
  try {
    openLock(dir).close();
    return false;
  } catch (error) {
    if (isKernelError(error) && error.code === "EBUSY") return true;
    throw error;
  }
}

/** Who owns the directory according to the file beside the lock; only for messages. */
export function readOwner(dir: string): Owner | undefined {
  try {
    // Written by `takeDirectory` only, and shown to people only.
    return JSON.parse(readFileSync(ownerFile(dir), "utf8")) as Owner;
  } catch {
    return undefined;
  }
}

const lockFile = (dir: string): string => join(dir, "owner.lock");
const ownerFile = (dir: string): string => join(dir, "owner.json");

function refuseNetwork(dir: string): void {
  const name = networkFilesystemOf(dir);
  if (name === undefined) return;
  throw new KernelError(
    "ENOTSUP",
    `${dir} is on a network filesystem (${name}), whose locks and syncs cannot be trusted; use a local disk`,
    { path: dir },
  );
}

/** The name of the network filesystem that a directory is on, if it is on one. */
export function networkFilesystemOf(
  dir: string,
  statfs: (path: string) => { readonly type: number } = statfsSync,
): string | undefined {
  return NETWORK_FILESYSTEMS[statfs(dir).type >>> 0];
}

/** Makes the names in a directory survive a loss of power. */
export function syncDirectory(dir: string): void {
  const fd = openSync(dir, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
