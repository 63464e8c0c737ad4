// Hooks of services: looks at the calls of everybody, by those who may.

import type { Process } from "../proc/process.ts";
import type { ServiceHook } from "../service/service.ts";
import type { Dispatcher, SyscallInfo } from "./dispatcher.ts";
import type { Host } from "./host.ts";
import { assertMay } from "./policy.ts";

/**
 * Hangs hooks of a process in; what it gives takes them out.
 * @throws {EACCES} the process has not the right `kernel.module:hooks`
 */
export async function hookIn(
  host: Host,
  dispatcher: Dispatcher,
  process: Process,
  hooks: readonly ServiceHook[],
): Promise<() => void> {
  await assertMay(host, process, "enlist", { right: "kernel.module", resource: "hooks" });
  const undo = hooks.map(({ calls, pre, post }) => {
    // A service does not look at what it does itself: it would never come to an end.
    const isLookedAt = ({ name, caller }: SyscallInfo): boolean =>
      caller.pid !== process.pid && (calls === undefined || calls.includes(name));
    const shown = ({ name, caller, resource }: SyscallInfo) => ({ name, pid: caller.pid, resource });
    return dispatcher.intercept({
      pre: (info, args) => (isLookedAt(info) ? pre?.(shown(info), args) : undefined),
      post: (info, result) => (isLookedAt(info) ? post?.(shown(info), result) : undefined),
    });
  });
  return () => {
    for (const out of undo) out();
  };
}
