// One client of a host: its calls are made as the process that the connection stands for.
//
// W1  Arguments are validated against the row's schema before anything else; an unknown row is ENOSYS.
// W2  A client with CALLS_MAX calls under way is not read from until one is answered: it blocks itself.
// W3  A stream sends no more items than it has credit for.
// W4  A mutation repeated with the same request id is answered with the first outcome, not done again.
//     Calls that only wait (`wait`) are not counted: the call that ends them must get through.
// W5  Nothing is answered before what it depends on is flushed (the output rule).

import {
  KernelError,
  type Os,
  SYSCALLS,
  type SyscallName,
  assertValid,
  isSyscallName,
  toErrorRecord,
  toFd,
} from "@ergos/kernel";
import {
  CALLS_MAX,
  type ClientMessage,
  FrameReader,
  type HostMessage,
  INITIAL_CREDIT,
  WIRE_VERSIONS,
  encodeFrame,
  parseClientMessage,
  protocolError,
} from "@ergos/protocol";

export interface Peer {
  write(parts: readonly Uint8Array[]): void;
  /** Settles when what was written has gone, as far as it exceeds what may wait. */
  drained(): Promise<void>;
  pause(): void;
  resume(): void;
  close(): void;
}

/** Outcomes of mutations by request id; shared by the sessions of a host, because a client reconnects. */
export class Requests {
  readonly #outcomes = new Map<string, Promise<unknown>>();
  readonly #max: number;

  constructor(max = 10_000) {
    this.#max = max;
  }

  once(rid: string, work: () => Promise<unknown>): Promise<unknown> {
    const known = this.#outcomes.get(rid);
    if (known !== undefined) return known;
    const outcome = work();
    outcome.catch(() => undefined);
    this.#outcomes.set(rid, outcome);
    if (this.#outcomes.size > this.#max) this.#outcomes.delete(this.#outcomes.keys().next().value ?? "");
    return outcome;
  }
}

interface Stream {
  credit: number;
  wake: (() => void) | undefined;
  readonly abort: AbortController;
}

export class Session {
  readonly #os: Os;
  readonly #peer: Peer;
  readonly #requests: Requests;
  readonly #hostVersion: string;
  readonly #reader = new FrameReader();
  readonly #streams = new Map<number, Stream>();
  #underWay = 0;
  readonly #answers = new Set<Promise<void>>();
  #isPaused = false;
  #greeted = false;
  #isClosed = false;
  /** Handles that the client has opened; they are closed with it. */
  readonly #handles = new Set<number>();
  /** Answers with bytes are made one after the other, each when the last has gone. */
  #bytesTurn: Promise<unknown> = Promise.resolve();

  constructor(os: Os, peer: Peer, requests: Requests, hostVersion: string) {
    this.#os = os;
    this.#peer = peer;
    this.#requests = requests;
    this.#hostVersion = hostVersion;
  }

