import { createHash, createPrivateKey, generateKeyPairSync, sign } from "node:crypto";
import { attenuatePass, createPassAuthority, openKeys } from "@ergos/drivers/keys";
import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { createNodePlatform } from "@ergos/drivers/platform-node";
import type { Kernel, KernelParts, Os, Program, SyscallArgs } from "@ergos/kernel";
import { describe, expect, test } from "vitest";
import { bootKernel, codeOf, openChild, openProgram, pause } from "../../kernel/test/kernel-fixture.ts";

const keys = openKeys();
const boot = (parts: Partial<KernelParts> = {}): Promise<Kernel> =>
  bootKernel({ signer: keys, passes: (issuer) => createPassAuthority(keys, issuer), ...parts });
const issue = async (os: Os, args: SyscallArgs<"issuePass">): Promise<{ readonly pass: string; readonly id: string }> =>
  os.call("issuePass", args);
const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");

/** Narrows a pass as its holder could without our library: under an id, and to grants, of the holder's choice. */
function narrowByHand(pass: string, jti: string, grants: readonly string[]): string {
  const blocks = pass.split("~");
  const secret = (blocks.pop() ?? "").slice("k.".length);
  const before = blocks.join("~");
  const payload = Buffer.from(blocks.at(-1)?.split(".")[1] ?? "", "base64url").toString();
  const { cnf } = JSON.parse(payload) as { readonly cnf: { readonly jwk: { readonly x: string } } };
  const key = createPrivateKey({ key: { kty: "OKP", crv: "Ed25519", d: secret, x: cnf.jwk.x }, format: "jwk" });
  const { x, d } = generateKeyPairSync("ed25519").privateKey.export({ format: "jwk" });
  const prev = createHash("sha256").update(before).digest("base64url");
  const block = { jti, prev, grants, cnf: { jwk: { kty: "OKP", crv: "Ed25519", x } } };
  const text = `${encode({ alg: "EdDSA", typ: "ergos-pass-block+jwt" })}.${encode(block)}`;
  return `${before}~${text}.${sign(null, Buffer.from(text), key).toString("base64url")}~k.${d}`;
}

describe("what a pass gives", () => {
  test("a block that takes the id of another pass does not widen that pass", async () => {
    const kernel = await boot();
    await kernel.os.fs.writeFile("/etc/secret", "s");
    const victim = await issue(kernel.os, { grants: ["fs.read:/srv/**"] });
    const other = await issue(kernel.os, { grants: ["fs.read:/pub/**"] });
    await kernel.login(narrowByHand(other.pass, victim.id, ["*"]));

    const { os } = await kernel.login(victim.pass);

    await expect(os.fs.readText("/etc/secret")).rejects.toMatchObject({ code: "EACCES" });
    await kernel.close();
  });

  test("a narrowed pass that ends early says nothing of the one that it came from", async () => {
    const kernel = await boot();
    await kernel.os.fs.writeFile("/srv/a", "a");
    const { pass } = await issue(kernel.os, { grants: ["fs.read:/srv/**"] });
    const short = attenuatePass(pass, { grants: ["fs.read:/srv/**"], expires: Date.now() + 1000 });
    const { os: early } = await kernel.login(short);
    const { os } = await kernel.login(pass);
    expect([await early.fs.readText("/srv/a"), await os.fs.readText("/srv/a")]).toEqual(["a", "a"]);
    await pause(1100);

    await expect(kernel.login(short)).rejects.toMatchObject({ code: "EACCES" });
    expect(await os.fs.readText("/srv/a")).toBe("a");
    expect(await (await kernel.login(pass)).os.fs.readText("/srv/a")).toBe("a");
    await kernel.close();
  });

  test("who acts for one user changes nothing of another's, and hears nothing of what that publishes", async () => {
    const kernel = await boot();
    kernel.activate();
    const grants = ["self", "proc.*", "msg.*", "trigger.*", "budget.*", "event.subscribe"];
    const [jane, bob] = await Promise.all(
      ["jane", "bob"].map(async (user) => (await kernel.login((await issue(kernel.os, { grants, user })).pass)).os),
    );
    if (jane === undefined || bob === undefined) throw new TypeError("nobody is there");
    const hers = await openChild(jane);
    const his = await openChild(bob);
    await hers.call("trigger", { topic: "news.*", action: { message: { to: hers.pid } } });

    for (const act of [
      () => bob.kill(hers.pid, "STOP"),
      async () => bob.call("merge", { pid: hers.pid, into: his.pid }),
      async () => bob.call("clone", { pid: hers.pid }),
    ])
      expect(await codeOf(act)).toBe("EPERM");
    await his.call("publish", { topic: "news.his", body: 1 });
    await openChild(jane).then((one) => one.call("publish", { topic: "news.hers", body: 2 }));
    expect(await hers.call("receive", { waitMs: 2000 })).toMatchObject({ body: { topic: "news.hers" } });
    expect(await hers.call("receive", { waitMs: 20 })).toBeNull();
    await kernel.close();
  });

  test("a pass that a seat has issued gives nothing after a restart, when its number could be another's", async () => {
    const store = new MemoryMetastore();
    const objects = new MemoryObjectStore();
    const kernel = await boot({ store, objects });
    await kernel.os.fs.writeFile("/etc/secret", "s");
    const { os } = await kernel.login((await issue(kernel.os, { grants: ["fs.read:/srv/**", "pass.issue"] })).pass);
    const stolen = (await issue(os, { grants: ["*"] })).pass;

    // Nobody closes the first.
    const next = await boot({ store, objects });
    const pid = await next.os.spawn(openProgram().program);

    expect(pid).not.toBe(os.pid);
    await expect(next.login(stolen)).rejects.toMatchObject({ code: "EACCES" });
    await next.close();
  });

  test.each([
    ["blocks that are null", async () => "bnVsbA.bnVsbA.x~k.x"],
    [
      "a block with grants that nobody knows",
      async (kernel: Kernel) => narrowByHand((await issue(kernel.os, { grants: ["fs.*"] })).pass, "abc", ["nonsense"]),
    ],
  ])("a pass of %s is refused as one that is not valid", async (_what, make) => {
    const kernel = await boot();
    const pass = await make(kernel);

    await expect(kernel.login(pass)).rejects.toMatchObject({ code: "EACCES" });
    await kernel.close();
  });
});

