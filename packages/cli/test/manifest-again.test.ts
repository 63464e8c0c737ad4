// What a run of a manifest finds when it goes on: everything that was finished, as it was.

import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "ergos";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { runErgos } from "./ergos-cli.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ergos-again-"));
  writeFileSync(
    join(dir, "steps.ts"),
    `import { appendFileSync, existsSync } from "node:fs";
const note = (text: string): void => appendFileSync(${JSON.stringify(join(dir, "calls"))}, text + "\\n");
export const item = ({ n }: { n: number }) => { note("item " + n); return n * 10; };
export const once = ({ n }: { n: number }) => {
  note("item " + n);
  if (n === 1 && !existsSync(${JSON.stringify(join(dir, "later"))})) throw new Error("not yet");
  return n;
};
export const list = () => ({ list: [3, 1, 2] });
export const least = ({ d }: { d: { list: number[] } }) => d.list.sort()[0];
export const slow = async (_input: unknown, ctx: { signal: AbortSignal }) => {
  note("slow");
  if (existsSync(${JSON.stringify(join(dir, "later"))})) return "done";
  await new Promise((_resolve, reject) => ctx.signal.addEventListener("abort", () => reject(ctx.signal.reason)));
};
`,
  );
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const calls = (): readonly string[] =>
  existsSync(join(dir, "calls")) ? readFileSync(join(dir, "calls"), "utf8").trim().split("\n") : [];
const manifest = (spec: string): { readonly module: string } => {
  const module = join(dir, "in.yaml");
  writeFileSync(module, `apiVersion: ergos/v1\nkind: Pipeline\nmetadata: { name: again }\nspec:\n${spec}`);
  return { module };
};
const run = async (spec: string, input: unknown = {}): Promise<unknown> => {
  await using os = await connect();
  return await os.run(manifest(spec), { input });
};

/** Runs until the slow node has begun, ends the host, and goes on in another. */
async function interrupted(spec: string): Promise<unknown> {
  const program = manifest(spec);
  const first = await connect({ dir: join(dir, "data"), serve: false });
  const pid = await first.spawn(program);
  await expect.poll(calls, { timeout: 10_000 }).toContain("slow");
  await first.close();
  appendFileSync(join(dir, "later"), "");
  await using second = await connect({ dir: join(dir, "data"), serve: false });
  const exit = await second.wait(pid);
  expect(exit.error).toBeUndefined();
  return exit.result;
}

const SLOW = `{ name: slow, kind: function, module: ./steps.ts, export: slow, wait_for: [m] }`;
const ITEM = (name: string): string =>
  `{ kind: function, module: ./steps.ts, export: ${name}, input_mapping: { n: item } }`;

describe("a run that goes on", () => {
  test.each([
    [
      "a map in a map",
      `kind: map, items: "[1]", item: outer, body: { kind: map, items: range(3), body: ${ITEM("item")} }`,
    ],
    [
      "a map in a case",
      `kind: branch, cases: [{ when: "true", body: { kind: map, items: range(3), body: ${ITEM("item")} } }]`,
    ],
  ])("does no item of %s again", async (_what, node) => {
    const spec = `  nodes:
    - { name: m, ${node} }
    - ${SLOW}
  output: m
`;
    expect(JSON.stringify(await interrupted(spec))).toContain("[0,10,20]");
    expect(calls().filter((call) => call.startsWith("item"))).toEqual(["item 0", "item 1", "item 2"]);
  });

  test("does no item again of a map in a body whose other nodes are still at work", async () => {
    const spec = `  nodes:
    - name: m
      kind: map
      items: "[1]"
      item: outer
      body:
        - { name: parts, kind: map, items: range(3), body: ${ITEM("item")} }
        - { name: wait, kind: function, module: ./steps.ts, export: slow, wait_for: [parts] }
        - { name: out, kind: expression, value: parts, wait_for: [wait] }
`;
    expect(await interrupted(spec)).toEqual([[0, 10, 20]]);
    expect(calls().filter((call) => call.startsWith("item"))).toHaveLength(3);
  });

  test("leaves out what it has left out before", async () => {
    const spec = `  nodes:
    - name: m
      kind: map
      items: range(3)
      body: { kind: function, module: ./steps.ts, export: once, input_mapping: { n: item }, on_error: skip }
    - { name: count, kind: expression, value: m | length }
    - { ${SLOW.slice(2, -2).replace("[m]", "[count]")} }
  output: { m: m, count: count }
`;
    expect(await interrupted(spec)).toEqual({ m: [0, 2], count: 2 });
    expect(calls().filter((call) => call === "item 1")).toHaveLength(1);
  });

  test("comes to what it would have come to, whatever nodes do to what they read", async () => {
    const spec = `  nodes:
    - { name: d, kind: function, module: ./steps.ts, export: list }
    - { name: m, kind: function, module: ./steps.ts, export: least, dependencies: [d] }
    - ${SLOW}
    - { name: first, kind: expression, value: "d.list[0]", wait_for: [slow] }
  output: { least: m, first: first }
`;
    expect(await interrupted(spec)).toEqual({ least: 1, first: 3 });
    rmSync(join(dir, "data"), { recursive: true });
    expect(await run(spec)).toEqual({ least: 1, first: 3 });
  });
});

