// `@ergos/drivers/disk`: content-addressed blobs below a directory: in packs, or, if large, a file each.

import { hash } from "node:crypto";
import { join } from "node:path";
import { type ContentId, KernelError, type ObjectStore, parseContentId } from "@ergos/kernel";
import { LooseBlobs, isContentOf } from "./loose.ts";
import { Packs } from "./packs.ts";

/** Larger content has a file of its own. */
const PACKED_BYTES_MAX = 1024 * 1024;

export interface DiskObjectStoreOptions {
  /** Bytes at which a pack is closed and the next begun; tests make it small. */
  readonly packBytes?: number;
}

export class DiskObjectStore implements ObjectStore {
  readonly #dir: string;
  readonly #packs: Packs;
  readonly #loose: LooseBlobs;
  /** Writes of the same content at the same time are one write. */
  readonly #writing = new Map<ContentId, Promise<void>>();

  private constructor(dir: string, packs: Packs, loose: LooseBlobs) {
    this.#dir = dir;
    this.#packs = packs;
    this.#loose = loose;
  }

  static async open(dir: string, options: DiskObjectStoreOptions = {}): Promise<DiskObjectStore> {
    const loose = await LooseBlobs.open(dir);
    return new DiskObjectStore(dir, new Packs(join(dir, "packs"), options.packBytes), loose);
  }

  async put(bytes: Uint8Array): Promise<ContentId> {
    const id = idOf(bytes);
    let writing = this.#writing.get(id);
    if (writing === undefined) {
      writing = this.#write(id, bytes).finally(() => this.#writing.delete(id));
      this.#writing.set(id, writing);
    }
    await writing;
    return id;
  }

  async get(id: ContentId, range?: { readonly offset: number; readonly length: number }): Promise<Uint8Array> {
    const bytes = (await this.#packs.get(id, range)) ?? (await this.#loose.get(id, range));
    if (range === undefined && !isContentOf(id, bytes)) {
      throw new KernelError(
        "ECORRUPT",
        `the stored content ${id} does not match its hash; restore a copy of ${this.#dir}`,
        { path: this.#dir },
      );
    }
    return bytes;
  }

  async size(id: ContentId): Promise<number | undefined> {
    return (await this.#packs.size(id)) ?? this.#loose.size(id);
  }

  async delete(id: ContentId): Promise<void> {
    await this.#packs.delete(id);
    await this.#loose.delete(id);
  }

  async *list(): AsyncGenerator<ContentId, void, undefined> {
    const packed = new Set(await this.#packs.ids());
    yield* packed;
    for await (const id of this.#loose.list()) if (!packed.has(id)) yield id;
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#writing.values());
    await this.#packs.close();
  }

  async #write(id: ContentId, bytes: Uint8Array): Promise<void> {
    if (bytes.length > PACKED_BYTES_MAX) return this.#loose.put(id, bytes);
    return this.#packs.put(id, bytes);
  }
}

function idOf(bytes: Uint8Array): ContentId {
  const id = parseContentId(`sha256-${hash("sha256", bytes, "hex")}`);
  if (id === undefined) throw new KernelError("EFAULT", "SHA-256 gave no content id");
  return id;
}
