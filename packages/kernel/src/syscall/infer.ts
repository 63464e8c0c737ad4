// A model call: estimate, reserve, ask, settle, each recorded so that nothing is paid twice.

import type { Receipt } from "../abi/metastore.ts";
import type { InferRequest, Model, ModelCall, ModelMessage, ModelRequest, ModelResponse } from "../abi/model.ts";
import { linkSignal } from "../base/abort.ts";
import { KernelError, describe, isKernelError, toErrorRecord, toKernelError } from "../base/errno.ts";
import { utf8Length } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Reservation } from "../budget/account.ts";
import type { Called } from "../budget/ledger.ts";
import { type Amounts, tokenAmounts } from "../budget/resource.ts";
import type { Rider } from "../ipc/committer.ts";
import type { Intent } from "../journal/journal.ts";
import type { CallUsage } from "../journal/record.ts";
import type { Process } from "../proc/process.ts";
import { rankOf, tierOf } from "../proc/role.ts";
import type { Host } from "./host.ts";
import { mayGoOn, obstacleTo } from "./policy.ts";
import { toolOf } from "./tool-call.ts";
import {
  type Held,
  begin,
  charged,
  lose,
  passRates,
  repeated,
  reserve,
  usageAppend,
  warn,
  withinTime,
} from "./spend.ts";

export interface InferCall {
  readonly place: string;
  readonly request: InferRequest;
  readonly signal?: AbortSignal;
  /** What to do when the host died during the call: `fail` (default) is EUNKNOWN, `repeat` may pay twice. */
  readonly onUnknown?: "fail" | "repeat";
  /** Hears a fresh answer as it comes; a recorded one comes at once, without it. */
  readonly onText?: (piece: string) => void;
}

export async function infer(
  host: Host,
  caller: Process,
  call: InferCall,
  name: string,
  rider?: Rider,
): Promise<ModelResponse> {
  const { place } = call;
  const { maxOutputTokens } = call.request;
  if (maxOutputTokens !== undefined && (!Number.isSafeInteger(maxOutputTokens) || maxOutputTokens < 1)) {
    throw new KernelError("EINVAL", `maxOutputTokens must be a whole number of at least 1, found ${maxOutputTokens}`, {
      syscall: "infer",
      pid: caller.pid,
    });
  }
  const model = modelOf(host, caller, name);
  const { journal } = caller;
  const before = journal === undefined ? undefined : await journal.begin(place, "infer");
  // Recorded below, by this function.
  if (before !== undefined) return caller.replay(before) as ModelResponse;
  const { downgrade = [], onLimit } = caller.limits ?? {};
  const isFixed = onLimit !== "downgrade" || downgrade.length === 0;
  // Nothing is left standing around a call that waits: a host may have very many of them.
  const answer = isFixed
    ? askModel(host, caller, call, model, rider)
    : askOneOf(host, caller, call, [name, ...downgrade], rider);
  if (journal !== undefined) answer.catch(() => journal.retract(place));
  return answer;
}

/**
 * Describes the tools that a request offers by their names.
 * @throws {ENOENT} there is no such tool · {EINVAL} a message tells of a call that was never asked for
 */
function toModelRequest(host: Host, caller: Process, request: InferRequest): ModelRequest {
  assertAsked(request.messages, caller);
  if (isDescribed(request)) return request;
  const tools = request.tools?.map((tool) => {
    if (typeof tool !== "string") return tool;
    const { name, description, inputSchema } = toolOf(host, caller, "infer", tool);
    return { name, description, inputSchema };
  });
  return { ...request, tools: tools ?? [] };
}

const isDescribed = (request: InferRequest): request is ModelRequest =>
  request.tools?.every((tool) => typeof tool !== "string") !== false;

function assertAsked(messages: readonly ModelMessage[], caller: Process): void {
  let asked: Set<string> | undefined;
  for (const [at, message] of messages.entries()) {
    if (message.role === "assistant" && message.toolCalls !== undefined) {
      asked ??= new Set();
      for (const { id } of message.toolCalls) asked.add(id);
    }
    if (message.role === "tool" && asked?.has(message.callId) !== true)
      throw new KernelError(
        "EINVAL",
        `messages[${at}] tells what came of the call ${JSON.stringify(message.callId)}, which no message before it has asked for; keep the answer of the model with its toolCalls before it`,
        { syscall: "infer", pid: caller.pid },
      );
  }
}

