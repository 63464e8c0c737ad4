// One request over http by Node's own client: no redirect followed, its answer unpacked and bounded.

import { type AgentOptions, Agent as HttpAgent, type IncomingMessage, request as requestHttp } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import { PassThrough, type Readable, type Transform, pipeline } from "node:stream";
import {
  constants,
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createInflateRaw,
  createZstdDecompress,
} from "node:zlib";
import { KernelError, type NetRequest, type NetResponse } from "@ergos/kernel";
import { createPublicLookup } from "./address.ts";

/** What ends early is taken as far as it came, as other clients do: no body at all, or one without its last bytes. */
const LENIENT = { flush: constants.Z_SYNC_FLUSH, finishFlush: constants.Z_SYNC_FLUSH };
const LENIENT_BROTLI = { flush: constants.BROTLI_OPERATION_FLUSH, finishFlush: constants.BROTLI_OPERATION_FLUSH };
const LENIENT_ZSTD = { flush: constants.ZSTD_e_flush, finishFlush: constants.ZSTD_e_flush };
const FRAMED_DEFLATE = 8;

const UNPACK = {
  gzip: (packed: Readable) => through(packed, createGunzip(LENIENT)),
  "x-gzip": (packed: Readable) => through(packed, createGunzip(LENIENT)),
  deflate: inflated,
  br: (packed: Readable) => through(packed, createBrotliDecompress(LENIENT_BROTLI)),
  zstd: (packed: Readable) => through(packed, createZstdDecompress(LENIENT_ZSTD)),
} as const;
const isPacking = (name: string): name is keyof typeof UNPACK => Object.hasOwn(UNPACK, name);

const SAFE = new Set(["GET", "HEAD", "OPTIONS"]);
const DEFAULT_HEADERS = { accept: "*/*", "accept-encoding": "gzip, deflate, br, zstd", "user-agent": "ergos" };
/** Milliseconds until there is a connection, and without a byte after which nobody is there any more. */
const CONNECT_MS = 10_000;
const IDLE_MS = 300_000;
/** A connection that nobody uses is kept for so long. */
const KEPT_MS = 4000;
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
  /** The same without connections of before. */
  readonly fresh: Omit<Ways, "fresh">;
}

export function createClient(isPublic: (address: string) => boolean, proxyEnv?: NodeJS.ProcessEnv): Client {
  // A proxy looks names up itself: who is bound to the internet does without.
  const anywhere = waysOf(proxyEnv === undefined ? {} : { proxyEnv });
  const publicOnly = waysOf({ lookup: createPublicLookup(isPublic) });
  return { send: (request, options) => send(request, options, options.isPublicOnly ? publicOnly : anywhere) };
}

function waysOf(options: AgentOptions): Ways {
  const kept = { ...options, keepAlive: true, timeout: KEPT_MS };
  return {
    "http:": new HttpAgent(kept),
    "https:": new HttpsAgent(kept),
    fresh: { "http:": new HttpAgent(options), "https:": new HttpsAgent(options) },
  };
}

async function send(request: NetRequest, options: SendOptions, ways: Ways): Promise<NetResponse> {
  const answer = await answerTo(request, options, ways);
  options.onAnswer();
  // Those that come several times in one text, as HTTP has it.
  const headers = Object.fromEntries(
    Object.entries(answer.headersDistinct).map(([name, values = []]) => [name, values.join(", ")]),
  );
  return {
    status: answer.statusCode ?? 0,
    headers,
    body: await read(unpacked(answer, request.method), options.maxBytes),
  };
}

async function answerTo(request: NetRequest, { signal }: SendOptions, ways: Ways): Promise<IncomingMessage> {
  try {
    return await answerOnce(request, signal, ways);
  } catch (error) {
    if (!(error instanceof StaleConnection)) throw error;
    // The server has left a connection of before just now; it has seen nothing that changes anything.
    if (SAFE.has(request.method)) return answerOnce(request, signal, ways, true);
    throw error.cause;
  }
}

/** A connection that was used before, and closed before it had an answer. */
class StaleConnection extends Error {}

function answerOnce(
  { url, method, headers, body }: NetRequest,
  signal: AbortSignal,
  ways: Ways,
  isFresh = false,
): Promise<IncomingMessage> {
  return new Promise<IncomingMessage>((resolve, reject) => {
    // In the form in which they were looked at; and a body has its length, whatever the method: behind it another begins.
    const plain = Object.fromEntries(new Headers({ ...DEFAULT_HEADERS, ...headers }));
    const length = body === undefined ? {} : { "content-length": String(body.length) };
    const options = { method, signal, timeout: IDLE_MS, headers: { ...plain, ...length } };
    const isSecure = url.startsWith("https:");
    const sending = isSecure
      ? requestHttps(url, { ...options, agent: isFresh ? ways.fresh["https:"] : ways["https:"] }, resolve)
      : requestHttp(url, { ...options, agent: isFresh ? ways.fresh["http:"] : ways["http:"] }, resolve);
    const late = (): void =>
      void sending.destroy(Object.assign(new Error("nothing came in time"), { code: "ETIMEDOUT" }));
    sending.on("timeout", late);
    // A socket has no time that passes before it is connected.
    const connecting = setTimeout(late, CONNECT_MS);
    const isThere = (): void => clearTimeout(connecting);
    sending.on("socket", (socket) => {
      if (sending.reusedSocket) isThere();
      else socket.once(isSecure ? "secureConnect" : "connect", isThere);
    });
    sending.on("close", isThere);
    sending.on("error", (error: NodeJS.ErrnoException) => {
      const isStale = sending.reusedSocket && error.code === "ECONNRESET";
      reject(isStale ? new StaleConnection("", { cause: error }) : error);
    });
    sending.end(body);
  });
}

/** As it was before it was packed, the last packing first. */
function unpacked(answer: IncomingMessage, method: string): Readable {
  const names = (answer.headers["content-encoding"] ?? "")
    .split(",")
    .map((name) => name.trim().toLowerCase())
    .filter((name) => name !== "" && name !== "identity");
  const isEmpty = method === "HEAD" || answer.statusCode === 204 || answer.statusCode === 304;
  // What nobody can unpack is given as it came, and its header says so.
  if (isEmpty || names.length > PACKINGS_MAX || !names.every(isPacking)) return answer;
  return names.reduceRight<Readable>((packed, name) => UNPACK[name](packed), answer);
}

const through = (packed: Readable, unpacker: Transform): Readable => pipeline(packed, unpacker, () => undefined);

/** Some servers send it without its frame: the first byte tells. */
function inflated(packed: Readable): Readable {
  const out = new PassThrough();
  void (async () => {
    const chunks = packed[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
    const first = await chunks.next();
    if (first.done === true) {
      out.end();
      return;
    }
    const isFramed = ((first.value[0] ?? 0) & 0x0f) === FRAMED_DEFLATE;
    const all = async function* all(): AsyncGenerator<Uint8Array, void, undefined> {
      yield first.value;
      for (let next = await chunks.next(); next.done !== true; next = await chunks.next()) yield next.value;
    };
    pipeline(all(), isFramed ? createInflate(LENIENT) : createInflateRaw(LENIENT), out, () => undefined);
  })().catch((error: unknown) => out.destroy(error instanceof Error ? error : undefined));
  return out;
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
