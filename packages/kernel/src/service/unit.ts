// What a host knows of one service: what it is, in what state, and the life that it has now.

import type { Platform, Timer } from "../abi/platform.ts";
import type { ErrorRecord } from "../base/errno.ts";
import type { Pid } from "../base/id.ts";
import type { Committer } from "../ipc/committer.ts";
import type { ProgramSource } from "../proc/program.ts";
import { recentOf } from "../proc/restart.ts";
import type { Life } from "./life.ts";
import { type Attestation, type ServiceModule, restartPolicyOf } from "./service.ts";

export const SERVICE_STATES = [
  "stopped",
  "waiting",
  "starting",
  "ready",
  "degraded",
  "swapping",
  "stopping",
  "failed",
] as const;
export type ServiceState = (typeof SERVICE_STATES)[number];

export interface EnlistOptions {
  /** Given to its `create`. */
  readonly config?: unknown;
  /** What it must be shown to be before it runs (default: that it keeps its contract). */
  readonly attest?: Attestation;
  /** Start it with the first call instead of now. */
  readonly lazy?: boolean;
}

/** What a check has shown. */
export interface Check {
  readonly at: number;
  readonly ok: boolean;
  readonly ready: boolean;
  readonly note?: string;
  readonly ms: number;
  /** Checks in a row that have failed. */
  readonly failures: number;
}

export interface ServiceStatus {
  readonly name: string;
  readonly description?: string;
  readonly contract?: string;
  readonly methods: readonly string[];
  readonly needs: readonly string[];
  readonly neededBy: readonly string[];
  readonly state: ServiceState;
  /** Why it is in it, where that is not what was asked for. */
  readonly why?: string;
  readonly error?: ErrorRecord;
  /** Its process, while it has one, and whose child that is. */
  readonly pid?: Pid;
  readonly owner: Pid;
  /** Instant of its last change of state. */
  readonly since: number;
  /** Restarts since it was enlisted, and those that its window still counts. */
  readonly restarts: number;
  readonly recentRestarts: number;
  readonly calls: number;
  readonly callsUnderWay: number;
  readonly health?: Check;
  readonly attestation: Attestation["level"];
  readonly hash?: string;
  readonly source?: ProgramSource;
}

/** What the store keeps of one that belongs to the owner and has a source: `sv/<name>`. */
export interface ServiceRecord {
  readonly source: ProgramSource;
  readonly options: EnlistOptions;
  readonly needs: readonly string[];
  readonly isWanted: boolean;
}

interface UnitParts {
  readonly committer: Committer;
  readonly platform: Platform;
}

export class Unit {
  readonly name: string;
  readonly owner: Pid;
  options: EnlistOptions;
  source: ProgramSource | undefined;
  /** Of a source that was not loaded yet there is none. */
  module: ServiceModule | undefined;
  hash: string | undefined;
  /** What it needs, also while it is not loaded. */
  needs: readonly string[] = [];
  /** It shall run. */
  isWanted = false;
  life: Life | undefined;
  /** Process of the life that has failed. */
  failedPid: Pid | undefined;
  starting: { readonly isAsked: boolean; readonly done: Promise<void> } | undefined;
  ending: Promise<void> | undefined;
  /** Instants at which it was restarted, as far as they still count, and how often in all. */
  restarts: readonly number[] = [];
  restarted = 0;
  calls = 0;
  health: Check | undefined;
  /** Those that wait for it may start. */
  onReady: (() => void) | undefined;
  readonly #parts: UnitParts;
  readonly #timers = new Set<Timer>();
  #state: ServiceState = "stopped";
  #why: string | undefined;
  #error: ErrorRecord | undefined;
  #since: number;
  #changed = Promise.withResolvers<void>();

  constructor(parts: UnitParts, name: string, owner: Pid, options: EnlistOptions, source?: ProgramSource) {
    this.#parts = parts;
    this.name = name;
    this.owner = owner;
    this.options = options;
    this.source = source;
    this.#since = parts.committer.now();
  }

  get state(): ServiceState {
    return this.#state;
  }

  /** Why it is in its state, where that is not what was asked for. */
  get why(): string | undefined {
    return this.#state === "stopped" && this.isWanted ? "a host that stays starts it: ergos up" : this.#why;
  }

  /** Settles with its next state. */
  get changed(): Promise<void> {
    return this.#changed.promise;
  }

  /** What it is from now on. */
  is(module: ServiceModule, hash: string | undefined): void {
    this.module = module;
    this.hash = hash;
    this.needs = module.needs ?? [];
  }

  become(state: ServiceState, why?: string, error?: ErrorRecord): void {
    const from = this.#state;
    this.#state = state;
    this.#why = why;
    this.#error = error;
    if (from === state) return;
    const { committer } = this.#parts;
    this.#since = committer.now();
    this.wake();
    if (state === "ready") this.onReady?.();
    const because = { ...(why === undefined ? {} : { why }), ...(error === undefined ? {} : { error }) };
    const pid = this.life?.process?.pid ?? this.owner;
    committer.publish({ name: "service.changed", pid, data: { name: this.name, from, to: state, ...because } });
    if (error === undefined) return;
    const failure = {
      name: "service.failed",
      pid: this.failedPid ?? pid,
      data: { program: `service:${this.name}`, to: state, error },
    } as const;
    // A store that takes nothing more has said so to whoever waits for it.
    void committer.commit({}, [failure]).catch(() => undefined);
  }

  /** Lets whoever waits for a change look again. */
  wake(): void {
    const before = this.#changed;
    this.#changed = Promise.withResolvers();
    before.resolve();
  }

  /** Does something in a while, unless `quiet` comes before. */
  later(ms: number, task: () => void): void {
    const run = (): void => {
      this.#timers.delete(timer);
      task();
    };
    const timer = this.#parts.platform.setTimer(ms, run, { idle: true });
    this.#timers.add(timer);
  }

  quiet(): void {
    for (const timer of this.#timers) timer.cancel();
    this.#timers.clear();
  }

  statusOf(neededBy: readonly string[]): ServiceStatus {
    const { name, owner, options, source, module, hash, needs, why, life, health } = this;
    const error = this.#error;
    const restart = restartPolicyOf(module);
    return {
      name,
      ...(module?.description === undefined ? {} : { description: module.description }),
      ...(module === undefined ? {} : { contract: module.contract.name }),
      methods: Object.keys(module?.contract.methods ?? {}),
      needs,
      neededBy,
      state: this.#state,
      ...(why === undefined ? {} : { why }),
      ...(error === undefined ? {} : { error }),
      ...(life?.process === undefined ? {} : { pid: life.process.pid }),
      owner,
      since: this.#since,
      restarts: this.restarted,
      recentRestarts: recentOf(this.restarts, restart, this.#parts.committer.now()).length,
      calls: this.calls,
      callsUnderWay: life?.calls ?? 0,
      ...(health === undefined ? {} : { health }),
      attestation: options.attest?.level ?? "basic",
      ...(hash === undefined ? {} : { hash }),
      ...(source === undefined ? {} : { source }),
    };
  }
}
