// Artifacts: what a run leaves behind for others, named, with who may see it.
//
// A1  An artifact belongs to the process that made it, for good: nobody else writes its names, and it is there when the
//     process is long gone.
// A2  Who may see it is decided by what was recorded when it was made: its producer, its user and its ancestors.

import { entriesOf } from "../abi/entries.ts";
import type { Metastore } from "../abi/metastore.ts";
import type { ObjectStore } from "../abi/object-store.ts";
import { KernelError } from "../base/errno.ts";
import { type ContentId, PID_OWNER, type Pid, type RunId, toPid } from "../base/id.ts";
import { type JsonValue, encodeJson } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import { type Along, merge } from "./action.ts";
import type { Family } from "./family.ts";
import type { Process } from "./process.ts";
import { encodeName } from "../vfs/inode.ts";

/** `subtree`: the processes above and below its producer. */
export const VISIBILITIES = ["private", "user", "subtree", "global"] as const;
export type Visibility = (typeof VISIBILITIES)[number];

export interface Artifact {
  readonly name: string;
  readonly pid: Pid;
  readonly runId: RunId;
  readonly user: string;
  /** Bytes. */
  readonly size: number;
  readonly visibility: Visibility;
  readonly mediaType?: string;
  /** Whatever its producer says of it. */
  readonly meta?: JsonValue;
  /** Wall-clock milliseconds. */
  readonly at: number;
}

interface ArtifactRecord extends Artifact {
  /** Processes above its producer. */
  readonly above: readonly Pid[];
  /** Where its content is, when it is too large to stand beside it. */
  readonly ref?: ContentId;
}

export interface ArtifactRequest {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly visibility?: Visibility;
  readonly mediaType?: string;
  readonly meta?: unknown;
}

export interface ArtifactParts {
  readonly store: Metastore;
  readonly objects: ObjectStore;
  readonly committer: Committer;
  readonly family: Family;
  readonly recall: (pid: Pid) => Promise<Process | undefined>;
}

const FORMAT = 1;
const NAME = /^[^/\p{Cc}]{1,255}$/u;
const keyOf = (pid: Pid, name: string): string => `art/${String(pid).padStart(10, "0")}/${encodeName(name)}`;
const bodyKeyOf = (pid: Pid, name: string): string => `arb/${String(pid).padStart(10, "0")}/${encodeName(name)}`;

export class ArtifactTable {
  readonly #parts: ArtifactParts;

  constructor(parts: ArtifactParts) {
    this.#parts = parts;
  }

  /**
   * Keeps an artifact, or replaces the process's own of that name.
   * @throws {EINVAL} the name cannot be · {E2BIG} it is too large, or what is said of it
   */
  async put(
    process: Process,
    request: ArtifactRequest,
    record: (artifact: Artifact) => Along,
    rider?: Rider,
  ): Promise<Artifact> {
    const { objects, committer, family } = this.#parts;
    const { name, bytes, visibility = "subtree", mediaType, meta } = request;
    if (!NAME.test(name) || name === "." || name === "..")
      throw new KernelError(
        "EINVAL",
        `${JSON.stringify(name)} is no name of an artifact; write up to 255 characters without a slash`,
      );
    if (!VISIBILITIES.includes(visibility))
      throw new KernelError("EINVAL", `an artifact is ${VISIBILITIES.join(", ")}; found ${visibility}`);
    if (!(bytes instanceof Uint8Array)) throw new KernelError("EINVAL", "the content of an artifact is bytes");
    if (bytes.length > LIMITS.ioBytesMax)
      throw new KernelError("E2BIG", `an artifact holds at most ${LIMITS.ioBytesMax} bytes, found ${bytes.length}`);
    const said = encodeJson(meta, "what is said of an artifact") ?? "null";
    if (said.length > LIMITS.inlineBytesMax)
      throw new KernelError(
        "E2BIG",
        `what is said of an artifact has at most ${LIMITS.inlineBytesMax} bytes of JSON, found ${said.length}`,
      );
    const { pid, identity } = process;
    const above: Pid[] = [];
    for (let at = family.parentOf(pid); at !== undefined; at = family.parentOf(at)) above.push(at);
    const isInline = bytes.length <= LIMITS.inlineBytesMax;
    const ref = isInline ? undefined : await objects.put(bytes);
    const artifact: Artifact = {
      name,
      pid,
      runId: identity.runId,
      user: identity.user,
      size: bytes.length,
      visibility,
      ...(mediaType === undefined ? {} : { mediaType: committer.masker?.maskData(mediaType) ?? mediaType }),
      ...(meta === undefined
        ? {}
        : { meta: committer.masker?.maskData(JSON.parse(said) as JsonValue) ?? (JSON.parse(said) as JsonValue) }),
      at: committer.now(),
    };
    const kept: ArtifactRecord = { ...artifact, above, ...(ref === undefined ? {} : { ref }) };
    const put = { key: keyOf(pid, name), value: JSON.stringify({ v: FORMAT, ...kept }) };
    const body = bodyKeyOf(pid, name);
    const batch = isInline ? { puts: [put, { key: body, value: bytes }] } : { puts: [put], deletes: [body] };
    await committer.commit(
      merge(batch, record(artifact)),
      [{ name: "artifact.stored", pid, data: { artifact: name, size: bytes.length, visibility } }],
      rider,
    );
    return artifact;
  }

