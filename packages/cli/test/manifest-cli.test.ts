// The commands around manifests, each in a process of its own, as a user types them.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { type Answer, BIN, environment, runErgos, useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();
let cwd: string;
beforeEach(() => {
  cwd = directory.path;
});

const ergos = (
  args: readonly string[],
  options: { readonly env?: Readonly<Record<string, string>>; readonly input?: string; readonly cwd?: string } = {},
): Answer => runErgos(args, { cwd, ...options });
const json = (args: readonly string[]): unknown => JSON.parse(ergos([...args, "--json"]).stdout) as unknown;
const file = (name: string, text: string): string => {
  writeFileSync(join(cwd, name), text);
  return name;
};
const manifest = (nodes: string, name = "pipeline.yaml"): string =>
  file(
    name,
    `apiVersion: ergos/v1\nkind: Pipeline\nmetadata: { name: sample, description: a sample }\nspec:\n${nodes}`,
  );

test("init writes a pipeline that is valid, runs at once, and is not written over", () => {
  expect(ergos(["init", "demo"]).stdout).toContain("ergos run pipeline.yaml");
  const demo = join(cwd, "demo");
  for (const name of ["pipeline.yaml", ".env.example", ".gitignore", "ergos.schema.json", "notes/monday.md"])
    expect(existsSync(join(demo, name)), name).toBe(true);

  expect(ergos(["lint", "pipeline.yaml", "--strict"], { cwd: demo })).toMatchObject({ status: 0, stderr: "" });
  const run = ergos(["run", "pipeline.yaml"], { cwd: demo });
  expect(run.stdout).toContain("2 notes, 1 urgent.");
  expect(ergos(["cat", "/home/report.md"], { cwd: demo }).stdout).toMatch(/## monday\.md \(urgent\)/);

  writeFileSync(join(demo, "notes/monday.md"), "mine");
  expect(ergos(["init", "demo"])).toMatchObject({ status: 1, stderr: expect.stringContaining("EEXIST") as unknown });
  rmSync(join(demo, "pipeline.yaml"));
  expect(ergos(["init", "demo"]).stdout).toContain("kept:");
  expect(readFileSync(join(demo, "notes/monday.md"), "utf8")).toBe("mine");
});

test("validate tells every fault and starts nothing; its exit status says what it found", () => {
  const good = manifest("  nodes: [{ name: a, kind: expression, value: 1 }]\n");
  const bad = manifest(
    "  nodes:\n    - { name: a, kind: lmm }\n    - { name: b, kind: expression, value: missing }\n",
    "bad.yaml",
  );

  expect(ergos(["validate", good])).toMatchObject({ status: 0, stdout: "✓ pipeline.yaml: sample\n" });
  const told = ergos(["validate", bad]);
  expect(told.status).toBe(1);
  expect(told.stdout).toMatch(
    /bad\.yaml:6:24: error E205: "lmm" is no kind of node\n {4}did you mean "llm"\?\nbad\.yaml:7:43: error E307/,
  );
  expect(json(["validate", bad])).toMatchObject([
    {
      ok: false,
      diagnostics: [
        { code: "E205", line: 6 },
        { code: "E307", line: 7 },
      ],
    },
  ]);
  expect(ergos(["validate", good, "nothing.yaml"]).status).toBe(2);
  writeFileSync(join(cwd, "binary.yaml"), Buffer.from([0xff, 0xfe, 0x00]));
  expect(ergos(["validate", "binary.yaml"]).status).toBe(2);
  expect(ergos(["validate"]).status).toBe(2);
  expect(existsSync(join(cwd, ".ergos"))).toBe(false);
  expect(ergos(["run", bad])).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("bad.yaml has 2 errors") as unknown,
  });
  expect(ergos(["lint", bad, "--disable", "E205", "--disable", "E307"]).status).toBe(1);
});

