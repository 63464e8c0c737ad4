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
const NOBODY_LEAVES = new Promise<void>(() => undefined);

export class Guest {
  readonly #context: ProcessContext;
  readonly #options: GuestOptions;
  readonly #vessel: Vessel;
  readonly #failure = Promise.withResolvers<never>();
  #hasGreeted = false;
  #hasExited = false;
  #heardAt = 0;
  #tail = "";
  #kept = 0;
  /** Its end as it has told it, while that is being recorded. */
  #exiting: Promise<unknown> | undefined;
  /** Lines of output so far, and those that are being logged. */
  #lines = 0;
  #logging = 0;

  constructor(context: ProcessContext, vessel: Vessel, options: GuestOptions) {
    this.#context = context;
    this.#options = options;
    this.#vessel = vessel;
    this.#failure.promise.catch(() => undefined);
  }

  /** Settles when it is gone. Its exit was told by itself; anything else is a failure. */
  async run(): Promise<never> {
    const vessel = this.#vessel;
    const { signal, left, platform } = this.#context;
    const gone = vessel.gone(() => this.#tail.trim());
    const session = this.#serve();
    const output = Promise.all([this.#log(vessel.stdout, "info"), this.#log(vessel.stderr, "warn")]);
    const stop = this.#watch();
    const { graceMs = 5000 } = this.#options;
    let politely: Timer | undefined;
    signal.addEventListener(
      "abort",
      () => {
        // It has heard of it over its channel; who does not listen there may have a handler.
        politely = platform.setTimer(graceMs / 2, () => vessel.terminate(), { idle: true });
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
        return Promise.resolve({
          os: seat,
          identity: `process ${this.#context.pid}`,
          ended: NOBODY_LEAVES,
          flush: () => os.flush(),
          leave: () => Promise.resolve(),
          signal: this.#context.signal,
        });
      },
      {
        write: (parts) => {
          for (const part of parts) channel.write(part);
        },
        ...(channel.share === undefined ? {} : { share: channel.share }),
        drained: () => channel.drained(),
        pause: () => channel.pause(),
        resume: () => channel.resume(),
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
      if (silent <= allowed) return;
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
  }

  get #now(): number {
    return this.#context.platform.clock.monotonic();
  }

  /** Lines of output as lines of the log, up to a bound. */
  async #log(from: Readable | null, level: "info" | "warn"): Promise<void> {
    if (from === null) return;
    // A character may come in two pieces.
    from.setEncoding("utf8");
    if (level === "warn") from.on("data", (chunk: string) => (this.#tail = `${this.#tail}${chunk}`.slice(-TAIL_BYTES)));
    // A line without an end would be kept whole otherwise.
    for await (const line of cutLines(from)) {
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

export const failed = (what: Vessel["what"], why: string, cause?: unknown): KernelError =>
  new KernelError("EFAILED", `the ${what} ${why}`, cause === undefined ? {} : { cause });

/** What a guest said last, for the message about its end. */
export const lastWords = (tail: string): string => (tail === "" ? "" : `; its last words: ${tail}`);

/** Lines, cut at the length that a log line may have. */
async function* cutLines(from: Readable): AsyncGenerator<string, void, undefined> {
  let rest = "";
  for await (const chunk of from) {
    rest += String(chunk);
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield* piecesOf(line);
    for (; rest.length > LIMITS.logLineMax; rest = rest.slice(LIMITS.logLineMax))
      yield rest.slice(0, LIMITS.logLineMax);
  }
  if (rest !== "") yield rest;
}

function* piecesOf(line: string): Generator<string, void, undefined> {
  for (let at = 0; at === 0 || at < line.length; at += LIMITS.logLineMax) yield line.slice(at, at + LIMITS.logLineMax);
}
