// Programs outside of the thread of their host, whatever they run in: their calls are served on a channel, their output
// becomes lines of the log, and whoever does not greet in time, or is not heard of, is ended.

import type { Readable } from "node:stream";
import { KernelError, LIMITS, type Os, type ProcessContext, type SyscallName, type Timer } from "@ergos/kernel";
import { Requests, Session, type SharedMemory } from "./session.ts";

export interface GuestOptions {
  /** Milliseconds in which it must greet (default 10,000). */
  readonly readyMs?: number;
  /** Milliseconds between signs of life (default 5,000). */
  readonly beatMs?: number;
  /** Milliseconds that it has to end by itself when it is told to (default 5,000). */
  readonly graceMs?: number;
  readonly hostVersion?: string;
}

/** What a guest runs in. */
export interface Vessel {
  /** What it is called in messages. */
  readonly what: "child" | "worker";
  readonly channel: {
    write(part: Uint8Array): void;
    /** Hands memory of the host to it; absent where it is in another process. */
    readonly share?: (answer: SharedMemory) => void;
    /** Settles when what was written has gone, as far as it exceeds what may wait. */
    drained(): Promise<void>;
    pause(): void;
    resume(): void;
    end(): void;
    onData(hear: (chunk: Uint8Array) => void): void;
  };
  readonly stdout: Readable | null;
  readonly stderr: Readable | null;
  /** It has greeted its host. */
  greeted?(): void;
  /** How it has ended, where it has not said so itself; `tail` is the end of what it wrote to stderr. */
  gone(tail: () => string): Promise<KernelError>;
  /** Asks it to end by the means of the machine, if there are any. */
  terminate(): void;
  /** Ends it at once. */
  kill(): void;
}

/** Bytes of output that are kept of one guest. */
const OUTPUT_MAX = 4 * 1024 * 1024;
/** Bytes of the end of stderr that an error shows. */
const TAIL_BYTES = 2000;
/** From the end of the process to that of its guest: for what is on its way out. */
const LEAVE_MS = 200;
/** Turns of the loop without output after which nothing more is on its way, and the longest wait for that. */
const QUIET_TURNS = 3;
const QUIET_MS = 1000;
const NOBODY_LEAVES = new Promise<undefined>(() => undefined);

export class Guest {
  readonly #context: ProcessContext;
  readonly #options: GuestOptions;
  readonly #vessel: Vessel;
  readonly #failure = Promise.withResolvers<never>();
  #hasGreeted = false;
  #hasExited = false;
  #heardAt = 0;
  /** It has said more than is worked on: what it says next is not read yet. */
  #isPaused = false;
  #tail = "";
  #kept = 0;
  /** Its end as it has told it, while that is being recorded. */
  #exiting: Promise<unknown> | undefined;
  readonly #outputs: readonly Output[];
  /** Lines of output so far, and those that are being logged. */
  #lines = 0;
  #logging = 0;

