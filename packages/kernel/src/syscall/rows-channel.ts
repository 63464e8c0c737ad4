// Rows about channels between parent and child.

import type { Pid } from "../base/id.ts";
import type { Process } from "../proc/process.ts";
import { LIMITS } from "../base/limits.ts";
import type { Host } from "./host.ts";
import { type Target, args, bytes, integer, pid, row, signalsOf } from "./row.ts";

export interface WithChild {
  /** A child; absent, the parent of the caller. */
  readonly pid?: Pid;
}
type Waiting = { readonly waitMs?: number; readonly signal?: AbortSignal };

const waitMs = { ...integer, maximum: LIMITS.sleepMsMax } as const;

const otherSide = (host: Host, caller: Process, { pid: child }: WithChild): Target => ({
  resource: `/proc/${child ?? host.processes.family.parentOf(caller.pid) ?? caller.pid}`,
});

const optionsOf = (caller: Process, { waitMs: wait, signal }: Waiting) => ({
  ...(wait === undefined ? {} : { waitMs: wait }),
  signals: signalsOf(caller, signal),
});

export const CHANNEL_ROWS = {
  channelWrite: row<WithChild & Waiting & { readonly bytes: Uint8Array }, Promise<void>>({
    right: "msg.send",
    kind: "mutation",
    waitsIdly: true,
    waits: true,
    summary: "puts a piece into the channel to a child, or to the parent, waiting for room",
    schema: args({ pid, bytes, waitMs }, ["bytes"]),
    target: otherSide,
    audit: "none",
    handle: (host, caller, a) => host.channels.write(caller, a.pid, a.bytes, optionsOf(caller, a)),
  }),
  channelRead: row<WithChild & Waiting, Promise<Uint8Array | null>>({
    right: "msg.receive",
    kind: "mutation",
    waitsIdly: true,
    waits: true,
    summary: "takes a piece that a child, or the parent, has written; null when no more comes",
    schema: args({ pid, waitMs }),
    audit: "none",
    handle: (host, caller, a) => host.channels.read(caller, a.pid, optionsOf(caller, a)),
  }),
  channelClose: row<WithChild, Promise<void>>({
    right: "msg.send",
    kind: "mutation",
    summary: "tells the other side of a channel that no more comes",
    schema: args({ pid }),
    target: otherSide,
    audit: "none",
    handle: async (host, caller, a) => host.channels.close(caller, a.pid),
  }),
} as const;
