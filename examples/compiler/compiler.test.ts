import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { connect, toPid } from "ergos";
import { afterEach, beforeEach, expect, test } from "vitest";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ergos-compiler-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const module = join(import.meta.dirname, "team.ts");
const program = { module, runtime: "process", name: "queen" } as const;
const TEAM = [
  "owner (kernel)",
  "queen (daemon)",
  "lead-agent (agent)",
  "architect (architect), asleep",
  "frontend (lead)",
  "middle (lead)",
  "backend (lead)",
  "lexer (worker)",
  "parser (worker)",
  "checker (worker)",
  "folder (worker)",
  "emitter (worker)",
  "test-runs (task)",
  "test-prints (task)",
];
const built = { instructions: 16, printed: [84, 9], review: { accepted: true } };

test("fourteen processes compile a program, and nothing of them is left", async () => {
  await using os = await connect({ dir });

  const pid = await os.spawn(program, { role: "daemon", restart: "on-failure" });
  const exit = await os.wait(pid);

  expect(exit).toMatchObject({ code: 0, result: { ...built, team: TEAM } });
  expect((await os.ps()).map(({ name }) => name)).toEqual(["owner"]);
});

test("a program with a fault is refused by the process that found it, up to the queen", async () => {
  await using os = await connect({ dir });
  const exit = await os.wait(await os.spawn(program, { input: { source: "let x = 1\nprint x + y" } }));
  expect(exit.error?.message).toContain("line 2: y has no value");
  expect((await os.ps()).map(({ name }) => name)).toEqual(["owner"]);
});

test("a host that is killed in the middle goes on with all of them", async () => {
  const bin = join(import.meta.dirname, "../../packages/cli/bin/ergos.js");
  const args = ["--conditions=@ergos/source", bin, "run", import.meta.dirname, "--runtime", "process", "--dir", dir];
  const host = spawn(process.execPath, args, { stdio: "ignore" });
  // Only the host makes the file: whoever connects before would be the host itself.
  while (!existsSync(join(dir, "owner.pass"))) await delay(10);
  // About the middle of what it does; where exactly does not matter.
  for (let count = 0; count < 9; await delay(10)) {
    await using looking = await connect({ dir });
    count = (await looking.ps()).length;
  }
  host.kill("SIGKILL");
  await once(host, "close");

  await using os = await connect({ dir });
  const queen = (await os.ps()).find(({ name }) => name === "team");
  const exit = await os.wait(queen?.pid ?? toPid(2));
  expect(exit).toMatchObject({ code: 0, result: built });
  expect((exit.result as { team: readonly string[] }).team).toHaveLength(TEAM.length);
});
