// What becomes of a process beside its start and its end: a twin, another program, narrower rights, another to go into.
//
// Y1  A twin has the rights of its original and goes on from what that had recorded; whatever of that was under way it
//     does itself, out of a budget of its own. Nothing is paid, sent or read twice by that: what was done is recorded.
// Y2  Another program takes over where no call is under way, under the same pid: whoever waits for it waits on.
// Y3  Rights only narrow: those who go together keep what both had.
// Y4  Who goes into another leaves it what waits in the mailbox and what is left of the budget, in the commit of its end.

import type { Platform } from "../abi/platform.ts";
import { within } from "../abi/within.ts";
import { cancelled } from "../base/abort.ts";
import { KernelError } from "../base/errno.ts";
import { PID_OWNER } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { present } from "../base/present.ts";
import type { AccountChange, AccountTree } from "../budget/account.ts";
import { type Amounts, resourcesOf } from "../budget/resource.ts";
import type { Grant } from "../cap/grant.ts";
import type { LayerTable } from "../cap/layer-table.ts";
import type { Layer } from "../cap/layer.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import { Journal } from "../journal/journal.ts";
import type { ObjectStore } from "../abi/object-store.ts";
import { mergeAdds } from "./allocation.ts";
import type { Family } from "./family.ts";
import { encodeProcess, processKey } from "./process-record.ts";
import type { Exit, Process } from "./process.ts";
import type { Program } from "./program.ts";
import { TIERS, type Tier, tierOf } from "./role.ts";
import type { SpawnOptions } from "./spawn-options.ts";

/** How long the calls of a process may take to end before another program takes over. */
const DRAIN_MS = 30_000;

/** What somebody leaves whose end goes into another. */
export interface Estate {
  /** What belongs into the commit of its end beside the closing of its account. */
  readonly change: (closing: AccountChange & { readonly refund: Amounts }) => Promise<AccountChange>;
  /** Memory follows the commit. */
  readonly moved: () => void;
}

/** Messages that another reads from now on. */
export interface Forwarding {
  readonly puts: AccountChange["puts"];
  readonly deletes: readonly string[];
  readonly moved: () => void;
}

export interface LifeCycleParts {
  readonly platform: Platform;
  readonly committer: Committer;
  readonly objects: ObjectStore;
  readonly accounts: AccountTree;
  readonly layers: LayerTable;
  readonly family: Family;
  readonly spawn: (parent: Process, program: Program, options: SpawnOptions) => Promise<Process>;
  readonly narrow: (process: Process, layers: readonly Layer[], rider?: Rider) => Promise<void>;
  readonly succeed: (process: Process, exit: Exit, restarts: readonly number[]) => Process;
  readonly resume: (process: Process, program: Program) => Promise<void>;
  readonly abandon: (process: Process) => void;
  readonly exit: (process: Process, exit: Exit, rider: Rider | undefined, estate: Estate) => Promise<void>;
  /** @throws {EAGAIN} the mailbox of who shall read them has no room */
  readonly forward: (from: Process, to: Process) => Forwarding;
}

/** What may differ of a twin. */
export interface TwinOptions {
  readonly name?: string | undefined;
  /** Narrow it further. */
  readonly grants?: readonly Grant[] | undefined;
  /** Out of that of who the original belongs to; as much as the original has left, unless given. */
  readonly budget?: Amounts | undefined;
  readonly ref?: string | undefined;
  readonly along?: SpawnOptions["along"];
  readonly rider?: Rider | undefined;
}

export class LifeCycle {
  readonly #parts: LifeCycleParts;

  constructor(parts: LifeCycleParts) {
    this.#parts = parts;
  }

