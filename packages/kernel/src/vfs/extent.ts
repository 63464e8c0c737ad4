// Content as extents: each holds its bytes inline or names them in the object store.
// Extents are sorted, do not overlap and leave no gap; the last one is a growing tail.

import { entriesOf } from "../abi/entries.ts";
import type { ObjectStore } from "../abi/object-store.ts";
import type { Metastore, Value } from "../abi/metastore.ts";
import { KernelError, isKernelError } from "../base/errno.ts";
import { type ContentId, type Ino, parseContentId } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { Platform } from "../abi/platform.ts";
import { chunkLengths } from "./chunk.ts";

export interface Extent {
  readonly offset: number;
  readonly length: number;
  readonly content: Uint8Array | ContentId;
}

/** Bytes of one extent in the object store. */
const BLOB_EXTENT_BYTES = 1024 * 1024;
/** Content of larger files is cut by what it says: another version of it shares what is the same. */
const CHUNKED_ABOVE = 16 * 1024 * 1024;
/** Extents that are stored at a time. */
const TOGETHER = 4;
/** Inline extents at the end of a file before they become one blob. */
const SMALL_RUN_MAX = 64;

export const extentKey = (ino: Ino, offset: number): string => `x/${ino}/${offset.toString(16).padStart(12, "0")}`;

/** The stored form: raw bytes, or a JSON record that is marked as a reference. */
export function encodeExtent(extent: Extent): Value {
  return typeof extent.content === "string"
    ? JSON.stringify({ ref: extent.content, length: extent.length })
    : extent.content;
}

export function decodeExtent(key: string, value: Value): Extent {
  const offset = Number.parseInt(key.slice(key.lastIndexOf("/") + 1), 16);
  if (typeof value !== "string") return { offset, length: value.length, content: value };
  const record = JSON.parse(value) as { ref: string; length: number };
  const content = parseContentId(record.ref);
  if (content === undefined)
    throw new KernelError("ECORRUPT", `the extent ${key} names no content; run \`ergos doctor\``);
  return { offset, length: record.length, content };
}

export async function loadExtents(store: Metastore, ino: Ino): Promise<readonly Extent[]> {
  const extents: Extent[] = [];
  for await (const { key, value } of entriesOf(store, `x/${ino}/`)) extents.push(decodeExtent(key, value));
  return extents;
}

/** Reads a range of the content into fresh memory, or into that of the caller, which is as long as the range. */
export async function readExtents(
  extents: readonly Extent[],
  range: { readonly offset: number; readonly length: number },
  objects: ObjectStore,
  platform: Platform,
  into?: Uint8Array,
): Promise<Uint8Array> {
  const end = range.offset + range.length;
  const first = firstTouching(extents, range.offset);
  const alone = extents[first];
  // What lies in one piece of the object store need not be copied once more.
  if (into === undefined && typeof alone?.content === "string" && endOf(alone) >= end && range.length > 0)
    return partOf(alone, range.offset, end, objects);
  const out = into ?? platform.allocate(range.length);
  let filled = 0;
  for (let at = first; at < extents.length; at++) {
    const extent = extents[at];
    if (extent === undefined || extent.offset >= end) break;
    const from = Math.max(range.offset, extent.offset);
    const bytes = await partOf(extent, from, Math.min(end, endOf(extent)), objects);
    out.set(bytes, from - range.offset);
    filled += bytes.length;
  }
  // What was allocated is not cleared.
  if (filled !== out.length)
    throw new KernelError("ECORRUPT", "a part of the content has no record; restore a copy of the data directory");
  return out;
}

/** What an extent holds from one place of the file to another; bytes that are inline are the extent's own. */
async function partOf(
  { offset, length, content }: Extent,
  from: number,
  to: number,
  objects: ObjectStore,
): Promise<Uint8Array> {
  const part = { offset: from - offset, length: to - from };
  const bytes =
    typeof content === "string"
      ? // All of it is held against its id.
        await objects.get(content, part.length === length ? undefined : part).catch(lostContent)
      : content.subarray(part.offset, part.offset + part.length);
  if (bytes.length !== part.length)
    throw new KernelError("ECORRUPT", "stored content is shorter than its record; run `ergos doctor`");
  return bytes;
}

