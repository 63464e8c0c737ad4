import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { createOfflineModel } from "@ergos/drivers/model-offline";
import { createNodePlatform } from "@ergos/drivers/platform-node";
import { environmentSecrets, fileSecrets, memorySecrets } from "@ergos/drivers/secrets";
import { type Program, Kernel } from "@ergos/kernel";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ergos-secrets-"));
});
afterEach(() => rmSync(dir, { recursive: true }));
const file = (): string => join(dir, "secrets.json");
const keyFile = (): string => join(dir, "secrets.key");

describe("a file of secrets", () => {
  test("keeps values that only its key opens, and sees what another process changes", () => {
    const secrets = fileSecrets({ file: file(), keyFile: keyFile() });
    secrets.set("API_KEY", 'tricky "value" ✓');
    const other = fileSecrets({ file: file(), keyFile: keyFile() });
    other.set("SECOND", "another value");

    expect(secrets.get("SECOND")).toBe("another value");
    expect(other.get("API_KEY")).toBe('tricky "value" ✓');
    expect(secrets.names()).toEqual(["API_KEY", "SECOND"]);
    expect(readFileSync(file(), "utf8")).not.toContain("tricky");
    expect([statSync(file()).mode & 0o077, statSync(keyFile()).mode & 0o077]).toEqual([0, 0]);
    expect(secrets.remove("API_KEY")).toBe(true);
    expect(secrets.remove("API_KEY")).toBe(false);
    expect(secrets.get("API_KEY")).toBeUndefined();
  });

  test("refuses another key, a value that was altered, and one under another name", () => {
    const secrets = fileSecrets({ file: file(), passphrase: "one" });
    secrets.set("A", "first value");
    secrets.set("B", "other value");
    expect(() => fileSecrets({ file: file(), passphrase: "two" }).get("A")).toThrow(/ECORRUPT.*key is another/);
    // Nothing is written beside values that this key does not open.
    expect(() => fileSecrets({ file: file(), passphrase: "two" }).set("C", "third value")).toThrow(/ECORRUPT/);
    expect(secrets.names()).toEqual(["A", "B"]);
    expect(secrets.remove("constructor")).toBe(false);
    const content = JSON.parse(readFileSync(file(), "utf8")) as { secrets: Record<string, { data: string }> };
    const { A: one, B: two } = content.secrets;
    writeFileSync(file(), JSON.stringify({ ...content, secrets: { A: two, B: one } }));
    expect(() => secrets.get("A")).toThrow(/ECORRUPT/);
    writeFileSync(file(), JSON.stringify({ ...content, secrets: { A: { ...one, data: "AAAA" } } }));
    expect(() => secrets.get("A")).toThrow(/ECORRUPT/);
    writeFileSync(file(), JSON.stringify({ ...content, v: 2 }));
    expect(() => secrets.get("A")).toThrow(/EVERSION/);
    for (const none of ["{}", "null", "[]", JSON.stringify({ ...content, secrets: { A: "plain" } })]) {
      writeFileSync(file(), none);
      expect(() => secrets.get("A")).toThrow(/ECORRUPT/);
    }
    writeFileSync(file(), "no json");
    expect(() => fileSecrets({ file: file(), passphrase: "one" })).toThrow(/no file of secrets/);
  });

  test("takes no key that others can read, and no odd name", () => {
    fileSecrets({ file: file(), keyFile: keyFile() }).set("A", "value");
    rmSync(keyFile());
    writeFileSync(keyFile(), Buffer.alloc(32), { mode: 0o644 });
    expect(() => fileSecrets({ file: file(), keyFile: keyFile() })).toThrow(/EPERM/);
    expect(() => fileSecrets({ file: file(), passphrase: "x" }).set("../a", "value")).toThrow(/EINVAL/);
    expect(() => fileSecrets({ file: file() })).toThrow(/EINVAL/);
  });
});

test("a secret that was read stands nowhere that anything is recorded or told", async () => {
  const planted = 'p1anted-"secret"-value';
  const store = new MemoryMetastore();
  const objects = new MemoryObjectStore();
  const leaky: Program = {
    name: "leaky",
    revision: "1",
    kind: "function",
    run: async ({ os }) => {
      const value = await os.call("secret", { name: "PLANTED" });
      expect(value).toBe(planted);
      await os.call("log", { text: `the key is ${value}` });
      await os.call("stepEnd", { place: "small", value: { key: value } });
      await os.call("stepEnd", { place: "large", value: { key: value, more: "x".repeat(100_000) } });
      await os.infer("asked", { messages: [{ role: "user", content: `use ${value}` }] });
      await os.spawn("echo", { input: { key: value } });
      await os.fs.stat(`/absent/${encodeURIComponent(value)}`).catch(() => undefined);
      throw new TypeError(`it failed with ${value}`);
    },
  };
  const echo: Program = { name: "echo", revision: "1", kind: "function", run: ({ input }) => input };
  const kernel = await Kernel.boot({
    store,
    objects,
    platform: createNodePlatform(),
    models: [{ ...createOfflineModel({ script: ({ messages }) => messages[0]?.content ?? "" }), effect: "once" }],
    programs: [leaky, echo],
    secrets: [environmentSecrets({}), memorySecrets({ PLANTED: planted })],
  });
  const told: unknown[] = [];
  kernel.host.bus.observe({}, (event) => void told.push(event));
  const pid = await kernel.os.spawn("leaky");
  const exit = await kernel.os.wait(pid);
  const child = (await kernel.os.ps({ all: true })).find(({ name }) => name === "echo");
  if (child !== undefined) await kernel.os.wait(child.pid);
  await kernel.host.audit.close();

  const recorded: string[] = [];
  for (const { puts, appends } of await store.tail(0 as never, { limit: 100_000 }))
    recorded.push(
      ...puts.map(({ key, value }) => `${key} ${String(value)}`),
      ...appends.map(({ value }) => String(value)),
    );
  for (const match of JSON.stringify(recorded).matchAll(/sha256-[0-9a-f]{64}/g))
    recorded.push(new TextDecoder().decode(await objects.get(match[0] as never)));
  const shown = [
    ...recorded,
    JSON.stringify(told),
    JSON.stringify(exit),
    JSON.stringify(await kernel.os.ps({ all: true })),
    await kernel.os.fs.readText(`/proc/${pid}/log`),
    await kernel.os.fs.readText(`/proc/runs/leaky-${pid}/events`),
    JSON.stringify(await kernel.os.call("auditLog", { limit: 1000 })),
  ].join("\n");

  for (const form of [planted, JSON.stringify(planted).slice(1, -1), "p1anted"]) expect(shown).not.toContain(form);
  expect(shown).toContain("the key is ***");
  expect((await kernel.os.call("auditVerify", {})).fault).toBeUndefined();
  await expect(kernel.os.call("secret", { name: "ABSENT" })).rejects.toMatchObject({ code: "ENOENT" });
  await kernel.close();
});

