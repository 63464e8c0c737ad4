// The client side of the wire: calls by name, answers by number, streams with credit.

import {
  KernelError,
  type Os,
  assertValid,
  encodeJson,
  isKernelError,
  isSyscallName,
  knownError,
  LIMITS,
  type SyscallName,
  SYSCALLS,
  fromErrorRecord,
  makeOs,
  plainMessage,
  stepAround,
  toPid,
} from "@ergos/kernel";
import { FRAME_BYTES_MAX, FrameReader, encodeFrame, protocolError } from "./frame.ts";
import {
  type ClientMessage,
  type HostMessage,
  INITIAL_CREDIT,
  WIRE_VERSIONS,
  parseHostMessage,
  takesBytes,
} from "./message.ts";
import type { SharedMemory } from "./session.ts";

/** A connected byte stream, whatever carries it. */
export interface Transport {
  write(parts: readonly Uint8Array[]): void;
  onData(handler: (chunk: Uint8Array) => void): void;
  /** Of a thread of the host: memory that comes as an answer. */
  onMemory?(handler: (answer: SharedMemory) => void): void;
  /** Called once, with the reason if there is one. */
  onClose(handler: (error?: Error) => void): void;
  close(): void;
}

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  /** It changes something: when its answer is lost, nobody knows whether it has. */
  readonly acts: boolean;
  stream?: RemoteStream;
}

type Welcome = HostMessage & { readonly t: "welcome" };

export class WireClient {
  readonly #transport: Transport;
  readonly #reader = new FrameReader();
  readonly #pending = new Map<number, Pending>();
  readonly #welcome = Promise.withResolvers<Welcome>();
  readonly #closed = Promise.withResolvers<void>();
  #nextId = 1;
  #failure: KernelError | undefined;
  readonly #makeRequestId: () => string;

  private constructor(transport: Transport, makeRequestId: () => string) {
    this.#transport = transport;
    this.#makeRequestId = makeRequestId;
    transport.onData((chunk) => this.#receive(chunk));
    transport.onMemory?.(({ id, memory }) => {
      this.#pending.get(id)?.resolve(memory);
      this.#pending.delete(id);
    });
    transport.onClose((cause) =>
      this.#fail(
        new KernelError("ECONNRESET", "the host has closed the connection", cause === undefined ? {} : { cause }),
      ),
    );
  }

