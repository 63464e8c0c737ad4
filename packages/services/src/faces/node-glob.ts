// Paths that match patterns, as `glob` of `node:fs/promises` finds them.

import { posix } from "node:path";
import type { Found } from "./node-dir.ts";
import { NodeDirent } from "./node-stat.ts";

export interface GlobOptions {
  readonly cwd?: string | URL;
  /** Paths that are left out, and what is below them. */
  readonly exclude?: ((path: string | NodeDirent) => boolean) | readonly string[];
  readonly withFileTypes?: boolean;
}

const MAGIC = /[*?[\]{}()!+@\\]/;

/** @param list the entries of a directory, none where there is no such */
export async function* globbed(
  patterns: string | readonly string[],
  cwd: string,
  { exclude = [], withFileTypes = false }: GlobOptions,
  list: (directory: string) => AsyncIterable<Found>,
): AsyncGenerator<string | NodeDirent, void, undefined> {
  const seen = new Set<string>();
  const isOutByName = (path: string): boolean => {
    const name = path.startsWith("/") ? posix.relative(cwd, path) : path;
    return typeof exclude !== "function" && exclude.some((one) => posix.matchesGlob(name, one));
  };
  const isOut = (path: string, entry: NodeDirent): boolean =>
    typeof exclude === "function" ? exclude(withFileTypes ? entry : path) : isOutByName(path);
  for (const written of typeof patterns === "string" ? [patterns] : patterns) {
    // A slash behind it says that it is a directory.
    const isFolder = written.endsWith("/");
    const pattern = posix.normalize(written).replace(/(?<=.)\/$/, "");
    const parts = pattern.split("/");
    const deepest = parts.some((part) => part.includes("**")) ? Infinity : parts.length;
    // All that is below a directory is that directory too.
    const top = parts.at(-1) === "**" ? posix.dirname(pattern) : undefined;
    const plain = (top ?? pattern).split("/").findIndex((part) => MAGIC.test(part));
    // What has no magic in it is looked for in its directory; what has begins where the magic does.
    const start = parts.slice(0, plain >= 0 ? plain : top === undefined ? -1 : -2).join("/");
    const base = start === "" && pattern.startsWith("/") ? "/" : start;
    const isWanted = (path: string, isDirectory: boolean): boolean =>
      (posix.matchesGlob(path, pattern) && (isDirectory || !isFolder)) ||
      (isDirectory && top !== undefined && posix.matchesGlob(path, top));
    const within = async function* (below: string): AsyncGenerator<string | NodeDirent, void, undefined> {
      for await (const { entry, parent } of list(posix.resolve(cwd, below))) {
        const path = posix.join(below, entry.name);
        const found = new NodeDirent(entry, parent);
        if (isOut(path, found)) continue;
        if (!seen.has(path) && isWanted(path, found.isDirectory())) {
          seen.add(path);
          yield withFileTypes ? found : path;
        }
        if (entry.type === "directory" && path.split("/").length < deepest) yield* within(path);
      }
    };
    // What is left out, is with what is below it.
    const isIn = base.split("/").every((_part, at, all) => !isOutByName(all.slice(0, at + 1).join("/")));
    if (isIn) yield* within(base);
  }
}
