// What the nodes of a document do, bound to code: of the pipeline itself, and of bodies inside of nodes.

import type { NodeDocument, OutcomeSpec } from "@ergos/compiler";
import { type Scope, objectScope } from "@ergos/compiler/expression";
import { KernelError, assertValid, fromErrorRecord } from "@ergos/kernel";
import { runWork } from "../plan/attempt.ts";
import type { Retry } from "../plan/plan.ts";
import { RunContext, Skipped, recordOf } from "../run-context.ts";
import { type Computed, type Environment, Evaluation } from "./evaluation.ts";
import { bindLlm, callOptions } from "./llm-node.ts";

type Ctx = RunContext<never>;
/** Does the work of a node; `scope` holds the names that its expressions use. */
type NodeRun = (scope: Scope, ctx: Ctx, needs: Readonly<Record<string, unknown>>) => unknown;

export interface NodeWork {
  readonly document: NodeDocument;
  readonly when: Computed<boolean> | undefined;
  readonly retry: Retry | undefined;
  readonly run: NodeRun;
  readonly recover: "skip" | ((scope: Scope, ctx: Ctx) => unknown) | undefined;
  /** Of a map: the items, the keys, and what is done with each. */
  readonly map: MapBinding | undefined;
}

interface MapBinding {
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
    run: (scope, ctx, needs) => {
      const input = inputOf(scope, needs, ctx);
      return checkOutput(inner(input.scope, ctx, input.value), document);
    },
    recover: onError === "skip" ? "skip" : handler,
    map,
  };
}

