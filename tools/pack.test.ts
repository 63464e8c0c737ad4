// What is published: built, packed, installed into an empty project, and used there.

import { execFileSync } from "node:child_process";
import { cpSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { publint } from "publint";
import { afterAll, beforeAll, expect, test } from "vitest";

const root = join(import.meta.dirname, "..");
const PACKAGES = ["kernel", "compiler", "protocol", "drivers", "services", "sdk", "server", "cli"];
const BYTES_MAX = 20 * 1024 * 1024;

let project: string;

const run = (command: string, args: readonly string[], cwd: string): string =>
  execFileSync(command, args, {
    cwd,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, PATH: `${join(root, "node_modules/.bin")}${delimiter}${process.env["PATH"] ?? ""}` },
  });

beforeAll(() => {
  project = mkdtempSync(join(tmpdir(), "ergos-pack-"));
  run("npm", ["run", "--silent", "build"], root);
  const tarballs = PACKAGES.map((name) => {
    const answer = JSON.parse(
      run("npm", ["pack", "--json", "--pack-destination", project], join(root, "packages", name)),
    ) as { filename: string }[];
    return `./${answer[0]?.filename ?? ""}`;
  });
  writeFileSync(join(project, "package.json"), '{ "name": "empty", "private": true, "type": "module" }');
  run("npm", ["install", "--no-audit", "--no-fund", "--ignore-scripts", ...tarballs], project);
}, 180_000);

afterAll(() => rmSync(project, { recursive: true, force: true }));

test("an installed ergos is small, builds nothing and runs no script", () => {
  const files = globSync("node_modules/**/*", { cwd: project }).map((file) => join(project, file));
  const bytes = files.reduce((sum, file) => sum + (statSync(file).isFile() ? statSync(file).size : 0), 0);
  const manifests = files
    .filter((file) => file.endsWith("/package.json"))
    .map((file) => JSON.parse(readFileSync(file, "utf8")) as { scripts?: Record<string, string> });
  const scripts = manifests
    .flatMap(({ scripts: all }) => Object.keys(all ?? {}))
    .filter((name) => /^(pre|post)?install$/.test(name));

  console.log(`installed: ${(bytes / 1024 / 1024).toFixed(1)} MiB`);
  expect(bytes).toBeLessThan(BYTES_MAX);
  expect(scripts).toEqual([]);
  expect(files.filter((file) => file.endsWith(".node") || file.endsWith("binding.gyp"))).toEqual([]);
});

test("every package carries its licence and says what it is", () => {
  const at = (name: string, file: string): string =>
    readFileSync(join(project, "node_modules", name === "cli" ? "ergos" : `@ergos/${name}`, file), "utf8");
  for (const name of PACKAGES) {
    expect(at(name, "LICENSE")).toContain("Apache License");
    expect(at(name, "README.md")).toMatch(/^# /);
  }
});

test("the installed command line runs a program", () => {
  writeFileSync(
    join(project, "hello.mjs"),
    "export default (input, ctx) => ctx.step('hello', () => `hello ${input.name}`);\n",
  );

  const answer = JSON.parse(run("npx", ["ergos", "run", "hello.mjs", "--input", "name=you", "--json"], project)) as {
    result: string;
  };

  expect(answer.result).toBe("hello you");
  expect(run("npx", ["ergos", "explain", "EUNKNOWN"], project)).toContain("Outcome unknown after a crash");
});

test("the installed command line runs a program in a process of its own", () => {
  writeFileSync(join(project, "child.mjs"), "export default (input, ctx) => ctx.step('pid', () => process.ppid);\n");

  const answer = run("npx", ["ergos", "run", "child.mjs", "--runtime", "process", "--json"], project);

  expect(JSON.parse(answer)).toMatchObject({ result: expect.any(Number) as unknown });
});

test("the installed library runs a typed plan, and its types are whole", () => {
  mkdirSync(join(project, "src"), { recursive: true });
  writeFileSync(
    join(project, "src/main.ts"),
    `import { connect, pipeline } from "ergos";
const plan = pipeline<{ n: number }>("double").node("twice", ({ n }) => n * 2).node("text", { needs: ["twice"] }, ({ twice }) => twice.toFixed(1));
await using os = await connect({ dir: ".library" });
console.log(await os.run(plan, { input: { n: 21 } }));
`,
  );
  cpSync(join(root, "node_modules/@types/node"), join(project, "node_modules/@types/node"), { recursive: true });
  cpSync(join(root, "node_modules/undici-types"), join(project, "node_modules/undici-types"), { recursive: true });

  run(
    join(root, "node_modules/.bin/tsc"),
    ["--noEmit", "--strict", "--target", "esnext", "--module", "nodenext", "--types", "node", "src/main.ts"],
    project,
  );

  expect(run("node", ["src/main.ts"], project).trim()).toBe("42.0");
});

test("the manifests are as publishing tools want them", async () => {
  for (const name of PACKAGES) {
    const { messages } = await publint({ pkgDir: join(root, "packages", name), level: "warning", pack: "npm" });
    expect([name, messages]).toEqual([name, []]);
  }
}, 60_000);
