// One pack: a file of records, each a header and the content that it names. docs/spec/store.md is its law.

import { hash } from "node:crypto";
import { closeSync, fdatasync, ftruncateSync, openSync, read, writeSync, writevSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { type ContentId, parseContentId } from "@ergos/kernel";

export const HEADER_BYTES = 48;
const MAGIC = 0x4552_4742;
const CHECKED_BYTES = 44;
const INDEX_BYTES = 48;
const SEARCH_BYTES = 256 * 1024;
/** The file grows by so much at a time: a sync need not tell the disk of a new length each time. */
const GROWTH_BYTES = 4 * 1024 * 1024;
/** For content up to so many bytes room is written and not only promised: a sync that also has to find blocks takes twice as long. */
const SMALL_BYTES = 128 * 1024;
const ZEROS = Buffer.alloc(1024 * 1024);

/** `content` is followed by as many bytes as it says; `forgotten` takes what came before it back. */
type RecordKind = "content" | "forgotten";
const KINDS: readonly RecordKind[] = ["content", "forgotten"];

export interface PackRecord {
  readonly kind: RecordKind;
  readonly id: ContentId;
  readonly length: number;
}

export interface PlacedRecord extends PackRecord {
  /** Where its content begins. */
  readonly at: number;
}

function encodeHeader({ kind, id, length }: PackRecord): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32BE(MAGIC, 0);
  header.writeUInt32BE(KINDS.indexOf(kind), 4);
  header.writeUInt32BE(length, 8);
  header.write(id.slice(7), 12, "hex");
  checksumOf(header).copy(header, CHECKED_BYTES);
  return header;
}

/** What a header says; undefined where there is none, or one that was not written to its end. */
function decodeHeader(header: Buffer): PackRecord | undefined {
  if (header.length < HEADER_BYTES || header.readUInt32BE(0) !== MAGIC) return undefined;
  const kind = KINDS[header.readUInt32BE(4)];
  const id = parseContentId(`sha256-${header.toString("hex", 12, CHECKED_BYTES)}`);
  if (kind === undefined || id === undefined) return undefined;
  if (!checksumOf(header).equals(header.subarray(CHECKED_BYTES, HEADER_BYTES))) return undefined;
  return { kind, id, length: header.readUInt32BE(8) };
}

const checksumOf = (header: Buffer): Buffer =>
  hash("sha256", header.subarray(0, CHECKED_BYTES), "buffer").subarray(0, HEADER_BYTES - CHECKED_BYTES);

