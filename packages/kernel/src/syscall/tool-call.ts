// A tool call: its arguments are checked, and what it is beside any other call that is paid for.

import type { Tool } from "../abi/tool.ts";
import { linkSignal } from "../base/abort.ts";
import { KernelError } from "../base/errno.ts";
import { toPath } from "../base/path.ts";
import { type Schema, assertValid } from "../base/schema.ts";
import type { Called } from "../budget/ledger.ts";
import type { Taken } from "../budget/rate.ts";
import type { Amounts } from "../budget/resource.ts";
import type { Rider } from "../ipc/committer.ts";
import type { CallUsage } from "../journal/record.ts";
import type { Process } from "../proc/process.ts";
import type { Host } from "./host.ts";
import type { Os } from "./os.ts";
import { mayGoOn } from "./policy.ts";
import { CallOf, type PaidCall, pay } from "./paid-call.ts";
import { taken } from "./placed.ts";
import { isNested, stepAround } from "./row.ts";
import { passRates } from "./spend.ts";

export interface ToolCall {
  readonly place: string;
  readonly tool: string;
  readonly arguments?: Readonly<Record<string, unknown>>;
  readonly signal?: AbortSignal;
  /** What to do when the host died during the call: `fail` (default) is EUNKNOWN, `repeat` may act twice. */
  readonly onUnknown?: "fail" | "repeat";
}

export async function callTool(host: Host, caller: Process, call: ToolCall, rider?: Rider): Promise<unknown> {
  const tool = toolOf(host, caller, "call", call.tool);
  assertValid(tool.inputSchema, call.arguments ?? {}, `the call of tool ${tool.name}`);
  return taken(caller, "call", call.place, () => pay(host, caller, new ToolUse(host, caller, call, tool, rider)));
}

class ToolUse extends CallOf<ToolCall> implements PaidCall<unknown> {
  readonly syscall = "call";
  readonly amounts = ONE_CALL;
  readonly staysUnknown = true;
  readonly key: string;
  readonly #tool: Tool<Os>;
  /** A signal of its own: what a tool hangs on it goes with the call. */
  readonly #own = new AbortController();
  #unlink: (() => void) | undefined;

  constructor(host: Host, caller: Process, call: ToolCall, tool: Tool<Os>, rider: Rider | undefined) {
    super(host, caller, call, rider);
    this.#tool = tool;
    this.key = this.keyOf([tool.name, call.arguments ?? {}]);
  }

  get what(): string {
    return `tool ${this.#tool.name}`;
  }

  get of(): Called {
    return { tool: this.#tool.name };
  }

  get effect(): Tool["effect"] {
    return this.#tool.effect;
  }

  get fails(): PaidCall<unknown>["fails"] {
    return { code: "EFAILED", path: `/lib/tools/${this.#tool.name}` };
  }

  ready(): undefined | Promise<Taken | undefined> {
    if (this.caller.limits?.rates === undefined) return undefined;
    return passRates(this.host, this.caller, {
      tool: this.#tool.name,
      tokens: 0,
      signal: this.signal,
      within: stepAround(this.given),
      isNested: isNested(this.given),
    });
  }

  assertMay(): Promise<void> {
    const need = { right: "tool.call", resource: this.#tool.name };
    const args = plainArguments(this.host, this.caller, this.given);
    return mayGoOn(this.host, this.caller, "call", need, { args, signal: this.signal });
  }

  act(signal: AbortSignal): unknown {
    this.#unlink = linkSignal(signal, this.#own);
    const os = this.host.osOf(this.caller);
    return this.#tool.call(this.given.arguments ?? {}, { os, signal: this.#own.signal, idempotencyKey: this.key });
  }

  used(): Amounts {
    return ONE_CALL;
  }

  /** One that fails is a call too. */
  usedInVain(): Amounts {
    return ONE_CALL;
  }

  use(): CallUsage {
    return { tool: this.#tool.name, tokensIn: 0, tokensOut: 0, costMicros: 0 };
  }

  settled(): void {
    this.caller.usage.toolCalls++;
  }

  over(): void {
    this.#unlink?.();
  }
}

const ONE_CALL: Amounts = { toolCalls: 1 };

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
