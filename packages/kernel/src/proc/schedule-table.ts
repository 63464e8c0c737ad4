// Schedules: what is done at an instant, every so often, or by a calendar.
//
// H1  An occurrence and what it does are one commit with the schedule's next instant: each happens once, whatever
//     becomes of the host.
// H2  A schedule acts as the process that made it, with its rights of that moment, and ends with it.
// H3  What was due while no host acted is done by the schedule's policy: not at all, once, or each, up to a bound.
// H4  Nothing is done before the host is told to act (`activate`).

import type { Calendar } from "../abi/calendar.ts";
import type { Metastore } from "../abi/metastore.ts";
import type { Platform, Timer } from "../abi/platform.ts";
import { cancelled } from "../base/abort.ts";
import { type ErrorRecord, KernelError, isKernelError, toErrorRecord } from "../base/errno.ts";
import type { Pid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import type { PendingEvent } from "../ipc/event-bus.ts";
import { type Act, type Acted, type Action, type Along, assertAction, merge, nameOfAction } from "./action.ts";
import { setAlarm } from "./alarm.ts";
import type { Family } from "./family.ts";
import { OwnedTable } from "./owned-table.ts";
import type { Process } from "./process.ts";

export const MISSED = ["skip", "once", "all"] as const;
export const OVERLAPS = ["allow", "skip", "cancel"] as const;

export interface ScheduleRequest {
  /** For people; two schedules of a process do not share one. */
  readonly name?: string;
  /** One of four: a pattern of cron, in the zone (default UTC); */
  readonly cron?: string;
  readonly zone?: string;
  /** every so many milliseconds; */
  readonly everyMs?: number;
  /** at an instant, in wall-clock milliseconds; */
  readonly at?: number;
  /** or in so many milliseconds. */
  readonly inMs?: number;
  readonly action: Action;
  /** What was due while no host acted: `skip`, `once` (default) for all of it, or `all`, up to a hundred. */
  readonly missed?: (typeof MISSED)[number];
  /** When the process that it started last still lives: `allow`, `skip` (default), or `cancel` that one. */
  readonly overlap?: (typeof OVERLAPS)[number];
  /** It is over after so many occurrences. */
  readonly times?: number;
}

export interface Schedule extends Omit<ScheduleRequest, "inMs" | "at"> {
  readonly id: number;
  /** The process that made it, and acts. */
  readonly pid: Pid;
  readonly created: number;
  /** Wall-clock milliseconds of the next occurrence. */
  readonly next: number;
  readonly isPaused: boolean;
  /** Occurrences that were done; times at which one or several were left out because no host acted; left out because the last one was not over. */
  readonly runs: number;
  readonly missedRuns: number;
  readonly skippedRuns: number;
  readonly last?: { readonly at: number; readonly pid?: Pid; readonly error?: ErrorRecord };
  /** Late occurrences in a row that were done. */
  readonly caughtUp: number;
}

export interface ScheduleParts {
  readonly store: Metastore;
  readonly committer: Committer;
  readonly platform: Platform;
  readonly family: Family;
  readonly calendar: Calendar | undefined;
  readonly act: Act;
  readonly kill: (process: Process) => Promise<void>;
}

/** An occurrence is late after so many milliseconds: then its policy says what becomes of it. */
const LATE_MS = 60_000;
/** A clock that is set back by more has another time: instants of the one before do not bind it. */
const SET_BACK_MS = 60_000;
/** A run that is waited for may be quarantined, and then it does not end: it is looked at again after so long. */
const LOOK_AGAIN_MS = 1000;
const CATCH_UP_MAX = 100;

export class ScheduleTable {
  readonly #parts: ScheduleParts;
  readonly #table: OwnedTable<Schedule>;
  readonly #alarms = new Map<number, Timer>();
  /** Occurrences under way: settled as soon as one is recorded, whatever it does behind that. */
  readonly #firing = new Map<number, Promise<void>>();
  /** Those whose occurrence waits for room; told once. */
  readonly #held = new Set<number>();
  #isActive = false;
  /** Wall-clock milliseconds: what was due before, no host was there for. */
  #activeSince = Number.NEGATIVE_INFINITY;

  constructor(parts: ScheduleParts) {
    this.#parts = parts;
    this.#table = new OwnedTable({ ...parts, what: "schedule", prefix: "sc", max: LIMITS.schedulesMax });
  }

  boot(): Promise<void> {
    return this.#table.boot();
  }

  /** From now on occurrences are done; what was missed is looked at at once. */
  activate(): void {
    this.#isActive = true;
    this.#activeSince = this.#parts.platform.clock.now();
    for (const schedule of this.#table.all) this.#arm(schedule);
  }

  /** All schedules, the next to come first. */
  get all(): readonly Schedule[] {
    return this.#table.all.toSorted((one, two) => one.next - two.next || one.id - two.id);
  }

  get(id: number): Schedule | undefined {
    return this.#table.get(id);
  }

  /**
   * @throws {EINVAL} it says not exactly one time, or one that cannot be · {EEXIST} the process has one of that name
   * @throws {EAGAIN} there are as many as there may be · {ENOTSUP} this host knows no calendar
   */
  async add(
    process: Process,
    request: ScheduleRequest,
    along: (schedule: Schedule) => Along,
    rider?: Rider,
  ): Promise<Schedule> {
    const { platform, committer } = this.#parts;
    assertAction(request.action);
    const { inMs, at, ...rest } = request;
    const now = platform.clock.now();
    const times = [request.cron, request.everyMs, at, inMs].filter((time) => time !== undefined);
    if (times.length !== 1)
      throw new KernelError("EINVAL", `a schedule has one of cron, everyMs, at and inMs; found ${times.length}`);
    if (request.zone !== undefined && request.cron === undefined)
      throw new KernelError("EINVAL", "a time zone belongs to a cron pattern; an instant has none");
    const next = at ?? (inMs === undefined ? this.#after(request, now, now) : now + inMs);
    if (next === undefined)
      throw new KernelError("EINVAL", `${JSON.stringify(request.cron)} names no instant that will ever come`);
    const { pid } = process;
    const schedule = await this.#table.make(
      pid,
      request.name,
      (id): Schedule => ({
        ...rest,
        id,
        pid,
        created: committer.now(),
        next,
        isPaused: false,
        runs: 0,
        missedRuns: 0,
        skippedRuns: 0,
        caughtUp: 0,
      }),
      (puts, made) => committer.commit(merge({ puts }, along(made)), undefined, rider),
    );
    this.#arm(schedule);
    return schedule;
  }

  /** @throws {ENOENT} there is none of this number */
  async remove(id: number, rider?: Rider): Promise<void> {
    const schedule = this.#table.get(id);
    if (schedule === undefined) throw missing(id);
    // An occurrence under way finds it gone, and its commit is refused.
    this.#forget(id);
    try {
      await this.#parts.committer.commit(this.#table.changeOf(id, undefined), undefined, rider);
    } catch (error) {
      this.#table.keep(id, schedule);
      throw error;
    }
  }

  /** Lets it wait until it is told to go on; then its next instant is one to come. */
  async pause(id: number, isPaused: boolean, rider?: Rider): Promise<Schedule> {
    // No occurrence is under way, and none begins before this is recorded.
    await this.#firing.get(id);
    const schedule = this.#table.get(id);
    if (schedule === undefined) throw missing(id);
    const now = this.#parts.platform.clock.now();
    const isToCome = isPaused || schedule.next > now;
    const next = isToCome ? schedule.next : (this.#after(schedule, schedule.next, now) ?? schedule.next);
    const changed = { ...schedule, isPaused, next };
    this.#alarms.get(id)?.cancel();
    this.#table.keep(id, changed);
    try {
      await this.#parts.committer.commit(this.#table.changeOf(id, changed), undefined, rider);
    } catch (error) {
      this.#keep(id, schedule);
      throw error;
    } finally {
      const kept = this.#table.get(id);
      if (kept !== undefined) this.#arm(kept);
    }
    return changed;
  }

  /** Ends the schedules of a process with it (H2). */
  drop(pid: Pid): Promise<unknown> | undefined {
    const gone = this.#table.ofProcess(pid);
    for (const { id } of gone) this.#forget(id);
    return gone.length === 0 ? undefined : this.#parts.committer.commit(this.#table.without(gone));
  }

  close(): void {
    this.#isActive = false;
    for (const alarm of this.#alarms.values()) alarm.cancel();
  }

  #forget(id: number): void {
    this.#table.keep(id, undefined);
    this.#alarms.get(id)?.cancel();
    this.#alarms.delete(id);
    this.#held.delete(id);
  }

  /** The next instant after `now`, for one whose last was `from`; none where it is over. */
  #after(
    { cron, zone, everyMs }: Pick<ScheduleRequest, "cron" | "zone" | "everyMs">,
    from: number,
    now: number,
  ): number | undefined {
    // A clock that was set back does not hold up what has its interval of time.
    if (everyMs !== undefined)
      return now < from ? now + everyMs : from + everyMs * Math.max(1, Math.ceil((now + 1 - from) / everyMs));
    if (cron === undefined) return undefined;
    const { calendar } = this.#parts;
    if (calendar === undefined)
      throw new KernelError("ENOTSUP", "this host knows no calendar: schedules have everyMs, at or inMs here");
    // A clock that was corrected a little names no instant twice.
    return calendar.next(cron, zone ?? "UTC", from - now > SET_BACK_MS ? now : Math.max(from, now));
  }

  #arm(schedule: Schedule): void {
    const { id, next, isPaused } = schedule;
    this.#alarms.get(id)?.cancel();
    this.#alarms.delete(id);
    if (!this.#isActive || isPaused) return;
    this.#alarms.set(
      id,
      setAlarm(this.#parts.platform, next, () => void this.#due(id), { idle: true }),
    );
  }

  async #due(id: number): Promise<void> {
    const schedule = this.#table.get(id);
    if (schedule === undefined || schedule.isPaused || this.#firing.has(id) || !this.#isActive) return;
    const recorded = Promise.withResolvers<void>();
    this.#firing.set(id, recorded.promise);
    // The store is poisoned and says so to everybody; the next start goes on.
    await this.#fire(schedule, recorded.resolve).catch(() => undefined);
    recorded.resolve();
    this.#firing.delete(id);
    const after = this.#table.get(id);
    if (after !== undefined && after !== schedule) this.#arm(after);
  }

  async #fire(schedule: Schedule, recorded: () => void): Promise<void> {
    const { platform, family } = this.#parts;
    const { id, pid, next: due, missed = "once", overlap = "skip", last, action } = schedule;
    const process = family.get(pid);
    // Whoever looks at it may let it go on.
    if (process?.state.name === "quarantined") return this.#hold(schedule, process.state.error);
    if (process === undefined || !process.isAlive || process.isEnding) return void (await this.drop(pid));
    const now = platform.clock.now();
    // What waits for room is no occurrence that nobody was there for.
    // A clock that was set back shows once more what no host was there for.
    if (now < this.#activeSince) this.#activeSince = now;
    const wasAway = missed === "all" && due < this.#activeSince;
    const isLate = (now - due > LATE_MS || wasAway) && !this.#held.has(id);
    // Where each counts, none is passed over.
    const from = missed === "all" && due <= now ? due : now;
    const caughtUp = isLate ? schedule.caughtUp + 1 : 0;
    if (isLate && (missed === "skip" || caughtUp > CATCH_UP_MAX)) {
      const left = { ...schedule, missedRuns: schedule.missedRuns + 1, caughtUp: 0 };
      return this.#move(left, due, now, "schedule.missed");
    }
    const running = last?.pid === undefined ? undefined : family.get(last.pid);
    // One that is quarantined runs no more.
    const isRunning = running?.isAlive === true;
    // What was missed is all done, one after the other.
    if (isRunning && overlap === "skip" && isLate && missed === "all")
      return this.#whenOver(running, () => {
        if (this.#table.get(id) === schedule) this.#arm(schedule);
      });
    if (isRunning && overlap === "skip")
      return this.#move({ ...schedule, skippedRuns: schedule.skippedRuns + 1 }, due, from, "schedule.skipped");
    if (isRunning && overlap === "cancel") await this.#parts.kill(running).catch(() => undefined);
    const done: Schedule = { ...schedule, runs: schedule.runs + 1, caughtUp };
    const after = (started?: Pid): Schedule | undefined =>
      this.#following({ ...done, last: { at: now, ...(started === undefined ? {} : { pid: started }) } }, due, from);
    const fail = (error: ErrorRecord): Promise<void> =>
      this.#move({ ...done, last: { at: now, error } }, due, from, "schedule.failed", { error });
    let acted: Acted;
    try {
      acted = await this.#parts.act(
        process,
        action,
        (child) => {
          if (this.#table.get(id) === undefined) throw cancelled(`schedule ${id} was ended`);
          return this.#table.changeOf(id, after(child));
        },
        { cause: `schedule ${id}`, depth: process.identity.depth ?? 0 },
      );
    } catch (error) {
      // A host that ends does nothing any more: the next one does what is due.
      if (this.#table.get(id) === undefined || !this.#isActive) return;
      if (isKernelError(error) && error.code === "EAGAIN") return await this.#hold(schedule, toErrorRecord(error));
      return fail(toErrorRecord(error));
    }
    const { pid: started, failing } = acted;
    this.#held.delete(id);
    this.#keep(id, after(started));
    recorded();
    const failed = await failing;
    if (failed !== undefined) return this.#failBehind(schedule, now, failed);
    const child = started === undefined ? {} : { child: started };
    this.#parts.committer.publish(this.#eventOf(schedule, "schedule.fired", child));
  }

  /** What an occurrence did has failed when it was recorded already; the schedule may have been changed, or ended, since. */
  async #failBehind(schedule: Schedule, at: number, error: ErrorRecord): Promise<void> {
    const { id } = schedule;
    const now = this.#table.get(id);
    const changed = now === undefined ? undefined : { ...now, last: { at, error } };
    if (changed !== undefined) this.#keep(id, changed);
    await this.#parts.committer.commit(changed === undefined ? {} : this.#table.changeOf(id, changed), [
      this.#eventOf(schedule, "schedule.failed", { error }),
    ]);
  }

  /** What has no room now, as a full mailbox or group, has it later: the occurrence waits. */
  async #hold(schedule: Schedule, error: ErrorRecord): Promise<void> {
    const { platform, committer } = this.#parts;
    const { id } = schedule;
    const again = platform.clock.now() + LOOK_AGAIN_MS;
    this.#alarms.set(
      id,
      setAlarm(platform, again, () => void this.#due(id), { idle: true }),
    );
    if (this.#held.has(id)) return;
    this.#held.add(id);
    await committer.commit({}, [this.#eventOf(schedule, "schedule.failed", { error })]);
  }

  #whenOver({ done }: Process, then: () => void): void {
    const over = Promise.withResolvers<void>();
    const timer = this.#parts.platform.setTimer(LOOK_AGAIN_MS, over.resolve, { idle: true });
    void Promise.race([done, over.promise]).then(() => {
      timer.cancel();
      then();
    });
  }

  /** Goes on to the next occurrence without doing this one. */
  async #move(
    schedule: Schedule,
    due: number,
    now: number,
    event: "schedule.missed" | "schedule.skipped" | "schedule.failed",
    data: Readonly<Record<string, unknown>> = {},
  ): Promise<void> {
    const after = this.#following(schedule, due, now);
    const told = this.#eventOf(schedule, event, data);
    this.#held.delete(schedule.id);
    // Failures are kept: somebody has to know of them.
    await this.#parts.committer.commit(
      this.#table.changeOf(schedule.id, after),
      event === "schedule.failed" ? [told] : [],
    );
    this.#keep(schedule.id, after);
    if (event !== "schedule.failed") this.#parts.committer.publish(told);
  }

  /** The schedule with its next instant; nothing where it is over. */
  #following(schedule: Schedule, due: number, now: number): Schedule | undefined {
    if (schedule.times !== undefined && schedule.runs >= schedule.times) return undefined;
    const next = this.#after(schedule, due, now);
    return next === undefined ? undefined : { ...schedule, next };
  }

  #keep(id: number, schedule: Schedule | undefined): void {
    // Its process may have ended meanwhile.
    if (this.#table.get(id) === undefined) return;
    if (schedule === undefined) this.#forget(id);
    else this.#table.keep(id, schedule);
  }

  #eventOf(
    { id, pid, name, next, action }: Schedule,
    event: "schedule.fired" | "schedule.missed" | "schedule.skipped" | "schedule.failed",
    data: Readonly<Record<string, unknown>>,
  ): PendingEvent {
    const what = { id, due: next, action: nameOfAction(action), ...(name === undefined ? {} : { name }) };
    const program = event === "schedule.failed" ? { program: `schedule ${name ?? id}` } : {};
    return { name: event, pid, data: { ...what, ...data, ...program } };
  }
}

const missing = (id: number): KernelError =>
  new KernelError("ENOENT", `there is no schedule ${id}; /proc/scheduled lists them`, { syscall: "schedule" });
