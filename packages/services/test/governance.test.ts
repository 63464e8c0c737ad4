import { compilePolicy, fileHost } from "@ergos/compiler";
import { createPassAuthority, openKeys } from "@ergos/drivers/keys";
import type { Governance, Kernel, Os } from "@ergos/kernel";
import { Relations, denyAll, governPolicy } from "@ergos/services/governance";
import { describe, expect, test } from "vitest";
import { bootKernel, openProgram } from "../../kernel/test/kernel-fixture.ts";

const keys = openKeys();

function policy(spec: string): Governance {
  const text = `apiVersion: ergos/v1\nkind: Policy\nmetadata: { name: house }\nspec:\n${spec}`;
  const { policy: found, diagnostics } = compilePolicy(text, {
    file: "policy.yaml",
    host: fileHost("policy.yaml", {}),
  });
  if (found === undefined) throw new TypeError(diagnostics.map(({ message }) => message).join("\n"));
  return governPolicy(found);
}

const boot = (governance: Governance): Promise<Kernel> =>
  bootKernel({ governance, passes: (issuer) => createPassAuthority(keys, issuer) });

/** The calls of a user who may do everything as far as rights go. */
async function as(kernel: Kernel, user: string): Promise<Os> {
  const { pass } = await kernel.os.call("issuePass", {
    grants: ["fs.*", "self", "proc.*", "cap.read", "kernel.module"],
    user,
  });
  return (await kernel.login(pass)).os;
}

