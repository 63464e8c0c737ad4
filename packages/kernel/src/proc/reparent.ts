// A process is given to another parent.
//
// R1  Nobody ends up below itself.
// R2  Rights do not widen: what the new parent is narrowed by, the process is narrowed by already.
// R3  A budget goes back to where it came from, so both spend from the same account.

import { PID_OWNER } from "../base/id.ts";
import { KernelError } from "../base/errno.ts";
import type { AccountTree } from "../budget/account.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import type { Family } from "./family.ts";
import { encodeProcess, processKey } from "./process-record.ts";
import type { Process } from "./process.ts";
import { roleOf, standingOf, tierOf } from "./role.ts";

export interface ReparentParts {
  readonly family: Family;
  readonly accounts: AccountTree;
  readonly committer: Committer;
}

/**
 * Gives a process to another parent, with what is below it.
 * @throws {ELOOP} that is the process, or below it (R1) · {EPERM} it may not start such a one, or holds fewer rights (R2)
 * @throws {EBUSY} it spends from another account (R3) · {ESRCH} one of both has ended
 */
export async function reparent(parts: ReparentParts, process: Process, to: Process, rider?: Rider): Promise<void> {
  const { pid, identity } = process;
  assertMayMove(parts, process, to);
  const before = identity.ppid ?? PID_OWNER;
  parts.family.move(process, to.pid);
  try {
    const record = { key: processKey(pid), value: encodeProcess(process, {}, parts.committer.masker) };
    const data = { name: identity.name, program: identity.program.name, from: before, to: to.pid };
    const puts = process.journal === undefined ? [] : [record];
    await parts.committer.commit({ puts }, [{ name: "process.reparented", pid, data }], rider);
  } catch (error) {
    parts.family.move(process, before);
    throw error;
  }
}

function assertMayMove({ family, accounts }: ReparentParts, process: Process, to: Process): void {
  const { pid, identity } = process;
  const refuse = (code: "ELOOP" | "EPERM" | "EBUSY" | "EAGAIN" | "ESRCH", why: string): never => {
    throw new KernelError(code, `process ${pid} cannot become a child of ${to.pid}: ${why}`, {
      syscall: "reparent",
      pid,
    });
  };
  for (const one of [process, to])
    if (!one.isAlive || one.isEnding || one.isDoomed) refuse("ESRCH", `process ${one.pid} has ended`);
  if (pid === PID_OWNER) refuse("EPERM", "the owner's process has no parent");
  if (family.isWithin(to.pid, pid)) refuse("ELOOP", "it would be below itself");
  const bound = to.limits?.children;
  if (bound !== undefined && family.livingChildrenOf(to.pid).length >= bound)
    refuse("EAGAIN", `it has ${bound} living children, which is its limit`);
  standingOf(to.identity, { ...identity, role: roleOf(identity), tier: tierOf(identity) });
  const { layers } = process.capability;
  if (!to.capability.layers.every((layer, at) => layers[at] === layer))
    refuse("EPERM", `process ${to.pid} holds fewer rights, or others`);
  const carrier = identity.budget === undefined ? process.account : accounts.parentOf(pid);
  if (carrier !== to.account) refuse("EBUSY", "the budget that it spends is another's");
}
