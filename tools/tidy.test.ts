// Properties of the code itself. Loosening one is a change of its own, with its reason.

import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { ERRNO, EVENTS } from "@ergos/kernel";
import { describe, expect, test } from "vitest";
import { CLI_FILE, cliReference } from "./cli-reference.ts";
import { EXPRESSION_FILE, expressionReference } from "./expression-reference.ts";
import { MANIFEST_FILE, POLICY_FILE, manifestReference, policyReference, sectionless } from "./manifest-reference.ts";
import { RIGHTS_FILE, rightsReference } from "./rights-reference.ts";
import { REFERENCE_FILE, syscallReference } from "./syscall-reference.ts";

const root = join(import.meta.dirname, "..");
const read = (file: string): string => readFileSync(join(root, file), "utf8");

/** Who may import whom. `driver:*` stands for one subpath of drivers. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  kernel: [],
  protocol: ["kernel"],
  compiler: ["kernel"],
  drivers: ["kernel", "protocol"],
  services: ["kernel", "compiler"],
  sdk: ["kernel", "protocol", "services"],
  server: ["kernel", "protocol"],
  cli: ["kernel", "compiler", "protocol", "drivers", "services", "sdk", "server"],
};
/** Layers of the kernel, lowest first; a folder may import what stands before it, and its equals. */
const KERNEL_LAYERS: readonly (readonly string[])[] = [
  ["base"],
  ["abi"],
  ["vfs", "ipc", "cap", "budget", "journal", "audit", "lock"],
  ["proc"],
  ["service", "care"],
  ["syscall"],
  ["tree"],
  ["boot.ts"],
  ["kernel.ts", "index.ts", "conformance"],
];
/** Files that may name a concrete driver. */
const NAMES_DRIVERS = new Set(["packages/cli/src/boot.ts"]);
/** Casts for each thousand lines of source, and non-null assertions in all. Each cast has its comment. */
const CASTS_PER_THOUSAND_LINES_MAX = 10;
const NON_NULL_MAX = 0;

interface Source {
  readonly file: string;
  readonly text: string;
  readonly imports: readonly string[];
}

const isOurs = (name = ""): boolean => name.startsWith(".") || name.startsWith("@ergos/") || name.startsWith("node:");

const sources: readonly Source[] = globSync("packages/*/src/**/*.ts", { cwd: root }).map((file) => {
  const text = read(file);
  const imports = [...text.matchAll(/^(?:import|export)\s[^;]*?from "([^"]+)"|\bimport\("([^"]+)"\)/gm)].map((match) =>
    match[0].startsWith("import type") && !isOurs(match[1]) ? "" : (match[1] ?? match[2] ?? ""),
  );
  // Types of a foreign package are not there when the code runs.
  return { file, text, imports: imports.filter((name) => name !== "") };
});
const packageOf = (file: string): string => file.split("/")[1] ?? "";
const code = (text: string): string => text.replaceAll(/\/\*[\s\S]*?\*\/|(^|\s)\/\/.*$/gm, "");

