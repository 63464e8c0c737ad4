// What is shared between tasks and threads: the kernel's own locks, and streams in shared memory.

import { createReadStream, createWriteStream } from "node:fs";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { MessageChannel, Worker } from "node:worker_threads";
import { SEQ_ZERO, SharedRing, toIno, toPath, toSeq } from "@ergos/kernel";
import { Mutex, Semaphore } from "async-mutex";
import { toNodeFs } from "@ergos/services/faces";
import { withHost } from "./host.ts";
import { type Bench, alternate, microsecondsPer, toResult } from "./measure.ts";

interface Internal {
  readonly LockOrder: new (trace: undefined) => object;
  readonly LockQueue: new () => {
    take(request: { readonly path: string; readonly mode: string; readonly room: number }): boolean;
    release(path: string, mode: string): void;
  };
  readonly PathLocks: new (order: object) => { write<T>(path: string, work: () => Promise<T>): Promise<T> };
  readonly Turns: new (order: object) => { of<T>(inode: object, work: () => Promise<T>): Promise<T> };
  readonly makeRoot: (ino: number) => object;
}

const locks: Bench = {
  name: "locks",
  run: async () => {
    // What nobody but the kernel uses is no part of its package.
    const internal = (file: string): Promise<Internal> =>
      import(new URL(`../packages/kernel/src/${file}.ts`, import.meta.url).href) as Promise<Internal>;
    const files = ["vfs/inode", "vfs/turns", "lock/lock-order", "lock/lock-queue", "lock/path-locks"];
    const parts = Object.assign({}, ...(await Promise.all(files.map(internal)))) as Internal;
    const { LockOrder, LockQueue, PathLocks, Turns, makeRoot } = parts;
    const order = new LockOrder(undefined);
    const [turns, paths, queue] = [new Turns(order), new PathLocks(order), new LockQueue()];
    const inode = makeRoot(toIno(7));
    const [mutex, semaphore] = [new Mutex(), new Semaphore(8)];
    const path = toPath("/srv/some/file");
    const times = 20_000;
    const nothing = (): Promise<void> => Promise.resolve();
    const each = (work: () => unknown) => (): Promise<number> =>
      microsecondsPer(times, async () => {
        for (let at = 0; at < times; at++) await work();
      });
    const counting = { path, mode: "shared", room: 8 } as const;
    const samples = await alternate(15, {
      inode: each(() => turns.of(inode, nothing)),
      path: each(() => paths.write(path, nothing)),
      mutex: each(() => mutex.runExclusive(nothing)),
      counting: each(() => {
        queue.take(counting);
        queue.release(path, "shared");
      }),
      semaphore: each(() => semaphore.runExclusive(nothing)),
    });
    const peer = { name: "async-mutex", samples: samples["mutex"] ?? [] };
    return [
      toResult("a turn of an inode that nobody else wants", "µs", samples["inode"] ?? [], { peer, target: 1 / 8 }),
      toResult("a lock of a path that nobody else wants", "µs", samples["path"] ?? [], { peer, target: 1 / 8 }),
      toResult("a place of a counting lock that has room", "µs", samples["counting"] ?? [], {
        peer: { name: "async-mutex's semaphore", samples: samples["semaphore"] ?? [] },
        target: 1 / 15,
      }),
    ];
  },
};

const BYTES = 64;
/** Answers what comes: on a ring, on bare memory, and on a port. */
const ECHO = `
  import { workerData } from "node:worker_threads";
  const { SharedRing } = await import(workerData.kernel);
  const { to, from, bare, port, sink } = workerData;
  const [inbox, outbox] = [new SharedRing(to, 2), new SharedRing(from, 2)];
  const flags = new Int32Array(bare, 0, 4), here = new Uint8Array(bare, 64, ${BYTES}), there = new Uint8Array(bare, 128, ${BYTES});
  let counted = 0;
  port.on("message", (message) => { if (message.length === 1) port.postMessage(counted); else counted++; });
  port.postMessage("ready");
  port.on("message", (message) => {
    if (message.length !== 2) return;
    const [kind, times] = message;
    if (kind === 1) {
      let position;
      for (let at = 0; at < times; ) {
        const entry = inbox.next(position);
        if (entry === undefined) continue;
        position = entry.seq; at++;
        outbox.append([entry.bytes]);
      }
    } else if (kind === 2) {
      for (let at = 1; at <= times; at++) {
        while (Atomics.load(flags, 0) !== at);
        const copy = here.slice();
        there.set(copy);
        Atomics.store(flags, 1, at);
      }
    }
  });
`;

