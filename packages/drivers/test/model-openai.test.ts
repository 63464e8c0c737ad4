// Against a loopback server that speaks the wire of chat completions, well and badly.

import { once } from "node:events";
import { type IncomingMessage, type Server, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { isKernelError } from "@ergos/kernel";
import { MODEL_CASES } from "@ergos/kernel/conformance";
import type { Model, ModelRequest } from "@ergos/kernel";
import { createOpenAiModel, createOpenAiProvider, providersOf } from "@ergos/drivers/model-openai";
import { afterEach, describe, expect, test } from "vitest";

type Handler = (
  request: IncomingMessage,
  response: ServerResponse,
  body: Record<string, unknown>,
) => void | Promise<void>;

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  }
});

async function serve(handler: Handler): Promise<string> {
  const server = createServer((request, response) => {
    let text = "";
    request.on("data", (chunk: Buffer) => (text += chunk.toString()));
    request.on(
      "end",
      () => void handler(request, response, text === "" ? {} : (JSON.parse(text) as Record<string, unknown>)),
    );
  });
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
}

const chunk = (delta: object, more: object = {}): string =>
  `data: ${JSON.stringify({ id: "c1", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index: 0, delta, finish_reason: null }], ...more })}\n\n`;
const finish = (reason: string): string =>
  `data: ${JSON.stringify({ id: "c1", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index: 0, delta: {}, finish_reason: reason }] })}\n\n`;
const usage = (input: number, output: number): string =>
  `data: ${JSON.stringify({ id: "c1", object: "chat.completion.chunk", created: 1, model: "m", choices: [], usage: { prompt_tokens: input, completion_tokens: output, total_tokens: input + output } })}\n\n`;

function stream(response: ServerResponse, parts: readonly string[]): void {
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const part of parts) response.write(part);
  response.end("data: [DONE]\n\n");
}

const hello = [chunk({ role: "assistant", content: "Hel" }), chunk({ content: "lo" }), finish("stop"), usage(11, 2)];
const ask: ModelRequest = {
  messages: [
    { role: "system", content: "be short" },
    { role: "user", content: "hello?" },
  ],
};
const options = (signal = new AbortController().signal) => ({ signal, idempotencyKey: "k" });
const modelAt = (baseUrl: string): Model => createOpenAiModel("m", { baseUrl, apiKey: "secret-key" });

async function failure(
  work: Promise<unknown>,
): Promise<{ code: string; message: string; retryAfterMs: number | undefined }> {
  const error = await work.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  if (!isKernelError(error)) throw new TypeError(`expected a kernel error, found ${String(error)}`);
  return { code: error.code, message: error.message, retryAfterMs: error.retryAfterMs };
}

/** An address at which nobody listens any more. */
async function closedPort(): Promise<string> {
  const url = await serve(() => undefined);
  const server = servers.pop();
  server?.close();
  if (server !== undefined) await once(server, "close");
  return url;
}

