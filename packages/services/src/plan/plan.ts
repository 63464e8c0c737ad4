// Plans: pipelines written in code, with inputs and outputs typed along the edges.
//
//   pipeline<{ dir: string }>("digest")
//     .node("scan", ({ dir }, ctx) => ctx.os.fs.readdir(dir))
//     .map("read", { over: "scan", concurrency: 8 }, (entry, ctx) => ctx.os.fs.readText(entry.name))
//     .node("count", { needs: ["read"] }, ({ read }) => read.length);

import { hash } from "node:crypto";
import { KernelError, LIMITS, type ProcessContext } from "@ergos/kernel";
import type { RunContext } from "../run-context.ts";
import { type Retry, type TryOptions, assertTries } from "../tries.ts";

const BRAND = Symbol.for("ergos.plan");

export interface NodeOptions<Needs, When> extends TryOptions {
  /** Nodes whose outputs this one reads. */
  readonly needs?: Needs;
  /** Nodes that must be done before, without reading them. */
  readonly after?: readonly string[];
  /** The node is skipped, and what needs it too, when this is false. Reads only its input. */
  readonly when?: When;
  /** Runs although something it needs was skipped; that input is then undefined. */
  readonly allowSkipped?: boolean;
  /**
   * Which version of its work this is. Without one its functions' texts say so, comments included: where those change,
   * runs under way do the node again. With one its outcomes count for as long as it stays the same.
   */
  readonly version?: string;
}

export interface MapOptions<Over, Needs> extends Omit<NodeOptions<Needs, never>, "when"> {
  /** The node whose output, an array, is mapped. */
  readonly over: Over;
  /** Items under way at the same time (default 16). */
  readonly concurrency?: number;
  /** A stable name of an item for its place in the journal; its index unless given. */
  readonly key?: (item: never, index: number) => string;
  /**
   * `fail` (default) ends the node at the first failed item, `collect` gives each result as
   * `{ value }` or `{ error }`, `drop` leaves failed items out.
   */
  readonly onError?: "fail" | "collect" | "drop";
}

type AnyFunction = (input: never, ctx: RunContext<never>) => unknown;

export interface PlanNode {
  readonly name: string;
  readonly kind: "function" | "map";
  readonly needs: readonly string[];
  readonly after: readonly string[];
  readonly run: AnyFunction;
  /** Gets what the node reads, the run's input, and the process. */
  readonly when?: (input: never, runInput: unknown, process: Facts) => boolean;
  /** It changes nothing of what it reads, so that this need not be copied for it. */
  readonly isReader?: boolean;
  readonly allowSkipped: boolean;
  readonly version?: string;
  readonly retry?: Retry;
  readonly timeoutMs?: number;
  /** What takes the place of a failed node's output; or that it counts as skipped. */
  readonly recover?: "skip" | ((error: KernelError, input: never, ctx: RunContext<never>) => unknown);
  readonly map?: {
    readonly over: string;
    readonly concurrency: number;
    /** A function says what each item is called. */
    readonly isKeyed?: true;
    readonly onError: "fail" | "collect" | "drop";
    /** The items and what is done with them, from what the node reads. */
    readonly open: (input: Readonly<Record<string, unknown>>, runInput: unknown, process: Facts) => MapWork;
  };
  /** Names what the node does where its functions' texts do not tell. */
  readonly definition?: string;
}

/** What conditions may know of the run that they are part of. */
export type Facts = Pick<ProcessContext, "runId" | "pid" | "name">;

export interface MapWork {
  readonly items: unknown;
  /** A stable name of an item for its place in the journal; its index unless given. */
  readonly key?: (item: unknown, index: number) => string;
  readonly run: (item: unknown, index: number, ctx: RunContext<never>) => unknown;
  /** Makes the node's output of the results; throws what fails the node. */
  readonly finish?: (results: readonly unknown[]) => unknown;
}

