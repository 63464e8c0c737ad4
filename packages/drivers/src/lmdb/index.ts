// `@ergos/drivers/lmdb`: a metastore over LMDB, with the optional package `lmdb`.

export { LmdbMetastore, type LmdbMetastoreOptions } from "./metastore.ts";
