// One client of a host: its calls are made as the process that the connection stands for.
//
// W1  Arguments are validated against the row's schema before anything else; an unknown row is ENOSYS.
// W2  A client with CALLS_MAX calls under way is not read from until one is answered and has gone: it blocks itself.
//     Calls that only wait, and bring little, are counted by themselves, and refused beyond WAITING_MAX: what ends them
//     must get through.
// W3  A stream sends no more items than it has credit for.
// W4  A mutation repeated with the same request id is answered with the first outcome, not done again.
// W5  Nothing is answered before what it depends on is flushed (the output rule).
// W7  A call that its client gives up hears so by its signal; its answer tells what became of it. That a client is gone
//     gives up what would only wait for something to take; what acts is recorded all the same.
// W6  A client acts as whom its pass stands for; without one that is valid it gets no further than hello.

import { hash } from "node:crypto";
import {
  KernelError,
  type Login,
  type Os,
  SYSCALLS,
  type SyscallName,
  assertValid,
  cancelled,
  isSyscallName,
  linkSignal,
  WITHIN_STEP,
  toErrorRecord,
  toFd,
  Serial,
} from "@ergos/kernel";
import { FrameReader, encodeFrame, protocolError } from "./frame.ts";
import {
  CALLS_MAX,
  type ClientMessage,
  type HostMessage,
  INITIAL_CREDIT,
  WAITING_MAX,
  WIRE_VERSIONS,
  parseClientMessage,
  takesBytes,
} from "./message.ts";

/** What the table says of a call, beside what it does. */
const says = (name: string, what: "waits" | "waitsIdly" | "isLong" | "isLarge"): boolean =>
  isSyscallName(name) && what in SYSCALLS[name];

/** Bytes of a call that only waits, for which it is held beside those under way: of larger ones there are no more. */
const LIGHT_BYTES = 4096;

const isLight = (args: Readonly<Record<string, unknown>>, bytes: Uint8Array | undefined): boolean =>
  (bytes?.length ?? 0) <= LIGHT_BYTES && JSON.stringify(args).length <= LIGHT_BYTES;

/** Memory that threads share, as the answer to a call: it goes beside the frames, which are bytes. */
export interface SharedMemory {
  readonly id: number;
  readonly memory: SharedArrayBuffer;
}

export interface Peer {
  write(parts: readonly Uint8Array[]): void;
  /** Hands memory to a thread, as the answer to a call; absent where nobody can share it. */
  readonly share?: (answer: SharedMemory) => void;
  /** Settles when what was written has gone, as far as it exceeds what may wait. */
  drained(): Promise<void>;
  pause(): void;
  resume(): void;
  close(): void;
}

/** Bytes of answers that are kept for a repetition; below the smaller number an answer counts for none. */
const KEPT_BYTES_MAX = 64 * 1024 * 1024;
const SMALL_BYTES = 4096;

/** Outcomes of mutations by request id, the latest ones; shared by the sessions of a host, because a client reconnects. */
export class Requests {
  readonly #outcomes = new Map<string, { readonly outcome: Promise<unknown>; bytes: number }>();
  readonly #max: number;
  #bytes = 0;

  constructor(max = 10_000) {
    this.#max = max;
  }

  once(rid: string, work: () => Promise<unknown>): Promise<unknown> {
    const known = this.#outcomes.get(rid);
    if (known !== undefined) return known.outcome;
    const outcome = work();
    outcome.catch(() => undefined);
    this.#outcomes.set(rid, { outcome, bytes: 0 });
    this.#forget();
    return outcome;
  }

  /** An answer has been sent, and was so large. */
  weigh(rid: string, bytes: number): void {
    const known = this.#outcomes.get(rid);
    if (known === undefined || bytes < SMALL_BYTES) return;
    this.#bytes += bytes - known.bytes;
    known.bytes = bytes;
    this.#forget();
  }

  /** Lets the oldest go until the others fit. */
  #forget(): void {
    for (const [rid, { bytes }] of this.#outcomes) {
      const isFull = this.#outcomes.size > this.#max;
      if (!isFull && this.#bytes <= KEPT_BYTES_MAX) return;
      if (!isFull && bytes === 0) continue;
      this.#outcomes.delete(rid);
      this.#bytes -= bytes;
    }
  }
}

interface Stream {
  credit: number;
  wake: (() => void) | undefined;
  readonly abort: AbortController;
}

const closing = (): KernelError => new KernelError("ECONNRESET", "the host is closing; connect again");

/** Whom a pass stands for. */
export type Authenticate = (pass: string | undefined) => Promise<Login>;

