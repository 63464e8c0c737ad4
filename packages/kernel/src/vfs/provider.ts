// Virtual files: trees that are made when somebody looks. `/proc`, `/dev`, `/sys` are providers.

import type { DirEntry, EntryType } from "../abi/file.ts";
import type { VfsPath } from "../base/path.ts";
import type { JsonValue } from "../base/json.ts";
import type { Schema } from "../base/schema.ts";
import type { Pid } from "../base/id.ts";

type MaybePromise<T> = T | Promise<T>;

/** What acting on a virtual file really means: the dispatcher checks and runs that row instead. */
export interface RowCall {
  readonly row: string;
  readonly args: Readonly<Record<string, unknown>>;
}

export interface VirtualNode {
  readonly type: EntryType;
  readonly entityType?: string;
  readonly description?: string;
  readonly status?: string;
  readonly tags?: Readonly<Record<string, string>>;
  /** Its entries are looked for in a store, and not counted for whoever asks what it is. */
  readonly isLong?: true;
  readonly target?: VfsPath;
  readonly child?: (name: string, viewer: Pid) => MaybePromise<VirtualNode | undefined>;
  readonly list?: (viewer: Pid) => MaybePromise<readonly DirEntry[]>;
  /** Text for people; when absent, the JSON is shown. */
  readonly text?: () => MaybePromise<string>;
  readonly json?: () => MaybePromise<JsonValue>;
  readonly bytes?: (range: { readonly offset: number; readonly length: number }) => MaybePromise<Uint8Array>;
  readonly write?: (bytes: Uint8Array) => RowCall;
  /** What is written to it is gone. */
  readonly isSink?: boolean;
  readonly exec?: { readonly inputSchema: Schema; readonly call: (input: unknown) => RowCall };
}

export interface Provider {
  readonly name: string;
  readonly root: VirtualNode;
}

/** A directory with a fixed set of entries. */
export function directory(
  entries: Readonly<Record<string, VirtualNode>>,
  more: Partial<VirtualNode> = {},
): VirtualNode {
  return {
    type: "directory",
    child: (name) => (Object.hasOwn(entries, name) ? entries[name] : undefined),
    list: () => Object.entries(entries).map(([name, node]) => ({ name, type: node.type })),
    ...more,
  };
}

/** A directory whose entries are looked up when asked for. */
export function collection(
  list: (viewer: Pid) => MaybePromise<readonly DirEntry[]>,
  child: (name: string, viewer: Pid) => MaybePromise<VirtualNode | undefined>,
  more: Partial<VirtualNode> = {},
): VirtualNode {
  return { type: "directory", list, child, ...more };
}

/** A file that shows a value, as indented JSON unless `text` says otherwise. */
export function jsonFile(json: () => MaybePromise<JsonValue>, more: Partial<VirtualNode> = {}): VirtualNode {
  return { type: "file", json, ...more };
}

/** What a provider has at a path; `isJson` when it is the JSON form of the name without `.json`. */
export interface Found {
  readonly node: VirtualNode;
  readonly isJson: boolean;
}

/** Finds a node below a provider's root. A name ending in `.json` is the JSON form of the name without it. */
export async function lookup(root: VirtualNode, segments: readonly string[], viewer: Pid): Promise<Found | undefined> {
  let node: VirtualNode | undefined = root;
  for (const [at, name] of segments.entries()) {
    const parent: VirtualNode = node;
    if (parent.type === "link") {
      return { node: { ...parent, description: segments.slice(at).join("/") }, isJson: false };
    }
    node = await parent.child?.(name, viewer);
    if (node === undefined && at === segments.length - 1 && name.endsWith(".json")) {
      const plain = await parent.child?.(name.slice(0, -5), viewer);
      if (plain?.json !== undefined) return { node: { type: "file", json: plain.json }, isJson: true };
    }
    if (node === undefined) return undefined;
  }
  return { node, isJson: false };
}

/** The whole content of a virtual file. */
export async function contentOf(node: VirtualNode): Promise<Uint8Array | undefined> {
  if (node.text !== undefined) return new TextEncoder().encode(await node.text());
  if (node.json !== undefined) return new TextEncoder().encode(`${JSON.stringify(await node.json(), undefined, 2)}\n`);
  return undefined;
}
