// Pipes: pieces in the order in which they were written, each taken by one reader. They live with their host.
//
// P1  Who waits is served first-come, writers and readers each among themselves.
// P2  A pipe that is closed is drained before its readers hear of it.

import { KernelError } from "../base/errno.ts";

interface Waiter {
  readonly serve: () => boolean;
}

export class Pipe {
  readonly #path: string;
  readonly #capacity: number;
  readonly #frames: Uint8Array[] = [];
  #bytes = 0;
  #isClosed = false;
  readonly #readers: Waiter[] = [];
  readonly #writers: Waiter[] = [];

  constructor(path: string, capacity: number) {
    this.#path = path;
    this.#capacity = capacity;
  }

  /** Bytes that wait. */
  get size(): number {
    return this.#bytes;
  }

  /**
   * Puts a piece in.
   * @returns whether it is in; what to call with `serve` when there may be room
   * @throws {EPIPE} it is closed · {E2BIG} the piece is larger than the pipe
   */
  put(frame: Uint8Array): boolean {
    if (this.#isClosed) throw new KernelError("EPIPE", "the pipe is closed", { path: this.#path });
    if (frame.length > this.#capacity)
      throw new KernelError("E2BIG", `the pipe holds ${this.#capacity} bytes, the piece has ${frame.length}`, {
        path: this.#path,
      });
    if (this.#bytes + frame.length > this.#capacity) return false;
    this.#frames.push(frame);
    this.#bytes += frame.length;
    this.#serve(this.#readers);
    return true;
  }

  /** Takes the oldest piece; `null` when it is closed and drained, nothing when there is none yet. */
  take(): Uint8Array | null | undefined {
    const frame = this.#frames.shift();
    if (frame === undefined) return this.#isClosed ? null : undefined;
    this.#bytes -= frame.length;
    this.#serve(this.#writers);
    return frame;
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
