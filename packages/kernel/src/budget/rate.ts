// Rates: how much of a resource in how much time. They live in memory; a restarted host begins with empty windows.

import { KernelError } from "../base/errno.ts";
import type { Clock } from "../abi/platform.ts";
import type { Schema } from "../base/schema.ts";

export const RATE_RESOURCES = ["modelCalls", "toolCalls", "tokens"] as const;
export const RATE_SCOPES = ["process", "user", "model", "tool"] as const;

export interface RateLimit {
  readonly resource: (typeof RATE_RESOURCES)[number];
  /** What has a window of its own: each process below the one that has the limit, or each user, model or tool. */
  readonly per: (typeof RATE_SCOPES)[number];
  /** Only this model or tool; a glob. */
  readonly only?: string;
  readonly max: number;
  readonly windowMs: number;
  /**
   * `window`: at most `max` in any stretch of `windowMs`. `bucket`: refilled evenly at `max` each `windowMs`,
   * holding `burst` (default `max`).
   */
  readonly kind?: "window" | "bucket";
  readonly burst?: number;
  /** `wait` (default) until there is room, or `fail` with EAGAIN and the time to wait. */
  readonly onLimit?: "wait" | "fail";
}

export const RATE_SCHEMA: Schema = {
  type: "object",
  properties: {
    resource: { type: "string", enum: RATE_RESOURCES },
    per: { type: "string", enum: RATE_SCOPES },
    only: { type: "string", minLength: 1, maxLength: 256 },
    max: { type: "integer", minimum: 1 },
    windowMs: { type: "integer", minimum: 1 },
    kind: { type: "string", enum: ["window", "bucket"] },
    burst: { type: "integer", minimum: 1 },
    onLimit: { type: "string", enum: ["wait", "fail"] },
  },
  required: ["resource", "per", "max", "windowMs"],
  additionalProperties: false,
};

/** Why a rate could never hold anything up; nothing when it can. */
export function rateProblem({ resource, per }: Pick<RateLimit, "resource" | "per">): string | undefined {
  const other = resource === "toolCalls" ? "model" : "tool";
  return per === other
    ? `${resource} have no ${other} to be counted by; a rate of them is per process, user or ${resource === "toolCalls" ? "tool" : "model"}`
    : undefined;
}

/** @throws {EINVAL} */
export function assertRate(rate: RateLimit): void {
  const problem = rateProblem(rate);
  if (problem !== undefined) throw new KernelError("EINVAL", problem);
  const isCount = (value: number | undefined): boolean =>
    value === undefined || (Number.isSafeInteger(value) && value >= 1);
  if (!isCount(rate.max) || !isCount(rate.windowMs) || !isCount(rate.burst))
    throw new KernelError(
      "EINVAL",
      `a rate needs whole numbers of at least 1 for max, windowMs and burst, found ${JSON.stringify(rate)}`,
    );
}

/** Counts what happened, and tells when more may. */
export interface Meter {
  /** Milliseconds until `amount` fits; 0 when it fits now. An amount that never fits waits for an empty meter. */
  waitFor(amount: number, now: number): number;
  take(amount: number, now: number): void;
}

/** At most `max` in any stretch of `windowMs`. */
export class SlidingWindow implements Meter {
  readonly #max: number;
  readonly #windowMs: number;
  /** What is taken counts from the end of its grain, so that no stretch holds more than `max`. */
  readonly #grainMs: number;
  /** Instants and amounts, oldest first. */
  readonly #taken: { at: number; amount: number }[] = [];
  #sum = 0;

  constructor(max: number, windowMs: number) {
    this.#max = max;
    this.#windowMs = windowMs;
    this.#grainMs = Math.max(1, Math.ceil(windowMs / 1000));
  }

  waitFor(amount: number, now: number): number {
    this.#expire(now);
    let over = this.#sum + Math.min(amount, this.#max) - this.#max;
    if (over <= 0) return 0;
    for (const { at, amount: gone } of this.#taken) {
      over -= gone;
      if (over <= 0) return at + this.#windowMs - now;
    }
    return this.#windowMs;
  }

  take(amount: number, now: number): void {
    this.#expire(now);
    const last = this.#taken.at(-1);
    const at = Math.ceil(now / this.#grainMs) * this.#grainMs;
    if (last?.at === at) last.amount += amount;
    else this.#taken.push({ at, amount });
    this.#sum += amount;
  }

  #expire(now: number): void {
    let first = this.#taken[0];
    while (first !== undefined && first.at + this.#windowMs <= now) {
      this.#sum -= first.amount;
      this.#taken.shift();
      [first] = this.#taken;
    }
  }
}

/** Refilled evenly; what is saved up may be spent at once. */
export class TokenBucket implements Meter {
  readonly #perMs: number;
  readonly #burst: number;
  #level: number;
  #at: number | undefined;

  constructor(max: number, windowMs: number, burst: number) {
    this.#perMs = max / windowMs;
    this.#burst = burst;
    this.#level = burst;
  }

  waitFor(amount: number, now: number): number {
    this.#refill(now);
    const lacking = Math.min(amount, this.#burst) - this.#level;
    return lacking <= 0 ? 0 : Math.ceil(lacking / this.#perMs);
  }

  take(amount: number, now: number): void {
    this.#refill(now);
    this.#level -= amount;
  }

  #refill(now: number): void {
    this.#level = Math.min(this.#burst, this.#level + (now - (this.#at ?? now)) * this.#perMs);
    this.#at = now;
  }
}

/** A rate and whose it is. */
export interface HeldRate {
  readonly rate: RateLimit;
  /** Names the meter: the same for everything that counts together. */
  readonly key: string;
}

const METERS_MAX = 10_000;

/** The meters of a host. */
export class RateTable {
  readonly #clock: Clock;
  readonly #meters = new Map<string, Meter>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Takes an amount of every rate at once if all have room.
   * @returns 0 when it was taken, else the milliseconds after which to try again, and the rate that has no room
   */
  take(rates: readonly (HeldRate & { readonly amount: number })[]): {
    readonly waitMs: number;
    readonly rate?: RateLimit;
  } {
    const now = this.#clock.monotonic();
    let waitMs = 0;
    let blocking: RateLimit | undefined;
    for (const { rate, key, amount } of rates) {
      const wait = this.#meter(rate, key).waitFor(amount, now);
      if (wait > waitMs) [waitMs, blocking] = [wait, rate];
    }
    if (blocking !== undefined) return { waitMs, rate: blocking };
    for (const { rate, key, amount } of rates) this.#meter(rate, key).take(amount, now);
    return { waitMs: 0 };
  }

  #meter(rate: RateLimit, key: string): Meter {
    const known = this.#meters.get(key);
    // Used again: the last to be forgotten.
    if (known !== undefined) this.#meters.delete(key);
    const meter =
      known ??
      (rate.kind === "bucket"
        ? new TokenBucket(rate.max, rate.windowMs, rate.burst ?? rate.max)
        : new SlidingWindow(rate.max, rate.windowMs));
    this.#meters.set(key, meter);
    if (this.#meters.size > METERS_MAX) {
      const [oldest] = this.#meters.keys();
      if (oldest !== undefined) this.#meters.delete(oldest);
    }
    return meter;
  }
}
