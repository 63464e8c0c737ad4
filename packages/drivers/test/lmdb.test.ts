// LMDB as the store: what it keeps over deaths of its process, and what cannot be opened. Its law is in the suite.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LmdbMetastore } from "@ergos/drivers/lmdb";
import { LIMITS, SEQ_ZERO } from "@ergos/kernel";
import { afterEach, beforeEach, expect, test } from "vitest";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ergos-lmdb-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test.skipIf(process.getuid?.() !== 0)(
  "(needs root to mount a small disk) a full disk is told as that, and the store closes",
  async () => {
    expect(spawnSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", dir]).status).toBe(0);
    try {
      const store = await LmdbMetastore.open({ dir });
      let failure: unknown;
      let written = 0;
      for (; failure === undefined && written < 1000; written++)
        await store.commit({ puts: [{ key: `k${written}`, value: "x".repeat(10_000) }] }).catch((error: unknown) => {
          failure = error;
        });
      expect(failure).toMatchObject({ code: "ENOSPC" });
      await expect(store.commit({ puts: [{ key: "more", value: "" }] })).rejects.toMatchObject({ code: "ENOSPC" });
      await store.close().catch(() => undefined);
      spawnSync("mount", ["-o", "remount,size=40m", dir]);
      const again = await LmdbMetastore.open({ dir });
      for (let at = 0; at < written - 1; at++) expect(await again.get(`k${at}`)).toBeDefined();
      await again.close();
    } finally {
      spawnSync("umount", ["-l", dir]);
    }
  },
);

test("all of it is there again: the map with its versions, logs with their trims, the tail", async () => {
  const first = await LmdbMetastore.open({ dir, tailRetention: 3 });
  await first.commit({ puts: [{ key: "a", value: "1" }], appends: [{ log: "l", value: "one" }] });
  await first.commit({ puts: [{ key: "b", value: new Uint8Array([1, 0]) }], appends: [{ log: "l", value: "two" }] });
  await first.commit({
    adds: [{ key: "n", delta: 3, max: 5 }],
    deletes: ["a"],
    appends: [{ log: "l2", value: "other" }],
  });
  const { seq } = await first.commit({ trims: [{ log: "l", through: 1 as never }] });
  for (let at = 0; at < 3; at++) await first.commit({ puts: [{ key: "c", value: String(at) }] });
  await first.close();
  await expect(first.get("a")).rejects.toMatchObject({ code: "EIO" });
  const again = await LmdbMetastore.open({ dir });
  expect(again.seq).toBe(seq + 3);
  expect(await again.get("a")).toBeUndefined();
  expect(await again.get("b")).toMatchObject({ version: 2 });
  expect((await again.get("n"))?.value).toBe("3");
  expect((await again.readLog("l", { after: SEQ_ZERO, limit: 9 })).map(({ value }) => value)).toEqual(["two"]);
  expect(await again.readLog("l2", { after: SEQ_ZERO, limit: 9 })).toHaveLength(1);
  await expect(again.tail(SEQ_ZERO, { limit: 9 })).rejects.toMatchObject({ code: "ESTALE" });
  await expect(again.commit({ adds: [{ key: "n", delta: 3, max: 5 }] })).rejects.toMatchObject({ code: "EDQUOT" });
  await again.close();
});

test("a second opener is told who has it, and a file that is none is damaged", async () => {
  const store = await LmdbMetastore.open({ dir });
  await expect(LmdbMetastore.open({ dir })).rejects.toMatchObject({ code: "EBUSY" });
  await store.commit({ puts: [{ key: "a", value: "1" }] });
  await store.close();
  const file = join(dir, "store.mdb");
  const whole = readFileSync(file);
  for (const damaged of [
    Buffer.alloc(whole.length, 7),
    whole.subarray(0, 100),
    whole.subarray(0, whole.length - 4096),
  ]) {
    writeFileSync(file, damaged);
    await expect(LmdbMetastore.open({ dir })).rejects.toMatchObject({ code: "ECORRUPT" });
  }
  writeFileSync(file, whole);
  const again = await LmdbMetastore.open({ dir });
  expect((await again.get("a"))?.value).toBe("1");
  await again.close();
});

test("what is decided and not written yet is seen, in its place and not twice", async () => {
  const store = await LmdbMetastore.open({ dir });
  await store.commit({
    puts: ["a", "c", "e"].map((key) => ({ key, value: "old" })),
    appends: [{ log: "l", value: "0" }],
  });
  const under = [
    store.commit({ puts: [{ key: "b", value: "new" }], deletes: ["c"], appends: [{ log: "l", value: "1" }] }),
    store.commit({ puts: [{ key: "e", value: "new" }], appends: [{ log: "l", value: "2" }] }),
  ];
  const range = { from: "a", to: "z" };
  for (let round = 0; round < 2; round++) {
    expect((await store.scan(range, { limit: 9 })).map(({ key, value }) => key + value)).toEqual([
      "aold",
      "bnew",
      "enew",
    ]);
    expect((await store.scan(range, { limit: 2, reverse: true })).map(({ key }) => key)).toEqual(["e", "b"]);
    expect((await store.readLog("l", { after: SEQ_ZERO, limit: 9 })).map(({ value }) => value)).toEqual([
      "0",
      "1",
      "2",
    ]);
    await Promise.all(under);
  }
  await store.close();
});

test("many who write much wait for room and lose nothing", async () => {
  const store = await LmdbMetastore.open({ dir });
  const large = new Uint8Array(Math.floor(LIMITS.commitBytesMax / 2));
  const count = Math.ceil((2 * LIMITS.pendingBytesMax) / large.length);
  await Promise.all(
    Array.from({ length: count }, (_, at) =>
      store.commit({
        puts: [{ key: "k", value: large }],
        adds: [{ key: "n", delta: 1, max: 1e6 }],
        appends: [{ log: "l", value: String(at) }],
      }),
    ),
  );
  expect((await store.get("n"))?.value).toBe(String(count));
  expect(await store.readLog("l", { after: SEQ_ZERO, limit: 2 * count })).toHaveLength(count);
  await store.close();
}, 60_000);

test("tail tells every commit that was decided before, also where some waited for room", async () => {
  const store = await LmdbMetastore.open({ dir });
  const large = new Uint8Array(LIMITS.commitBytesMax - 1000);
  const count = Math.ceil(LIMITS.pendingBytesMax / large.length) + 3;
  const commits = Array.from({ length: count }, (_, at) => store.commit({ puts: [{ key: `${at}`, value: large }] }));
  await Promise.resolve();
  const decided = store.seq;
  expect((await store.tail(SEQ_ZERO, { limit: 100 })).length).toBeGreaterThanOrEqual(decided);
  await Promise.all(commits);
  await store.close();
}, 60_000);

/** Commits pairs that must agree, and says up to which number they were acknowledged. */
const WRITER = `
import { LmdbMetastore } from "@ergos/drivers/lmdb";
const store = await LmdbMetastore.open({ dir: process.argv[1] });
for (let at = Number((await store.get("one"))?.value ?? 0) + 1; ; at++) {
  const puts = [{ key: "one", value: String(at) }, { key: "two", value: String(at) }];
  await store.commit({ puts, adds: [{ key: "count", delta: 1, max: 1e9 }], appends: [{ log: "l", value: String(at) }] });
  process.stdout.write(at + "\\n");
}
`;

test("a process that is killed at any moment leaves whole commits, and all that were acknowledged", async () => {
  for (let round = 0; round < 20; round++) {
    const child: ChildProcess = spawn(
      process.execPath,
      ["--conditions=@ergos/source", "--input-type=module", "-e", WRITER, dir],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    let told = "";
    child.stdout?.on("data", (piece: Buffer) => (told += piece.toString()));
    while (!told.includes("\n")) await new Promise((go) => setTimeout(go, 1));
    await new Promise((go) => setTimeout(go, Math.random() * 20));
    child.kill("SIGKILL");
    await once(child, "close");
    const acknowledged = Number(told.slice(0, told.lastIndexOf("\n")).split("\n").at(-1));
    const store = await LmdbMetastore.open({ dir });
    const values = await Promise.all(["one", "two", "count"].map(async (key) => Number((await store.get(key))?.value)));
    expect(new Set(values).size).toBe(1);
    expect(values[0]).toBeGreaterThanOrEqual(acknowledged);
    const log = await store.readLog("l", { after: SEQ_ZERO, limit: 1e6 });
    expect(log.map(({ value }) => Number(value))).toEqual(Array.from({ length: values[0] ?? 0 }, (_, at) => at + 1));
    await store.close();
  }
}, 60_000);
