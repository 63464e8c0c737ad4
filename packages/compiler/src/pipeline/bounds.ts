// What a pipeline may do and spend: `spec.caps` and `spec.limits`.

import {
  type Amounts,
  Capability,
  type OnLimit,
  type ProcessLimits,
  type RateLimit,
  isKernelError,
  parseGrants,
  plainMessage,
  present,
  rateProblem,
} from "@ergos/kernel";
import type { Diagnostics } from "../diagnostic.ts";
import { parseDuration } from "../duration.ts";
import { isTemplate } from "../expression/template.ts";
import { type SourceValue, get, placeOf, textOf, textsOf } from "../source/value.ts";
import { type NodeDocument, type PlanDocument, nodesWithin } from "./document.ts";

/** What a run may spend, and what bounds it beside that. */
export interface BoundsDocument {
  readonly budget: Amounts;
  readonly limits: ProcessLimits;
}

/** What every process of a pipeline may do, whatever its manifest says: work on its own steps. */
const ALWAYS = "self";

/** The grants of a manifest, each checked, as their texts. */
export function compileCaps(source: SourceValue | undefined, diagnostics: Diagnostics): readonly string[] | undefined {
  if (source === undefined) return undefined;
  const items = source.kind === "list" ? source.items : [source];
  const texts = items.flatMap((item, at) => {
    const text = textOf(item);
    if (text === undefined) return [];
    try {
      parseGrants([text]);
      return [text];
    } catch (error) {
      if (!isKernelError(error)) throw error;
      const message = plainMessage(error.message);
      diagnostics.report("E602", placeOf(item, `spec.caps[${at}]`), message);
      return [];
    }
  });
  return [...new Set([ALWAYS, ...texts])];
}

const numberOf = (value: SourceValue | undefined): number | undefined =>
  value?.kind === "scalar" && typeof value.value === "number" ? value.value : undefined;

export function compileLimits(source: SourceValue | undefined, diagnostics: Diagnostics): BoundsDocument | undefined {
  if (source?.kind !== "map") return undefined;
  const field = (name: string): number | undefined => numberOf(get(source, name));
  const duration = (name: string): number | undefined => {
    const value = get(source, name);
    const ms = value?.kind === "scalar" ? parseDuration(value.value) : undefined;
    return ms === undefined ? undefined : Math.max(1, Math.round(ms));
  };
  const dollars = field("maxCostUsd");
  const onLimit = textOf(get(source, "onLimit"));
  const downgrade = textsOf(get(source, "downgradeTo"));
  const rates = get(source, "rates");
  if (onLimit === "downgrade" && (downgrade ?? []).length === 0)
    diagnostics.report(
      "E206",
      placeOf(get(source, "onLimit") ?? source, "spec.limits.onLimit"),
      "onLimit: downgrade needs models to go down to",
      "as in downgradeTo: [openai/gpt-4.1-nano]",
    );
  return {
    budget: present({
      tokens: field("maxTotalTokens"),
      tokensIn: field("maxInputTokens"),
      tokensOut: field("maxOutputTokens"),
      modelCalls: field("maxLlmCalls"),
      toolCalls: field("maxToolCalls"),
      spawns: field("maxSpawns"),
      bytesWritten: field("maxBytesWritten"),
      costMicros: dollars === undefined ? undefined : Math.max(Math.sign(dollars), Math.round(dollars * 1_000_000)),
    }),
    limits: present({
      // Checked against the values of the field before.
      onLimit: onLimit as OnLimit | undefined,
      warnAt: field("warningThreshold"),
      wallMs: duration("maxDurationMs"),
      memoryMb: field("maxMemoryMb"),
      cpuMs: duration("maxCpuMs"),
      callMs: duration("maxCallMs"),
      children: field("maxChildren"),
      contextTokens: field("maxContextTokens"),
      concurrentCalls: field("maxConcurrentCalls"),
      downgrade,
      rates: rates?.kind === "list" ? rates.items.flatMap((item, at) => rateOf(item, at, diagnostics)) : undefined,
    }),
  };
}

function rateOf(source: SourceValue, at: number, diagnostics: Diagnostics): readonly RateLimit[] {
  if (source.kind !== "map") return [];
  const window = get(source, "window");
  const windowMs = window?.kind === "scalar" ? parseDuration(window.value) : undefined;
  const max = numberOf(get(source, "max"));
  if (max === undefined || (window !== undefined && windowMs === undefined)) return [];
  const rate = present<Partial<Record<keyof RateLimit, unknown>>>({
    resource: textOf(get(source, "resource")) ?? "modelCalls",
    per: textOf(get(source, "per")) ?? "process",
    only: textOf(get(source, "only")),
    kind: textOf(get(source, "kind")),
    burst: numberOf(get(source, "burst")),
    onLimit: textOf(get(source, "onLimit")),
    windowMs: windowMs === undefined ? undefined : Math.max(1, Math.round(windowMs)),
  });
  // Each field was checked against its values before.
  const read = rate as unknown as RateLimit;
  const problem = rateProblem(read);
  if (problem !== undefined)
    diagnostics.report("E206", placeOf(get(source, "per") ?? source, `spec.limits.rates[${at}]`), problem);
  return [{ ...read, max }];
}

/** Reports nodes that need what `spec.caps` does not allow: they would fail each time. */
export function checkCaps(plan: PlanDocument, at: SourceValue, diagnostics: Diagnostics): void {
  if (plan.caps === undefined) return;
  const capability = Capability.of(parseGrants(plan.caps));
  const isDenied = (right: string, resource: string): boolean =>
    !capability.layers.some((layer) => layer.matching(right, resource).some(({ grant }) => grant.effect !== "deny")) ||
    capability.layers.some((layer) =>
      layer.matching(right, resource).some(({ grant }) => grant.effect === "deny" && grant.where === undefined),
    );
  for (const node of nodesWithin(plan.nodes)) {
    for (const { right, resource } of needsOf(node)) {
      const isNone = resource === undefined ? !plan.caps.some(mayGrant(right)) : isDenied(right, resource);
      if (!isNone) continue;
      const missing = resource === undefined ? right : `${right}:${resource}`;
      diagnostics.report(
        "E603",
        placeOf(at, "spec.caps"),
        `node ${node.name} needs ${missing}, which spec.caps does not allow`,
        `add ${missing}`,
      );
    }
  }
}

/** What a node is known to need before it runs; the name of a model may be a template, or the host's default. */
function needsOf(node: NodeDocument): readonly { readonly right: string; readonly resource?: string }[] {
  if (node.kind === "tool") return [{ right: "tool.call", resource: node.config.tool }];
  if (node.kind !== "llm") return [];
  const { model, tools = [] } = node.config;
  const right = "model.infer";
  return [
    model === undefined || isTemplate(model) ? { right } : { right, resource: model },
    ...tools.map((resource) => ({ right: "tool.call", resource })),
  ];
}

/** Whether a grant is about a right at all, whatever its resource. */
const mayGrant =
  (right: string) =>
  (text: string): boolean =>
    parseGrants([text]).some(
      (grant) =>
        grant.effect !== "deny" &&
        (grant.right === right || grant.right === "*" || grant.right === `${right.split(".")[0] ?? ""}.*`),
    );
