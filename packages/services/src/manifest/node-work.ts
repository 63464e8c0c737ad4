// What the nodes of a document do, bound to code: of the pipeline itself, and of bodies inside of nodes.

import type { NodeDocument, OutcomeSpec } from "@ergos/compiler";
import { type Scope, objectScope } from "@ergos/compiler/expression";
import {
  type ErrorRecord,
  KernelError,
  assertValid,
  encodeJson,
  fromErrorRecord,
  linkSignal,
  plainMessage,
  validate,
} from "@ergos/kernel";
import { runWork } from "../plan/attempt.ts";
import { runItems } from "../plan/items.ts";
import type { Retry } from "../tries.ts";
import { Skipped, failedText, failureOf, recordOf } from "../failure.ts";
import { RunContext } from "../run-context.ts";
import { isolated } from "../plan/isolate.ts";
import { type Computed, type Environment, Evaluation, masked } from "./evaluation.ts";
import { bindLlm, callOptions } from "./llm-node.ts";

type Ctx = RunContext<never>;
/** What a node gets that maps nothing and reads nothing: the input of the run, or in the body of a map its item. */
interface Given {
  readonly input: unknown;
}
/** Does the work of a node; `scope` holds the names that its expressions use. */
type NodeRun = (scope: Scope, ctx: Ctx, needs: Readonly<Record<string, unknown>>, given: Given) => unknown;
/** Does what a body, or a value in its place, says. */
type BodyRun = (scope: Scope, ctx: Ctx, given?: Given) => unknown;

export interface NodeWork {
  readonly document: NodeDocument;
  readonly when: Computed<boolean> | undefined;
  readonly retry: Retry | undefined;
  readonly run: NodeRun;
  readonly recover:
    | "skip"
    | ((error: KernelError, scope: Scope, ctx: Ctx, needs: Readonly<Record<string, unknown>>, given?: Given) => unknown)
    | undefined;
  /** Of a map: the items, the keys, and what is done with each. */
  readonly map: MapBinding | undefined;
}

interface MapBinding extends MapParts {
  /** The scope of a map of the pipeline: its checked input and what it maps. */
  readonly scopeOf: (scope: Scope, runInput: unknown, needs: Readonly<Record<string, unknown>>) => Scope;
}

interface MapParts {
  readonly items: Computed;
  readonly key: ((scope: Scope, item: unknown, index: number) => string) | undefined;
  readonly each: (scope: Scope, item: unknown, index: number, ctx: Ctx) => unknown;
}

export interface BindParts {
  readonly environment: Environment;
  /** The function that a module exports, loaded before. */
  readonly functionOf: (module: string, name: string, where: string) => (input: unknown, ctx: Ctx) => unknown;
}

/** A model is asked again when it refuses for a while or its connection breaks. */
const MODEL_RETRY: Retry = { attempts: 3, delayMs: 500, onlyTransient: true };

export function bindNode(document: NodeDocument, parts: BindParts): NodeWork {
  const evaluation = new Evaluation(`node ${document.name} (${document.at})`, parts.environment);
  const inner = bindKind(document, evaluation, parts);
  const map = document.kind === "map" ? bindMap(document, evaluation, parts) : undefined;
  const { when, onError, retry } = document;
  const inputOf = bindInput(document, evaluation);
  const handler =
    onError === undefined || onError === "skip" ? undefined : bindOutcome(onError, evaluation, parts, "on_error");
  return {
    document,
    when: when === undefined ? undefined : evaluation.condition(when, "when"),
    retry: retry ?? (document.kind === "llm" ? MODEL_RETRY : undefined),
    run: (scope, ctx, needs, given) => {
      const input = inputOf(scope, needs, given.input);
      return masking(parts.environment, () => checkOutput(inner(input.scope, ctx, input.value, given), document));
    },
    recover:
      onError === "skip"
        ? "skip"
        : handler === undefined
          ? undefined
          : (error, scope, ctx, needs, given = ctx) =>
              handler(
                errorScope(error, () => inputOf(scope, needs, given.input).scope, scope),
                ctx,
                given,
              ),
    map:
      map === undefined
        ? undefined
        : { ...map, scopeOf: (scope, runInput, needs) => inputOf(scope, needs, runInput).scope },
  };
}

