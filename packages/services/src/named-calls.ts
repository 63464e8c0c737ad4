// How the calls of a program are made that have a name: once, as often as their options say, and recorded with what
// they came to, so that its next life takes that from the journal.

import {
  KernelError,
  type Os,
  type Outcome,
  type ProcessContext,
  orAborted,
  takeOutcome,
  toErrorRecord,
  toKernelError,
} from "@ergos/kernel";
import { Skipped } from "./failure.ts";
import { heard, promised } from "./promised.ts";
import { type Memo, RUNNING_STEP, type RunningStep, type Scope, memoOfAttempts, osOf, runningStepOf } from "./scope.ts";
import { type Attempt, type StepOptions, type TryOptions, assertTries, runAttempts } from "./tries.ts";
import { withNulls } from "./with-nulls.ts";

export class NamedCalls {
  readonly #scope: Scope;
  readonly #around: Attempt;
  readonly #generation: number;

  /**
   * @param around the attempt of the part in which they are made; its signal may change with who asks
   * @param generation a later attempt anywhere in the part that is retried has a greater one
   */
  constructor(scope: Scope, around: Attempt, generation: number) {
    this.#scope = scope;
    this.#around = around;
    this.#generation = generation;
  }

  get #os(): Os {
    return osOf(this.#scope.process);
  }

