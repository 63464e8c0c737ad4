// A model call: estimate, reserve, ask, settle, each recorded so that nothing is paid twice.

import type { Taken } from "../budget/rate.ts";
import type { InferRequest, Model, ModelCall, ModelMessage, ModelRequest, ModelResponse } from "../abi/model.ts";
import { linkSignal } from "../base/abort.ts";
import { KernelError, describe, isKernelError } from "../base/errno.ts";
import { utf8Length } from "../base/json.ts";
import type { Seq } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { Reservation } from "../budget/account.ts";
import type { Called } from "../budget/ledger.ts";
import { type Amounts, tokenAmounts } from "../budget/resource.ts";
import type { Rider } from "../ipc/committer.ts";
import type { CallUsage } from "../journal/record.ts";
import type { Process } from "../proc/process.ts";
import { rankOf, tierOf } from "../proc/role.ts";
import type { Host } from "./host.ts";
import { mayGoOn, obstacleTo } from "./policy.ts";
import { toolOf } from "./tool-call.ts";
import { CallOf, type PaidCall, pay } from "./paid-call.ts";
import { taken } from "./placed.ts";
import { stepAround } from "./row.ts";
import { passRates } from "./spend.ts";

export interface InferCall {
  readonly place: string;
  readonly request: InferRequest;
  readonly signal?: AbortSignal;
  /** What to do when the host died during the call: `fail` (default) is EUNKNOWN, `repeat` may pay twice. */
  readonly onUnknown?: "fail" | "repeat";
  /** Hears a fresh answer as it comes; a recorded one comes at once, without it. */
  readonly onText?: (piece: string) => void;
}

