// The order of a syscall (D1-D6), the same for every caller and every row.
//
// D1  The caller is the process that the handle is bound to, never an argument.
// D2  The target is resolved to its canonical path, and every link on the way is checked.
// D3  Rights are checked here before anything is done; what may not be seen is EACCES, also when it is absent.
// D4  Acting on a virtual file is the row that the file stands for, and is checked as that row.
// D5  Hooks run between the check and the act; they may refuse or replace the payload, never caller, right or target.
// D6  A call that has waited, for an answer, a budget or a hook, looks at its target and its rights again; a stream does
//     with each item. What was revoked meanwhile is revoked, and what has moved is not followed.

import type { HookCall } from "../abi/hook.ts";
import { cancelled } from "../base/abort.ts";
import { KernelError, isKernelError, toKernelError } from "../base/errno.ts";
import { PID_OWNER } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { toPath } from "../base/path.ts";
import { assertValid } from "../base/schema.ts";
import type { Process } from "../proc/process.ts";
import { seenError } from "../proc/view.ts";
import type { RowCall, VirtualNode } from "../vfs/provider.ts";
import { type Amounts, resourcesOf } from "../budget/resource.ts";
import type { AuditDraft } from "../audit/trail.ts";
import type { Explanation } from "../cap/capability.ts";
import { type Admission, type Allowed, admit, denialOf, needsOf, ownCopy, settle } from "./admission.ts";
import { shorten } from "./audit-arguments.ts";
import {
  type AnyRow,
  assertArguments,
  isDetached,
  isReplayed,
  placeOf,
  withMarksOf,
  withoutSignal,
} from "./call-arguments.ts";
import { GuardedStream } from "./guarded-stream.ts";
import type { Host } from "./host.ts";
import { type Need, assertMay, assertStill, isFree, isGoverned, tellDenial } from "./policy.ts";
import type { HookLine } from "./hook-table.ts";
import { type AtPlace, ORDER, type Ordered, type Target, hasEnded, isUnderWay, stepAround } from "./row.ts";
import { reserve } from "./spend.ts";
import { SYSCALLS, type SyscallArgs, type SyscallName, type SyscallResult, isSyscallName } from "./table.ts";
import { WaitingCalls } from "./waiting-calls.ts";

/** A call on its way through the stages of `docs/reference/syscalls.md`. */
interface Act {
  readonly caller: Process;
  readonly name: SyscallName;
  readonly row: AnyRow;
  readonly args: unknown;
  readonly target: Target;
  /** What records it, once its rights are checked; nothing where none is to be. */
  readonly draft: AuditDraft | undefined;
}

export class Dispatcher {
  readonly #host: Host;
  readonly #waits: WaitingCalls;
  #isClosed = false;

  constructor(host: Host) {
    this.#host = host;
    this.#waits = new WaitingCalls(host.platform, host.committer);
    host.layers.setHearer(() => this.#waits.review());
  }

  /** The host ends: nobody calls it any more. */
  close(): void {
    this.#isClosed = true;
  }

  call<Name extends SyscallName>(
    caller: Process,
    name: Name,
    args: SyscallArgs<Name>,
  ): SyscallResult<Name> | Promise<Awaited<SyscallResult<Name>>> {
    // The table ties the types of name, arguments and result together; inside they are erased once.
    if (caller.identity.views === undefined) return this.#call(caller, name, args) as SyscallResult<Name>;
    return this.#seen(caller, () => this.#call(caller, name, args)) as SyscallResult<Name>;
  }

  /** Who sees copies of trees is told of them as it sees them. */
  #seen(caller: Process, work: () => unknown): unknown {
    const told = (error: unknown): never => {
      throw seenError(caller, error);
    };
    try {
      const result = work();
      return result instanceof Promise ? result.catch(told) : result;
    } catch (error) {
      return told(error);
    }
  }