describe("the end of a pass", () => {
  test("a revoked pass with every right gives its seat no right any more", async () => {
    const kernel = await boot();
    const { pass, id } = await issue(kernel.os, { grants: ["*"], user: "jane" });
    const { os } = await kernel.login(pass);

    await kernel.os.call("revokePass", { id });

    await expect(os.fs.writeFile("/a", "x")).rejects.toMatchObject({ code: "ESRCH" });
    await kernel.close();
  });

  test("an expired pass with every right gives its seat no right any more, and its user is not the owner", async () => {
    let offset = 0;
    const platform = createNodePlatform();
    const clock = { ...platform.clock, now: () => Date.now() + offset };
    const kernel = await boot({ platform: { ...platform, clock } });
    const { pass } = await issue(kernel.os, { grants: ["*"], user: "jane", ttlMs: 60_000 });
    const { os } = await kernel.login(pass);
    await os.fs.writeFile("/a", "before");

    offset = 61_000;

    await expect(os.fs.writeFile("/a", "after")).rejects.toMatchObject({ code: "EACCES" });
    expect(await kernel.os.fs.readText("/a")).toBe("before");
    expect((await kernel.os.ps({ pids: [os.pid] }))[0]?.user).toBe("jane");
    await kernel.close();
  });

  test("a child of a seat that has left loses what it has by a pass when that is revoked", async () => {
    const kernel = await boot();
    await kernel.os.fs.writeFile("/srv/a", "x");
    const { pass, id } = await issue(kernel.os, { grants: ["fs.*:/srv/**", "proc.spawn"] });
    const { os, leave } = await kernel.login(pass);
    const { program, context } = openProgram();
    await os.spawn(program);
    const child = (await context).os;
    await leave();

    await kernel.os.call("revokePass", { id });

    await expect(child.fs.writeFile("/srv/a", "evil")).rejects.toThrow(/EACCES|ESRCH/);
    expect(await kernel.os.fs.readText("/srv/a")).toBe("x");
    await kernel.close();
  });

  test("a pass that is revoked while its holder logs in lets nobody act", async () => {
    const kernel = await boot({ store: new MemoryMetastore() });
    const { pass, id } = await issue(kernel.os, { grants: ["fs.*"] });
    // A chain as long as one may be takes a while to look at.
    const narrowed = Array.from({ length: 15 }).reduce<string>((one) => attenuatePass(one, { grants: ["fs.*"] }), pass);

    const login = kernel.login(narrowed);
    const revoked = (async () => kernel.os.call("revokePass", { id }))();
    const written = (async () => {
      const { os } = await login;
      await revoked;
      await os.fs.writeFile("/a", "x");
    })();

    await expect(written).rejects.toThrow(/the pass was revoked|ESRCH/);
    expect(await kernel.os.fs.exists("/a")).toBe(false);
    await kernel.close();
  });

  test("a seat ends with the process that issued its pass", async () => {
    const kernel = await boot();
    const issued = Promise.withResolvers<string>();
    const end = Promise.withResolvers<void>();
    const issuer: Program = {
      name: "issuer",
      revision: "1",
      kind: "function",
      run: async ({ os }) => {
        issued.resolve((await issue(os, { grants: ["fs.*"] })).pass);
        await end.promise;
      },
    };
    const pid = await kernel.os.spawn(issuer);
    const { os, ended } = await kernel.login(await issued.promise);

    end.resolve();
    await kernel.os.wait(pid);
    await ended;

    await expect(os.fs.writeFile("/a", "x")).rejects.toMatchObject({ code: "ESRCH" });
    await kernel.close();
  });
});
