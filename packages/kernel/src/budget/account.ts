// The tree of accounts: budgets that are moved down, reserved before the act, and refunded after it.
//
// B1  At every account and instant: settled + reserved + allocated to children <= allocation. The form of
//     the commit guarantees it: each movement is one bounded add on the counter of one account.
// B2  An account without an allocation for a resource shares the one of its nearest ancestor that has one.
// B3  A crash leaves reservations standing until their process settles or releases them, never lost money.

import type { Batch, Metastore } from "../abi/metastore.ts";
import { KernelError } from "../base/errno.ts";
import { type Pid, type Seq, SEQ_ZERO, toPid } from "../base/id.ts";

/** Tokens, micro-dollars and counts; safe non-negative integers. */
export const RESOURCES = ["tokensIn", "tokensOut", "costMicros", "modelCalls"] as const;
export type Resource = (typeof RESOURCES)[number];
export type Amounts = Readonly<Partial<Record<Resource, number>>>;

type Add = NonNullable<Batch["adds"]>[number];

/** Amounts that are set aside, and the accounts that carry them. Plain data: it is kept in the journal. */
export interface Reservation {
  readonly amounts: Amounts;
  readonly carriers: Readonly<Partial<Record<Resource, number>>>;
}

interface Account {
  readonly parent: Pid | undefined;
  readonly allocation: Amounts;
}

const FORMAT = 1;
const accountKey = (pid: Pid): string => `A/${pid}`;
const usedKey = (pid: number, resource: Resource): string => `a/${pid}/${resource}`;

export class AccountTree {
  readonly #store: Metastore;
  readonly #accounts = new Map<Pid, Account>();

  constructor(store: Metastore) {
    this.#store = store;
  }