test("a module that throws when it is loaded, and an export that is no function, are told", () => {
  file("throws.ts", 'throw new TypeError("at load");');
  file("value.ts", "export default 5;");
  const run = (module: string): string =>
    ergos(["run", manifest(`  nodes: [{ name: a, kind: function, module: ./${module} }]\n`)]).stderr;

  expect(run("value.ts")).toMatch(/ENOEXEC.*node a \(pipeline\.yaml:5\).*export default.*must be a function/);
  file("throws.ts", 'export default () => 1; throw new TypeError("at load");');
  expect(run("throws.ts")).toMatch(/ENOEXEC.*throws\.ts cannot be loaded: at load \(.*throws\.ts:\d+:\d+\)/);
});

test("plan, graph, explain and schema show what a manifest is", () => {
  const plan = manifest(
    '  nodes:\n    - { name: a, kind: expression, value: input.x }\n    - { name: b, kind: llm, prompt: "{{ a }}", when: a > 1 }\n',
  );

  expect(json(["plan", plan])).toMatchObject({
    format: 1,
    name: "sample",
    nodes: [
      { name: "a", needs: [] },
      { name: "b", needs: ["a"], when: "a > 1" },
    ],
  });
  expect(ergos(["plan", plan]).stdout).toMatch(/b +llm +a +when a > 1/);
  expect(ergos(["plan", plan, "--yaml"]).stdout).toContain('prompt: "{{ a }}"');
  expect(ergos(["graph", plan]).stdout).toContain('a -->|"a #62; 1"| b');
  expect(ergos(["graph", plan, "--output", "out.svg"]).status).toBe(0);
  expect(readFileSync(join(cwd, "out.svg"), "utf8")).toMatch(/^<svg [^]*<\/svg>\n$/);
  expect(ergos(["graph", plan, "--format", "png"]).status).toBe(2);
  expect(ergos(["explain", "pipeline.spec.nodes.llm.prompt"]).stdout).toContain("What is asked.");
  expect(ergos(["explain", "pipeline.spec.nodes.llm.promt"])).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('did you mean "prompt"') as unknown,
  });
  expect(json(["schema"])).toMatchObject({ title: "ErgOS pipeline" });
  const code = ergos(["plan", join(import.meta.dirname, "../../../examples/retry"), "--yaml"]).stdout;
  expect(code).toMatch(/name: price[^]*dependencies:\n {8}- fetch/);
});

test("what newcomers type gets advice", () => {
  const told = (node: string): string => ergos(["validate", manifest(`  nodes:\n    - name: a\n${node}`)]).stdout;

  expect(told("      kind: llm\n      prompt: Hi {{ x }}: {{ y }}\n")).toContain(
    "quote the whole text that holds {{ … }}",
  );
  expect(told("      kind: llm\n      prompt: x\n      depends_on: b\n")).toContain('did you mean "dependencies"?');
  expect(told("      kind: expression\n      value: hello\n")).toContain(`a text needs quotes of its own: "'hello'"`);
  expect(told("      kind: llm\n      prompt: x\n      timeout: 30 seconds\n")).toContain('found a text "30 seconds"');
  expect(ergos(["validate", manifest("  nodes: [{ name: my-node, kind: expression, value: 1 }]\n")]).stdout).toContain(
    "write my_node",
  );
  expect(ergos(["run", "pipeline.yaml", "x=1"])).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('"x=1" is one argument too many') as unknown,
  });
  expect(ergos(["run", "pipeline.yaml", "--inptu", "x=1"])).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("did you mean --input?") as unknown,
  });
  expect(ergos(["explain", "llm.prompt"]).stdout).toContain("What is asked.");
  expect(ergos(["explain", "eunknown"]).stdout).toMatch(/^EUNKNOWN  Outcome unknown after a crash \(1001/);
  expect(ergos(["explain", "e303"]).stdout).toContain("nodes wait for each other");
});

test("a write that a closing host takes is not reported as failed", async () => {
  const watcher = spawn(process.execPath, [BIN, "watch", "/home/**", "--count", "1"], {
    cwd,
    env: environment(),
    stdio: "ignore",
  });
  while (!existsSync(join(cwd, ".ergos/control.sock"))) await new Promise((go) => setTimeout(go, 20));
  expect(ergos(["write", "/home/w", "x"])).toMatchObject({ status: 0, stderr: "" });
  await once(watcher, "exit");
  expect(ergos(["cat", "/home/w"]).stdout).toBe("x");
});

