// A tool call: checked, recorded, and never done twice unknowingly.

import type { Batch } from "../abi/metastore.ts";
import type { Tool } from "../abi/tool.ts";
import { linkSignal } from "../base/abort.ts";
import { KernelError, isKernelError, toErrorRecord, toKernelError } from "../base/errno.ts";
import { toPath } from "../base/path.ts";
import { type Schema, assertValid } from "../base/schema.ts";
import type { Reservation } from "../budget/account.ts";
import type { Rider } from "../ipc/committer.ts";
import type { Process } from "../proc/process.ts";
import type { Host } from "./host.ts";
import type { Os } from "./os.ts";
import { mayGoOn } from "./policy.ts";
import { begin, lose, passRates, repeated, reserve, usageAppend, warn, withinTime } from "./spend.ts";

export interface ToolCall {
  readonly place: string;
  readonly tool: string;
  readonly arguments?: Readonly<Record<string, unknown>>;
  readonly signal?: AbortSignal;
  /** What to do when the host died during the call: `fail` (default) is EUNKNOWN, `repeat` may act twice. */
  readonly onUnknown?: "fail" | "repeat";
}

export async function callTool(host: Host, caller: Process, call: ToolCall, rider?: Rider): Promise<unknown> {
  const { place } = call;
  const args = call.arguments ?? {};
  const tool = toolOf(host, caller, "call", call.tool);
  assertValid(tool.inputSchema, args, `the call of tool ${tool.name}`);
  const { journal } = caller;
  const before = await journal?.begin(place, "call");
  if (before !== undefined) return caller.replay(before);
  const signal = caller.signalWith(call.signal);
  const digest = host.platform.hash(JSON.stringify([tool.name, args])).slice(0, 16);
  const key = `${host.id}/${caller.identity.runId}/${place}#${digest}`;
  const prior = journal?.intentAt(place, () => key);
  if (prior !== undefined && tool.effect === "once" && call.onUnknown !== "repeat") {
    throw new KernelError(
      "EUNKNOWN",
      `the call of tool ${tool.name} at ${place} was cut off with its host or its process; it may have acted. Look, then resume a failed run to call again, or kill it`,
      { syscall: "call", pid: caller.pid },
    );
  }
  const acts = tool.effect !== "pure";
  const leave = await begin(caller, signal, call);
  try {
    if (caller.limits?.rates !== undefined) await passRates(host, caller, { tool: tool.name, tokens: 0, signal });
    // What may be done twice is reserved for twice; what the first had reserved stays spent.
    if (prior !== undefined && tool.effect !== "once") journal?.takeIntent(place, prior);
    else if (prior !== undefined) await lose(host, caller, place, prior, repeated());
    const reservation =
      (tool.effect === "once" ? undefined : prior?.reservation) ??
      (await reserveCall(host, caller, { place, tool: tool.name, key, acts, signal, rider }));
    return await act(host, caller, tool, { place, tool: tool.name, args, key, acts, signal, rider, reservation });
  } catch (error) {
    journal?.retract(place);
    throw error;
  } finally {
    leave();
    caller.over();
  }
}

/** Arguments as conditions of grants and policies look at them: what the tool says is a path in its one form. */
export function plainArguments(
  host: Host,
  caller: Process,
  { tool: wanted, arguments: args = {} }: ToolCall,
): Readonly<Record<string, unknown>> {
  const properties = (findTool(host, caller, wanted)?.inputSchema as Schema | undefined)?.properties ?? {};
  const plain = { ...args };
  for (const [name, { format }] of Object.entries(properties)) {
    const given = args[name];
    if (format === "path" && typeof given === "string") plain[name] = plainPath(given);
  }
  return plain;
}

/** What is no path stays as it is: the tool says so. */
function plainPath(given: string): string {
  try {
    return toPath(given);
  } catch {
    return given;
  }
}

/**
 * A tool of the process's program, or of its host.
 * @throws {ENOENT} there is none of that name
 */
export function toolOf(host: Host, caller: Process, syscall: string, wanted: string): Tool<Os> {
  const tool = findTool(host, caller, wanted);
  if (tool !== undefined) return tool;
  const own = caller.program?.tools ?? [];
  const known = [...own.map(({ name }) => name), ...host.tools.keys()];
  throw new KernelError("ENOENT", `no tool ${JSON.stringify(wanted)}; known are ${known.join(", ") || "none"}`, {
    syscall,
    path: `/lib/tools/${wanted}`,
    pid: caller.pid,
  });
}

