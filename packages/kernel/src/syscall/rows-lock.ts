// Rows about locks.

import type { LockGrant, LockInfo } from "../abi/lock.ts";
import { KernelError } from "../base/errno.ts";
import type { JsonValue } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { type VfsPath, toPath } from "../base/path.ts";
import type { LockRequest } from "../lock/lock-table.ts";
import { seenPath } from "../proc/view.ts";
import type { Process } from "../proc/process.ts";
import type { Host } from "./host.ts";
import { isFree, obstacleTo } from "./policy.ts";
import { placed } from "./placed.ts";
import { type AtPlace, type Target, args, atPlace, flag, integer, place, row, signalsOf } from "./row.ts";
import { locate } from "./path-target.ts";

/** Where locks are that have a name and no file. */
export const LOCKS = "/sys/locks";

const name = { type: "string", minLength: 1, maxLength: LIMITS.pathLengthMax } as const;
const short = { type: "string", minLength: 1, maxLength: 128 } as const;
const milliseconds = { ...integer, minimum: 1, maximum: LIMITS.lockTtlMax } as const;
/** A path, or a bare name. */
type At = { readonly path: string };

async function onLock(host: Host, caller: Process, a: At): Promise<Target> {
  if (a.path.startsWith("/") && !a.path.startsWith(`${LOCKS}/`))
    return { resource: seenPath(caller, (await locate(host, caller, toPath(a.path))).path) };
  const path = toPath(a.path, toPath(LOCKS));
  if (path.startsWith(`${LOCKS}/`)) return { resource: path };
  throw new KernelError("EINVAL", `${JSON.stringify(a.path)} is no name of a lock; it leads out of ${LOCKS}`);
}
/** The target of these rows is the canonical path. */
const pathOf = ({ resource }: Target): VfsPath => resource as VfsPath;

export const LOCK_ROWS = {
  lock: row<Omit<LockRequest, "path"> & At & AtPlace & { readonly signal?: AbortSignal }, Promise<LockGrant>>({
    right: "lock.acquire",
    kind: "mutation",
    waitsIdly: true,
    waits: true,
    summary: "takes a lock of a path or a name for some time, or extends one that the caller holds",
    schema: args(
      {
        place,
        path: name,
        mode: { type: "string", enum: ["exclusive", "shared"] },
        ttlMs: milliseconds,
        maxHolders: { ...integer, minimum: 1, maximum: LIMITS.locksMax },
        waitMs: { ...integer, maximum: LIMITS.sleepMsMax },
        lockId: short,
        owner: short,
      },
      ["path", "ttlMs"],
    ),
    target: onLock,
    recordedAt: atPlace,
    handle: async (host, caller, { place: at, signal, ...request }, target, draft) => {
      const grant = await placed<LockGrant>(caller, "lock", at, (record) =>
        host.locks.lock(
          caller.pid,
          // Who holds it is told to everybody who waits for it.
          { ...host.vault.maskData(request), path: pathOf(target) },
          (grant) => record(grant as LockGrant & JsonValue),
          {
            signals: signalsOf(caller, signal),
            rider: draft,
          },
        ),
      );
      host.locks.taken(caller.pid, grant);
      return grant;
    },
  }),
  unlock: row<At & { readonly lockId?: string; readonly force?: boolean }, Promise<boolean>>({
    right: "lock.acquire",
    kind: "mutation",
    summary: "gives a lock back, or with `force` ends what others hold; whether it was held",
    schema: args({ path: name, lockId: short, force: flag }, ["path"]),
    target: onLock,
    alsoNeeds: ({ force }, _caller, { resource }) => (force === true ? [{ right: "lock.force", resource }] : []),
    handle: (host, caller, { lockId, force = false }, target, draft) =>
      host.locks.unlock(caller.pid, pathOf(target), {
        ...(lockId === undefined ? {} : { lockId }),
        force,
        rider: draft,
      }),
  }),
  locks: row<
    { readonly path?: string; readonly below?: boolean; readonly limit?: number },
    Promise<readonly LockInfo[]>
  >({
    right: "lock.read",
    kind: "query",
    summary: "locks that are held, by their paths; those of one path, or with `below` of what is below it",
    schema: args({ path: name, below: flag, limit: { ...integer, minimum: 1, maximum: LIMITS.locksMax } }),
    target: () => ({ resource: LOCKS }),
    handle: async (host, caller, { path, below = false, limit = 1000 }) => {
      const at = path === undefined ? undefined : pathOf(await onLock(host, caller, { path }));
      const all = host.locks.list(below ? undefined : at);
      const top = at === undefined || at === "/" ? "/" : `${at}/`;
      const found: LockInfo[] = [];
      for (const lock of all) {
        if (found.length >= limit) break;
        if (lock.holders.length + lock.waiting === 0 || (below && !lock.path.startsWith(top))) continue;
        if (await maySee(host, caller, lock.path)) found.push(lock);
      }
      return found;
    },
  }),
} as const;

/** A lock of a name is for everybody who may look at locks; one of a path, for who may see that. */
async function maySee(host: Host, caller: Process, path: VfsPath): Promise<boolean> {
  if (isFree(host, caller) || path.startsWith(`${LOCKS}/`)) return true;
  return (await obstacleTo(host, caller, "locks", { right: "fs.stat", resource: path })) === undefined;
}
