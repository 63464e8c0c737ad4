// Manifests run by a host: what a restart in the middle finds, and what is over is over.

import { join } from "node:path";
import { connect } from "ergos";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { useManifests } from "./manifest-host.ts";

const { folder, file, manifest, lines, steps, run, interrupted } = useManifests();

describe("a restart in the middle", () => {
  const hold =
    "export const hold = async (_input: unknown, ctx: any) => { note('hold'); if (!existsSync(process.env.HOLD ?? '')) await new Promise((_r, fail) => ctx.signal.addEventListener('abort', () => fail(ctx.signal.reason))); return 'held'; };";
  beforeEach(() => {
    process.env["HOLD"] = join(folder.path, "go");
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
    await using os = await connect({ dir: join(folder.path, "data"), serve: false });
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
    await using os = await connect({ dir: join(folder.path, "data") });
    expect(await os.run({ ...manifest(spec), cwd: join(folder.path, "one") }, { input: { dir: "data" } })).toBe(
      "from one",
    );
    // The run before is over: its mount makes room.
    expect(await os.run({ ...manifest(spec), cwd: join(folder.path, "two") }, { input: { dir: "data" } })).toBe(
      "from two",
    );
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
        ["one", "two"].map((cwd) => os.run({ ...source, cwd: join(folder.path, cwd) }, { input: { dir: "data" } })),
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
