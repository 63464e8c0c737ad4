// Pipes and streams of the namespace: what is in them, by the inode of their name.
//
// F1  An entry of a durable stream is there when its commit is, and is read by everybody from wherever they are.
// F2  A reader that fell behind what is kept is told where it begins now.

import type { FlowSettings, StreamEntry } from "../abi/flow.ts";
import type { Batch, Metastore, Receipt } from "../abi/metastore.ts";
import type { Platform } from "../abi/platform.ts";
import { logOf } from "../abi/entries.ts";
import { copyBytes } from "../base/bytes.ts";
import { orAborted } from "../base/abort.ts";
import { KernelError, isKernelError, isLostRace } from "../base/errno.ts";
import { type Ino, PID_OWNER, type Pid, type Seq, SEQ_ZERO, toSeq } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import { type Inode, inodeKey, streamLog } from "./inode.ts";
import { Pipe, type WaitOptions, putFrame, takeFrame } from "./pipe.ts";
import { SharedRing } from "./shared-ring.ts";

interface Stream {
  /** Positions and times of what is kept, oldest first; of a volatile one with the content. */
  readonly kept: (Omit<StreamEntry, "bytes"> & { readonly bytes?: Uint8Array })[];
  readonly waiting: Set<() => void>;
  /** Of a volatile one: the next position, which no earlier life of the host has given. */
  next: number;
  /** Its name is gone. */
  isGone: boolean;
}

export interface AppendOptions {
  /** `flushed`: it survives a loss of power when the call settles. */
  readonly durability?: "committed" | "flushed";
  /** What else belongs into the commit. */
  readonly along?: Pick<Batch, "appends">;
  readonly rider?: Rider | undefined;
}

export interface ReadOptions {
  /** Behind which position; the oldest that is kept unless given. */
  readonly after?: Seq;
  /** Ends with the position that the so-manieth entry is of. */
  readonly limit?: number;
  /** Waits for what comes, until its signal. */
  readonly follow?: boolean;
  readonly signals?: readonly AbortSignal[];
}

/** Entries that are read at a time: each may be as large as one may be. */
const PAGE = 64;
const HEADER = 8;
/** A stream may hold so much more than it keeps, as a power of two of it. */
const SLACK_SHIFT = 6;

export class FlowTable {
  readonly #store: Metastore;
  readonly #committer: Committer;
  readonly #platform: Platform;
  readonly #pipes = new Map<Ino, Pipe>();
  readonly #pipeRoom = { taken: 0 };
  readonly #streams = new Map<Ino, Promise<Stream>>();
  readonly #rings = new Map<Ino, SharedRing>();
  /** When something was last added, since the start of the host. */
  readonly #changed = new Map<Ino, number>();

  constructor(store: Metastore, committer: Committer, platform: Platform) {
    this.#store = store;
    this.#committer = committer;
    this.#platform = platform;
  }

