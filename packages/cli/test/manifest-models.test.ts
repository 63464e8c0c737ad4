// Manifests run by a host: models and tools, what they are asked and what comes of their answers.

import { join } from "node:path";
import { type ModelRequest, KernelError, connect, createOfflineModel } from "ergos";
import { describe, expect, test } from "vitest";
import { useManifests } from "./manifest-host.ts";

const { folder, file, manifest, lines, run } = useManifests();

describe("models and tools", () => {
  test("a model calls tools of its node, with the rights of the process, until it answers", async () => {
    file("tool.ts", "export default ({ a, b }: { a: number; b: number }) => a + b;");
    const asked: ModelRequest[] = [];
    const model = createOfflineModel({
      script: (request) => {
        asked.push(request);
        const last = request.messages.at(-1);
        if (last?.role === "user" && asked.length === 1)
          return {
            toolCalls: [
              { name: "add", arguments: { a: 1, b: 2 } },
              { name: "read_file", arguments: { path: "/sys/version" } },
            ],
          };
        return last?.role === "tool" ? `it is ${request.messages.at(-2)?.content}` : "3";
      },
    });
    const spec = (fields: string): string => `  tools: { add: { module: ./tool.ts, effect: pure } }
  caps: [llm, tool:add, tool:read_file, fs.list:/]
  nodes: [{ name: ask, kind: llm, prompt: how much, tools: [add, read_file], output_schema: { type: integer }, ${fields} }]
`;

    // The first answer is no number: it is told so, with all that was said before.
    expect(await run(spec("repair: 1"), undefined, { models: [model] })).toBe(3);
    expect(asked[0]?.tools?.map(({ name }) => name)).toEqual(["add", "read_file"]);
    const turns = asked[2]?.messages.map(({ role, content }) => `${role} ${content}`);
    expect(turns).toEqual([
      "user how much",
      "assistant ",
      "tool 3",
      expect.stringMatching(/^tool error: \[EACCES\].*fs\.read:\/sys\/version/),
      "assistant it is 3",
      expect.stringMatching(/^user Your answer cannot be used: it is no JSON/),
    ]);

    const endless = createOfflineModel({ script: () => ({ toolCalls: [{ name: "add", arguments: { a: 1, b: 1 } }] }) });
    await expect(run(spec("max_turns: 2"), undefined, { models: [endless] })).rejects.toThrow(
      /EPROTO.*called tools in each of 2 turns/,
    );
  });

  test("a text need not be quoted, and may look like JSON", async () => {
    const answers = ["42", '"quoted"', "plain ", '```json\n"fenced"\n```', "{not json", '{"a": 1}'];
    const seen: unknown[] = [];
    for (const answer of answers)
      seen.push(
        await run(
          "  nodes: [{ name: ask, kind: llm, prompt: p, repair: 0, output_schema: { type: string } }]\n",
          undefined,
          { models: [createOfflineModel({ script: () => answer })] },
        ),
      );
    expect(seen).toEqual(["42", "quoted", "plain", "fenced", "{not json", '{"a": 1}']);
  });

  const asksForNumber = (fields: string): string =>
    `  nodes: [{ name: ask, kind: llm, prompt: p, output_schema: { type: integer }, ${fields} }]\n`;
  const scripted = (...script: readonly string[]): Parameters<typeof connect>[0] => ({
    models: [createOfflineModel({ script })],
  });

  test("an attempt after useless answers asks anew, and one after a lost call goes on with what was said", async () => {
    const seen: number[] = [];
    const model = createOfflineModel({
      script: ({ messages }, call) => {
        seen.push(messages.length);
        if (call === 1) throw new KernelError("ECONNRESET", "the line is cut");
        return call < 3 ? "none" : "7";
      },
    });
    const retried = asksForNumber("repair: 1, retry: { attempts: 3, delay: 1ms }");

    expect(await run(retried, undefined, { models: [model] })).toBe(7);
    // Asked; told what was wrong, twice for the line; asked anew.
    expect(seen).toEqual([1, 3, 3, 1]);
    await expect(
      run(asksForNumber("repair: 0, retry: { attempts: 2, delay: 1ms }"), undefined, scripted("a", "b", "3")),
    ).rejects.toThrow(/it said "b"/);
    await expect(run(asksForNumber("repair: 0"), undefined, scripted("a", "3"))).rejects.toThrow(/it said "a"/);
  });

  test("a run that is tried again asks the model again, whose answers were of no use", async () => {
    const answers = ["none", "neither", "7"];
    let calls = 0;
    const models = [createOfflineModel({ script: () => answers[calls++] ?? "none" })];
    await using os = await connect({ dir: join(folder.path, "data"), serve: false, models });
    const pid = await os.spawn(manifest(asksForNumber("repair: 0, retry: { attempts: 2, delay: 1ms }")));
    expect((await os.wait(pid)).code).toBe(1);
    await os.resume(pid, { again: true });
    expect(await os.wait(pid)).toMatchObject({ code: 0, result: 7 });
    expect(calls).toBe(3);
  });

  test("an answer that was cut off is not asked for again, nor one that was cut off when it was", async () => {
    const cutOff = asksForNumber("repair: 3, max_output_tokens: 1");
    await expect(run(cutOff, undefined, scripted("[1, 2, 3]"))).rejects.toThrow(/cut off .*1 tokens\)/);
    await expect(run(cutOff, undefined, scripted("none", "[1, 2, 3]"))).rejects.toThrow(/cut off/);
  });

  test("a prompt in a file is that text, and a part of a file is that part", async () => {
    let said = "";
    const model = createOfflineModel({ script: ({ messages }) => (said = messages[0]?.content ?? "") });
    file("prompt.md", "# Role\n\nBe brief: {{ input.x }} ${API_TOKEN} $${API_TOKEN} ${HOME}\n  - a list\n");
    const spec =
      "  nodes: [{ name: ask, kind: llm, prompt: !include ./prompt.md, retry: !include ./numbers.yaml#all.1 }]\n";
    file("numbers.yaml", "all: [1, 2]\nbad: ${ERGOS_TEST_MISSING}\n");
    await run(spec, { x: 1 }, { models: [model] });
    expect(said).toBe("# Role\n\nBe brief: 1 ${API_TOKEN} $${API_TOKEN} ${HOME}\n  - a list");
  });

  test("a request is what the node says", async () => {
    let seen: ModelRequest | undefined;
    const model = createOfflineModel({
      script: (request) => {
        seen = request;
        return "[1]";
      },
    });
    await run(
      `  nodes:
    - name: ask
      kind: llm
      system: "You know {{ input.topic }}"
      messages: [{ role: user, content: hello }, { role: assistant, content: yes? }]
      temperature: 0.2
      top_p: 0.5
      max_output_tokens: 9
      stop: [END]
      seed: 3
      output_schema: { type: array, items: { type: integer } }
`,
      { topic: "boats" },
      { models: [model] },
    );
    expect(seen).toEqual({
      messages: [
        { role: "system", content: "You know boats" },
        { role: "user", content: "hello" },
        { role: "assistant", content: "yes?" },
      ],
      temperature: 0.2,
      topP: 0.5,
      maxOutputTokens: 9,
      stop: ["END"],
      seed: 3,
      responseSchema: { type: "array", items: { type: "integer" } },
    });
  });

  test("a tool of the manifest acts with the rights of the process", async () => {
    file(
      "tool.ts",
      "export default async ({ path }: { path: string }, { os }: { os: any }) => (await os.fs.readText(path)).length;",
    );
    const spec = `  tools: { size: { module: ./tool.ts, effect: pure, input_schema: { type: object, properties: { path: { type: string } }, required: [path] } } }
  nodes: [{ name: a, kind: tool, tool: size, arguments: { path: /sys/version } }]
`;
    await using os = await connect();
    expect(await os.run(manifest(spec))).toBe("0.1.0\n".length);

    const narrow = os.run(manifest(spec), { grants: ["proc.*", "kernel.module", "tool.call:size"] });
    await expect(narrow).rejects.toThrow(/EACCES.*fs\.read:\/sys\/version/);
    await expect(os.run(manifest(spec), { grants: ["proc.*", "kernel.module", "fs.*"] })).rejects.toThrow(
      /EACCES.*tool\.call:size/,
    );
  });

  test("a tool that acted and returned what cannot be recorded has failed, and is not said to have done nothing", async () => {
    file(
      "tool.ts",
      `import { appendFileSync } from "node:fs";
export default () => { appendFileSync(${JSON.stringify(join(folder.path, "calls"))}, "acted\\n"); const a: any = {}; a.a = a; return a; };`,
    );
    await using os = await connect({ dir: join(folder.path, "data"), serve: false });
    const pid = await os.spawn(
      manifest("  tools: { act: { module: ./tool.ts } }\n  nodes: [{ name: a, kind: tool, tool: act, retry: 3 }]\n"),
    );

    expect((await os.wait(pid)).error?.message).toMatch(/EINVAL/);
    expect(lines("calls")).toEqual(["acted"]);
    const events = await os.fs.readText(`/proc/runs/sample-${pid}/events`);
    expect(events).not.toContain("release");
  });

  test("a budgeted call is cut at what was reserved for it", async () => {
    let bound: number | undefined;
    const model = createOfflineModel({
      effect: "idempotent",
      script: (request) => {
        bound = request.maxOutputTokens;
        return "x";
      },
    });
    await using os = await connect({ models: [model] });
    await os.run(manifest("  nodes: [{ name: a, kind: llm, prompt: hello }]\n"), { budget: { tokensOut: 5000 } });
    expect(bound).toBe(4096);
  });

  test("secrets are filled in when a node runs, and are in no plan, journal or error", async () => {
    process.env["SAMPLE_API_KEY"] = "planted-value-4711";
    try {
      let seen = "";
      const model = createOfflineModel({
        script: (request) => {
          seen = request.messages.at(-1)?.content ?? "";
          return "ok";
        },
      });
      file(
        "leak.ts",
        "export default () => { throw new TypeError('key ' + process.env.SAMPLE_API_KEY, { cause: new Error('at ' + process.env.SAMPLE_API_KEY) }); };",
      );
      await using os = await connect({ models: [model] });
      await os.run(
        manifest('  nodes: [{ name: a, kind: llm, prompt: "use ${SAMPLE_API_KEY} for {{ input.text }}" }]\n'),
        { input: { text: "${SAMPLE_API_KEY}" } },
      );
      expect(seen).toBe("use planted-value-4711 for ${SAMPLE_API_KEY}");
      const literal = await os.run(
        manifest("  nodes: [{ name: a, kind: expression, value: \"'${SAMPLE_API_KEY}' | length\" }]\n"),
      );
      expect(literal).toBe("planted-value-4711".length);

      const pid = await os.spawn(manifest("  nodes: [{ name: a, kind: function, module: ./leak.ts }]\n"));
      const exit = await os.wait(pid);
      const shown =
        JSON.stringify(exit) +
        (await os.fs.readText(`/proc/runs/sample-${pid}/events`)) +
        (await os.fs.readText(`/proc/${pid}/status`));
      expect(shown).toContain("key ***");
      expect(shown).not.toContain("planted-value");
      // Neither do they leave what stands around the nodes.
      const bad = "[1, 2]['${SAMPLE_API_KEY}']";
      for (const spec of [
        `  nodes: [{ name: a, kind: expression, value: "1" }]\n  output: "${bad}"\n`,
        `  nodes: [{ name: a, kind: map, items: "${bad}", body: { kind: expression, value: "1" } }]\n`,
        `  nodes: [{ name: a, kind: map, items: "[1]", key: "${bad}", body: { kind: expression, value: "1" } }]\n`,
      ]) {
        const { error } = await os.wait(await os.spawn(manifest(spec)));
        expect(error?.message).toContain("***");
        expect(JSON.stringify(error)).not.toContain("planted-value");
      }
    } finally {
      delete process.env["SAMPLE_API_KEY"];
    }
  });
});
