import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { openKeys } from "@ergos/drivers/keys";
import { createNodePlatform } from "@ergos/drivers/platform-node";
import {
  type AuditReport,
  type Kernel,
  type LogEntry,
  type Metastore,
  type ShownRecord,
  verifyAudit,
} from "@ergos/kernel";
import { describe, expect, test } from "vitest";
import { LastingStore, bootKernel, openProgram, processWith } from "./kernel-fixture.ts";

const platform = createNodePlatform();
const signer = openKeys();

const all = async (kernel: Kernel): Promise<readonly ShownRecord[]> => kernel.os.call("auditLog", { limit: 10_000 });

/** A store of which one log reads as somebody has made it. */
function tampered(store: Metastore, log: string, change: (entries: LogEntry[]) => LogEntry[]): Metastore {
  let changed: LogEntry[] | undefined;
  const readLog: Metastore["readLog"] = async (name, { after, limit }) => {
    if (name !== log) return store.readLog(name, { after, limit });
    changed ??= change([...(await store.readLog(name, { after: 0 as never, limit: 1_000_000 }))]);
    const rest = changed.filter(({ seq }) => seq > after);
    const last = rest[limit - 1]?.seq;
    return last === undefined ? rest : rest.filter(({ seq }) => seq <= last);
  };
  return new Proxy(store, {
    get: (target, name) => {
      if (name === "readLog") return readLog;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? (value as (...args: never[]) => unknown).bind(target) : value;
    },
  });
}

async function sealed(records: number): Promise<{ store: MemoryMetastore; ids: readonly string[] }> {
  const store = new MemoryMetastore();
  const kernel = await bootKernel({ store, signer });
  for (let at = 0; at < records; at += 500) {
    const batch = Array.from({ length: Math.min(500, records - at) }, (_, index) =>
      kernel.os.fs.writeFile(`/srv/${at + index}`, "x"),
    );
    await Promise.all(batch);
  }
  const ids = (await all(kernel)).map(({ id }) => id);
  await kernel.close();
  return { store, ids };
}

const verify = (store: Metastore): Promise<AuditReport> => verifyAudit(store, platform, { signer });