describe("a model behind the wire", () => {
  test("answers as it streams, with its usage; the request says what was asked", async () => {
    let seen: Record<string, unknown> = {};
    let key: string | undefined;
    const url = await serve((request, response, body) => {
      [seen, key] = [body, request.headers.authorization];
      stream(response, hello);
    });
    const pieces: string[] = [];

    const answer = await modelAt(url).infer(
      {
        ...ask,
        temperature: 0.5,
        topP: 0.9,
        maxOutputTokens: 50,
        stop: ["END"],
        seed: 7,
        responseSchema: { type: "object", properties: { a: { type: "string" } } },
      },
      { ...options(), onText: (piece) => pieces.push(piece) },
    );

    expect(answer).toEqual({ text: "Hello", finishReason: "stop", usage: { inputTokens: 11, outputTokens: 2 } });
    expect(pieces).toEqual(["Hel", "lo"]);
    expect(key).toBe("Bearer secret-key");
    expect(seen).toMatchObject({
      model: "m",
      stream: true,
      stream_options: { include_usage: true },
      temperature: 0.5,
      top_p: 0.9,
      max_tokens: 50,
      stop: ["END"],
      seed: 7,
      messages: [
        { role: "system", content: "be short" },
        { role: "user", content: "hello?" },
      ],
      response_format: {
        type: "json_schema",
        json_schema: { strict: false, schema: { type: "object", properties: { a: { type: "string" } } } },
      },
    });
  });

  test("that tells no usage is counted by its characters, and a cut answer says length", async () => {
    const url = await serve((_request, response) =>
      stream(response, [chunk({ content: "12345678" }), finish("length")]),
    );

    expect(await modelAt(url).infer(ask, options())).toEqual({
      text: "12345678",
      finishReason: "length",
      usage: { inputTokens: 4, outputTokens: 2 },
    });
  });

  test("is let go of at once when the call is cancelled: its socket closes", async () => {
    const closed = Promise.withResolvers<void>();
    const url = await serve((request, response) => {
      request.socket.on("close", () => closed.resolve());
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(chunk({ content: "slow" }));
    });
    const controller = new AbortController();
    const reason = new TypeError("enough");
    const pending = modelAt(url).infer(ask, { ...options(controller.signal), onText: () => controller.abort(reason) });

    await expect(pending).rejects.toBe(reason);
    await closed.promise;
  });

  test("a signal that has aborted asks nobody", async () => {
    let calls = 0;
    const url = await serve((_request, response) => {
      calls++;
      stream(response, hello);
    });

    await expect(modelAt(url).infer(ask, options(AbortSignal.abort(new TypeError("no"))))).rejects.toThrow("no");
    expect(calls).toBe(0);
  });

  test("takes its time: a slow stream arrives whole", async () => {
    const url = await serve(async (_request, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      for (const part of hello) {
        // A chunk cut in two by the network.
        response.write(part.slice(0, 9));
        await new Promise((resolve) => setTimeout(resolve, 15));
        response.write(part.slice(9));
      }
      response.end("data: [DONE]\n\n");
    });

    expect((await modelAt(url).infer(ask, options())).text).toBe("Hello");
  });
});