/** What a handler of a failure sees: the error, and the names of the node; those of its mapping unless that has failed. */
function errorScope(error: KernelError, inner: () => Scope, outer: Scope): Scope {
  let around = outer;
  try {
    around = inner();
  } catch {
    // The mapping is what has failed, and the error says so.
  }
  return objectScope({ error: errorFields(error) }, around);
}

/** Secrets of the environment do not leave a node in its errors. */
function masking(environment: Environment, work: () => unknown): unknown {
  const clean = (error: unknown): never => {
    throw masked(error, environment);
  };
  try {
    const value = work();
    return value instanceof Promise ? value.catch(clean) : value;
  } catch (error) {
    return clean(error);
  }
}

/** The node's input and the scope of its expressions. */
function bindInput(
  document: NodeDocument,
  evaluation: Evaluation,
): (
  scope: Scope,
  needs: Readonly<Record<string, unknown>>,
  runInput: unknown,
) => { readonly scope: Scope; readonly value: unknown } {
  const { input, inputValue, inputSchema } = document;
  const mapping = input === undefined ? undefined : evaluation.value(input, "input_mapping");
  const whole = inputValue === undefined ? undefined : evaluation.expression(inputValue, "input_mapping");
  return (scope, needs, runInput) => {
    // A mapping gives an object of its fields.
    const fields = mapping?.(scope) as Readonly<Record<string, unknown>> | undefined;
    const value = whole === undefined ? (fields ?? (document.needs.length === 0 ? runInput : needs)) : whole(scope);
    if (inputSchema !== undefined)
      assertValid(inputSchema, value, `the input of node ${document.name} (${document.at})`);
    return { scope: fields === undefined ? scope : objectScope(fields, scope), value };
  };
}

/** The output, held against its schema; a model's answer was held against it when it was read. */
export function checkOutput(output: unknown, document: NodeDocument): unknown {
  const { outputSchema } = document;
  if (outputSchema === undefined || document.kind === "llm") return output;
  if (output instanceof Promise) return output.then((value: unknown) => checkOutput(value, document));
  const issues = validate(outputSchema, output);
  if (issues.length === 0) return output;
  const list = issues.map(({ path, message }) => `${path.join(".") || "it"} ${message}`).join("; ");
  // Another attempt may do better, unlike with an input that does not fit.
  throw new KernelError(
    "EFAILED",
    `the output of node ${document.name} (${document.at}) does not fit its schema: ${list}`,
  );
}

function bindKind(
  document: NodeDocument,
  evaluation: Evaluation,
  parts: BindParts,
): (scope: Scope, ctx: Ctx, input: unknown, given: Given) => unknown {
  switch (document.kind) {
    case "function": {
      const { module, export: name } = document.config;
      const call = parts.functionOf(module, name, `node ${document.name} (${document.at})`);
      return (_scope, ctx, input) => call(isolated(input), ctx);
    }
    case "expression":
      return bindExpressions(document.config, evaluation);
    case "llm":
      return bindLlm(document.config, document.outputSchema, evaluation);
    case "tool": {
      const { tool } = document.config;
      const args = evaluation.value(document.config.arguments, "arguments");
      return (scope, ctx) =>
        // An object of arguments, as the compiler has checked.
        ctx.call(
          "call",
          tool,
          isolated(args(scope)) as Readonly<Record<string, unknown>>,
          callOptions(document.config),
        );
    }
    case "map": {
      const map = bindMap(document, evaluation, parts);
      const { concurrency, onItemError } = document.config;
      const { key } = map;
      const { retry, timeoutMs } = document;
      // A map inside of a body: its items are parts of the part that it stands in.
      return (scope, ctx) =>
        runItems({
          name: `${document.name} (${document.at})`,
          items: map.items(scope),
          source: document.config.items,
          concurrency,
          onError: onItemError === "continue" ? "drop" : onItemError,
          signal: ctx.signal,
          turn: () => ctx.turn(),
          key: key === undefined ? undefined : (item, index) => key(scope, item, index),
          each: (item, index, name, signal) => {
            const place = `[${name}]`;
            const run = (inner: Ctx): unknown => map.each(scope, item, index, inner);
            return innerItem(ctx, place, onItemError === "fail", () =>
              runWork({ scope: ctx.within(place), run, retry, timeoutMs, signal }),
            );
          },
        });
    }
    case "branch": {
      const branch = bindBranch(document, evaluation, parts);
      return (scope, ctx, _input, given) => branch(scope, ctx, given);
    }
    default:
      return document satisfies never;
  }
}