describe("what is recorded", () => {
  test("each call that changes something is one record, in the commit of its effect; reads are none", async () => {
    const store = new MemoryMetastore();
    const kernel = await bootKernel({ store, signer });
    await kernel.os.fs.writeFile("/srv/a", "one");
    await kernel.os.fs.readText("/srv/a");
    await kernel.os.fs.stat("/srv/a");
    await kernel.os.fs.rename("/srv/a", "/srv/b");
    await kernel.os.fs.write("/srv/absent", "x").catch(() => undefined);
    const { program, context } = openProgram();
    const pid = await kernel.os.spawn(program);
    await (await context).os.infer("answer", { messages: [{ role: "user", content: "the secret" }] });
    await kernel.os.kill(pid, "KILL");

    const records = await all(kernel);

    expect(records.map(({ call, outcome, code }) => [call, outcome, code ?? ""])).toEqual([
      ["write", "ok", ""],
      ["rename", "ok", ""],
      ["write", "failed", "ENOENT"],
      ["spawn", "ok", ""],
      ["infer", "ok", ""],
      ["kill", "ok", ""],
    ]);
    expect(records[0]).toMatchObject({
      pid: 1,
      user: "owner",
      payload: { right: "fs.write", resource: "/srv/a", args: { bytes: 3 } },
    });
    expect(records[1]?.payload?.args).toMatchObject({ to: "/srv/b" });
    // What was said to the model is not in the trail.
    expect(JSON.stringify(records)).not.toContain("secret");
    for (const { seq } of records.slice(0, 2)) {
      const commit = (await store.tail((seq - 1) as never, { limit: 1 }))[0];
      expect(commit?.puts.some(({ key }) => /^[ni]\//.test(key))).toBe(true);
    }
    await kernel.close();
  });

  test("as many records as calls that need one, and one more for each group of equal denials with its count", async () => {
    const kernel = await bootKernel({ signer });
    const os = await processWith(kernel, ["self", "fs.write:/srv/**"]);
    const before = (await all(kernel)).length;
    let expected = 0;
    const work: Promise<unknown>[] = [];
    for (let at = 0; at < 300; at++) {
      expected++;
      if (at % 3 === 0) work.push(os.fs.writeFile(`/srv/${at}`, "x"));
      else if (at % 3 === 1) work.push(Promise.resolve(os.call("stepEnd", { place: `p${at}`, value: at })));
      else work.push(Promise.resolve(os.call("log", { text: "line" })));
    }
    await Promise.all(work);
    for (let at = 0; at < 50; at++) await os.fs.writeFile("/etc/a", "x").catch(() => undefined);
    for (let at = 0; at < 7; at++) await os.fs.read("/etc/b").catch(() => undefined);
    await kernel.host.audit.close();

    const records = (await all(kernel)).slice(before);

    expect(records.length).toBe(expected + 4);
    const denials = records.filter(({ outcome }) => outcome === "denied");
    expect(denials.map(({ call, count, payload }) => [call, payload?.resource, count ?? 1])).toEqual([
      ["write", "/etc/a", 1],
      ["read", "/etc/b", 1],
      ["write", "/etc/a", 49],
      ["read", "/etc/b", 6],
    ]);
    await kernel.close();
  });

  test("the newest records are the newest, however few there are to a seal", async () => {
    const kernel = await bootKernel({ signer });
    for (let at = 0; at < 12; at++) {
      await kernel.os.fs.writeFile(`/srv/${at}`, "x");
      await kernel.os.call("auditVerify", {});
    }
    const whole = (await all(kernel)).map(({ id }) => id);
    const newest = (await kernel.os.call("auditLog", { limit: 10 })).map(({ id }) => id);
    expect(newest).toEqual(whole.slice(-10));
    await kernel.close();
  });

  test("step ends of one turn that nobody waits for are one record with their number; nothing else is", async () => {
    const kernel = await bootKernel({ signer });
    const os = await processWith(kernel, ["self", "fs.write"]);
    const before = (await all(kernel)).length;

    for (let at = 0; at < 100; at++) void os.call("stepEnd", { place: `s${at}`, value: at, detached: true });
    await os.fs.writeFile("/srv/a", "x");
    await expect((async () => os.call("unlink", { path: "/srv/a", detached: true } as never))()).rejects.toMatchObject({
      code: "EINVAL",
    });

    expect((await all(kernel)).slice(before).map(({ call, on, count }) => [call, on, count])).toEqual([
      ["stepEnd", "s0", 100],
      ["write", undefined, undefined],
    ]);
    await kernel.close();
  });

  test("a host that died seals at its next start what it had left", async () => {
    const store = new MemoryMetastore();
    const objects = new MemoryObjectStore();
    const kernel = await bootKernel({ store, objects, signer });
    await kernel.os.fs.writeFile("/srv/a", "one");

    // Nobody closes it.
    const next = await bootKernel({ store, objects, signer });
    await next.os.fs.writeFile("/srv/b", "two");

    expect(await next.os.call("auditVerify", {})).toMatchObject({ records: 2, unsealed: 0, signed: 2, seals: 2 });
    expect((await all(next)).map(({ id }) => id)).toEqual(["1-1", "2-1"]);
    await next.close();
  });
});

describe("what was done to a trail is found, and named", () => {
  const RECORDS = 10_000;
  const trail = sealed(RECORDS);
  const places = [0, 1, 254, 255, 256, 257, 4999, 7777, RECORDS - 2, RECORDS - 1];

  test("an untouched one is whole", async () => {
    const { store } = await trail;
    expect(await verify(store)).toMatchObject({ records: RECORDS, unsealed: 0 });
    expect((await verify(store)).fault).toBeUndefined();
  });

  test("any one byte of a record", async () => {
    const { store, ids } = await trail;
    for (const [turn, place] of places.entries()) {
      const report = await verify(
        tampered(store, "audit", (entries) =>
          entries.map((entry, at) => {
            if (at !== place) return entry;
            const text = String(entry.value);
            const byte = (turn * 37) % text.length;
            const other = text[byte] === "x" ? "y" : "x";
            return { ...entry, value: text.slice(0, byte) + other + text.slice(byte + 1) };
          }),
        ),
      );
      expect(report.fault?.what).toBe("altered");
      // Its own name may be what was altered, or that it can be read at all.
      const named = report.fault?.record ?? "";
      const isNear = named.split("").filter((char, at) => char !== ids[place]?.[at]).length <= 1;
      expect(isNear || named.startsWith("the record at position")).toBe(true);
    }
  }, 60_000);

  test("a record that is gone, one too many, and two in each other's place", async () => {
    const { store, ids } = await trail;
    for (const place of places.slice(1, 9)) {
      const gone = await verify(tampered(store, "audit", (entries) => entries.toSpliced(place, 1)));
      const added = await verify(
        tampered(store, "audit", (entries) =>
          entries.toSpliced(place, 0, {
            seq: entries[place]?.seq as never,
            value: JSON.stringify({ id: "9-9", at: 0, pid: 1, user: "x", call: "write", outcome: "ok" }),
          }),
        ),
      );
      const swapped = await verify(
        tampered(store, "audit", (entries) => {
          const [one, two] = [entries[place], entries[place + 1]];
          if (one === undefined || two === undefined) return entries;
          return entries.with(place, { ...one, value: two.value }).with(place + 1, { ...two, value: one.value });
        }),
      );
      expect(gone.fault).toMatchObject({ what: "missing" });
      expect(added.fault).toMatchObject({ what: "added", record: "9-9" });
      // Across the border of two seals neither seal knows the other's.
      expect(["reordered", "altered"]).toContain(swapped.fault?.what);
      expect(swapped.fault?.record).toBe(ids[place + 1]);
    }
  }, 60_000);

  test("a seal that is altered, gone, from another host, or not signed", async () => {
    const { store } = await trail;
    const edit = (change: (seal: Record<string, unknown>) => Record<string, unknown>) =>
      tampered(store, "audit.seals", (entries) =>
        entries.map((entry, at) =>
          at === 5
            ? { ...entry, value: JSON.stringify(change(JSON.parse(String(entry.value)) as Record<string, unknown>)) }
            : entry,
        ),
      );
    expect((await verify(edit((seal) => ({ ...seal, count: 1 })))).fault).toMatchObject({
      what: "seal altered",
      record: "seal 6",
    });
    expect((await verify(edit(({ signature: _gone, ...seal }) => seal))).fault).toMatchObject({
      what: "signature",
      record: "seal 6",
    });
    expect((await verify(edit((seal) => ({ ...seal, signature: "AAAA" })))).fault).toMatchObject({ what: "signature" });
    expect((await verify(tampered(store, "audit.seals", (entries) => entries.toSpliced(5, 1)))).fault).toMatchObject({
      what: "seal missing",
    });
    expect((await verify(tampered(store, "audit.seals", (entries) => entries.slice(0, -1)))).fault).toMatchObject({
      what: "seal missing",
    });
    expect((await verify(tampered(store, "audit.seals", (entries) => entries.slice(1)))).fault).toMatchObject({
      what: "seal missing",
    });
    expect((await verifyAudit(store, platform, { signer: openKeys() })).fault).toMatchObject({
      what: "signature",
      record: "seal 1",
    });
  }, 60_000);
});

describe("removal on somebody's word", () => {
  test("what a record was about can be removed, and the chain still holds; otherwise it is missed", async () => {
    const store = new MemoryMetastore();
    const kernel = await bootKernel({ store, signer });
    await kernel.os.fs.writeFile("/home/jane/diary", "x");
    await kernel.os.fs.writeFile("/srv/b", "x");
    const [one, two] = await all(kernel);

    expect(await kernel.os.call("auditRedact", { ids: [one?.id ?? ""], why: "asked to be forgotten" })).toBe(1);

    const records = await all(kernel);
    expect(JSON.stringify(records)).not.toContain("jane");
    expect(records.at(-1)).toMatchObject({
      call: "auditRedact",
      payload: { args: { ids: [one?.id], why: "asked to be forgotten" } },
    });
    expect(await kernel.os.call("auditVerify", {})).toMatchObject({ records: 3, redacted: 1 });
    expect((await kernel.os.call("auditVerify", {})).fault).toBeUndefined();
    await expect(
      kernel.os.call("auditRedact", { ids: [records.at(-1)?.id ?? ""], why: "cover" }),
    ).rejects.toMatchObject({ code: "EPERM" });
    await store.commit({ deletes: [`audit/${two?.id}`] });
    expect((await kernel.os.call("auditVerify", {})).fault).toMatchObject({ what: "payload missing", record: two?.id });
    await kernel.close();
  });

  test("old records can be forgotten, and the chain goes on", async () => {
    const store = new MemoryMetastore();
    const kernel = await bootKernel({ store, signer });
    for (let at = 0; at < 600; at++) await kernel.os.fs.writeFile("/srv/a", String(at));
    await kernel.host.audit.seal();
    const cut = await kernel.os.call("auditTrim", { before: Date.now() + 1000, why: "retention" });
    await kernel.os.fs.writeFile("/srv/b", "x");

    const report = await kernel.os.call("auditVerify", {});

    expect(cut?.through).toBeGreaterThan(0);
    expect(report).toMatchObject({ records: 2 });
    expect(report.fault).toBeUndefined();
    expect((await all(kernel)).map(({ call }) => call)).toEqual(["auditTrim", "write"]);
    await kernel.close();
  });

  test("a trim leaves a trail that agrees with the head kept outside, is read, and holds nothing of what went", async () => {
    const store = new LastingStore();
    let outside: string | undefined;
    const anchor = { read: () => outside, write: (head: string) => void (outside = head) };
    const first = await bootKernel({ store: store.life(), signer, anchor });
    for (let at = 0; at < 600; at++) await first.os.fs.writeFile("/srv/a", String(at));
    await first.close();
    const kernel = await bootKernel({ store: store.life(), signer, anchor });
    for (let at = 0; at < 300; at++) await kernel.os.fs.writeFile("/srv/a", String(at));
    await kernel.host.audit.seal();
    // As a trim leaves it that ends before it has removed what records were about.
    await kernel.host.store.commit({ puts: [{ key: "audit/1-1", value: "{}" }] });
    await kernel.os.call("auditTrim", { before: Date.now() + 1000, why: "retention" });

    expect((await kernel.os.call("auditVerify", {})).fault).toBeUndefined();
    expect((await all(kernel)).map(({ call }) => call)).toEqual(["auditTrim"]);
    expect(await kernel.os.call("auditLog", { limit: 5 })).toHaveLength(1);
    expect(
      (await kernel.host.store.scan({ from: "audit/", to: "audit0" }, { limit: 10 })).map(({ key }) => key),
    ).toHaveLength(1);
    await kernel.close();
  });
});