/** Content that a file names is there, or the store is damaged. */
function lostContent(error: unknown): never {
  if (!isKernelError(error) || error.code !== "ENOENT") throw error;
  throw new KernelError(
    "ECORRUPT",
    "the content of the file is missing from the object store; restore a copy of the data directory",
    { cause: error },
  );
}

export interface ExtentChange {
  readonly extents: readonly Extent[];
  readonly puts: readonly Extent[];
  /** Offsets of extents that are gone. */
  readonly deletes: readonly number[];
}

/**
 * Replaces the content from `offset` on by `bytes`, keeping what lies behind them unless `truncate`.
 * Touches only the extents that the range meets, and the tail when it appends.
 */
export async function writeExtents(
  extents: readonly Extent[],
  size: number,
  change: { readonly offset: number; readonly bytes: Uint8Array; readonly truncate: boolean },
  objects: ObjectStore,
  platform: Platform,
): Promise<ExtentChange> {
  const { offset, bytes, truncate } = change;
  const end = offset + bytes.length;
  let first = firstTouching(extents, Math.min(offset, size));
  const tail = extents[extents.length - 1];
  // A short inline tail grows in place instead of leaving one extent per append.
  if (
    first === extents.length &&
    tail !== undefined &&
    typeof tail.content !== "string" &&
    tail.length < LIMITS.inlineBytesMax
  )
    first--;
  if (first >= extents.length - 1) first = Math.min(first, startOfSmallRun(extents));
  const start = Math.min(offset, extents[first]?.offset ?? size);
  let last = first;
  while (last < extents.length && (truncate || (extents[last]?.offset ?? 0) < end)) last++;
  const behind = truncate ? end : Math.max(end, last === first ? end : endOf(extents[last - 1]));
  const merged = platform.allocate(behind - start);
  if (start < offset) {
    const kept = Math.min(offset, size);
    merged.fill(0, kept - start, offset - start);
    merged.set(await readExtents(extents, { offset: start, length: kept - start }, objects, platform));
  }
  merged.set(bytes, offset - start);
  if (behind > end)
    merged.set(await readExtents(extents, { offset: end, length: behind - end }, objects, platform), end - start);
  const fresh = await storeExtents(start, merged, objects);
  const freshOffsets = new Set(fresh.map((extent) => extent.offset));
  return {
    extents: [...extents.slice(0, first), ...fresh, ...extents.slice(last)],
    puts: fresh,
    deletes: extents.slice(first, last).flatMap((extent) => (freshOffsets.has(extent.offset) ? [] : [extent.offset])),
  };
}

/** New extents of a piece of content. */
export async function storeExtents(start: number, bytes: Uint8Array, objects: ObjectStore): Promise<readonly Extent[]> {
  if (bytes.length === 0) return [];
  if (bytes.length <= LIMITS.inlineBytesMax) return [{ offset: start, length: bytes.length, content: bytes }];
  const out: Promise<Extent>[] = [];
  let at = 0;
  for (const length of start + bytes.length > CHUNKED_ABOVE ? chunkLengths(bytes) : evenLengths(bytes.length)) {
    const offset = start + at;
    const piece = bytes.subarray(at, at + length);
    // Some at a time, which share a sync; each is hashed first, and others have their turn in between.
    if (out.length >= TOGETHER) await out[out.length - TOGETHER];
    out.push(objects.put(piece).then((content) => ({ offset, length, content })));
    // A failure of one is told by the last of them.
    out.at(-1)?.catch(() => undefined);
    at += length;
  }
  return Promise.all(out);
}

const evenLengths = (size: number): readonly number[] =>
  Array.from({ length: Math.ceil(size / BLOB_EXTENT_BYTES) }, (_, at) =>
    Math.min(BLOB_EXTENT_BYTES, size - at * BLOB_EXTENT_BYTES),
  );

/** Appends leave small extents; a long run of them at the end is written again as one blob, once. */
function startOfSmallRun(extents: readonly Extent[]): number {
  let at = extents.length;
  while (at > 0 && typeof extents[at - 1]?.content !== "string") at--;
  return extents.length - at >= SMALL_RUN_MAX ? at : extents.length;
}

const endOf = (extent: Extent | undefined): number => (extent === undefined ? 0 : extent.offset + extent.length);

/** Index of the first extent that ends behind `offset`. */
function firstTouching(extents: readonly Extent[], offset: number): number {
  let low = 0;
  let high = extents.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (endOf(extents[middle]) > offset) high = middle;
    else low = middle + 1;
  }
  return low;
}
