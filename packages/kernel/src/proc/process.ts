// One process: its identity, rights, state and end.
//
// P1  The state changes only in `become`, and is set once for a next life; a zombie never becomes anything else.
// P2  `done` settles once, after the exit is committed.
//     A process that is restarted has not ended: its next life has the same end.
// P3  A stopped process finishes the call it is in; its next call waits for CONT.
// P4  It is waiting as long as one of its calls is; of several it tells what needs somebody, or else the latest.

import type { Platform } from "../abi/platform.ts";
import { cancelled, hearing, orAborted } from "../base/abort.ts";
import type { KernelError, ErrorRecord } from "../base/errno.ts";
import type { ContentId, Fd, Pid, RunId } from "../base/id.ts";
import type { ProcessLimits } from "../budget/limits.ts";
import type { Amounts, Resource } from "../budget/resource.ts";
import type { Capability } from "../cap/capability.ts";
import type { History, Journal } from "../journal/journal.ts";
import { type Outcome, takeOutcome } from "../journal/record.ts";
import type { Held } from "../vfs/held.ts";
import type { VfsPath } from "../base/path.ts";
import type { Program, ProgramSource } from "./program.ts";
import type { FaultCounts, FaultPolicies } from "./fault.ts";
import type { Restart, Strategy } from "./restart.ts";
import type { Role, Tier } from "./role.ts";
import { Shields } from "./shields.ts";
import type { View } from "./view.ts";

/** HUP, USR1, USR2 and CHLD end nothing: only who listens hears them. */
export const SIGNALS = { HUP: 1, INT: 2, KILL: 9, USR1: 10, USR2: 12, TERM: 15, CHLD: 17, CONT: 18, STOP: 19 } as const;
export type Signal = keyof typeof SIGNALS;

/** How a process has ended. */
export interface Exit {
  /** 0: completed. 1: failed. 128 + number: ended by a signal. */
  readonly code: number;
  readonly signal?: Signal;
  readonly error?: ErrorRecord;
  readonly result?: unknown;
}

export type ProcessState =
  | { readonly name: "new" }
  | { readonly name: "ready" }
  | { readonly name: "running" }
  | Wait
  | { readonly name: "stopped" }
  | { readonly name: "frozen" }
  | { readonly name: "sleeping" }
  | { readonly name: "quarantined"; readonly error: ErrorRecord }
  | { readonly name: "zombie"; readonly exit: Exit };

/** What a call waits for, as the state of its process and as one of several. */
export interface Wait {
  readonly name: "waiting";
  readonly channel: string;
  /** It goes on when somebody answers, or gives it more. */
  readonly needsSomebody: boolean;
  /** The resource whose budget is used up, where it waits for more of that. */
  readonly lacks: Resource | undefined;
  /** Its neighbours among the waits of the process: thousands may begin and end. */
  before: Wait | undefined;
  after: Wait | undefined;
}
const RUNNING: ProcessState = { name: "running" };

/** What a process has used in all its lives, without its children. */
export interface Usage {
  tokensIn: number;
  tokensOut: number;
  /** Micro-dollars. */
  costMicros: number;
  modelCalls: number;
  toolCalls: number;
  steps: number;
  /** Steps whose recorded outcome was used instead of doing them again. */
  replayed: number;
}

export interface OpenFile {
  readonly held: Held;
  /** As its process has named it: its rights are about that. */
  readonly path: VfsPath;
  /** Where it is by now, for events and messages. */
  at: VfsPath;
  readonly rights: ReadonlySet<"read" | "write">;
  /** Version of the rights under which it was opened: after a change they are looked at again. */
  readonly checkedAt: number;
}

export interface Progress {
  readonly done: number;
  readonly total: number;
  readonly label: string;
}

