// Calls that wait, of processes whose rights may end meanwhile: whoever may not make such a call any more is told at once,
// and takes nothing that comes later (D6).

import type { Platform, Timer } from "../abi/platform.ts";
import type { Committer } from "../ipc/committer.ts";
import { setAlarm } from "../proc/alarm.ts";

interface WaitingCall {
  /** @throws {EACCES} its caller may not make it any more */
  readonly assertStillMay: () => void;
  readonly end: AbortController;
}

export class WaitingCalls {
  readonly #platform: Platform;
  readonly #committer: Committer;
  readonly #calls = new Set<WaitingCall>();

  constructor(platform: Platform, committer: Committer) {
    this.#platform = platform;
    this.#committer = committer;
  }

  /**
   * Runs a call that may wait, with what ends it beside its caller's own signal.
   * @param until when something that its rights depend on ends by itself, in wall-clock milliseconds
   */
  run(
    assertStillMay: () => void,
    { given, until }: { readonly given: AbortSignal | undefined; readonly until: number | undefined },
    work: (signal: AbortSignal) => unknown,
  ): unknown {
    const end = new AbortController();
    const result = work(given === undefined ? end.signal : AbortSignal.any([end.signal, given]));
    if (!(result instanceof Promise)) return result;
    const call: WaitingCall = { assertStillMay, end };
    this.#calls.add(call);
    const late: Timer | undefined =
      until === undefined
        ? undefined
        : setAlarm(this.#platform, until, () => look(call), { idle: true, clock: this.#committer.clock });
    return result.finally(() => {
      late?.cancel();
      this.#calls.delete(call);
    });
  }

  /** Somebody may do less than before. */
  review(): void {
    for (const call of this.#calls) look(call);
  }
}

function look({ assertStillMay, end }: WaitingCall): void {
  try {
    assertStillMay();
  } catch (error) {
    end.abort(error);
  }
}
