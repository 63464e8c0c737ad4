// `@ergos/drivers/disk`: content-addressed blobs, one file each, below a directory.
//
// A blob is written to a temporary file, synced, renamed to its hash, and its directory synced: under its
// name there is all of it or nothing. What is left of an interrupted write lies in `tmp` and is removed.

import { hash, randomUUID } from "node:crypto";
import { type FileHandle, mkdir, open, readdir, rename, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import { type ContentId, type Errno, KernelError, type ObjectStore, parseContentId } from "@ergos/kernel";

export class DiskObjectStore implements ObjectStore {
  readonly #dir: string;
  /** Writes of the same content at the same time are one write. */
  readonly #writing = new Map<ContentId, Promise<void>>();
  readonly #madeDirs = new Set<string>();

  private constructor(dir: string) {
    this.#dir = dir;
  }

  static async open(dir: string): Promise<DiskObjectStore> {
    try {
      await mkdir(join(dir, "tmp"), { recursive: true, mode: 0o700 });
      for (const name of await readdir(join(dir, "tmp"))) await unlink(join(dir, "tmp", name));
    } catch (error) {
      throw translate(error, dir);
    }
    return new DiskObjectStore(dir);
  }

  async put(bytes: Uint8Array): Promise<ContentId> {
    const id = parseContentId(`sha256-${hash("sha256", bytes, "hex")}`);
    if (id === undefined) throw new KernelError("EFAULT", "SHA-256 gave no content id");
    let writing = this.#writing.get(id);
    if (writing === undefined) {
      writing = this.#write(id, bytes).finally(() => this.#writing.delete(id));
      this.#writing.set(id, writing);
    }
    await writing;
    return id;
  }

  async get(id: ContentId, range?: { readonly offset: number; readonly length: number }): Promise<Uint8Array> {
    let file: FileHandle | undefined;
    try {
      file = await open(this.#pathOf(id), "r");
      const { size } = await file.stat();
      const offset = Math.min(range?.offset ?? 0, size);
      const bytes = Buffer.allocUnsafe(Math.min(range?.length ?? size, size - offset));
      const { bytesRead } = await file.read(bytes, 0, bytes.length, offset);
      if (range === undefined && (bytesRead !== size || `sha256-${hash("sha256", bytes, "hex")}` !== id)) {
        throw new KernelError(
          "ECORRUPT",
          `the stored content ${id} does not match its hash; restore a copy of ${this.#dir}`,
          { path: this.#pathOf(id) },
        );
      }
      return bytes.subarray(0, bytesRead);
    } catch (error) {
      throw translate(error, this.#pathOf(id));
    } finally {
      await file?.close();
    }
  }

  async size(id: ContentId): Promise<number | undefined> {
    try {
      return (await stat(this.#pathOf(id))).size;
    } catch (error) {
      const kernelError = translate(error, this.#pathOf(id));
      if (kernelError.code === "ENOENT") return undefined;
      throw kernelError;
    }
  }

  async delete(id: ContentId): Promise<void> {
    try {
      await unlink(this.#pathOf(id));
    } catch (error) {
      const kernelError = translate(error, this.#pathOf(id));
      if (kernelError.code !== "ENOENT") throw kernelError;
    }
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

  async close(): Promise<void> {
    await Promise.allSettled(this.#writing.values());
  }

  async #namesIn(dir: string): Promise<readonly string[]> {
    try {
      return await readdir(dir);
    } catch (error) {
      throw translate(error, dir);
    }
  }

  #pathOf(id: ContentId): string {
    return join(this.#dir, id.slice(7, 9), id.slice(9));
  }

  async #write(id: ContentId, bytes: Uint8Array): Promise<void> {
    if ((await this.size(id)) === bytes.length) return;
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
    } catch (error) {
      await unlink(temporary).catch(() => undefined);
      throw translate(error, path);
    }
  }
}

async function syncDirectory(dir: string): Promise<void> {
  await using handle = await open(dir, "r");
  await handle.sync();
}

const CODES: Readonly<Record<string, Errno>> = {
  ENOENT: "ENOENT",
  ENOSPC: "ENOSPC",
  EDQUOT: "ENOSPC",
  EROFS: "EROFS",
  EACCES: "EROFS",
  EPERM: "EROFS",
  EMFILE: "EMFILE",
};

function translate(error: unknown, path: string): KernelError {
  if (error instanceof KernelError) return error;
  const code =
    typeof error === "object" && error !== null && "code" in error ? (CODES[String(error.code)] ?? "EIO") : "EIO";
  return new KernelError(code, `the object store failed at ${path}`, { path, cause: error });
}