export interface ProcessIdentity {
  readonly pid: Pid;
  readonly ppid: Pid | undefined;
  readonly runId: RunId;
  readonly name: string;
  readonly user: string;
  readonly created: number;
  readonly program: {
    readonly name: string;
    readonly revision: string;
    readonly source?: ProgramSource;
    readonly endsAwake?: true;
  };
  /** The account that it spends from: its own if it has a budget, else an ancestor's; absent without any. */
  readonly account?: Pid;
  readonly budget?: Amounts;
  readonly limits?: ProcessLimits;
  /** The group that it was started in. */
  readonly group?: string;
  /** What it is for, where that is not what its place in the tree says. */
  readonly role?: Role;
  readonly tier?: Tier;
  /** What happens when its program ends; never restarted unless given. */
  readonly restart?: Restart;
  /** What it is about, as `order/7`, for whoever lists processes. */
  readonly ref?: string;
  /** Of its user: a start under it that is asked for again gives this process. */
  readonly key?: string;
  /** What it belongs to over processes; its own run unless it was given one, or its parent has one. */
  readonly correlation?: string;
  /** On whose order the kernel has started it, as `schedule 3`. */
  readonly cause?: string;
  /** How many such orders stand one behind the other, if any: triggers whose processes set each other off. */
  readonly depth?: number;
  /** It is a twin of these, the nearest first: rights of theirs are its own. */
  readonly twinOf?: readonly Pid[];
  /** What becomes of each kind of failure. */
  readonly faults?: FaultPolicies;
  /** Where it sees copies of its own. */
  readonly views?: readonly View[];
  /** It is a supervisor: which of its children are restarted with one that fails. */
  readonly strategy?: Strategy;
}

/** The id under which everything that follows from one beginning is found. */
export const correlationOf = ({ correlation, runId }: ProcessIdentity): string => correlation ?? runId;

/** What a process goes on with that does so as new. */
export interface Renewal {
  readonly inputJson: string | undefined;
  /** Where that is, when it is too large for its record. */
  readonly inputRef: ContentId | undefined;
  readonly history: History;
}

/** Until when a process sleeps, in wall-clock milliseconds; without end until somebody wakes it. */
export interface Sleep {
  readonly until?: number;
}

/** What most processes have: nothing is made for each. */
const NO_FAULTS: FaultCounts = {};
const NO_RESTARTS: readonly number[] = [];

