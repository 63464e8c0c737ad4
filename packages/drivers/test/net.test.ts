// The network as it is: servers on loopback that pack, keep, cut off and lead elsewhere.

import { type RequestListener, type Server, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { createNet } from "@ergos/drivers/net";
import { isKernelError } from "@ergos/kernel";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

let server: Server;
let listener: RequestListener;
let port: number;
beforeEach(async () => {
  server = createServer((request, response) => listener(request, response));
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  ({ port } = server.address() as AddressInfo);
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

const net = createNet();
const get = async (
  options: { readonly maxBytes?: number; readonly isPublicOnly?: boolean; readonly signal?: AbortSignal } = {},
  url = `http://127.0.0.1:${port}/`,
  headers: Readonly<Record<string, string>> = {},
) =>
  net
    .send({ url, method: "GET", headers }, { signal: new AbortController().signal, maxBytes: 10_000, ...options })
    .catch((error: unknown) => (isKernelError(error) ? error.code : String(error)));

describe("an answer", () => {
  const text = "text ".repeat(1000);
  test.each([
    ["gzip", gzipSync(text)],
    ["deflate", deflateSync(text)],
    ["br", brotliCompressSync(text)],
    ["zstd", zstdCompressSync(text)],
    ["gzip, br", brotliCompressSync(gzipSync(text))],
    ["identity", Buffer.from(text)],
  ])("is unpacked, within its bound: %s", async (encoding, bytes) => {
    listener = (_request, response) => response.writeHead(200, { "content-encoding": encoding }).end(bytes);

    const answer = await get();
    expect(typeof answer === "string" ? answer : Buffer.from(answer.body).toString()).toBe(text);
    expect(await get({ maxBytes: 4999 })).toBe("EFBIG");
  });

  test("that is packed as nobody knows is given as it came; one that is no such packing breaks", async () => {
    listener = (_request, response) => response.writeHead(200, { "content-encoding": "rot13" }).end("grkg");
    expect(await get()).toMatchObject({ headers: { "content-encoding": "rot13" }, body: Buffer.from("grkg") });
    listener = (_request, response) => response.writeHead(200, { "content-encoding": "gzip" }).end("no gzip");
    expect(await get()).toBe("ECONNRESET");
  });

  test.each([
    ["HEAD", 200, "gzip"],
    ["GET", 204, "br"],
    ["GET", 304, "gzip"],
    ["GET", 200, "gzip"],
    ["GET", 200, "br"],
    ["GET", 200, "deflate"],
    ["GET", 200, "zstd"],
  ])("without a body has none, however it would be packed: %s %d %s", async (method, status, encoding) => {
    listener = (_request, response) => response.writeHead(status, { "content-encoding": encoding }).end();
    const request = { url: `http://127.0.0.1:${port}/`, method, headers: {} };
    const answer = await net.send(request, { signal: new AbortController().signal, maxBytes: 10 });
    expect(answer).toMatchObject({ status, body: Buffer.alloc(0) });
  });

  test("is unpacked as far as it came, and without the frame that some leave out", async () => {
    const packed = gzipSync(text);
    for (const [encoding, bytes] of [
      ["gzip", packed.subarray(0, packed.length - 8)],
      ["deflate", deflateRawSync(text)],
    ] as const) {
      listener = (_request, response) => response.writeHead(200, { "content-encoding": encoding }).end(bytes);
      const answer = await get();
      expect(typeof answer === "string" ? answer : Buffer.from(answer.body).toString()).toBe(text);
    }
  });

  test("has headers that come several times in one text, and none of theirs counts for another", async () => {
    listener = (_request, response) => response.writeHead(204, { "set-cookie": ["a=1", "b=2"], "x-a": "1" }).end();
    expect(await get()).toMatchObject({ status: 204, headers: { "set-cookie": "a=1, b=2", "x-a": "1" } });
  });

  test("that breaks off is no answer, and one that was given up tells why", async () => {
    listener = (_request, response) => {
      response.writeHead(200, { "content-length": "100" }).write("some");
      setTimeout(() => response.destroy(), 20);
    };
    expect(await get()).toBe("ECONNRESET");
    listener = () => undefined;
    const controller = new AbortController();
    setTimeout(() => controller.abort(new TypeError("enough")), 20);
    expect(await get({ signal: controller.signal })).toBe("TypeError: enough");
  });

  test("comes over a connection that was kept, and over another when the server has left that", async () => {
    const ports = new Set<number | undefined>();
    listener = (request, response) => {
      ports.add(request.socket.remotePort);
      response.end("ok");
    };
    expect([await get(), await get()]).toMatchObject([{ status: 200 }, { status: 200 }]);
    expect(ports.size).toBe(1);
    // The next one is on its way when the server goes.
    let cuts = 1;
    listener = (request, response) => {
      if (cuts-- > 0) request.socket.destroy();
      else response.end("again");
    };
    expect(await get()).toMatchObject({ status: 200 });
  });
});

describe("a request", () => {
  test.each(["DELETE", "OPTIONS", "POST", "PUT", "PATCH"])(
    "of %s has the length of its body, and hides no other",
    async (method) => {
      const seen: string[] = [];
      listener = (request, response) => {
        let body = "";
        request.on("data", (part: Buffer) => (body += part.toString()));
        request.on("end", () => {
          seen.push(`${request.method} ${request.url} ${body}`);
          response.end("ok");
        });
      };
      const inside = "GET /admin HTTP/1.1\r\nHost: x\r\n\r\n";
      const url = `http://127.0.0.1:${port}/`;
      const options = { signal: new AbortController().signal, maxBytes: 100 };
      await net.send({ url, method, headers: {}, body: Buffer.from(inside) }, options);
      await net.send({ url, method: "GET", headers: {} }, options);

      expect(seen).toEqual([`${method} / ${inside}`, "GET / "]);
    },
  );

  test("has its headers in their plain form, and goes to no port of another protocol", async () => {
    listener = (request, response) => response.end(request.headers.authorization);
    const answer = await get({}, undefined, { authorization: "Bearer abc\n" });
    expect(typeof answer === "string" ? answer : Buffer.from(answer.body).toString()).toBe("Bearer abc");
    const other = { url: "http://127.0.0.1:6667/", method: "GET", headers: {} };
    expect(() => net.check(other)).toThrow("not for http");
  });
});

describe("the internet", () => {
  test.each([
    ["1.1.1.1", true],
    ["93.184.215.14", true],
    ["2606:4700:4700::1111", true],
    ["::ffff:1.1.1.1", true],
    ["127.0.0.1", false],
    ["127.8.9.1", false],
    ["0.0.0.0", false],
    ["10.1.2.3", false],
    ["100.64.0.1", false],
    ["169.254.169.254", false],
    ["172.16.0.1", false],
    ["172.31.255.255", false],
    ["172.32.0.1", true],
    ["192.168.1.1", false],
    ["224.0.0.1", false],
    ["255.255.255.255", false],
    ["::", false],
    ["::1", false],
    ["::ffff:127.0.0.1", false],
    ["::ffff:a9fe:a9fe", false],
    ["::127.0.0.1", false],
    ["64:ff9b::a9fe:a9fe", false],
    ["2002:7f00:1::", false],
    ["fd00::1", false],
    ["fe80::1", false],
    ["ff02::1", false],
  ])("%s is on it: %s", async (address, isOn) => {
    const { host } = net.locate(address.includes(":") ? `http://[${address}]/` : `http://${address}/`);
    expect((await net.resolve(host)).isPrivate).toBe(!isOn);
  });

  test("is where a bounded request goes, by whatever name this machine is called", async () => {
    let asked = 0;
    listener = (_request, response) => response.end(String(++asked));
    const names = ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0"];
    for (const name of names) {
      const url = `http://${name}:${port}/`;
      expect([name, await get({ isPublicOnly: true }, url)]).toEqual([name, "EACCES"]);
      expect([name, (await net.resolve(net.locate(url).host)).isPrivate]).toEqual([name, true]);
    }
    expect(asked).toBe(0);
    // A connection that was made without a bound is not taken for it.
    expect(await get({}, `http://localhost:${port}/`)).toMatchObject({ status: 200 });
    expect(await get({ isPublicOnly: true }, `http://localhost:${port}/`)).toBe("EACCES");
    expect(asked).toBe(1);
    expect(await net.resolve("name.invalid")).toEqual({ addresses: [], isPrivate: false });
  });
});
