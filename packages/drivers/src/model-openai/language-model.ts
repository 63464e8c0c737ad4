// Any model that speaks the `LanguageModelV4` interface of `@ai-sdk/provider`, as a device of the kernel.

import {
  type ErrorDetails,
  type Errno,
  KernelError,
  LIMITS,
  type Model,
  type ModelRequest,
  type ModelResponse,
  type ModelToolCall,
  isKernelError,
} from "@ergos/kernel";
import {
  type PromptMessage,
  type ToolCallPart,
  type ToolChoice,
  ToolNames,
  toPromptMessage,
  toToolCall,
  toToolChoice,
} from "./prompt.ts";

/** Part of an answer as it comes. Of its kinds these matter: `text-delta`, `tool-call`, `error`, `finish`. */
interface StreamPart {
  readonly type: string;
}

/** What is needed of a `LanguageModelV4`; said here, so that this package's types need no other's. */
export interface StreamingModel {
  doStream(options: CallOptions): PromiseLike<{
    readonly stream: AsyncIterable<StreamPart>;
    readonly response?: { readonly headers?: Readonly<Record<string, string>> };
  }>;
}

interface CallOptions {
  prompt: PromptMessage[];
  abortSignal: AbortSignal;
  maxOutputTokens?: number;
  temperature?: number;
  topP?: number;
  stopSequences?: string[];
  seed?: number;
  responseFormat?: { type: "json"; name: string; schema: object };
  tools?: { type: "function"; name: string; description: string; inputSchema: object }[];
  toolChoice?: ToolChoice;
  providerOptions?: ProviderOptions;
}

type ProviderOptions = Record<string, Record<string, string | number | boolean | null>>;

/** The last part: why the answer ended, and what it used as far as the server told. */
interface Finish extends StreamPart {
  readonly finishReason: { readonly unified: string };
  readonly usage: {
    readonly inputTokens: { readonly total?: number | undefined };
    readonly outputTokens: { readonly total?: number | undefined };
  };
}

export interface LanguageModelOptions {
  /** Name under `/dev/model`, as `provider/model`. */
  readonly name: string;
  readonly description: string;
  /** What a call does to the world; model providers keep no idempotency keys, so `once` unless given. */
  readonly effect?: Model["effect"];
  /** Dollars per million tokens; absent when nobody knows. */
  readonly price?: Model["price"];
  readonly health?: Model["health"];
  /** Names of the provider's own options, passed on with every request. */
  readonly providerOptions?: ProviderOptions;
}

/** Where a server does not tell its usage, a token is taken for so many characters. */
const CHARACTERS_PER_TOKEN = 4;

/** Makes a device of a language model that is opened when it is first asked; one that could not be is tried again. */
export function toModel(open: () => Promise<StreamingModel>, options: LanguageModelOptions): Model {
  let opened: Promise<StreamingModel> | undefined;
  const opening = (): Promise<StreamingModel> => {
    opened ??= open();
    opened.catch(() => (opened = undefined));
    return opened;
  };
  return {
    name: options.name,
    description: options.description,
    effect: options.effect ?? "once",
    price: options.price,
    health: options.health ?? (() => Promise.resolve({ ok: true, detail: "not asked" })),
    infer: async (request, { signal, onText }) => {
      signal.throwIfAborted();
      const model = await opening();
      let contentType: string | undefined;
      try {
        const names = new ToolNames(request);
        const asked = toCallOptions(request, names, signal, options.providerOptions);
        const { stream, response } = await model.doStream(asked);
        contentType = response?.headers?.["content-type"];
        return await collect(stream, request, names, onText);
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        throw kernelErrorIn(error) ?? toModelError(error, options.name, contentType);
      }
    },
  };
}