const findTool = (host: Host, caller: Process, wanted: string): Tool<Os> | undefined =>
  caller.program?.tools?.find(({ name }) => name === wanted) ?? host.tools.get(wanted);

interface MadeCall {
  readonly place: string;
  readonly tool: string;
  readonly key: string;
  /** Whether it has an effect on the world. */
  readonly acts: boolean;
  readonly signal: AbortSignal;
  readonly rider: Rider | undefined;
}

/** Reserves the call and records the intent of one that acts (journal, J3). */
async function reserveCall(
  host: Host,
  caller: Process,
  { place, tool, key, acts, signal, rider }: MadeCall,
): Promise<Reservation> {
  const { journal } = caller;
  const commit = async (reservation: Reservation, adds: NonNullable<Batch["adds"]>): Promise<void> => {
    const isNoted = acts || adds.length > 0;
    if (isNoted && journal !== undefined)
      await journal.intend(place, { key, reservation, of: { tool } }, { adds, rider, acts });
    else {
      if (adds.length > 0) await host.committer.commit({ adds }, undefined, rider);
      if (acts) await host.store.flush();
    }
  };
  const spending = {
    syscall: "call",
    keyOf: () => key,
    amounts: { toolCalls: 1 },
    signal,
    acts: true as const,
    commit,
  };
  const { reservation, end } = await reserve(host, caller, spending);
  // What is certain is no reservation that others wait for.
  end();
  return reservation;
}

async function act(
  host: Host,
  caller: Process,
  tool: Tool<Os>,
  call: MadeCall & { readonly args: Readonly<Record<string, unknown>>; readonly reservation: Reservation },
): Promise<unknown> {
  const { place, args, key, acts, signal, rider, reservation } = call;
  const { journal } = caller;
  const started = host.platform.clock.monotonic();
  // A signal of its own: what a tool hangs on it goes with the call.
  const own = new AbortController();
  const unlink = linkSignal(signal, own);
  const wait = caller.waitFor(`tool ${tool.name}`);
  const usage = (): NonNullable<Batch["appends"]> => [
    usageAppend(host, caller, { place, tool: tool.name, used: { toolCalls: 1 } }),
  ];
  let hasActed = false;
  let wasCalled = false;
  try {
    await mayGoOn(
      host,
      caller,
      "call",
      { right: "tool.call", resource: tool.name },
      {
        args: plainArguments(host, caller, { place, tool: tool.name, arguments: args }),
        signal,
      },
    );
    wasCalled = acts;
    const value = await withinTime(host, caller, `tool ${tool.name}`, own.signal, (limited) =>
      tool.call(args, { os: host.osOf(caller), signal: limited, idempotencyKey: key }),
    );
    hasActed = acts;
    const ms = Math.round(host.platform.clock.monotonic() - started);
    const appends = usage();
    if (journal === undefined) await host.committer.commit({ appends }, undefined, rider);
    else {
      const use = { tool: tool.name, tokensIn: 0, tokensOut: 0, costMicros: 0 };
      const receipt = await journal.end(place, { value }, { ms, use, appends, rider }).done;
      if (acts) await receipt.flushed;
    }
    caller.usage.steps++;
    caller.usage.toolCalls++;
    await warn(host, caller, reservation);
    return value;
  } catch (error) {
    // A result that cannot be recorded does not undo what was done: the failure is the outcome.
    if (hasActed && caller.isAlive && !caller.isEnding) {
      await journal?.fail(place, toErrorRecord(error), { appends: usage() });
      throw error;
    }
    // Whoever has given it up does not know what it did.
    const isUnknown = wasCalled && (own.signal.aborted || (isKernelError(error) && error.mayHaveActed));
    if (isUnknown || !caller.isAlive || caller.isEnding) {
      if (!hasActed) await lose(host, caller, place, { reservation, of: { tool: tool.name } }, error);
    } else {
      const adds = host.accounts.release(reservation);
      const record = { t: "release", at: host.committer.now(), p: place, error: toErrorRecord(error) } as const;
      if (journal !== undefined && (acts || adds.length > 0)) await journal.note(record, adds);
      else if (adds.length > 0) await host.committer.commit({ adds });
      host.accounts.freed(reservation);
    }
    throw toKernelError(error, "EFAILED", { syscall: "call", path: `/lib/tools/${tool.name}`, pid: caller.pid });
  } finally {
    unlink();
    caller.stopWaiting(wait);
  }
}