/** Asks the first model that the budget holds. */
async function askOneOf(
  host: Host,
  caller: Process,
  call: InferCall,
  names: readonly string[],
  rider: Rider | undefined,
): Promise<ModelResponse> {
  for (const [at, candidate] of names.entries()) {
    // A model that the process may not use is no way down.
    const need = { right: "model.infer", resource: candidate };
    if (at > 0 && (await obstacleTo(host, caller, "infer", need, call.request)) !== undefined) continue;
    const found = host.models.get(candidate);
    if (at > 0 && found !== undefined && !isWithinTier(host, caller, found)) continue;
    try {
      return await askModel(host, caller, call, modelOf(host, caller, candidate), rider);
    } catch (error) {
      if (at === names.length - 1 || !isKernelError(error) || error.code !== "EDQUOT") throw error;
    }
  }
  throw new KernelError("EDQUOT", `the budget of process ${caller.pid} holds none of ${names.join(", ")}`, {
    syscall: "infer",
    pid: caller.pid,
  });
}

const isWithinTier = (host: Host, caller: Process, model: Model): boolean =>
  rankOf(host.prices.tierOf(model) ?? "operational") >= rankOf(tierOf(caller.identity));

/** @throws {ENODEV} this host has no such model */
function modelOf(host: Host, caller: Process, name: string): Model {
  const model = host.models.get(name);
  if (model !== undefined) return model;
  const known = host.models.names.join(", ") || "none";
  throw new KernelError(
    "ENODEV",
    `no model ${JSON.stringify(name)}; this host has: ${known}. A model of a provider is named provider/model and needs the key of its provider in the environment, as OPENAI_API_KEY`,
    { path: `/dev/model/${name}`, pid: caller.pid },
  );
}

async function askModel(
  host: Host,
  caller: Process,
  call: InferCall,
  model: Model,
  rider: Rider | undefined,
): Promise<ModelResponse> {
  const { place } = call;
  const request = toModelRequest(host, caller, call.request);
  const { name } = model;
  const { journal } = caller;
  if (!isWithinTier(host, caller, model))
    throw new KernelError(
      "EACCES",
      `process ${caller.pid} (${caller.identity.name}) is ${tierOf(caller.identity)} and may not ask ${name}, which is ${host.prices.tierOf(model) ?? ""}; name a model of its tier, or start it with a higher one`,
      { syscall: "infer", path: `/dev/model/${name}`, pid: caller.pid },
    );
  const signal = caller.signalWith(call.signal);
  // The request is part of the key: after a change of the program the same place is another call. Made when
  // it is needed: a call that stays in this host and leaves no record has no use for one.
  let made: string | undefined;
  const keyOf = (): string =>
    (made ??= `${host.id}/${caller.identity.runId}/${place}#${host.platform.hash(JSON.stringify([name, request])).slice(0, 16)}`);
  const prior = journal?.intentAt(place, keyOf);
  if (prior !== undefined && model.effect === "once" && call.onUnknown !== "repeat") {
    throw new KernelError(
      "EUNKNOWN",
      `the call of ${name} at ${place} was cut off with its host or its process; it may have been paid for. Look, then resume a failed run to call again, or kill it`,
      { pid: caller.pid },
    );
  }
  const bound = upperBound(host, caller, model, request);
  const leave = await begin(caller, signal, call);
  let held: Held | undefined;
  // Whoever has answered is paid, whatever becomes of the answer.
  let hasAnswered = false;
  let wasAsked = false;
  let isTried = false;
  let ask: ModelAsk | undefined;
  let heard: Hearers | undefined;
  let ownLimit: AbortSignal | undefined;
  const device = `model ${name}`;
  try {
    if (caller.limits?.rates !== undefined)
      await passRates(host, caller, { model: name, tokens: bound.tokens ?? 0, signal });
    host.breakers.assertClosed(device, caller.pid);
    held = await hold(host, caller, model, { place, keyOf, prior, bound, signal, rider });
    const reservation = held?.reservation;
    const need = { right: "model.infer", resource: name };
    await mayGoOn(host, caller, "infer", need, { args: request, signal });
    // An intent was flushed with everything before it; a call without one that leaves the host waits itself.
    if (model.effect !== "pure" && journal === undefined) await host.store.flush();
    const wait = caller.waitFor(device);
    const started = host.platform.clock.monotonic();
    try {
      // What was reserved is what the model may use: an answer is cut there, never charged beyond.
      const isBudgeted = Object.keys(reservation?.carriers ?? {}).length > 0;
      const bounded = isBudgeted ? { ...request, maxOutputTokens: boundOf(request) } : request;
      wasAsked = model.effect !== "pure";
      isTried = true;
      const response = await withinTime(host, caller, device, signal, (limited) => {
        // It may have waited for long: who listens now is told.
        heard = hearersOf(host, caller, call, name);
        ask = new ModelAsk(limited, caller.usage.modelCalls >= MANY_CALLS, keyOf, heard?.onText);
        ownLimit = limited;
        return model.infer(bounded, ask);
      });
      hasAnswered = true;
      host.breakers.succeeded(device, caller.pid);
      await settle(host, caller, place, model, reservation, response, host.platform.clock.monotonic() - started, rider);
      return response;
    } finally {
      ask?.end();
      heard?.end();
      caller.stopWaiting(wait);
    }
  } catch (error) {
    // A time that the caller has set is its own affair.
    if (isTried && !hasAnswered && !signal.aborted && ownLimit?.aborted !== true)
      host.breakers.failed(device, caller.pid, error);
    const isUnknown = wasAsked && (signal.aborted || (isKernelError(error) && error.mayHaveActed));
    const reservation = held?.reservation;
    // What is still reserved when the process ends counts as spent (B4).
    const isSpent = isUnknown || !caller.isAlive || caller.isEnding;
    if (reservation !== undefined && !hasAnswered) {
      if (isSpent) await lose(host, caller, place, { reservation, of: calledOf(host, model) }, error);
      else await giveBack(host, caller, place, reservation, error);
    }
    throw toKernelError(error, "EIO", { syscall: "infer", path: `/dev/model/${name}`, pid: caller.pid });
  } finally {
    held?.end();
    leave();
    caller.over();
  }
}

