// Plans of no-op nodes in the shapes that executors are compared on, and the floor: a bare ready queue.

import { type Plan, createPlan } from "ergos";

type Node = Parameters<typeof createPlan>[1][number];

const node = (name: string, needs: readonly string[], run: Node["run"] = () => 1): Node => ({
  name,
  kind: "function",
  needs,
  after: [],
  run,
  allowSkipped: false,
});

export const chain = (length: number): Plan =>
  createPlan(
    "chain",
    Array.from({ length }, (_, at) => node(`n${at}`, at === 0 ? [] : [`n${at - 1}`])),
  );

export const fanOut = (width: number): Plan => {
  const middle = Array.from({ length: width }, (_, at) => node(`m${at}`, ["first"]));
  return createPlan(
    "fan-out",
    [
      node("first", []),
      ...middle,
      node(
        "last",
        middle.map(({ name }) => name),
      ),
    ],
    { concurrency: 1000 },
  );
};

/** `layers` × `width` nodes, each needing three of the layer above. */
export const layered = (layers: number, width: number): Plan =>
  createPlan(
    "layered",
    Array.from({ length: layers * width }, (_, at) => {
      const layer = Math.floor(at / width);
      const above = layer === 0 ? [] : [0, 1, 7].map((step) => `n${(layer - 1) * width + ((at + step) % width)}`);
      return node(`n${at}`, [...new Set(above)]);
    }),
    { concurrency: 1000 },
  );

/** What any executor must at least do: count down the edges and call each function once with what it needs. */
export function bareExecutor(plan: Plan): () => unknown {
  const numbers = new Map(plan.nodes.map(({ name }, at) => [name, at]));
  const up = plan.nodes.map(({ needs }) => needs.map((need) => numbers.get(need) ?? 0));
  const down: number[][] = plan.nodes.map(() => []);
  for (const [at, list] of up.entries()) for (const need of list) down[need]?.push(at);
  return () => {
    const left = up.map((list) => list.length);
    const values: unknown[] = [];
    const ready = left.flatMap((count, at) => (count === 0 ? [at] : []));
    for (let next = 0; next < ready.length; next++) {
      const at = ready[next] ?? 0;
      values[at] = plan.nodes[at]?.run(undefined as never, undefined as never);
      for (const below of down[at] ?? []) {
        left[below] = (left[below] ?? 0) - 1;
        if (left[below] === 0) ready.push(below);
      }
    }
    return values.at(-1);
  };
}
