// Children that are ready before somebody asks for one: they have said hello and practised, and wait to hear whose they are.
//
// R1  One is given once. What has ended meanwhile is not given.
// R2  Their number is bounded, and they end when none was asked for in a while, and with their host.

import type { ChildProcess } from "node:child_process";

/** A process of the machine, and the mark in its environment. */
export interface Started {
  readonly child: ChildProcess;
  readonly mark: string;
}

/** From a child that was asked for to the next spare one: its start would slow that of the first. */
const REFILL_MS = 100;
const IDLE_MS = 60_000;

export class Spares {
  readonly #start: () => Started;
  readonly #end: (started: Started) => void;
  readonly #most: number;
  readonly #ready: Started[] = [];
  #refill: NodeJS.Timeout | undefined;
  #idle: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(most: number, start: () => Started, end: (started: Started) => void) {
    this.#most = most;
    this.#start = start;
    this.#end = end;
  }

  /** One that is ready, if any is; others are made ready after this. */
  take(): Started | undefined {
    this.#makeReady();
    const found = this.#ready.shift();
    if (found !== undefined) hold(found.child, true);
    return found;
  }

  close(): void {
    this.#isClosed = true;
    this.#endAll();
  }

  #makeReady(): void {
    if (this.#most === 0 || this.#isClosed) return;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => this.#endAll(), IDLE_MS).unref();
    this.#refill ??= setTimeout(() => {
      this.#refill = undefined;
      try {
        while (this.#ready.length < this.#most) this.#add(this.#start());
      } catch {
        // The machine has no room for one that nobody has asked for.
      }
    }, REFILL_MS).unref();
  }

  #add(started: Started): void {
    const { child } = started;
    this.#ready.push(started);
    const gone = (): void => {
      const at = this.#ready.indexOf(started);
      if (at >= 0) this.#ready.splice(at, 1);
    };
    child.once("error", gone).once("exit", gone);
    hold(child, false);
  }

  #endAll(): void {
    clearTimeout(this.#refill);
    clearTimeout(this.#idle);
    this.#refill = undefined;
    for (const started of this.#ready.splice(0)) this.#end(started);
  }
}

/** Whether a child keeps its host from ending by itself. */
function hold(child: ChildProcess, isHeld: boolean): void {
  for (const one of [child, ...child.stdio]) {
    // Pipes of children are sockets, which types do not say.
    const handle = one as { ref?: () => void; unref?: () => void } | null | undefined;
    if (isHeld) handle?.ref?.();
    else handle?.unref?.();
  }
}
