// Rates: how much of a resource in how much time, or at a time. They live in memory; a restarted host begins with empty
// windows.
//
// R1  No stretch of a window, and no time, has more begun than its maximum: a call counts as what it may use until it is
//     over, and as what it has used from then on. One that is given up is over, whatever its driver still does.
// R2  Who finds no room waits at the meter that is full, in its fair order (F1), and nobody passes there but who would not
//     wait. Who needs several may find another one full at its turn, and waits there next.
// R3  Who has its turn acts: whoever has to wait for something else gives back what it has taken before.

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
interface Meter {
  /**
   * Milliseconds until `amount` fits; 0 when it fits now, infinity when that needs others to give back. An amount that
   * never fits waits for an empty meter.
   */
  waitFor(amount: number, now: number): number;
  take(amount: number, now: number): void;
  /** Gives back some of what was taken at an instant. */
  give(amount: number, at: number): void;
  /** Nothing need be remembered of it. */
  isEmpty(now: number): boolean;
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

  isEmpty(now: number): boolean {
    this.#expire(now);
    return this.#sum === 0;
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

  isEmpty(now: number): boolean {
    this.#refill(now);
    return this.#level >= this.#burst;
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

  isEmpty(): boolean {
    return this.#out === 0;
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
   * @param wasMade it was made at all
   * @param tokens how many it has used, where that is known
   */
  over(wasMade: boolean, tokens?: number): void;
}

/** Why a call has to wait. */
interface Full {
  readonly rate: RateLimit;
  /** Milliseconds until there is room; infinity where others have to end before. */
  readonly waitMs: number;
  readonly line: Line;
}

/** A meter, and who waits for it. */
interface Line {
  readonly key: string;
  readonly meter: Meter;
  readonly order: FairOrder;
  readonly waiters: Set<Waiter>;
  /** How many have taken of it and are not over. */
  out: number;
  /** When whoever is first has room. */
  timer: Timer | undefined;
  isDue: boolean;
}

/** A call that waits, at one of its meters at a time. */
interface Waiter {
  readonly rates: readonly Taking[];
  readonly by: readonly Share[];
  readonly end: (result: Taken | Full) => void;
  line: Line;
  turn: Turn;
}

/** Lines after which those are looked for of which nothing need be remembered. */
const LINES_ROOM = 10_000;
/** Calls that get their turn without a pause: others want the host, too. */
const SERVED_MAX = 256;

/** The meters of a host, and who waits for them. */
export class RateTable {
  readonly #platform: Pick<Platform, "clock" | "setTimer" | "defer">;
  readonly #lines = new Map<string, Line>();
  #room = LINES_ROOM;

  constructor(platform: Pick<Platform, "clock" | "setTimer" | "defer">) {
    this.#platform = platform;
  }

  /**
   * Takes an amount of every rate at once if all have room, and nobody waits for one of them.
   * @returns what was taken, or the rate that has no room; one that would not wait for it before others
   */
  take(rates: readonly Taking[]): Taken | Full {
    const now = this.#platform.clock.monotonic();
    return this.#fullOf(rates, now, true) ?? this.#take(rates, now);
  }

  /**
   * Waits until it is the turn of a call, and takes what it needs: shares come in proportion to their weights (F1), and
   * whoever needs much is not passed by those who need little (R2).
   * @param by the shares that it is in, outermost first
   * @returns what was taken, or a rate that has no room at its turn, and that it would not wait for
   * @throws what `signal` ends it with
   */
  async wait(rates: readonly Taking[], by: readonly Share[], signal: AbortSignal): Promise<Taken | Full> {
    signal.throwIfAborted();
    const now = this.#platform.clock.monotonic();
    const full = this.#fullOf(rates, now, true);
    if (full === undefined) return this.#take(rates, now);
    if (full.rate.onLimit === "fail") return full;
    const { promise, resolve } = Promise.withResolvers<Taken | Full>();
    const waiter = { rates, by, end: resolve, line: full.line, turn: full.line.order.enter(by) };
    this.#join(waiter);
    try {
      return await orAborted(promise, signal);
    } catch (error) {
      // Its turn and its end may come together.
      void promise.then((result) => "over" in result && result.over(false));
      throw error;
    } finally {
      const { line, turn } = waiter;
      if (line.waiters.delete(waiter)) {
        line.order.leave(turn);
        this.#serveSoon(line);
      }
    }
  }

  #join(waiter: Waiter): void {
    const { line } = waiter;
    line.waiters.add(waiter);
    // Where somebody is before it that has no room, that is when its turn can be.
    if (line.timer === undefined) this.#serveSoon(line);
  }

  /** The rate that has no room: of those that a call waits for the one that it waits for longest. */
  #fullOf(rates: readonly Taking[], now: number, isNew: boolean): Full | undefined {
    let full: Full | undefined;
    for (const { rate, key, amount } of rates) {
      const line = this.#lineOf(rate, key);
      const waitMs = line.meter.waitFor(amount, now);
      const wouldWait = rate.onLimit !== "fail";
      // Who waits already comes first; who would not wait takes nobody's turn by that.
      if (waitMs <= 0 && !(isNew && wouldWait && line.waiters.size > 0)) continue;
      if (!wouldWait) return { rate, waitMs, line };
      if (full === undefined || waitMs > full.waitMs) full = { rate, waitMs, line };
    }
    return full;
  }

  /** @param by the turn that it had at one of them */
  #take(rates: readonly Taking[], now: number, by?: { readonly line: Line; readonly turn: Turn }): Taken {
    for (const { rate, key, amount } of rates) {
      const line = this.#lineOf(rate, key);
      line.meter.take(amount, now);
      line.out++;
    }
    let isOver = false;
    return {
      over: (wasMade, tokens) => {
        if (isOver) return;
        isOver = true;
        for (const { rate, key, amount } of rates) {
          const line = this.#lineOf(rate, key);
          const unused = amount - usedOf(rate, amount, wasMade, tokens);
          line.out--;
          if (unused > 0) line.meter.give(unused, now);
          else if (unused < 0) line.meter.take(-unused, this.#platform.clock.monotonic());
          if (line === by?.line && rate.kind !== "concurrent") line.order.correct(by.turn, unused);
          if (line.waiters.size > 0) this.#serveSoon(line);
        }
      },
    };
  }

  /** Once for all that happens now. */
  #serveSoon(line: Line): void {
    if (line.isDue) return;
    line.isDue = true;
    this.#platform.defer(() => this.#serve(line));
  }

