// Work queues: tasks that wait for whoever can do them.
//
// K1  A task is in one state, and each change of it is one commit that checks the state before; a claim that is a step is
//     in the commit of the step.
// K2  Who claims a task has it until its lease is over, unless it is renewed. When the claimant ends, or the lease, the
//     task waits again, once; after as many attempts as it has, it has failed.
// K3  Only who holds a task completes it: whoever lost it is told so (ESTALE).
// K4  Of the tasks that a process may do, it gets the one of the highest priority; each ten seconds of waiting count as
//     one priority more. Who is stopped, or frozen with its group, gets none meanwhile.

import { entriesOf } from "../abi/entries.ts";
import type { Batch, Metastore } from "../abi/metastore.ts";
import type { Platform, Timer } from "../abi/platform.ts";
import { orAborted } from "../base/abort.ts";
import { type ErrorRecord, KernelError, toErrorRecord, isLostRace } from "../base/errno.ts";
import { Heap } from "../base/heap.ts";
import type { Pid } from "../base/id.ts";
import { encodeJson } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { MultiMap } from "../base/multimap.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import type { PendingEvent } from "../ipc/event-bus.ts";
import { AGEING_MS, PRIORITIES } from "../ipc/mailbox.ts";
import { type Along, merge } from "./action.ts";
import { setAlarm } from "./alarm.ts";
import type { Family } from "./family.ts";
import type { Process } from "./process.ts";
import {
  type Claim,
  type Task,
  type TaskFilter,
  type TaskRequest,
  type TaskState,
  assertQueue,
  decodeTask,
  isOver,
  isSpent,
  nameKey,
  putOf,
  taskKey,
  waitAfter,
} from "./task.ts";
import { ROLES, TIERS, roleOf, tierOf } from "./role.ts";

const NEXT_KEY = "sys/task";
const LEASE_MS = 60_000;

export interface QueueParts {
  readonly store: Metastore;
  readonly committer: Committer;
  readonly platform: Platform;
  readonly family: Family;
}

/** What is kept in memory of a task that is not over: all but its body. */
type Live = Omit<Task, "body">;

/** A task as it is stored, and what a commit checks that changes it. */
interface Stored {
  readonly task: Task;
  readonly checks: NonNullable<Batch["checks"]>;
}

interface Waiter {
  readonly process: Process;
  readonly wake: () => void;
  /** It was passed over while it is held, and looks again when it goes on. */
  isPassedOver: boolean;
}

export class QueueTable {
  readonly #parts: QueueParts;
  readonly #live = new Map<number, Live>();
  /** What each process has claimed. */
  readonly #claims = new MultiMap<Pid, number>();
  /** Tasks that are over, oldest first, with their queues; as many are kept as the bound says. */
  readonly #ended = new Map<number, string>();
  /** Tasks that wait: for each queue by what they ask of whoever claims them. */
  readonly #pending = new Map<string, Map<string, Heap<Live>>>();
  readonly #keys = new Map<string, number>();
  /** Tasks with a key that are being stored: the same key at the same time is the same task. */
  readonly #storing = new Map<string, Promise<number>>();
  /** Of each task what comes next by itself: the end of its lease, its deadline, or that it may begin. */
  readonly #timers = new Map<number, Timer>();
  readonly #waiters = new Map<string, Set<Waiter>>();
  /** Who waits for the end of a task. */
  readonly #watchers = new MultiMap<number, () => void>();
  #next = 1;

  constructor(parts: QueueParts) {
    this.#parts = parts;
  }

  async boot(): Promise<void> {
    const { store, family } = this.#parts;
    this.#next = Number((await store.get(NEXT_KEY))?.value ?? 1);
    const lost: Live[] = [];
    for await (const task of this.#stored()) {
      const { body: _body, ...live } = task;
      if (task.key !== undefined) this.#keys.set(nameKey(task.queue, task.key), task.id);
      if (isOver(task)) this.#ended.set(task.id, task.queue);
      else {
        this.#keep(live);
        const claimant = task.claimant === undefined ? undefined : family.get(task.claimant);
        if (task.state === "pending") this.#wait(live);
        else if (claimant === undefined || claimant.hasEnded) lost.push(live);
        else this.#lease(live);
      }
    }
    for (const { id, claimant } of lost)
      await this.#giveBack(id, claimant, "the host has ended, and its claimant with it");
  }