/** An item of a map inside of a body is a step, whatever it came to. */
async function innerItem(ctx: Ctx, place: string, failsAll: boolean, work: () => unknown): Promise<unknown> {
  const done = async (): Promise<Recorded> => {
    try {
      return { value: await work() };
    } catch (error) {
      if (error instanceof Skipped) return { skipped: error.message };
      if (failsAll || ctx.signal.aborted) throw error;
      return { error: recordOf(error, place) };
    }
  };
  const outcome = innerOf(await ctx.step(place, done, { interruptible: true }));
  if ("skipped" in outcome) throw new Skipped(outcome.skipped);
  if ("error" in outcome) throw fromErrorRecord(outcome.error);
  return outcome.value;
}

/** What is recorded of a part of a body; what a person has given instead may be its value as it is. */
function innerOf(recorded: unknown): Recorded {
  const fields =
    typeof recorded === "object" && recorded !== null ? (recorded as Readonly<Record<string, unknown>>) : undefined;
  const keys = fields === undefined ? ["none"] : Object.keys(fields);
  const isOne =
    keys.every((key) => key === "value") ||
    (typeof fields?.["skipped"] === "string" && keys.every((key) => key === "skipped" || key === "failure")) ||
    (keys.every((key) => key === "error") && isErrorRecord(fields?.["error"]));
  // Made here, by its fields.
  return isOne ? (recorded as Recorded) : { value: recorded };
}

const isErrorRecord = (error: unknown): boolean =>
  typeof error === "object" &&
  error !== null &&
  "code" in error &&
  "message" in error &&
  typeof error.message === "string";

type Recorded = Inner | { readonly error: ErrorRecord };

function bindExpressions(
  config: Extract<NodeDocument, { kind: "expression" }>["config"],
  evaluation: Evaluation,
): (scope: Scope) => unknown {
  if ("value" in config) return evaluation.value(config.value, "value");
  const list = Object.entries(config.expressions).map(
    ([name, text]) => [name, evaluation.expression(text, `expressions.${name}`)] as const,
  );
  return (scope) => {
    // No name is more than a name here.
    const made = Object.create(null) as Record<string, unknown>;
    const inner = objectScope(made, scope);
    for (const [name, value] of list) made[name] = value(inner);
    return Object.fromEntries(Object.entries(made));
  };
}

function bindOutcome(outcome: OutcomeSpec, evaluation: Evaluation, parts: BindParts, field: string): BodyRun {
  if ("value" in outcome) return evaluation.value(outcome.value, `${field}.value`);
  return bindBody(outcome.body, parts);
}

function bindBranch(
  document: Extract<NodeDocument, { kind: "branch" }>,
  evaluation: Evaluation,
  parts: BindParts,
): BodyRun {
  const cases = document.config.cases.map((one, at) => ({
    when: evaluation.condition(one.when, `cases[${at}].when`),
    run: bindOutcome(one, evaluation, parts, `cases[${at}]`),
  }));
  const otherwise =
    document.config.else === undefined ? undefined : bindOutcome(document.config.else, evaluation, parts, "else");
  return (scope, ctx, given) => {
    const taken = cases.find(({ when }) => when(scope));
    if (taken !== undefined) return taken.run(scope, ctx, given);
    if (otherwise === undefined) throw new Skipped("no case is true");
    return otherwise(scope, ctx, given);
  };
}

