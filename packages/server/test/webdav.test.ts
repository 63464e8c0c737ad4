// WebDAV over the namespace: who may see what, what is locked by whom, and requests that mean no good.

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openFolder } from "@ergos/drivers/folder";
import { type Kernel, KernelError, type Login, type MountDriver, type VfsPath, isKernelError } from "@ergos/kernel";
import { createDav, serveHttp } from "@ergos/server/webdav";
import { afterEach, beforeEach, expect, test } from "vitest";
import { bootKernel, processWith } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
let dav: (request: Request) => Promise<Response>;
beforeEach(async () => {
  kernel = await bootKernel();
  await kernel.os.fs.writeFile("/srv/a.txt", "hello");
  await kernel.os.fs.mkdir("/srv/d");
  const logins = new Map<string, Pick<Login, "os">>([["owner", { os: kernel.os }]]);
  logins.set("reader", { os: await processWith(kernel, ["fs.*:/srv/d/**", "fs.stat:/srv/d"]) });
  logins.set("poor", { os: await processWith(kernel, ["fs.*:/srv/d/**", "fs.stat:/srv", "lock.*"]) });
  dav = createDav({
    login: (pass) => {
      const found = logins.get(pass);
      if (found === undefined) return Promise.reject(new TypeError("no such pass"));
      const { promise: ended } = Promise.withResolvers<undefined>();
      const more = { identity: pass, ended, flush: () => Promise.resolve(), leave: () => Promise.resolve() };
      const { signal } = new AbortController();
      return Promise.resolve({ ...found, ...more, signal });
    },
  });
});
afterEach(() => kernel.close());

const BASE = "http://localhost/dav";
async function ask(method: string, path: string, more: RequestInit & { readonly as?: string } = {}): Promise<Response> {
  const { as = "owner", headers, ...rest } = more;
  const authorization = `Basic ${Buffer.from(`me:${as}`).toString("base64")}`;
  return dav(new Request(BASE + path, { method, headers: { authorization, ...(headers as object) }, ...rest }));
}
const statusOf = async (...args: Parameters<typeof ask>): Promise<number> => (await ask(...args)).status;
const LOCK = `<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype><D:owner>me &amp; you</D:owner></D:lockinfo>`;

test("nobody comes in without a pass, and everybody has the rights of theirs", async () => {
  expect((await dav(new Request(`${BASE}/srv/a.txt`))).headers.get("www-authenticate")).toContain("Basic");
  expect(await statusOf("GET", "/srv/a.txt", { as: "wrong" })).toBe(401);
  const bearer = await dav(new Request(`${BASE}/srv/a.txt`, { headers: { authorization: "Bearer owner" } }));
  expect(await bearer.text()).toBe("hello");
  expect(await statusOf("GET", "/srv/a.txt", { as: "poor" })).toBe(403);
  expect(await statusOf("PUT", "/srv/new", { as: "poor", body: "x" })).toBe(403);
  expect(await statusOf("PUT", "/srv/d/new", { as: "poor", body: "x" })).toBe(201);
  expect(await statusOf("DELETE", "/srv/a.txt", { as: "poor" })).toBe(403);
  expect(await statusOf("MOVE", "/srv/d/new", { as: "poor", headers: { destination: `${BASE}/srv/out` } })).toBe(403);
  expect(await kernel.os.fs.readText("/srv/d/new")).toBe("x");
});

test("content comes whole, in parts, and only if it has changed", async () => {
  const whole = await ask("GET", "/srv/a.txt");
  const etag = whole.headers.get("etag") ?? "";
  expect([whole.status, await whole.text(), whole.headers.get("content-length")]).toEqual([200, "hello", "5"]);
  const part = await ask("GET", "/srv/a.txt", { headers: { range: "bytes=1-2" } });
  expect([part.status, await part.text(), part.headers.get("content-range")]).toEqual([206, "el", "bytes 1-2/5"]);
  expect(await (await ask("GET", "/srv/a.txt", { headers: { range: "bytes=-3" } })).text()).toBe("llo");
  expect(await statusOf("GET", "/srv/a.txt", { headers: { range: "bytes=9-" } })).toBe(416);
  expect(await statusOf("GET", "/srv/a.txt", { headers: { "if-none-match": etag } })).toBe(304);
  expect(await statusOf("PUT", "/srv/a.txt", { body: "new", headers: { "if-match": '"other"' } })).toBe(412);
  expect(await statusOf("PUT", "/srv/a.txt", { body: "new", headers: { "if-none-match": "*" } })).toBe(412);
  expect(await statusOf("PUT", "/srv/a.txt", { body: "new", headers: { "if-match": etag } })).toBe(204);
  expect(await statusOf("GET", "/srv/a.txt", { headers: { "if-none-match": etag } })).toBe(200);
  const head = await ask("HEAD", "/srv/a.txt");
  expect([head.status, await head.text()]).toEqual([200, ""]);
  // What is computed is read like a file.
  expect(await (await ask("GET", "/sys/version")).text()).toMatch(/^\d/u);
  expect(await statusOf("PUT", "/sys/version", { body: "9" })).toBeGreaterThanOrEqual(400);
});

