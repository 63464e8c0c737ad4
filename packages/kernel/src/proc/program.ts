// What a process runs.

import type { KernelError } from "../base/errno.ts";
import type { Pid, RunId } from "../base/id.ts";
import type { Tool } from "../abi/tool.ts";
import type { ProcessLimits } from "../budget/limits.ts";
import type { Amounts } from "../budget/resource.ts";
import type { Grant } from "../cap/grant.ts";
import type { Platform } from "../abi/platform.ts";
import type { Attempts } from "../journal/journal.ts";
import type { Os } from "../syscall/os.ts";

export const RUNTIMES = ["inline", "worker", "process"] as const;
export type Runtime = (typeof RUNTIMES)[number];

/** Where a host finds a program again after a restart: a module and its export, or a name given to the host. */
export interface ProgramSource {
  readonly module?: string;
  readonly export?: string;
  readonly name?: string;
  /** Where it runs (default `inline`, in the host): `worker`, a thread of its own; `process`, a process of the machine. */
  readonly runtime?: Runtime;
  /**
   * A process of the machine that sees only what it needs to run, read-only, and has no network but a proxy that asks
   * its rights; where the machine cannot do that it does not start.
   */
  readonly confined?: boolean;
  /** Working directory of whoever spawned it: relative paths in its input mean the same after a restart. */
  readonly cwd?: string;
  /** Variables that a manifest has read, but for secrets, and those that were not set: a resumed run reads the same. */
  readonly environment?: Readonly<Record<string, string | null>>;
}

export interface Program {
  readonly name: string;
  /** Hash of what it does: under the same revision recorded outcomes are always returned. */
  readonly revision: string;
  /** A machine keeps its state in the journal; a function is called again from its top. */
  readonly kind: "machine" | "function";
  readonly source?: ProgramSource;
  /** Hashes of the definitions of its steps, for a machine that can tell what a new revision changed. */
  readonly definitions?: Readonly<Record<string, string>>;
  /** Which recorded places no longer count, given the definitions of the revision that recorded them. */
  outdated?(previous: Readonly<Record<string, string>>): (place: string) => boolean;
  /** Which recorded places are of these steps, or build on them: they count no more when those are done again. */
  downstream?(steps: readonly string[]): (place: string) => boolean;
  /** Where it runs tells its definitions, by `revise`: the host does not know them. */
  readonly tellsDefinitions?: true;
  /** What its processes are narrowed to, whoever starts them. */
  readonly grants?: readonly Grant[];
  /** What its processes may spend at most, whoever starts them. */
  readonly budget?: Amounts;
  /** What bounds its processes beside that. */
  readonly limits?: ProcessLimits;
  /** Milliseconds from being told to end to being ended (default 80): code elsewhere takes longer to hear of it. */
  readonly graceMs?: number;
  /** A process of it that does not run is run once more when a signal other than KILL ends it: it may take back what it did. */
  readonly endsAwake?: true;
  /** Tools that only its processes have. */
  readonly tools?: readonly Tool<Os>[];
  /**
   * Checks an input before a process is made for it; what it returns, with defaults filled in, is recorded.
   * @throws {EINVAL} the input does not fit
   */
  accept?(input: unknown): unknown;
  /** Runs to its end. What it returns is the result of the process. */
  run(context: ProcessContext): unknown;
}

/** What a program gets. Everything it does to the world goes through `os`. */
export interface ProcessContext {
  readonly pid: Pid;
  readonly runId: RunId;
  readonly parentPid: Pid | undefined;
  readonly name: string;
  readonly input: unknown;
  /** Aborts when the process is told to end. */
  readonly signal: AbortSignal;
  /** Whether it has been told to end; asking costs nothing, unlike a signal that nobody needs. */
  readonly isAborted: boolean;
  /** Whether it does something that its end waits for. */
  readonly isShielded: boolean;
  /** Whether the process writes a journal; without one nothing outlives the host. */
  readonly durable: boolean;
  /** Whether an earlier life left outcomes: only then is it worth asking for them. */
  readonly isResumed: boolean;
  /** Whether an earlier life left an outcome at a place, which nobody has taken yet. */
  isRecorded(place: string): boolean;
  /** Takes what an earlier life has tried at a place without coming to an end: whoever tries there goes on counting. */
  takeAttempts(place: string): Attempts | undefined;
  /** What bounds the process beside its budget. */
  readonly limits: ProcessLimits | undefined;
  /** Whether anybody listens to events now. */
  readonly isObserved: boolean;
  /** Settles when nothing may run for the process any more. */
  readonly left: Promise<void>;
  /** What the next piece of work waits for while this life of the process is held, or about to end; absent otherwise. */
  readonly held: Promise<void> | undefined;
  /** A piece of work begins, of which a host that ends waits for the end as long as it does not rest in a call. */
  workBegun(): void;
  workOver(): void;
  /** Tells everything that runs in this process to end, because the program has failed. */
  abort(reason: KernelError): void;
  /** Timers and clocks for code that waits; what must be the same after a resumption goes through `os`. */
  readonly platform: Platform;
  readonly os: Os;
}