  /**
   * Adds entries to a stream, all at one position.
   * @throws {EINVAL} it is no stream · {E2BIG} an entry is too large
   */
  async append(inode: Inode, path: string, frames: readonly Uint8Array[], options: AppendOptions = {}): Promise<Seq> {
    const settings = settingsOf(inode, "stream", path);
    if (settings.isShared === true) return this.#share(inode, settings, path, frames, options);
    for (const { length } of frames)
      if (length > LIMITS.frameBytesMax)
        throw new KernelError("E2BIG", `an entry has at most ${LIMITS.frameBytesMax} bytes, found ${length}`, { path });
    const stream = await this.#streamOf(inode, settings, path);
    const at = this.#committer.now();
    let flushed: Promise<void> | undefined;
    let seq: Seq;
    if (settings.isVolatile === true) {
      if ((options.along?.appends ?? []).length > 0)
        await this.#committer.commit({ ...options.along }, undefined, options.rider);
      seq = toSeq(stream.next++);
      for (const bytes of frames) stream.kept.push({ seq, at, bytes: copyBytes(bytes) });
      stream.kept.splice(0, this.#tooMany(stream, settings, at, 0));
    } else {
      const receipt = await this.#commit(inode, stream, settings, frames, at, options, path);
      seq = receipt.seq;
      for (let count = frames.length; count > 0; count--) stream.kept.push({ seq, at });
      if (options.durability === "flushed") ({ flushed } = receipt);
    }
    this.#changed.set(inode.ino, at);
    wakeAll(stream);
    await flushed;
    return seq;
  }

  /**
   * Entries of a stream in their order.
   * @throws {ESTALE} those behind the position are not kept any more · {EINVAL} it is no stream
   */
  async *read(inode: Inode, path: string, options: ReadOptions = {}): AsyncGenerator<StreamEntry, void, undefined> {
    const settings = settingsOf(inode, "stream", path);
    const { limit = Number.POSITIVE_INFINITY, follow = false, signals = [] } = options;
    if (settings.isShared === true) {
      yield* readRing(this.#ringOf(inode, settings, path), options);
      return;
    }
    const stream = await this.#streamOf(inode, settings, path);
    const { keepMs } = settings;
    const isOld = ({ at }: StreamEntry): boolean => keepMs !== undefined && at <= this.#committer.now() - keepMs;
    let position = options.after ?? SEQ_ZERO;
    for (let left = limit; left > 0;) {
      const arrived = follow ? this.#arrival(stream, signals) : undefined;
      try {
        const page =
          settings.isVolatile === true
            ? pageOf(stream, position, path)
            : await this.#page(inode, stream, position, path);
        for (const [at, entry] of page.entries()) {
          // It goes with the next append.
          if (isOld(entry)) continue;
          yield entry;
          // Whoever goes on behind a position has seen all of it.
          if (--left <= 0 && page[at + 1]?.seq !== entry.seq) return;
        }
        const last = page.at(-1);
        if (last !== undefined) position = last.seq;
        else if (arrived === undefined || stream.isGone) return;
        else await arrived.done;
        if (stream.isGone) return;
      } finally {
        arrived?.forget();
      }
    }
  }

  /**
   * Puts a piece into a pipe.
   * @throws {EAGAIN} it is full, and nobody waits or no longer · {EPIPE} it is closed · {EINVAL} it is no pipe
   */
  async put(inode: Inode, path: string, frame: Uint8Array, options: WaitOptions = {}): Promise<void> {
    return putFrame(this.#platform, this.#pipeOf(inode, path), frame, options);
  }

  /**
   * Takes a piece out of a pipe; `null` when it is closed and empty.
   * @throws {EAGAIN} it is empty, and nobody waits or no longer · {EINVAL} it is no pipe
   */
  async take(inode: Inode, path: string, options: WaitOptions = {}): Promise<Uint8Array | null> {
    return takeFrame(this.#platform, this.#pipeOf(inode, path), options);
  }

  /** No more pieces come; what is in it is still taken. */
  close(inode: Inode, path: string): void {
    this.#pipeOf(inode, path).close();
  }

  /**
   * The memory of a shared stream, for another thread.
   * @throws {EINVAL} it is no shared stream
   */
  memoryOf(inode: Inode, path: string): SharedArrayBuffer {
    const settings = settingsOf(inode, "stream", path);
    if (settings.isShared !== true)
      throw new KernelError("EINVAL", "it is not in memory that threads share; make it with isShared", { path });
    return this.#ringOf(inode, settings, path).memory;
  }

  /** When something was last added to a stream; nothing where this host has added nothing yet. */
  changedAt(ino: Ino): number | undefined {
    return this.#changed.get(ino);
  }

  /** A process is gone, and with it perhaps a thread that had a turn. */
  forgetWriter(pid: Pid): void {
    for (const ring of this.#rings.values()) ring.forget(pid);
  }

  /** The name is gone: who waits is told. */
  forget(ino: Ino): void {
    this.#rings.get(ino)?.close();
    this.#rings.delete(ino);
    this.#changed.delete(ino);
    this.#pipes.get(ino)?.discard();
    this.#pipes.delete(ino);
    const stream = this.#streams.get(ino);
    this.#streams.delete(ino);
    void stream?.then((gone) => {
      gone.isGone = true;
      wakeAll(gone);
    });
  }

  async #commit(
    inode: Inode,
    stream: Stream,
    settings: FlowSettings,
    frames: readonly Uint8Array[],
    at: number,
    { along, rider }: AppendOptions,
    path: string,
  ): Promise<Receipt> {
    const log = streamLog(inode.ino);
    for (let tries = 1; ; tries++) {
      // One that is just being made has no version yet.
      if (inode.recordVersion === SEQ_ZERO) await inode.tail;
      const gone = this.#tooMany(stream, settings, at, frames.length);
      const through = stream.kept[gone - 1]?.seq;
      try {
        const receipt = await this.#committer.commit(
          {
            checks: [{ key: inodeKey(inode.ino), version: inode.recordVersion }],
            appends: [...frames.map((frame) => ({ log, value: encode(frame, at) })), ...(along?.appends ?? [])],
            ...(through === undefined ? {} : { trims: [{ log, through }] }),
          },
          undefined,
          rider,
        );
        // Others may have trimmed meanwhile: what is gone is known by its position.
        if (through !== undefined) stream.kept.splice(0, firstBehind(stream.kept, through));
        return receipt;
      } catch (error) {
        // Its attributes were changed: it is the same stream.
        if (!isLostRace(error) || tries >= LIMITS.casRetriesMax) throw error;
        if (!inode.linked) throw gonePath(path);
        await new Promise<void>((resolve) => this.#platform.defer(resolve));
      }
    }
  }

  /** How many of the oldest entries are not kept when so many more have come; of many, some are forgotten at a time. */
  #tooMany({ kept }: Stream, { keep = LIMITS.streamKeep, keepMs }: FlowSettings, now: number, more: number): number {
    const excess = kept.length + more - keep;
    let gone = excess > keep >> SLACK_SHIFT ? excess : 0;
    if (keepMs !== undefined) while (gone < kept.length && (kept[gone]?.at ?? now) <= now - keepMs) gone++;
    // Entries of one position go together.
    while (gone > 0 && gone < kept.length && kept[gone]?.seq === kept[gone - 1]?.seq) gone--;
    return Math.min(gone, kept.length);
  }

  async #page(inode: Inode, stream: Stream, after: Seq, path: string): Promise<readonly StreamEntry[]> {
    try {
      const page = await this.#store.readLog(streamLog(inode.ino), { after, limit: PAGE });
      return page.map(({ seq, value }) => decode(seq, value));
    } catch (error) {
      if (isKernelError(error) && error.code === "ESTALE") throw stale(path, after, stream.kept[0]?.seq);
      throw error;
    }
  }

  /** Settles with the next append, or with a signal. */
  #arrival({ waiting }: Stream, signals: readonly AbortSignal[]): { readonly done: Promise<void>; forget(): void } {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onAbort = (): void => {
      forget();
      reject(signals.find(({ aborted }) => aborted)?.reason);
    };
    const forget = (): void => {
      waiting.delete(wake);
      for (const signal of signals) signal.removeEventListener("abort", onAbort);
    };
    const wake = (): void => {
      forget();
      resolve();
    };
    waiting.add(wake);
    for (const signal of signals) {
      if (signal.aborted) onAbort();
      signal.addEventListener("abort", onAbort, { once: true });
    }
    // Nobody may come to wait for it.
    promise.catch(() => undefined);
    return { done: promise, forget };
  }

