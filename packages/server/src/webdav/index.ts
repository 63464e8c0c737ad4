// `@ergos/server/webdav`: the files of a host for any desktop.

export { type Handler, type HttpServer, serveHttp } from "../http-server.ts";
export { createDav, type DavOptions } from "./handler.ts";
