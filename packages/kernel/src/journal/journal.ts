// The journal of one process: what it has done, in the order in which it was done.
//
// J1  A step's place is used once in one life of a process (EEXIST). A recorded outcome is returned, and
//     its work is not done again.
// J2  A pure step is recorded when it is done. Nobody waits for that: whoever depends on it is recorded
//     later in the same order, and what leaves the host waits for a flush (the output rule).
// J3  A step with an effect records its intent and its reservation, flushed, before it acts, and its
//     outcome with the settlement, flushed, before anything uses it.
// J4  An intent without an outcome after a crash is an unknown outcome: only an idempotent effect is tried
//     again, with the same key; any other is EUNKNOWN.

import { logOf } from "../abi/entries.ts";
import type { Batch, Receipt } from "../abi/metastore.ts";
import type { ObjectStore } from "../abi/object-store.ts";
import { type ErrorRecord, KernelError } from "../base/errno.ts";
import { type ContentId, type Pid, SEQ_ZERO, type Seq } from "../base/id.ts";
import { type JsonValue, encodeJson } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Reservation } from "../budget/account.ts";
import type { Called } from "../budget/ledger.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import {
  type CallUsage,
  JOURNAL_FORMAT,
  type JournalRecord,
  type Outcome,
  type StepMarks,
  type Used,
  decodeRecord,
  encodeRecord,
  encodeStep,
  journalLog,
} from "./record.ts";

type Recorded = {
  /** The call that it is the outcome of; absent of a step. */
  readonly k?: string;
  readonly acted?: boolean;
  readonly kept?: boolean;
  readonly ends?: boolean;
  readonly value?: unknown;
  readonly error?: ErrorRecord;
  readonly ref?: ContentId;
  readonly use?: CallUsage;
  /** Of what was loaded. */
  readonly seq?: Seq;
};

/** A call that has no outcome yet. */
export interface Intent {
  readonly key: string;
  readonly reservation: Reservation;
  readonly of: Called;
}

/** What an earlier life has tried at a place that has no outcome. */
export interface Attempts {
  /** How many attempts have failed. */
  readonly failed: number;
  /** When the next one is to come. */
  readonly until: number;
  /** How long that was to be waited for. */
  readonly waitMs: number;
  /** Why the last one has failed. */
  readonly why: string;
  /** In which attempts of what is around it, as it was told. */
  readonly trail: string;
}

/** What came back of an earlier life of the process. */
export interface Replay {
  readonly steps: number;
  /** Resumptions in a row after which the host died before a step was done. */
  readonly deaths: number;
  /** Instants of its restarts. */
  readonly restarts: readonly number[];
  /** The revision under which the process last ran. */
  readonly revision: string;
  /** Its last life was ended for a restart, which has not begun: from where it begins. */
  readonly restart: "on" | "start" | undefined;
  readonly usage: Used;
  /** Milliseconds for which its lives are known to have run. */
  readonly ranMs: number;
}

/** Where the records of a journal begin: those that are kept, and behind them those that count. */
export interface History {
  readonly kept: Seq;
  readonly since: Seq;
}

const WHOLE: History = { kept: SEQ_ZERO, since: SEQ_ZERO };

interface StepDetails extends Omit<StepMarks, "k"> {
  /** Counters that settle with the outcome. */
  readonly adds?: Batch["adds"];
  /** Changes and records of other logs that belong into the same commit. */
  readonly appends?: NonNullable<Batch["appends"]>;
  readonly puts?: Batch["puts"];
  readonly deletes?: Batch["deletes"];
  readonly rider?: Rider | undefined;
}

const BETWEEN_LIVES: ReadonlySet<JournalRecord["t"]> = new Set(["retry", "outdated", "alive"]);

