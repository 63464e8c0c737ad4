// Rates: how much of a resource in how much time, or at a time. They live in memory; a restarted host begins with empty
// windows.
//
// R1  What is taken was never more in any stretch of the window, or at any time. What a call turns out not to have used
//     is given back where it was taken.
// R2  Who finds no room waits in one fair order (F1); nobody passes who waits for the same meter.

import { orAborted } from "../base/abort.ts";
import { KernelError } from "../base/errno.ts";
import type { Platform, Timer } from "../abi/platform.ts";
import type { Schema } from "../base/schema.ts";
import { FairOrder, type Share, type Turn } from "./fair.ts";

export const RATE_RESOURCES = ["modelCalls", "toolCalls", "tokens"] as const;
export const RATE_KINDS = ["window", "bucket", "concurrent"] as const;
export const RATE_SCOPES = ["process", "user", "model", "tool"] as const;

export interface RateLimit {
  readonly resource: (typeof RATE_RESOURCES)[number];
  /** What has a window of its own: each process below the one that has the limit, or each user, model or tool. */
  readonly per: (typeof RATE_SCOPES)[number];
  /** Only this model or tool; a glob. */
  readonly only?: string;
  readonly max: number;
  /** Absent where `kind` is `concurrent`. */
  readonly windowMs?: number;
  /**
   * `window`: at most `max` in any stretch of `windowMs`. `bucket`: refilled evenly at `max` each `windowMs`,
   * holding `burst` (default `max`). `concurrent`: at most `max` calls under way at the same time.
   */
  readonly kind?: (typeof RATE_KINDS)[number];
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
    kind: { type: "string", enum: RATE_KINDS },
    burst: { type: "integer", minimum: 1 },
    onLimit: { type: "string", enum: ["wait", "fail"] },
  },
  required: ["resource", "per", "max"],
  additionalProperties: false,
};

/** Why a rate could never hold anything up; nothing when it can. */
export function rateProblem({
  resource,
  per,
  kind,
  windowMs,
  burst,
}: Pick<RateLimit, "resource" | "per" | "kind" | "windowMs" | "burst">): string | undefined {
  const isConcurrent = kind === "concurrent";
  if (isConcurrent && resource === "tokens")
    return "tokens are not under way at a time; a concurrent rate counts calls";
  if (isConcurrent && (windowMs !== undefined || burst !== undefined))
    return "a concurrent rate has no window, and no burst: it counts calls that are under way";
  if (!isConcurrent && windowMs === undefined) return "a rate needs its window: in how much time";
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
  /**
   * Milliseconds until `amount` fits; 0 when it fits now, infinity when that needs others to give back. An amount that
   * never fits waits for an empty meter.
   */
  waitFor(amount: number, now: number): number;
  take(amount: number, now: number): void;
  /** Gives back some of what was taken at an instant. */
  give(amount: number, at: number): void;
  /** Something of it is with those who will give it back. */
  readonly isOut?: boolean;
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

  give(amount: number, at: number): void {
    const grain = Math.ceil(at / this.#grainMs) * this.#grainMs;
    // Newest first: calls are short beside windows.
    const taken = this.#taken.findLast((one) => one.at <= grain);
    if (taken?.at !== grain) return;
    const back = Math.min(amount, taken.amount);
    taken.amount -= back;
    this.#sum -= back;
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

  give(amount: number): void {
    this.#level = Math.min(this.#burst, this.#level + amount);
  }

  #refill(now: number): void {
    this.#level = Math.min(this.#burst, this.#level + (now - (this.#at ?? now)) * this.#perMs);
    this.#at = now;
  }
}

/** At most `max` at a time. */
class Slots implements Meter {
  readonly #max: number;
  #out = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get isOut(): boolean {
    return this.#out > 0;
  }

  waitFor(amount: number): number {
    return this.#out + amount <= this.#max ? 0 : Number.POSITIVE_INFINITY;
  }

  take(amount: number): void {
    this.#out += amount;
  }

  give(amount: number): void {
    this.#out -= amount;
  }
}

/** An amount of a rate. */
export interface Taking {
  readonly rate: RateLimit;
  /** Names the meter: the same for everything that counts together. */
  readonly key: string;
  readonly amount: number;
}

/** What was taken, until it is known how much of it was used. */
export interface Taken {
  /**
   * The call is over: what it has not used is given back, once.
   * @param tokens how many it has used, where that is known
   * @param wasMade it was made at all
   */
  over(wasMade: boolean, tokens?: number): void;
}

/** Why a call has to wait. */
interface Full {
  readonly rate: RateLimit;
  /** Milliseconds until there is room; infinity where others have to end before. */
  readonly waitMs: number;
}

const METERS_MAX = 10_000;

/** A call that waits until all its rates have room. */
interface Waiter {
  readonly rates: readonly Taking[];
  readonly turn: Turn;
  /** Milliseconds in which what it takes is there again. */
  readonly cost: number;
  readonly go: (taken: Taken) => void;
}

/** How long a call is taken to last, for one of those that may be under way at a time. */
const CALL_MS = 1000;
/** So that different rates can be compared: how long the scarcest of them needs for it. */
const costOf = (rates: readonly Taking[]): number =>
  Math.max(...rates.map(({ amount, rate: { max, windowMs = CALL_MS } }) => (Math.min(amount, max) * windowMs) / max));

/** The meters of a host, and who waits for them. */
export class RateTable {
  readonly #platform: Pick<Platform, "clock" | "setTimer" | "defer">;
  readonly #meters = new Map<string, Meter>();
  readonly #order = new FairOrder();
  readonly #waiters = new Set<Waiter>();
  /** How many wait for each meter. */
  readonly #wanted = new Map<string, number>();
  /** Meters that had no room for whoever was first, until the timer. */
  #shut: ReadonlySet<string> = new Set();
  #timer: Timer | undefined;
  #isDue = false;

