// A plan written in code as a plan document, so that it can be shown, drawn, and printed as a manifest.

import { PLAN_FORMAT, type NodeDocument, type PlanDocument } from "@ergos/compiler";
import { dirname } from "node:path";
import type { Plan, PlanNode } from "../plan/plan.ts";

/** The document of a plan; `exports` are those of the module that it stands in. */
export function describePlan(plan: Plan, module: string, exports: Readonly<Record<string, unknown>>): PlanDocument {
  return {
    format: PLAN_FORMAT,
    name: plan.name,
    here: dirname(module),
    concurrency: plan.concurrency,
    mounts: [],
    tools: {},
    nodes: plan.nodes.map((node) => describeNode(node, module, exports)),
    ...(plan.output === undefined ? {} : { output: { $expression: plan.output } }),
  };
}

function describeNode(node: PlanNode, module: string, exports: Readonly<Record<string, unknown>>): NodeDocument {
  const name = Object.entries(exports).find(([, value]) => value === node.run)?.[0];
  const call = { module, export: name ?? `${node.name} (inline: export it to call it by name)` };
  const { retry, timeoutMs, allowSkipped, recover } = node;
  // What is code has no text that a manifest could hold.
  const notes = [
    ...(node.when === undefined ? [] : ["runs only when its condition, a function in code, is true"]),
    ...(node.map?.isKeyed === undefined ? [] : ["its items have keys, which a function in code makes"]),
    ...(retry?.onlyTransient === true ? ["only failures that may pass are tried again"] : []),
  ];
  const common = {
    name: node.name,
    at: module,
    needs: node.needs,
    after: node.after,
    ...(notes.length === 0 ? {} : { description: notes.join("; ") }),
    ...(allowSkipped ? { allowSkipped: true as const } : {}),
    ...(retry === undefined ? {} : { retry: { attempts: retry.attempts, ...delays(retry) } }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(recover === "skip" ? { onError: "skip" as const } : {}),
  };
  if (node.map === undefined) return { ...common, kind: "function", config: call };
  const { over, concurrency, onError } = node.map;
  return {
    ...common,
    kind: "map",
    config: {
      items: over,
      item: "item",
      concurrency,
      onItemError: onError === "drop" ? "continue" : onError,
      body: [
        {
          name: "body",
          at: module,
          needs: [],
          after: [],
          kind: "function",
          config: call,
          // As in code, where the function gets the item itself.
          inputValue: "item",
        },
      ],
    },
  };
}

function delays({ delayMs, factor, maxDelayMs }: NonNullable<PlanNode["retry"]>): {
  readonly delayMs?: number;
  readonly factor?: number;
  readonly maxDelayMs?: number;
} {
  return {
    ...(delayMs === undefined ? {} : { delayMs }),
    ...(factor === undefined ? {} : { factor }),
    ...(maxDelayMs === undefined ? {} : { maxDelayMs }),
  };
}