function bindMap(document: Extract<NodeDocument, { kind: "map" }>, evaluation: Evaluation, parts: BindParts): MapParts {
  const { items, item: itemName, key } = document.config;
  const body = bindBody(document.config.body, parts);
  const scopeOf = (scope: Scope, item: unknown, index: number): Scope =>
    objectScope({ [itemName]: item ?? null, index }, scope);
  const keyOf = key === undefined ? undefined : evaluation.expression(key, "key");
  const itemsOf = evaluation.expression(items, "items");
  return {
    items: (scope) => itemsOf(scope),
    key:
      keyOf === undefined
        ? undefined
        : (scope, item, index) => assertKey(keyOf(scopeOf(scope, item, index)), document, index),
    each: (scope, item, index, ctx) =>
      body(withContext(scopeOf(scope, item, index), ctx), ctx, { input: item ?? null }),
  };
}

/** @throws {EINVAL} nothing is known by it */
function assertKey(key: unknown, { name, at }: NodeDocument, index: number): string {
  if (typeof key === "string" || typeof key === "number") return String(key);
  const found = key === null ? "none" : Array.isArray(key) ? "a list" : typeof key;
  throw new KernelError(
    "EINVAL",
    `the key of item ${index} of map ${name} (${at}) is ${found}; it is a text or a number`,
  );
}

/** Nodes inside of a node: each starts when those that it reads are over; the last one's output counts. */
function bindBody(documents: readonly NodeDocument[], parts: BindParts): BodyRun {
  const works = documents.map((document) => bindNode(document, parts));
  const [only] = works;
  if (works.length === 1 && only !== undefined) return (scope, ctx, given = ctx) => runAlone(only, scope, ctx, given);
  const last = documents.at(-1)?.name ?? "";
  return async (scope, ctx, given = ctx) => {
    // The first failure ends the body: nothing new starts, and what runs is told and awaited.
    const controller = new AbortController();
    const unlink = linkSignal(ctx.signal, controller);
    const outcomes = new Map<string, Promise<Inner>>();
    const start = (work: NodeWork): Promise<Inner> => {
      const { name, needs, after } = work.document;
      const known = outcomes.get(name);
      if (known !== undefined) return known;
      const needed = works.filter(({ document }) => needs.includes(document.name));
      const followed = works.filter(({ document }) => after.includes(document.name));
      // Begun in a turn of its own: a long chain would need as deep a stack.
      const outcome = Promise.resolve()
        .then(() => Promise.all([...needed, ...followed].map(start)))
        .then((above) => {
          controller.signal.throwIfAborted();
          return innerOutcome(work, needed, above, { scope, ctx: ctx.under(controller.signal), given });
        })
        .catch((error: unknown) => {
          controller.abort(error);
          throw error;
        });
      outcomes.set(name, outcome);
      return outcome;
    };
    try {
      const all = await Promise.allSettled(works.map(start));
      if (controller.signal.aborted) throw controller.signal.reason;
      const result = all[documents.findIndex(({ name }) => name === last)];
      if (result?.status !== "fulfilled" || "skipped" in result.value)
        throw new Skipped(
          result?.status === "fulfilled" && "skipped" in result.value ? result.value.skipped : "its body is empty",
        );
      return result.value.value;
    } finally {
      unlink();
    }
  };
}

type Inner = { readonly value: unknown } | { readonly skipped: string; readonly failure?: ErrorRecord };

/** Names around a part, with what its expressions know of the attempt that they are in. */
const withContext = (scope: Scope, ctx: Ctx): Scope => objectScope({ ctx: contextFields(ctx) }, scope);

/** A part that was skipped has no value, whatever has its name around it. */
const without = (names: ReadonlySet<string>, scope: Scope): Scope =>
  names.size === 0
    ? scope
    : {
        lookup: (name) => (names.has(name) ? undefined : scope.lookup(name)),
        names: () => scope.names().filter((name) => !names.has(name)),
        whyNot: (name) => (names.has(name) ? `node ${name} was skipped` : scope.whyNot?.(name)),
      };

