// Spending: what a call needs is reserved before it, and where the budget does not hold it the policy decides.
//
// W1  A reservation and the intent that it is for are one commit; nothing acts before it.
// W2  A budget is exhausted only when no call under way can give anything back to it.

import type { Batch } from "../abi/metastore.ts";
import { orAborted } from "../base/abort.ts";
import { KernelError, isKernelError, plainMessage } from "../base/errno.ts";
import { LIMITS } from "../base/limits.ts";
import { type Reservation, type Shortage, exhausted } from "../budget/account.ts";
import { DEFAULT_WARN_AT } from "../budget/limits.ts";
import { type UsageEntry, usageOf } from "../budget/ledger.ts";
import { type Share, WEIGHT_DEFAULT } from "../budget/fair.ts";
import type { RateLimit, Taken, Taking } from "../budget/rate.ts";
import { type Amounts, formatAmount, resourcesOf } from "../budget/resource.ts";
import { compileGlob } from "../base/glob.ts";
import type { Process } from "../proc/process.ts";
import type { Host } from "./host.ts";
import { hasEnded } from "./row.ts";

type Adds = NonNullable<Batch["adds"]>;

export interface Spending {
  /** The call, for messages. */
  readonly syscall: string;
  /** The same for the same call after a restart. */
  readonly keyOf: () => string;
  readonly amounts: Amounts;
  readonly signal: AbortSignal;
  /** It is of a call that acts (`begin`): while it waits for budget it does nothing, and nobody waits for it. */
  readonly acts?: true;
  /** The place of the step that the call is made in. */
  readonly within?: string | undefined;
  /** Something that is under way needs it: it is made although the life of its process is about to end. */
  readonly isPart?: boolean;
  /** Takes what the call needs beside a budget, before anything is reserved; before it waits for that it gives it back. */
  readonly turn?: Standby;
  /** Commits the reservation with what it is for. */
  readonly commit: (reservation: Reservation, adds: Adds) => Promise<unknown>;
}

/** What a call has taken, or takes, that others wait for. */
export interface Standby {
  ready(): Promise<void>;
  giveBack(): void;
}

/** What is reserved for a call under way, and what counts it as over. */
export interface Held {
  readonly reservation: Reservation;
  readonly end: () => void;
}

/**
 * Reserves what a call needs, waiting where the policy says so.
 * @throws {EDQUOT} the budget does not hold it
 */
export async function reserve(host: Host, caller: Process, spending: Spending): Promise<Held> {
  const { amounts, syscall, commit, signal, turn } = spending;
  for (let races = 0; ;) {
    signal.throwIfAborted();
    if (turn !== undefined) await turn.ready();
    // What has waited until its life is about to end begins in the next one, if there is one.
    if (spending.acts === true && spending.isPart !== true && caller.isHeld) {
      turn?.giveBack();
      if (!caller.isAlive || caller.isEnding) throw hasEnded(caller, syscall);
      caller.over();
      try {
        await caller.goesOn(signal);
      } finally {
        caller.begun();
      }
      continue;
    }
    const { reservation, adds } = host.accounts.reserve(caller.account, amounts);
    // Counted before the commit: who is refused meanwhile waits for this one.
    const { end, refused } = host.accounts.begin(reservation);
    try {
      await commit(reservation, adds);
      return { reservation, end };
    } catch (error) {
      refused();
      if (!isKernelError(error) || error.code !== "EDQUOT") throw error;
      let shortage = await host.accounts.shortage(caller.account, amounts);
      if (shortage !== undefined) turn?.giveBack();
      // Who has waited in vain does not try in between: others that are short too would wait for that.
      while (shortage !== undefined && host.accounts.mayFree(shortage.account)) {
        await freed(host, caller, shortage, spending, "settlement");
        signal.throwIfAborted();
        shortage = await host.accounts.shortage(caller.account, amounts);
        races = 0;
      }
      // What was missing has come back meanwhile.
      if (shortage === undefined && ++races > LIMITS.casRetriesMax) throw error;
      if (shortage !== undefined)
        await trap(host, caller, shortage, spending, exhausted(shortage, syscall, caller.pid));
    }
  }
}

/** Waits until something comes back to the account that is short. */
async function freed(
  host: Host,
  caller: Process,
  { account, resource }: Shortage,
  spending: Spending,
  what: "settlement" | "budget",
): Promise<void> {
  const { amounts, signal } = spending;
  const wake = Promise.withResolvers<void>();
  const stop = host.accounts.onFreed(account, wake.resolve, what);
  const isUsedUp = what === "budget";
  const wait = caller.waitFor(`${what} of ${resource}`, isUsedUp, isUsedUp ? resource : undefined);
  try {
    // It may have come back before anybody listened.
    const isShort = (await host.accounts.shortage(caller.account, amounts)) !== undefined;
    if (isShort && (what === "budget" || host.accounts.mayFree(account)))
      await atRest(caller, spending, orAborted(wake.promise, signal));
  } finally {
    stop();
    caller.stopWaiting(wait);
  }
}

