import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { parseDuration } from "@ergos/compiler/duration";
import {
  type Compilation,
  DIAGNOSTICS,
  compileManifest,
  explain,
  explainablePaths,
  fileHost,
  formatDiagnostic,
  manifestJsonSchema,
  revealSecrets,
  toManifest,
  toMermaid,
  toSvg,
} from "@ergos/compiler";

const golden = join(import.meta.dirname, "golden");
const isUpdate = process.env["ERGOS_UPDATE"] !== undefined;

/** Compiles a folder as a user in that folder would, with paths of this machine left out. */
function compileFolder(folder: string): {
  readonly compiled: Compilation;
  readonly plans: string;
  readonly diagnostics: string;
} {
  const file = join(golden, folder, "in.yaml");
  const host = { ...fileHost(file, {}), tools: ["read_file", "write_file", "list_files"] };
  const compiled = compileManifest(readFileSync(file, "utf8"), { file, host, lint: true });
  const clean = (text: string): string =>
    text.replaceAll(join(golden, folder), "<here>").replaceAll(golden, "<golden>");
  return {
    compiled,
    plans: clean(`${JSON.stringify(compiled.plans, undefined, 2)}\n`),
    diagnostics: clean(compiled.diagnostics.map((one) => `${formatDiagnostic(one)}\n`).join("")),
  };
}

function expectGolden(file: string, text: string): void {
  if (isUpdate) writeFileSync(file, text);
  expect(text).toBe(readFileSync(file, "utf8"));
}

