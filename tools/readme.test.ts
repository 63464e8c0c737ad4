// The program that the README shows runs as it stands there, and so do the commands of its tour.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

const root = join(import.meta.dirname, "..");
const readme = readFileSync(join(root, "README.md"), "utf8");

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ergos-readme-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test("the program runs", () => {
  const program = /```ts\n([\s\S]*?)```/.exec(readme)?.[1] ?? "";
  writeFileSync(join(dir, "program.ts"), program);
  writeFileSync(join(dir, "package.json"), '{ "type": "module" }');
  symlinkSync(join(root, "node_modules"), join(dir, "node_modules"));

  const { stdout, stderr } = spawnSync(process.execPath, ["--conditions=@ergos/source", "program.ts"], {
    cwd: dir,
    encoding: "utf8",
  });

  expect(stderr).toBe("");
  expect(stdout.trim()).toBe("1");
});

test("the commands of the tour work in their order", () => {
  const tour = /```sh\n(npx ergos ps --all[\s\S]*?)```/.exec(readme)?.[1] ?? "";
  const bin = join(root, "packages/cli/bin/ergos.js");
  const run = (args: readonly string[]): number | null =>
    spawnSync(process.execPath, [bin, ...args, "--dir", join(dir, "data")], { cwd: root, encoding: "utf8" }).status;
  expect(run(["run", "examples/digest", "--resume"])).toBe(0);

  const commands = [...tour.matchAll(/^npx ergos ([^#\n]+)/gm)].map((match) => (match[1] ?? "").trim().split(/\s+/));

  expect(commands.length).toBeGreaterThan(3);
  for (const command of commands) {
    const args = command.map((word) => word.replace("YOUR_FOLDER", join(root, "docs")));
    expect([args.join(" "), run(args)]).toEqual([args.join(" "), 0]);
  }
}, 60_000);