export class Process {
  /** Changes with its budget, its parent, its program and its tier; each change is in the commit that records it. */
  identity: ProcessIdentity;
  /** Replaced by a narrower one, or by the one before where that could not be recorded. */
  capability: Capability;
  readonly journal: Journal | undefined;
  readonly #inputJson: string | undefined;
  readonly usage: Usage = {
    tokensIn: 0,
    tokensOut: 0,
    costMicros: 0,
    modelCalls: 0,
    toolCalls: 0,
    steps: 0,
    replayed: 0,
  };
  /** The process as the target of its own calls. */
  readonly self: { readonly resource: string };
  /** The account that it spends from now: a retried process may have to find another than it began with. */
  account: Pid | undefined;
  /** Its branch is being ended: it may not spawn any more. */
  isDoomed = false;
  program: Program | undefined;
  progress: Progress | undefined;
  ended: number | undefined;
  /** Set by the first call that ends it; later ones wait for the same end. */
  ending: Promise<void> | undefined;
  /** Where its input is, when it is too large for its record. */
  inputRef: ContentId | undefined;
  /** Milliseconds for which its earlier lives ran, and the instant of the monotonic clock at which this one began. */
  ranMs = 0;
  startedAt = 0;
  /** Whether outcomes of an earlier life were loaded. */
  isResumed = false;
  /** What is done for it that its end waits for. */
  shields: Shields | undefined;
  #isCutOff = false;
  /** It was told to end in an earlier life already. */
  isTwiceTold = false;
  /** The signal that it was told to end by, where that was one. */
  declare endedBy?: Signal;
  /** Whom it belongs to; kept by the family. */
  above: Pid | undefined;
  /** It has been put to sleep: what wakes it beside messages and signals. */
  sleep: Sleep | undefined;
  /** Signals that came while it slept, for who listens first. */
  unheard: Signal[] | undefined;
  /** Kinds of failures that its program has ended with, since the start of the host. */
  faults: FaultCounts = NO_FAULTS;
  /** Instants at which it was restarted, as far as they still count. */
  restarts: readonly number[] = NO_RESTARTS;
  /** It was stopped in its last life: the next one begins so. */
  isStopped = false;
  /** Nothing of its program runs any more. */
  isCodeOver = false;
  /** Called once when it first waits for something. */
  onWaiting: (() => void) | undefined;
  /** Its program has ended, and the process lives on in its next life. */
  isOver = false;
  /** Settles when the code of its program is over. */
  code: Promise<void> | undefined;
  /** Set when code outlives its process: it ignored its signal. */
  isAbandoned = false;
  files: Map<Fd, OpenFile> | undefined;
  /** Calls of models, tools and the network that are under way. */
  #acts = 0;
  /** Steps that are under way, by their places, with how many calls each rests in; and how many rest in none. */
  #steps: Map<string, number> | undefined;
  #busySteps = 0;
  /** Nodes and items of plans that are under way, whatever they call. */
  #work = 0;
  /** How many calls only wait: for something to happen, or to be let go on. */
  #rests = 0;
  #quiet: PromiseWithResolvers<void> | undefined;
  /** How many hold its next calls back beside its state. */
  #drains = 0;
  /** Streams of events that it reads. */
  subscriptions = 0;
  /** Attempts that are to come, by the places of what is tried. */
  retries: Map<string, Wait> | undefined;
  /** Its calls under way, where their number is limited. */
  gate: { inside: number; readonly waiting: (() => void)[] } | undefined;
  #nextFd = 3;
  #state: ProcessState = { name: "new" };
  /** The latest of what its calls wait for (P4), and of what somebody has to answer. */
  #wait: Wait | undefined;
  #urgentWait: Wait | undefined;
  #wasStopped = false;
  #controller: AbortController | undefined;
  #done: PromiseWithResolvers<Exit> | undefined;
  #hearing: ((hear: (exit: Exit) => void) => () => void) | undefined;
  #hearingLeft: ((hear: () => void) => () => void) | undefined;
  #left: PromiseWithResolvers<void> | undefined;
  /** Who listens for its signals. */
  listeners: Set<(signal: Signal) => void> | undefined;
  #continued: PromiseWithResolvers<void> | undefined;
  /** Another life has taken its place, and with it whoever waits for the end. */
  #isSucceeded = false;

  /** @param inputJson of its input, which no code that gets it can change */
  constructor(
    identity: ProcessIdentity,
    capability: Capability,
    journal: Journal | undefined,
    inputJson: string | undefined,
  ) {
    this.identity = identity;
    this.account = identity.account;
    this.self = { resource: `/proc/${identity.pid}` };
    this.capability = capability;
    this.journal = journal;
    this.#inputJson = inputJson;
  }

  /** As it was given to it; a copy for whoever asks. */
  get input(): unknown {
    return this.#inputJson === undefined ? undefined : (JSON.parse(this.#inputJson) as unknown);
  }

  get limits(): ProcessLimits | undefined {
    return this.identity.limits;
  }

  get pid(): Pid {
    return this.identity.pid;
  }

  get state(): ProcessState {
    return this.#state;
  }

  get isAlive(): boolean {
    return this.#state.name !== "zombie" && this.#state.name !== "quarantined";
  }

  /** Whether its end has begun: nothing may be spawned or settled on its behalf any more. */
  get isEnding(): boolean {
    return this.ending !== undefined;
  }

  get hasEnded(): boolean {
    return this.#state.name === "zombie";
  }