function toCallOptions(
  request: ModelRequest,
  names: ToolNames,
  signal: AbortSignal,
  providerOptions: LanguageModelOptions["providerOptions"],
): CallOptions {
  const { maxOutputTokens, temperature, topP, stop, seed, responseSchema, tools, toolChoice } = request;
  return {
    prompt: request.messages.map((message) => toPromptMessage(message, names)),
    abortSignal: signal,
    ...(maxOutputTokens === undefined ? {} : { maxOutputTokens }),
    ...(temperature === undefined ? {} : { temperature }),
    ...(topP === undefined ? {} : { topP }),
    ...(stop === undefined ? {} : { stopSequences: [...stop] }),
    ...(seed === undefined ? {} : { seed }),
    // The subset of JSON Schema that the kernel checks is JSON Schema.
    ...(responseSchema === undefined
      ? {}
      : { responseFormat: { type: "json", name: "answer", schema: responseSchema as object } as const }),
    ...(tools === undefined
      ? {}
      : {
          tools: tools.map(({ name, description, inputSchema }) => ({
            type: "function" as const,
            name: names.sent(name),
            description,
            inputSchema: inputSchema as object,
          })),
        }),
    ...(toolChoice === undefined ? {} : { toolChoice: toToolChoice(toolChoice, names) }),
    ...(providerOptions === undefined ? {} : { providerOptions }),
  };
}

async function collect(
  stream: AsyncIterable<StreamPart>,
  request: ModelRequest,
  names: ToolNames,
  onText: ((piece: string) => void) | undefined,
): Promise<ModelResponse> {
  let text = "";
  let size = 0;
  const grow = (by: number): void => {
    size += by;
    if (size <= LIMITS.outcomeBytesMax) return;
    const why = `the answer has more than ${LIMITS.outcomeBytesMax} characters; it was cut off`;
    throw new KernelError("E2BIG", why, { mayHaveActed: true });
  };
  const toolCalls: ModelToolCall[] = [];
  let end: Finish | undefined;
  for await (const part of stream) {
    // The kinds of parts are those of the interface.
    if (part.type === "text-delta") {
      const { delta } = part as StreamPart & { readonly delta: string };
      grow(delta.length);
      text += delta;
      onText?.(delta);
    } else if (part.type === "tool-input-delta") grow((part as StreamPart & { readonly delta: string }).delta.length);
    else if (part.type === "tool-call") toolCalls.push(toToolCall(part as StreamPart & ToolCallPart, names));
    else if (part.type === "error") throw refusalOf((part as StreamPart & { readonly error: unknown }).error, text);
    else if (part.type === "finish") end = part as Finish;
  }
  // A stream that just stops was cut off: what came before is no answer.
  if (end === undefined || end.finishReason.unified === "error") throw new CutOff();
  const { inputTokens, outputTokens } = end.usage;
  const asked = request.messages.reduce((sum, message) => sum + message.content.length, 0);
  const { unified } = end.finishReason;
  return {
    text,
    ...(toolCalls.length === 0 ? {} : { toolCalls }),
    // Some servers say `stop` of an answer that waits for tools.
    finishReason: toolCalls.length > 0 && unified === "stop" ? "tools" : (FINISH_REASONS[unified] ?? "other"),
    usage: {
      inputTokens: told(inputTokens.total, asked) ?? estimate(asked),
      outputTokens: told(outputTokens.total, size) ?? estimate(size),
    },
  };
}

/** Tokens as a server tells them; of nonsense, and of none for a text, nothing. */
const told = (tokens: unknown, characters: number): number | undefined =>
  typeof tokens === "number" &&
  Number.isSafeInteger(tokens) &&
  tokens >= (characters > 0 ? 1 : 0) &&
  tokens <= LIMITS.tokensMax
    ? tokens
    : undefined;

/** A refusal in the place of an answer, or in the middle of one. */
class StreamRefusal extends Error {
  readonly statusCode: number | undefined;
  readonly mayHaveActed: boolean;

  constructor(error: unknown, statusCode: number | undefined, mayHaveActed: boolean) {
    super(wordsOf(error));
    this.statusCode = statusCode;
    this.mayHaveActed = mayHaveActed;
  }
}

/** What servers call a refusal where they tell no status. */
const REFUSALS: Readonly<Record<string, number>> = {
  insufficient_quota: 402,
  invalid_request_error: 400,
  rate_limit_error: 429,
  rate_limit_exceeded: 429,
  overloaded_error: 503,
  server_error: 500,
  api_error: 500,
};

