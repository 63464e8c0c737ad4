import { compilePolicy, fileHost } from "@ergos/compiler";
import { createCedarGovernance } from "@ergos/drivers/governance-cedar";
import { createPassAuthority, openKeys } from "@ergos/drivers/keys";
import { createNet } from "@ergos/drivers/net";
import {
  type Ask,
  type Governance,
  type GovernanceRequest,
  type Kernel,
  type KernelEvent,
  type Os,
  type Program,
  toPid,
} from "@ergos/kernel";
import { GOVERNANCE_CASES } from "@ergos/kernel/conformance";
import { maintenance } from "@ergos/services";
import { Relations, allowAll, denyAll, governPolicy } from "@ergos/services/governance";
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

const boot = (governance: Governance, more: Parameters<typeof bootKernel>[0] = {}): Promise<Kernel> =>
  bootKernel({ governance, passes: (issuer) => createPassAuthority(keys, issuer), ...more });

/** What is asked now, or soon. */
async function asked(kernel: Kernel): Promise<readonly Ask[]> {
  for (;;) {
    const asks = await kernel.os.call("asks", {});
    if (asks.length > 0) return asks;
    await new Promise((go) => setTimeout(go, 1));
  }
}

const denied = { code: "EACCES" };
const REQUEST: GovernanceRequest = {
  user: "ann",
  right: "tool.call",
  resource: "",
  call: "call",
  process: "p",
  pid: toPid(2),
  args: {},
  at: 0,
};
const echo: Program = { name: "echo", revision: "1", kind: "function", run: () => "ran" };

