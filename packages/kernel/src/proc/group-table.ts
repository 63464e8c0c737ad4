// Groups: processes under one budget, weight and limits, that are frozen and thawed together. They nest by their
// paths, as `research/night`.
//
// G1  A group's budget is an account between that of the group around it and those of its processes.
// G2  A process stays in the group that it was started in; a child is in its parent's unless told otherwise.
// G3  Who spends from an account starts processes only in groups below it: a group is no way out of a budget.
// G4  Of a failure decides what its process says, then the nearest group around it that says something of its kind.

import { entriesOf } from "../abi/entries.ts";
import type { Metastore } from "../abi/metastore.ts";
import { KernelError } from "../base/errno.ts";
import { type Pid, toPid } from "../base/id.ts";
import { Serial } from "../base/serial.ts";
import type { AccountChange, AccountTree } from "../budget/account.ts";
import { type Share, WEIGHT_DEFAULT } from "../budget/fair.ts";
import { type Amounts, addAmounts, assertAmounts, resourcesOf } from "../budget/resource.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import type { Allocations } from "./allocation.ts";
import {
  type FaultCounts,
  type FaultPolicies,
  type FaultPolicy,
  type Trap,
  assertFaults,
  countFault,
} from "./fault.ts";
import type { Process } from "./process.ts";

const FORMAT = 1;
const groupKey = (path: string): string => `grp/${path}`;
const startedKey = (path: string): string => `grps/${path}`;
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/;
const DEPTH_MAX = 8;

export interface GroupSettings {
  /** Its share beside its siblings, from 1 to 10,000 (default 100), where calls wait for a rate. */
  readonly weight?: number;
  /** Living processes in it and below it. */
  readonly processes?: number;
  /** Processes that may be started in it and below it while it exists. */
  readonly spawns?: number;
  /** It is a fault domain: what becomes of each kind of failure of a process in it that does not say so itself. */
  readonly faults?: FaultPolicies;
}

interface GroupRecord extends GroupSettings {
  readonly path: string;
  /** Number of its account, if it has a budget. */
  readonly account?: Pid;
  readonly budget?: Amounts;
  readonly isFrozen: boolean;
}

export interface Group extends GroupRecord {
  /** Processes started in it and below it so far. */
  readonly started: number;
  /** Failures in it and below it since the start of the host, by their kind. */
  readonly faultCounts?: FaultCounts;
}

export interface GroupTableParts {
  readonly store: Metastore;
  readonly committer: Committer;
  readonly accounts: AccountTree;
  readonly allocations: Allocations;
  /** Processes of this host. */
  readonly processes: () => Iterable<Process>;
  /** A number of its own for an account, and what records that it is taken. */
  readonly takeNumber: () => { readonly number: Pid; readonly put: { readonly key: string; readonly value: string } };
}

export class GroupTable {
  readonly #parts: GroupTableParts;
  /** Groups that are being removed. */
  readonly #leaving = new Set<string>();
  readonly #groups = new Map<string, GroupRecord>();
  /** Processes started in each group so far. */
  readonly #started = new Map<string, number>();
  /** Failures in each group since the start of the host. */
  readonly #faults = new Map<string, FaultCounts>();
  readonly #serial = new Serial();

  constructor(parts: GroupTableParts) {
    this.#parts = parts;
  }