export class Session {
  readonly #login: Authenticate;
  /** The calls of whom the client has shown to be. */
  #seat: Login | undefined;
  /** What came while a pass was looked at. */
  #early: Uint8Array[] | undefined;
  readonly #waiting: [ClientMessage, Uint8Array | undefined][] = [];
  readonly #peer: Peer;
  readonly #requests: Requests;
  readonly #hostVersion: string;
  readonly #reader = new FrameReader();
  readonly #streams = new Map<number, Stream>();
  /** Calls under way that their client may give up. */
  readonly #cancellable = new Map<number, { readonly controller: AbortController; readonly waits: boolean }>();
  #underWay = 0;
  #waits = 0;
  readonly #answers = new Set<Promise<void>>();
  /** Of those, the calls that do not only wait. */
  readonly #acting = new Set<Promise<void>>();
  readonly #called = Promise.withResolvers<void>();
  #hasCalled = false;
  #isDraining = false;
  /** The answer to its exit. */
  #lastWords: Promise<void> | undefined;
  #isPaused = false;
  #isClosed = false;
  /** Handles that the client has opened; they are closed with it. */
  readonly #handles = new Set<number>();
  /** Answers with bytes are made one after the other, each when the last has gone. */
  readonly #largeAnswers = new Serial();

  constructor(login: Authenticate, peer: Peer, requests: Requests, hostVersion: string) {
    this.#login = login;
    this.#peer = peer;
    this.#requests = requests;
    this.#hostVersion = hostVersion;
  }

  receive(chunk: Uint8Array): void {
    if (this.#isClosed) return;
    if (this.#early !== undefined) {
      this.#early.push(chunk);
      return;
    }
    try {
      const frames = this.#reader.push(chunk);
      for (const { message, bytes } of frames) this.#handle(parseClientMessage(message), bytes);
    } catch (error) {
      this.#refuse(error);
    }
  }

  #refuse(error: unknown): void {
    this.#send({ t: "bye", error: toErrorRecord(error, "EPROTO") });
    this.close();
  }

  get #os(): Os {
    if (this.#seat === undefined) throw protocolError("the first message must be hello");
    return this.#seat.os;
  }

