// A web server that embeds `connect()`: each request starts a durable run, once for each Idempotency-Key.
//
//   POST /summaries         { "text": "…" }  → 202 { "runId": … }
//   GET  /summaries/<run>                    → its state and result
//   DELETE /summaries/<run>                  → cancels it
//
//   node --conditions=@ergos/source examples/web-server/server.ts

import { type IncomingMessage, type Server, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type ErgOs, connect, isKernelError, pipeline, toPid } from "ergos";

const summarise = pipeline<{ text: string }>("summary")
  .node("check", ({ text }) => {
    if (text.trim() === "") throw new RangeError("the text is empty");
    return text;
  })
  .node("summary", { needs: ["check"] }, async ({ check }, ctx) => {
    const answer = await ctx.infer("summarise", {
      messages: [{ role: "user", content: check }],
      task: { kind: "summarise", sentences: 1, text: check },
    });
    return { summary: answer.text, tokens: answer.usage.inputTokens + answer.usage.outputTokens };
  })
  .output("summary")
  .build();

interface Reply {
  readonly status: number;
  readonly body: unknown;
}

export interface WebServer extends AsyncDisposable {
  readonly url: string;
}

/** Starts the server on a free port of this machine. */
export async function startServer(dir: string): Promise<WebServer> {
  const os = await connect({ dir, programs: [summarise], serve: false });
  const server = createServer((request, response) => {
    void handle(os, request)
      .catch((error: unknown): Reply =>
        isKernelError(error)
          ? { status: error.code === "ESRCH" ? 404 : 400, body: { error: error.message } }
          : { status: 500, body: { error: String(error) } },
      )
      .then(({ status, body }) =>
        response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body)),
      );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  // A listening server has an address with a port.
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, [Symbol.asyncDispose]: () => stop(server, os) };
}

async function stop(server: Server, os: ErgOs): Promise<void> {
  await new Promise((resolve) => server.close(resolve));
  await os.close();
}

async function handle(os: ErgOs, request: IncomingMessage): Promise<Reply> {
  const [, collection, id] = (request.url ?? "").split("/");
  if (collection !== "summaries") return { status: 404, body: { error: "there is only /summaries" } };
  if (request.method === "POST") {
    const text = textIn(await readBody(request));
    if (text === undefined) return { status: 400, body: { error: 'the body is JSON, { "text": "…" }' } };
    const { "idempotency-key": key } = request.headers;
    const once = typeof key === "string" ? { key } : {};
    const pid = await os.spawn(summarise, { input: { text }, ...once });
    return { status: 202, body: { runId: `summary-${pid}` } };
  }
  const number = /^summary-([1-9]\d{0,14})$/.exec(id ?? "")?.[1];
  const [run] = number === undefined ? [] : await os.ps({ pids: [toPid(Number(number))] });
  if (run === undefined) return { status: 404, body: { error: `no run ${id ?? ""}` } };
  if (request.method === "DELETE") {
    await os.kill(run.pid);
    return { status: 200, body: { runId: run.runId, state: "cancelled" } };
  }
  const result: unknown = JSON.parse(await os.fs.readText(`/proc/runs/${run.runId}/result`));
  return {
    status: 200,
    body: {
      runId: run.runId,
      state: run.status,
      result,
      error: run.error?.message,
    },
  };
}

function textIn(body: string): string | undefined {
  try {
    const { text } = (JSON.parse(body) ?? {}) as { readonly text?: unknown };
    return typeof text === "string" ? text : undefined;
  } catch {
    return undefined;
  }
}

async function readBody(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of request) {
    text += String(chunk);
    if (text.length > 1_000_000) throw new RangeError("the body is larger than 1 MB");
  }
  return text;
}

if (import.meta.main) {
  const { url } = await startServer(".ergos");
  console.log(
    `listening on ${url}; try: curl -d '{"text":"ErgOS runs agents as durable processes."}' ${url}/summaries`,
  );
}
