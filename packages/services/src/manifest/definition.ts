// What decides what a node makes: that is what a resumed run compares, and what a host must load.

import { hash } from "node:crypto";
import { type NodeDocument, type OutcomeSpec, type PlanDocument, nodesWithin } from "@ergos/compiler";

/** Modules that nodes call. */
export function modulesOf(nodes: readonly NodeDocument[]): readonly string[] {
  return [...new Set(nodesWithin(nodes).flatMap((node) => (node.kind === "function" ? [node.config.module] : [])))];
}

/** The hash of everything that decides what a node makes: its document, and the modules and tools that it calls. */
export function definitionOf(node: NodeDocument, document: PlanDocument, contentOf: (file: string) => string): string {
  const inside = [...nodesWithin([node])];
  const tools = inside.flatMap(toolsOf).flatMap((name) => document.tools[name] ?? []);
  const modules = [...modulesOf([node]), ...tools.map(({ module }) => module)];
  return hash("sha256", JSON.stringify([bareNode(node), tools, modules.map(contentOf)]), "hex");
}

function toolsOf(node: NodeDocument): readonly string[] {
  if (node.kind === "tool") return [node.config.tool];
  return node.kind === "llm" ? (node.config.tools ?? []) : [];
}

/** Fields that decide how, when and where a node runs, but not what it makes. */
const CIRCUMSTANCES = new Set(["at", "description", "retry", "timeoutMs"]);
const CONFIG_CIRCUMSTANCES = new Set(["concurrency", "repair", "maxTurns", "onUnknown"]);

/** A node without its circumstances, those of its bodies included. What a user named so stays. */
function bareNode(node: NodeDocument): unknown {
  const { config, onError, ...rest } = node;
  return {
    ...without(rest, CIRCUMSTANCES),
    onError: typeof onError === "object" ? bareOutcome(onError) : onError,
    config: bareConfig(node.kind, config),
  };
}

function bareConfig(kind: NodeDocument["kind"], config: NodeDocument["config"]): unknown {
  const bare = without(config, CONFIG_CIRCUMSTANCES);
  if (kind === "map" && "body" in config) return { ...bare, body: config.body.map(bareNode) };
  if (kind === "branch" && "cases" in config)
    return {
      cases: config.cases.map(bareOutcome),
      else: config.else === undefined ? undefined : bareOutcome(config.else),
    };
  return bare;
}

/** A case, a handler or an `else`: its nodes bare, all else as it is. */
const bareOutcome = (outcome: OutcomeSpec): unknown =>
  "body" in outcome ? { ...outcome, body: outcome.body.map(bareNode) } : outcome;

const without = (fields: object, names: ReadonlySet<string>): object =>
  Object.fromEntries(Object.entries(fields).filter(([name]) => !names.has(name)));
