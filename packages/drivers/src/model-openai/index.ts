// `@ergos/drivers/model-openai`: models behind any server that speaks OpenAI's chat completions.
//
// The wire is spoken by `@ai-sdk/openai-compatible`, an optional peer that is loaded with the first call.

import type * as Library from "@ai-sdk/openai-compatible";
import { KernelError, LIMITS, type Model, type ModelProvider, describe, plainMessage } from "@ergos/kernel";
import { type StreamingModel, toModel } from "./language-model.ts";
import { knownPrice } from "./prices.ts";

export { type LanguageModelOptions, type StreamingModel, toModel } from "./language-model.ts";

export type ApiKey = string | (() => Promise<string>);

export interface OpenAiOptions {
  /** First part of `provider/model`; `openai` unless given. */
  readonly name?: string;
  /** Base URL with its version, as `https://api.openai.com/v1`. */
  readonly baseUrl?: string;
  /** Name of the variable that it was taken from, for messages. */
  readonly baseUrlFrom?: string;
  /** Sent as a bearer token, or what fetches it for each call; local servers need none. */
  readonly apiKey?: ApiKey;
  /** Models that are listed; any other name may be asked for too. */
  readonly known?: readonly string[];
  /** Dollars per million tokens, by model. */
  readonly prices?: Readonly<Record<string, Model["price"]>>;
  readonly effect?: Model["effect"];
}

/** The package that speaks the wire; a test compares it with the manifest. */
export const PEERS = ["@ai-sdk/openai-compatible"] as const;

const OPENAI_URL = "https://api.openai.com/v1";
const HEALTH_MS = 3000;

/** Servers with OpenAI's wire and the environment names that their users have set. */
const SERVERS: readonly {
  readonly name: string;
  readonly key: string;
  readonly url: string;
  readonly urlName?: string;
}[] = [
  { name: "openai", key: "OPENAI_API_KEY", url: OPENAI_URL, urlName: "OPENAI_BASE_URL" },
  { name: "openrouter", key: "OPENROUTER_API_KEY", url: "https://openrouter.ai/api/v1" },
  { name: "groq", key: "GROQ_API_KEY", url: "https://api.groq.com/openai/v1" },
  { name: "mistral", key: "MISTRAL_API_KEY", url: "https://api.mistral.ai/v1" },
  { name: "deepseek", key: "DEEPSEEK_API_KEY", url: "https://api.deepseek.com/v1" },
  { name: "together", key: "TOGETHER_API_KEY", url: "https://api.together.xyz/v1" },
  { name: "xai", key: "XAI_API_KEY", url: "https://api.x.ai/v1" },
];
const OLLAMA_URL = "http://127.0.0.1:11434";

/**
 * Providers whose keys are in the environment, and Ollama on this machine. With `keyOf` a key is fetched by its name
 * when it is needed, and never held before.
 */
export function providersOf(
  environment: Readonly<Record<string, string | undefined>>,
  keyOf?: (name: string) => Promise<string>,
): readonly ModelProvider[] {
  const keyed = SERVERS.flatMap(({ name, key, url, urlName }) => {
    // An empty variable is one that is not set.
    const apiKey = environment[key] || undefined;
    const own = urlName === undefined ? undefined : environment[urlName] || undefined;
    const baseUrl = own ?? url;
    // A server of one's own may need no key.
    if (apiKey === undefined && baseUrl === url) return [];
    const from = own === undefined || urlName === undefined ? {} : { baseUrlFrom: urlName };
    if (apiKey === undefined) return [createOpenAiProvider({ name, baseUrl, ...from })];
    return [createOpenAiProvider({ name, baseUrl, ...from, apiKey: keyOf === undefined ? apiKey : () => keyOf(key) })];
  });
  const host = environment["OLLAMA_HOST"] || OLLAMA_URL;
  return [...keyed, createOpenAiProvider({ name: "ollama", baseUrl: ollamaUrl(host), baseUrlFrom: "OLLAMA_HOST" })];
}

