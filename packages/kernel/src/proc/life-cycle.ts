// What becomes of a process beside its start and its end: a twin, another program, narrower rights, another to go into,
// parts that its work is dealt out to.
//
// Y1  A twin has the rights of its original and goes on from what that had recorded; whatever of that was under way it
//     does itself, out of a budget of its own. Nothing is paid, sent or read twice by that: what was done is recorded. Its
//     original may have ended: then it has what a retry would have, and below one that does not stand above no more than that.
// Y2  Another program takes over where no call is under way, under the same pid: whoever waits for it waits on.
// Y3  Rights only narrow: those who go together keep what both had.
// Y4  Who goes into another leaves it what waits in the mailbox and what is left of the budget, in the commit of its end.

import type { Platform } from "../abi/platform.ts";
import { cancelled } from "../base/abort.ts";
import { KernelError, toErrorRecord } from "../base/errno.ts";
import { type ContentId, PID_OWNER, type Pid } from "../base/id.ts";
import { encodeJson } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { present } from "../base/present.ts";
import type { AccountChange, AccountTree } from "../budget/account.ts";
import { type Amounts, addAmounts, resourcesOf } from "../budget/resource.ts";
import type { Grant } from "../cap/grant.ts";
import type { LayerTable } from "../cap/layer-table.ts";
import type { Layer } from "../cap/layer.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import type { Message, MessageKind } from "../ipc/mailbox.ts";
import { JOURNAL_FORMAT, encodeRecord } from "../journal/record.ts";
import { mergeAdds } from "./allocation.ts";
import type { Family } from "./family.ts";
import { encodeProcess, processKey } from "./process-record.ts";
import { drained } from "./drain.ts";
import { type Exit, type Process, type ProcessIdentity, type Renewal, SIGNALS } from "./process.ts";
import { lostCall } from "./lost-call.ts";
import { type Redoing, redo } from "./redo.ts";
import type { EndedStanding } from "./resumption.ts";
import type { Revisions } from "./revision.ts";
import type { Program } from "./program.ts";
import { type Tier, lowerTier, rankOf, tierOf } from "./role.ts";
import { codeOver } from "./shields.ts";
import type { SpawnOptions } from "./spawn-options.ts";

/** What somebody leaves whose end goes into another. */
export interface Estate {
  /** What belongs into the commit of its end, with the closing of its account; made anew for each try. */
  readonly leave: (closing: Closing) => Promise<{
    readonly change: AccountChange;
    /** Memory follows the commit. */
    readonly moved: () => void;
    readonly undo: () => void;
  }>;
}

type Closing = AccountChange & { readonly refund: Amounts; readonly heir: Pid | undefined };

/** Messages that another reads from now on. */
export interface Forwarding {
  readonly puts: AccountChange["puts"];
  readonly deletes: readonly string[];
  readonly moved: () => void;
}

/** Rights that are narrower in memory already. */
export interface Narrowing {
  readonly puts: AccountChange["puts"];
  readonly stored: () => void;
  readonly undo: () => void;
}

export interface LifeCycleParts {
  readonly platform: Platform;
  readonly committer: Committer;
  readonly accounts: AccountTree;
  readonly layers: LayerTable;
  readonly family: Family;
  readonly spawn: (parent: Process, program: Program, options: SpawnOptions) => Promise<Process>;
  readonly revisions: Revisions;
  readonly narrow: (process: Process, layers: readonly Layer[], rider?: Rider) => Promise<void>;
  readonly narrowing: (process: Process, layers: readonly Layer[]) => Narrowing;
  readonly storeInput: (json: string | undefined) => Promise<ContentId | undefined>;
  readonly succeed: (process: Process, exit: Exit, restarts: readonly number[], as?: Renewal) => Process;
  readonly resume: (process: Process, program: Program) => Promise<void>;
  readonly standingOf: (process: Process) => Promise<EndedStanding>;
  readonly hasGroup: (path: string | undefined) => boolean;
  readonly abandon: (process: Process) => void;
  readonly exit: (process: Process, exit: Exit, rider?: Rider, estate?: Estate) => Promise<void>;
  readonly forward: (from: Process, to: Process) => Promise<Forwarding>;
  readonly assertRoom: (from: Process, to: Process) => void;
  /** Gives messages that wait to others, in one commit. */
  readonly deal: (from: Process, to: (message: Message) => Pid | undefined) => Promise<void>;
}