test("a large upload over a real connection is there whole, or not at all", async () => {
  await using server = await serveHttp(dav);
  const url = `http://127.0.0.1:${server.port}/dav/srv/large`;
  const headers = { authorization: "Bearer owner" };
  const content = Buffer.alloc(20 * 1024 * 1024, "0123456789abcdef");
  const put = await fetch(url, { method: "PUT", headers, body: content });
  expect(put.status).toBe(201);
  const got = Buffer.from(await (await fetch(url, { headers })).arrayBuffer());
  expect(got.equals(content)).toBe(true);
  const controller = new AbortController();
  const endless = new ReadableStream({
    pull: async (stream) => {
      stream.enqueue(new Uint8Array(1024 * 1024));
      await new Promise((go) => setTimeout(go, 1));
    },
  });
  const cut = fetch(url, {
    method: "PUT",
    headers,
    body: endless,
    duplex: "half",
    signal: controller.signal,
  });
  await new Promise((go) => setTimeout(go, 100));
  controller.abort();
  await expect(cut).rejects.toThrow();
  expect(Buffer.from(await kernel.os.fs.read("/srv/large")).equals(content)).toBe(true);
  const names = async (): Promise<readonly string[]> => (await kernel.os.fs.readdir("/srv")).map(({ name }) => name);
  for (let tries = 0; tries < 500 && (await names()).length > 4; tries++) await new Promise((go) => setTimeout(go, 10));
  expect(await names()).toEqual(["a.txt", "d", "large", "queues"]);
});

test("locks of clients and of agents exclude each other", async () => {
  const agent = await processWith(kernel, ["lock.*", "fs.stat:/**"]);
  const { fence } = await agent.call("lock", { path: "/srv/a.txt", ttlMs: 60_000 });
  expect(fence).toBeGreaterThan(0);
  expect(await statusOf("PUT", "/srv/a.txt", { body: "x" })).toBe(423);
  expect(await statusOf("LOCK", "/srv/a.txt", { body: LOCK })).toBe(423);
  expect(await statusOf("DELETE", "/srv")).toBe(423);
  await agent.call("unlock", { path: "/srv/a.txt" });
  const locked = await ask("LOCK", "/srv/a.txt", { body: LOCK, headers: { timeout: "Second-600" } });
  const token = locked.headers.get("lock-token") ?? "";
  expect(await locked.text()).toContain("<D:owner>me &amp; you</D:owner>");
  await expect((async () => agent.call("lock", { path: "/srv", ttlMs: 1000, waitMs: 0 }))()).rejects.toMatchObject({
    code: "EAGAIN",
  });
  expect(await statusOf("PUT", "/srv/a.txt", { body: "x" })).toBe(423);
  expect(await statusOf("PUT", "/srv/a.txt", { body: "mine", headers: { if: `(${token})` } })).toBe(204);
  expect(await statusOf("PUT", "/srv/a.txt", { body: "x", headers: { if: "(<urn:other>)" } })).toBe(412);
  expect(await statusOf("UNLOCK", "/srv/a.txt", { headers: { "lock-token": token }, as: "poor" })).toBe(403);
  expect(await statusOf("UNLOCK", "/srv/a.txt", { headers: { "lock-token": token } })).toBe(204);
  expect(await statusOf("PUT", "/srv/a.txt", { body: "x" })).toBe(204);
  // A collection alone: what is in it may change, who is in it may not.
  const flat = (await ask("LOCK", "/srv/d", { body: LOCK, headers: { depth: "0" } })).headers.get("lock-token") ?? "";
  expect(await statusOf("PUT", "/srv/d/new", { body: "x" })).toBe(423);
  expect(await statusOf("PUT", "/srv/d/new", { body: "x", headers: { if: `<${BASE}/srv/d> (${flat})` } })).toBe(201);
  expect(await statusOf("PUT", "/srv/d/new", { body: "y" })).toBe(204);
});

