// A plan as a manifest: what `ergos plan --yaml` prints, also of a plan that was written in code.

import { KernelError, present } from "@ergos/kernel";
import { stringify } from "yaml";
import { formatDuration } from "../duration.ts";
import type { NodeDocument, OutcomeSpec, PlanDocument, RetrySpec, ValueSpec } from "../pipeline/document.ts";
import { isTemplate } from "../expression/template.ts";
import { quoteVariables } from "../source/environment.ts";
import { API_VERSION, PIPELINE_NAME, isNodeName } from "../schema/pipeline-fields.ts";

type Json = Record<string, unknown>;

/**
 * The manifest of a plan. `pathOf` names a module as the manifest should.
 * @throws {EINVAL} a name in it is none that a manifest may have: code has more
 */
export function toManifest(plan: PlanDocument, pathOf: (module: string) => string): string {
  const wrong = PIPELINE_NAME.test(plan.name) ? plan.nodes.map((node) => node.name).find(isNoName) : plan.name;
  if (wrong !== undefined)
    throw new KernelError(
      "EINVAL",
      `${JSON.stringify(wrong)} cannot be a name in a manifest, which has letters, digits and _, and no word that expressions have; rename it in the code`,
    );
  const document = {
    apiVersion: API_VERSION,
    kind: "Pipeline",
    metadata: present({ name: plan.name, description: plan.description }),
    spec: present({
      input_schema: plan.inputSchema,
      output_schema: plan.outputSchema,
      concurrency: plan.concurrency === 64 ? undefined : plan.concurrency,
      mounts:
        plan.mounts.length === 0
          ? undefined
          : plan.mounts.map(({ at, path, writable }) => present({ at, path, writable: writable ? true : undefined })),
      tools:
        Object.keys(plan.tools).length === 0
          ? undefined
          : Object.fromEntries(
              Object.entries(plan.tools).map(([name, tool]) => [
                name,
                present({
                  module: pathOf(tool.module),
                  export: exportOf(tool.export),
                  description: tool.description,
                  input_schema: tool.inputSchema,
                  effect: tool.effect,
                }),
              ]),
            ),
      caps: plan.caps?.slice(1),
      limits: plan.bounds === undefined ? undefined : limitsOf(plan.bounds),
      nodes: plan.nodes.map((node) => nodeOf(node, pathOf)),
      output: plan.output === undefined ? undefined : expressionsOf(plan.output),
      epilogue: plan.epilogue,
    }),
  };
  return stringify(quoted(document), { lineWidth: 0, aliasDuplicateObjects: false });
}

/** What a manifest would fill in is written so that it stays. */
function quoted(value: unknown): unknown {
  if (typeof value === "string") return quoteVariables(value);
  if (Array.isArray(value)) return value.map(quoted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, quoted(inner)]));
}

const isNoName = (name: string): boolean => !isNodeName(name);

function limitsOf({ budget, limits }: NonNullable<PlanDocument["bounds"]>): Json {
  return present({
    maxTotalTokens: budget.tokens,
    maxInputTokens: budget.tokensIn,
    maxOutputTokens: budget.tokensOut,
    maxLlmCalls: budget.modelCalls,
    maxToolCalls: budget.toolCalls,
    maxCostUsd: budget.costMicros === undefined ? undefined : budget.costMicros / 1_000_000,
    maxSpawns: budget.spawns,
    maxBytesWritten: budget.bytesWritten,
    maxDurationMs: limits.wallMs,
    maxMemoryMb: limits.memoryMb,
    maxCpuMs: limits.cpuMs,
    maxCallMs: limits.callMs,
    maxChildren: limits.children,
    maxContextTokens: limits.contextTokens,
    maxConcurrentCalls: limits.concurrentCalls,
    warningThreshold: limits.warnAt,
    onLimit: limits.onLimit,
    downgradeTo: limits.downgrade,
    rates: limits.rates?.map(({ windowMs, ...rate }) =>
      windowMs === undefined ? rate : { ...rate, window: formatDuration(windowMs) },
    ),
  });
}

const exportOf = (name: string): string | undefined => (name === "default" ? undefined : name);

