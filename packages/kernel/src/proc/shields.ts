// Shields: work of a process that is not cut off when that is told to end, such as taking back what it has done.
//
// SH1  While one is up, calls that begin hear of another signal than the program does, and the end of the process waits.
//      When the last has come down, they are told what the program was told.
// SH2  Each comes down after its time, and all of them together LIMITS.shieldMaxMs after the process was told to end.
// SH3  A KILL goes through, and so does whatever else ends this life of the process and not the process: nothing is
//      shielded from that, and no shield is raised any more.

import type { Platform, Timer } from "../abi/platform.ts";
import { cancelled } from "../base/abort.ts";
import { KernelError } from "../base/errno.ts";
import { LIMITS } from "../base/limits.ts";
import type { Process } from "./process.ts";
import type { Program } from "./program.ts";

export class Shields {
  readonly #platform: Platform;
  /** What tells the program to end. */
  readonly #told: AbortSignal;
  readonly #up = new Map<number, { readonly timer: Timer; readonly lowered: () => void }>();
  #behind = new AbortController();
  #next = 1;
  #allDown: PromiseWithResolvers<void> | undefined;
  #loweredAt = Number.NEGATIVE_INFINITY;

  constructor(platform: Platform, told: AbortSignal) {
    this.#platform = platform;
    this.#told = told;
    told.addEventListener("abort", () => this.#tell(), { once: true });
  }

  /** Ends what has begun behind them. */
  get signal(): AbortSignal {
    return this.#behind.signal;
  }

  get areUp(): boolean {
    return this.#up.size > 0;
  }

  /** Instant of the monotonic clock at which the last one came down. */
  get loweredAt(): number {
    return this.#loweredAt;
  }

  /**
   * Raises one for so many milliseconds; gives its number, and tells when it comes down.
   * @throws {EAGAIN} as many are up as may be
   */
  raise(ms: number, lowered: () => void): number {
    if (this.#up.size >= LIMITS.shieldsMax)
      throw new KernelError("EAGAIN", `${LIMITS.shieldsMax} shields are up, which is as many as may be; lower some`, {
        syscall: "shield",
      });
    // What had begun behind those of before has been told.
    if (this.#behind.signal.aborted) this.#behind = new AbortController();
    const id = this.#next++;
    this.#up.set(id, { timer: this.#platform.setTimer(ms, () => this.lower(id)), lowered });
    return id;
  }

  /** Lowers one that is still up. */
  lower(id: number): void {
    const one = this.#up.get(id);
    if (one === undefined) return;
    one.timer.cancel();
    this.#up.delete(id);
    one.lowered();
    if (this.areUp) return;
    this.#loweredAt = this.#platform.clock.monotonic();
    this.#allDown?.resolve();
    this.#allDown = undefined;
    this.#tell();
  }

  /** Settles when none is up. */
  allDown(): Promise<void> {
    return this.areUp ? (this.#allDown ??= Promise.withResolvers<void>()).promise : Promise.resolve();
  }

  /** Cuts off what is done behind them. */
  cut(reason: KernelError): void {
    this.#behind.abort(reason);
    for (const id of this.#up.keys()) this.lower(id);
  }

  #tell(): void {
    if (this.#told.aborted && !this.areUp) this.#behind.abort(this.#told.reason);
  }
}

/** Waits for the code of a life that is over, and cuts off what is left of it. */
export async function codeOver(platform: Platform, process: Process, program = process.program): Promise<void> {
  await graced(platform, process, program, process.code ?? Promise.resolve());
  process.cutOff(cancelled(`this life of process ${process.pid} is over`));
}

/** Waits for code that was told to end: its grace, and for as long as it is shielded; a grace begins anew behind that. */
export async function graced(
  platform: Platform,
  process: Process,
  program: Program | undefined,
  over: Promise<unknown>,
): Promise<void> {
  const now = (): number => platform.clock.monotonic();
  // One that was told so in an earlier life has to come to where it was.
  const graceMs = process.isTwiceTold ? LIMITS.shieldMaxMs : (program?.graceMs ?? LIMITS.cancelGraceMs);
  const late = now() + LIMITS.shieldMaxMs;
  let isOver = false;
  const end = over.then(() => (isOver = true));
  for (let since = now(); now() < late;) {
    const { shields } = process;
    if (shields?.areUp === true) await atMost(platform, late - now(), shields.allDown());
    else {
      since = Math.max(since, shields?.loweredAt ?? since);
      const leftMs = since + graceMs - now();
      if (isOver || leftMs <= 0) return;
      await atMost(platform, Math.min(leftMs, late - now()), end);
    }
  }
}

/** Waits for something, at most for so many milliseconds. */
export async function atMost(platform: Platform, ms: number, wait: Promise<unknown>): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = platform.setTimer(ms, late.resolve);
  await Promise.race([wait, late.promise]).finally(() => timer.cancel());
}
