// The hooks of a host, in their order.
//
// H1  Resolvers come first, then `pre`, then the act, then `post`, then observers; each kind by priority, and those
//     of one priority in the order in which they came.
// H2  They run behind the check: what was refused none of them sees, and none can allow anything.
// H3  `pre` may refuse, or give other arguments for the same object: what those are about, and the rights that they
//     need, are those that were checked (EPERM). The audit says who changed them.
// H4  What comes behind the act cannot undo it: a failure of `post` or of an observer is told as an event.
// H5  A hook that does not answer in its time has failed.
// H6  A service's hooks do not see the calls of its own process. Calls that hooks of several, or of the host itself, show
//     to each other come to an end where one looks at too many at the same time (ELOOP).

import type { Hook, HookCall, HookOutcome } from "../abi/hook.ts";
import type { Platform } from "../abi/platform.ts";
import { within } from "../abi/within.ts";
import { KernelError, describe, isKernelError, plainMessage, toErrorRecord, toKernelError } from "../base/errno.ts";
import { compileGlob } from "../base/glob.ts";
import type { Pid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { EventBus } from "../ipc/event-bus.ts";

const TIMEOUT_MS = 5000;

interface Hung {
  readonly hook: Hook;
  readonly name: string;
  readonly owner: Pid | undefined;
  readonly number: number;
  readonly isAbout: (resource: string) => boolean;
  /** Calls that it has looked at, refused, and failed to look at. */
  seen: number;
  refused: number;
  failed: number;
  /** Answers that are awaited. */
  running: number;
}

/** What is known of a hook, for `/sys/hooks`. */
export interface HookSummary {
  readonly name: string;
  readonly pid?: Pid;
  readonly calls: readonly string[] | "all";
  readonly paths?: string;
  readonly priority: number;
  readonly kinds: readonly string[];
  readonly seen: number;
  readonly refused: number;
  readonly failed: number;
}

const KINDS = ["resolve", "pre", "post", "observe"] as const;
type Kind = (typeof KINDS)[number];

/** Hooks that look at one call. */
export class HookLine {
  readonly #table: HookTable;
  readonly #call: HookCall;
  readonly #hung: readonly Hung[];

  constructor(table: HookTable, call: HookCall, hung: readonly Hung[]) {
    this.#table = table;
    this.#call = call;
    this.#hung = hung;
  }

  /** Whether any comes before the act. */
  get isAhead(): boolean {
    return this.#hung.some(({ hook }) => hook.resolve !== undefined || hook.pre !== undefined);
  }

  get resolves(): boolean {
    return this.#hung.some(({ hook }) => hook.resolve !== undefined);
  }

  /** What the first resolver that claims the call makes of it. */
  async resolve(args: unknown): Promise<{ readonly result: unknown } | undefined> {
    for (const hung of this.#hung) {
      const { resolve } = hung.hook;
      if (resolve === undefined) continue;
      const result = await this.#before(hung, () => resolve(this.#call, args));
      if (result !== undefined) return { result };
    }
    return undefined;
  }

  /**
   * Arguments as the hooks leave them.
   * @param accept looks whether others may take their place
   * @throws what a hook refuses with
   */
  async pre(
    args: unknown,
    accept: (given: unknown, by: string) => Promise<unknown>,
  ): Promise<{ readonly args: unknown; readonly changedBy: readonly string[] }> {
    let now = args;
    const changedBy: string[] = [];
    for (const hung of this.#hung) {
      const { pre } = hung.hook;
      if (pre === undefined) continue;
      const given = await this.#before(hung, () => pre(this.#call, now));
      if (given === undefined || given === now) continue;
      now = await accept(given, hung.name);
      changedBy.push(hung.name);
    }
    return { args: now, changedBy };
  }

  async post(result: unknown): Promise<void> {
    for (const hung of this.#hung) {
      const { post } = hung.hook;
      if (post === undefined) continue;
      try {
        await this.#timed(hung, () => post(this.#call, result));
      } catch (error) {
        this.#table.fail(hung, this.#call, error);
      }
    }
  }

  observe(outcome: HookOutcome): void {
    for (const hung of this.#hung) {
      const { observe } = hung.hook;
      if (observe === undefined) continue;
      void Promise.resolve()
        .then(() => this.#timed(hung, () => observe(this.#call, outcome)))
        .catch((error: unknown) => this.#table.fail(hung, this.#call, error));
    }
  }

  /** What a hook answers before the act; a failure is its refusal. */
  async #before<T>(hung: Hung, ask: () => T | Promise<T>): Promise<T> {
    try {
      return await this.#timed(hung, ask);
    } catch (error) {
      hung.refused++;
      const { name, resource: path, pid } = this.#call;
      if (isKernelError(error)) throw error;
      throw new KernelError("EPERM", `hook ${hung.name} refuses ${name} of ${path}: ${describe(error)}`, {
        syscall: name,
        path,
        pid,
        cause: error,
      });
    }
  }

  async #timed<T>(hung: Hung, ask: () => T | Promise<T>): Promise<T> {
    const { name, resource: path } = this.#call;
    if (hung.running >= LIMITS.hookCallsMax)
      throw new KernelError(
        "ELOOP",
        `hook ${hung.name} looks at ${hung.running} calls at the same time; if it makes calls that are shown to it, leave those out by calls or paths`,
        { syscall: name, path },
      );
    hung.seen++;
    hung.running++;
    const ms = hung.hook.timeoutMs ?? TIMEOUT_MS;
    const late = (): KernelError =>
      new KernelError("ETIMEDOUT", `hook ${hung.name} has not answered within ${ms} ms; see /sys/hooks`, {
        syscall: name,
        path,
      });
    try {
      return await within(this.#table.platform, ms, late, ask());
    } finally {
      hung.running--;
    }
  }
}

export class HookTable {
  readonly platform: Platform;
  readonly #bus: EventBus;
  readonly #isCall: (name: string) => boolean;
  /** By priority, then by number. */
  #hung: readonly Hung[] = [];
  /** Those of each call that was made since the last change. */
  readonly #byCall = new Map<string, readonly Hung[]>();
  #next = 1;

  constructor(platform: Platform, bus: EventBus, isCall: (name: string) => boolean) {
    this.platform = platform;
    this.#isCall = isCall;
    this.#bus = bus;
  }

  get all(): readonly HookSummary[] {
    return this.#hung.map(({ hook, name, owner, seen, refused, failed }) => ({
      name,
      ...(owner === undefined ? {} : { pid: owner }),
      calls: hook.calls ?? "all",
      ...(hook.paths === undefined ? {} : { paths: hook.paths }),
      priority: hook.priority ?? 0,
      kinds: KINDS.filter((kind: Kind) => hook[kind] !== undefined),
      seen,
      refused,
      failed,
    }));
  }

  /**
   * Hangs a hook in; what it gives takes it out.
   * @param owner the process whose hook it is: it does not see the calls of that one
   * @throws {EINVAL} it is no hook · {EAGAIN} there are as many as there may be
   */
  add(hook: Hook, owner?: Pid, by = "hook"): () => void {
    const number = this.#next++;
    const name = hook.name ?? `${by}-${number}`;
    if (KINDS.every((kind) => hook[kind] === undefined))
      throw new KernelError("EINVAL", `hook ${name} has none of ${KINDS.join(", ")}`);
    // A guard that never looks guards nothing.
    const unknown = hook.calls?.find((call) => !this.#isCall(call));
    if (unknown !== undefined)
      throw new KernelError("EINVAL", `hook ${name} looks at ${JSON.stringify(unknown)}, which is no system call`);
    if (hook.paths !== undefined && typeof hook.paths !== "string")
      throw new KernelError("EINVAL", `the paths of hook ${name} are one glob, found ${typeof hook.paths}`);
    if (hook.timeoutMs !== undefined && !(hook.timeoutMs > 0 && Number.isFinite(hook.timeoutMs)))
      throw new KernelError("EINVAL", `hook ${name} has ${hook.timeoutMs} ms to answer; give more than 0`);
    if (this.#hung.length >= LIMITS.hooksMax)
      throw new KernelError("EAGAIN", `this host has ${LIMITS.hooksMax} hooks, which is its limit; take some out`);
    const isAbout = hook.paths === undefined ? () => true : compileGlob(hook.paths);
    const hung: Hung = { hook, name, owner, number, isAbout, seen: 0, refused: 0, failed: 0, running: 0 };
    const rank = ({ hook: one }: Hung): number => one.priority ?? 0;
    this.#become([...this.#hung, hung].toSorted((one, two) => rank(one) - rank(two) || one.number - two.number));
    return () => this.#become(this.#hung.filter((one) => one !== hung));
  }

  #become(hung: readonly Hung[]): void {
    this.#hung = hung;
    this.#byCall.clear();
  }

  #of(name: string): readonly Hung[] {
    const known = this.#byCall.get(name);
    if (known !== undefined) return known;
    const found = this.#hung.filter(({ hook }) => hook.calls === undefined || hook.calls.includes(name));
    this.#byCall.set(name, found);
    return found;
  }

  /** Whether any hook asks for calls of this name. */
  hears(name: string): boolean {
    return this.#hung.length > 0 && this.#of(name).length > 0;
  }

  /** The hooks that look at a call, if any do. */
  lineOf(call: HookCall): HookLine | undefined {
    const hung = this.#of(call.name).filter(
      ({ owner, isAbout }) =>
        owner !== call.pid && (isAbout(call.resource) || (call.second !== undefined && isAbout(call.second))),
    );
    return hung.length === 0 ? undefined : new HookLine(this, call, hung);
  }

  /** Tells that a hook has failed behind the act. */
  fail(hung: Hung, { name: call, pid, resource }: HookCall, thrown: unknown): void {
    hung.failed++;
    const known = toKernelError(thrown, "EFAILED", { syscall: call, path: resource, pid });
    const error = { ...toErrorRecord(known), message: plainMessage(known.message) };
    this.#bus.publish({ name: "hook.failed", pid, data: { hook: hung.name, call, resource, error } });
  }
}