/** Bytes that a record takes. */
export const spanOf = ({ kind, length }: PackRecord): number => HEADER_BYTES + (kind === "content" ? length : 0);

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class Pack {
  readonly file: string;
  readonly number: number;
  /** Where the next record begins. */
  #end: number;
  /** Up to where everything survives a loss of power. */
  #synced: number;
  /** Bytes of records that still count. */
  live = 0;
  #size: number;
  #fd: number | undefined;
  #reading = 0;
  #isClosing = false;
  #isSyncing = false;
  #waiting: Waiter[] = [];

  /** A pack that ends at `end`; it is safe as far as it is known to be synced. */
  constructor(file: string, number: number, end: number, synced: number) {
    this.file = file;
    this.number = number;
    this.#end = end;
    this.#synced = synced;
    this.#size = end;
  }

  get end(): number {
    return this.#end;
  }

  /** Writes a record behind the others and tells where its content is. What fails leaves no trace. */
  append(record: PackRecord, content: Uint8Array): number {
    const fd = this.#open();
    const next = this.#end + HEADER_BYTES + content.length;
    try {
      if (next > this.#size) this.#grow(fd, next, content.length);
      const parts: Uint8Array[] = [encodeHeader(record), content];
      // A full disk may take a part and refuse the rest.
      for (let at = this.#end; at < next;) {
        const written = writevSync(fd, parts, at);
        at += written;
        skip(parts, written);
      }
    } catch (error) {
      this.#cut(fd);
      throw error;
    }
    this.#end = next;
    return next - content.length;
  }

  /** Makes room for the next records; what is small and synced alone finds blocks that the disk has given already. */
  #grow(fd: number, next: number, length: number): void {
    let size = next + GROWTH_BYTES;
    if (length > SMALL_BYTES) ftruncateSync(fd, size);
    else
      try {
        size = Math.max(next, this.#size + ZEROS.length);
        for (let at = this.#size; at < size;) at += writeSync(fd, ZEROS, 0, Math.min(ZEROS.length, size - at), at);
      } catch {
        // There may be no room for more than this record, or not even for that, which its own write says.
        size = next;
        ftruncateSync(fd, size);
      }
    this.#size = size;
  }

  /** Settles when all up to a place survives a loss of power. Who comes while a sync is under way waits for the next. */
  sync(upTo: number): Promise<void> {
    if (upTo <= this.#synced) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      if (!this.#isSyncing) this.#startSync();
    });
  }

  #startSync(): void {
    const waiters = this.#waiting;
    const end = this.#end;
    this.#waiting = [];
    this.#isSyncing = true;
    fdatasync(this.#open(), (error) => {
      this.#isSyncing = false;
      if (error === null) this.#synced = end;
      for (const { resolve, reject } of waiters)
        if (error === null) resolve();
        else reject(error);
      if (this.#waiting.length > 0) this.#startSync();
      else this.#closeIdle();
    });
  }

  /** Bytes from a place of the file; fewer where it ends. */
  read(position: number, length: number): Promise<Buffer> {
    const fd = this.#open();
    this.#reading++;
    return new Promise<Buffer>((resolve, reject) => {
      const bytes = Buffer.allocUnsafe(length);
      read(fd, bytes, 0, length, position, (error, count) => {
        this.#reading--;
        this.#closeIdle();
        if (error === null) resolve(bytes.subarray(0, count));
        else reject(error);
      });
    });
  }

  /** Gives the file's descriptor back, when nothing uses it any more. */
  close(): void {
    this.#isClosing = true;
    this.#closeIdle();
  }

  #closeIdle(): void {
    if (!this.#isClosing || this.#fd === undefined || this.#reading > 0 || this.#isSyncing) return;
    if (this.#size > this.#end) this.#cut(this.#fd);
    closeSync(this.#fd);
    this.#fd = undefined;
  }

  /** Cuts off what lies behind the last record. */
  #cut(fd: number): void {
    try {
      ftruncateSync(fd, this.#end);
      this.#size = this.#end;
    } catch {
      // What lies there is no record, or one that nobody was told of.
    }
  }

  #open(): number {
    this.#isClosing = false;
    return (this.#fd ??= openSync(this.file, "r+", 0o600));
  }
}

/** Leaves out what has been written. */
function skip(parts: Uint8Array[], written: number): void {
  let left = written;
  for (const [at, part] of parts.entries()) {
    const gone = Math.min(left, part.length);
    parts[at] = part.subarray(gone);
    left -= gone;
  }
}

/**
 * The records of a pack that are whole, from its beginning. Behind a damaged header those that follow are looked for;
 * what is found there takes nothing back, for content may look like a record.
 */
export async function* recordsOf(file: string): AsyncGenerator<PlacedRecord, void, undefined> {
  await using handle = await open(file, "r");
  const header = Buffer.allocUnsafe(HEADER_BYTES);
  let isLooking = false;
  for (let at = 0; ;) {
    const { bytesRead } = await handle.read(header, 0, HEADER_BYTES, at);
    const record = decodeHeader(header.subarray(0, bytesRead));
    if (record !== undefined) {
      if (!isLooking || record.kind === "content") yield { ...record, at: at + HEADER_BYTES };
      at += spanOf(record);
      continue;
    }
    const next = await findMagic(handle, at + 1);
    if (next === undefined) return;
    isLooking = true;
    at = next;
  }
}

/** Where something that may be a header begins, at a place or behind it. */
async function findMagic(handle: FileHandle, from: number): Promise<number | undefined> {
  const magic = Buffer.alloc(4);
  magic.writeUInt32BE(MAGIC, 0);
  const block = Buffer.allocUnsafe(SEARCH_BYTES);
  for (let at = from; ;) {
    const { bytesRead } = await handle.read(block, 0, SEARCH_BYTES, at);
    const found = block.subarray(0, bytesRead).indexOf(magic);
    if (found >= 0) return at + found;
    if (bytesRead < SEARCH_BYTES) return undefined;
    // It may stand across the end of the block.
    at += SEARCH_BYTES - magic.length;
  }
}

/** The index of a closed pack: its records that count, and a hash over all of them. */
export function encodeIndex(records: readonly PlacedRecord[]): Buffer {
  const body = Buffer.alloc(records.length * INDEX_BYTES);
  for (const [number, { kind, id, length, at }] of records.entries()) {
    const offset = number * INDEX_BYTES;
    body.write(id.slice(7), offset, "hex");
    body.writeUInt32BE(KINDS.indexOf(kind), offset + 32);
    body.writeUInt32BE(length, offset + 36);
    body.writeDoubleBE(at, offset + 40);
  }
  return Buffer.concat([body, hash("sha256", body, "buffer")]);
}

/** Undefined where the index is not whole. */
export function decodeIndex(bytes: Buffer): readonly PlacedRecord[] | undefined {
  const end = bytes.length - 32;
  if (end < 0 || end % INDEX_BYTES !== 0) return undefined;
  if (!hash("sha256", bytes.subarray(0, end), "buffer").equals(bytes.subarray(end))) return undefined;
  const records: PlacedRecord[] = [];
  for (let offset = 0; offset < end; offset += INDEX_BYTES) {
    const id = parseContentId(`sha256-${bytes.toString("hex", offset, offset + 32)}`);
    const kind = KINDS[bytes.readUInt32BE(offset + 32)];
    if (id === undefined || kind === undefined) return undefined;
    records.push({ kind, id, length: bytes.readUInt32BE(offset + 36), at: bytes.readDoubleBE(offset + 40) });
  }
  return records;
}
