import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Metastore, ObjectStore } from "@ergos/kernel";
import { METASTORE_CASES, OBJECT_STORE_CASES } from "@ergos/kernel/conformance";
import { DiskObjectStore } from "@ergos/drivers/disk";
import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { SqliteMetastore } from "@ergos/drivers/sqlite";
import { afterEach, beforeEach, describe, test } from "vitest";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ergos-conformance-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const METASTORES: Readonly<Record<string, () => Promise<Metastore>>> = {
  memory: async () => new MemoryMetastore(),
  sqlite: () => SqliteMetastore.open({ dir }),
  "sqlite without its thread": () => SqliteMetastore.open({ dir, thread: false }),
};

const OBJECT_STORES: Readonly<Record<string, () => Promise<ObjectStore>>> = {
  memory: async () => new MemoryObjectStore(),
  disk: () => DiskObjectStore.open(dir),
};

for (const [name, open] of Object.entries(METASTORES)) {
  describe(`metastore ${name}`, () => {
    for (const { name: title, run } of METASTORE_CASES) {
      test(title, async () => {
        const store = await open();
        try {
          await run(store);
        } finally {
          await store.close();
        }
      });
    }
  });
}

for (const [name, open] of Object.entries(OBJECT_STORES)) {
  describe(`object store ${name}`, () => {
    for (const { name: title, run } of OBJECT_STORE_CASES) {
      test(title, async () => {
        const store = await open();
        try {
          await run(store);
        } finally {
          await store.close();
        }
      });
    }
  });
}
