// Manifests run by a host, as a user would: what each kind of node does.

import { readFileSync, writeFileSync } from "node:fs";
import { connect } from "ergos";
import { describe, expect, test } from "vitest";
import { useManifests } from "./manifest-host.ts";

const { manifest, lines, steps, run } = useManifests();

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
