// `ergos glob` and `ergos grep`: finding files of the namespace.

import { isKernelError, plainMessage } from "@ergos/kernel";
import { type Match, globFiles, grepFiles } from "@ergos/services";
import {
  type Command,
  EXIT_FAILED,
  EXIT_OK,
  type Invocation,
  isSet,
  openDirectory,
  required,
  UsageError,
  wholeOption,
} from "../command.ts";

const MATCHES_MAX = 10_000;

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
      if (found.length >= limit) break;
      for await (const { path } of globFiles(os.fs, pattern, { limit: limit - found.length })) found.push(path);
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
    const pattern = required(invocation, 0, "the pattern");
    required(invocation, 1, "the glob");
    const limit = limitOf(invocation);
    const ignoreCase = isSet(invocation, "ignore-case");
    await using os = await openDirectory(invocation);
    const found: Match[] = [];
    for (const glob of invocation.positionals.slice(1)) {
      if (found.length >= limit) break;
      const options = { pattern, glob, ignoreCase, limit: limit - found.length };
      try {
        for await (const match of grepFiles(os.fs, options)) found.push(match);
      } catch (error) {
        throw isKernelError(error) && error.code === "EINVAL" ? new UsageError(plainMessage(error.message)) : error;
      }
    }
    invocation.out.answer(found, (list) =>
      list.map(({ path, line, text }) => `${invocation.out.style("magenta", path)}:${line}:${text}`).join("\n"),
    );
    return found.length === 0 ? EXIT_FAILED : EXIT_OK;
  },
};

function limitOf(invocation: Invocation): number {
  return wholeOption(invocation, "limit", MATCHES_MAX);
}
