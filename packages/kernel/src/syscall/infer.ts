// A model call: estimate, reserve, ask, settle, each recorded so that nothing is paid twice.

import type { Model, ModelRequest, ModelResponse } from "../abi/model.ts";
import { KernelError, fromErrorRecord, isKernelError, toErrorRecord, toKernelError } from "../base/errno.ts";
import { LIMITS } from "../base/limits.ts";
import { type Amounts, type Reservation, refusedBudget } from "../budget/account.ts";
import type { CallUsage } from "../journal/record.ts";
import type { Process } from "../proc/process.ts";
import type { Host } from "./host.ts";

const MILLION = 1_000_000;

export interface InferCall {
  readonly place: string;
  readonly request: ModelRequest;
  readonly signal?: AbortSignal;
  /** What to do when the host died during the call: `fail` (default) is EUNKNOWN, `repeat` may pay twice. */
  readonly onUnknown?: "fail" | "repeat";
  /** Hears a fresh answer as it comes; a recorded one comes at once, without it. */
  readonly onText?: (piece: string) => void;
}

export async function infer(host: Host, caller: Process, call: InferCall, name: string): Promise<ModelResponse> {
  const { place, request } = call;
  const signal = call.signal ?? caller.signal;
  const model = host.models.get(name);
  if (model === undefined) {
    const known = host.models.names.join(", ") || "none";
    throw new KernelError(
      "ENODEV",
      `no model ${JSON.stringify(name)}; this host has: ${known}. A model of a provider is named provider/model and needs the key of its provider in the environment, as OPENAI_API_KEY`,
      {
        path: `/dev/model/${name}`,
        pid: caller.pid,
      },
    );
  }
  const { maxOutputTokens } = request;
  if (maxOutputTokens !== undefined && (!Number.isSafeInteger(maxOutputTokens) || maxOutputTokens < 1)) {
    throw new KernelError("EINVAL", `maxOutputTokens must be a whole number of at least 1, found ${maxOutputTokens}`, {
      syscall: "infer",
      pid: caller.pid,
    });
  }
  const { journal } = caller;
  const before = journal === undefined ? undefined : await journal.begin(place);
  if (before !== undefined) {
    caller.usage.replayed++;
    if (before.error !== undefined) throw fromErrorRecord(before.error);
    // Recorded below, by this function.
    return before.value as ModelResponse;
  }
  // The request is part of the key: after a change of the program the same place is another call. Made when
  // it is needed: a call that stays in this host and leaves no record has no use for one.
  let made: string | undefined;
  const keyOf = (): string =>
    (made ??= `${host.id}/${caller.identity.runId}/${place}#${host.platform.hash(JSON.stringify([name, request])).slice(0, 16)}`);
  const unanswered = journal?.takeIntent(place);
  const prior = unanswered !== undefined && unanswered.key === keyOf() ? unanswered : undefined;
  if (prior !== undefined && model.effect === "once" && call.onUnknown !== "repeat") {
    throw new KernelError(
      "EUNKNOWN",
      `the host ended during the call of ${name} at ${place}; it may have been paid for. Look, then resume a failed run to call again, or kill it`,
      { pid: caller.pid },
    );
  }
  const reservation = prior?.reservation ?? (await reserve(host, caller, place, keyOf, model, request));
  // An intent was flushed with everything before it; a call without one that leaves the host waits itself.
  if (model.effect !== "pure" && journal === undefined) await host.store.flush();
  const state = caller.state;
  caller.become({ name: "waiting", channel: `model ${name}` });
  const started = host.platform.clock.monotonic();
  try {
    const { onText } = call;
    // What was reserved is what the model may use: an answer is cut there, never charged beyond.
    const isBudgeted = Object.keys(reservation?.carriers ?? {}).length > 0;
    const bounded = isBudgeted ? { ...request, maxOutputTokens: boundOf(request) } : request;
    const response = await model.infer(bounded, {
      signal,
      get idempotencyKey() {
        return keyOf();
      },
      ...(onText === undefined ? {} : { onText }),
    });
    await settle(host, caller, place, model, reservation, response, host.platform.clock.monotonic() - started);
    return response;
  } catch (error) {
    await giveBack(host, caller, place, reservation, error);
    throw toKernelError(error, "EIO", { syscall: "infer", path: `/dev/model/${name}`, pid: caller.pid });
  } finally {
    if (caller.state.name === "waiting") caller.become(state);
  }
}

