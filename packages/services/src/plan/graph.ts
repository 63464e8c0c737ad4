// The compiled form of a plan: nodes by number, edges as arrays, checked once.

import { KernelError } from "@ergos/kernel";
import type { Plan, PlanNode } from "./plan.ts";

export interface Graph {
  readonly nodes: readonly PlanNode[];
  /** Numbers of the nodes that each node waits for: the ones it reads first, then the ones it only follows. */
  readonly upstream: readonly Uint32Array[];
  readonly downstream: readonly Uint32Array[];
  readonly roots: Uint32Array;
  /** Nodes that nothing reads. */
  readonly sinks: Uint32Array;
  readonly output: number | undefined;
}

/** @throws {EINVAL} a node waits for one that does not exist, or for itself by a cycle */
export function compileGraph(plan: Plan): Graph {
  const numbers = new Map(plan.nodes.map((node, at) => [node.name, at]));
  const down: number[][] = plan.nodes.map(() => []);
  const upstream = plan.nodes.map((node, at) => {
    const up = [...new Set([...node.needs, ...node.after])].map((name) => {
      const number = numbers.get(name);
      if (number === undefined)
        throw new KernelError(
          "EINVAL",
          `pipeline ${plan.name}: node ${node.name} needs ${JSON.stringify(name)}, which does not exist`,
        );
      return number;
    });
    for (const number of up) down[number]?.push(at);
    return Uint32Array.from(up);
  });
  const downstream = down.map((list) => Uint32Array.from(list));
  assertAcyclic(plan, upstream, downstream);
  const numbersWhere = (test: (at: number) => boolean): Uint32Array => Uint32Array.from(plan.nodes.keys().filter(test));
  return {
    nodes: plan.nodes,
    upstream,
    downstream,
    roots: numbersWhere((at) => upstream[at]?.length === 0),
    sinks: numbersWhere((at) => downstream[at]?.length === 0),
    output: plan.output === undefined ? undefined : numbers.get(plan.output),
  };
}

function assertAcyclic(plan: Plan, upstream: readonly Uint32Array[], downstream: readonly Uint32Array[]): void {
  const left = upstream.map((list) => list.length);
  const ready = left.flatMap((count, at) => (count === 0 ? [at] : []));
  for (let next = ready.pop(); next !== undefined; next = ready.pop()) {
    for (const at of downstream[next] ?? []) {
      left[at] = (left[at] ?? 0) - 1;
      if (left[at] === 0) ready.push(at);
    }
  }
  const stuck = plan.nodes.filter((_node, at) => (left[at] ?? 0) > 0).map((node) => node.name);
  if (stuck.length > 0)
    throw new KernelError(
      "EINVAL",
      `pipeline ${plan.name}: these nodes wait for each other: ${stuck.slice(0, 10).join(", ")}`,
    );
}
