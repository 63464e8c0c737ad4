// A tool call: checked, recorded, and never done twice unknowingly.

import { KernelError, fromErrorRecord, toErrorRecord, toKernelError } from "../base/errno.ts";
import { assertValid } from "../base/schema.ts";
import type { Reservation } from "../budget/account.ts";
import type { Process } from "../proc/process.ts";
import type { Host } from "./host.ts";

export interface ToolCall {
  readonly place: string;
  readonly tool: string;
  readonly arguments?: Readonly<Record<string, unknown>>;
  readonly signal?: AbortSignal;
  /** What to do when the host died during the call: `fail` (default) is EUNKNOWN, `repeat` may act twice. */
  readonly onUnknown?: "fail" | "repeat";
}

/** Tools spend nothing that is counted yet; their intents are recorded all the same (journal, J3). */
const NOTHING: Reservation = { amounts: {}, carriers: {} };

export async function callTool(host: Host, caller: Process, call: ToolCall): Promise<unknown> {
  const { place } = call;
  const args = call.arguments ?? {};
  const tool = caller.program?.tools?.find(({ name }) => name === call.tool) ?? host.tools.get(call.tool);
  if (tool === undefined) {
    const known = [...(caller.program?.tools ?? []).map(({ name }) => name), ...host.tools.keys()];
    throw new KernelError("ENOENT", `no tool ${JSON.stringify(call.tool)}; known are ${known.join(", ") || "none"}`, {
      syscall: "call",
      path: `/lib/tools/${call.tool}`,
      pid: caller.pid,
    });
  }
  assertValid(tool.inputSchema, args, `the call of tool ${tool.name}`);
  const { journal } = caller;
  const before = await journal?.begin(place);
  if (before !== undefined) {
    caller.usage.replayed++;
    if (before.error !== undefined) throw fromErrorRecord(before.error);
    return before.value;
  }
  const digest = host.platform.hash(JSON.stringify([tool.name, args])).slice(0, 16);
  const key = `${host.id}/${caller.identity.runId}/${place}#${digest}`;
  const isUnanswered = journal?.takeIntent(place)?.key === key;
  if (isUnanswered && tool.effect === "once" && call.onUnknown !== "repeat") {
    throw new KernelError(
      "EUNKNOWN",
      `the host ended during the call of tool ${tool.name} at ${place}; it may have acted. Look, then resume a failed run to call again, or kill it`,
      { syscall: "call", pid: caller.pid },
    );
  }
  const acts = tool.effect !== "pure";
  if (acts && !isUnanswered) {
    if (journal === undefined) await host.store.flush();
    else await journal.intend(place, key, NOTHING, []);
  }
  const started = host.platform.clock.monotonic();
  const state = caller.state;
  caller.become({ name: "waiting", channel: `tool ${tool.name}` });
  let hasActed = false;
  try {
    const value = await tool.call(args, {
      os: host.osOf(caller),
      signal: call.signal ?? caller.signal,
      idempotencyKey: key,
    });
    hasActed = acts;
    const ms = Math.round(host.platform.clock.monotonic() - started);
    const receipt = await journal?.end(place, { value }, { ms }).done;
    if (acts) await receipt?.flushed;
    caller.usage.steps++;
    return value;
  } catch (error) {
    // A result that cannot be recorded does not undo what was done: the failure is the outcome.
    if (hasActed && caller.isAlive && !caller.isEnding) {
      await journal?.end(place, { error: toErrorRecord(error) }).done;
      throw error;
    }
    journal?.retract(place);
    if (acts && caller.isAlive && !caller.isEnding)
      await journal?.note({ t: "release", at: host.committer.now(), p: place, error: toErrorRecord(error) });
    throw toKernelError(error, "EFAILED", { syscall: "call", path: `/lib/tools/${tool.name}`, pid: caller.pid });
  } finally {
    if (caller.state.name === "waiting") caller.become(state);
  }
}
