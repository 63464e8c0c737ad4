import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type CacheStore, KernelError, type RecordStore } from "@ergos/kernel";
import { CACHE_STORE_CASES, RECORD_STORE_CASES } from "@ergos/kernel/conformance";
import { MemoryCacheStore, NullCacheStore } from "@ergos/drivers/memory";
import { PostgresRecordStore } from "@ergos/drivers/records-postgres";
import { SqliteRecordStore } from "@ergos/drivers/records-sqlite";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type PostgresServer, postgresMissing, startPostgres } from "./postgres-server.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ergos-records-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const CACHES: Readonly<Record<string, () => CacheStore>> = {
  memory: () => new MemoryCacheStore(),
  null: () => new NullCacheStore(),
};
for (const [name, open] of Object.entries(CACHES)) {
  describe(`cache store ${name}`, () => {
    for (const { name: title, run } of CACHE_STORE_CASES) {
      test(title, async () => {
        const cache = open();
        await run(cache);
        await cache.close();
      });
    }
  });
}

describe("cache store memory", () => {
  test("what is too old is gone, and what was used longest ago makes room", async () => {
    let now = 0;
    const cache = new MemoryCacheStore({ bytesMax: 60, now: () => now });
    await cache.set("short", "x", { ttlMs: 10 });
    now = 9;
    expect(await cache.get("short")).toBe("x");
    now = 10;
    expect(await cache.get("short")).toBeUndefined();
    for (const key of ["a", "b", "c"]) await cache.set(key, new Uint8Array(17));
    await cache.get("a");
    await cache.set("d", new Uint8Array(17));
    expect(await cache.get("b")).toBeUndefined();
    expect(await cache.get("a")).toEqual(new Uint8Array(17));
    await cache.set("a", "x".repeat(100));
    expect(await cache.get("a")).toBeUndefined();
  });
});

describe("record store sqlite", () => {
  const open = (): RecordStore => new SqliteRecordStore({ file: join(dir, "records.db") });
  for (const { name: title, run } of RECORD_STORE_CASES) {
    test(title, async () => {
      const store = open();
      await run(store);
      await store.close();
    });
  }

  test("lasts, answers what a change gives, and refuses a transaction inside of one", async () => {
    const first = open();
    await first.execute("CREATE TABLE t (n INTEGER)");
    expect(await first.query("INSERT INTO t VALUES (?) RETURNING n", [5])).toEqual([{ n: 5 }]);
    const inside = first.transaction(() => first.execute("INSERT INTO t VALUES (6)"));
    await expect(inside).rejects.toMatchObject({ code: "EDEADLK" });
    await expect(first.query("SELECT 9007199254740993 AS n")).rejects.toMatchObject({ code: "EINVAL" });
    await first.close();
    const again = open();
    expect(await again.query("SELECT n FROM t")).toEqual([{ n: 5 }]);
    await again.close();
    writeFileSync(join(dir, "none.db"), "no database at all, but a text that is long enough");
    expect(() => new SqliteRecordStore({ file: join(dir, "none.db") })).toThrow(KernelError);
  });
});

const missing = postgresMissing();

describe.skipIf(missing !== undefined)(`record store postgres${missing === undefined ? "" : `: ${missing}`}`, () => {
  let server: PostgresServer;
  let admin: PostgresRecordStore;
  let databases = 0;
  beforeAll(async () => {
    server = await startPostgres();
    admin = await PostgresRecordStore.open({ url: server.url("postgres") });
  }, 60_000);
  afterAll(async () => {
    await admin.close();
    await server.stop();
  });

  const open = async (replicas: readonly string[] = []): Promise<PostgresRecordStore> => {
    const name = `test${++databases}`;
    await admin.execute(`CREATE DATABASE ${name}`);
    return PostgresRecordStore.open({ url: server.url(name), replicas: replicas.map(() => server.url(name)) });
  };

  for (const { name: title, run } of RECORD_STORE_CASES) {
    test(title, async () => {
      const store = await open();
      await run(store);
      await store.close();
    });
  }

  test("reads go to replicas in turn, and to the primary where none answers", async () => {
    const store = await open(["one", "two"]);
    await store.execute("CREATE TABLE t (n BIGINT, ok BOOLEAN, at TIMESTAMPTZ)");
    await store.execute("INSERT INTO t VALUES (?, true, '2026-01-02T03:04:05Z')", [1]);
    const [row] = await store.query("SELECT n, ok, at FROM t", [], { from: "replica" });
    expect(row).toMatchObject({ n: 1, ok: 1, at: expect.stringContaining("2026-01-02") as unknown });
    await store.close();
    const name = `test${databases}`;
    const lonely = await PostgresRecordStore.open({ url: server.url(name), replicas: ["postgresql://127.0.0.1:1/x"] });
    expect(await lonely.query("SELECT n FROM t", [], { from: "replica" })).toEqual([{ n: 1 }]);
    await lonely.close();
  });

  test("a server that dies is told of, and the next call finds it again", async () => {
    const store = await open();
    await store.execute("CREATE TABLE t (n BIGINT)");
    const slow = store.query("SELECT pg_sleep(30)");
    const told = expect(slow).rejects.toMatchObject({ code: expect.stringMatching(/^(?:ECONNRESET|EAGAIN)$/) });
    await new Promise((resolve) => setTimeout(resolve, 100));
    await server.restart();
    await told;
    await expect.poll(() => store.query("SELECT n FROM t").catch(() => undefined), { timeout: 10_000 }).toEqual([]);
    await store.close();
  }, 60_000);

  test("what cannot be reached, or takes too long, has its error", async () => {
    await expect(PostgresRecordStore.open({ url: "postgresql://test@127.0.0.1:1/x" })).rejects.toMatchObject({
      code: "ECONNREFUSED",
    });
    await expect(PostgresRecordStore.open({ url: server.url("nowhere") })).rejects.toBeInstanceOf(KernelError);
    const store = await PostgresRecordStore.open({ url: server.url("postgres"), statementMs: 100 });
    await expect(store.query("SELECT pg_sleep(5)")).rejects.toMatchObject({ code: "ETIMEDOUT" });
    await store.close();
    const narrow = await PostgresRecordStore.open({ url: server.url("postgres"), connections: 1, connectMs: 4_000 });
    const held = narrow.query("SELECT pg_sleep(5)");
    await expect(narrow.query("SELECT 1")).rejects.toMatchObject({ code: "ETIMEDOUT" });
    await held;
    await narrow.close();
  }, 30_000);
});
