// Calls that wait, of processes whose rights may end meanwhile: whoever may not make such a call any more is told at once,
// and takes nothing that comes later (D6).

import type { Platform, Timer } from "../abi/platform.ts";
import { linkSignal } from "../base/abort.ts";
import type { Committer } from "../ipc/committer.ts";
import { setAlarm } from "../proc/alarm.ts";

/** What such a call may, as long as it waits. */
export interface WaitingCall {
  /** @throws {EACCES} its caller may not make it any more */
  assertStillMay(): void;
  /** When something that its rights depend on ends by itself, in wall-clock milliseconds; undefined, nothing does. */
  nextEnd(): number | undefined;
}

interface Waiting {
  readonly call: WaitingCall;
  readonly end: AbortController;
  alarm: Timer | undefined;
}

export class WaitingCalls {
  readonly #platform: Platform;
  readonly #committer: Committer;
  readonly #waiting = new Set<Waiting>();

  constructor(platform: Platform, committer: Committer) {
    this.#platform = platform;
    this.#committer = committer;
  }

  /** Runs a call that may wait, under a signal that ends it with its caller's, or when that may not make it any more. */
  run(call: WaitingCall, given: AbortSignal | undefined, work: (signal: AbortSignal) => unknown): unknown {
    const end = new AbortController();
    const unlink = given === undefined ? undefined : linkSignal(given, end);
    const result = work(end.signal);
    if (!(result instanceof Promise)) {
      unlink?.();
      return result;
    }
    const waiting: Waiting = { call, end, alarm: undefined };
    this.#waiting.add(waiting);
    this.#arm(waiting);
    return result.finally(() => {
      unlink?.();
      waiting.alarm?.cancel();
      this.#waiting.delete(waiting);
    });
  }

  /** Somebody may do less than before. */
  review(): void {
    for (const waiting of this.#waiting) this.#look(waiting);
  }

  #look({ call, end }: Waiting): boolean {
    try {
      call.assertStillMay();
      return true;
    } catch (error) {
      end.abort(error);
      return false;
    }
  }

  /** Looks again when the first of several rights ends, and then when the next does. */
  #arm(waiting: Waiting): void {
    const at = waiting.call.nextEnd();
    if (at === undefined) return;
    const look = (): void => {
      if (this.#look(waiting)) this.#arm(waiting);
    };
    waiting.alarm = setAlarm(this.#platform, at, look, { idle: true, clock: this.#committer.clock });
  }
}
