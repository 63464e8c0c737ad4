// A model server that speaks OpenAI's wire: slow, failing, and breaking off, as chance has it. It counts what it has
// given to each worker; no crash of a host takes that back.

import { type Server, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Chance } from "../simulation/random.ts";

export interface ModelServer {
  readonly url: string;
  /** Tokens of answers that were sent whole, by worker. */
  readonly given: ReadonlyMap<number, number>;
  readonly calls: number;
  close(): Promise<void>;
}

export async function startModelServer(chance: Chance, maxOutput: number): Promise<ModelServer> {
  const given = new Map<number, number>();
  const count = { calls: 0 };
  const server: Server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => (body += String(chunk)));
    request.on("end", () => {
      count.calls++;
      const {
        messages,
        max_tokens: max = 0,
        stream,
      } = JSON.parse(body) as {
        messages: readonly { readonly content: string }[];
        max_tokens?: number;
        stream?: boolean;
      };
      const worker = Number(/worker (\d+)/.exec(messages[0]?.content ?? "")?.[1] ?? -1);
      const luck = chance.next();
      const tokens = 1 + Math.floor(chance.next() * Math.min(max, maxOutput));
      setTimeout(() => {
        if (luck < 0.05) {
          request.socket.destroy();
          return;
        }
        if (luck < 0.1) {
          response.writeHead(luck < 0.07 ? 500 : 429, { "retry-after": "0" }).end("{}");
          return;
        }
        given.set(worker, (given.get(worker) ?? 0) + tokens);
        const usage = { prompt_tokens: 5, completion_tokens: tokens, total_tokens: 5 + tokens };
        const base = { id: "c", created: 1, model: "chaos" };
        if (stream === true) {
          response.writeHead(200, { "content-type": "text/event-stream" });
          const choice = { index: 0, delta: { role: "assistant", content: "x" }, finish_reason: null };
          response.write(
            `data: ${JSON.stringify({ ...base, object: "chat.completion.chunk", choices: [choice] })}\n\n`,
          );
          if (luck < 0.13) {
            request.socket.destroy();
            return;
          }
          const last = { index: 0, delta: {}, finish_reason: "stop" };
          response.end(
            `data: ${JSON.stringify({ ...base, object: "chat.completion.chunk", choices: [last], usage })}\n\ndata: [DONE]\n\n`,
          );
          return;
        }
        const choice = { index: 0, message: { role: "assistant", content: "x" }, finish_reason: "stop" };
        response.writeHead(200, { "content-type": "application/json" });
        response.end(JSON.stringify({ ...base, object: "chat.completion", choices: [choice], usage }));
      }, chance.next() * 30);
    });
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/v1`,
    given,
    get calls() {
      return count.calls;
    },
    close: () =>
      new Promise((closed) => {
        server.close(() => closed());
        server.closeAllConnections();
      }),
  };
}