describe("what goes wrong has a code", () => {
  const refusing = (
    status: number,
    headers: Record<string, string> = {},
    error: object = { message: "no", type: "x", code: "y" },
  ) =>
    serve((_request, response) => {
      response.writeHead(status, { "content-type": "application/json", ...headers });
      response.end(JSON.stringify({ error }));
    });

  test.each([
    [400, "EINVAL"],
    [401, "EACCES"],
    [403, "EACCES"],
    [404, "ENODEV"],
    [408, "ETIMEDOUT"],
    [413, "E2BIG"],
    [422, "EINVAL"],
    [429, "EAGAIN"],
    [500, "EAGAIN"],
    [503, "EAGAIN"],
    [529, "EAGAIN"],
  ])("status %i is %s", async (status, code) => {
    expect(await failure(modelAt(await refusing(status)).infer(ask, options()))).toMatchObject({ code });
  });

  test("a refusal says how long to wait: in seconds, in milliseconds, as a date", async () => {
    const wait = async (headers: Record<string, string>) =>
      (await failure(modelAt(await refusing(429, headers)).infer(ask, options()))).retryAfterMs;

    expect(await wait({ "retry-after": "2" })).toBe(2000);
    expect(await wait({ "retry-after-ms": "150" })).toBe(150);
    const dated = (await wait({ "retry-after": new Date(Date.now() + 30_000).toUTCString() })) ?? 0;
    expect(dated).toBeGreaterThan(20_000);
    expect(dated).toBeLessThanOrEqual(31_000);
    expect(await wait({ "retry-after": "soon" })).toBeUndefined();
    expect(await wait({ "retry-after": "99999999" })).toBe(86_400_000);
  });

  test("a spent quota is no reason to try again", async () => {
    const url = await refusing(429, {}, { message: "quota", type: "insufficient_quota", code: "insufficient_quota" });
    expect((await failure(modelAt(url).infer(ask, options()))).code).toBe("EDQUOT");
  });

  test("garbage, HTML, a half answer and an empty one are told from answers", async () => {
    const saying = (type: string, ...parts: string[]) =>
      serve((_request, response) => {
        response.writeHead(200, { "content-type": type });
        for (const part of parts) response.write(part);
        response.end();
      });
    const codeOf = async (url: string) => (await failure(modelAt(url).infer(ask, options()))).code;

    expect(await codeOf(await saying("text/event-stream", "data: {nonsense\n\n"))).toBe("EPROTO");
    expect(await codeOf(await saying("text/event-stream", 'data: {"choices": 5}\n\n'))).toBe("EPROTO");
    expect(await codeOf(await saying("text/html; charset=utf-8", "<html>login</html>"))).toBe("EPROTO");
    expect(await codeOf(await saying("text/event-stream", chunk({ content: "half" })))).toBe("ECONNRESET");
    expect(await codeOf(await saying("text/event-stream"))).toBe("ECONNRESET");
  });

  test("a connection that breaks, and a server that is not there", async () => {
    const breaking = await serve((request, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(chunk({ content: "half" }));
      setTimeout(() => request.socket.destroy(), 20);
    });
    const deaf = await serve((request) => void request.socket.destroy());

    expect((await failure(modelAt(breaking).infer(ask, options()))).code).toBe("ECONNRESET");
    expect((await failure(modelAt(deaf).infer(ask, options()))).code).toBe("ECONNRESET");
    expect((await failure(modelAt(await closedPort()).infer(ask, options()))).code).toBe("ECONNREFUSED");
  });

  test("usage that is none is estimated, and never costs nothing for an answer", async () => {
    for (const [input, output] of [
      [-5, -1],
      [1.5, 2.5],
      [null, null],
      [0, 0],
      [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
    ] as unknown as [number, number][]) {
      const url = await serve((_request, response) => stream(response, [...hello.slice(0, 3), usage(input, output)]));
      const answer = await modelAt(url).infer(ask, options());
      expect(answer.usage.outputTokens).toBe(2);
      expect(answer.usage.inputTokens).toBe(4);
    }
  });

  test("a refusal in the stream is one: before the first word nothing was done", async () => {
    const refusing = async (refusal: object, ...before: string[]) => {
      const url = await serve((_request, response) =>
        stream(response, [...before, `data: ${JSON.stringify({ error: refusal })}\n\n`]),
      );
      const failed: unknown = await modelAt(url)
        .infer(ask, options())
        .catch((error: unknown) => error);
      return isKernelError(failed) ? [failed.code, failed.mayHaveActed] : failed;
    };
    expect(await refusing({ message: "Rate limit exceeded", code: 429 })).toEqual(["EAGAIN", false]);
    expect(await refusing({ message: "spent", code: "insufficient_quota" })).toEqual(["EDQUOT", false]);
    expect(await refusing({ message: "odd" })).toEqual(["EPROTO", false]);
    expect(await refusing({ message: "Overloaded", type: "overloaded_error" })).toEqual(["EAGAIN", false]);
    expect(await refusing({ message: "Slow down", code: 429 }, chunk({ content: "half" }))).toEqual(["EAGAIN", true]);
  });

  test("a server that does not stream, redirects, or never ends its answer is told", async () => {
    const plain = await serve((_request, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify({ id: "c", choices: [{ message: { role: "assistant", content: "hi" } }] }));
    });
    expect(await failure(modelAt(plain).infer(ask, options()))).toMatchObject({
      code: "EPROTO",
      message: expect.stringContaining("does not stream") as unknown,
    });
    let asked = 0;
    const elsewhere = await serve((_request, response) => (asked++, stream(response, hello)));
    const redirecting = await serve((_request, response) => {
      response.writeHead(307, { location: elsewhere });
      response.end();
    });
    expect((await failure(modelAt(redirecting).infer(ask, options()))).message).toContain("redirects to");
    expect(asked).toBe(0);
  });

  test("a key is fetched for each call, checked before it is sent, and stands in no message", async () => {
    const seen: unknown[] = [];
    const url = await serve((request, response) => {
      seen.push(request.headers.authorization);
      stream(response, hello);
    });
    const keys = ["first", "second", "line\nbreak-planted", "schlüssel-planted"];
    const model = createOpenAiModel("m", {
      baseUrl: url,
      apiKey: async () => {
        const key = keys.shift();
        if (key === undefined) throw new TypeError("sealed");
        return key;
      },
    });
    await model.infer(ask, options());
    await model.infer(ask, options());
    for (let wrong = 0; wrong < 2; wrong++) {
      const { code, message } = await failure(model.infer(ask, options()));
      expect([code, message.includes("planted")]).toEqual(["EACCES", false]);
    }
    await expect(model.infer(ask, options())).rejects.toThrow("sealed");
    keys.push("third\n");
    await model.infer(ask, options());
    expect(seen).toEqual(["Bearer first", "Bearer second", "Bearer third"]);
    keys.push("inner\nplanted");
    expect((await model.health()).detail).not.toContain("planted");
  });

  test("a base URL that is none says where it comes from, and how one is written", async () => {
    for (const baseUrl of ["127.0.0.1:8000/v1", "localhost:8000/v1", "ftp://x/v1", "http://a:b@x/v1"]) {
      const [provider] = providersOf({ OPENAI_BASE_URL: baseUrl });
      const model = provider?.open("m");
      const { code, message } = await failure(model?.infer(ask, options()) ?? Promise.resolve());
      expect([code, message.includes("OPENAI_BASE_URL")]).toEqual(["EINVAL", true]);
      expect(await model?.health()).toMatchObject({ ok: false });
    }
  });

  test("no message holds the key", async () => {
    const url = await refusing(
      401,
      {},
      { message: "Incorrect API key provided", type: "invalid_request_error", code: "invalid_api_key" },
    );
    const { message } = await failure(modelAt(url).infer(ask, options()));

    expect(message).toContain("check the key");
    expect(message).not.toContain("secret-key");
  });
});

