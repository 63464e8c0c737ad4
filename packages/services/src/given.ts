// What code without types may have given.

import { LIMITS } from "@ergos/kernel";

/** A line of the log, cut where it is too long for one. */
export const shortLine = (text: string): string =>
  text.length <= LIMITS.logLineMax ? text : `${text.slice(0, LIMITS.logLineMax - 1)}…`;

/** Content of an artifact as bytes, with what it is. */
export function contentOf(content: unknown): { readonly bytes: Uint8Array; readonly mediaType: string } {
  if (content instanceof Uint8Array) return { bytes: content, mediaType: "application/octet-stream" };
  const isText = typeof content === "string";
  const text = isText ? content : (JSON.stringify(content) ?? "null");
  return { bytes: new TextEncoder().encode(text), mediaType: isText ? "text/plain" : "application/json" };
}

/** Whether a value has the outer form of a request. */
export function isRequest(value: unknown): boolean {
  if (typeof value !== "object" || value === null || !("messages" in value) || !Array.isArray(value.messages))
    return false;
  return value.messages.every(
    (message: unknown) =>
      typeof message === "object" &&
      message !== null &&
      "role" in message &&
      "content" in message &&
      typeof message.content === "string",
  );
}