describe("names", () => {
  test("ctx is known to conditions, items, bodies and the output", async () => {
    const result = await run(`  nodes:
    - { name: a, kind: expression, when: "ctx.pipeline == 'again'", value: ctx.node }
    - { name: m, kind: map, items: "[ctx.pipeline]", body: { kind: expression, value: "ctx.node ~ item" } }
  output: { a: a, m: m, same: "ctx.pipeline" }
`);
    expect(result).toEqual({ a: "a", m: ["bodyagain"], same: "again" });
  });

  test("what takes the place of a failure sees what the node was given", async () => {
    const node = `kind: function, module: ./steps.ts, export: once, input_mapping: { n: 1, t: "'hello'" }`;
    const result = await run(`  nodes:
    - { name: a, ${node}, on_error: { value: { t: t } } }
    - { name: m, kind: map, items: range(1), body: { ${node}, on_error: { value: { t: t, item: item } } } }
`);
    expect(result).toEqual({ a: { t: "hello" }, m: [{ t: "hello", item: 0 }] });
  });
});

test("the first failure of a map that ends with it is told to the items under way", async () => {
  writeFileSync(
    join(dir, "fails.ts"),
    `export const work = async ({ n }: { n: number }, ctx: { signal: AbortSignal }) => {
  if (n === 0) throw new Error("first");
  await new Promise((_resolve, reject) => ctx.signal.addEventListener("abort", () => reject(ctx.signal.reason)));
};
`,
  );
  const body = "{ kind: function, module: ./fails.ts, export: work, input_mapping: { n: item } }";
  const map = `kind: map, items: range(2), concurrency: 2, body: ${body}`;
  await expect(run(`  nodes:\n    - { name: m, ${map} }\n`)).rejects.toThrow("first");
  await expect(
    run(`  nodes:\n    - { name: o, kind: map, items: "[1]", item: outer, body: { ${map} } }\n`),
  ).rejects.toThrow("first");
});

describe("the lines about a result", () => {
  const ergos = (spec: string, ...more: readonly string[]) =>
    runErgos(["run", manifest(spec).module, ...more], { cwd: dir });

  test("know the defaults of the input", () => {
    const { stdout, status } =
      ergos(`  input_schema: { type: object, properties: { u: { type: string, default: dflt } } }
  nodes: [{ name: a, kind: expression, value: input.u }]
  epilogue: "u is {{ input.u }}"
`);
    expect(stdout).toContain("u is dflt");
    expect(status).toBe(0);
  });

  test("may fail: the result is told all the same", () => {
    const spec = `  nodes: [{ name: a, kind: expression, value: 7 }]
  epilogue: "{{ output.nothing }}"
`;
    const { stdout, stderr, status } = ergos(spec, "--json");
    expect(JSON.parse(stdout)).toMatchObject({ code: 0, result: 7 });
    expect(stderr).toContain("epilogue");
    expect(status).toBe(0);
    expect(ergos(spec).stdout).toContain("completed");
  });
});

test("a program that ends its host is a failure, whatever status it gives", () => {
  writeFileSync(join(dir, "exits.ts"), "export default () => process.exit(0);\n");
  const { status, stderr } = runErgos(["run", "exits.ts"], { cwd: dir });
  expect(status).toBe(1);
  expect(stderr).toContain("process.exit(0)");
});

