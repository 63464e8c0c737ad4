// Views: a process works on a copy of a tree as if it were the tree itself, and what it has changed is brought in, or
// thrown away, when it is done.
//
// V1  A view is the tree at one moment, twice: as it was then, and as the process has it. Neither is where anybody looks.
// V2  The view of a process is its children's too. Its rights are those on the tree that it sees.
// V3  What it has changed is brought in whole, or nothing of it, if something else has happened at the same places.

import { entriesOf } from "../abi/entries.ts";
import type { Batch } from "../abi/metastore.ts";
import { KernelError, isKernelError, plainMessage, reworded } from "../base/errno.ts";
import { PID_OWNER, type Pid, toPid } from "../base/id.ts";
import { type VfsPath, toPath } from "../base/path.ts";
import type { Committer } from "../ipc/committer.ts";
import type { FileSystem } from "../vfs/filesystem.ts";
import type { Writer } from "../vfs/inode-store.ts";
import type { Located } from "../vfs/namespace.ts";
import type { TreeChange } from "../vfs/tree.ts";
import type { TreeMerge } from "../vfs/tree-store.ts";
import type { Process } from "./process.ts";

/** Where a process sees something else than others. */
export interface View {
  /** The path at which it sees its copy. */
  readonly at: VfsPath;
  /** Where that copy is. */
  readonly dir: VfsPath;
}

export interface ViewRecord {
  readonly pid: Pid;
  readonly at: VfsPath;
  /** The tree that it is a view of. */
  readonly of: VfsPath;
  /** Where its two copies are. */
  readonly dir: VfsPath;
  /** Wall-clock milliseconds. */
  readonly created: number;
}

export interface ViewParts {
  readonly committer: Committer;
  readonly fs: FileSystem;
  /** All processes that have not been forgotten. */
  readonly processes: () => readonly Process[];
}

const FORMAT = 1;
const PREFIX = "vw/";
const NEXT_KEY = "sys/view";
const HOME = toPath("/var/views");
const keyOf = (pid: Pid): string => `${PREFIX}${String(pid).padStart(10, "0")}`;
const isIn = (path: string, top: string): boolean => path === top || path.startsWith(top === "/" ? top : `${top}/`);
const moved = (path: string, from: string, to: string): VfsPath =>
  toPath(`${to}/${path.slice(from === "/" ? 0 : from.length)}`);

/** The path that a process means by one: in the innermost of its views, or the same. */
export function realPath({ identity: { views = [] } }: Process, path: string): string {
  if (views.length === 0) return path;
  const normal = toPath(path);
  const view = innermost(
    views.filter(({ at }) => isIn(normal, at)),
    ({ at }) => at,
  );
  return view === undefined ? normal : moved(normal, view.at, view.dir);
}

/** The view of a process that the copy at a path belongs to. */
function viewOf({ identity: { views = [] } }: Process, path: VfsPath): View | undefined {
  return innermost(
    views.filter(({ dir }) => isIn(path, dir)),
    ({ dir }) => dir,
  );
}

/** What a process calls a path. */
export function seenPath(process: Process, path: VfsPath): VfsPath {
  if (process.identity.views === undefined) return path;
  const view = viewOf(process, path);
  return view === undefined ? path : moved(path, view.dir, view.at);
}

/**
 * What a process has changed in a view is looked at before it is brought in: nothing leaves it or comes to it at once.
 * @throws {EXDEV} the paths are of different views, or one is of none
 */
export function assertOneView(process: Process, from: VfsPath, to: VfsPath): void {
  if (viewOf(process, from) === viewOf(process, to)) return;
  throw new KernelError("EXDEV", `${seenPath(process, to)} is on the other side of a view; copy it`, {
    path: seenPath(process, to),
  });
}

/** Whether a process sees a copy of something below a path, and not of the path itself. */
export const viewBelow = (process: Process, path: VfsPath): boolean => {
  const seen = seenPath(process, path);
  return process.identity.views?.some(({ at }) => at !== seen && isIn(at, seen)) === true;
};

/** @throws {EBUSY} a path is the top of a view, or what that is in: neither goes nor moves with it */
export function assertNotTop(process: Process, path: VfsPath): void {
  const { views = [] } = process.identity;
  if (views.length === 0) return;
  const seen = seenPath(process, path);
  const inner = views.find(({ at, dir }) => dir === path || (at !== seen && isIn(at, seen)));
  if (inner === undefined) return;
  throw new KernelError("EBUSY", `${inner.at} is the top of a view of process ${process.pid}; remove what is in it`, {
    path: seen,
  });
}

/** An error as a process with views reads it: about the paths that it knows. */
export function seenError({ identity: { views = [] } }: Process, error: unknown): unknown {
  if (
    !isKernelError(error) ||
    !views.some(({ dir }) => error.message.includes(dir) || error.path?.includes(dir) === true)
  )
    return error;
  const seen = (text: string): string =>
    views.reduce(
      (out, { at, dir }) => out.replaceAll(`${dir}/`, at === "/" ? "/" : `${at}/`).replaceAll(dir, at),
      text,
    );
  const { path } = error;
  return reworded(error, {
    message: seen(plainMessage(error.message)),
    path: path === undefined ? undefined : seen(path),
  });
}