function refusalOf(error: unknown, text: string): unknown {
  if (error instanceof Error || typeof error !== "object" || error === null) return error;
  const { code, status, type } = error as {
    readonly code?: unknown;
    readonly status?: unknown;
    readonly type?: unknown;
  };
  const number = [status, code].map(Number).find((one) => one >= 400 && one < 600);
  const named = [code, type].map((one) => (typeof one === "string" ? REFUSALS[one] : undefined)).find((one) => one);
  // Before the first word nothing was done that anybody pays for.
  return new StreamRefusal(error, number ?? named, text !== "");
}

const estimate = (characters: number): number => Math.ceil(characters / CHARACTERS_PER_TOKEN);

class CutOff extends Error {
  readonly code = "ERGOS_CUT_OFF";
  constructor() {
    super("the answer ended before it was complete");
  }
}

/** What a status means for whoever asked. */
const STATUS: Readonly<Record<number, Errno>> = {
  400: "EINVAL",
  401: "EACCES",
  402: "EDQUOT",
  403: "EACCES",
  404: "ENODEV",
  408: "ETIMEDOUT",
  409: "EAGAIN",
  413: "E2BIG",
  422: "EINVAL",
  425: "EAGAIN",
  429: "EAGAIN",
  504: "ETIMEDOUT",
};
/** What broke below HTTP, by the codes of Node and undici. */
const NETWORK: Readonly<Record<string, Errno>> = {
  ECONNREFUSED: "ECONNREFUSED",
  ENOTFOUND: "ECONNREFUSED",
  EAI_AGAIN: "ECONNREFUSED",
  EHOSTUNREACH: "ECONNREFUSED",
  ENETUNREACH: "ECONNREFUSED",
  ECONNRESET: "ECONNRESET",
  EPIPE: "ECONNRESET",
  UND_ERR_SOCKET: "ECONNRESET",
  ERGOS_CUT_OFF: "ECONNRESET",
  ETIMEDOUT: "ETIMEDOUT",
  UND_ERR_CONNECT_TIMEOUT: "ETIMEDOUT",
  UND_ERR_HEADERS_TIMEOUT: "ETIMEDOUT",
  UND_ERR_BODY_TIMEOUT: "ETIMEDOUT",
};

/** A connection that was not made because of TLS or a certificate: nothing was sent. */
const NO_TRUST = /^(?:ERR_SSL_|ERR_TLS_|CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|HOSTNAME_MISMATCH|EPROTO$)/;

const FINISH_REASONS: Readonly<Record<string, ModelResponse["finishReason"]>> = {
  stop: "stop",
  length: "length",
  "content-filter": "filter",
  "tool-calls": "tools",
};

/** What a server says of a failure, in the middle of its answer too. */
function wordsOf(error: unknown): string {
  if (error instanceof Error) return error.message;
  if (typeof error === "string") return error;
  const { message, error: inner } = (error ?? {}) as { readonly message?: unknown; readonly error?: unknown };
  return typeof message === "string" ? message : inner === undefined ? "the model failed" : wordsOf(inner);
}