/** What happens when a budget is exhausted: returns when it is worth another try, else throws the refusal. */
async function trap(
  host: Host,
  caller: Process,
  shortage: Shortage,
  spending: Spending,
  refusal: KernelError,
): Promise<void> {
  const { resource, account, allocation, used, wanted } = shortage;
  host.bus.publish({
    name: "resource.exceeded",
    pid: caller.pid,
    data: { resource, wanted, used, allocation, account },
  });
  const policy = caller.limits?.onLimit ?? "fail";
  switch (policy) {
    case "suspend":
      return freed(host, caller, shortage, spending, "budget");
    case "ask":
      return atRest(caller, spending, askForBudget(host, caller, shortage, spending, refusal));
    case "request":
      if (account !== caller.pid) throw refusal;
      return atRest(caller, spending, requestBudget(host, caller, { [resource]: lackOf(shortage) }, spending, refusal));
    case "fail":
    case "skip":
    case "downgrade":
      throw refusal;
    default:
      policy satisfies never;
  }
}

const atRest = <T>(caller: Process, { acts, within }: Spending, wait: Promise<T>): Promise<T> =>
  acts === true ? caller.rest(wait, within) : wait;

const lackOf = ({ used, wanted, allocation }: Shortage): number => Math.max(1, used + wanted - allocation);

/** Asks a person to add to the budget. Of several calls that are short of the same one asks, for all. */
async function askForBudget(
  host: Host,
  caller: Process,
  shortage: Shortage,
  spending: Spending,
  refusal: KernelError,
): Promise<void> {
  const { resource, account } = shortage;
  const key = `${account} ${resource}`;
  const asking = host.budgetAsks.get(key) ?? askOnce(host, caller, shortage, spending);
  host.budgetAsks.set(key, asking);
  const forget = (): void => {
    if (host.budgetAsks.get(key) === asking) host.budgetAsks.delete(key);
  };
  asking.then(forget, forget);
  // Who asked may have been told to end: the next asks again.
  const isGranted = await orAborted(asking, spending.signal).catch((error: unknown) => {
    if (spending.signal.aborted || !isKernelError(error) || error.code !== "ECANCELED") throw error;
    return true;
  });
  if (!isGranted) throw refusal;
}

async function askOnce(host: Host, caller: Process, shortage: Shortage, spending: Spending): Promise<boolean> {
  const { resource, account, allocation } = shortage;
  const lack = lackOf(shortage);
  const answer = await host.asks.raise(
    caller,
    {
      key: `budget ${account} ${resource} ${allocation}`,
      kind: "budget",
      text: `${caller.identity.runId} has used up ${formatAmount(resource, allocation)}; may it have ${formatAmount(resource, lack)} more?`,
      call: spending.syscall,
      resource: `/proc/${account}/budget`,
      args: { [resource]: lack },
      isLasting: false,
    },
    spending.signal,
  );
  if (answer.verdict === "deny") return false;
  // A person may give another amount.
  await host.processes.allocations.add(
    account,
    answer.verdict === "edit" ? (answer.value as Amounts) : { [resource]: lack },
  );
  return true;
}

/**
 * Asks the parent for more: its policy grants it out of its own budget, asks a person, or refuses.
 * @throws {EDQUOT} it is refused
 */
export async function requestBudget(
  host: Host,
  caller: Process,
  amounts: Amounts,
  spending: Pick<Spending, "keyOf" | "signal" | "syscall">,
  refusal?: KernelError,
): Promise<void> {
  const { account } = caller;
  // Who stands above it now: of one that has ended nobody gets anything.
  const above = host.processes.family.parentOf(caller.pid);
  const parent = above === undefined ? undefined : host.processes.get(above);
  const why = refusal ?? new KernelError("EDQUOT", `process ${caller.pid} has no more budget`, { pid: caller.pid });
  if (account !== caller.pid)
    throw new KernelError(
      "EDQUOT",
      `process ${caller.pid} spends from the budget of ${account ?? "nobody"}; that one asks`,
      {
        pid: caller.pid,
        cause: why,
      },
    );
  switch (parent?.limits?.onRequest ?? "refuse") {
    case "grant":
      return host.processes.allocations.add(account, amounts);
    case "ask": {
      // Resources, as the amounts were checked.
      const wanted = resourcesOf(amounts).map((resource) => formatAmount(resource, amounts[resource] ?? 0));
      const answer = await host.asks.raise(
        caller,
        {
          key: `request ${spending.keyOf()}`,
          kind: "budget",
          text: `${caller.identity.runId} asks its parent for ${wanted.join(" and ")} more`,
          call: spending.syscall,
          resource: `/proc/${account}/budget`,
          args: amounts,
          isLasting: false,
        },
        spending.signal,
      );
      if (answer.verdict === "deny") throw why;
      return host.processes.allocations.add(account, answer.verdict === "edit" ? (answer.value as Amounts) : amounts);
    }
    case "refuse":
      throw new KernelError("EDQUOT", `${plainMessage(why.message)}; its parent grants no more`, {
        pid: caller.pid,
        cause: why,
      });
  }
}

