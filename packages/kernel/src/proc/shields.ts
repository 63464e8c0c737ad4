// Shields: work of a process that is not cut off when that is told to end, such as taking back what it has done.
//
// SH1  While one is up, the calls of the process hear of another signal than its program does, and its end waits.
// SH2  Each comes down after its time, and all of them together LIMITS.shieldMaxMs after the process was told to end.
// SH3  A KILL goes through.

import type { Platform, Timer } from "../abi/platform.ts";
import type { KernelError } from "../base/errno.ts";
import { LIMITS } from "../base/limits.ts";

export class Shields {
  readonly #cut = new AbortController();
  readonly #up = new Map<number, { readonly timer: Timer; readonly down: () => void }>();
  #next = 1;
  #down: PromiseWithResolvers<void> | undefined;

  /** Ends what is done behind them. */
  get signal(): AbortSignal {
    return this.#cut.signal;
  }

  get areUp(): boolean {
    return this.#up.size > 0;
  }

  /** Raises one for so many milliseconds; gives its number, and tells when it comes down. @throws the reason of a cut */
  raise(platform: Platform, ms: number, down: () => void): number {
    this.#cut.signal.throwIfAborted();
    const id = this.#next++;
    const timer = platform.setTimer(ms, () => this.lower(id));
    this.#up.set(id, { timer, down });
    return id;
  }

  /** Lowers one that is still up. */
  lower(id: number): void {
    const one = this.#up.get(id);
    if (one === undefined) return;
    one.timer.cancel();
    this.#up.delete(id);
    one.down();
    if (this.#up.size > 0) return;
    this.#down?.resolve();
    this.#down = undefined;
  }

  /** Settles when none is up. */
  down(): Promise<void> {
    return this.areUp ? (this.#down ??= Promise.withResolvers<void>()).promise : Promise.resolve();
  }

  /** Cuts off what is done behind them, for good. */
  cut(reason: KernelError): void {
    this.#cut.abort(reason);
    for (const id of this.#up.keys()) this.lower(id);
  }
}

/** Waits for the code of a process that was told to end: at most `graceMs` in a row, and for as long as it is shielded. */
export async function graced(
  platform: Platform,
  process: { readonly shields: Shields | undefined },
  graceMs: number,
  over: Promise<unknown>,
): Promise<void> {
  const late = platform.clock.monotonic() + LIMITS.shieldMaxMs;
  for (;;) {
    await atMost(platform, graceMs, over);
    const { shields } = process;
    const leftMs = late - platform.clock.monotonic();
    if (shields?.areUp !== true || leftMs <= 0) return;
    await atMost(platform, leftMs, shields.down());
  }
}

async function atMost(platform: Platform, ms: number, wait: Promise<unknown>): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = platform.setTimer(ms, late.resolve);
  await Promise.race([wait, late.promise]).finally(() => timer.cancel());
}