/** The node's input and the scope of its expressions. */
function bindInput(
  document: NodeDocument,
  evaluation: Evaluation,
): (
  scope: Scope,
  needs: Readonly<Record<string, unknown>>,
  ctx: Ctx,
) => { readonly scope: Scope; readonly value: unknown } {
  const { input, inputSchema } = document;
  const mapping = input === undefined ? undefined : evaluation.value(input, "input_mapping");
  return (scope, needs, ctx) => {
    // A mapping gives an object of its fields.
    const fields = mapping?.(scope) as Readonly<Record<string, unknown>> | undefined;
    const value = fields ?? (document.needs.length === 0 ? ctx.input : needs);
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
  assertValid(outputSchema, output, `the output of node ${document.name} (${document.at})`);
  return output;
}

function bindKind(
  document: NodeDocument,
  evaluation: Evaluation,
  parts: BindParts,
): (scope: Scope, ctx: Ctx, input: unknown) => unknown {
  switch (document.kind) {
    case "function": {
      const { module, export: name } = document.config;
      const call = parts.functionOf(module, name, `node ${document.name} (${document.at})`);
      return (_scope, ctx, input) => call(input, ctx);
    }
    case "expression":
      return bindExpressions(document.config, evaluation);
    case "llm":
      return bindLlm(document.config, document.outputSchema, evaluation);
    case "tool": {
      const { tool } = document.config;
      const args = evaluation.value(document.config.arguments, "arguments");
      return (scope, ctx) =>
        ctx.call("call", tool, args(scope) as Readonly<Record<string, unknown>>, callOptions(document.config));
    }
    case "map": {
      const map = bindMap(document, evaluation, parts);
      return (scope, ctx) => runItems(document, map, scope, ctx);
    }
    case "branch":
      return bindBranch(document, evaluation, parts);
    default:
      return document satisfies never;
  }
}

function bindExpressions(
  config: Extract<NodeDocument, { kind: "expression" }>["config"],
  evaluation: Evaluation,
): (scope: Scope) => unknown {
  if ("value" in config) return evaluation.value(config.value, "value");
  const list = Object.entries(config.expressions).map(
    ([name, text]) => [name, evaluation.expression(text, `expressions.${name}`)] as const,
  );
  return (scope) => {
    const made: Record<string, unknown> = {};
    const inner = objectScope(made, scope);
    for (const [name, value] of list) made[name] = value(inner);
    return made;
  };
}

function bindOutcome(
  outcome: OutcomeSpec,
  evaluation: Evaluation,
  parts: BindParts,
  field: string,
): (scope: Scope, ctx: Ctx) => unknown {
  if ("value" in outcome) return evaluation.value(outcome.value, `${field}.value`);
  return bindBody(outcome.body, parts);
}

function bindBranch(
  document: Extract<NodeDocument, { kind: "branch" }>,
  evaluation: Evaluation,
  parts: BindParts,
): (scope: Scope, ctx: Ctx) => unknown {
  const cases = document.config.cases.map((one, at) => ({
    when: evaluation.condition(one.when, `cases[${at}].when`),
    run: bindOutcome(one, evaluation, parts, `cases[${at}]`),
  }));
  const otherwise =
    document.config.else === undefined ? undefined : bindOutcome(document.config.else, evaluation, parts, "else");
  return (scope, ctx) => {
    const taken = cases.find(({ when }) => when(scope));
    if (taken !== undefined) return taken.run(scope, ctx);
    if (otherwise === undefined) throw new Skipped("no case is true");
    return otherwise(scope, ctx);
  };
}

function bindMap(
  document: Extract<NodeDocument, { kind: "map" }>,
  evaluation: Evaluation,
  parts: BindParts,
): MapBinding {
  const { items, item: itemName, key } = document.config;
  const body = bindBody(document.config.body, parts);
  const scopeOf = (scope: Scope, item: unknown, index: number): Scope =>
    objectScope({ [itemName]: item ?? null, index }, scope);
  const keyOf = key === undefined ? undefined : evaluation.expression(key, "key");
  const inputOf = document.input === undefined ? undefined : evaluation.value(document.input, "input_mapping");
  const mapped = (scope: Scope): Scope =>
    inputOf === undefined ? scope : objectScope(inputOf(scope) as Record<string, unknown>, scope);
  const itemsOf = evaluation.expression(items, "items");
  return {
    items: (scope) => itemsOf(mapped(scope)),
    key: keyOf === undefined ? undefined : (scope, item, index) => String(keyOf(scopeOf(mapped(scope), item, index))),
    each: (scope, item, index, ctx) => body(scopeOf(mapped(scope), item, index), ctx),
  };
}

/** A map inside of a body: its items are parts of the part that it stands in. */
async function runItems(
  document: Extract<NodeDocument, { kind: "map" }>,
  map: MapBinding,
  scope: Scope,
  ctx: Ctx,
): Promise<readonly unknown[]> {
  const { concurrency, onItemError } = document.config;
  const items = map.items(scope);
  if (!Array.isArray(items))
    throw new KernelError(
      "EINVAL",
      `items of node ${document.name} (${document.at}) must be a list, found ${items === null ? "none" : typeof items}`,
    );
  const results = new Array<{ readonly value: unknown } | { readonly error: string }>(items.length);
  let next = 0;
  let failure: { readonly error: unknown } | undefined;
  const lane = async (): Promise<void> => {
    while (next < items.length && failure === undefined) {
      ctx.signal.throwIfAborted();
      const at = next++;
      const item: unknown = items[at];
      const place = ctx.within(`[${map.key?.(scope, item, at) ?? at}]`);
      try {
        results[at] = { value: await map.each(scope, item, at, new RunContext(place, 1, ctx.signal)) };
      } catch (error) {
        if (onItemError === "fail") failure = { error };
        results[at] = { error: error instanceof Error ? error.message : String(error) };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, lane));
  if (failure !== undefined) throw failure.error;
  if (onItemError === "collect") return results;
  return results.flatMap((result) => ("value" in result ? [result.value] : []));
}

/** Nodes inside of a node: each starts when those that it reads are over; the last one's output counts. */
function bindBody(documents: readonly NodeDocument[], parts: BindParts): (scope: Scope, ctx: Ctx) => unknown {
  const works = documents.map((document) => bindNode(document, parts));
  const [only] = works;
  if (works.length === 1 && only !== undefined) return (scope, ctx) => runInner(only, scope, ctx, {}, false);
  const last = documents.at(-1)?.name ?? "";
  return async (scope, ctx) => {
    const outcomes = new Map<string, Promise<Inner>>();
    const start = (work: NodeWork): Promise<Inner> => {
      const { name } = work.document;
      const known = outcomes.get(name);
      if (known !== undefined) return known;
      const { needs, after } = work.document;
      const upstream = works.filter(({ document }) => needs.includes(document.name) || after.includes(document.name));
      const outcome = Promise.all(upstream.map(start)).then((above) => innerOutcome(work, upstream, above, scope, ctx));
      outcomes.set(name, outcome);
      return outcome;
    };
    const all = await Promise.all(works.map(start));
    const result = all[documents.findIndex(({ name }) => name === last)];
    if (result === undefined || "skipped" in result) throw new Skipped(result?.skipped ?? "its body is empty");
    return result.value;
  };
}

type Inner = { readonly value: unknown } | { readonly skipped: string };

async function innerOutcome(
  work: NodeWork,
  upstream: readonly NodeWork[],
  above: readonly Inner[],
  scope: Scope,
  ctx: Ctx,
): Promise<Inner> {
  const { document } = work;
  const values: Record<string, unknown> = {};
  for (const [at, outcome] of above.entries()) {
    const name = upstream[at]?.document.name ?? "";
    if ("skipped" in outcome) {
      if (document.allowSkipped !== true) return { skipped: `${name} was skipped` };
    } else values[name] = outcome.value ?? null;
  }
  try {
    return { value: await runInner(work, objectScope(values, scope), ctx, values, document.kind === "function") };
  } catch (error) {
    if (error instanceof Skipped) return { skipped: error.message };
    throw error;
  }
}

/**
 * One node of a body, with its condition, its attempts and what takes the place of a failure. `isStep` records
 * what it made: calls of models and tools record themselves, and a body of one node is recorded by its owner.
 */
async function runInner(
  work: NodeWork,
  scope: Scope,
  ctx: Ctx,
  needs: Readonly<Record<string, unknown>>,
  isStep: boolean,
): Promise<unknown> {
  const { document, retry } = work;
  if (work.when?.(scope) === false) throw new Skipped("its condition is false");
  const place = ctx.within(document.name);
  const attempts = async (): Promise<unknown> =>
    runWork({
      scope: place,
      run: (inner) => work.run(scope, inner, needs),
      retry,
      timeoutMs: document.timeoutMs,
      signal: ctx.signal,
    });
  try {
    return await (isStep ? ctx.step(document.name, attempts) : attempts());
  } catch (error) {
    if (error instanceof Skipped || work.recover === undefined || ctx.signal.aborted) throw error;
    if (work.recover === "skip")
      throw new Skipped(`it failed: ${error instanceof Error ? error.message : String(error)}`);
    const known = fromErrorRecord(recordOf(error, `node ${document.name}`));
    return work.recover(
      objectScope({ error: errorFields(known) }, scope),
      new RunContext(ctx.within(`${document.name}/on_error`), 1, ctx.signal),
    );
  }
}

/** What expressions see of an error. */
export const errorFields = (error: KernelError): Readonly<Record<string, unknown>> => ({
  code: error.code,
  message: error.message.replace(/^\[\w+\] /, ""),
  causes: error.cause instanceof Error ? [error.cause.message] : [],
});
