// The plan runner: a machine that starts each node as soon as what it waits for is done.
//
// R1  A node runs at most once in a life of the run, and not at all if its outcome is recorded.
// R2  No more than `concurrency` nodes are under way; a map counts as one and bounds its items itself.
// R3  After a failure or a cancellation nothing new starts; what runs is told, and its end is awaited.
// R4  Nodes that finish without waiting cost no promise: one loop runs them until none is ready.

import {
  KernelError,
  type Outcome,
  type ProcessContext,
  type Program,
  type ProgramSource,
  describe,
  encodeJson,
  fromErrorRecord,
  isKernelError,
  orAborted,
  takeOutcome,
} from "@ergos/kernel";
import { Skipped, recordOf } from "../failure.ts";
import { elapsed } from "../named-calls.ts";
import { RunContext } from "../run-context.ts";
import { runWork } from "./attempt.ts";
import { tell } from "../tries.ts";
import { withNulls } from "../with-nulls.ts";
import { type Graph, compileGraph } from "./graph.ts";
import { isolated } from "./isolate.ts";
import { type MapProgress, runMap } from "./map-node.ts";
import type { Plan, PlanNode } from "./plan.ts";

/** States of a node; one that waits has the number of nodes that it waits for. */
const RUNNING = -1;
const DONE = -2;
const SKIPPED = -3;
const FAILED = -4;

/** Nodes that may finish in one turn of the loop before others get theirs. */
const TURN_NODES_MAX = 4096;

/** Makes a program of a plan. */
export function planProgram(plan: Plan, source?: ProgramSource): Program {
  const graph = compileGraph(plan);
  return {
    name: plan.name,
    kind: "machine",
    revision: plan.revision,
    source: source ?? { name: plan.name },
    definitions: plan.definitions,
    outdated: (previous) => outdatedPlaces(plan, graph, previous),
    downstream: (steps) => {
      const names = new Set(steps.map(nodeOf));
      const found = downstreamOf(graph, (name) => names.has(name));
      return (place) => found.has(nodeOf(place));
    },
    run: (process) => new PlanRun(plan, graph, process).start(),
  };
}

/** A changed node, and whatever reads it or follows it, runs again; all else keeps its outcomes. */
function outdatedPlaces(
  plan: Plan,
  graph: Graph,
  previous: Readonly<Record<string, string>>,
): (place: string) => boolean {
  const outdated = downstreamOf(graph, (name) => previous[name] !== plan.definitions[name]);
  const known = new Set(graph.nodes.map(({ name }) => name));
  return (place) => outdated.has(nodeOf(place)) || !known.has(nodeOf(place));
}

/** Some nodes, and all that read or follow them. */
function downstreamOf(graph: Graph, isChosen: (name: string) => boolean): ReadonlySet<string> {
  const found = new Set<string>();
  const todo = [...graph.nodes.keys()].filter((at) => isChosen(graph.nodes[at]?.name ?? ""));
  for (let at = todo.pop(); at !== undefined; at = todo.pop()) {
    const name = graph.nodes[at]?.name ?? "";
    if (found.has(name)) continue;
    found.add(name);
    todo.push(...(graph.downstream[at] ?? []));
  }
  return found;
}