describe("a policy", () => {
  test("gives roles to users, and nothing to others", async () => {
    const kernel = await boot(
      policy(
        "  roles: { reader: [fs.read, fs.stat], writer: [fs.*:/srv/**] }\n  users: { jane: [reader, writer], '*': [reader] }\n",
      ),
    );
    await kernel.os.fs.writeFile("/srv/a", "x");
    const [jane, joe] = [await as(kernel, "jane"), await as(kernel, "joe")];

    await jane.fs.writeFile("/srv/b", "y");
    expect(await joe.fs.readText("/srv/b")).toBe("y");
    await expect(joe.fs.writeFile("/srv/c", "z")).rejects.toThrow(/policy house: .*says nothing of fs\.write/);
    expect(await kernel.os.call("policy", { user: "jane" })).toMatchObject({
      name: "house",
      permissions: expect.arrayContaining(["fs.*:/srv/** (writer)"]) as unknown,
    });
    await kernel.close();
  });

  test("keeps tenants apart, whatever way they try", async () => {
    const kernel = await boot(
      policy(`  default: allow
  rules:
    - { effect: deny, grant: "fs.*:/home/**", when: "resource != '/home' and not (resource ~ '/').startswith('/home/' ~ user ~ '/')", reason: homes are private }
    - { effect: deny, grant: "proc.signal" }
    - { effect: deny, grant: "cap.*" }
`),
    );
    await kernel.os.fs.writeFile("/home/jane/diary", "secret");
    await kernel.os.fs.writeFile("/home/janet/diary", "other");
    await kernel.os.fs.link("/srv/door", "/home/jane/diary");
    await kernel.os.fs.writeFile("/srv/open", "x");
    const joe = await as(kernel, "joe");
    const denied = { code: "EACCES" };

    for (const path of [
      "/home/jane/diary",
      "/home/../home/jane/diary",
      "/srv/door",
      "/home/jane",
      "/home/joe/../jane/diary",
      "/home//jane/diary",
    ])
      await expect(joe.fs.read(path)).rejects.toMatchObject(denied);
    await expect(joe.fs.stat("/home/jane/absent")).rejects.toMatchObject(denied);
    await expect(joe.fs.rename("/home/jane/diary", "/home/joe/diary")).rejects.toMatchObject(denied);
    await expect(joe.fs.copy("/home/jane/diary", "/home/joe/diary")).rejects.toMatchObject(denied);
    await expect(joe.fs.writeFile("/home/jane/note", "x")).rejects.toMatchObject(denied);
    await expect(joe.fs.unlink("/home/jane", { recursive: true })).rejects.toMatchObject(denied);
    await expect(
      joe.fs.link("/home/joe/door", "/home/jane/diary").then(() => joe.fs.read("/home/joe/door")),
    ).rejects.toMatchObject(denied);
    await expect(
      (async () => joe.call("open", { path: "/home/jane/diary", rights: ["read"] }))(),
    ).rejects.toMatchObject(denied);
    await expect(joe.fs.write("/proc/1/signal", "KILL")).rejects.toMatchObject(denied);
    const child = openProgram("child");
    await joe.spawn(child.program);
    // A child is its parent's user.
    await expect((await child.context).os.fs.read("/home/jane/diary")).rejects.toMatchObject(denied);
    await joe.fs.writeFile("/home/joe/own", "fine");
    const jane = await as(kernel, "jane");
    await expect(jane.fs.read("/home/janet/diary")).rejects.toMatchObject(denied);
    expect(await jane.fs.readText("/home/jane/diary")).toBe("secret");
    await kernel.close();
  });

  test("asks a person, with its reason, and a denial wins over that", async () => {
    const kernel = await boot(
      policy(`  default: allow
  rules:
    - { effect: ask, grant: "fs.write:/srv/**", reason: production }
    - { effect: deny, grant: "fs.write:/srv/locked/**" }
`),
    );
    const joe = await as(kernel, "joe");
    const write = joe.fs.writeFile("/srv/a", "x");
    let asks = await kernel.os.call("asks", {});
    while (asks.length === 0) {
      await new Promise((go) => setTimeout(go, 1));
      asks = await kernel.os.call("asks", {});
    }
    expect(asks[0]?.text).toContain("(production)");
    await kernel.os.call("answer", { id: asks[0]?.id ?? 0, verdict: "allow" });
    await write;

    await expect(joe.fs.writeFile("/srv/locked/a", "x")).rejects.toMatchObject({ code: "EACCES" });
    await kernel.close();
  });

  test("follows relations over teams and folders, within bounds", async () => {
    const kernel = await boot(
      policy(`  roles: { everyone: [fs.stat] }
  users: { "*": [everyone] }
  relations:
    tuples: ["doc:/srv/folder/a#parent@folder:/srv/folder", "folder:/srv/folder#viewer@team:eng#member", "team:eng#member@jane", "doc:/srv/b#editor@jane"]
    rewrites: { viewer: [editor, parent.viewer] }
    checks: [{ grant: "fs.read:/srv/**", object: "'doc:' ~ resource", relation: viewer }]
`),
    );
    for (const path of ["/srv/folder/a", "/srv/b", "/srv/c"]) await kernel.os.fs.writeFile(path, "x");
    const [jane, joe] = [await as(kernel, "jane"), await as(kernel, "joe")];

    for (const path of ["/srv/folder/a", "/srv/b"]) expect(await jane.fs.readText(path)).toBe("x");
    await expect(jane.fs.read("/srv/c")).rejects.toMatchObject({ code: "EACCES" });
    await expect(joe.fs.read("/srv/folder/a")).rejects.toMatchObject({ code: "EACCES" });
    await kernel.close();
  });

  test("that cannot be read, or evaluated, denies and says where", async () => {
    const broken =
      "apiVersion: ergos/v1\nkind: Policy\nmetadata: { name: x }\nspec:\n  rules: [{ effect: alow, grant: fs.wirte, when: 'a +' }]\n  users: { jane: [absent] }\n";
    const { policy: none, diagnostics } = compilePolicy(broken, {
      file: "policy.yaml",
      host: fileHost("policy.yaml", {}),
    });
    expect(none).toBeUndefined();
    expect(diagnostics.map(({ code, line }) => `${code}:${line}`).sort()).toEqual([
      "E205:5",
      "E205:6",
      "E401:5",
      "E602:5",
    ]);
    const kernel = await boot(denyAll("policy.yaml:5:20: error"));
    await kernel.os.fs.writeFile("/srv/a", "the owner may");
    await expect((await as(kernel, "jane")).fs.read("/srv/a")).rejects.toThrow(/policy\.yaml:5:20/);
    await kernel.close();
    const failing = await boot(
      policy("  default: allow\n  rules: [{ effect: deny, grant: fs.read, when: missing.name }]\n"),
    );
    await failing.os.fs.writeFile("/srv/a", "x");
    await expect((await as(failing, "jane")).fs.read("/srv/a")).rejects.toThrow(/cannot be evaluated/);
    await failing.close();
  });
});

test("relations that go in circles, too deep or too wide are none", () => {
  const circle = new Relations(["a#r@b#r", "b#r@a#r"], { r: ["s"], s: ["r"] });
  const deep = new Relations([...Array.from({ length: 20 }, (_, at) => `o${at}#r@o${at + 1}#r`), "o20#r@jane"], {});
  const wide = new Relations([...Array.from({ length: 5000 }, (_, at) => `top#r@o${at}#r`), "o4999#r@jane"], {});

  expect(circle.has("jane", "r", "a")).toBe(false);
  expect(deep.has("jane", "r", "o0")).toBe(false);
  expect(deep.has("jane", "r", "o12")).toBe(true);
  expect(wide.has("jane", "r", "top")).toBe(false);
});