describe("layers", () => {
  test("packages import only what the table allows", () => {
    const wrong = sources.flatMap(({ file, imports }) =>
      imports.flatMap((name) => {
        const target = /^@ergos\/([a-z]+)/.exec(name)?.[1];
        return target === undefined || ALLOWED[packageOf(file)]?.includes(target) === true
          ? []
          : [`${file} imports ${name}`];
      }),
    );
    expect(wrong).toEqual([]);
  });

  test("the kernel imports nothing, not even Node", () => {
    const wrong = sources
      .filter(({ file }) => packageOf(file) === "kernel")
      .flatMap(({ file, imports }) =>
        imports.filter((name) => !name.startsWith(".")).map((name) => `${file} imports ${name}`),
      );
    expect(wrong).toEqual([]);
    expect(JSON.parse(read("packages/kernel/package.json"))).not.toHaveProperty("dependencies");
  });

  test("folders of the kernel import only downwards", () => {
    const layerOf = (folder: string): number => KERNEL_LAYERS.findIndex((layer) => layer.includes(folder));
    const wrong = sources
      .filter(({ file }) => packageOf(file) === "kernel")
      .flatMap(({ file, imports }) => {
        const inside = relative("packages/kernel/src", file);
        return imports.flatMap((name) => {
          const target = join(dirname(inside), name);
          const [from, to] = [layerOf(inside.split("/")[0] ?? ""), layerOf(target.split("/")[0] ?? "")];
          // `Os` is the face that programs get; proc knows its type and nothing of its making.
          const isFace = inside === "proc/program.ts" && target === "syscall/os.ts";
          return to <= from || isFace ? [] : [`${inside} imports ${target}`];
        });
      });
    expect(wrong).toEqual([]);
  });

  test("only the composition root names drivers, and drivers know nothing of each other", () => {
    const wrong = sources.flatMap(({ file, imports }) => {
      if (packageOf(file) !== "drivers")
        return imports
          .filter((name) => name.startsWith("@ergos/drivers") && !NAMES_DRIVERS.has(file))
          .map((name) => `${file} imports ${name}`);
      const driver = file.split("/")[3];
      return imports
        .filter(
          (name) =>
            name.startsWith("../") &&
            // What stores have in common.
            !join(dirname(file), name).startsWith("packages/drivers/src/store/") &&
            !join(dirname(file), name).startsWith(`packages/drivers/src/${driver}/`),
        )
        .map((name) => `${file} imports ${name}`);
    });
    expect(wrong).toEqual([]);
  });

  test("manifests name exactly what their sources import", () => {
    for (const name of Object.keys(ALLOWED)) {
      const manifest = JSON.parse(read(`packages/${name}/package.json`)) as {
        dependencies?: Record<string, string>;
        peerDependencies?: Record<string, string>;
        peerDependenciesMeta?: Record<string, { optional?: boolean }>;
      };
      // An optional peer is loaded when it is needed, and brings what it needs itself.
      const peers = new Set(Object.keys(manifest.peerDependencies ?? {}));
      for (const peer of peers) expect([peer, manifest.peerDependenciesMeta?.[peer]?.optional]).toEqual([peer, true]);
      const used = new Set(
        sources
          .filter(({ file }) => packageOf(file) === name)
          .flatMap(({ imports }) =>
            imports
              .filter((one) => !one.startsWith(".") && !one.startsWith("node:"))
              .map((one) => (one.startsWith("@") ? one.split("/").slice(0, 2).join("/") : (one.split("/")[0] ?? ""))),
          ),
      );
      const needed = [...used].filter((one) => !peers.has(one)).toSorted();
      expect([name, Object.keys(manifest.dependencies ?? {}).toSorted()]).toEqual([name, needed]);
    }
  });

  test("all packages have one version", () => {
    const versions = globSync("{packages,examples}/*/package.json", { cwd: root }).map(
      (file) => (JSON.parse(read(file)) as { version: string }).version,
    );
    expect(new Set(versions).size).toBe(1);
  });
});

