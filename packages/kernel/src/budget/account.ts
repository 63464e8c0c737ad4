// The tree of accounts: budgets that are moved down, reserved before the act, and refunded after it.
//
// B1  At every account and instant: settled + reserved + allocated to children <= allocation. The form of
//     the commit guarantees it: each movement is one bounded add on the counter of one account.
// B2  A process without an allocation of its own shares the account of its nearest ancestor that has one.
// B3  An account stays open while its process or anything that uses it lives, and then returns what is left
//     to its parent, in the commit of the exit that was the last.
// B4  A reservation whose call nobody saw end (a crash, a kill) counts as spent: nobody knows better.

import type { Batch, Entry, Metastore } from "../abi/metastore.ts";
import { KernelError, isKernelError } from "../base/errno.ts";
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

/** Operations that belong into one commit. */
export interface AccountChange {
  readonly checks: NonNullable<Batch["checks"]>;
  readonly puts: NonNullable<Batch["puts"]>;
  readonly adds: readonly Add[];
  readonly deletes: readonly string[];
}

/** Accounts that an end has left without users, innermost first, and those above them. */
export interface Departure {
  readonly chain: readonly Pid[];
  readonly above: readonly Pid[];
}

const NO_DEPARTURE: Departure = { chain: [], above: [] };

interface Account {
  readonly parent: Pid | undefined;
  readonly allocation: Amounts;
  /** Living processes that spend from it, and open accounts below it. */
  users: number;
}

const FORMAT = 1;
const NO_CHANGE: AccountChange = { checks: [], puts: [], adds: [], deletes: [] };
const accountKey = (pid: Pid): string => `A/${pid}`;
const usedKey = (pid: number, resource: Resource): string => `a/${pid}/${resource}`;

export class AccountTree {
  readonly #store: Metastore;
  readonly #accounts = new Map<Pid, Account>();

  constructor(store: Metastore) {
    this.#store = store;
  }

