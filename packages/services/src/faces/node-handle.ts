// An open file in the shape of `FileHandle` of `node:fs/promises`.

import { EventEmitter } from "node:events";
import { constants } from "node:fs";
import { createInterface } from "node:readline";
import { Readable, Writable } from "node:stream";
import { callbackify } from "node:util";
import { type FileStat, type Files, type Handle, KernelError, isKernelError, Serial } from "@ergos/kernel";
import { asNode, nodeError } from "./node-error.ts";
import { NodeStats, bigStats } from "./node-stat.ts";
import { type Data, type Encoded, decoded, encodingOf, gather } from "./node-data.ts";

const CHUNK = 64 * 1024;
/** Bytes of a whole file that are read at a time. */
const PIECE = 16 * 1024 * 1024;

/** Flags of `open` as their meaning. */
export interface Flags {
  readonly read: boolean;
  readonly write: boolean;
  readonly append: boolean;
  readonly create: boolean;
  readonly exclusive: boolean;
  readonly truncate: boolean;
  readonly noFollow: boolean;
  readonly directory: boolean;
}

const WORDS: Readonly<Record<string, number>> = {
  r: constants.O_RDONLY,
  "r+": constants.O_RDWR,
  w: constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC,
  "w+": constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC,
  a: constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND,
  "a+": constants.O_RDWR | constants.O_CREAT | constants.O_APPEND,
};

/** @throws {EINVAL} nobody knows such flags */
export function parseFlags(flags: string | number = "r"): Flags {
  let bits = typeof flags === "number" ? flags : undefined;
  if (typeof flags === "string" && /^(?:s?r|rs|x?w|wx|[xs]?a|a[xs])\+?$/.test(flags)) {
    const plain = flags.replace(/[xs]/g, "");
    bits = WORDS[plain];
    if (bits !== undefined && flags.includes("x")) bits |= constants.O_EXCL;
  }
  if (bits === undefined)
    throw Object.assign(new TypeError(`nobody knows the flags ${flags}`), { code: "ERR_INVALID_ARG_VALUE" });
  const has = (bit: number): boolean => (bits & bit) === bit;
  const access = bits & (constants.O_RDONLY | constants.O_WRONLY | constants.O_RDWR);
  return {
    read: access !== constants.O_WRONLY,
    write: access !== constants.O_RDONLY,
    append: has(constants.O_APPEND),
    create: has(constants.O_CREAT),
    exclusive: has(constants.O_EXCL | constants.O_CREAT),
    truncate: has(constants.O_TRUNC),
    noFollow: has(constants.O_NOFOLLOW),
    directory: has(constants.O_DIRECTORY),
  };
}

/** What is behind an open file: a handle of the kernel, or a path where there are no handles. */
export type Opened = Pick<Handle, "read" | "write" | "truncate" | "stat" | "setattr" | "close"> & {
  readonly fd: number;
};

/** Virtual files and mounted ones have no handles: a file is what its path is at each call. */
export function openByPath(files: Files, path: string): Opened {
  return {
    fd: -1,
    read: (range) => files.read(path, range),
    write: (bytes, { append = false, offset = 0 } = {}) =>
      append ? files.append(path, bytes, { create: "never" }) : files.write(path, bytes, { offset }),
    truncate: (size) => files.truncate(path, size),
    stat: () => files.stat(path),
    setattr: (change) => files.setattr(path, change),
    close: () => Promise.resolve(),
  };
}

/** A directory that is open can be asked what it is, and synced; it has no content. */
export function openDirectory(files: Files, path: string): Opened {
  const refuse = (): Promise<never> =>
    Promise.reject(new KernelError("EISDIR", "a directory has no content", { path }));
  return {
    fd: -1,
    read: refuse,
    write: refuse,
    truncate: refuse,
    stat: () => files.stat(path),
    setattr: (change) => files.setattr(path, change),
    close: () => Promise.resolve(),
  };
}

interface ReadOptions {
  readonly buffer?: NodeJS.ArrayBufferView;
  readonly offset?: number | null | undefined;
  readonly length?: number | null | undefined;
  readonly position?: number | bigint | null | undefined;
}

export class NodeHandle extends EventEmitter implements AsyncDisposable {
  readonly #opened: Opened;
  readonly #path: string;
  readonly #flags: Flags;
  /** Where reading and writing without a position go on. */
  #position = 0;
  #closing: Promise<void> | undefined;
  /** Calls without a position happen in their order. */
  readonly #serial = new Serial();