  constructor(platform: Pick<Platform, "clock" | "setTimer" | "defer">) {
    this.#platform = platform;
  }

  /**
   * Takes an amount of every rate at once if all have room, and nobody waits for one of them.
   * @returns what was taken, or the rate that has no room
   */
  take(rates: readonly Taking[]): Taken | Full {
    const now = this.#platform.clock.monotonic();
    let full: Full | undefined;
    for (const { rate, key, amount } of rates) {
      const waitMs = this.#meter(rate, key).waitFor(amount, now);
      // Who waits already comes first; who would not wait takes nobody's turn by that.
      const isWanted = rate.onLimit !== "fail" && this.#wanted.has(key);
      if (waitMs > (full?.waitMs ?? (isWanted ? -1 : 0))) full = { waitMs, rate };
    }
    return full ?? this.#take(rates, now);
  }

  #take(rates: readonly Taking[], now: number): Taken {
    for (const { rate, key, amount } of rates) this.#meter(rate, key).take(amount, now);
    let isOver = false;
    return {
      over: (wasMade, tokens) => {
        if (isOver) return;
        isOver = true;
        for (const { rate, key, amount } of rates) {
          const back = amount - usedOf(rate, amount, wasMade, tokens);
          if (back <= 0) continue;
          this.#meter(rate, key).give(back, now);
          if (this.#wanted.has(key)) this.#serveSoon();
        }
      },
    };
  }

  /**
   * Waits until it is the turn of a call, and takes what it needs: shares come in proportion to their weights (F1), and
   * whoever needs much is not passed by those who need little.
   * @param by the shares that it is in, outermost first
   * @throws what `signal` ends it with
   */
  async wait(rates: readonly Taking[], by: readonly Share[], signal: AbortSignal): Promise<Taken> {
    signal.throwIfAborted();
    const { promise, resolve } = Promise.withResolvers<Taken>();
    const waiter = { rates, turn: this.#order.enter(by), cost: costOf(rates), go: resolve };
    this.#waiters.add(waiter);
    for (const { key } of rates) this.#wanted.set(key, (this.#wanted.get(key) ?? 0) + 1);
    // Where somebody is before it that has no room, that is when its turn can be.
    if (!rates.some(({ key }) => this.#shut.has(key))) this.#serveSoon();
    try {
      return await orAborted(promise, signal);
    } catch (error) {
      // Its turn and its end may come together.
      void promise.then((taken) => taken.over(false));
      throw error;
    } finally {
      if (this.#remove(waiter)) {
        this.#order.leave(waiter.turn);
        this.#serveSoon();
      }
    }
  }

  #remove(waiter: Waiter): boolean {
    if (!this.#waiters.delete(waiter)) return false;
    for (const { key } of waiter.rates) {
      const left = (this.#wanted.get(key) ?? 1) - 1;
      if (left === 0) this.#wanted.delete(key);
      else this.#wanted.set(key, left);
    }
    return true;
  }

  /** Once for all that happens now. */
  #serveSoon(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    this.#platform.defer(() => this.#serve());
  }

  #serve(): void {
    this.#isDue = false;
    this.#timer?.cancel();
    const now = this.#platform.clock.monotonic();
    const shut = new Set<string>();
    let soonest = Number.POSITIVE_INFINITY;
    for (let next = this.#first(shut); next !== undefined; next = this.#first(shut)) {
      let hasRoom = true;
      for (const { rate, key, amount } of next.rates) {
        const waitMs = this.#meter(rate, key).waitFor(amount, now);
        if (waitMs === 0) continue;
        hasRoom = false;
        shut.add(key);
        soonest = Math.min(soonest, waitMs);
      }
      if (!hasRoom) continue;
      this.#remove(next);
      this.#order.served(next.turn, next.cost);
      next.go(this.#take(next.rates, now));
    }
    this.#shut = shut;
    this.#timer =
      soonest === Number.POSITIVE_INFINITY
        ? undefined
        : this.#platform.setTimer(Math.ceil(soonest), () => this.#serve());
  }

  /** Whose turn it is of those that need none of the meters that are shut. */
  #first(shut: ReadonlySet<string>): Waiter | undefined {
    let first: Waiter | undefined;
    for (const waiter of this.#waiters) {
      if (first !== undefined && this.#order.compare(waiter.turn, first.turn) >= 0) continue;
      if (!waiter.rates.some(({ key }) => shut.has(key))) first = waiter;
    }
    return first;
  }

  #meter(rate: RateLimit, key: string): Meter {
    const known = this.#meters.get(key);
    // Used again: the last to be forgotten.
    if (known !== undefined) this.#meters.delete(key);
    const meter = known ?? meterOf(rate);
    this.#meters.set(key, meter);
    if (this.#meters.size > METERS_MAX) {
      const [oldest] = this.#meters;
      if (oldest !== undefined) this.#meters.delete(oldest[0]);
      // What somebody is to give back is not forgotten.
      if (oldest?.[1].isOut === true) this.#meters.set(...oldest);
    }
    return meter;
  }
}

function meterOf({ kind, max, windowMs = 0, burst = max }: RateLimit): Meter {
  if (kind === "concurrent") return new Slots(max);
  return kind === "bucket" ? new TokenBucket(max, windowMs, burst) : new SlidingWindow(max, windowMs);
}

function usedOf({ kind, resource }: RateLimit, amount: number, wasMade: boolean, tokens: number | undefined): number {
  if (kind === "concurrent" || !wasMade) return 0;
  return resource === "tokens" ? (tokens ?? amount) : amount;
}
