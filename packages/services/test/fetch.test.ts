import { type Server, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { MemoryObjectStore } from "@ergos/drivers/memory";
import { createNet } from "@ergos/drivers/net";
import { type Amounts, type NetDriver, type NetRequest, type NetResponse } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LastingStore, bootKernel, codeOf, openProgram } from "../../kernel/test/kernel-fixture.ts";

let servers: Server[];
beforeEach(() => {
  servers = [];
});
afterEach(() => Promise.all(servers.map((server) => new Promise((closed) => server.close(closed)))));

/** A server on a free port of loopback. */
async function serve(answer: Parameters<typeof createServer>[1]): Promise<string> {
  const server = createServer(answer);
  servers.push(server);
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test("a request needs the right for its host, and its answer is recorded once", async () => {
  let asked = 0;
  const at = await serve((_request, response) => response.end(`answer ${++asked}`));
  let life = 0;
  const reader = program("reader", async (_input: unknown, ctx: RunContext) => {
    const answer = await ctx.fetch("page", `http://${at}/a?b=1#c`);
    if (life++ === 0) throw new TypeError("first");
    return [answer.status, answer.body, answer.url];
  });
  const kernel = await bootKernel();
  const pid = await kernel.os.spawn(reader, { grants: ["self", `net.connect:${at}`, `net.private:${at}`] });
  await kernel.os.wait(pid);
  await kernel.os.resume(pid, { again: true, program: reader });

  expect((await kernel.os.wait(pid)).result).toEqual([200, "answer 1", `http://${at}/a?b=1`]);
  const denied = await kernel.os.wait(await kernel.os.spawn(reader, { grants: ["self", "net.connect:example.com"] }));
  expect(denied.error?.message).toContain(`net.connect:${at}`);
  expect(asked).toBe(1);
  await kernel.close();
});

test("a redirect to another host needs the right for that, and takes no credentials along", async () => {
  const seen: (string | undefined)[] = [];
  const other = await serve((request, response) => {
    seen.push(request.headers.authorization);
    response.end("there");
  });
  const first = await serve((request, response) => {
    const to = request.url?.startsWith("/loop") === true ? "/loop" : `http://${other}/`;
    response.writeHead(302, { location: to }).end();
  });
  const reader = program("reader", ({ path }: { path: string }, ctx: RunContext) =>
    ctx.fetch("page", `http://${first}${path}`, { headers: { Authorization: "Bearer x" } }),
  );
  const kernel = await bootKernel();
  const run = async (path: string, grants: readonly string[]) =>
    kernel.os.wait(await kernel.os.spawn(reader, { input: { path }, grants: ["self", "net.private", ...grants] }));

  expect((await run("/", [`net.connect:${first}`])).error?.message).toContain(
    `${other}; http://${first}/ redirects there`,
  );
  expect((await run("/", ["net.connect:127.0.0.1:*"])).result).toMatchObject({
    status: 200,
    body: "there",
    url: `http://${other}/`,
  });
  expect((await run("/loop", ["net.connect"])).error).toMatchObject({ code: "ELOOP" });
  // Conditions look at the request that would be made there, on the same host too.
  const within = await run("/loop2", [`net.connect:${first}; arg.url=http://${first}/loop2`]);
  expect(within.error).toMatchObject({ code: "EACCES" });
  const denied = await run("/", ["net.connect", `deny net.connect:*; arg.url=http://${other}/`]);
  expect(denied.error).toMatchObject({ code: "EACCES" });
  expect(seen).toEqual([undefined]);
  await kernel.close();
});

test("bytes are charged, an answer beyond its bound is refused, and a refused connection costs nothing", async () => {
  const at = await serve((_request, response) => response.end("x".repeat(1000)));
  const nobody = await serve(() => undefined);
  await new Promise((closed) => servers.pop()?.close(closed));
  const reader = program("reader", async (_input: unknown, ctx: RunContext) => {
    const codeOf = (error: { readonly code: string }): string => error.code;
    return [
      (await ctx.fetch("one", `http://${at}/`, { maxBytes: 2000 })).body.length,
      await ctx.fetch("two", `http://${nobody}/`, { maxBytes: 2000 }).catch(codeOf),
      await ctx.fetch("three", `http://${at}/`, { maxBytes: 10 }).catch(codeOf),
      await ctx.fetch("four", `http://${at}/`, { maxBytes: 4000 }).catch(codeOf),
    ];
  });
  const kernel = await bootKernel();
  const pid = await kernel.os.spawn(reader, { budget: { netBytes: 4000 } });

  expect((await kernel.os.wait(pid)).result).toEqual([1000, "ECONNREFUSED", "EFBIG", "EDQUOT"]);
  expect((await kernel.os.call("usage", { pid }))["netBytes"]?.used).toSatisfy(withHeads(1010));
  await kernel.close();
});

test.each([
  ["file:///etc/passwd"],
  ["ftp://example.com/"],
  ["http://jane:secret@example.com/"],
  ["//example.com"],
  ["not a url"],
])("%s is no address", async (url) => {
  const kernel = await bootKernel();
  await expect((async () => kernel.os.call("fetch", { place: "p", url }))()).rejects.toMatchObject({ code: "EINVAL" });
  await kernel.close();
});

test.each([
  ["http://EXAMPLE.com./", "example.com"],
  ["http://127.1/", "127.0.0.1"],
  ["http://0x7f000001/", "127.0.0.1"],
  ["http://ｅxample.com/", "example.com"],
  ["https://example.com:443/", "example.com"],
  ["http://example.com:443/", "example.com:443"],
])("what stands for a host in %s is checked as %s", async (url, host) => {
  const kernel = await bootKernel();
  const reader = program("reader", (_input: unknown, ctx: RunContext) => ctx.fetch("it", url));
  const exit = await kernel.os.wait(await kernel.os.spawn(reader, { grants: ["self", "net.connect:nowhere"] }));

  expect(exit.error?.message).toContain(`needs the grant net.connect:${host};`.slice(0, -1));
  await kernel.close();
});

type Answer = (request: NetRequest, signal: AbortSignal) => NetResponse | Promise<NetResponse>;
type Call = Parameters<RunContext["fetch"]>[2] & { readonly url: string };

const answer = (status: number, headers: Readonly<Record<string, string>> = {}, size = 0): NetResponse => ({
  status,
  headers,
  body: new Uint8Array(size).fill(255),
});
/** Node's own network, with answers that no server would give on demand. */
const netThat = (send: Answer): NetDriver => ({
  ...createNet(),
  resolve: () => Promise.resolve({ addresses: ["93.184.215.14"], isPrivate: false }),
  send: async (request, { signal }) => send(request, signal),
});

/** Bytes of bodies, and of some addresses and headers. */
const withHeads =
  (bodies: number) =>
  (used: number): boolean =>
    used > bodies + 10 && used < bodies + 800;

/** Calls in a process with a budget, one after the other at one place: their codes, and what was used in the end. */
async function called(net: NetDriver, calls: readonly Call[], grants?: readonly string[]) {
  const kernel = await bootKernel({ net });
  const { program: open, context } = openProgram();
  const budget: Amounts = { netBytes: 1_000_000_000 };
  const pid = await kernel.os.spawn(open, grants === undefined ? { budget } : { budget, grants });
  const { os } = await context;
  const codes: string[] = [];
  const messages: string[] = [];
  for (const call of calls) {
    await (async () => os.call("fetch", { place: "f", ...call }))().then(
      () => codes.push("ok"),
      (error: { readonly code: string; readonly message: string }) => {
        codes.push(error.code);
        messages.push(error.message);
      },
    );
  }
  const used = (await kernel.os.call("usage", { pid }))["netBytes"]?.used;
  await kernel.close();
  return { codes, used, messages };
}

test.each<[string, Omit<Call, "url"> & { readonly url?: string }]>([
  ["a value with a line break", { headers: { authorization: "Bearer secret-token\nx" } }],
  ["a name with a blank", { headers: { "a b": "c" } }],
  ["a body that has no place", { method: "GET", body: "secret-token" }],
  ["a header that the connection sets", { headers: { Host: "internal.example" } }],
  ["a port that is not for http", { url: "http://127.0.0.1:6000/" }],
])("%s is refused before anything is reserved", async (_what, call) => {
  const { codes, used, messages } = await called(createNet(), [{ url: "http://127.0.0.1:1/", ...call }]);

  expect([codes, used]).toEqual([["EINVAL"], 0]);
  expect(messages.join()).not.toContain("secret-token");
});

test("what a server has acted on is charged and is the outcome, whatever becomes of its answer", async () => {
  let sent = 0;
  const moved = netThat(({ url }) => {
    sent++;
    return url.includes("good") ? answer(307, { location: "http://evil.example/" }, 5000) : answer(200);
  });
  const post = { url: "http://good.example/", method: "POST", body: "x".repeat(100), maxBytes: 6000 } as const;
  expect(await called(moved, [post, post], ["self", "net.connect:good.example"])).toMatchObject({
    codes: ["EACCES", "EACCES"],
    used: expect.toSatisfy(withHeads(5100)) as number,
  });
  expect(sent).toBe(1);

  const large = netThat(() => answer(200, {}, 50 * 1024 * 1024));
  const { codes, used } = await called(large, [{ url: "http://good.example/", method: "POST", maxBytes: 60_000_000 }]);
  expect(codes).toEqual(["E2BIG"]);
  expect(used).toSatisfy(withHeads(50 * 1024 * 1024));
}, 30_000);

test("a body that is sent again is charged again, within what was reserved", async () => {
  let left = 3;
  const net = netThat(() => (left-- > 0 ? answer(307, { location: "/next" }) : answer(200)));
  const post = { url: "http://a.example/", method: "POST", body: "x".repeat(1000) } as const;

  expect(await called(net, [{ ...post, maxBytes: 5000 }])).toMatchObject({
    codes: ["ok"],
    used: expect.toSatisfy(withHeads(4000)) as number,
  });
  left = 3;
  expect(await called(net, [{ ...post, maxBytes: 1500 }])).toMatchObject({
    codes: ["EFBIG"],
    used: expect.toSatisfy(withHeads(2000)) as number,
  });
});

test.each<[string, NetResponse, Call, Partial<NetRequest>]>([
  [
    "another scheme is told no credentials",
    answer(302, { location: "http://a.example/" }),
    { url: "https://a.example/", headers: { Authorization: "Bearer x", Accept: "text/html" } },
    { url: "http://a.example/", method: "GET", headers: { accept: "text/html" } },
  ],
  [
    "another host is told no key of any name",
    answer(307, { location: "http://b.example/" }),
    { url: "http://a.example/", headers: { "X-Api-Key": "k", Cookie: "c" } },
    { url: "http://b.example/", method: "GET", headers: {} },
  ],
  [
    "what is about the body goes with it",
    answer(303, { location: "/b" }),
    {
      url: "http://a.example/",
      method: "POST",
      body: "{}",
      headers: { "content-type": "application/json", "x-a": "b" },
    },
    { url: "http://a.example/b", method: "GET", headers: { "x-a": "b" } },
  ],
  [
    "HEAD stays HEAD",
    answer(303, { location: "/b" }),
    { url: "http://a.example/", method: "HEAD" },
    { url: "http://a.example/b", method: "HEAD", headers: {} },
  ],
])("after a redirect %s", async (_what, first, call, second) => {
  const seen: NetRequest[] = [];
  const { codes } = await called(
    netThat((request) => (seen.push(request) === 1 ? first : answer(200))),
    [call],
  );

  expect(codes).toEqual(["ok"]);
  expect(seen[1]).toEqual(second);
});

test("a request during which the host ended is made again, and reserved for again: what came of the first nobody knows", async () => {
  let asked = 0;
  const net = netThat((_request, signal) =>
    asked++ === 0
      ? new Promise<NetResponse>((_answered, failed) => {
          signal.addEventListener("abort", () => failed(new Error("aborted")));
        })
      : answer(200, {}, 5),
  );
  const parts = { net, store: new LastingStore().life(), objects: new MemoryObjectStore() };
  const reader = program("reader", async (_input: unknown, ctx: RunContext) =>
    ctx.fetch("page", "http://a.example/", { maxBytes: 1000 }).then(({ status }) => status),
  );
  const one = await bootKernel({ ...parts, programs: [reader] });
  const pid = await one.os.spawn(reader, { budget: { netBytes: 2500 } });
  while (asked === 0) await new Promise((go) => setTimeout(go, 1));
  await one.close();
  const two = await bootKernel({ ...parts, programs: [reader] });
  await two.os.resume(pid, {});

  expect(await two.os.wait(pid)).toMatchObject({ result: 200 });
  const { used } = (await two.os.call("usage", { pid }))["netBytes"] ?? {};
  expect(used).toSatisfy(withHeads(1005));
  expect(await two.os.call("ledger", { by: ["tool"] })).toMatchObject([{ used: { netBytes: used } }]);
  await two.close();
});

test.each([
  ["/public/../private", {}],
  ["/public/%2e%2e/private", {}],
  ["/public/..\\private", {}],
  ["/./public/../admin", {}],
  ["/%61dmin", {}],
  ["/public/a", { headers: { "X-Admin": "1" } }],
])("conditions of grants look at where a request leads, and at headers by any spelling: %s", async (path, more) => {
  const at = await serve((request, response) => response.end(request.url));
  const reader = program("reader", (input: { path: string }, ctx: RunContext) =>
    ctx.fetch("page", `HTTP://${at}${input.path}`, more),
  );
  await using kernel = await bootKernel();
  const run = async (given: string, grants: readonly string[]) =>
    kernel.os.wait(await kernel.os.spawn(reader, { input: { path: given }, grants: ["self", ...grants] }));

  const deny = (condition: string): string => `deny net.connect; arg.${condition}`;
  const admin = deny("headers.x-admin=*");
  const only = [`net.connect:${at}; arg.url=http://${at}/public/**`, admin];
  const but = ["net.connect", deny(`url=http://${at}/admin`), deny(`url=http://${at}/private`), admin];
  for (const grants of [only, but]) expect((await run(path, grants)).error).toMatchObject({ code: "EACCES" });
});

test("addresses and headers are bytes over the network, too", async () => {
  const net = netThat(() => ({ ...answer(200), headers: { "x-said": "y".repeat(3000) } }));
  const long = `http://a.example/${"x".repeat(3000)}`;

  expect((await called(net, [{ url: long, headers: { "x-more": "z".repeat(3000) } }])).used).toSatisfy(withHeads(9000));
});

test("who may connect anywhere is not at home here: this machine and private networks need a right of their own", async () => {
  const at = await serve((request, response) => {
    if (request.url === "/there") response.end("here");
    else response.writeHead(302, { location: `http://localhost:${at.split(":")[1]}/there` }).end();
  });
  const kernel = await bootKernel();
  const reader = program("reader", ({ url }: { url: string }, ctx: RunContext) => ctx.fetch("page", url));
  const run = async (url: string, ...grants: readonly string[]) =>
    kernel.os.wait(await kernel.os.spawn(reader, { input: { url }, grants: ["self", "net.connect", ...grants] }));
  const port = at.split(":")[1];

  for (const name of ["localhost", "127.0.0.1", "[::1]", "0"]) {
    const { error } = await run(`http://${name}:${port}/there`);
    expect([name, error?.code]).toEqual([name, "EACCES"]);
    expect(error?.message).toContain("net.private:");
  }
  expect((await run(`http://${at}/`, `net.private:${at}`)).error?.message).toContain("net.private:localhost");
  expect((await run(`http://${at}/`, "net.private")).result).toMatchObject({ body: "here" });
  const refused = await run(`http://${at}/there`, "net.private", "deny net.private:127.*");
  expect(refused.error?.code).toBe("EACCES");
  // Whoever may do everything goes there as ever.
  const owner = await kernel.os.spawn(reader, { input: { url: `http://${at}/there` } });
  expect((await kernel.os.wait(owner)).result).toMatchObject({ body: "here" });
  await kernel.close();
});

test("a name that leads elsewhere once it was looked at is not followed", async () => {
  const at = await serve((_request, response) => response.end("secret"));
  const seemsPublic = { addresses: ["93.184.215.14"], isPrivate: false };
  const kernel = await bootKernel({ net: { ...createNet(), resolve: () => Promise.resolve(seemsPublic) } });
  const reader = program("reader", ({ url }: { url: string }, ctx: RunContext) => ctx.fetch("page", url));
  const url = `http://localhost:${at.split(":")[1]}/`;

  const { error } = await kernel.os.wait(
    await kernel.os.spawn(reader, { input: { url }, grants: ["self", "net.connect"] }),
  );

  expect(error).toMatchObject({ code: "EACCES", message: expect.stringContaining("not on the internet") as unknown });
  await kernel.close();
});

test("what a process may not connect to is not even looked up, and a refused address is a denial", async () => {
  const asked: string[] = [];
  const seemsPublic = { addresses: ["93.184.215.14"], isPrivate: false };
  const resolve = (host: string): Promise<typeof seemsPublic> => {
    asked.push(host);
    return Promise.resolve(seemsPublic);
  };
  const kernel = await bootKernel({ net: { ...createNet(), resolve } });
  const reader = program("reader", async (_input: unknown, ctx: RunContext) => {
    const codes: string[] = [];
    for (const url of ["http://the-secret-is-42.example/", "http://localhost:8099/"])
      await ctx.fetch(url, url).catch(({ code }: { readonly code: string }) => codes.push(code));
    codes.push(await codeOf(() => ctx.os.call("connect", { url: "http://so-is-43.example/" })));
    return codes;
  });
  const grants = ["self", "net.connect:localhost:8099"];

  expect((await kernel.os.wait(await kernel.os.spawn(reader, { grants }))).result).toEqual([
    "EACCES",
    "EACCES",
    "EACCES",
  ]);
  expect(new Set(asked)).toEqual(new Set(["localhost:8099"]));
  const denied = (await kernel.os.call("auditLog", {})).filter(({ outcome }) => outcome === "denied");
  expect(JSON.stringify(denied)).toContain("net.private");
  await kernel.close();
});
