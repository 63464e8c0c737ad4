// What a budget is made of. Amounts are safe non-negative integers; 0 means nothing, absent means unlimited.

import type { Tier } from "../abi/model.ts";
import { KernelError } from "../base/errno.ts";

/** Every countable resource, with its unit. */
export const RESOURCE_UNITS = {
  tokens: "model tokens, in and out together",
  tokensIn: "model tokens of requests",
  tokensOut: "model tokens of answers",
  strategicTokens: "tokens of models of the strategic tier",
  tacticalTokens: "tokens of models of the tactical tier",
  operationalTokens: "tokens of models of the operational tier, and of models without a tier",
  costMicros: "micro-dollars",
  modelCalls: "calls of models",
  toolCalls: "calls of tools",
  spawns: "processes started",
  bytesWritten: "bytes written to files",
  netBytes: "bytes sent and received by fetch",
} as const;

export type Resource = keyof typeof RESOURCE_UNITS;
// The keys of the table above.
export const RESOURCES: readonly Resource[] = Object.keys(RESOURCE_UNITS) as Resource[];
export type Amounts = Readonly<Partial<Record<Resource, number>>>;

const TIER_RESOURCE: Readonly<Record<Tier, Resource>> = {
  strategic: "strategicTokens",
  tactical: "tacticalTokens",
  operational: "operationalTokens",
};

/** What so many tokens of a model use. */
export function tokenAmounts(tokensIn: number, tokensOut: number, tier: Tier | undefined): Amounts {
  const tokens = tokensIn + tokensOut;
  return { tokens, tokensIn, tokensOut, [TIER_RESOURCE[tier ?? "operational"]]: tokens };
}

/** The resources of amounts. */
export const resourcesOf = (amounts: Amounts): readonly Resource[] => Object.keys(amounts) as Resource[];

export function addAmounts(one: Amounts, other: Amounts): Amounts {
  const sum: Partial<Record<Resource, number>> = { ...one };
  for (const resource of resourcesOf(other)) sum[resource] = (sum[resource] ?? 0) + (other[resource] ?? 0);
  return sum;
}

/**
 * Refuses what is no amount: negative, fractional, too large, NaN, or of a resource that does not exist.
 * @throws {EINVAL}
 */
export function assertAmounts(amounts: Amounts): void {
  for (const [resource, amount] of Object.entries(amounts)) {
    if (!Object.hasOwn(RESOURCE_UNITS, resource))
      throw new KernelError(
        "EINVAL",
        `no resource ${JSON.stringify(resource)}; a budget holds ${RESOURCES.join(", ")}`,
      );
    if (!Number.isSafeInteger(amount) || amount < 0) {
      throw new KernelError(
        "EINVAL",
        `${resource} must be a whole number of at least 0, found ${amount}; 0 means nothing, leave it out for no limit`,
      );
    }
  }
}

/** Names of people for resources; `cost` and `maxCostUsd` are in dollars. */
const SHORT: Readonly<Record<string, Resource>> = {
  calls: "modelCalls",
  tools: "toolCalls",
  children: "spawns",
  bytes: "bytesWritten",
};

/**
 * Reads `cost=0.50`, `tokens=20000`, `calls=3`.
 * @throws {EINVAL}
 */
export function parseAmount(text: string): Amounts {
  const [, name = "", written = ""] = /^([A-Za-z]+)=(.+)$/.exec(text.trim()) ?? [];
  const isDecimal = /^\d[\d_]*(?:\.\d+)?$/.test(written);
  if (name === "cost" || name === "usd")
    return { costMicros: toMicros(isDecimal ? Number(written.replaceAll("_", "")) : Number.NaN, text) };
  const resource = (Object.hasOwn(SHORT, name) ? SHORT[name] : undefined) ?? name;
  const amount = /^\d[\d_]*$/.test(written) ? Number(written.replaceAll("_", "")) : Number.NaN;
  if (name === "" || !Number.isSafeInteger(amount))
    throw new KernelError(
      "EINVAL",
      `a limit is resource=amount such as tokens=20000 or cost=0.50, found ${JSON.stringify(text)}`,
    );
  // Checked in the next line.
  const amounts = { [resource]: amount } as Amounts;
  assertAmounts(amounts);
  return amounts;
}

/** Dollars in micro-dollars. */
export function toMicros(dollars: number, text: string): number {
  const micros = Math.round(dollars * 1_000_000);
  if (!Number.isSafeInteger(micros) || micros < 0)
    throw new KernelError("EINVAL", `cost is in dollars, such as cost=0.50, found ${JSON.stringify(text)}`);
  return micros;
}

/** An amount for people. */
export function formatAmount(resource: Resource, amount: number): string {
  return resource === "costMicros"
    ? `$${(amount / 1_000_000).toFixed(amount % 10_000 === 0 ? 2 : 6)}`
    : `${amount} ${resource}`;
}
