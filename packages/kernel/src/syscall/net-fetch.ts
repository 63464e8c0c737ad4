// A request over the network: checked hop by hop, recorded, charged by its bytes.
//
// N1  Each host that a redirect leads to needs the right as the first did; headers that carry a name stay at home.
// N2  A request that changes something is not repeated unknowingly.

import type { NetResponse } from "../abi/net.ts";
import { KernelError, fromErrorRecord, isKernelError, toErrorRecord, toKernelError } from "../base/errno.ts";
import type { Rider } from "../ipc/committer.ts";
import type { Process } from "../proc/process.ts";
import type { Host } from "./host.ts";
import { charged, reserve, usageAppend, warn, withinTime } from "./spend.ts";

export interface FetchCall {
  readonly place: string;
  readonly url: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Text, sent as UTF-8. */
  readonly body?: string;
  /** Largest answer (default 4 MiB); a budget of `netBytes` reserves this much. */
  readonly maxBytes?: number;
  readonly signal?: AbortSignal;
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
const REDIRECTS_MAX = 10;
const SAFE = new Set(["GET", "HEAD", "OPTIONS"]);
/** What is not told to another host. */
const PERSONAL = new Set(["authorization", "cookie", "proxy-authorization"]);

export function netOf(host: Host): NonNullable<Host["net"]> {
  if (host.net === undefined) throw new KernelError("ENOTSUP", "this host has no network", { syscall: "fetch" });
  return host.net;
}

export async function fetchUrl(host: Host, caller: Process, call: FetchCall, rider?: Rider): Promise<FetchAnswer> {
  const { place } = call;
  const { journal } = caller;
  const method = (call.method ?? "GET").toUpperCase();
  const before = await journal?.begin(place);
  if (before !== undefined) {
    caller.usage.replayed++;
    if (before.error !== undefined) throw fromErrorRecord(before.error);
    // Recorded below, by this function.
    return before.value as FetchAnswer;
  }
  const isSafe = SAFE.has(method);
  const signal = call.signal ?? caller.signal;
  const digest = host.platform.hash(JSON.stringify([method, call.url, call.headers, call.body])).slice(0, 16);
  const key = `${host.id}/${caller.identity.runId}/${place}#${digest}`;
  if (journal?.takeIntent(place, () => key) !== undefined && !isSafe && call.onUnknown !== "repeat") {
    throw new KernelError(
      "EUNKNOWN",
      `the host ended during ${method} ${call.url} at ${place}; it may have acted. Look, then resume a failed run to call again, or kill it`,
      { syscall: "fetch", pid: caller.pid },
    );
  }
  const maxBytes = call.maxBytes ?? DEFAULT_MAX_BYTES;
  const body = call.body === undefined ? undefined : new TextEncoder().encode(call.body);
  const amounts = { netBytes: maxBytes + (body?.length ?? 0) };
  const { reservation, end } = await reserve(host, caller, {
    syscall: "fetch",
    key,
    amounts,
    signal,
    commit: async (reserved, adds) => {
      if (journal !== undefined) await journal.intend(place, key, reserved, adds, rider);
      else if (adds.length > 0) await host.committer.commit({ adds }, undefined, rider);
    },
  });
  const started = host.platform.clock.monotonic();
  const state = caller.state;
  try {
    if (journal === undefined) await host.store.flush();
    caller.become({ name: "waiting", channel: `fetch ${call.url}`.slice(0, 200) });
    const { answer, bytes } = await withinTime(host, caller, `fetch ${call.url}`, signal, (limited) =>
      follow(host, caller, { ...call, method, body, key, maxBytes, signal: limited }),
    );
    const used = { netBytes: bytes + (body?.length ?? 0) };
    const adds = host.accounts.settle(reservation, used);
    const entry = charged(reservation, used);
    const appends = [usageAppend(host, caller, { place, tool: "fetch", used: entry.used, ...entry.over })];
    const ms = Math.round(host.platform.clock.monotonic() - started);
    if (journal === undefined) await host.committer.commit({ adds, appends }, undefined, rider);
    else await (await journal.end(place, { value: answer }, { ms, adds, appends, rider }).done).flushed;
    caller.usage.steps++;
    await warn(host, caller, reservation);
    return answer;
  } catch (error) {
    const isUnknown = signal.aborted || (isKernelError(error) && error.mayHaveActed);
    journal?.retract(place);
    // What may have been sent and answered is spent (B4).
    if (!isUnknown && caller.isAlive && !caller.isEnding) {
      const adds = host.accounts.release(reservation);
      const record = { t: "release", at: host.committer.now(), p: place, error: toErrorRecord(error) } as const;
      if (journal !== undefined) await journal.note(record, adds);
      else if (adds.length > 0) await host.committer.commit({ adds });
      host.accounts.freed(reservation);
    }
    throw toKernelError(error, "EIO", { syscall: "fetch", pid: caller.pid });
  } finally {
    if (caller.state.name === "waiting") caller.become(state);
    end();
  }
}

/** Makes the request, and those that its answers redirect to, each under the right for its host (N1). */
async function follow(
  host: Host,
  caller: Process,
  call: Omit<FetchCall, "body"> & {
    readonly method: string;
    readonly body: Uint8Array | undefined;
    readonly key: string;
    readonly maxBytes: number;
    readonly signal: AbortSignal;
  },
): Promise<{ readonly answer: FetchAnswer; readonly bytes: number }> {
  const net = netOf(host);
  const first = net.locate(call.url);
  let { url, host: at } = first;
  let { method, body } = call;
  let headers: Readonly<Record<string, string>> = lowerCase(call.headers ?? {});
  if (!SAFE.has(method) && headers["idempotency-key"] === undefined)
    headers = { ...headers, "idempotency-key": host.platform.hash(call.key).slice(0, 32) };
  let bytes = 0;
  for (let hops = 0; ; hops++) {
    const left = call.maxBytes - bytes;
    const response = await net.send(
      { url, method, headers, ...(body === undefined ? {} : { body }) },
      { signal: call.signal, maxBytes: left },
    );
    bytes += response.body.length;
    const { location } = response.headers;
    if (response.status < 300 || response.status > 399 || location === undefined)
      return { answer: answerOf(response, url), bytes };
    if (hops >= REDIRECTS_MAX)
      throw new KernelError("ELOOP", `${call.url} redirects more than ${REDIRECTS_MAX} times`, { syscall: "fetch" });
    const next = net.locate(location, url);
    if (next.host !== at) {
      assertMay(caller, next.host, call.url);
      headers = Object.fromEntries(Object.entries(headers).filter(([name]) => !PERSONAL.has(name)));
    }
    if (response.status === 303 || (response.status < 303 && method === "POST")) [method, body] = ["GET", undefined];
    ({ url, host: at } = next);
  }
}

function assertMay(caller: Process, to: string, from: string): void {
  if (caller.capability.allows("net.connect", to)) return;
  throw new KernelError(
    "EACCES",
    `${from} redirects to ${to}, which process ${caller.pid} (${caller.identity.name}) may not reach; it needs the grant net.connect:${to}`,
    { syscall: "fetch", path: to, pid: caller.pid },
  );
}

function answerOf({ status, headers, body }: NetResponse, url: string): FetchAnswer {
  try {
    return { status, headers, url, body: new TextDecoder("utf-8", { fatal: true }).decode(body) };
  } catch {
    return { status, headers, url, body: toBase64(body), isBase64: true };
  }
}

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

function toBase64(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 3) {
    const [one = 0, two, three] = [bytes[at], bytes[at + 1], bytes[at + 2]];
    const bits = (one << 16) | ((two ?? 0) << 8) | (three ?? 0);
    text += DIGITS.charAt(bits >> 18) + DIGITS.charAt((bits >> 12) & 63);
    text += two === undefined ? "=" : DIGITS.charAt((bits >> 6) & 63);
    text += three === undefined ? "=" : DIGITS.charAt(bits & 63);
  }
  return text;
}

const lowerCase = (headers: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