async function innerOutcome(
  work: NodeWork,
  upstream: readonly NodeWork[],
  above: readonly Inner[],
  { scope: outer, ctx, given }: { readonly scope: Scope; readonly ctx: Ctx; readonly given: Given },
): Promise<Inner> {
  const { document } = work;
  const values: Record<string, unknown> = {};
  const skipped = new Set<string>();
  for (const [at, { document: upper }] of upstream.entries()) {
    const { name } = upper;
    const outcome = above[at];
    if (outcome === undefined) continue;
    if ("skipped" in outcome) {
      if (document.allowSkipped !== true) return { skipped: `${name} was skipped` };
      skipped.add(name);
    } else values[name] = outcome.value ?? null;
  }
  const around = objectScope(values, without(skipped, outer));
  const { isWanted, failure } = lookAt(work, around);
  if (!isWanted) return { skipped: "its condition is false" };
  const run = (): Promise<Inner> =>
    innerWork(work, { scope: around, failure, given }, ctx, values).catch((error: unknown) => {
      throw ctx.signal.aborted ? error : failureOf(error, ctx.within(document.name).place);
    });
  // Calls of models and tools record themselves; what took the place of a failure must be the same again.
  const isStep = document.kind === "function" || document.onError !== undefined;
  if (!isStep) return run();
  const outcome = innerOf(await ctx.step(document.name, run, { interruptible: true }));
  if ("error" in outcome) throw fromErrorRecord(outcome.error);
  return outcome;
}

interface Looked {
  readonly isWanted: boolean;
  /** Why its condition could not be looked at: a failure of the node, whose place something may take. */
  readonly failure?: { readonly error: unknown } | undefined;
}

function lookAt(work: NodeWork, scope: Scope): Looked {
  try {
    return { isWanted: work.when?.(scope) !== false };
  } catch (error) {
    return { isWanted: true, failure: { error } };
  }
}

/** A node that is a body by itself: its owner records what it came to. */
async function runAlone(work: NodeWork, scope: Scope, ctx: Ctx, given: Given): Promise<unknown> {
  const { isWanted, failure } = lookAt(work, scope);
  if (!isWanted) throw new Skipped("its condition is false");
  const outcome = await innerWork(work, { scope, failure, given }, ctx, {});
  if ("skipped" in outcome) throw new Skipped(outcome.skipped, outcome.failure);
  return outcome.value;
}

/** The attempts of a node of a body, and what takes the place of a failure. */
async function innerWork(
  work: NodeWork,
  { scope, failure, given }: { readonly scope: Scope; readonly failure: Looked["failure"]; readonly given: Given },
  ctx: Ctx,
  needs: Readonly<Record<string, unknown>>,
): Promise<Inner> {
  const { document, retry, recover } = work;
  try {
    if (failure !== undefined) throw failure.error;
    const value = await runWork({
      scope: ctx.within(document.name),
      run: (inner) => work.run(withContext(scope, inner), inner, needs, given),
      attempt: ctx.attempt,
      // Those of a map are those of its items.
      retry: document.kind === "map" ? undefined : retry,
      timeoutMs: document.kind === "map" ? undefined : document.timeoutMs,
      signal: ctx.signal,
    });
    // What cannot be recorded has failed here, where something may take its place.
    if (recover !== undefined) encodeJson(value, `the result of node ${document.name}`);
    return { value };
  } catch (error) {
    if (error instanceof Skipped) return { skipped: error.message };
    if (recover === undefined || ctx.signal.aborted) throw error;
    const record = recordOf(error, `node ${document.name}`);
    if (recover === "skip") return { skipped: failedText(record), failure: record };
    const inner = new RunContext<never>(ctx.within(`${document.name}/on_error`), 1, ctx.signal);
    return { value: await recover(fromErrorRecord(record), scope, inner, needs, given) };
  }
}

/** What expressions see of the attempt that they are in. */
export const contextFields = (
  ctx: Pick<Ctx, "runId" | "pid" | "pipelineName" | "nodeName" | "attempt">,
): Readonly<Record<string, unknown>> => ({
  run_id: ctx.runId,
  pid: ctx.pid,
  pipeline: ctx.pipelineName,
  node: ctx.nodeName,
  attempt: ctx.attempt,
});

/** What expressions see of an error. */
const errorFields = (error: KernelError): Readonly<Record<string, unknown>> => ({
  code: error.code,
  message: plainMessage(error.message),
  causes: error.cause instanceof Error ? [plainMessage(error.cause.message)] : [],
});
