// A handler of web requests, `(Request) => Response`, behind an HTTP server of Node on loopback.

import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { KernelError } from "@ergos/kernel";

export type Handler = (request: Request) => Promise<Response>;

export interface HttpServer extends AsyncDisposable {
  readonly host: string;
  readonly port: number;
  close(): Promise<void>;
}

/** Longest time in which a request must have come whole, and its headers. */
const REQUEST_MS = 600_000;
const HEADERS_MS = 30_000;
/** Bytes of a request that nobody wants, which are read all the same: the connection may be used again. */
const DRAINED_BYTES_MAX = 16 * 1024 * 1024;

/**
 * Serves a handler.
 * @param port 0 takes a free one
 * @throws {EBUSY} the port is taken
 */
export async function serveHttp(handler: Handler, { host = "127.0.0.1", port = 0 } = {}): Promise<HttpServer> {
  // Loaded with the first server: it brings all of fetch with it, which doubles the start of whoever needs none.
  const { createServer } = await import("node:http");
  const server = createServer({ requestTimeout: REQUEST_MS, headersTimeout: HEADERS_MS }, (request, response) => {
    void answer(handler, request, response);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) =>
      reject(
        new KernelError(
          error.code === "EADDRINUSE" ? "EBUSY" : "EIO",
          `${host}:${port} cannot be served: ${error.message}; choose another port`,
          { cause: error },
        ),
      ),
    );
    server.listen(port, host, resolve);
  });
  // Of a server that listens on a port.
  const { port: taken } = server.address() as AddressInfo;
  const close = (): Promise<void> => closeServer(server);
  return { host, port: taken, close, [Symbol.asyncDispose]: close };
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

async function answer(handler: Handler, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const gone = new AbortController();
  outgoing.once("close", () => gone.abort());
  const pieces = incoming.iterator({ destroyOnReturn: false });
  try {
    const request = toRequest(incoming, pieces, gone.signal);
    if (request === undefined) {
      outgoing.writeHead(400).end("this is no request that can be answered\n");
      return;
    }
    const response = await handler(request);
    leave(incoming, pieces);
    outgoing.writeHead(response.status, Object.fromEntries(response.headers));
    if (response.body === null) outgoing.end();
    else await pipeline(Readable.fromWeb(response.body), outgoing);
  } catch {
    // The client has gone, or the handler failed on what it does not expect: it says no more than that.
    if (!outgoing.headersSent) outgoing.writeHead(500);
    outgoing.end();
  } finally {
    leave(incoming, pieces);
  }
}

/**
 * What was not read of a request is not kept for the next one on this connection: it is read on to its end, if that is
 * near. Before the answer ends: behind it Node would read on for ever.
 */
function leave(incoming: IncomingMessage, pieces: AsyncIterator<Buffer>): void {
  if (incoming.complete || incoming.listenerCount("data") > 0) return;
  void pieces.return?.().catch(() => undefined);
  let left = DRAINED_BYTES_MAX;
  incoming.on("data", ({ length }: Buffer) => {
    if ((left -= length) < 0) incoming.destroy();
  });
}

/** A body that leaves its connection alone when nobody wants more of it. */
const bodyOf = (pieces: AsyncIterator<Buffer>): ReadableStream<Uint8Array> =>
  new ReadableStream(
    {
      pull: async (controller) => {
        const { done, value } = await pieces.next();
        if (done === true) controller.close();
        else controller.enqueue(value);
      },
    },
    { highWaterMark: 0 },
  );

/** A request as the web has it; nothing for one that is none: a method that `fetch` forbids, an address or host that is none. */
function toRequest(incoming: IncomingMessage, pieces: AsyncIterator<Buffer>, signal: AbortSignal): Request | undefined {
  const { method = "GET", url = "/", headers } = incoming;
  const list = Object.entries(headers).flatMap(([name, value]): [string, string][] =>
    value === undefined ? [] : [[name, Array.isArray(value) ? value.join(", ") : value]],
  );
  const hasBody =
    headers["content-length"] !== undefined
      ? headers["content-length"] !== "0"
      : headers["transfer-encoding"] !== undefined;
  const takesBody = method !== "GET" && method !== "HEAD";
  const body = hasBody && takesBody ? { body: bodyOf(pieces), duplex: "half" as const } : {};
  const base = `http://${headers.host ?? "localhost"}`;
  if (!URL.canParse(url, base) || /^(?:connect|trace|track)$/i.test(method)) return undefined;
  return new Request(new URL(url, base), { method, headers: list, signal, ...body });
}
