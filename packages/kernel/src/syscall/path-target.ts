// Paths as targets of calls: where they lead, and what the caller calls that. A process with a view means its copy.

import { type VfsPath, toPath } from "../base/path.ts";
import { KernelError } from "../base/errno.ts";
import type { Rider } from "../ipc/committer.ts";
import type { Process } from "../proc/process.ts";
import { isHidden, realPath, seenPath } from "../proc/view.ts";
import type { Writer } from "../vfs/inode-store.ts";
import type { Located } from "../vfs/namespace.ts";
import type { Host } from "./host.ts";
import { isFree } from "./policy.ts";
import type { Target } from "./row.ts";

/** Resolves the path of a call; what is cached costs no promise. */
export function locate(host: Host, caller: Process, at: string, follow = true): Located | Promise<Located> {
  if (caller.identity.views !== undefined) return locateInView(host, caller, at, follow);
  const known = follow ? host.fs.namespace.known(at) : undefined;
  return known ?? host.fs.namespace.resolve(at, caller.pid, follow);
}

/** A link leads where it leads for the caller: from the directory as it calls it, and into its views. */
async function locateInView(host: Host, caller: Process, at: string, follow: boolean): Promise<Located> {
  const lead = (from: VfsPath, to: string): string => realPath(caller, toPath(to, seenPath(caller, from)));
  const located = await host.fs.namespace.resolve(realPath(caller, at), caller.pid, follow, lead);
  return located.hops.length === 0 ? located : { ...located, hops: located.hops.map((hop) => seenPath(caller, hop)) };
}

export const pathTarget =
  (follow = true) =>
  (host: Host, caller: Process, { path: at }: { readonly path: string }): Target | Promise<Target> => {
    const located = locate(host, caller, at, follow);
    return located instanceof Promise
      ? located.then((found) => toTarget(host, caller, found))
      : toTarget(host, caller, located);
  };

/** @throws {EACCES} it is in the view of a process that is none of the caller's */
function toTarget(host: Host, caller: Process, located: Located): Target {
  const { path } = located;
  if (!isFree(host, caller) && isHidden(caller, path))
    throw new KernelError(
      "EACCES",
      `${path} is what another process sees of a tree; \`ergos diff\` shows its changes`,
      {
        path,
        pid: caller.pid,
      },
    );
  return { resource: seenPath(caller, path), located };
}

/** Two paths of one call: the first with the right of the row, the second with another. */
export function twoPaths(right: string, follow: boolean) {
  return async (
    host: Host,
    caller: Process,
    { from, to }: { readonly from: string; readonly to: string },
  ): Promise<Target> => {
    const [one, two] = [await locate(host, caller, from, follow), await locate(host, caller, to, follow)];
    const { resource } = toTarget(host, caller, two);
    return { ...toTarget(host, caller, one), second: { right, located: two, resource } };
  };
}

/** The located object of a path row; the dispatcher has put it there. */
export function locatedOf(target: Target): Located {
  if (target.located === undefined) throw new TypeError("a path row was dispatched without its target");
  return target.located;
}

export function second(target: Target): Located {
  if (target.second === undefined) throw new TypeError("a two-path row was dispatched without its second target");
  return target.second.located;
}

export const writerOf = (caller: Process, rider?: Rider): Writer => ({
  pid: caller.pid,
  user: caller.identity.user,
  rider,
});