const boundOf = (request: ModelRequest): number => request.maxOutputTokens ?? LIMITS.defaultOutputTokensMax;

/** A true upper bound: a token is at least one byte of UTF-8, and output is clamped by the request. */
function upperBound(model: Model, request: ModelRequest): Amounts {
  let units = 0;
  for (const message of request.messages) units += message.content.length + 8;
  // A schema is sent along, and counts.
  if (request.responseSchema !== undefined) units += JSON.stringify(request.responseSchema).length + 64;
  // Three bytes hold any UTF-16 unit.
  const tokensIn = units * 3;
  const tokensOut = boundOf(request);
  return { tokensIn, tokensOut, costMicros: costOf(model, tokensIn, tokensOut), modelCalls: 1 };
}

const costOf = (model: Model, tokensIn: number, tokensOut: number): number =>
  Math.ceil((tokensIn * model.price.input + tokensOut * model.price.output) / MILLION);

/** Reserves and, where the call has an effect or spends a budget, records the intent (journal, J3). */
async function reserve(
  host: Host,
  caller: Process,
  place: string,
  keyOf: () => string,
  model: Model,
  request: ModelRequest,
): Promise<Reservation | undefined> {
  const bound = upperBound(model, request);
  const { reservation, adds } = host.accounts.reserve(caller.account, bound);
  if (adds.length === 0 && model.effect === "pure") return undefined;
  try {
    if (caller.journal !== undefined) await caller.journal.intend(place, keyOf(), reservation, adds);
    else if (adds.length > 0) await host.committer.commit({ adds });
    return reservation;
  } catch (error) {
    if (isKernelError(error) && error.code === "EDQUOT") {
      const data = { resource: "model call", wanted: bound.tokensIn ?? 0, allocation: 0, account: caller.pid };
      host.bus.publish({ name: "resource.exceeded", pid: caller.pid, data });
    }
    caller.journal?.retract(place);
    throw refusedBudget(error, "infer", caller.pid);
  }
}

async function settle(
  host: Host,
  caller: Process,
  place: string,
  model: Model,
  reservation: Reservation | undefined,
  response: ModelResponse,
  ms: number,
): Promise<void> {
  const tokensIn = count(response.usage.inputTokens);
  const tokensOut = count(response.usage.outputTokens);
  const costMicros = costOf(model, tokensIn, tokensOut);
  const use: CallUsage = { model: model.name, tokensIn, tokensOut, costMicros };
  const adds =
    reservation === undefined
      ? []
      : host.accounts.settle(reservation, { tokensIn, tokensOut, costMicros, modelCalls: 1 });
  let { seq } = host.store;
  if (caller.journal !== undefined) {
    const receipt = await caller.journal.end(place, { value: response }, { ms: Math.round(ms), use, adds }).done;
    if (reservation !== undefined) await receipt.flushed;
    seq = receipt.seq;
  } else if (adds.length > 0 && !caller.isEnding) await host.committer.commit({ adds });
  caller.usage.tokensIn += tokensIn;
  caller.usage.tokensOut += tokensOut;
  caller.usage.costMicros += costMicros;
  caller.usage.modelCalls++;
  caller.usage.steps++;
  if (host.bus.hasSubscribers) {
    const data = { place, model: model.name, inputTokens: tokensIn, outputTokens: tokensOut, costMicros };
    host.bus.publish({ name: "model.called", pid: caller.pid, data }, seq);
  }
}

async function giveBack(
  host: Host,
  caller: Process,
  place: string,
  reservation: Reservation | undefined,
  error: unknown,
): Promise<void> {
  caller.journal?.retract(place);
  // What is still reserved when the process ends counts as spent (B4).
  if (reservation === undefined || !caller.isAlive || caller.isEnding) return;
  const adds = host.accounts.release(reservation);
  if (caller.journal !== undefined)
    await caller.journal.note({ t: "release", at: host.committer.now(), p: place, error: toErrorRecord(error) }, adds);
  else if (adds.length > 0) await host.committer.commit({ adds });
}

/** A driver may report nonsense; the ledger takes only whole numbers. */
const count = (reported: number): number => (Number.isSafeInteger(reported) && reported > 0 ? reported : 0);
