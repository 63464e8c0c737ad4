// A lock that is kept for as long as it is needed: extended in time, given back, and told when it is lost.

import { KernelError, type LockGrant, type Os, type Platform, type Timer, isKernelError } from "@ergos/kernel";

export interface LeaseOptions {
  /** `exclusive` (default), or `shared` with others that are shared. */
  readonly mode?: "exclusive" | "shared";
  /** More than one: a semaphore with room for so many. */
  readonly maxHolders?: number;
  /** Milliseconds after which the lock is free if its holder is gone; extended after a third of it (default 30 s). */
  readonly ttlMs?: number;
  /** How long to wait: 0 not at all, absent for as long as it takes. */
  readonly waitMs?: number;
  /** Who of the process wants it; nodes of a plan are told apart by their names unless given. */
  readonly owner?: string;
  /** Ends waiting. */
  readonly signal?: AbortSignal;
}

type Timers = Pick<Platform, "clock" | "setTimer">;

const TTL_MS = 30_000;

/** A lock that is held; `await using` gives it back. */
export class Lease implements AsyncDisposable {
  readonly #os: Pick<Os, "call">;
  readonly #platform: Timers;
  readonly #grant: LockGrant;
  readonly #lost = new AbortController();
  #timer: Timer | undefined;
  /** Goes off when the lock may be free, whatever became of the call that was to extend it. */
  #deadline: Timer | undefined;
  /** When the lock may be free, as far as this side knows. */
  #until: number;
  #isOver = false;

  constructor(os: Pick<Os, "call">, platform: Timers, grant: LockGrant) {
    this.#os = os;
    this.#platform = platform;
    this.#grant = grant;
    this.#until = this.#platform.clock.monotonic() + grant.ttlMs;
    this.#guard();
    this.#plan();
  }

  get path(): string {
    return this.#grant.path;
  }

  /** The number of the grant: give it with writes that must not be done without the lock. */
  get fence(): number {
    return this.#grant.fence;
  }

  /** Aborts when the lock is lost: it could not be extended in time, or was taken away. */
  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  /**
   * Gives the lock back; idempotent.
   * @returns whether it was held until now; if not, `signal` has aborted
   */
  async release(): Promise<boolean> {
    if (this.#isOver) return !this.#lost.signal.aborted;
    this.#end();
    const { path, lockId } = this.#grant;
    const isHeld = await this.#os.call("unlock", { path, lockId }).catch((error: unknown) => {
      // Somebody else has it by now: it is not ours to give.
      if (!isKernelError(error) || error.code !== "EPERM") throw error;
      return false;
    });
    if (!isHeld) this.#abort("it was taken away before it was given back");
    return isHeld;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }

  #plan(): void {
    const wait = Math.max(1, Math.min(this.#grant.ttlMs / 3, this.#until - this.#platform.clock.monotonic()));
    this.#timer = this.#platform.setTimer(wait, () => void this.#extend(), { idle: true });
  }

  #guard(): void {
    this.#deadline?.cancel();
    const left = Math.max(1, Math.ceil(this.#until - this.#platform.clock.monotonic()));
    const over = (): void => {
      // A timer may end a little early.
      if (this.#platform.clock.monotonic() < this.#until) this.#guard();
      else this.#lose("it was not extended in time");
    };
    this.#deadline = this.#platform.setTimer(left, over, { idle: true });
  }

  async #extend(): Promise<void> {
    const { path, lockId, ttlMs, fence } = this.#grant;
    const askedAt = this.#platform.clock.monotonic();
    if (askedAt >= this.#until) return this.#lose("it was not extended in time");
    try {
      const again = await this.#os.call("lock", { path, lockId, ttlMs, waitMs: 0 });
      if (this.#isOver) return;
      if (again.fence === fence) {
        this.#until = askedAt + ttlMs;
        this.#guard();
      } else {
        // It had ended, and this was a new grant.
        await this.#os.call("unlock", { path, lockId });
        return this.#lose("it had ended before it was extended");
      }
    } catch (error) {
      if (this.#isOver) return;
      const isTaken = isKernelError(error) && ["EAGAIN", "EPERM", "ESTALE", "ESRCH", "EACCES"].includes(error.code);
      if (isTaken || this.#platform.clock.monotonic() >= this.#until)
        return this.#lose("somebody else may hold it", error);
    }
    this.#plan();
  }

  #lose(why: string, cause?: unknown): void {
    if (this.#isOver) return;
    this.#end();
    this.#abort(why, cause);
  }

  #abort(why: string, cause?: unknown): void {
    const { path } = this.#grant;
    this.#lost.abort(new KernelError("ESTALE", `the lock ${path} is lost: ${why}`, { path, cause }));
  }

  #end(): void {
    this.#isOver = true;
    this.#timer?.cancel();
    this.#deadline?.cancel();
  }
}

/**
 * The name of the lock that whoever leads in an election has; no election is a part of another.
 * @throws {EINVAL} it has no name
 */
export function electionOf(name: string): string {
  if (typeof name !== "string" || name === "") throw new KernelError("EINVAL", "an election has a name");
  return `elections/${name.replaceAll("%", "%25").replaceAll("/", "%2F")}`;
}

/**
 * Takes the lock of a path or a name, waiting for it, and keeps it until it is given back.
 * @throws {EAGAIN} it could not be had in time · {EDEADLK} its holders wait for this process
 */
export async function holdLock(
  os: Pick<Os, "call">,
  platform: Timers,
  path: string,
  options: LeaseOptions = {},
): Promise<Lease> {
  const { ttlMs = TTL_MS, ...rest } = options;
  return new Lease(os, platform, await os.call("lock", { path, ttlMs, ...rest }));
}