test("what is moved or copied over something takes its place or leaves it", async () => {
  await kernel.os.fs.writeFile("/srv/d/target", "precious");
  const denied = { as: "poor", headers: { destination: `${BASE}/srv/d/target` } };
  expect(await statusOf("MOVE", "/srv/a.txt", denied)).toBe(403);
  expect(await kernel.os.fs.readText("/srv/d/target")).toBe("precious");
  await kernel.os.fs.link("/l", "/srv/d");
  expect(await statusOf("MOVE", "/srv/d/target", { headers: { destination: `${BASE}/l/target` } })).toBe(403);
  expect(await kernel.os.fs.readText("/srv/d/target")).toBe("precious");
  expect(await statusOf("COPY", "/srv/a.txt", { headers: { destination: "http://other.example/dav/x" } })).toBe(502);
  expect(await statusOf("COPY", "/srv/a.txt", { headers: { destination: "http://[" } })).toBe(400);
  expect(await statusOf("DELETE", "/srv%2Fa.txt")).toBe(400);
  expect(await statusOf("MOVE", "/srv/a.txt", { headers: { destination: `${BASE}/srv/d/target` } })).toBe(204);
  expect((await kernel.os.fs.readdir("/srv/d")).map(({ name }) => name)).toEqual(["target"]);
  expect(await statusOf("DELETE", "/l")).toBe(204);
  expect(await kernel.os.fs.readText("/srv/d/target")).toBe("hello");
});

test("what takes the place of something does so at once, for whoever reads it", async () => {
  const { fs } = kernel.os;
  await fs.writeFile("/srv/d/x", "tree");
  await fs.writeFile("/srv/e/y", "old tree");
  await fs.writeFile("/srv/b.txt", "old");
  const seen = new Set<string>();
  let isOver = false;
  const reading = (async () => {
    while (!isOver) {
      seen.add(await fs.readText("/srv/b.txt").catch(String));
      seen.add(String((await fs.stat("/srv/e").catch(() => undefined))?.type));
      await new Promise((go) => setImmediate(go));
    }
  })();
  for (const method of ["COPY", "MOVE"]) {
    for (let time = 0; time < 20; time++) {
      await fs.writeFile("/srv/a.txt", "new");
      await fs.writeFile("/srv/d/x", "tree");
      await new Promise((go) => setImmediate(go));
      expect(await statusOf(method, "/srv/a.txt", { headers: { destination: `${BASE}/srv/b.txt` } })).toBe(204);
      expect(await statusOf(method, "/srv/d", { headers: { destination: `${BASE}/srv/e` } })).toBe(204);
    }
    expect(await fs.exists("/srv/a.txt")).toBe(method === "COPY");
    expect((await fs.readdir("/srv/e")).map(({ name }) => name)).toEqual(["x"]);
  }
  isOver = true;
  await reading;
  expect([...seen].toSorted()).toEqual(["directory", "new", "old"]);
});

test("an answer is of one version of a file", async () => {
  const [one, other] = [Buffer.alloc(20 * 1024 * 1024, "1"), Buffer.alloc(20 * 1024 * 1024, "2")];
  await kernel.os.fs.writeFile("/srv/large", one);
  const response = await ask("GET", "/srv/large");
  await kernel.os.fs.writeFile("/srv/large", other);
  await expect(response.arrayBuffer()).rejects.toThrow("changed meanwhile");
  const etag = (await ask("HEAD", "/srv/large")).headers.get("etag") ?? "";
  const part = async (ifRange: string): Promise<number> =>
    statusOf("GET", "/srv/large", { headers: { range: "bytes=0-9", "if-range": ifRange } });
  expect([await part(etag), await part('"older"')]).toEqual([206, 200]);
});

