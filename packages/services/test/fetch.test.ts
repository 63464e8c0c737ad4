import { type Server, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type RunContext, program } from "@ergos/services";
import { afterEach, beforeEach, expect, test } from "vitest";
import { bootKernel } from "../../kernel/test/kernel-fixture.ts";

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
  const pid = await kernel.os.spawn(reader, { grants: ["self", `net.connect:${at}`] });
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
    const to = request.url === "/loop" ? "/loop" : `http://${other}/`;
    response.writeHead(302, { location: to }).end();
  });
  const reader = program("reader", ({ path }: { path: string }, ctx: RunContext) =>
    ctx.fetch("page", `http://${first}${path}`, { headers: { Authorization: "Bearer x" } }),
  );
  const kernel = await bootKernel();
  const run = async (path: string, grants: readonly string[]) =>
    kernel.os.wait(await kernel.os.spawn(reader, { input: { path }, grants: ["self", ...grants] }));

  expect((await run("/", [`net.connect:${first}`])).error?.message).toContain(`redirects to ${other}`);
  expect((await run("/", ["net.connect:127.0.0.1:*"])).result).toMatchObject({
    status: 200,
    body: "there",
    url: `http://${other}/`,
  });
  expect((await run("/loop", ["net.connect"])).error).toMatchObject({ code: "ELOOP" });
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
  expect(await kernel.os.call("usage", { pid })).toMatchObject({ netBytes: { used: 1010 } });
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