interface Hearers {
  readonly onText: (piece: string) => void;
  /** No more of it comes. */
  end(): void;
}

/** Who hears an answer as it comes: the caller, and those who have asked for the event of it by then. */
function hearersOf(host: Host, caller: Process, { place, onText }: InferCall, model: string): Hearers | undefined {
  const own = onText === undefined ? undefined : listening(host, caller, onText);
  if (!host.bus.isNamed("model.text")) return own === undefined ? undefined : { onText: own, end: () => undefined };
  const mask = host.vault.maskPieces();
  const named = host.vault.maskData({ place, model });
  let index = 0;
  let isOver = false;
  const tell = (text: string, isLast: boolean): void => {
    // A driver that was given up may go on.
    if (isOver) return;
    isOver = isLast;
    const data = { ...named, index, text, isLast };
    index++;
    host.bus.publishNamed({ name: "model.text", pid: caller.pid, data });
  };
  return {
    onText: (piece) => {
      own?.(piece);
      const text = mask(piece);
      if (text !== "") tell(text, false);
    },
    end: () => tell(mask("", true), true),
  };
}

/** Who hears an answer as it comes. That it fails stands in its log: the answer, which is paid for, comes to its end. */
function listening(host: Host, caller: Process, onText: (piece: string) => void): (piece: string) => void {
  let hasFailed = false;
  const failed = (why: unknown): void => {
    if (hasFailed) return;
    hasFailed = true;
    const text = `the onText of a model call failed: ${describe(why)}`;
    const line = { level: "error", text } as const;
    void caller.journal?.note({ t: "log", at: host.committer.now(), ...line }).catch(() => undefined);
    host.bus.publish({ name: "process.log", pid: caller.pid, data: line });
  };
  return (piece) => {
    if (hasFailed) return;
    try {
      // It may be an async function.
      const heard: unknown = onText(piece);
      if (heard instanceof Promise) heard.catch(failed);
    } catch (error) {
      failed(error);
    }
  };
}

/** Calls of a process after which each has a signal of its own. */
const MANY_CALLS = 32;

interface Holding {
  readonly place: string;
  readonly keyOf: () => string;
  readonly prior: Intent | undefined;
  readonly bound: Amounts;
  readonly signal: AbortSignal;
  readonly rider: Rider | undefined;
}

