// Starts under a key: whoever asks again, as for a request that came twice, gets the process that is there.
//
// O1  The key is taken in the commit of the start, so that of many who ask at once one starts a process.
// O2  It is kept as long as the record of the process, and is the user's own.

import { KernelError, isLostRace } from "../base/errno.ts";
import { type Pid, SEQ_ZERO } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { type Along, merge } from "../proc/action.ts";
import { decodeTaker, encodeTaker, spawnKey } from "../proc/process-record.ts";
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
    const taker = known === undefined ? undefined : decodeTaker(known);
    const there = taker === undefined ? undefined : await host.processes.recall(taker.pid);
    if (taker !== undefined && there !== undefined) {
      const { pid } = there;
      if (taker.program !== program)
        throw new KernelError(
          "EEXIST",
          `the key ${JSON.stringify(key)} is that of process ${pid}, which was started as ${taker.program}; take another for ${program}`,
          { syscall: "spawn", pid },
        );
      if (host.processes.family.leaving.has(pid))
        throw new KernelError("EAGAIN", `process ${pid}, which has the key, is being deleted; try again`, {
          syscall: "spawn",
          pid,
        });
      await host.committer.commit(merge({}, record(pid)));
      return pid;
    }
    const taken = (pid: Pid): Along => {
      const { checks = [], puts = [], ...rest } = record(pid);
      return {
        ...rest,
        checks: [...checks, { key: at, version: known?.version ?? SEQ_ZERO }],
        puts: [...puts, { key: at, value: encodeTaker({ pid, program }) }],
      };
    };
    try {
      return await start(taken);
    } catch (error) {
      if (!isLostRace(error) || races >= LIMITS.casRetriesMax) throw error;
    }
  }
}