test("a link is removed and moved as itself, wherever it leads", async () => {
  const { fs } = kernel.os;
  await fs.link("/srv/nowhere", "/none");
  await fs.link("/srv/round", "/srv/round2");
  await fs.link("/srv/round2", "/srv/round");
  expect(await statusOf("GET", "/srv/round")).toBe(508);
  expect(await statusOf("MOVE", "/srv/nowhere", { headers: { destination: `${BASE}/srv/moved` } })).toBe(201);
  expect(await statusOf("DELETE", "/srv/moved")).toBe(204);
  expect(await statusOf("DELETE", "/srv/round")).toBe(204);
  expect(await fs.exists("/srv/a.txt")).toBe(true);
});

test("a lock holds under every name of what is locked, and its token is its holder's", async () => {
  await kernel.os.fs.writeFile("/srv/d/s/a", "1");
  await kernel.os.fs.link("/l", "/srv/d");
  const token = (await ask("LOCK", "/srv/d/s/a", { body: LOCK })).headers.get("lock-token") ?? "";
  expect(await statusOf("DELETE", "/srv/d/s")).toBe(423);
  expect(await statusOf("DELETE", "/l/s")).toBe(423);
  expect(await statusOf("PUT", "/l/s/a", { body: "x" })).toBe(423);
  expect(await statusOf("PUT", "/srv/d/s/a", { as: "poor", body: "x", headers: { if: `(${token})` } })).toBe(423);
  for (let at = 0; at < 1100; at++) await kernel.os.call("lock", { path: `/a/${at}`, ttlMs: 60_000 });
  expect(await statusOf("DELETE", "/srv/d/s")).toBe(423);
  expect(await statusOf("PUT", "/srv/d/s/a", { body: "x", headers: { if: `(${token})` } })).toBe(204);
});

/** A body that ends when it is told to. */
function slowBody(): { readonly body: ReadableStream<Uint8Array>; readonly end: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  const body = new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      await promise;
      controller.enqueue(new TextEncoder().encode("slow"));
      controller.close();
    },
  });
  return { body, end: resolve };
}

test.each(["lists", "tagged lists", "If-Match"])("what a request wants by %s is so when it is written", async (how) => {
  const etag = (await ask("HEAD", "/srv/a.txt")).headers.get("etag") ?? "";
  const headers =
    how === "If-Match"
      ? { "if-match": etag }
      : { if: how === "lists" ? `([${etag}])` : `<${BASE}/srv/a.txt> ([${etag}])` };
  const { body, end } = slowBody();
  const slow = statusOf("PUT", "/srv/a.txt", { body, headers, duplex: "half" });
  await new Promise((go) => setTimeout(go, 20));
  expect(await statusOf("PUT", "/srv/a.txt", { body: "quick" })).toBe(204);
  end();
  expect(await slow).toBe(412);
  const now = (await ask("HEAD", "/srv/a.txt")).headers.get("etag") ?? "";
  const both = await Promise.all(
    ["x", "y"].map((text) => statusOf("PUT", "/srv/a.txt", { body: text, headers: { if: `([${now}])` } })),
  );
  expect(both.toSorted((one, other) => one - other)).toEqual([204, 412]);
});

test("what was locked while its content came is not written", async () => {
  const { body, end } = slowBody();
  const slow = statusOf("PUT", "/srv/a.txt", { body, duplex: "half" });
  await new Promise((go) => setTimeout(go, 20));
  const token = (await ask("LOCK", "/srv/a.txt", { body: LOCK })).headers.get("lock-token") ?? "";
  end();
  expect(await slow).toBe(423);
  const other = slowBody();
  const losing = statusOf("PUT", "/srv/a.txt", {
    body: other.body,
    duplex: "half",
    headers: { if: `(${token})` },
  });
  await new Promise((go) => setTimeout(go, 20));
  expect(await statusOf("UNLOCK", "/srv/a.txt", { headers: { "lock-token": token } })).toBe(204);
  other.end();
  expect(await losing).toBe(412);
  expect(await kernel.os.fs.readText("/srv/a.txt")).toBe("hello");
});

test("dates of changes are conditions too, unless there are better ones", async () => {
  const [old, next] = ["Mon, 01 Jan 2001 00:00:00 GMT", new Date(Date.now() + 60_000).toUTCString()];
  expect(await statusOf("PUT", "/srv/a.txt", { body: "x", headers: { "if-unmodified-since": old } })).toBe(412);
  expect(await statusOf("PUT", "/srv/a.txt", { body: "x", headers: { "if-unmodified-since": next } })).toBe(204);
  expect(await statusOf("GET", "/srv/a.txt", { headers: { "if-modified-since": next } })).toBe(304);
  expect(await statusOf("GET", "/srv/a.txt", { headers: { "if-modified-since": old } })).toBe(200);
  expect(await statusOf("GET", "/srv/a.txt", { headers: { "if-modified-since": "whenever" } })).toBe(200);
});