describe("what cannot be read or written", () => {
  test("is told with its place: a folder, what is no text, what has no end, a throwing mount", () => {
    const codeOf = (...args: readonly string[]): unknown => {
      const { stdout, status } = runErgos(["validate", ...args, "--json"], { cwd: dir });
      expect(status).toBe(2);
      return (JSON.parse(stdout) as readonly { readonly error: { readonly code: string } }[])[0]?.error.code;
    };
    writeFileSync(join(dir, "latin.yaml"), Buffer.from([0x61, 0xe9, 0x0a]));
    expect(codeOf(dir)).toBe("EISDIR");
    expect(codeOf("nothing.yaml")).toBe("ENOENT");
    expect(codeOf("latin.yaml")).toBe("EINVAL");
    expect(codeOf("/dev/zero")).toBe("E2BIG");
    writeFileSync(join(dir, "mounts.ts"), "export const mounts = 5;\nexport default () => 1;\n");
    expect(runErgos(["run", "mounts.ts"], { cwd: dir }).stderr).toContain("must be a list of { at, path }");
  });

  test.skipIf(process.getuid?.() !== 0)("(needs root to mount a small disk) a full disk is ENOSPC", () => {
    const disk = join(dir, "disk");
    mkdirSync(disk);
    expect(spawnSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", disk]).status).toBe(0);
    try {
      const big = `export default async (_input, ctx) => {
  for (let at = 0; at < 100; at++) await ctx.step("s" + at, () => "x".repeat(60000) + at);
};
`;
      writeFileSync(join(dir, "big.mjs"), big);
      const { stderr, status } = runErgos(["run", "big.mjs", "--dir", join(disk, "data")], { cwd: dir });
      expect(status).toBe(1);
      expect(stderr).toContain("ENOSPC");
      expect(stderr).not.toContain("suppressed");
    } finally {
      spawnSync("umount", ["-l", disk]);
    }
  });

  test("a file of a mounted folder is named as in the namespace, and its links are followed where that was asked for", async () => {
    const folder = join(dir, "folder");
    mkdirSync(folder);
    writeFileSync(join(folder, "file"), "here");
    symlinkSync("file", join(folder, "link"));
    await using os = await connect({
      mounts: [
        { at: "/d", path: folder },
        { at: "/f", path: folder, followLinks: true },
      ],
    });
    await expect(os.fs.read("/d/link")).rejects.toMatchObject({
      path: "/d/link",
      message: expect.stringContaining("/d/link is or passes a link") as unknown,
    });
    await expect(os.fs.read("/d/none")).rejects.toMatchObject({ code: "ENOENT", path: "/d/none" });
    expect(await os.fs.readText("/f/link")).toBe("here");
  });
});

test("whoever waits for a run when the connection is closed is told", async () => {
  const os = await connect();
  const running = os.run(async (_input: unknown, ctx: { signal: AbortSignal }) => {
    await new Promise((_resolve, reject) => ctx.signal.addEventListener("abort", () => reject(ctx.signal.reason)));
  });
  const told = expect(running).rejects.toMatchObject({ code: "ECANCELED" });
  await new Promise((go) => setTimeout(go, 20));
  await os.close();
  await told;
});

test("a plan in code with a map is the same as the manifest that is printed of it", () => {
  writeFileSync(
    join(dir, "code.ts"),
    `import { pipeline } from ${JSON.stringify(join(import.meta.dirname, "../src/index.ts"))};
export const list = () => [1, 2, 3];
export const twice = (n: number) => n * 2;
export const sum = ({ double }: { double: readonly number[] }) => double.reduce((a, b) => a + b, 0);
export default pipeline("code").node("numbers", list).map("double", { over: "numbers" }, twice).node("sum", { needs: ["double"] }, sum).output("sum").build();
`,
  );
  const printed = runErgos(["plan", "code.ts", "--yaml"], { cwd: dir }).stdout;
  writeFileSync(join(dir, "printed.yaml"), printed);
  const resultOf = (file: string): unknown =>
    (JSON.parse(runErgos(["run", file, "--json"], { cwd: dir }).stdout) as { readonly result: unknown }).result;
  expect(resultOf("code.ts")).toBe(12);
  expect(resultOf("printed.yaml")).toBe(12);
});

test("a variable whose value holds a secret is not recorded", () => {
  manifest(`  nodes:
    - { name: at, kind: expression, value: "'\${DATABASE:none}' | length" }
`);
  const env = { DB_PASSWORD: "planted-0123456789", DATABASE: "postgres://u:planted-0123456789@h" };
  expect(runErgos(["run", "in.yaml"], { cwd: dir, env }).status).toBe(0);
  for (const file of ["store.db", "store.db-wal"])
    if (existsSync(join(dir, ".ergos", file)))
      expect(readFileSync(join(dir, ".ergos", file)).includes("planted-0123456789")).toBe(false);
});

test("a run that goes on has the variables that it began with, wherever its host is", () => {
  manifest(`  output: { send: "{{ send }}", bare: "{{ bare }}" }
  nodes:
    - { name: send, kind: expression, value: "'to ' ~ '\${TO:nobody}'" }
    - { name: bare, kind: expression, value: "'\${GIVEN:unset}'" }
    - { name: late, kind: function, module: ./steps.ts, export: once, input_mapping: { n: 1, to: "{{ send }} {{ bare }}" } }
`);
  const first = runErgos(["run", "in.yaml", "--json"], { cwd: dir, env: { TO: "jane" } });
  expect(first.status).toBe(1);
  writeFileSync(join(dir, "later"), "");
  const { pid } = JSON.parse(first.stdout) as { pid: number };
  const again = runErgos(["resume", String(pid), "--json"], { cwd: dir, env: { TO: "john", GIVEN: "now" } });

  expect(JSON.parse(again.stdout)).toMatchObject({ code: 0, result: { send: "to jane", bare: "unset" } });
});
