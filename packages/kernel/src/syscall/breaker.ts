// Circuit breakers: what fails again and again is left alone for a while.
//
// Z1  A breaker counts the failures in a row of one device: a model, or a host of the network. Only those count that
//     are the device's: no refusal of this host, no cancellation, and nobody's wrong arguments.
// Z2  Beyond a number of them it is open: a call is refused before anything is reserved for it, and says when to try
//     again, which retries heed.
// Z3  Then one call goes through. Its success closes the breaker; until then it stays open, each time twice as long.

import type { Clock } from "../abi/platform.ts";
import { ERRNO, KernelError, type ErrorRecord, isKernelError, toErrorRecord } from "../base/errno.ts";
import type { Pid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { EventBus } from "../ipc/event-bus.ts";

export interface BreakerOptions {
  /** Failures in a row after which a device is left alone (default 10). */
  readonly failures?: number;
  /** Milliseconds for which it is left alone at first (default 10 s), and at the longest (default 5 min). */
  readonly coolMs?: number;
  readonly coolMsMax?: number;
}

interface Breaker {
  failures: number;
  coolMs: number;
  /** Monotonic milliseconds up to which it is open; absent while it is closed. */
  until?: number | undefined;
  /** A call was let through, and nothing was heard of it yet. */
  isTried?: boolean;
  error: ErrorRecord;
}

export interface BreakerSummary {
  readonly device: string;
  readonly state: "closed" | "open" | "half-open";
  readonly failures: number;
  readonly retryAfterMs?: number;
  readonly error: ErrorRecord;
}

export class BreakerTable {
  readonly #clock: Clock;
  readonly #bus: EventBus;
  readonly #options: Required<BreakerOptions>;
  /** Devices that have failed lately, the one that has longest first. */
  readonly #breakers = new Map<string, Breaker>();

  constructor(
    clock: Clock,
    bus: EventBus,
    { failures = 10, coolMs = 10_000, coolMsMax = 300_000 }: BreakerOptions = {},
  ) {
    this.#clock = clock;
    this.#bus = bus;
    this.#options = { failures, coolMs, coolMsMax };
  }

  get all(): readonly BreakerSummary[] {
    const now = this.#clock.monotonic();
    return Array.from(this.#breakers, ([device, { failures, until, error }]) => ({
      device,
      state: until === undefined ? "closed" : until > now ? "open" : "half-open",
      failures,
      ...(until !== undefined && until > now ? { retryAfterMs: Math.ceil(until - now) } : {}),
      error,
    }));
  }

  /** @throws {EAGAIN} the device is left alone now (Z2) */
  assertClosed(device: string, pid: Pid): void {
    const breaker = this.#breakers.get(device);
    if (breaker?.until === undefined) return;
    const now = this.#clock.monotonic();
    if (breaker.until <= now) {
      // The one that goes through; the next when nothing was heard of it (Z3).
      breaker.until = now + breaker.coolMs;
      breaker.isTried = true;
      return;
    }
    const retryAfterMs = Math.ceil(breaker.until - now);
    throw new KernelError(
      "EAGAIN",
      `${device} has failed ${breaker.failures} times in a row (${breaker.error.message}); it is left alone for ${retryAfterMs} ms more`,
      { pid, retryAfterMs },
    );
  }

  succeeded(device: string, pid: Pid): void {
    if (this.#breakers.size === 0) return;
    const breaker = this.#breakers.get(device);
    if (breaker === undefined) return;
    this.#breakers.delete(device);
    if (breaker.until !== undefined) this.#bus.publish({ name: "breaker.closed", pid, data: { device } });
  }

  failed(device: string, pid: Pid, thrown: unknown): void {
    if (!isDevices(thrown)) return;
    const { failures: most, coolMs: first, coolMsMax } = this.#options;
    const before = this.#breakers.get(device);
    const error = toErrorRecord(thrown, "EIO");
    const failures = (before?.failures ?? 0) + 1;
    const breaker: Breaker = { failures, coolMs: before?.coolMs ?? first, until: before?.until, error };
    this.#breakers.delete(device);
    this.#breakers.set(device, breaker);
    if (this.#breakers.size > LIMITS.breakersMax) this.#breakers.delete(this.#breakers.keys().next().value ?? "");
    if (failures < most) return;
    const wasOpen = before?.until !== undefined;
    // What was under way when it opened says nothing new; the one that went through does.
    if (wasOpen && before.isTried !== true) return;
    if (wasOpen) breaker.coolMs = Math.min(coolMsMax, breaker.coolMs * 2);
    const { coolMs } = breaker;
    breaker.until = this.#clock.monotonic() + coolMs;
    if (!wasOpen) this.#bus.publish({ name: "breaker.opened", pid, data: { device, failures, coolMs, error } });
  }
}

/** Whether a failure is the device's own (Z1). */
function isDevices(thrown: unknown): boolean {
  if (!isKernelError(thrown)) return true;
  const { code, cause } = thrown;
  // A server that fails may be asked again, as one that is busy: its status tells the two apart.
  const { statusCode } = (cause ?? {}) as { readonly statusCode?: unknown };
  if (typeof statusCode === "number" && statusCode >= 500) return true;
  return code === "EIO" || code === "ETIMEDOUT" || ERRNO[code].category === "network";
}