/** As Ollama reads it: a scheme, a host and a port may each be left out. */
function ollamaUrl(host: string): string {
  const [, scheme, authority = "", path = ""] = /^(https?:\/\/)?([^/]*)(.*?)\/*$/.exec(host.trim()) ?? [];
  const isBareIpv6 = (authority.match(/:/g) ?? []).length > 1 && !authority.startsWith("[");
  const named = isBareIpv6 ? `[${authority}]` : authority.startsWith(":") ? `127.0.0.1${authority}` : authority;
  // Behind a scheme the port is that of the scheme.
  const port = scheme !== undefined || /:\d+$/.test(named) ? "" : ":11434";
  return `${scheme ?? "http://"}${named}${port}${path}/v1`;
}

/** What is wrong with a base URL, and how it is written; nothing where it is one. */
function urlProblem(name: string, baseUrl: string, from: string | undefined): string | undefined {
  const url = URL.parse(baseUrl);
  const isHttp = url?.protocol === "http:" || url?.protocol === "https:";
  if (isHttp && url.username === "" && url.password === "") return undefined;
  const what = from === undefined ? `the base URL of ${name}` : from;
  // What stands before an @ is a secret.
  return baseUrl.includes("@")
    ? `${what} holds a name or password; give the key as a key`
    : `${what} is ${JSON.stringify(baseUrl)}; write it as http://HOST:PORT/v1`;
}

/** Where a base URL leads, for people. */
const hostOf = (baseUrl: string): string => URL.parse(baseUrl)?.host || (baseUrl.includes("@") ? "?" : baseUrl);

/**
 * The key as a header takes it; nothing where there is none.
 * @throws {EACCES} no header can hold it: whatever is wrong with it, nobody reads it in a message
 */
async function keyFor(name: string, apiKey: ApiKey | undefined): Promise<string | undefined> {
  const key = (typeof apiKey === "function" ? await apiKey() : apiKey)?.trim();
  if (key === undefined || key === "") return undefined;
  if (/^[\x21-\x7e]+$/.test(key)) return key;
  throw new KernelError("EACCES", `the key of ${name} holds what no header can, as a line break; set it again`);
}

/** Models of one server, opened by name. */
export function createOpenAiProvider(options: OpenAiOptions = {}): ModelProvider {
  const { name = "openai", baseUrl = OPENAI_URL, known = [] } = options;
  return {
    name,
    description: `models of ${hostOf(baseUrl)}`,
    known,
    open: (model) => createOpenAiModel(model, options),
  };
}

/** One model of a server. */
export function createOpenAiModel(model: string, options: OpenAiOptions = {}): Model {
  const { name = "openai", baseUrl = OPENAI_URL, apiKey, prices = {}, effect } = options;
  const price = prices[model] ?? knownPrice(name, model);
  const problem = urlProblem(name, baseUrl, options.baseUrlFrom);
  const open = (): Promise<StreamingModel> =>
    problem === undefined
      ? openLanguageModel(model, name, baseUrl, apiKey)
      : Promise.reject(new KernelError("EINVAL", problem, { path: `/dev/model/${name}/${model}` }));
  return toModel(open, {
    name: `${name}/${model}`,
    description: `${model} at ${hostOf(baseUrl)}`,
    ...(effect === undefined ? {} : { effect }),
    ...(price === undefined ? {} : { price }),
    health: async () => {
      if (problem !== undefined) return { ok: false, detail: problem };
      const missing = await libraryFor(name, model).then(() => undefined, describe);
      return missing === undefined ? checkServer(name, baseUrl, apiKey) : { ok: false, detail: plainMessage(missing) };
    },
    // Strict schemas forbid most of JSON Schema; the answer is checked here anyway.
    providerOptions: { openaiCompatible: { strictJsonSchema: false } },
  });
}

/** @throws {ENOTSUP} it is not installed */
const libraryFor = (name: string, model: string): Promise<typeof Library> =>
  import("@ai-sdk/openai-compatible").catch((cause: unknown) => {
    throw new KernelError(
      "ENOTSUP",
      `${name}/${model} needs the package ${PEERS[0]}; install it with: npm install ${PEERS[0]} zod`,
      { cause },
    );
  });

async function openLanguageModel(
  model: string,
  name: string,
  baseUrl: string,
  apiKey: ApiKey | undefined,
): Promise<StreamingModel> {
  const library = await libraryFor(name, model);
  const withKey = (key: string | undefined): StreamingModel =>
    library
      .createOpenAICompatible({
        name,
        baseURL: baseUrl,
        includeUsage: true,
        supportsStructuredOutputs: true,
        fetch: boundedFetch,
        ...(key === undefined ? {} : { apiKey: key }),
      })
      .chatModel(model);
  let last: { readonly key: string | undefined; readonly model: StreamingModel } | undefined;
  // A key may have been changed, or taken away, since the last call.
  return {
    doStream: async (options) => {
      const key = await keyFor(name, apiKey);
      if (last === undefined || last.key !== key) last = { key, model: withKey(key) };
      return last.model.doStream(options);
    },
  };
}

/** Bytes of an answer of a model, with all that the wire adds to its text. */
const ANSWER_BYTES_MAX = 4 * LIMITS.outcomeBytesMax;

/** As `fetch`, but a request goes where it was sent, and an answer has an end. */
async function boundedFetch(input: string | URL | Request, init?: RequestInit): Promise<Response> {
  const response = await fetch(input, { ...init, redirect: "manual" });
  if (response.headers.has("location")) {
    await response.body?.cancel();
    throw new KernelError(
      "EPROTO",
      `the server redirects to ${response.headers.get("location") ?? "nowhere"}; give the base URL that it leads to`,
    );
  }
  let size = 0;
  const counted = response.body?.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform: (chunk, controller) => {
        size += chunk.length;
        if (size > ANSWER_BYTES_MAX)
          throw new KernelError("E2BIG", `the answer has more than ${ANSWER_BYTES_MAX} bytes; it was cut off`, {
            mayHaveActed: true,
          });
        controller.enqueue(chunk);
      },
    }),
  );
  const { status, statusText, headers } = response;
  if (status < 200 || status > 599) throw new KernelError("EPROTO", `the server answers ${status}, which is no status`);
  return new Response(counted ?? null, { status, statusText, headers });
}

/** Whether a server lists its models to this key. */
async function checkServer(
  name: string,
  baseUrl: string,
  apiKey: ApiKey | undefined,
): Promise<{ readonly ok: boolean; readonly detail: string }> {
  const { host } = new URL(baseUrl);
  try {
    const key = await keyFor(name, apiKey);
    const answer = await fetch(`${baseUrl.replace(/\/$/, "")}/models`, {
      headers: key === undefined ? {} : { authorization: `Bearer ${key}` },
      signal: AbortSignal.timeout(HEALTH_MS),
      // As calls are made.
      redirect: "manual",
    });
    await answer.body?.cancel();
    if (answer.ok) return { ok: true, detail: `${host} answers` };
    return {
      ok: false,
      detail: `${host} answers ${answer.status}${answer.status === 401 ? ", the key is not accepted" : ""}`,
    };
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    return { ok: false, detail: `${host} does not answer: ${cause instanceof Error ? cause.message : String(cause)}` };
  }
}
