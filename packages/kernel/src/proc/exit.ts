// The end of a process: how it is checked, what its commit holds, and how it is told.
//
// E1  Journal, result, budget and event are one commit; memory follows, whatever has become of that.
// E2  Who goes into another leaves it its estate in that commit. What nobody can take in ends all the same, as failed.
// E3  A call that it leaves without an outcome is charged in that commit, in the ledger too.

import type { Batch } from "../abi/metastore.ts";
import type { Platform } from "../abi/platform.ts";
import { isKernelError, toErrorRecord } from "../base/errno.ts";
import { PID_OWNER } from "../base/id.ts";
import { encodeJson } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { AccountChange, AccountTree } from "../budget/account.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import type { EventBus, PendingEvent } from "../ipc/event-bus.ts";
import { encodeRecord, journalLog } from "../journal/record.ts";
import { hasAccountMoved } from "./allocation.ts";
import type { Estate } from "./life-cycle.ts";
import { lostCall } from "./lost-call.ts";
import type { Notice } from "./post-office.ts";
import type { ProcessArchive } from "./process-archive.ts";
import { type RecordExtra, encodeProcess, liveKey, processKey } from "./process-record.ts";
import { type Exit, type Process, correlationOf } from "./process.ts";

export interface ExitParts {
  readonly platform: Platform;
  readonly committer: Committer;
  readonly accounts: AccountTree;
  readonly bus: EventBus;
  readonly archive: ProcessArchive;
  /** A message to whom a process belongs, for the commit of its end. */
  readonly notice: (from: Process, kind: "exit" | "escalation", body: unknown) => Notice | undefined;
  /** Memory lets go of it. */
  readonly settle: (process: Process, exit: Exit) => void;
}

/** What is told of an end, and the message with which whom it belongs to hears of it, if that reads any. */
interface EndNotice {
  readonly message: Notice | undefined;
  readonly kind: "exit" | "escalation";
}

/** How a process has ended, and why nobody could take it in that was to go into another. */
interface Ended {
  readonly exit: Exit;
  readonly refused?: unknown;
}

interface EndOptions {
  readonly rider: Rider | undefined;
  readonly tells: "exit" | "escalation" | undefined;
  readonly estate: Estate | undefined;
}

export class Exits {
  readonly #parts: ExitParts;

  constructor(parts: ExitParts) {
    this.#parts = parts;
  }

  /** Ends a process, once. @throws why nobody could take it in that was to go into another: it has ended all the same */
  async end(process: Process, wanted: Exit, { rider, tells, estate }: EndOptions): Promise<void> {
    const { committer, bus, archive, settle } = this.#parts;
    process.ended = committer.now();
    const { exit, json } = checkResult(process, wanted);
    await this.#readPast(process);
    const isSilent = process.journal === undefined && process.account === undefined && estate === undefined;
    const notice = this.#noticeOf(process, exit, tells);
    if (isSilent && notice === undefined && !bus.hasSubscribers) {
      // Nothing to record, to refund or to tell.
      return settle(process, exit);
    }
    let ended: Ended = { exit };
    try {
      const extra = await archive.storeExit(process, exit, json);
      ended = await this.#commit(process, exit, extra, rider, notice, estate);
      notice?.message?.deliver();
    } catch (error) {
      notice?.message?.undo();
      throw error;
    } finally {
      settle(process, ended.exit);
    }
    if (ended.refused !== undefined) throw ended.refused;
  }