/** A part of a process that is split; its budget is an equal share of what is left unless given. */
export interface Part extends Pick<SpawnOptions, "name" | "input" | "grants" | "budget" | "ref"> {
  /** Messages that wait and are for it: all of them that are of a kind, or from a sender. */
  readonly mail?: { readonly kind?: MessageKind | undefined; readonly from?: Pid | undefined } | undefined;
}

/** What may differ of a twin. */
export interface TwinOptions extends Redoing {
  /** Whoever makes it stands above its original. */
  readonly isAbove: boolean;
  readonly name?: string | undefined;
  /** Narrow it further. */
  readonly grants?: readonly Grant[] | undefined;
  /** Out of that of whom it belongs to; as much as the original has left, unless given. */
  readonly budget?: Amounts | undefined;
  readonly ref?: string | undefined;
  readonly along?: SpawnOptions["along"];
  readonly rider?: Rider | undefined;
}

interface Inheritance extends Pick<AccountChange, "checks" | "adds"> {
  /** Made when nothing else about the process changes any more. */
  readonly puts: (process: Process) => AccountChange["puts"];
  readonly applied: () => void;
}

export class LifeCycle {
  readonly #parts: LifeCycleParts;

  constructor(parts: LifeCycleParts) {
    this.#parts = parts;
  }

