// The kernel: one metastore, one process table, one namespace, one way in (the dispatcher).
// It boots and works with no service loaded.

import type { MountDriver } from "./abi/file.ts";
import type { Hook } from "./abi/hook.ts";
import type { Platform } from "./abi/platform.ts";
import { KernelError } from "./base/errno.ts";
import { PID_OWNER, type Pid, type RunId } from "./base/id.ts";
import { toPath } from "./base/path.ts";
import { type KernelParts, bootHost } from "./boot.ts";
import type { Attempts } from "./journal/journal.ts";
import type { ProcessLimits } from "./budget/limits.ts";
import { drained } from "./proc/drain.ts";
import type { Process } from "./proc/process.ts";
import type { ProcessContext } from "./proc/program.ts";
import { Dispatcher } from "./syscall/dispatcher.ts";
import type { Host } from "./syscall/host.ts";
import { type Os, bindOs, makeOs } from "./syscall/os.ts";
import { NESTED } from "./syscall/row.ts";
import type { MountLimits } from "./vfs/guarded-mount.ts";

/** An owner's pass ends with its host; at the latest after ten years. */
const OWNER_PASS_MS = 3660 * 86_400_000;

/** What the holder of a pass gets. */
export interface Login {
  readonly os: Os;
  /** The same for the same pass. */
  readonly identity: string;
  /** Settles when it is taken away again, with why if that is not the pass's end. */
  readonly ended: Promise<KernelError | undefined>;
  /** Settles when all that was committed so far survives a loss of power; needs no right of its own. */
  readonly flush: () => Promise<void>;
  readonly leave: () => Promise<void>;
  /** Aborts when whom it stands for is told to end. */
  readonly signal: AbortSignal;
  /** Whether its calls go on all the same, because what they are for is shielded from that. */
  readonly isShielded?: () => boolean;
}

export class Kernel implements AsyncDisposable {
  readonly host: Host;
  readonly dispatcher: Dispatcher;
  readonly #os = new Map<Pid, Os>();
  #closed: Promise<void> | undefined;

  private constructor(host: Host) {
    this.host = host;
    this.dispatcher = new Dispatcher(host);
  }

  static async boot(parts: KernelParts): Promise<Kernel> {
    let kernel: Kernel | undefined;
    const booted = (): Kernel => {
      if (kernel === undefined) throw new KernelError("EBUSY", "the kernel is still booting");
      return kernel;
    };
    const host = await bootHost(parts, {
      osOf: (process) => {
        const os = booted().osOf(process.pid);
        // The arguments of each call are marked.
        const nested = (name: string, args: object): unknown => os.call(name as never, { ...args, [NESTED]: true });
        return makeOs(process.pid, nested as Os["call"]);
      },
      run: (process, program) => program.run(new Context(booted(), process)),
    });
    kernel = new Kernel(host);
    return kernel;
  }

  /** Begins to act of itself: schedules, triggers, and waking what sleeps. A host that is only looked at does not. */
  activate(): void {
    this.host.processes.sleeper.activate();
    this.host.schedules.activate();
    this.host.triggers.activate();
    this.host.services.activate();
  }

  /** The calls of the owner's process, which holds every right. */
  get os(): Os {
    return this.osOf(PID_OWNER);
  }

  /**
   * The calls of one process.
   * @throws {ESRCH} there is no such process
   */
  osOf(pid: Pid): Os {
    const known = this.#os.get(pid);
    if (known !== undefined) return known;
    const process = this.host.processes.get(pid);
    if (process === undefined) throw new KernelError("ESRCH", `process ${pid} does not exist`, { pid });
    const os = bindOs(this.dispatcher, process);
    if (pid === PID_OWNER) this.#os.set(pid, os);
    return os;
  }

  /**
   * The calls of whoever holds a pass, and what ends them.
   * @throws {EACCES} there is no pass, or it is not valid here and now
   */
  async login(pass: string | undefined): Promise<Login> {
    const { audience, sessionAudience, seats, store } = this.host;
    const { process, identity, ended, leave } = await seats.take(pass, [audience, sessionAudience]);
    const { pid, signal } = process;
    return { os: this.osOf(pid), identity, ended, leave, signal, flush: () => store.flush() };
  }

  /** A pass of the owner's, for this life of the host alone; nothing without an authority over passes. */
  ownerPass(): string | undefined {
    const now = this.host.committer.now();
    const { owner, passes, seats, sessionAudience: audience } = this.host;
    const request = { subject: owner.identity.user, pid: PID_OWNER, audience, grants: ["*"] };
    const times = { issued: now, notBefore: now, expires: now + OWNER_PASS_MS };
    return passes === undefined ? undefined : seats.issueOwners(passes, { ...request, ...times });
  }

