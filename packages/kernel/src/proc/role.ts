// Roles and tiers: what a process is for, and which models it may think with.
//
// O1  Nothing starts what stands above it: a child's rank and tier are never before its parent's.
// O2  A task starts nothing, and is never strategic.

import { TIERS, type Tier } from "../abi/model.ts";
import { KernelError } from "../base/errno.ts";
import { present } from "../base/present.ts";
import { PID_OWNER, type Pid } from "../base/id.ts";

/** Roles with their rank: 0 stands above all. */
export const ROLES = { kernel: 0, daemon: 1, agent: 2, architect: 3, lead: 3, worker: 4, task: 5 } as const;
export type Role = keyof typeof ROLES;
export { TIERS, type Tier };

/** What stands of both in the identity of a process; absent ones follow from where it is in the tree. */
export interface Standing {
  readonly pid: Pid;
  readonly role?: Role;
  readonly tier?: Tier;
}

export const roleOf = ({ pid, role }: Standing): Role => role ?? (pid === PID_OWNER ? "kernel" : "agent");
/** 0 stands above all. */
export const rankOf = (tier: Tier): number => TIERS.indexOf(tier);
export const tierOf = ({ tier }: Standing): Tier => tier ?? "strategic";

/** Its tier where it thinks with nothing better than whoever is above it. */
export const lowerTier = (own: Standing, above: Standing): Tier | undefined =>
  rankOf(tierOf(own)) >= rankOf(tierOf(above)) ? own.tier : tierOf(above);

/**
 * The role and tier of a child.
 * @throws {EPERM} its parent may not start such a one
 */
export function standingOf(
  parent: Standing,
  wanted: { readonly role?: Role | undefined; readonly tier?: Tier | undefined },
): { readonly role?: Role; readonly tier?: Tier } {
  const above = roleOf(parent);
  const refuse = (why: string): never => {
    throw new KernelError("EPERM", `process ${parent.pid} is ${above} and may not start a child: ${why}`, {
      syscall: "spawn",
      pid: parent.pid,
    });
  };
  if (above === "task") refuse("a task starts nothing");
  const role = wanted.role ?? (ROLES[above] > ROLES.agent ? above : undefined);
  const rank = ROLES[role ?? "agent"];
  if (rank < ROLES[above] || role === "kernel") refuse(`${role ?? "agent"} stands above it`);
  const floor = TIERS.indexOf(tierOf(parent));
  const least = role === "task" ? Math.max(floor, 1) : floor;
  const at = wanted.tier === undefined ? least : TIERS.indexOf(wanted.tier);
  if (at < floor) refuse(`its tier is ${tierOf(parent)}, and ${wanted.tier ?? ""} is above that`);
  if (at < least) refuse("a task is never strategic");
  const tier = TIERS[at];
  return present({ role, tier: at === 0 ? undefined : tier });
}
