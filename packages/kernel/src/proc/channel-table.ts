// Channels: a pair of pipes between a process and its parent, one for each direction. They live with their host.
//
// C1  A channel is of a child. Its ends belong to the child and to whoever is its parent when the call is made.
// C2  When the child ends both pipes are closed: what is in them is still taken, of the latest that have ended.

import type { Platform } from "../abi/platform.ts";
import { KernelError } from "../base/errno.ts";
import type { Pid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { Pipe, type WaitOptions, putFrame, takeFrame } from "../vfs/pipe.ts";
import type { Family } from "./family.ts";
import type { Process } from "./process.ts";

interface Channel {
  readonly toChild: Pipe;
  readonly toParent: Pipe;
}

/** The two pipes as one side sees them. */
interface Ends {
  readonly out: Pipe;
  readonly in: Pipe;
}

/** Bytes of last words of children that are kept, the latest; what is older than so much nobody has read. */
const OVER_BYTES = 64 * 1024 * 1024;

export class ChannelTable {
  readonly #platform: Platform;
  readonly #family: Family;
  readonly #channels = new Map<Pid, Channel>();
  /** Of children that have ended, of whose last words something is left. */
  readonly #over = new Set<Pid>();

  constructor(platform: Platform, family: Family) {
    this.#platform = platform;
    this.#family = family;
  }

  /**
   * Puts a piece into the channel to a child, or without `to` into the one to the parent.
   * @throws {EPERM} it is no child of the caller · {EPIPE} the other side has ended, or the channel was closed
   */
  write(caller: Process, to: Pid | undefined, frame: Uint8Array, options: WaitOptions): Promise<void> {
    return putFrame(this.#platform, this.#endsOf(caller, to).out, frame, options);
  }

  /** Takes the next piece that a child, or without `from` the parent, has written; `null` when no more comes. */
  read(caller: Process, from: Pid | undefined, options: WaitOptions): Promise<Uint8Array | null> {
    return takeFrame(this.#platform, this.#endsOf(caller, from).in, options);
  }

  /** Tells the other side that no more comes from this one. */
  close(caller: Process, to: Pid | undefined): void {
    this.#endsOf(caller, to).out.close();
  }

  /** A process has ended (C2): what its parent has not read yet stays until that ends, too. */
  drop(pid: Pid): undefined {
    const channel = this.#channels.get(pid);
    channel?.toChild.close();
    channel?.toParent.close();
    if (channel?.toParent.size === 0) this.#channels.delete(pid);
    else if (channel !== undefined) {
      this.#over.add(pid);
      this.#makeRoom();
    }
    for (const child of this.#family.childrenOf(pid))
      if (this.#family.get(child)?.hasEnded === true) {
        this.#channels.delete(child);
        this.#over.delete(child);
      }
  }

  /** Lets the oldest last words go that nobody has read. */
  #makeRoom(): void {
    let bytes = 0;
    for (const pid of [...this.#over].toReversed()) {
      const left = this.#channels.get(pid)?.toParent.size ?? 0;
      bytes += left;
      if (left > 0 && bytes <= OVER_BYTES) continue;
      this.#over.delete(pid);
      this.#channels.delete(pid);
    }
  }

  #endsOf(caller: Process, other: Pid | undefined): Ends {
    if (other === undefined || other === caller.pid) {
      if (this.#family.parentOf(caller.pid) === undefined)
        throw new KernelError("EINVAL", "the owner has no parent to speak to", { pid: caller.pid });
      const { toParent, toChild } = this.#channelOf(caller);
      return { out: toParent, in: toChild };
    }
    const child = this.#family.get(other);
    if (child === undefined)
      throw new KernelError("ESRCH", `process ${other} does not exist; \`ergos ps\` lists them`, { pid: other });
    if (this.#family.parentOf(other) !== caller.pid)
      throw new KernelError("EPERM", `process ${other} is no child of process ${caller.pid}: send it a message`, {
        pid: caller.pid,
      });
    const { toParent, toChild } = this.#channelOf(child);
    return { out: toChild, in: toParent };
  }

  #channelOf({ pid, hasEnded }: Process): Channel {
    let channel = this.#channels.get(pid);
    if (channel !== undefined) return channel;
    const path = `/proc/${pid}`;
    channel = { toChild: new Pipe(path, LIMITS.pipeBytes), toParent: new Pipe(path, LIMITS.pipeBytes) };
    if (hasEnded) {
      channel.toChild.close();
      channel.toParent.close();
    } else this.#channels.set(pid, channel);
    return channel;
  }
}
