// Hooks of services: looks at the calls of everybody, by those who may.

import type { Hook } from "../abi/hook.ts";
import type { Process } from "../proc/process.ts";
import type { Host } from "./host.ts";
import { assertMay } from "./policy.ts";

/**
 * What hangs hooks of a process in, all of them or none; what that gives takes them out.
 * @throws {EACCES} the process has not the right `kernel.module:hooks`
 */
export async function hookIn(host: Host, process: Process, hooks: readonly Hook[]): Promise<() => () => void> {
  await assertMay(host, process, "enlist", { right: "kernel.module", resource: "hooks" });
  return () => {
    const undo: (() => void)[] = [];
    const out = (): void => {
      for (const one of undo) one();
    };
    try {
      for (const hook of hooks) undo.push(host.hooks.add(hook, process.pid, process.identity.name));
    } catch (error) {
      out();
      throw error;
    }
    return out;
  };
}
