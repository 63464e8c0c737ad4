// A language model behind a driver: the device that `infer` talks to.

import { LIMITS } from "../base/limits.ts";
import type { Schema } from "../base/schema.ts";

/** A turn of a conversation. One of role `tool` tells the model what came of a call that it had asked for. */
export type ModelMessage =
  | { readonly role: "system" | "user"; readonly content: string }
  | { readonly role: "assistant"; readonly content: string; readonly toolCalls?: readonly ModelToolCall[] }
  | { readonly role: "tool"; readonly content: string; readonly callId: string };

/** A call of a tool that a model asks for. Whoever has asked the model makes it, or does not. */
export interface ModelToolCall {
  readonly id: string;
  /** As it was offered; models also make names up. */
  readonly name: string;
  /** JSON as the model wrote it; nobody has checked it. */
  readonly arguments: string;
}

/** A tool as a model is told of it. */
export interface ModelTool {
  readonly name: string;
  readonly description: string;
  readonly inputSchema: Schema;
}

/** What the request is for. A model that understands the prompt may ignore it. */
export type ModelTask =
  | { readonly kind: "summarise"; readonly sentences: number; readonly text: string }
  | { readonly kind: "classify"; readonly labels: readonly string[]; readonly text: string };

export interface ModelRequest {
  /** Name under `/dev/model`; the host's default when absent. */
  readonly model?: string;
  readonly messages: readonly ModelMessage[];
  /** What is asked for, for models that are not language models, as the offline one; others ignore it. */
  readonly task?: ModelTask;
  /** Longest answer in tokens; a budget reserves this much (default 4,096). */
  readonly maxOutputTokens?: number;
  /** From 0 to 2. */
  readonly temperature?: number;
  /** Share of the likeliest tokens that are considered, from 0 to 1. */
  readonly topP?: number;
  /** Texts at which the answer ends. */
  readonly stop?: readonly string[];
  /** Asks for the same answer to the same request, where the model can. */
  readonly seed?: number;
  /** The answer must be JSON of this schema; who reads it still validates it. */
  readonly responseSchema?: Schema;
  /** Tools that the model may ask for. */
  readonly tools?: readonly ModelTool[];
  /** Whether it may ask for one (`auto`, the default), must not, must, or must ask for this one. */
  readonly toolChoice?: "auto" | "none" | "required" | { readonly tool: string };
}

/** A request as a process makes it: tools of the process and of its host are offered by their names. */
export interface InferRequest extends Omit<ModelRequest, "tools"> {
  /** Offering a tool gives no right to it: who makes the call is asked for it. */
  readonly tools?: readonly (string | ModelTool)[];
}

const MESSAGE_SCHEMA: Schema = {
  type: "object",
  properties: {
    role: { type: "string", enum: ["system", "user", "assistant", "tool"] },
    content: { type: "string" },
    toolCalls: {
      type: "array",
      items: {
        type: "object",
        properties: { id: { type: "string" }, name: { type: "string" }, arguments: { type: "string" } },
        required: ["id", "name", "arguments"],
        additionalProperties: false,
      },
      maxItems: LIMITS.modelToolsMax,
    },
    callId: { type: "string" },
  },
  required: ["role", "content"],
  additionalProperties: false,
};

const TOOL_SCHEMA: Schema = {
  type: "object",
  properties: {
    name: { type: "string", minLength: 1 },
    description: { type: "string" },
    inputSchema: { type: "object" },
  },
  required: ["name", "description", "inputSchema"],
  additionalProperties: false,
};

/** What a boundary lets through as a request. */
export const MODEL_REQUEST_SCHEMA: Schema = {
  type: "object",
  properties: {
    model: { type: "string", minLength: 1 },
    messages: { type: "array", items: MESSAGE_SCHEMA },
    task: { type: "object", required: ["kind", "text"] },
    maxOutputTokens: { type: "integer", minimum: 1, maximum: LIMITS.tokensMax },
    temperature: { type: "number", minimum: 0 },
    topP: { type: "number", minimum: 0, maximum: 1 },
    stop: { type: "array", items: { type: "string", minLength: 1 }, maxItems: 16 },
    seed: { type: "integer" },
    responseSchema: { type: "object" },
    tools: {
      type: "array",
      items: { anyOf: [{ type: "string", minLength: 1 }, TOOL_SCHEMA] },
      maxItems: LIMITS.modelToolsMax,
    },
    toolChoice: {
      anyOf: [
        { type: "string", enum: ["auto", "none", "required"] },
        {
          type: "object",
          properties: { tool: { type: "string", minLength: 1 } },
          required: ["tool"],
          additionalProperties: false,
        },
      ],
    },
  },
  required: ["messages"],
  additionalProperties: false,
};

