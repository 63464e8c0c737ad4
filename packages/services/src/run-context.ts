// What user code gets beside its input: who it is, when it must stop, and its own system calls.
//
// Everything that may differ between two runs (a model's answer, the time, chance, the outcome of a step) is
// taken through it, recorded in the journal, and the same again after a resumption.

import {
  type Artifact,
  type Collapsed,
  type Entity,
  type Exit,
  type FetchAnswer,
  type FetchCall,
  type InferRequest,
  KernelError,
  assertValid,
  describe,
  fromErrorRecord,
  LIMITS,
  MODEL_REQUEST_SCHEMA,
  type Message,
  type MessageKind,
  type ModelMessage,
  type ModelResponse,
  type ModelToolCall,
  type Os,
  type Pid,
  type Priority,
  type RunId,
  type Schedule,
  type ScheduleRequest,
  type Signal,
  type SpawnArgs,
  type Task,
  type TaskRequest,
  type Transit,
  type Trigger,
  type Visibility,
  toPid,
} from "@ergos/kernel";
import { type Lease, type LeaseOptions, electionOf, holdLock } from "./lease.ts";
import { NamedCalls } from "./named-calls.ts";
import { type Code, toRunnable } from "./program-of.ts";
import { workOn } from "./queue-work.ts";
import { type HandOver, type TaskSide, doTasks, handOver, reportProgress } from "./task-work.ts";
import { type RunningStep, type Scope, osOf, runningStepOf } from "./scope.ts";
import { heard, promised } from "./promised.ts";
import { runShielded } from "./shield.ts";
import { contentOf, isRequest, shortLine } from "./given.ts";
import { argumentsOf, isNews, notOffered, toolMessage } from "./tool-answer.ts";
import { type Attempt, type StepOptions, type TryOptions, assertStepOptions } from "./tries.ts";

export interface CallOptions extends TryOptions {
  /**
   * What to do when the host died during the call: `fail` (default) is EUNKNOWN, so that somebody looks;
   * `repeat` does it again, and may pay or act twice.
   */
  readonly onUnknown?: "fail" | "repeat";
}

export interface LetterOptions {
  readonly kind?: MessageKind;
  readonly priority?: Priority;
  /** Milliseconds after which nobody reads it any more. */
  readonly ttlMs?: number;
  readonly replyTo?: string;
}

interface Hibernation {
  readonly until?: number;
  readonly topic?: string;
  readonly where?: Readonly<Record<string, unknown>>;
}

export interface InferOptions extends CallOptions {
  /** Hears a fresh answer as it comes, piece by piece; a recorded one comes at once. */
  readonly onText?: (piece: string) => void;
}

/**
 * What a program gets beside its input. Calls with a name are steps: their outcome, a failure too, is recorded, and taken
 * from the journal when the program is called again after a crash, so each name stands once in a node or a function.
 * A retry makes those anew that have failed.
 */
export class RunContext<Input = unknown> {
  readonly #scope: Scope;
  readonly #signal: AbortSignal | undefined;
  /** Which attempt this is, from 1. */
  readonly attempt: number;
  /** A later attempt anywhere in the part that is retried has a greater one. */
  readonly #generation: number;
  /** Made with the first call: most nodes make none. */
  #named: NamedCalls | undefined;
  /** Instant of the monotonic clock at which the attempt is over, in milliseconds. */
  readonly deadline: number | undefined;

  constructor(scope: Scope, attempt: number, signal?: AbortSignal, deadline?: number) {
    this.#scope = scope;
    this.#signal = signal;
    this.#generation = scope.memo === undefined ? 0 : scope.memo.next++;
    this.attempt = attempt;
    this.deadline = deadline;
  }

  get #calls(): NamedCalls {
    return (this.#named ??= new NamedCalls(this.#scope, this, this.#generation));
  }

  /** Whether the step, or the call, of that name has an outcome already, of an earlier attempt or life. */
  hasOutcome(name: string): boolean {
    return this.#calls.has(this.#placeOf(name));
  }

  /** Name of the run, as `digest-7`; the same over restarts. */
  get runId(): RunId {
    return this.#scope.process.runId;
  }

  get pid(): Pid {
    return this.#scope.process.pid;
  }

  get parentPid(): Pid | undefined {
    return this.#scope.process.parentPid;
  }

