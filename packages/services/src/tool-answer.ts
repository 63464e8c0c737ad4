// What a model is told of a tool that it has called.

import { type InferRequest, KernelError, type ModelMessage, type ModelToolCall, isKernelError } from "@ergos/kernel";

/** Failures that end whoever has called, and are no news for a model. */
const IS_OVER = new Set(["ECANCELED", "EDQUOT", "EUNKNOWN"]);

/** Whether a model may be told of a failure, and try in another way. */
export const isNews = (error: unknown, signal: AbortSignal): boolean =>
  !signal.aborted && !(isKernelError(error) && IS_OVER.has(error.code));

/**
 * The arguments that a model has written.
 * @throws {EINVAL} they are no JSON object
 */
export function argumentsOf({ name, arguments: text }: ModelToolCall): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const why = error instanceof Error ? error.message : "";
    throw new KernelError("EINVAL", `the arguments for ${name} are no JSON: ${why}`);
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new KernelError(
    "EINVAL",
    `the arguments for ${name} must be a JSON object, found ${Array.isArray(value) ? "an array" : typeof value}`,
  );
}

/** What a model is told that calls a tool which it was not offered. */
export function notOffered({ name }: ModelToolCall, tools: NonNullable<InferRequest["tools"]>): string | undefined {
  const names = tools.map((tool) => (typeof tool === "string" ? tool : tool.name));
  if (names.includes(name)) return undefined;
  return `error: there is no tool ${JSON.stringify(name)}; there are ${names.join(", ") || "none"}`;
}

/** The turn of a conversation that tells a result; one that is no text as JSON. */
export const toolMessage = ({ id }: ModelToolCall, result: unknown): ModelMessage => ({
  role: "tool",
  callId: id,
  content: typeof result === "string" ? result : (JSON.stringify(result) ?? "null"),
});