  async boot(): Promise<void> {
    for await (const { value } of entriesOf(this.#parts.store, "grp/")) {
      const group = decode(String(value));
      this.#groups.set(group.path, group);
      this.#started.set(group.path, Number((await this.#parts.store.get(startedKey(group.path)))?.value ?? 0));
      if (group.account !== undefined) this.#parts.accounts.joinGroup(group.account, group.path);
    }
  }

  get all(): readonly Group[] {
    const groups = [...this.#groups.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
    return groups.map((group) => this.#shown(group));
  }

  /** @throws {ENOENT} there is no such group */
  get(path: string): GroupRecord {
    const group = this.#groups.get(path);
    if (group === undefined)
      throw new KernelError("ENOENT", `there is no group ${JSON.stringify(path)}; \`ergos group list\` shows them`, {
        path: `/sys/groups/${path}`,
      });
    return group;
  }

  find(path: string): Group | undefined {
    const group = this.#groups.get(path);
    return group === undefined ? undefined : this.#shown(group);
  }

  /** Its share and those that it is in, outermost first. */
  sharesOf(path: string): readonly Share[] {
    const line = this.#lineOf(path).toReversed();
    return line.map(({ path: at, weight = WEIGHT_DEFAULT }) => ({ key: `group ${at}`, weight }));
  }

  #shown(group: GroupRecord): Group {
    const faultCounts = this.#faults.get(group.path);
    return {
      ...group,
      started: this.#startedIn(group.path),
      ...(faultCounts === undefined ? {} : { faultCounts }),
    };
  }

  /** Counts a failure in the groups of a process; gives what the nearest that says so makes of it. */
  trap(path: string | undefined, trap: Trap): FaultPolicy | undefined {
    const line = path === undefined ? [] : this.#lineOf(path);
    for (const group of line) this.#faults.set(group.path, countFault(this.#faults.get(group.path) ?? {}, trap));
    return line.find(({ faults }) => faults?.[trap] !== undefined)?.faults?.[trap];
  }

  /** A group and those around it, innermost first. */
  #lineOf(path: string): readonly GroupRecord[] {
    const line: GroupRecord[] = [];
    for (let at = path; at !== ""; at = parentOf(at)) {
      const group = this.#groups.get(at);
      if (group !== undefined) line.push(group);
    }
    return line;
  }

  /** The nearest account of a group and those around it. */
  accountOf(path: string): Pid | undefined {
    return this.#lineOf(path).find(({ account }) => account !== undefined)?.account;
  }

  isFrozen(path: string | undefined): boolean {
    return path !== undefined && this.#lineOf(path).some(({ isFrozen }) => isFrozen);
  }

  /** Living processes in a group and below it. */
  members(path: string): readonly Process[] {
    return Array.from(this.#parts.processes()).filter(
      (process) => !process.hasEnded && isBelow(process.identity.group, path),
    );
  }

  /**
   * Refuses a process that a group has no room for.
   * @throws {EAGAIN} {EBUSY} {EPERM}
   */
  assertRoom(path: string, parent: Process, isNamed: boolean): void {
    const { accounts } = this.#parts;
    this.get(path);
    if (this.#leaving.has(path))
      throw new KernelError("ENOENT", `group ${path} is being removed`, {
        path: `/sys/groups/${path}`,
        pid: parent.pid,
      });
    // One that is inherited is not what its process spends from.
    const account = isNamed ? this.accountOf(path) : undefined;
    if (isNamed && parent.account !== undefined && !accounts.isBelow(account, parent.account)) {
      throw new KernelError(
        "EPERM",
        `process ${parent.pid} spends from a budget that group ${path} is not below; it starts processes in groups below its own`,
        { syscall: "spawn", pid: parent.pid },
      );
    }
    for (const group of this.#lineOf(path)) {
      if (group.isFrozen)
        throw new KernelError("EBUSY", `group ${group.path} is frozen; nothing starts in it until it is thawed`, {
          syscall: "spawn",
          pid: parent.pid,
        });
      const living = group.processes === undefined ? 0 : this.members(group.path).length;
      if (group.processes !== undefined && living >= group.processes)
        throw new KernelError("EAGAIN", `group ${group.path} has ${living} living processes, which is its limit`, {
          syscall: "spawn",
          pid: parent.pid,
        });
      const started = this.#startedIn(group.path);
      if (group.spawns !== undefined && started >= group.spawns)
        throw new KernelError("EDQUOT", `group ${group.path} has started ${started} processes, which is its limit`, {
          syscall: "spawn",
          pid: parent.pid,
        });
    }
  }

  /** Counts a process as started; the counters belong into the commit of the spawn. */
  started(path: string | undefined): { readonly adds: AccountChange["adds"]; undo(): void } {
    const line = path === undefined ? [] : this.#lineOf(path);
    for (const group of line) this.#started.set(group.path, this.#startedIn(group.path) + 1);
    return {
      adds: line.map((group) => ({
        key: startedKey(group.path),
        delta: 1,
        max: group.spawns ?? Number.MAX_SAFE_INTEGER,
      })),
      undo: () => {
        for (const group of line) this.#started.set(group.path, this.#startedIn(group.path) - 1);
      },
    };
  }

  #startedIn(path: string): number {
    return this.#started.get(path) ?? 0;
  }

  /**
   * Makes a group, or changes what it has. A budget is added to it.
   * @throws {EINVAL} {ENOENT} the group around it does not exist · {EDQUOT} too little is left around it
   */
  set(path: string, settings: GroupSettings & { readonly budget?: Amounts }, rider?: Rider): Promise<void> {
    return this.#serial.run(() => this.#set(path, settings, rider));
  }

  async #set(
    path: string,
    { budget, ...settings }: GroupSettings & { readonly budget?: Amounts },
    rider: Rider | undefined,
  ): Promise<void> {
    assertPath(path);
    assertSettings(settings);
    assertFaults(settings.faults);
    assertAmounts(budget ?? {});
    const around = parentOf(path);
    if (around !== "") this.get(around);
    const known = this.#groups.get(path);
    if (known !== undefined) {
      if (budget !== undefined && known.account === undefined)
        throw new KernelError("EINVAL", `group ${path} was made without a budget; there is nothing to add to`, {
          path: `/sys/groups/${path}`,
        });
      if (budget !== undefined && known.account !== undefined)
        await this.#parts.allocations.add(known.account, budget, rider);
      return this.#write(
        { ...known, ...settings, ...(budget === undefined ? {} : { budget: addAmounts(known.budget ?? {}, budget) }) },
        {},
        rider,
      );
    }
    const { accounts } = this.#parts;
    if (budget === undefined || resourcesOf(budget).length === 0)
      return this.#write({ path, ...settings, isFrozen: false }, {}, rider);
    const { number, put } = this.#parts.takeNumber();
    const above = around === "" ? undefined : this.accountOf(around);
    const change = accounts.open(number, above, budget);
    // The group itself keeps its account open.
    accounts.joinGroup(number, path);
    try {
      const group: GroupRecord = { path, ...settings, account: number, budget, isFrozen: false };
      await this.#write(group, { ...change, puts: [...change.puts, put] }, rider);
    } catch (error) {
      const refusal = await accounts.refusal(error, above, budget, "group", number);
      await this.#parts.allocations.close(accounts.undo(number));
      throw refusal;
    }
  }

  async #write(group: GroupRecord, more: Parameters<Committer["commit"]>[0], rider?: Rider): Promise<void> {
    const puts = [...(more.puts ?? []), { key: groupKey(group.path), value: encode(group) }];
    const before = this.#groups.get(group.path);
    // At once: nothing starts in a group that is being frozen.
    this.#groups.set(group.path, group);
    try {
      await this.#parts.committer.commit({ ...more, puts }, [], rider);
    } catch (error) {
      if (before === undefined) this.#groups.delete(group.path);
      else this.#groups.set(group.path, before);
      throw error;
    }
  }

  /**
   * Forgets an empty group; what its budget has left returns.
   * @throws {ENOTEMPTY} processes live in it, or groups are below it
   */
  remove(path: string, rider?: Rider): Promise<void> {
    return this.#serial.run(async () => {
      const group = this.get(path);
      const living = this.members(path).length;
      const below = this.all.filter((one) => one.path !== path && isBelow(one.path, path)).length;
      if (living + below > 0)
        throw new KernelError("ENOTEMPTY", `group ${path} holds ${living} living processes and ${below} groups`, {
          path: `/sys/groups/${path}`,
        });
      // Nothing is started in it any more.
      this.#leaving.add(path);
      try {
        await this.#parts.committer.commit({ deletes: [groupKey(path), startedKey(path)] }, [], rider);
        this.#groups.delete(path);
      } finally {
        this.#leaving.delete(path);
      }
      this.#started.delete(path);
      this.#faults.delete(path);
      await this.#parts.allocations.close(this.#parts.accounts.depart(group.account));
    });
  }

  /** Stops everything in a group, or lets it go on; what comes back later finds it so. */
  freeze(path: string, isFrozen: boolean, rider?: Rider): Promise<void> {
    return this.#serial.run(async () => {
      const group = this.get(path);
      await this.#write({ ...group, isFrozen }, {}, rider);
      for (const process of this.members(path)) {
        if (isFrozen) process.freeze();
        else if (!this.isFrozen(process.identity.group)) process.thaw();
      }
    });
  }
}

