// Pipes: pieces in the order in which they were written, each taken by one reader. They live with their host.
//
// P1  Who waits is served first-come, writers and readers each among themselves.
// P2  A pipe that is closed is drained before its readers hear of it.

import type { Platform } from "../abi/platform.ts";
import { copyBytes } from "../base/bytes.ts";
import { KernelError } from "../base/errno.ts";
import { LIMITS } from "../base/limits.ts";

export interface WaitOptions {
  /** 0 does not wait; absent, for as long as it takes. */
  readonly waitMs?: number;
  readonly signals?: readonly AbortSignal[];
}

interface Waiter {
  readonly serve: () => boolean;
}

/** What a piece takes of the room of a pipe: empty ones are bounded too. */
const weightOf = (frame: Uint8Array): number => Math.max(1, frame.length);

/** Bytes in all pipes of a host. */
export interface PipeRoom {
  taken: number;
}

export class Pipe {
  /** Where it is, for messages. */
  readonly path: string;
  readonly #capacity: number;
  readonly #room: PipeRoom | undefined;
  readonly #frames: Uint8Array[] = [];
  #bytes = 0;
  #isClosed = false;
  readonly #readers: Waiter[] = [];
  readonly #writers: Waiter[] = [];

  /** @param room that it shares with others */
  constructor(path: string, capacity: number, room?: PipeRoom) {
    this.path = path;
    this.#capacity = capacity;
    this.#room = room;
  }

  /** Bytes that wait. */
  get size(): number {
    return this.#bytes;
  }

  /**
   * Puts a piece in.
   * @returns whether it is in; what to call with `serve` when there may be room
   * @throws {EPIPE} it is closed · {E2BIG} the piece is larger than the pipe · {ENOMEM} all pipes together hold too much
   */
  put(frame: Uint8Array): boolean {
    if (this.#isClosed) throw new KernelError("EPIPE", "the pipe is closed", { path: this.path });
    if (frame.length > this.#capacity)
      throw new KernelError("E2BIG", `the pipe holds ${this.#capacity} bytes, the piece has ${frame.length}`, {
        path: this.path,
      });
    if (this.#bytes + weightOf(frame) > this.#capacity) return false;
    if ((this.#room?.taken ?? 0) + weightOf(frame) > LIMITS.pipesBytesMax)
      throw new KernelError(
        "ENOMEM",
        `the pipes of this host hold ${LIMITS.pipesBytesMax} bytes together, which is the limit; read some of them, or remove one`,
        { path: this.path },
      );
    this.#frames.push(frame);
    this.#weigh(weightOf(frame));
    this.#serve(this.#readers);
    return true;
  }

  /** Takes the oldest piece; `null` when it is closed and drained, nothing when there is none yet. */
  take(): Uint8Array | null | undefined {
    const frame = this.#frames.shift();
    if (frame === undefined) return this.#isClosed ? null : undefined;
    this.#weigh(-weightOf(frame));
    this.#serve(this.#writers);
    return frame;
  }

  /** It is gone, with what nobody has read. */
  discard(): void {
    this.close();
    this.#frames.length = 0;
    this.#weigh(-this.#bytes);
  }

  #weigh(bytes: number): void {
    this.#bytes += bytes;
    if (this.#room !== undefined) this.#room.taken += bytes;
  }

  close(): void {
    this.#isClosed = true;
    this.#serve(this.#writers);
    this.#serve(this.#readers);
  }

  /** Waits in the line of readers or writers until `serve` says that it was served; `leave` gives it up. */
  wait(who: "reader" | "writer", serve: () => boolean): { readonly leave: () => void } {
    const line = who === "reader" ? this.#readers : this.#writers;
    const waiter = { serve };
    line.push(waiter);
    return {
      leave: () => {
        const at = line.indexOf(waiter);
        if (at >= 0) line.splice(at, 1);
        // Whoever stood behind it may go on.
        this.#serve(line);
      },
    };
  }

  /** Whether somebody waits before a newcomer. */
  hasLine(who: "reader" | "writer"): boolean {
    return (who === "reader" ? this.#readers : this.#writers).length > 0;
  }

  #serve(line: Waiter[]): void {
    for (let first = line[0]; first !== undefined && first.serve(); first = line[0]) {
      // A served one may have served others in turn.
      const at = line.indexOf(first);
      if (at >= 0) line.splice(at, 1);
    }
  }
}

/**
 * Puts a piece into a pipe, behind those who wait for room.
 * @throws {EAGAIN} it is full, and nobody waits or no longer · {EPIPE} it is closed · {E2BIG} the piece is larger than it
 */
export async function putFrame(
  platform: Platform,
  pipe: Pipe,
  frame: Uint8Array,
  options: WaitOptions = {},
): Promise<void> {
  const bytes = copyBytes(frame);
  if (!pipe.hasLine("writer") && pipe.put(bytes)) return;
  await inLine(platform, pipe, "writer", options, () => (pipe.put(bytes) ? { done: undefined } : undefined));
}

/**
 * Takes a piece out of a pipe, behind those who wait for one; `null` when it is closed and empty.
 * @throws {EAGAIN} it is empty, and nobody waits or no longer
 */
export async function takeFrame(platform: Platform, pipe: Pipe, options: WaitOptions = {}): Promise<Uint8Array | null> {
  const frame = pipe.hasLine("reader") ? undefined : pipe.take();
  if (frame !== undefined) return frame;
  return inLine(platform, pipe, "reader", options, () => {
    const found = pipe.take();
    return found === undefined ? undefined : { done: found };
  });
}

async function inLine<T>(
  platform: Platform,
  pipe: Pipe,
  who: "reader" | "writer",
  { waitMs, signals = [] }: WaitOptions,
  attempt: () => { readonly done: T } | undefined,
): Promise<T> {
  const refusal = (): KernelError =>
    new KernelError("EAGAIN", `the pipe is ${who === "reader" ? "empty" : "full"}; wait longer, or try again`, {
      path: pipe.path,
    });
  if (waitMs === 0) throw refusal();
  for (const signal of signals) if (signal.aborted) throw signal.reason;
  return new Promise<T>((resolve, reject) => {
    const over = (): void => {
      timer?.cancel();
      for (const signal of signals) signal.removeEventListener("abort", onAbort);
    };
    const place = pipe.wait(who, () => {
      try {
        const found = attempt();
        if (found === undefined) return false;
        resolve(found.done);
      } catch (error) {
        reject(error);
      }
      over();
      return true;
    });
    const giveUp = (error: unknown): void => {
      over();
      reject(error);
      place.leave();
    };
    const onAbort = (): void => giveUp(signals.find(({ aborted }) => aborted)?.reason);
    const timer = waitMs === undefined ? undefined : platform.setTimer(waitMs, () => giveUp(refusal()));
    for (const signal of signals) signal.addEventListener("abort", onAbort, { once: true });
  });
}
