// Hooks: code that its owner hangs into the calls of everybody.

import type { KernelError } from "../base/errno.ts";
import type { Pid, RunId } from "../base/id.ts";

/** A call as hooks see it, behind the check of its rights. */
export interface HookCall<Name extends string = string> {
  readonly name: Name;
  readonly pid: Pid;
  readonly runId: RunId;
  readonly user: string;
  readonly right: string;
  /** The canonical path, or the name, that the call is about. */
  readonly resource: string;
  /** The second path, of a call that has one, as `rename`. */
  readonly second?: string;
}

/** How a call has ended; that of a stream has begun. */
export type HookOutcome<Result = unknown> =
  | { readonly ok: true; readonly result: Result }
  | { readonly ok: false; readonly error: KernelError };

/**
 * What looks at calls. `resolve` and `pre` run before the act, `post` behind it and before the caller hears;
 * `observe` hears afterwards, and nobody waits for it. Each may give a promise.
 */
export interface Hook<Name extends string = string, Args = unknown, Result = unknown> {
  /** For messages and `/sys/hooks`. */
  readonly name?: string;
  /** Names of system calls; all unless given. */
  readonly calls?: readonly Name[];
  /** A glob that what the call is about matches, as `/srv/**`. */
  readonly paths?: string;
  /** Lower ones first (default 0); equal ones in the order in which they came. */
  readonly priority?: number;
  /** Milliseconds that one answer may take (default 5 s). */
  readonly timeoutMs?: number;
  /** Handles the call in the place of the kernel, if it returns anything but `undefined`; the first hook that does wins. Called for paths that do not exist too. */
  readonly resolve?: (call: HookCall<Name>, args: Args) => Result | Promise<Result | undefined> | undefined;
  /** Refuses by throwing, or gives other arguments for the same object. */
  readonly pre?: (call: HookCall<Name>, args: Args) => Args | Promise<Args | undefined> | undefined | void;
  /** Cannot undo what was done: a failure is told as an event. */
  readonly post?: (call: HookCall<Name>, result: Result) => unknown;
  readonly observe?: (call: HookCall<Name>, outcome: HookOutcome<Result>) => unknown;
}