  #pipeOf(inode: Inode, path: string): Pipe {
    const { capacity = LIMITS.pipeBytes } = settingsOf(inode, "pipe", path);
    if (!inode.linked) throw gonePath(path);
    let pipe = this.#pipes.get(inode.ino);
    if (pipe === undefined) this.#pipes.set(inode.ino, (pipe = new Pipe(path, capacity, this.#pipeRoom)));
    return pipe;
  }

  /** Appends to a shared stream; what belongs along is committed first. */
  async #share(
    inode: Inode,
    settings: FlowSettings,
    path: string,
    frames: readonly Uint8Array[],
    { along, rider }: AppendOptions,
  ): Promise<Seq> {
    const ring = this.#ringOf(inode, settings, path);
    if ((along?.appends ?? []).length > 0) await this.#committer.commit({ ...along }, undefined, rider);
    const at = this.#committer.now();
    const seq = await ring.appendSoon(frames, at);
    this.#changed.set(inode.ino, at);
    return seq;
  }

  #ringOf(inode: Inode, { capacity = LIMITS.pipeBytes }: FlowSettings, path: string): SharedRing {
    if (!inode.linked) throw gonePath(path);
    let ring = this.#rings.get(inode.ino);
    if (ring !== undefined) return ring;
    let taken = 0;
    for (const { memory } of this.#rings.values()) taken += memory.byteLength;
    if (taken + capacity > LIMITS.sharedBytesMax)
      throw new KernelError(
        "ENOMEM",
        `streams in shared memory have ${LIMITS.sharedBytesMax} bytes together, of which ${taken} are taken; remove one, or give this one a capacity below ${capacity}`,
        { path },
      );
    ring = new SharedRing(SharedRing.make(capacity), PID_OWNER);
    this.#rings.set(inode.ino, ring);
    return ring;
  }

  #streamOf(inode: Inode, settings: FlowSettings, path: string): Promise<Stream> {
    if (!inode.linked) return Promise.reject(gonePath(path));
    let stream = this.#streams.get(inode.ino);
    if (stream === undefined) this.#streams.set(inode.ino, (stream = this.#load(inode, settings)));
    return stream;
  }

  async #load({ ino }: Inode, { isVolatile = false }: FlowSettings): Promise<Stream> {
    // Positions of a volatile one go on behind those of earlier lives: the clock of the host never goes back.
    const stream: Stream = { kept: [], waiting: new Set(), next: this.#committer.now() * 1000, isGone: false };
    if (isVolatile) return stream;
    for await (const { seq, value } of logOf(this.#store, streamLog(ino), SEQ_ZERO, PAGE))
      stream.kept.push({ seq, at: decode(seq, value).at });
    return stream;
  }
}

/** Entries of a shared stream behind a position, and with `follow` those that come. */
async function* readRing(
  ring: SharedRing,
  { after = SEQ_ZERO, limit = Number.POSITIVE_INFINITY, follow = false, signals = [] }: ReadOptions,
): AsyncGenerator<StreamEntry, void, undefined> {
  let position = after;
  for (let left = limit; left > 0;) {
    const entry = ring.next(position);
    if (entry !== undefined) {
      yield entry;
      position = entry.seq;
      left--;
    } else if (!follow || ring.isOver) return;
    else await signals.reduce((waiting, signal) => orAborted(waiting, signal), ring.arrival(position));
  }
}

function settingsOf({ attributes: { type, flow = {} } }: Inode, wanted: "pipe" | "stream", path: string): FlowSettings {
  if (type === wanted) return flow;
  throw new KernelError("EINVAL", `it is a ${type}, not a ${wanted}`, { path });
}

function pageOf({ kept, next }: Stream, after: Seq, path: string): readonly StreamEntry[] {
  const first = kept[0]?.seq ?? next;
  if (after !== SEQ_ZERO && (after < first - 1 || after >= next)) throw stale(path, after, kept[0]?.seq);
  const from = firstBehind(kept, after);
  let to = Math.min(kept.length, from + PAGE);
  // Entries of one position are read together.
  while (to < kept.length && kept[to]?.seq === kept[to - 1]?.seq) to++;
  return kept.slice(from, to).map(({ seq, at, bytes }) => ({ seq, at, bytes: copyBytes(bytes ?? new Uint8Array()) }));
}

/** Where the entries behind a position begin. */
function firstBehind(kept: Stream["kept"], position: Seq): number {
  let [low, high] = [0, kept.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((kept[middle]?.seq ?? 0) > position) high = middle;
    else low = middle + 1;
  }
  return low;
}

function wakeAll({ waiting }: Stream): void {
  const all = [...waiting];
  waiting.clear();
  for (const wake of all) wake();
}

const gonePath = (path: string): KernelError => new KernelError("ENOENT", "it was removed meanwhile", { path });

const stale = (path: string, after: Seq, first: Seq | undefined): KernelError =>
  new KernelError(
    "ESTALE",
    `what came behind position ${after} is not kept any more; ${first === undefined ? "nothing is kept" : `the earliest is at ${first}`}`,
    { path },
  );

/** The time, as a number of 8 bytes, and the content. */
function encode(frame: Uint8Array, at: number): Uint8Array {
  const value = new Uint8Array(HEADER + frame.length);
  new DataView(value.buffer).setFloat64(0, at);
  value.set(frame, HEADER);
  return value;
}

function decode(seq: Seq, value: string | Uint8Array): StreamEntry {
  if (typeof value === "string" || value.length < HEADER)
    throw new KernelError("ECORRUPT", `the entry of a stream at ${seq} is damaged; run \`ergos fsck\``);
  const at = new DataView(value.buffer, value.byteOffset, value.byteLength).getFloat64(0);
  return { seq, at, bytes: value.slice(HEADER) };
}
