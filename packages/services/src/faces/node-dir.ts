// An open directory in the shape of `Dir` of `node:fs`.

import type { DirEntry } from "@ergos/kernel";
import { NodeDirent } from "./node-stat.ts";

/** An entry of a listing, and the directory that it is in. */
export interface Found {
  readonly entry: DirEntry;
  readonly parent: string;
}

export class NodeDir implements AsyncDisposable, AsyncIterable<NodeDirent> {
  readonly path: string;
  readonly #found: AsyncGenerator<Found, void, undefined>;
  #isClosed = false;

  constructor(path: string, found: AsyncGenerator<Found, void, undefined>) {
    this.path = path;
    this.#found = found;
  }

  /** @throws {ERR_DIR_CLOSED} it was closed */
  async read(): Promise<NodeDirent | null> {
    this.#assertOpen();
    const { value } = await this.#found.next();
    return value === undefined ? null : new NodeDirent(value.entry, value.parent);
  }

  /** @throws {ERR_DIR_CLOSED} it was closed before */
  async close(): Promise<void> {
    this.#assertOpen();
    this.#isClosed = true;
    await this.#found.return();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isClosed) await this.close();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<NodeDirent, void, undefined> {
    try {
      for (let entry = await this.read(); entry !== null; entry = await this.read()) yield entry;
    } finally {
      await this[Symbol.asyncDispose]();
    }
  }

  #assertOpen(): void {
    if (this.#isClosed) throw Object.assign(new Error("Directory handle was closed"), { code: "ERR_DIR_CLOSED" });
  }
}
