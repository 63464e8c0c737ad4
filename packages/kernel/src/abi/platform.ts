// All that the kernel has of its surroundings. Drivers provide it; simulations replace it.

export interface Timer {
  /** Stops the timer; idempotent. */
  cancel(): void;
}

export interface Clock {
  /** Wall-clock milliseconds since 1970. May jump. */
  now(): number;
  /** Milliseconds of a clock that never goes back; its zero is arbitrary. */
  monotonic(): number;
}

/** A lock of the kernel that somebody waits for or holds. */
export interface HeldLock {
  readonly kind: string;
  readonly name: string | number;
  isHeld: boolean;
}

/** Knows what the work under way holds, through everything that it awaits. */
export interface LockTrace {
  holding(): readonly HeldLock[];
  run<T>(held: readonly HeldLock[], work: () => T): T;
}

export interface Platform {
  readonly clock: Clock;
  /** Cryptographically strong random bytes. */
  random(bytes: number): Uint8Array;
  /** SHA-256 of the bytes as 64 hexadecimal digits, synchronously. */
  hash(bytes: Uint8Array | string): string;
  /** Uninitialised memory for content that is about to be overwritten. */
  allocate(bytes: number): Uint8Array;
  /** Runs `task` once, after the current turn of the loop and its microtasks. */
  defer(task: () => void): void;
  /** Told whose code is about to run in this thread, so that a watchdog can name who blocks it. */
  entered?(pid: number): void;
  /** In a debug build: the kernel checks the order of its locks by it. */
  readonly locks?: LockTrace;
  /** Runs `task` once after `delayMs` milliseconds, also if these are years. An `idle` timer does not keep the host alive. */
  setTimer(delayMs: number, task: () => void, options?: { readonly idle?: boolean }): Timer;
}
