// A language model behind a driver: the device that `infer` talks to.

import type { Schema } from "../base/schema.ts";

export interface ModelMessage {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** What the request is for. A model that understands the prompt may ignore it. */
export type ModelTask =
  | { readonly kind: "summarise"; readonly sentences: number; readonly text: string }
  | { readonly kind: "classify"; readonly labels: readonly string[]; readonly text: string };

export interface ModelRequest {
  /** Name under `/dev/model`; the host's default when absent. */
  readonly model?: string;
  readonly messages: readonly ModelMessage[];
  readonly task?: ModelTask;
  readonly maxOutputTokens?: number;
  readonly temperature?: number;
  readonly topP?: number;
  readonly stop?: readonly string[];
  readonly seed?: number;
  /** The answer must be JSON of this schema; who reads it still validates it. */
  readonly responseSchema?: Schema;
}

/** What a boundary lets through as a request. */
export const MODEL_REQUEST_SCHEMA: Schema = {
  type: "object",
  properties: {
    model: { type: "string", minLength: 1 },
    messages: {
      type: "array",
      items: {
        type: "object",
        properties: { role: { type: "string", enum: ["system", "user", "assistant"] }, content: { type: "string" } },
        required: ["role", "content"],
        additionalProperties: false,
      },
    },
    task: { type: "object", required: ["kind", "text"] },
    maxOutputTokens: { type: "integer", minimum: 1 },
    temperature: { type: "number", minimum: 0 },
    topP: { type: "number", minimum: 0, maximum: 1 },
    stop: { type: "array", items: { type: "string", minLength: 1 }, maxItems: 16 },
    seed: { type: "integer" },
    responseSchema: { type: "object" },
  },
  required: ["messages"],
  additionalProperties: false,
};

export interface ModelUsage {
  readonly inputTokens: number;
  readonly outputTokens: number;
}

export interface ModelResponse {
  readonly text: string;
  readonly finishReason: "stop" | "length" | "other";
  readonly usage: ModelUsage;
}

export interface Model {
  readonly name: string;
  readonly description: string;
  /**
   * What a call does to the world. `pure`: it stays in this host and may be repeated. `idempotent`: it
   * leaves the host, and the same key has no second effect. `once`: it must not be repeated unknowingly.
   */
  readonly effect: "pure" | "idempotent" | "once";
  /** Micro-dollars per million tokens. */
  readonly price: { readonly input: number; readonly output: number };
  /** Whether the model answers now; the sentence is shown by `doctor`. */
  health(): Promise<{ readonly ok: boolean; readonly detail: string }>;
  /** Answers, or rejects with the signal's reason soon after it aborts. */
  infer(
    request: ModelRequest,
    options: { readonly signal: AbortSignal; readonly idempotencyKey: string },
  ): Promise<ModelResponse>;
}
