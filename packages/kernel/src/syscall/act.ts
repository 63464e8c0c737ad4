// Doing what a schedule says, as the process that made it: by the same calls, so that rights, policy, budget and
// audit are those of any call.

import type { Pid } from "../base/id.ts";
import type { Action, Along } from "../proc/action.ts";
import type { Letter } from "../proc/post-office.ts";
import type { Process } from "../proc/process.ts";
import type { Host } from "./host.ts";
import { ALONG } from "./row.ts";
import type { SpawnArgs } from "./rows-process.ts";
import { assertValid } from "../base/schema.ts";
import { SYSCALLS } from "./table.ts";

/**
 * Does something as a process. The changes that go along are in the commit of what it does.
 * @returns the pid of what it has started
 */
export async function act(
  host: Host,
  process: Process,
  { spawn, message, wake }: Action,
  along: (pid?: Pid) => Along,
): Promise<Pid | undefined> {
  const os = host.osOf(process);
  if (spawn !== undefined) {
    assertValid(SYSCALLS.spawn.schema, spawn, "what is started");
    // As just checked.
    return os.call("spawn", { ...(spawn as unknown as SpawnArgs), [ALONG]: along });
  }
  if (message !== undefined) {
    assertValid(SYSCALLS.send.schema, message, "the message");
    await os.call("send", { ...(message as unknown as Letter), [ALONG]: along });
    return undefined;
  }
  // Waking what is awake changes nothing: it may happen twice, and never not at all.
  if (wake !== undefined) await os.call("wake", { pid: wake });
  await host.committer.commit(along());
  return undefined;
}