test("a connection is used again behind an answer that did not wait for the content", async () => {
  await using server = await serveHttp(dav);
  const socket = connect(server.port, "127.0.0.1");
  let got = "";
  socket.on("data", (part) => (got += part.toString()));
  const heads = (): readonly string[] => got.match(/HTTP\/1\.1 \d+/gu) ?? [];
  for (const [size, path, more] of [
    [1 << 20, "/dav/srv/x", ""],
    [1 << 20, "/dav/none/x", "authorization: Bearer owner\r\n"],
    [40_000, "/dav/none/x", "authorization: Bearer owner\r\n"],
  ] as const) {
    got = "";
    socket.write(`PUT ${path} HTTP/1.1\r\nhost: x\r\n${more}content-length: ${size}\r\n\r\n`);
    socket.write(Buffer.alloc(size));
    await expect.poll(heads).toHaveLength(1);
    socket.write("HEAD /dav/srv/a.txt HTTP/1.1\r\nhost: x\r\nauthorization: Bearer owner\r\n\r\n");
    await expect.poll(heads).toHaveLength(2);
    expect(heads()[1]).toBe("HTTP/1.1 200");
  }
  socket.destroy();
});

test("one that may not be seen hides none of the others, and a reader needs no right to locks", async () => {
  await kernel.os.fs.link("/srv/d/out", "/srv/a.txt");
  await kernel.os.fs.writeFile("/srv/d/in", "x");
  const found = await (await ask("PROPFIND", "/srv/d", { as: "poor", headers: { depth: "1" } })).text();
  expect(found).toContain("/dav/srv/d/in");
  expect(found).not.toContain("/dav/srv/d/out");
  expect(await statusOf("PROPFIND", "/srv/d", { as: "reader", headers: { depth: "1" } })).toBe(207);
  expect(await statusOf("PUT", "/srv/d/mine", { as: "reader", body: "x" })).toBe(201);
});