export class Journal {
  readonly #pid: Pid;
  /** Name of the log that holds it. */
  readonly log: string;
  readonly #committer: Committer;
  readonly #objects: ObjectStore;
  /** Places taken in this life, and the call that each is for. */
  #taken: Map<string, string> | undefined;
  /** What was called last at places that were given back. */
  #given: Map<string, string> | undefined;
  /** Outcomes and unanswered intents of earlier lives; dropped as they are taken. */
  #recorded: Map<string, Recorded> | undefined;
  #intents: Map<string, Intent> | undefined;
  /** Keys of calls of earlier lives that may have acted although they count as failed, until somebody has looked. */
  #unknown: Map<string, string> | undefined;
  /** Places of calls that were cut off, and count as failed: who calls there again does so. */
  #lost: Set<string> | undefined;
  /** Where the records of open places stand. */
  #opened: Map<string, Seq> | undefined;
  /** What earlier lives have tried and not brought to an end; dropped as it is taken. */
  #attempts: Map<string, Attempts> | undefined;
  /** Intents of this life that have no outcome yet. */
  #calls: Map<string, Intent> | undefined;
  /** How often earlier lives have logged a line at a place, until it is come by again. */
  #said: Map<string, number> | undefined;
  #closed = false;

  /** @param history where its records begin, when it has gone on as new */
  constructor(pid: Pid, committer: Committer, objects: ObjectStore, history: History = WHOLE) {
    this.#pid = pid;
    this.history = history;
    this.log = journalLog(pid);
    this.#committer = committer;
    this.#objects = objects;
  }

  /** Where its records begin. */
  readonly history: History;

