// The environment: `.env` is read, the real environment wins.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseEnv } from "node:util";

/** Adds the variables of a directory's `.env` to the environment where they are not set. */
export function loadEnvironment(directory: string, environment: NodeJS.ProcessEnv = process.env): void {
  let text: string;
  try {
    text = readFileSync(join(directory, ".env"), "utf8");
  } catch {
    return;
  }
  for (const [name, value] of Object.entries(parseEnv(text))) environment[name] ??= value;
}
