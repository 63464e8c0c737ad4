// Inodes of the zone's filesystem: their records in the metastore and their form in memory.
//
// Keys: `n/<directory>/<name>` → ino and type · `i/<ino>` → attributes · `c/<ino>` → count of children
//       `d/<ino>` → when an entry last came or went · `x/<ino>/<offset>` → extent · `o/<ino>` → unlinked while open
// A name is changed without touching what it names: a rename of a directory writes two keys.

import type { FlowSettings } from "../abi/flow.ts";
import type { Entry } from "../abi/metastore.ts";
import type { EntryType } from "../abi/file.ts";
import { KernelError } from "../base/errno.ts";
import { type Ino, type Seq, SEQ_ZERO, toIno } from "../base/id.ts";
import type { Extent } from "./extent.ts";

export interface Attributes {
  readonly type: EntryType;
  readonly size: number;
  /** Count of content writes. */
  readonly version: number;
  readonly created: number;
  readonly modified: number;
  readonly owner: string;
  readonly mime?: string;
  /** Where a link leads, as it was written: an absolute path, or one from the directory that the link is in. */
  readonly target?: string;
  /** Permission bits for programs that look at them; rights do not. */
  readonly mode?: number;
  readonly lastWriter?: number;
  /** What a pipe or a stream was made with. */
  readonly flow?: FlowSettings;
  /** Extended attributes: whatever somebody says of it, by name. */
  readonly extended?: Readonly<Record<string, string>>;
  /** What a copy was made from, and its own version then. */
  readonly origin?: { readonly ino: Ino; readonly generation: Seq; readonly version: number };
}

const FORMAT = 1;

export class Inode {
  readonly ino: Ino;
  attributes: Attributes;
  /** Version of the `i/` key. */
  recordVersion: Seq;
  generation: Seq;
  /** When an entry of the directory last came or went, in ms; undefined once its time was set by hand, and for others. */
  entriesModified: number | undefined;
  /** Layout of the content, `undefined` until it was read. */
  extents: readonly Extent[] | undefined;
  /** Open handles. An unlinked inode lives until the last of them closes. */
  handles = 0;
  linked = true;
  /** No longer the one object of its ino: whoever holds it must look it up again. */
  evicted = false;
  /** The newest mutation under way; the next one waits for it (first come, first served). */
  tail: Promise<unknown> | undefined;

  constructor(ino: Ino, attributes: Attributes, recordVersion: Seq, generation: Seq) {
    this.ino = ino;
    this.attributes = attributes;
    this.recordVersion = recordVersion;
    this.generation = generation;
  }

  get modified(): number {
    return this.entriesModified ?? this.attributes.modified;
  }

  get isBusy(): boolean {
    return this.handles > 0 || this.tail !== undefined;
  }
}

/** Entries of a stream. */
export const streamLog = (ino: Ino): string => `st/${ino}`;
export const inodeKey = (ino: Ino): string => `i/${ino}`;
export const nameKey = (directory: Ino, name: string): string => `n/${directory}/${encodeName(name)}`;
export const nameRange = (directory: Ino, after = ""): { from: string; to: string } => ({
  from: after === "" ? `n/${directory}/` : `${nameKey(directory, after)}\u0001`,
  to: `n/${directory}0`,
});
export const childCountKey = (directory: Ino): string => `c/${directory}`;
export const entriesKey = (directory: Ino): string => `d/${directory}`;
export const orphanKey = (ino: Ino): string => `o/${ino}`;

/** Keys hold no astral characters (two engines would order them differently) and `%` marks an escape. */
export function encodeName(name: string): string {
  return /[%\ud800-\udfff]/.test(name) ? name.replace(/%|[\u{10000}-\u{10ffff}]/gu, encodeURIComponent) : name;
}

/** The name of a directory's key. @param start where it begins, which is the same for all of one directory */
export function decodeName(key: string, start: number = key.indexOf("/", 2) + 1): string {
  const name = key.slice(start);
  return name.includes("%") ? decodeURIComponent(name.replace(/[^%A-Za-z0-9]/gu, encodeURIComponent)) : name;
}

/** A directory entry's value: the ino and the type, so that listing reads no inode. */
export const encodeDirent = (ino: Ino, type: EntryType): string => `${ino} ${type}`;

export const decodeDirent = (value: unknown): { ino: Ino; type: EntryType } => ({
  type: direntType(value),
  ino: toIno(Number.parseInt(String(value), 10)),
});

/** The type alone: a listing asks for nothing else. */
export function direntType(value: unknown): EntryType {
  const at = typeof value === "string" ? value.indexOf(" ") : -1;
  // Written by `encodeDirent` only.
  if (at > 0) return (value as string).slice(at + 1) as EntryType;
  throw new KernelError("ECORRUPT", "a directory entry is damaged; run `ergos doctor`");
}

/**
 * The record of an inode. `generation` is written only when the commit does not change the content:
 * without it the generation is the position of the commit itself.
 */
export function encodeInode(attributes: Attributes, generation?: Seq): string {
  return JSON.stringify({ v: FORMAT, ...attributes, ...(generation === undefined ? {} : { generation }) });
}

export function decodeInode(ino: Ino, entry: Entry): Inode {
  // Written by `encodeInode` only; a reader of a newer format must refuse it.
  const record = JSON.parse(String(entry.value)) as Attributes & { v: number; generation?: Seq };
  if (record.v !== FORMAT) {
    throw new KernelError(
      "EVERSION",
      `inode ${ino} has format ${record.v}, this program reads ${FORMAT}; use a newer ErgOS`,
    );
  }
  const { v: _format, generation, ...attributes } = record;
  return new Inode(ino, attributes, entry.version, generation ?? entry.version);
}

/** The root as it is before the first commit wrote anything. */
export function makeRoot(ino: Ino): Inode {
  return new Inode(
    ino,
    { type: "directory", size: 0, version: 0, created: 0, modified: 0, owner: "root" },
    SEQ_ZERO,
    SEQ_ZERO,
  );
}