/** Translates what a provider package throws, by its fields and never by its words. */
function toModelError(error: unknown, name: string, contentType: string | undefined): KernelError {
  const path = `/dev/model/${name}`;
  const { statusCode, responseHeaders, data } = fieldsOf(error);
  const why = wordsOf(error);
  if (statusCode !== undefined && statusCode >= 400) {
    const isBroke = statusCode === 429 && codeOf(data) === "insufficient_quota";
    const code = isBroke ? "EDQUOT" : (STATUS[statusCode] ?? (statusCode >= 500 ? "EAGAIN" : "EIO"));
    const wait = retryAfterMs(responseHeaders);
    const mayHaveActed = error instanceof StreamRefusal && error.mayHaveActed;
    const details: ErrorDetails = {
      path,
      cause: error,
      mayHaveActed,
      ...(wait === undefined ? {} : { retryAfterMs: wait }),
    };
    return new KernelError(code, `${name} answers ${statusCode}: ${why}${adviceFor(code)}`, details);
  }
  // A proxy or a portal in the place of a model.
  if (contentType?.startsWith("text/html") === true)
    return new KernelError("EPROTO", `${name} answers with a web page; check the base URL`, { path, cause: error });
  for (let cause: unknown = error, depth = 0; cause !== undefined && depth < 6; depth++) {
    const { code, cause: inner } = fieldsOf(cause);
    // Once it has begun to answer, what breaks has broken in the middle.
    if (code !== undefined && contentType === undefined && NO_TRUST.test(code))
      return new KernelError("EPROTO", `${name} cannot be spoken to: ${wordsOf(cause)}`, { path, cause: error });
    const known = code === undefined ? undefined : NETWORK[code];
    if (known !== undefined)
      return new KernelError(known, `${name} cannot be reached: ${cause instanceof Error ? cause.message : why}`, {
        path,
        cause: error,
        // Only a connection that never was has asked for nothing.
        mayHaveActed: known !== "ECONNREFUSED",
      });
    cause = inner;
  }
  if (contentType?.startsWith("application/json") === true)
    return new KernelError("EPROTO", `${name} does not stream its answers; use a server that does`, {
      path,
      cause: error,
      mayHaveActed: true,
    });
  // The provider package says so of a stream that ended before its last part.
  if (error instanceof Error && error.name === "AI_InvalidResponseDataError" && data === undefined)
    return new KernelError("ECONNRESET", `${name} ended its answer before it was complete`, {
      path,
      cause: error,
      mayHaveActed: true,
    });
  // Neither a refusal nor the network: what came is not what the wire format says.
  return new KernelError("EPROTO", `${name} answers with what is no answer: ${why}`, {
    path,
    cause: error,
    mayHaveActed: error instanceof StreamRefusal ? error.mayHaveActed : true,
  });
}

/** What was thrown here stands somewhere in what the provider package makes of it. */
function kernelErrorIn(error: unknown): KernelError | undefined {
  for (let at = error, depth = 0; at !== undefined && depth < 6; at = fieldsOf(at).cause, depth++)
    if (isKernelError(at)) return at;
  return undefined;
}

function adviceFor(code: Errno): string {
  if (code === "EACCES") return "; check the key in the environment";
  if (code === "ENODEV") return "; check the name of the model and the base URL";
  return "";
}

interface Fields {
  readonly statusCode: number | undefined;
  readonly responseHeaders: Readonly<Record<string, string>> | undefined;
  readonly data: unknown;
  readonly code: string | undefined;
  readonly cause: unknown;
}

function fieldsOf(error: unknown): Fields {
  // Read as data: errors of provider packages and of Node have these fields or not.
  const found = (typeof error === "object" && error !== null ? error : {}) as Readonly<Record<string, unknown>>;
  const { statusCode, responseHeaders, data, code, cause } = found;
  return {
    statusCode: typeof statusCode === "number" ? statusCode : undefined,
    // Headers as the provider package collects them.
    responseHeaders:
      typeof responseHeaders === "object" && responseHeaders !== null
        ? (responseHeaders as Readonly<Record<string, string>>)
        : undefined,
    data,
    code: typeof code === "string" ? code : undefined,
    cause,
  };
}

function codeOf(data: unknown): unknown {
  if (typeof data !== "object" || data === null || !("error" in data)) return undefined;
  const { error } = data;
  return typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
}

const RETRY_AFTER_MAX_MS = 24 * 60 * 60_000;

/** `retry-after-ms`, or `Retry-After` in seconds or as a date. */
function retryAfterMs(headers: Readonly<Record<string, string>> | undefined): number | undefined {
  const exact = Number(headers?.["retry-after-ms"]);
  const text = headers?.["retry-after"];
  const seconds = Number(text);
  const wait =
    exact > 0
      ? exact
      : text === undefined
        ? Number.NaN
        : Number.isFinite(seconds)
          ? seconds * 1000
          : Date.parse(text) - Date.now();
  return wait > 0 ? Math.min(wait, RETRY_AFTER_MAX_MS) : undefined;
}
