import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SqliteRecordStore } from "@ergos/drivers/records-sqlite";
import { type RunContext, connect, program, recordService } from "ergos";
import { expect, test } from "vitest";

interface Records {
  query(args: { readonly sql: string; readonly params?: readonly unknown[] }): Promise<readonly unknown[]>;
  execute(args: { readonly sql: string; readonly params?: readonly unknown[] }): Promise<{ readonly changes: number }>;
  transaction(args: {
    readonly statements: readonly { readonly sql: string; readonly params?: readonly unknown[] }[];
  }): Promise<unknown>;
}

test("programs share tables by a service, each as far as it may", async () => {
  const dir = mkdtempSync(join(tmpdir(), "ergos-records-"));
  const service = recordService(() => new SqliteRecordStore({ file: join(dir, "records.db") }));
  const os = await connect({ services: [service] });
  try {
    await os.call("startService", { name: "records" });
    const records = os.service<Records>("records");
    await records.execute({ sql: "CREATE TABLE t (id TEXT PRIMARY KEY, n INTEGER)" });
    await records.transaction({
      statements: [
        { sql: "INSERT INTO t VALUES (?, ?)", params: ["a", 1] },
        { sql: "INSERT INTO t VALUES (?, ?)", params: ["b", 2] },
      ],
    });
    await expect(
      records.transaction({
        statements: [
          { sql: "DELETE FROM t" },
          { sql: "INSERT INTO t VALUES (?, ?), (?, ?)", params: ["c", 1, "c", 2] },
        ],
      }),
    ).rejects.toMatchObject({ code: "EEXIST" });
    const reads = program("reads", async (_input: unknown, ctx: RunContext) => {
      const mine = ctx.os.service<Records>("records");
      const rows = await mine.query({ sql: "SELECT id FROM t ORDER BY id" });
      const refused = await mine.execute({ sql: "DELETE FROM t" }).catch((error: { code: string }) => error.code);
      return { rows, refused };
    });
    const grants = ["self", "service.call:/sys/services/records; arg.method=query"];
    expect(await os.run(reads, { grants })).toEqual({ rows: [{ id: "a" }, { id: "b" }], refused: "EACCES" });
  } finally {
    await os.close();
    rmSync(dir, { recursive: true, force: true });
  }
});