test("masking changes texts of users alone: numbers, names and the kernel's own fields stay", async () => {
  const store = new MemoryMetastore();
  const objects = new MemoryObjectStore();
  const program: Program = {
    name: "program",
    revision: "1",
    kind: "function",
    run: async ({ os }) => {
      for (const name of ["NUMBER", "WORD"]) await os.call("secret", { name });
      await os.call("stepEnd", { place: "a", value: { 123456: 123456, size: 1234567, program: "a program" } });
      await os.fs.writeFile("/srv/large", new Uint8Array(123_456));
      return { count: 123456 };
    },
  };
  const parts = { store, objects, platform: createNodePlatform(), programs: [program] };
  const kernel = await Kernel.boot({ ...parts, secrets: [memorySecrets({ NUMBER: "123456", WORD: "program" })] });
  kernel.host.bus.observe({}, () => undefined);
  const pid = await kernel.os.spawn("program");
  expect((await kernel.os.wait(pid)).result).toEqual({ count: 123456 });
  const next = await Kernel.boot(parts);

  expect((await next.os.fs.read("/srv/large")).length).toBe(123_456);
  expect((await next.os.ps({ all: true })).find((one) => one.pid === pid)).toMatchObject({ code: 0 });
  const recorded: string[] = [];
  for (const { appends } of await store.tail(0 as never, { limit: 1000 }))
    recorded.push(...appends.flatMap(({ log, value }) => (log === `j/${pid}` ? [String(value)] : [])));
  expect(
    recorded.map((line) => JSON.parse(line) as { p?: string; value?: unknown }).find(({ p }) => p === "a")?.value,
  ).toEqual({
    123456: 123456,
    size: 1234567,
    program: "a ***",
  });
  await next.close();
});

test("a secret is masked in the forms in which addresses and headers carry it", async () => {
  const value = "pa ss/wo?rd-0123456789";
  const kernel = await Kernel.boot({
    store: new MemoryMetastore(),
    objects: new MemoryObjectStore(),
    platform: createNodePlatform(),
    secrets: [memorySecrets({ KEY: value })],
  });
  await kernel.os.call("secret", { name: "KEY" });
  const { vault } = kernel.host;

  for (const user of ["", "a", "ab", "abc"]) {
    const header = Buffer.from(`${user}:${value}`).toString("base64");
    expect(vault.maskText(`Basic ${header}`)).toContain("***");
  }
  expect(vault.maskText(new URL(`http://x/?key=${encodeURIComponent(value)}`).href)).not.toContain("0123456789");
  expect(vault.maskText(new URL(`http://x/?key=${value}`).href)).not.toContain("0123456789");
  expect(vault.maskText(new URLSearchParams({ key: value }).toString())).not.toContain("0123456789");
  const pem = `-----BEGIN PRIVATE KEY-----\n${"PLANTED+/a1".repeat(6)}\n${"PLANTEDb2=".repeat(3)}\n-----END PRIVATE KEY-----\n`;
  vault.learn(pem);
  const shown = [
    pem,
    pem.trim(),
    JSON.stringify({ pem }),
    JSON.stringify(JSON.stringify([pem])),
    pem.replaceAll("\n", ""),
  ];
  for (const text of [...shown, new URLSearchParams({ pem }).toString()])
    expect(vault.maskText(text)).not.toContain("PLANTED");
  const jwt = "PLANTEDhead.PLANTEDbody.PLANTEDsign";
  vault.learn(
    JSON.stringify({
      type: "service_account",
      token_uri: "https://oauth2.example.com/token",
      token_type: "Bearer",
      installed: { client_secret: "PLANTED-nested-secret", private_key: pem },
    }),
  );
  vault.learn(`# this file is the configuration\nkubernetes.io/service\n  ${jwt}\n`);
  for (const text of ["PLANTED-nested-secret", jwt, pem.split("\n")[1] ?? ""])
    expect(vault.maskText(`it is ${text}!`)).toBe("it is ***!");
  for (const text of ["Bearer", "https://oauth2.example.com/token", "service_account", "kubernetes.io/service"])
    expect(vault.maskText(text)).toBe(text);
  expect(vault.maskText(new URL(`http://x/a?key=${value}`).href)).not.toContain("0123456789");
  await kernel.close();
});
