// `@ergos/drivers/net`: the network by Node's own fetch.

import { type Errno, KernelError, type NetDriver, describe } from "@ergos/kernel";

const CODES: Readonly<Record<string, Errno>> = {
  ECONNREFUSED: "ECONNREFUSED",
  ENOTFOUND: "ECONNREFUSED",
  EAI_AGAIN: "ECONNREFUSED",
  EHOSTUNREACH: "ECONNREFUSED",
  ENETUNREACH: "ECONNREFUSED",
  UND_ERR_CONNECT_TIMEOUT: "ETIMEDOUT",
  UND_ERR_HEADERS_TIMEOUT: "ETIMEDOUT",
  UND_ERR_BODY_TIMEOUT: "ETIMEDOUT",
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

function isHeader(name: string, value: string): boolean {
  try {
    return new Headers([[name, value]]).has(name);
  } catch {
    return false;
  }
}

export function createNet(): NetDriver {
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
    check: ({ method, headers, body }) => {
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
    send: async ({ url, method, headers, body }, { signal, maxBytes }) => {
      let hasAnswered = false;
      try {
        const response = await fetch(url, {
          method,
          headers,
          signal,
          redirect: "manual",
          ...(body === undefined ? {} : { body: body as Uint8Array<ArrayBuffer> }),
        });
        hasAnswered = true;
        return {
          status: response.status,
          // Those that come several times in one text, as HTTP has it.
          headers: Object.fromEntries(
            [...response.headers.keys()].map((name) => [name, response.headers.get(name) ?? ""]),
          ),
          body: await read(response, maxBytes),
        };
      } catch (error) {
        if (error instanceof KernelError) throw error;
        if (signal.aborted) throw signal.reason;
        const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
        // A port that browsers do not speak to; nothing was sent.
        if (cause instanceof Error && cause.message === "bad port")
          throw new KernelError("EINVAL", `${new URL(url).host} has a port that is not for http`, { syscall: "fetch" });
        const code = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : "";
        // Nothing was sent over a connection that is not trusted, and trying again changes nothing.
        if (!hasAnswered && NO_TRUST.test(code))
          throw new KernelError("EPROTO", `${new URL(url).host} cannot be spoken to: ${describe(cause)}`, {
            cause: error,
          });
        const known = CODES[code] ?? "ECONNRESET";
        throw new KernelError(known, `${new URL(url).host} cannot be reached: ${describe(cause)}`, {
          cause: error,
          mayHaveActed: known !== "ECONNREFUSED",
        });
      }
    },
  };
}

async function read(response: Response, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.length;
    if (size > maxBytes)
      throw new KernelError("EFBIG", `the answer has more than the ${maxBytes} bytes that were allowed`, {
        mayHaveActed: true,
      });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