/** Tells of budgets that are nearly used up, once each. */
export async function warn(host: Host, caller: Process, reservation: Reservation): Promise<void> {
  const warnAt = caller.limits?.warnAt ?? DEFAULT_WARN_AT;
  for (const { resource, account, allocation, used } of await host.accounts.warnings(reservation, warnAt)) {
    const ratio = allocation === 0 ? 1 : used / allocation;
    const data = { resource, used, allocation, account, ratio };
    host.bus.publish({ name: "resource.warning", pid: caller.pid, data });
    const text = `${formatAmount(resource, used)} of ${formatAmount(resource, allocation)} used (${Math.round(ratio * 100)} %)`;
    if (caller.isAlive && !caller.isEnding)
      await caller.journal?.note({ t: "log", at: host.committer.now(), level: "warn", text });
  }
}

/** Waits until every rate has room for a call, or refuses it; gives what was taken of them. */
export async function passRates(
  host: Host,
  caller: Process,
  call: {
    readonly model?: string;
    readonly tool?: string;
    readonly tokens: number;
    readonly signal: AbortSignal;
    readonly within?: string | undefined;
    /** A call that a tool makes is part of the tool's: it waits for no place that this one has. */
    readonly isNested?: boolean;
  },
): Promise<Taken | undefined> {
  const rates = caller.limits?.rates;
  if (rates === undefined) return undefined;
  // One that stands in the limits of several counts once.
  const meters = new Map(rates.flatMap((rate) => heldBy(rate, caller, call) ?? []).map((one) => [one.key, one]));
  const held = [...meters.values()];
  const taken = host.rates.take(held);
  if ("over" in taken) return taken;
  if (taken.rate.onLimit === "fail") throw usedUp(caller, taken);
  const wait = caller.waitFor(`rate of ${taken.rate.resource} per ${taken.rate.per}`);
  try {
    const turn = await caller.rest(host.rates.wait(held, sharesOf(host, caller), call.signal), call.within);
    if ("over" in turn) return turn;
    throw usedUp(caller, turn);
  } finally {
    caller.stopWaiting(wait);
  }
}

function usedUp(
  { pid }: Process,
  { rate, waitMs }: { readonly rate: RateLimit; readonly waitMs: number },
): KernelError {
  const { max, resource, per, windowMs } = rate;
  const when = windowMs === undefined ? "at a time" : `in ${windowMs} ms`;
  const retryAfterMs = Math.ceil(waitMs);
  const isKnown = Number.isFinite(waitMs);
  return new KernelError(
    "EAGAIN",
    `the rate of ${max} ${resource} ${when} per ${per} is used up; try again ${isKnown ? `in ${retryAfterMs} ms` : "later"}`,
    { pid, ...(isKnown ? { retryAfterMs } : {}) },
  );
}

/** Where it stands beside others that wait for the same: in its groups, or else as its user, and there as itself. */
function sharesOf({ processes: { groups } }: Host, { pid, identity: { group, user } }: Process): readonly Share[] {
  const around = group === undefined ? [{ key: `user ${user}`, weight: WEIGHT_DEFAULT }] : groups.sharesOf(group);
  return [...around, { key: `process ${pid}`, weight: WEIGHT_DEFAULT }];
}

function heldBy(
  rate: RateLimit,
  caller: Process,
  call: { readonly model?: string; readonly tool?: string; readonly tokens: number; readonly isNested?: boolean },
): Taking | undefined {
  if (rate.kind === "concurrent" && call.isNested === true) return undefined;
  const name = rate.resource === "toolCalls" ? call.tool : call.model;
  if (name === undefined || (rate.only !== undefined && !compileGlob(rate.only)(name))) return undefined;
  const scope = { process: String(caller.pid), user: caller.identity.user, model: call.model, tool: call.tool }[
    rate.per
  ];
  if (scope === undefined) return undefined;
  // The same rate is the same meter, however its fields stand, and whoever waits for it.
  const { per, resource, only, max, windowMs, kind = "window", burst = max } = rate;
  const key = JSON.stringify([per, scope, resource, only, max, windowMs, kind, burst]);
  return { rate, key, amount: rate.resource === "tokens" ? call.tokens : 1 };
}

/** The entry of a call in the ledger, for the commit that settles it. */
export function usageAppend(
  host: Host,
  caller: Process,
  entry: Omit<UsageEntry, "at" | "pid" | "run" | "user" | "group">,
): { readonly log: string; readonly value: string } {
  return usageOf(caller.identity, { at: host.committer.now(), ...entry });
}
