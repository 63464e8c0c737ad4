// Rows about artifacts.

import { KernelError } from "../base/errno.ts";
import type { JsonValue } from "../base/json.ts";
import type { Pid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { type Artifact, type ArtifactRequest, VISIBILITIES } from "../proc/artifact-table.ts";
import type { Process } from "../proc/process.ts";
import type { Host } from "./host.ts";
import { placed } from "./placed.ts";
import {
  type AtPlace,
  type Target,
  anything,
  args,
  atPlace,
  bytes,
  integer,
  label,
  pid,
  place,
  row,
  text,
} from "./row.ts";

const name = { type: "string", minLength: 1, maxLength: 255 } as const;
type Of = { readonly pid?: Pid; readonly name: string };
const LISTED = 200;

/** The path of an artifact of the caller, or of another process. */
const onArtifact = (_host: Host, caller: Process, a: { readonly pid?: Pid; readonly name?: string }): Target => ({
  resource: `/proc/${a.pid ?? caller.pid}/artifacts/${a.name ?? ""}`.replace(/\/$/, ""),
});

export const ARTIFACT_ROWS = {
  putArtifact: row<ArtifactRequest & AtPlace, Promise<Artifact>>({
    right: "artifact.write",
    kind: "mutation",
    summary: "keeps something that the caller leaves behind for others, under a name of its own",
    schema: args(
      { place, name, bytes, visibility: { type: "string", enum: VISIBILITIES }, mediaType: label, meta: anything },
      ["name", "bytes"],
    ),
    target: (host, caller, a) => onArtifact(host, caller, { name: a.name }),
    spends: ({ bytes: { length } }) => ({ bytesWritten: length }),
    audited: ({ name: of, visibility, bytes: content }) => ({
      name: of,
      size: content.length,
      ...(visibility === undefined ? {} : { visibility }),
    }),
    recordedAt: atPlace,
    handle: (host, caller, { place: at, ...request }, _target, draft) =>
      placed<Artifact>(caller, "putArtifact", at, (record) =>
        host.artifacts.put(caller, request, (made) => record(made as Artifact & JsonValue), draft),
      ),
  }),
  artifact: row<Of, Promise<Artifact | null>>({
    right: "artifact.read",
    kind: "query",
    summary: "what is known of an artifact; null where there is none that the caller may see",
    schema: args({ pid, name }, ["name"]),
    target: onArtifact,
    handle: async (host, caller, a) =>
      (await host.artifacts.get(caller, a.pid ?? caller.pid, a.name))?.artifact ?? null,
  }),
  readArtifact: row<Of, Promise<Uint8Array>>({
    right: "artifact.read",
    kind: "query",
    isLarge: true,
    summary: "the content of an artifact that the caller may see",
    schema: args({ pid, name }, ["name"]),
    target: onArtifact,
    handle: async (host, caller, a) => {
      const of = a.pid ?? caller.pid;
      const found = await host.artifacts.get(caller, of, a.name);
      if (found !== undefined) return found.bytes();
      throw new KernelError("ENOENT", `process ${of} has left no artifact ${JSON.stringify(a.name)}`, {
        syscall: "readArtifact",
      });
    },
  }),
  artifacts: row<
    { readonly pid?: Pid; readonly prefix?: string; readonly limit?: number },
    Promise<readonly Artifact[]>
  >({
    right: "artifact.read",
    kind: "query",
    summary: "artifacts that the caller may see, of one process or of all, by the beginning of their names",
    schema: args({ pid, prefix: text, limit: { ...integer, minimum: 1, maximum: LIMITS.pageMax } }),
    target: (_host, _caller, a) => ({ resource: a.pid === undefined ? "/proc" : `/proc/${a.pid}/artifacts` }),
    handle: (host, caller, { limit = LISTED, ...filter }) => host.artifacts.list(caller, { ...filter, limit }),
  }),
  removeArtifact: row<Of, Promise<void>>({
    right: "artifact.write",
    kind: "mutation",
    summary: "removes an artifact of the caller's; the owner's process removes any",
    schema: args({ pid, name }, ["name"]),
    target: onArtifact,
    handle: (host, caller, a, _target, draft) => host.artifacts.remove(caller, a.pid ?? caller.pid, a.name, draft),
  }),
} as const;
