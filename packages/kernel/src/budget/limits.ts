// What bounds a process beside its budget, and what happens when the budget does not hold.

import { KernelError } from "../base/errno.ts";
import type { Schema } from "../base/schema.ts";
import { RATE_SCHEMA, type RateLimit, assertRate } from "./rate.ts";

/** What a process does whose budget does not hold a call: see `docs/guide/budgets.md`. */
export const ON_LIMIT = ["fail", "suspend", "skip", "downgrade", "ask", "request"] as const;
export type OnLimit = (typeof ON_LIMIT)[number];
const ON_REQUEST = ["refuse", "grant", "ask"] as const;

export interface ProcessLimits {
  /** Default: fail. A child has its parent's unless it has its own. */
  readonly onLimit?: OnLimit;
  /** Share of an allocation, from 0 to 1, from which a warning is told (default 0.8). */
  readonly warnAt?: number;
  /** Models to try in order when `onLimit` is `downgrade`. */
  readonly downgrade?: readonly string[];
  /** What it does when a child asks for more budget (default refuse). */
  readonly onRequest?: (typeof ON_REQUEST)[number];
  /** Milliseconds that it may run, counted while a host runs it. Not inherited: it ends the branch. */
  readonly wallMs?: number;
  /** Milliseconds of one model or tool call; the smallest of those of its ancestors. */
  readonly callMs?: number;
  /** Living children. Not inherited. */
  readonly children?: number;
  /** Tokens of one request; the smallest of those of its ancestors. */
  readonly contextTokens?: number;
  /** Model and tool calls under way at the same time. Not inherited. */
  readonly concurrentCalls?: number;
  /** MiB of heap of a process of the machine; the smallest of those of its ancestors. */
  readonly memoryMb?: number;
  /** Milliseconds of processor time of a thread or of each process of the machine; the smallest of those of its ancestors. */
  readonly cpuMs?: number;
  /** Of itself and all its ancestors. */
  readonly rates?: readonly RateLimit[];
}

const count: Schema = { type: "integer", minimum: 0 };

export const LIMITS_SCHEMA: Schema = {
  type: "object",
  properties: {
    onLimit: { type: "string", enum: ON_LIMIT },
    warnAt: { type: "number", minimum: 0, maximum: 1 },
    downgrade: { type: "array", items: { type: "string", minLength: 1 }, maxItems: 16 },
    onRequest: { type: "string", enum: ON_REQUEST },
    wallMs: count,
    callMs: count,
    children: count,
    contextTokens: count,
    concurrentCalls: { type: "integer", minimum: 1 },
    memoryMb: { type: "integer", minimum: 8, maximum: 1_048_576 },
    cpuMs: { type: "integer", minimum: 1 },
    rates: { type: "array", items: RATE_SCHEMA, maxItems: 64 },
  },
  additionalProperties: false,
};

export const DEFAULT_WARN_AT = 0.8;

/** The limits of a child: its own, and what it has of its parent's. */
export function inheritLimits(
  parent: ProcessLimits | undefined,
  own: ProcessLimits | undefined,
): ProcessLimits | undefined {
  if (parent === undefined) return own;
  const { wallMs: _wall, children: _children, concurrentCalls: _calls, ...rest } = parent;
  const rates = [...(parent.rates ?? []), ...(own?.rates ?? [])];
  const callMs = smaller(parent.callMs, own?.callMs);
  const contextTokens = smaller(parent.contextTokens, own?.contextTokens);
  const memoryMb = smaller(parent.memoryMb, own?.memoryMb);
  const cpuMs = smaller(parent.cpuMs, own?.cpuMs);
  const limits: ProcessLimits = {
    ...rest,
    ...own,
    ...(callMs === undefined ? {} : { callMs }),
    ...(contextTokens === undefined ? {} : { contextTokens }),
    ...(memoryMb === undefined ? {} : { memoryMb }),
    ...(cpuMs === undefined ? {} : { cpuMs }),
    ...(rates.length === 0 ? {} : { rates }),
  };
  return Object.keys(limits).length === 0 ? undefined : limits;
}

/** What both say of one process: the narrower of each. */
export function mergeLimits(
  one: ProcessLimits | undefined,
  other: ProcessLimits | undefined,
): ProcessLimits | undefined {
  if (one === undefined || other === undefined) return other ?? one;
  const merged: Record<string, unknown> = { ...one, ...other };
  for (const name of [
    "wallMs",
    "callMs",
    "children",
    "contextTokens",
    "concurrentCalls",
    "memoryMb",
    "cpuMs",
  ] as const) {
    const least = smaller(one[name], other[name]);
    if (least !== undefined) merged[name] = least;
  }
  const rates = [...(one.rates ?? []), ...(other.rates ?? [])];
  return { ...merged, ...(rates.length === 0 ? {} : { rates }) };
}

/** @throws {EINVAL} a rate or a policy that cannot work */
export function assertLimits(limits: ProcessLimits | undefined): void {
  for (const rate of limits?.rates ?? []) assertRate(rate);
  if (limits?.onLimit === "downgrade" && (limits.downgrade ?? []).length === 0)
    throw new KernelError("EINVAL", "onLimit: downgrade needs models to go down to, in `downgrade`");
}

const smaller = (one: number | undefined, other: number | undefined): number | undefined =>
  one === undefined ? other : other === undefined ? one : Math.min(one, other);
