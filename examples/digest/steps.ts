// The functions that `digest.yaml` calls.

import { basename } from "node:path";
import type { RunContext } from "ergos";
import { type Document, type Entry, extractLicence, extractLinks, isManifest, measure, titleOf } from "./document.ts";
import { toMarkdown } from "./report.ts";

/** The documents below a folder. */
export async function scan(
  { root, packages, limit }: { readonly root: string; readonly packages: boolean; readonly limit: number | null },
  ctx: RunContext,
): Promise<readonly Entry[]> {
  const entries = packages ? await scanPackages(root, ctx) : await scanFolder(root, ctx);
  await ctx.log(`${entries.length} documents below ${root}`);
  return entries.slice(0, limit ?? entries.length);
}

/** The text of a document, its title, and what of it is prose. */
export async function read(
  { entry, slowMs }: { readonly entry: Entry; readonly slowMs: number },
  ctx: RunContext,
): Promise<{ readonly text: string; readonly title: string; readonly prose: string }> {
  const text = await readText(entry.path, ctx);
  if (slowMs > 0) await ctx.sleep(slowMs);
  return { text, title: titleOf(entry, text), prose: isManifest(entry.path) ? describeManifest(text) : text };
}

/** Everything that is known of a document. */
export function describe({
  entry,
  text,
  title,
  summary,
  topic,
}: {
  readonly entry: Entry;
  readonly text: string;
  readonly title: string;
  readonly summary: string;
  readonly topic: string;
}): Document {
  return {
    path: entry.path,
    package: entry.package,
    title,
    topic,
    summary: summary.replaceAll(/\s+/g, " ").trim(),
    licence: extractLicence(text, entry.path),
    links: extractLinks(text),
    ...measure(text),
  };
}

type Result = { readonly value: Document } | { readonly error: string };

/** Writes the report and the index. */
export async function report(
  { documents, title }: { readonly documents: readonly Result[]; readonly title: string },
  ctx: RunContext,
): Promise<Readonly<Record<string, string | number>>> {
  const done = documents.flatMap((result) => ("value" in result ? [result.value] : []));
  const failed = documents.flatMap((result) => ("error" in result ? [result.error] : []));
  const folder = `/home/digest/${ctx.runId}`;
  await ctx.os.fs.writeFile(`${folder}/report.md`, toMarkdown(done, failed, title));
  await ctx.os.fs.writeFile(`${folder}/index.json`, JSON.stringify(done, undefined, 2), { durability: "flushed" });
  return {
    report: `${folder}/report.md`,
    index: `${folder}/index.json`,
    documents: done.length,
    failed: failed.length,
    runId: ctx.runId,
  };
}

async function readText(path: string, ctx: RunContext): Promise<string> {
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
async function scanPackages(root: string, ctx: RunContext): Promise<Entry[]> {
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
async function scanFolder(root: string, ctx: RunContext, depth = 4): Promise<Entry[]> {
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
async function listDirectory(path: string, ctx: RunContext): Promise<readonly { name: string; type: string }[]> {
  try {
    return await ctx.os.fs.readdir(path);
  } catch {
    return [];
  }
}