  /** Made when somebody asks: most processes are never cancelled. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    return this.#controller.signal;
  }

  /** What a call came to before, as the journal has it: its value, or its error thrown. */
  replay(outcome: Outcome): unknown {
    this.usage.replayed++;
    return takeOutcome(outcome);
  }

  /** What ends its calls: what tells its program to end, but for what is shielded from that. */
  get callSignal(): AbortSignal {
    return this.isShielded ? (this.shields?.signal ?? this.signal) : this.signal;
  }

  /** What ends a call of it: its own end, and what its caller gives it up with. */
  signalWith(given: AbortSignal | undefined): AbortSignal {
    const own = this.callSignal;
    return given === undefined || given === own ? own : AbortSignal.any([own, given]);
  }

  get isShielded(): boolean {
    return this.shields?.areUp === true;
  }

  /**
   * Raises a shield; as long as it is up this life of the process is not over, as with a call that acts.
   * @throws {ECANCELED} this life is over (SH3) · {EAGAIN} as many are up as may be
   */
  shield(platform: Platform, ms: number): number {
    const isOver = this.isOver || this.isEnding || (this.isAbandoned && !this.isDoomed);
    if (isOver || this.#isCutOff)
      throw cancelled(`this life of process ${this.pid} is over: nothing is shielded any more`);
    this.shields ??= new Shields(platform, this.signal);
    const id = this.shields.raise(ms, () => this.over());
    this.begun();
    return id;
  }

  get done(): Promise<Exit> {
    this.#done ??= Promise.withResolvers<Exit>();
    if (this.#state.name === "zombie" && !this.#isSucceeded) this.#done.resolve(this.#state.exit);
    return this.#done.promise;
  }

  /** Tells of its end as `done` does, until what this gives is called. */
  onDone(hear: (exit: Exit) => void): () => void {
    return (this.#hearing ??= hearing(this.done))(hear);
  }

  /** Settles when nothing runs for it any more: it has ended, or its host lets go of it. */
  get left(): Promise<void> {
    this.#left ??= Promise.withResolvers<void>();
    if (!this.isAlive || this.#state.name === "sleeping") this.#left.resolve();
    return this.#left.promise;
  }

  /** Tells once nothing runs for it any more, as `left` does, until what this gives is called. */
  onLeft(hear: () => void): () => void {
    return (this.#hearingLeft ??= hearing(this.left))(hear);
  }

  /** A stopped process goes on, or ends, on somebody's word: a call that ends meanwhile changes nothing (P3). */
  become(state: ProcessState, isContinued = false): void {
    if (this.#state.name === "zombie") return;
    const isCall = state.name === "running" || state.name === "waiting";
    if (this.isHalted && isCall && !isContinued) return;
    this.#state = state.name === "running" ? (this.#shownWait ?? state) : state;
    if (state.name === "waiting" && this.onWaiting !== undefined) {
      const { onWaiting } = this;
      this.onWaiting = undefined;
      onWaiting();
    }
    if (state.name === "zombie" && !this.#isSucceeded) this.#done?.resolve(state.exit);
    if (!this.isAlive || state.name === "sleeping") this.#left?.resolve();
    this.#goOn();
  }

  /** Says what a call waits for, until it goes on. */
  waitFor(channel: string, needsSomebody = false, lacks?: Resource): Wait {
    const before = needsSomebody ? this.#urgentWait : this.#wait;
    const wait: Wait = { name: "waiting", channel, needsSomebody, lacks, before, after: undefined };
    if (before !== undefined) before.after = wait;
    this.#setLatest(wait, needsSomebody);
    this.#showWait();
    return wait;
  }

  /** Ends what `waitFor` has begun, once. */
  stopWaiting({ before, after, needsSomebody }: Wait): void {
    if (before !== undefined) before.after = after;
    if (after === undefined) this.#setLatest(before, needsSomebody);
    else after.before = before;
    this.#showWait();
  }

  #setLatest(wait: Wait | undefined, needsSomebody: boolean): void {
    if (needsSomebody) this.#urgentWait = wait;
    else this.#wait = wait;
  }

  get #shownWait(): Wait | undefined {
    return this.#urgentWait ?? this.#wait;
  }

  #showWait(): void {
    const { name } = this.#state;
    if (name === "running" || name === "waiting") this.become(this.#shownWait ?? RUNNING);
  }

  #goOn(): void {
    if (this.isHeld) return;
    this.#continued?.resolve();
    this.#continued = undefined;
  }

  /** Whether somebody has stopped it, or its group is frozen. */
  get isHalted(): boolean {
    return this.#state.name === "stopped" || this.#state.name === "frozen";
  }

  /** Whether its next calls wait: it is halted, or this life of it is about to end and waits for nothing that makes them. */
  get isHeld(): boolean {
    return this.isHalted || (this.#drains > 0 && !this.isShielded);
  }

  /**
   * Holds a process that runs; what was stopped before is stopped again after a thaw. One that is about to run is frozen
   * when it does: until then whoever starts it has it.
   */
  freeze(): void {
    const { name } = this.#state;
    if (name === "frozen" || name === "ready" || name === "sleeping" || name === "quarantined" || name === "zombie")
      return;
    this.#wasStopped = this.#state.name === "stopped";
    this.become({ name: "frozen" });
  }

  /** It goes on, at the latest after a thaw. */
  unstop(): void {
    this.isStopped = false;
    this.#wasStopped = false;
    if (this.#state.name === "stopped") this.become({ name: "running" }, true);
  }

  thaw(): void {
    if (this.#state.name !== "frozen") return;
    this.become(this.#wasStopped ? { name: "stopped" } : { name: "running" }, true);
  }

  /** The same process, to be run anew; with another input, where it goes on as new. */
  next(journal: Journal, as?: Renewal): Process {
    const { inputJson, inputRef } = as ?? { inputJson: this.#inputJson, inputRef: this.inputRef };
    const next = new Process(this.identity, this.capability, journal, inputJson);
    next.inputRef = inputRef;
    next.account = undefined;
    return next;
  }

  /** Whether it was told to stop, and not to go on: so does its next life. */
  get staysStopped(): boolean {
    const { name } = this.#state;
    return this.isStopped || name === "stopped" || (name === "frozen" && this.#wasStopped);
  }

  /** Its next life, which sleeps. Code that still runs of this one acts no more. */
  succeed(journal: Journal, exit: Exit, restarts: readonly number[], as?: Renewal): Process {
    const next = this.next(journal, as);
    next.account = this.account;
    next.restarts = restarts;
    next.faults = this.faults;
    next.unheard = this.unheard;
    next.ranMs = this.ranMs;
    Object.assign(next.usage, this.usage);
    next.isStopped = this.staysStopped;
    next.#done = this.#done ??= Promise.withResolvers<Exit>();
    next.#hearing = this.#hearing;
    next.#state = { name: "sleeping" };
    this.#isSucceeded = true;
    this.become({ name: "zombie", exit });
    return next;
  }

  /** Tells the program to end. */
  abort(reason: KernelError): void {
    this.#controller ??= new AbortController();
    this.#controller.abort(reason);
  }

  /** Ends what its program does, whatever that is shielded from. */
  cutOff(reason: KernelError): void {
    this.#isCutOff = true;
    this.abort(reason);
    this.shields?.cut(reason);
  }

  get isAborted(): boolean {
    return this.#controller?.signal.aborted === true;
  }

  /** A call that acts outside of the process has begun. */
  begun(): void {
    this.#acts++;
  }

  over(): void {
    this.#acts--;
    this.#tellQuiet();
  }

  workBegun(): void {
    this.#work++;
  }

  workOver(): void {
    this.#work--;
    this.#tellQuiet();
  }

  /** Work of the program itself begins that is to come to its end, with all that it calls. */
  stepBegun(place: string): void {
    this.#steps ??= new Map();
    if (this.#steps.has(place)) return;
    this.#steps.set(place, 0);
    this.#busySteps++;
  }

  /** Of a place at which no such work is under way it changes nothing. */
  stepOver(place: string): void {
    const rests = this.#steps?.get(place);
    if (rests === undefined) return;
    this.#steps?.delete(place);
    if (rests === 0) this.#busySteps--;
    this.#tellQuiet();
  }

  /** Places of steps that are under way. */
  get openSteps(): readonly string[] {
    return [...(this.#steps?.keys() ?? [])];
  }

  isInStep(place: string | undefined): boolean {
    return place !== undefined && this.#steps?.has(place) === true;
  }

  /**
   * Something only waits from now on.
   * @param within the place of the step that it is part of
   */
  restBegun(within?: string): void {
    this.#rests++;
    const rests = within === undefined ? undefined : this.#steps?.get(within);
    if (within !== undefined && rests !== undefined) {
      this.#steps?.set(within, rests + 1);
      if (rests === 0) this.#busySteps--;
    }
    this.#tellQuiet();
  }

  restOver(within?: string): void {
    this.#rests--;
    const rests = within === undefined ? undefined : this.#steps?.get(within);
    if (within === undefined || rests === undefined || rests === 0) return;
    this.#steps?.set(within, rests - 1);
    if (rests === 1) this.#busySteps++;
  }

  async resting<T>(wait: Promise<T>, within?: string): Promise<T> {
    this.restBegun(within);
    try {
      return await wait;
    } finally {
      this.restOver(within);
    }
  }

  /**
   * Whether no call of a model, a tool or the network is under way, nor a step; with work, whether all of that rests, too.
   * What is under way and only waits counts for none.
   */
  isQuiet(withWork: boolean): boolean {
    return this.#acts === 0 && this.#busySteps === 0 && (!withWork || this.#work <= this.#rests);
  }

  /** Whoever waits for that looks again. */
  #tellQuiet(): void {
    if (this.#quiet !== undefined && this.#acts === 0 && this.#busySteps === 0) this.#quiet.resolve();
  }

  /** A call under way waits for something, for days perhaps, and does nothing meanwhile: whoever ends this life does not wait for it. */
  async rest<T>(wait: Promise<T>, within?: string): Promise<T> {
    this.over();
    try {
      return await this.resting(wait, within);
    } finally {
      this.begun();
    }
  }

  /** Settles when it is quiet. */
  async quiet(withWork: boolean): Promise<void> {
    while (!this.isQuiet(withWork)) {
      const quiet = (this.#quiet ??= Promise.withResolvers<void>());
      await quiet.promise;
      if (this.#quiet === quiet) this.#quiet = undefined;
    }
  }

  /** Its next calls wait until what this gives is called; those under way go on, and its state is its own. */
  drain(): () => void {
    this.#drains++;
    return () => {
      this.#drains--;
      this.#goOn();
    };
  }

  /** Settles when a process that is held goes on. */
  continued(): Promise<void> {
    this.#continued ??= Promise.withResolvers<void>();
    return this.#continued.promise;
  }

  /** The same for a call of it, which rests so long. */
  heldBack(within?: string): Promise<void> {
    return this.resting(this.continued(), within);
  }

  /**
   * Settles when it is held no more, or for a call that is under way already when it is not halted. One that goes on to
   * its end does nothing more in between.
   * @throws the reason of the signal
   */
  async goesOn(signal: AbortSignal, isUnderWay = false): Promise<void> {
    const waits = (): boolean => (isUnderWay ? this.isHalted : this.isHeld);
    while (this.isAlive && waits()) await this.resting(orAborted(this.continued(), signal));
    signal.throwIfAborted();
    this.callSignal.throwIfAborted();
  }

  takeFd(): Fd {
    // The one place where descriptors are made.
    return this.#nextFd++ as Fd;
  }
}
