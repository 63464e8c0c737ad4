// `ergos glob` and `ergos grep`: finding files of the namespace.

import type { DirEntry, Os } from "@ergos/kernel";
import { compileGlob, isKernelError } from "@ergos/kernel";
import {
  type Command,
  EXIT_FAILED,
  EXIT_OK,
  type Invocation,
  UsageError,
  isSet,
  openDirectory,
  required,
  textOption,
} from "../command.ts";

/** Files that one command looks at. */
const FILES_MAX = 1_000_000;
const MATCHES_MAX = 10_000;
const GREP_BYTES_MAX = 16 * 1024 * 1024;

export const globCommand: Command = {
  name: "glob",
  summary: "list files of the namespace whose paths match",
  usage: "<glob>... [--limit N]",
  examples: ["ergos glob '/home/**/*.md'", "ergos glob '/proc/*/status' --json"],
  options: { limit: { type: "string" } },
  run: async (invocation) => {
    required(invocation, 0, "the glob");
    const limit = limitOf(invocation);
    await using os = await openDirectory(invocation);
    const found: string[] = [];
    for (const pattern of invocation.positionals) {
      for await (const { path } of matching(os, pattern)) {
        if (found.length >= limit) break;
        found.push(path);
      }
    }
    invocation.out.answer(found, (paths) => paths.join("\n"));
    return found.length === 0 ? EXIT_FAILED : EXIT_OK;
  },
};

export const grepCommand: Command = {
  name: "grep",
  summary: "show lines of files of the namespace that match",
  usage: "<pattern> <glob>... [--ignore-case] [--limit N]",
  examples: ["ergos grep 'error' '/home/**'", "ergos grep -i 'licence' '/home/*.md' --json"],
  options: { "ignore-case": { type: "boolean", short: "i" }, limit: { type: "string" } },
  run: async (invocation) => {
    const pattern = patternOf(required(invocation, 0, "the pattern"), isSet(invocation, "ignore-case"));
    required(invocation, 1, "the glob");
    const limit = limitOf(invocation);
    await using os = await openDirectory(invocation);
    const found: { path: string; line: number; text: string }[] = [];
    for (const glob of invocation.positionals.slice(1)) {
      for await (const { path, entry } of matching(os, glob)) {
        if (found.length >= limit) break;
        if (entry.type !== "file") continue;
        for (const [at, text] of (await readLines(os, path)).entries()) {
          if (pattern.test(text)) found.push({ path, line: at + 1, text });
          if (found.length >= limit) break;
        }
      }
    }
    invocation.out.answer(found, (list) =>
      list.map(({ path, line, text }) => `${invocation.out.style("magenta", path)}:${line}:${text}`).join("\n"),
    );
    return found.length === 0 ? EXIT_FAILED : EXIT_OK;
  },
};

function limitOf(invocation: Invocation): number {
  const limit = Number(textOption(invocation, "limit") ?? MATCHES_MAX);
  if (!Number.isSafeInteger(limit) || limit < 1) throw new UsageError("--limit takes a whole number of at least 1");
  return limit;
}

function patternOf(text: string, ignoreCase: boolean): RegExp {
  try {
    return new RegExp(text, ignoreCase ? "iu" : "u");
  } catch (error) {
    throw new UsageError(
      `the pattern is no regular expression: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

/** Binary files and those that went away have no lines. */
async function readLines(os: Os, path: string): Promise<readonly string[]> {
  try {
    const bytes = await os.fs.read(path, { offset: 0, length: GREP_BYTES_MAX });
    return bytes.subarray(0, 4096).includes(0) ? [] : new TextDecoder().decode(bytes).split("\n");
  } catch (error) {
    if (isKernelError(error)) return [];
    throw error;
  }
}

/** Entries whose paths match, walking only where a match can be. */
async function* matching(
  os: Os,
  pattern: string,
): AsyncGenerator<{ readonly path: string; readonly entry: DirEntry }, void, undefined> {
  const absolute = pattern.startsWith("/") ? pattern : `/${pattern}`;
  const matches = compileGlob(absolute);
  const segments = absolute.split("/").slice(1);
  const fixed = segments.findIndex((segment) => /[*?]/.test(segment));
  const root = fixed < 0 ? segments.slice(0, -1) : segments.slice(0, fixed);
  const depth = segments.includes("**") ? Number.POSITIVE_INFINITY : segments.length;
  let seen = 0;
  const walk = async function* (
    directory: string,
    level: number,
  ): AsyncGenerator<{ path: string; entry: DirEntry }, void, undefined> {
    for await (const entry of entriesOf(os, directory)) {
      if (++seen > FILES_MAX) return;
      const path = `${directory === "/" ? "" : directory}/${entry.name}`;
      if (matches(path)) yield { path, entry };
      if (entry.type === "directory" && level < depth) yield* walk(path, level + 1);
    }
  };
  yield* walk(`/${root.join("/")}`, root.length + 1);
}

async function* entriesOf(os: Os, directory: string): AsyncGenerator<DirEntry, void, undefined> {
  for (let after: string | undefined; ;) {
    let page: readonly DirEntry[];
    try {
      page = await os.fs.readdir(directory, after === undefined ? {} : { after });
    } catch (error) {
      // A directory that went away, or may not be read, has no matches.
      if (isKernelError(error)) return;
      throw error;
    }
    yield* page;
    const last = page.at(-1);
    if (last === undefined || page.length < 10_000) return;
    after = last.name;
  }
}
