// Advisory locks: what processes agree on among themselves. The kernel's own mutations do not look at them, but for the
// fencing number that a write carries.
//
// A1  A lock is granted when its commit is there, and survives a restart of the host; it runs its full time again then.
// A2  Every grant has a number of its own that rises for ever. A write that carries it fails once the lock is lost.
// A3  Whoever holds one holds it for so long as it said and no longer, whatever becomes of it.
// A4  Processes that wait for each other in a circle are told so: the one that would close it is refused.

import { entriesOf } from "../abi/entries.ts";
import type { LockGrant, LockHolder, LockInfo, LockMode } from "../abi/lock.ts";
import type { Batch } from "../abi/metastore.ts";
import type { Platform, Timer } from "../abi/platform.ts";
import { KernelError } from "../base/errno.ts";
import { Heap } from "../base/heap.ts";
import { PID_OWNER, type Pid, type Seq } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { MultiMap } from "../base/multimap.ts";
import type { VfsPath } from "../base/path.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import { LockOrder } from "./lock-order.ts";
import { LockQueue, type LockWaiter, excludes } from "./lock-queue.ts";
import { ancestorsOf } from "./lock-tree.ts";

export interface LockRequest {
  /** Canonical path of what is locked; it need not exist. */
  readonly path: VfsPath;
  /** `exclusive` (default), or `shared` with others that are shared. */
  readonly mode?: "exclusive" | "shared";
  /** Milliseconds until it ends by itself, unless it is asked for again by its id. */
  readonly ttlMs: number;
  /** More than one: a counting lock with room for so many holders. */
  readonly maxHolders?: number;
  /** How long to wait: 0 not at all, absent for as long as it takes. */
  readonly waitMs?: number;
  /** Of a lock that is held: it is extended. Otherwise the id that it gets. */
  readonly lockId?: string;
  /** Who of the process wants it, where several of its parts run at the same time; for finding deadlocks. */
  readonly owner?: string;
}

interface Hold {
  readonly path: VfsPath;
  readonly lockId: string;
  readonly fence: number;
  readonly mode: LockMode;
  readonly room: number;
  readonly pid: Pid;
  readonly owner: string | undefined;
  readonly at: number;
  ttlMs: number;
  /** Of the monotonic clock. */
  deadline: number;
  version: Seq | undefined;
}

interface Waiter extends LockWaiter {
  readonly pid: Pid;
  readonly owner: string | undefined;
}

interface Expiry {
  readonly deadline: number;
  readonly hold: Hold;
}

/** What one search for a circle has come upon: each holder and waiter is looked at once. */
interface Told {
  readonly holders: Set<string>;
  readonly waiters: Map<string, number>;
}

type Change = Pick<Batch, "appends">;

export interface LockParts {
  readonly committer: Committer;
  readonly platform: Platform;
}

const FORMAT = 1;
const PREFIX = "lk/";
const FENCE_KEY = "sys/fence";
const keyOf = (lockId: string): string => `${PREFIX}${encodeURIComponent(lockId)}`;
const agentOf = ({ pid, owner = "" }: { readonly pid: Pid; readonly owner: string | undefined }): string =>
  `${pid}/${owner}`;

export class LockTable {
  readonly #committer: Committer;
  readonly #platform: Platform;
  readonly #order: LockOrder;
  readonly #queue = new LockQueue();
  readonly #holds = new Map<string, Hold>();
  readonly #byPath = new MultiMap<VfsPath, Hold>();
  readonly #byFence = new Map<number, Hold>();
  readonly #byProcess = new MultiMap<Pid, Hold>();
  /** What earlier lives of processes held that live on: the next ones have it when they ask for the same. */
  readonly #inherited = new Set<Hold>();
  readonly #waiters = new MultiMap<string, Waiter>();
  readonly #expiries = new Heap<Expiry>((one, two) => one.deadline < two.deadline);
  #fence = 1;
  #timer: Timer | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #isClosed = false;

