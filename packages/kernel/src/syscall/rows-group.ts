// Rows about groups of processes.

import { KernelError } from "../base/errno.ts";
import { PID_OWNER } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { Amounts } from "../budget/resource.ts";
import { FAULTS_SCHEMA } from "../proc/fault.ts";
import type { Group, GroupSettings } from "../proc/group-table.ts";
import type { Host } from "./host.ts";
import { type Target, args, integer, row } from "./row.ts";
import { amounts } from "./rows-budget.ts";

const group = { type: "string", minLength: 1, maxLength: 512, description: "path of a group" } as const;
type At = { readonly group: string };
const onGroup = (_host: Host, _caller: unknown, a: At): Target => ({ resource: `/sys/groups/${a.group}` });

export interface GroupSummary extends Group {
  readonly living: number;
  /** Allocation and use, resource by resource. */
  readonly usage: Awaited<ReturnType<Host["accounts"]["usage"]>>;
}

/** A group with what it holds and has used. */
export async function summariseGroup(host: Host, one: Group): Promise<GroupSummary> {
  const usage = await host.accounts.usage(host.groups.accountOf(one.path));
  return { ...one, living: host.groups.members(one.path).length, usage };
}

export const GROUP_ROWS = {
  groups: row<Record<string, never>, Promise<readonly GroupSummary[]>>({
    right: "group.read",
    kind: "query",
    summary: "groups with their settings, living processes and budgets",
    schema: args({}),
    target: () => ({ resource: "/sys/groups" }),
    handle: (host) => Promise.all(host.groups.all.slice(0, LIMITS.pageMax).map((one) => summariseGroup(host, one))),
  }),
  setGroup: row<At & GroupSettings & { readonly budget?: Amounts }, Promise<void>>({
    right: "group.manage",
    kind: "mutation",
    summary: "makes a group of processes, or changes it; a budget is added to the one that it has",
    schema: args(
      { group, weight: integer, processes: integer, spawns: integer, faults: FAULTS_SCHEMA, budget: amounts },
      ["group"],
    ),
    target: onGroup,
    handle: (host, caller, { group: path, ...settings }, _target, draft) => {
      const { pid, identity } = caller;
      // What bounds a process is set by others, whatever its rights.
      if (pid !== PID_OWNER && identity.group !== undefined && `${identity.group}/`.startsWith(`${path}/`))
        throw new KernelError("EPERM", `process ${pid} is in group ${path}; others set what bounds it`, {
          syscall: "setGroup",
          pid,
        });
      return host.groups.set(path, settings, draft);
    },
  }),
  removeGroup: row<At, Promise<void>>({
    right: "group.manage",
    kind: "mutation",
    summary: "forgets an empty group; what its budget has left returns to the group around it",
    schema: args({ group }, ["group"]),
    target: onGroup,
    handle: (host, _caller, a, _target, draft) => host.groups.remove(a.group, draft),
  }),
  freeze: row<At, Promise<void>>({
    right: "group.manage",
    kind: "mutation",
    summary: "stops everything in a group and below it: each process finishes the call that it is in",
    schema: args({ group }, ["group"]),
    target: onGroup,
    handle: (host, _caller, a, _target, draft) => host.groups.freeze(a.group, true, draft),
  }),
  thaw: row<At, Promise<void>>({
    right: "group.manage",
    kind: "mutation",
    summary: "lets a frozen group go on",
    schema: args({ group }, ["group"]),
    target: onGroup,
    handle: (host, _caller, a, _target, draft) => host.groups.freeze(a.group, false, draft),
  }),
} as const;
