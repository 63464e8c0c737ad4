// Rows about what processes may spend and have spent.

import { patiently } from "../abi/entries.ts";
import { PID_OWNER, type Pid } from "../base/id.ts";
import { KernelError } from "../base/errno.ts";
import { USAGE_KEYS, type UsageKey, type UsageRow, usageReport } from "../budget/ledger.ts";
import { type Amounts, RESOURCES, assertAmounts, resourcesOf } from "../budget/resource.ts";
import type { Process } from "../proc/process.ts";
import type { Host } from "./host.ts";
import { args, integer, onProcess, pid, row, text } from "./row.ts";
import { requestBudget } from "./spend.ts";

type BudgetUsage = Awaited<ReturnType<Host["accounts"]["usage"]>>;

export const amounts = {
  type: "object",
  properties: Object.fromEntries(RESOURCES.map((name) => [name, integer])),
  additionalProperties: false,
} as const;

export const BUDGET_ROWS = {
  usage: row<{ readonly pid: Process["pid"] }, Promise<BudgetUsage>>({
    right: "budget.read",
    kind: "query",
    summary: "allocation and use of a process's budget, resource by resource",
    schema: args({ pid }, ["pid"]),
    target: onProcess,
    handle: (host, _caller, a) => host.processes.recall(a.pid).then((process) => usageOf(host, process)),
  }),
  allocate: row<{ readonly pid: Pid; readonly budget: Amounts }, Promise<void>>({
    right: "budget.allocate",
    kind: "mutation",
    summary: "adds to the budget of a running process, out of the one above it; who waits for it goes on",
    schema: args({ pid, budget: amounts }, ["pid", "budget"]),
    target: onProcess,
    handle: async (host, caller, a, _target, draft) => {
      assertMayAllocate(host, caller, a.pid, "allocate");
      return host.processes.allocations.add(a.pid, a.budget, draft);
    },
  }),
  requestBudget: row<{ readonly budget: Amounts; readonly why?: string; readonly signal?: AbortSignal }, Promise<void>>(
    {
      right: "budget.request",
      kind: "mutation",
      waits: true,
      summary: "asks the parent for more budget: its policy grants it, asks a person, or refuses",
      schema: args({ budget: amounts, why: text }, ["budget"]),
      target: (_host, caller) => caller.self,
      handle: async (host, caller, a) => {
        assertAmounts(a.budget);
        if (resourcesOf(a.budget).length === 0)
          throw new KernelError("EINVAL", "a request for budget names at least one resource", { pid: caller.pid });
        const key = host.platform.hash(JSON.stringify(a.budget)).slice(0, 16);
        return requestBudget(host, caller, a.budget, {
          syscall: "requestBudget",
          keyOf: () => key,
          signal: caller.signalWith(a.signal),
        });
      },
    },
  ),
  ledger: row<{ readonly by?: readonly UsageKey[]; readonly since?: number }, Promise<readonly UsageRow[]>>({
    right: "usage.read",
    kind: "query",
    summary: "sums of what model and tool calls were charged, by user, group, pid, run, model, tier, tool or day",
    schema: args({
      by: { type: "array", items: { type: "string", enum: USAGE_KEYS }, maxItems: USAGE_KEYS.length },
      since: integer,
    }),
    target: () => ({ resource: "/sys/usage" }),
    handle: (host, _caller, a) => usageReport(patiently(host.store, host.platform), a.by ?? ["model"], a.since),
  }),
} as const;

/**
 * A process moves budget to what is below it; what it spends from itself, whatever its rights, is added to by others.
 * @throws {EPERM}
 */
export function assertMayAllocate(host: Host, caller: Process, to: Pid, syscall: string): void {
  const { family } = host.processes;
  const spends = family.isWithin(caller.pid, to) || host.accounts.isBelow(caller.account, to);
  const isOwn = caller.pid !== PID_OWNER && spends;
  if (!isOwn && (caller.capability.isAll || family.isWithin(to, caller.pid))) return;
  throw new KernelError(
    "EPERM",
    `process ${caller.pid} adds only to the budgets of processes that it has started; for its own it asks with requestBudget`,
    { syscall, pid: caller.pid },
  );
}

/** Allocation and use of a process's account; of one that is closed, what the process itself had and has left. */
export async function usageOf(host: Host, process: Process | undefined): Promise<BudgetUsage> {
  const open = await host.accounts.usage(process?.account);
  const budget = process?.identity.budget;
  if (process === undefined || budget === undefined || Object.keys(open).length > 0) return open;
  const left = await host.accounts.leftOf(process.pid);
  return Object.fromEntries(
    resourcesOf(budget).map((resource) => {
      const allocation = budget[resource] ?? 0;
      return [resource, { allocation, used: allocation - (left[resource] ?? 0), account: process.pid }];
    }),
  );
}