const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf("/")));

const isBelow = (path: string | undefined, above: string): boolean =>
  path !== undefined && (path === above || path.startsWith(`${above}/`));

function assertPath(path: string): void {
  const names = path.split("/");
  if (names.length > DEPTH_MAX || !names.every((name) => NAME.test(name) && name !== ".."))
    throw new KernelError(
      "EINVAL",
      `${JSON.stringify(path)} is no path of a group; as research/night: names of letters, digits, _ . and -, at most ${DEPTH_MAX} deep`,
    );
}

function assertSettings({ weight, processes, spawns }: GroupSettings): void {
  const isCount = (value: number | undefined): boolean =>
    value === undefined || (Number.isSafeInteger(value) && value >= 0);
  if (!isCount(processes) || !isCount(spawns))
    throw new KernelError("EINVAL", "processes and spawns of a group are whole numbers of at least 0");
  if (weight !== undefined && !(Number.isSafeInteger(weight) && weight >= 1 && weight <= 10_000))
    throw new KernelError("EINVAL", `the weight of a group is a whole number from 1 to 10000, found ${weight}`);
}

const encode = (group: GroupRecord): string => JSON.stringify({ v: FORMAT, ...group });

function decode(text: string): GroupRecord {
  // Written by `encode` only.
  const { v, account, ...group } = JSON.parse(text) as GroupRecord & { readonly v: number };
  if (v !== FORMAT) throw new KernelError("EVERSION", `a group has format ${v}, this program reads ${FORMAT}`);
  return { ...group, ...(account === undefined ? {} : { account: toPid(account) }) };
}
