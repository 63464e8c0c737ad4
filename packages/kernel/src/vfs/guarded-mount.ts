// A driver between its mount and its unmount: what may be asked of it, and what is believed of its answers.
//
// M1  Whatever it throws becomes an error of the table, with the path. What it does not answer in its time is
//     ETIMEDOUT, and may have been done.
// M2  It never gives more bytes than were asked for, nor names that are none.
// M3  Behind `drain` nothing new begins; it settles when nothing is under way.
// M4  What it may hold beside what it held when it was mounted is counted before it is written.

import {
  type DirEntry,
  ENTRY_TYPES,
  type FileStat,
  type MountDriver,
  type WriteOptions,
  type WriteResult,
} from "../abi/file.ts";
import type { Hook } from "../abi/hook.ts";
import type { Platform } from "../abi/platform.ts";
import { within } from "../abi/within.ts";
import { KernelError, describe, isKernelError, plainMessage, reworded } from "../base/errno.ts";
import { SEQ_ZERO } from "../base/id.ts";
import { ROOT, type VfsPath, childOf } from "../base/path.ts";

/** What bounds a mount. */
export interface MountLimits {
  /** Nothing is written, whatever the driver could do. */
  readonly readOnly?: boolean;
  /** How much it may hold: bytes of content, and entries of any kind. */
  readonly quota?: { readonly bytes?: number; readonly entries?: number };
  /** Milliseconds that one answer may take (default a minute). */
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 60_000;

const busy = (name: string, path: VfsPath): KernelError =>
  new KernelError("ETIMEDOUT", `${name} has not answered what was asked before`, { path });

interface Held {
  bytes: number;
  entries: number;
}

const LINK: Omit<FileStat, "path"> = { type: "link", generation: SEQ_ZERO, version: 0 };

const TYPES: ReadonlySet<unknown> = new Set(ENTRY_TYPES);
const isWhole = (value: unknown): boolean => Number.isSafeInteger(value) && Number(value) >= 0;

/** Content alone is counted: what a driver calls the size of a directory is none. */
const sizeOf = (stat: Omit<FileStat, "path"> | undefined): number =>
  stat === undefined || stat.type === "directory" ? 0 : (stat.size ?? 0);

export class GuardedMount implements MountDriver {
  readonly #driver: MountDriver;
  readonly #at: VfsPath;
  readonly #limits: MountLimits;
  readonly #platform: Pick<Platform, "setTimer">;
  #underWay = 0;
  #isLeaving = false;
  #isClosed = false;
  #idle: PromiseWithResolvers<void> | undefined;
  /** What it holds, counted when it is first written to. */
  #held: Promise<Held> | undefined;
  /** Writes of one mount with a quota happen one after the other: each is counted on what the last has left. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(driver: MountDriver, at: VfsPath, platform: Pick<Platform, "setTimer">, limits: MountLimits) {
    this.#driver = driver;
    this.#at = at;
    this.#platform = platform;
    this.#limits = limits;
    for (const [name, value] of Object.entries({ ...limits.quota, timeoutMs: limits.timeoutMs }))
      if (value !== undefined && (!Number.isSafeInteger(value) || value < 0))
        throw new KernelError("EINVAL", `${name} of a mount is a whole number of at least 0, found ${value}`, {
          path: at,
        });
  }

  /** What was mounted, for whoever has to recognise it. */
  get driver(): MountDriver {
    return this.#driver;
  }

  get name(): string {
    return this.#driver.name;
  }

  get source(): string {
    return this.#driver.source;
  }

  get readOnly(): boolean {
    return this.#driver.readOnly || this.#limits.readOnly === true;
  }

  get quota(): MountLimits["quota"] {
    return this.#limits.quota;
  }

  get hooks(): readonly Hook[] {
    return this.#driver.hookSpec?.() ?? [];
  }

  /** @throws what the driver throws: then it is not mounted */
  async mounted(): Promise<void> {
    await this.#ask("mount", ROOT, () => Promise.resolve(this.#driver.mounted?.(this.#at)));
  }

