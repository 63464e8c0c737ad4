// Whether the store holds together: names and inodes, counts, content, processes and their journals.
//
// What is changed while it is looked at can seem torn; a problem is one that is still there, unchanged, at a second look.

import { type StoreReader, entriesOf, logOf, othersTurn, patiently } from "../abi/entries.ts";
import type { Metastore } from "../abi/metastore.ts";
import type { ObjectStore } from "../abi/object-store.ts";
import type { Platform } from "../abi/platform.ts";
import { describe } from "../base/errno.ts";
import { type ContentId, INO_ROOT, type Ino, parseContentId, toIno } from "../base/id.ts";
import { decodeRecord, journalLog } from "../journal/record.ts";
import { decodeProcess, pidOfKey } from "../proc/process-record.ts";
import { decodeExtent } from "../vfs/extent.ts";
import { type Attributes, decodeDirent, decodeInode, decodeName } from "../vfs/inode.ts";

export interface Problem {
  /** Key of the record, or id of the content, that is wrong. */
  readonly at: string;
  readonly what: string;
}

export interface CheckReport {
  readonly problems: readonly Problem[];
  readonly files: number;
  readonly directories: number;
  readonly processes: number;
  readonly blobs: number;
}

export interface CheckRequest {
  /** Reads all content and compares it with its hash. */
  readonly contents?: boolean;
}

interface CheckerParts {
  readonly store: Metastore;
  readonly platform: Platform;
  readonly objects: ObjectStore;
}

/** Inodes between two turns of others. */
const LOOKED_AT_ONCE = 1000;

type Say = (at: string, what: string) => void;
/** Runs a part of the check on a record; a record that cannot be read is a problem too. */
type Try = (at: string, look: () => void | Promise<void>) => Promise<void>;

/** Looks at all records, and twice where something seems wrong. */
export async function check(parts: CheckerParts, request: CheckRequest = {}): Promise<CheckReport> {
  const first = await look(parts, request);
  if (first.problems.length === 0) return first;
  const second = await look(parts, request);
  const seen = new Set(first.problems.map(({ at, what }) => `${at} ${what}`));
  return { ...second, problems: second.problems.filter(({ at, what }) => seen.has(`${at} ${what}`)) };
}

async function look(
  { store: whole, objects, platform }: CheckerParts,
  { contents = false }: CheckRequest,
): Promise<CheckReport> {
  const store = patiently(whole, platform);
  const problems: Problem[] = [];
  const say: Say = (at, what) => void problems.push({ at, what });
  const attempt: Try = async (at, work) => {
    try {
      await work();
    } catch (error) {
      say(at, describe(error));
    }
  };
  const inodes = new Map<Ino, Attributes>();
  for await (const entry of entriesOf(store, "i/"))
    await attempt(entry.key, () => {
      const ino = toIno(Number(entry.key.slice(2)));
      inodes.set(ino, decodeInode(ino, entry).attributes);
    });
  await checkNames(store, inodes, say, attempt, () => othersTurn(platform));
  const content = new ContentCheck(objects, say);
  await checkExtents(store, inodes, content, say, attempt);
  await checkArtifacts(store, content, attempt);
  const processes = await checkProcesses(store, content, say, attempt);
  let blobs = 0;
  for await (const id of objects.list()) {
    blobs++;
    // What nothing names was left by a write that did not end, or waits to be collected: nobody reads it.
    if (contents && content.isNamed(id)) await attempt(id, async () => void (await objects.get(id)));
  }
  const directories = [...inodes.values()].filter(({ type }) => type === "directory").length;
  return { problems, files: inodes.size - directories, directories, processes, blobs };
}

/** Whether content is there, asked once. */
class ContentCheck {
  readonly #objects: ObjectStore;
  readonly #say: Say;
  readonly #sizes = new Map<ContentId, number | undefined>();

  constructor(objects: ObjectStore, say: Say) {
    this.#objects = objects;
    this.#say = say;
  }

  isNamed(id: ContentId): boolean {
    return this.#sizes.has(id);
  }