/** The node that a place is of. */
const nodeOf = (place: string): string => /^[^/[]+/.exec(place)?.[0] ?? place;

/** What cannot be recorded is a failure, too. */
function asJson(value: unknown): unknown {
  encodeJson(value, "the result");
  return value;
}

/** Why a node has failed before it began. */
interface Failure {
  readonly error: unknown;
}

class PlanRun {
  readonly #plan: Plan;
  readonly #graph: Graph;
  readonly #process: ProcessContext;
  readonly #states: number[];
  readonly #values: unknown[];
  readonly #ready: number[];
  #readyAt = 0;
  #running = 0;
  #over = 0;
  #failed: { readonly node: PlanNode; readonly error: unknown } | undefined;
  #end: PromiseWithResolvers<unknown> | undefined;
  #isPumping = false;
  #isWaiting = false;
  #hasWaited = false;

  constructor(plan: Plan, graph: Graph, process: ProcessContext) {
    const count = graph.nodes.length;
    this.#plan = plan;
    this.#graph = graph;
    this.#process = process;
    this.#states = graph.upstream.map((list) => list.length);
    this.#values = new Array<unknown>(count);
    this.#ready = Array.from(graph.roots);
  }

  /** The result, or a promise of it when any node waits. */
  start(): unknown {
    this.#pump();
    if (this.#isOver) return this.#result();
    this.#end = Promise.withResolvers<unknown>();
    return this.#end.promise;
  }

  get #isOver(): boolean {
    if (this.#running > 0 || this.#isWaiting) return false;
    return this.#over === this.#graph.nodes.length || this.#failed !== undefined || this.#process.isAborted;
  }

  /** Starts what is ready, until nothing is or the bound is reached (R2, R4). */
  #pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    let finishedBefore = this.#over;
    while (this.#readyAt < this.#ready.length && this.#running < this.#plan.concurrency && !this.#isStopping) {
      const { held } = this.#process;
      if (held !== undefined) {
        this.#isPumping = false;
        return this.#waitFor(held);
      }
      const at = this.#ready[this.#readyAt++] ?? 0;
      if (this.#readyAt > 1024) this.#compact();
      this.#startNode(at);
      if (this.#over - finishedBefore >= TURN_NODES_MAX) {
        finishedBefore = this.#over;
        this.#isPumping = false;
        this.#running++;
        this.#hasWaited = true;
        return this.#process.platform.defer(() => {
          this.#running--;
          this.#pumpOn();
        });
      }
    }
    this.#isPumping = false;
  }

  /** Nothing starts as long as its process is held; that it is told to end comes first. */
  #waitFor(held: Promise<void>): void {
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    this.#hasWaited = true;
    const goOn = (): void => {
      this.#isWaiting = false;
      this.#pumpOn();
    };
    orAborted(held, this.#process.signal).then(goOn, goOn);
  }

  #pumpOn(): void {
    try {
      this.#pump();
      this.#settle();
    } catch (error) {
      this.#end?.reject(error);
    }
  }

  get #isStopping(): boolean {
    return this.#failed !== undefined || this.#process.isAborted;
  }

  #compact(): void {
    this.#ready.splice(0, this.#readyAt);
    this.#readyAt = 0;
  }

  #startNode(at: number): void {
    const node = this.#graph.nodes[at];
    if (node === undefined) return;
    let why: string | undefined;
    // What takes the place of a failure does so where the condition fails, too.
    let failure: Failure | undefined;
    try {
      why = this.#reasonToSkip(node, at);
    } catch (error) {
      if (typeof node.recover !== "function") return this.#failNode(at, node, error);
      failure = { error };
    }
    if (why !== undefined) return this.#skip(at, node, why);
    this.#states[at] = RUNNING;
    if (!this.#process.isResumed) return this.#runNode(at, node, failure);
    const recorded = node.kind === "map" ? undefined : this.#process.os.call("stepBegin", { place: node.name });
    if (recorded instanceof Promise)
      return this.#await(
        recorded.then((outcome) => this.#takeOrRun(at, node, outcome, failure)),
        at,
        node,
        undefined,
      );
    if (recorded !== undefined) return this.#take(at, node, recorded);
    this.#runNode(at, node, failure);
  }

  async #takeOrRun(
    at: number,
    node: PlanNode,
    recorded: Outcome | undefined,
    failure: Failure | undefined,
  ): Promise<unknown> {
    if (recorded !== undefined) return takeOutcome(recorded);
    const started = this.#process.platform.clock.monotonic();
    const value = await this.#work(at, node, failure);
    await this.#record(node, value, started);
    return value;
  }

  #take(at: number, node: PlanNode, recorded: Outcome): void {
    try {
      this.#finish(at, takeOutcome(recorded));
    } catch (error) {
      this.#fail(at, node, error);
    }
  }

  #runNode(at: number, node: PlanNode, failure: Failure | undefined): void {
    const process = this.#process;
    if (process.isObserved) tell(process, { name: "node.started", data: { place: node.name, attempt: 1 } });
    const started = process.durable || process.isObserved ? process.platform.clock.monotonic() : 0;
    try {
      const made = this.#work(at, node, failure);
      if (isThenable(made)) return this.#await(Promise.resolve(made), at, node, started);
      const value = withNulls(made);
      const recording = this.#record(node, value, started);
      if (recording === undefined) return this.#finish(at, value);
      this.#await(
        recording.then(() => value),
        at,
        node,
        undefined,
      );
    } catch (error) {
      this.#failNode(at, node, error);
    }
  }

  #work(at: number, node: PlanNode, failure: Failure | undefined): unknown {
    if (typeof node.recover !== "function") return this.#attempt(at, node);
    try {
      if (failure !== undefined) throw failure.error;
      const value = this.#attempt(at, node);
      return isThenable(value)
        ? Promise.resolve(value)
            .then(withNulls)
            .then(asJson)
            .catch((error: unknown) => this.#recover(at, node, error))
        : asJson(withNulls(value));
    } catch (error) {
      return this.#recover(at, node, error);
    }
  }

  #attempt(at: number, node: PlanNode): unknown {
    if (node.map !== undefined) {
      // The output of what a map reads, by name.
      const input = this.#ownInputOf(node, at) as Readonly<Record<string, unknown>>;
      const work = node.map.open(input, this.#process.input ?? {}, this.#process);
      return runMap(this.#process, node, work, (progress) => this.#report(node, progress));
    }
    const scope = { process: this.#process, place: node.name, nodeName: node.name };
    return runWork({
      scope,
      // Each attempt has what the node reads as it was.
      run: (ctx) => node.run(this.#ownInputOf(node, at) as never, ctx),
      retry: node.retry,
      timeoutMs: node.timeoutMs,
    });
  }

  /** What takes the place of a failed node's output. Steps of it have places of their own. */
  #recover(at: number, node: PlanNode, error: unknown): unknown {
    if (this.#process.isAborted || error instanceof Skipped || typeof node.recover !== "function") throw error;
    const scope = { process: this.#process, place: `${node.name}/on_error`, nodeName: node.name };
    const known = fromErrorRecord(recordOf(error, `node ${node.name}`));
    const { recover } = node;
    const ctx = new RunContext<never>(scope, 1);
    const take = (): unknown => recover(known, this.#ownInputOf(node, at) as never, ctx);
    // The outcome of a map is not recorded, those of its items are: so what takes its place is.
    return node.kind === "map" ? ctx.step("result", take) : take();
  }

  /** Records an outcome where there is a journal or a listener; a promise only if it must be awaited. */
  #record(node: PlanNode, value: unknown, started: number): Promise<unknown> | undefined {
    const process = this.#process;
    // The items of a map are steps of their own; writing them once more would double the journal.
    if (node.kind === "map" || (!process.durable && !process.isObserved)) return undefined;
    const recording = process.os.call("stepEnd", {
      place: node.name,
      value,
      ms: elapsed(process, started),
      detached: true,
    });
    return recording instanceof Promise ? recording : undefined;
  }

  #await(value: Promise<unknown>, at: number, node: PlanNode, started: number | undefined): void {
    this.#running++;
    this.#hasWaited = true;
    // The items of a map count one by one.
    if (node.kind !== "map") this.#process.workBegun();
    const failed = (error: unknown): void => {
      this.#nodeOver(node);
      this.#quietly(() => this.#failNode(at, node, error));
      this.#pumpOn();
    };
    const finished = (result: unknown): void => {
      this.#nodeOver(node);
      this.#finish(at, result);
      this.#pumpOn();
    };
    value.then((made) => {
      const result = withNulls(made);
      try {
        const recording = started === undefined ? undefined : this.#record(node, result, started);
        if (recording === undefined) finished(result);
        else recording.then(() => finished(result), failed);
      } catch (error) {
        failed(error);
      }
    }, failed);
  }

  #nodeOver({ kind }: PlanNode): void {
    this.#running--;
    if (kind !== "map") this.#process.workOver();
  }

  #settle(): void {
    if (this.#end === undefined || !this.#isOver) return;
    try {
      this.#end.resolve(this.#result());
    } catch (error) {
      this.#end.reject(error);
    }
  }

  #finish(at: number, value: unknown): void {
    this.#values[at] = value;
    this.#close(at, DONE);
  }

  #close(at: number, state: number): void {
    this.#states[at] = state;
    this.#over++;
    if (this.#hasWaited || this.#process.isObserved) this.#report();
    for (const next of this.#graph.downstream[at] ?? []) {
      const left = (this.#states[next] ?? 0) - 1;
      this.#states[next] = left;
      if (left === 0) this.#ready.push(next);
    }
  }

  #failNode(at: number, node: PlanNode, error: unknown): void {
    if (this.#process.isAborted) {
      this.#states[at] = FAILED;
      if (this.#process.isObserved) tell(this.#process, { name: "node.cancelled", data: { place: node.name } });
      return;
    }
    if (error instanceof Skipped) return this.#skip(at, node, error.message);
    if (node.kind !== "map" && (this.#process.durable || this.#process.isObserved)) {
      const record = recordOf(error, `node ${node.name}`);
      this.#quietly(() =>
        this.#process.os.call("stepEnd", {
          place: node.name,
          error: record,
          detached: true,
          ...(node.recover === "skip" ? { kept: true } : {}),
        }),
      );
    }
    this.#fail(at, node, error);
  }

  #fail(at: number, node: PlanNode, error: unknown): void {
    if (node.recover === "skip") return this.#skip(at, node, `it failed: ${describe(error)}`);
    this.#states[at] = FAILED;
    this.#over++;
    if (this.#failed !== undefined) return;
    this.#failed = { node, error };
    // What still runs is told; its end is awaited (R3).
    if (this.#running > 0) this.#process.abort(new KernelError("ECANCELED", `node ${node.name} has failed`));
  }

  #skip(at: number, node: PlanNode, why: string): void {
    if (this.#process.durable || this.#process.isObserved)
      this.#quietly(() => this.#process.os.call("stepSkip", { place: node.name, why }));
    this.#close(at, SKIPPED);
  }

  #reasonToSkip(node: PlanNode, at: number): string | undefined {
    if (!node.allowSkipped) {
      // What it only follows may have been skipped; what it reads may not.
      for (let index = 0; index < node.needs.length; index++) {
        const up = this.#graph.upstream[at]?.[index] ?? 0;
        if (this.#states[up] === SKIPPED) return `${this.#graph.nodes[up]?.name ?? ""} was skipped`;
      }
    }
    if (node.when === undefined) return undefined;
    try {
      return node.when(this.#inputOf(node, at) as never, this.#process.input ?? {}, this.#process)
        ? undefined
        : "its condition is false";
    } catch (error) {
      throw new KernelError("EFAILED", `its condition failed: ${describe(error)}`, { cause: error });
    }
  }

  /** What a node reads, and may change: nobody else has it. */
  #ownInputOf(node: PlanNode, at: number): unknown {
    return this.#inputOf(node, at, node.isReader === true ? asItIs : isolated);
  }

  #inputOf(node: PlanNode, at: number, take: (value: unknown) => unknown = asItIs): unknown {
    const { needs } = node;
    if (needs.length === 0) return take(this.#process.input) ?? {};
    const up = this.#graph.upstream[at];
    const input: Record<string, unknown> = {};
    for (let index = 0; index < needs.length; index++) input[needs[index] ?? ""] = take(this.#values[up?.[index] ?? 0]);
    return input;
  }

  /** Nothing waits for these calls: that a process has ended, or that a hook refuses, shows elsewhere. */
  #quietly(call: () => unknown): void {
    try {
      const answer = call();
      if (answer instanceof Promise) answer.catch(() => undefined);
    } catch {
      // As above.
    }
  }

  #report(node?: PlanNode, progress?: MapProgress): void {
    if (progress === undefined || node === undefined) {
      this.#quietly(() => this.#process.os.call("progress", { done: this.#over, total: this.#graph.nodes.length }));
      return;
    }
    this.#quietly(() =>
      this.#process.os.call("progress", { done: progress.done, total: progress.total, label: node.name }),
    );
  }

  #result(): unknown {
    if (this.#failed !== undefined) throw this.#failure(this.#failed.node, this.#failed.error);
    if (this.#process.isAborted) this.#process.signal.throwIfAborted();
    const { nodes, output, sinks } = this.#graph;
    if (this.#plan.result !== undefined) {
      const outputs = nodes.flatMap(({ name }, at): [string, unknown][] =>
        this.#states[at] === DONE ? [[name, this.#values[at]]] : [],
      );
      return this.#plan.result(new Map(outputs), this.#process.input ?? {}, this.#process);
    }
    if (output !== undefined) return this.#values[output];
    if (sinks.length === 1) return this.#values[sinks[0] ?? 0];
    return Object.fromEntries(Array.from(sinks, (at) => [nodes[at]?.name ?? "", this.#values[at]]));
  }

  #failure(node: PlanNode, error: unknown): KernelError {
    const notRun = this.#graph.nodes
      .filter((_node, at) => (this.#states[at] ?? 0) >= 0 || this.#states[at] === SKIPPED)
      .map(({ name }) => name);
    const rest =
      notRun.length === 0
        ? ""
        : `; not run: ${notRun.slice(0, 20).join(", ")}${notRun.length > 20 ? ` and ${notRun.length - 20} more` : ""}`;
    // What no other attempt mends does not come to be mendable on the way up.
    const code = isKernelError(error) && error.code === "ETERMINAL" ? error.code : "EFAILED";
    return new KernelError(
      code,
      `node ${node.name} failed: ${describe(error).replace(/^\[(?:EFAILED|ETERMINAL)\] /, "")}${rest}`,
      {
        pid: this.#process.pid,
        cause: error,
      },
    );
  }
}

const asItIs = (value: unknown): unknown => value;

/** A promise, of whatever make: user code may return that of a library. */
const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === "object" && value !== null && "then" in value && typeof value.then === "function";