describe("habits", () => {
  test("no bare Error is thrown", () => {
    expect(sources.filter(({ text }) => /throw new Error\(/.test(code(text))).map(({ file }) => file)).toEqual([]);
  });

  test("there is no state at the level of a module", () => {
    const wrong = sources.filter(({ text }) =>
      /^(export )?let |^(export )?const \w+(: \w+<[^=]*>)? = new (Map|Set|WeakMap|Array)(<[^(]*>)?\(\)/m.test(
        code(text),
      ),
    );
    expect(wrong.map(({ file }) => file)).toEqual([]);
  });

  test("a TODO names its issue", () => {
    const files = globSync("{packages,tools,bench,examples}/**/*.ts", {
      cwd: root,
      exclude: (name) => name === "node_modules" || name === "dist",
    });
    const wrong = files.filter((file) => /\bTODO\b(?!\(#\d+\))/.test(read(file)) && file !== "tools/tidy.test.ts");
    expect(wrong).toEqual([]);
  });

  test("no store lies among the sources", () => {
    const files = globSync(["*/**/store.db*", "**/owner.lock"], {
      cwd: root,
      exclude: ["**/node_modules", "**/.ergos"],
    });
    expect(files).toEqual([]);
  });

  test("time, chance and the environment come from the platform", () => {
    const free = new Set([
      "packages/drivers/src/platform-node/index.ts",
      "packages/drivers/src/platform-node/watchdog.ts",
    ]);
    const wrong = sources.filter(
      ({ file, text }) =>
        ["kernel", "services", "protocol"].includes(packageOf(file)) &&
        !free.has(file) &&
        /\bsetTimeout\(|\bDate\.now\(|\bMath\.random\(|\bprocess\.env\b/.test(code(text)),
    );
    expect(wrong.map(({ file }) => file)).toEqual([]);
  });

  test("casts and non-null assertions do not grow", () => {
    const casts = sources.reduce(
      (sum, { text }) => sum + (code(text).match(/[\w)\]}] as (?!const\b)[A-Za-z{(]/g)?.length ?? 0),
      0,
    );
    const nonNull = sources.reduce(
      (sum, { text }) => sum + (code(text).match(/[\w)\]]!(?=[.[,;)\s])(?!=)/g)?.length ?? 0),
      0,
    );
    const lines = sources.reduce((sum, { text }) => sum + text.split("\n").length, 0);
    expect((casts * 1000) / lines).toBeLessThanOrEqual(CASTS_PER_THOUSAND_LINES_MAX);
    expect(nonNull).toBeLessThanOrEqual(NON_NULL_MAX);
  });

  test("sources open with what they are, and sizes are reported", () => {
    const without = sources.filter(
      ({ file, text }) => !text.startsWith("//") && text.split("\n").length > 30 && !file.endsWith(".d.ts"),
    );
    const long = sources
      .map(({ file, text }) => ({ file, lines: text.split("\n").length }))
      .filter(({ lines }) => lines > 320)
      .toSorted((a, b) => b.lines - a.lines);
    console.log(`files above 320 lines: ${long.map(({ file, lines }) => `${file} ${lines}`).join(", ") || "none"}`);
    expect(without.map(({ file }) => file)).toEqual([]);
    expect(long.filter(({ lines }) => lines > 760)).toEqual([]);
  });
});

describe("documentation", () => {
  const headings = (file: string): string[] => [...read(file).matchAll(/^## (\S+)$/gm)].map((match) => match[1] ?? "");

  test("every error code has a heading, and every heading is a code", () => {
    expect(headings("docs/errors.md")).toEqual(Object.keys(ERRNO));
  });

  test("every event has a heading, and every heading is an event", () => {
    expect(headings("docs/events.md")).toEqual(Object.keys(EVENTS));
  });

  test("the reference of the system calls is what the table says", () => {
    expect(readFileSync(REFERENCE_FILE, "utf8")).toBe(syscallReference());
  });

  test("the reference of rights is what their tables say", () => {
    expect(readFileSync(RIGHTS_FILE, "utf8")).toBe(rightsReference());
  });

  test("the reference of expressions lists what the language has", () => {
    const page = readFileSync(EXPRESSION_FILE, "utf8");
    expect(page).toBe(expressionReference(page));
  });

  test("the references of manifests and of the command line are what they describe", async () => {
    expect(readFileSync(MANIFEST_FILE, "utf8")).toBe(manifestReference());
    expect(readFileSync(POLICY_FILE, "utf8")).toBe(policyReference());
    expect(sectionless()).toEqual([]);
    const page = await cliReference();
    expect(readFileSync(CLI_FILE, "utf8")).toBe(page);
    // An option that nobody explains has an empty cell.
    expect(page.split("\n").filter((line) => /^\| `--.*\|\s*\|$/.test(line))).toEqual([]);
  });

  test("every example has a page in the guide", () => {
    const examples = globSync("examples/*", { cwd: root }).map((folder) => folder.split("/")[1] ?? "");
    const pages = globSync("docs/guide/examples/*.md", { cwd: root }).map((file) =>
      file.split("/")[3]?.replace(".md", ""),
    );
    expect(new Set(pages)).toEqual(new Set(examples));
  });

  test("links between pages lead somewhere", () => {
    const pages = [
      "README.md",
      "ARCHITECTURE.md",
      "CONTRIBUTING.md",
      "SECURITY.md",
      ...globSync("docs/**/*.md", { cwd: root }),
    ];
    const broken = pages.flatMap((page) =>
      [...read(page).matchAll(/\]\((?!https?:|#)([^)#]+)[^)]*\)/g)]
        .map((match) => join(dirname(page), match[1] ?? ""))
        .filter((target) => !existsSync(join(root, target)))
        .map((target) => `${page} -> ${target}`),
    );
    expect(broken).toEqual([]);
  });

  test("commands that the README shows exist", () => {
    const scripts = Object.keys((JSON.parse(read("package.json")) as { scripts: Record<string, string> }).scripts);
    const named = [...read("README.md").matchAll(/npm run ([a-z:]+)/g)].map((match) => match[1] ?? "");
    expect(named.filter((name) => !scripts.includes(name))).toEqual([]);
  });

  test("nothing names a registry or a path of a machine", () => {
    const lock = read("package-lock.json");
    expect(/"resolved": "https?:/.test(lock)).toBe(false);
  });
});
