// Whose turn it is where many wait for the same: shares of a tree come in proportion to their weights.
//
// F1  Of those that wait comes first who was given least for its weight; within a share that goes in the same way.
// F2  Who begins to wait begins where those are that do, on the whole: nobody saves up turns, nobody is paid back. That
//     moves on with every turn, so that newcomers without end keep nobody from the next one.
// F3  Within one share it goes by the order of asking.

/** A part of what is shared out, and what its siblings have beside it. */
export interface Share {
  readonly key: string;
  /** 100 unless somebody says otherwise. */
  readonly weight: number;
}

export const WEIGHT_DEFAULT = 100;

interface Node {
  weight: number;
  /** What it was given so far, over its weight. */
  given: number;
  /** Where those within it are: what each would have been given had all that waited had their share of every turn. */
  now: number;
  /** How many wait in it. */
  waiting: number;
  /** Of those within it that anybody waits in. */
  weights: number;
  readonly within: Map<string, Node>;
  /** How many of them there may be before those are looked for of which nothing need be remembered. */
  room: number;
}

const ROOM = 1024;
const createNode = (weight: number): Node => ({
  weight,
  given: 0,
  now: 0,
  waiting: 0,
  weights: 0,
  within: new Map(),
  room: ROOM,
});

/** Somebody who waits. */
export interface Turn {
  /** Shares that it is in, outermost first. */
  readonly nodes: readonly Node[];
  readonly number: number;
}

export class FairOrder {
  readonly #root = createNode(WEIGHT_DEFAULT);
  #count = 0;

  /** @param path the shares that it is in, outermost first */
  enter(path: readonly Share[]): Turn {
    const nodes: Node[] = [];
    let around = this.#root;
    around.waiting++;
    for (const { key, weight } of path) {
      let node = around.within.get(key);
      if (node === undefined) {
        if (around.within.size >= around.room) sweep(around);
        around.within.set(key, (node = createNode(weight)));
      }
      if (node.waiting === 0) node.given = Math.max(node.given, around.now);
      around.weights += node.waiting === 0 ? weight : weight - node.weight;
      node.weight = weight;
      node.waiting++;
      nodes.push(node);
      around = node;
    }
    return { nodes, number: this.#count++ };
  }

  /** Below 0 where the first of two comes first. */
  compare(one: Turn, other: Turn): number {
    for (const [depth, node] of one.nodes.entries()) {
      const beside = other.nodes[depth];
      if (beside === undefined) break;
      if (node !== beside) return node.given - beside.given || one.number - other.number;
    }
    return one.number - other.number;
  }

  /** It has its turn, which costs so much; it waits no more. */
  served(turn: Turn, cost: number): void {
    let around = this.#root;
    for (const node of turn.nodes) {
      around.now += cost / around.weights;
      node.given += cost / node.weight;
      around = node;
    }
    this.leave(turn);
  }

  /** What a turn has cost less than it was said, once that is known. */
  correct({ nodes }: Turn, unused: number): void {
    for (const node of nodes) node.given -= unused / node.weight;
  }

  /** It waits no more. Where nobody does, nothing is remembered. */
  leave({ nodes }: Turn): void {
    let around: Node | undefined;
    for (const node of [this.#root, ...nodes]) {
      node.waiting--;
      if (node.waiting === 0) {
        node.within.clear();
        node.now = 0;
        node.weights = 0;
        if (around !== undefined) around.weights -= node.weight;
        return;
      }
      around = node;
    }
  }
}

/** Forgets those that would begin where the others are (F2). */
function sweep(node: Node): void {
  for (const [key, { waiting, given }] of node.within) if (waiting === 0 && given <= node.now) node.within.delete(key);
  node.room = Math.max(ROOM, 2 * node.within.size);
}
