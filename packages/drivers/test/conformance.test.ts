// Every driver against the suite of its contract. Records, caches and governance have theirs beside their own tests.

import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { type Server, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  CALENDAR_CASES,
  type ConformanceCase,
  METASTORE_CASES,
  MODEL_CASES,
  MOUNT_DRIVER_CASES,
  NET_DRIVER_CASES,
  OBJECT_STORE_CASES,
  PASS_CASES,
  PLATFORM_CASES,
  SECRETS,
  SECRET_STORE_CASES,
} from "@ergos/kernel/conformance";
import { toPath } from "@ergos/kernel";
import { createCalendar } from "@ergos/drivers/calendar";
import { DiskObjectStore } from "@ergos/drivers/disk";
import { openFolder } from "@ergos/drivers/folder";
import { createPassAuthority, openKeys } from "@ergos/drivers/keys";
import { LmdbMetastore } from "@ergos/drivers/lmdb";
import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { createOfflineModel } from "@ergos/drivers/model-offline";
import { createNet } from "@ergos/drivers/net";
import { createNodePlatform } from "@ergos/drivers/platform-node";
import { environmentSecrets, fileSecrets, memorySecrets } from "@ergos/drivers/secrets";
import { SqliteMetastore } from "@ergos/drivers/sqlite";
import { openZoneMount } from "@ergos/drivers/zone";
import { afterEach, beforeEach, describe, test } from "vitest";
import { bootKernel } from "../../kernel/test/kernel-fixture.ts";

let dir: string;
const closing: (() => unknown)[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ergos-conformance-"));
});
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
  rmSync(dir, { recursive: true, force: true });
});
/** Closed behind the case. */
function passing<Subject extends { close(): unknown }>(subject: Subject): Subject {
  closing.push(() => subject.close());
  return subject;
}

/** Holds drivers of one contract against its suite, each case against a fresh one. */
function conforms<Subject>(
  contract: string,
  cases: readonly ConformanceCase<Subject>[],
  drivers: Readonly<Record<string, () => Subject | Promise<Subject>>>,
): void {
  describe.each(Object.entries(drivers))(`${contract} %s`, (_name, open) => {
    test.each(cases)("$name", async ({ run }) => run(await open()));
  });
}

conforms("metastore", METASTORE_CASES, {
  memory: () => passing(new MemoryMetastore()),
  sqlite: async () => passing(await SqliteMetastore.open({ dir })),
  lmdb: async () => passing(await LmdbMetastore.open({ dir })),
  "sqlite without its thread": async () => passing(await SqliteMetastore.open({ dir, thread: false })),
});

conforms("object store", OBJECT_STORE_CASES, {
  memory: () => passing(new MemoryObjectStore()),
  disk: async () => passing(await DiskObjectStore.open(dir)),
});

conforms("mount", MOUNT_DRIVER_CASES, {
  folder: async () => passing(await openFolder({ path: dir, writable: true })),
  zone: async () => {
    const kernel = passing(await bootKernel());
    await kernel.os.fs.mkdir("/srv/shown");
    const open = async () => ({ fs: kernel.os.fs, close: async () => undefined });
    return passing(await openZoneMount({ zone: "acme", path: toPath("/srv/shown"), writable: true, open }));
  },
});

conforms("secrets", SECRET_STORE_CASES, {
  environment: () => environmentSecrets(SECRETS),
  file: () => {
    mkdirSync(dir, { recursive: true });
    const store = fileSecrets({ file: join(dir, "secrets.json"), passphrase: "for this case" });
    for (const [name, value] of Object.entries(SECRETS)) store.set(name, value);
    return store;
  },
  memory: () => memorySecrets(SECRETS),
});

conforms("model", MODEL_CASES, { offline: () => createOfflineModel() });
conforms("calendar", CALENDAR_CASES, { croner: () => createCalendar() });
conforms("platform", PLATFORM_CASES, { node: () => createNodePlatform() });

conforms("passes", PASS_CASES, {
  keys: () => {
    const [signer, others] = [openKeys(), openKeys()];
    return {
      signer,
      authority: createPassAuthority(signer, "one"),
      other: { signer: others, authority: createPassAuthority(others, "two") },
    };
  },
});

conforms("network", NET_DRIVER_CASES, {
  node: async () => {
    const [server, nobody] = [await listen(echo()), await listen(createServer())];
    const gone = addressOf(nobody);
    await end(nobody);
    return { driver: createNet(), server: addressOf(server), nobody: gone };
  },
});

/** The server that the suite of the network asks. */
function echo(): Server {
  return createServer((request, response) => {
    switch (request.url ?? "") {
      case "/echo":
        response.setHeader("x-method", request.method ?? "");
        request.pipe(response);
        break;
      case "/away":
        response.writeHead(302, { location: "/echo" }).end();
        break;
      case "/large":
        response.end(Buffer.alloc(100_000));
        break;
      case "/cut":
        request.socket.destroy();
        break;
      default:
    }
  });
}

async function listen(server: Server): Promise<Server> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  closing.push(() => end(server));
  return server;
}

async function end(server: Server): Promise<void> {
  if (!server.listening) return;
  server.closeAllConnections();
  server.close();
  await once(server, "close");
}

const addressOf = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