  /**
   * Greets a host.
   * @throws {EACCES} it does not take the pass · {EVERSION} the host speaks no version that this client knows · {EPROTO} it speaks something else
   */
  static async greet(
    transport: Transport,
    client: string,
    makeRequestId: () => string,
    pass?: string,
  ): Promise<{ readonly client: WireClient; readonly welcome: Welcome }> {
    const wire = new WireClient(transport, makeRequestId);
    wire.#send({ t: "hello", versions: WIRE_VERSIONS, client, ...(pass === undefined ? {} : { pass }) });
    return { client: wire, welcome: await wire.#welcome.promise };
  }

  /** Whether no call comes through any more. */
  get isLost(): boolean {
    return this.#failure !== undefined;
  }

  /** Settles when the connection is gone. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** The typed face over this connection. */
  toOs(pid: number): Os {
    // `call` answers each row with what the host's row answers; the table ties the types, the wire erases them.
    return makeOs(toPid(pid), ((name: SyscallName, args: Record<string, unknown>) =>
      this.call(name, args)) as Os["call"]);
  }

  call(name: SyscallName, args: Readonly<Record<string, unknown>>): unknown {
    // Untyped callers ask for what there is not, and say nothing.
    if (!isSyscallName(name))
      return Promise.reject(new KernelError("ENOSYS", `there is no call ${String(name)}; see /sys/syscalls`));
    if (typeof args !== "object" || args === null)
      return Promise.reject(
        new KernelError(
          "EINVAL",
          `the arguments of ${name} are an object, found ${args === null ? "null" : typeof args}`,
        ),
      );
    // Memory of the caller stays here.
    if (name === "readInto" || name === "readHandleInto") return this.#readInto(name, args);
    if (name === "infer" && typeof args["onText"] === "function") return this.#inferHeard(args);
    // An AbortSignal stays here; a signal for a process is a name and an argument like any other.
    const list = isByteList(args["entries"]) ? args["entries"] : undefined;
    const bytes = takesBytes(name) && args["bytes"] instanceof Uint8Array ? args["bytes"] : undefined;
    const signal = args["signal"] instanceof AbortSignal ? args["signal"] : undefined;
    const plain: Record<string, unknown> = { ...args };
    if (list !== undefined) delete plain["entries"];
    if (bytes !== undefined) delete plain["bytes"];
    if (signal !== undefined) delete plain["signal"];
    const refusal = refusalOf(name, plain, bytes);
    if (refusal !== undefined) return Promise.reject(refusal);
    const id = this.#nextId++;
    const { kind, isStream } = SYSCALLS[name] as { readonly kind: string; readonly isStream?: true };
    if (signal?.aborted === true && isStream !== true) return Promise.reject(signal.reason);
    const answer = new Promise<unknown>((resolve, reject) => {
      if (this.#failure !== undefined) return reject(this.#failure);
      const rid = kind === "mutation" ? { rid: this.#makeRequestId() } : {};
      const cancel = signal === undefined || isStream === true ? {} : { cancel: true };
      const lengths = list === undefined ? {} : { lengths: list.map(({ length }) => length) };
      const around = stepAround(args);
      const step = around === undefined ? {} : { step: around };
      const raw = list === undefined ? bytes : concat(list);
      const frame = encodeFrame({ t: "call", id, name, args: plain, ...rid, ...step, ...cancel, ...lengths }, raw);
      this.#pending.set(id, { resolve, reject, acts: kind === "mutation" });
      this.#transport.write(frame);
    });
    if (isStream !== true) return signal === undefined ? answer : this.#orCancelled(id, answer, signal);
    const cancel = (): void => this.#cancel(id);
    const forget = (): void => signal?.removeEventListener("abort", cancel);
    // Whoever never iterates has not asked to hear of a failure.
    answer.catch(forget);
    if (signal?.aborted === true) cancel();
    else signal?.addEventListener("abort", cancel, { once: true });
    // A program that ends because of a signal hears of it all the same.
    return follow(answer, name === "signals" ? undefined : signal, forget);
  }

  /** An answer comes over the wire in one piece. */
  async #inferHeard({ onText, ...args }: Readonly<Record<string, unknown>>): Promise<unknown> {
    // As the row answers, and as its caller has given it.
    const answer = (await this.call("infer", args)) as { readonly text: string };
    // That it fails is its own affair, as in the host.
    await new Promise<unknown>((heard) => heard((onText as (piece: string) => unknown)(answer.text))).catch(
      () => undefined,
    );
    return answer;
  }

  async #readInto(
    name: "readInto" | "readHandleInto",
    { into, ...args }: Readonly<Record<string, unknown>>,
  ): Promise<number> {
    const wanted = { ...args, into } as object;
    assertValid(SYSCALLS[name].schema, wanted, `the arguments of ${name}`);
    const target = into as Uint8Array;
    const bytes = await this.call(name === "readInto" ? "read" : "readHandle", { ...args, length: target.length });
    // What the rows of these names answer.
    target.set(bytes as Uint8Array);
    return (bytes as Uint8Array).length;
  }

  /** The host hears when the caller gives a call up; what became of it is its answer. */
  async #orCancelled(id: number, answer: Promise<unknown>, signal: AbortSignal): Promise<unknown> {
    const cancel = (): void => this.#cancel(id);
    signal.addEventListener("abort", cancel, { once: true });
    try {
      return await answer;
    } catch (error) {
      throw reasonOf(error, signal);
    } finally {
      signal.removeEventListener("abort", cancel);
    }
  }

  close(): void {
    // Who closes hears no more, and that is no failure.
    for (const [id, { stream }] of this.#pending) {
      stream?.end();
      if (stream !== undefined) this.#pending.delete(id);
    }
    this.#transport.close();
    this.#fail(new KernelError("ECONNRESET", "the connection was closed"));
  }

  #send(message: ClientMessage): void {
    this.#transport.write(encodeFrame(message));
  }

  #cancel(id: number): void {
    if (this.#pending.has(id)) this.#send({ t: "cancel", id });
  }

  #receive(chunk: Uint8Array): void {
    try {
      for (const frame of this.#reader.push(chunk)) this.#handle(parseHostMessage(frame.message), frame.bytes);
    } catch (error) {
      this.#fail(error instanceof KernelError ? error : protocolError("a message could not be handled", error));
      this.#transport.close();
    }
  }

  #handle(message: HostMessage, bytes: Uint8Array | undefined): void {
    if (message.t === "welcome") return this.#welcome.resolve(message);
    if (message.t === "bye") return this.#fail(fromErrorRecord(knownError(message.error)));
    const pending = this.#pending.get(message.id);
    if (pending === undefined) return;
    switch (message.t) {
      case "result":
        this.#pending.delete(message.id);
        return pending.resolve(message.isBytes === true ? (bytes ?? new Uint8Array(0)) : message.value);
      case "error": {
        this.#pending.delete(message.id);
        const error = fromErrorRecord(knownError(message.error));
        if (pending.stream !== undefined) return pending.stream.fail(error);
        // The signal that has ended the call may have come just before it, and is heard first.
        if (error.code === "ECANCELED") return void setImmediate(() => pending.reject(error));
        return pending.reject(error);
      }
      case "stream":
        pending.stream = new RemoteStream(
          (n) => this.#send({ t: "credit", id: message.id, n }),
          () => this.#cancel(message.id),
        );
        return pending.resolve(pending.stream);
      case "item":
        return pending.stream?.push(
          message.hasBytes === true
            ? { ...(message.value as object), bytes: bytes ?? new Uint8Array(0) }
            : message.value,
        );
      case "end":
        this.#pending.delete(message.id);
        return pending.stream?.end();
      default:
        message satisfies never;
    }
  }

  #fail(error: KernelError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#welcome.reject(error);
    const lost = new KernelError(error.code, plainMessage(error.message), { cause: error, mayHaveActed: true });
    for (const pending of this.#pending.values()) {
      if (pending.stream === undefined) pending.reject(pending.acts ? lost : error);
      else pending.stream.fail(error);
    }
    this.#pending.clear();
    this.#closed.resolve();
  }
}

