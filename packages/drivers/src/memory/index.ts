// `@ergos/drivers/memory`: the reference model of the store contracts.

export { MemoryMetastore, type MemoryMetastoreOptions } from "./metastore.ts";
export { MemoryObjectStore } from "./object-store.ts";
