// A request over the network: checked hop by hop, recorded, charged by its bytes.
//
// N1  Each host that a redirect leads to needs the right as the first did; another origin is told no names.
// N2  A request that changes something is not repeated unknowingly.

import type { NetRequest, NetResponse } from "../abi/net.ts";
import { toBase64 } from "../base/base64.ts";
import { within } from "../abi/within.ts";
import { orAborted } from "../base/abort.ts";
import { utf8Length } from "../base/json.ts";
import { KernelError, isKernelError } from "../base/errno.ts";
import type { Called } from "../budget/ledger.ts";
import type { Amounts } from "../budget/resource.ts";
import type { Rider } from "../ipc/committer.ts";
import type { Process } from "../proc/process.ts";
import type { Host } from "./host.ts";
import { type Need, isFree, mayGoOn, obstacleTo, refused } from "./policy.ts";
import type { Target } from "./row.ts";
import { CallOf, type PaidCall, pay } from "./paid-call.ts";
import { taken } from "./placed.ts";

/** A request over http, within `net.connect` and `netBytes`. */
export interface FetchCall {
  readonly place: string;
  /** http or https; redirects are followed, each with its own check. */
  readonly url: string;
  /** Default GET. */
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Text, sent as UTF-8. */
  readonly body?: string;
  /** Largest answer (default 4 MiB); a budget of `netBytes` reserves this much. */
  readonly maxBytes?: number;
  readonly signal?: AbortSignal;
  /** What becomes of a call that was under way when its host died: EUNKNOWN (default), or it is made again. */
  readonly onUnknown?: "fail" | "repeat";
}

export interface FetchAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Where it came from after redirects. */
  readonly url: string;
  /** The body as UTF-8 text; of bytes that are no text, base64. */
  readonly body: string;
  readonly isBase64?: true;
}

const DEFAULT_MAX_BYTES = 4 * 1024 * 1024;
/** As the ledger names it. */
const FETCHED: Called = { tool: "fetch" };
const LOOKUP_MS = 10_000;
const REDIRECTS_MAX = 10;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
const SAFE = new Set(["GET", "HEAD", "OPTIONS"]);
/** What another origin is told; everything else may name somebody. */
const FORWARDED = new Set([
  "accept",
  "accept-encoding",
  "accept-language",
  "content-type",
  "idempotency-key",
  "range",
  "user-agent",
]);
/** What is about a body, and goes with it. */
const ABOUT_BODY = new Set(["content-type", "content-encoding", "content-language", "idempotency-key"]);

export function netOf(host: Host): NonNullable<Host["net"]> {
  if (host.net === undefined) throw new KernelError("ENOTSUP", "this host has no network", { syscall: "fetch" });
  return host.net;
}

/** A host as the target of a call; whether it is not on the internet, where that matters to the caller. */
export interface NetTarget extends Target {
  readonly isPrivate?: boolean;
  readonly addresses?: readonly string[];
}

/**
 * Who may do everything goes anywhere. For anybody else it is looked up where a host leads, once it may connect there: a
 * name that is looked up is heard by others.
 * @param args what conditions of its grants look at
 */
export function netTarget(
  host: Host,
  caller: Process,
  url: string,
  args: unknown,
  given?: AbortSignal,
): NetTarget | Promise<NetTarget> {
  const resource = netOf(host).locate(url).host;
  if (isFree(host, caller) || caller.capability.decide("net.connect", resource, args, true).effect === "deny")
    return { resource };
  return located(host, caller, resource, given);
}

/** @throws {ETIMEDOUT} nobody says where it is */
async function located(host: Host, caller: Process, resource: string, given?: AbortSignal): Promise<NetTarget> {
  const late = (): KernelError => new KernelError("ETIMEDOUT", `${resource} could not be looked up in ${LOOKUP_MS} ms`);
  const found = within(host.platform, LOOKUP_MS, late, netOf(host).resolve(resource));
  const { addresses, isPrivate } = await orAborted(found, caller.signalWith(given));
  return { resource, addresses, isPrivate };
}

/** What a call needs beside `net.connect`. */
export const privateNeeds = ({ resource, isPrivate }: NetTarget): readonly Need[] =>
  isPrivate === true ? [{ right: "net.private", resource }] : [];

/** All that it needs. */
export const netNeeds = (target: NetTarget): readonly Need[] => [
  { right: "net.connect", resource: target.resource },
  ...privateNeeds(target),
];

