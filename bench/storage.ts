// Files, streams and locks: through the whole system call layer, beside the disk's own floor or the best peer at hand.

import { randomBytes, createHash, hash } from "node:crypto";
import diagnostics from "node:diagnostics_channel";
import { closeSync, fdatasync, mkdirSync, openSync, statSync, writeFileSync, writeSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { InMemoryFs } from "just-bash";
import { Volume, createFsFromVolume } from "memfs";
import { withHost } from "./host.ts";
import { type Bench, type Result, alternate, microsecondsPer, toResult } from "./measure.ts";

const TMPFS = "/dev/shm";

/** `times` writes of so many bytes into a grown file, each with its sync. */
function syncedWrites(dir: string, bytes: number): { readonly run: (times: number) => Promise<void>; close(): void } {
  const file = join(dir, `floor-${bytes}`);
  const room = 4 * 1024 * 1024;
  writeFileSync(file, Buffer.alloc(room));
  const fd = openSync(file, "r+");
  const content = Buffer.alloc(bytes, 65);
  let at = 0;
  return {
    run: async (times) => {
      for (let round = 0; round < times; round++) {
        writeSync(fd, content, 0, bytes, at);
        at = (at + bytes) % (room - bytes);
        await new Promise<void>((resolve, reject) =>
          fdatasync(fd, (error) => (error === null ? resolve() : reject(error))),
        );
      }
    },
    close: () => closeSync(fd),
  };
}

const durableFiles: Bench = {
  name: "durable files",
  run: () =>
    withHost({}, async ({ kernel: { os, host } }, dir) => {
      const small = syncedWrites(dir, 150);
      const blob = syncedWrites(dir, 64 * 1024);
      const times = 40;
      let generation = (await os.fs.writeFile("/srv/counter", "0")).generation;
      let next = 0;
      const content4 = Buffer.alloc(4096, 98);
      const each = async (work: (at: number) => Promise<unknown>): Promise<void> => {
        for (let at = 0; at < times; at++) await work(next++);
      };
      // Content that is new: what is there already costs nothing.
      const content64 = randomBytes(64 * 1024);
      const fresh = (at: number): Uint8Array => {
        content64.writeUInt32BE(at, 0);
        return content64;
      };
      // A log that has grown once is overwritten in place.
      for (let round = 0; round < 2000; round++) await os.fs.writeFile(`/srv/warm${round % 50}`, content4);
      await os.flush();
      const samples = await alternate(15, {
        compareAndSet: () =>
          microsecondsPer(times, () =>
            each(async (at) => {
              const written = await os.fs.write("/srv/counter", String(at), {
                ifGeneration: generation,
                durability: "flushed",
              });
              ({ generation } = written);
            }),
          ),
        file: () =>
          microsecondsPer(times, () =>
            each((at) => os.fs.writeFile(`/srv/f${at % 500}`, content4, { durability: "flushed" })),
          ),
        many: () =>
          microsecondsPer(times * 32, () =>
            each((at) =>
              Promise.all(
                Array.from({ length: 32 }, (_, one) =>
                  os.fs.writeFile(`/srv/m${(at * 32 + one) % 1000}`, content4, { durability: "flushed" }),
                ),
              ),
            ),
          ),
        blob: () => microsecondsPer(times, () => each((at) => host.objects.put(fresh(at)))),
        large: () =>
          microsecondsPer(times, () =>
            each((at) => os.fs.writeFile(`/srv/b${at % 200}`, fresh(at), { durability: "flushed" })),
          ),
        sync: () => microsecondsPer(times, () => small.run(times)),
        blobSync: () => microsecondsPer(times, () => blob.run(times)),
      });
      small.close();
      blob.close();
      const floor = samples["sync"] ?? [];
      return [
        toResult("a durable compare-and-set of a file, over fdatasync", "µs", samples["compareAndSet"] ?? [], {
          floor,
          target: 1.3,
        }),
        toResult("a durable file of 4 KiB, over fdatasync", "µs", samples["file"] ?? [], { floor, target: 1.3 }),
        toResult("each of 32 durable files of 4 KiB together, over fdatasync", "µs", samples["many"] ?? [], {
          floor,
          target: 1 / 5,
        }),
        toResult("a durable blob of 64 KiB, over write and fdatasync of the same bytes", "µs", samples["blob"] ?? [], {
          floor: samples["blobSync"] ?? [],
          target: 1.5,
        }),
        toResult("a durable file of 64 KiB, over write and fdatasync of the same bytes", "µs", samples["large"] ?? [], {
          floor: samples["blobSync"] ?? [],
        }),
      ];
    }),
};

const directories: Bench = {
  name: "directories",
  run: () =>
    withHost({ inMemory: true }, async ({ kernel: { os } }, dir) => {
      const count = 1000;
      const peer = createFsFromVolume(new Volume()).promises;
      await peer.mkdir("/srv/many", { recursive: true });
      const bash = new InMemoryFs();
      await bash.mkdir("/srv/many", { recursive: true });
      const onDisk = join(
        statSync(TMPFS, { throwIfNoEntry: false }) === undefined ? dir : TMPFS,
        `ergos-${process.pid}`,
      );
      mkdirSync(onDisk, { recursive: true });
      for (let at = 0; at < count; at++) {
        await os.fs.writeFile(`/srv/many/file${at}`, "");
        await peer.writeFile(`/srv/many/file${at}`, "");
        await bash.writeFile(`/srv/many/file${at}`, "");
        writeFileSync(join(onDisk, `file${at}`), "");
      }
      const times = 20;
      const repeat = async (work: () => unknown): Promise<void> => {
        for (let at = 0; at < times; at++) await work();
      };
      const samples = await alternate(15, {
        ours: () => microsecondsPer(times, () => repeat(() => os.fs.readdir("/srv/many", { limit: count }))),
        memfs: () => microsecondsPer(times, () => repeat(() => peer.readdir("/srv/many", { withFileTypes: true }))),
        bash: () => microsecondsPer(times, () => repeat(() => bash.readdirWithFileTypes("/srv/many"))),
        node: () => microsecondsPer(times, () => repeat(() => readdir(onDisk, { withFileTypes: true }))),
        statOurs: () => microsecondsPer(2000, () => statEach((path) => os.fs.stat(path))),
        statNode: () => microsecondsPer(2000, () => statEach((path) => statSync(path.replace("/srv/many", onDisk)))),
      });
      async function statEach(work: (path: string) => unknown): Promise<void> {
        for (let at = 0; at < 2000; at++) await work(`/srv/many/file${at % count}`);
      }
      const best = (["memfs", "bash", "node"] as const)
        .map((name) => ({ name, samples: samples[name] ?? [] }))
        .toSorted((a, b) => middle(a.samples) - middle(b.samples))[0];
      return [
        toResult("a listing of 1,000 entries", "µs", samples["ours"] ?? [], {
          ...(best === undefined ? {} : { peer: best }),
          target: 1 / 4,
        }),
        toResult("stat, over fs.statSync on tmpfs", "µs", samples["statOurs"] ?? [], {
          floor: samples["statNode"] ?? [],
          target: 1,
        }),
      ];
    }),
};

const middle = (samples: readonly number[]): number => samples.toSorted((a, b) => a - b)[samples.length >> 1] ?? 0;

const streams: Bench = {
  name: "streams",
  run: () =>
    withHost({}, async ({ kernel: { os } }, dir) => {
      await os.fs.makeStream("/srv/log", { keep: 100_000 });
      const entry = Buffer.alloc(100, 99);
      const floor = syncedWrites(dir, 150);
      const times = 40;
      const stream = os.fs.stream("/srv/log");
      for (let round = 0; round < 2000; round++) await stream.append([entry]);
      await os.flush();
      const samples = await alternate(15, {
        one: () =>
          microsecondsPer(times, async () => {
            for (let at = 0; at < times; at++) await stream.append([entry], { durability: "flushed" });
          }),
        thousand: () =>
          microsecondsPer(4000, async () => {
            for (let at = 0; at < 4; at++)
              await Promise.all(Array.from({ length: 1000 }, () => stream.append([entry], { durability: "flushed" })));
          }),
        sync: () => microsecondsPer(times, () => floor.run(times)),
      });
      floor.close();
      return [
        toResult("an entry of a durable stream, flushed, over fdatasync", "µs", samples["one"] ?? [], {
          floor: samples["sync"] ?? [],
          target: 1.25,
        }),
        toResult("the same, each of 1,000 writers", "µs", samples["thousand"] ?? []),
      ];
    }),
};

const content: Bench = {
  name: "content",
  run: () =>
    withHost({}, async ({ kernel: { os, host } }) => {
      const size = 1024 * 1024;
      const bytes = randomBytes(size);
      const id = await host.objects.put(bytes);
      const { platform } = host;
      const times = 10;
      const repeat = async (work: () => unknown): Promise<void> => {
        for (let at = 0; at < times; at++) await work();
      };
      await os.fs.writeFile("/srv/known", Buffer.alloc(4096, 1));
      const file = new Map<string, Uint8Array>([["/srv/known", Buffer.alloc(4096, 1)]]);
      const samples = await alternate(15, {
        ours: () => microsecondsPer(times, () => repeat(() => platform.hash(bytes))),
        node: () => microsecondsPer(times, () => repeat(() => hash("sha256", bytes, "hex"))),
        verified: () => microsecondsPer(times, () => repeat(() => host.objects.get(id))),
        plain: () =>
          microsecondsPer(times, () =>
            repeat(() => {
              const copy = Buffer.from(bytes);
              return createHash("sha256").update(copy).digest("hex");
            }),
          ),
        read: () => microsecondsPer(5000, () => many(() => os.fs.read("/srv/known"))),
        copy: () =>
          microsecondsPer(5000, () => many(async () => platform.allocate(4096).set(file.get("/srv/known") ?? []))),
      });
      async function many(work: () => Promise<unknown>): Promise<void> {
        for (let at = 0; at < 5000; at++) await work();
      }
      return [
        toResult("hashing 1 MiB, over crypto.hash", "µs", samples["ours"] ?? [], {
          floor: samples["node"] ?? [],
          target: 1 / 0.95,
        }),
        toResult("a verified read of a blob of 1 MiB, over copying and hashing it", "µs", samples["verified"] ?? [], {
          floor: samples["plain"] ?? [],
        }),
        toResult("read of 4 KiB, over a Map, a copy and a promise", "µs", samples["read"] ?? [], {
          floor: samples["copy"] ?? [],
          target: 1.3,
        }),
      ];
    }),
};

const hooks: Bench = {
  name: "hooks",
  run: () =>
    withHost({ inMemory: true }, ({ kernel: { host } }) => {
      const channel = diagnostics.channel("ergos-bench");
      const rounds = 1_000_000;
      let heard = 0;
      const nanoseconds = (work: () => void): number => {
        const started = performance.now();
        for (let at = 0; at < rounds; at++) work();
        return ((performance.now() - started) * 1e6) / rounds;
      };
      return alternate(15, {
        ours: () =>
          nanoseconds(() => {
            if (host.hooks.hears("stat")) heard++;
          }),
        node: () =>
          nanoseconds(() => {
            if (channel.hasSubscribers) heard++;
          }),
      }).then((samples): readonly Result[] => {
        if (heard > 0) throw new TypeError("nobody was there to hear");
        return [
          toResult("a hook that nobody has set, over diagnostics_channel", "ns", samples["ours"] ?? [], {
            floor: samples["node"] ?? [],
            target: 2,
          }),
        ];
      });
    }),
};

export const storageBenches: readonly Bench[] = [durableFiles, directories, streams, content, hooks];
