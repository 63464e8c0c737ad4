// The way out of a confined child: a proxy of HTTP on a socket, which asks its process's rights for each host, and
// charges each piece, headers included, before it goes on.
//
// P1  A host that the process may not connect to is 403, and no byte goes there. Rights name the host of the
//     connection; what is said over it is the child's.
// P2  What the budget does not hold is not passed on: the connection ends.
// P3  One connection carries one request, or one tunnel. Their number, the time until they say what they want, and the
//     time for which nothing passes are bounded; both sides end together, and all of them with the child.

import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { type LookupFunction, type Socket, connect, createServer, isIP } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { type Os, describe, isKernelError } from "@ergos/kernel";

export interface Proxy {
  /** The folder with its socket. */
  readonly folder: string;
  close(): void;
}

const CONNECTIONS_MAX = 64;
const HEAD_BYTES_MAX = 16 * 1024;
/** Until a request has said where it goes, and until there is a connection. */
const HEAD_MS = 10_000;
const CONNECT_MS = 10_000;
const IDLE_MS = 300_000;
/** What a connection says about itself: it is not passed on. */
const HOP_BY_HOP = new Set([
  "connection",
  "host",
  "keep-alive",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "upgrade",
]);

/** Folders of proxies are named by the host that they are of. */
const FOLDER = "ergos-proxy-";

/** Removes what hosts have left that were killed. */
export function sweepProxies(): void {
  try {
    for (const name of readdirSync(tmpdir())) {
      const pid = name.startsWith(FOLDER) ? Number.parseInt(name.slice(FOLDER.length), 10) : Number.NaN;
      if (pid > 0 && !isAlive(pid)) rmSync(join(tmpdir(), name), { recursive: true, force: true });
    }
  } catch {
    // What is somebody else's is not ours to remove, and keeps nobody from running.
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}

/** Opens the proxy of one child, which acts with the rights and the budget of its process. */
export async function openProxy(os: Os): Promise<Proxy> {
  const folder = mkdtempSync(join(tmpdir(), `${FOLDER}${process.pid}-`));
  const open = new Set<Socket>();
  const keep = (socket: Socket): Socket => {
    open.add(socket);
    return socket.on("close", () => open.delete(socket)).on("error", () => socket.destroy());
  };
  const server = createServer((near) => {
    serve(os, keep(near), keep).catch(() => near.destroy());
  });
  server.maxConnections = CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(join(folder, "proxy"), resolve);
  });
  server.unref();
  return {
    folder,
    close: () => {
      server.close();
      for (const socket of open) socket.destroy();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Where a connection leads, as far as that matters to the rights of its process. */
interface Route {
  readonly url: string;
  readonly addresses?: readonly string[];
  readonly isPrivate?: boolean;
}

/** What a client wants, and the bytes with which the connection to it begins. */
interface Wish {
  readonly url: URL;
  readonly isTunnel: boolean;
  readonly first: Buffer;
}

async function serve(os: Os, near: Socket, keep: (socket: Socket) => Socket): Promise<void> {
  near.setTimeout(HEAD_MS, () => near.destroy());
  const wish = wishOf(await headOf(near));
  if (typeof wish === "string") return refuse(near, 400, wish);
  const { url, isTunnel, first } = wish;
  // A person may have to be asked, who takes a while.
  near.setTimeout(0);
  const route = await routeTo(os, url.href);
  if (near.destroyed) return;
  if (typeof route === "string") return refuse(near, 403, route);
  const { addresses } = route;
  if (addresses?.length === 0) return refuse(near, 502, `${url.hostname} has no address`);
  const port = Number(url.port || (url.protocol === "http:" ? 80 : 443));
  const host = url.hostname.replaceAll(/[[\]]/g, "");
  const far = keep(connect({ host, port, ...(addresses === undefined ? {} : { lookup: lookupOf(addresses) }) }));
  const failure = await connected(far);
  if (failure !== undefined) return refuse(near, 502, failure);
  for (const socket of [near, far]) socket.setTimeout(IDLE_MS, () => socket.destroy());
  // Whoever leaves takes the other along: nobody is served for somebody who is gone.
  near.once("close", () => far.destroy());
  far.once("close", () => near.end());
  if (isTunnel) near.write("HTTP/1.1 200 Connection Established\r\n\r\n");
  const end = (): void => {
    near.destroy();
    far.destroy();
  };
  pipeline(near, meter(os, route, first), far).catch(end);
  pipeline(far, meter(os, route), near).catch(end);
}

/** Everything up to the empty line behind the headers, with what came along. */
async function headOf(near: Socket): Promise<Buffer> {
  let head = Buffer.alloc(0);
  while (!head.includes("\r\n\r\n")) {
    if (head.length > HEAD_BYTES_MAX) throw new TypeError("headers without an end");
    const more = near.read() as Buffer | null;
    if (more !== null) head = Buffer.concat([head, more]);
    else if (near.destroyed || near.readableEnded) throw new TypeError("it has left");
    else await heard(near);
  }
  return head;
}

/** There is more to read, or there never will be. */
function heard(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const hear = (): void => {
      socket.off("readable", hear).off("close", hear);
      resolve();
    };
    socket.on("readable", hear).on("close", hear);
  });
}

