// `@ergos/drivers/sqlite`: the embedded metastore.

export { networkFilesystemOf, readOwner } from "./directory.ts";
export { SqliteMetastore, type SqliteMetastoreOptions } from "./metastore.ts";