  receive(chunk: Uint8Array): void {
    if (this.#isClosed) return;
    try {
      for (const { message, bytes } of this.#reader.push(chunk)) this.#handle(parseClientMessage(message), bytes);
    } catch (error) {
      this.#send({ t: "bye", error: toErrorRecord(error, "EPROTO") });
      this.close();
    }
  }

  /** Settles when every call so far is answered. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.#answers);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const stream of this.#streams.values()) {
      stream.abort.abort();
      stream.wake?.();
    }
    for (const fd of this.#handles) Promise.resolve(this.#os.call("close", { fd: toFd(fd) })).catch(() => undefined);
    this.#peer.close();
  }

  #handle(message: ClientMessage, bytes: Uint8Array | undefined): void {
    if (!this.#greeted && message.t !== "hello") throw protocolError("the first message must be hello");
    switch (message.t) {
      case "hello":
        return this.#greet(message.versions);
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
        stream?.abort.abort();
        return stream?.wake?.();
      }
      default:
        message satisfies never;
    }
  }

  #greet(versions: readonly number[]): void {
    const version = WIRE_VERSIONS.findLast((ours) => versions.includes(ours));
    if (version === undefined) {
      throw new KernelError(
        "EVERSION",
        `the client speaks wire versions ${versions.join(", ")}, this host ${WIRE_VERSIONS.join(", ")}; use the same ErgOS on both sides`,
      );
    }
    this.#greeted = true;
    this.#send({ t: "welcome", version, pid: this.#os.pid, host: { version: this.#hostVersion, pid: process.pid } });
  }

  #call(message: ClientMessage & { readonly t: "call" }, bytes: Uint8Array | undefined): void {
    const weight = message.name === "wait" ? 0 : 1;
    this.#underWay += weight;
    if (this.#underWay >= CALLS_MAX && !this.#isPaused) {
      this.#isPaused = true;
      this.#peer.pause();
    }
    const answer = this.#answer(message, bytes)
      .catch((error: unknown) => {
        this.#streams.delete(message.id);
        this.#send({ t: "error", id: message.id, error: toErrorRecord(error, "EIO") });
      })
      .finally(() => {
        this.#answers.delete(answer);
        this.#underWay -= weight;
        if (!this.#isPaused || this.#isClosed || this.#underWay >= CALLS_MAX) return;
        this.#isPaused = false;
        this.#peer.resume();
      });
    this.#answers.add(answer);
  }

  async #answer(message: ClientMessage & { readonly t: "call" }, bytes: Uint8Array | undefined): Promise<void> {
    const { id, name, args, rid } = message;
    if (!isSyscallName(name))
      throw new KernelError("ENOSYS", `this host has no call ${JSON.stringify(name)}; see /sys/syscalls`);
    const row = SYSCALLS[name];
    const takesBytes = row.schema.properties?.["bytes"] !== undefined;
    const full = takesBytes ? { ...args, bytes: bytes ?? new Uint8Array(0) } : args;
    assertValid(row.schema, full, `the arguments of ${name}`);
    if (name === "watch" || name === "subscribe") return this.#stream(id, name, full);
    // The schema has vouched for the arguments.
    const call = async (): Promise<unknown> => this.#os.call(name, full as never);
    if (name === "read" || name === "readHandle") return this.#inBytesTurn(id, call);
    const value = await (row.kind === "mutation" && rid !== undefined ? this.#requests.once(rid, call) : call());
    if (name === "open") this.#keepHandle(Number(value));
    await this.#os.flush();
    if (name === "close") this.#handles.delete(Number(args["fd"]));
    this.#send({ t: "result", id, value });
  }

  #keepHandle(fd: number): void {
    if (this.#isClosed) Promise.resolve(this.#os.call("close", { fd: toFd(fd) })).catch(() => undefined);
    else this.#handles.add(fd);
  }

  /** A client that does not read its answers gets no more of them made (W2). */
  #inBytesTurn(id: number, call: () => Promise<unknown>): Promise<void> {
    const answer = async (): Promise<void> => {
      if (this.#isClosed) return;
      const value = await call();
      await this.#os.flush();
      this.#send({ t: "result", id, isBytes: true }, value instanceof Uint8Array ? value : new Uint8Array(0));
      await this.#peer.drained();
    };
    const turn = this.#bytesTurn.then(answer, answer);
    this.#bytesTurn = turn.catch(() => undefined);
    return turn;
  }

  async #stream(id: number, name: "watch" | "subscribe", args: Readonly<Record<string, unknown>>): Promise<void> {
    // Known before the call is made, so that a cancellation that follows at once finds it.
    const stream: Stream = { credit: INITIAL_CREDIT, wake: undefined, abort: new AbortController() };
    this.#streams.set(id, stream);
    const source: SyscallName = name;
    const items = (await this.#os.call(source, {
      ...args,
      signal: stream.abort.signal,
    } as never)) as unknown as AsyncGenerator<unknown, void, undefined>;
    if (this.#isClosed) stream.abort.abort();
    this.#send({ t: "stream", id });
    // A stream is no call under way: it may last as long as the connection.
    void this.#pump(id, stream, items).finally(() => this.#streams.delete(id));
  }

  async #pump(id: number, stream: Stream, items: AsyncGenerator<unknown, void, undefined>): Promise<void> {
    try {
      for await (const value of items) {
        while (stream.credit <= 0 && !stream.abort.signal.aborted) {
          await new Promise<void>((resolve) => (stream.wake = resolve));
          stream.wake = undefined;
        }
        if (stream.abort.signal.aborted) break;
        stream.credit--;
        await this.#os.flush();
        this.#send({ t: "item", id, value });
      }
      this.#send({ t: "end", id });
    } catch (error) {
      this.#send({ t: "error", id, error: toErrorRecord(error, "EIO") });
    }
  }

  #send(message: HostMessage, bytes?: Uint8Array): void {
    if (!this.#isClosed) this.#peer.write(encodeFrame(message, bytes));
  }
}