function nodeOf(node: NodeDocument, pathOf: (module: string) => string): Json {
  const { needs, after } = node;
  return present({
    name: node.name,
    kind: node.kind,
    description: node.description,
    dependencies: needs.length === 0 ? undefined : needs,
    wait_for: after.length === 0 ? undefined : after,
    when: node.when,
    allow_skipped: node.allowSkipped,
    input_mapping:
      node.input === undefined
        ? node.inputValue
        : Object.fromEntries(Object.entries(node.input).map(([name, value]) => [name, expressionsOf(value)])),
    ...configOf(node, pathOf),
    retry: node.retry === undefined ? undefined : retryOf(node.retry),
    timeout: node.timeoutMs === undefined ? undefined : formatDuration(node.timeoutMs),
    on_error: node.onError === undefined || node.onError === "skip" ? node.onError : outcomeOf(node.onError, pathOf),
    input_schema: node.inputSchema,
    output_schema: node.outputSchema,
  });
}

function configOf(node: NodeDocument, pathOf: (module: string) => string): Json {
  switch (node.kind) {
    case "function":
      return { module: pathOf(node.config.module), export: exportOf(node.config.export) };
    case "expression":
      return "value" in node.config
        ? { value: expressionsOf(node.config.value) }
        : { expressions: node.config.expressions };
    case "llm": {
      const { topP, maxOutputTokens, maxTurns, onUnknown, repair, ...rest } = node.config;
      return {
        ...rest,
        top_p: topP,
        max_output_tokens: maxOutputTokens,
        max_turns: maxTurns,
        on_unknown: onUnknown,
        repair: repair === 1 ? undefined : repair,
      };
    }
    case "tool":
      return {
        tool: node.config.tool,
        arguments: Object.fromEntries(
          Object.entries(node.config.arguments).map(([name, value]) => [name, templatesOf(value)]),
        ),
        on_unknown: node.config.onUnknown,
      };
    case "map": {
      const { items, item, key, concurrency, onItemError, body } = node.config;
      return {
        items,
        item: item === "item" ? undefined : item,
        key,
        concurrency,
        on_item_error: onItemError === "fail" ? undefined : onItemError,
        body: bodyOf(body, pathOf),
      };
    }
    case "branch":
      return {
        cases: node.config.cases.map((one) => ({ when: one.when, ...outcomeOf(one, pathOf) })),
        else: node.config.else === undefined ? undefined : outcomeOf(node.config.else, pathOf),
      };
    default:
      return node satisfies never;
  }
}

function bodyOf(body: readonly NodeDocument[], pathOf: (module: string) => string): unknown {
  const [only] = body;
  if (body.length !== 1 || only?.name !== "body") return body.map((inner) => nodeOf(inner, pathOf));
  // One alone has no name, which might be that of a node outside.
  const { name: _name, ...rest } = nodeOf(only, pathOf);
  return rest;
}

function outcomeOf(outcome: OutcomeSpec, pathOf: (module: string) => string): Json {
  return "value" in outcome ? { value: expressionsOf(outcome.value) } : { body: bodyOf(outcome.body, pathOf) };
}

const retryOf = ({ attempts, delayMs, factor, maxDelayMs }: RetrySpec): unknown =>
  delayMs === undefined && factor === undefined && maxDelayMs === undefined
    ? attempts
    : present({
        attempts,
        delay: delayMs === undefined ? undefined : formatDuration(delayMs),
        factor,
        max_delay: maxDelayMs === undefined ? undefined : formatDuration(maxDelayMs),
      });

/** Values of a field whose texts are expressions: what is computed as its text, texts as literals. */
function expressionsOf(value: ValueSpec): unknown {
  return convert(
    value,
    // What holds the marks of a template would be read as one.
    (text) => (isTemplate(text) ? `{{ ${text} }}` : text),
    (text) => text,
    (text) => JSON.stringify(text),
  );
}

/** Values of a field whose texts are templates. */
function templatesOf(value: ValueSpec): unknown {
  return convert(
    value,
    (text) => `{{ ${text} }}`,
    (text) => text,
    (text) => text,
  );
}

function convert(
  value: ValueSpec,
  expression: (text: string) => string,
  template: (text: string) => string,
  plain: (text: string) => string,
): unknown {
  if (typeof value === "string") return plain(value);
  if (typeof value !== "object" || value === null) return value;
  // Lists and mappings hold values like themselves.
  if (Array.isArray(value))
    return (value as readonly ValueSpec[]).map((item) => convert(item, expression, template, plain));
  const { $expression, $template } = value as { readonly $expression?: unknown; readonly $template?: unknown };
  if (typeof $expression === "string") return expression($expression);
  if (typeof $template === "string") return template($template);
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]: [string, ValueSpec]) => [
      name,
      convert(inner, expression, template, plain),
    ]),
  );
}