export interface Plan {
  readonly [BRAND]: true;
  readonly name: string;
  readonly nodes: readonly PlanNode[];
  /** The node whose output is the result; without it, the outputs of all nodes that nothing needs. */
  readonly output: string | undefined;
  readonly concurrency: number;
  /** Makes the result of the outputs by name, in place of `output`. */
  readonly result?: (outputs: ReadonlyMap<string, unknown>, runInput: unknown, process: Facts) => unknown;
  /** Hash of everything that decides what the plan does. */
  readonly revision: string;
  /** Hash of each node's definition. */
  readonly definitions: Readonly<Record<string, string>>;
}

type ItemOf<T> = T extends readonly (infer Item)[] ? Item : never;
type Named<Name extends string, Value> = { readonly [Key in Name]: Value };

/** A plan under construction. Each call returns the plan with one more node, typed. */
export class PipelineBuilder<Input, Nodes, Output = unknown> {
  /** Only for types: what goes in, and what comes out where that was chosen. */
  declare readonly types?: { readonly input: Input; readonly output: Output };
  readonly #name: string;
  readonly #nodes: readonly PlanNode[];
  readonly #output: string | undefined;
  readonly #concurrency: number;

  constructor(name: string, nodes: readonly PlanNode[], output: string | undefined, concurrency: number) {
    this.#name = name;
    this.#nodes = nodes;
    this.#output = output;
    this.#concurrency = concurrency;
  }