  /** Lets nothing new begin, and waits for what is under way; so long at most. */
  async drain(waitMs: number = this.#timeoutMs): Promise<void> {
    this.#isLeaving = true;
    if (this.#underWay === 0) return;
    this.#idle ??= Promise.withResolvers<void>();
    const late = (): KernelError => busy(this.name, this.#at);
    await within(this.#platform, waitMs, late, this.#idle.promise).catch(() => undefined);
  }

  /** Ends the driver; one that fails or hangs at that is left to itself. */
  async close(waitMs: number = this.#timeoutMs): Promise<void> {
    await this.drain(waitMs);
    this.#isClosed = true;
    const end = async (): Promise<void> => {
      await this.#driver.unmounting?.(this.#at);
      await this.#driver.close();
    };
    const late = (): KernelError => new KernelError("ETIMEDOUT", `${this.name} does not close`, { path: this.#at });
    await within(this.#platform, waitMs, late, end());
  }

  stat(path: VfsPath, options?: { readonly noFollow?: boolean }): Promise<Omit<FileStat, "path"> | undefined> {
    return this.#ask("stat", path, () => this.#statOf(path, options));
  }

  readdir(path: VfsPath): Promise<readonly DirEntry[]> {
    return this.#ask("readdir", path, async () => {
      const entries = await this.#driver.readdir(path);
      const wrong = entries.find(({ name }) => name === "" || name === "." || name === ".." || /[/\0]/.test(name));
      if (wrong !== undefined) throw this.#lie(path, `an entry with the name ${JSON.stringify(wrong.name)}`);
      return entries;
    });
  }

  read(path: VfsPath, range: { readonly offset: number; readonly length: number }): Promise<Uint8Array> {
    return this.#ask("read", path, async () => {
      const bytes = await this.#driver.read(path, range);
      if (!(bytes instanceof Uint8Array)) throw this.#lie(path, `${typeof bytes} in the place of bytes`);
      if (bytes.length > range.length)
        throw this.#lie(path, `${bytes.length} bytes where ${range.length} were asked for`);
      return bytes;
    });
  }

  write(path: VfsPath, bytes: Uint8Array, options: WriteOptions): Promise<WriteResult> {
    return this.#change("write", path, async () => {
      const size = (options.offset ?? 0) + bytes.length;
      return this.#counted(
        path,
        (before) => ({
          bytes: options.offset === undefined ? size - sizeOf(before) : Math.max(0, size - sizeOf(before)),
          entries: before === undefined ? 1 : 0,
        }),
        async () => this.#believed(path, await this.#driver.write(path, bytes, options)),
      );
    });
  }