const shared: Bench = {
  name: "shared streams",
  run: async () => {
    const make = (): SharedArrayBuffer => SharedRing.make(1024 * 1024);
    const content = new Uint8Array(BYTES).fill(7);
    const times = 20_000;
    const kernel = import.meta.resolve("@ergos/kernel");
    const rounds = async (kind: 1 | 2): Promise<number> => {
      const { port1, port2: port } = new MessageChannel();
      const [to, from, bare] = [make(), make(), new SharedArrayBuffer(256)];
      const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(ECHO)}`), {
        workerData: { to, from, bare, port, kernel },
        transferList: [port],
      });
      await new Promise((ready) => port1.once("message", ready));
      port1.postMessage(new Int32Array([kind, times]));
      const [out, back] = [new SharedRing(to, 1), new SharedRing(from, 1)];
      const flags = new Int32Array(bare, 0, 4);
      const [here, there] = [new Uint8Array(bare, 64, BYTES), new Uint8Array(bare, 128, BYTES)];
      // Its loop has begun when the first answer is there.
      const turn = [
        (_at: number) => undefined,
        (at: number) => {
          out.append([content]);
          for (;;) {
            const entry = back.next(position);
            if (entry === undefined) continue;
            position = entry.seq;
            return at;
          }
        },
        (at: number) => {
          here.set(content);
          Atomics.store(flags, 0, at);
          while (Atomics.load(flags, 1) !== at);
          return there.slice();
        },
      ][kind];
      let position = SEQ_ZERO;
      turn?.(1);
      const micros = await microsecondsPer(times - 1, () => {
        for (let at = 2; at <= times; at++) turn?.(at);
      });
      await worker.terminate();
      port1.close();
      return micros;
    };
    const oneWay = async (kind: "ring" | "port"): Promise<number> => {
      const { port1, port2 } = new MessageChannel();
      const ring = new SharedRing(make(), 1);
      let seen = 0;
      const all = new Promise<void>((resolve) => {
        port2.on("message", () => {
          if (++seen === times) resolve();
        });
      });
      const micros = await microsecondsPer(times, async () => {
        if (kind === "port") {
          for (let at = 0; at < times; at++) port1.postMessage(content);
          await all;
          return;
        }
        let position = toSeq(0);
        for (let at = 0; at < times; at++) {
          ring.append([content]);
          position = ring.next(position)?.seq ?? position;
        }
      });
      port1.close();
      return micros;
    };
    const samples = await alternate(9, {
      ring: () => rounds(1),
      bare: () => rounds(2),
      append: () => oneWay("ring"),
      port: () => oneWay("port"),
    });
    return [
      toResult("a round trip on two shared streams, over one on bare shared memory", "µs", samples["ring"] ?? [], {
        floor: samples["bare"] ?? [],
        target: 1.3,
      }),
      toResult("an entry one way, written and read, beside postMessage", "µs", samples["append"] ?? [], {
        peer: { name: "postMessage", samples: samples["port"] ?? [] },
        target: 1 / 10,
      }),
    ];
  },
};

const GIB = 1024 * 1024 * 1024;

const large: Bench = {
  name: "large files",
  run: () =>
    withHost({}, async ({ kernel: { os } }, dir) => {
      const fs = toNodeFs(os.fs);
      const piece = Buffer.alloc(1024 * 1024);
      for (let at = 0; at < piece.length; at += 4) piece.writeUInt32LE(Math.imul(at, 2_654_435_761) >>> 0, at);
      let pieces = 0;
      /** No part of it was there before: what is stored already is not written again. */
      async function* source(): AsyncGenerator<Buffer> {
        for (let count = GIB / piece.length; count > 0; count--) {
          pieces++;
          for (let at = 0; at < piece.length; at += 4096) piece.writeUInt32LE(pieces, at);
          yield Buffer.from(piece);
        }
      }
      let most = 0;
      const ours = async (): Promise<void> => {
        await using out = await fs.open("/srv/large", "w");
        await pipeline(source, out.createWriteStream());
        await using back = await fs.open("/srv/large", "r");
        for await (const chunk of back.createReadStream({ highWaterMark: 1024 * 1024 })) void chunk;
      };
      const node = async (): Promise<void> => {
        const file = join(dir, "large");
        const digest = createHash("sha256");
        await pipeline(
          source,
          async function* (chunks: AsyncIterable<Buffer>) {
            for await (const chunk of chunks) {
              digest.update(chunk);
              yield chunk;
            }
          },
          createWriteStream(file),
        );
        const again = createHash("sha256");
        for await (const chunk of createReadStream(file, { highWaterMark: 1024 * 1024 })) again.update(chunk as Buffer);
      };
      const samples = { ours: [] as number[], node: [] as number[] };
      for (let round = 0; round < 3; round++) {
        samples.node.push((await microsecondsPer(1, node)) / 1000);
        globalThis.gc?.();
        const before = process.memoryUsage().rss;
        const look = setInterval(() => (most = Math.max(most, process.memoryUsage().rss - before)), 20);
        samples.ours.push((await microsecondsPer(1, ours)) / 1000);
        clearInterval(look);
      }
      return [
        toResult("1 GiB streamed in and out, over node:fs streams and hashing", "ms", samples.ours, {
          floor: samples.node,
          target: 1 / 0.6,
        }),
        toResult("growth of memory meanwhile", "MiB", [most / 1024 / 1024], { target: 64 }),
      ];
    }),
};

export const sharingBenches: readonly Bench[] = [locks, shared, large];
