// `@ergos/drivers/net`: the network by Node's own client.

import { isIP } from "node:net";
import { type Errno, KernelError, type NetDriver, describe } from "@ergos/kernel";
import { addressesOf, createPublicCheck, nameOf } from "./address.ts";
import type { Client } from "./request.ts";

const CODES: Readonly<Record<string, Errno>> = {
  ECONNREFUSED: "ECONNREFUSED",
  ENOTFOUND: "ECONNREFUSED",
  EAI_AGAIN: "ECONNREFUSED",
  EHOSTUNREACH: "ECONNREFUSED",
  ENETUNREACH: "ECONNREFUSED",
  ETIMEDOUT: "ETIMEDOUT",
};

const NO_TRUST = /^(?:ERR_SSL_|ERR_TLS_|CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|HOSTNAME_MISMATCH|EPROTO$)/;

/** What would let a request say that it goes elsewhere, or is longer or shorter than it is. */
const OWN_HEADERS = new Set([
  "connection",
  "content-length",
  "expect",
  "host",
  "keep-alive",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Ports of other protocols, by the list of the Fetch standard: what they are told must not be a request. */
const OTHER_PORTS = new Set(
  [
    "1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 101 102 103 104 109 110 111 113 115 117 119 123 135",
    "137 139 143 161 179 389 427 465 512 513 514 515 526 530 531 532 540 548 554 556 563 587 601 636 989 990 993 995",
    "1719 1720 1723 2049 3659 4045 4190 5060 5061 6000 6566 6665 6666 6667 6668 6669 6679 6697 10080",
  ].flatMap((line) => line.split(" ")),
);

function isHeader(name: string, value: string): boolean {
  try {
    return new Headers([[name, value]]).has(name);
  } catch {
    return false;
  }
}

/** @param proxyEnv variables that name proxies, where those are to be used */
export function createNet({ proxyEnv }: { readonly proxyEnv?: NodeJS.ProcessEnv } = {}): NetDriver {
  const isPublic = createPublicCheck();
  // Node's client takes as long to load as the rest of a host; most hosts make no request.
  let client: Promise<Client> | undefined;
  const load = async (): Promise<Client> => (await import("./request.ts")).createClient(isPublic, proxyEnv);
  return {
    locate: (text, base) => {
      const url = URL.parse(text, base);
      if (url === null || (url.protocol !== "http:" && url.protocol !== "https:"))
        throw new KernelError("EINVAL", `${JSON.stringify(text.slice(0, 200))} is no address of http or https`);
      if (url.username !== "" || url.password !== "")
        throw new KernelError("EINVAL", "an address holds no name and password; send them as a header");
      url.hash = "";
      // `host` leaves out the port of the scheme, and is in its one form: lower case, punycode, plain numbers.
      return { url: url.href, host: url.host.replace(/\.+(?=(:\d+)?$)/, ""), origin: url.origin };
    },
    check: ({ url, method, headers, body }) => {
      const { host, port } = new URL(url);
      if (OTHER_PORTS.has(port))
        throw new KernelError("EINVAL", `${host} has a port that is not for http`, { syscall: "fetch" });
      if (body !== undefined && (method === "GET" || method === "HEAD"))
        throw new KernelError("EINVAL", `a ${method} has no body`, { syscall: "fetch" });
      for (const [name, value] of Object.entries(headers)) {
        if (OWN_HEADERS.has(name.toLowerCase()))
          throw new KernelError("EINVAL", `the header ${name} is set by the connection; leave it out`, {
            syscall: "fetch",
          });
        if (!isHeader(name, value))
          throw new KernelError(
            "EINVAL",
            `${JSON.stringify(name.slice(0, 64))} is no header, or its value holds what none can`,
            {
              syscall: "fetch",
            },
          );
      }
    },
    resolve: async (host) => {
      const addresses = await addressesOf(nameOf(host));
      return { addresses, isPrivate: addresses.some((address) => !isPublic(address)) };
    },
    send: async (request, { signal, maxBytes, isPublicOnly = false }) => {
      const { host, hostname } = new URL(request.url);
      let hasAnswered = false;
      try {
        // An address is not looked up; a name is when a connection is made.
        if (isPublicOnly && isIP(nameOf(host)) !== 0 && !isPublic(nameOf(host)))
          throw new KernelError("EACCES", `${hostname} is not on the internet`);
        client ??= load().catch((error: unknown) => {
          // The next request tries again.
          client = undefined;
          throw error;
        });
        const { send } = await client;
        return await send(request, { signal, maxBytes, isPublicOnly, onAnswer: () => (hasAnswered = true) });
      } catch (error) {
        if (error instanceof KernelError) throw error;
        if (signal.aborted) throw signal.reason;
        const { code = "" } = error as NodeJS.ErrnoException;
        if (code.startsWith("ERR_INVALID_") || code === "ERR_UNESCAPED_CHARACTERS")
          throw new KernelError("EINVAL", `${host} cannot be asked so: ${describe(error)}`, { cause: error });
        // Nothing was sent over a connection that is not trusted, and trying again changes nothing.
        if (!hasAnswered && NO_TRUST.test(code))
          throw new KernelError("EPROTO", `${host} cannot be spoken to: ${describe(error)}`, {
            cause: error,
          });
        const known = CODES[code] ?? "ECONNRESET";
        const why = error instanceof AggregateError ? (error.errors as readonly unknown[])[0] : error;
        throw new KernelError(known, `${host} cannot be reached: ${describe(why)}`, {
          cause: error,
          mayHaveActed: known !== "ECONNREFUSED",
        });
      }
    },
  };
}
