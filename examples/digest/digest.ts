// The digest: what is this folder of documents about?
//
// Every README and every package manifest below a folder is read, measured, summarised and classified, its
// licence and links extracted, in parallel, each finished piece recorded; then all of it is reduced to one
// Markdown report and a JSON index, written through the VFS.
//
//   ergos run examples/digest                          the packages that this project is built on
//   ergos run examples/digest --input dir=YOUR_FOLDER  your own documents

import { basename, resolve } from "node:path";
import { type RunContext, pipeline } from "ergos";
import { type Document, type Entry, extractLicence, extractLinks, isManifest, measure, titleOf } from "./document.ts";
import { toMarkdown } from "./report.ts";

export interface DigestInput {
  /** Folder of the machine; the installed packages unless given. */
  readonly dir?: string;
  /** At most so many documents. */
  readonly limit?: number;
  /** Milliseconds of extra work per document, to watch it or to kill it on the way. */
  readonly slowMs?: number;
}

const DEFAULT_DIR = "../../node_modules";

/** Labels with the words that speak for them. */
export const TOPICS: readonly string[] = [
  "testing: test tests testing vitest assertion mock coverage runner spy expect snapshot",
  "build: bundler bundle compile compiler transform plugin vite rolldown minify typescript build rollup oxc",
  "linting: lint linter format formatter rules style unused oxlint oxfmt knip",
  "filesystem: file files filesystem path directory glob watch fs watcher folder pattern",
  "data: parse parser json yaml schema validate validation serialize encode decode source map ast",
  "runtime: node node.js runtime binary bindings wasm platform process engine native",
  "terminal: terminal color cli console argument prompt ansi output command",
  "algorithms: fast algorithm random tree sorted performance utility data-structure iterator",
  "agents: agent agents pipeline durable journal kernel capability budget",
  "other: other",
];

const nameOfDir = (dir: string): string => basename(resolve(dir)).replaceAll(/[^A-Za-z0-9_.-]/g, "_") || "folder";
const mountPoint = (input: DigestInput | undefined): string =>
  `/srv/${input?.dir === undefined ? "packages" : nameOfDir(input.dir)}`;

/** The folder is mounted read-only: the program can read it and nothing beside it. */
export const mounts = (
  input: DigestInput | undefined,
  { cwd, moduleDir }: { cwd: string; moduleDir: string },
): { at: string; path: string }[] => [
  { at: mountPoint(input), path: input?.dir === undefined ? resolve(moduleDir, DEFAULT_DIR) : resolve(cwd, input.dir) },
];

export default pipeline<DigestInput>("digest")
  .node("scan", async (input, ctx) => {
    const root = mountPoint(input);
    const entries = input.dir === undefined ? await scanPackages(root, ctx) : await scanFolder(root, ctx);
    await ctx.log(`${entries.length} documents below ${root}`);
    return entries.slice(0, input.limit ?? entries.length);
  })
  .map("document", { over: "scan", concurrency: 8, key: (entry) => entry.path, onError: "collect" }, digestOne)
  .node("report", { needs: ["document"] }, async ({ document }, ctx) => {
    const done = document.flatMap((result) => ("value" in result ? [result.value] : []));
    const failed = document.flatMap((result) => ("error" in result ? [result.error] : []));
    const folder = `/home/digest/${ctx.runId}`;
    const markdown = toMarkdown(
      done,
      failed,
      ctx.input.dir === undefined ? "What this is built on" : `What is in ${ctx.input.dir}`,
    );
    await ctx.os.fs.writeFile(`${folder}/report.md`, markdown);
    await ctx.os.fs.writeFile(`${folder}/index.json`, JSON.stringify(done, undefined, 2), { durability: "flushed" });
    return {
      report: `${folder}/report.md`,
      index: `${folder}/index.json`,
      documents: done.length,
      failed: failed.length,
      runId: ctx.runId,
    };
  })
  .output("report");