  constructor(context: ProcessContext, vessel: Vessel, options: GuestOptions) {
    this.#context = context;
    this.#options = options;
    this.#vessel = vessel;
    this.#outputs = [
      { from: vessel.stdout, level: "info", lines: new LineCutter(LIMITS.logLineMax) },
      { from: vessel.stderr, level: "warn", lines: new LineCutter(LIMITS.logLineMax) },
    ];
    this.#failure.promise.catch(() => undefined);
  }

  /** Settles when it is gone. Its exit was told by itself; anything else is a failure. */
  async run(): Promise<never> {
    const vessel = this.#vessel;
    const { signal, left, platform } = this.#context;
    const gone = vessel.gone(() => this.#tail.trim());
    const session = this.#serve();
    const output = Promise.all(this.#outputs.map((one) => this.#hear(one)));
    const stop = this.#watch();
    const { graceMs = 5000 } = this.#options;
    let politely: Timer | undefined;
    signal.addEventListener(
      "abort",
      () => {
        // It has heard of it over its channel; who does not listen there may have a handler.
        const ask = (): void => {
          if (this.#context.isShielded) politely = platform.setTimer(graceMs / 2, ask, { idle: true });
          else vessel.terminate();
        };
        politely = platform.setTimer(graceMs / 2, ask, { idle: true });
      },
      { once: true },
    );
    void left.then(() => {
      session.close();
      platform.setTimer(this.#hasExited ? LEAVE_MS : 0, () => vessel.kill(), { idle: true });
    });
    try {
      const failure = await Promise.race([gone, this.#failure.promise]);
      // What it has told counts, however it is gone afterwards.
      await this.#exiting?.catch(() => undefined);
      await output.catch(() => undefined);
      throw failure;
    } finally {
      politely?.cancel();
      stop();
      session.close();
      vessel.kill();
    }
  }

  /** Serves its calls on the channel. */
  #serve(): Session {
    const { channel, what } = this.#vessel;
    const { os } = this.#context;
    const call = (name: string, args: object): unknown => {
      if (name === "context") return this.#tell(os);
      if (name !== "exit") return os.call(name as SyscallName, args as never);
      this.#hasExited = true;
      // What it has printed before belongs to it still.
      this.#exiting = this.#quiet().then(() => os.call("exit", args));
      return this.#exiting;
    };
    const seat: Os = Object.create(os, { call: { value: call } }) as Os;
    const session = new Session(
      () => {
        this.#hasGreeted = true;
        this.#vessel.greeted?.();
        return Promise.resolve({
          os: seat,
          identity: `process ${this.#context.pid}`,
          ended: NOBODY_LEAVES,
          flush: () => os.flush(),
          leave: () => Promise.resolve(),
          signal: this.#context.signal,
          isShielded: () => this.#context.isShielded,
        });
      },
      {
        write: (parts) => {
          for (const part of parts) channel.write(part);
        },
        ...(channel.share === undefined ? {} : { share: channel.share }),
        drained: () => channel.drained(),
        pause: () => {
          this.#isPaused = true;
          channel.pause();
        },
        resume: () => {
          this.#isPaused = false;
          this.#heardAt = this.#now;
          channel.resume();
        },
        close: () => {
          channel.end();
          // Whoever has said what is no message of the wire has lost its way.
          if (!this.#hasExited && !this.#context.isAborted)
            this.#failure.reject(failed(what, "does not speak the wire on its channel, or has closed it"));
        },
      },
      new Requests(),
      this.#options.hostVersion ?? "",
    );
    channel.onData((chunk) => {
      this.#heardAt = this.#now;
      session.receive(chunk);
    });
    return session;
  }

  /** What it is told first: who may not hear that cannot run. */
  async #tell(os: Os): Promise<unknown> {
    try {
      return await os.call("context", {});
    } catch (error) {
      this.#failure.reject(error);
      throw error;
    }
  }

  /** Ends a guest that was not heard of for too long. */
  #watch(): () => void {
    const { readyMs = 10_000, beatMs = 5000 } = this.#options;
    const { platform, pid } = this.#context;
    const every = Math.min(beatMs, readyMs, 1000) / 2;
    this.#heardAt = this.#now;
    const look = (): void => {
      timer = platform.setTimer(every, look, { idle: true });
      const silent = this.#now - this.#heardAt;
      const allowed = this.#hasGreeted ? 3 * beatMs : readyMs;
      if (silent <= allowed || this.#isPaused) return;
      const why = this.#hasGreeted
        ? `gave no sign of life for ${Math.round(silent)} ms: its loop is blocked`
        : `did not become ready within ${readyMs} ms`;
      const details = this.#hasGreeted ? { pid, syscall: "beat" } : { pid };
      this.#failure.reject(new KernelError("ETIMEDOUT", `the ${this.#vessel.what} ${why}`, details));
    };
    let timer = platform.setTimer(every, look, { idle: true });
    return () => timer.cancel();
  }

  /** Settles when what it has written is read and logged, as far as it has come. */
  async #quiet(): Promise<void> {
    const until = this.#now + QUIET_MS;
    for (let turns = 0, seen = this.#lines; turns < QUIET_TURNS && this.#now < until; turns++) {
      await new Promise<void>((resolve) => this.#context.platform.defer(resolve));
      if (this.#lines !== seen || this.#logging > 0) turns = 0;
      seen = this.#lines;
    }
    for (const { lines, level } of this.#outputs) await this.#log(lines.rest(), level);
  }

  get #now(): number {
    return this.#context.platform.clock.monotonic();
  }

  /** Lines of output as lines of the log. */
  async #hear({ from, level, lines }: Output): Promise<void> {
    if (from === null) return;
    // A character may come in two pieces.
    from.setEncoding("utf8");
    if (level === "warn") from.on("data", (chunk: string) => (this.#tail = `${this.#tail}${chunk}`.slice(-TAIL_BYTES)));
    for await (const chunk of from) await this.#log(lines.cut(String(chunk)), level);
    await this.#log(lines.rest(), level);
  }

  /** Logs lines, up to a bound. */
  async #log(lines: readonly string[], level: Output["level"]): Promise<void> {
    for (const line of lines) {
      this.#lines++;
      const before = this.#kept;
      this.#kept += line.length + 1;
      if (before > OUTPUT_MAX) continue;
      const text = this.#kept > OUTPUT_MAX ? `[more than ${OUTPUT_MAX} bytes of output; the rest is not kept]` : line;
      const write = async (): Promise<void> => this.#context.os.call("log", { text, level });
      this.#logging++;
      await write().catch(() => undefined);
      this.#logging--;
    }
  }
}

/** What a guest prints, and how far it has come in its line. */
interface Output {
  readonly from: Readable | null;
  readonly level: "info" | "warn";
  readonly lines: LineCutter;
}

/** Bytes for a port, which carries the whole memory that they lie in: of a part of one, a copy. */
export const ownBytes = (part: Uint8Array): Uint8Array =>
  part.byteLength === part.buffer.byteLength ? part : Uint8Array.prototype.slice.call(part);

export const failed = (what: Vessel["what"], why: string, cause?: unknown): KernelError =>
  new KernelError("EFAILED", `the ${what} ${why}`, cause === undefined ? {} : { cause });

/** What a guest said last, for the message about its end. */
export const lastWords = (tail: string): string => (tail === "" ? "" : `; its last words: ${tail}`);

/** Cuts text into lines, and those at the length that a line may have: one without an end would be kept whole otherwise. */
class LineCutter {
  readonly #max: number;
  #rest = "";

  constructor(max: number) {
    this.#max = max;
  }

  cut(text: string): readonly string[] {
    const lines = `${this.#rest}${text}`.split("\n");
    const last = piecesOf(lines.pop() ?? "", this.#max);
    this.#rest = last.pop() ?? "";
    return [...lines.flatMap((line) => piecesOf(line, this.#max)), ...last];
  }

  /** What stands in a line that has no end yet. */
  rest(): readonly string[] {
    const rest = this.#rest;
    this.#rest = "";
    return rest === "" ? [] : [rest];
  }
}

/** Pieces of so many units at most; none is cut in the middle of a character. */
function piecesOf(line: string, max: number): string[] {
  const pieces: string[] = [];
  let at = 0;
  while (line.length - at > max) {
    const isCut = /[\ud800-\udbff]/.test(line.charAt(at + max - 1));
    const end = at + max - (isCut ? 1 : 0);
    pieces.push(line.slice(at, end));
    at = end;
  }
  pieces.push(line.slice(at));
  return pieces;
}