/** Whether a path is of a tree of which the process sees a copy: what happens there does not concern it. */
export const isShadowed = (process: Process, path: VfsPath): boolean =>
  seenPath(process, path) === path && realPath(process, path) !== path;

/** Whether a path is in a copy that belongs to a view which the process does not have: nobody looks there (V1). */
export const isHidden = (process: Process, path: VfsPath): boolean =>
  path.startsWith(HOME) && path !== HOME && isIn(path, HOME) && seenPath(process, path) === path;

function innermost(views: readonly View[], pathOf: (view: View) => string): View | undefined {
  return views.reduce<View | undefined>(
    (best, view) => (best === undefined || pathOf(view).length > pathOf(best).length ? view : best),
    undefined,
  );
}

export class ViewTable {
  readonly #parts: ViewParts;
  readonly #views = new Map<Pid, ViewRecord>();
  /** Views that are being applied or thrown away. */
  readonly #ending = new Set<Pid>();
  #next = 1;

  constructor(parts: ViewParts) {
    this.#parts = parts;
  }

  /** Brings the views back, and clears away what no process has come to use. */
  async boot(): Promise<void> {
    const { committer, fs } = this.#parts;
    this.#next = Number((await committer.store.get(NEXT_KEY))?.value ?? 1);
    for await (const { value } of entriesOf(committer.store, PREFIX)) {
      const view = decode(String(value));
      this.#views.set(view.pid, view);
    }
    const home = await fs.namespace.resolve(HOME, PID_OWNER);
    if (home.kind !== "inode") return;
    const known = new Set([...this.#views.values()].map(({ dir }) => dir.slice(HOME.length + 1)));
    for (const { name } of await fs.readdir(home, PID_OWNER, {}))
      if (!known.has(name)) await this.#clear(toPath(`${HOME}/${name}`), { pid: PID_OWNER, user: "owner" });
  }

  get all(): readonly ViewRecord[] {
    return [...this.#views.values()];
  }

  /**
   * Makes a view of a tree for a process that is about to be started.
   * @param at what the process will call the tree
   * @throws {ENOTDIR} it is no directory · {ENOTSUP} it is mounted from elsewhere · {E2BIG} it is too large
   */
  async open(
    at: VfsPath,
    tree: Located,
    writer: Writer,
  ): Promise<{
    readonly view: View;
    readonly puts: (pid: Pid) => NonNullable<Batch["puts"]>;
    readonly opened: (pid: Pid) => void;
    /** The process was not started. */
    readonly abandon: () => Promise<void>;
  }> {
    const { committer, fs } = this.#parts;
    if (tree.kind === "inode" && tree.inode.attributes.type !== "directory")
      throw new KernelError("ENOTDIR", `a view is of a directory, ${at} is none`, { path: at });
    if (tree.kind === "inode" && isIn(HOME, tree.path) && tree.path !== HOME)
      throw new KernelError("EINVAL", `${at} holds the views themselves; take a directory below it`, { path: at });
    const dir = toPath(`${HOME}/${this.#next++}`);
    const find = (path: string): Promise<Located> => fs.namespace.resolve(path, PID_OWNER);
    const own: Writer = { pid: writer.pid, user: writer.user };
    try {
      await fs.create(await find(dir), { type: "directory" }, own);
      await fs.trees.clone(tree, await find(`${dir}/base`), own);
      await fs.trees.clone(await find(`${dir}/base`), await find(`${dir}/work`), own);
    } catch (error) {
      await this.#clear(dir, own).catch(() => undefined);
      throw error;
    }
    const recordOf = (pid: Pid): ViewRecord => ({ pid, at, of: tree.path, dir, created: committer.now() });
    return {
      view: { at, dir: toPath(`${dir}/work`) },
      puts: (pid) => [
        { key: keyOf(pid), value: JSON.stringify({ v: FORMAT, ...recordOf(pid) }) },
        { key: NEXT_KEY, value: String(this.#next) },
      ],
      opened: (pid) => void this.#views.set(pid, recordOf(pid)),
      abandon: () => this.#clear(dir, own),
    };
  }

  /** What the process has changed. */
  async changes(pid: Pid): Promise<readonly TreeChange[]> {
    const { base, work } = await this.#copiesOf(this.#of(pid));
    return this.#parts.fs.trees.diff(base, work);
  }

  /**
   * Brings what the process has changed into the tree, and ends the view; with conflicts nothing happens.
   * @param assertMay throws for a path that the caller may not change
   * @throws {EBUSY} the process lives
   */
  apply(pid: Pid, writer: Writer, assertMay: (path: VfsPath) => Promise<void>): Promise<TreeMerge> {
    return this.#finally(pid, async (view) => {
      const { fs } = this.#parts;
      const { base, work } = await this.#copiesOf(view);
      const tree = await fs.namespace.resolve(view.of, PID_OWNER);
      if (tree.kind !== "inode" || tree.hops.length > 0)
        throw new KernelError("ESTALE", `${view.of} leads elsewhere by now; put the tree back there`, {
          path: view.of,
        });
      const merged = await this.#merge(view, () => fs.trees.merge(tree, base, work, writer, assertMay, true));
      if (merged.conflicts.length === 0) await this.#end(view, writer);
      return merged;
    });
  }

  async #merge({ pid, dir }: ViewRecord, merge: () => Promise<TreeMerge>): Promise<TreeMerge> {
    try {
      return await merge();
    } catch (error) {
      if (!isKernelError(error) || error.code !== "E2BIG") throw error;
      throw new KernelError(
        "E2BIG",
        `process ${pid} has changed more than one commit carries; clone parts of ${dir}/work to where they belong, then discard the view`,
        { pid, cause: error },
      );
    }
  }

  /**
   * Throws away what the process has changed.
   * @throws {EBUSY} the process lives
   */
  discard(pid: Pid, writer: Writer): Promise<void> {
    return this.#finally(pid, (view) => this.#end(view, writer));
  }

  /** Ends the view of a process whose record is deleted. */
  async forget(pid: Pid): Promise<void> {
    try {
      if (this.#views.has(pid)) await this.discard(pid, { pid: PID_OWNER, user: "owner" });
    } catch (error) {
      // Somebody that it has started works on it still: it can be applied or thrown away afterwards.
      if (!isKernelError(error) || error.code !== "EBUSY") throw error;
    }
  }

  /** @throws {ENOENT} what a process has seen as its own is not there any more · {EBUSY} it is about to go */
  assertThere({ identity: { views = [], pid } }: Process): void {
    const owners = new Map(this.all.map((view) => [`${view.dir}/work`, view.pid]));
    for (const { dir } of views) {
      const owner = owners.get(dir);
      if (owner === undefined)
        throw new KernelError("ENOENT", `the view of process ${pid} was applied or thrown away; start it anew`, {
          pid,
        });
      if (this.#ending.has(owner))
        throw new KernelError("EBUSY", `the view of process ${pid} is being applied or thrown away`, { pid });
    }
  }

  /** Does something with a view that nobody works on any more, and nobody else ends meanwhile. */
  async #finally<T>(pid: Pid, work: (view: ViewRecord) => Promise<T>): Promise<T> {
    const view = this.#of(pid);
    const user = this.#parts
      .processes()
      .find((one) => !one.hasEnded && one.identity.views?.some(({ dir }) => dir === `${view.dir}/work`) === true);
    if (user !== undefined)
      throw new KernelError("EBUSY", `process ${user.pid} still works on it; wait for its end, or end it`, { pid });
    const inner = this.all.find((one) => one.pid !== pid && isIn(one.of, view.dir));
    if (inner !== undefined)
      throw new KernelError(
        "EBUSY",
        `process ${inner.pid} has a view of a part of it; apply or discard that one before`,
        { pid },
      );
    if (this.#ending.has(pid)) throw new KernelError("EBUSY", "it is being applied or thrown away already", { pid });
    this.#ending.add(pid);
    try {
      return await work(view);
    } finally {
      this.#ending.delete(pid);
    }
  }

  #of(pid: Pid): ViewRecord {
    const view = this.#views.get(pid);
    if (view === undefined)
      throw new KernelError("ENOENT", `process ${pid} was not started with a view of its own, or that has ended`, {
        pid,
      });
    return view;
  }

  /** The two copies, where they were put: who worked on one may have put something else there. */
  async #copiesOf({ dir }: ViewRecord): Promise<{ readonly base: Located; readonly work: Located }> {
    const find = async (name: string): Promise<Located> => {
      const located = await this.#parts.fs.namespace.resolve(`${dir}/${name}`, PID_OWNER, false);
      if (located.kind === "inode" && located.hops.length === 0 && located.inode.attributes.type === "directory")
        return located;
      throw new KernelError("ESTALE", "the copy was removed or replaced; throw the view away", {
        path: `${dir}/${name}`,
      });
    };
    return { base: await find("base"), work: await find("work") };
  }

  async #end(view: ViewRecord, writer: Writer): Promise<void> {
    await this.#parts.committer.commit({ deletes: [keyOf(view.pid)] }, undefined, writer.rider);
    this.#views.delete(view.pid);
    await this.#clear(view.dir, writer);
  }

  async #clear(dir: VfsPath, { pid, user }: Writer): Promise<void> {
    const { fs } = this.#parts;
    const located = await fs.namespace.resolve(dir, PID_OWNER);
    if (located.kind === "inode") await fs.unlink(located, { recursive: true }, { pid, user });
  }
}

function decode(text: string): ViewRecord {
  // Written by `open` only.
  const { v, ...record } = JSON.parse(text) as ViewRecord & { readonly v: number };
  if (v !== FORMAT)
    throw new KernelError("EVERSION", `a view has format ${v}, this program reads ${FORMAT}; use a newer ErgOS`);
  return { ...record, pid: toPid(record.pid) };
}