  async *#stored(after = 0): AsyncGenerator<Task, void, undefined> {
    for await (const { value } of entriesOf(this.#parts.store, "q/", taskKey(after))) yield decodeTask(String(value));
  }

  /** Names of queues that hold tasks, with how many wait and are claimed. */
  get all(): readonly { readonly queue: string; readonly pending: number; readonly claimed: number }[] {
    const counts = new Map<string, { pending: number; claimed: number }>();
    for (const { queue, state } of this.#live.values()) {
      const count = counts.get(queue) ?? { pending: 0, claimed: 0 };
      count[state === "pending" ? "pending" : "claimed"]++;
      counts.set(queue, count);
    }
    return [...counts].map(([queue, count]) => ({ queue, ...count }));
  }

  /** Numbers of the tasks of a queue, whatever has become of them; without a look at the store. */
  numbersOf(queue: string): readonly number[] {
    const live = this.#live.values().filter((task) => task.queue === queue);
    const ended = this.#ended.entries().filter(([, of]) => of === queue);
    return [...live.map(({ id }) => id), ...ended.map(([id]) => id)];
  }

  async get(id: number): Promise<Task | undefined> {
    return (await this.#read(id))?.task;
  }

  async #read(id: number): Promise<Stored | undefined> {
    const entry = await this.#parts.store.get(taskKey(id));
    if (entry === undefined) return undefined;
    return { task: decodeTask(String(entry.value)), checks: [{ key: entry.key, version: entry.version }] };
  }

  async list(filter: TaskFilter): Promise<readonly Task[]> {
    const { queue, state, claimant, by, after, limit = 200 } = filter;
    const out: Task[] = [];
    for await (const task of this.#stored(after)) {
      if (queue !== undefined && task.queue !== queue) continue;
      if (state !== undefined && task.state !== state) continue;
      if (claimant !== undefined && task.claimant !== claimant) continue;
      if (by !== undefined && task.by !== by) continue;
      if (out.push(task) >= limit) break;
    }
    return out;
  }

  /**
   * @throws {EINVAL} the queue has no name · {E2BIG} the body is too large · {EAGAIN} there are as many tasks as there may be
   */
  async submit(process: Process, request: TaskRequest, record: (id: number) => Along, rider?: Rider): Promise<number> {
    const { queue, key, deadlineMs, delayMs } = request;
    assertQueue(queue);
    if (delayMs !== undefined && deadlineMs !== undefined && delayMs >= deadlineMs)
      throw new KernelError("EINVAL", `a task that may begin after ${delayMs} ms is late at ${deadlineMs} ms`, {
        syscall: "submit",
      });
    const name = key === undefined ? undefined : nameKey(queue, key);
    const known = name === undefined ? undefined : this.#keys.get(name);
    if (known !== undefined) {
      await this.#parts.committer.commit(merge({}, record(known)), undefined, rider);
      return known;
    }
    const storing = name === undefined ? undefined : this.#storing.get(name);
    if (storing !== undefined) {
      // Where that fails this one is the first.
      await storing.catch(() => undefined);
      return this.submit(process, request, record, rider);
    }
    const stored = this.#store(process, request, record, rider);
    if (name === undefined) return stored;
    this.#storing.set(name, stored);
    try {
      return await stored;
    } finally {
      this.#storing.delete(name);
    }
  }

  async #store(
    process: Process,
    { queue, key, deadlineMs, delayMs, body, ...rest }: TaskRequest,
    record: (id: number) => Along,
    rider: Rider | undefined,
  ): Promise<number> {
    const { committer } = this.#parts;
    if (this.#live.size >= LIMITS.tasksMax)
      throw new KernelError(
        "EAGAIN",
        `${LIMITS.tasksMax} tasks wait in this host, which is its limit; submit again when some are done`,
        { syscall: "submit" },
      );
    const at = committer.now();
    const id = this.#next++;
    const mayBeCritical = ROLES[roleOf(process.identity)] <= ROLES.daemon;
    const live: Live = {
      ...rest,
      ...(rest.priority === "critical" && !mayBeCritical ? { priority: "high" } : {}),
      queue,
      ...(key === undefined ? {} : { key }),
      id,
      state: "pending",
      by: process.pid,
      at,
      attempts: 0,
      ...(deadlineMs === undefined ? {} : { expires: at + deadlineMs }),
      ...(delayMs === undefined ? {} : { notBefore: at + delayMs }),
    };
    const masked = committer.masker?.maskData(body ?? null) ?? body ?? null;
    const text = encodeJson(masked, "a task") ?? "";
    // A character has three bytes at most: of a short text nobody needs to count them.
    const size = text.length * 3 > LIMITS.messageBytesMax ? new TextEncoder().encode(text).length : text.length;
    if (size > LIMITS.messageBytesMax)
      throw new KernelError(
        "E2BIG",
        `a task holds at most ${LIMITS.messageBytesMax} bytes of JSON, found ${size}; write it to a file and submit its path`,
        { syscall: "submit" },
      );
    const puts = [putOf({ ...live, body: masked }), { key: NEXT_KEY, value: String(this.#next) }];
    await this.#commit(
      merge({ puts }, record(id)),
      { name: "task.submitted", pid: process.pid, data: { id, queue } },
      rider,
    );
    if (key !== undefined) this.#keys.set(nameKey(queue, key), id);
    this.#keep(live);
    this.#wait(live);
    return id;
  }

  /**
   * Takes the next task that the process may do, under a lease.
   * @returns nothing when none came in time
   */
  async claim(
    process: Process,
    claim: Claim,
    record: (task: Task | null) => Along,
    rider?: Rider,
  ): Promise<Task | null> {
    const { platform } = this.#parts;
    assertQueue(claim.queue);
    const end = claim.waitMs === undefined ? undefined : platform.clock.monotonic() + claim.waitMs;
    for (let isWoken = false; ;) {
      claim.signal?.throwIfAborted();
      if (process.isHeld) {
        if (isWoken) this.#wakeOthers(claim.queue);
        await process.goesOn(process.signalWith(claim.signal));
      }
      const found = this.#take(process, claim.queue);
      if (found !== undefined) {
        const task = await this.#claimed(process, found, claim, record, rider);
        if (task !== undefined) return task;
        continue;
      }
      const left = end === undefined ? undefined : end - platform.clock.monotonic();
      if (left !== undefined && left <= 0) {
        const along = record(null);
        if (Object.keys(along).length > 0) await this.#parts.committer.commit(merge({}, along), undefined, rider);
        return null;
      }
      isWoken = await this.#waitFor(process, claim, left);
    }
  }

  /** Commits a claim; nothing when the task had waited too long. */
  async #claimed(
    process: Process,
    found: Live,
    { leaseMs = LEASE_MS }: Claim,
    record: (task: Task | null) => Along,
    rider: Rider | undefined,
  ): Promise<Task | undefined> {
    const { committer } = this.#parts;
    const { id, queue } = found;
    try {
      const stored = await this.#read(id);
      if (stored?.task.state !== "pending") return undefined;
      if (stored.task.expires !== undefined && stored.task.expires <= committer.now()) {
        await this.#fail(stored);
        return undefined;
      }
      const attempts = stored.task.attempts + 1;
      const task: Task = { ...stored.task, state: "claimed", claimant: process.pid, leaseMs, attempts };
      const event: PendingEvent = { name: "task.claimed", pid: process.pid, data: { id, queue } };
      await this.#commit(merge({ checks: stored.checks, puts: [putOf(task)] }, record(task)), event, rider);
      const { body: _body, ...live } = task;
      this.#keep(live);
      this.#lease(live);
      // It has ended in this moment: nobody else would give it back.
      if (!process.isAlive) await this.#giveBack(id, process.pid, `process ${process.pid}, which had it, has ended`);
      return task;
    } catch (error) {
      // Somebody has cancelled it in this moment.
      if (isLostRace(error)) return undefined;
      if (this.#live.get(id)?.state === "pending") this.#wait(found);
      throw error;
    }
  }

  /** Waits until something is there that may be for a process, which it tells, or the time is over. */
  async #waitFor(process: Process, { queue, signal: given }: Claim, waitMs: number | undefined): Promise<boolean> {
    const signal = process.signalWith(given);
    signal.throwIfAborted();
    const wake = Promise.withResolvers<void>();
    let isWoken = false;
    const woken = (): void => {
      isWoken = true;
      wake.resolve();
    };
    const waiter: Waiter = { process, wake: woken, isPassedOver: false };
    const waiters = this.#waiters.get(queue) ?? new Set();
    this.#waiters.set(queue, waiters.add(waiter));
    const timer = waitMs === undefined ? undefined : this.#parts.platform.setTimer(waitMs, wake.resolve);
    const wait = process.waitFor(`queue ${queue}`);
    try {
      await orAborted(wake.promise, signal);
      return isWoken;
    } catch (error) {
      if (isWoken) this.#wakeOthers(queue);
      throw error;
    } finally {
      timer?.cancel();
      waiters.delete(waiter);
      if (waiters.size === 0 && this.#waiters.get(queue) === waiters) this.#waiters.delete(queue);
      process.stopWaiting(wait);
    }
  }

  /** What one was woken for is somebody else's. */
  #wakeOthers(queue: string): void {
    for (const { first } of this.#pending.get(queue)?.values() ?? []) if (first !== undefined) this.#wakeFor(first);
  }

  /**
   * Keeps a task for as long again.
   * @throws {ESTALE} it is not the caller's any more
   */
  renew(process: Process, id: number): void {
    this.#lease(this.#held(process, id));
  }

  /** @throws {ESTALE} it is not the caller's any more */
  async complete(process: Process, id: number, result: unknown, record: () => Along, rider?: Rider): Promise<void> {
    this.#held(process, id);
    const json = encodeJson(result, `the result of task ${id}`, LIMITS.taskBytesMax);
    const masked = json === undefined ? undefined : (this.#parts.committer.masker?.maskData(result) ?? result);
    await this.#asHolder(process, id, (stored) =>
      this.#end(stored, "completed", masked === undefined ? {} : { result: masked }, record(), rider),
    );
  }

  /**
   * Gives a task back after a failure: it is tried again, unless that was its last attempt or `again` is false.
   * @throws {ESTALE} it is not the caller's any more
   */
  async fail(
    process: Process,
    id: number,
    thrown: ErrorRecord,
    again: boolean,
    record: () => Along,
    rider?: Rider,
  ): Promise<void> {
    const error = this.#parts.committer.masker?.maskData(thrown) ?? thrown;
    await this.#asHolder(process, id, (stored) =>
      again && !isSpent(stored.task)
        ? this.#return(stored, error, record(), rider, waitAfter(stored.task))
        : this.#end(stored, "failed", { error }, record(), rider),
    );
  }

  /** Changes a task that a process holds; one that it has lost in this moment is not its own any more (K3). */
  async #asHolder(process: Process, id: number, change: (stored: Stored) => Promise<void>): Promise<void> {
    this.#held(process, id);
    const stored = await this.#storedOf(id);
    this.#held(process, id);
    try {
      await change(stored);
    } catch (error) {
      if (isLostRace(error)) throw lost(process, id);
      throw error;
    }
  }

  /** @throws {ENOENT} there is no such task · {EBUSY} it is over */
  async cancel(id: number, rider?: Rider): Promise<void> {
    const stored = await this.#storedOf(id);
    const { state } = stored.task;
    if (isOver(stored.task))
      throw new KernelError("EBUSY", `task ${id} is ${state} already`, { syscall: "cancelTask" });
    await overtaken(id, "cancelTask", this.#end(stored, "cancelled", {}, {}, rider));
  }

  /** Has a task that failed or was cancelled done after all. @throws {ENOENT} {EBUSY} there is none, or it is not over */
  async resubmit(id: number, rider?: Rider): Promise<void> {
    const { task, checks } = await this.#storedOf(id);
    if (task.state !== "failed" && task.state !== "cancelled")
      throw new KernelError(
        "EBUSY",
        `task ${id} is ${task.state}; only one that failed or was cancelled is resubmitted`,
        { syscall: "resubmit" },
      );
    const { error: _error, ended: _ended, claimant: _claimant, leaseMs: _lease, ...known } = task;
    const { expires: _expires, notBefore: _before, ...rest } = known;
    const fresh: Task = { ...rest, state: "pending", attempts: 0, at: this.#parts.committer.now() };
    const event: PendingEvent = { name: "task.submitted", pid: task.by, data: { id, queue: task.queue } };
    // From here on it is none of those that make room for others.
    if (!this.#ended.delete(id))
      throw new KernelError("EBUSY", `task ${id} is submitted again by another, or has just made room for others`, {
        syscall: "resubmit",
      });
    try {
      await overtaken(id, "resubmit", this.#commit({ checks, puts: [putOf(fresh)] }, event, rider));
    } catch (error) {
      this.#ended.set(id, task.queue);
      throw error;
    }
    const { body: _body, ...live } = fresh;
    this.#keep(live);
    this.#wait(live);
  }

  /** The task once it is over. @throws {ENOENT} there is none of this number */
  async settled(process: Process, id: number, given?: AbortSignal): Promise<Task> {
    const signal = process.signalWith(given);
    for (;;) {
      const { task } = await this.#storedOf(id);
      if (isOver(task)) return task;
      const over = Promise.withResolvers<void>();
      this.#watchers.add(id, over.resolve);
      const wait = process.waitFor(`task ${id}`);
      try {
        // It may have ended before anybody watched.
        if (this.#live.has(id)) await orAborted(over.promise, signal);
      } finally {
        this.#watchers.delete(id, over.resolve);
        process.stopWaiting(wait);
      }
    }
  }

  /** Gives back what a process has claimed that has ended (K2). */
  drop(pid: Pid): Promise<void> | undefined {
    const held = Array.from(this.#claims.get(pid));
    return held.length === 0 ? undefined : this.#giveAllBack(held, pid);
  }

  async #giveAllBack(held: readonly number[], pid: Pid): Promise<void> {
    for (const id of held) await this.#giveBack(id, pid, `process ${pid}, which had it, has ended`);
  }

  close(): void {
    for (const timer of this.#timers.values()) timer.cancel();
  }

  /** Follows what was committed about a task. */
  #keep(task: Live): void {
    const { id, claimant } = task;
    const before = this.#live.get(id);
    if (before?.claimant !== undefined) this.#claims.delete(before.claimant, id);
    if (isOver(task)) this.#live.delete(id);
    else this.#live.set(id, task);
    if (task.state === "claimed" && claimant !== undefined) this.#claims.add(claimant, id);
  }

  async #storedOf(id: number): Promise<Stored> {
    const stored = await this.#read(id);
    if (stored === undefined) throw new KernelError("ENOENT", `there is no task ${id}; /srv/queues lists them`);
    return stored;
  }

  #held(process: Process, id: number): Live {
    const task = this.#live.get(id);
    if (task?.state === "claimed" && task.claimant === process.pid) return task;
    throw lost(process, id);
  }

  /** Takes a task from its claimant; who has just dealt with it was faster. */
  async #giveBack(id: number, claimant: Pid | undefined, why: string): Promise<void> {
    const stored = await this.#storedOf(id);
    if (stored.task.state !== "claimed" || stored.task.claimant !== claimant) return;
    const error = toErrorRecord(new KernelError("ECANCELED", why));
    try {
      await (isSpent(stored.task)
        ? this.#end(stored, "failed", { error })
        : this.#return(stored, error, {}, undefined, waitAfter(stored.task)));
    } catch (thrown) {
      if (!isLostRace(thrown)) throw thrown;
    }
  }

  async #return(
    { task, checks }: Stored,
    error: ErrorRecord,
    along: Along = {},
    rider?: Rider,
    waitMs = 0,
  ): Promise<void> {
    // It was begun in time.
    const { claimant, leaseMs: _lease, expires: _expires, notBefore: _before, ...rest } = task;
    const { id, queue } = task;
    const later = waitMs === 0 ? {} : { notBefore: this.#parts.committer.now() + waitMs };
    const back: Task = { ...rest, state: "pending", error, ...later };
    const event: PendingEvent = { name: "task.returned", pid: claimant ?? task.by, data: { id, queue, error } };
    await this.#commit(merge({ checks, puts: [putOf(back)] }, along), event, rider);
    this.#unlease(id);
    const { body: _body, ...live } = back;
    this.#keep(live);
    this.#wait(live);
  }

  async #end(
    { task, checks }: Stored,
    state: TaskState,
    outcome: Pick<Task, "result" | "error">,
    along: Along = {},
    rider?: Rider,
  ): Promise<void> {
    const { id, queue, claimant, by } = task;
    const { error: _error, ...rest } = task;
    const over: Task = { ...rest, ...outcome, state, ended: this.#parts.committer.now() };
    const oldest = this.#ended.size >= LIMITS.endedTasksMax ? this.#ended.entries().next().value : undefined;
    const name = state === "completed" ? "task.completed" : state === "failed" ? "task.failed" : "task.cancelled";
    const data = { id, queue, ...(outcome.error === undefined ? {} : { error: outcome.error }) };
    // Nobody submits it again from here on.
    if (oldest !== undefined) this.#ended.delete(oldest[0]);
    try {
      const deletes = oldest === undefined ? [] : await this.#traces(oldest[0]);
      await this.#parts.committer.commit(
        merge({ checks, puts: [putOf(over)], deletes }, along),
        [{ name, pid: claimant ?? by, data }],
        rider,
      );
    } catch (error) {
      if (oldest !== undefined) this.#ended.set(...oldest);
      throw error;
    }
    this.#unlease(id);
    this.#keep({ ...rest, state });
    this.#ended.set(id, queue);
    for (const tell of this.#watchers.take(id)) tell();
  }

  /** Keys of a task that is not kept any longer. */
  async #traces(id: number): Promise<readonly string[]> {
    const task = await this.get(id);
    if (task?.key === undefined) return [taskKey(id)];
    this.#keys.delete(nameKey(task.queue, task.key));
    return [taskKey(id)];
  }

  /** Tells of what only a listener of this moment hears, once it is committed. */
  async #commit(batch: Batch, event: PendingEvent, rider: Rider | undefined): Promise<void> {
    await this.#parts.committer.commit(batch, undefined, rider);
    this.#parts.committer.publish(event);
  }

  #lease(task: Live): void {
    const { id, leaseMs = LEASE_MS } = task;
    this.#unlease(id);
    const over = (): void => {
      this.#timers.delete(id);
      void this.#giveBack(id, task.claimant, `the lease of process ${task.claimant ?? 0} on it was over`).catch(
        () => undefined,
      );
    };
    this.#timers.set(id, this.#parts.platform.setTimer(leaseMs, over, { idle: true }));
  }

