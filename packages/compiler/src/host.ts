// What the compiler sees of the machine: files to include, modules to find, the environment.

import { existsSync, lstatSync, readFileSync, realpathSync, statSync } from "node:fs";
import { dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import { MANIFEST_LIMITS } from "./limits.ts";
import type { ModuleFinding } from "./pipeline/node-compiler.ts";
import type { ReaderHost } from "./source/reader.ts";

export interface CompilerHost extends ReaderHost {
  readonly findModule?: (from: string, path: string) => ModuleFinding;
  /** Names of tools that each host has. Absent: calls of tools are not checked by name. */
  readonly tools?: readonly string[];
}

/** A host over real files. Includes stay inside of the manifest's folder and pass over no link. */
export function fileHost(manifest: string, environment: Readonly<Record<string, string | undefined>>): CompilerHost {
  const root = dirname(resolve(manifest));
  return {
    environment,
    include: (from, path) => {
      if (isAbsolute(path))
        return { refused: `${path} is absolute; includes are relative to the file that names them`, isMissing: false };
      const full = resolve(dirname(resolve(from)), path);
      const inside = relative(root, full);
      if (inside.startsWith("..") || isAbsolute(inside))
        return { refused: `${path} lies outside of ${root}`, isMissing: false };
      const link = linkOn(root, inside);
      if (link !== undefined) return { refused: `${link} is a link; includes pass over none`, isMissing: false };
      try {
        return { name: join(dirname(from), path), text: readText(full) };
      } catch (error) {
        return {
          refused: `${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`,
          isMissing: true,
        };
      }
    },
    findModule: (from, path) => findModule(dirname(resolve(from)), path),
  };
}

/** The first part of a path below a folder that is a symbolic link. */
function linkOn(root: string, inside: string): string | undefined {
  let at = root;
  for (const part of inside.split(sep)) {
    at = join(at, part);
    if (lstatSync(at, { throwIfNoEntry: false })?.isSymbolicLink() === true) return at;
  }
  return undefined;
}

/** A module beside a manifest, and what it exports as far as its text tells. */
function findModule(folder: string, path: string): ModuleFinding {
  if (!/^\.{0,2}\//.test(path))
    return { missing: `${JSON.stringify(path)} is no path of a module; begin with ./ or ../ or /` };
  const full = resolve(folder, path);
  if (!existsSync(full)) return { missing: `the module ${path} does not exist` };
  try {
    return { file: realpathSync(full), exports: exportsOf(readText(full)) };
  } catch (error) {
    return { missing: `the module ${path} cannot be read: ${error instanceof Error ? error.message : String(error)}` };
  }
}

/** The text of a regular file of bounded size: a device or a pipe would never end. */
function readText(file: string): string {
  const stat = statSync(file);
  if (!stat.isFile()) throw new TypeError(stat.isDirectory() ? "it is a directory" : "it is no regular file");
  if (stat.size > MANIFEST_LIMITS.fileBytesMax)
    throw new RangeError(`it has ${stat.size} bytes; at most ${MANIFEST_LIMITS.fileBytesMax} are allowed`);
  return readFileSync(file, "utf8");
}

/**
 * Names that a module's text exports; undefined where its text does not tell for sure: a module in which
 * anything looks unusual is believed.
 */
function exportsOf(source: string): readonly string[] | undefined {
  if (/\bexport\s*\*|\bmodule\.exports\b|\bexports\.\w+\s*=|\bexport\s+(?:const|let|var)\s*[[{]/.test(source))
    return undefined;
  // A declaration over several lines, and names that are no plain ones.
  if (/\bexport\s+(?:const|let|var)\s[^;\n]*,[ \t]*(?:\/\/.*)?\n/.test(source)) return undefined;
  if (/\bexport\s+[\w\s*]*[^\p{ASCII}]/u.test(source)) return undefined;
  const names = new Set<string>();
  for (const match of source.matchAll(/\bexport\s+(?:async\s+)?(?:function\s*\*?|class)\s+([\w$]+)/g))
    names.add(match[1] ?? "");
  for (const match of source.matchAll(/\bexport\s+(?:const|let|var)\s+([^;\n]*)/g)) {
    // Several in one declaration: every word that something is assigned to.
    for (const name of (match[1] ?? "").matchAll(/([\w$]+)\s*(?::[^=,]*)?=(?!=|>)/g)) names.add(name[1] ?? "");
    const first = /^[\w$]+/.exec(match[1] ?? "");
    if (first !== null) names.add(first[0]);
  }
  if (/\bexport\s+default\b/.test(source)) names.add("default");
  for (const match of source.matchAll(/\bexport\s*\{([^}]*)\}/g)) {
    const list = (match[1] ?? "").replaceAll(/\/\*[^]*?\*\/|\/\/.*/g, "");
    if (/[^\w$\s,]/.test(list)) return undefined;
    for (const part of list.split(",")) {
      const name =
        part
          .trim()
          .split(/\s+as\s+/)
          .at(-1) ?? "";
      if (name !== "") names.add(name);
    }
  }
  return [...names];
}
