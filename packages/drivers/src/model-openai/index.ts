// `@ergos/drivers/model-openai`: models behind any server that speaks OpenAI's chat completions.
//
// The wire is spoken by `@ai-sdk/openai-compatible`, an optional peer that is loaded with the first call.

import { KernelError, type Model, type ModelProvider } from "@ergos/kernel";
import { type StreamingModel, toModel } from "./language-model.ts";
import { knownPrice } from "./prices.ts";

export { type LanguageModelOptions, type StreamingModel, toModel } from "./language-model.ts";

export type ApiKey = string | (() => Promise<string>);

export interface OpenAiOptions {
  /** First part of `provider/model`; `openai` unless given. */
  readonly name?: string;
  /** Base URL with its version, as `https://api.openai.com/v1`. */
  readonly baseUrl?: string;
  /** Sent as a bearer token, or what fetches it with the first call; local servers need none. */
  readonly apiKey?: ApiKey;
  /** Models that are listed; any other name may be asked for too. */
  readonly known?: readonly string[];
  /** Micro-dollars per million tokens, by model. */
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
    const apiKey = environment[key];
    const baseUrl = (urlName === undefined ? undefined : environment[urlName]) ?? url;
    // A server of one's own may need no key.
    if ((apiKey === undefined || apiKey === "") && baseUrl === url) return [];
    if (apiKey === undefined || apiKey === "") return [createOpenAiProvider({ name, baseUrl })];
    return [createOpenAiProvider({ name, baseUrl, apiKey: keyOf === undefined ? apiKey : () => keyOf(key) })];
  });
  const host = environment["OLLAMA_HOST"] ?? OLLAMA_URL;
  const base = /^https?:\/\//.test(host) ? host : `http://${host}`;
  return [...keyed, createOpenAiProvider({ name: "ollama", baseUrl: `${base.replace(/\/$/, "")}/v1` })];
}

/** Models of one server, opened by name. */
export function createOpenAiProvider(options: OpenAiOptions = {}): ModelProvider {
  const { name = "openai", baseUrl = OPENAI_URL, known = [] } = options;
  return {
    name,
    description: `models of ${new URL(baseUrl).host}`,
    known,
    open: (model) => createOpenAiModel(model, options),
  };
}

/** One model of a server. */
export function createOpenAiModel(model: string, options: OpenAiOptions = {}): Model {
  const { name = "openai", baseUrl = OPENAI_URL, apiKey, prices = {}, effect } = options;
  const price = prices[model] ?? knownPrice(name, model);
  return toModel(() => openLanguageModel(model, name, baseUrl, apiKey), {
    name: `${name}/${model}`,
    description: `${model} at ${new URL(baseUrl).host}`,
    ...(effect === undefined ? {} : { effect }),
    ...(price === undefined ? {} : { price }),
    health: () => checkServer(baseUrl, apiKey),
    // Strict schemas forbid most of JSON Schema; the answer is checked here anyway.
    providerOptions: { openaiCompatible: { strictJsonSchema: false } },
  });
}

async function openLanguageModel(
  model: string,
  name: string,
  baseUrl: string,
  apiKey: ApiKey | undefined,
): Promise<StreamingModel> {
  const library = await import("@ai-sdk/openai-compatible").catch((cause: unknown) => {
    throw new KernelError(
      "ENOTSUP",
      `${name}/${model} needs the package ${PEERS[0]}; install it with: npm install ${PEERS[0]} zod`,
      { cause },
    );
  });
  const key = typeof apiKey === "function" ? await apiKey() : apiKey;
  return library
    .createOpenAICompatible({
      name,
      baseURL: baseUrl,
      includeUsage: true,
      supportsStructuredOutputs: true,
      ...(key === undefined ? {} : { apiKey: key }),
    })
    .chatModel(model);
}

/** Whether a server lists its models to this key. */
async function checkServer(
  baseUrl: string,
  apiKey: ApiKey | undefined,
): Promise<{ readonly ok: boolean; readonly detail: string }> {
  const { host } = new URL(baseUrl);
  try {
    const key = typeof apiKey === "function" ? await apiKey() : apiKey;
    const answer = await fetch(`${baseUrl.replace(/\/$/, "")}/models`, {
      headers: key === undefined ? {} : { authorization: `Bearer ${key}` },
      signal: AbortSignal.timeout(HEALTH_MS),
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