  #serve(line: Line): void {
    line.isDue = false;
    line.timer?.cancel();
    line.timer = undefined;
    const now = this.#platform.clock.monotonic();
    for (let served = 0; served < SERVED_MAX; served++) {
      const first = firstOf(line);
      if (first === undefined) return;
      const amount = first.rates.find(({ key }) => key === line.key)?.amount ?? 0;
      const waitMs = line.meter.waitFor(amount, now);
      if (waitMs > 0) {
        const again = (): void => this.#serve(line);
        if (Number.isFinite(waitMs)) line.timer = this.#platform.setTimer(Math.ceil(waitMs), again);
        return;
      }
      line.waiters.delete(first);
      const full = this.#fullOf(first.rates, now, false);
      if (full === undefined) {
        const { turn } = first;
        line.order.served(turn, amount);
        first.end(this.#take(first.rates, now, { line, turn }));
        continue;
      }
      line.order.leave(first.turn);
      if (full.rate.onLimit === "fail") first.end(full);
      else {
        first.line = full.line;
        first.turn = full.line.order.enter(first.by);
        this.#join(first);
      }
    }
    this.#serveSoon(line);
  }

  #lineOf(rate: RateLimit, key: string): Line {
    const known = this.#lines.get(key);
    if (known !== undefined) return known;
    if (this.#lines.size >= this.#room) this.#sweep();
    const line = {
      key,
      meter: meterOf(rate),
      order: new FairOrder(),
      waiters: new Set<Waiter>(),
      out: 0,
      timer: undefined,
      isDue: false,
    };
    this.#lines.set(key, line);
    return line;
  }

  /** Forgets meters that hold nobody up. */
  #sweep(): void {
    const now = this.#platform.clock.monotonic();
    for (const [key, { waiters, out, meter }] of this.#lines)
      if (waiters.size === 0 && out === 0 && meter.isEmpty(now)) this.#lines.delete(key);
    this.#room = Math.max(LINES_ROOM, 2 * this.#lines.size);
  }
}

function firstOf({ waiters, order }: Line): Waiter | undefined {
  let first: Waiter | undefined;
  for (const waiter of waiters) if (first === undefined || order.compare(waiter.turn, first.turn) < 0) first = waiter;
  return first;
}

function meterOf({ kind, max, windowMs = 0, burst = max }: RateLimit): Meter {
  if (kind === "concurrent") return new Slots(max);
  return kind === "bucket" ? new TokenBucket(max, windowMs, burst) : new SlidingWindow(max, windowMs);
}

function usedOf({ kind, resource }: RateLimit, amount: number, wasMade: boolean, tokens: number | undefined): number {
  if (kind === "concurrent" || !wasMade) return 0;
  return resource === "tokens" ? (tokens ?? amount) : amount;
}
