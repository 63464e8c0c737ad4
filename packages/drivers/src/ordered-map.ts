// The sorted map of the stores. The package is CommonJS, so under Node its class is a property of the module.

import module from "sorted-btree";

export type OrderedMap<V> = InstanceType<typeof module.default<string, V>>;

const byCodeUnit = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** An empty map whose keys are ordered by code unit. */
export const createOrderedMap = <V>(): OrderedMap<V> => new module.default<string, V>(undefined, byCodeUnit);