  /**
   * Starts a twin of a process: beside it for whoever stands above it; for anybody else below it, out of whose budget it
   * then is, or below the caller where it has ended.
   * @throws {EINVAL} it leaves no journal, or works on a view of its own · {EBUSY} it sleeps · {E2BIG} its journal is too
   * long · {ENOENT} there is no step to do anew from, or to give another outcome
   */
  async clone(
    caller: Process,
    original: Process,
    load: () => Promise<Program>,
    options: TwinOptions,
  ): Promise<Process> {
    const { pid, identity, state } = original;
    const exit = state.name === "zombie" ? state.exit : undefined;
    if (exit === undefined) assertLives(original, "clone");
    const { family, committer, revisions } = this.#parts;
    if (original.journal === undefined)
      throw new KernelError("EINVAL", `process ${pid} leaves no journal that a twin could go on from`, { pid });
    if (exit === undefined && original.sleep !== undefined)
      throw new KernelError("EBUSY", `process ${pid} sleeps; wake it, or wait until it does`, { pid });
    const program = original.program ?? (await load());
    const journal = original.journal.unread();
    // What its revision has outdated the twin does anew, as the original would.
    await revisions.load(journal, program);
    await redo(journal, program, { from: options.from, set: options.set, at: committer.now() });
    if (exit !== undefined) journal.forgetFailures(exit.code !== 0);
    const past = journal.past();
    const bytes = past.reduce((sum, record) => sum + record.length, 0);
    if (past.length > LIMITS.twinRecordsMax || bytes > LIMITS.commitBytesMax / 2)
      throw new KernelError(
        "E2BIG",
        `process ${pid} has ${past.length} outcomes of ${bytes} bytes; a twin takes at most ${LIMITS.twinRecordsMax}, and ${LIMITS.commitBytesMax / 2} bytes`,
        { pid },
      );
    const isAbove = caller.pid !== pid && options.isAbove;
    const isOwn = identity.budget !== undefined && (isAbove || exit !== undefined);
    const left = isOwn ? await this.#leftOf(original, identity.budget ?? {}) : undefined;
    // Its records were read while it was there: those of one that was deleted meanwhile may be no more than some.
    if (family.leaving.has(pid) || (exit !== undefined && (await committer.store.get(processKey(pid))) === undefined))
      throw new KernelError("ESRCH", `process ${pid} is being deleted`, { syscall: "clone", pid });
    const ended = exit === undefined ? undefined : await this.#standingOfEnded(original, isAbove ? undefined : caller);
    const beside = isAbove ? family.get(family.parentOf(pid) ?? PID_OWNER) : original;
    const parent = ended?.parent ?? beside;
    if (parent === undefined) throw new KernelError("ESRCH", `process ${pid} belongs to nobody`, { pid });
    if (identity.views?.every(({ dir }, at) => parent.identity.views?.[at]?.dir === dir) === false)
      throw new KernelError("EINVAL", `process ${pid} works on a view of its own; apply or discard it first`, { pid });
    const hasGroup = exit === undefined || (isAbove && this.#parts.hasGroup(identity.group));
    return this.#parts.spawn(parent, program, {
      input: original.input,
      limits: identity.limits,
      group: hasGroup && identity.group !== parent.identity.group ? identity.group : undefined,
      role: identity.role,
      tier: exit === undefined ? identity.tier : lowerTier(identity, parent.identity),
      restart: identity.restart,
      strategy: identity.strategy,
      faults: identity.faults,
      budget: options.budget ?? left,
      grants: options.grants,
      rider: options.rider,
      name: options.name ?? identity.name,
      ref: options.ref ?? identity.ref,
      correlation: identity.correlation,
      cause: `clone ${pid}`,
      along: options.along,
      twin: { of: original, past, as: ended },
    });
  }

  /**
   * What the twin of a process that has ended has. Below a caller that does not stand above it spends from what this one
   * does; it has no right that its parent has not (`capabilityOf`).
   */
  async #standingOfEnded(original: Process, below: Process | undefined): Promise<EndedStanding> {
    if (below === undefined) return this.#parts.standingOf(original);
    return { parent: below, capability: original.capability, account: below.account };
  }

  /** What a process has left of its own budget. */
  async #leftOf({ pid, account, hasEnded }: Process, budget: Amounts): Promise<Amounts> {
    const { accounts } = this.#parts;
    // Children that live on have kept its account open.
    if (hasEnded && !accounts.isOpen(pid)) return accounts.leftAt(pid, budget);
    const usage = await accounts.usage(hasEnded ? pid : account);
    return Object.fromEntries(
      resourcesOf(budget).flatMap((resource) => {
        const of = usage[resource];
        return of?.account === pid ? [[resource, Math.max(0, of.allocation - of.used)]] : [];
      }),
    );
  }

  /**
   * Gives a running process another program, once no call of it is under way.
   * @throws {EBUSY} its calls do not end in time: it goes on as it was
   */
  async upgrade(
    caller: Process,
    process: Process,
    program: Program,
    waitMs: number = LIMITS.drainMs,
    rider?: Rider,
  ): Promise<void> {
    const { pid } = process;
    assertLives(process, "upgrade");
    const { name, revision, source, endsAwake } = program;
    if (process.identity.program.source?.confined === true && source?.confined !== true)
      throw new KernelError("EPERM", `process ${pid} is confined, and ${name} would not be`, { pid });
    if (process.journal === undefined)
      throw new KernelError("EINVAL", `process ${pid} leaves no journal that another program could go on from`, {
        pid,
      });
    const changed = present({ name, revision, source, endsAwake });
    if (process.program === undefined) {
      const before = process.identity.program;
      process.identity = { ...process.identity, program: changed };
      try {
        return await this.#parts.resume(process, program);
      } catch (error) {
        process.identity = { ...process.identity, program: before };
        throw error;
      }
    }
    const { isQuiet, release } = await drained(this.#parts.platform, [process], waitMs);
    try {
      if (!isQuiet)
        throw new KernelError(
          "EBUSY",
          `a call of process ${pid} is under way for more than ${waitMs} ms; try again later`,
          { pid },
        );
      assertLives(process, "upgrade");
      if (process.program === undefined)
        throw new KernelError("EBUSY", `process ${pid} has just gone to sleep`, { pid });
      process.isOver = true;
      this.#parts.abandon(process);
      process.cutOff(cancelled(`process ${pid} goes on with another program`));
      // It lives on, as far as its journal is concerned.
      await process.journal.note({ t: "alive", at: this.#parts.committer.now() }, undefined, rider);
      process.journal.close();
      await this.#codeOver(caller, process);
    } finally {
      release();
    }
    if (process.isEnding || process.hasEnded || process.isDoomed)
      throw new KernelError("ESRCH", `process ${pid} was ended while its program was changed`, { pid });
    const next = this.#parts.succeed(process, { code: 0 }, process.restarts);
    // Whatever else has become of it meanwhile stays.
    next.identity = { ...next.identity, program: changed };
    await this.#parts.resume(next, program);
  }

  /**
   * Has a process go on as new with another input: its program is called from its start, nothing that is recorded counts
   * any more, and what it has made ends, as with a restart from the start. Its pid, its mailbox, its rights and what is
   * left of its budget stay. Of its records those of the life before this one are kept.
   * @throws {EINVAL} it leaves no journal, or its program takes no such input · {EBUSY} its calls do not end in time
   */
  async renew(process: Process, input: unknown, rider?: Rider): Promise<void> {
    const { pid, journal, program } = process;
    assertLives(process, "continueAsNew");
    if (journal === undefined || program === undefined)
      throw new KernelError("EINVAL", `process ${pid} leaves no journal: end it, and start another`, { pid });
    const inputJson = encodeJson(program.accept === undefined ? input : program.accept(input), "the new input");
    const inputRef = await this.#parts.storeInput(inputJson);
    const { platform, committer } = this.#parts;
    const { isQuiet, release } = await drained(platform, [process], LIMITS.drainMs);
    try {
      const isHalted = process.isHalted ? `process ${pid} was stopped` : undefined;
      const isBusy = isQuiet ? undefined : `a call of process ${pid} is under way for more than ${LIMITS.drainMs} ms`;
      const why = isBusy ?? isHalted;
      if (why !== undefined) throw new KernelError("EBUSY", `${why}; it cannot go on as new now`, { pid });
      assertLives(process, "continueAsNew");
      const { steps, replayed: _replayed, ...used } = process.usage;
      const { since: kept } = journal.history;
      const renewal = { inputJson, inputRef, history: { kept, since: committer.store.seq } };
      const at = committer.now();
      const ranMs = process.ranMs + platform.clock.monotonic() - process.startedAt;
      const record = { t: "renew", v: JOURNAL_FORMAT, at, steps, used, ranMs } as const;
      // It does not come back to what an earlier life has called.
      const lost = journal.unanswered().flatMap(([place, intent]) => lostCall(process.identity, at, place, intent));
      await committer.commit(
        {
          puts: [{ key: processKey(pid), value: encodeProcess(process, { renewal }, committer.masker) }],
          appends: [...lost, { log: journal.log, value: encodeRecord(record) }],
          ...(kept === 0 ? {} : { trims: [{ log: journal.log, through: kept }] }),
        },
        [{ name: "process.renewed", pid, data: { name: process.identity.name, program: program.name } }],
        rider,
      );
      const over = cancelled(`process ${pid} goes on as new`);
      // A kill in the meantime has the last word.
      if (process.isEnding || process.hasEnded || process.isDoomed) throw over;
      journal.close();
      this.#parts.abandon(process);
      process.cutOff(over);
      const next = this.#parts.succeed(process, { code: 0 }, process.restarts, renewal);
      void this.#goOn(process, next, program);
      throw over;
    } finally {
      release();
    }
  }

  /** Runs the next life of a process once the code of the one before has ended, or had its grace. */
  async #goOn(before: Process, next: Process, program: Program): Promise<void> {
    try {
      await this.#codeOver(undefined, before);
      // Others have their turn, however short its lives are.
      await new Promise<void>((resolve) => this.#parts.platform.defer(resolve));
      if (next.state.name === "sleeping" && !next.isEnding) await this.#parts.resume(next, program);
    } catch (error) {
      if (next.state.name !== "sleeping" || next.isEnding) return;
      await this.#parts.exit(next, { code: 1, error: toErrorRecord(error) }).catch(() => undefined);
    }
  }

  /** Code that was told to end has its grace; that of the caller itself waits for this call. */
  async #codeOver(caller: Process | undefined, process: Process): Promise<void> {
    if (caller === process) return;
    await codeOver(this.#parts.platform, process);
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
    if (to.tier !== undefined && rankOf(to.tier) < rankOf(tierOf(process.identity)))
      throw new KernelError("EPERM", `process ${pid} is ${tierOf(process.identity)}, and ${to.tier} is above that`, {
        pid,
      });
    const { ref } = process.identity;
    if (to.ref !== undefined) process.identity = { ...process.identity, ref: to.ref };
    // What is below it thinks with nothing better either.
    const { tier: least } = to;
    const lowered =
      least === undefined
        ? []
        : this.#parts.family
            .branchOf(process)
            .filter(({ identity }) => rankOf(tierOf(identity)) < rankOf(least))
            .map((one) => ({ one, tier: one.identity.tier }));
    for (const { one } of lowered) one.identity = { ...one.identity, ...present({ tier: to.tier }) };
    try {
      const added = to.grants === undefined ? [] : [this.#layerOf(process, to.grants)];
      await this.#parts.narrow(process, added, rider);
    } catch (error) {
      const { ref: _ref, ...rest } = process.identity;
      process.identity = { ...rest, ...present({ ref }) };
      for (const { one, tier } of lowered) {
        const { tier: _tier, ...same } = one.identity;
        one.identity = { ...same, ...present({ tier }) };
      }
      throw error;
    }
  }

  /**
   * Starts parts of a process below it: its program, each with an input, a share of its budget, and the messages that are
   * for it, of which the first part that wants one gets it. All of them are started, or none stays.
   * @throws {EINVAL} there are no parts, or too many · {EPERM} the caller stands beside it: what it says to the parts
   *   would be done with rights that it may not have
   */
  async split(
    caller: Process,
    process: Process,
    parts: readonly Part[],
    load: () => Promise<Program>,
  ): Promise<readonly Pid[]> {
    const { pid, identity } = process;
    assertLives(process, "split");
    if (!this.#parts.family.isWithin(pid, caller.pid))
      throw new KernelError(
        "EPERM",
        `process ${pid} is split by itself or by who stands above it, not by ${caller.pid}`,
        {
          pid: caller.pid,
        },
      );
    if (parts.length === 0 || parts.length > LIMITS.partsMax)
      throw new KernelError("EINVAL", `a process is split into 1 to ${LIMITS.partsMax} parts, found ${parts.length}`, {
        pid,
      });
    const program = process.program ?? (await load());
    const left = identity.budget === undefined ? {} : await this.#leftOf(process, identity.budget);
    const share = Object.fromEntries(
      resourcesOf(left).map((resource) => {
        // Each part is itself a start.
        const some = (left[resource] ?? 0) - (resource === "spawns" ? parts.length : 0);
        return [resource, Math.max(0, Math.floor(some / parts.length))];
      }),
    );
    const wants = ({ mail }: Part, { kind, from }: Message): boolean =>
      mail !== undefined && (mail.kind ?? kind) === kind && (mail.from ?? from) === from;
    const started: Process[] = [];
    try {
      for (const { mail: _mail, name = identity.name, budget = share, ...part } of parts)
        started.push(await this.#parts.spawn(process, program, { ...part, name, budget, cause: `split ${pid}` }));
      await this.#parts.deal(process, (message) => started[parts.findIndex((part) => wants(part, message))]?.pid);
    } catch (error) {
      const why = { code: 128 + SIGNALS.TERM, signal: "TERM" } as const;
      for (const one of started) {
        one.cutOff(cancelled(`process ${pid} could not be split`));
        if (one.program !== undefined) this.#parts.abandon(one);
        await this.#parts.exit(one, why);
      }
      throw error;
    }
    return started.map((one) => one.pid);
  }

  /**
   * Ends a process and leaves another what waits for it, what is left of its budget, and no right that it had not (Y4).
   * @throws {EINVAL} they are one, or one is the owner's · {EAGAIN} the mailbox of the other has no room
   */
  async merge(caller: Process, from: Process, into: Process, rider?: Rider): Promise<void> {
    for (const one of [from, into]) assertLives(one, "merge");
    if (from === into || this.#parts.family.isWithin(into.pid, from.pid))
      throw new KernelError("EINVAL", `process ${into.pid} is ${from.pid}, or below it: it cannot take that in`, {
        pid: into.pid,
      });
    // Looked at before anything ends; afterwards nothing is refused for that any more.
    this.#parts.assertRoom(from, into);
    from.isDoomed = true;
    if (from.program !== undefined) {
      this.#parts.abandon(from);
      from.abort(cancelled(`process ${from.pid} goes into ${into.pid}`));
      await this.#codeOver(caller, from);
    }
    const exit: Exit = { code: 0, result: { merged: into.pid } };
    if (from.isEnding || from.hasEnded)
      throw new KernelError("ESRCH", `process ${from.pid} was ended before it went into ${into.pid}`, {
        pid: from.pid,
      });
    try {
      await this.#parts.exit(from, exit, rider, { leave: (closing) => this.#leave(from, into, closing) });
    } catch (error) {
      throw new KernelError("EFAILED", `process ${from.pid} has ended, and ${into.pid} could not take it in`, {
        pid: into.pid,
        cause: error,
      });
    }
  }

  /** What `into` gets of a process that ends, in the commit of that. @throws {ESRCH} it has ended itself */
  async #leave(from: Process, into: Process, closing: Closing): ReturnType<Estate["leave"]> {
    const mail = await this.#parts.forward(from, into);
    const budget = await this.#inherit(into, closing);
    // Nothing waits from here to the commit.
    assertLives(into, "merge");
    const held = new Set(into.capability.layers);
    const more = from.capability.layers.flatMap((layer) =>
      held.has(layer)
        ? []
        : [
            this.#layerOf(
              into,
              layer.rules.map(({ grant }) => grant),
            ),
          ],
    );
    const rights = more.length === 0 ? undefined : this.#parts.narrowing(into, more);
    return {
      change: {
        checks: [...closing.checks, ...(budget?.checks ?? [])],
        adds: mergeAdds([...closing.adds, ...(budget?.adds ?? [])]),
        puts: [...closing.puts, ...(rights?.puts ?? []), ...(budget?.puts(into) ?? []), ...mail.puts],
        deletes: [...closing.deletes, ...mail.deletes],
      },
      moved: () => {
        rights?.stored();
        budget?.applied();
        mail.moved();
      },
      undo: () => rights?.undo(),
    };
  }

  /** What an account returns to the one above both goes on to that of who takes it in, as far as that limits the same. */
  async #inherit(into: Process, { refund, heir }: Closing): Promise<Inheritance | undefined> {
    const { accounts, committer } = this.#parts;
    const { budget } = into.identity;
    // What is returned to its own account is its own already; what is not returned above it is not its to take.
    if (budget === undefined || into.account !== into.pid || accounts.parentOf(into.pid) !== heir) return undefined;
    const shared = resourcesOf(refund).filter(
      (resource) => budget[resource] !== undefined && (refund[resource] ?? 0) > 0,
    );
    if (shared.length === 0) return undefined;
    const amounts = Object.fromEntries(shared.map((resource) => [resource, refund[resource] ?? 0]));
    const { applied, checks, adds, puts } = await accounts.allocate(into.pid, amounts);
    const grown = (): ProcessIdentity => ({
      ...into.identity,
      budget: addAmounts(into.identity.budget ?? {}, amounts),
    });
    return {
      checks,
      adds,
      puts: (process) => {
        const value = encodeProcess(process, { identity: grown() }, committer.masker);
        return [...puts, ...(process.journal === undefined ? [] : [{ key: processKey(process.pid), value }])];
      },
      applied: () => {
        applied();
        into.identity = grown();
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
  if (process.endedBy !== undefined) throw new KernelError("ESRCH", `process ${pid} was told to end`, { syscall, pid });
}