  constructor(opened: Opened, path: string, flags: Flags) {
    super();
    this.#opened = opened;
    this.#path = path;
    this.#flags = flags;
  }

  get fd(): number {
    return this.#opened.fd;
  }

  async read(
    target?: NodeJS.ArrayBufferView | ReadOptions,
    second?: number | ReadOptions | null,
    third?: number | null,
    fourth?: number | bigint | null,
  ): Promise<{ bytesRead: number; buffer: NodeJS.ArrayBufferView }> {
    const given = ArrayBuffer.isView(target) ? { buffer: target } : target;
    const more =
      typeof second === "object" && second !== null ? second : { offset: second, length: third, position: fourth };
    const options: ReadOptions = { ...more, ...given };
    const buffer = options.buffer ?? Buffer.alloc(16_384);
    const offset = options.offset ?? 0;
    const length = options.length ?? buffer.byteLength - offset;
    assertFits(buffer, offset, length);
    const bytes = await this.#take(length, positionOf(options.position));
    new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength).set(bytes, offset);
    return { bytesRead: bytes.length, buffer };
  }

  async readv(
    buffers: readonly NodeJS.ArrayBufferView[],
    position?: number | null,
  ): Promise<{ bytesRead: number; buffers: readonly NodeJS.ArrayBufferView[] }> {
    let bytesRead = 0;
    assertViews(buffers);
    for (const buffer of buffers) {
      const read = await this.read(buffer, 0, buffer.byteLength, position == null ? null : position + bytesRead);
      bytesRead += read.bytesRead;
      if (read.bytesRead < buffer.byteLength) break;
    }
    return { bytesRead, buffers };
  }

  /** What is left from the position on. */
  async readFile(options?: Encoded): Promise<Buffer | string> {
    return this.#inTurn("read", async () => {
      this.#assertMay("read");
      const parts: Uint8Array[] = [];
      for (let part; part === undefined || part.length === PIECE; this.#position += part.length)
        parts.push((part = await this.#opened.read({ offset: this.#position, length: PIECE })));
      return decoded(parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts), options);
    });
  }

  async write(
    data: NodeJS.ArrayBufferView | string,
    second?: number | { readonly offset?: number; readonly length?: number; readonly position?: number | null } | null,
    third?: number | string | null,
    fourth?: number | null,
  ): Promise<{ bytesWritten: number; buffer: NodeJS.ArrayBufferView | string }> {
    let bytes: Uint8Array;
    let position: number | undefined;
    if (typeof data === "string") {
      position = typeof second === "number" ? second : undefined;
      bytes = Buffer.from(data, typeof third === "string" ? (third as BufferEncoding) : "utf8");
    } else {
      assertView(data);
      const {
        offset = 0,
        length,
        position: at,
      } = typeof second === "object" && second !== null
        ? second
        : { offset: second ?? 0, length: typeof third === "number" ? third : undefined, position: fourth };
      const whole = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      assertFits(data, offset, length ?? whole.length - offset);
      bytes = whole.subarray(offset, offset + (length ?? whole.length - offset));
      position = positionOf(at);
    }
    return this.#inTurn("write", async () => {
      await this.#put(bytes, position);
      return { bytesWritten: bytes.length, buffer: data };
    });
  }

  async writev(
    buffers: readonly NodeJS.ArrayBufferView[],
    position?: number | null,
  ): Promise<{ bytesWritten: number; buffers: readonly NodeJS.ArrayBufferView[] }> {
    assertViews(buffers);
    const { bytesWritten } = await this.write(
      Buffer.concat(buffers.map((one) => new Uint8Array(one.buffer, one.byteOffset, one.byteLength))),
      { position: position ?? null },
    );
    return { bytesWritten, buffers };
  }

  /** Writes from the position on; what lies behind stays. */
  async writeFile(data: Data, options?: Encoded): Promise<void> {
    const bytes = await gather(data, encodingOf(options));
    await this.#inTurn("write", () => this.#put(bytes, undefined));
  }

  appendFile(data: Data, options?: Encoded): Promise<void> {
    return this.writeFile(data, options);
  }

  truncate(size = 0): Promise<void> {
    return this.#inTurn("ftruncate", async () => {
      if (!this.#flags.write)
        throw new KernelError("EINVAL", "the file was not opened to be written", { path: this.#path });
      await this.#opened.truncate(Math.max(0, size));
    });
  }

  async stat(options: { readonly bigint?: boolean } = {}): Promise<object> {
    const stats = new NodeStats(await this.#inTurn<FileStat>("fstat", () => this.#opened.stat()));
    return options.bigint === true ? bigStats(stats) : stats;
  }

  async chmod(mode: number | string): Promise<void> {
    const bits = toMode(mode);
    return this.#inTurn("fchmod", () => this.#set({ mode: bits }));
  }

  /** There is one owner, the user of who made it. */
  chown(): Promise<void> {
    return this.#inTurn("fchown", () => Promise.resolve());
  }

  async utimes(_access: unknown, modified: number | string | Date): Promise<void> {
    const ms = toMs(modified);
    return this.#inTurn("futimes", () => this.#set({ modified: ms }));
  }

  /** What was written is committed when the call that wrote it has settled. */
  sync(): Promise<void> {
    return this.#inTurn("fsync", () => Promise.resolve());
  }

  datasync(): Promise<void> {
    return this.sync();
  }

  createReadStream(
    options: {
      readonly start?: number;
      readonly end?: number;
      readonly encoding?: BufferEncoding;
      readonly highWaterMark?: number;
      readonly autoClose?: boolean;
    } = {},
  ): Readable {
    this.#assertOpen();
    const { highWaterMark = CHUNK } = options;
    const stream = Readable.from(this.#chunks({ ...options, highWaterMark }), { objectMode: false, highWaterMark });
    // Also where nothing was read of it.
    if (options.autoClose !== false) stream.on("close", () => void this.close().catch(() => undefined));
    return options.encoding === undefined ? stream : stream.setEncoding(options.encoding);
  }

  createWriteStream(
    options: { readonly start?: number; readonly encoding?: BufferEncoding; readonly autoClose?: boolean } = {},
  ): Writable {
    this.#assertOpen();
    let at = options.start;
    const put = callbackify(async (pieces: readonly Uint8Array[]): Promise<void> => {
      const [first] = pieces;
      const bytes = pieces.length === 1 && first !== undefined ? first : Buffer.concat(pieces);
      await this.write(bytes, { position: at ?? null });
      if (at !== undefined) at += bytes.length;
    });
    const end = callbackify(async (): Promise<void> => {
      if (options.autoClose !== false) await this.close();
    });
    const stream = new Writable({
      // What comes while a piece is written is written together: one commit and one sync for all of it.
      highWaterMark: WRITTEN_AHEAD,
      write: (piece: Uint8Array, _encoding, done) => put([piece], done),
      // Texts have become bytes.
      writev: (pieces, done) =>
        put(
          pieces.map(({ chunk }) => chunk as Uint8Array),
          done,
        ),
      final: (done) => end(done),
      destroy: (error, done) => end(() => done(error)),
    });
    return options.encoding === undefined ? stream : stream.setDefaultEncoding(options.encoding);
  }

  readLines(options: { readonly encoding?: BufferEncoding } = {}): ReturnType<typeof createInterface> {
    return createInterface({ input: this.createReadStream({ encoding: "utf8", ...options }), crlfDelay: Infinity });
  }

  /** What is left from the position on, as a stream of bytes. */
  readableWebStream(options: { readonly autoClose?: boolean } = {}): ReadableStream {
    if (this.#closing !== undefined)
      throw Object.assign(new Error(`${this.#path} was closed`), { code: "ERR_INVALID_STATE" });
    const { autoClose = false } = options;
    const pieces = this.#chunks({ highWaterMark: CHUNK, autoClose: false });
    const over = async (): Promise<void> => {
      if (autoClose) await this.close();
    };
    return new ReadableStream({
      type: "bytes",
      pull: async (controller) => {
        const { done, value } = await pieces.next();
        // Takes the memory over, which has to be its own.
        if (done !== true) return controller.enqueue(new Uint8Array(value));
        controller.close();
        controller.byobRequest?.respond(0);
        await over();
      },
      cancel: over,
    });
  }

  close(): Promise<void> {
    this.#closing ??= asNode("close", this.#path, () => this.#serial.run(() => this.#opened.close())).then(
      () => void this.emit("close"),
    );
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async *#chunks(options: {
    readonly start?: number;
    readonly end?: number;
    readonly highWaterMark: number;
    readonly autoClose?: boolean;
  }): AsyncGenerator<Buffer, void, undefined> {
    const { end = Number.MAX_SAFE_INTEGER, highWaterMark, autoClose = true } = options;
    let at = options.start;
    const take = (): Promise<Uint8Array> => {
      const taken = this.#take(Math.max(0, Math.min(highWaterMark, end - (at ?? this.#position) + 1)), at);
      // Whoever stops reading does not hear of what was read ahead.
      taken.catch(() => undefined);
      return taken;
    };
    try {
      for (let next = take(); ;) {
        const { buffer, byteOffset, length } = await next;
        if (length === 0) return;
        if (at !== undefined) at += length;
        // The next piece is on its way while this one is used.
        next = take();
        yield Buffer.from(buffer, byteOffset, length);
      }
    } finally {
      if (autoClose) await this.close();
    }
  }

  /** Bytes from a place, or from the position, which they move. */
  #take(length: number, at: number | undefined): Promise<Uint8Array> {
    return this.#inTurn("read", async () => {
      this.#assertMay("read");
      const bytes = length === 0 ? new Uint8Array() : await this.#opened.read({ offset: at ?? this.#position, length });
      if (at === undefined) this.#position += bytes.length;
      return bytes;
    });
  }

  /** Mounted trees keep their own. */
  async #set(change: Parameters<Opened["setattr"]>[0]): Promise<void> {
    try {
      await this.#opened.setattr(change);
    } catch (error) {
      if (!isKernelError(error) || error.code !== "ENOTSUP") throw error;
    }
  }

  /** Node says so by the number that a closed file has. */
  #assertOpen(): void {
    if (this.#closing !== undefined)
      throw Object.assign(new RangeError(`${this.#path} was closed`), { code: "ERR_OUT_OF_RANGE" });
  }

  /** What has no handle of the kernel is held to the flags here. */
  #assertMay(what: "read" | "write"): void {
    if (!this.#flags[what])
      throw new KernelError("EBADF", `the file was not opened for that: ${what}`, { path: this.#path });
  }

  async #put(bytes: Uint8Array, position: number | undefined): Promise<void> {
    this.#assertMay("write");
    if (bytes.length === 0) return;
    if (this.#flags.append) {
      const { size } = await this.#opened.write(bytes, { append: true });
      if (position === undefined) this.#position = size;
    } else {
      await this.#opened.write(bytes, { offset: position ?? this.#position });
      if (position === undefined) this.#position += bytes.length;
    }
  }

  #inTurn<T>(syscall: string, work: () => Promise<T>): Promise<T> {
    if (this.#closing !== undefined) return Promise.reject(nodeError("EBADF", syscall, this.#path));
    return this.#serial.run(() => asNode(syscall, this.#path, work));
  }
}