/**
 * A request in its one form, as conditions of grants and policies look at it: where it really leads, names of headers in
 * lower case, and no letter or digit of the address hidden in an escape.
 */
export function plainRequest(
  host: Host,
  { url, method = "GET", headers = {}, ...rest }: Omit<FetchCall, "body"> & { readonly body?: string | undefined },
): object {
  return {
    ...rest,
    url: netOf(host)
      .locate(url)
      .url.replaceAll(/%[0-9a-f]{2}/gi, plainEscape),
    method,
    headers: lowerCase(headers),
  };
}

const plainEscape = (escape: string): string => {
  const character = String.fromCharCode(Number.parseInt(escape.slice(1), 16));
  return /[\w.~-]/.test(character) ? character : escape.toUpperCase();
};

/** How far a request has come. */
interface Trip {
  /** Sent and received, in bodies. */
  bytes: number;
  /** The same in addresses and headers. */
  heads: number;
  /** Whether a server has answered on the way: it may have acted. */
  hasAnswered: boolean;
}

export function fetchUrl(
  host: Host,
  caller: Process,
  call: FetchCall,
  target: NetTarget,
  rider?: Rider,
): Promise<FetchAnswer> {
  const { place } = call;
  return taken(caller, "fetch", place, () => pay(host, caller, new Fetching(host, caller, call, target, rider)));
}

class Fetching extends CallOf<FetchCall> implements PaidCall<FetchAnswer> {
  readonly syscall = "fetch";
  readonly of = FETCHED;
  readonly key: string;
  readonly amounts: Amounts;
  readonly isUncounted = true;
  // What is sent and answered twice is paid for twice.
  readonly paysAgain = true;
  readonly staysUnknown = true;
  readonly fails = { code: "EIO" } as const;
  readonly #first: NetRequest;
  readonly #maxBytes: number;
  readonly #trip: Trip = { bytes: 0, heads: 0, hasAnswered: false };
  #target: NetTarget;

