// Imports of modules as they are now, with the modules beside them that they import: a host lives longer than what its
// user edits.

import { hash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { registerHooks } from "node:module";
import { dirname, relative, resolve } from "node:path";
import { pathToFileURL } from "node:url";

/** Modules that are looked into for what they import. */
const MODULES_MAX = 2000;
const RELATIVE = /\b(?:from|import)\s*\(?\s*["'](\.{1,2}\/[^"'\n]+)["']/g;
const VERSION = "v";
/** Where this program itself lies, as sources; of its modules there is one copy. */
const OWN = import.meta.url.endsWith(".ts") ? new URL("../../", import.meta.url).href : undefined;

/** Imports a module under a version that changes with it and with every module that it names by a relative path. */
export async function importFresh(file: string): Promise<unknown> {
  const url = pathToFileURL(file);
  url.searchParams.set(VERSION, contentOf(file).slice(0, 12));
  // While its graph is loaded, what it names beside it gets its version.
  const hooks = registerHooks({
    resolve: (specifier, context, next) => {
      const found = next(specifier, context);
      const version = context.parentURL === undefined ? null : versionIn(context.parentURL);
      return version !== null && specifier.startsWith(".") && isOfUser(found.url)
        ? { ...found, url: `${found.url}?${VERSION}=${version}` }
        : found;
    },
  });
  try {
    return await import(url.href);
  } finally {
    hooks.deregister();
  }
}

const versionIn = (url: string): string | null => (url.includes("?") ? new URL(url).searchParams.get(VERSION) : null);

const isOfUser = (url: string): boolean =>
  url.startsWith("file:") &&
  !url.includes("?") &&
  !url.includes("/node_modules/") &&
  (OWN === undefined || !url.startsWith(OWN));

/**
 * A hash over a module and the files that it imports by relative paths, directly or not, wherever they lie together;
 * of a module without such imports its SHA-256.
 */
export function contentOf(file: string): string {
  const seen = new Set<string>();
  const todo = [file];
  const imported: string[] = [];
  let own = "";
  for (let at = todo.pop(); at !== undefined && seen.size < MODULES_MAX; at = todo.pop()) {
    if (seen.has(at)) continue;
    seen.add(at);
    const text = readFileSync(at, "utf8");
    if (at === file) own = text;
    else imported.push(`${relative(dirname(file), at)}\n${text}`);
    if (!/\.[cm]?[jt]sx?$/.test(at) || (!isOfUser(pathToFileURL(at).href) && at !== file)) continue;
    for (const [, specifier = ""] of text.matchAll(RELATIVE)) {
      const next = resolve(dirname(at), specifier);
      if (isFile(next)) todo.push(next);
    }
  }
  return hash("sha256", [own, ...imported.toSorted()].join("\n"), "hex");
}

/** What looks like an import may be any text. */
function isFile(path: string): boolean {
  try {
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
