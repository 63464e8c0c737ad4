// Rows about pipes and streams.

import type { FlowSettings, StreamEntry } from "../abi/flow.ts";
import { KernelError } from "../base/errno.ts";
import type { Seq } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { Inode } from "../vfs/inode.ts";
import { missing } from "../vfs/path-error.ts";
import type { Host } from "./host.ts";
import { locatedOf, pathTarget, writerOf } from "./path-target.ts";
import { placed } from "./placed.ts";
import { type AtPlace, type Target, args, atPlace, bytes, flag, integer, path, place, row, signalsOf } from "./row.ts";

type At = { readonly path: string };
type Waiting = { readonly waitMs?: number; readonly signal?: AbortSignal };

const waitMs = { ...integer, maximum: LIMITS.sleepMsMax } as const;

/** @throws {ENOENT} there is nothing · {EINVAL} it is not of the zone */
function inodeOf(target: Target): Inode {
  const located = locatedOf(target);
  if (located.kind === "missing") throw missing(located.path);
  if (located.kind === "inode") return located.inode;
  throw new KernelError("EINVAL", "it is neither a pipe nor a stream", { path: located.path });
}

/** Settings that one kind does not have. */
const FOREIGN = {
  pipe: ["keep", "keepMs", "isVolatile", "isShared"],
  stream: ["capacity"],
  "shared stream": ["keep", "keepMs", "isVolatile"],
} as const;

export const FLOW_ROWS = {
  makeFlow: row<At & FlowSettings & { readonly type: "pipe" | "stream" }, Promise<void>>({
    right: "fs.write",
    kind: "mutation",
    summary: "makes a pipe, which is drained by its readers, or a stream, which all of them read from where they are",
    schema: args(
      {
        path,
        type: { type: "string", enum: ["pipe", "stream"] },
        capacity: { ...integer, minimum: 1, maximum: LIMITS.ioBytesMax },
        keep: { ...integer, minimum: 1, maximum: LIMITS.streamKeepMax },
        keepMs: { ...integer, minimum: 1 },
        isVolatile: flag,
        isShared: flag,
      },
      ["path", "type"],
    ),
    target: pathTarget(false),
    handle: async (host: Host, caller, { path: _path, type, ...flow }, target, draft) => {
      const kind = type === "stream" && flow.isShared === true ? "shared stream" : type;
      const wrong = FOREIGN[kind].find((name) => flow[name] !== undefined);
      if (wrong !== undefined) throw new KernelError("EINVAL", `a ${kind} has no ${wrong}`, { path: _path });
      await host.fs.create(locatedOf(target), { type, flow }, writerOf(caller, draft));
    },
  }),
  streamShare: row<At, Promise<SharedArrayBuffer>>({
    right: "fs.read",
    kind: "query",
    summary: "the memory of a shared stream, for a thread that reads it and appends to it by itself",
    schema: args({ path }, ["path"]),
    target: pathTarget(),
    // Whoever has the memory can do both.
    alsoNeeds: (_a, _caller, { resource }) => [{ right: "fs.write", resource }],
    handle: async (host, _caller, _a, target) => host.fs.flows.memoryOf(inodeOf(target), target.resource),
  }),
  streamAppend: row<
    At & AtPlace & { readonly entries: readonly Uint8Array[]; readonly durability?: "committed" | "flushed" },
    Promise<number>
  >({
    right: "fs.write",
    kind: "mutation",
    summary: "adds entries to a stream, all of them at one position; how many",
    schema: args(
      {
        place,
        path,
        entries: { type: "array", items: bytes, minItems: 1, maxItems: 1000 },
        durability: { type: "string", enum: ["committed", "flushed"] },
      },
      ["path", "entries"],
    ),
    target: pathTarget(),
    audit: "place",
    spends: ({ entries }) => ({ bytesWritten: entries.reduce((sum, { length }) => sum + length, 0) }),
    recordedAt: atPlace,
    handle: (host, caller, { entries, durability, place: at }, target, draft) =>
      placed<number>(caller, "streamAppend", at, async (record) => {
        await host.fs.flows.append(inodeOf(target), target.resource, entries, {
          ...(durability === undefined ? {} : { durability }),
          along: record(entries.length),
          rider: draft,
        });
        return entries.length;
      }),
  }),
  streamRead: row<
    At & { readonly after?: Seq; readonly limit?: number; readonly follow?: boolean; readonly signal?: AbortSignal },
    AsyncGenerator<StreamEntry, void, undefined>
  >({
    right: "fs.read",
    kind: "query",
    isStream: true,
    summary: "entries of a stream behind a position; with `follow` also those that come",
    schema: args({ path, after: integer, limit: { ...integer, minimum: 1 }, follow: flag }, ["path"]),
    target: pathTarget(),
    handle: (host, caller, { signal, ...options }, target) =>
      host.fs.flows.read(inodeOf(target), target.resource, { ...options, signals: signalsOf(caller, signal) }),
  }),
  pipeWrite: row<At & Waiting & { readonly bytes: Uint8Array }, Promise<void>>({
    right: "fs.write",
    kind: "mutation",
    waitsIdly: true,
    waits: true,
    summary: "puts a piece into a pipe, waiting for room",
    schema: args({ path, bytes, waitMs }, ["path", "bytes"]),
    target: pathTarget(),
    audit: "none",
    spends: ({ bytes: { length } }) => ({ bytesWritten: length }),
    handle: (host, caller, { bytes: frame, signal, ...options }, target) =>
      host.fs.flows.put(inodeOf(target), target.resource, frame, {
        ...options,
        signals: signalsOf(caller, signal),
      }),
  }),
  pipeRead: row<At & Waiting, Promise<Uint8Array | null>>({
    right: "fs.read",
    kind: "mutation",
    waitsIdly: true,
    waits: true,
    summary: "takes a piece out of a pipe, waiting for one; null when it is closed and empty",
    schema: args({ path, waitMs }, ["path"]),
    target: pathTarget(),
    audit: "none",
    handle: (host, caller, { signal, ...options }, target) =>
      host.fs.flows.take(inodeOf(target), target.resource, { ...options, signals: signalsOf(caller, signal) }),
  }),
  pipeClose: row<At, Promise<void>>({
    right: "fs.write",
    kind: "mutation",
    summary: "tells readers of a pipe that no more comes, once it is drained",
    schema: args({ path }, ["path"]),
    target: pathTarget(),
    handle: async (host, _caller, _a, target) => host.fs.flows.close(inodeOf(target), target.resource),
  }),
} as const;
