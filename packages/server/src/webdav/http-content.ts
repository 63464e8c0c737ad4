// How HTTP speaks of the content of a file: its tag, its date, its type, a range of it, and the body that brings it.

import type { FileStat } from "@ergos/kernel";

/** Bytes that are written, and read, at a time. */
export const CHUNK = 8 * 1024 * 1024;

export const matchesEtag = (header: string, etag: string): boolean =>
  header.trim() === "*" || header.split(",").some((one) => one.trim().replace(/^W\//, "") === etag);

/** Whether something was changed after a date of a header, to the second; nothing where that says none. */
export function isLater(stat: FileStat | undefined, date: string | null): boolean | undefined {
  const at = Date.parse(date ?? "");
  return stat?.modified === undefined || Number.isNaN(at) ? undefined : Math.floor(stat.modified / 1000) * 1000 > at;
}

/** Its media type, if that is one that a header can say. */
export const typeOf = ({ mime }: FileStat): string =>
  mime !== undefined && /^[\x21-\x7e]+\/[\x20-\x7e]+$/.test(mime) ? mime : "application/octet-stream";

/** The part that is asked for; nothing for all of it, `none` for what is not there. */
export function rangeOf(
  header: string | null,
  size: number,
): { readonly offset: number; readonly length: number } | "none" | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? "");
  if (match === null || (match[1] === "" && match[2] === "")) return undefined;
  const [, first = "", last = ""] = match;
  const offset = first === "" ? Math.max(0, size - Number(last)) : Number(first);
  // One that ends before it begins is none.
  if (first !== "" && last !== "" && Number(last) < Number(first)) return undefined;
  const end = first === "" || last === "" ? size : Math.min(size, Number(last) + 1);
  return offset >= size || end <= offset ? "none" : { offset, length: end - offset };
}

/** A body in pieces of one size; the last is shorter. */
export async function* chunksOf(body: ReadableStream<Uint8Array> | null): AsyncGenerator<Uint8Array, void, undefined> {
  if (body === null) return;
  let parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of body) {
    parts.push(part);
    size += part.length;
    while (size >= CHUNK) {
      const all = Buffer.concat(parts);
      yield all.subarray(0, CHUNK);
      const rest = all.subarray(CHUNK);
      parts = [rest];
      size = rest.length;
    }
  }
  if (size > 0) yield Buffer.concat(parts);
}
