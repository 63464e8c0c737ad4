// The JSON Schema in a real YAML language server: what an editor offers and complains about.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { manifestJsonSchema } from "@ergos/compiler";
import { afterAll, beforeAll, expect, test } from "vitest";

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: unknown;
  readonly result?: unknown;
}

/** A client of the language server protocol: as much of it as a test needs. */
class Client {
  readonly #server: ChildProcess;
  readonly #waiting = new Map<number, (result: unknown) => void>();
  readonly #diagnostics = new Map<string, (messages: readonly string[]) => void>();
  readonly #schema: string;
  #received = Buffer.alloc(0);
  #next = 1;

  constructor(server: ChildProcess, schema: string) {
    this.#server = server;
    this.#schema = schema;
    server.stdout?.on("data", (chunk: Buffer) => this.#take(chunk));
  }

  request(method: string, params: unknown): Promise<unknown> {
    const id = this.#next++;
    const answer = new Promise<unknown>((resolve) => this.#waiting.set(id, resolve));
    this.#send({ id, method, params });
    return answer;
  }

  notify(method: string, params: unknown): void {
    this.#send({ method, params });
  }

  /** Opens a text and waits for what the server says about it. */
  open(uri: string, text: string): Promise<readonly string[]> {
    const found = new Promise<readonly string[]>((resolve) => this.#diagnostics.set(uri, resolve));
    this.notify("textDocument/didOpen", { textDocument: { uri, languageId: "yaml", version: 1, text } });
    return found;
  }

  #send(message: object): void {
    const text = JSON.stringify({ jsonrpc: "2.0", ...message });
    this.#server.stdin?.write(`Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
  }

  #take(chunk: Buffer): void {
    this.#received = Buffer.concat([this.#received, chunk]);
    for (;;) {
      const head = this.#received.indexOf("\r\n\r\n");
      const length = Number(
        /Content-Length: (\d+)/.exec(this.#received.subarray(0, Math.max(0, head)).toString())?.[1],
      );
      if (head < 0 || this.#received.length < head + 4 + length) return;
      const text = this.#received.subarray(head + 4, head + 4 + length).toString();
      this.#received = this.#received.subarray(head + 4 + length);
      this.#handle(JSON.parse(text) as Message);
    }
  }

  #handle(message: Message): void {
    if (message.method === "workspace/configuration") {
      const yaml = {
        schemas: { [this.#schema]: "*.yaml" },
        validate: true,
        completion: true,
        schemaStore: { enable: false },
      };
      this.#send({ id: message.id, result: [yaml, {}, {}, {}, {}] });
    } else if (message.method === "textDocument/publishDiagnostics") {
      const { uri, diagnostics } = message.params as { uri: string; diagnostics: readonly { message: string }[] };
      this.#diagnostics.get(uri)?.(diagnostics.map((one) => one.message));
    } else if (message.method !== undefined && message.id !== undefined) this.#send({ id: message.id, result: null });
    else if (message.id !== undefined) this.#waiting.get(message.id)?.(message.result);
  }
}

let dir: string;
let server: ChildProcess;
let client: Client;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "ergos-language-server-"));
  const schema = join(dir, "schema.json");
  writeFileSync(schema, JSON.stringify(manifestJsonSchema()));
  const manifest = createRequire(import.meta.url).resolve("yaml-language-server/package.json");
  server = spawn(process.execPath, [join(dirname(manifest), "bin/yaml-language-server"), "--stdio"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  client = new Client(server, pathToFileURL(schema).href);
  await client.request("initialize", {
    processId: process.pid,
    rootUri: pathToFileURL(dir).href,
    capabilities: { workspace: { configuration: true } },
  });
  client.notify("initialized", {});
  client.notify("workspace/didChangeConfiguration", { settings: {} });
});

afterAll(async () => {
  const ended = once(server, "exit");
  server.kill();
  await ended;
  rmSync(dir, { recursive: true, force: true });
});

const head = "apiVersion: ergos/v1\nkind: Pipeline\nmetadata: { name: sample }\nspec:\n  nodes:\n";
const uri = (name: string): string => pathToFileURL(join(dir, name)).href;

async function completions(name: string, text: string, line: number, character: number): Promise<readonly string[]> {
  await client.open(uri(name), text);
  const answer = (await client.request("textDocument/completion", {
    textDocument: { uri: uri(name) },
    position: { line, character },
  })) as { items: readonly { label: string }[] };
  return answer.items.map(({ label }) => label);
}

test("a right manifest has no complaint", async () => {
  const text = `${head}    - name: a\n      kind: llm\n      prompt: hello\n      retry: { attempts: 3, delay: 1s }\n      timeout: 30s\n    - name: b\n      kind: map\n      items: a\n      body: { kind: expression, value: item }\n`;
  expect(await client.open(uri("right.yaml"), text)).toEqual([]);
});

test("a misspelt field, a wrong kind and a missing field are told", async () => {
  const told = (name: string, node: string): Promise<readonly string[]> =>
    client.open(uri(name), `${head}    - ${node}\n`);

  expect(await told("field.yaml", "{ name: a, kind: llm, prompt: x, promt: y }")).toEqual([
    expect.stringMatching(/promt is not allowed/) as unknown,
  ]);
  expect(await told("kind.yaml", "{ name: a, kind: lmm }")).toEqual([
    expect.stringMatching(/one of|accepted/) as unknown,
  ]);
  expect(await told("missing.yaml", "{ name: a, kind: function }")).toEqual([
    expect.stringMatching(/module/) as unknown,
  ]);
});

test("fields and kinds are offered", async () => {
  expect(await completions("kinds.yaml", `${head}    - name: a\n      kind: \n`, 6, 12)).toEqual(
    expect.arrayContaining(["function", "llm", "map", "branch"]),
  );
  expect(
    await completions("fields.yaml", `${head}    - name: a\n      kind: llm\n      prompt: x\n      t\n`, 8, 7),
  ).toEqual(expect.arrayContaining(["temperature", "timeout", "top_p"]));
});
