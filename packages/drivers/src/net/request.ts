// One request over http by Node's own client: no redirect followed, its answer unpacked and bounded.

import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import { type Readable, pipeline } from "node:stream";
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from "node:zlib";
import { KernelError, type NetRequest, type NetResponse } from "@ergos/kernel";
import { createPublicLookup } from "./address.ts";

const UNPACK = {
  gzip: createGunzip,
  "x-gzip": createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress,
  zstd: createZstdDecompress,
} as const;
const isPacking = (name: string): name is keyof typeof UNPACK => Object.hasOwn(UNPACK, name);

const DEFAULT_HEADERS = { accept: "*/*", "accept-encoding": "gzip, deflate, br, zstd", "user-agent": "ergos" };
/** Milliseconds until there is a connection, and without a byte after which nobody is there any more. */
const CONNECT_MS = 10_000;
const IDLE_MS = 300_000;
/** How often an answer may be packed. */
const PACKINGS_MAX = 5;

export interface SendOptions {
  readonly signal: AbortSignal;
  readonly maxBytes: number;
  readonly isPublicOnly: boolean;
  /** Told when the server has begun to answer. */
  readonly onAnswer: () => void;
}

export interface Client {
  /** @throws {EFBIG} the answer is larger than `maxBytes` · what Node says of the connection */
  send(request: NetRequest, options: SendOptions): Promise<NetResponse>;
}

/** How requests are made to one kind of address: connections are kept, and none of one kind is used for another. */
interface Ways {
  readonly "http:": HttpAgent;
  readonly "https:": HttpsAgent;
}

export function createClient(isPublic: (address: string) => boolean): Client {
  const kept = { keepAlive: true };
  const inside = { ...kept, lookup: createPublicLookup(isPublic) };
  const any: Ways = { "http:": new HttpAgent(kept), "https:": new HttpsAgent(kept) };
  const open: Ways = { "http:": new HttpAgent(inside), "https:": new HttpsAgent(inside) };
  return { send: (request, options) => send(request, options, options.isPublicOnly ? open : any) };
}

async function send(request: NetRequest, options: SendOptions, ways: Ways): Promise<NetResponse> {
  const answer = await answerTo(request, options, ways);
  options.onAnswer();
  // Those that come several times in one text, as HTTP has it.
  const headers = Object.fromEntries(
    Object.entries(answer.headersDistinct).map(([name, values = []]) => [name, values.join(", ")]),
  );
  return { status: answer.statusCode ?? 0, headers, body: await read(unpacked(answer), options.maxBytes) };
}

async function answerTo(request: NetRequest, { signal }: SendOptions, ways: Ways): Promise<IncomingMessage> {
  try {
    return await answerOnce(request, signal, ways);
  } catch (error) {
    // The server has left a connection of before just now; it has seen nothing that changes anything.
    const isSafe = request.method === "GET" || request.method === "HEAD" || request.method === "OPTIONS";
    if (isSafe && error instanceof StaleConnection) return answerOnce(request, signal, ways);
    throw error instanceof StaleConnection ? error.cause : error;
  }
}

/** A connection that was used before, and closed before it had an answer. */
class StaleConnection extends Error {}

function answerOnce({ url, method, headers, body }: NetRequest, signal: AbortSignal, ways: Ways) {
  return new Promise<IncomingMessage>((resolve, reject) => {
    const options = { method, signal, headers: { ...DEFAULT_HEADERS, ...headers } };
    const sending = url.startsWith("https:")
      ? requestHttps(url, { ...options, agent: ways["https:"] }, resolve)
      : requestHttp(url, { ...options, agent: ways["http:"] }, resolve);
    const late = (): void =>
      void sending.destroy(Object.assign(new Error("nothing came in time"), { code: "ETIMEDOUT" }));
    sending.setTimeout(CONNECT_MS, late);
    sending.on("socket", (socket) => {
      if (!socket.connecting) sending.setTimeout(IDLE_MS);
      else socket.once("connect", () => sending.setTimeout(IDLE_MS));
    });
    sending.on("error", (error: NodeJS.ErrnoException) => {
      const isStale = sending.reusedSocket && error.code === "ECONNRESET";
      reject(isStale ? new StaleConnection("", { cause: error }) : error);
    });
    sending.end(body);
  });
}

/** As it was before it was packed, the last packing first. */
function unpacked(answer: IncomingMessage): Readable {
  const names = (answer.headers["content-encoding"] ?? "")
    .split(",")
    .map((name) => name.trim().toLowerCase())
    .filter((name) => name !== "" && name !== "identity");
  // What nobody can unpack is given as it came, and its header says so.
  if (names.length > PACKINGS_MAX || !names.every(isPacking)) return answer;
  return names.reduceRight<Readable>((packed, name) => pipeline(packed, UNPACK[name](), () => undefined), answer);
}

async function read(source: Readable, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  // Read as bytes, which nobody has given an encoding.
  for await (const chunk of source as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > maxBytes)
      throw new KernelError("EFBIG", `the answer has more than the ${maxBytes} bytes that were allowed`, {
        mayHaveActed: true,
      });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