  /** Attempts here and in the parts around, as `2.1.1`: names what has no name of its own. */
  get trail(): string {
    const { trail } = this.#scope;
    return trail === undefined ? String(this.#around.attempt) : `${trail}.${this.#around.attempt}`;
  }

  placeOf(name: string): string {
    if (typeof name !== "string" || name === "")
      throw new KernelError("EINVAL", `a step needs a name, found ${typeof name}`);
    return this.#scope.place === "" ? name : `${this.#scope.place}/${name}`;
  }

  /**
   * Places of calls without a name are numbered in the order of the program; those made inside of a step, which
   * a resumed run does not make again, by themselves.
   */
  #nextPlace(kind: string): string {
    const inside = runningStepOf(this.#scope.process);
    const counters = inside?.counters ?? (this.#scope.counters ??= new Map<string, number>());
    const number = (counters.get(kind) ?? 0) + 1;
    counters.set(kind, number);
    const name = /^1(\.1)*$/.test(this.trail) ? `${kind}#${number}` : `${kind}#${this.trail}.${number}`;
    return inside === undefined ? this.placeOf(name) : `${inside.place}/${name}`;
  }

  /** Whether an earlier attempt or life has left an outcome at a place. */
  has(place: string): boolean {
    const { process, memo } = this.#scope;
    const known = memo?.places.get(place);
    return (known !== undefined && known.generation < this.#generation) || process.isRecorded(place);
  }

  /** Work of the program as a step. */
  step<T>(place: string, work: (attempt: Attempt) => T | Promise<T>, options: StepOptions | undefined): Promise<T> {
    return this.once(place, () => this.#doStep(place, work, options));
  }

  async #doStep<T>(
    place: string,
    work: (attempt: Attempt) => T | Promise<T>,
    { interruptible = false, ...tries }: StepOptions = {},
  ): Promise<T> {
    const { process } = this.#scope;
    const os = this.#os;
    const around = runningStepOf(process)?.within;
    // A step inside of one goes on to its end with that.
    const acts = !interruptible && around === undefined;
    const within = acts ? place : around;
    const recorded: Outcome | undefined = await os.call("stepBegin", { place, acts });
    // What `work` returned in an earlier life.
    if (recorded !== undefined) return takeOutcome(recorded) as T;
    const started = process.platform.clock.monotonic();
    try {
      this.#around.signal.throwIfAborted();
      const running = { process, place, counters: new Map(), ...(within === undefined ? {} : { within }) };
      const made = this.#tryStep(running, work, tries);
      // Work that does not heed the end of its process is not waited for: there may be something to take back.
      const end = this.#scope.isShielded === true ? undefined : process.signal;
      const value = withNulls(made instanceof Promise ? await orAborted(made, end) : made);
      // Whoever goes on behind a step may rely on it: it is committed.
      await os.call("stepEnd", { place, value, ms: elapsed(process, started) });
      return value;
    } catch (error) {
      // That it was told to end is no outcome, nor that its node has nothing to do.
      const isOutcome = !this.#around.signal.aborted && !(error instanceof Skipped);
      const failure = isOutcome ? toKernelError(error, "EFAILED") : error;
      try {
        if (isOutcome)
          await os.call("stepEnd", { place, error: toErrorRecord(failure), ms: elapsed(process, started) });
      } finally {
        await os.call("stepRetract", { place });
      }
      // What the program goes on from is the same in its next life: its code, its message and its type.
      throw failure;
    }
  }

  /** The work of a step as often as its options say: what an attempt of it has done inside, the next one takes over. */
  #tryStep<T>(running: RunningStep, work: (attempt: Attempt) => T | Promise<T>, options: TryOptions): T | Promise<T> {
    let memo: Memo | undefined;
    const one = (attempt: Attempt): T | Promise<T> => {
      if (attempt === this.#around) return RUNNING_STEP.run(running, work, attempt);
      const own = { memo: (memo ??= memoOfAttempts()), generation: attempt.attempt, signal: attempt.signal };
      return RUNNING_STEP.run({ ...running, attempt: own }, work, attempt);
    };
    return this.#try(running.place, one, options);
  }

  /** Work as often as its options say; without any it costs nothing beside itself. */
  #try<T>(place: string, work: (attempt: Attempt) => T | Promise<T>, options: TryOptions): T | Promise<T> {
    if (options.retry === undefined && options.timeoutMs === undefined) return work(this.#around);
    assertTries(place, options);
    const { process } = this.#scope;
    const { signal, deadline } = this.#around;
    const inside = runningStepOf(process)?.attempt?.generation;
    const trail = inside === undefined ? this.trail : `${this.trail}.${inside}`;
    return runAttempts({ process, place, signal, deadline, trail, ...options }, work);
  }

  /** A call of the kernel as often as its options say. */
  tried<T>(place: string, options: TryOptions, act: (signal?: AbortSignal) => Promise<T>): Promise<T> {
    const { memo } = this.#attempts ?? {};
    const isOnce = options.retry === undefined && options.timeoutMs === undefined;
    // Nothing is left standing around a call that is made once: a host may have very many of them.
    if (memo === undefined && isOnce) return this.named(place, act);
    const calls = (memo?.calls as Map<string, Promise<T>> | undefined) ?? new Map<string, Promise<T>>();
    // An attempt that was given up holds the place until it has ended; what it has come to by then counts.
    const next = ({ signal }: Attempt): Promise<T> => {
      const before = calls.get(place);
      const call = before === undefined ? act(signal) : before.catch(() => act(signal));
      calls.set(place, call);
      call.catch(() => void (calls.get(place) === call && calls.delete(place)));
      return call;
    };
    // What has failed for good in an earlier life has no attempts left.
    const isOver = this.#scope.process.isRecorded(place);
    const work = (): T | Promise<T> => (isOver ? next(this.#around) : this.#try(place, next, options));
    return this.named(place, work, () => calls.get(place));
  }

  /** What attempts of the step, or of the part, that this is in have done, and which of them this is. */
  get #attempts(): { readonly memo: Memo; readonly generation: number } | undefined {
    const { memo, process } = this.#scope;
    return runningStepOf(process)?.attempt ?? (memo === undefined ? undefined : { memo, generation: this.#generation });
  }

  /**
   * A call of the kernel, whose failure is an outcome too: the program that goes on from it does so in its next life.
   * @param under what is still under way of it when it has failed
   */
  named<T>(place: string, act: () => T | Promise<T>, under?: () => Promise<unknown> | undefined): Promise<T> {
    const { process } = this.#scope;
    if (!process.durable || (process.isResumed && process.isRecorded(place))) return this.once(place, act);
    return this.once(place, act, (error) => this.#failed(place, error, under?.()));
  }

  /**
   * Recorded before what the program does next, without waiting for it; of a call that was given up once it has ended,
   * unless that was with a result. That the program was told to end is no outcome, nor is what another attempt of the part
   * or step around may still mend.
   */
  #failed(place: string, error: unknown, under: Promise<unknown> | undefined): void {
    if (this.#around.signal.aborted || this.#attempts !== undefined) return;
    const record = (): Promise<void> =>
      heard(promised(() => this.#os.call("stepFail", { place, error: toErrorRecord(error) })));
    if (under === undefined) void record();
    else under.catch(record);
  }

  /** In a node that may be tried again, what an earlier attempt has done or is still doing is taken from it. */
  once<T>(place: string, act: () => T | Promise<T>, failed?: (error: unknown) => void): Promise<T> {
    const work = (): Promise<T> => {
      const made = promised(act);
      if (failed === undefined) return heard(made);
      made.catch(failed);
      return made;
    };
    const attempts = this.#attempts;
    if (attempts === undefined) return work();
    const { memo, generation } = attempts;
    const known = memo.places.get(place);
    // What the same place gives or gave in an earlier attempt.
    const isEarlier = known !== undefined && known.generation < generation;
    // One that fails, for example because its attempt's time is up, is done again.
    const value = isEarlier ? (known.value as Promise<T>).catch(work) : work();
    memo.places.set(place, { generation, value });
    value.catch(() => void (memo.places.get(place)?.value === value && memo.places.delete(place)));
    return value;
  }

  /** What is recorded under its name, or else by its order. */
  recorded<T>(kind: string, name: string | undefined, call: (place: string) => T | Promise<T>): Promise<T> {
    if (name === undefined) return heard(promised(() => call(this.#nextPlace(kind))));
    const place = this.placeOf(name);
    return this.once(place, () => call(place));
  }
}

/** Milliseconds since an instant of the monotonic clock, to a tenth. */
export const elapsed = (process: ProcessContext, started: number): number =>
  Math.round((process.platform.clock.monotonic() - started) * 10) / 10;