/** The calls of a user who may do everything as far as rights go. */
async function as(
  kernel: Kernel,
  user: string,
  grants = ["fs.*", "self", "proc.*", "cap.read", "kernel.module", "net.connect", "budget.*"],
): Promise<Os> {
  const { pass } = await kernel.os.call("issuePass", { grants, user });
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

  test("refuses and asks by conditions as a denial does: one of several is enough, and a text may be a number", async () => {
    const governance = policy(`  default: allow
  rules:
    - { effect: deny, grant: "tool.call:send; arg.to=*@evil.com" }
    - { effect: ask, grant: "tool.call:pay; arg.amount>100" }
    - { effect: deny, grant: "net.connect:Evil.com" }
    - { effect: deny, grant: shell_exec }
    - { effect: ask, grant: "tool:mail" }
`);
    const verdictOn = async (resource: string, args: object, right = "tool.call"): Promise<string> =>
      (await governance.authorize({ ...REQUEST, right, resource, args })).effect;
    expect(await verdictOn("send", { to: ["a@evil.com", "b@ok.com"] })).toBe("deny");
    expect(await verdictOn("send", { to: ["b@ok.com"] })).toBe("allow");
    expect(await verdictOn("pay", { amount: "500" })).toBe("ask");
    expect(await verdictOn("pay", { amount: 50 })).toBe("allow");
    expect(await verdictOn("evil.com", {}, "net.connect")).toBe("deny");
    expect(await verdictOn("mail", {})).toBe("ask");
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
    const asks = await asked(kernel);
    expect(asks[0]?.text).toContain("(policy house: production)");
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

  test("decides about what a call comes upon, too: modules, redirects, what lies below, and names in events", async () => {
    const kernel = await boot(
      policy(`  default: allow
  rules:
    - { effect: deny, grant: "kernel.module:/m.mjs" }
    - { effect: deny, grant: "proc.spawn:/proc/**" }
    - { effect: deny, grant: "net.connect:evil.example" }
    - { effect: deny, grant: "fs.*:/srv/a/locked/**" }
    - { effect: deny, grant: budget.allocate }
`),
      {
        loader: () => Promise.resolve(echo),
        net: {
          ...createNet(),
          send: () =>
            Promise.resolve({ status: 302, headers: { location: "http://evil.example/" }, body: new Uint8Array() }),
        },
      },
    );
    await kernel.os.fs.writeFile("/srv/a/locked/x", "x");
    const joe = await as(kernel, "joe");

    await expect(joe.call("spawn", { program: { name: "p", module: "/m.mjs" } })).rejects.toMatchObject(denied);
    // A program named like the caller itself is not the caller.
    await expect(joe.spawn({ ...echo, name: `/proc/${joe.pid}` })).rejects.toMatchObject(denied);
    await expect(joe.call("fetch", { place: "a", url: "http://good.example/" })).rejects.toThrow(/redirects there/);
    await expect(joe.fs.rename("/srv/a", "/srv/c")).rejects.toMatchObject(denied);
    await expect(joe.fs.unlink("/srv/a", { recursive: true })).rejects.toMatchObject(denied);
    const pid = await joe.spawn(
      { ...echo, run: () => Promise.reject(new TypeError("fails")) },
      { budget: { toolCalls: 1 } },
    );
    await joe.wait(pid);
    await expect(joe.resume(pid, { again: true, budget: { toolCalls: 5 } })).rejects.toMatchObject(denied);
    const stop = new AbortController();
    const seen: KernelEvent[] = [];
    const events = await joe.call("watch", { glob: "/srv/**", signal: stop.signal });
    const watching = (async () => {
      for await (const event of events) {
        seen.push(event);
        if (event.data["path"] === "/srv/end") stop.abort();
      }
    })().catch(() => undefined);
    await kernel.os.fs.writeFile("/srv/a/locked/y", "x");
    await kernel.os.fs.writeFile("/srv/end", "x");
    await watching;
    expect(seen.map(({ data }) => data["path"])).toEqual(["/srv/end"]);
    await kernel.close();
  });

  test("is asked again for each use of a handle, and explained", async () => {
    let effect: "allow" | "deny" = "allow";
    const kernel = await boot({
      name: "changing",
      authorize: () => ({ effect, reason: "so it is" }),
      permissions: () => [],
    });
    await kernel.os.fs.writeFile("/srv/a", "x");
    const joe = await as(kernel, "joe");
    const fd = await joe.call("open", { path: "/srv/a", rights: ["read"] });
    await joe.call("readHandle", { fd });
    effect = "deny";

    await expect(joe.call("readHandle", { fd })).rejects.toMatchObject(denied);
    const about = { pid: joe.pid, right: "fs.read", resource: "/srv/a" };
    expect(await kernel.os.call("why", about)).toMatchObject({ effect: "deny", policy: "policy changing: so it is" });
    // What a process does to itself is nobody's policy.
    expect(await joe.call("caps", { pid: joe.pid })).not.toEqual([]);
    await kernel.close();
  });

  test("asks nobody for what is denied elsewhere, and judges what a person made of the arguments", async () => {
    const kernel = await boot(
      policy(`  default: allow
  rules:
    - { effect: ask, grant: "fs.write:/srv/**" }
    - { effect: ask, grant: "fs.read:/srv/**" }
    - { effect: deny, grant: "fs.write:/locked/**" }
`),
    );
    await kernel.os.fs.writeFile("/srv/a", "x");
    const joe = await as(kernel, "joe");

    await expect(joe.fs.copy("/srv/a", "/locked/a")).rejects.toMatchObject(denied);
    await expect((await as(kernel, "joe", ["fs.stat", "self"])).fs.read("/srv/a")).rejects.toMatchObject(denied);
    expect(await kernel.os.call("asks", {})).toEqual([]);
    const write = joe.fs.writeFile("/srv/b", "x");
    const [ask] = await asked(kernel);
    await kernel.os.call("answer", { id: ask?.id ?? 0, verdict: "edit", value: { path: "/locked/b" } });
    await expect(write).rejects.toMatchObject(denied);
    await kernel.close();
  });

  test("and rights that both ask, ask once", async () => {
    const kernel = await boot(policy("  default: allow\n  rules: [{ effect: ask, grant: fs.write }]\n"));
    const joe = await as(kernel, "joe", ["self", "ask fs.write"]);
    const write = joe.fs.writeFile("/srv/b", "x");
    const [ask] = await asked(kernel);
    await kernel.os.call("answer", { id: ask?.id ?? 0, verdict: "allow" });
    await write;
    await kernel.close();
  });

  test("knows users by their own names alone", async () => {
    const kernel = await boot(policy("  default: allow\n"));
    const user = await as(kernel, "constructor");

    await user.fs.writeFile("/srv/a", "x");
    expect(await kernel.os.call("policy", { user: "constructor" })).toMatchObject({ permissions: [] });
    await kernel.close();
  });

  test("that cannot be read, or evaluated, denies and says where", async () => {
    const broken =
      "apiVersion: ergos/v1\nkind: Policy\nmetadata: { name: x }\nspec:\n  rules: [{ effect: alow, grant: fs.wirte, when: 'user +' }, { effect: deny, grant: fs.read, when: usr == 1 and hour | foo }, { effect: deny, grant: 'deny fs.read' }, { effect: ask, grant: 'fs.read; uses=3' }]\n  users: { jane: [absent] }\n";
    const { policy: none, diagnostics } = compilePolicy(broken, {
      file: "policy.yaml",
      host: fileHost("policy.yaml", {}),
    });
    expect(none).toBeUndefined();
    expect(diagnostics.map(({ code, line }) => `${code}:${line}`).sort()).toEqual([
      "E205:5",
      "E205:6",
      "E307:5",
      "E401:5",
      "E402:5",
      "E602:5",
      "E602:5",
      "E602:5",
    ]);
    const kernel = await boot(denyAll("policy.yaml:5:20: error"));
    await kernel.os.fs.writeFile("/srv/a", "the owner may");
    await expect((await as(kernel, "jane")).fs.read("/srv/a")).rejects.toThrow(/policy\.yaml:5:20/);
    await kernel.close();
    const failing = await boot(
      policy("  default: allow\n  rules: [{ effect: deny, grant: fs.read, when: args.missing.name }]\n"),
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

test("services that the owner has installed are the owner's, whatever the policy says of others", async () => {
  const kernel = await boot(denyAll("nobody may do anything"));
  await kernel.os.call("enlist", { service: maintenance() });
  await kernel.os.call("startService", { name: "maintenance" });
  const verify = kernel.os.service<{ verify(): Promise<{ problems: readonly unknown[] }> }>("maintenance").verify();
  expect((await verify).problems).toEqual([]);
  await expect((await as(kernel, "jane")).fs.readText("/sys/version")).rejects.toMatchObject(denied);
  await kernel.close();
});

describe.each<[string, () => Governance | Promise<Governance>]>([
  ["that allows everything", () => allowAll],
  ["that denies everything", () => denyAll("it cannot be read")],
  [
    "of roles, rules and relations",
    () =>
      policy(
        "  roles: { reader: [fs.read] }\n  users: { jane: [reader] }\n  rules:\n    - { effect: ask, grant: 'fs.write:/srv/**', when: 'args.path == resource' }\n    - { effect: deny, grant: '*', when: 'hour > 20' }\n",
      ),
  ],
  [
    "in Cedar",
    () =>
      createCedarGovernance({
        name: "policy.cedar",
        policies: 'permit(principal == User::"jane", action, resource) when { context.args.path == "/srv/a" };',
      }),
  ],
])("the contract of a policy: one %s", (_name, made) => {
  test.each(GOVERNANCE_CASES)("$name", async ({ run }) => run(await made()));
});