/** What to print after a run. */
export const epilogue = (result: unknown): string => {
  // The result of the node `report` above.
  const { report, index, documents, failed, runId } = result as {
    report: string;
    index: string;
    documents: number;
    failed: number;
    runId: string;
  };
  return [
    `${documents} documents digested${failed === 0 ? "" : `, ${failed} could not be read`}.`,
    "",
    `  report  ${report}`,
    `  index   ${index}`,
    "",
    "try next:",
    `  npx ergos cat ${report}`,
    "  npx ergos ps --all",
    `  npx ergos cat /proc/runs/${runId}/events`,
    "  npx ergos run examples/digest --input dir=YOUR_FOLDER",
  ].join("\n");
};

async function digestOne(entry: Entry, ctx: RunContext<DigestInput>): Promise<Document> {
  const text = await ctx.step("read", () => readText(entry.path, ctx));
  const { slowMs } = ctx.input;
  if (slowMs !== undefined && slowMs > 0) await ctx.sleep(slowMs);
  const title = titleOf(entry, text);
  const prose = isManifest(entry.path) ? describeManifest(text) : text;
  const summary = await ctx.infer("summarise", {
    messages: [{ role: "user", content: `Summarise this document in two sentences.\n\n${prose}` }],
    task: { kind: "summarise", sentences: 2, text: prose },
    maxOutputTokens: 200,
  });
  const topic = await ctx.infer("classify", {
    messages: [
      {
        role: "user",
        content: `Which one of these topics fits best? ${TOPICS.map((label) => label.split(":")[0]).join(", ")}\n\n${prose}`,
      },
    ],
    task: { kind: "classify", labels: TOPICS, text: `${title} ${prose}` },
    maxOutputTokens: 10,
  });
  return {
    path: entry.path,
    package: entry.package,
    title,
    topic: topic.text,
    summary: summary.text.replaceAll(/\s+/g, " ").trim(),
    licence: extractLicence(text, entry.path),
    links: extractLinks(text),
    ...measure(text),
  };
}

/** The first 64 KiB of a document: enough to know what it is about. */
async function readText(path: string, ctx: RunContext<DigestInput>): Promise<string> {
  return new TextDecoder().decode(await ctx.os.fs.read(path, { offset: 0, length: 64 * 1024 }));
}

function describeManifest(text: string): string {
  try {
    // What a manifest says is shown only if it is text.
    const { name, description, keywords } = JSON.parse(text) as Readonly<Record<string, unknown>>;
    const words = Array.isArray(keywords) ? `It is about ${keywords.slice(0, 20).map(String).join(", ")}.` : "";
    const what = typeof description === "string" ? description.replace(/[.]?$/, ".") : "";
    return `${typeof name === "string" ? name : "This package"} is described by its manifest. ${what} ${words}`;
  } catch {
    return text;
  }
}

const isDocument = (name: string): boolean =>
  /^readme(\.(md|markdown|txt|rst))?$/i.test(name) || name === "package.json";

/** README and manifest of each package, scoped ones included. */
async function scanPackages(root: string, ctx: RunContext<DigestInput>): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (const { name } of await ctx.os.fs.readdir(root)) {
    if (name.startsWith(".")) continue;
    const packages = name.startsWith("@")
      ? (await listDirectory(`${root}/${name}`, ctx)).map((entry) => `${name}/${entry.name}`)
      : [name];
    for (const one of packages) {
      for (const file of await listDirectory(`${root}/${one}`, ctx)) {
        if (file.type === "file" && isDocument(file.name))
          entries.push({ path: `${root}/${one}/${file.name}`, package: one });
      }
    }
  }
  return entries;
}

/** Text documents of any folder, four levels deep. */
async function scanFolder(root: string, ctx: RunContext<DigestInput>, depth = 4): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (const { name, type } of await listDirectory(root, ctx)) {
    if (name.startsWith(".") || name === "node_modules") continue;
    const path = `${root}/${name}`;
    if (type === "directory" && depth > 1) entries.push(...(await scanFolder(path, ctx, depth - 1)));
    else if (type === "file" && /\.(md|markdown|txt|rst|adoc|org|html?|tex|json)$/i.test(name))
      entries.push({ path, package: basename(root) });
  }
  return entries;
}

/** What cannot be listed (a link out of the folder, a file that went away) holds no documents. */
async function listDirectory(
  path: string,
  ctx: RunContext<DigestInput>,
): Promise<readonly { name: string; type: string }[]> {
  try {
    return await ctx.os.fs.readdir(path);
  } catch {
    return [];
  }
}