  /** Adds a node that reads the run's input. */
  node<Name extends string, Output>(
    name: Name,
    run: (input: Input, ctx: RunContext<Input>) => Output,
  ): PipelineBuilder<Input, Nodes & Named<Name, Awaited<Output>>>;
  /** The same, with options. */
  node<Name extends string, Output>(
    name: Name,
    options: NodeOptions<undefined, (input: Input) => boolean> & { readonly needs?: undefined },
    run: (input: Input, ctx: RunContext<Input>) => Output,
  ): PipelineBuilder<Input, Nodes & Named<Name, Awaited<Output>>>;
  /** Adds a node that reads the outputs of others. */
  node<Name extends string, Needs extends readonly (keyof Nodes & string)[], Output>(
    name: Name,
    options: NodeOptions<Needs, (input: Pick<Nodes, Needs[number]>) => boolean> & {
      readonly needs: Needs;
      readonly allowSkipped?: false;
    },
    run: (input: Pick<Nodes, Needs[number]>, ctx: RunContext<Input>) => Output,
  ): PipelineBuilder<Input, Nodes & Named<Name, Awaited<Output>>>;
  /** Adds a node that reads the outputs of others, also where some of them were skipped. */
  node<Name extends string, Needs extends readonly (keyof Nodes & string)[], Output>(
    name: Name,
    options: NodeOptions<Needs, (input: Partial<Pick<Nodes, Needs[number]>>) => boolean> & {
      readonly needs: Needs;
      readonly allowSkipped: boolean;
    },
    run: (input: Partial<Pick<Nodes, Needs[number]>>, ctx: RunContext<Input>) => Output,
  ): PipelineBuilder<Input, Nodes & Named<Name, Awaited<Output>>>;
  node(
    name: string,
    optionsOrRun: NodeOptions<readonly string[] | undefined, (input: never) => boolean> | AnyFunction,
    maybeRun?: AnyFunction,
  ): PipelineBuilder<Input, never> {
    const options = typeof optionsOrRun === "function" ? {} : optionsOrRun;
    this.#assertOptions(name, options, NODE_OPTIONS);
    const run = typeof optionsOrRun === "function" ? optionsOrRun : maybeRun;
    return this.#with({
      name,
      kind: "function",
      ...common(options),
      run: asFunction(run, name),
      ...(options.when === undefined ? {} : { when: options.when }),
    });
  }

  /** Adds a node that does the same to each item of an array. */
  map<Name extends string, Over extends keyof Nodes & string, Output>(
    name: Name,
    options: MapOptions<Over, readonly never[]> & {
      readonly onError?: "fail" | "drop";
      readonly key?: (item: ItemOf<Nodes[Over]>, index: number) => string;
    },
    run: (item: ItemOf<Nodes[Over]>, ctx: RunContext<Input>) => Output,
  ): PipelineBuilder<Input, Nodes & Named<Name, readonly Awaited<Output>[]>>;
  map<Name extends string, Over extends keyof Nodes & string, Output>(
    name: Name,
    options: MapOptions<Over, readonly never[]> & {
      readonly onError: "collect";
      readonly key?: (item: ItemOf<Nodes[Over]>, index: number) => string;
    },
    run: (item: ItemOf<Nodes[Over]>, ctx: RunContext<Input>) => Output,
  ): PipelineBuilder<
    Input,
    Nodes & Named<Name, readonly ({ readonly value: Awaited<Output> } | { readonly error: string })[]>
  >;
  map(name: string, options: MapOptions<string, readonly never[]>, run: AnyFunction): PipelineBuilder<Input, never> {
    const { over, concurrency = 16, key, onError = "fail" } = options;
    this.#assertOptions(name, options, MAP_OPTIONS);
    if (!["fail", "collect", "drop"].includes(onError))
      throw invalid(this.#name, `map ${name} takes onError fail, collect or drop, found ${onError}`);
    if (!Number.isSafeInteger(concurrency) || concurrency < 1)
      throw invalid(this.#name, `map ${name} needs a concurrency of at least 1, found ${concurrency}`);
    const work = asFunction(run, name);
    // The builder's signature has tied `key` and `run` to the items of `over`.
    const keyOf = key as ((item: unknown, index: number) => string) | undefined;
    return this.#with({
      name,
      kind: "map",
      ...common(options),
      needs: [over],
      run: work,
      definition: JSON.stringify(
        options.version === undefined ? [work.toString(), key?.toString(), over, onError] : [over, onError],
      ),
      map: {
        over,
        concurrency,
        ...(key === undefined ? {} : { isKeyed: true as const }),
        onError,
        open: (input) => ({
          items: input[over],
          ...(keyOf === undefined ? {} : { key: keyOf }),
          run: (item, _index, ctx) => work(item as never, ctx),
        }),
      },
    });
  }

  /** Chooses the node whose output is the result of the run. */
  output<Name extends keyof Nodes & string>(name: Name): PipelineBuilder<Input, Nodes, Nodes[Name]> {
    if (!this.#nodes.some((node) => node.name === name))
      throw invalid(this.#name, `no node ${JSON.stringify(name)} can be the output`);
    return new PipelineBuilder(this.#name, this.#nodes, name, this.#concurrency);
  }

  /** The finished plan. */
  build(): Plan {
    const definitions = Object.fromEntries(
      this.#nodes.map((node) => [node.name, hash("sha256", JSON.stringify(describeNode(node)), "hex").slice(0, 32)]),
    );
    return {
      [BRAND]: true,
      name: this.#name,
      nodes: this.#nodes,
      output: this.#output,
      concurrency: this.#concurrency,
      revision: hash("sha256", JSON.stringify([this.#name, this.#output, definitions]), "hex"),
      definitions,
    };
  }

  /** @throws {EINVAL} nobody knows an option: it would be ignored without a word */
  #assertOptions(name: string, options: object, known: readonly string[]): void {
    const unknown = Object.keys(options).find((one) => !known.includes(one));
    if (unknown !== undefined)
      throw invalid(this.#name, `${name} has no option ${JSON.stringify(unknown)}; there are ${known.join(", ")}`);
  }

  #with(node: PlanNode): PipelineBuilder<Input, never> {
    assertNode(this.#name, this.#nodes, node);
    return new PipelineBuilder<Input, never>(this.#name, [...this.#nodes, node], this.#output, this.#concurrency);
  }
}

/**
 * Begins a plan.
 * @throws {EINVAL} a name is empty or used twice, a needed node does not exist
 */
export function pipeline<Input = Record<string, never>>(
  name: string,
  options: { readonly concurrency?: number } = {},
): PipelineBuilder<Input, Record<never, never>> {
  if (name === "") throw new KernelError("EINVAL", "a pipeline needs a name");
  const { concurrency = 64 } = options;
  if (!Number.isSafeInteger(concurrency) || concurrency < 1) {
    throw invalid(name, `the concurrency must be a whole number of at least 1, found ${concurrency}`);
  }
  return new PipelineBuilder(name, [], undefined, options.concurrency ?? 64);
}

/** Recognises a plan, also one of another copy of this package. */
export function isPlan(value: unknown): value is Plan {
  return typeof value === "object" && value !== null && BRAND in value;
}

export interface PlanOptions {
  readonly output?: string;
  readonly concurrency?: number;
  readonly result?: Plan["result"];
  /** What else decides what the plan does; part of its revision. */
  readonly definition?: string;
}

/** Makes a plan of nodes directly, for compilers and generators; the nodes may stand in any order. */
export function createPlan(name: string, nodes: readonly PlanNode[], options: PlanOptions = {}): Plan {
  const known = new Map<string, PlanNode>();
  for (const node of nodes) {
    assertName(name, node.name);
    if (known.has(node.name)) throw invalid(name, `two nodes are called ${JSON.stringify(node.name)}`);
    known.set(node.name, node);
  }
  const plan = new PipelineBuilder(name, nodes, options.output, options.concurrency ?? 64).build();
  const revision =
    options.definition === undefined
      ? plan.revision
      : hash("sha256", JSON.stringify([plan.revision, options.definition]), "hex");
  return { ...plan, revision, ...(options.result === undefined ? {} : { result: options.result }) };
}

const COMMON_OPTIONS = ["after", "allowSkipped", "version", "retry", "timeoutMs"];
const NODE_OPTIONS = ["needs", "when", ...COMMON_OPTIONS];
const MAP_OPTIONS = ["over", "concurrency", "key", "onError", ...COMMON_OPTIONS];

const common = (
  options: Omit<NodeOptions<readonly string[] | undefined, never>, "when">,
): Pick<PlanNode, "needs" | "after" | "allowSkipped" | "version" | "retry" | "timeoutMs"> => ({
  needs: options.needs ?? [],
  after: options.after ?? [],
  allowSkipped: options.allowSkipped === true,
  ...(options.version === undefined ? {} : { version: options.version }),
  ...(options.retry === undefined ? {} : { retry: options.retry }),
  ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
});

function asFunction(run: unknown, name: string): AnyFunction {
  if (typeof run !== "function") throw new KernelError("EINVAL", `node ${name} needs a function, found ${typeof run}`);
  // A function is all that can be checked here; its types were checked by the builder's signature.
  return run as AnyFunction;
}

const invalid = (plan: string, why: string): KernelError => new KernelError("EINVAL", `pipeline ${plan}: ${why}`);

function assertName(plan: string, name: string): void {
  if (typeof name !== "string") throw invalid(plan, `a node needs a name, found ${typeof name}`);
  if (!/^[A-Za-z_][A-Za-z0-9_.-]{0,127}$/.test(name)) {
    throw invalid(plan, `${JSON.stringify(name)} is no node name; use letters, digits, _ . - and begin with a letter`);
  }
}

function assertNode(plan: string, nodes: readonly PlanNode[], node: PlanNode): void {
  assertName(plan, node.name);
  if (nodes.length >= LIMITS.planNodesMax) throw invalid(plan, `more than ${LIMITS.planNodesMax} nodes`);
  if (nodes.some((other) => other.name === node.name))
    throw invalid(plan, `two nodes are called ${JSON.stringify(node.name)}`);
  for (const need of [...node.needs, ...node.after]) {
    if (!nodes.some((other) => other.name === need)) {
      throw invalid(
        plan,
        `node ${node.name} needs ${JSON.stringify(need)}, which is not defined before it; known are ${nodes.map((other) => other.name).join(", ") || "none"}`,
      );
    }
  }
  assertTries(`pipeline ${plan}: node ${node.name}`, node);
}

const describeNode = (node: PlanNode): unknown => [
  node.name,
  node.kind,
  node.needs,
  node.after,
  ...(node.version === undefined
    ? [node.definition ?? node.run.toString(), node.when?.toString()]
    : [node.definition, { version: node.version }]),
  node.allowSkipped,
];