  #call(caller: Process, name: SyscallName, args: unknown, allowed?: Allowed): unknown {
    const row = SYSCALLS[name] as unknown as AnyRow | undefined;
    // Nor is what every object has, such as `toString`.
    if (typeof row?.handle !== "function")
      throw new KernelError("ENOSYS", `there is no call ${name}; see /sys/syscalls`);
    // The owner asks on behalf of others; only a program can block the loop.
    if (caller.pid !== PID_OWNER) this.#host.platform.entered?.(caller.pid);
    if (this.#isClosed) throw wasClosed(name);
    assertLives(caller, name, row);
    assertArguments(row, args, name);
    if (caller.isHeld && row.whileHeld !== true) {
      // Code that is left of a life that is over ends, and is not waited for.
      if (caller.isOver && name !== "exit") throw cancelled(`process ${caller.pid} goes on in its next life`);
      // What is under way comes to its end: a tool with what it calls.
      if (!caller.isOver && (caller.isHalted || !isUnderWay(caller, args)))
        return caller.heldBack(stepAround(args)).then(() => this.#call(caller, name, args, allowed));
    }
    const target = row.target === undefined ? caller.self : row.target(this.#host, caller, args);
    if (target instanceof Promise) {
      return target.then(
        (found) => {
          // It may have ended while its path was looked up.
          assertLives(caller, name, row);
          return this.#checked(caller, name, row, args, found, allowed);
        },
        (error: unknown) => this.#unresolved(caller, name, row, args, error),
      );
    }
    return this.#checked(caller, name, row, args, target, allowed);
  }

  #checked(
    caller: Process,
    name: SyscallName,
    row: AnyRow,
    args: unknown,
    target: Target,
    allowed: Allowed | undefined,
  ): unknown {
    const { located } = target;
    const stands = located?.kind === "virtual" ? rowOf(name, located.node, args) : undefined;
    if (stands !== undefined && isSyscallName(stands.row)) {
      assertValid(SYSCALLS[stands.row].schema, stands.args, `what ${target.resource} stands for (${stands.row})`);
      const { [ORDER]: order } = args as Ordered;
      const given = order === undefined ? stands.args : { ...stands.args, [ORDER]: order };
      return this.#call(caller, stands.row, given, allowed);
    }
    const act: Act = { caller, name, row, args, target, draft: undefined };
    const isHeard = isGoverned(this.#host, caller) && (target !== caller.self || row.alsoNeeds !== undefined);
    if (caller.capability.isAll && !isHeard) return this.#act(act);
    const admission = this.#admissionOf(act, isHeard);
    const open = admit(admission, this.#deny(admission));
    if (admission.governed.length === 0 && (open === undefined || admission.isDone)) return this.#act(act);
    const own = ownCopy(args);
    return this.#settled({ ...act, args: own }, { ...admission, args: own }, allowed);
  }

  #admissionOf({ caller, name, row, args, target }: Act, isHeard: boolean): Admission {
    const needs = needsOf(row.right, row.alsoNeeds?.(args, caller, target) ?? [], target);
    const place = placeOf(row, args);
    return {
      caller,
      name,
      args,
      needs,
      governed: isHeard ? needs.slice(target === caller.self ? 1 : 0) : [],
      conditions: this.#conditionsOf(caller, row, args),
      isDone: isReplayed(caller, row, args),
      schema: row.schema,
      needsWith: async (edited) => {
        const at = row.target === undefined ? caller.self : await row.target(this.#host, caller, edited);
        const also = row.alsoNeeds?.(edited, caller, at) ?? [];
        return { needs: needsOf(row.right, also, at), conditions: this.#conditionsOf(caller, row, edited) };
      },
      ...(place === undefined ? {} : { place }),
    };
  }

  async #settled(act: Act, admission: Admission, allowed: Allowed | undefined): Promise<unknown> {
    const { caller, name, row, args } = act;
    const answers: number[] = [];
    try {
      const edit = await settle(this.#host, admission, this.#deny(admission), allowed, answers);
      if (edit !== undefined) {
        assertValid(
          row.schema,
          withoutSignal(row, edit.args as object, name),
          `what a person made of the arguments of ${name}`,
        );
        return await this.#call(caller, name, edit.args, edit.allowed);
      }
      const target = await this.#again(act);
      // What was recorded when it began was given back meanwhile: it would act, and nobody was asked for that.
      if (admission.isDone && !isReplayed(caller, row, args)) return await this.#call(caller, name, args, allowed);
      return await this.#act({ ...act, target });
    } finally {
      // The call has its outcome, whatever becomes of the answer; of one that the host's end has cut off that is kept.
      if (!caller.isAbandoned) for (const id of answers) await this.#host.asks.consume(id).catch(() => undefined);
    }
  }

  #act(act: Act): unknown {
    const { caller, name, row, args, target } = act;
    // What an earlier life has done is taken from its journal: nobody acts, pays or is to hear of it again.
    if (isReplayed(caller, row, args)) return row.handle(this.#host, caller, args, target, undefined);
    const isRecorded = row.kind === "mutation" && row.audit !== "none";
    if (isRecorded && isDetached(row, args)) {
      const result = this.#spendAndPerform(act);
      const { place: on } = args as { readonly place: string };
      this.#host.audit.collapse({ pid: caller.pid, user: caller.identity.user, call: name, on });
      return result;
    }
    if (!isRecorded) return this.#spendAndPerform(act);
    const draft = this.#draft(act);
    try {
      const result = this.#spendAndPerform({ ...act, draft });
      if (!(result instanceof Promise)) {
        draft.done();
        return result;
      }
      return result.then(
        (value) => {
          draft.done();
          return value as unknown;
        },
        (error: unknown) => {
          draft.failed(error);
          // Its store has gone meanwhile.
          if (this.#isClosed && isKernelError(error) && error.code === "EIO") throw wasClosed(name, error);
          throw error;
        },
      );
    } catch (error) {
      draft.failed(error);
      throw error;
    }
  }

  #spendAndPerform(act: Act): unknown {
    const { caller, name, row, args, target } = act;
    assertLives(caller, name, row);
    if (row.spends !== undefined && caller.account !== undefined) {
      const amounts = row.spends(args, target, caller);
      const { accounts } = this.#host;
      if (resourcesOf(amounts).some((resource) => accounts.carrierOf(caller.account, resource) !== undefined))
        return this.#spending(act, amounts);
    }
    return this.#perform(act);
  }

  async #spending(act: Act, amounts: Amounts, tries = 1): Promise<unknown> {
    const { caller, name, row, args } = act;
    const { accounts, committer } = this.#host;
    const { reservation, end } = await reserve(this.#host, caller, {
      syscall: name,
      keyOf: () => `${name} ${act.target.resource}`,
      amounts,
      signal: caller.callSignal,
      commit: (_reservation, adds) => committer.commit({ adds }),
    });
    end();
    try {
      const target = await this.#again(act, true);
      return await this.#perform({ ...act, target });
    } catch (error) {
      // Of a life that is over, too; what has failed is told, also where nothing can be given back.
      if (accounts.holds(reservation))
        await committer.commit({ adds: accounts.release(reservation) }).then(
          () => accounts.freed(reservation),
          () => undefined,
        );
      // It has become more than was reserved, while the call was on its way.
      if (!isKernelError(error) || error.code !== "EBUSY" || tries >= LIMITS.casRetriesMax) throw error;
      const target = await this.#again(act);
      const wanted = row.spends?.(args, target, caller) ?? {};
      if (!resourcesOf(wanted).some((resource) => (wanted[resource] ?? 0) > (amounts[resource] ?? 0))) throw error;
      return this.#spending({ ...act, target }, wanted, tries + 1);
    }
  }

  #perform(act: Act): unknown {
    const { caller, name, row, target } = act;
    if (this.#host.hooks.hears(name)) {
      const call = hookCallOf(caller, name, row, target);
      const line = this.#host.hooks.lineOf(call);
      if (line !== undefined) return this.#hooked(line, act);
    }
    const result = this.#handled(act);
    return row.isStream === true ? this.#looked(result, act) : result;
  }

  #handled(act: Act): unknown {
    const { caller, row, args, target, draft } = act;
    const result =
      row.waitsIdly === true && !caller.capability.isAll
        ? this.#waiting(act)
        : row.handle(this.#host, caller, args, target, draft);
    const rests = (row.waits === true || row.rests === true) && result instanceof Promise;
    return rests ? caller.resting(result, stepAround(args)) : result;
  }

  /** A call that may wait, for as long as its caller may make it (D6). */
  #waiting(act: Act): unknown {
    const { caller, row, args, target, draft } = act;
    const { signal: given } = args as { readonly signal?: AbortSignal };
    const nextEnd = (): number | undefined => {
      const needs = needsOf(row.right, row.alsoNeeds?.(args, caller, target) ?? [], target);
      const ends = needs.flatMap(({ right, resource }) => caller.capability.endOf(right, resource) ?? []);
      return ends.length === 0 ? undefined : Math.min(...ends);
    };
    const call = { assertStillMay: () => this.#assertStillMay(act, target), nextEnd };
    return this.#waits.run(call, given, (signal) =>
      row.handle(this.#host, caller, { ...(args as object), signal }, target, draft),
    );
  }

  /** A stream whose items are looked at as they come (D6). */
  #looked(items: unknown, call: Omit<Act, "draft">): unknown {
    if (call.caller.capability.isAll) return items;
    // Made by the row, as its table says.
    return new GuardedStream(items as AsyncGenerator, () => this.#assertStillMay(call, call.target));
  }

  /**
   * What a call that has waited is about now (D6); what was paid for it already stays what it acts on.
   * @throws {EAGAIN} its path leads elsewhere · {EACCES} its caller may not any more · {ESRCH} that has ended
   */
  async #again(call: Omit<Act, "draft">, isPaid = false): Promise<Target> {
    const { caller, name, row, args, target } = call;
    let now = target;
    if (caller.isHeld) await caller.goesOn(caller.callSignal, isUnderWay(caller, args));
    if (target.located !== undefined && row.target !== undefined) {
      now = await row.target(this.#host, caller, args);
      if (now.resource !== target.resource || now.second?.resource !== target.second?.resource)
        throw new KernelError(
          "EAGAIN",
          `${target.resource} resolves to another path than when ${name} began; try again`,
          {
            syscall: name,
            path: target.resource,
            pid: caller.pid,
          },
        );
    }
    assertLives(caller, name, row);
    this.#assertStillMay(call, now);
    return isPaid && target.size !== undefined ? { ...now, size: target.size } : now;
  }

  /** What the conditions of grants, and policies, look at. */
  #conditionsOf(caller: Process, row: AnyRow, args: unknown): unknown {
    return row.conditions?.(args, this.#host, caller) ?? args;
  }

  #assertStillMay({ caller, name, row, args }: Omit<Act, "draft">, target: Target): void {
    const { capability } = caller;
    if (capability.isAll) return;
    const conditions = this.#conditionsOf(caller, row, args);
    for (const need of needsOf(row.right, row.alsoNeeds?.(args, caller, target) ?? [], target))
      assertStill(this.#host, caller, name, need, conditions);
  }

  #draft({ caller, name, row, args, target }: Omit<Act, "draft">): AuditDraft {
    const { pid } = caller;
    const { user } = caller.identity;
    if (row.audit === "place") {
      const { place } = args as { readonly place?: string };
      return this.#host.audit.draft({ pid, user, call: name, ...(place === undefined ? {} : { on: place }) });
    }
    const { right, audited } = row;
    const { resource, second } = target;
    const shown = shorten(audited === undefined ? args : audited(args), (one) => this.#host.vault.maskText(one));
    const to = second === undefined ? {} : { to: second.resource };
    return this.#host.audit.draft({ pid, user, call: name, payload: { right, resource, args: { ...shown, ...to } } });
  }

  /** A path that does not resolve says why only to those who may stat it; unless a resolver knows it. */
  async #unresolved(caller: Process, name: SyscallName, row: AnyRow, args: unknown, error: unknown): Promise<unknown> {
    const { path, from } = args as { path?: unknown; from?: unknown };
    const at = path ?? from;
    if (typeof at !== "string" || !isKernelError(error) || error.code === "EINVAL" || error.code === "ENAMETOOLONG")
      throw error;
    const resource = toPath(at);
    const line =
      error.code === "ENOENT" && this.#host.hooks.hears(name)
        ? this.#host.hooks.lineOf(hookCallOf(caller, name, row, { resource }))
        : undefined;
    if (line?.resolves === true) {
      await assertMay(this.#host, caller, name, { right: row.right, resource }, args);
      const claimed = await line.resolve(ownCopy(args));
      assertLives(caller, name, row);
      if (claimed !== undefined) {
        if (row.kind === "mutation") this.#draft({ caller, name, row, args, target: { resource } }).done();
        await line.post(claimed.result);
        line.observe({ ok: true, result: claimed.result });
        return claimed.result;
      }
    }
    if (isFree(this.#host, caller)) throw error;
    // As of what is there, so that a refusal does not tell whether it is; nobody is asked about what is not.
    if (caller.capability.decide(row.right, resource, args, true).effect === "deny")
      await assertMay(this.#host, caller, name, { right: row.right, resource }, args);
    await assertMay(this.#host, caller, name, { right: "fs.stat", resource }, args);
    throw error;
  }

  /** Tells of a denial, and makes the error. */
  #deny(admission: Admission): (need: Need, explanation: Explanation) => KernelError {
    return (need, explanation) => {
      const { caller } = admission;
      const name = admission.name as SyscallName;
      tellDenial(this.#host, caller, name, need);
      return denialOf(admission, need, explanation);
    };
  }

  /** A call that hooks look at (H1-H6). */
  async #hooked(line: HookLine, act: Act): Promise<unknown> {
    const { name, row, target } = act;
    try {
      const result = await this.#resolved(line, act);
      const shown = row.isStream === true ? undefined : result;
      await line.post(shown);
      line.observe({ ok: true, result: shown });
      return result;
    } catch (error) {
      line.observe({ ok: false, error: toKernelError(error, "EFAILED", { syscall: name, path: target.resource }) });
      throw error;
    }
  }

  async #resolved(line: HookLine, act: Act): Promise<unknown> {
    const { caller, name, row, target, draft } = act;
    // What hooks look at is what is done: nobody changes it meanwhile.
    const args = line.isAhead ? ownCopy(act.args) : act.args;
    let given: Awaited<ReturnType<HookLine["pre"]>>;
    // Who gets another program waits for this, too.
    caller.begun();
    try {
      const claimed = await line.resolve(args);
      if (claimed !== undefined) return claimed.result;
      given = await line.pre(args, (other, by) => this.#replaced({ ...act, args }, other, by));
    } finally {
      caller.over();
    }
    assertLives(caller, name, row);
    if (given.changedBy.length > 0) draft?.add({ changedBy: given.changedBy });
    const now = await this.#again({ caller, name, row, args: given.args, target }, true);
    const result = await this.#handled({ ...act, args: given.args, target: now });
    return row.isStream === true ? this.#looked(result, { ...act, args: given.args, target: now }) : result;
  }

  /**
   * Arguments that a hook gives in the place of others (H3).
   * @throws {EPERM} they are about something else, or need other rights · {EINVAL} they do not fit the call
   */
  async #replaced({ caller, name, row, args, target }: Act, given: unknown, by: string): Promise<unknown> {
    if (typeof given !== "object" || given === null)
      throw new KernelError(
        "EINVAL",
        `hook ${by} gave ${given === null ? "null" : typeof given} for the arguments of ${name}`,
        {
          syscall: name,
          pid: caller.pid,
          path: target.resource,
        },
      );
    assertValid(row.schema, withoutSignal(row, given, name), `what hook ${by} made of the arguments of ${name}`);
    const next = withMarksOf(args, given);
    const conditions = (of: unknown): unknown => this.#conditionsOf(caller, row, of);
    const about = row.target === undefined ? caller.self : await row.target(this.#host, caller, next);
    const aim = (one: Target, of: unknown): string =>
      JSON.stringify([
        one.resource,
        one.second?.resource,
        needsOf(row.right, row.alsoNeeds?.(of, caller, one) ?? [], one),
        (of as AtPlace).place,
      ]);
    const { capability } = caller;
    // Grants may bound the arguments.
    const isAllowed =
      capability.isAll ||
      needsOf(row.right, row.alsoNeeds?.(next, caller, about) ?? [], about).every(
        ({ right, resource }) =>
          capability.decide(right, resource, conditions(next)).effect ===
          capability.decide(right, resource, conditions(args)).effect,
      );
    if (isAllowed && aim(about, next) === aim(target, args)) return next;
    throw new KernelError(
      "EPERM",
      `hook ${by} may change the payload of ${name}, not what it is about (${target.resource}), which rights it needs, or what their grants say of it`,
      { syscall: name, pid: caller.pid, path: target.resource },
    );
  }
}

const hookCallOf = (caller: Process, name: SyscallName, { right }: AnyRow, { resource, second }: Target): HookCall => ({
  name,
  pid: caller.pid,
  runId: caller.identity.runId,
  user: caller.identity.user,
  right,
  resource,
  ...(second === undefined ? {} : { second: second.resource }),
});

/** The row that acting on a virtual file stands for. */
function rowOf(name: SyscallName, node: VirtualNode, args: unknown): RowCall | undefined {
  if (name === "exec" && node.exec !== undefined) return node.exec.call((args as { input?: unknown }).input);
  if ((name === "write" || name === "append") && node.write !== undefined)
    return node.write((args as { bytes: Uint8Array }).bytes);
  return undefined;
}

/**
 * A process whose end has begun does nothing more: its accounts are being closed.
 * @throws {ESRCH}
 */
function assertLives(caller: Process, name: SyscallName, row: AnyRow): void {
  if (!caller.isAlive || (caller.isEnding && row.kind === "mutation" && name !== "exit")) throw hasEnded(caller, name);
}

const wasClosed = (name: string, cause?: unknown): KernelError =>
  new KernelError("ECONNRESET", "the host was closed; connect again", {
    syscall: name,
    ...(cause === undefined ? {} : { cause, mayHaveActed: true }),
  });