/** What a call may use: reserved now, or by an earlier life that did not come to its end. */
async function hold(
  host: Host,
  caller: Process,
  model: Model,
  { place, keyOf, prior, bound, signal, rider }: Holding,
): Promise<Held | undefined> {
  // A call that may be paid for twice is reserved for twice; what the first had reserved stays spent (B4).
  if (prior !== undefined && model.effect !== "once") {
    caller.journal?.takeIntent(place, prior);
    return { reservation: prior.reservation, end: host.accounts.begin(prior.reservation).end };
  }
  if (prior !== undefined) await lose(host, caller, place, prior, repeated());
  return reserveCall(host, caller, place, keyOf, model, bound, signal, rider);
}

/** What a driver is told beside the request; its key is made when it asks for it. */
class ModelAsk implements ModelCall {
  readonly #given: AbortSignal;
  readonly #isOneOfMany: boolean;
  #own: { readonly signal: AbortSignal; readonly unlink: () => void } | undefined;
  readonly #keyOf: () => string;
  declare readonly onText?: (piece: string) => void;

  constructor(
    signal: AbortSignal,
    isOneOfMany: boolean,
    keyOf: () => string,
    onText: ((piece: string) => void) | undefined,
  ) {
    this.#given = signal;
    this.#isOneOfMany = isOneOfMany;
    this.#keyOf = keyOf;
    if (onText !== undefined) this.onText = onText;
  }