export const TIERS = ["strategic", "tactical", "operational"] as const;
export type Tier = (typeof TIERS)[number];

export interface ModelUsage {
  readonly inputTokens: number;
  readonly outputTokens: number;
}

export interface ModelResponse {
  readonly text: string;
  /** Calls of tools that the model waits for, in its order; absent when it asks for none. */
  readonly toolCalls?: readonly ModelToolCall[];
  /** Why it ended: it was complete, wants tools, was as long as it might be, or held back by whoever runs the model. */
  readonly finishReason: "stop" | "tools" | "length" | "filter" | "other";
  readonly usage: ModelUsage;
}

/** A call of a model, beside its request. */
export interface ModelCall {
  readonly signal: AbortSignal;
  /** The same for the same call after a restart. */
  readonly idempotencyKey: string;
  /** Hears the answer as it comes, piece by piece. */
  readonly onText?: (piece: string) => void;
}

export interface Model {
  readonly name: string;
  readonly description: string;
  /**
   * What a call does to the world. `pure`: it stays in this host and may be repeated. `idempotent`: it
   * leaves the host, and the same key has no second effect. `once`: it must not be repeated unknowingly.
   */
  readonly effect: "pure" | "idempotent" | "once";
  /** Dollars per million tokens; absent where nobody knows, and then no budget of money can hold it. */
  readonly price?: { readonly input: number; readonly output: number } | undefined;
  /** What it is good enough for: budgets may differ by it. Operational unless given. */
  readonly tier?: Tier | undefined;
  /** Whether the model answers now; the sentence is shown by `doctor`. */
  health(): Promise<{ readonly ok: boolean; readonly detail: string }>;
  /** Answers, or rejects with the signal's reason soon after it aborts. */
  infer(request: ModelRequest, call: ModelCall): Promise<ModelResponse>;
}

/** Where models come from that are named `provider/model`. */
export interface ModelProvider {
  readonly name: string;
  readonly description: string;
  /** Models that it is known to have; any other name may work too. */
  readonly known: readonly string[];
  /** Makes the device of a model; does not ask anybody. */
  open(model: string): Model;
}

/** Models of providers that stay open. */
const OPENED_MAX = 1000;

/** The models of a host: those it was given, and those that its providers open when they are named. */
export class ModelTable {
  readonly #models: Map<string, Model>;
  readonly #providers: ReadonlyMap<string, ModelProvider>;
  /** The first one given, or the one that a provider was asked for. */
  readonly #first: string;

  constructor(models: readonly Model[], providers: readonly ModelProvider[], first?: string) {
    this.#models = new Map(models.map((model) => [model.name, model]));
    this.#providers = new Map(providers.map((provider) => [provider.name, provider]));
    this.#first = first ?? models[0]?.name ?? "none";
  }

  /** The name that a request without one means. */
  get defaultName(): string {
    return this.#first;
  }

  /** Models and the well-known ones of providers. */
  get names(): readonly string[] {
    const provided = [...this.#providers.values()].flatMap(({ name, known }) =>
      known.map((model) => `${name}/${model}`),
    );
    const first = this.get(this.#first) === undefined ? [] : [this.#first];
    return [...new Set([...first, ...this.#models.keys(), ...provided])];
  }

  get(name: string): Model | undefined {
    const known = this.#models.get(name);
    if (known !== undefined) return known;
    const slash = name.indexOf("/");
    const model = slash <= 0 ? undefined : this.#providers.get(name.slice(0, slash))?.open(name.slice(slash + 1));
    // Names come from programs too: what is opened once more later costs little, a table without bound much.
    if (model !== undefined && this.#models.size < OPENED_MAX) this.#models.set(name, model);
    return model;
  }
}
