import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { attenuatePass, createPassAuthority, describePass, openKeys, sealPass } from "@ergos/drivers/keys";
import type { PassAuthority } from "@ergos/kernel";
import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { createNodePlatform } from "@ergos/drivers/platform-node";
import { Kernel } from "@ergos/kernel";
import { SignJWT, exportJWK, generateKeyPair, importJWK, jwtVerify } from "jose";
import { describe, expect, test } from "vitest";

const NOW = Date.parse("2026-01-01T00:00:00Z");
const HOUR = 3_600_000;
const keys = openKeys();
const authority = createPassAuthority(keys, "host1");
const issue = (grants: readonly string[], by: PassAuthority = authority): string =>
  by.issue({
    subject: "jane",
    pid: 1,
    audience: "ergos:host1",
    grants,
    issued: NOW,
    notBefore: NOW,
    expires: NOW + HOUR,
  }).pass;
const verify = (pass: string, now = NOW, audience = "ergos:host1") => authority.verify(pass, [audience], now);

describe("a pass", () => {
  test("says for whom it is, what it allows, and until when", () => {
    expect(verify(issue(["fs.read:/srv/**"]))).toMatchObject({
      subject: "jane",
      pid: 1,
      layers: [["fs.read:/srv/**"]],
      expires: NOW + HOUR,
    });
  });

  test("is narrowed by whoever holds it, without the host", () => {
    const once = attenuatePass(issue(["fs.*:/srv/**"]), { grants: ["fs.read:/srv/public/**"], expires: NOW + 60_000 });
    const twice = attenuatePass(once, { grants: ["fs.read"], expires: NOW + 2 * HOUR });

    const claims = verify(twice);

    expect(claims.layers).toEqual([["fs.*:/srv/**"], ["fs.read:/srv/public/**"], ["fs.read"]]);
    expect(claims.expires).toBe(NOW + 60_000);
    expect(claims.ids).toHaveLength(3);
    expect(() => attenuatePass(once, { grants: ["fs.wirte"] })).toThrow(/EINVAL/);
  });

  test("that is sealed can be shown and not narrowed", () => {
    const sealed = sealPass(issue(["fs.read"]));

    expect(verify(sealed).layers).toEqual([["fs.read"]]);
    expect(sealPass(sealed)).toBe(sealed);
    expect(() => attenuatePass(sealed, { grants: ["fs.read"] })).toThrow(/sealed/);
  });

  test.each([
    ["expired", () => verify(issue(["*"]), NOW + HOUR), /expired at/],
    ["not valid yet", () => verify(issue(["*"]), NOW - 61_000), /not valid before/],
    ["for another audience", () => verify(issue(["*"]), NOW, "ergos:host2"), /not for this host/],
    [
      "of another host's keys",
      () => createPassAuthority(openKeys(), "host1").verify(issue(["*"]), ["ergos:host1"], NOW),
      /not signed by a key of this host/,
    ],
    [
      "of another host's name",
      () => createPassAuthority(keys, "host2").verify(issue(["*"]), ["ergos:host1"], NOW),
      /of another host/,
    ],
    ["empty", () => verify(""), /no pass at all/],
    ["too long", () => verify("x".repeat(40_000)), /too long/],
  ])("that is %s is refused", (_what, attempt, message) => {
    expect(attempt).toThrow(message);
    expect(attempt).toThrow(/EACCES/);
  });

  test("a clock that is a little behind does not matter, one that jumps back does not bring an expired one back", () => {
    const pass = issue(["*"]);
    expect(verify(pass, NOW - 59_000).subject).toBe("jane");
    expect(() => verify(pass, NOW + HOUR + 1)).toThrow(/expired/);
  });

  test("no block can be left out, put elsewhere, or taken from another pass", () => {
    const wide = issue(["*"]);
    const narrow = attenuatePass(wide, { grants: ["fs.read"] });
    const other = attenuatePass(issue(["fs.write"]), { grants: ["fs.read"] });
    const [first = "", second = "", proof = ""] = narrow.split("~");
    const [otherFirst = "", otherSecond = "", otherProof = ""] = other.split("~");

    for (const forged of [
      `${first}~${proof}`,
      `${first}~k.`,
      first,
      `${second}~${proof}`,
      `${first}~${second}~${otherProof}`,
      `${first}~${otherSecond}~${otherProof}`,
      `${otherFirst}~${second}~${proof}`,
      `${first}~${second}~${second}~${proof}`,
      `${sealPass(narrow).split("~").slice(0, 1).join("~")}~${sealPass(narrow).split("~")[2] ?? ""}`,
    ])
      expect(() => verify(forged)).toThrow(/EACCES/);
    expect(verify(narrow).layers).toHaveLength(2);
  });

  test("any change of any character is refused", () => {
    const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const held = attenuatePass(issue(["fs.read:/srv/**"]), { grants: ["fs.read"] });
    for (const pass of [held, sealPass(held)])
      for (let at = 0; at < pass.length; at++) {
        const char = pass.charAt(at);
        // The neighbour in the alphabet differs in the last bit alone, which the last character of a part may not use.
        const neighbour = alphabet[alphabet.indexOf(char) ^ 1] ?? "A";
        for (const other of [neighbour, "~", ".", "\n"]) {
          if (other === char) continue;
          const forged = pass.slice(0, at) + other + pass.slice(at + 1);
          expect(() => verify(forged), `${other} at ${at} of ${pass}`).toThrow(/EACCES/);
        }
      }
  });

  test("a library that knows only the standards reads its blocks, and what it signs by another algorithm is refused", async () => {
    const pass = attenuatePass(issue(["fs.read"]), { grants: ["fs.read:/a"] });
    const [first = "", second = ""] = pass.split("~");
    const key = keys.publicKeys.get(keys.keyId);
    if (key === undefined) throw new TypeError("no key");
    const { payload } = await jwtVerify(first, key, {
      issuer: "host1",
      audience: "ergos:host1",
      currentDate: new Date(NOW),
      typ: "ergos-pass+jwt",
    });
    const { jwk } = payload["cnf"] as { jwk: Parameters<typeof importJWK>[0] };
    const next = await jwtVerify(second, await importJWK(jwk, "EdDSA"), {
      currentDate: new Date(NOW),
      typ: "ergos-pass-block+jwt",
    });
    expect(next.payload).toMatchObject({ grants: ["fs.read:/a"] });

    const pair = await generateKeyPair("EdDSA", { extractable: true });
    const held = await exportJWK(pair.privateKey);
    const own = await new SignJWT({ ...payload, cnf: { jwk: await exportJWK(pair.publicKey) } })
      .setProtectedHeader({ alg: "EdDSA", typ: "ergos-pass+jwt", kid: keys.keyId })
      .sign(pair.privateKey);
    const none = `${Buffer.from(JSON.stringify({ alg: "none", typ: "ergos-pass+jwt", kid: keys.keyId })).toString("base64url")}.${first.split(".")[1] ?? ""}.`;
    const secret = await new SignJWT(payload)
      .setProtectedHeader({ alg: "HS256", typ: "ergos-pass+jwt", kid: keys.keyId })
      .sign(key.export({ type: "spki", format: "der" }));
    for (const forged of [own, none, secret]) expect(() => verify(`${forged}~k.${held.d ?? ""}`)).toThrow(/EACCES/);
  });

  test("says of itself what it holds, and no secret", () => {
    const pass = attenuatePass(issue(["fs.read"]), { grants: ["fs.read:/a"] });
    const shown = JSON.stringify(describePass(pass));
    expect(shown).toContain("fs.read:/a");
    expect(shown).not.toContain(pass.split("~k.")[1]);
  });
});

