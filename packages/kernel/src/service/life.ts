// One life of a service: the process that it runs in, its instance, and the calls under way.

import type { Platform } from "../abi/platform.ts";
import { within } from "../abi/within.ts";
import { hearing, orAborted } from "../base/abort.ts";
import { KernelError, describe, fromErrorRecord } from "../base/errno.ts";
import type { Pid } from "../base/id.ts";
import type { Grant } from "../cap/grant.ts";
import type { Exit, Process } from "../proc/process.ts";
import type { ProcessContext, Program } from "../proc/program.ts";
import { type ServiceInstance, type ServiceModule, assertConforms } from "./service.ts";

const START_MS = 30_000;
const STOP_MS = 5000;

/** Made here alone, so that nobody else's program passes for one. */
class ServiceProgram implements Program {
  readonly name: string;
  readonly revision = "";
  readonly kind = "function";
  readonly graceMs: number;
  declare readonly grants?: readonly Grant[];
  readonly owner: Pid;
  readonly run: Program["run"];

  constructor({ module: { name, grants }, stopMs }: Life, owner: Pid, run: Program["run"]) {
    this.name = `service:${name}`;
    this.graceMs = stopMs + 1000;
    if (grants !== undefined) this.grants = grants;
    this.owner = owner;
    this.run = run;
  }
}

/** Whose service a program is, if it is one. */
export const servedFor = (program: Program): Pid | undefined =>
  program instanceof ServiceProgram ? program.owner : undefined;

export class Life {
  readonly module: ServiceModule;
  readonly #platform: Platform;
  readonly #config: unknown;
  readonly #created = Promise.withResolvers<void>();
  readonly #go = Promise.withResolvers<void>();
  readonly #ready = Promise.withResolvers<void>();
  readonly #failed = Promise.withResolvers<never>();
  readonly #ended = Promise.withResolvers<Exit>();
  /** Tells of its end as `ended` does, until what this gives is called. */
  readonly onEnded = hearing(this.#ended.promise);
  #idle: PromiseWithResolvers<void> | undefined;
  #calls = 0;
  process: Process | undefined;
  /** Its members, once they are what its contract says. */
  instance: ServiceInstance | undefined;
  /** It was told to end: that it ends is no failure. */
  isTold = false;
  /** A signal of somebody has ended its work. */
  isSignalled = false;
  /** Settles when what follows from its end is done. */
  settled: Promise<void> = Promise.resolve();
  /** What it has hung in, to be taken out again. */
  undo: readonly (() => void)[] = [];

  constructor(module: ServiceModule, config: unknown, platform: Platform) {
    this.module = module;
    this.#config = config;
    this.#platform = platform;
    // Whoever does not wait for one of them hears of it by the end.
    for (const { promise } of [this.#created, this.#ready, this.#failed]) promise.catch(() => undefined);
  }

  get ended(): Promise<Exit> {
    return this.#ended.promise;
  }

  get calls(): number {
    return this.#calls;
  }

  get stopMs(): number {
    return this.module.stopMs ?? STOP_MS;
  }

  /** The instance is there, or why it is not. */
  async whenCreated(): Promise<void> {
    await this.#created.promise.catch(async () => this.#throwEnd());
  }

  /** It takes calls, or why it never did. */
  async whenReady(): Promise<void> {
    await this.#ready.promise.catch(async () => this.#throwEnd());
  }

  async #throwEnd(): Promise<never> {
    const { error } = await this.ended;
    await this.settled;
    throw error === undefined
      ? new KernelError("ECANCELED", `service ${this.module.name} has ended`)
      : fromErrorRecord(error);
  }

  /** What it needs is there: it may start. */
  go(): void {
    this.#go.resolve();
  }

  fail(error: unknown): void {
    this.#failed.reject(error);
  }

  begin(process: Process): void {
    this.process = process;
    void process.done.then((exit) => {
      const over = new KernelError("ECONNRESET", `service ${this.module.name} has ended`, { cause: exit.error });
      this.#created.reject(over);
      this.#ready.reject(over);
      this.#ended.resolve(exit);
    });
  }

  /** Counts a call in; its end counts it out. */
  enter(): () => void {
    this.#calls++;
    return () => {
      if (--this.#calls > 0) return;
      this.#idle?.resolve();
      this.#idle = undefined;
    };
  }

  /** Settles when no call is under way: false where that takes longer. */
  async drained(ms: number): Promise<boolean> {
    if (this.#calls === 0) return true;
    const idle = (this.#idle ??= Promise.withResolvers());
    const late = Promise.withResolvers<void>();
    const timer = this.#platform.setTimer(ms, late.resolve);
    await Promise.race([idle.promise, late.promise]);
    timer.cancel();
    return this.#calls === 0;
  }

  /** @throws {ETIMEDOUT} it takes longer */
  within<T>(ms: number, what: string, work: T | Promise<T>): Promise<T> {
    const error = new KernelError("ETIMEDOUT", `${what} of service ${this.module.name} takes longer than ${ms} ms`);
    return within(this.#platform, ms, () => error, work);
  }

  /** What its process runs. @param owner whose service it is */
  programFor(owner: Pid): Program {
    return new ServiceProgram(this, owner, (context) => this.#run(context));
  }

  async #run(context: ProcessContext): Promise<void> {
    const { module } = this;
    const { startMs = START_MS } = module;
    const { pid, os, signal, platform } = context;
    try {
      const told = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
      const fail = (error: unknown): void => this.fail(error);
      const making = async (): Promise<object> =>
        module.create({ pid, os, signal, platform, config: this.#config, fail });
      const made = await this.within(startMs, "create()", orAborted(making(), signal));
      assertConforms(module, made);
      this.instance = made;
      this.#created.resolve();
      await Promise.race([this.#go.promise, this.#failed.promise, told]);
      this.isSignalled = signal.aborted;
      if (signal.aborted) return;
      await this.within(startMs, "start()", orAborted((async () => this.instance?.start?.())(), signal));
      const running = this.instance.run === undefined ? undefined : this.#work(this.instance, signal);
      this.#ready.resolve();
      await Promise.race([told, this.#failed.promise, ...(running === undefined ? [] : [running])]);
      this.isSignalled = signal.aborted;
    } catch (error) {
      this.#created.reject(error);
      this.#ready.reject(error);
      throw error;
    } finally {
      await this.#stop(context);
    }
  }

  async #work(instance: ServiceInstance, signal: AbortSignal): Promise<void> {
    await instance.run?.();
    if (!signal.aborted) throw new KernelError("EFAILED", `run() of service ${this.module.name} has ended by itself`);
  }

  async #stop({ os }: ProcessContext): Promise<void> {
    const { instance } = this;
    if (instance?.stop === undefined) return;
    try {
      await this.within(this.stopMs, "stop()", (async () => instance.stop?.())());
    } catch (error) {
      // It ends all the same; that it did not end well is in its log.
      const line = os.call("log", { level: "error", text: `stop() failed: ${describe(error)}` });
      // Unless it was killed, and has no log any more.
      if (line instanceof Promise) await line.catch(() => undefined);
    }
  }
}
