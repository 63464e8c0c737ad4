// Budgets of running processes: what is added to them, and what is closed when nobody uses it any more.

import { isKernelError, isLostRace } from "../base/errno.ts";
import type { Pid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { Serial } from "../base/serial.ts";
import type { AccountChange, AccountTree, Departure } from "../budget/account.ts";
import { type Amounts, addAmounts, assertAmounts, resourcesOf } from "../budget/resource.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import { encodeProcess, processKey } from "./process-record.ts";
import type { Process } from "./process.ts";

export class Allocations {
  readonly #accounts: AccountTree;
  readonly #committer: Committer;
  readonly #live: (pid: Pid) => Process | undefined;
  readonly #serial = new Serial();

  constructor(accounts: AccountTree, committer: Committer, live: (pid: Pid) => Process | undefined) {
    this.#accounts = accounts;
    this.#committer = committer;
    this.#live = live;
  }

  /**
   * Adds to an account, out of the one above it; the record of its process goes along.
   * @throws {EINVAL} it is no account of its own, or does not limit a resource · {EDQUOT} too little is left above
   */
  async add(pid: Pid, amounts: Amounts, rider?: Rider): Promise<void> {
    assertAmounts(amounts);
    // One after the other: each writes the whole account.
    return this.#serial.run(() => this.#add(pid, amounts, rider));
  }

  async #add(pid: Pid, amounts: Amounts, rider: Rider | undefined): Promise<void> {
    for (let tries = 1; ; tries++) {
      const { applied, checks, adds, puts } = await this.#accounts.allocate(pid, amounts);
      const process = this.#live(pid);
      // Told at once: whatever else changes the process meanwhile writes it too.
      const tell = (more: Amounts): void => {
        if (process === undefined) return;
        process.identity = { ...process.identity, budget: addAmounts(process.identity.budget ?? {}, more) };
      };
      tell(amounts);
      const isRecorded = process?.journal !== undefined && !process.isEnding && !process.hasEnded;
      const record = isRecorded
        ? [{ key: processKey(pid), value: encodeProcess(process, {}, this.#committer.masker) }]
        : [];
      const event = { name: "budget.allocated", pid, data: { account: pid, amounts } } as const;
      try {
        await this.#committer.commit({ checks, adds, puts: [...puts, ...record] }, [event], rider);
      } catch (error) {
        tell(Object.fromEntries(resourcesOf(amounts).map((resource) => [resource, -(amounts[resource] ?? 0)])));
        // The account was closed meanwhile, which the next look at it finds.
        if (isLostRace(error) && tries < LIMITS.casRetriesMax) continue;
        throw await this.#accounts.refusal(error, this.#accounts.parentOf(pid), amounts, "allocate", pid);
      }
      applied();
      return;
    }
  }

  /** Closes accounts that nobody uses any more, where no exit does it. */
  async close(departure: Departure): Promise<void> {
    if (departure.chain.length === 0) return;
    for (let tries = 1; ; tries++) {
      try {
        await this.#committer.commit(await this.#accounts.closing(departure));
        return this.#accounts.finish(departure);
      } catch (error) {
        if (!hasAccountMoved(error) || tries >= LIMITS.casRetriesMax) throw error;
      }
    }
  }
}

/** EDQUOT: the account that gets the rest back was closed by another exit; the next one above gets it. */
export const hasAccountMoved = (error: unknown): boolean =>
  isLostRace(error) || (isKernelError(error) && error.code === "EDQUOT");

const NO_ACCOUNT: AccountChange = { checks: [], puts: [], adds: [], deletes: [] };

/** A program's own budget and what it is started with: the smaller amount of each. */
export function leastAmounts(one: Amounts | undefined, other: Amounts | undefined): Amounts {
  const least: Record<string, number> = { ...one, ...other };
  for (const resource of resourcesOf(one ?? {})) {
    const [a, b] = [one?.[resource], other?.[resource]];
    if (a !== undefined && b !== undefined) least[resource] = Math.min(a, b);
  }
  return least;
}

/** A counter stands in one commit once. */
export function mergeAdds(adds: AccountChange["adds"]): AccountChange["adds"] {
  const merged = new Map<string, AccountChange["adds"][number]>();
  for (const add of adds) {
    const known = merged.get(add.key);
    merged.set(add.key, known === undefined ? add : { ...known, delta: known.delta + add.delta });
  }
  return [...merged.values()];
}

/** A change with adds to counters that it may change itself: one for each. */
export function withMerged(change: AccountChange | undefined, adds: AccountChange["adds"]): AccountChange | undefined {
  if (adds.length === 0) return change;
  const base = change ?? NO_ACCOUNT;
  return { ...base, adds: mergeAdds([...adds, ...base.adds]) };
}

/** A change with more counters in its commit. */
export function withAdds(change: AccountChange | undefined, adds: AccountChange["adds"]): AccountChange | undefined {
  if (adds.length === 0) return change;
  const base = change ?? NO_ACCOUNT;
  return { ...base, adds: [...base.adds, ...adds] };
}
