// `@ergos/kernel/conformance`: the law of each contract, as data for any test runner.

export type { ConformanceCase } from "./case.ts";
export { CACHE_STORE_CASES } from "./cache-store.ts";
export { METASTORE_CASES } from "./metastore.ts";
export { OBJECT_STORE_CASES } from "./object-store.ts";
export { RECORD_STORE_CASES } from "./record-store.ts";
