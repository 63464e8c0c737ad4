import { spawnSync } from "node:child_process";
import { hash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ContentId } from "@ergos/kernel";
import { DiskObjectStore } from "@ergos/drivers/disk";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ergos-disk-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const PACK_BYTES = 64 * 1024;
const open = (packBytes = PACK_BYTES): Promise<DiskObjectStore> => DiskObjectStore.open(dir, { packBytes });
const packs = (): readonly string[] => readdirSync(join(dir, "packs")).toSorted();
const contentOf = (number: number, length = 9000): Uint8Array => Buffer.alloc(length, `content ${number} `);

/** Numbers that are the same in every run. */
function chanceOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

async function putAll(store: DiskObjectStore, count: number): Promise<readonly ContentId[]> {
  const ids: ContentId[] = [];
  for (let at = 0; at < count; at++) ids.push(await store.put(contentOf(at)));
  return ids;
}

async function listed(store: DiskObjectStore): Promise<readonly ContentId[]> {
  const ids: ContentId[] = [];
  for await (const id of store.list()) ids.push(id);
  return ids.toSorted();
}

describe("blobs on disk", () => {
  test("content of all sizes is there after a restart, also without the indexes of the packs", async () => {
    const store = await open();
    const ids = [
      ...(await putAll(store, 40)),
      await store.put(new Uint8Array(0)),
      await store.put(contentOf(7, 3 << 20)),
    ];
    await store.close();
    expect(packs().filter((name) => name.endsWith(".idx")).length).toBeGreaterThan(2);

    for (const isIndexed of [true, false]) {
      if (!isIndexed) for (const name of packs()) if (name.endsWith(".idx")) rmSync(join(dir, "packs", name));
      const again = await open();
      expect(await listed(again)).toEqual([...ids].toSorted());
      for (let at = 0; at < 40; at++) expect(Buffer.compare(await again.get(ids[at]!), contentOf(at))).toBe(0);
      expect(await again.size(ids[41]!)).toBe(3 << 20);
      expect(Buffer.from(await again.get(ids[3]!, { offset: 2, length: 5 })).toString()).toBe("ntent");
      await again.close();
    }
    // What had none has got one.
    expect(packs().filter((name) => name.endsWith(".idx")).length).toBeGreaterThan(2);
  });

  test("a directory of an earlier version, with a file for each, is read on", async () => {
    const bytes = Buffer.from("hello");
    const hex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    mkdirSync(join(dir, hex.slice(0, 2)), { recursive: true });
    writeFileSync(join(dir, hex.slice(0, 2), hex.slice(2)), bytes);

    const store = await open();
    const id = await store.put(bytes);

    expect(id).toBe(`sha256-${hex}`);
    expect(await listed(store)).toEqual([id]);
    await store.delete(id);
    expect(await store.size(id)).toBeUndefined();
    await store.close();
  });

  test("packs of forgotten content are given back to the disk, and what is left in them stays", async () => {
    const store = await open();
    const ids = await putAll(store, 60);
    const before = packs().length;
    for (const [at, id] of ids.entries()) if (at % 5 !== 0) await store.delete(id);
    await store.close();

    const again = await open();
    const left = ids.filter((_id, at) => at % 5 === 0);
    expect(await listed(again)).toEqual([...left].toSorted());
    for (const [at, id] of left.entries()) expect(Buffer.compare(await again.get(id), contentOf(at * 5))).toBe(0);
    expect(packs().length).toBeLessThan(before / 2);
    await again.close();
  });

  test("content is read and stored while packs are closed and rewritten", async () => {
    const store = await open();
    const kept = await putAll(store, 12);
    await Promise.all(
      Array.from({ length: 8 }, async (_, who) => {
        for (let at = 0; at < 60; at++) {
          const id = await store.put(contentOf(1000 + who * 100 + at));
          const known = kept[at % 12]!;
          expect(Buffer.compare(await store.get(known), contentOf(at % 12))).toBe(0);
          await store.delete(id);
        }
      }),
    );
    await store.close();

    const again = await open();
    expect(await listed(again)).toEqual([...kept].toSorted());
    await again.close();
  });

  test("after a loss of power everything that was acknowledged is whole, and what was torn can be stored again", async () => {
    const seed = 11;
    const chance = chanceOf(seed);
    for (let cut = 0; cut < 60; cut++) {
      const store = await open(1 << 20);
      const acknowledged: [ContentId, number][] = [];
      const count = 1 + chance(12);
      for (let at = 0; at < count; at++)
        acknowledged.push([await store.put(contentOf(cut * 100 + at)), cut * 100 + at]);
      const file = join(
        dir,
        "packs",
        packs().findLast((name) => name.endsWith(".pack"))!,
      );
      const synced = endOf(file);
      // These are under way, and their sync never comes to its end.
      const late = Array.from({ length: 1 + chance(6) }, (_, at) => store.put(contentOf(cut * 100 + 50 + at)));
      await new Promise((resolve) => setImmediate(resolve));
      const image = readFileSync(file);
      for (let at = Math.ceil(synced / 512) * 512; at < image.length; at += 512)
        if (chance(2) === 0) image.fill(0, at, Math.min(at + 512, image.length));
      await Promise.all(late);
      await store.close();
      writeFileSync(file, image);

      const again = await open(1 << 20);
      for (const [id, number] of acknowledged)
        expect(Buffer.compare(await again.get(id), contentOf(number)), `seed ${seed}, cut ${cut}`).toBe(0);
      for (let at = 0; at < late.length; at++) {
        const id = await again.put(contentOf(cut * 100 + 50 + at));
        expect(Buffer.compare(await again.get(id), contentOf(cut * 100 + 50 + at)), `seed ${seed}, cut ${cut}`).toBe(0);
      }
      await again.close();
      rmSync(join(dir, "packs"), { recursive: true });
    }
  });

  test("a damaged header hides its own content and no other, and nothing is written over what follows", async () => {
    const store = await open(1 << 20);
    const ids = await putAll(store, 4);
    await store.close();
    const file = join(dir, "packs", packs()[0]!);
    const bytes = readFileSync(file);
    bytes[9048 + 20]! ^= 1;
    writeFileSync(file, bytes);

    const again = await open(1 << 20);
    expect(await again.size(ids[1]!)).toBeUndefined();
    await again.put(contentOf(9));
    for (const at of [0, 2, 3]) expect(Buffer.compare(await again.get(ids[at]!), contentOf(at))).toBe(0);
    await again.close();
  });

  test("content that looks like records takes nothing back", async () => {
    const store = await open(1 << 20);
    const ids = await putAll(store, 2);
    await store.delete(ids[1]!);
    await store.close();
    const file = join(dir, "packs", packs()[0]!);
    const forgotten = readFileSync(file).subarray(-48);
    forgotten.set(Buffer.from(ids[0]!.slice(7), "hex"), 12);
    forgotten.set(hash("sha256", forgotten.subarray(0, 44), "buffer").subarray(0, 4), 44);
    const evil = await open(1 << 20);
    await evil.put(Buffer.concat([Buffer.alloc(100), forgotten, Buffer.alloc(100)]));
    await evil.close();
    const bytes = readFileSync(file);
    bytes[2 * 9048 + 48 + 20]! ^= 1;
    writeFileSync(file, bytes);

    const again = await open(1 << 20);
    expect(Buffer.compare(await again.get(ids[0]!), contentOf(0))).toBe(0);
    await again.close();
  });

  test("a record that is damaged is told of when it is read", async () => {
    const store = await open(1 << 20);
    const [id, other] = await putAll(store, 2);
    await store.close();
    const file = join(dir, "packs", packs()[0]!);
    const bytes = readFileSync(file);
    bytes[200]! ^= 1;
    writeFileSync(file, bytes);

    const again = await open(1 << 20);
    await expect(again.get(id!)).rejects.toMatchObject({ code: "ECORRUPT" });
    expect(Buffer.compare(await again.get(other!), contentOf(1))).toBe(0);
    // Whoever has it can store it once more.
    expect(await again.put(contentOf(0))).toBe(id);
    expect(Buffer.compare(await again.get(id!), contentOf(0))).toBe(0);
    await again.close();
  });

  test.skipIf(process.getuid?.() !== 0)(
    "(needs root to mount a small disk) a full disk refuses what does not fit, and goes on when there is room",
    async () => {
      expect(spawnSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", dir]).status).toBe(0);
      try {
        const store = await open(8 << 20);
        const stored: [ContentId, number][] = [];
        let failure: unknown;
        for (let at = 0; failure === undefined && at < 100; at++)
          await store.put(contentOf(at, 50_000)).then(
            (id) => stored.push([id, at]),
            (error: unknown) => (failure = error),
          );
        expect(failure).toMatchObject({ code: "ENOSPC" });
        spawnSync("mount", ["-o", "remount,size=20m", dir]);
        stored.push([await store.put(contentOf(500, 50_000)), 500]);
        await store.close();

        const again = await open(8 << 20);
        for (const [id, number] of stored)
          expect(Buffer.compare(await again.get(id), contentOf(number, 50_000))).toBe(0);
        expect((await listed(again)).length).toBe(stored.length);
        await again.close();
      } finally {
        spawnSync("umount", ["-l", dir]);
      }
    },
  );

  test.each([
    ["the newest pack", 9000, 1],
    ["a closed pack", 9000, 20],
    ["a file of its own", 2 * 1024 * 1024, 1],
  ])(
    "content in %s that was damaged is told of, and is right once it is stored again",
    async (_where, length, count) => {
      const bytes = contentOf(7, length);
      const store = await open();
      const id = await store.put(bytes);
      await putAll(store, count);
      await store.close();
      for (const name of readdirSync(dir, { recursive: true }).map(String)) {
        const file = join(dir, name);
        if (!statSync(file).isFile() || name.endsWith(".idx")) continue;
        const whole = readFileSync(file);
        const at = whole.indexOf(bytes.subarray(0, 4096));
        if (at < 0) continue;
        whole[at + 5000] = (whole[at + 5000] ?? 0) ^ 1;
        writeFileSync(file, whole);
      }
      const next = await open();
      await expect(next.get(id)).rejects.toMatchObject({ code: "ECORRUPT" });
      expect(await next.put(bytes)).toBe(id);
      expect(Buffer.from(bytes).equals(await next.get(id))).toBe(true);
      await next.close();
      const last = await open();
      expect(Buffer.from(bytes).equals(await last.get(id))).toBe(true);
      await last.close();
    },
  );

  test("a pack takes no more of the disk than what is in it", async () => {
    const store = await open(1 << 20);
    await store.put(contentOf(1));
    await store.close();

    expect(statSync(join(dir, "packs", packs()[0]!)).size).toBe(9000 + 48);
  });
});

/** Where the records of a pack end. */
function endOf(file: string): number {
  const bytes = readFileSync(file);
  let at = 0;
  while (at + 48 <= bytes.length && bytes.readUInt32BE(at) !== 0) at += 48 + bytes.readUInt32BE(at + 8);
  return at;
}
