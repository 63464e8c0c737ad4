// Rights, questions and budgets as a user meets them on the command line.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { beforeEach, expect, test } from "vitest";
import { type Answer, BIN, environment, runErgos, useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();
let cwd: string;
beforeEach(() => {
  cwd = directory.path;
});

const ergos = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Answer =>
  runErgos(args, { cwd, env });
const json = (args: readonly string[]): unknown => JSON.parse(ergos([...args, "--json"]).stdout) as unknown;
const manifest = (spec: string): void =>
  writeFileSync(
    join(cwd, "p.yaml"),
    `apiVersion: ergos/v1\nkind: Pipeline\nmetadata: { name: sample, description: a sample }\nspec:\n${spec}`,
  );
const CALLS = `  nodes:
    - { name: a, kind: llm, prompt: "say hello" }
    - { name: b, kind: llm, prompt: "say {{ a }}" }
    - { name: c, kind: llm, prompt: "say {{ b }}" }
`;
const until = async (look: () => boolean): Promise<void> => {
  for (let tries = 0; tries < 60 && !look(); tries++) await delay(100);
};

test("a run waits for a person and for budget, and other commands let it go on", async () => {
  manifest(`  caps: [llm, "ask tool.call:write_file", "fs.*:/srv/**"]
  limits: { maxLlmCalls: 2, onLimit: suspend }
${CALLS}    - { name: w, kind: tool, tool: write_file, arguments: { path: /srv/a, content: "{{ a }}" } }
`);
  const run = spawn(process.execPath, [BIN, "run", "p.yaml"], { cwd, env: environment() });
  let told = "";
  run.stderr.on("data", (chunk: Buffer) => (told += String(chunk)));
  await until(() => told.includes("ergos answer 1 allow|deny") && told.includes("ergos budget 2 --add modelCalls=N"));

  expect(json(["asks"])).toMatchObject([{ id: 1, pid: 2, right: "tool.call", resource: "write_file" }]);
  expect(ergos(["answer", "1", "allow"])).toMatchObject({ status: 0 });
  expect(ergos(["answer", "1", "allow"])).toMatchObject({ status: 1 });
  expect(ergos(["budget", "2"]).stdout).toMatch(/modelCalls +2 +2 .*100 %/);
  expect(ergos(["budget", "2", "--add", "calls=1"])).toMatchObject({ status: 0 });
  const [status] = (await once(run, "close")) as [number];

  expect(status).toBe(0);
  expect(ergos(["cat", "/srv/a"]).stdout).toContain("offline model");
  expect(json(["usage", "--by", "run,tool"])).toMatchObject([
    { key: { run: "sample-2", tool: "-" }, used: { modelCalls: 3 } },
    { key: { run: "sample-2", tool: "write_file" }, used: { toolCalls: 1 } },
  ]);
}, 20_000);

test("a run that used up its budget goes on with more, and keeps what it has done", () => {
  manifest(CALLS);

  const failed = ergos(["run", "p.yaml", "--limit", "calls=2"]);
  const again = ergos(["resume", "2", "--limit", "calls=1"]);

  expect(failed).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("needs 1 modelCalls, and 0 modelCalls of 2") as unknown,
  });
  expect(again.stdout).toMatch(/completed .*\(2 kept from before\), 3 model calls/);
  expect(ergos(["run", "p.yaml", "--limit", "cost=-1"])).toMatchObject({ status: 2 });
  expect(ergos(["run", "p.yaml", "--limit", "coins=1"])).toMatchObject({ status: 2 });
});

test("caps narrow a run, and what is denied says which grant is missing and why", () => {
  mkdirSync(join(cwd, "sub"));
  manifest(`  nodes: [{ name: w, kind: tool, tool: write_file, arguments: { path: /etc/a, content: x } }]\n`);

  const denied = ergos(["run", "p.yaml", "--cap", "tool:write_file", "--cap", "fs.write:/srv/**"]);

  expect(denied.status).toBe(1);
  expect(denied.stderr).toContain("needs the grant fs.write:/etc/a");
  expect(ergos(["why", "2", "fs.write", "/etc/a"])).toMatchObject({
    status: 1,
    stdout: expect.stringContaining("may not fs.write /etc/a") as unknown,
  });
  expect(ergos(["why", "2", "fs.write", "/srv/a"])).toMatchObject({
    status: 0,
    stdout: expect.stringContaining("fs.write:/srv/** (2:") as unknown,
  });
  expect(json(["caps", "2"])).toMatchObject([{ layer: "2" }]);
  expect(ergos(["run", "p.yaml", "--cap", "fs.wirte"])).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("fs.write") as unknown,
  });
});

test("caps and limits of a manifest are enforced, and checked before it runs", () => {
  manifest(`  caps: [tool:read_file]\n${CALLS}`);
  expect(ergos(["validate", "p.yaml"])).toMatchObject({
    status: 1,
    stdout: expect.stringContaining("E603") as unknown,
  });

  manifest(`  limits: { maxTotalTokens: 10, maxDurationMs: 1m, onLimit: fail }\n${CALLS}`);
  const run = ergos(["run", "p.yaml"]);

  expect(run).toMatchObject({ status: 1, stderr: expect.stringContaining("EDQUOT") as unknown });
  expect(ergos(["plan", "p.yaml", "--yaml"]).stdout).toContain("maxTotalTokens: 10");
});

