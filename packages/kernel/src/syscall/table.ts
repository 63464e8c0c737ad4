// The one syscall table. Faces, tools, the wire and the reference pages are derived from it.

import type { Hook } from "../abi/hook.ts";
import type { Located } from "../vfs/namespace.ts";
import { KernelError } from "../base/errno.ts";
import { locatedOf, pathTarget } from "./path-target.ts";
import { type Row, anything, args, path, row } from "./row.ts";
import { AUDIT_ROWS } from "./rows-audit.ts";
import { BUDGET_ROWS } from "./rows-budget.ts";
import { CHANNEL_ROWS } from "./rows-channel.ts";
import { CONTENT_ROWS } from "./rows-content.ts";
import { FILE_ROWS } from "./rows-file.ts";
import { GROUP_ROWS } from "./rows-group.ts";
import { LOCK_ROWS } from "./rows-lock.ts";
import { MESSAGE_ROWS } from "./rows-message.ts";
import { ARTIFACT_ROWS } from "./rows-artifact.ts";
import { ENTITY_ROWS } from "./rows-entity.ts";
import { QUEUE_ROWS } from "./rows-queue.ts";
import { SCHEDULE_ROWS } from "./rows-schedule.ts";
import { TOPIC_ROWS } from "./rows-topic.ts";
import { PASS_ROWS } from "./rows-pass.ts";
import { LIFE_ROWS } from "./rows-life.ts";
import { PROCESS_ROWS } from "./rows-process.ts";
import { RIGHT_ROWS } from "./rows-rights.ts";
import { SELF_ROWS } from "./rows-self.ts";
import { SERVICE_ROWS } from "./rows-service.ts";
import { STORE_ROWS } from "./rows-store.ts";
import { FLOW_ROWS } from "./rows-flow.ts";
import { TREE_ROWS } from "./rows-tree.ts";
import { WORK_ROWS } from "./rows-work.ts";

const EXEC_ROWS = {
  /** The dispatcher replaces this row by the one that the path stands for; it runs only where there is none. */
  exec: row<{ readonly path: string; readonly input?: unknown }, unknown>({
    right: "fs.exec",
    kind: "mutation",
    isLong: true,
    summary: "invokes what a path names: a pipeline is spawned, `cancel` cancels",
    schema: args({ path, input: anything }, ["path"]),
    target: pathTarget(),
    handle: (_host, _caller, _a, target) => {
      throw notExecutable(locatedOf(target));
    },
  }),
} as const;

export const SYSCALLS = {
  ...FILE_ROWS,
  ...TREE_ROWS,
  ...CONTENT_ROWS,
  ...FLOW_ROWS,
  ...PROCESS_ROWS,
  ...LIFE_ROWS,
  ...SELF_ROWS,
  ...WORK_ROWS,
  ...STORE_ROWS,
  ...RIGHT_ROWS,
  ...BUDGET_ROWS,
  ...AUDIT_ROWS,
  ...GROUP_ROWS,
  ...PASS_ROWS,
  ...MESSAGE_ROWS,
  ...CHANNEL_ROWS,
  ...LOCK_ROWS,
  ...SCHEDULE_ROWS,
  ...TOPIC_ROWS,
  ...QUEUE_ROWS,
  ...ENTITY_ROWS,
  ...ARTIFACT_ROWS,
  ...SERVICE_ROWS,
  ...EXEC_ROWS,
} as const;

export type SyscallName = keyof typeof SYSCALLS;
export type SyscallArgs<Name extends SyscallName> =
  (typeof SYSCALLS)[Name] extends Row<infer Args, unknown> ? Args : never;
export type SyscallResult<Name extends SyscallName> =
  (typeof SYSCALLS)[Name] extends Row<never, infer Result> ? Result : never;

/** A hook into calls that are named, with the types of their arguments and results. */
export const hookOn = <Name extends SyscallName>(
  calls: readonly Name[],
  hook: Omit<Hook<Name, SyscallArgs<Name>, Awaited<SyscallResult<Name>>>, "calls">,
): Hook =>
  // It is asked about the calls that it names alone.
  ({ ...hook, calls }) as unknown as Hook;

/** Whether a text names a row. */
export function isSyscallName(name: string): name is SyscallName {
  return Object.hasOwn(SYSCALLS, name);
}

function notExecutable(located: Located): KernelError {
  if (located.kind === "missing")
    return new KernelError("ENOENT", `${located.path} does not exist`, { syscall: "exec", path: located.path });
  return new KernelError("ENOEXEC", `${located.path} cannot be executed; \`stat\` of a path tells whether it can`, {
    syscall: "exec",
    path: located.path,
  });
}