  append(path: VfsPath, bytes: Uint8Array, options: WriteOptions): Promise<WriteResult> {
    return this.#change("append", path, () =>
      this.#counted(
        path,
        (before) => ({ bytes: bytes.length, entries: before === undefined ? 1 : 0 }),
        async () => this.#believed(path, await this.#driver.append(path, bytes, options)),
      ),
    );
  }

  truncate(path: VfsPath, size: number): Promise<WriteResult> {
    return this.#change("truncate", path, () =>
      this.#counted(
        path,
        (before) => ({ bytes: size - sizeOf(before), entries: 0 }),
        async () => this.#believed(path, await this.#driver.truncate(path, size)),
      ),
    );
  }

  mkdir(path: VfsPath): Promise<void> {
    return this.#change("mkdir", path, () =>
      this.#counted(
        path,
        () => ({ bytes: 0, entries: 1 }),
        () => this.#driver.mkdir(path),
      ),
    );
  }

  unlink(path: VfsPath): Promise<void> {
    return this.#change("unlink", path, () =>
      this.#counted(
        path,
        (before) => ({ bytes: -sizeOf(before), entries: before === undefined ? 0 : -1 }),
        () => this.#driver.unlink(path),
      ),
    );
  }

  rename(from: VfsPath, to: VfsPath): Promise<void> {
    return this.#change(
      "rename",
      from,
      () =>
        // What is moved over is gone.
        this.#counted(
          to,
          (before) =>
            before === undefined || from === to ? { bytes: 0, entries: 0 } : { bytes: -sizeOf(before), entries: -1 },
          () => this.#driver.rename(from, to),
        ),
      to,
    );
  }

  /** What the driver says of a path, held against what can be. */
  async #statOf(path: VfsPath, options?: { readonly noFollow?: boolean }): Promise<Omit<FileStat, "path"> | undefined> {
    const stat = await this.#driver.stat(path, options);
    if (stat === undefined) return undefined;
    const { type, size = 0, generation } = (stat ?? {}) as Partial<FileStat>;
    if (TYPES.has(type) && isWhole(size) && isWhole(generation)) return stat;
    throw this.#lie(path, "a stat without a type, or with a size or generation that is no whole number");
  }

  get #timeoutMs(): number {
    return this.#limits.timeoutMs ?? TIMEOUT_MS;
  }

  #change<T>(what: string, path: VfsPath, act: () => Promise<T>, other?: VfsPath): Promise<T> {
    if (!this.readOnly) return this.#ask(what, path, act, true, other);
    return Promise.reject(
      new KernelError("EROFS", `${this.#at} is mounted read-only; mount it writable to change it`, {
        path: this.#outer(path),
      }),
    );
  }

  async #ask<T>(what: string, path: VfsPath, act: () => Promise<T>, mayHaveActed = false, other?: VfsPath): Promise<T> {
    const outer = this.#outer(path);
    if (this.#isLeaving) throw new KernelError("ENODEV", `${this.#at} is being unmounted`, { path: outer });
    this.#underWay++;
    const ms = this.#timeoutMs;
    const late = (): KernelError =>
      new KernelError("ETIMEDOUT", `${this.name} has not answered ${what} within ${ms} ms`, {
        path: outer,
        mayHaveActed,
      });
    try {
      return await within(this.#platform, ms, late, act());
    } catch (error) {
      if (isKernelError(error)) throw this.#outwards(error, other !== undefined && error.path === other ? other : path);
      throw new KernelError("EIO", `${this.name} has failed at ${what}: ${describe(error)}`, {
        path: outer,
        mayHaveActed,
        cause: error,
      });
    } finally {
      if (--this.#underWay === 0) this.#idle?.resolve();
    }
  }

  #outer(path: VfsPath): VfsPath {
    return this.#at === ROOT ? path : path === ROOT ? this.#at : (`${this.#at}${path}` as VfsPath);
  }

  /** A driver knows its own paths only; who asks knows those of the namespace. */
  #outwards(error: KernelError, path: VfsPath): KernelError {
    const outer = this.#outer(path);
    const { path: inner = path } = error;
    if (inner === outer) return error;
    const said = plainMessage(error.message);
    const message = said.startsWith(`${inner} `) ? `${outer}${said.slice(inner.length)}` : said;
    return reworded(error, { message, path: outer });
  }

  /** What a driver says of what it has written. */
  #believed(path: VfsPath, result: Partial<WriteResult> | undefined): WriteResult {
    const { generation, size } = result ?? {};
    if (Number.isSafeInteger(generation) && Number.isSafeInteger(size)) return result as WriteResult;
    throw this.#lie(path, `no generation and size of what it has written`);
  }

  #lie(path: VfsPath, what: string): KernelError {
    return new KernelError("EIO", `${this.name} has given ${what}`, { path: this.#outer(path) });
  }

  /** Does what changes how much it holds, if that fits (M4). */
  #counted<T>(
    path: VfsPath,
    growthOf: (before: Omit<FileStat, "path"> | undefined) => Held,
    act: () => Promise<T>,
  ): Promise<T> {
    const { quota } = this.#limits;
    if (quota === undefined) return act();
    let hasBegun = false;
    const before = this.#turn;
    const late = (): KernelError => busy(this.name, this.#outer(path));
    const turn = within(this.#platform, this.#timeoutMs, late, before).then(async () => {
      const held = await (this.#held ??= this.#count(ROOT));
      const growth = growthOf(await this.#before(path));
      for (const kind of ["bytes", "entries"] as const) {
        const max = quota[kind];
        if (max !== undefined && growth[kind] > 0 && held[kind] + growth[kind] > max)
          throw new KernelError(
            "ENOSPC",
            `${this.#at} may hold ${max} ${kind}; it has ${held[kind]}, and this is ${growth[kind]} more. Remove something, or mount it with a larger quota`,
            { path: this.#outer(path) },
          );
      }
      // Whoever waited for this has gone with the mount.
      if (this.#isClosed) throw new KernelError("ENODEV", `${this.#at} is unmounted`, { path: this.#outer(path) });
      hasBegun = true;
      const result = await act();
      held.bytes += growth.bytes;
      held.entries += growth.entries;
      // Somebody else has changed it from outside: what there is is counted anew.
      if (held.bytes < 0 || held.entries < 0) this.#held = undefined;
      return result;
    });
    this.#turn = Promise.allSettled([before, turn]).then(() => {
      // What a failed act has left is looked at anew.
      if (hasBegun)
        return turn.then(
          () => undefined,
          () => void (this.#held = undefined),
        );
      return undefined;
    });
    return turn;
  }

  /** What is there before a change; of a link that is not followed, that it is one. */
  async #before(path: VfsPath): Promise<Omit<FileStat, "path"> | undefined> {
    try {
      return await this.#statOf(path);
    } catch (error) {
      if (isKernelError(error) && error.code === "ELOOP") return LINK;
      throw error;
    }
  }

  async #count(directory: VfsPath): Promise<Held> {
    const held: Held = { bytes: 0, entries: 0 };
    const todo = [directory];
    for (let at = todo.pop(); at !== undefined; at = todo.pop()) {
      for (const { name, type } of await this.#driver.readdir(at)) {
        const path = childOf(at, name);
        held.entries++;
        if (type === "directory") todo.push(path);
        else held.bytes += sizeOf(await this.#driver.stat(path).catch(() => undefined));
      }
    }
    return held;
  }
}
