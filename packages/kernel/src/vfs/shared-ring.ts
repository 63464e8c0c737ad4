// A stream in memory that threads share: each reads it where it is, and appends to it, without asking anybody.
//
// R1  What is written becomes visible in one step, by the position of its end. A thread that ends before that has
//     written nothing.
// R2  Room is made first: the oldest entries give way before anything of theirs is overwritten, and a reader looks at
//     what is still kept after it has copied.
// R3  One writes at a time. A writer that is gone is told by its number; of one that nobody tells of, the turn is over
//     when it has not moved for a while.
//
// Layout: a head of words, then a ring of entries: length, the low half of its position, time, content, to 8 bytes.
// A position is the number of bytes of the ring that were ever used; an entry is never split over its end. What is shared
// of one is its low half, in units of 8 bytes; beside it stands all of it, written before, which may be ahead of it.

import type { StreamEntry } from "../abi/flow.ts";
import { KernelError } from "../base/errno.ts";
import { type Seq, SEQ_ZERO, toSeq } from "../base/id.ts";

/** Where the newest entry ends, and where the oldest that is kept begins. */
const TAIL = 0;
const FIRST = 1;
/** Both as numbers of 8 bytes. Each stands in a line of the cache of its own, as does what writers change for themselves. */
const WHOLE = [0, 8] as const;
/** Words of 4 bytes. */
const WORD = {
  /** Those that make the two positions known. */
  known: [2, 18],
  /** Whose turn it is to write, the count of turns, and how many want one. */
  turn: 32,
  turns: 33,
  wanted: 34,
  /** How often something has come, and how many wait for that. */
  bell: 48,
  heard: 49,
  isOver: 50,
} as const;
const HEAD_BYTES = 256;
const ENTRY_BYTES = 16;
const CAPACITY_MIN = 64;
/** In the place of a length: the rest of the ring is not used. */
const SKIP = 0xffff_ffff;
const SPINS = 200;
const TURN_WAIT_MS = 1;
/** Milliseconds after which the turn of a writer that does not move is over. */
const STALLED_MS = 2000;

export class SharedRing {
  /** What threads share. */
  readonly memory: SharedArrayBuffer;
  readonly #positions: Float64Array;
  readonly #flags: Int32Array;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #capacity: number;
  readonly #writer: number;
  /** Appends of this thread that wait for the turn, one after the other. */
  #line: Promise<undefined> | undefined;

  /** @param writer number of who appends here; no other thread has it */
  constructor(memory: SharedArrayBuffer, writer: number) {
    this.memory = memory;
    this.#positions = new Float64Array(memory, 0, HEAD_BYTES / 8);
    this.#flags = new Int32Array(memory, 0, HEAD_BYTES / 4);
    this.#view = new DataView(memory, HEAD_BYTES);
    this.#bytes = new Uint8Array(memory, HEAD_BYTES);
    this.#capacity = memory.byteLength - HEAD_BYTES;
    this.#writer = writer;
  }

  /**
   * Memory for so many bytes of entries, each with 16 bytes of its own.
   * @throws {ENOMEM} the machine has no more
   */
  static make(capacity: number): SharedArrayBuffer {
    try {
      return new SharedArrayBuffer(HEAD_BYTES + upTo8(Math.max(capacity, CAPACITY_MIN)));
    } catch (error) {
      throw new KernelError("ENOMEM", `there are no ${capacity} bytes of memory to share; ask for less`, {
        cause: error,
      });
    }
  }