function assertView(data: unknown): void {
  if (!ArrayBuffer.isView(data))
    throw Object.assign(new TypeError(`a file is read and written by views of bytes, found ${typeof data}`), {
      code: "ERR_INVALID_ARG_TYPE",
    });
}

function assertViews(buffers: unknown): void {
  if (!Array.isArray(buffers)) return assertView(undefined);
  for (const buffer of buffers) assertView(buffer);
}

function assertFits({ byteLength }: NodeJS.ArrayBufferView, offset: number, length: number): void {
  if (offset < 0 || length < 0 || offset + length > byteLength)
    throw Object.assign(new RangeError(`${length} bytes at ${offset} are not within ${byteLength}`), {
      code: "ERR_OUT_OF_RANGE",
    });
}

const positionOf = (position: number | bigint | null | undefined): number | undefined =>
  position === null || position === undefined || Number(position) < 0 ? undefined : Number(position);

/** Bytes that a stream takes before they are written. */
const WRITTEN_AHEAD = 4 * 1024 * 1024;

/** A time as `utimes` takes it: seconds, a text of them, or a date. */
export function toMs(time: number | string | Date): number {
  const ms =
    time instanceof Date ? time.getTime() : typeof time === "string" && time === "" ? Number.NaN : Number(time) * 1000;
  if (!Number.isFinite(ms))
    throw Object.assign(new TypeError(`a time is a number of seconds or a date, found ${String(time)}`), {
      code: "ERR_INVALID_ARG_TYPE",
    });
  return Math.max(0, Math.round(ms));
}

/** Permission bits as a number, or as a text in octal. */
export function toMode(mode: number | string): number {
  const bits = typeof mode === "number" ? mode : /^[0-7]+$/.test(mode) ? Number.parseInt(mode, 8) : Number.NaN;
  if (!Number.isInteger(bits) || bits < 0)
    throw Object.assign(new TypeError(`permission bits are a number or octal digits, found ${JSON.stringify(mode)}`), {
      code: "ERR_INVALID_ARG_VALUE",
    });
  return bits & 0o7777;
}