describe("providers", () => {
  test("are those whose keys are in the environment, and Ollama", () => {
    const names = (environment: Record<string, string>) => providersOf(environment).map(({ name }) => name);

    expect(names({})).toEqual(["ollama"]);
    expect(names({ OPENAI_API_KEY: "k", GROQ_API_KEY: "" })).toEqual(["openai", "ollama"]);
    expect(names({ OPENAI_BASE_URL: "http://127.0.0.1:8000/v1" })).toEqual(["openai", "ollama"]);
    expect(names({ OPENAI_BASE_URL: "", OLLAMA_HOST: "" })).toEqual(["ollama"]);
    const ollama = (host: string) => providersOf({ OLLAMA_HOST: host })[0]?.description;
    expect(["", " 127.0.0.1 ", ":11500", "box:1", "https://x.dev", "http://y/", "::1", "l/b"].map(ollama)).toEqual(
      ["127.0.0.1:11434", "127.0.0.1:11434", "127.0.0.1:11500", "box:1", "x.dev", "y", "[::1]:11434", "l:11434"].map(
        (at) => `models of ${at}`,
      ),
    );
    expect(names({ MISTRAL_API_KEY: "k", OPENROUTER_API_KEY: "k" })).toEqual(["openrouter", "mistral", "ollama"]);
  });

  test("tell whether their server answers", async () => {
    const url = await serve((request, response) => {
      response.writeHead(request.headers.authorization === "Bearer good" ? 200 : 401);
      response.end("{}");
    });
    const health = (apiKey: string, baseUrl = url) => createOpenAiProvider({ baseUrl, apiKey }).open("m").health();

    expect(await health("good")).toMatchObject({ ok: true });
    expect(await health("bad")).toMatchObject({
      ok: false,
      detail: expect.stringContaining("key is not accepted") as unknown,
    });
    expect(await health("good", await closedPort())).toMatchObject({ ok: false });
  });
});

