// `@ergos/drivers/memory`: the reference model of the store contracts.

export { MemoryCacheStore, type MemoryCacheOptions, NullCacheStore } from "./cache-store.ts";
export { MemoryMetastore, type MemoryMetastoreOptions } from "./metastore.ts";
export { MemoryObjectStore } from "./object-store.ts";