  /** A journal of the same records, of which nothing is loaded. */
  unread(): Journal {
    return new Journal(this.#pid, this.#committer, this.#objects, this.history);
  }

  /** The revision whose outcomes were loaded. */
  revision: string | undefined;

  /** Reads the outcomes of earlier lives. */
  async load(): Promise<Replay> {
    const recorded = new Map<string, Recorded>();
    const intents = new Map<string, Intent>();
    const unknown = new Map<string, string>();
    const lost = new Set<string>();
    const opened = new Map<string, Seq>();
    const attempts = new Map<string, Attempts>();
    const said = new Map<string, number>();
    let saidLength = 0;
    const usage = noUse();
    const restarts: number[] = [];
    let deaths = 0;
    let revision = "";
    let ranMs = 0;
    let last: number | undefined;
    let restart: Replay["restart"];
    let steps = 0;
    // One that has gone on as new begins with that, of which the format before says nothing.
    let version = 1;
    for await (const record of this.records(this.history.since)) {
      if (record.t === "start" || record.t === "renew") this.#assertKnown((version = record.v ?? 1));
      if (record.t === "start" || record.t === "resume") ({ revision } = record);
      // A life ends with its last record; what is recorded between two lives is no time of either.
      else if (last !== undefined && !BETWEEN_LIVES.has(record.t)) ranMs += Math.max(0, record.at - last);
      last = record.at;
      if (record.t === "resume") {
        deaths++;
        restart = undefined;
      } else if (record.t === "step" || record.t === "alive") deaths = 0;
      if (record.t === "step") {
        intents.delete(record.p);
        attempts.delete(record.p);
        lost.delete(record.p);
        if (record.error === undefined) unknown.delete(record.p);
        const isOfAny = version < KINDS_SINCE && record.k === undefined;
        // In the order in which they were recorded last.
        recorded.delete(record.p);
        recorded.set(record.p, isOfAny ? { ...record, k: OF_ANY_KIND } : record);
        addUse(usage, record.use);
      } else if (record.t === "attempt") {
        const { attempt: failed, at, until, why, trail } = record;
        attempts.set(record.p, { failed, until, waitMs: until - at, why, trail });
        opened.set(record.p, record.seq);
      } else if (record.t === "intent") {
        opened.set(record.p, record.seq);
        intents.set(record.p, { key: record.key, reservation: record.reserved, of: record.of ?? {} });
        unknown.delete(record.p);
        lost.delete(record.p);
      } else if (record.t === "release" || record.t === "lost") {
        intents.delete(record.p);
        if (record.t === "lost" && record.key === undefined) lost.add(record.p);
        if (record.t === "lost" && record.key !== undefined) unknown.set(record.p, record.key);
      } else if (record.t === "log") {
        const line = lineAt(record.p, record.text);
        // Of a program that says very much the rest is said again.
        if (line !== undefined && (saidLength += line.length) <= SAID_MAX) said.set(line, (said.get(line) ?? 0) + 1);
      } else if (record.t === "retry") {
        forgetForRetry(recorded, record.completed !== true);
        unknown.clear();
        lost.clear();
        attempts.clear();
      } else if (record.t === "renew") {
        ({ steps, ranMs } = record);
        Object.assign(usage, record.used);
        restart = "start";
        recorded.clear();
        intents.clear();
        unknown.clear();
        lost.clear();
        attempts.clear();
        said.clear();
        saidLength = 0;
      } else if (record.t === "restart") {
        // The host lived through it.
        deaths = 0;
        attempts.clear();
        restart = record.fresh === true ? "start" : "on";
        if (record.for === undefined) restarts.push(record.at);
        if (record.fresh !== true) deleteFailures(recorded);
        else {
          recorded.clear();
          intents.clear();
          unknown.clear();
          lost.clear();
          said.clear();
          saidLength = 0;
        }
      } else if (record.t === "outdated") {
        for (const place of record.places) {
          recorded.delete(place);
          attempts.delete(place);
          lost.delete(place);
          if (record.again === true) unknown.delete(place);
        }
        revision = record.revision ?? revision;
      }
    }
    this.revision = revision;
    this.#recorded = recorded;
    this.#intents = intents;
    this.#unknown = unknown;
    this.#lost = lost;
    this.#opened = opened;
    this.#attempts = attempts;
    this.#said = said;
    return { steps: steps + recorded.size, usage, deaths, restarts, revision, restart, ranMs };
  }

  /** What the process has done and used so far, without taking anything of it. */
  async tally(): Promise<Replay["usage"] & { readonly steps: number }> {
    const usage = noUse();
    const done = new Set<string>();
    let steps = 0;
    for await (const record of this.records(this.history.since)) {
      if (record.t === "renew") {
        ({ steps } = record);
        Object.assign(usage, record.used);
        done.clear();
      }
      if (record.t !== "step") continue;
      done.add(record.p);
      addUse(usage, record.use);
    }
    return { ...usage, steps: steps + done.size };
  }

  /** All records that are kept, page by page. */
  async *records(
    after: Seq = this.history.kept,
  ): AsyncGenerator<JournalRecord & { readonly seq: Seq }, void, undefined> {
    for await (const { seq, value } of logOf(this.#committer.store, this.log, after))
      yield { ...decodeRecord(seq, value), seq };
  }

  /** What a place came to last, as it stands in the log; undefined where nothing is recorded. */
  async outcomeAt(place: string): Promise<Outcome | undefined> {
    let last: Extract<JournalRecord, { readonly t: "step" }> | undefined;
    for await (const record of this.records(this.history.since))
      if (record.t === "step" && record.p === place) last = record;
    return last?.ref === undefined ? last : this.#fetch(last.ref);
  }

  /** @throws {EVERSION} it was written by a newer program */
  #assertKnown(version: number): void {
    if (version > JOURNAL_FORMAT)
      throw new KernelError(
        "EVERSION",
        `the journal of process ${this.#pid} has format ${version}, this program reads up to ${JOURNAL_FORMAT}; use the ergos that wrote it`,
        { pid: this.#pid },
      );
  }

  /**
   * Takes a place for a call: its recorded outcome, or nothing when it is to be made now. A failure does not take the
   * place: who goes on from it may call again.
   * @throws {EEXIST} the place was taken before in this life, or what is recorded there is the outcome of another call
   */
  begin(place: string, call: string): Outcome | Promise<Outcome> | undefined {
    if (this.#taken?.has(place) === true) {
      throw new KernelError(
        "EEXIST",
        `the step ${JSON.stringify(place)} was begun before; give each step a name of its own`,
        { pid: this.#pid },
      );
    }
    const recorded = this.#recorded?.get(place);
    if (recorded !== undefined) this.#assertSameCall(place, call, recorded.k ?? STEP);
    if (recorded?.error !== undefined) {
      if (recorded.acted !== true) this.#recorded?.delete(place);
      return recorded;
    }
    (this.#taken ??= new Map()).set(place, call);
    this.#given?.delete(place);
    if (recorded === undefined) return undefined;
    this.#recorded?.delete(place);
    return recorded.ref === undefined ? recorded : this.#fetch(recorded.ref);
  }

  #assertSameCall(place: string, call: string, was: string): void {
    if (was === call || was === OF_ANY_KIND) return;
    throw new KernelError(
      "EEXIST",
      `what is recorded at ${JSON.stringify(place)} is the outcome of ${was}, and the program calls ${call} there now: it was changed since. Give the new call a name of its own, or start a new run`,
      { pid: this.#pid },
    );
  }

  /** Takes what an earlier life has tried at a place: who tries again there goes on counting, once. */
  takeAttempts(place: string): Attempts | undefined {
    const attempts = this.#attempts?.get(place);
    this.#attempts?.delete(place);
    return attempts;
  }

  /** All of them, for a program that runs where it cannot ask. */
  get openAttempts(): ReadonlyMap<string, Attempts> {
    return this.#attempts ?? new Map();
  }

  /** Whether an earlier life left an outcome at a place: taking it does nothing anew. */
  isRecorded(place: string): boolean {
    return this.#recorded?.has(place) === true;
  }

  /**
   * Records of the loaded outcomes, for a journal that goes on from them; what they have cost is not its own, nor what
   * ends with this process.
   */
  past(): readonly string[] {
    const at = this.#committer.now();
    return Array.from(this.#recorded ?? [])
      .filter(([, { ends }]) => ends !== true)
      .map(([p, { k, value, error, ref, acted, kept }]) =>
        JSON.stringify({ t: "step", at, p, k, value, error, ref, acted, kept }),
      );
  }

  /** Places with an outcome of an earlier life. */
  get recordedPlaces(): readonly string[] {
    return [...(this.#recorded?.keys() ?? [])];
  }

  /** What is known of a place with an outcome of an earlier life: which call it is of, and what that has used. */
  recordedAt(place: string): { readonly call: string; readonly use?: CallUsage } | undefined {
    const recorded = this.#recorded?.get(place);
    if (recorded === undefined) return undefined;
    const { k: call = STEP, use } = recorded;
    return { call, ...(use === undefined ? {} : { use }) };
  }

  /** Places of calls of earlier lives of which nobody knows what they did. */
  get unknownPlaces(): readonly string[] {
    return [...new Set([this.#intents, this.#unknown, this.#lost].flatMap((places) => [...(places?.keys() ?? [])]))];
  }

  /** The same, and those that were tried in vain so far. */
  get openPlaces(): readonly string[] {
    return [...this.unknownPlaces, ...(this.#attempts?.keys() ?? [])];
  }

  /** Places with an outcome, and those that are open, in the order of their records: of a call that of its beginning. */
  get knownPlaces(): readonly string[] {
    const recorded = Array.from(this.#recorded ?? [], ([place, { seq = SEQ_ZERO }]) => [place, seq] as const);
    const open = this.openPlaces.map((place) => [place, this.#opened?.get(place) ?? SEQ_ZERO] as const);
    const places = [...recorded, ...open].toSorted(([, one], [, other]) => one - other);
    return [...new Set(places.map(([place]) => place))];
  }

  /**
   * Puts a value in the place of what an earlier life has recorded, or has left unknown.
   * @returns the record of it, which the caller commits
   */
  async substitute(place: string, value: unknown): Promise<string> {
    const json = this.#encoded(value, `what ${place} is to come to`);
    const isLarge = json !== undefined && json.length > LIMITS.inlineOutcomeMax;
    const ref = isLarge ? await this.#objects.put(new TextEncoder().encode(json)) : undefined;
    const recorded = this.#recorded?.get(place);
    // Of a call without an outcome the record of its intent does not say which it is.
    const k = recorded === undefined ? OF_ANY_KIND : recorded.k;
    const marks = k === undefined ? {} : { k };
    const kept = ref !== undefined ? { ref } : json === undefined ? {} : { value: JSON.parse(json) as unknown };
    (this.#recorded ??= new Map()).set(place, { ...marks, ...kept });
    this.#unknown?.delete(place);
    this.#lost?.delete(place);
    this.#attempts?.delete(place);
    return encodeStep(this.#committer.now(), place, { json, ...(ref === undefined ? {} : { ref }) }, marks);
  }

  /** Drops unanswered calls of earlier lives, whose end the caller records. */
  dropIntents(isDropped: (place: string) => boolean): readonly (readonly [string, Intent])[] {
    const dropped = [...(this.#intents ?? [])].filter(([place]) => isDropped(place));
    for (const [place] of dropped) this.#intents?.delete(place);
    return dropped;
  }

  /** A value as it is recorded, without secrets. */
  #encoded(value: unknown, what: string): string | undefined {
    const { masker } = this.#committer;
    const json = encodeJson(value, what);
    return json === undefined ? undefined : (masker?.maskJson(json) ?? json);
  }

  /**
   * Drops loaded outcomes that no longer count and returns their places, which the caller records.
   * @param again what may have acted there is to be done again, too
   */
  outdate(isOutdated: (place: string) => boolean, again = false): readonly string[] {
    const open = again ? this.openPlaces : [...(this.#attempts?.keys() ?? [])];
    const places = [...this.recordedPlaces, ...open].filter(isOutdated);
    for (const place of places) {
      this.#recorded?.delete(place);
      this.#attempts?.delete(place);
      this.#lost?.delete(place);
      if (again) this.#unknown?.delete(place);
    }
    return [...new Set(places)];
  }

  /** The place at which the process sleeps, where that is the last of what is recorded. */
  get sleepingAt(): string | undefined {
    const [place, last] = [...(this.#recorded ?? [])].at(-1) ?? [];
    return last?.k === "sleep" ? place : undefined;
  }

  /**
   * Drops loaded failures and what went with the process, so that their steps are done again; the caller records it. Those
   * that a run which has completed went on from stay.
   * What an unanswered call had reserved stays spent with the account that it was reserved on.
   */
  forgetFailures(hasFailed: boolean): void {
    if (this.#recorded !== undefined) forgetForRetry(this.#recorded, hasFailed);
    this.#intents = undefined;
    this.#unknown = undefined;
    this.#lost = undefined;
    this.#attempts = undefined;
  }

  /** Whether the same call of an earlier life may have acted, and counts as failed. */
  isUnknown(place: string, keyOf: () => string): boolean {
    const key = this.#unknown?.get(place);
    return key !== undefined && key === keyOf();
  }

  /** The unanswered intent of an earlier life at a place, if it is that of the same call. */
  intentAt(place: string, keyOf: () => string): Intent | undefined {
    const intent = this.#intents?.get(place);
    // A key is made of the whole request: where there is nothing nobody needs it.
    return intent !== undefined && intent.key === keyOf() ? intent : undefined;
  }

  /** The intent of this life at a place that has no outcome yet. */
  callAt(place: string): Intent | undefined {
    return this.#calls?.get(place);
  }

  /** Goes on with an unanswered intent of an earlier life: it is settled or released once. */
  takeIntent(place: string, intent: Intent): void {
    this.#intents?.delete(place);
    (this.#calls ??= new Map()).set(place, intent);
  }

  /** Intents of this life and earlier ones that have no outcome, and their places. */
  unanswered(): readonly (readonly [string, Intent])[] {
    return [...(this.#intents ?? []), ...(this.#calls ?? [])];
  }

  /** Whether an earlier life has logged this line at this place: as often as it has, this is true. */
  hasSaid(place: string, text: string): boolean {
    const line = lineAt(place, this.#committer.masker?.maskText(text) ?? text);
    const count = line === undefined ? undefined : this.#said?.get(line);
    if (line === undefined || count === undefined) return false;
    if (count > 1) this.#said?.set(line, count - 1);
    else this.#said?.delete(line);
    return true;
  }

  /** Outcomes at a place and below it count no more, nor do those of earlier lives: their steps may be done again. */
  async forget(prefix: string, rider?: Rider): Promise<void> {
    const isBelow = (place: string): boolean => prefix === "" || place === prefix || place.startsWith(`${prefix}/`);
    const places = [...(this.#taken?.keys() ?? []), ...(this.#recorded?.keys() ?? [])].filter(isBelow);
    await this.note({ t: "outdated", at: this.#committer.now(), places }, undefined, rider);
    for (const place of places) {
      this.#taken?.delete(place);
      this.#recorded?.delete(place);
    }
  }

  /** Gives a place back when its attempt failed and another follows. */
  retract(place: string): void {
    const call = this.#taken?.get(place);
    this.#taken?.delete(place);
    if (call !== undefined && call !== STEP) (this.#given ??= new Map()).set(place, call);
  }

  /**
   * Records an outcome; `done` resolves once it is committed. A large value goes to the object store first,
   * and nothing may build on it before that.
   * @throws {EINVAL} {E2BIG} the value is not JSON, or too large
   */
  end(
    place: string,
    outcome: Outcome,
    more: StepDetails = {},
  ): { readonly isLarge: boolean; readonly done: Promise<Receipt> } {
    const at = this.#committer.now();
    const { masker } = this.#committer;
    const json = outcome.error === undefined ? this.#encoded(outcome.value, `the result of ${place}`) : undefined;
    const error = outcome.error === undefined ? undefined : (masker?.maskData(outcome.error) ?? outcome.error);
    if (json !== undefined && json.length > LIMITS.inlineOutcomeMax) {
      return { isLarge: true, done: this.#endLarge(place, json, at, more) };
    }
    const record = encodeStep(
      at,
      place,
      { json, ...(error === undefined ? {} : { error }) },
      this.#marked(place, more),
    );
    return { isLarge: false, done: this.#append(record, more, place) };
  }

  /**
   * The record of a small outcome, for a commit that somebody else makes.
   * @param more of what `ends` with the process
   * @throws {ESRCH} the process has ended
   */
  recordOf(
    place: string,
    value: JsonValue,
    more: { readonly ends?: true } = {},
  ): NonNullable<Batch["appends"]>[number] {
    if (this.#closed) throw this.#gone();
    const record = encodeStep(this.#committer.now(), place, { json: JSON.stringify(value) }, this.#marked(place, more));
    return { log: this.log, value: record };
  }

  /** What is recorded beside an outcome, and of which call it is. */
  #marked(place: string, more: StepMarks): StepMarks {
    const call = this.#taken?.get(place) ?? this.#given?.get(place);
    return call === undefined || call === STEP ? more : { ...more, k: call };
  }

  /** Records a failure of something that has acted: whoever takes the place again gets it, in this life too. */
  async fail(place: string, error: ErrorRecord, more: StepDetails = {}): Promise<Receipt> {
    const receipt = await this.end(place, { error }, { ...more, acted: true }).done;
    const { k } = this.#marked(place, {});
    (this.#recorded ??= new Map()).set(place, { error, acted: true, ...(k === undefined ? {} : { k }) });
    this.retract(place);
    return receipt;
  }

  /** Whether a failure at a place may be recorded: nobody holds it, nothing stands there, and no call is unanswered. */
  isFree(place: string): boolean {
    return [this.#taken, this.#recorded, this.#intents, this.#calls].every((places) => places?.has(place) !== true);
  }

  async #endLarge(place: string, json: string, at: number, more: StepDetails): Promise<Receipt> {
    const ref = await this.#objects.put(new TextEncoder().encode(json));
    return this.#append(encodeStep(at, place, { ref }, this.#marked(place, more)), more, place);
  }

  /** Records an intent with its reservation, and waits until it is flushed where it has an effect (J3). */
  async intend(
    place: string,
    { key, reservation, of }: Intent,
    { adds, rider, acts }: { readonly adds: Batch["adds"]; readonly rider: Rider | undefined; readonly acts: boolean },
  ): Promise<void> {
    const at = this.#committer.now();
    const written = this.#append(encodeRecord({ t: "intent", at, p: place, key, reserved: reservation, of }), {
      adds,
      rider,
    });
    if (!this.#closed) (this.#calls ??= new Map()).set(place, { key, reservation, of });
    try {
      const receipt = await written;
      if (acts) await receipt.flushed;
    } catch (error) {
      this.#calls?.delete(place);
      throw error;
    }
  }

  /** Texts of users without secrets; everything else in a record is the kernel's. */
  #masked(record: JournalRecord): JournalRecord {
    const { masker } = this.#committer;
    if (masker === undefined || masker.isEmpty) return record;
    if (record.t === "log") return { ...record, text: masker.maskText(record.text) };
    if (record.t === "skip" || record.t === "attempt") return { ...record, why: masker.maskText(record.why) };
    return "error" in record && record.error !== undefined
      ? { ...record, error: masker.maskData(record.error) }
      : record;
  }

  /** Appends any other record. */
  note(
    record: JournalRecord,
    adds?: Batch["adds"],
    rider?: Rider,
    appends?: NonNullable<Batch["appends"]>,
  ): Promise<Receipt> {
    const answered = record.t === "release" || record.t === "lost" ? record.p : undefined;
    if (record.t === "lost") this.#intents?.delete(record.p);
    const more = { adds, rider, ...(appends === undefined ? {} : { appends }) };
    return this.#append(encodeRecord(this.#masked(record)), more, answered);
  }

  /** No more records: what an abandoned computation still reports is discarded. */
  close(): void {
    this.#closed = true;
    this.#recorded = undefined;
    this.#said = undefined;
    this.#intents = undefined;
    this.#unknown = undefined;
    this.#lost = undefined;
    this.#opened = undefined;
    this.#attempts = undefined;
    this.#calls = undefined;
    this.#given = undefined;
    this.#taken = undefined;
  }

  /** @param answered the place of an intent that this is the outcome of */
  #append(value: string, { adds, appends, puts, deletes, rider }: StepDetails, answered?: string): Promise<Receipt> {
    if (this.#closed) return Promise.reject(this.#gone());
    if (answered !== undefined) this.#calls?.delete(answered);
    const own = { log: this.log, value };
    const batch = {
      appends: appends === undefined ? [own] : [own, ...appends],
      ...(adds === undefined || adds.length === 0 ? {} : { adds }),
      ...(puts === undefined ? {} : { puts }),
      ...(deletes === undefined ? {} : { deletes }),
    };
    return this.#committer.commit(batch, undefined, rider);
  }

  async #fetch(ref: ContentId): Promise<Outcome> {
    const bytes = await this.#objects.get(ref);
    return { value: JSON.parse(new TextDecoder().decode(bytes)) as unknown };
  }

  #gone(): KernelError {
    return new KernelError("ESRCH", "the process has ended; its late result is discarded", { pid: this.#pid });
  }
}

const STEP = "step";
/** Of an outcome whose call was not recorded, by the format before this one. */
const OF_ANY_KIND = "";
const KINDS_SINCE = 2;

const noUse = (): Used => ({ tokensIn: 0, tokensOut: 0, costMicros: 0, modelCalls: 0, toolCalls: 0 });

function addUse(usage: Used, use: CallUsage | undefined): void {
  if (use === undefined) return;
  usage.tokensIn += use.tokensIn;
  usage.tokensOut += use.tokensOut;
  usage.costMicros += use.costMicros;
  if (use.tool === undefined) usage.modelCalls++;
  else usage.toolCalls++;
}

/** Characters of lines of earlier lives that a journal keeps in mind. */
const SAID_MAX = 1024 * 1024;
const lineAt = (place: string | undefined, text: string): string | undefined =>
  place === undefined ? undefined : `${place}\n${text}`;

/** A process that has ended is tried again: what failed is, and what ended with it. */
function forgetForRetry(recorded: Map<string, Recorded>, hasFailed: boolean): void {
  if (hasFailed) deleteFailures(recorded);
  for (const [place, { ends }] of recorded) if (ends === true) recorded.delete(place);
}

function deleteFailures(recorded: Map<string, Recorded>): void {
  for (const [place, outcome] of recorded)
    if (outcome.error !== undefined && outcome.kept !== true) recorded.delete(place);
}
