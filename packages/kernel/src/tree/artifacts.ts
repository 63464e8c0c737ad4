// `/proc/<pid>/artifacts`: what a process has left behind, as far as whoever looks may see it.

import type { DirEntry } from "../abi/file.ts";
import type { Process } from "../proc/process.ts";
import type { Host } from "../syscall/host.ts";
import { type VirtualNode, collection } from "../vfs/provider.ts";

const LISTED = 10_000;

export function artifactsNode(host: Host, { pid }: Process): VirtualNode {
  return collection(
    async (viewer) => {
      const who = host.processes.get(viewer);
      const all = who === undefined ? [] : await host.artifacts.list(who, { pid, limit: LISTED });
      return all.map(({ name }): DirEntry => ({ name, type: "file" }));
    },
    async (name, viewer) => {
      const who = host.processes.get(viewer);
      const found = who === undefined ? undefined : await host.artifacts.get(who, pid, name);
      if (found === undefined) return undefined;
      const { artifact, bytes } = found;
      return {
        type: "file",
        entityType: "artifact",
        status: artifact.visibility,
        tags: { visibility: artifact.visibility },
        ...(artifact.mediaType === undefined ? {} : { description: artifact.mediaType }),
        bytes: async ({ offset, length }) => (await bytes()).subarray(offset, offset + length),
      };
    },
    { description: "what it has left behind", isLong: true },
  );
}
