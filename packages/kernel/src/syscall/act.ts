// Doing what a schedule or a trigger says, as the process that made it: by the same calls, so that rights, policy, budget and
// audit are those of any call.

import { KernelError, toErrorRecord } from "../base/errno.ts";
import type { Pid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { assertValid } from "../base/schema.ts";
import { type Acted, type Action, type Along, type Order, merge } from "../proc/action.ts";
import type { Letter } from "../proc/post-office.ts";
import type { Process } from "../proc/process.ts";
import type { Host } from "./host.ts";
import { ORDER } from "./row.ts";
import type { SpawnArgs } from "./rows-process.ts";
import { SYSCALLS } from "./table.ts";

/**
 * Does something as a process. The changes that go along are in the commit of what it does.
 * @throws {ELOOP} orders have caused each other too often
 */
export async function act(
  host: Host,
  process: Process,
  { spawn, message, wake, exec }: Action,
  along: (pid?: Pid) => Along,
  { cause, depth, correlation }: Order,
): Promise<Acted> {
  if (depth > LIMITS.orderDepthMax)
    throw new KernelError(
      "ELOOP",
      `${cause} would be order number ${depth} in a row, each given because of what the one before did; let one of them leave out what another causes`,
      { pid: process.pid },
    );
  const os = host.osOf(process);
  const order = { along, cause, depth, correlation };
  if (spawn !== undefined) {
    assertValid(SYSCALLS.spawn.schema, spawn, "what is started");
    // As just checked.
    return { pid: await os.call("spawn", { ...(spawn as unknown as SpawnArgs), [ORDER]: order }) };
  }
  if (message !== undefined) {
    assertValid(SYSCALLS.send.schema, { body: null, ...message }, "the message");
    await os.call("send", { body: null, ...(message as unknown as Omit<Letter, "body">), [ORDER]: order });
    return {};
  }
  if (exec !== undefined) {
    // What it does may be anything: it is done once, or not at all.
    const before = along();
    await host.committer.commit(merge({}, before), before.events);
    // What is recorded is recorded already; what the path stands for goes on under the order.
    const ordered = { ...order, along: () => ({}) };
    const failing = Promise.try(() => os.call("exec", { ...exec, [ORDER]: ordered } as typeof exec)).then(
      () => undefined,
      (error: unknown) => toErrorRecord(error),
    );
    return { failing };
  }
  // Waking what is awake changes nothing: it may happen twice, and never not at all.
  if (wake !== undefined) await os.call("wake", { pid: wake });
  const alone = along();
  await host.committer.commit(merge({}, alone), alone.events);
  return {};
}
