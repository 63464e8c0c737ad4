// Content in memory, for tests and for hosts without a directory.

import { hash } from "node:crypto";
import { type ContentId, KernelError, type ObjectStore, parseContentId, copyBytes } from "@ergos/kernel";

export class MemoryObjectStore implements ObjectStore {
  readonly #contents = new Map<ContentId, Uint8Array>();

  put(bytes: Uint8Array): Promise<ContentId> {
    const id = parseContentId(`sha256-${hash("sha256", bytes, "hex")}`);
    if (id === undefined) return Promise.reject(new KernelError("EFAULT", "SHA-256 gave no content id"));
    if (!this.#contents.has(id)) this.#contents.set(id, copyBytes(bytes));
    return Promise.resolve(id);
  }

  get(id: ContentId, range?: { readonly offset: number; readonly length: number }): Promise<Uint8Array> {
    const bytes = this.#contents.get(id);
    if (bytes === undefined) return Promise.reject(new KernelError("ENOENT", `no content ${id} is stored`));
    return Promise.resolve(
      range === undefined ? bytes.slice() : bytes.slice(range.offset, range.offset + range.length),
    );
  }

  size(id: ContentId): Promise<number | undefined> {
    return Promise.resolve(this.#contents.get(id)?.length);
  }

  delete(id: ContentId): Promise<void> {
    this.#contents.delete(id);
    return Promise.resolve();
  }

  async *list(): AsyncGenerator<ContentId, void, undefined> {
    yield* this.#contents.keys();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