  #unlease(id: number): void {
    this.#timers.get(id)?.cancel();
    this.#timers.delete(id);
  }

  /** Puts a task where it waits, and wakes whoever may be waiting for it; one that comes later, then. */
  #wait(task: Live): void {
    const { id, queue, role = "", tier = "", notBefore = 0, expires = Number.POSITIVE_INFINITY } = task;
    if (notBefore > this.#parts.committer.now())
      return notBefore < expires ? this.#setTimer(id, notBefore, () => this.#wait(task)) : this.#expireAt(id, expires);
    const buckets = this.#pending.get(queue) ?? new Map<string, Heap<Live>>();
    this.#pending.set(queue, buckets);
    const bucket = buckets.get(`${role} ${tier}`) ?? new Heap<Live>(isBefore);
    buckets.set(`${role} ${tier}`, bucket);
    bucket.add(task);
    if (task.expires !== undefined) this.#expireAt(task.id, task.expires);
    this.#wakeFor(task);
  }

  /** Wakes the first who waits for a task like this. */
  #wakeFor(task: Live): void {
    const waiters = this.#waiters.get(task.queue);
    for (const waiter of waiters ?? []) {
      if (!fits(task, waiter.process)) continue;
      if (waiter.process.isHeld) {
        if (!waiter.isPassedOver) void waiter.process.continued().then(waiter.wake);
        waiter.isPassedOver = true;
        continue;
      }
      // Another task of this moment wakes another.
      waiters?.delete(waiter);
      waiter.wake();
      return;
    }
  }

  /** Fails a task at its deadline, if nobody has begun it. */
  #expireAt(id: number, at: number): void {
    const late = async (): Promise<void> => {
      const stored = await this.#read(id);
      if (stored?.task.state === "pending") await this.#fail(stored);
    };
    this.#setTimer(id, at, () => void late().catch(() => undefined));
  }

  /** Does something at an instant, unless something else becomes of the task before. */
  #setTimer(id: number, at: number, due: () => void): void {
    this.#unlease(id);
    const task = (): void => {
      this.#timers.delete(id);
      due();
    };
    const { platform, committer } = this.#parts;
    this.#timers.set(id, setAlarm(platform, at, task, { idle: true, clock: committer.clock }));
  }

  async #fail(stored: Stored): Promise<void> {
    const { id, queue } = stored.task;
    const late = new KernelError("ETIMEDOUT", `nobody has begun task ${id} of ${queue} in its time`);
    await this.#end(stored, "failed", { error: toErrorRecord(late) });
  }

  /** The first of what waits that a process may do (K4). */
  #take(process: Process, queue: string): Live | undefined {
    let best: Heap<Live> | undefined;
    const buckets = this.#pending.get(queue);
    for (const bucket of buckets?.values() ?? []) {
      // What was cancelled while it waited is passed over.
      while (bucket.first !== undefined && this.#live.get(bucket.first.id) !== bucket.first) bucket.take();
      const { first } = bucket;
      if (first === undefined || !fits(first, process)) continue;
      if (best?.first === undefined || isBefore(first, best.first)) best = bucket;
    }
    const taken = best?.take();
    // A queue, as one for replies, may be used once.
    for (const [kind, { first }] of buckets ?? []) if (first === undefined) buckets?.delete(kind);
    if (buckets?.size === 0) this.#pending.delete(queue);
    return taken;
  }
}

const lost = (process: Process, id: number): KernelError =>
  new KernelError(
    "ESTALE",
    `process ${process.pid} does not hold task ${id}: its lease was over, or it was cancelled`,
    {
      pid: process.pid,
    },
  );

/** @throws {EBUSY} somebody else has changed the task in this moment */
async function overtaken(id: number, syscall: string, change: Promise<void>): Promise<void> {
  try {
    await change;
  } catch (error) {
    if (!isLostRace(error)) throw error;
    throw new KernelError("EBUSY", `task ${id} was changed by somebody else in this moment; look at it again`, {
      syscall,
      cause: error,
    });
  }
}

/** Ageing is linear and the same for all, so that the order never changes while tasks wait. */
const rankOf = ({ priority = "normal", at }: Live): number => PRIORITIES[priority] * AGEING_MS + at;
const isBefore = (one: Live, two: Live): boolean =>
  rankOf(one) === rankOf(two) ? one.id < two.id : rankOf(one) < rankOf(two);

const fits = ({ role, tier }: Live, { identity }: Process): boolean =>
  (role === undefined || role === roleOf(identity)) &&
  (tier === undefined || TIERS.indexOf(tierOf(identity)) <= TIERS.indexOf(tier));
