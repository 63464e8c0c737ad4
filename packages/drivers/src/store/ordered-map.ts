// The sorted map of the stores. The package is CommonJS: depending on who loads it (Node, a bundler, a test
// runner), its class is the default export or a property of it.

import module from "sorted-btree";

const BTree = "default" in module ? module.default : module;

export type OrderedMap<V> = InstanceType<typeof module.default<string, V>>;

const byCodeUnit = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** An empty map whose keys are ordered by code unit. */
export const createOrderedMap = <V>(): OrderedMap<V> => new BTree<string, V>(undefined, byCodeUnit);
