// The tree of accounts: budgets that are moved down, reserved before the act, and refunded after it.
//
// B1  At every account and instant: settled + reserved + allocated to children <= allocation. The form of
//     the commit guarantees it: each movement is one bounded add on the counter of one account.
// B2  A process without an allocation of its own shares the account of its nearest ancestor that has one.
// B3  An account stays open while its process or anything that uses it lives, and then returns what is left
//     to its parent, in the commit of the exit that was the last.
// B4  A reservation whose call nobody saw end (a crash, a kill) counts as spent: nobody knows better.
// B5  What is reserved for calls under way is more than they will use: whoever finds too little left waits
//     for them before it is refused.

import { entriesOf } from "../abi/entries.ts";
import type { Batch, Entry, Metastore } from "../abi/metastore.ts";
import { KernelError, isKernelError } from "../base/errno.ts";
import { type Pid, type Seq, SEQ_ZERO, toPid } from "../base/id.ts";
import {
  type Amounts,
  RESOURCES,
  type Resource,
  addAmounts,
  assertAmounts,
  formatAmount,
  resourcesOf,
} from "./resource.ts";

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
  allocation: Amounts;
  /** For each resource that it or an ancestor limits, the nearest account that does. */
  readonly carriers: Readonly<Partial<Record<Resource, Pid>>>;
  /** Living processes that spend from it, and open accounts below it. */
  users: number;
  /** Calls under way whose reservation is an upper bound. */
  underWay: number;
  /** Wait for calls under way to give something back. */
  readonly waiters: Set<() => void>;
  /** Wait for somebody to add to it. */
  readonly suspended: Set<() => void>;
  /** Resources of which a warning was told. */
  readonly warned: Set<Resource>;
  /** Path of the group that it is of. */
  group?: string;
}

/** A resource of which too little is left. */
export interface Shortage {
  readonly resource: Resource;
  /** The account that does not hold it. */
  readonly account: Pid;
  /** Path of the group whose account it is. */
  readonly group?: string;
  readonly allocation: number;
  readonly used: number;
  readonly wanted: number;
}

/** What calls really use is known afterwards; of everything else the amount is certain. */
const ESTIMATED: ReadonlySet<Resource> = new Set([
  "tokens",
  "tokensIn",
  "tokensOut",
  "strategicTokens",
  "tacticalTokens",
  "operationalTokens",
  "costMicros",
  "netBytes",
]);

