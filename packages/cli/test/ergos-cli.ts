// The command line in a process of its own, as a user types it.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "vitest";

export const BIN: string = join(import.meta.dirname, "../bin/ergos.js");

export interface Answer {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The environment without the keys of whoever runs the tests, and with more. */
export function environment(more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const { OPENAI_API_KEY: _key, OPENAI_BASE_URL: _url, ERGOS_MODEL: _model, ...rest } = process.env;
  return { ...rest, NO_COLOR: "1", ...more };
}

/** A fresh working directory for each test of a file. */
export function useDirectory(): { readonly path: string } {
  const directory = { path: "" };
  beforeEach(() => {
    directory.path = mkdtempSync(join(tmpdir(), "ergos-cli-"));
  });
  afterEach(() => rmSync(directory.path, { recursive: true, force: true }));
  return directory;
}

export function runErgos(
  args: readonly string[],
  options: { readonly cwd: string; readonly env?: Readonly<Record<string, string>>; readonly input?: string },
): Answer {
  const { status, stdout, stderr } = spawnSync(process.execPath, [BIN, ...args], {
    cwd: options.cwd,
    encoding: "utf8",
    env: environment(options.env),
    timeout: 30_000,
    maxBuffer: 64 * 1024 * 1024,
    ...(options.input === undefined ? {} : { input: options.input }),
  });
  return { status, stdout, stderr };
}
