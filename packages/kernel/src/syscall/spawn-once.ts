// Starts under a key: whoever asks again, as for a request that came twice, gets the process that is there.
//
// O1  The key is taken in the commit of the start, so that of many who ask at once one starts a process.
// O2  It is kept as long as the record of the process, and is the user's own.

import { KernelError, isLostRace } from "../base/errno.ts";
import { type Pid, SEQ_ZERO, toPid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { type Along, merge } from "../proc/action.ts";
import { spawnKey } from "../proc/process-record.ts";
import type { Host } from "./host.ts";

/**
 * Starts a process, or gives the one that was started under this key.
 * @param start starts it, with what belongs along
 * @throws {EEXIST} the key is that of a process of another program
 */
export async function spawnOnce(
  host: Host,
  { user, key, program }: { readonly user: string; readonly key: string; readonly program: string },
  record: (pid: Pid) => Along,
  start: (along: (pid: Pid) => Along) => Promise<Pid>,
): Promise<Pid> {
  const at = spawnKey(user, key);
  for (let races = 0; ; races++) {
    const known = await host.store.get(at);
    const there = known === undefined ? undefined : await host.processes.recall(toPid(Number(known.value)));
    if (there !== undefined) {
      const { pid, identity } = there;
      if (identity.program.name !== program)
        throw new KernelError(
          "EEXIST",
          `the key ${JSON.stringify(key)} is that of process ${pid}, which runs ${identity.program.name}; take another for ${program}`,
          { syscall: "spawn", pid },
        );
      await host.committer.commit(merge({}, record(pid)));
      return pid;
    }
    const taken = (pid: Pid): Along => {
      const { checks = [], puts = [], ...rest } = record(pid);
      return {
        ...rest,
        checks: [...checks, { key: at, version: known?.version ?? SEQ_ZERO }],
        puts: [...puts, { key: at, value: String(pid) }],
      };
    };
    try {
      return await start(taken);
    } catch (error) {
      if (!isLostRace(error) || races >= LIMITS.casRetriesMax) throw error;
    }
  }
}