  get pipelineName(): string {
    return this.#scope.process.name;
  }

  /** The node that it runs for; of a function program its name. */
  get nodeName(): string {
    return this.#scope.nodeName;
  }

  /** The input of the run. */
  get input(): Input {
    // The builder has tied the input's type to the context's.
    return (this.#scope.process.input ?? {}) as Input;
  }

  /** Aborts when the run is cancelled or the attempt's time is up. */
  get signal(): AbortSignal {
    return this.#runningStep?.attempt?.signal ?? this.#signal ?? this.#scope.process.signal;
  }

  /** The process's own system calls: its rights and budgets apply. */
  get os(): Os {
    return osOf(this.#scope.process);
  }

  /** A part of this one with places of its own below it, as a node of a body. */
  within(name: string): Scope {
    const { process, memo, task, isShielded } = this.#scope;
    const place = this.#placeOf(name);
    return {
      process,
      place,
      nodeName: name,
      trail: this.#calls.trail,
      ...(memo === undefined ? {} : { memo }),
      ...(task === undefined ? {} : { task }),
      ...(isShielded === undefined ? {} : { isShielded }),
    };
  }

  /** The same part under another signal, as that of a body that may be over before its node. */
  under(signal: AbortSignal): RunContext<Input> {
    return new RunContext<Input>(this.#scope, this.attempt, signal, this.deadline);
  }

  /** Lets others have their turn of the loop. */
  turn(): Promise<void> {
    return new Promise((go) => this.#scope.process.platform.defer(go));
  }

  /**
   * Does a piece of work once: after a crash or a retry its recorded result is returned instead. Work that has a time
   * limit should heed the signal of its attempt; what comes of it later does not count.
   * @throws {EEXIST} the name was used before in this node · what the last attempt threw
   */
  step<T>(name: string, work: (attempt: Attempt) => T | Promise<T>, options?: StepOptions): Promise<T> {
    const place = this.#placeOf(name);
    if (typeof work !== "function")
      throw new KernelError(
        "EINVAL",
        `step ${place} needs a function, found ${typeof work}; call ctx.step(name, work)`,
      );
    if (options !== undefined) assertStepOptions(place, options);
    return this.#calls.step(place, work, options);
  }

  /**
   * Does work that is not cut off when the process is told to end (a signal but KILL, a limit of time): taking back what
   * it has done, for instance. The end waits for it. What it does goes through the context that
   * it gets, whose signal aborts after `timeoutMs` alone (default 10,000, at most a minute); a process that was told to
   * end starts no others.
   * @throws {ETIMEDOUT} it took longer · what the work throws
   */
  shield<T>(
    work: (ctx: RunContext<Input>) => T | Promise<T>,
    { timeoutMs = LIMITS.shieldMs }: { readonly timeoutMs?: number } = {},
  ): Promise<T> {
    // One order of calls without a name, in here and around.
    const counters = (this.#scope.counters ??= new Map<string, number>());
    const scope: Scope = { ...this.#scope, counters, isShielded: true };
    const within = (one: Attempt): RunContext<Input> =>
      new RunContext<Input>(scope, this.attempt, one.signal, one.deadline);
    return heard(runShielded(this.#scope.process, this.#runningStep, timeoutMs, (one) => work(within(one))));
  }

  /**
   * What this node, or function, has recorded counts no more: when its run is tried again, it is done again. For what was
   * taken back.
   */
  async forget(): Promise<void> {
    const { place, memo } = this.#scope;
    await this.os.call("stepForget", { place });
    memo?.places.clear();
  }

  /** Asks a model, within the budget; the answer is recorded and not paid for again. */
  infer(
    name: string,
    request: InferRequest | string,
    { retry, timeoutMs, ...options }: InferOptions = {},
  ): Promise<ModelResponse> {
    const place = this.#placeOf(name);
    const full: InferRequest =
      typeof request === "string" ? { messages: [{ role: "user", content: request }] } : request;
    // Callers without types hear what is wrong; a request that looks right pays nothing.
    if (!isRequest(full)) assertValid(MODEL_REQUEST_SCHEMA, full, `the request of model call ${place}`);
    return this.#calls.tried(place, { retry, timeoutMs }, (signal = this.signal) =>
      this.os.call("infer", { place, request: full, signal, ...options }),
    );
  }

  /**
   * Asks a person and waits, for days and over restarts; the answer is recorded, and asked for once. One of `choices`,
   * where those are given; `ergos asks` lists what waits, `ergos answer` answers. After `timeoutMs`, counted over
   * restarts, the answer is `otherwise`.
   * @throws {ECANCELED} it was refused · {ETIMEDOUT} nobody has answered in time, and there is no other answer
   */
  ask<const Choice = unknown, const Otherwise = never>(
    name: string,
    question: string,
    options: {
      readonly choices?: readonly (Choice & string)[];
      readonly timeoutMs?: number;
      readonly otherwise?: Otherwise;
    } = {},
  ): Promise<Choice | Otherwise> {
    const place = this.#placeOf(name);
    const { signal } = this;
    // With choices the kernel takes none but those; without, whoever asks knows what comes.
    return this.#calls.named(place, () => this.os.call("ask", { place, question, signal, ...options })) as Promise<
      Choice | Otherwise
    >;
  }

  /**
   * Calls a tool with this process's rights; its result is recorded and the call not repeated.
   * @throws {ENOENT} there is no such tool · {EINVAL} the arguments do not fit
   */
  call(
    name: string,
    tool: string,
    args: Readonly<Record<string, unknown>> = {},
    { retry, timeoutMs, ...options }: CallOptions = {},
  ): Promise<unknown> {
    const place = this.#placeOf(name);
    return this.#calls.tried(place, { retry, timeoutMs }, (signal = this.signal) =>
      this.os.call("call", { place, tool, arguments: args, signal, ...options }),
    );
  }

  /**
   * Makes a call that a model has asked for, and gives the message that tells the model what came of it: the result, or
   * why there is none, so that it may try in another way. Of what was offered to it, where that is given, and nothing else.
   * @throws {ECANCELED, EDQUOT, EUNKNOWN} the process cannot go on from it
   */
  async answerToolCall(
    name: string,
    call: ModelToolCall,
    { offered, ...options }: CallOptions & { readonly offered?: InferRequest["tools"] } = {},
  ): Promise<ModelMessage> {
    const refusal = offered === undefined ? undefined : notOffered(call, offered);
    if (refusal !== undefined) return toolMessage(call, refusal);
    // A failure that the model was told of is an outcome: asked again, the tool might say something else.
    const told = `${name}/failure`;
    let failure = "";
    if (!this.hasOutcome(told))
      try {
        return toolMessage(call, await this.call(name, call.name, argumentsOf(call), options));
      } catch (error) {
        if (!isNews(error, this.signal)) throw error;
        failure = `error: ${describe(error)}`;
      }
    return toolMessage(call, await this.step(told, () => failure));
  }

  /**
   * Makes a request over http; its answer, whatever its status, is recorded and the request not repeated.
   * @throws {EACCES} the process may not reach the host, or one that it is redirected to
   */
  fetch(
    name: string,
    url: string,
    { retry, timeoutMs, ...options }: Omit<FetchCall, "place" | "url" | "signal"> & TryOptions = {},
  ): Promise<FetchAnswer> {
    const place = this.#placeOf(name);
    return this.#calls.tried(place, { retry, timeoutMs }, (signal = this.signal) =>
      this.os.call("fetch", { place, url, signal, ...options }),
    );
  }

  /**
   * Sends a message to a process; once, over restarts too.
   * @throws {ESRCH} it has ended · {EAGAIN} its mailbox is full
   */
  send(name: string, to: number, body: unknown, options: LetterOptions = {}): Promise<{ readonly id: string }> {
    const place = this.#placeOf(name);
    return this.#calls.once(place, () => this.os.call("send", { place, to: toPid(to), body, ...options }));
  }

  /** Takes the next message of this process, once, over restarts too; null when none came within `waitMs`. */
  receive(
    name: string,
    options: { readonly from?: number; readonly kind?: MessageKind; readonly waitMs?: number } = {},
  ): Promise<Message | null> {
    const { from, ...rest } = options;
    const wanted = { ...rest, ...(from === undefined ? {} : { from: toPid(from) }), signal: this.signal };
    const place = this.#placeOf(name);
    return this.#calls.once(place, () => this.os.call("receive", { place, ...wanted }));
  }

  /**
   * Asks another process and waits for its reply.
   * @throws {ETIMEDOUT} none came within `timeoutMs` (default a minute)
   */
  request(
    name: string,
    to: number,
    body: unknown,
    options: Pick<LetterOptions, "kind" | "priority"> & { readonly timeoutMs?: number } = {},
  ): Promise<Message> {
    const place = this.#placeOf(name);
    const { signal } = this;
    return this.#calls.once(place, () => this.os.call("request", { place, to: toPid(to), body, signal, ...options }));
  }

  /** Answers a message that was received. */
  reply(name: string, message: Message, body: unknown): Promise<{ readonly id: string }> {
    return this.send(name, message.from, body, { kind: "reply", replyTo: message.id });
  }

  /**
   * Has another process do a task (see `serve`), and gives its result; what the task costs is that process's. What it
   * reports on the way comes to `onProgress`, once, and after a crash again as far as it was recorded.
   * @throws what the task threw · {ETIMEDOUT} it took longer than `timeoutMs` (default a minute)
   */
  executeOn(name: string, pid: number, task: unknown, options: HandOver = {}): Promise<unknown> {
    const { signal } = this;
    const take = (at: string, replyTo: string, waitMs: number): Promise<Message | null> => {
      const place = this.#placeOf(at);
      const wanted = { asked: toPid(pid), replyTo, waitMs, signal };
      return this.#calls.once(place, () => this.os.call("receive", { place, ...wanted }));
    };
    return heard(handOver(this.#taskSide, take, { name, pid, task }, options));
  }

  /**
   * Tells whoever has handed over the task that is being done (`serve`) how far it is. It is no step: what nobody can
   * hear any more is dropped.
   * @throws {EINVAL} no task is being done here, or there is nothing to tell
   */
  report(progress: unknown): Promise<void> {
    return heard(reportProgress(this.os, this.#scope.task, progress));
  }

  /**
   * Does the tasks that others send, one after the other, each once; ends with the process, or after `idleMs`
   * without one. A program that serves twice gives each time a name of its own (default `task`).
   * @returns how many were done
   */
  serve<Work = unknown>(
    handler: (task: Work, ctx: RunContext<Input>) => unknown,
    options: { readonly idleMs?: number; readonly name?: string } = {},
  ): Promise<number> {
    const work = (name: string, message: Message): unknown =>
      // What is sent is the sender's promise.
      handler(message.body as Work, new RunContext<Input>({ ...this.within(name), task: message }, 1, this.#signal));
    return heard(doTasks(this.#taskSide, work, options));
  }

  get #taskSide(): TaskSide {
    return { ctx: this, platform: this.#scope.process.platform };
  }

  /**
   * Starts a child process; once, over restarts too. The program is one of this host's by its name, code (a pipeline, a
   * plan, a program, a function), or `{ module, export, runtime }`; `{ export }` alone is one of this module. Code is found
   * again after a restart where the host has it by its name; a thread or a child has none that its host could run.
   * @throws {EACCES} {EPERM} this process may not · {EDQUOT} its budget does not hold the child's
   */
  spawn(
    name: string,
    child: SpawnArgs["program"] | Code,
    options: Omit<SpawnArgs, "program" | "place"> = {},
  ): Promise<Pid> {
    const place = this.#placeOf(name);
    return this.#calls.named(place, () =>
      this.os.call("spawn", { place, program: toRunnable(child), name, ...options }),
    );
  }

  /**
   * Waits for another process to end, and gives its result.
   * @throws the error with which it failed · {ECANCELED} a signal has ended it
   */
  wait(name: string, pid: number): Promise<unknown> {
    const wait = async (): Promise<Exit> => this.os.call("wait", { pid: toPid(pid), signal: this.signal });
    const end = this.step(name, wait, { interruptible: true });
    return heard(
      end.then(({ error, signal, result }) => {
        if (error !== undefined) throw fromErrorRecord(error);
        if (signal !== undefined) throw new KernelError("ECANCELED", `process ${pid} was ended by ${signal}`, { pid });
        return result;
      }),
    );
  }

  /**
   * Sleeps, out of memory: nothing of the process runs until a message, a signal, the instant `until` or what happens
   * under `topic` wakes it. Then its program is called again and goes on here. What has happened is in its mailbox.
   */
  hibernate(name: string, options: Hibernation = {}): Promise<void> {
    return heard(this.#hibernate(name, options));
  }

  async #hibernate(name: string, options: Hibernation): Promise<void> {
    const { topic, where, ...rest } = options;
    const subscription = topic === undefined ? undefined : await this.subscribe(`${name}/topic`, topic, where);
    const place = this.#placeOf(name);
    await this.#calls.once(place, () => this.os.call("sleep", { place, ...rest }));
    if (subscription === undefined) return;
    const { id } = subscription;
    await this.step(`${name}/awake`, async () => {
      try {
        await this.os.call("untrigger", { id });
      } catch (error) {
        // An earlier life has taken it back, and died before that was recorded.
        if (!(error instanceof KernelError) || error.code !== "ENOENT") throw error;
      }
    });
  }

  /**
   * Goes on as new with another input: the program is called from its start, and nothing that is recorded counts any
   * more. For what lives long, whose journal would be read at each resumption; its mailbox, its rights and its budget stay,
   * what it has started and made ends. It does not return.
   */
  continueAsNew(input: Input): Promise<never> {
    const over = promised(() => this.os.call("continueAsNew", { input }));
    return heard(over.then(() => Promise.reject(new KernelError("ECANCELED", `process ${this.pid} goes on as new`))));
  }

  /** Ends everything that was started below this process, bottom-up, and gives what each came to; once. */
  collapse(name: string): Promise<readonly Collapsed[]> {
    const place = `${this.#placeOf(name)}/below`;
    return this.step(name, async () => this.os.call("collapse", { place }), { interruptible: true });
  }

  /** Adds a task to a work queue; once, over restarts too. Gives its number. */
  submit(
    name: string,
    queue: string,
    body: unknown,
    options: Omit<TaskRequest, "queue" | "body"> = {},
  ): Promise<number> {
    const place = this.#placeOf(name);
    return this.#calls.named(place, () => this.os.call("submit", { place, queue, body, ...options }));
  }

  /**
   * Waits until a task of a queue is over, and gives its result.
   * @throws the error with which it failed · {ECANCELED} it was cancelled
   */
  async taskEnd(name: string, id: number): Promise<unknown> {
    const place = this.#placeOf(name);
    const { signal } = this;
    const task = await this.#calls.named(place, () => this.os.call("taskEnd", { place, id, signal }));
    if (task.error !== undefined) throw fromErrorRecord(task.error);
    if (task.state !== "completed") throw new KernelError("ECANCELED", `task ${id} was ${task.state}`);
    return task.result;
  }

  /**
   * Does tasks of a queue, one after the other, each with its steps done once; ends with the process, or after
   * `idleMs` without one. While it works on a task it keeps it; what fails is given back and tried again. A program that
   * works on one queue twice gives each time a name of its own.
   * @returns how many were done
   */
  work<Body = unknown>(
    queue: string,
    handler: (body: Body, ctx: RunContext<Input>, task: Task) => unknown,
    options: { readonly idleMs?: number; readonly leaseMs?: number; readonly name?: string } = {},
  ): Promise<number> {
    const { os, signal } = this;
    const { platform } = this.#scope.process;
    const inTask = (name: string): RunContext<Input> => new RunContext<Input>(this.within(name), 1, this.#signal);
    const working = workOn(
      { os, signal, platform, step: (name, work) => this.step(name, work, { interruptible: true }) },
      { placeOf: (name) => this.#placeOf(name), once: (place, act) => this.#calls.once(place, act), inTask },
      {
        queue,
        // What is submitted is the submitter's promise.
        handler: (body, ctx, task) => handler(body as Body, ctx, task),
        ...options,
      },
    );
    return heard(working);
  }

  /** Moves an entity to another state, as its type allows; once, over restarts too. */
  transition(name: string, transit: Transit): Promise<Entity> {
    const place = this.#placeOf(name);
    return this.#calls.named(place, () => this.os.call("transition", { place, ...transit }));
  }

  /**
   * Leaves something behind for others: a text, bytes, or anything else as JSON; once, over restarts too. The processes
   * above and below see it unless `visibility` says otherwise.
   */
  keep(
    name: string,
    content: unknown,
    options: { readonly visibility?: Visibility; readonly mediaType?: string; readonly meta?: unknown } = {},
  ): Promise<Artifact> {
    const place = this.#placeOf(name);
    const { bytes, mediaType } = contentOf(content);
    const artifact = { place, name, bytes, mediaType, ...options };
    return this.#calls.named(place, () => this.os.call("putArtifact", artifact));
  }

  /** Tells everybody who listens to a topic, as `orders.created`; once, over restarts too. */
  publish(name: string, topic: string, body?: unknown): Promise<void> {
    const place = this.#placeOf(name);
    return this.#calls.named(place, () => this.os.call("publish", { place, topic, body }));
  }

  /**
   * Has what happens under a topic sent to this process from now on, each once and over restarts too: `receive` takes
   * it, with a `Happening` as its body. Events of the kernel are topics too, as `process.completed`.
   */
  subscribe(name: string, topic: string, where?: Readonly<Record<string, unknown>>): Promise<Trigger> {
    const place = this.#placeOf(name);
    const own = { place, topic, action: { message: { to: this.pid } }, ...(where === undefined ? {} : { where }) };
    return this.#calls.named(place, () => this.os.call("trigger", own));
  }

  /** Has the kernel do something at an instant, every so often, or by cron, for as long as this process lives. */
  schedule(name: string, request: ScheduleRequest): Promise<Schedule> {
    const place = this.#placeOf(name);
    return this.#calls.named(place, () => this.os.call("schedule", { place, name, ...request }));
  }

  /** Signals that are sent to this process, as they come; TERM and INT also abort `signal`. */
  async *signals(): AsyncGenerator<Signal, void, undefined> {
    yield* await this.os.call("signals", { signal: this.signal });
  }

  /**
   * Wall-clock milliseconds; recorded. Calls without a name are told apart by their order: where branches of a program run
   * side by side, and come by in another order when they are resumed, give each a name.
   */
  now(name?: string): Promise<number> {
    return this.#calls.recorded("now", name, (place) => this.os.call("now", { place }));
  }

  /** A number from 0 up to 1; recorded. Named as `now` is. */
  random(name?: string): Promise<number> {
    return this.#calls.recorded("random", name, (place) => this.os.call("random", { place }));
  }

  /** Waits; a resumed run waits for what is left. Named as `now` is. */
  sleep(ms: number, name?: string): Promise<void> {
    return heard(this.#sleep(ms, name));
  }

  async #sleep(ms: number, name: string | undefined): Promise<void> {
    if (!(ms >= 0 && ms <= LIMITS.sleepMsMax))
      throw new KernelError("EINVAL", `ctx.sleep takes 0 to ${LIMITS.sleepMsMax} milliseconds, found ${ms}`);
    const { signal } = this;
    const from = await this.now(name === undefined ? undefined : `${name}/from`);
    const until = Math.ceil(from + ms);
    await this.#calls.recorded("sleep", name, (place) => this.os.call("sleepUntil", { place, until, signal }));
  }

  /**
   * Takes the lock of a path or a name and keeps it until it is given back, or the process ends; with `maxHolders` a
   * semaphore. It is no step: a resumed run takes it again. `await using lease = await ctx.lock("nightly")`.
   * @throws {EAGAIN} it could not be had in time · {EDEADLK} its holders wait for this process
   */
  lock(path: string, options: LeaseOptions = {}): Promise<Lease> {
    const { place, process } = this.#scope;
    return holdLock(this.os, process.platform, path, {
      ...(place === "" ? {} : { owner: place }),
      signal: this.signal,
      ...options,
    });
  }

  /**
   * Waits until this process leads in an election and keeps the lead until it is given back, lost, or the process ends:
   * then `signal` of the lease aborts, and whoever is next leads. `await using lead = await ctx.elect("indexer")`.
   */
  elect(name: string, options: Pick<LeaseOptions, "ttlMs" | "waitMs" | "signal"> = {}): Promise<Lease> {
    return this.lock(electionOf(name), options);
  }

  /** Writes a line to the run's log; once, where a resumed run comes by again. What a step logs, it logs whenever it is done. */
  log(text: string, level: "debug" | "info" | "warn" | "error" = "info"): Promise<void> {
    const at = this.#runningStep === undefined ? { place: this.#placeOf("log") } : {};
    const line = typeof text === "string" ? shortLine(text) : text;
    return heard(promised(() => this.os.call("log", { ...at, text: line, level })));
  }

  get #runningStep(): RunningStep | undefined {
    return runningStepOf(this.#scope.process);
  }

  #placeOf(name: string): string {
    return this.#calls.placeOf(name);
  }
}