  /**
   * What a driver hangs on it and leaves there goes with the call, for callers of many: they have a signal for each,
   * made when it is asked for. Others have their process's, which ends before that is much.
   */
  get signal(): AbortSignal {
    if (!this.#isOneOfMany) return this.#given;
    if (this.#own === undefined) {
      const controller = new AbortController();
      this.#own = { signal: controller.signal, unlink: linkSignal(this.#given, controller) };
    }
    return this.#own.signal;
  }

  get idempotencyKey(): string {
    return this.#keyOf();
  }

  end(): void {
    this.#own?.unlink();
  }
}

const boundOf = (request: ModelRequest): number => request.maxOutputTokens ?? LIMITS.defaultOutputTokensMax;

/**
 * A true upper bound: a token is at least one byte of UTF-8, and output is clamped by the request.
 * @throws {E2BIG} the request is larger than the process's context
 */
function upperBound(host: Host, caller: Process, model: Model, request: ModelRequest): Amounts {
  let units = 0;
  for (const message of request.messages) units += wordsOf(message).length + 8;
  if (hasForm(request)) units += formOf(request).length + 64;
  // Three bytes hold any UTF-16 unit.
  const tokensIn = units * 3;
  const tokensOut = boundOf(request);
  const context = caller.limits?.contextTokens;
  if (context !== undefined) assertContext(request, context, caller);
  const costMicros = host.prices.costOf(model, tokensIn, tokensOut);
  if (costMicros === undefined && host.accounts.carrierOf(caller.account, "costMicros") !== undefined) {
    throw new KernelError(
      "EDQUOT",
      `no price is known for ${model.name}, so a budget of money cannot hold it; install @pydantic/genai-prices beside ergos, give its price in prices.json of the data directory, or limit tokens instead`,
      { syscall: "infer", pid: caller.pid, path: `/dev/model/${model.name}` },
    );
  }
  return {
    ...tokenAmounts(tokensIn, tokensOut, host.prices.tierOf(model)),
    ...(costMicros === undefined ? {} : { costMicros }),
    modelCalls: 1,
  };
}

/** Tokens of a request as they are estimated: about four bytes each. */
function assertContext(request: ModelRequest, max: number, caller: Process): void {
  let bytes = 0;
  for (const message of request.messages) bytes += utf8Length(wordsOf(message));
  if (hasForm(request)) bytes += utf8Length(formOf(request));
  const tokens = Math.ceil(bytes / 4);
  if (tokens <= max) return;
  throw new KernelError(
    "E2BIG",
    `the request has about ${tokens} tokens; process ${caller.pid} has a context of ${max}. Send less, or raise contextTokens`,
    { syscall: "infer", pid: caller.pid },
  );
}

/** All that a message says. */
function wordsOf(message: ModelMessage): string {
  const { role, content } = message;
  if (role === "tool") return content + message.callId;
  return role === "assistant" && message.toolCalls !== undefined
    ? content + JSON.stringify(message.toolCalls)
    : content;
}

/** A schema, and what tools there are, is sent along and counts. */
const hasForm = ({ responseSchema, tools }: ModelRequest): boolean =>
  responseSchema !== undefined || tools !== undefined;
const formOf = ({ responseSchema, tools }: ModelRequest): string => JSON.stringify([responseSchema, tools]);

/** As the ledger names it. */
const calledOf = (host: Host, model: Model): Called => ({
  model: model.name,
  tier: host.prices.tierOf(model) ?? "operational",
});

/** Reserves and, where the call has an effect or spends a budget, records the intent (journal, J3). */
async function reserveCall(
  host: Host,
  caller: Process,
  place: string,
  keyOf: () => string,
  model: Model,
  amounts: Amounts,
  signal: AbortSignal,
  rider: Rider | undefined,
): Promise<Held | undefined> {
  const { journal } = caller;
  if (caller.account === undefined && model.effect === "pure") return undefined;
  return reserve(host, caller, {
    syscall: "infer",
    keyOf,
    amounts,
    signal,
    acts: true,
    commit: async (reservation, adds) => {
      const acts = model.effect !== "pure";
      if (adds.length === 0 && !acts) return;
      const intent = { key: keyOf(), reservation, of: calledOf(host, model) };
      if (journal !== undefined) await journal.intend(place, intent, { adds, rider, acts });
      else if (adds.length > 0) await host.committer.commit({ adds }, undefined, rider);
    },
  });
}

async function settle(
  host: Host,
  caller: Process,
  place: string,
  model: Model,
  reservation: Reservation | undefined,
  response: ModelResponse,
  ms: number,
  rider: Rider | undefined,
): Promise<void> {
  const tokensIn = count(response.usage.inputTokens);
  const tokensOut = count(response.usage.outputTokens);
  const tier = host.prices.tierOf(model);
  const costMicros = host.prices.costOf(model, tokensIn, tokensOut);
  const actual: Amounts = {
    ...tokenAmounts(tokensIn, tokensOut, tier),
    ...(costMicros === undefined ? {} : { costMicros }),
    modelCalls: 1,
  };
  const { used, over } = charged(reservation, actual);
  const use: CallUsage = { model: model.name, tokensIn, tokensOut, costMicros: costMicros ?? 0 };
  const adds = reservation === undefined ? [] : host.accounts.settle(reservation, actual);
  const appends = [usageAppend(host, caller, { place, ...calledOf(host, model), used, ...over })];
  let { seq } = host.store;
  let unrecorded: { readonly error: unknown } | undefined;
  if (caller.journal !== undefined) {
    const more = { ms: Math.round(ms), use, adds, appends, rider };
    const { journal } = caller;
    let receipt: Receipt;
    try {
      receipt = await journal.end(place, { value: response }, more).done;
    } catch (error) {
      // An answer that cannot be recorded, as one that is too large, is an outcome all the same.
      unrecorded = { error };
      receipt = await journal.end(place, { error: toErrorRecord(error) }, more).done;
    }
    if (reservation !== undefined) await receipt.flushed;
    ({ seq } = receipt);
  } else if (!caller.isEnding) await host.committer.commit({ adds, appends }, undefined, rider);
  else if (reservation !== undefined)
    await lose(host, caller, place, { reservation, of: calledOf(host, model) }, undefined);
  caller.usage.tokensIn += tokensIn;
  caller.usage.tokensOut += tokensOut;
  caller.usage.costMicros += costMicros ?? 0;
  caller.usage.modelCalls++;
  caller.usage.steps++;
  if (host.bus.hasSubscribers) {
    const data = {
      place,
      model: model.name,
      inputTokens: tokensIn,
      outputTokens: tokensOut,
      costMicros: costMicros ?? 0,
    };
    host.bus.publish({ name: "model.called", pid: caller.pid, data }, seq);
  }
  if (reservation !== undefined) await warn(host, caller, reservation);
  if (unrecorded !== undefined) throw unrecorded.error;
}

async function giveBack(
  host: Host,
  caller: Process,
  place: string,
  reservation: Reservation,
  error: unknown,
): Promise<void> {
  const adds = host.accounts.release(reservation);
  if (caller.journal !== undefined)
    await caller.journal.note({ t: "release", at: host.committer.now(), p: place, error: toErrorRecord(error) }, adds);
  else if (adds.length > 0) await host.committer.commit({ adds });
  host.accounts.freed(reservation);
}

/** A driver may report nonsense; the ledger takes only whole numbers. */
const count = (reported: number): number =>
  Number.isSafeInteger(reported) && reported > 0 ? Math.min(reported, LIMITS.tokensMax) : 0;