test("a text that looks like a number stays a text where the schema says so", () => {
  const typed = manifest(
    "  input_schema: { type: object, properties: { id: { type: string }, n: { type: integer } } }\n  nodes: [{ name: a, kind: expression, value: { id: input.id, n: input.n } }]\n",
  );
  expect(json(["run", typed, "-i", "id=007", "-i", "n=7"])).toMatchObject({ result: { id: "007", n: 7 } });
});

test("an input that the schema does not have is most likely a slip", () => {
  const source = manifest(
    "  input_schema: { type: object, properties: { number: { type: integer, default: 1 } } }\n  nodes: [{ name: a, kind: expression, value: input.number }]\n",
  );
  expect(ergos(["run", source, "-i", "nubmer=3"])).toMatchObject({
    status: 0,
    stderr: 'the input_schema has no "nubmer"; did you mean number?\n',
  });
});

test("files are written, invoked, told, found and searched", () => {
  expect(ergos(["write", "/home/a.md", "first line\nneedle here"]).status).toBe(0);
  expect(ergos(["write", "/home/b.md"], { input: "piped Needle" }).status).toBe(0);
  expect(ergos(["write", "/home/b.md", "!", "--append"]).status).toBe(0);
  const { generation } = json(["stat", "/home/b.md"]) as { generation: number };
  expect(ergos(["write", "/home/b.md", "stale", "--if-generation", String(generation - 1)]).status).toBe(1);

  expect(ergos(["cat", "/home/b.md"]).stdout).toBe("piped Needle!");
  expect(ergos(["glob", "/home/*.md"]).stdout).toBe("/home/a.md\n/home/b.md\n");
  expect(ergos(["glob", "/home/*.txt"]).status).toBe(1);
  expect(json(["grep", "-i", "needle", "/home/**"])).toEqual([
    { path: "/home/a.md", line: 2, text: "needle here" },
    { path: "/home/b.md", line: 1, text: "piped Needle!" },
  ]);
  expect(json(["grep", "e", "/home/*", "/home/*", "--limit", "1"])).toHaveLength(1);
  expect(ergos(["grep", "(", "/home/*"]).status).toBe(2);
  expect(json(["exec", "/lib/tools/list_directory", "-i", "path=/home"])).toEqual(
    expect.arrayContaining([
      { name: "a.md", type: "file" },
      { name: "b.md", type: "file" },
    ]),
  );
  expect(ergos(["exec", "/lib/tools/list_directory"]).stderr).toMatch(/path is missing/);
  expect(json(["top"])).toEqual([]);
});

