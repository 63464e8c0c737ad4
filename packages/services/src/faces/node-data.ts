// What `node:fs/promises` takes as content, and gives as such.

import { assertGoesOn } from "./node-error.ts";

export type Encoded = BufferEncoding | { readonly encoding?: BufferEncoding | null } | null | undefined;
export type Data =
  | string
  | NodeJS.ArrayBufferView
  | Iterable<string | NodeJS.ArrayBufferView>
  | AsyncIterable<string | NodeJS.ArrayBufferView>;

export const encodingOf = (options: Encoded): BufferEncoding | undefined =>
  (typeof options === "string" ? options : options?.encoding) ?? undefined;

/** Bytes as a `Buffer`, or as text in the encoding that was asked for. */
export function decoded(bytes: Uint8Array, options: Encoded): Buffer | string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const encoding = encodingOf(options);
  return encoding === undefined ? buffer : buffer.toString(encoding);
}

/** All of it in one piece. */
export async function gather(data: Data, encoding: BufferEncoding = "utf8", signal?: AbortSignal): Promise<Uint8Array> {
  if (typeof data === "string") return Buffer.from(data, encoding);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (typeof data !== "object" || data === null || !(Symbol.iterator in data || Symbol.asyncIterator in data))
    throw new TypeError(`content is a text, bytes, or an iterable of them; found ${typeof data}`);
  const parts: Uint8Array[] = [];
  for await (const part of data) {
    assertGoesOn(signal);
    parts.push(await gather(part, encoding));
  }
  return Buffer.concat(parts);
}
