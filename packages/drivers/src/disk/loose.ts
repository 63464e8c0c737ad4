// Large content: a file each, below a directory named by the beginning of its hash.
//
// It is written to a temporary file, synced, renamed to its hash, and its directory synced: under its name there is
// all of it or nothing. What is left of an interrupted write lies in `tmp` and is removed. What was there at opening
// counts for a put once its hash was seen to be right.

import { hash, randomUUID } from "node:crypto";
import { mkdir, open, readdir, rename, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import { type ContentId, type KernelError, parseContentId } from "@ergos/kernel";
import { diskError } from "./error.ts";

/** Ids that are remembered; beyond them content is looked at once more. */
const PROVEN_MAX = 100_000;

export class LooseBlobs {
  readonly #dir: string;
  readonly #madeDirs = new Set<string>();
  /** Content that was written here, or seen to be right. */
  readonly #proven = new Set<ContentId>();

  private constructor(dir: string) {
    this.#dir = dir;
  }

  static async open(dir: string): Promise<LooseBlobs> {
    try {
      await mkdir(join(dir, "tmp"), { recursive: true, mode: 0o700 });
      for (const name of await readdir(join(dir, "tmp"))) await unlink(join(dir, "tmp", name));
    } catch (error) {
      throw diskError(error, dir);
    }
    return new LooseBlobs(dir);
  }

  async put(id: ContentId, bytes: Uint8Array): Promise<void> {
    if ((await this.size(id)) === bytes.length && (await this.#prove(id))) return;
    const path = this.#pathOf(id);
    const temporary = join(this.#dir, "tmp", randomUUID());
    try {
      const file = await open(temporary, "wx", 0o600);
      try {
        await file.writeFile(bytes);
        await file.datasync();
      } finally {
        await file.close();
      }
      const parent = join(this.#dir, id.slice(7, 9));
      if (!this.#madeDirs.has(parent)) {
        await mkdir(parent, { recursive: true, mode: 0o700 });
        await syncDirectory(this.#dir);
        this.#madeDirs.add(parent);
      }
      await rename(temporary, path);
      await syncDirectory(parent);
      this.#remember(id);
    } catch (error) {
      await unlink(temporary).catch(() => undefined);
      throw diskError(error, path);
    }
  }

  /** @throws {ENOENT} it is not here */
  async get(id: ContentId, range?: { readonly offset: number; readonly length: number }): Promise<Uint8Array> {
    const path = this.#pathOf(id);
    try {
      await using file = await open(path, "r");
      const { size } = await file.stat();
      const offset = Math.min(range?.offset ?? 0, size);
      const bytes = Buffer.allocUnsafe(Math.min(range?.length ?? size, size - offset));
      const { bytesRead } = await file.read(bytes, 0, bytes.length, offset);
      return bytes.subarray(0, bytesRead);
    } catch (error) {
      throw diskError(error, path);
    }
  }

  async size(id: ContentId): Promise<number | undefined> {
    return this.#unlessAbsent(id, async (path) => (await stat(path)).size);
  }

  async delete(id: ContentId): Promise<void> {
    this.#proven.delete(id);
    await this.#unlessAbsent(id, unlink);
  }

  async #prove(id: ContentId): Promise<boolean> {
    if (this.#proven.has(id)) return true;
    // What cannot be read is written anew.
    const bytes = await this.get(id).catch(() => undefined);
    if (bytes === undefined || !isContentOf(id, bytes)) return false;
    this.#remember(id);
    return true;
  }

  #remember(id: ContentId): void {
    if (this.#proven.size >= PROVEN_MAX) this.#proven.clear();
    this.#proven.add(id);
  }

  async *list(): AsyncGenerator<ContentId, void, undefined> {
    for (const parent of await this.#namesIn(this.#dir)) {
      if (!/^[0-9a-f]{2}$/.test(parent)) continue;
      for (const name of await this.#namesIn(join(this.#dir, parent))) {
        const id = parseContentId(`sha256-${parent}${name}`);
        if (id !== undefined) yield id;
      }
    }
  }

  async #unlessAbsent<T>(id: ContentId, work: (path: string) => Promise<T>): Promise<T | undefined> {
    const path = this.#pathOf(id);
    try {
      return await work(path);
    } catch (error) {
      const kernelError: KernelError = diskError(error, path);
      if (kernelError.code === "ENOENT") return undefined;
      throw kernelError;
    }
  }

  async #namesIn(dir: string): Promise<readonly string[]> {
    try {
      return await readdir(dir);
    } catch (error) {
      throw diskError(error, dir);
    }
  }

  #pathOf(id: ContentId): string {
    return join(this.#dir, id.slice(7, 9), id.slice(9));
  }
}

export const isContentOf = (id: ContentId, bytes: Uint8Array): boolean =>
  `sha256-${hash("sha256", bytes, "hex")}` === id;

export async function syncDirectory(dir: string): Promise<void> {
  await using handle = await open(dir, "r");
  await handle.sync();
}
