// Rules of `ergos lint`: what is allowed and still unwise.

import { type Diagnostics, looksSecret } from "../diagnostic.ts";
import { type SourceMap, type SourceValue, get, placeOf, textOf } from "../source/value.ts";
import { type NodeDocument, type PlanDocument, nodesWithin } from "./document.ts";

/** Keys that stand in the manifest itself; their text is not repeated. */
export function reportSecrets(value: SourceValue, path: string, diagnostics: Diagnostics): void {
  if (value.kind === "scalar") {
    if (typeof value.value === "string" && looksSecret(value.value))
      diagnostics.report(
        "W203",
        placeOf(value, path),
        "a text that looks like a secret stands in the manifest",
        "put it into the environment and write ${NAME_KEY}; rotate it if the manifest was shared",
      );
    return;
  }
  if (value.kind === "list")
    return value.items.forEach((item, at) => reportSecrets(item, `${path}[${at}]`, diagnostics));
  for (const entry of value.entries.values())
    reportSecrets(entry.value, path === "" ? entry.key : `${path}.${entry.key}`, diagnostics);
}

/** @param readsInput whether anything in the pipeline reads its input */
export function lint(
  metadata: SourceMap,
  spec: SourceMap,
  { plan, readsInput }: { readonly plan: PlanDocument; readonly readsInput: boolean },
  diagnostics: Diagnostics,
): void {
  if (get(metadata, "description") === undefined)
    diagnostics.report("I301", placeOf(metadata, "metadata"), "the pipeline has no description");
  const list = get(spec, "nodes");
  if (list?.kind !== "list") return;
  const sources = new Map(
    list.items.flatMap((item): [string, SourceMap][] =>
      item.kind === "map" ? [[textOf(get(item, "name")) ?? "", item]] : [],
    ),
  );
  const unused = unusedNodes(plan);
  for (const node of plan.nodes) {
    const source = sources.get(node.name);
    if (source === undefined) continue;
    const place = placeOf(get(source, "name") ?? source, `spec.nodes.${node.name}`);
    for (const inner of nodesWithin([node]))
      if (
        (inner.kind === "llm" || inner.kind === "tool") &&
        inner.timeoutMs === undefined &&
        node.timeoutMs === undefined &&
        !(inner === node && textOf(get(source, "timeout")) === "none") &&
        plan.bounds?.limits.callMs === undefined
      )
        diagnostics.report(
          "W201",
          place,
          `${inner === node ? `node ${node.name}` : `${inner.name}, in node ${node.name},`} may wait for ever`,
          "set timeout: 60s, or spec.defaults.timeout",
        );
    if (unused.has(node.name))
      diagnostics.report(
        "W202",
        place,
        `nothing uses the output of node ${node.name}`,
        "name it in spec.output, or remove the node",
      );
    if (!/^[a-z][a-z0-9_]*$/.test(node.name))
      diagnostics.report("I302", place, `${node.name} is not written in snake_case`);
  }
  if (plan.inputSchema === undefined && readsInput)
    diagnostics.report(
      "W204",
      placeOf(spec, "spec"),
      "the pipeline reads its input and has no input_schema",
      "with a schema a wrong input is refused before anything runs",
    );
}

/** Nodes of a pipeline with an `output` that neither it nor another node reads. What holds functions or tools may act otherwise. */
function unusedNodes(plan: PlanDocument): ReadonlySet<string> {
  if (plan.output === undefined) return new Set();
  const used = new Set(plan.nodes.flatMap(({ needs, after }) => [...needs, ...after]));
  const words = new Set(JSON.stringify([plan.output, plan.epilogue]).match(/\w+/g));
  const isNamed = (node: NodeDocument): boolean => words.has(node.name);
  return new Set(
    plan.nodes.filter((node) => !acts(node) && !used.has(node.name) && !isNamed(node)).map(({ name }) => name),
  );
}

const acts = (node: NodeDocument): boolean =>
  nodesWithin([node]).some(({ kind, config }) => kind === "function" || kind === "tool" || "tools" in config);
