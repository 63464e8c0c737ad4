// The VFS in memory, through the whole system call layer, beside memfs.

import { Volume, createFsFromVolume } from "memfs";
import { withHost } from "./host.ts";
import { type Bench, alternate, microsecondsPer, toResult } from "./measure.ts";

const CALLS = 5000;

const files: Bench = {
  name: "vfs",
  run: () =>
    withHost({ inMemory: true }, async ({ kernel: { os } }) => {
      const content = Buffer.alloc(4096, 97);
      const peer = createFsFromVolume(new Volume()).promises;
      await peer.mkdir("/srv/data/deep", { recursive: true });
      const paths = Array.from({ length: 100 }, (_, at) => `/srv/data/deep/file${at}`);
      for (const path of paths) {
        await os.fs.writeFile(path, content);
        await peer.writeFile(path, content);
      }
      const each = async (work: (path: string) => Promise<unknown>): Promise<void> => {
        for (let at = 0; at < CALLS; at++) await work(paths[at % 100] ?? "");
      };
      const samples = await alternate(21, {
        stat: () => microsecondsPer(CALLS, () => each((path) => os.fs.stat(path))),
        peerStat: () => microsecondsPer(CALLS, () => each((path) => peer.stat(path))),
        read: () => microsecondsPer(CALLS, () => each((path) => os.fs.read(path))),
        peerRead: () => microsecondsPer(CALLS, () => each((path) => peer.readFile(path))),
      });
      return [
        toResult("stat", "µs", samples["stat"] ?? [], {
          peer: { name: "memfs/promises", samples: samples["peerStat"] ?? [] },
          target: 1,
        }),
        toResult("read of 4 KiB", "µs", samples["read"] ?? [], {
          peer: { name: "memfs/promises", samples: samples["peerRead"] ?? [] },
          target: 1,
        }),
      ];
    }),
};

const routes: Bench = {
  name: "route",
  run: () =>
    withHost({ inMemory: true }, async ({ kernel }) => {
      const { namespace } = kernel.host.fs;
      const paths = Array.from({ length: 100 }, (_, at) => `/srv/data/deep/file${at}`);
      for (const path of paths) await kernel.os.fs.writeFile(path, "");
      const map = new Map<string, object>();
      const warm = async (): Promise<void> => {
        for (const path of paths) await namespace.resolve(path, kernel.os.pid);
      };
      await warm();
      for (const path of paths) map.set(path, { path });
      const rounds = 200_000;
      let found = 0;
      const known = (): number => {
        const started = performance.now();
        for (let at = 0; at < rounds; at++) if (namespace.known(paths[at % 100] ?? "") !== undefined) found++;
        return ((performance.now() - started) * 1e6) / rounds;
      };
      const get = (): number => {
        const started = performance.now();
        for (let at = 0; at < rounds; at++) if (map.get(paths[at % 100] ?? "") !== undefined) found++;
        return ((performance.now() - started) * 1e6) / rounds;
      };
      const before = await alternate(15, { known, get });
      for (let at = 0; at < 1000; at++)
        namespace.addMount({
          at: `/mnt/m${at}` as never,
          kind: "provider",
          provider: { name: "empty", root: { type: "directory" } },
        });
      await warm();
      const after = await alternate(15, { known, get });
      if (found === 0) throw new TypeError("nothing was routed");
      return [
        toResult("route of a known path, over Map.get", "ns", before["known"] ?? [], {
          floor: before["get"] ?? [],
          target: 2,
        }),
        toResult("route with 1,000 mounts, over none", "ns", after["known"] ?? [], {
          floor: before["known"] ?? [],
          target: 1.3,
        }),
      ];
    }),
};

export const vfsBenches: readonly Bench[] = [files, routes];