/** Items of a remote stream, granted in halves of the initial credit. */
class RemoteStream {
  readonly #items: unknown[] = [];
  readonly #grant: (n: number) => void;
  readonly #cancel: () => void;
  #isOver = false;
  #error: Error | undefined;
  #wake: (() => void) | undefined;
  #taken = 0;

  constructor(grant: (n: number) => void, cancel: () => void) {
    this.#grant = grant;
    this.#cancel = cancel;
  }

  push(item: unknown): void {
    this.#items.push(item);
    this.#wake?.();
  }

  end(): void {
    this.#isOver = true;
    this.#wake?.();
  }

  fail(error: Error): void {
    this.#error = error;
    this.end();
  }

  async *drain(): AsyncGenerator<unknown, void, undefined> {
    try {
      for (;;) {
        for (let item = this.#items.shift(); item !== undefined; item = this.#items.shift()) {
          if (++this.#taken >= INITIAL_CREDIT / 2) {
            this.#grant(this.#taken);
            this.#taken = 0;
          }
          yield item;
        }
        if (this.#error !== undefined) throw this.#error;
        if (this.#isOver) return;
        await new Promise<void>((resolve) => (this.#wake = resolve));
        this.#wake = undefined;
      }
    } finally {
      if (!this.#isOver) this.#cancel();
    }
  }
}

const isByteList = (value: unknown): value is readonly Uint8Array[] =>
  Array.isArray(value) && value.length > 0 && value.every((one) => one instanceof Uint8Array);

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

async function* follow(
  answer: Promise<unknown>,
  signal: AbortSignal | undefined,
  forget: () => void,
): AsyncGenerator<unknown, void, undefined> {
  try {
    const stream = await answer;
    if (!(stream instanceof RemoteStream)) return;
    for await (const item of stream.drain()) {
      // What was on its way when the caller gave up is not for it any more.
      if (signal?.aborted === true) return;
      yield item;
    }
  } catch (error) {
    throw reasonOf(error, signal);
  } finally {
    forget();
  }
}

/** A call that was given up fails with the caller's own reason, as in the host. */
const reasonOf = (error: unknown, signal: AbortSignal | undefined): unknown =>
  signal?.aborted === true && isKernelError(error) && error.code === "ECANCELED" ? signal.reason : error;

/** Arguments in which programs hand on values of their own; the kernel keeps no larger ones. */
const VALUES: ReadonlySet<string> = new Set(["value", "result", "body", "input", "data"]);

/** What needs no look at what it holds. */
const isSimple = (value: unknown, limit: number): boolean =>
  value === undefined ||
  value === null ||
  typeof value === "boolean" ||
  (typeof value === "string" && value.length < limit) ||
  (typeof value === "number" && Number.isFinite(value));

/** What JSON would change on its way is refused here, as it is in the host. */
function refusalOf(name: SyscallName, args: Readonly<Record<string, unknown>>, bytes: Uint8Array | undefined): unknown {
  try {
    // On the wire no bytes are empty ones.
    if (takesBytes(name) && bytes === undefined) assertValid(SYSCALLS[name].schema, args, `the arguments of ${name}`);
    for (const [key, value] of Object.entries(args)) {
      if (key === "program" && typeof value === "object" && value !== null && "run" in value)
        throw new KernelError(
          "ENOTSUP",
          `code cannot be sent to the host that would run it; export it from the module, and ${name} it as { export: "its name" }`,
        );
      const limit = VALUES.has(key) ? LIMITS.outcomeBytesMax : FRAME_BYTES_MAX;
      if (isSimple(value, limit)) continue;
      const of = typeof args["place"] === "string" ? args["place"] : name === "exit" ? "the process" : name;
      encodeJson(value, `the ${key} of ${of}`, limit);
    }
    return undefined;
  } catch (error) {
    return error;
  }
}
