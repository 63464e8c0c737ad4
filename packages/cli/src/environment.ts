// The environment: `.env` is read, the real environment wins.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseEnv } from "node:util";

/** Adds the variables of a directory's `.env` to the environment where they are not set. */
export function loadEnvironment(directory: string, environment: NodeJS.ProcessEnv = process.env): void {
  let text: string;
  try {
    text = readFileSync(join(directory, ".env"), "utf8");
  } catch (error) {
    // One that is there and cannot be read may hold what somebody counts on.
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "ENOTDIR") process.stderr.write(`.env is not read: ${message}\n`);
    return;
  }
  for (const [name, value] of Object.entries(parseEnv(text.replace(/^\uFEFF/, "")))) environment[name] ??= value;
}