test("what moves between trees moves whole, or stays where it was", async () => {
  const out = mkdtempSync(join(tmpdir(), "ergos-dav-"));
  try {
    for (const name of ["d", "d/sub"]) mkdirSync(join(out, name));
    for (const name of ["a", "b", "sub/z"]) writeFileSync(join(out, "d", name), name);
    symlinkSync("a", join(out, "d/link"));
    const folder = await openFolder({ path: out, writable: true });
    const stubborn = new Proxy(folder, {
      get: (driver, name: keyof MountDriver): unknown => {
        if (name === "unlink")
          return (path: VfsPath) =>
            path.endsWith("/z") ? Promise.reject(new KernelError("EACCES", "it stays", { path })) : driver.unlink(path);
        const { [name]: own } = driver;
        return typeof own === "function" ? (own as () => unknown).bind(driver) : own;
      },
    });
    await kernel.mount("/m", stubborn);
    const moved = await statusOf("MOVE", "/m/d", { headers: { destination: `${BASE}/srv/out` } });
    expect(moved).toBe(403);
    // What is gone there is here.
    for (const name of ["a", "b", "sub/z"]) expect(await kernel.os.fs.readText(`/srv/out/${name}`)).toBe(name);
    expect(await kernel.os.fs.stat("/srv/out/link", { noFollow: true })).toMatchObject({ type: "link", linkText: "a" });
    // Where a link cannot be made nothing is moved, and nothing is left behind.
    await kernel.os.fs.mkdir("/srv/t");
    await kernel.os.fs.link("/srv/t/l", "a");
    expect(await statusOf("MOVE", "/srv/t", { headers: { destination: `${BASE}/m/t` } })).toBe(501);
    expect(await kernel.os.fs.exists("/m/t")).toBe(false);
    expect(await statusOf("COPY", "/srv/t", { headers: { destination: `${BASE}/m/t` } })).toBe(201);
    await kernel.os.call("setxattr", { path: "/srv/d", values: { "dav:{u}x": "1" } });
    expect(await statusOf("COPY", "/srv/d", { headers: { destination: `${BASE}/m/c`, depth: "0" } })).toBe(201);
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
});

test("long names are replaced and uploaded like short ones, and nothing is left beside them", async () => {
  const name = `/srv/d/${"n".repeat(250)}`;
  const large = Buffer.alloc(9 * 1024 * 1024);
  expect(await statusOf("PUT", name, { body: "x", headers: { "content-type": "text/x-mine" } })).toBe(201);
  expect(await statusOf("PUT", name, { body: large })).toBe(204);
  expect((await kernel.os.fs.stat(name)).mime).toBe("text/x-mine");
  await kernel.os.fs.mkdir(`${name.slice(0, -1)}d`);
  expect(await statusOf("MOVE", "/srv/a.txt", { headers: { destination: `${BASE}${name.slice(0, -1)}d` } })).toBe(204);
  expect((await kernel.os.fs.readdir("/srv/d")).length).toBe(2);
  // What a host has left that was killed goes with a later upload; what may still come stays.
  await kernel.os.fs.writeFile("/srv/d/.upload-7", "x");
  await kernel.os.fs.setattr("/srv/d/.upload-7", { modified: 1 });
  await kernel.os.fs.writeFile("/srv/d/.upload-8", "x");
  expect(await statusOf("PUT", name, { body: large })).toBe(204);
  expect((await kernel.os.fs.readdir("/srv/d")).map((entry) => entry.name.slice(0, 9))).toContain(".upload-8");
  expect(await kernel.os.fs.exists("/srv/d/.upload-7")).toBe(false);
});

test("properties that others have put there do not break an answer", async () => {
  const values = {
    "dav:{x}y": "</oops>",
    "dav:{x}a><b": "1",
    "dav:{DAV:}getetag": "false",
    "dav:{u}nul": "\u0000",
  };
  await kernel.os.call("setxattr", { path: "/srv/a.txt", values });
  const odd = `<propertyupdate xmlns="DAV:"><set><prop><x:b xmlns:x="urn:a}%b">1</x:b></prop></set></propertyupdate>`;
  expect(await statusOf("PROPPATCH", "/srv/a.txt", { body: odd })).toBe(207);
  await kernel.os.fs.writeFile("/srv/d/\u0001", "");
  const found = await (await ask("PROPFIND", "/srv", { headers: { depth: "infinity" } })).text();
  expect(found).toContain("&lt;/oops&gt;");
  expect(found).toContain('<X:b xmlns:X="urn:a}%b">1</X:b>');
  for (const wrong of ["<b", "false", "\u0000"]) expect(found.includes(wrong)).toBe(false);
  expect(found.includes("\u0001")).toBe(false);
});

test("properties are found and kept, and those that are computed are not set", async () => {
  const set = `<propertyupdate xmlns="DAV:"><set><prop><x:color xmlns:x="urn:x">r&amp;d <b/></x:color></prop></set></propertyupdate>`;
  expect(await statusOf("PROPPATCH", "/srv/a.txt", { body: set })).toBe(207);
  expect(await statusOf("COPY", "/srv/a.txt", { headers: { destination: `${BASE}/srv/b.txt` } })).toBe(201);
  expect(await statusOf("PROPFIND", "/srv", { headers: { depth: "7" } })).toBe(400);
  await kernel.os.fs.link("/srv/d/top", "/");
  expect(
    (await (await ask("PROPFIND", "/srv", { headers: { depth: "infinity" } })).text()).match(/<D:href>[^<]*top/gu),
  ).toHaveLength(1);
  const found = await (await ask("PROPFIND", "/srv", { headers: { depth: "1" } })).text();
  expect(found.match(/<X:color/gu)).toHaveLength(2);
  expect(found).toContain("r&amp;d <b");
  expect(found).toContain("<D:href>/dav/srv/d/</D:href>");
  const live = `<propertyupdate xmlns="DAV:"><set><prop><getetag>x</getetag><y>1</y></prop></set></propertyupdate>`;
  const refused = await (await ask("PROPPATCH", "/srv/a.txt", { body: live })).text();
  expect(refused).toMatch(/403 Forbidden[\s\S]*424 Failed/u);
});

test("requests that mean no good are refused, each by its status", async () => {
  await kernel.os.fs.writeFile("/secret", "s");
  expect(await statusOf("GET", "/srv/%2e%2e/secret", { as: "poor" })).toBeGreaterThanOrEqual(400);
  expect(await statusOf("GET", "/srv/..%2fsecret")).toBe(400);
  expect(await statusOf("GET", "/srv/a%00b")).toBe(400);
  expect(await statusOf("GET", "/srv/%ff")).toBe(400);
  expect((await dav(new Request("http://localhost/else", { headers: { authorization: "Bearer owner" } }))).status).toBe(
    404,
  );
  const bomb = `<!DOCTYPE x [<!ENTITY a "aaaa">]><propfind xmlns="DAV:"><prop><a/></prop></propfind>`;
  expect(await statusOf("PROPFIND", "/srv", { body: bomb })).toBe(400);
  expect(await statusOf("PROPFIND", "/srv", { body: "<a" })).toBe(400);
  expect(await statusOf("PROPFIND", "/srv", { body: " ".repeat(2_000_000) })).toBe(413);
  expect(await statusOf("LOCK", "/srv/a.txt", { body: LOCK, headers: { depth: "7" } })).toBe(400);
  expect(await statusOf("PUT", "/srv/a.txt", { body: "x", headers: { if: "(((" } })).toBe(400);
  expect(await statusOf("MKCOL", "/srv/a.txt")).toBe(405);
  expect(await statusOf("MKCOL", "/none/x")).toBe(409);
  expect(await statusOf("COPY", "/srv", { headers: { destination: `${BASE}/srv/d/e` } })).toBe(403);
  expect(await statusOf("COPY", "/srv/a.txt")).toBe(400);
  const over = { headers: { destination: `${BASE}/srv/b`, depth: "1" } };
  expect([await statusOf("COPY", "/srv/d", over), await statusOf("MOVE", "/srv/d", over)]).toEqual([400, 400]);
  expect(await statusOf("PUT", "/srv/a.txt", { body: "x", headers: { if: '(["a)b"])' } })).toBe(412);
  expect(await statusOf("PUT", "/srv/a%5Cb", { body: "x" })).toBe(201);
  expect(await statusOf("DELETE", "/")).toBe(409);
  await kernel.os.fs.write("/srv/a.txt", "x", { mime: "text/\u2603" });
  expect((await ask("GET", "/srv/a.txt")).headers.get("content-type")).toBe("application/octet-stream");
  expect(await statusOf("BREW", "/srv/a.txt")).toBe(405);
  expect(await statusOf("GET", "/srv/none")).toBe(404);
  await using one = await serveHttp(dav);
  const raw = (head: string): Promise<string> =>
    new Promise((done) => {
      const socket = connect(one.port, "127.0.0.1", () => socket.end(`${head}\r\nConnection: close\r\n\r\n`));
      socket.once("data", (bytes: Buffer) => done(bytes.toString().slice(0, 12)));
    });
  expect(await raw("GET /dav/srv/a.txt HTTP/1.1\r\nHost: [::bad")).toBe("HTTP/1.1 400");
  expect(await raw("TRACE /dav/srv/a.txt HTTP/1.1\r\nHost: x")).toBe("HTTP/1.1 400");
  const withBody = "GET /dav/srv/a.txt HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer owner\r\nContent-Length: 0";
  expect(await raw(withBody)).toBe("HTTP/1.1 200");
  await expect(
    serveHttp(dav, { port: one.port }).catch((error: unknown) => isKernelError(error) && error.code),
  ).resolves.toBe("EBUSY");
});

test("whoever narrows its pass again and again gives up places of its own, and no others", async () => {
  const left: string[] = [];
  const open = createDav({
    login: (pass) =>
      Promise.resolve({
        os: kernel.os,
        identity: pass,
        ended: new Promise<undefined>(() => undefined),
        flush: () => Promise.resolve(),
        leave: () => Promise.resolve(void left.push(pass)),
        signal: new AbortController().signal,
      }),
  });
  const come = (pass: string): Promise<Response> =>
    open(new Request(`${BASE}/srv`, { method: "OPTIONS", headers: { authorization: `Basic ${btoa(`me:${pass}`)}` } }));
  await come("alice");
  for (let count = 1; count <= 1100; count++) await come(`eve narrowed${count}`);

  expect(left).toHaveLength(1050);
  expect(left).not.toContain("alice");
});
