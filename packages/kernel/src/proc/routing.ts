// Who may write to whom, and what they are to each other.

import { KernelError } from "../base/errno.ts";
import { PID_OWNER, type Pid } from "../base/id.ts";
import type { Relation } from "../ipc/mailbox.ts";
import type { Process } from "./process.ts";
import { roleOf } from "./role.ts";

export interface Route {
  readonly relation: Relation;
  /** Who gets a copy: the parent of siblings, or where the branches of both meet. */
  readonly copyTo?: Pid;
}

/**
 * The way of a message.
 * @param parentOf the process that a process belongs to now: its parent, or who has adopted it
 * @throws {EPERM} a task writes to anybody but its parent, or a user to processes of another
 */
export function routeOf(from: Process, to: Process, parentOf: (pid: Pid) => Pid | undefined): Route {
  if (from.pid === PID_OWNER) return { relation: "system" };
  const above = parentOf(from.pid);
  const refuse = (why: string): never => {
    throw new KernelError("EPERM", `process ${from.pid} may not write to process ${to.pid}: ${why}`, {
      syscall: "send",
      pid: from.pid,
    });
  };
  if (to.pid !== PID_OWNER && from.identity.user !== to.identity.user)
    refuse(`it belongs to ${to.identity.user}, not to ${from.identity.user}`);
  if (above === to.pid) return { relation: "child" };
  if (roleOf(from.identity) === "task") refuse(`a task writes to its parent alone, which is ${above ?? PID_OWNER}`);
  const below = parentOf(to.pid);
  if (below === from.pid || to.pid === from.pid) return { relation: "parent" };
  if (above === below) return { relation: "sibling", ...copyOf(above, from, to) };
  return { relation: "other", ...copyOf(meeting(from.pid, to.pid, parentOf), from, to) };
}

/** The owner is told nothing that it did not ask for, and nobody what it has sent or got itself. */
const copyOf = (pid: Pid | undefined, from: Process, to: Process): Pick<Route, "copyTo"> =>
  pid === undefined || pid === PID_OWNER || pid === from.pid || pid === to.pid ? {} : { copyTo: pid };

/** The nearest process that both are below, or one of both. */
function meeting(one: Pid, two: Pid, parentOf: (pid: Pid) => Pid | undefined): Pid | undefined {
  const above = new Set<Pid>();
  for (let at: Pid | undefined = one; at !== undefined; at = parentOf(at)) above.add(at);
  for (let at: Pid | undefined = two; at !== undefined; at = parentOf(at)) if (above.has(at)) return at;
  return undefined;
}