const FORMAT = 1;
const recordOf = (pid: Pid, parent: Pid | undefined, allocation: Amounts): NonNullable<Batch["puts"]>[number] => ({
  key: accountKey(pid),
  value: JSON.stringify({ v: FORMAT, ...(parent === undefined ? {} : { parent }), allocation }),
});
const NO_CHANGE: AccountChange = { checks: [], puts: [], adds: [], deletes: [] };
const pidOf = ({ key }: { readonly key: string }): Pid => toPid(Number(key.slice(2)));
export const LEFT_PREFIX = "al/";
export const leftKey = (pid: Pid): string => `${LEFT_PREFIX}${pid}`;
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
    const entries: Entry[] = [];
    for await (const entry of entriesOf(this.#store, "A/")) entries.push(entry);
    // A parent is older than its children.
    for (const entry of entries.sort((one, two) => pidOf(one) - pidOf(two))) this.#load(entry);
    for (const { parent } of this.#accounts.values()) this.join(parent);
  }

  #load(entry: Entry): void {
    const record = decode(entry);
    this.#add(pidOf(entry), record.parent === undefined ? undefined : toPid(record.parent), record.allocation);
  }

  #add(pid: Pid, parent: Pid | undefined, allocation: Amounts): void {
    const above = parent === undefined ? undefined : this.#accounts.get(parent);
    const carriers: Partial<Record<Resource, Pid>> = { ...above?.carriers };
    for (const resource of resourcesOf(allocation)) carriers[resource] = pid;
    const account: Account = {
      parent,
      allocation,
      carriers,
      users: 0,
      underWay: 0,
      waiters: new Set(),
      suspended: new Set(),
      warned: new Set(),
    };
    this.#accounts.set(pid, account);
  }

  /** Takes the accounts that nothing living uses: what a host left behind that died. */
  takeAbandoned(): readonly Departure[] {
    return [...this.#accounts].flatMap(([pid, { users }]) => (users === 0 ? [this.#departureFrom(pid)] : []));
  }

  /** Whether an account is another, or spends from it. */
  isBelow(account: Pid | undefined, above: Pid): boolean {
    for (let at = account; at !== undefined; at = this.#accounts.get(at)?.parent) if (at === above) return true;
    return false;
  }

  parentOf(account: Pid): Pid | undefined {
    return this.#accounts.get(account)?.parent;
  }

  isOpen(account: Pid): boolean {
    return this.#accounts.has(account);
  }

  /** Whether what was reserved can still be given back: the accounts that it stands on are there. */
  holds({ carriers }: Reservation): boolean {
    return Object.values(carriers).every((carrier) => this.#accounts.has(toPid(carrier)));
  }

  /** Counts one more user of an account. */
  join(account: Pid | undefined): void {
    const found = account === undefined ? undefined : this.#accounts.get(account);
    if (found !== undefined) found.users++;
  }

  /** A group keeps its account open. */
  joinGroup(account: Pid, path: string): void {
    this.join(account);
    const found = this.#accounts.get(account);
    if (found !== undefined) found.group = path;
  }

  /** Opens an account below another; the operations belong into the commit of the spawn. */
  open(pid: Pid, parent: Pid | undefined, allocation: Amounts): AccountChange {
    const adds = this.#moves(parent, allocation);
    this.#add(pid, parent, allocation);
    this.join(parent);
    return { ...NO_CHANGE, adds, puts: [recordOf(pid, parent, allocation)], deletes: [leftKey(pid)] };
  }

  /**
   * Adds to what an open account has, out of the account above it. The operations belong into one commit,
   * `applied` behind it.
   * @throws {EINVAL} the account does not limit a resource: there is nothing to add to
   */
  async allocate(pid: Pid, amounts: Amounts): Promise<AccountChange & { readonly applied: () => void }> {
    const entry = await this.#store.get(accountKey(pid));
    const account = this.#accounts.get(pid);
    if (account === undefined || entry === undefined)
      throw new KernelError(
        "EINVAL",
        `process ${pid} has no account of its own; see /proc/${pid}/budget for whose it spends from`,
        { pid },
      );
    for (const resource of resourcesOf(amounts)) {
      if (account.allocation[resource] === undefined)
        throw new KernelError(
          "EINVAL",
          `the budget of process ${pid} does not limit ${resource}: there is nothing to add to`,
          { pid },
        );
    }
    const allocation = addAmounts(account.allocation, amounts);
    assertAmounts(allocation);
    return {
      ...NO_CHANGE,
      // An exit that closes it meanwhile has the last word.
      checks: [{ key: accountKey(pid), version: entry.version }],
      adds: this.#moves(account.parent, amounts),
      puts: [recordOf(pid, account.parent, allocation)],
      applied: () => {
        account.allocation = allocation;
        account.warned.clear();
        wake(account);
      },
    };
  }

  /** Undoes `open` in memory after its commit was refused; what is left without users then is to be closed. */
  undo(pid: Pid): Departure {
    const parent = this.#accounts.get(pid)?.parent;
    this.#accounts.delete(pid);
    return this.depart(parent);
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
  async closing({
    chain,
    above,
  }: Departure): Promise<AccountChange & { readonly refund: Amounts; readonly heir: Pid | undefined }> {
    const checks: { key: string; version: Seq }[] = [];
    const deletes: string[] = [];
    const puts: { key: string; value: string }[] = [];
    let refund: Partial<Record<Resource, number>> = {};
    for (const at of chain) {
      const record = await this.#store.get(accountKey(at));
      // What was added to it a moment ago counts too.
      const allocation = record === undefined ? {} : decode(record).allocation;
      checks.push({ key: accountKey(at), version: record?.version ?? SEQ_ZERO });
      const left: Partial<Record<Resource, number>> = { ...refund };
      const rest: Partial<Record<Resource, number>> = {};
      for (const resource of resourcesOf(allocation)) {
        const entry = await this.#store.get(usedKey(at, resource));
        if (entry !== undefined) deletes.push(entry.key);
        checks.push({ key: usedKey(at, resource), version: entry?.version ?? SEQ_ZERO });
        rest[resource] = (allocation[resource] ?? 0) - (Number(entry?.value ?? 0) - (refund[resource] ?? 0));
        left[resource] = rest[resource];
      }
      puts.push({ key: leftKey(at), value: JSON.stringify(rest) });
      deletes.push(accountKey(at));
      refund = left;
    }
    const heir = above.find((account) => this.#accounts.has(account));
    return { checks, puts, adds: this.#moves(heir, refund, -1), deletes, refund, heir };
  }

  /** What a closed account had left: what its process may have if it is tried again. */
  async leftOf(pid: Pid): Promise<Amounts> {
    const entry = await this.#store.get(leftKey(pid));
    // Written by `closing` only.
    return entry === undefined ? {} : (JSON.parse(String(entry.value)) as Amounts);
  }

  /** The same of each resource that a process had a budget of. */
  async leftAt(pid: Pid, budget: Amounts): Promise<Amounts> {
    const none = Object.fromEntries(resourcesOf(budget).map((resource) => [resource, 0]));
    return { ...none, ...(await this.leftOf(pid)) };
  }

  /** Forgets the closed accounts, once their commit has succeeded. */
  finish({ chain, above }: Departure): void {
    for (const account of chain) this.#accounts.delete(account);
    for (const account of above) {
      const found = this.#accounts.get(account);
      if (found !== undefined && chain.length > 0) wake(found);
    }
  }

  /** The account that limits a resource for who spends from `account`, if one does. */
  carrierOf(account: Pid | undefined, resource: Resource): Pid | undefined {
    return account === undefined ? undefined : this.#accounts.get(account)?.carriers[resource];
  }

  /** Sets amounts aside; the adds belong into the commit of the intent, `begin` behind it. */
  reserve(
    account: Pid | undefined,
    amounts: Amounts,
  ): { readonly reservation: Reservation; readonly adds: readonly Add[] } {
    const known = account === undefined ? undefined : this.#accounts.get(account);
    if (known === undefined) return { reservation: { amounts, carriers: {} }, adds: [] };
    const carriers: Partial<Record<Resource, number>> = {};
    for (const resource of resourcesOf(amounts)) {
      const carrier = known.carriers[resource];
      if (carrier !== undefined) carriers[resource] = carrier;
    }
    return { reservation: { amounts, carriers }, adds: this.#moves(account, amounts) };
  }

  /** Counts a reserved call as under way (B5); returns what counts it as over. */
  begin(reservation: Reservation): { readonly end: () => void; readonly refused: () => void } {
    const accounts = this.#estimatedOf(reservation);
    for (const account of accounts) account.underWay++;
    let isOver = false;
    const leave = (then: (account: Account) => void): void => {
      if (isOver) return;
      isOver = true;
      for (const account of accounts) {
        account.underWay--;
        then(account);
      }
    };
    return {
      // However it ends, what it did not use is there for others.
      end: () => leave(wake),
      // It was not made: nothing came back. Who waited for it alone must know that nothing will.
      refused: () =>
        leave((account) => {
          if (account.underWay === 0) for (const tell of account.waiters) tell();
        }),
    };
  }

  /** Tells who waits that a reservation was given back. */
  freed({ carriers }: Reservation): void {
    for (const carrier of new Set(Object.values(carriers))) {
      const account = this.#accounts.get(toPid(carrier));
      if (account !== undefined) wake(account);
    }
  }

  #estimatedOf({ carriers }: Reservation): ReadonlySet<Account> {
    const found = new Set<Account>();
    for (const [resource, carrier] of Object.entries(carriers)) {
      const account = this.#accounts.get(toPid(carrier));
      // The keys of a reservation are resources.
      if (account !== undefined && ESTIMATED.has(resource as Resource)) found.add(account);
    }
    return found;
  }

  /** Whether calls are under way that may give something back to an account. */
  mayFree(account: Pid): boolean {
    return (this.#accounts.get(account)?.underWay ?? 0) > 0;
  }

  /**
   * Calls `tell` when something comes back to an account or is added to it; returns what ends that. Who waits for
   * calls under way is told too when there are none any more.
   */
  onFreed(account: Pid, tell: () => void, waitsFor: "settlement" | "budget"): () => void {
    const found = this.#accounts.get(account);
    const set = waitsFor === "budget" ? found?.suspended : found?.waiters;
    set?.add(tell);
    return () => void set?.delete(tell);
  }

  /** The first resource of which too little is left; nothing when it would fit now. */
  async shortage(account: Pid | undefined, amounts: Amounts): Promise<Shortage | undefined> {
    for (const resource of resourcesOf(amounts)) {
      const carrier = this.carrierOf(account, resource);
      const limiting = carrier === undefined ? undefined : this.#accounts.get(carrier);
      const allocation = limiting?.allocation[resource];
      if (carrier === undefined || limiting === undefined || allocation === undefined) continue;
      const used = await this.#usedOf(carrier, resource);
      const wanted = amounts[resource] ?? 0;
      const { group } = limiting;
      const whose = { account: carrier, ...(group === undefined ? {} : { group }) };
      if (used + wanted > allocation) return { resource, ...whose, allocation, used, wanted };
    }
    return undefined;
  }

  /** What to tell of a commit that a budget has refused: which resource, and how much is left. */
  async refusal(
    error: unknown,
    account: Pid | undefined,
    amounts: Amounts,
    syscall: string,
    pid: Pid,
  ): Promise<unknown> {
    if (!isKernelError(error) || error.code !== "EDQUOT") return error;
    const shortage = await this.shortage(account, amounts);
    return shortage === undefined ? error : exhausted(shortage, syscall, pid);
  }

  /** Resources of a settled call that have passed the share of warning for the first time. */
  async warnings({ carriers }: Reservation, warnAt: number): Promise<readonly Omit<Shortage, "wanted">[]> {
    const found: Omit<Shortage, "wanted">[] = [];
    for (const [name, carrier] of Object.entries(carriers)) {
      // The keys of a reservation are resources.
      const resource = name as Resource;
      const account = this.#accounts.get(toPid(carrier));
      const allocation = account?.allocation[resource];
      if (account === undefined || allocation === undefined || account.warned.has(resource)) continue;
      const used = await this.#usedOf(toPid(carrier), resource);
      if (used < allocation * warnAt || account.warned.has(resource)) continue;
      account.warned.add(resource);
      found.push({ resource, account: toPid(carrier), allocation, used });
    }
    return found;
  }

  async #usedOf(account: Pid, resource: Resource): Promise<number> {
    return Number((await this.#store.get(usedKey(account, resource)))?.value ?? 0);
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
    const carriers = account === undefined ? undefined : this.#accounts.get(account)?.carriers;
    for (const resource of RESOURCES) {
      const carrier = carriers?.[resource];
      const allocation = carrier === undefined ? undefined : this.#accounts.get(carrier)?.allocation[resource];
      if (carrier === undefined || allocation === undefined) continue;
      out[resource] = { allocation, used: await this.#usedOf(carrier, resource), account: carrier };
    }
    return out;
  }

  #moves(account: Pid | undefined, amounts: Amounts, sign: 1 | -1 = 1): Add[] {
    const adds: Add[] = [];
    const carriers = account === undefined ? undefined : this.#accounts.get(account)?.carriers;
    if (carriers === undefined) return adds;
    for (const resource of resourcesOf(amounts)) {
      const amount = amounts[resource];
      const carrier = amount === undefined || amount === 0 ? undefined : carriers[resource];
      if (amount === undefined || carrier === undefined) continue;
      const max = this.#accounts.get(carrier)?.allocation[resource] ?? 0;
      adds.push({ key: usedKey(carrier, resource), delta: sign * amount, max });
    }
    return adds;
  }

  #corrections(reservation: Reservation, delta: (resource: Resource, reserved: number) => number): Add[] {
    const adds: Add[] = [];
    for (const resource of resourcesOf(reservation.carriers)) {
      const carrier = reservation.carriers[resource];
      const change = delta(resource, reservation.amounts[resource] ?? 0);
      if (carrier === undefined || change === 0) continue;
      adds.push({ key: usedKey(carrier, resource), delta: change, max: Number.MAX_SAFE_INTEGER });
    }
    return adds;
  }
}

function decode({ value }: Entry): { readonly parent?: number; readonly allocation: Amounts } {
  // Written by `open` and `allocate` only.
  const record = JSON.parse(String(value)) as { v: number; parent?: number; allocation: Amounts };
  if (record.v !== FORMAT)
    throw new KernelError("EVERSION", `an account has format ${record.v}, this program reads ${FORMAT}`);
  return record;
}

function wake(account: Account): void {
  for (const tell of account.waiters) tell();
  for (const tell of account.suspended) tell();
}

/** The refusal of a budget, with its figures. */
export function exhausted(shortage: Shortage, syscall: string, pid: Pid): KernelError {
  const { resource, account, group, allocation, used, wanted } = shortage;
  const ofProcess =
    account === pid ? `the budget of process ${pid}` : `the budget that process ${pid} spends from (of ${account})`;
  const whose = group === undefined ? ofProcess : `the budget of group ${group}`;
  const how =
    group === undefined
      ? `ergos budget ${account} --add ${resource}=N, or if it has ended: ergos resume ${account} --limit ${resource}=N`
      : `ergos group set ${group} --limit ${resource}=N`;
  const left = formatAmount(resource, Math.max(0, allocation - used));
  // Of a run that is tried again it is what that had left.
  const of = allocation === 0 ? "" : ` of ${formatAmount(resource, allocation)}`;
  return new KernelError(
    "EDQUOT",
    `${whose} is exhausted: this needs ${formatAmount(resource, wanted)}, and ${left}${of} is left; add more with: ${how}`,
    { syscall, pid },
  );
}
