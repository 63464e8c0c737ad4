// `ergos budget` and `ergos usage`: what processes may spend, and what was spent.

import {
  type Amounts,
  type Resource,
  USAGE_KEYS,
  type UsageKey,
  type UsageRow,
  formatAmount,
  parseAmount,
  plainMessage,
} from "@ergos/kernel";
import {
  type Command,
  EXIT_OK,
  UsageError,
  instantOption,
  listOption,
  openDirectory,
  required,
  textOption,
} from "../command.ts";
import { findPid } from "../find-process.ts";
import { type Output, formatCount, table } from "../terminal.ts";

/** `--limit cost=0.50 --limit calls=3` as amounts. */
export function readAmounts(texts: readonly string[]): Amounts | undefined {
  if (texts.length === 0) return undefined;
  try {
    return Object.assign({}, ...texts.map(parseAmount)) as Amounts;
  } catch (error) {
    throw new UsageError(error instanceof Error ? plainMessage(error.message) : "no amount");
  }
}

export const budgetCommand: Command = {
  name: "budget",
  needsData: true,
  arguments: 1,
  summary: "show what a process may spend and has spent, or add to it",
  usage: "<pid|run> [--add resource=amount]...",
  examples: ["ergos budget 7", "ergos budget 7 --add cost=0.50", "ergos budget 7 --add tokens=100000 --add calls=20"],
  options: { add: { type: "string", multiple: true } },
  run: async (invocation) => {
    const name = required(invocation, 0, "the process");
    const added = readAmounts(listOption(invocation, "add"));
    await using os = await openDirectory(invocation);
    const { pid, runId } = await findPid(os, name);
    if (added !== undefined) await os.call("allocate", { pid, budget: added });
    const usage = await os.call("usage", { pid });
    invocation.out.answer(usage, (found) => {
      const rows = Object.entries(found).map(([resource, { allocation, used, account }]) => [
        resource,
        amountText(resource, used),
        amountText(resource, allocation),
        bar(allocation === 0 ? 1 : used / allocation, invocation.out),
        account === pid ? "" : `shared with process ${account}`,
      ]);
      return rows.length === 0
        ? `${runId} has no budget: nothing limits what it spends`
        : table([["RESOURCE", "USED", "OF", "", ""], ...rows]);
    });
    return EXIT_OK;
  },
};

export const amountText = (resource: string, amount: number): string =>
  resource === "costMicros" ? formatAmount(resource, amount) : formatCount(amount);

function bar(ratio: number, out: Output): string {
  const filled = Math.round(Math.min(1, Math.max(0, ratio)) * 20);
  const colour = ratio >= 1 ? "red" : ratio >= 0.8 ? "yellow" : "green";
  return `${out.style(colour, "█".repeat(filled))}${"░".repeat(20 - filled)} ${Math.round(ratio * 100)} %`;
}

export const usageCommand: Command = {
  name: "usage",
  needsData: true,
  arguments: 0,
  summary: "sum up what model and tool calls were charged",
  usage: `[--by ${USAGE_KEYS.join(",")}] [--since DATE|DURATION]`,
  examples: ["ergos usage", "ergos usage --by run", "ergos usage --by user,model --since 2026-11-01 --json"],
  options: { by: { type: "string" }, since: { type: "string" } },
  run: async (invocation) => {
    const by = (textOption(invocation, "by") ?? "model,tool").split(",").map((key) => key.trim());
    const unknown = by.find((key) => !isUsageKey(key));
    if (unknown !== undefined) throw new UsageError(`--by takes ${USAGE_KEYS.join(", ")}; found ${unknown}`);
    const since = instantOption(invocation, "since");
    await using os = await openDirectory(invocation);
    const keys = by.filter(isUsageKey);
    const rows = await os.call("ledger", { by: keys, ...(since === undefined ? {} : { since }) });
    invocation.out.answer(rows, (list) => `${usageText(list, keys)}${overText(list)}`);
    return EXIT_OK;
  },
};

/** Providers that use more than they were asked to have somebody to pay for it, who should know. */
function overText(rows: readonly UsageRow[]): string {
  const resources = SHOWN.filter((resource) => rows.some(({ over }) => over?.[resource] !== undefined));
  if (resources.length === 0) return "";
  const amounts = resources.map((resource) =>
    formatAmount(
      resource,
      rows.reduce((sum, { over }) => sum + (over?.[resource] ?? 0), 0),
    ),
  );
  return `\nbeyond what was reserved, as the models report it, and charged to nobody: ${amounts.join(", ")}`;
}

const isUsageKey = (text: string): text is UsageKey => USAGE_KEYS.some((key) => key === text);
const SHOWN: readonly Resource[] = ["modelCalls", "toolCalls", "tokensIn", "tokensOut", "costMicros"];

function usageText(rows: readonly UsageRow[], by: readonly UsageKey[]): string {
  if (rows.length === 0) return "nothing was used yet";
  const shown = SHOWN.filter((resource) => rows.some(({ used }) => used[resource] !== undefined));
  const total = (resource: Resource): number => rows.reduce((sum, { used }) => sum + (used[resource] ?? 0), 0);
  const line = (names: readonly string[], of: (resource: Resource) => number): readonly string[] => [
    ...names,
    ...shown.map((resource) => amountText(resource, of(resource))),
  ];
  return table([
    [...by.map((key) => key.toUpperCase()), ...shown.map((resource) => TITLES[resource] ?? resource)],
    ...rows.map(({ key, used }) =>
      line(
        by.map((name) => key[name] ?? "-"),
        (resource) => used[resource] ?? 0,
      ),
    ),
    ...(rows.length === 1
      ? []
      : [
          line(
            by.map((_name, at) => (at === 0 ? "total" : "")),
            total,
          ),
        ]),
  ]);
}

const TITLES: Readonly<Partial<Record<Resource, string>>> = {
  modelCalls: "CALLS",
  toolCalls: "TOOLS",
  tokensIn: "TOKENS IN",
  tokensOut: "TOKENS OUT",
  costMicros: "COST",
};