  /**
   * Installs a hook on the calls of all processes; returns a function that removes it. `hookOn` knows the types of each call.
   * @throws {EINVAL} it is no hook · {EAGAIN} there are as many as there may be
   */
  hook(hook: Hook): () => void {
    return this.host.hooks.add(hook);
  }

  /** Mounts a foreign tree, such as a folder of the machine. */
  mount(at: string, driver: MountDriver, limits: MountLimits = {}): Promise<void> {
    return this.host.mounts.mount(toPath(at), driver, limits);
  }

  /** What is mounted at exactly this path, if a driver is. */
  mountAt(at: string): MountDriver | undefined {
    return this.host.mounts.driverAt(toPath(at));
  }

  /**
   * Takes a foreign tree out, once nothing of it is in use; what is under way is waited for.
   * @throws {EINVAL} none is mounted there
   */
  unmount(at: string): Promise<void> {
    return this.host.mounts.unmount(toPath(at));
  }

  /**
   * Ends the host: running processes stay unfinished in the store and go on at the next start. Waits for
   * flushed writes, and at most `drainMs` for what is under way: calls of models, tools and the network, steps, nodes; idempotent.
   * @param quiet called when that has ended: until then who looks, or kills, is answered
   */
  close({
    drainMs = 0,
    quiet,
  }: { readonly drainMs?: number; readonly quiet?: () => Promise<void> } = {}): Promise<void> {
    this.#closed ??= this.#close(drainMs, quiet);
    return this.#closed;
  }

  async #close(drainMs: number, quiet: (() => Promise<void>) | undefined): Promise<void> {
    const { schedules, triggers, processes, platform, queues, locks, services, bus, audit } = this.host;
    // Let go of in the end, the last first, whatever fails before.
    await using parts = new AsyncDisposableStack();
    for (const part of [this.host.objects, this.host.store, this.host.mounts]) parts.defer(() => part.close());
    schedules.close();
    triggers.close();
    // Those that leave no journal end with their host; a service among them is there for calls that are under way.
    const running = processes.all.filter(({ journal, program }) => journal !== undefined && program !== undefined);
    processes.leaveToNext();
    const { release } = await drained(platform, running, drainMs, { idle: false, withWork: true });
    await quiet?.();
    queues.close();
    locks.close();
    await services.close();
    await processes.suspendAll();
    release();
    this.dispatcher.close();
    bus.close();
    await audit.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** What a program sees of its process. `os` is made when it is asked for: a plan of pure nodes never does. */
class Context implements ProcessContext {
  readonly #kernel: Kernel;
  readonly #process: Process;
  #os: Os | undefined;
  #input: unknown;

  constructor(kernel: Kernel, process: Process) {
    this.#kernel = kernel;
    this.#process = process;
  }

  get pid(): Pid {
    return this.#process.pid;
  }

  get runId(): RunId {
    return this.#process.identity.runId;
  }

  get parentPid(): Pid | undefined {
    return this.#process.identity.ppid;
  }

  get name(): string {
    return this.#process.identity.name;
  }

  /** The same for all its code, and no other life's. */
  get input(): unknown {
    return (this.#input ??= this.#process.input);
  }

  get durable(): boolean {
    return this.#process.journal !== undefined;
  }

  get isResumed(): boolean {
    return this.#process.isResumed;
  }

  isRecorded(place: string): boolean {
    return this.#process.journal?.isRecorded(place) === true;
  }

  takeAttempts(place: string): Attempts | undefined {
    return this.#process.journal?.takeAttempts(place);
  }

  get limits(): ProcessLimits | undefined {
    return this.#process.limits;
  }

  get isObserved(): boolean {
    return this.#kernel.host.bus.hasSubscribers;
  }

  get signal(): AbortSignal {
    return this.#process.signal;
  }

  get left(): Promise<void> {
    return this.#process.left;
  }

  get isAborted(): boolean {
    return this.#process.isAborted;
  }

  get isShielded(): boolean {
    return this.#process.isShielded;
  }

  get held(): Promise<void> | undefined {
    return this.#process.isHeld ? this.#process.continued() : undefined;
  }

  workBegun(): void {
    this.#process.workBegun();
  }

  workOver(): void {
    this.#process.workOver();
  }

  abort(reason: KernelError): void {
    this.#process.abort(reason);
  }

  get platform(): Platform {
    return this.#kernel.host.platform;
  }

  get os(): Os {
    return (this.#os ??= bindOs(this.#kernel.dispatcher, this.#process));
  }
}