export function infer(
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
  const { downgrade = [], onLimit } = caller.limits ?? {};
  const isFixed = onLimit !== "downgrade" || downgrade.length === 0;
  return taken(caller, "infer", place, () =>
    isFixed ? askModel(host, caller, call, model, rider) : askOneOf(host, caller, call, [name, ...downgrade], rider),
  );
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

function askModel(
  host: Host,
  caller: Process,
  call: InferCall,
  model: Model,
  rider: Rider | undefined,
): Promise<ModelResponse> {
  const request = toModelRequest(host, caller, call.request);
  if (!isWithinTier(host, caller, model))
    throw new KernelError(
      "EACCES",
      `process ${caller.pid} (${caller.identity.name}) is ${tierOf(caller.identity)} and may not ask ${model.name}, which is ${host.prices.tierOf(model) ?? ""}; name a model of its tier, or start it with a higher one`,
      { syscall: "infer", path: `/dev/model/${model.name}`, pid: caller.pid },
    );
  return pay(host, caller, new Inference(host, caller, call, { model, request, rider }));
}

/** Calls of a process after which each has a signal of its own. */
const MANY_CALLS = 32;

class Inference extends CallOf<InferCall> implements PaidCall<ModelResponse> {
  readonly syscall = "infer";
  readonly amounts: Amounts;
  readonly #model: Model;
  readonly #request: ModelRequest;
  #key: string | undefined;
  #ask: ModelAsk | undefined;
  #heard: Hearers | undefined;

  constructor(
    host: Host,
    caller: Process,
    call: InferCall,
    {
      model,
      request,
      rider,
    }: { readonly model: Model; readonly request: ModelRequest; readonly rider: Rider | undefined },
  ) {
    super(host, caller, call, rider);
    this.#model = model;
    this.#request = request;
    this.amounts = upperBound(host, caller, model, request);
  }

  get what(): string {
    return `model ${this.#model.name}`;
  }

  get of(): Called {
    return { model: this.#model.name, tier: this.host.prices.tierOf(this.#model) ?? "operational" };
  }

  get effect(): Model["effect"] {
    return this.#model.effect;
  }

  get fails(): PaidCall<ModelResponse>["fails"] {
    return { code: "EIO", path: `/dev/model/${this.#model.name}` };
  }

  /** Made when it is needed: a call that stays in this host and leaves no record has no use for one. */
  get key(): string {
    return (this.#key ??= this.keyOf([this.#model.name, this.#request]));
  }

  ready(): undefined | Promise<Taken | undefined> {
    const { limits, pid } = this.caller;
    const { breakers } = this.host;
    if (limits?.rates === undefined) {
      breakers.assertClosed(this.what, pid);
      return undefined;
    }
    const rated = {
      model: this.#model.name,
      tokens: this.amounts.tokens ?? 0,
      signal: this.signal,
      within: stepAround(this.given),
    };
    return passRates(this.host, this.caller, rated).then((taken) => {
      try {
        breakers.assertClosed(this.what, pid);
        return taken;
      } catch (error) {
        taken?.over(false);
        throw error;
      }
    });
  }

  assertMay(): Promise<void> {
    const need = { right: "model.infer", resource: this.#model.name };
    return mayGoOn(this.host, this.caller, "infer", need, { args: this.#request, signal: this.signal });
  }

  act(signal: AbortSignal, reservation: Reservation | undefined): ModelResponse | Promise<ModelResponse> {
    // What was reserved is what the model may use: an answer is cut there, never charged beyond.
    const isBudgeted = Object.keys(reservation?.carriers ?? {}).length > 0;
    const bounded = isBudgeted ? { ...this.#request, maxOutputTokens: boundOf(this.#request) } : this.#request;
    // It may have waited for long: who listens now is told.
    this.#heard = hearersOf(this.host, this.caller, this.given, this.#model.name);
    const isOneOfMany = this.caller.usage.modelCalls >= MANY_CALLS;
    this.#ask = new ModelAsk(signal, isOneOfMany, this, this.#heard?.onText);
    return this.#model.infer(bounded, this.#ask);
  }

  answered(): void {
    this.host.breakers.succeeded(this.what, this.caller.pid);
  }

  /** A time that the caller has set is its own affair. */
  failed(error: unknown): void {
    if (this.#ask?.isGivenUp === false) this.host.breakers.failed(this.what, this.caller.pid, error);
  }

  used(response: ModelResponse): Amounts {
    const { tokensIn, tokensOut, costMicros } = this.#tokensOf(response);
    return {
      ...tokenAmounts(tokensIn, tokensOut, this.host.prices.tierOf(this.#model)),
      ...(costMicros === undefined ? {} : { costMicros }),
      modelCalls: 1,
    };
  }

  use(response: ModelResponse): CallUsage {
    const { tokensIn, tokensOut, costMicros = 0 } = this.#tokensOf(response);
    return { model: this.#model.name, tokensIn, tokensOut, costMicros };
  }

  #tokensOf({ usage }: ModelResponse): { tokensIn: number; tokensOut: number; costMicros: number | undefined } {
    const tokensIn = count(usage.inputTokens);
    const tokensOut = count(usage.outputTokens);
    return { tokensIn, tokensOut, costMicros: this.host.prices.costOf(this.#model, tokensIn, tokensOut) };
  }

  settled(response: ModelResponse, seq: Seq): void {
    const { bus } = this.host;
    const { usage, pid } = this.caller;
    const { tokensIn, tokensOut, costMicros = 0 } = this.#tokensOf(response);
    usage.tokensIn += tokensIn;
    usage.tokensOut += tokensOut;
    usage.costMicros += costMicros;
    usage.modelCalls++;
    if (!bus.hasSubscribers) return;
    const { place } = this.given;
    const data = { place, model: this.#model.name, inputTokens: tokensIn, outputTokens: tokensOut, costMicros };
    bus.publish({ name: "model.called", pid, data }, seq);
  }

  over(): void {
    this.#ask?.end();
    this.#heard?.end();
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

/** What a driver is told beside the request; its key is made when it asks for it. */
class ModelAsk implements ModelCall {
  readonly #given: AbortSignal;
  readonly #isOneOfMany: boolean;
  #own: { readonly signal: AbortSignal; readonly unlink: () => void } | undefined;
  readonly #call: { readonly key: string };
  declare readonly onText?: (piece: string) => void;

  constructor(
    signal: AbortSignal,
    isOneOfMany: boolean,
    call: { readonly key: string },
    onText: ((piece: string) => void) | undefined,
  ) {
    this.#given = signal;
    this.#isOneOfMany = isOneOfMany;
    this.#call = call;
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
    return this.#call.key;
  }

  get isGivenUp(): boolean {
    return this.#given.aborted;
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

/** A driver may report nonsense; the ledger takes only whole numbers. */
const count = (reported: number): number =>
  Number.isSafeInteger(reported) && reported > 0 ? Math.min(reported, LIMITS.tokensMax) : 0;
