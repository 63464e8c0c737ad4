// The plan as data: what a manifest compiles to, what `ergos plan --json` prints, what a host binds to code.

import type { Schema } from "@ergos/kernel";
import type { BoundsDocument } from "./bounds.ts";
import type { NodeKind } from "../schema/pipeline-fields.ts";

export const PLAN_FORMAT = 1;

/** Values to be computed: `{ $expression }`, `{ $template }`, lists and mappings of them, or what they stand for. */
export type ValueSpec =
  | { readonly $expression: string }
  | { readonly $template: string }
  | readonly ValueSpec[]
  | { readonly [name: string]: ValueSpec }
  | string
  | number
  | boolean
  | null;

export interface RetrySpec {
  readonly attempts: number;
  readonly delayMs?: number;
  readonly factor?: number;
  readonly maxDelayMs?: number;
}

export interface ModuleSpec {
  /** Absolute path. */
  readonly module: string;
  readonly export: string;
}

/** What a case, a handler or a map does: a value, or nodes of which the last one's output counts. */
export type OutcomeSpec = { readonly value: ValueSpec } | { readonly body: readonly NodeDocument[] };

export interface LlmConfig {
  readonly model?: string;
  readonly system?: string;
  readonly prompt?: string;
  readonly messages?: readonly { readonly role: "system" | "user" | "assistant"; readonly content: string }[];
  readonly task?: {
    readonly kind: "summarise" | "classify";
    readonly text: string;
    readonly sentences?: number;
    readonly labels?: readonly string[] | string;
  };
  readonly temperature?: number;
  readonly topP?: number;
  readonly maxOutputTokens?: number;
  readonly stop?: readonly string[];
  readonly seed?: number;
  /** Names of the tools that the model is offered. */
  readonly tools?: readonly string[];
  readonly maxTurns?: number;
  readonly repair: number;
  readonly onUnknown?: "repeat";
}

export interface NodeConfigs {
  readonly function: ModuleSpec;
  readonly expression: { readonly value: ValueSpec } | { readonly expressions: Readonly<Record<string, string>> };
  readonly llm: LlmConfig;
  readonly tool: {
    readonly onUnknown?: "repeat";
    readonly tool: string;
    readonly arguments: Readonly<Record<string, ValueSpec>>;
  };
  readonly map: {
    readonly items: string;
    readonly item: string;
    readonly key?: string;
    readonly concurrency: number;
    readonly onItemError: "fail" | "collect" | "continue";
    readonly body: readonly NodeDocument[];
  };
  readonly branch: {
    readonly cases: readonly ({ readonly when: string } & OutcomeSpec)[];
    readonly else?: OutcomeSpec;
  };
}

interface NodeCommon {
  readonly name: string;
  readonly description?: string;
  /** `file:line` of the node, for messages. */
  readonly at: string;
  /** Nodes whose outputs it reads: of its body for a node in one, else of the pipeline. */
  readonly needs: readonly string[];
  readonly after: readonly string[];
  readonly input?: Readonly<Record<string, ValueSpec>>;
  /** An expression that is the whole input, in place of its fields. */
  readonly inputValue?: string;
  readonly when?: string;
  readonly allowSkipped?: true;
  readonly retry?: RetrySpec;
  readonly timeoutMs?: number;
  readonly onError?: "skip" | OutcomeSpec;
  readonly inputSchema?: Schema;
  readonly outputSchema?: Schema;
}

export type NodeDocument = {
  readonly [Kind in NodeKind]: NodeCommon & { readonly kind: Kind; readonly config: NodeConfigs[Kind] };
}[NodeKind];

/** Nodes, and those in their bodies. */
export function* nodesWithin(nodes: readonly NodeDocument[]): Generator<NodeDocument, void, undefined> {
  for (const node of nodes) {
    yield node;
    for (const body of bodiesOf(node)) yield* nodesWithin(body);
  }
}

function bodiesOf(node: NodeDocument): readonly (readonly NodeDocument[])[] {
  const outcomes: (OutcomeSpec | "skip" | undefined)[] = [node.onError];
  if (node.kind === "branch") outcomes.push(...node.config.cases, node.config.else);
  const bodies = outcomes.flatMap((one) => (typeof one === "object" && "body" in one ? [one.body] : []));
  return node.kind === "map" ? [node.config.body, ...bodies] : bodies;
}

export interface ToolSpec extends ModuleSpec {
  readonly description?: string;
  readonly inputSchema?: Schema;
  readonly effect: "pure" | "idempotent" | "once";
}

export interface MountTemplate {
  readonly at: string;
  readonly path: string;
  readonly writable: boolean;
}

export interface PlanDocument {
  readonly format: typeof PLAN_FORMAT;
  readonly name: string;
  readonly description?: string;
  /** Folder of the manifest. */
  readonly here: string;
  readonly inputSchema?: Schema;
  readonly outputSchema?: Schema;
  readonly concurrency: number;
  readonly mounts: readonly MountTemplate[];
  readonly tools: Readonly<Record<string, ToolSpec>>;
  /** Grants that its processes are narrowed to; absent: what who starts it may. */
  readonly caps?: readonly string[];
  readonly bounds?: BoundsDocument;
  readonly nodes: readonly NodeDocument[];
  readonly output?: ValueSpec;
  readonly epilogue?: string;
}