test("prices of the user replace those of the models, and bad ones are told", () => {
  manifest(CALLS);
  mkdirSync(join(cwd, ".ergos"), { mode: 0o700 });
  writeFileSync(join(cwd, ".ergos/prices.json"), JSON.stringify({ offline: { input: 1_000_000, output: 1_000_000 } }));

  const run = ergos(["run", "p.yaml", "--limit", "cost=0.01"]);
  writeFileSync(join(cwd, ".ergos/prices.json"), "{ no json");
  const bad = ergos(["ps"]);

  expect(run.stderr).toMatch(/needs \$\d+\.\d\d, and \$0\.01 of \$0\.01 is left/);
  expect(bad).toMatchObject({ status: 2, stderr: expect.stringContaining("prices.json is no JSON") as unknown });
});

test("a pass carries some rights to somebody else, who narrows it further", () => {
  ergos(["write", "/srv/a", "public"]);
  ergos(["write", "/etc/a", "secret"]);
  const { pass, id } = json([
    "pass",
    "issue",
    "--cap",
    "read",
    "--cap",
    "fs.write:/srv/**",
    "--ttl",
    "1h",
    "--user",
    "jane",
  ]) as {
    pass: string;
    id: string;
  };
  const narrow = ergos(["pass", "narrow", "--cap", "fs.read:/srv/**", "--cap", "fs.stat"], {
    ERGOS_PASS: pass,
  }).stdout.trim();

  expect(ergos(["cat", "/etc/a"], { ERGOS_PASS: pass })).toMatchObject({ status: 0, stdout: "secret" });
  expect(ergos(["cat", "/srv/a"], { ERGOS_PASS: narrow })).toMatchObject({ status: 0, stdout: "public" });
  expect(ergos(["cat", "/etc/a"], { ERGOS_PASS: narrow })).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("EACCES") as unknown,
  });
  expect(ergos(["pass", "show"], { ERGOS_PASS: narrow }).stdout).toContain('"sub": "jane"');
  expect(ergos(["pass", "revoke", id])).toMatchObject({ status: 0 });
  expect(ergos(["cat", "/srv/a"], { ERGOS_PASS: narrow })).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("was revoked") as unknown,
  });
  expect(ergos(["pass", "issue", "--cap", "fs.wirte"])).toMatchObject({ status: 2 });
  expect(ergos(["pass", "issue"])).toMatchObject({ status: 2 });
  expect(ergos(["pass", "revoke", "ThePass"])).toMatchObject({ status: 2 });
});

test("what was changed and denied is in the audit trail, which verifies", () => {
  ergos(["write", "/srv/a", "x"]);
  manifest("  nodes: [{ name: w, kind: tool, tool: write_file, arguments: { path: /etc/a, content: x } }]\n");
  ergos(["run", "p.yaml", "--cap", "tool:write_file"]);

  expect(ergos(["audit", "log"]).stdout).toMatch(/denied EACCES +\/etc\/a/);
  expect(ergos(["audit", "verify"])).toMatchObject({ status: 0, stdout: expect.stringContaining("whole") as unknown });
  const first = ergos(["audit", "export"]).stdout.split("\n")[0] ?? "";
  const { id } = JSON.parse(first) as { id: string };
  expect(ergos(["audit", "redact", "--id", id, "--why", "test"])).toMatchObject({ status: 0 });
  expect(ergos(["audit", "redact", "--id", id])).toMatchObject({ status: 2 });
  expect(ergos(["audit", "verify"]).stdout).toContain("1 redacted");
});

test("a group holds its runs to one budget", () => {
  manifest(CALLS);
  ergos(["group", "set", "research", "--limit", "calls=4"]);

  expect(ergos(["run", "p.yaml", "--group", "research"])).toMatchObject({ status: 0 });
  expect(ergos(["run", "p.yaml", "--group", "research"])).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("0 modelCalls of 4") as unknown,
  });
  expect(ergos(["group", "list"]).stdout).toMatch(/research .*modelCalls 4\/4/);
  expect(ergos(["group", "remove", "research"])).toMatchObject({ status: 0 });
  expect(ergos(["run", "p.yaml", "--group", "absent"])).toMatchObject({ status: 1 });
});

test.each([
  ["a reply beside a verdict", ["answer", "1", "allow", "--reply", "x"]],
  ["a reply without a text", ["answer", "1", "reply"]],
  ["the host itself", ["resume", "1"]],
  ["a budget of nothing", ["resume", "1", "--limit", "foo"]],
  ["an argument without a value", ["why", "1", "fs.read", "/", "--arg", "x"]],
])("%s is no use of the command", (_what, args) => {
  ergos(["ls"]);
  expect(ergos(args)).toMatchObject({ status: 2, stdout: "" });
});

test("a right that nobody knows, and secrets of another key, are told", () => {
  ergos(["ls"], { ERGOS_SECRETS_PASSPHRASE: "one" });
  expect(ergos(["why", "1", "fs.wirte", "/"])).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("is no right") as unknown,
  });
  const set = runErgos(["secret", "set", "TOKEN"], { cwd, env: { ERGOS_SECRETS_PASSPHRASE: "one" }, input: "value" });
  const other = ergos(["ps"], { ERGOS_SECRETS_PASSPHRASE: "two" });

  expect(set).toMatchObject({ status: 0 });
  expect(other).toMatchObject({ status: 0, stderr: expect.stringContaining("a secret is left out") as unknown });
});

test("a policy that is no file denies everybody but the owner", () => {
  mkdirSync(join(cwd, ".ergos/policy.yaml"), { recursive: true, mode: 0o700 });
  manifest("  nodes: [{ name: w, kind: tool, tool: write_file, arguments: { path: /etc/a, content: x } }]\n");

  expect(ergos(["run", "p.yaml"])).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("policy.yaml cannot be read") as unknown,
  });
});
