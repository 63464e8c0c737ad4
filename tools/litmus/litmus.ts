// Runs litmus, the test suite for WebDAV servers that is not ours, against `ergos serve --webdav`.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface LitmusReport {
  readonly passed: number;
  readonly failed: number;
  /** Lines about what failed, and warnings. */
  readonly complaints: readonly string[];
}

const isComplaint = (line: string): boolean => /FAIL|WARNING/.test(line);

const BIN = join(import.meta.dirname, "../../packages/cli/bin/ergos.js");
const SUITES = "basic copymove props locks http";

/** Whether litmus is installed; it is the Debian package `litmus`. */
export const hasLitmus = (): boolean => spawnSync("litmus", ["--version"]).error === undefined;

/** Starts a host on a free port over an empty directory, and runs all suites against it. */
export async function runLitmus(): Promise<LitmusReport> {
  const dir = mkdtempSync(join(tmpdir(), "ergos-litmus-"));
  const server = spawn(process.execPath, [BIN, "serve", "--webdav", "--port", "0", "--json"], {
    cwd: dir,
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    const { url, password } = await answerOf(server);
    const child = spawn("litmus", ["-k", `${url}srv/`, "me", password], {
      cwd: dir,
      env: { ...process.env, TESTS: SUITES },
    });
    let text = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (piece: Buffer) => (text += piece.toString()));
    await once(child, "close");
    const counts = [...text.matchAll(/(\d+) passed, (\d+) failed/g)];
    const lines = text.split("\n");
    return {
      passed: counts.reduce((sum, [, passed]) => sum + Number(passed), 0),
      failed: counts.reduce((sum, [, , failed]) => sum + Number(failed), 0),
      // One that has not begun says why.
      complaints: counts.length === 0 ? ["litmus has run no suite:", ...lines] : lines.filter(isComplaint),
    };
  } finally {
    if (server.exitCode === null) {
      server.kill("SIGTERM");
      await once(server, "close");
    }
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Where a server listens, and the password of its owner. */
async function answerOf(server: ChildProcess): Promise<{ readonly url: string; readonly password: string }> {
  let text = "";
  for await (const piece of server.stdout ?? []) {
    text += String(piece);
    // Printed by the command, as one document.
    if (text.trimEnd().endsWith("}")) return JSON.parse(text) as { readonly url: string; readonly password: string };
  }
  throw new TypeError(`the server ended before it listened: ${text}`);
}
