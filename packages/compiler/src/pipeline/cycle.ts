// Nodes that wait for each other.

import type { Diagnostics, Place } from "../diagnostic.ts";

interface Edges {
  readonly name: string;
  readonly needs: readonly string[];
  readonly after: readonly string[];
}

/** Reports each cycle once, by the nodes on it. */
export function reportCycles(
  nodes: readonly Edges[],
  place: (name: string) => Place | undefined,
  diagnostics: Diagnostics,
): void {
  const upstream = new Map(nodes.map(({ name, needs, after }) => [name, [...needs, ...after]]));
  const stuck = stuckNodes(upstream);
  // What only waits for a cycle is in none: taken away once, from the far end, and with each cycle found.
  const below = downstreamOf(upstream, stuck);
  peel(
    stuck,
    [...stuck].filter((name) => !(below.get(name) ?? []).some((one) => stuck.has(one))),
    upstream,
    below,
  );
  while (stuck.size > 0) {
    const cycle = cycleIn(stuck, upstream);
    const [first] = cycle;
    if (first === undefined) return;
    const at = place(first);
    const shown = cycle.length > 8 ? [...cycle.slice(0, 7), "…", cycle.at(-1) ?? ""] : cycle;
    if (at !== undefined)
      diagnostics.report(
        "E303",
        at,
        `these nodes wait for each other: ${[...shown, first].join(" → ")}`,
        "remove one of the references, or the dependency that makes it",
      );
    const around = cycle.flatMap((name) => [...(upstream.get(name) ?? []), ...(below.get(name) ?? [])]);
    for (const name of cycle) stuck.delete(name);
    peel(stuck, around, upstream, below);
  }
}

/** Takes away nodes that have nothing stuck above them, or nothing below, and what that sets free. */
function peel(
  stuck: Set<string>,
  from: readonly string[],
  upstream: ReadonlyMap<string, readonly string[]>,
  below: ReadonlyMap<string, readonly string[]>,
): void {
  const todo = [...from];
  for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
    if (!stuck.has(name)) continue;
    const [above, under] = [upstream.get(name) ?? [], below.get(name) ?? []];
    if (above.some((one) => stuck.has(one)) && under.some((one) => stuck.has(one))) continue;
    stuck.delete(name);
    todo.push(...above, ...under);
  }
}

function downstreamOf(
  upstream: ReadonlyMap<string, readonly string[]>,
  stuck: ReadonlySet<string>,
): ReadonlyMap<string, readonly string[]> {
  const below = new Map<string, string[]>();
  for (const name of stuck) {
    for (const one of upstream.get(name) ?? []) {
      const list = below.get(one);
      if (list === undefined) below.set(one, [name]);
      else list.push(name);
    }
  }
  return below;
}

/** Nodes that remain when everything that can run has run. */
function stuckNodes(upstream: ReadonlyMap<string, readonly string[]>): Set<string> {
  const left = new Map<string, number>();
  const downstream = new Map<string, string[]>();
  for (const [name, above] of upstream) {
    const known = above.filter((one) => upstream.has(one));
    left.set(name, known.length);
    for (const one of known) {
      const below = downstream.get(one);
      if (below === undefined) downstream.set(one, [name]);
      else below.push(name);
    }
  }
  const ready = [...left].flatMap(([name, count]) => (count === 0 ? [name] : []));
  for (let name = ready.pop(); name !== undefined; name = ready.pop()) {
    left.delete(name);
    for (const below of downstream.get(name) ?? []) {
      const count = (left.get(below) ?? 0) - 1;
      left.set(below, count);
      if (count === 0) ready.push(below);
    }
  }
  return new Set(left.keys());
}

/** Each stuck node has a stuck one above it: going up meets itself. */
function cycleIn(stuck: ReadonlySet<string>, upstream: ReadonlyMap<string, readonly string[]>): readonly string[] {
  const walked: string[] = [];
  const seen = new Map<string, number>();
  let [at] = stuck;
  while (at !== undefined && !seen.has(at)) {
    seen.set(at, walked.length);
    walked.push(at);
    at = (upstream.get(at) ?? []).find((one) => stuck.has(one));
  }
  return at === undefined ? [] : walked.slice(seen.get(at)).toReversed();
}