  async boot(): Promise<void> {
    for (const { key, value } of await this.#store.scan({ from: "A/", to: "A0" }, { limit: 100_000 })) {
      // Written by `open` only.
      const record = JSON.parse(String(value)) as { v: number; parent?: number; allocation: Amounts };
      if (record.v !== FORMAT)
        throw new KernelError("EVERSION", `an account has format ${record.v}, this program reads ${FORMAT}`);
      this.#accounts.set(toPid(Number(key.slice(2))), {
        parent: record.parent === undefined ? undefined : toPid(record.parent),
        allocation: record.allocation,
      });
    }
  }

  /** Opens an account below `parent` (the parent process); the operations belong into the spawn's commit. */
  open(
    pid: Pid,
    parent: Pid | undefined,
    allocation: Amounts,
  ): { readonly adds: readonly Add[]; readonly puts: NonNullable<Batch["puts"]> } {
    assertAmounts(allocation);
    this.#accounts.set(pid, { parent, allocation });
    const adds = parent === undefined ? [] : this.#moves(parent, allocation, 1);
    const record = { v: FORMAT, ...(parent === undefined ? {} : { parent }), allocation };
    return Object.keys(allocation).length === 0
      ? { adds, puts: [] }
      : { adds, puts: [{ key: accountKey(pid), value: JSON.stringify(record) }] };
  }

  /** Undoes `open` in memory after its commit was refused, or when the process is gone. */
  forget(pid: Pid): void {
    this.#accounts.delete(pid);
  }

  /** Returns what an ending process did not use; the operations belong into its exit's commit. */
  async close(pid: Pid): Promise<{
    readonly checks: NonNullable<Batch["checks"]>;
    readonly adds: readonly Add[];
    readonly deletes: readonly string[];
  }> {
    const account = this.#accounts.get(pid);
    if (account?.parent === undefined || Object.keys(account.allocation).length === 0)
      return { checks: [], adds: [], deletes: [] };
    const checks: { key: string; version: Seq }[] = [];
    const unused: Partial<Record<Resource, number>> = {};
    for (const resource of RESOURCES) {
      const allocated = account.allocation[resource];
      if (allocated === undefined) continue;
      const entry = await this.#store.get(usedKey(pid, resource));
      checks.push({ key: usedKey(pid, resource), version: entry?.version ?? SEQ_ZERO });
      unused[resource] = allocated - Number(entry?.value ?? 0);
    }
    const deletes = [accountKey(pid), ...checks.flatMap(({ key, version }) => (version === SEQ_ZERO ? [] : [key]))];
    return { checks, adds: this.#moves(account.parent, unused, -1), deletes };
  }

  /** Sets amounts aside for `pid`; the adds belong into the commit of the intent. */
  reserve(pid: Pid, amounts: Amounts): { readonly reservation: Reservation; readonly adds: readonly Add[] } {
    const carriers: Partial<Record<Resource, number>> = {};
    for (const resource of RESOURCES) {
      const carrier = amounts[resource] === undefined ? undefined : this.#carrierOf(pid, resource);
      if (carrier !== undefined) carriers[resource] = carrier;
    }
    return { reservation: { amounts, carriers }, adds: this.#moves(pid, amounts, 1) };
  }

  /** Replaces a reservation by what was really used; what exceeds the reservation is not charged to the budget. */
  settle(reservation: Reservation, actual: Amounts): readonly Add[] {
    return this.#corrections(reservation, (resource, reserved) => Math.min(actual[resource] ?? 0, reserved) - reserved);
  }

  /** Gives a reservation back entirely. */
  release(reservation: Reservation): readonly Add[] {
    return this.#corrections(reservation, (_resource, reserved) => -reserved);
  }

  /** Allocation and use of the account of one process, resource by resource. */
  async usage(
    pid: Pid,
  ): Promise<
    Readonly<Record<string, { readonly allocation: number; readonly used: number; readonly account: number }>>
  > {
    const out: Record<string, { allocation: number; used: number; account: number }> = {};
    for (const resource of RESOURCES) {
      const carrier = this.#carrierOf(pid, resource);
      const allocation = carrier === undefined ? undefined : this.#accounts.get(carrier)?.allocation[resource];
      if (carrier === undefined || allocation === undefined) continue;
      const used = Number((await this.#store.get(usedKey(carrier, resource)))?.value ?? 0);
      out[resource] = { allocation, used, account: carrier };
    }
    return out;
  }

  /** Parent of a process's account, for processes without a record of their own. */
  attach(pid: Pid, parent: Pid | undefined): void {
    if (!this.#accounts.has(pid)) this.#accounts.set(pid, { parent, allocation: {} });
  }

  #moves(pid: Pid, amounts: Amounts, sign: 1 | -1): Add[] {
    const adds: Add[] = [];
    for (const resource of RESOURCES) {
      const amount = amounts[resource];
      const carrier = amount === undefined || amount === 0 ? undefined : this.#carrierOf(pid, resource);
      if (amount === undefined || carrier === undefined) continue;
      const max = this.#accounts.get(carrier)?.allocation[resource] ?? 0;
      adds.push({ key: usedKey(carrier, resource), delta: sign * amount, max });
    }
    return adds;
  }

  #corrections(reservation: Reservation, delta: (resource: Resource, reserved: number) => number): Add[] {
    const adds: Add[] = [];
    for (const resource of RESOURCES) {
      const carrier = reservation.carriers[resource];
      const change = delta(resource, reservation.amounts[resource] ?? 0);
      if (carrier !== undefined && change !== 0)
        adds.push({ key: usedKey(carrier, resource), delta: change, max: Number.MAX_SAFE_INTEGER });
    }
    return adds;
  }

  #carrierOf(pid: Pid, resource: Resource): Pid | undefined {
    for (let at: Pid | undefined = pid; at !== undefined; at = this.#accounts.get(at)?.parent) {
      if (this.#accounts.get(at)?.allocation[resource] !== undefined) return at;
    }
    return undefined;
  }
}

/** @throws {EINVAL} an amount is not a safe non-negative integer, or its resource does not exist */
export function assertAmounts(amounts: Amounts): void {
  for (const [resource, amount] of Object.entries(amounts)) {
    if (!RESOURCES.some((known) => known === resource)) {
      throw new KernelError("EINVAL", `${resource} is no resource; known are ${RESOURCES.join(", ")}`);
    }
    if (!Number.isSafeInteger(amount) || amount < 0) {
      throw new KernelError(
        "EINVAL",
        `${resource} must be a whole number of at least 0, found ${amount}; 0 means nothing, leave it out for no limit`,
      );
    }
  }
}
