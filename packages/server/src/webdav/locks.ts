// Locks of WebDAV on the locks of the kernel. A lock of a collection without what is below it is one of a name in it that
// nobody else uses.

import { type FileStat, type LockHolder, type LockInfo, type Os, type SyscallArgs, isKernelError } from "@ergos/kernel";
import { isCollection, join, parentOf } from "./path.ts";
import { dav, escapeXml } from "./xml.ts";

export interface DavLock {
  readonly token: string;
  /** The process that holds it. */
  readonly pid: number;
  /** Path of what is locked. */
  readonly root: string;
  /** The lock of the kernel. */
  readonly held: { readonly path: string; readonly lockId: string };
  /** It is of what is below, too. */
  readonly isDeep: boolean;
  readonly depth: "0" | "infinity";
  readonly isShared: boolean;
  /** Who has it, as the client said. */
  readonly owner: string;
  readonly secondsLeft: number;
}

const SELF = ".dav-self";
const SCHEME = "urn:ergos:lock:";
/** Locks below a path that are looked at: as many as there can be. */
const BELOW_MAX = 100_000;
const TTL_MS = 600_000;
export const TTL_MAX_MS = 3_600_000;
/** Characters of the kernel's owner. */
const OWNER_MAX = 120;
/** What the owner begins with: whether the client asked for what is below, too. */
const DEEP = "I";
const FLAT = "0";

export class DavLocks {
  readonly #os: Pick<Os, "call">;

  constructor(os: Pick<Os, "call">) {
    this.#os = os;
  }

  /** Locks that are about a path: of it, of what is above it with all below, and, if asked, of anything below it. */
  async covering(path: string, withBelow = false): Promise<readonly DavLock[]> {
    const found: DavLock[] = [];
    for (let at = path; ; at = parentOf(at)) {
      found.push(...(await this.#at(at)).filter(({ isDeep }) => isDeep || at === path));
      if (at === path) found.push(...(await this.#at(join(at, SELF))));
      if (at === "/") break;
    }
    if (!withBelow) return found;
    const all = await this.#held({ path, below: true, limit: BELOW_MAX });
    const deeper = all.filter((lock) => lock.path !== join(path, SELF));
    return [...found, ...deeper.flatMap(({ path: at, holders }) => holders.map((holder) => toLock(at, holder)))];
  }

  async #at(path: string): Promise<readonly DavLock[]> {
    const [info] = await this.#held({ path });
    return (info?.holders ?? []).map((holder) => toLock(info?.path ?? path, holder));
  }

  async #held(which: SyscallArgs<"locks">): Promise<readonly LockInfo[]> {
    try {
      return await this.#os.call("locks", which);
    } catch (error) {
      // Below a file there is nothing to lock, and behind a link that leads round; who may not see locks knows of none.
      if (isKernelError(error) && ["ENOTDIR", "ELOOP", "EACCES"].includes(error.code)) return [];
      throw error;
    }
  }

  /** @throws {EAGAIN} somebody else has one there */
  async take(
    path: string,
    stat: FileStat,
    wanted: {
      readonly isShared: boolean;
      readonly isDeep: boolean;
      readonly owner: string;
      readonly timeoutMs: number | undefined;
    },
  ): Promise<DavLock> {
    const isDeep = wanted.isDeep || !isCollection(stat);
    const { lockId } = await this.#os.call("lock", {
      path: isDeep ? path : join(path, SELF),
      waitMs: 0,
      ttlMs: ttlOf(wanted.timeoutMs),
      owner: `${wanted.isDeep ? DEEP : FLAT}${wanted.owner.slice(0, OWNER_MAX)}`,
      ...(wanted.isShared ? { mode: "shared" as const } : {}),
    });
    const lock = (await this.covering(path)).find(({ held }) => held.lockId === lockId);
    if (lock === undefined) throw new TypeError("a lock that was granted is not there");
    return lock;
  }

  async refresh(lock: DavLock, timeoutMs: number | undefined): Promise<void> {
    await this.#os.call("lock", { ...lock.held, ttlMs: ttlOf(timeoutMs) });
  }

  async release(lock: DavLock): Promise<void> {
    await this.#os.call("unlock", lock.held);
  }

  /** Ends the locks of what is not there any more. */
  async forget(path: string): Promise<void> {
    for (const lock of await this.covering(path, true)) {
      if (lock.root !== path && !lock.root.startsWith(`${path}/`)) continue;
      try {
        await this.release(lock);
      } catch (error) {
        // Others' locks end with their time.
        if (!isKernelError(error)) throw error;
      }
    }
  }
}

const ttlOf = (ms: number | undefined): number => Math.min(ms ?? TTL_MS, TTL_MAX_MS);

function toLock(path: string, { lockId, pid, mode, owner = DEEP, leftMs }: LockHolder): DavLock {
  const isSelf = path.endsWith(`/${SELF}`);
  return {
    token: SCHEME + lockId,
    pid,
    root: isSelf ? path.slice(0, -SELF.length - 1) || "/" : path,
    held: { path, lockId },
    isDeep: !isSelf,
    depth: isSelf || owner.startsWith(FLAT) ? "0" : "infinity",
    isShared: mode !== "exclusive",
    owner: owner.slice(1),
    secondsLeft: Math.max(1, Math.round(leftMs / 1000)),
  };
}

/** The length of a lock that a client asks for. */
export function timeoutOf(header: string | null): number | undefined {
  const seconds = /Second-(\d+)/i.exec(header ?? "")?.[1];
  return seconds === undefined ? undefined : Math.max(1, Number(seconds)) * 1000;
}

export const activeLock = (lock: DavLock, href: (path: string) => string): string =>
  dav(
    "activelock",
    dav("locktype", dav("write")) +
      dav("lockscope", dav(lock.isShared ? "shared" : "exclusive")) +
      dav("depth", lock.depth) +
      (lock.owner === "" ? "" : dav("owner", escapeXml(lock.owner))) +
      dav("timeout", `Second-${lock.secondsLeft}`) +
      dav("locktoken", dav("href", lock.token)) +
      dav("lockroot", dav("href", escapeXml(href(lock.root)))),
  );