/** What a head asks for, or why that is nothing. */
function wishOf(head: Buffer): Wish | string {
  const end = head.indexOf("\r\n\r\n");
  const [line = "", ...headers] = head.subarray(0, end).toString("latin1").split("\r\n");
  const [, method = "", target = ""] = /^([!#$%&'*+.^_`|~\w-]+) (\S+) HTTP\/1\.[01]$/.exec(line) ?? [];
  const body = head.subarray(end + 4);
  if (method === "CONNECT") {
    // Node asks for tunnels of plain http too.
    const url = URL.parse(`${target.endsWith(":80") ? "http" : "https"}://${target}/`);
    const isHost = url !== null && url.username === "" && url.pathname === "/" && url.search === "";
    return isHost ? { url, isTunnel: true, first: body } : "a tunnel is asked for by host and port";
  }
  const url = URL.parse(target);
  if (url === null || url.protocol !== "http:" || url.username !== "")
    return "a proxy is asked for whole addresses of http, and for tunnels";
  const named = new Set(
    headers.flatMap((header) => /^connection: *(.*)$/i.exec(header)?.[1]?.toLowerCase().split(/ *, */) ?? []),
  );
  const kept = headers.filter((header) => {
    const name = header.slice(0, Math.max(0, header.indexOf(":"))).toLowerCase();
    return name !== "" && !HOP_BY_HOP.has(name) && !named.has(name);
  });
  const lines = [
    `${method} ${url.pathname}${url.search} HTTP/1.1`,
    `Host: ${url.host}`,
    ...kept,
    "Connection: close",
    "",
    "",
  ];
  return { url, isTunnel: false, first: Buffer.concat([Buffer.from(lines.join("\r\n"), "latin1"), body]) };
}

/** Where a connection may be made to, or why not. */
async function routeTo(os: Os, url: string): Promise<Route | string> {
  try {
    const allowed = await os.call("connect", { url });
    // What a client says over it is meant for whom it has named.
    return allowed.url === url ? allowed : `it may connect to ${new URL(allowed.url).host} instead, as was answered`;
  } catch (error) {
    return isKernelError(error) ? error.message : describe(error);
  }
}

/** Gives the addresses that were looked at, and none that the name leads to meanwhile. */
function lookupOf(addresses: readonly string[]): LookupFunction {
  const found = addresses.map((address) => ({ address, family: isIP(address) }));
  return (_name, { all }, done) => {
    const [first] = found;
    if (all === true) done(null, found);
    else done(null, first?.address ?? "", first?.family);
  };
}

/** Settles when there is a connection, or with why there is none. */
function connected(far: Socket): Promise<string | undefined> {
  return new Promise((resolve) => {
    far.setTimeout(CONNECT_MS, () => {
      far.destroy();
      resolve("nobody has answered in time");
    });
    far.once("connect", () => resolve(undefined)).once("error", ({ message }) => resolve(message));
  });
}

/** Counts what passes; a piece that the budget does not hold is the end. */
function meter(os: Os, { url, isPrivate = false }: Route, first?: Buffer) {
  const charged = async (piece: Buffer): Promise<Buffer> => {
    await os.call("transfer", { url, isPrivate, bytes: piece.length });
    return piece;
  };
  return async function* counted(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
    if (first !== undefined && first.length > 0) yield await charged(first);
    for await (const piece of source) yield await charged(piece);
  };
}

function refuse(near: Socket, status: number, why: string): void {
  const text = `${why}\n`;
  const names: Readonly<Record<number, string>> = { 400: "Bad Request", 403: "Forbidden", 502: "Bad Gateway" };
  near.end(
    `HTTP/1.1 ${status} ${names[status] ?? ""}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(text)}\r\nconnection: close\r\n\r\n${text}`,
  );
}
