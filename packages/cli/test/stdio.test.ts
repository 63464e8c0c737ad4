// Programs in a pipeline of the shell: standard input and output as pipes of the namespace.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { type Answer, BIN, environment, runErgos, useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();
const program = (body: string): string => {
  writeFileSync(join(directory.path, "program.mjs"), `export default async (_input, ctx) => {\n${body}\n};\n`);
  return "program.mjs";
};
const piped = (file: string, input: string, ...more: readonly string[]): Answer =>
  runErgos(["run", file, "--stdin", "/srv/in", "--stdout", "/srv/out", ...more], { cwd: directory.path, input });

const COPIES = `
  const [from, to] = ["/srv/in", "/srv/out"].map((path) => ctx.os.fs.pipe(path));
  let size = 0;
  for await (const piece of from) {
    size += piece.length;
    await to.write(piece);
  }
  return { size };`;

test("what comes in goes through the program, and nothing else comes out", () => {
  const text = "a line of some length, and one more\n".repeat(150_000);
  const { status, stdout, stderr } = piped(program(COPIES), text, "--json");
  expect(status).toBe(0);
  expect(stdout === text).toBe(true);
  expect(JSON.parse(stderr)).toMatchObject({ code: 0, result: { size: text.length } });
  // They were there for that run only.
  expect(runErgos(["ls", "/srv"], { cwd: directory.path }).stdout).toBe("queues/\n");
});

test("nothing is input too", () => {
  expect(piped(program(COPIES), "")).toMatchObject({ status: 0, stdout: "" });
});

test("a run that does not read to the end ends the command, whoever still writes", async () => {
  const file = program(`
    const piece = await ctx.os.fs.pipe("/srv/in").read();
    return piece.length;`);
  const args = [BIN, "run", file, "--stdin", "/srv/in"];
  const child = spawn(process.execPath, args, { cwd: directory.path, env: environment() });
  child.stdin.write("12345");
  const [code] = (await once(child, "exit")) as [number];
  child.stdin.destroy();
  expect(code).toBe(0);
});

test("a run that fails has its status, and what it wrote before is written", () => {
  const { status, stdout, stderr } = piped(
    program('await ctx.os.fs.pipe("/srv/out").write("first\\n"); throw new TypeError("no second");'),
    "",
  );
  expect([status, stdout]).toEqual([1, "first\n"]);
  expect(stderr).toContain("no second");
});

test("what is there already is refused before anything runs, and nothing is left", () => {
  const { path: cwd } = directory;
  const file = program("return 1;");
  runErgos(["write", "/srv/out", "text"], { cwd });
  expect(piped(file, "")).toMatchObject({ status: 1, stderr: expect.stringContaining("[EEXIST] /srv/out") as unknown });
  expect(runErgos(["ps", "--all", "--json"], { cwd }).stdout).not.toContain("program");
  expect(runErgos(["ls", "/srv"], { cwd }).stdout).toBe("out\nqueues/\n");
});

test("a program that removes its own pipes has its result all the same", () => {
  expect(piped(program('await ctx.os.fs.unlink("/srv/out"); return 7;'), "", "--json").stderr).toContain('"result":7');
});

test("in a host that stays a run does not wait for a command that has gone, and others' pipes are left alone", async () => {
  const { path: cwd } = directory;
  const host = spawn(process.execPath, [BIN, "up"], { cwd, env: environment(), stdio: ["ignore", "pipe", "inherit"] });
  await once(host.stdout, "data");
  const endless = program(`
    for (;;) await ctx.os.fs.pipe("/srv/out").write(new Uint8Array(65536));`);
  const first = spawn(process.execPath, [BIN, "run", endless, "--stdout", "/srv/out"], { cwd, env: environment() });
  await once(first.stdout, "data");
  expect(runErgos(["run", endless, "--stdout", "/srv/out"], { cwd })).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("[EEXIST] /srv/out") as unknown,
  });
  first.stdout.destroy();
  await once(first, "exit");
  const states = (): string => runErgos(["ps", "--all", "--json"], { cwd }).stdout;
  await vi.waitFor(() => expect(states()).toContain("EPIPE"), 10_000);
  expect(runErgos(["ls", "/srv"], { cwd }).stdout).toBe("queues/\n");
  host.kill("SIGTERM");
  await once(host, "exit");
}, 60_000);