  async expect(at: string, ref: string | undefined, size?: number): Promise<void> {
    if (ref === undefined) return;
    const id = parseContentId(ref);
    if (id === undefined) return this.#say(at, `${JSON.stringify(ref)} names no content`);
    if (!this.#sizes.has(id)) this.#sizes.set(id, await this.#objects.size(id));
    const found = this.#sizes.get(id);
    if (found === undefined) this.#say(at, `its content ${id} is missing`);
    else if (size !== undefined && found !== size) this.#say(at, `its content ${id} has ${found} bytes, not ${size}`);
  }
}

async function checkNames(
  store: StoreReader,
  inodes: ReadonlyMap<Ino, Attributes>,
  say: Say,
  attempt: Try,
  turn: () => Promise<void>,
): Promise<void> {
  const parents = new Map<Ino, Ino>();
  const counts = new Map<Ino, number>();
  for await (const { key, value } of entriesOf(store, "n/"))
    await attempt(key, () => {
      const directory = toIno(Number(key.slice(2, key.indexOf("/", 2))));
      const { ino, type } = decodeDirent(value);
      const inode = inodes.get(ino);
      counts.set(directory, (counts.get(directory) ?? 0) + 1);
      if (inode === undefined)
        say(key, `the name ${JSON.stringify(decodeName(key))} names inode ${ino}, which is missing`);
      else if (inode.type !== type) say(key, `it is called a ${type}, its inode ${ino} is a ${inode.type}`);
      if (directory !== INO_ROOT && inodes.get(directory)?.type !== "directory")
        say(key, `it stands in inode ${directory}, which is no directory`);
      if (parents.has(ino)) say(key, `inode ${ino} has another name too`);
      parents.set(ino, directory);
    });
  const orphans = new Set<number>();
  for await (const { key } of entriesOf(store, "o/")) orphans.add(Number(key.slice(2)));
  let looked = 0;
  for (const ino of inodes.keys()) {
    if (++looked % LOOKED_AT_ONCE === 0) await turn();
    if (ino !== INO_ROOT && !orphans.has(ino) && !isReachable(ino, parents)) say(`i/${ino}`, "no path leads to it");
  }
  for await (const { key, value } of entriesOf(store, "c/")) {
    const directory = toIno(Number(key.slice(2)));
    const found = counts.get(directory) ?? 0;
    counts.delete(directory);
    if (found !== Number(value)) say(key, `it counts ${String(value)} entries, there are ${found}`);
  }
  for (const [directory, found] of counts) say(`c/${directory}`, `it counts no entries, there are ${found}`);
  for await (const { key } of entriesOf(store, "d/")) {
    const directory = toIno(Number(key.slice(2)));
    if (directory !== INO_ROOT && inodes.get(directory)?.type !== "directory")
      say(key, "it is the time of a directory that is not there");
  }
}

function isReachable(ino: Ino, parents: ReadonlyMap<Ino, Ino>): boolean {
  const seen = new Set<Ino>();
  for (let at: Ino | undefined = ino; at !== undefined && !seen.has(at); at = parents.get(at)) {
    if (at === INO_ROOT) return true;
    seen.add(at);
  }
  return false;
}

async function checkExtents(
  store: StoreReader,
  inodes: ReadonlyMap<Ino, Attributes>,
  content: ContentCheck,
  say: Say,
  attempt: Try,
): Promise<void> {
  const ends = new Map<Ino, number>();
  for await (const { key, value } of entriesOf(store, "x/"))
    await attempt(key, async () => {
      const ino = toIno(Number(key.slice(2, key.indexOf("/", 2))));
      const extent = decodeExtent(key, value);
      const end = ends.get(ino) ?? 0;
      if (extent.offset !== end) say(key, `it begins at ${extent.offset}, the one before it ends at ${end}`);
      ends.set(ino, extent.offset + extent.length);
      if (typeof extent.content === "string") await content.expect(key, extent.content, extent.length);
    });
  for (const [ino, { type, size }] of inodes) {
    const end = ends.get(ino) ?? 0;
    ends.delete(ino);
    if (type !== "directory" && end !== size) say(`i/${ino}`, `it has ${size} bytes, its content ${end}`);
  }
  for (const ino of ends.keys()) say(`x/${ino}`, "content without an inode");
}

async function checkArtifacts(store: StoreReader, content: ContentCheck, attempt: Try): Promise<void> {
  for await (const { key, value } of entriesOf(store, "art/"))
    await attempt(key, async () => {
      // Written by the table of artifacts only; one without a reference stands in the store itself.
      const { ref, size } = JSON.parse(String(value)) as { readonly ref?: string; readonly size: number };
      await content.expect(key, ref, size);
    });
}

async function checkProcesses(store: StoreReader, content: ContentCheck, say: Say, attempt: Try): Promise<number> {
  const known = new Set<number>();
  for await (const entry of entriesOf(store, "p/")) {
    const { key } = entry;
    const pid = pidOfKey(key);
    known.add(pid);
    await attempt(key, async () => {
      const { inputRef, resultRef, identity } = decodeProcess(entry);
      if (identity.pid !== pid) say(key, `it is the record of process ${identity.pid}`);
      await content.expect(key, inputRef);
      await content.expect(key, resultRef);
    });
    await attempt(journalLog(pid), async () => {
      for await (const { seq, value } of logOf(store, journalLog(pid))) {
        const record = decodeRecord(seq, value);
        if (record.t === "step") await content.expect(`${journalLog(pid)} at ${seq}`, record.ref);
      }
    });
  }
  for await (const { key } of entriesOf(store, "l/"))
    if (!known.has(pidOfKey(key))) say(key, "it marks a process that has no record");
  return known.size;
}