  constructor(host: Host, caller: Process, call: FetchCall, target: NetTarget, rider: Rider | undefined) {
    super(host, caller, call, rider);
    this.key = this.keyOf([call.method, call.url, call.headers, call.body]);
    this.#first = firstRequest(host, call, this.key);
    this.#maxBytes = call.maxBytes ?? DEFAULT_MAX_BYTES;
    this.amounts = { netBytes: this.#maxBytes + (this.#first.body?.length ?? 0) + headBytes(this.#first) };
    this.#target = target;
  }

  get what(): string {
    return `fetch ${this.given.url}`;
  }

  get effect(): "idempotent" | "once" {
    return SAFE.has(this.#first.method) ? "idempotent" : "once";
  }

  async assertMay(): Promise<void> {
    const [host, caller, { signal }] = [this.host, this.caller, this];
    const args = plainRequest(host, this.given);
    // Who could go anywhere when the call began may be bound by now.
    if (this.#target.isPrivate === undefined)
      this.#target = await netTarget(host, caller, this.given.url, args, signal);
    for (const need of netNeeds(this.#target)) await mayGoOn(host, caller, "fetch", need, { args, signal });
  }

  act(signal: AbortSignal): Promise<FetchAnswer> {
    const route = {
      first: this.#first,
      call: this.given,
      target: this.#target,
      maxBytes: this.#maxBytes,
      signal,
    };
    return follow(this.host, this.caller, route, this.#trip);
  }

  used(): Amounts {
    return { netBytes: this.#trip.bytes + this.#trip.heads };
  }

  /** What was sent and answered on the way is used, whatever came of it in the end. */
  usedInVain(): Amounts | undefined {
    return this.#trip.hasAnswered ? this.used() : undefined;
  }

  /** A server that has acted has done so, whatever became of its answer (N2). */
  hasActed(): boolean {
    return this.#trip.hasAnswered && this.effect === "once";
  }
}

/** @throws {EINVAL} no such request can be made */
function firstRequest(host: Host, call: FetchCall, key: string): NetRequest {
  const net = netOf(host);
  const method = call.method ?? "GET";
  const headers = lowerCase(call.headers ?? {});
  const isKeyed = !SAFE.has(method) && headers["idempotency-key"] === undefined;
  const request: NetRequest = {
    url: net.locate(call.url).url,
    method,
    headers: isKeyed ? { ...headers, "idempotency-key": host.platform.hash(key).slice(0, 32) } : headers,
    ...(call.body === undefined ? {} : { body: new TextEncoder().encode(call.body) }),
  };
  net.check(request);
  return request;
}

/** Makes the request, and those that its answers redirect to, each under the right for its host (N1). */
async function follow(
  host: Host,
  caller: Process,
  {
    first,
    call,
    target,
    maxBytes,
    signal,
  }: {
    readonly first: NetRequest;
    readonly call: FetchCall;
    readonly target: NetTarget;
    readonly maxBytes: number;
    readonly signal: AbortSignal;
  },
  trip: Trip,
): Promise<FetchAnswer> {
  const net = netOf(host);
  const most = maxBytes + (first.body?.length ?? 0);
  let next = first;
  let at = net.locate(first.url);
  let { isPrivate } = target;
  for (let hops = 0; ; hops++) {
    const sent = next.body?.length ?? 0;
    if (trip.bytes + sent > most)
      throw new KernelError(
        "EFBIG",
        `${call.url} redirects a body of ${sent} bytes beyond the ${most} that were allowed`,
      );
    trip.bytes += sent;
    trip.heads += headBytes(next);
    const device = `host ${at.host}`;
    host.breakers.assertClosed(device, caller.pid);
    const allowed = { signal, maxBytes: most - trip.bytes, isPublicOnly: isPrivate === false };
    const response = await net.send(next, allowed).catch((error: unknown) => {
      // It leads elsewhere by now.
      if (isKernelError(error) && error.code === "EACCES")
        throw refused(host, caller, "fetch", { right: "net.private", resource: at.host }, error.message);
      if (!signal.aborted) host.breakers.failed(device, caller.pid, error);
      throw error;
    });
    host.breakers.succeeded(device, caller.pid);
    trip.hasAnswered = true;
    trip.bytes += response.body.length;
    trip.heads += headersBytes(response.headers);
    const { location } = response.headers;
    if (!REDIRECTS.has(response.status) || location === undefined) return answerOf(response, next.url);
    if (hops >= REDIRECTS_MAX)
      throw new KernelError("ELOOP", `${call.url} redirects more than ${REDIRECTS_MAX} times`, { syscall: "fetch" });
    const to = net.locate(location, next.url);
    next = redirected(next, response.status, to.url, to.origin === at.origin);
    net.check(next);
    // Conditions of grants and the policy look at the request as it would be made there.
    const { url, method, headers } = next;
    const args = plainRequest(host, {
      ...call,
      url,
      method,
      headers,
      ...(next.body === undefined ? { body: undefined } : {}),
    });
    const isSame = to.host === at.host;
    const assertMayGo = async (need: Need, isAsked: boolean): Promise<void> => {
      const why = await obstacleTo(host, caller, "fetch", need, args, isAsked);
      if (why !== undefined) throw refused(host, caller, "fetch", need, `${call.url} redirects there; ${why}`);
    };
    await assertMayGo({ right: "net.connect", resource: to.host }, isSame);
    const there = await netTarget(host, caller, to.url, args, signal);
    // Where a host leads may have changed on the way: that was not asked for.
    for (const need of privateNeeds(there)) await assertMayGo(need, isSame && isPrivate === true);
    at = to;
    ({ isPrivate } = there);
  }
}

/** Bytes of a request before its body. */
const headBytes = ({ method, url, headers }: NetRequest): number =>
  utf8Length(method) + utf8Length(url) + 4 + headersBytes(headers);

const headersBytes = (headers: Readonly<Record<string, string>>): number =>
  Object.entries(headers).reduce((bytes, [name, value]) => bytes + utf8Length(name) + utf8Length(value) + 4, 0);

/** The request that follows a redirect. */
function redirected(request: NetRequest, status: number, url: string, isHome: boolean): NetRequest {
  const { method } = request;
  const losesBody = (status === 303 && method !== "HEAD") || (status < 303 && method === "POST");
  const headers = Object.fromEntries(
    Object.entries(request.headers).filter(
      ([name]) => (isHome || FORWARDED.has(name)) && !(losesBody && ABOUT_BODY.has(name)),
    ),
  );
  if (losesBody) return { url, method: "GET", headers };
  return { ...request, url, headers };
}

function answerOf({ status, headers, body }: NetResponse, url: string): FetchAnswer {
  try {
    return { status, headers, url, body: new TextDecoder("utf-8", { fatal: true }).decode(body) };
  } catch {
    return { status, headers, url, body: toBase64(body), isBase64: true };
  }
}

const lowerCase = (headers: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