  /**
   * Starts a twin of a process beside it.
   * @throws {EINVAL} it leaves no journal, or works on a view of its own · {E2BIG} its journal is too long
   */
  async clone(original: Process, load: () => Promise<Program>, options: TwinOptions): Promise<Process> {
    const { pid, identity } = original;
    assertLives(original, "clone");
    const parent = this.#parts.family.get(this.#parts.family.parentOf(pid) ?? PID_OWNER);
    if (parent === undefined) throw new KernelError("ESRCH", `process ${pid} belongs to nobody`, { pid });
    if (original.journal === undefined)
      throw new KernelError("EINVAL", `process ${pid} leaves no journal that a twin could go on from`, { pid });
    if ((identity.views?.length ?? 0) > (parent.identity.views?.length ?? 0))
      throw new KernelError("EINVAL", `process ${pid} works on a view of its own; apply or discard it first`, { pid });
    const journal = new Journal(pid, this.#parts.committer, this.#parts.objects);
    await journal.load();
    const past = journal.past();
    const bytes = past.reduce((sum, record) => sum + record.length, 0);
    if (past.length > LIMITS.twinRecordsMax || bytes > LIMITS.commitBytesMax / 2)
      throw new KernelError(
        "E2BIG",
        `process ${pid} has ${past.length} outcomes of ${bytes} bytes; a twin takes at most ${LIMITS.twinRecordsMax}, and ${LIMITS.commitBytesMax / 2} bytes`,
        { pid },
      );
    const left = identity.budget === undefined ? undefined : await this.#leftOf(original);
    return this.#parts.spawn(parent, original.program ?? (await load()), {
      ...present({
        input: original.input,
        limits: identity.limits,
        group: identity.group === parent.identity.group ? undefined : identity.group,
        role: identity.role,
        tier: identity.tier,
        restart: identity.restart,
        strategy: identity.strategy,
        faults: identity.faults,
        budget: options.budget ?? left,
        grants: options.grants,
        rider: options.rider,
      }),
      name: options.name ?? identity.name,
      ref: options.ref ?? identity.ref,
      cause: `clone ${pid}`,
      along: options.along,
      twin: { capability: original.capability, past },
    });
  }

  async #leftOf({ account }: Process): Promise<Amounts> {
    const usage = await this.#parts.accounts.usage(account);
    return Object.fromEntries(
      Object.entries(usage).map(([resource, { allocation, used }]) => [resource, Math.max(0, allocation - used)]),
    );
  }

  /**
   * Gives a running process another program, once no call of it is under way.
   * @throws {EBUSY} its calls do not end in time: it goes on as it was
   */
  async upgrade(process: Process, program: Program, waitMs = DRAIN_MS, rider?: Rider): Promise<void> {
    const { pid } = process;
    assertLives(process, "upgrade");
    if (process.journal === undefined)
      throw new KernelError("EINVAL", `process ${pid} leaves no journal that another program could go on from`, {
        pid,
      });
    const before = process.identity;
    const { name, revision, source } = program;
    const identity = { ...before, program: present({ name, revision, source }) };
    if (process.program === undefined) {
      process.identity = identity;
      try {
        return await this.#parts.resume(process, program);
      } catch (error) {
        process.identity = before;
        throw error;
      }
    }
    await this.#drain(process, waitMs);
    process.isOver = true;
    this.#parts.abandon(process);
    process.abort(cancelled(`process ${pid} goes on with another program`));
    // It lives on, as far as its journal is concerned.
    await process.journal.note({ t: "alive", at: this.#parts.committer.now() }, undefined, rider);
    process.journal.close();
    const { code, program: last } = process;
    const grace = last?.graceMs ?? LIMITS.cancelGraceMs;
    const late = (): KernelError => new KernelError("ETIMEDOUT", `the code of process ${pid} does not end`, { pid });
    await within(this.#parts.platform, grace, late, code ?? Promise.resolve()).catch(() => undefined);
    if (process.isEnding || process.hasEnded || process.isDoomed)
      throw new KernelError("ESRCH", `process ${pid} was ended while its program was changed`, { pid });
    const next = this.#parts.succeed(process, { code: 0 }, process.restarts);
    next.identity = identity;
    await this.#parts.resume(next, program);
  }

  /** Holds a process until no call of it is under way. */
  async #drain(process: Process, waitMs: number): Promise<void> {
    const { pid } = process;
    const wasStopped = process.state.name === "stopped";
    if (process.isHeld && !wasStopped)
      throw new KernelError("EBUSY", `process ${pid} is frozen with its group; thaw that first`, { pid });
    if (!wasStopped) process.become({ name: "stopped" });
    const late = (): KernelError =>
      new KernelError("EBUSY", `a call of process ${pid} has been under way for ${waitMs} ms; try again later`, {
        pid,
      });
    try {
      await within(this.#parts.platform, waitMs, late, process.quiet());
    } catch (error) {
      if (!wasStopped) process.become({ name: "running" }, true);
      throw error;
    }
    if (!wasStopped) process.become({ name: "running" }, true);
  }

  /** Narrows a process for something special: its rights, its tier, and what it is about. */
  async specialize(
    process: Process,
    to: {
      readonly grants?: readonly Grant[] | undefined;
      readonly tier?: Tier | undefined;
      readonly ref?: string | undefined;
    },
    rider?: Rider,
  ): Promise<void> {
    const { pid } = process;
    assertLives(process, "specialize");
    const now = TIERS.indexOf(tierOf(process.identity));
    if (to.tier !== undefined && TIERS.indexOf(to.tier) < now)
      throw new KernelError("EPERM", `process ${pid} is ${tierOf(process.identity)}, and ${to.tier} is above that`, {
        pid,
      });
    const before = process.identity;
    process.identity = { ...before, ...present({ tier: to.tier, ref: to.ref }) };
    try {
      await this.#parts.narrow(process, to.grants === undefined ? [] : [this.#layerOf(process, to.grants)], rider);
    } catch (error) {
      process.identity = before;
      throw error;
    }
  }

  /**
   * Ends a process and leaves another what waits for it, what is left of its budget, and no right that it had not (Y4).
   * @throws {EINVAL} they are one, or one is the owner's · {EAGAIN} the mailbox of the other has no room
   */
  async merge(from: Process, into: Process, rider?: Rider): Promise<void> {
    for (const one of [from, into]) assertLives(one, "merge");
    if (from === into || this.#parts.family.isWithin(into.pid, from.pid))
      throw new KernelError("EINVAL", `process ${into.pid} is ${from.pid}, or below it: it cannot take that in`, {
        pid: into.pid,
      });
    // Looked at before anything ends.
    this.#parts.forward(from, into);
    from.isDoomed = true;
    if (from.program !== undefined) {
      this.#parts.abandon(from);
      from.abort(cancelled(`process ${from.pid} goes into ${into.pid}`));
      const late = (): KernelError => new KernelError("ETIMEDOUT", "its code does not end");
      const grace = from.program.graceMs ?? LIMITS.cancelGraceMs;
      await within(this.#parts.platform, grace, late, from.code ?? Promise.resolve()).catch(() => undefined);
    }
    if (from.isEnding || from.hasEnded)
      throw new KernelError("ESRCH", `process ${from.pid} was ended before it went into ${into.pid}`, {
        pid: from.pid,
      });
    const held = new Set(into.capability.layers);
    const more = from.capability.layers
      .filter((layer) => !held.has(layer))
      .map((layer) => layer.rules.map(({ grant }) => grant));
    if (more.length > 0)
      await this.#parts.narrow(
        into,
        more.map((grants) => this.#layerOf(into, grants)),
      );
    let mail: Forwarding | undefined;
    let applied: (() => void) | undefined;
    const estate: Estate = {
      change: async (closing) => {
        mail = this.#parts.forward(from, into);
        const budget = await this.#inherit(into, closing.refund);
        applied = budget?.applied;
        return {
          checks: [...closing.checks, ...(budget?.checks ?? [])],
          adds: mergeAdds([...closing.adds, ...(budget?.adds ?? [])]),
          puts: [...closing.puts, ...(budget?.puts ?? []), ...mail.puts],
          deletes: [...closing.deletes, ...mail.deletes],
        };
      },
      moved: () => {
        mail?.moved();
        applied?.();
      },
    };
    await this.#parts.exit(from, { code: 0, result: { merged: into.pid } }, rider, estate);
  }

  /** Moves what an account returns to the account of who takes it in, as far as that limits the same. */
  async #inherit(
    into: Process,
    refund: Amounts,
  ): Promise<(AccountChange & { readonly applied: () => void }) | undefined> {
    const { budget } = into.identity;
    if (budget === undefined || into.account !== into.pid) return undefined;
    const shared = resourcesOf(refund).filter(
      (resource) => budget[resource] !== undefined && (refund[resource] ?? 0) > 0,
    );
    if (shared.length === 0) return undefined;
    const amounts = Object.fromEntries(shared.map((resource) => [resource, refund[resource] ?? 0]));
    const change = await this.#parts.accounts.allocate(into.pid, amounts);
    const grown = { ...budget };
    for (const resource of shared) grown[resource] = (budget[resource] ?? 0) + (refund[resource] ?? 0);
    const identity = { ...into.identity, budget: grown };
    const record = {
      key: processKey(into.pid),
      value: encodeProcess(into, { identity }, this.#parts.committer.masker),
    };
    return {
      ...change,
      puts: [...change.puts, ...(into.journal === undefined ? [] : [record])],
      applied: () => {
        change.applied();
        into.identity = identity;
      },
    };
  }

  /** A layer of a process's own, under a name that it had none under. */
  #layerOf({ pid, capability }: Process, grants: readonly Grant[]): Layer {
    let number = capability.layers.length + 1;
    while (this.#parts.layers.find(`${pid}.${number}`) !== undefined) number++;
    return this.#parts.layers.create(`${pid}.${number}`, grants);
  }
}

function assertLives(process: Process, syscall: string): void {
  const { pid } = process;
  if (pid === PID_OWNER)
    throw new KernelError("EINVAL", `the owner's process is there once, and stays as it is`, { syscall, pid });
  if (!process.isAlive || process.isEnding || process.isDoomed)
    throw new KernelError("ESRCH", `process ${pid} has ended`, { syscall, pid });
}
