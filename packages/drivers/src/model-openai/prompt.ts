// Conversations and tools as `LanguageModelV4` has them.

import type { ModelMessage, ModelRequest, ModelToolCall } from "@ergos/kernel";

interface TextPart {
  type: "text";
  text: string;
}

export type PromptMessage =
  | { role: "system"; content: string }
  | { role: "user"; content: TextPart[] }
  | {
      role: "assistant";
      content: (TextPart | { type: "tool-call"; toolCallId: string; toolName: string; input: unknown })[];
    }
  | {
      role: "tool";
      content: {
        type: "tool-result";
        toolCallId: string;
        toolName: string;
        output: { type: "text"; value: string };
      }[];
    };

/** A call of a tool, complete. */
export interface ToolCallPart {
  readonly toolCallId: string;
  readonly toolName: string;
  readonly input: string;
}

export function toToolCall({ toolCallId, toolName, input }: ToolCallPart, names: ToolNames): ModelToolCall {
  // Servers leave the arguments of a call without any empty.
  return { id: toolCallId, name: names.given(toolName), arguments: input === "" ? "{}" : input };
}

/** Names of tools as servers take them: letters, digits, `_` and `-`, 64 at most. */
const TOOL_NAME_MAX = 64;

/** The names of the tools of one request, here and on the wire. */
export class ToolNames {
  readonly #sent = new Map<string, string>();
  readonly #given = new Map<string, string>();
  readonly #calls = new Map<string, string>();

  constructor({ tools = [], messages }: ModelRequest) {
    for (const { name } of tools) this.#add(name);
    for (const message of messages)
      if (message.role === "assistant")
        for (const { id, name } of message.toolCalls ?? []) this.#calls.set(id, this.#add(name));
  }

  #add(name: string): string {
    const known = this.#sent.get(name);
    if (known !== undefined) return known;
    const plain = name.replaceAll(/[^\w-]/g, "_").slice(0, TOOL_NAME_MAX);
    let sent = plain;
    for (let number = 2; sent === "" || this.#given.has(sent); number++) {
      const ending = `_${number}`;
      sent = plain.slice(0, TOOL_NAME_MAX - ending.length) + ending;
    }
    this.#sent.set(name, sent);
    this.#given.set(sent, name);
    return sent;
  }

  sent(name: string): string {
    return this.#sent.get(name) ?? name;
  }

  /** One that was not offered stays what it is. */
  given(sent: string): string {
    return this.#given.get(sent) ?? sent;
  }

  /** The name that a call had, which the answer to it repeats. */
  ofCall(id: string): string {
    return this.#calls.get(id) ?? id;
  }
}

export function toPromptMessage(message: ModelMessage, names: ToolNames): PromptMessage {
  const { role, content } = message;
  const text: TextPart[] = [{ type: "text", text: content }];
  switch (role) {
    case "system":
      return { role, content };
    case "user":
      return { role, content: text };
    case "assistant":
      return {
        role,
        content: [
          ...(content === "" && message.toolCalls !== undefined ? [] : text),
          ...(message.toolCalls ?? []).map((call) => ({
            type: "tool-call" as const,
            toolCallId: call.id,
            toolName: names.sent(call.name),
            input: call.arguments,
          })),
        ],
      };
    case "tool": {
      const { callId } = message;
      const output = { type: "text" as const, value: content };
      return {
        role,
        content: [{ type: "tool-result", toolCallId: callId, toolName: names.ofCall(callId), output }],
      };
    }
    default:
      return role satisfies never;
  }
}

export type ToolChoice = { type: "auto" | "none" | "required" } | { type: "tool"; toolName: string };

export const toToolChoice = (choice: NonNullable<ModelRequest["toolChoice"]>, names: ToolNames): ToolChoice =>
  typeof choice === "string" ? { type: choice } : { type: "tool", toolName: names.sent(choice.tool) };