describe("keys", () => {
  test("are made for the owner alone, rotated, and old ones still verify", () => {
    const dir = mkdtempSync(join(tmpdir(), "ergos-keys-"));
    try {
      const ring = openKeys(join(dir, "keys"));
      const pass = issue(["fs.read"], createPassAuthority(ring, "host1"));
      const next = openKeys(join(dir, "keys"));
      const old = next.keyId;
      const fresh = next.rotate();

      expect(fresh).not.toBe(old);
      for (const name of readdirSync(join(dir, "keys"))) expect(statSync(join(dir, "keys", name)).mode & 0o077).toBe(0);
      expect(statSync(join(dir, "keys")).mode & 0o077).toBe(0);
      const again = openKeys(join(dir, "keys"));
      expect(again.verify("text", next.sign("text"), fresh)).toBe(true);
      expect(createPassAuthority(again, "host1").verify(pass, ["ergos:host1"], NOW).subject).toBe("jane");
      rmSync(join(dir, "keys", `${old}.pem`));
      expect(createPassAuthority(openKeys(join(dir, "keys")), "host1").verify(pass, ["ergos:host1"], NOW).pid).toBe(1);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  test("that others can read, or that are none, are refused by name", () => {
    const dir = mkdtempSync(join(tmpdir(), "ergos-keys-"));
    try {
      const { keyId } = openKeys(dir);
      const file = join(dir, `${keyId}.pem`);
      const pem = readFileSync(file);
      rmSync(file);
      writeFileSync(file, pem, { mode: 0o644 });
      expect(() => openKeys(dir)).toThrow(/EPERM.*others may read/);
      rmSync(file);
      writeFileSync(file, "no key", { mode: 0o600 });
      expect(() => openKeys(dir)).toThrow(/ECORRUPT.*is no key/);
      expect(existsSync(file)).toBe(true);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});

describe("a host takes a pass", () => {
  const boot = (store = new MemoryMetastore(), objects = new MemoryObjectStore()): Promise<Kernel> =>
    Kernel.boot({
      store,
      objects,
      platform: createNodePlatform(),
      passes: (issuer) => createPassAuthority(keys, issuer),
    });

  test("and gives its holder what all its blocks and its issuer allow, until it is revoked", async () => {
    const kernel = await boot();
    for (const path of ["/srv/a", "/etc/a"]) await kernel.os.fs.writeFile(path, path);
    const { pass, id } = kernel.os.call("issuePass", { grants: ["fs.*:/srv/**"], user: "jane" }) as {
      pass: string;
      id: string;
    };
    const { os, leave } = await kernel.login(attenuatePass(pass, { grants: ["fs.read", "fs.stat"] }));

    expect(await os.fs.readText("/srv/a")).toBe("/srv/a");
    await expect(os.fs.writeFile("/srv/a", "x")).rejects.toMatchObject({ code: "EACCES" });
    await expect(os.fs.read("/etc/a")).rejects.toMatchObject({ code: "EACCES" });
    expect((await kernel.os.ps({ pids: [os.pid] }))[0]).toMatchObject({ user: "jane", name: "seat" });
    await kernel.os.call("revokePass", { id });
    await expect(os.fs.read("/srv/a")).rejects.toMatchObject({ code: "ESRCH" });
    await expect(kernel.login(pass)).rejects.toThrow(/was revoked/);
    await leave();
    await kernel.close();
  });

  test("of a process only while that lives, and not beyond what that may", async () => {
    const kernel = await boot();
    await kernel.os.fs.writeFile("/srv/a", "x");
    const { os } = await kernel.login(
      (kernel.os.call("issuePass", { grants: ["self", "fs.read:/etc/**", "pass.issue"] }) as { pass: string }).pass,
    );
    const second = os.call("issuePass", { grants: ["*"] }) as { pass: string };
    const third = await kernel.login(second.pass);
    await expect(third.os.fs.read("/srv/a")).rejects.toMatchObject({ code: "EACCES" });
    await expect((async () => os.call("issuePass", { grants: ["*"], user: "root" }))()).rejects.toMatchObject({
      code: "EPERM",
    });
    await kernel.os.kill(os.pid, "KILL");

    await expect(kernel.login(second.pass)).rejects.toThrow(/has ended/);
    await kernel.close();
  });

  test("whose uses are counted over all who hold it, and over restarts", async () => {
    const store = new MemoryMetastore();
    const objects = new MemoryObjectStore();
    const kernel = await boot(store, objects);
    await kernel.os.fs.writeFile("/srv/a", "x");
    const { pass } = kernel.os.call("issuePass", { grants: ["fs.read:/srv/**; uses=3"] }) as { pass: string };
    const [one, two] = [await kernel.login(pass), await kernel.login(pass)];
    await one.os.fs.read("/srv/a");
    await two.os.fs.read("/srv/a");
    const next = await boot(store, objects);
    const three = await next.login(pass);

    await three.os.fs.read("/srv/a");

    await expect(three.os.fs.read("/srv/a")).rejects.toThrow(/used up/);
    await next.close();
  });

  test("never without one", async () => {
    const kernel = await boot();
    await expect(kernel.login(undefined)).rejects.toThrow(/wants a pass/);
    await expect(kernel.login("x.y.z~k.a")).rejects.toMatchObject({ code: "EACCES" });
    await kernel.close();
  });
});
