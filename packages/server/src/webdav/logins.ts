// Who is logged in: a place in the host for each pass, kept from one request to the next.

import type { Login } from "@ergos/kernel";
import { TTL_MAX_MS } from "./locks.ts";

/** Passes that are kept at a time. */
const LOGINS_MAX = 1000;
/** The same of what was narrowed from one pass: whoever holds that makes as many as it likes, without asking anybody. */
const OF_ONE_MAX = 50;
/** A place that nobody has used for so long holds no lock any more, and is given up. */
const IDLE_MS = TTL_MAX_MS;

interface Entry {
  readonly login: Promise<Login>;
  /** Requests under way. */
  busy: number;
  usedAt: number;
  /** The pass that it was narrowed from, once that is known. */
  origin?: string;
}

export class Logins {
  readonly #login: (pass: string) => Promise<Login>;
  /** Least recently used first. */
  readonly #entries = new Map<string, Entry>();

  constructor(login: (pass: string) => Promise<Login>) {
    this.#login = login;
  }

  /** Does something for whoever has a pass. */
  async use<T>(pass: string, work: (login: Login) => Promise<T>): Promise<T> {
    const entry = this.#entries.get(pass) ?? this.#enter(pass);
    this.#entries.delete(pass);
    this.#entries.set(pass, entry);
    entry.busy++;
    try {
      return await work(await entry.login);
    } finally {
      entry.busy--;
      entry.usedAt = performance.now();
      this.#sweep();
    }
  }

  #enter(pass: string): Entry {
    const entry: Entry = { login: this.#login(pass), busy: 0, usedAt: performance.now() };
    const forget = (): void => {
      if (this.#entries.get(pass) === entry) this.#entries.delete(pass);
    };
    entry.login.then(({ ended, identity }) => {
      entry.origin = identity.split(" ", 1)[0] ?? "";
      return ended.then(forget);
    }, forget);
    return entry;
  }

  #sweep(): void {
    const since = performance.now() - IDLE_MS;
    if (this.#entries.size > OF_ONE_MAX) {
      const own = [...this.#entries].filter(([, { origin }]) => origin !== undefined);
      for (const siblings of Map.groupBy(own, ([, { origin }]) => origin).values())
        for (const [pass, entry] of siblings.slice(0, Math.max(0, siblings.length - OF_ONE_MAX)))
          this.#leave(pass, entry);
    }
    for (const [pass, entry] of this.#entries) {
      if (entry.usedAt > since && this.#entries.size <= LOGINS_MAX) return;
      this.#leave(pass, entry);
    }
  }

  #leave(pass: string, { busy, login }: Entry): void {
    if (busy > 0) return;
    this.#entries.delete(pass);
    login.then(({ leave }) => leave()).catch(() => undefined);
  }
}