  constructor(parts: LockParts) {
    this.#committer = parts.committer;
    this.#platform = parts.platform;
    this.#order = new LockOrder(parts.platform.locks);
  }

  /** Brings back what was held; whose holder is gone for good ends at once. */
  async boot(isThere: (pid: Pid) => boolean): Promise<void> {
    const { store } = this.#committer;
    this.#fence = Number((await store.get(FENCE_KEY))?.value ?? 1);
    const gone: string[] = [];
    for await (const { key, value, version } of entriesOf(store, PREFIX)) {
      const hold = decode(String(value), this.#platform.clock.monotonic(), version);
      if (!isThere(hold.pid)) gone.push(key);
      else {
        this.#queue.hold(hold.path, hold.mode);
        this.#keep(hold);
        // The owner's are those of its clients, which may be there still.
        if (hold.pid !== PID_OWNER) this.#inherited.add(hold);
      }
    }
    if (gone.length > 0) await this.#committer.commit({ deletes: gone });
  }

  /** All locks that are held, or those of a path. */
  list(path?: VfsPath): readonly LockInfo[] {
    const paths = path === undefined ? [...this.#byPath.keys()] : [path];
    return paths.sort().map((one) => ({
      path: one,
      holders: Array.from(this.#byPath.get(one)).map((hold) => this.#show(hold)),
      waiting: this.#queue.countAt(one),
    }));
  }

  /**
   * Takes a lock, or extends one that the process holds.
   * @throws {EAGAIN} others hold it and nobody waits, or no longer · {EDEADLK} its holders wait for this one ·
   * {EINVAL} it counts, or has another room · {EPERM} the id is somebody else's
   */
  async lock(
    pid: Pid,
    request: LockRequest,
    record: (grant: LockGrant) => Change,
    more: LockCall = {},
  ): Promise<LockGrant> {
    const known = request.lockId === undefined ? undefined : this.#holds.get(request.lockId);
    if (known !== undefined) return this.#extend(known, pid, request, record, more.rider);
    const { path, mode = "exclusive", maxHolders = 1, owner } = request;
    if (maxHolders > 1 && mode === "shared")
      throw refuse("EINVAL", path, "a counting lock is not shared; leave the mode out");
    if (this.#holds.size + this.#queue.size >= LIMITS.locksMax)
      throw refuse("EAGAIN", path, `there are ${LIMITS.locksMax} locks, which is the limit`);
    const wanted = { path, mode: maxHolders > 1 ? "counting" : mode, room: maxHolders } as const;
    const own = this.#inheritedBy(pid, owner, wanted);
    if (own !== undefined) {
      this.#inherited.delete(own);
      const { lockId } = own;
      try {
        return await this.#extend(own, pid, { path, ttlMs: request.ttlMs, lockId }, record, more.rider);
      } catch (error) {
        if (this.#holds.get(lockId) === own) this.#inherited.add(own);
        throw error;
      }
    }
    this.#assertRoom(wanted);
    for (const signal of more.signals ?? []) if (signal.aborted) throw signal.reason;
    if (!this.#queue.take(wanted)) {
      if (request.waitMs === 0) throw this.#held(path, 0);
      await this.#wait({ ...wanted, pid, owner }, request.waitMs, more.signals ?? []);
      try {
        // Who was served before may have asked for another room, and the caller may have ended.
        this.#assertRoom(wanted);
        for (const signal of more.signals ?? []) if (signal.aborted) throw signal.reason;
      } catch (error) {
        this.#queue.release(path, wanted.mode);
        throw error;
      }
    }
    return this.#grant(wanted, pid, request, record, more.rider);
  }

  /**
   * Gives a lock back.
   * @returns whether it was held
   * @throws {EINVAL} the process holds several there · {EPERM} it is somebody else's
   */
  async unlock(
    pid: Pid,
    path: VfsPath,
    {
      lockId,
      force = false,
      rider,
    }: { readonly lockId?: string; readonly force?: boolean; readonly rider?: Rider | undefined },
  ): Promise<boolean> {
    const here = Array.from(this.#byPath.get(path));
    const named = lockId === undefined ? here : here.filter((hold) => hold.lockId === lockId);
    const own = named.filter((hold) => hold.pid === pid);
    if (!force && own.length === 0 && named.length > 0 && (lockId !== undefined || pid === PID_OWNER)) {
      const [holder] = named;
      throw refuse("EPERM", path, `it is held by process ${holder?.pid ?? 0}; pass force to take it away`);
    }
    const going = force ? named : own;
    if (!force && lockId === undefined && going.length > 1)
      throw refuse("EINVAL", path, `process ${pid} holds ${going.length} locks here; name one by its lockId`);
    if (going.length === 0) return false;
    await this.#release(going, "lock.released", rider);
    return true;
  }

  /** A process is run again: what it held is its own still, when it asks for it. */
  handOn(pid: Pid): void {
    for (const hold of this.#byProcess.get(pid)) this.#inherited.add(hold);
  }

  /**
   * A lock is in use again: a recorded grant was taken up.
   * @throws {ESTALE} it is another's, of whom the process is a twin
   */
  taken(pid: Pid, { lockId, path }: LockGrant): void {
    const hold = this.#holds.get(lockId);
    if (hold !== undefined && hold.pid !== pid)
      throw new KernelError(
        "ESTALE",
        `the lock that is recorded here is that of process ${hold.pid}, from which process ${pid} was cloned; take it without a place`,
        { syscall: "lock", path, pid },
      );
    if (hold !== undefined) this.#inherited.delete(hold);
  }

  /** The lock that an earlier life of a process held, as the next one asks for it. */
  #inheritedBy(
    pid: Pid,
    owner: string | undefined,
    { path, mode, room }: Pick<Waiter, "path" | "mode" | "room">,
  ): Hold | undefined {
    if (this.#inherited.size === 0) return undefined;
    for (const hold of this.#byPath.get(path)) {
      const isSame = hold.pid === pid && hold.owner === owner && hold.mode === mode && hold.room === room;
      if (isSame && this.#inherited.has(hold)) return hold;
    }
    return undefined;
  }

  /** Lets go of what an ended process holds. */
  drop(pid: Pid): Promise<void> | undefined {
    const going = Array.from(this.#byProcess.get(pid));
    return going.length === 0 ? undefined : this.#release(going, "lock.released");
  }

  /**
   * What a commit checks that carries a fencing number.
   * @throws {ESTALE} the lock is lost
   */
  guard(fence: number, path: VfsPath): { readonly key: string; readonly version: Seq } {
    const hold = this.#byFence.get(fence);
    if (hold?.version === undefined || hold.deadline <= this.#platform.clock.monotonic())
      throw refuse("ESTALE", path, `the lock with fencing number ${fence} is lost; take it again, and read again`);
    return { key: keyOf(hold.lockId), version: hold.version };
  }

  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
  }

  /** @throws {EINVAL} who holds it counts with another room */
  #assertRoom({ path, mode, room }: { readonly path: VfsPath; readonly mode: LockMode; readonly room: number }): void {
    for (const hold of this.#byPath.get(path))
      if (hold.mode === "counting" && mode === "counting" && hold.room !== room)
        throw refuse("EINVAL", path, `it has room for ${hold.room} holders; ${room} were asked for`);
  }

  async #grant(
    { path, mode, room }: { readonly path: VfsPath; readonly mode: LockMode; readonly room: number },
    pid: Pid,
    { ttlMs, owner, lockId }: LockRequest,
    record: (grant: LockGrant) => Change,
    rider: Rider | undefined,
  ): Promise<LockGrant> {
    if (lockId !== undefined && this.#holds.has(lockId)) {
      this.#queue.release(path, mode);
      throw refuse("EEXIST", path, `the id ${lockId} has been taken meanwhile`);
    }
    const hold: Hold = {
      path,
      mode,
      room,
      pid,
      owner,
      ttlMs,
      lockId: lockId ?? this.#newId(),
      fence: this.#fence++,
      at: this.#committer.now(),
      deadline: Number.POSITIVE_INFINITY,
      version: undefined,
    };
    this.#index(hold);
    const grant = grantOf(hold);
    try {
      const receipt = await this.#committer.commit(
        {
          puts: [
            { key: keyOf(hold.lockId), value: encode(hold) },
            { key: FENCE_KEY, value: String(this.#fence) },
          ],
          ...record(grant),
        },
        [{ name: "lock.granted", pid, data: { path, lockId: hold.lockId, fence: hold.fence } }],
        rider,
      );
      hold.version = newer(hold.version, receipt.seq);
    } catch (error) {
      this.#forget(hold);
      throw error;
    }
    // Its holder may have ended meanwhile.
    if (this.#holds.get(hold.lockId) === hold) this.#startTime(hold);
    return grant;
  }

  async #extend(
    hold: Hold,
    pid: Pid,
    { path, ttlMs, mode, maxHolders }: LockRequest,
    record: (grant: LockGrant) => Change,
    rider: Rider | undefined,
  ): Promise<LockGrant> {
    if (hold.path !== path) throw refuse("EINVAL", path, `the lock ${hold.lockId} is of ${hold.path}`);
    if (hold.pid !== pid) throw refuse("EPERM", path, `the lock ${hold.lockId} is held by process ${hold.pid}`);
    const isOther = hold.mode === "counting" ? mode === "shared" : mode !== undefined && mode !== hold.mode;
    if (isOther || (maxHolders !== undefined && maxHolders !== hold.room))
      throw refuse("EINVAL", path, `the lock ${hold.lockId} is extended as it is; give it back to take another`);
    const grant = { ...grantOf(hold), ttlMs };
    const receipt = await this.#committer.commit(
      { puts: [{ key: keyOf(hold.lockId), value: encode({ ...hold, ttlMs }) }], ...record(grant) },
      undefined,
      rider,
    );
    if (this.#holds.get(hold.lockId) !== hold) throw refuse("ESTALE", path, `the lock ${hold.lockId} has ended`);
    hold.ttlMs = ttlMs;
    hold.version = newer(hold.version, receipt.seq);
    this.#startTime(hold);
    return grant;
  }

  #wait(wanted: Omit<Waiter, "served">, waitMs: number | undefined, signals: readonly AbortSignal[]): Promise<void> {
    this.#order.assertFree(`the lock of ${wanted.path}`);
    return new Promise<void>((resolve, reject) => {
      const onAbort = (): void => giveUp(signals.find(({ aborted }) => aborted)?.reason);
      for (const signal of signals) if (signal.aborted) return reject(signal.reason);
      const agent = agentOf(wanted);
      const over = (): void => {
        timer?.cancel();
        for (const signal of signals) signal.removeEventListener("abort", onAbort);
        this.#waiters.delete(agent, waiter);
      };
      const waiter: Waiter = {
        ...wanted,
        served: () => {
          over();
          resolve();
        },
      };
      const giveUp = (error: unknown): void => {
        over();
        this.#queue.leave(waiter);
        reject(error);
      };
      const circle = this.#circleOf(waiter);
      if (circle !== undefined)
        return reject(
          refuse(
            "EDEADLK",
            wanted.path,
            `deadlock, they wait for each other: ${circle.join(" → ")}; release what you hold and begin again`,
          ),
        );
      const timer =
        waitMs === undefined
          ? undefined
          : this.#platform.setTimer(waitMs, () => giveUp(this.#held(wanted.path, waitMs)));
      for (const signal of signals) signal.addEventListener("abort", onAbort, { once: true });
      this.#queue.wait(waiter);
      this.#waiters.add(agent, waiter);
    });
  }

  /** The way from who wants to wait back to it, over who holds what is wanted, if there is one (A4). */
  #circleOf(wanted: Waiter): readonly string[] | undefined {
    // The owner's process is many users at once.
    if (wanted.pid === PID_OWNER) return undefined;
    const own = agentOf(wanted);
    // Nobody waits for who holds nothing and is in no queue: most of those that come.
    const isInTheWay =
      this.#waiters.get(own).size > 0 ||
      Array.from(this.#byProcess.get(wanted.pid)).some((hold) => agentOf(hold) === own);
    if (!isInTheWay) return undefined;
    const seen = new Set<string>();
    const told: Told = { holders: new Set(), waiters: new Map() };
    const visit = (waiter: Waiter, way: readonly string[]): readonly string[] | undefined => {
      for (const blocker of this.#blockersOf(waiter, told)) {
        const agent = agentOf(blocker);
        if (agent === own) {
          // Parts of one process that have no names of their own may wait for each other.
          if (way.length === 1 && wanted.owner === undefined) continue;
          return [...way, wordOf(wanted)];
        }
        if (seen.has(agent) || blocker.pid === PID_OWNER) continue;
        seen.add(agent);
        for (const next of this.#waiters.get(agent)) {
          // What it waits for, and not what it holds: so the way is told from one lock to the next.
          const found = visit(next, [...way, wordOf(next)]);
          if (found !== undefined) return found;
        }
      }
      return undefined;
    };
    return visit(wanted, [wordOf(wanted)]);
  }

  /**
   * Who is in the way of a waiter, but for those that were told before. Of a counting lock any of many may make room:
   * nobody is.
   */
  *#blockersOf(waiter: Waiter, told: Told): Generator<Hold | Waiter, void, undefined> {
    if (waiter.mode === "counting") return;
    const key = `${waiter.mode} ${waiter.path}`;
    if (!told.holders.has(key)) {
      told.holders.add(key);
      for (const path of [waiter.path, ...ancestorsOf(waiter.path)])
        for (const hold of this.#byPath.get(path as VfsPath))
          if (hold.mode !== "counting" && excludes(hold, waiter)) yield hold;
      const below = waiter.path === "/" ? "/" : `${waiter.path}/`;
      if (this.#queue.isHeldBelow(waiter.path))
        for (const [path, holds] of this.#byPath)
          if (path.startsWith(below)) for (const hold of holds) if (excludes(hold, waiter)) yield hold;
    }
    // Only this table lets anybody wait in its queue.
    for (const ahead of this.#queue.aheadOf(waiter, told.waiters)) yield ahead as Waiter;
  }

  async #release(going: readonly Hold[], name: "lock.released" | "lock.expired", rider?: Rider): Promise<void> {
    // Who is served commits behind this one.
    const committing = this.#committer.commit(
      { deletes: going.map(({ lockId }) => keyOf(lockId)) },
      going.map(({ path, lockId, fence, pid }) => ({ name, pid, data: { path, lockId, fence } })),
      rider,
    );
    for (const hold of going) this.#forget(hold);
    await committing;
  }

  #index(hold: Hold): void {
    this.#holds.set(hold.lockId, hold);
    this.#byFence.set(hold.fence, hold);
    this.#byPath.add(hold.path, hold);
    this.#byProcess.add(hold.pid, hold);
  }

  #keep(hold: Hold): void {
    this.#index(hold);
    this.#startTime(hold);
  }

  #forget(hold: Hold): void {
    if (this.#holds.get(hold.lockId) !== hold) return;
    this.#holds.delete(hold.lockId);
    this.#inherited.delete(hold);
    this.#byFence.delete(hold.fence);
    this.#byPath.delete(hold.path, hold);
    this.#byProcess.delete(hold.pid, hold);
    this.#queue.release(hold.path, hold.mode);
  }

  #startTime(hold: Hold): void {
    hold.deadline = this.#platform.clock.monotonic() + hold.ttlMs;
    this.#expiries.add({ deadline: hold.deadline, hold });
    this.#arm();
  }

  /** Waits for the next end that is due. */
  #arm(): void {
    const next = this.#expiries.first?.deadline;
    if (this.#isClosed || next === undefined || next >= this.#timerAt) return;
    this.#timer?.cancel();
    this.#timerAt = next;
    const wait = Math.min(Math.max(0, Math.ceil(next - this.#platform.clock.monotonic())), LOOK_MS);
    this.#timer = this.#platform.setTimer(wait, () => this.#expire(), { idle: true });
  }

  #expire(): void {
    const now = this.#platform.clock.monotonic();
    const over: Hold[] = [];
    for (let first = this.#expiries.first; first !== undefined && first.deadline <= now; first = this.#expiries.first) {
      this.#expiries.take();
      // One that was extended has another entry.
      if (this.#holds.get(first.hold.lockId) === first.hold && first.hold.deadline <= now) over.push(first.hold);
    }
    // A store that fails says so to everybody.
    if (over.length > 0) void this.#release(over, "lock.expired").catch(() => undefined);
    this.#timerAt = Number.POSITIVE_INFINITY;
    this.#arm();
  }

  #show(hold: Hold): LockHolder {
    const { mode, room, pid, owner, at, deadline } = hold;
    const isGranted = deadline !== Number.POSITIVE_INFINITY;
    const leftMs = isGranted ? Math.max(0, Math.round(deadline - this.#platform.clock.monotonic())) : hold.ttlMs;
    return {
      ...grantOf(hold),
      mode,
      pid,
      ...(owner === undefined ? {} : { owner }),
      ...(mode === "counting" ? { maxHolders: room } : {}),
      at,
      expires: this.#committer.now() + leftMs,
      leftMs,
    };
  }

  #held(path: VfsPath, waitedMs: number): KernelError {
    const related = [path, ...ancestorsOf(path)].flatMap((one) => Array.from(this.#byPath.get(one as VfsPath)));
    const [holder] = related;
    const who =
      holder === undefined
        ? "something below it is locked"
        : `process ${holder.pid} holds ${holder.path === path ? "it" : holder.path}`;
    return refuse(
      "EAGAIN",
      path,
      `${who}${waitedMs === 0 ? "" : `, ${waitedMs} ms were not enough`}; wait longer, or try again`,
    );
  }

  #newId(): string {
    return Array.from(this.#platform.random(8), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}

/** What comes with a call. */
export interface LockCall {
  /** Each of them ends waiting. */
  readonly signals?: readonly AbortSignal[];
  readonly rider?: Rider | undefined;
}

/** Longest wait between two looks at the clock. */
const LOOK_MS = 60_000;

const wordOf = ({
  pid,
  path,
  owner,
}: {
  readonly pid: Pid;
  readonly path: VfsPath;
  readonly owner: string | undefined;
}): string => `process ${pid}${owner === undefined ? "" : ` (${owner})`} at ${path}`;

/** Of two commits that settle together the later one counts. */
const newer = (one: Seq | undefined, two: Seq): Seq => (one === undefined || two > one ? two : one);

const grantOf = ({ path, lockId, fence, ttlMs }: Hold): LockGrant => ({ path, lockId, fence, ttlMs });

function refuse(
  code: "EEXIST" | "EAGAIN" | "EDEADLK" | "EINVAL" | "EPERM" | "ESTALE",
  path: VfsPath,
  what: string,
): KernelError {
  return new KernelError(code, `lock ${path}: ${what}`, { path });
}

function encode({ path, lockId, fence, mode, room, pid, owner, at, ttlMs }: Hold): string {
  return JSON.stringify({ v: FORMAT, path, lockId, fence, mode, room, pid, owner, at, ttlMs });
}

function decode(text: string, now: number, version: Seq): Hold {
  // Written by `encode` only.
  const { v, ...record } = JSON.parse(text) as Omit<Hold, "deadline" | "version"> & { readonly v: number };
  if (v !== FORMAT)
    throw new KernelError("EVERSION", `a lock has format ${v}, this program reads ${FORMAT}; use a newer ErgOS`);
  return { ...record, owner: record.owner, deadline: now + record.ttlMs, version };
}
