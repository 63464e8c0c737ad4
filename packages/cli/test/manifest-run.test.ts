// Manifests run by a host, as a user would: what each kind does, and what a restart in the middle finds.

import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type ErgOs, type ModelRequest, KernelError, connect, createOfflineModel } from "ergos";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ergos-manifest-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const file = (name: string, text: string): string => {
  const path = join(dir, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return path;
};
const manifest = (spec: string, name = "in.yaml"): { readonly module: string } => ({
  module: file(name, `apiVersion: ergos/v1\nkind: Pipeline\nmetadata: { name: sample }\nspec:\n${spec}`),
});
const lines = (name: string): readonly string[] =>
  existsSync(join(dir, name))
    ? readFileSync(join(dir, name), "utf8")
        .split("\n")
        .filter((line) => line !== "")
    : [];
/** A module whose functions note their calls in a file beside it. */
const steps = (functions: string): string =>
  file(
    "steps.ts",
    `import { appendFileSync, existsSync } from "node:fs";\nconst note = (text: string): void => appendFileSync(${JSON.stringify(join(dir, "calls"))}, text + "\\n");\n${functions}`,
  );
const run = async (spec: string, input?: unknown, options: Parameters<typeof connect>[0] = {}): Promise<unknown> => {
  await using os = await connect(options);
  return await os.run(manifest(spec), input === undefined ? {} : { input });
};
const until = async (condition: () => boolean): Promise<void> => {
  for (let turn = 0; turn < 500 && !condition(); turn++) await new Promise((go) => setTimeout(go, 10));
  expect(condition()).toBe(true);
};

/** Runs until a note was made, ends the host as a crash would leave it asleep, and resumes in a new one. */
async function interrupted(
  spec: string,
  note: string,
  between: () => void = () => undefined,
  input: unknown = {},
): Promise<unknown> {
  const data = join(dir, "data");
  const first = await connect({ dir: data, serve: false });
  const pid = await first.spawn(manifest(spec), { input });
  await until(() => lines("calls").includes(note));
  await first.close();
  between();
  await using second: ErgOs = await connect({ dir: data, serve: false });
  const exit = await second.wait(pid);
  if (exit.error !== undefined) throw new TypeError(exit.error.message);
  return exit.result;
}

describe("nodes", () => {
  test("a function gets its mapping, the outputs that it reads, or the run's input", async () => {
    steps("export const echo = (input: unknown) => input;");
    const result = await run(
      `  nodes:
    - { name: root, kind: function, module: ./steps.ts, export: echo }
    - { name: reads, kind: function, module: ./steps.ts, export: echo, dependencies: [root] }
    - { name: mapped, kind: function, module: ./steps.ts, export: echo, input_mapping: { x: root.n + 1, list: [root.n, "'text'"], mixed: "n is {{ root.n }}!" } }
  output: { root: root, reads: reads, mapped: mapped }
`,
      { n: 1 },
    );
    expect(result).toEqual({
      root: { n: 1 },
      reads: { root: { n: 1 } },
      mapped: { x: 2, list: [1, "text"], mixed: "n is 1!" },
    });
  });

  test("a skipped node skips what reads it, not what only follows it", async () => {
    const result = await run(`  nodes:
    - { name: a, kind: expression, value: 1, when: input.go is defined }
    - { name: reads, kind: expression, value: a + 1 }
    - { name: follows, kind: expression, value: "'ran'", wait_for: a }
    - { name: joins, kind: expression, value: "a | default('none')", allow_skipped: true }
    - { name: none_taken, kind: branch, cases: [{ when: 'false', value: 1 }] }
  output: { reads: "reads | default(none)", follows: follows, joins: joins, taken: none_taken is defined }
`);
    expect(result).toEqual({ reads: null, follows: "ran", joins: "none", taken: false });
  });

  test("a map leaves out skipped items, and maps inside of bodies map once", async () => {
    const result = await run(`  nodes:
    - name: m
      kind: map
      items: "[1, 2, 3]"
      body: { kind: expression, value: item * 10, when: item != 2 }
    - name: told
      kind: map
      items: "[1, 2]"
      on_item_error: collect
      body: { kind: expression, value: item, when: item != 2 }
    - name: nested
      kind: map
      items: "[[1, 2], [3]]"
      body:
        kind: map
        input_mapping: { n: "item[0] + 1", rows: item }
        items: rows
        item: cell
        body: { kind: expression, value: "cell ~ '/' ~ n ~ '/' ~ index" }
    - { name: empty, kind: map, items: "[]", body: { kind: expression, value: item } }
  output: { m: m, told: told, nested: nested, empty: empty }
`);
    expect(result).toEqual({
      m: [10, 30],
      told: [{ value: 1 }, { skipped: "its condition is false" }],
      nested: [["1/2/0", "2/2/1"], ["3/4/0"]],
      empty: [],
    });
  });

  test("faults name the field, the node, its place and the expression", async () => {
    await expect(
      run("  nodes:\n    - { name: a, kind: expression, value: input.x.y + 1 }\n", { x: { z: 1 } }),
    ).rejects.toThrow(/value of node a \(.*in\.yaml:6\): there is no field y \(input\.x\.y\)/);
    await expect(
      run("  nodes:\n    - { name: m, kind: map, items: input.x, body: { kind: expression, value: 1 } }\n", { x: 5 }),
    ).rejects.toThrow(/needs an array/);
    await expect(
      run("  nodes:\n    - { name: t, kind: tool, tool: read_file, arguments: { pth: /x } }\n"),
    ).rejects.toThrow(/path is missing.*pth is not a known/);
    await expect(run("  nodes:\n    - { name: t, kind: tool, tool: nothing }\n")).rejects.toThrow(
      /no tool "nothing"; known are read_file/,
    );
  });

  test("schemas hold: of the input with its defaults, of a node, of the result", async () => {
    const spec = `  input_schema: { type: object, properties: { n: { type: integer, default: 2 }, deep: { type: object, properties: { x: { type: string, default: y } } } }, required: [n], additionalProperties: false }
  output_schema: { type: object, properties: { n: { type: integer, maximum: 10 } } }
  nodes:
    - { name: a, kind: expression, value: { n: input.n * 2 } }
  output: a
`;
    expect(await run(spec)).toEqual({ n: 4 });
    await expect(run(spec, { n: "x" })).rejects.toThrow(/n must be integer/);
    await expect(run(spec, { m: 1 })).rejects.toThrow(/m is not a known property/);
    await expect(run(spec, { n: 9 })).rejects.toThrow(/result of pipeline sample.*at most 10/);
  });

  test("an output that misses its schema is tried again", async () => {
    steps("let calls = 0;\nexport const flaky = () => { note('call'); return ++calls < 3 ? 'text' : 7; };");
    expect(
      await run(
        "  nodes:\n    - { name: a, kind: function, module: ./steps.ts, export: flaky, retry: { attempts: 3, delay: 1ms }, output_schema: { type: integer } }\n",
      ),
    ).toBe(7);
    expect(lines("calls").length).toBe(3);
  });

  test("attempts and times of a map inside of a body are those of each item", async () => {
    steps(`const seen = new Map<number, number>();
export const late = async (n: number): Promise<number> => { await new Promise((go) => setTimeout(go, 300)); return n; };
export const second = (n: number): number => {
  const times = (seen.get(n) ?? 0) + 1;
  seen.set(n, times);
  note(String(n));
  if (times < 2) throw new TypeError("not yet");
  return n;
};`);
    const result = await run(`  nodes:
    - name: m
      kind: map
      items: "['x']"
      body:
        - { name: slow, kind: map, items: "[1, 2, 3, 4]", concurrency: 1, timeout: 1s, body: { kind: function, module: ./steps.ts, export: late, input_mapping: item } }
        - { name: twice, kind: map, items: slow, retry: { attempts: 2, delay: 1ms }, body: { kind: function, module: ./steps.ts, export: second, input_mapping: item } }
`);
    expect(result).toEqual([[1, 2, 3, 4]]);
    expect([...lines("calls")].toSorted()).toEqual(["1", "1", "2", "2", "3", "3", "4", "4"]);
  });

  test("in the body of a map the attempt is that of the item, and so is the input of what maps nothing", async () => {
    steps(
      'export const second = (item: unknown, ctx: any) => { if (ctx.attempt < 2) throw new Error("not yet"); return [item, ctx.attempt]; };\nexport const show = (input: unknown) => input;',
    );
    const spec = `  nodes:
    - name: each
      kind: map
      items: input.xs
      retry: { attempts: 3, delay: 0 }
      body: { kind: function, module: ./steps.ts, export: second }
    - name: within
      kind: map
      items: input.xs
      body:
        kind: branch
        cases: [{ when: item > 1, body: { kind: function, module: ./steps.ts, export: show } }]
        else: { body: [{ name: a, kind: function, module: ./steps.ts, export: show }, { name: b, kind: expression, value: a }] }
  output: { each: each, within: within }
`;
    expect(await run(spec, { xs: [1, 2] })).toEqual({
      each: [
        [1, 2],
        [2, 2],
      ],
      within: [1, 2],
    });
  });

  test("who reads what was skipped is told so", async () => {
    const spec = (fields: string): string => `  nodes:
    - { name: big, kind: expression, when: "false", value: "1" }
    - { name: join, kind: expression, allow_skipped: true, ${fields} }
`;
    await expect(run(spec('value: "big + 1", dependencies: [big]'))).rejects.toThrow(
      /node big was skipped.*accept that with big \| default/,
    );
    await expect(run(`${spec('value: "2"')}  output: { big: big }\n`)).rejects.toThrow(/node big was skipped/);
    expect(await run(`${spec("value: 'big | default(0)'")}  output: join\n`)).toBe(0);
  });

  test("keys are what items are known by: two alike, or of no such kind, fail the map", async () => {
    const keyed = (key: string): string =>
      `  nodes: [{ name: m, kind: map, items: input, key: "${key}", on_item_error: continue, body: { kind: expression, value: item } }]\n`;
    expect(await run(keyed("item ~ index"), ["a", "a", "b"])).toEqual(["a", "a", "b"]);
    await expect(run(keyed("item"), ["a", "a", "b"])).rejects.toThrow(/EEXIST.*key "a"/);
    await expect(run(keyed("[item]"), ["a"])).rejects.toThrow(/EINVAL.*key of item 0 .* is a list/);
  });

  test("defaults fill in items of lists, and defaults themselves", async () => {
    const schema =
      "{ type: object, properties: { rows: { type: array, default: [{}], items: { type: object, properties: { q: { type: integer, default: 1 } } } } } }";
    const spec = `  input_schema: ${schema}\n  nodes: [{ name: a, kind: expression, value: input.rows }]\n`;
    expect(await run(spec, {})).toEqual([{ q: 1 }]);
    expect(await run(spec, { rows: [{}, { q: 4 }] })).toEqual([{ q: 1 }, { q: 4 }]);
  });

  test("a node may do without the timeout of the others", async () => {
    steps("export const slow = (_input: unknown, ctx: any) => ctx.sleep(80).then(() => 1);");
    const spec = (own: string): string =>
      `  defaults: { timeout: 30ms }\n  nodes: [{ name: a, kind: function, module: ./steps.ts, export: slow${own} }]\n`;
    expect(await run(spec(", timeout: none"))).toBe(1);
    await expect(run(spec(""))).rejects.toThrow(/ETIMEDOUT/);
  });

  test("what takes the place of a failure takes that of a result that cannot be recorded, in bodies too", async () => {
    steps("export const odd = () => 10n;");
    const result = await run(`  nodes:
    - name: b
      kind: branch
      cases:
        - when: "true"
          body:
            - { name: odd, kind: function, module: ./steps.ts, export: odd, on_error: { value: "'instead'" } }
            - { name: last, kind: expression, value: odd }
`);
    expect(result).toBe("instead");
  });

  test("a skipped node of a body is not mistaken for one around it of the same name", async () => {
    const result = await run(`  nodes:
    - { name: a, kind: expression, value: "'outer'" }
    - name: b
      kind: branch
      cases:
        - when: a == 'outer'
          body:
            - { name: a, kind: expression, value: "'inner'", when: "false" }
            - { name: last, kind: expression, value: "a | default('none')", allow_skipped: true }
  output: b
`);
    expect(result).toBe("none");
  });

  test("errors may be skipped, replaced by a value, or handled by nodes", async () => {
    steps("export const boom = () => { throw new TypeError('no luck'); };");
    const node = "kind: function, module: ./steps.ts, export: boom";
    const result = await run(`  nodes:
    - { name: skipped, ${node}, on_error: skip }
    - { name: replaced, ${node}, on_error: { value: "error.code ~ ': ' ~ error.causes[0]" } }
    - name: handled
      ${node.replaceAll(", ", "\n      ")}
      on_error: { body: [{ name: one, kind: expression, value: error.message }, { name: two, kind: expression, value: "'was ' ~ one" }] }
  output: { skipped: skipped is defined, replaced: replaced, handled: handled }
`);
    expect(result).toEqual({
      skipped: false,
      replaced: "EFAILED: no luck",
      handled: "was node handled failed: no luck",
    });
  });

  test("a condition that fails is a failure of its node, wherever that is", async () => {
    const broken = `kind: expression, value: 1, when: "input.x > 1"`;
    const result = await run(`  nodes:
    - { name: skipped, ${broken}, on_error: skip }
    - { name: replaced, ${broken}, on_error: { value: "error.message" } }
    - name: alone
      kind: map
      items: "[1, 2]"
      body: { ${broken}, on_error: { value: "item" } }
    - name: several
      kind: map
      items: "[1, 2]"
      body:
        - { name: first, ${broken}, on_error: skip }
        - { name: second, ${broken}, on_error: { value: "item * 10" } }
        - { name: last, kind: expression, value: "[first is defined, second]", allow_skipped: true }
  output: { skipped: skipped is defined, replaced: replaced, alone: alone, several: several }
`);
    expect(result).toEqual({
      skipped: false,
      replaced: expect.stringContaining("x") as string,
      alone: [1, 2],
      several: [
        [false, 10],
        [false, 20],
      ],
    });
    await expect(run(`  nodes: [{ name: a, ${broken} }]\n`)).rejects.toMatchObject({ code: "EFAILED" });
  });

  test("what a user calls module or tool is no module and no tool", async () => {
    expect(
      await run(
        "  nodes: [{ name: a, kind: expression, value: { module: \"'./nothing.ts'\", tool: \"'none'\", body: [{ config: \"'x'\" }] } }]\n",
      ),
    ).toEqual({ module: "./nothing.ts", tool: "none", body: [{ config: "x" }] });
  });

  test("two pipelines of one file are told apart", async () => {
    const source = manifest("  nodes: [{ name: a, kind: expression, value: 1 }]\n");
    writeFileSync(
      source.module,
      `${readFileSync(source.module, "utf8")}---\n${readFileSync(source.module, "utf8").replace("sample", "other").replace("value: 1", "value: 2")}`,
    );
    await using os = await connect();

    expect(await os.run({ ...source, export: "other" })).toBe(2);
    await expect(os.run(source)).rejects.toThrow(/has 2 pipelines \(sample, other\)/);
    await expect(os.run({ ...source, export: "othr" })).rejects.toThrow(/no pipeline othr; did you mean "other"/);
  });
});

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
    await using os = await connect({ dir: join(dir, "data"), serve: false, models });
    const pid = await os.spawn(manifest(asksForNumber("repair: 0, retry: { attempts: 2, delay: 1ms }")));
    expect((await os.wait(pid)).code).toBe(1);
    await os.resume(pid, { again: true });
    expect(await os.wait(pid)).toMatchObject({ code: 0, result: 7 });
    expect(calls).toBe(3);
  });

  test("an answer that was cut off is not asked for again, nor one that was cut off when it was", async () => {
    const cutOff = asksForNumber("repair: 3, max_output_tokens: 1");
    await expect(run(cutOff, undefined, scripted("[1, 2, 3]"))).rejects.toThrow(/cut off .*max_output_tokens: 1\)/);
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
export default () => { appendFileSync(${JSON.stringify(join(dir, "calls"))}, "acted\\n"); const a: any = {}; a.a = a; return a; };`,
    );
    await using os = await connect({ dir: join(dir, "data"), serve: false });
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

describe("a restart in the middle", () => {
  const hold =
    "export const hold = async (_input: unknown, ctx: any) => { note('hold'); if (!existsSync(process.env.HOLD ?? '')) await new Promise((_r, fail) => ctx.signal.addEventListener('abort', () => fail(ctx.signal.reason))); return 'held'; };";
  beforeEach(() => {
    process.env["HOLD"] = join(dir, "go");
  });
  afterEach(() => {
    delete process.env["HOLD"];
  });
  const go = (): void => void file("go", "");

  test("repeats no finished node of a body, and no finished item", async () => {
    steps(`export const work = ({ n }: { n: number }) => { note('work ' + n); return n * 2; };\n${hold}`);
    const result = await interrupted(
      `  nodes:
    - name: m
      kind: map
      items: "[1, 2]"
      concurrency: 1
      body:
        - { name: a, kind: function, module: ./steps.ts, export: work, input_mapping: { n: item } }
        - { name: b, kind: function, module: ./steps.ts, export: hold, when: item == 2 }
        - { name: c, kind: expression, value: "a ~ (b | default(''))", allow_skipped: true }
`,
      "hold",
      go,
    );
    expect(result).toEqual(["2", "4held"]);
    expect(lines("calls")).toEqual(["work 1", "work 2", "hold", "hold"]);
  });

  test("finds a recovered node of a body recovered, though it would succeed now", async () => {
    steps(
      `let calls = 0;\nexport const once = () => { note('once'); if (!existsSync(process.env.HOLD ?? '')) throw new TypeError('down'); return 'good'; };\n${hold}`,
    );
    const result = await interrupted(
      `  nodes:
    - name: m
      kind: map
      items: "[1]"
      body:
        - { name: a, kind: function, module: ./steps.ts, export: once, on_error: { value: "'recovered'" } }
        - { name: b, kind: function, module: ./steps.ts, export: hold, dependencies: [a] }
        - { name: c, kind: expression, value: "[a, b]" }
`,
      "hold",
      go,
    );
    expect(result).toEqual([["recovered", "held"]]);
    expect(lines("calls").filter((line) => line === "once").length).toBe(1);
  });

  test("gives each unnamed call its own record, inside of steps and beside them", async () => {
    steps(`export const times = async (_i: unknown, ctx: any) => {
  const inside = await ctx.step("a", async () => { await ctx.sleep(30); return ctx.now(); });
  const beside = await ctx.now();
  note("now " + beside);
  note("hold");
  if (!existsSync(process.env.HOLD ?? "")) await new Promise((_r, fail) => ctx.signal.addEventListener("abort", () => fail(ctx.signal.reason)));
  const before = performance.now();
  await ctx.sleep(80);
  return { isLater: beside >= inside, beside, slept: performance.now() - before };
};`);
    const result = (await interrupted(
      "  nodes: [{ name: a, kind: function, module: ./steps.ts, export: times }]\n",
      "hold",
      go,
    )) as { isLater: boolean; beside: number; slept: number };
    expect(result.isLater).toBe(true);
    expect(new Set(lines("calls").filter((line) => line.startsWith("now"))).size).toBe(1);
    expect(result.slept).toBeGreaterThanOrEqual(70);
  });

  test("notices an edit that changes a result, and no other", async () => {
    file("tool.ts", "export default () => 'v1';");
    const imported = (body: string): string => file("imported.ts", `export const count = () => 1;\n${body}`);
    imported("");
    steps(`export const count = () => { note('count'); return 1; };\n${hold}`);
    file(
      "user.ts",
      "import { appendFileSync } from 'node:fs';\nimport { count } from './imported.ts';\nexport default () => { appendFileSync(new URL('calls', import.meta.url), 'using\\n'); return count(); };",
    );
    const spec = (
      at: string,
      timeout: string,
    ): string => `  tools: { t: { module: ./tool.ts, effect: pure }, u: { module: ./user.ts, effect: pure } }
  nodes:
    - { name: using, kind: tool, tool: u }
    - { name: data, kind: expression, value: { at: "'${at}'", description: "'${at}'" } }
    - { name: counted, kind: function, module: ./steps.ts, export: count, timeout: ${timeout} }
    - { name: tool, kind: tool, tool: t }
    - { name: held, kind: function, module: ./steps.ts, export: hold, wait_for: [data, counted, tool, using] }
  output: { data: data, counted: counted, tool: tool }
`;
    const result = await interrupted(spec("old", "30s"), "hold", () => {
      go();
      file("tool.ts", "export default () => 'v2';");
      imported("// Another text.");
      manifest(spec("new", "40s"));
    });
    expect(result).toEqual({ data: { at: "new", description: "new" }, counted: 1, tool: "v2" });
    expect(lines("calls").filter((line) => line === "count").length).toBe(1);
    expect(lines("calls").filter((line) => line === "using").length).toBe(2);
  });

  test("leaves accepted failures accepted when a failed run is tried again", async () => {
    steps(
      "export const bad = () => { if (!existsSync(process.env.HOLD ?? '')) throw new TypeError('down'); return 'good'; };",
    );
    const spec = `  nodes:
    - { name: m, kind: map, items: "[1]", on_item_error: collect, body: { kind: function, module: ./steps.ts, export: bad } }
    - { name: s, kind: function, module: ./steps.ts, export: bad, on_error: skip }
    - { name: z, kind: function, module: ./steps.ts, export: bad, wait_for: [m, s] }
  output: { m: m, s: s is defined, z: z }
`;
    await using os = await connect({ dir: join(dir, "data"), serve: false });
    const pid = await os.spawn(manifest(spec));
    expect((await os.wait(pid)).code).toBe(1);
    go();
    await os.resume(pid, { again: true });
    expect((await os.wait(pid)).result).toMatchObject({
      m: [{ error: expect.stringContaining("down") as unknown }],
      s: false,
      z: "good",
    });
  });

  test("takes relative mounts from where the run was spawned", async () => {
    file("one/data/x", "from one");
    file("two/data/x", "from two");
    const spec = `  mounts: [{ at: /srv/d, path: "{{ input.dir }}" }]
  nodes: [{ name: a, kind: tool, tool: read_file, arguments: { path: /srv/d/x } }]
`;
    await using os = await connect({ dir: join(dir, "data") });
    expect(await os.run({ ...manifest(spec), cwd: join(dir, "one") }, { input: { dir: "data" } })).toBe("from one");
    // The run before is over: its mount makes room.
    expect(await os.run({ ...manifest(spec), cwd: join(dir, "two") }, { input: { dir: "data" } })).toBe("from two");
  });

  test("never reads another run's folder, when two ask for one place at once", async () => {
    file("one/data/x", "from one");
    file("two/data/x", "from two");
    const source = manifest(`  mounts: [{ at: /srv/d, path: "{{ input.dir }}" }]
  nodes: [{ name: a, kind: tool, tool: read_file, arguments: { path: /srv/d/x } }]
`);
    await using os = await connect();
    for (let round = 0; round < 10; round++) {
      const both = await Promise.allSettled(
        ["one", "two"].map((cwd) => os.run({ ...source, cwd: join(dir, cwd) }, { input: { dir: "data" } })),
      );
      for (const [at, outcome] of both.entries()) {
        if (outcome.status === "fulfilled") expect(outcome.value).toBe(at === 0 ? "from one" : "from two");
        else expect(String(outcome.reason)).toContain("EBUSY");
      }
      expect(both.some(({ status }) => status === "fulfilled")).toBe(true);
    }
  });
});

describe("what is over is over", () => {
  test("a failed node of a body ends the others, which are told", async () => {
    steps(`export const fail = async () => { await new Promise((go) => setTimeout(go, 20)); throw new TypeError("no"); };
export const slow = async (_i: unknown, ctx: any) => { try { await new Promise((_go, stop) => ctx.signal.addEventListener("abort", () => stop(ctx.signal.reason))); } finally { note("told"); } };
export const later = () => note("later");`);
    const result = await run(`  nodes:
    - name: a
      kind: map
      items: "[1]"
      on_item_error: collect
      body:
        - { name: x, kind: function, module: ./steps.ts, export: fail }
        - { name: y, kind: function, module: ./steps.ts, export: slow }
        - { name: z, kind: function, module: ./steps.ts, export: later, wait_for: [y] }
    - { name: after, kind: expression, value: 1, wait_for: a }
  output: a
`);
    expect(result).toMatchObject([{ error: expect.stringContaining("no") as unknown }]);
    expect(lines("calls")).toEqual(["told"]);
  });

  test("a failed node tells the running ones of the pipeline", async () => {
    steps(`export const fail = () => { throw new TypeError("no"); };
export const slow = async (_i: unknown, ctx: any) => { await new Promise((_go, stop) => ctx.signal.addEventListener("abort", () => { note("told"); stop(ctx.signal.reason); })); };`);
    const started = performance.now();
    await expect(
      run(
        "  nodes:\n    - { name: slow, kind: function, module: ./steps.ts, export: slow }\n    - { name: pause, kind: expression, value: 1 }\n    - { name: bad, kind: function, module: ./steps.ts, export: fail, wait_for: pause }\n",
      ),
    ).rejects.toThrow(/no/);
    expect(performance.now() - started).toBeLessThan(5000);
    expect(lines("calls")).toEqual(["told"]);
  });

  test("retries of all depths keep their steps apart", async () => {
    steps(
      "let calls = 0;\nexport const flaky = async (_i: unknown, ctx: any) => { const a = await ctx.step('a', () => { note('a'); return 1; }); const t = await ctx.now(); if (++calls % 3 !== 0) throw new TypeError('again'); return a + (t > 0 ? 1 : 0); };",
    );
    const result = await run(`  nodes:
    - name: m
      kind: map
      items: "[1]"
      body: { kind: map, items: "[1, 2]", concurrency: 1, body: { kind: map, items: "[1]", body: { name: f, kind: function, module: ./steps.ts, export: flaky, retry: { attempts: 3, delay: 1ms } } } }
`);
    expect(result).toEqual([[[2], [2]]]);
    expect(lines("calls")).toEqual(["a", "a"]);
  });

  test("a long map of quick work lets others have their turn", async () => {
    await using os = await connect();
    const pid = await os.spawn(
      manifest('  nodes: [{ name: m, kind: map, items: "range(200000)", body: { kind: expression, value: item } }]\n'),
      { durable: false },
    );
    await new Promise((go) => setTimeout(go, 30));
    await os.kill(pid);
    expect((await os.wait(pid)).signal).toBe("TERM");
  });
});
