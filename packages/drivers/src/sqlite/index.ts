// `@ergos/drivers/sqlite`: the embedded metastore.

export { isOwned, networkFilesystemOf, readOwner, takeDirectory } from "../store/directory.ts";
export { SqliteMetastore, type SqliteMetastoreOptions } from "./metastore.ts";