  /** Bytes that one entry may have, or several together that are appended at once, with what each has of its own. */
  get entryMax(): number {
    return (this.#capacity >> 1) - ENTRY_BYTES;
  }

  get isOver(): boolean {
    return Atomics.load(this.#flags, WORD.isOver) !== 0;
  }

  /**
   * Adds entries, all of them visible at once; the position behind the last.
   * @param at wall-clock milliseconds that readers find with them
   * @throws {ENOENT} the stream was removed · {E2BIG} they do not fit into its memory together
   */
  append(contents: readonly Uint8Array[], at = 0): Seq {
    this.#assertFits(contents);
    this.#enter();
    return this.#write(contents, at);
  }

  /**
   * As `append`, for a thread that must not block: others may have the turn meanwhile. What it appends stands in the
   * order in which it was given.
   */
  async appendSoon(contents: readonly Uint8Array[], at = 0): Promise<Seq> {
    this.#assertFits(contents);
    if (this.#line === undefined && this.#tookTurn()) return this.#write(contents, at);
    const before = this.#line;
    const turn = (async (): Promise<Seq> => {
      await before;
      await this.#enterSoon();
      return this.#write(contents, at);
    })();
    const line = turn.then(
      () => undefined,
      () => undefined,
    );
    this.#line = line;
    void line.then(() => {
      if (this.#line === line) this.#line = undefined;
    });
    return turn;
  }

  #assertFits(contents: readonly Uint8Array[]): void {
    const total = contents.reduce((sum, { length }) => sum + ENTRY_BYTES + upTo8(length), 0);
    // What is skipped at the end of the ring is less than an entry: with half of it there is always room for both.
    if (total > this.#capacity >> 1)
      throw new KernelError(
        "E2BIG",
        `the stream has ${this.#capacity} bytes of memory, of which one append takes half at most; this takes ${total}`,
      );
  }

  /** Writes in its turn, and lets go of it. */
  #write(contents: readonly Uint8Array[], at: number): Seq {
    try {
      if (this.isOver) throw new KernelError("ENOENT", "the stream was removed");
      let tail = this.#position(TAIL);
      for (const content of contents) tail = this.#put(tail, content, at);
      this.#move(TAIL, tail);
      return toSeq(tail);
    } finally {
      this.#leave();
      this.#ring();
    }
  }

  /**
   * The entry behind a position, if there is one.
   * @throws {ESTALE} it is not kept any more, or nothing ever ended there
   */
  next(after: Seq = SEQ_ZERO): StreamEntry | undefined {
    const tail = this.#position(TAIL);
    const first = this.#position(FIRST);
    const wanted: number = after === SEQ_ZERO ? first : after;
    if (wanted < first || wanted > tail || wanted % 8 !== 0) throw stale(after, first);
    if (wanted === tail) return undefined;
    const position = this.#skipped(wanted);
    const offset = position % this.#capacity;
    const length = this.#view.getUint32(offset, true);
    const isEntry =
      this.#view.getUint32(offset + 4, true) === lowOf(position) && offset + ENTRY_BYTES + length <= this.#capacity;
    const at = this.#view.getFloat64(offset + 8, true);
    const bytes = isEntry ? this.#bytes.slice(offset + ENTRY_BYTES, offset + ENTRY_BYTES + length) : undefined;
    // It may have given way while it was copied. A change by nothing is done behind all that was read, on every machine.
    Atomics.add(this.#flags, WORD.known[FIRST], 0);
    const now = this.#position(FIRST);
    if (bytes === undefined || wanted < now) {
      // Whoever wanted the oldest gets the oldest of now.
      if (after === SEQ_ZERO && wanted < now) return this.next();
      throw stale(after, now);
    }
    return { seq: toSeq(position + ENTRY_BYTES + upTo8(length)), at, bytes };
  }

  /** Waits until something comes behind a position, without blocking; ends with its time, or when the stream is removed. */
  async arrival(after: Seq, waitMs?: number): Promise<void> {
    Atomics.add(this.#flags, WORD.heard, 1);
    try {
      const bell = Atomics.load(this.#flags, WORD.bell);
      if (this.#has(after)) return;
      const waiting = Atomics.waitAsync(this.#flags, WORD.bell, bell, waitMs);
      if (waiting.async) await waiting.value;
    } finally {
      Atomics.sub(this.#flags, WORD.heard, 1);
    }
  }

  /** Blocks this thread until something comes behind a position; ends with its time, or when the stream is removed. */
  block(after: Seq, waitMs?: number): void {
    Atomics.add(this.#flags, WORD.heard, 1);
    try {
      const bell = Atomics.load(this.#flags, WORD.bell);
      if (!this.#has(after)) Atomics.wait(this.#flags, WORD.bell, bell, waitMs);
    } finally {
      Atomics.sub(this.#flags, WORD.heard, 1);
    }
  }

  /** It is removed: nothing more comes. */
  close(): void {
    Atomics.store(this.#flags, WORD.isOver, 1);
    this.#ring();
  }

  /** A writer is gone: if it was its turn, that is over. */
  forget(writer: number): void {
    if (Atomics.compareExchange(this.#flags, WORD.turn, writer, 0) === writer) Atomics.notify(this.#flags, WORD.turn);
  }

  #has(after: Seq): boolean {
    return this.isOver || this.#position(TAIL) > after;
  }

  /** A position as it was made known; what stands beside it may be that of a writer that was ended before it said so. */
  #position(which: 0 | 1): number {
    const low = Atomics.load(this.#flags, WORD.known[which]);
    const whole = this.#positions[WHOLE[which]] ?? 0;
    const position = whole - ((lowOf(whole) - low) >>> 0) * 8;
    if (!Number.isSafeInteger(position) || position < 0 || position % 8 !== 0) throw damaged();
    return position;
  }

  #move(which: 0 | 1, to: number): void {
    this.#positions[WHOLE[which]] = to;
    // Nothing that is written afterwards is seen before it.
    Atomics.exchange(this.#flags, WORD.known[which], lowOf(to) | 0);
  }

  /** Writes one entry behind a position, and says where it ends. */
  #put(tail: number, content: Uint8Array, at: number): number {
    const size = ENTRY_BYTES + upTo8(content.length);
    const rest = this.#capacity - (tail % this.#capacity);
    const begin = size > rest ? tail + rest : tail;
    this.#makeRoom(begin + size);
    if (begin > tail && rest >= 4) this.#view.setUint32(tail % this.#capacity, SKIP, true);
    const offset = begin % this.#capacity;
    this.#view.setUint32(offset, content.length, true);
    this.#view.setUint32(offset + 4, lowOf(begin), true);
    this.#view.setFloat64(offset + 8, at, true);
    this.#bytes.set(content, offset + ENTRY_BYTES);
    return begin + size;
  }

  /** Lets the oldest entries give way until what ends at a position fits (R2). */
  #makeRoom(end: number): void {
    let first = this.#position(FIRST);
    if (end - first <= this.#capacity) return;
    // What is kept and one entry more.
    if (end - first > 2 * this.#capacity) throw damaged();
    while (end - first > this.#capacity) {
      first = this.#skipped(first);
      first += ENTRY_BYTES + upTo8(this.#view.getUint32(first % this.#capacity, true));
    }
    if (first > end) throw damaged();
    this.#move(FIRST, first);
  }

  /** Where an entry really begins: at the end of the ring there may be no room for one. */
  #skipped(position: number): number {
    const offset = position % this.#capacity;
    const rest = this.#capacity - offset;
    return rest < ENTRY_BYTES || this.#view.getUint32(offset, true) === SKIP ? position + rest : position;
  }

  /** Waits for the turn to write (R3). */
  #enter(): void {
    if (this.#tookTurn()) return;
    const wait = this.#wantTurn();
    while (!this.#gotTurn(wait)) wait.outcome = Atomics.wait(this.#flags, WORD.turn, wait.whose, TURN_WAIT_MS);
  }

  async #enterSoon(): Promise<void> {
    if (this.#tookTurn()) return;
    const wait = this.#wantTurn();
    while (!this.#gotTurn(wait)) {
      const waiting = Atomics.waitAsync(this.#flags, WORD.turn, wait.whose, TURN_WAIT_MS);
      wait.outcome = waiting.async ? await waiting.value : waiting.value;
    }
  }

  /** Takes the turn if it is nobody's, or is so in a moment. */
  #tookTurn(): boolean {
    for (let spins = 0; spins < SPINS; spins++)
      if (Atomics.compareExchange(this.#flags, WORD.turn, 0, this.#writer) === 0) {
        this.#entered();
        return true;
      }
    return false;
  }

  #wantTurn(): TurnWait {
    Atomics.add(this.#flags, WORD.wanted, 1);
    return { whose: 0, waitedMs: 0, turns: Atomics.load(this.#flags, WORD.turns), outcome: undefined };
  }

  /** Takes the turn if it is nobody's, or of a thread that is no more; else says in `wait` whose it is. */
  #gotTurn(wait: TurnWait): boolean {
    const flags = this.#flags;
    if (wait.outcome === "timed-out") wait.waitedMs += TURN_WAIT_MS;
    const turns = Atomics.load(flags, WORD.turns);
    if (turns !== wait.turns) [wait.waitedMs, wait.turns] = [0, turns];
    const { whose, waitedMs } = wait;
    // Nobody has moved for so long: its thread is no more.
    const isTaken =
      waitedMs >= STALLED_MS && whose !== 0 && Atomics.compareExchange(flags, WORD.turn, whose, this.#writer) === whose;
    if (!isTaken && (wait.whose = Atomics.compareExchange(flags, WORD.turn, 0, this.#writer)) !== 0) return false;
    Atomics.sub(flags, WORD.wanted, 1);
    this.#entered();
    return true;
  }

  #entered(): void {
    // Only whose turn it is changes their count.
    Atomics.store(this.#flags, WORD.turns, ((this.#flags[WORD.turns] ?? 0) + 1) | 0);
  }

  #leave(): void {
    // Whoever was thought to be gone has lost its turn to another one.
    const was = Atomics.compareExchange(this.#flags, WORD.turn, this.#writer, 0);
    if (was === this.#writer && Atomics.load(this.#flags, WORD.wanted) > 0) Atomics.notify(this.#flags, WORD.turn, 1);
  }

  #ring(): void {
    Atomics.add(this.#flags, WORD.bell, 1);
    if (Atomics.load(this.#flags, WORD.heard) > 0) Atomics.notify(this.#flags, WORD.bell);
  }
}

/** What a thread that wants the turn knows of whose it is. */
interface TurnWait {
  whose: number;
  /** How long nobody has moved. */
  waitedMs: number;
  turns: number;
  outcome: "ok" | "not-equal" | "timed-out" | undefined;
}

const damaged = (): KernelError =>
  new KernelError(
    "ECORRUPT",
    "the memory of the stream holds what no append writes; a thread that shares it has overwritten it. Remove the stream, and make it anew",
  );

/** The half of a position that is shared, in units of 8 bytes. */
const lowOf = (position: number): number => (position / 8) >>> 0;

const upTo8 = (size: number): number => Math.ceil(size / 8) * 8;

const stale = (after: Seq, first: number): KernelError =>
  new KernelError("ESTALE", `what came behind position ${after} is not kept any more; the earliest is at ${first}`);