describe("tools", () => {
  const tools = [
    { name: "lib.search", description: "finds", inputSchema: { type: "object" as const } },
    { name: "lib_search", description: "finds too", inputSchema: { type: "object" as const } },
  ];
  const piece = (index: number, call: object): string => chunk({ tool_calls: [{ index, ...call }] });

  test("names, calls and their results are told as the wire has them, and calls come back whole under their own names", async () => {
    let seen: Record<string, unknown> = {};
    const url = await serve((_request, response, body) => {
      seen = body;
      stream(response, [
        chunk({ role: "assistant", content: "I look" }),
        piece(0, { id: "c1", type: "function", function: { name: "lib_search", arguments: "" } }),
        piece(0, { function: { arguments: '{"q":' } }),
        piece(1, { id: "c2", type: "function", function: { name: "lib_search_2", arguments: "{}" } }),
        piece(0, { function: { arguments: '"x"}' } }),
        piece(2, { id: "c3", type: "function", function: { name: "made_up", arguments: "{" } }),
        finish("tool_calls"),
        usage(30, 12),
      ]);
    });
    const before = { id: "c0", name: "lib.search", arguments: '{ "q": "before" }' };

    const answer = await modelAt(url).infer(
      {
        messages: [
          { role: "user", content: "find it" },
          { role: "assistant", content: "", toolCalls: [before] },
          { role: "tool", callId: "c0", content: "nothing" },
        ],
        tools,
        toolChoice: { tool: "lib_search" },
      },
      options(),
    );

    expect(answer).toEqual({
      text: "I look",
      toolCalls: [
        { id: "c1", name: "lib.search", arguments: '{"q":"x"}' },
        { id: "c2", name: "lib_search", arguments: "{}" },
        { id: "c3", name: "made_up", arguments: "{" },
      ],
      finishReason: "tools",
      usage: { inputTokens: 30, outputTokens: 12 },
    });
    expect(seen).toMatchObject({
      tools: [
        { type: "function", function: { name: "lib_search", description: "finds", parameters: { type: "object" } } },
        { type: "function", function: { name: "lib_search_2", description: "finds too" } },
      ],
      tool_choice: { type: "function", function: { name: "lib_search_2" } },
      messages: [
        { role: "user" },
        {
          role: "assistant",
          tool_calls: [
            { id: "c0", type: "function", function: { name: "lib_search", arguments: '{ "q": "before" }' } },
          ],
        },
        { role: "tool", tool_call_id: "c0", content: "nothing" },
      ],
    });
  });

  test.each([
    ["", "{}"],
    ['{"a":1}', '{"a":1}'],
  ])("a call whose arguments are %j, of a server that says `stop`", async (sent, given) => {
    const url = await serve((_request, response) =>
      stream(response, [
        piece(0, { id: "c1", type: "function", function: { name: "lib_search_2", arguments: sent } }),
        finish("stop"),
      ]),
    );

    const answer = await modelAt(url).infer({ ...ask, tools, toolChoice: "auto" }, options());

    expect(answer).toMatchObject({ text: "", finishReason: "tools", toolCalls: [{ arguments: given }] });
    expect(answer.usage.outputTokens).toBeGreaterThan(sent === "" ? -1 : 0);
  });

  test("an answer that breaks off in the middle of a call is none", async () => {
    const url = await serve((_request, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(piece(0, { id: "c1", type: "function", function: { name: "lib_search", arguments: '{"q' } }));
      setTimeout(() => response.destroy(), 20);
    });

    expect(await failure(modelAt(url).infer({ ...ask, tools }, options()))).toMatchObject({ code: "ECONNRESET" });
  });
});

describe("the contract of a model", () => {
  test.each(MODEL_CASES)("$name", async ({ run }) => {
    const url = await serve((_request, response) => stream(response, hello));
    await run(modelAt(url));
  });
});
