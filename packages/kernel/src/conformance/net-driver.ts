// The law of `NetDriver` (abi/net.ts) as cases, with a server that obeys `ECHO_SERVER`.

import type { NetDriver, NetRequest, NetResponse } from "../abi/net.ts";
import { KernelError, isKernelError } from "../base/errno.ts";
import { type ConformanceCase, rejects, same } from "./case.ts";

/** What a case is given: the driver, and the address of a server on loopback, as `http://127.0.0.1:1234`. */
export interface NetSubject {
  readonly driver: NetDriver;
  /**
   * Answers `/echo` with status 200, the request's method as the header `x-method`, and its body; `/away` with 302 and a
   * `location`; `/large` with 100,000 bytes; `/never` with nothing; `/cut` by closing the connection.
   */
  readonly server: string;
  /** An address at which nobody listens. */
  readonly nobody: string;
}

const LIMIT = 1 << 20;
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const send = (
  { driver, server }: NetSubject,
  path: string,
  more: Partial<NetRequest> = {},
  options: { readonly signal?: AbortSignal; readonly maxBytes?: number } = {},
): Promise<NetResponse> =>
  driver.send(
    { url: server + path, method: "GET", headers: {}, ...more },
    { signal: new AbortController().signal, maxBytes: LIMIT, ...options },
  );

export const NET_DRIVER_CASES: readonly ConformanceCase<NetSubject>[] = [
  {
    name: "an address has one form, and the host that rights are about is in it",
    run: async ({ driver }) => {
      for (const [address, host] of [
        ["https://Example.COM/a", "example.com"],
        ["https://example.com:443/a", "example.com"],
        ["http://example.com:8080", "example.com:8080"],
        ["https://example.com./", "example.com"],
        ["http://0x7f.1/", "127.0.0.1"],
        ["https://bücher.example/", "xn--bcher-kva.example"],
        ["http://[::1]:80/", "[::1]"],
      ] as const)
        same(driver.locate(address).host, host, address);
      same(driver.locate("/b?c=1#d", "https://example.com/a").url, "https://example.com/b?c=1", "a relative address");
    },
  },
  {
    name: "what is no address of http, or holds a password, is EINVAL",
    run: async ({ driver }) => {
      for (const address of [
        "",
        "x",
        "/a",
        "file:///etc/passwd",
        "data:,x",
        "ftp://example.com",
        "https://user:word@example.com/",
      ])
        await rejects(
          attempt(() => driver.locate(address)),
          "EINVAL",
          address,
        );
    },
  },
  {
    name: "headers that the connection sets, or that none may have, and a body where there is none, are EINVAL",
    run: async ({ driver, server }) => {
      const request: NetRequest = { url: server, method: "GET", headers: {} };
      for (const name of ["Host", "content-length", "Transfer-Encoding", "connection", "bad name", "x\r\ny"])
        await rejects(
          attempt(() => driver.check({ ...request, headers: { [name]: "1" } })),
          "EINVAL",
          JSON.stringify(name),
        );
      const smuggled = { ...request, headers: { "x-a": "1\r\nx-b: 2" } };
      await rejects(
        attempt(() => driver.check(smuggled)),
        "EINVAL",
        "a line break in a value",
      );
      await rejects(
        attempt(() => driver.check({ ...request, body: bytesOf("x") })),
        "EINVAL",
        "a body of a GET",
      );
      driver.check({ ...request, method: "POST", body: bytesOf("x"), headers: { "content-type": "text/plain" } });
    },
  },
  {
    name: "a request is made once, as it is, and its answer given whole",
    run: async (subject) => {
      const answer = await send(subject, "/echo", { method: "POST", body: bytesOf("hello") });
      same([answer.status, answer.headers["x-method"]], [200, "POST"], "the answer");
      same(answer.body, bytesOf("hello"), "its body");
    },
  },
  {
    name: "a redirect is an answer and not followed",
    run: async (subject) => {
      const { status, headers } = await send(subject, "/away");
      same([status, headers["location"] === undefined], [302, false], "the answer");
    },
  },
  {
    name: "an answer beyond what was allowed is EFBIG",
    run: async (subject) => {
      await rejects(send(subject, "/large", {}, { maxBytes: 1000 }), "EFBIG", "a large one");
      same((await send(subject, "/large", {}, { maxBytes: 100_000 })).body.length, 100_000, "one that just fits");
    },
  },
  {
    name: "who does not answer can be given up, with the reason of who does",
    run: async (subject) => {
      const stop = new AbortController();
      const asked = send(subject, "/never", {}, { signal: stop.signal });
      stop.abort(new KernelError("ECANCELED", "the case has changed its mind"));
      await rejects(asked, "ECANCELED", "one that is given up");
    },
  },
  {
    name: "a connection that is refused has not acted; one that is cut off may have",
    run: async (subject) => {
      const told = async (asked: Promise<unknown>): Promise<unknown> =>
        asked.then(
          () => undefined,
          (error: unknown) => (isKernelError(error) ? [error.code, error.mayHaveActed] : String(error)),
        );
      same(await told(send({ ...subject, server: subject.nobody }, "/")), ["ECONNREFUSED", false], "nobody there");
      same(await told(send(subject, "/cut")), ["ECONNRESET", true], "cut off");
    },
  },
];

const attempt = async (work: () => unknown): Promise<unknown> => work();