  /** What does not run has not read its journal: neither what it used, nor what it left without an outcome. */
  async #readPast(process: Process): Promise<void> {
    const { journal, state } = process;
    if (journal === undefined || (state.name !== "sleeping" && state.name !== "quarantined")) return;
    try {
      const past = await journal.load();
      if (process.usage.steps === 0) Object.assign(process.usage, past.usage, { steps: past.steps });
    } catch (error) {
      // What nobody can read any more is no reason to keep the process for ever.
      if (isKernelError(error) && error.code === "ECORRUPT") return;
      // It has not ended: who asked for it may ask again.
      process.ended = undefined;
      process.ending = undefined;
      throw error;
    }
  }

  /** What is told of an end to whom the process belongs. */
  #noticeOf(process: Process, exit: Exit, tells?: "exit" | "escalation"): EndNotice | undefined {
    const { pid, runId, name, restart } = process.identity;
    const kind = tells ?? (exit.code !== 0 && restart?.policy === "notify" ? "exit" : undefined);
    if (kind === undefined) return undefined;
    const { result: _result, ...rest } = exit;
    return { message: this.#parts.notice(process, kind, { pid, runId, name, ...rest }), kind };
  }

  /** A settlement that came in between is looked at again: the race is lost a bounded number of times. */
  async #commit(
    process: Process,
    exit: Exit,
    extra: RecordExtra,
    rider: Rider | undefined,
    notice: EndNotice | undefined,
    estate: Estate | undefined,
  ): Promise<Ended> {
    const { accounts, platform } = this.#parts;
    const departure = accounts.depart(process.account);
    let [ended, record] = [exit, extra];
    let refused: { readonly error: unknown } | undefined;
    for (let tries = 1; ; tries++) {
      const closing = await accounts.closing(departure);
      let left: Awaited<ReturnType<Estate["leave"]>> | undefined;
      try {
        left = refused === undefined ? await estate?.leave(closing) : undefined;
        await this.#write(process, ended, record, left?.change ?? closing, rider, notice);
        accounts.finish(departure);
        left?.moved();
        return { exit: ended, ...(refused === undefined ? {} : { refused: refused.error }) };
      } catch (error) {
        left?.undo();
        if (hasAccountMoved(error) && tries < LIMITS.casRetriesMax) {
          await new Promise<void>((resolve) => platform.defer(resolve));
          continue;
        }
        if (estate === undefined || refused !== undefined) throw error;
        // Nobody takes it in: it ends all the same, as one that has failed.
        refused = { error };
        ended = { code: 1, error: toErrorRecord(error) };
        record = { exit: ended };
        tries = 0;
      }
    }
  }

  /** What a program that has completed did not wait for: its outcome is lost, and somebody may miss it. */
  #leftBehind({ pid, openSteps }: Process, exit: Exit, at: number): NonNullable<Batch["appends"]> {
    if (exit.code !== 0 || openSteps.length === 0) return [];
    const names = openSteps.slice(0, NAMED_MAX).map((place) => JSON.stringify(place));
    const others = openSteps.length > NAMED_MAX ? ` and ${openSteps.length - NAMED_MAX} others` : "";
    const are = openSteps.length === 1 ? "step is" : "steps are";
    const text = `the program returned while its ${are} under way: ${names.join(", ")}${others}; what becomes of that is not recorded. Await it`;
    const { masker } = this.#parts.committer;
    const line = { t: "log", at, level: "warn", text: masker?.maskText(text) ?? text } as const;
    return [{ log: journalLog(pid), value: encodeRecord(line) }];
  }

  async #write(
    process: Process,
    exit: Exit,
    extra: RecordExtra,
    change: AccountChange,
    rider: Rider | undefined,
    notice: EndNotice | undefined,
  ): Promise<void> {
    const { committer, bus } = this.#parts;
    const { identity, journal } = process;
    const { pid } = identity;
    const { result: _result, ...rest } = exit;
    const at = process.ended ?? 0;
    const data = exitData(process, exit);
    const events: PendingEvent[] = [{ name: exitEvent(exit), pid, data }];
    if (notice?.kind === "escalation")
      events.push({ name: "process.escalated", pid, data: { ...data, to: notice.message?.to ?? PID_OWNER } });
    if (journal !== undefined) {
      const lost = journal.unanswered().flatMap(([place, intent]) => lostCall(identity, at, place, intent));
      await committer.commit(
        {
          checks: change.checks,
          adds: change.adds,
          puts: [
            { key: processKey(pid), value: encodeProcess(process, extra, committer.masker) },
            ...change.puts,
            ...(notice?.message?.puts ?? []),
          ],
          deletes: [liveKey(pid), ...change.deletes],
          appends: [
            ...lost,
            ...this.#leftBehind(process, exit, at),
            { log: journalLog(pid), value: encodeRecord({ t: "exit", at, ...rest }) },
          ],
        },
        events,
        rider,
      );
    } else if (
      notice !== undefined ||
      change.adds.length + change.puts.length + change.deletes.length + change.checks.length > 0
    )
      await committer.commit({ ...change, puts: [...change.puts, ...(notice?.message?.puts ?? [])] }, events, rider);
    else if (bus.hasSubscribers) for (const event of events) bus.publish(event);
  }
}

/** Steps that a warning names. */
const NAMED_MAX = 5;

/** A result that is no JSON fails the process. */
function checkResult(process: Process, exit: Exit): { readonly exit: Exit; readonly json?: string | undefined } {
  if (exit.result === undefined) return { exit };
  try {
    return { exit, json: encodeJson(exit.result, `the result of ${process.identity.name}`) };
  } catch (error) {
    return { exit: { code: 1, error: { correlationId: correlationOf(process.identity), ...toErrorRecord(error) } } };
  }
}

/** The event that tells of an end. */
function exitEvent(exit: Exit): "process.completed" | "process.failed" | "process.cancelled" {
  if (exit.signal !== undefined) return "process.cancelled";
  return exit.error === undefined ? "process.completed" : "process.failed";
}

/** What that event holds. */
function exitData(process: Process, exit: Exit): Readonly<Record<string, unknown>> {
  const { name, program } = process.identity;
  return {
    name,
    program: program.name,
    ...(exit.signal === undefined ? {} : { signal: exit.signal }),
    ...(exit.error === undefined ? {} : { error: exit.error }),
  };
}