test("completion is a script of its shell, and knows commands and options", () => {
  const bash = ergos(["completion", "bash"]).stdout;
  const asked = spawnSync(
    "bash",
    [
      "-c",
      `${bash}\nCOMP_WORDS=(ergos va); COMP_CWORD=1; _ergos; echo "\${COMPREPLY[*]}"; COMP_WORDS=(ergos run --bu); COMP_CWORD=2; _ergos; echo "\${COMPREPLY[*]}"`,
    ],
    { encoding: "utf8" },
  );
  expect(asked.stdout).toBe("validate\n--budget\n");
  expect(ergos(["completion", "zsh"]).stdout).toMatch(/^#compdef ergos\n/);
  expect(ergos(["completion", "fish"]).status).toBe(2);
});

test("with a key in the environment the same manifest asks that server, and retries what may pass", async () => {
  const seen: {
    authorization: string | undefined;
    body: { model: string; messages: readonly { content: string }[] };
  }[] = [];
  const server = createServer((request, response) => {
    let text = "";
    request.on("data", (chunk: Buffer) => (text += chunk.toString()));
    request.on("end", () => {
      if (request.url === "/v1/models") return response.end('{"data": []}');
      seen.push({
        authorization: request.headers.authorization,
        body: JSON.parse(text) as (typeof seen)[number]["body"],
      });
      if (seen.length === 1) {
        response.writeHead(429, { "retry-after-ms": "20", "content-type": "application/json" });
        return response.end('{"error": {"message": "slow down"}}');
      }
      response.writeHead(200, { "content-type": "text/event-stream" });
      const chunk = (delta: object, finish: string | null): string =>
        `data: ${JSON.stringify({ id: "1", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index: 0, delta, finish_reason: finish }], usage: finish === null ? null : { prompt_tokens: 5, completion_tokens: 3, total_tokens: 8 } })}\n\n`;
      return response.end(
        `${chunk({ role: "assistant", content: "from the server" }, null)}${chunk({}, "stop")}data: [DONE]\n\n`,
      );
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
    const source = manifest('  nodes: [{ name: a, kind: llm, prompt: "hello {{ input.name }}" }]\n');
    writeFileSync(join(cwd, ".env"), `OPENAI_API_KEY=planted-key-0815\nOPENAI_BASE_URL=${url}\nOPENAI_MODEL=small\n`);
    // The server answers in this process: it must not be waited for synchronously.
    const run = async (args: readonly string[]): Promise<{ status: number | null; stdout: string }> => {
      const child = spawn(process.execPath, [BIN, ...args], {
        cwd,
        env: environment(),
        stdio: ["ignore", "pipe", "pipe"],
      });
      let stdout = "";
      child.stdout.on("data", (part: Buffer) => (stdout += part.toString()));
      const [status] = (await once(child, "close")) as [number | null];
      return { status, stdout };
    };

    const answer = await run(["run", source, "-i", "name=world", "--json"]);
    expect(JSON.parse(answer.stdout)).toMatchObject({
      result: "from the server",
      usage: { tokensIn: 5, tokensOut: 3, modelCalls: 1 },
    });
    expect(seen.map(({ authorization, body }) => [authorization, body.model, body.messages[0]?.content])).toEqual([
      ["Bearer planted-key-0815", "small", "hello world"],
      ["Bearer planted-key-0815", "small", "hello world"],
    ]);
    const shown =
      (await run(["doctor"])).stdout +
      (await run(["cat", "/proc/runs/sample-2/events"])).stdout +
      (await run(["plan", source, "--json"])).stdout;
    expect(shown).toMatch(/model openai\/small[^\n]*127\.0\.0\.1/);
    expect(shown).not.toContain("planted-key");
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

test("a manifest is killed and goes on where it was", async () => {
  mkdirSync(join(cwd, "notes"));
  file(
    "slow.ts",
    `import { appendFileSync } from "node:fs";\nexport default async ({ n }: { n: number }) => { appendFileSync(${JSON.stringify(join(cwd, "calls"))}, n + "\\n"); await new Promise((go) => setTimeout(go, 40)); return n * n; };`,
  );
  const source = manifest(
    "  nodes:\n    - name: squares\n      kind: map\n      items: range(30)\n      concurrency: 2\n      body: { kind: function, module: ./slow.ts, input_mapping: { n: item } }\n  output: squares | sum\n",
  );
  const child = spawn(process.execPath, [BIN, "run", source], { cwd, env: environment(), stdio: "ignore" });
  while (!existsSync(join(cwd, "calls")) || readFileSync(join(cwd, "calls"), "utf8").split("\n").length < 10)
    await new Promise((go) => setTimeout(go, 20));
  child.kill("SIGKILL");
  await once(child, "exit");

  // It sleeps, and what it has done is not forgotten.
  const [asleep] = json(["ps"]) as { state: string; usage: { steps: number } }[];
  expect(asleep?.state).toBe("sleeping");
  expect(asleep?.usage.steps).toBeGreaterThanOrEqual(5);
  expect(json(["resume"])).toMatchObject({ result: 8555 });
  const calls = readFileSync(join(cwd, "calls"), "utf8").trim().split("\n");
  // Only what was under way when it was killed is done again: at most two items.
  expect(calls.length).toBeGreaterThanOrEqual(30);
  expect(calls.length).toBeLessThanOrEqual(32);
});
