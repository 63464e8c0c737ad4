// Rows about trees of files as wholes, and views of them.

import { KernelError } from "../base/errno.ts";
import type { Pid } from "../base/id.ts";
import { type VfsPath, toPath } from "../base/path.ts";
import { type ViewRecord, assertNotTop, seenPath, viewBelow } from "../proc/view.ts";
import type { Located } from "../vfs/namespace.ts";
import type { Process } from "../proc/process.ts";
import type { TreeChange } from "../vfs/tree.ts";
import type { TreeMerge } from "../vfs/tree-store.ts";
import { assertMay, isFree, obstacleTo } from "./policy.ts";
import type { Host } from "./host.ts";
import { locatedOf, second, twoPaths, writerOf } from "./path-target.ts";
import { args, onProcess, path, pid, row } from "./row.ts";
import { assertNoGain } from "./rows-file.ts";

type Numbered = { readonly pid: Pid };
type FromTo = { readonly from: string; readonly to: string };

/** Whether a caller may change a path of a tree that it changes as a whole. */
const changer =
  (host: Host, caller: Process, syscall: string) =>
  async (at: VfsPath): Promise<void> => {
    if (!isFree(host, caller))
      await assertMay(host, caller, syscall, { right: "fs.write", resource: seenPath(caller, at) });
  };

/** Changes at paths that the caller may read, in each of the trees. */
async function visible(
  host: Host,
  caller: Process,
  tops: readonly string[],
  changes: readonly TreeChange[],
): Promise<readonly TreeChange[]> {
  if (isFree(host, caller)) return changes;
  const found: TreeChange[] = [];
  for (const change of changes) {
    const obstacles = tops.map((top) =>
      obstacleTo(host, caller, "compareTrees", { right: "fs.read", resource: toPath(`${top}/${change.path}`) }),
    );
    if ((await Promise.all(obstacles)).every((obstacle) => obstacle === undefined)) found.push(change);
  }
  return found;
}

/** Trees as wholes are those of the zone: a part of which the process sees a copy would be another there. */
function assertWhole(caller: Process, ...trees: readonly Located[]): void {
  for (const { path } of trees) if (viewBelow(caller, path)) assertNotTop(caller, path);
}

export const TREE_ROWS = {
  cloneTree: row<FromTo, Promise<void>>({
    right: "fs.read",
    kind: "mutation",
    summary:
      "copies a file or a tree as it is at one moment, without its content: both share that until one is changed",
    schema: args({ from: path, to: path }, ["from", "to"]),
    target: twoPaths("fs.write", true),
    handle: async (host, caller, _a, target, draft) => {
      const [from, to] = [locatedOf(target), second(target)];
      assertWhole(caller, from, to);
      if (!isFree(host, caller)) await assertNoGain(host, caller, from, to.path);
      const writer = writerOf(caller, draft);
      return host.fs.trees.clone(from, await host.fs.settled(to, writer), writer);
    },
  }),
  compareTrees: row<FromTo, Promise<readonly TreeChange[]>>({
    right: "fs.read",
    kind: "query",
    summary: "what must be done to the first tree to make it like the second",
    schema: args({ from: path, to: path }, ["from", "to"]),
    target: twoPaths("fs.read", true),
    handle: async (host, caller, _a, target) => {
      const tops = [target.resource, target.second?.resource ?? target.resource];
      return visible(host, caller, tops, await host.fs.trees.diff(locatedOf(target), second(target)));
    },
  }),
  restoreTree: row<FromTo, Promise<readonly TreeChange[]>>({
    right: "fs.read",
    kind: "mutation",
    summary: "makes the second tree like the first, in one commit; what was done",
    schema: args({ from: path, to: path }, ["from", "to"]),
    target: twoPaths("fs.write", true),
    handle: async (host, caller, _a, target, draft) => {
      const [from, to] = [locatedOf(target), second(target)];
      if (from.kind === "inode" && to.kind === "inode" && from.inode === to.inode)
        throw new KernelError("EINVAL", "a tree cannot be restored from itself", { path: to.path });
      assertWhole(caller, from, to);
      const may = changer(host, caller, "restoreTree");
      if (!isFree(host, caller)) await assertNoGain(host, caller, from, to.path);
      return (await host.fs.trees.merge(to, to, from, writerOf(caller, draft), may)).changes;
    },
  }),
  views: row<Record<string, never>, readonly ViewRecord[]>({
    right: "view.read",
    kind: "query",
    summary: "views that processes work or have worked on, and that nobody has applied or discarded",
    schema: args({}),
    target: () => ({ resource: "/proc" }),
    handle: (host) => host.views.all,
  }),
  viewChanges: row<Numbered, Promise<readonly TreeChange[]>>({
    right: "view.read",
    kind: "query",
    summary: "what a process has changed in its view",
    schema: args({ pid }, ["pid"]),
    target: onProcess,
    handle: async (host, caller, a) => {
      const changes = await host.views.changes(a.pid);
      const at = host.views.all.find((view) => view.pid === a.pid)?.at ?? "/";
      return visible(host, caller, [at], changes);
    },
  }),
  applyView: row<Numbered, Promise<TreeMerge>>({
    right: "view.apply",
    kind: "mutation",
    summary: "brings what a process has changed in its view into the tree, whole, or tells what stands against it",
    schema: args({ pid }, ["pid"]),
    target: onProcess,
    handle: (host, caller, a, _target, draft) =>
      host.views.apply(a.pid, writerOf(caller, draft), changer(host, caller, "applyView")),
  }),
  discardView: row<Numbered, Promise<void>>({
    right: "view.apply",
    kind: "mutation",
    summary: "throws away what a process has changed in its view",
    schema: args({ pid }, ["pid"]),
    target: onProcess,
    handle: (host, caller, a, _target, draft) => host.views.discard(a.pid, writerOf(caller, draft)),
  }),
} as const;
