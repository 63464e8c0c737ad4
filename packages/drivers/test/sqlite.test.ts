import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { networkFilesystemOf, SqliteMetastore } from "@ergos/drivers/sqlite";
import { MemoryMetastore } from "@ergos/drivers/memory";
import { type Batch, type Metastore, SEQ_ZERO, toSeq } from "@ergos/kernel";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { createChance } from "../../../tools/simulation/random.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ergos-sqlite-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const everything = async (store: Metastore): Promise<unknown> => {
  const entries = await store.scan({ from: "", to: "\uD7FF" }, { limit: 10_000 });
  const logs: unknown[] = [];
  for (const log of ["l0", "l1", "l2"])
    logs.push((await store.readLog(log, { after: SEQ_ZERO, limit: 100_000 })).map(({ seq, value }) => [seq, value]));
  const plain = (_key: string, value: unknown): unknown => {
    if (value instanceof Uint8Array) return Array.from(value);
    const isBuffer = typeof value === "object" && value !== null && "type" in value && value.type === "Buffer";
    return isBuffer && "data" in value ? value.data : value;
  };
  return JSON.parse(JSON.stringify({ entries, logs }, plain));
};

describe("the same as the reference model", () => {
  test("random commits, folds and restarts leave the state of the memory driver", async () => {
    const chance = createChance(3);
    const model = new MemoryMetastore();
    let store = await SqliteMetastore.open({ dir, foldRows: 40, checkpointFrames: 60 });
    for (let round = 0; round < 600; round++) {
      const batch = randomBatch(chance, round);
      const both = await Promise.allSettled([model.commit(batch), store.commit(batch)]);
      expect(both[1].status).toBe(both[0].status);
      if (round % 150 === 149) {
        await store.close();
        store = await SqliteMetastore.open({ dir, foldRows: 40, checkpointFrames: 60 });
      }
      if (round % 37 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
      if (round % 60 === 0) expect(await everything(store)).toEqual(await everything(model));
    }

    expect(await everything(store)).toEqual(await everything(model));
    expect(store.seq).toBe(model.seq);
    await store.close();
  });

  test("pages of a long log are those of the memory driver, whatever is folded and wherever they begin", async () => {
    const chance = createChance(5);
    const model = new MemoryMetastore();
    const open = () => SqliteMetastore.open({ dir, foldRows: 900 });
    let store = await open();
    const positions = [SEQ_ZERO];
    for (let round = 0; round < 150; round++) {
      const count = round % 10 === 0 ? chance.between(250, 700) : chance.between(1, 40);
      const value = (at: number): string => `${round}.${at} ${"x".repeat(round % 25 === 0 ? 2000 : 20)}`;
      const appends = Array.from({ length: count }, (_, at) => ({ log: "long", value: value(at) }));
      const receipts = await Promise.all([model.commit({ appends }), store.commit({ appends })]);
      positions.push(receipts[1].seq);
      if (round % 50 === 49) {
        await store.close();
        store = await open();
      }
      if (round % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    for (const limit of [1, 7, 256, 1000, 100_000]) {
      for (let probe = 0; probe < 40; probe++) {
        const after = positions[chance.between(0, positions.length - 1)] ?? SEQ_ZERO;
        const pages = await Promise.all([model, store].map((one) => one.readLog("long", { after, limit })));
        expect(pages[1]).toEqual(pages[0]);
      }
    }
    await store.close();
  });

  function randomBatch(chance: ReturnType<typeof createChance>, round: number): Batch {
    const key = (): string => `k${chance.between(0, 30)}`;
    const keys = [...new Set([key(), key(), key()])];
    return {
      puts: keys
        .slice(0, 2)
        .map((one) => ({ key: one, value: chance.next() < 0.5 ? `text ${round}` : new Uint8Array([round % 256, 1]) })),
      deletes: keys.slice(2),
      adds: chance.next() < 0.5 ? [{ key: "counter", delta: chance.between(-2, 4), max: 60 }] : [],
      appends: chance.next() < 0.7 ? [{ log: `l${chance.between(0, 2)}`, value: `entry ${round}` }] : [],
      trims: round % 50 === 49 ? [{ log: "l1", through: toSeq(chance.between(1, round)) }] : [],
    };
  }
});

describe("the log file", () => {
  test("steady flushed load keeps it bounded and loses nothing", async () => {
    const store = await SqliteMetastore.open({ dir, checkpointFrames: 200 });
    let next = 0;
    const lane = async (): Promise<void> => {
      while (next < 12_000) {
        const receipt = await store.commit({ appends: [{ log: "l", value: `${next++} ${"x".repeat(400)}` }] });
        await receipt.flushed;
      }
    };
    await Promise.all(Array.from({ length: 40 }, lane));

    expect(statSync(join(dir, "store.db-wal")).size).toBeLessThan(24 * 1024 * 1024);
    await store.close();
    const again = await SqliteMetastore.open({ dir });
    expect((await again.readLog("l", { after: SEQ_ZERO, limit: 100_000 })).length).toBeGreaterThanOrEqual(12_000);
    await again.close();
  }, 60_000);

  test("the tail is kept as long as promised, and an older position is stale", async () => {
    const store = await SqliteMetastore.open({ dir, tailRetention: 100, foldRows: 50 });
    for (let at = 0; at < 1500; at++) await store.commit({ puts: [{ key: "k", value: String(at) }] });

    // Folding waits for a quiet moment, and only then is the tail cut.
    await vi.waitFor(() => expect(store.tail(toSeq(1), { limit: 10 })).rejects.toMatchObject({ code: "ESTALE" }), {
      timeout: 10_000,
      interval: 50,
    });
    expect((await store.tail(toSeq(store.seq - 50), { limit: 100 })).length).toBe(50);
    await store.close();
  });
});

describe("one owner", () => {
  test("a second opener is told the owner's pid, in this process and in another", async () => {
    const store = await SqliteMetastore.open({ dir });
    const script = `import { SqliteMetastore } from "@ergos/drivers/sqlite"; await SqliteMetastore.open({ dir: ${JSON.stringify(dir)} });`;
    const other = spawnSync(process.execPath, ["--conditions=@ergos/source", "--input-type=module", "-e", script], {
      cwd: import.meta.dirname,
      encoding: "utf8",
    });

    await expect(SqliteMetastore.open({ dir })).rejects.toMatchObject({
      code: "EBUSY",
      message: expect.stringContaining(`process ${process.pid}`) as unknown,
    });
    expect(other.stderr).toContain(`owned by process ${process.pid}`);
    await store.close();
    await (await SqliteMetastore.open({ dir })).close();
  });

  test("an owner that is killed leaves the directory free", async () => {
    const script = `import { SqliteMetastore } from "@ergos/drivers/sqlite"; const s = await SqliteMetastore.open({ dir: ${JSON.stringify(dir)} }); await s.commit({ puts: [{ key: "a", value: "1" }] }); console.log("open"); setInterval(() => {}, 1000);`;
    const owner = spawn(process.execPath, ["--conditions=@ergos/source", "--input-type=module", "-e", script], {
      cwd: import.meta.dirname,
    });
    await new Promise((resolve) => owner.stdout.once("data", resolve));
    await expect(SqliteMetastore.open({ dir })).rejects.toMatchObject({ code: "EBUSY" });
    owner.kill("SIGKILL");
    await new Promise((resolve) => owner.once("exit", resolve));

    const store = await SqliteMetastore.open({ dir });

    expect((await store.get("a"))?.value).toBe("1");
    await store.close();
  });
});

describe("bad surroundings", () => {
  test("a damaged database is named, and nothing is written into it", async () => {
    writeFileSync(join(dir, "store.db"), Buffer.alloc(8192, 7));

    await expect(SqliteMetastore.open({ dir })).rejects.toMatchObject({
      code: "ECORRUPT",
      message: expect.stringContaining("store.db") as unknown,
    });
  });

  test("a store of a newer format is refused with what to do", async () => {
    const store = await SqliteMetastore.open({ dir });
    await store.close();
    const db = new DatabaseSync(join(dir, "store.db"));
    db.exec("UPDATE meta SET value = 99 WHERE name = 'format'");
    db.close();

    await expect(SqliteMetastore.open({ dir })).rejects.toMatchObject({
      code: "EVERSION",
      message: expect.stringContaining("newer ErgOS") as unknown,
    });
  });

  test("a directory that cannot be made is named", async () => {
    writeFileSync(join(dir, "file"), "");

    await expect(SqliteMetastore.open({ dir: join(dir, "file", "data") })).rejects.toMatchObject({ code: "ENOTDIR" });
  });

  test("a directory that cannot be written is named", async () => {
    // Permissions do not bind root; a read-only mount does.
    const isRoot = process.getuid?.() === 0;
    if (isRoot) expect(spawnSync("mount", ["-t", "tmpfs", "-o", "ro", "tmpfs", dir]).status).toBe(0);
    else chmodSync(dir, 0o500);
    try {
      await expect(SqliteMetastore.open({ dir })).rejects.toMatchObject({ code: "EROFS" });
    } finally {
      if (isRoot) spawnSync("umount", ["-l", dir]);
      else chmodSync(dir, 0o700);
    }
  });

  test("a database that has lost its content is not taken for a new one", async () => {
    const store = await SqliteMetastore.open({ dir });
    await store.close();
    writeFileSync(join(dir, "store.db"), "");
    rmSync(join(dir, "store.db-wal"), { force: true });
    // One that was never finished is begun again.
    await (await SqliteMetastore.open({ dir })).close();
    mkdirSync(join(dir, "blobs"));
    writeFileSync(join(dir, "store.db"), "");
    rmSync(join(dir, "store.db-wal"), { force: true });
    await expect(SqliteMetastore.open({ dir })).rejects.toMatchObject({ code: "ECORRUPT" });
    rmSync(join(dir, "store.db"));
    await (await SqliteMetastore.open({ dir })).close();
  });

  test("a network filesystem is known by its number", () => {
    expect(networkFilesystemOf("/x", () => ({ type: 0x6969 }))).toBe("NFS");
    expect(networkFilesystemOf("/x", () => ({ type: -11317950 }))).toBe("CIFS");
    expect(networkFilesystemOf("/x", () => ({ type: 0xef53 }))).toBeUndefined();
  });

  test.skipIf(process.getuid?.() !== 0)(
    "(needs root to mount a small disk) a full disk poisons the store with ENOSPC, and what was committed is there when there is room again",
    async () => {
      expect(spawnSync("mount", ["-t", "tmpfs", "-o", "size=6m", "tmpfs", dir]).status).toBe(0);
      try {
        const store = await SqliteMetastore.open({ dir });
        let committed = 0;
        let failure: unknown;
        for (let at = 0; at < 3000 && failure === undefined; at++) {
          await store.commit({ appends: [{ log: "l", value: new Uint8Array(16_000) }] }).then(
            () => committed++,
            (error: unknown) => (failure = error),
          );
        }
        await expect(store.commit({ puts: [{ key: "late", value: "1" }] })).rejects.toMatchObject({ code: "ENOSPC" });
        await store.close();
        spawnSync("mount", ["-o", "remount,size=200m", dir]);

        const again = await SqliteMetastore.open({ dir });

        expect(failure).toMatchObject({ code: "ENOSPC" });
        expect((await again.readLog("l", { after: SEQ_ZERO, limit: 100_000 })).length).toBe(committed);
        expect(await again.get("late")).toBeUndefined();
        await again.close();
      } finally {
        spawnSync("umount", ["-l", dir]);
      }
    },
    60_000,
  );
});