  /** An artifact that a process may see, and what reads its content; nothing where there is none for it. */
  async get(
    viewer: Process,
    pid: Pid,
    name: string,
  ): Promise<{ readonly artifact: Artifact; readonly bytes: () => Promise<Uint8Array> } | undefined> {
    const entry = await this.#parts.store.get(keyOf(pid, name));
    const kept = entry === undefined ? undefined : decode(String(entry.value));
    if (kept === undefined || !(await this.#isVisible(kept, viewer))) return undefined;
    const { store, objects } = this.#parts;
    const { ref } = kept;
    return {
      artifact: shown(kept),
      bytes: async () =>
        ref === undefined ? toBytes((await store.get(bodyKeyOf(pid, name)))?.value) : objects.get(ref),
    };
  }

  /** Artifacts that a process may see, of one producer or of all, by producer and name. */
  async list(
    viewer: Process,
    filter: { readonly pid?: Pid; readonly prefix?: string; readonly limit: number },
  ): Promise<readonly Artifact[]> {
    const { pid, prefix = "", limit } = filter;
    const first = pid === undefined ? "art/" : keyOf(pid, "");
    const out: Artifact[] = [];
    for await (const { value } of entriesOf(this.#parts.store, first)) {
      const kept = decode(String(value));
      if (!kept.name.startsWith(prefix) || !(await this.#isVisible(kept, viewer))) continue;
      if (out.push(shown(kept)) >= limit) break;
    }
    return out;
  }

  /** @throws {ENOENT} there is none that the process may see · {EPERM} it is another's */
  async remove(process: Process, pid: Pid, name: string, rider?: Rider): Promise<void> {
    const entry = await this.#parts.store.get(keyOf(pid, name));
    const kept = entry === undefined ? undefined : decode(String(entry.value));
    if (kept === undefined || !(await this.#isVisible(kept, process)))
      throw new KernelError("ENOENT", `process ${pid} has left no artifact ${JSON.stringify(name)}`, {
        syscall: "removeArtifact",
      });
    if (process.pid !== pid && process.pid !== PID_OWNER)
      throw new KernelError(
        "EPERM",
        `artifact ${JSON.stringify(name)} belongs to process ${pid}, which alone removes it`,
        { syscall: "removeArtifact" },
      );
    await this.#parts.committer.commit({ deletes: [keyOf(pid, name), bodyKeyOf(pid, name)] }, undefined, rider);
  }

  async #isVisible({ pid, user, visibility, above }: ArtifactRecord, viewer: Process): Promise<boolean> {
    if (viewer.pid === pid || viewer.pid === PID_OWNER || visibility === "global") return true;
    if (visibility === "user") return viewer.identity.user === user;
    if (visibility === "private") return false;
    return above.includes(viewer.pid) || this.#isBelow(viewer, pid);
  }

  /** Whether a process was started by another, or by something below it; those between may be gone. */
  async #isBelow(process: Process, above: Pid): Promise<boolean> {
    for (let at: Process | undefined = process; at !== undefined;) {
      const { ppid }: { readonly ppid: Pid | undefined } = at.identity;
      if (ppid === above) return true;
      at = ppid === undefined ? undefined : await this.#parts.recall(ppid);
    }
    return false;
  }
}

/** How many artifacts processes have left, those that have left any. */
export async function ownersOfArtifacts(store: Metastore): Promise<ReadonlyMap<Pid, number>> {
  const owners = new Map<Pid, number>();
  for await (const { key } of entriesOf(store, "art/")) {
    const pid = toPid(Number(key.split("/")[1]));
    owners.set(pid, (owners.get(pid) ?? 0) + 1);
  }
  return owners;
}

/** Keys of all that a process has left. */
export async function artifactKeysOf(store: Metastore, pid: Pid): Promise<readonly string[]> {
  const keys: string[] = [];
  for (const range of [keyOf(pid, ""), bodyKeyOf(pid, "")])
    for await (const { key } of entriesOf(store, range)) keys.push(key);
  return keys;
}

function shown({ above: _above, ref: _ref, ...artifact }: ArtifactRecord): Artifact {
  return artifact;
}

const toBytes = (value: string | Uint8Array | undefined): Uint8Array =>
  typeof value === "string" ? new TextEncoder().encode(value) : (value ?? new Uint8Array());

function decode(value: string): ArtifactRecord {
  // Written by `put` only.
  const { v, ...record } = JSON.parse(value) as ArtifactRecord & { readonly v: number };
  if (v === FORMAT) return record;
  throw new KernelError("EVERSION", `an artifact has format ${v}, this program reads ${FORMAT}; use a newer ErgOS`);
}