  /** Settles when every call so far is answered; of who has not called yet, when it has. */
  async idle(): Promise<void> {
    if (!this.#hasCalled) await this.#called.promise;
    await Promise.allSettled(this.#answers);
  }

  /** Takes no more calls, and settles when those that act are answered. */
  async drain(): Promise<void> {
    this.#isDraining = true;
    this.#called.resolve();
    await Promise.allSettled(this.#acting);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const stream of this.#streams.values()) {
      stream.abort.abort(cancelled("the client has gone"));
      stream.wake?.();
    }
    for (const { controller, waits } of this.#cancellable.values())
      if (waits) controller.abort(cancelled("the client has gone"));
    for (const fd of this.#handles) this.#release(fd);
    void this.#seat?.leave().catch(() => undefined);
    this.#peer.close();
  }

  #handle(message: ClientMessage, bytes: Uint8Array | undefined): void {
    if (this.#early !== undefined) {
      this.#waiting.push([message, bytes]);
      return;
    }
    if (message.t === "hello") return this.#greet(message.versions, message.pass);
    if (this.#seat === undefined) throw protocolError("the first message must be hello");
    switch (message.t) {
      case "call":
        return this.#call(message, bytes);
      case "credit": {
        const stream = this.#streams.get(message.id);
        if (stream === undefined) return;
        stream.credit += message.n;
        return stream.wake?.();
      }
      case "cancel": {
        const stream = this.#streams.get(message.id);
        this.#cancellable.get(message.id)?.controller.abort(cancelled("the client has given the call up"));
        stream?.abort.abort(cancelled("the client has given the call up"));
        return stream?.wake?.();
      }
      default:
        message satisfies never;
    }
  }

  #greet(versions: readonly number[], pass: string | undefined): void {
    const version = WIRE_VERSIONS.findLast((ours) => versions.includes(ours));
    if (version === undefined) {
      throw new KernelError(
        "EVERSION",
        `the client speaks wire versions ${versions.join(", ")}, this host ${WIRE_VERSIONS.join(", ")}; use the same ErgOS on both sides`,
      );
    }
    if (this.#seat !== undefined) throw protocolError("a second hello");
    if (this.#isDraining) throw closing();
    this.#early = [];
    this.#login(pass).then(
      (seat) => {
        if (this.#isClosed) {
          seat.leave().catch(() => undefined);
          return;
        }
        this.#seat = seat;
        void seat.ended.then(async (why) => {
          // Whoever has ended by itself hears that it has.
          await this.#lastWords;
          this.#refuse(
            this.#lastWords === undefined
              ? (why ?? new KernelError("EACCES", "the pass was taken back, or its issuer has ended"))
              : new KernelError("ECONNRESET", "the process has ended, as it said"),
          );
        });
        const host = { version: this.#hostVersion, pid: process.pid };
        this.#send({ t: "welcome", version, pid: seat.os.pid, host });
        this.#goOn();
      },
      (error: unknown) => this.#refuse(error),
    );
  }

  /** Handles what came while the pass was looked at. */
  #goOn(): void {
    const [chunks, messages] = [this.#early ?? [], this.#waiting.splice(0)];
    this.#early = undefined;
    try {
      for (const [message, bytes] of messages) this.#handle(message, bytes);
    } catch (error) {
      this.#refuse(error);
      return;
    }
    for (const chunk of chunks) this.receive(chunk);
  }

  #call(message: ClientMessage & { readonly t: "call" }, bytes: Uint8Array | undefined): void {
    this.#hasCalled = true;
    this.#called.resolve();
    let isCounted = !says(message.name, "waits") || !isLight(message.args, bytes);
    if (isCounted) this.#begin();
    const answer = this.#answer(message, bytes)
      .catch(async (error: unknown) => {
        // Whoever was refused has not ended by itself.
        if (message.name === "exit") this.#lastWords = undefined;
        // Whoever is told to end hears that first, and then what it has come to.
        if (this.#seat?.signal.aborted === true) await new Promise((turn) => setImmediate(turn));
        this.#send({ t: "error", id: message.id, error: toErrorRecord(error, "EIO") });
      })
      .then(() => {
        // Also a call that only waited has an answer that must go.
        if (!isCounted) this.#begin();
        isCounted = true;
        return this.#peer.drained();
      })
      .finally(() => {
        this.#answers.delete(answer);
        this.#acting.delete(answer);
        if (isCounted) this.#end();
      });
    this.#answers.add(answer);
    if (!says(message.name, "waits") && !says(message.name, "isLong")) this.#acting.add(answer);
    if (message.name === "exit") this.#lastWords = answer;
  }

  /** Counts a call, or an answer, that is under way: a client with as many as there may be is not read from. */
  #begin(): void {
    if (++this.#underWay < CALLS_MAX || this.#isPaused) return;
    this.#isPaused = true;
    this.#peer.pause();
  }

  #end(): void {
    if (--this.#underWay >= CALLS_MAX || !this.#isPaused || this.#isClosed) return;
    this.#isPaused = false;
    this.#peer.resume();
  }

  async #answer(message: ClientMessage & { readonly t: "call" }, bytes: Uint8Array | undefined): Promise<void> {
    const { id, name, args, rid } = message;
    if (this.#isDraining) throw closing();
    if (this.#streams.has(id) || this.#cancellable.has(id))
      throw protocolError(`the number ${id} of a call that is under way`);
    if (!isSyscallName(name))
      throw new KernelError("ENOSYS", `this host has no call ${JSON.stringify(name)}; see /sys/syscalls`);
    const row = SYSCALLS[name];
    const raw = bytes ?? new Uint8Array(0);
    const full = {
      ...args,
      ...(typeof message.step === "string" ? { [WITHIN_STEP]: message.step } : {}),
      ...(takesBytes(name) ? { bytes: raw } : {}),
      ...(message.lengths === undefined || row.schema.properties?.["entries"] === undefined
        ? {}
        : { entries: cut(raw, message.lengths) }),
    };
    assertValid(row.schema, full, `the arguments of ${name}`);
    if (row.isStream === true) return this.#stream(id, name, full);
    // The schema has vouched for the arguments.
    const call =
      says(name, "waitsIdly") || (message.cancel === true && row.schema.properties?.["signal"] === undefined)
        ? () => this.#callCancellable(id, name, full)
        : async (): Promise<unknown> => this.#os.call(name, full as never);
    if (says(name, "isLarge")) return this.#inBytesTurn(id, call);
    if (says(name, "waits") && ++this.#waits > WAITING_MAX) {
      this.#waits--;
      throw new KernelError("EAGAIN", `${WAITING_MAX} calls of this client wait already; try again when one has ended`);
    }
    const key = row.kind === "mutation" && rid !== undefined ? this.#requestKey(rid, name, full) : undefined;
    const value = await (key === undefined ? call() : this.#requests.once(key, call)).finally(() => {
      if (says(name, "waits")) this.#waits--;
    });
    if (name === "open") this.#keepHandle(Number(value));
    await this.#seat?.flush();
    if (name === "close") this.#handles.delete(Number(args["fd"]));
    if (value instanceof SharedArrayBuffer) this.#share(id, value);
    else {
      const size = this.#sendResult(id, value);
      if (key !== undefined) this.#requests.weigh(key, size);
    }
  }

  #share(id: number, memory: SharedArrayBuffer): void {
    if (this.#peer.share === undefined)
      throw new KernelError("ENOTSUP", "only threads of the host share memory; read and append by calls");
    this.#peer.share({ id, memory });
  }

  async #callCancellable(id: number, name: SyscallName, args: Readonly<Record<string, unknown>>): Promise<unknown> {
    const controller = new AbortController();
    const seat = this.#seat;
    const unlink = seat === undefined || seat.isShielded?.() === true ? undefined : linkSignal(seat.signal, controller);
    this.#cancellable.set(id, { controller, waits: says(name, "waitsIdly") });
    try {
      return await this.#os.call(name, { ...args, signal: controller.signal } as never);
    } finally {
      this.#cancellable.delete(id);
      unlink?.();
    }
  }

  /** What one client has asked is never answered to another, nor another question. */
  #requestKey(rid: string, name: string, args: Readonly<Record<string, unknown>>): string {
    const json = JSON.stringify(args, (_key, value: unknown) =>
      value instanceof Uint8Array ? hash("sha256", value, "hex") : value,
    );
    return hash("sha256", JSON.stringify([this.#seat?.identity, rid, name, json]), "hex");
  }

  #keepHandle(fd: number): void {
    if (this.#isClosed) this.#release(fd);
    else this.#handles.add(fd);
  }

  /** Closes a handle; that of a seat which is gone has gone with it. */
  #release(fd: number): void {
    const close = async (): Promise<void> => this.#os.call("close", { fd: toFd(fd) });
    close().catch(() => undefined);
  }

  /** A client that does not read its answers gets no more of them made (W2). */
  #inBytesTurn(id: number, call: () => Promise<unknown>): Promise<void> {
    const answer = async (): Promise<void> => {
      if (this.#isClosed) return;
      const value = await call();
      await this.#seat?.flush();
      this.#sendResult(id, value);
      await this.#peer.drained();
    };
    return this.#largeAnswers.run(answer);
  }

  async #stream(id: number, name: SyscallName, args: Readonly<Record<string, unknown>>): Promise<void> {
    // Known before the call is made, so that a cancellation that follows at once finds it.
    const stream: Stream = { credit: INITIAL_CREDIT, wake: undefined, abort: new AbortController() };
    this.#streams.set(id, stream);
    let items: unknown;
    try {
      items = await this.#os.call(name, { ...args, signal: stream.abort.signal } as never);
    } catch (error) {
      this.#streams.delete(id);
      throw error;
    }
    if (this.#isClosed) stream.abort.abort(cancelled("the client has gone"));
    this.#send({ t: "stream", id });
    // A stream is no call under way: it may last as long as the connection.
    void this.#pump(id, name, stream, items as AsyncGenerator).finally(() => this.#streams.delete(id));
  }

  async #pump(id: number, name: SyscallName, stream: Stream, items: AsyncGenerator): Promise<void> {
    try {
      for await (const value of items) {
        while (stream.credit <= 0 && !stream.abort.signal.aborted) {
          await new Promise<void>((resolve) => (stream.wake = resolve));
          stream.wake = undefined;
        }
        if (stream.abort.signal.aborted) break;
        stream.credit--;
        // A signal is no outcome of anything.
        if (name !== "signals") await this.#seat?.flush();
        this.#sendItem(id, value);
        await this.#peer.drained();
      }
      this.#send({ t: "end", id });
    } catch (error) {
      this.#send({ t: "error", id, error: toErrorRecord(error, "EIO") });
    }
  }

  #sendResult(id: number, value: unknown): number {
    return value instanceof Uint8Array
      ? this.#send({ t: "result", id, isBytes: true }, value)
      : this.#send({ t: "result", id, value });
  }

  #sendItem(id: number, value: unknown): void {
    if (typeof value !== "object" || value === null || !("bytes" in value) || !(value.bytes instanceof Uint8Array)) {
      this.#send({ t: "item", id, value });
      return;
    }
    const { bytes, ...rest } = value;
    this.#send({ t: "item", id, value: rest, hasBytes: true }, bytes);
  }

  /** Sends a message, and tells how many bytes it has. */
  #send(message: HostMessage, bytes?: Uint8Array): number {
    if (this.#isClosed) return 0;
    const frame = encodeFrame(message, bytes);
    this.#peer.write(frame);
    return frame.reduce((sum, { length }) => sum + length, 0);
  }
}

/** @throws {EPROTO} the lengths are not those of the bytes */
function cut(bytes: Uint8Array, lengths: readonly number[]): readonly Uint8Array[] {
  if (lengths.reduce((sum, length) => sum + length, 0) !== bytes.length)
    throw protocolError(`${bytes.length} bytes for entries of other lengths`);
  let at = 0;
  return lengths.map((length) => bytes.subarray(at, (at += length)));
}
