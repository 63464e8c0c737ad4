// The way out of a confined child: a proxy of HTTP on a socket, which asks its process's rights for each host, and
// charges each piece before it goes on.
//
// P1  A host that the process may not connect to is 403, and no byte goes there.
// P2  What the budget does not hold is not passed on: the connection ends.

import { mkdtempSync, rmSync } from "node:fs";
import type * as Http from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { type Socket, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type Os, describe, isKernelError } from "@ergos/kernel";

export interface Proxy {
  /** The folder with its socket. */
  readonly folder: string;
  close(): void;
}

/** Opens the proxy of one child, which acts with the rights and the budget of its process. */
export async function openProxy(os: Os): Promise<Proxy> {
  const http = await import("node:http");
  const folder = mkdtempSync(join(tmpdir(), "ergos-proxy-"));
  const open = new Set<Duplex>();
  const server: Server = http.createServer((request, response) => void forward(http, os, request, response));
  server.on("connect", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket)).on("error", () => undefined);
    void tunnel(os, request, socket, head);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(join(folder, "proxy"), resolve);
  });
  server.unref();
  return {
    folder,
    close: () => {
      server.close();
      server.closeAllConnections();
      for (const socket of open) socket.destroy();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Counts what passes; a piece that the budget does not hold is the end. */
const meter = (os: Os, url: string) =>
  async function* counted(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
    for await (const piece of source) {
      await os.call("transfer", { url, bytes: piece.length });
      yield piece;
    }
  };

async function allowed(os: Os, url: string): Promise<string | undefined> {
  try {
    await os.call("connect", { url });
    return undefined;
  } catch (error) {
    return isKernelError(error) ? error.message : describe(error);
  }
}

async function tunnel(os: Os, request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
  // Node asks for tunnels of plain http too.
  const url = `${request.url?.endsWith(":80") === true ? "http" : "https"}://${request.url ?? ""}/`;
  const at = URL.parse(url);
  if (at === null) return void socket.end(refusal("no host is named"));
  const why = await allowed(os, url);
  if (why !== undefined) return void socket.end(refusal(why));
  const there: Socket = connect({
    host: at.hostname.replace(/^\[|\]$/g, ""),
    port: Number(at.port || (at.protocol === "http:" ? 80 : 443)),
  });
  there.once("error", (error) => socket.end(`HTTP/1.1 502 Bad Gateway\r\n\r\n${error.message}\n`));
  there.once("connect", () => {
    there.removeAllListeners("error").on("error", () => socket.destroy());
    socket.write("HTTP/1.1 200 Connection Established\r\n\r\n");
    if (head.length > 0) socket.unshift(head);
    const end = (): void => {
      socket.destroy();
      there.destroy();
    };
    pipeline(socket, meter(os, url), there).catch(end);
    pipeline(there, meter(os, url), socket).catch(end);
  });
}

async function forward(
  http: Pick<typeof Http, "request">,
  os: Os,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = request.url ?? "";
  const isWhole = URL.parse(url)?.protocol === "http:";
  const why = isWhole ? await allowed(os, url) : "a proxy is asked for whole addresses of http";
  if (why !== undefined)
    return void response.writeHead(isWhole ? 403 : 400, { "content-type": "text/plain" }).end(`${why}\n`);
  const { "proxy-connection": _proxy, connection: _connection, ...headers } = request.headers;
  const there = http.request(url, { method: request.method, headers, agent: false }, (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    pipeline(answer, meter(os, url), response).catch(() => response.destroy());
  });
  there.once("error", (error) => {
    if (response.headersSent) response.destroy();
    else response.writeHead(502, { "content-type": "text/plain" }).end(`${error.message}\n`);
  });
  pipeline(request, meter(os, url), there).catch(() => there.destroy());
}

const refusal = (why: string): string => {
  const text = `${why}\n`;
  return `HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
};