describe("golden folders", () => {
  const folders = readdirSync(golden);

  test.each(folders)("%s", (folder) => {
    const { plans, diagnostics } = compileFolder(folder);
    expectGolden(join(golden, folder, "out.plan.json"), plans);
    expectGolden(join(golden, folder, "out.diagnostics.txt"), diagnostics);
  });

  test("every diagnostic has a folder that produces it", () => {
    const seen = new Set(
      folders.flatMap((folder) => compileFolder(folder).compiled.diagnostics.map(({ code }) => code)),
    );
    expect(Object.keys(DIAGNOSTICS).filter((code) => !seen.has(code as keyof typeof DIAGNOSTICS))).toEqual([]);
  });

  test("every diagnostic has a heading in the reference, and every heading is one", () => {
    const page = readFileSync(join(import.meta.dirname, "../../../docs/reference/diagnostics.md"), "utf8");
    expect([...page.matchAll(/^## (\S+)/gm)].map((match) => match[1])).toEqual(Object.keys(DIAGNOSTICS));
  });
});

const compile = (text: string, lint = false): Compilation =>
  compileManifest(text, { file: "in.yaml", host: { environment: {} }, lint });
const head = "apiVersion: ergos/v1\nkind: Pipeline\nmetadata: { name: sample }\nspec:\n";
const codes = (text: string): readonly string[] => compile(text).diagnostics.map(({ code }) => code);

describe("YAML", () => {
  test("a text that looks like a number or a boolean is the text that stands there", () => {
    const { plans, diagnostics } = compile(
      `${head}  nodes:\n    - { name: a, kind: expression, value: 7, description: 1.10 }\n    - { name: s, kind: llm, model: 404, prompt: true }\n`,
    );
    expect(diagnostics).toEqual([]);
    expect(plans[0]?.nodes).toMatchObject([{ description: "1.10" }, { config: { model: "404", prompt: "true" } }]);
  });

  test("merge keys merge: what a mapping says itself wins, then what is named first", () => {
    const { plans, diagnostics } = compile(
      `${head}  nodes:\n    - &one { name: a, kind: expression, value: "1", description: one }\n    - &two { name: b, kind: expression, value: "2", timeout: 3s }\n    - { <<: [*one, *two], name: c }\n`,
    );
    expect(diagnostics).toEqual([]);
    expect(plans[0]?.nodes[2]).toMatchObject({
      name: "c",
      description: "one",
      timeoutMs: 3000,
      config: { value: { $expression: "1" } },
    });
  });

  test("secrets are filled in for their own names only", () => {
    const environment = { API_KEY: "s3cret", NAME: "n" };
    expect(revealSecrets("${API_KEY} ${NAME} ${OTHER:x} ${OTHER_TOKEN:none}", environment)).toBe(
      "s3cret ${NAME} ${OTHER:x} none",
    );
    expect(revealSecrets("$${API_KEY}", environment)).toBe("${API_KEY}");
  });

  test("a variable is filled in as a shell would, and what has two $ stays, also when it is printed", () => {
    const text = `${head}  nodes:\n    - { name: a, kind: llm, model: "\${MODEL:-openai/gpt}", prompt: "echo $\${HOME}" }\n`;
    const { plans } = compileManifest(text, { file: "in.yaml", host: { environment: {} } });
    expect(plans[0]?.nodes[0]?.config).toMatchObject({ model: "openai/gpt", prompt: "echo ${HOME}" });
    const printed = plans[0] === undefined ? "" : toManifest(plans[0], String);
    expect(printed).toContain("echo $${HOME}");
  });
});

describe("input that is too much", () => {
  test("a file of 10 MB, and one that is nested 10,000 deep, are refused quickly", () => {
    const started = performance.now();

    expect(codes(`${head}  x: "${"a".repeat(10 * 1024 * 1024)}"\n`)).toEqual(["E102"]);
    expect(codes(`${head}  x: ${"[".repeat(10_000)}${"]".repeat(10_000)}\n`)).toEqual(["E102"]);
    expect(codes(`${head}  x: ${"{a: ".repeat(10_000)}1${"}".repeat(10_000)}\n`)).toEqual(["E102"]);
    const steps = Array.from({ length: 2000 }, (_, at) => `${" ".repeat(at)}a:`).join("\n");
    expect(codes(steps)).toContain("E102");
    expect(codes(`${"- ".repeat(10_000)}a\n`)).toContain("E102");
    expect(performance.now() - started).toBeLessThan(20_000);
  });

  test("10,000 nodes in a chain compile, and 10,000 in a circle are told", () => {
    const node = (at: number, value: string): string => `    - { name: n${at}, kind: expression, value: ${value} }\n`;
    const chain = Array.from({ length: 10_000 }, (_, at) => node(at, at === 0 ? "1" : `n${at - 1} + 1`)).join("");
    const circle = Array.from({ length: 10_000 }, (_, at) => node(at, `n${(at + 9999) % 10_000}`)).join("");

    const compiled = compile(`${head}  nodes:\n${chain}`);
    expect(compiled.diagnostics).toEqual([]);
    expect(compiled.plans[0]?.nodes.length).toBe(10_000);
    expect(codes(`${head}  nodes:\n${circle}`)).toEqual(["E303"]);
  });

  test("what a review broke it with stays quick, and stays wrong", () => {
    const node = (text: string): string => `${head}  nodes:\n${text}`;
    const many = (count: number, make: (at: number) => string): string =>
      Array.from({ length: count }, (_, at) => make(at)).join("");
    const started = performance.now();

    // Warnings do not crowd out errors.
    const mounts = many(250, (at) => `    - { at: /a${at}, path: sk-aaaaaaaaaaaaaaaaaaaaaaaa${at} }\n`);
    const crowded = compile(
      `${head}  mounts:\n${mounts}  nodes: [{ name: a, kind: expression, value: 1, bogus: 1 }]\n`,
    );
    expect(crowded.hasErrors).toBe(true);
    expect(crowded.diagnostics.map(({ code }) => code)).toContain("E202");
    expect(
      codes(node('    - { name: a, kind: tool, tool: x, arguments: { x: { $expression: "no such" } } }\n')),
    ).toContain("E305");
    // Schemas that are half written.
    expect(
      codes(
        node(
          "    - { name: a, kind: llm, prompt: x, output_schema: { type: object, properties: } }\n    - { name: b, kind: expression, value: a.x }\n",
        ),
      ),
    ).toEqual(["E601"]);
    expect(
      codes(
        node(
          "    - { name: a, kind: llm, prompt: x, output_schema: { type: object, properties: { x: } } }\n    - { name: b, kind: expression, value: a.x.y }\n",
        ),
      ),
    ).toEqual(["E601"]);
    // Long chains.
    expect(codes(node(`    - { name: a, kind: llm, prompt: "${"{##}".repeat(50_000)}" }\n`))).toEqual([]);
    expect(codes(node(`    - { name: a, kind: expression, value: "1 ${"if 1 ".repeat(50_000)}" }\n`))).toEqual([
      "E405",
    ]);
    expect(
      codes(
        node(`    - { name: a, kind: llm, prompt: "{% filter upper${"|upper".repeat(50_000)} %}{% endfilter %}" }\n`),
      ),
    ).toEqual(["E405"]);
    // Many names that are wrong, and long ones.
    expect(codes(node(many(5000, (at) => `    - { name: n${at}, kind: expression, value: m${at} }\n`))).length).toBe(
      201,
    );
    expect(
      codes(node(`    - { name: ${"a".repeat(60_000)}, kind: expression, value: ${"b".repeat(60_000)} }\n`)),
    ).toContain("E305");
    // Many keys, aliases, references in a block, bindings.
    expect(
      codes(
        node(
          `    - name: a\n      kind: expression\n      expressions:\n${many(20_000, (at) => `        k${at}: ${at === 0 ? "1" : `k${at - 1}`}\n`)}`,
        ),
      ),
    ).toEqual([]);
    expect(
      codes(
        `${head}  nodes: [{ name: a, kind: expression, value: &v [1] }, { name: b, kind: expression, value: [${"*v, ".repeat(30_000)}] }]\n`,
      ),
    ).toEqual([]);
    expect(
      codes(node(`    - name: a\n      kind: llm\n      prompt: |\n${"        {{ input }}\n".repeat(20_000)}`)),
    ).toEqual([]);
    expect(
      codes(
        node(
          `    - { name: a, kind: llm, prompt: "${many(10_000, (at) => `{%set x${at}=1%}`)}${"{%for i in [1]%}{%endfor%}".repeat(5000)}" }\n`,
        ),
      ),
    ).toEqual([]);
    // A long tail behind a circle.
    expect(
      codes(node(many(5000, (at) => `    - { name: n${at}, kind: expression, value: n${at === 0 ? 1 : at - 1} }\n`))),
    ).toEqual(["E303"]);
    // Brackets in comments are no depth.
    expect(codes(`${"# [ open {\n".repeat(1500)}${node("    - { name: a, kind: expression, value: 1 }\n")}`)).toEqual(
      [],
    );
    expect(codes(node("    - { name: a, kind: expression, value: .inf, when: .nan }\n"))).toContain("E205");
    const pem = compile(
      node(
        '    - { name: a, kind: llm, prompt: "-----BEGIN RSA PRIVATE KEY-----" }\n    - { name: b, kind: sk-abcdefghijklmnopqrstuvwxyz }\n',
      ),
    );
    expect(pem.diagnostics.map(({ code }) => code)).toContain("W203");
    expect(JSON.stringify(pem.diagnostics)).not.toContain("abcdefghijklm");
    expect(performance.now() - started).toBeLessThan(28_000);
  });

  test("devices and pipes are no modules, and unusual exports are believed", () => {
    const folder = mkdtempSync(join(tmpdir(), "ergos-modules-"));
    try {
      writeFileSync(
        join(folder, "m.ts"),
        'const all = "/home/*"; export function f() {} /** doc */\nexport const x = 1, h = 2;\n',
      );
      writeFileSync(join(folder, "d.ts"), "export const { g } = { g: () => 1 };\n");
      const file = join(folder, "in.yaml");
      const text = `${head}  nodes:\n${["/dev/zero", "/proc/self/mem"].map((path, at) => `    - { name: a${at}, kind: function, module: ${path} }\n`).join("")}${["f", "x", "h"].map((name) => `    - { name: b${name}, kind: function, module: ./m.ts, export: ${name} }\n`).join("")}    - { name: c, kind: function, module: ./d.ts, export: g }\n`;
      const { diagnostics } = compileManifest(text, { file, host: fileHost(file, {}) });
      expect(diagnostics.map(({ code, line }) => `${code} ${line}`)).toEqual(["E501 6", "E501 7"]);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test("no more than 200 diagnostics are kept, and how many there are beside them", () => {
    const wrong = Array.from(
      { length: 1000 },
      (_, at) => `    - { name: n${at}, kind: expression, value: m${at} }\n`,
    ).join("");
    const { diagnostics } = compile(`${head}  nodes:\n${wrong}`);
    expect(diagnostics.filter(({ code }) => code === "E307")).toHaveLength(200);
    expect(diagnostics.at(-1)).toMatchObject({ code: "I303", message: "there are 800 more, which are not shown" });
  });
});

describe("types", () => {
  const told = (nodes: string): readonly string[] =>
    compile(
      `${head}  input_schema: { type: object, properties: { n: { type: integer }, list: { type: array, items: { type: object, properties: { id: { type: string } } } } } }\n  nodes:\n${nodes}`,
    ).diagnostics.map(({ code, message }) => `${code} ${message}`);
  const node = (name: string, value: string): string =>
    `    - { name: ${name}, kind: expression, value: "${value}" }\n`;

  test("a field of what has none, and items of what is no list, are told", () => {
    expect(told("    - { name: a, kind: llm, prompt: x }\n" + node("b", "a.label"))).toEqual([
      "E308 a is a text and has no field label",
    ]);
    expect(told(node("b", "input.n.x"))).toEqual(["E308 input.n is a whole number and has no field x"]);
    expect(told(node("b", "input.list.id"))).toEqual(["E308 input.list is a list and has no field id"]);
    expect(told(node("b", "input.list[0].idd"))).toEqual(["E308 the schema of input.list.0 has no field idd"]);
    const map = (items: string): string =>
      `    - { name: m, kind: map, items: "${items}", body: { kind: expression, value: item } }\n`;
    expect(told(map("input.n"))).toEqual(["E203 items needs a list, input.n is a whole number"]);
    expect(told(`    - { name: a, kind: llm, prompt: x }\n${map("a")}`)).toEqual([
      "E203 items needs a list, a is a text",
    ]);
    expect(told(`    - { name: a, kind: llm, prompt: x }\n${map("a | upper")}`)).toEqual([
      "E203 items needs a list, a | upper is a text",
    ]);
    expect(told(node("a", "{'x': 1}") + node("b", "a.y"))).toEqual(["E308 the schema of a has no field y"]);
  });

  test("an item is known by the items of its list", () => {
    expect(
      told("    - { name: m, kind: map, items: input.list, body: { kind: expression, value: item.idd } }\n"),
    ).toEqual(["E308 the schema of item has no field idd"]);
  });

  test("what may be right is not complained about", () => {
    const recovered = `    - { name: r, kind: expression, value: "'t' ~ 1 // 0", output_schema: { type: string }, on_error: { value: "[1, 2]" } }\n`;
    expect(
      told(
        `${recovered}    - { name: m, kind: map, items: r, body: { kind: expression, value: item } }\n${node("b", "r.err")}`,
      ),
    ).toEqual([]);
    const either =
      "{ type: object, properties: { a: { type: string } }, anyOf: [{ type: object, properties: { b: { type: string } } }] }";
    expect(told(`    - { name: o, kind: llm, prompt: x, output_schema: ${either} }\n${node("b", "o.b")}`)).toEqual([]);
    const map = (items: string): string =>
      `    - { name: m, kind: map, items: "${items}", body: { kind: expression, value: item.id } }\n`;
    for (const items of [
      "input.list",
      "input.list[1:]",
      "input.list | sort(attribute='id')",
      "a | split",
      "[1, 2]",
      "range(3)",
      "b",
      "b or []",
      "input.list if input.n > 1 else []",
      "c.x",
      "d",
    ])
      expect(
        told(
          `    - { name: a, kind: llm, prompt: x }\n    - { name: b, kind: function, module: ./x.ts }\n    - { name: c, kind: llm, prompt: x, on_error: { value: { x: [1] } } }\n    - { name: d, kind: llm, prompt: x, output_schema: { type: [array, "null"] } }\n${map(items)}`,
        ),
        items,
      ).toEqual([]);
    expect(
      told("    - { name: a, kind: llm, prompt: x }\n" + node("b", "a[0] ~ a.upper() ~ (a.x | default('')) ~ a[1:]")),
    ).toEqual([]);
  });
});

describe("includes", () => {
  const folders: string[] = [];
  afterAll(() => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })));
  const write = (files: Record<string, string>): string => {
    const folder = mkdtempSync(join(tmpdir(), "ergos-include-"));
    folders.push(folder);
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(join(folder, name, ".."), { recursive: true });
      writeFileSync(join(folder, name), text);
    }
    return folder;
  };
  const compileIn = (folder: string): readonly string[] => {
    const file = join(folder, "in.yaml");
    const { diagnostics } = compileManifest(readFileSync(file, "utf8"), { file, host: fileHost(file, {}) });
    return diagnostics.map(({ code, message }) => `${code} ${message}`);
  };

  test("that leave the folder, pass over a link, or include themselves are refused", () => {
    const outside = write({ "secret.yaml": "name: a" });
    const folder = write({
      "in.yaml": `${head}  nodes:\n    - !include sub/link.yaml\n    - !include linked/secret.yaml\n    - !include /etc/passwd\n    - !include sub/../../x.yaml\n    - !include loop.yaml\n`,
      "sub/a.yaml": "x: 1",
      "loop.yaml": "x: !include loop.yaml",
    });
    symlinkSync(join(outside, "secret.yaml"), join(folder, "sub/link.yaml"));
    symlinkSync(outside, join(folder, "linked"));

    const found = compileIn(folder).filter((line) => line.startsWith("E104"));
    expect(found.length).toBe(5);
    expect(found.join("\n")).toMatch(/is a link/);
    expect(found.join("\n")).toMatch(/is absolute/);
    expect(found.join("\n")).toMatch(/lies outside/);
    expect(found.join("\n")).toMatch(/includes itself/);
  });

  test("point at the included file", () => {
    const folder = write({
      "in.yaml": `${head}  nodes: [!include part.yaml]\n`,
      "part.yaml": "name: a\nkind: expression\nvalue: nothing\n",
    });
    const file = join(folder, "in.yaml");
    const { diagnostics } = compileManifest(readFileSync(file, "utf8"), { file, host: fileHost(file, {}) });

    expect(diagnostics).toMatchObject([{ code: "E307", file: join(folder, "part.yaml"), line: 3, column: 8 }]);
  });
});

describe("whatever is written", () => {
  // The alias that explodes takes its second each time.
  const folders = readdirSync(golden).filter((folder) => folder !== "E102-alias-bomb");
  const seeds = folders.map((folder) => readFileSync(join(golden, folder, "in.yaml"), "utf8"));

  test("ends in a plan or in diagnostics, never in an exception", () => {
    const edit = fc.record({
      seed: fc.constantFrom(...seeds),
      at: fc.nat(2000),
      remove: fc.nat(30),
      insert: fc.oneof(
        fc.string({ maxLength: 8 }),
        fc.constantFrom(
          "{",
          "[",
          "]",
          "- ",
          ": ",
          "\n",
          "\t",
          "!include ",
          "&a ",
          "*a",
          "{{",
          "}}",
          "{% for %}",
          "<<: ",
          "| ",
          "'",
          '"',
          "name",
          "nodes:",
          "\u0000",
          "---\n",
        ),
      ),
    });
    fc.assert(
      fc.property(edit, ({ seed, at, remove, insert }) => {
        const text = seed.slice(0, at) + insert + seed.slice(at + remove);
        const { plans, diagnostics, hasErrors } = compile(text, true);
        expect(hasErrors ? plans.length : 0).toBe(0);
        for (const { line, column, endLine } of diagnostics) {
          expect(line).toBeGreaterThan(0);
          expect(column).toBeGreaterThan(0);
          expect(endLine).toBeGreaterThanOrEqual(line);
        }
      }),
      { numRuns: 1500 },
    );
  });
});

describe("what is printed", () => {
  const [plan] = compileFolder("every-kind").compiled.plans;

  test("a plan as YAML compiles to the same plan", () => {
    if (plan === undefined) throw new TypeError("the folder compiles");
    const yaml = toManifest(plan, (module) => module);
    const again = compileManifest(yaml, {
      file: join(plan.here, "again.yaml"),
      host: fileHost(join(plan.here, "again.yaml"), {}),
    });

    expect(again.diagnostics).toEqual([]);
    const bare = (one: unknown): unknown =>
      JSON.parse(JSON.stringify(one, (key, value: unknown) => (key === "at" ? undefined : value)));
    expect(bare(again.plans[0])).toEqual(bare(plan));
  });

  test("a graph names every node and edge, and draws no broken XML", () => {
    if (plan === undefined) throw new TypeError("the folder compiles");
    const mermaid = toMermaid(plan);
    const svg = toSvg(plan);

    for (const node of plan.nodes) {
      expect(mermaid).toContain(`  ${node.name}`);
      expect(svg).toContain(`>${node.name}</text>`);
      for (const need of node.needs) expect(mermaid).toMatch(new RegExp(`${need} -->.* ?${node.name}`));
    }
    expect(svg.match(/<path /g)?.length).toBe(
      1 + plan.nodes.reduce((sum, node) => sum + node.needs.length + node.after.length, 0),
    );
  });

  test("explain knows every field of the schema", () => {
    const paths = explainablePaths();
    expect(paths.length).toBeGreaterThan(90);
    for (const path of paths)
      expect(explain(path), path).toMatchObject({ doc: expect.stringMatching(/\S/) as unknown });
    expect(explain("pipeline.spec.nodes.llm.promt")).toEqual({
      unknown: "pipeline.spec.nodes.llm.promt",
      hint: 'did you mean "prompt"?',
    });
    expect(JSON.stringify(manifestJsonSchema())).toContain('"prompt"');
  });
});

test.each([
  ["90", 90],
  ["1h30m", 5_400_000],
  ["1m 30s", 90_000],
  ["1h30", undefined],
  ["30 sec", undefined],
])("the duration %j is %j milliseconds", (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});
