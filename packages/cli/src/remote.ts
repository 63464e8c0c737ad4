// The host of another process, by its control socket.
//
// R1  A call that finds its connection gone looks for the host that has followed, for as long as it was told to.
// R2  What only asks is asked again there, a few times: it may be the one that no host outlives. Of what may have
//     acted the caller hears that the answer was lost.
// R3  A stream ends with its connection: whoever follows one knows where it is.

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { type Socket, createConnection } from "node:net";
import { resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  KERNEL_VERSION,
  KernelError,
  type Os,
  SYSCALLS,
  type SyscallName,
  isKernelError,
  isSyscallName,
  makeOs,
  orAborted,
  toPid,
  within,
} from "@ergos/kernel";
import { type Transport, WireClient } from "@ergos/protocol";
import { assertOwnFolder, controlSocketPath, ownerPassPath } from "@ergos/server";
import { timers } from "./boot.ts";

/** How long a host may take to answer a client that has reached its socket. */
const GREETING_MS = 30_000;
const REDIAL_POLL_MS = 50;
/** Hosts that one question is put to; one that only waits for something may outlast any number. */
const ASKED_MAX = 3;

/** @throws {EACCES} somebody else could have put it there */
export async function dial(path: string): Promise<Socket> {
  assertOwnFolder(path);
  return new Promise((done, fail) => {
    const socket = createConnection(path);
    socket.once("error", fail);
    socket.once("connect", () => {
      socket.off("error", fail);
      done(socket);
    });
  });
}

/** @throws {ETIMEDOUT} it does not answer · {ECONNRESET} it breaks off · {EACCES} it does not take the pass */
export function greet(socket: Socket, dir: string, pass = readOwnerPass(dir)): ReturnType<typeof WireClient.greet> {
  const greeting = WireClient.greet(toTransport(socket), `ergos ${KERNEL_VERSION}`, randomUUID, pass);
  // It is stopped, as by a debugger, or code of a program blocks it.
  return within(timers(), GREETING_MS, () => silent(dir), greeting);
}

/** The owner of a directory, whichever host it has. */
export class OwnerLine {
  readonly #dir: string;
  readonly #waitMs: number;
  #client: WireClient;
  #redialing: Promise<WireClient> | undefined;
  #isClosed = false;

  /** @param waitMs how long a call looks for another host when its own has gone */
  constructor(client: WireClient, { dir, waitMs }: { readonly dir: string; readonly waitMs: number }) {
    this.#client = client;
    this.#dir = dir;
    this.#waitMs = waitMs;
  }

  toOs(pid: number): Os {
    // As with one connection: the table ties the types, the wire erases them.
    return makeOs(toPid(pid), ((name: SyscallName, args: Readonly<Record<string, unknown>>) =>
      this.#call(name, args)) as Os["call"]);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#client.close();
    await this.#client.closed;
  }

  #call(name: SyscallName, args: Readonly<Record<string, unknown>>): unknown {
    const row = isSyscallName(name) ? SYSCALLS[name] : undefined;
    if (row === undefined || !("isStream" in row)) {
      const isQuestion = row?.kind === "query";
      return this.#ask(name, args, isQuestion ? ("waits" in row ? Number.POSITIVE_INFINITY : ASKED_MAX) : 1);
    }
    return this.#isGone ? this.#follow(name, args) : this.#client.call(name, args);
  }

  get #isGone(): boolean {
    return this.#client.isLost && !this.#isClosed;
  }

  async #ask(name: SyscallName, args: Readonly<Record<string, unknown>>, most: number): Promise<unknown> {
    for (let asked = 1; ; asked++) {
      if (this.#isGone) await this.#redial(args);
      const client = this.#client;
      try {
        return await client.call(name, args);
      } catch (error) {
        const wasLost = client.isLost && isKernelError(error) && error.code === "ECONNRESET";
        if (!wasLost || this.#isClosed || asked >= most) throw error;
        // Its host may go as fast as it came.
        await delay(REDIAL_POLL_MS);
      }
    }
  }

  async *#follow(name: SyscallName, args: Readonly<Record<string, unknown>>): AsyncGenerator {
    await this.#redial(args);
    yield* this.#client.call(name, args) as AsyncIterable<unknown>;
  }

  /** Everybody waits for the same connection. */
  async #redial({ signal }: { readonly signal?: unknown }): Promise<void> {
    this.#redialing ??= this.#another().finally(() => (this.#redialing = undefined));
    await (signal instanceof AbortSignal ? orAborted(this.#redialing, signal) : this.#redialing);
  }

  async #another(): Promise<WireClient> {
    const last = performance.now() + this.#waitMs;
    for (;;) {
      let socket: Socket | undefined;
      try {
        socket = await dial(controlSocketPath(this.#dir));
        const { client } = await greet(socket, this.#dir);
        if (this.#isClosed) client.close();
        return (this.#client = client);
      } catch (cause) {
        socket?.destroy();
        // A host that answers, and will not talk to us, says why.
        if (isKernelError(cause) && cause.code !== "ECONNRESET") throw cause;
        if (performance.now() >= last || this.#isClosed)
          throw new KernelError(
            "ECONNRESET",
            `the host over ${this.#dir} has ended, and no other answers; a later call looks again, and its runs sleep until one does`,
            { path: this.#dir, cause },
          );
      }
      await delay(REDIAL_POLL_MS);
    }
  }
}

const silent = (dir: string): KernelError =>
  new KernelError(
    "ETIMEDOUT",
    `the host over ${dir} has not answered for ${GREETING_MS / 1000} s; it is stopped, or code that runs in it blocks it`,
    { path: dir },
  );

/** The pass of the owner of a running host; only its owner can read it. */
function readOwnerPass(dir: string): string | undefined {
  try {
    return readFileSync(ownerPassPath(resolve(dir)), "utf8").trim();
  } catch {
    // The host says what it wants.
    return undefined;
  }
}

function toTransport(socket: Socket): Transport {
  return {
    write: (parts) => {
      socket.cork();
      for (const part of parts) socket.write(part);
      socket.uncork();
    },
    onData: (handler) => void socket.on("data", handler),
    onClose: (handler) => {
      let reason: Error | undefined;
      socket.on("error", (error) => (reason = error));
      socket.on("close", () => handler(reason));
    },
    close: () => socket.end(),
  };
}