  /** Reads the open accounts; who uses them is told by `join`, and `takeAbandoned` takes the rest. */
  async boot(): Promise<void> {
    for (let from = "A/"; ;) {
      const page = await this.#store.scan({ from, to: "A0" }, { limit: 1000 });
      for (const entry of page) this.#load(entry);
      const last = page.at(-1);
      if (last === undefined) break;
      from = `${last.key}\u0001`;
    }
    for (const { parent } of this.#accounts.values()) this.join(parent);
  }

  #load({ key, value }: Entry): void {
    // Written by `open` only.
    const record = JSON.parse(String(value)) as { v: number; parent?: number; allocation: Amounts };
    if (record.v !== FORMAT)
      throw new KernelError("EVERSION", `an account has format ${record.v}, this program reads ${FORMAT}`);
    this.#accounts.set(toPid(Number(key.slice(2))), {
      parent: record.parent === undefined ? undefined : toPid(record.parent),
      allocation: record.allocation,
      users: 0,
    });
  }

  /** Takes the accounts that nothing living uses: what a host left behind that died. */
  takeAbandoned(): readonly Departure[] {
    return [...this.#accounts].flatMap(([pid, { users }]) => (users === 0 ? [this.#departureFrom(pid)] : []));
  }

  isOpen(account: Pid): boolean {
    return this.#accounts.has(account);
  }

  /** Counts one more user of an account. */
  join(account: Pid | undefined): void {
    const found = account === undefined ? undefined : this.#accounts.get(account);
    if (found !== undefined) found.users++;
  }

  /** Opens an account below another; the operations belong into the commit of the spawn. */
  open(pid: Pid, parent: Pid | undefined, allocation: Amounts): AccountChange {
    const adds = this.#moves(parent, allocation);
    this.#accounts.set(pid, { parent, allocation, users: 0 });
    this.join(parent);
    const record = { v: FORMAT, ...(parent === undefined ? {} : { parent }), allocation };
    return { ...NO_CHANGE, adds, puts: [{ key: accountKey(pid), value: JSON.stringify(record) }] };
  }

  /** Undoes `open` in memory after its commit was refused. */
  undo(pid: Pid): void {
    const account = this.#accounts.get(pid);
    this.#accounts.delete(pid);
    const parent = account?.parent === undefined ? undefined : this.#accounts.get(account.parent);
    if (parent !== undefined) parent.users--;
  }

  /**
   * Counts a user out, in the turn in which its end begins. If it was the last, the account and each above
   * that is unused then are for it to close, and for nobody else.
   */
  depart(account: Pid | undefined): Departure {
    const found = account === undefined ? undefined : this.#accounts.get(account);
    if (account === undefined || found === undefined || --found.users > 0) return NO_DEPARTURE;
    return this.#departureFrom(account);
  }

  #departureFrom(account: Pid): Departure {
    const chain: Pid[] = [account];
    let at = this.#accounts.get(account)?.parent;
    for (; at !== undefined; at = this.#accounts.get(at)?.parent) {
      const found = this.#accounts.get(at);
      if (found === undefined || --found.users > 0) break;
      chain.push(at);
    }
    const above: Pid[] = [];
    for (; at !== undefined; at = this.#accounts.get(at)?.parent) above.push(at);
    return { chain, above };
  }

  /** What a departure writes: the accounts to close, and what they return to the nearest one that is open still. */
  async closing({ chain, above }: Departure): Promise<AccountChange> {
    const checks: { key: string; version: Seq }[] = [];
    const deletes: string[] = [];
    let refund: Partial<Record<Resource, number>> = {};
    for (const at of chain) {
      const allocation = this.#accounts.get(at)?.allocation ?? {};
      const left: Partial<Record<Resource, number>> = {};
      for (const resource of RESOURCES) {
        const entry = await this.#store.get(usedKey(at, resource));
        if (entry !== undefined) deletes.push(entry.key);
        const allocated = allocation[resource];
        // What this account does not limit is the business of one above it.
        if (allocated === undefined) left[resource] = refund[resource] ?? 0;
        else {
          checks.push({ key: usedKey(at, resource), version: entry?.version ?? SEQ_ZERO });
          left[resource] = allocated - (Number(entry?.value ?? 0) - (refund[resource] ?? 0));
        }
      }
      deletes.push(accountKey(at));
      refund = left;
    }
    const heir = above.find((account) => this.#accounts.has(account));
    return { checks, puts: [], adds: this.#moves(heir, refund, -1), deletes };
  }

  /** Forgets the closed accounts, once their commit has succeeded. */
  finish({ chain }: Departure): void {
    for (const account of chain) this.#accounts.delete(account);
  }

  /** Sets amounts aside; the adds belong into the commit of the intent. */
  reserve(
    account: Pid | undefined,
    amounts: Amounts,
  ): { readonly reservation: Reservation; readonly adds: readonly Add[] } {
    if (account === undefined) return { reservation: { amounts, carriers: {} }, adds: [] };
    const carriers: Partial<Record<Resource, number>> = {};
    for (const resource of RESOURCES) {
      const carrier = amounts[resource] === undefined ? undefined : this.#carrierOf(account, resource);
      if (carrier !== undefined) carriers[resource] = carrier;
    }
    return { reservation: { amounts, carriers }, adds: this.#moves(account, amounts) };
  }

  /** Replaces a reservation by what was really used; what exceeds it is not charged to the budget. */
  settle(reservation: Reservation, actual: Amounts): readonly Add[] {
    return this.#corrections(reservation, (resource, reserved) => Math.min(actual[resource] ?? 0, reserved) - reserved);
  }

  /** Gives a reservation back entirely. */
  release(reservation: Reservation): readonly Add[] {
    return this.#corrections(reservation, (_resource, reserved) => -reserved);
  }

  /** Allocation and use, resource by resource, of the accounts that a process spends from. */
  async usage(
    account: Pid | undefined,
  ): Promise<
    Readonly<Record<string, { readonly allocation: number; readonly used: number; readonly account: number }>>
  > {
    const out: Record<string, { allocation: number; used: number; account: number }> = {};
    for (const resource of RESOURCES) {
      const carrier = this.#carrierOf(account, resource);
      const allocation = carrier === undefined ? undefined : this.#accounts.get(carrier)?.allocation[resource];
      if (carrier === undefined || allocation === undefined) continue;
      const used = Number((await this.#store.get(usedKey(carrier, resource)))?.value ?? 0);
      out[resource] = { allocation, used, account: carrier };
    }
    return out;
  }

  #moves(account: Pid | undefined, amounts: Amounts, sign: 1 | -1 = 1): Add[] {
    const adds: Add[] = [];
    for (const resource of RESOURCES) {
      const amount = amounts[resource];
      const carrier = amount === undefined || amount === 0 ? undefined : this.#carrierOf(account, resource);
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
      if (carrier === undefined || change === 0) continue;
      adds.push({ key: usedKey(carrier, resource), delta: change, max: Number.MAX_SAFE_INTEGER });
    }
    return adds;
  }

  #carrierOf(account: Pid | undefined, resource: Resource): Pid | undefined {
    for (let at = account; at !== undefined; at = this.#accounts.get(at)?.parent) {
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

/** Says whose budget refused, instead of which counter. */
export function refusedBudget(error: unknown, syscall: string, pid: Pid): unknown {
  if (!isKernelError(error) || error.code !== "EDQUOT") return error;
  return new KernelError(
    "EDQUOT",
    `the budget of process ${pid} or of an ancestor does not hold this; see /proc/${pid}/budget`,
    { syscall, pid, cause: error },
  );
}
