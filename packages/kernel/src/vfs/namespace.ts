// Resolves paths: mounts, providers, links and names, down to what the path is.
//
// N1  A known path costs one lookup in a Map, however many mounts there are.
// N2  Whatever removes or moves a name forgets the routes that could go through it, in the same turn
//     in which the commit is applied to memory.
// N3  Every link followed is reported, so that the dispatcher can check each hop.

import type { Metastore } from "../abi/metastore.ts";
import type { MountDriver } from "../abi/file.ts";
import { KernelError, isKernelError } from "../base/errno.ts";
import { INO_ROOT, type Ino, type Pid, type Seq } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { ROOT, type VfsPath, childOf, isWithin, parentOf, segmentsOf, toPath } from "../base/path.ts";
import { type Inode, decodeDirent, decodeInode, entriesKey, inodeKey, makeRoot, nameKey } from "./inode.ts";
import { type Provider, type VirtualNode, lookup } from "./provider.ts";

export type Mount =
  | { readonly at: VfsPath; readonly kind: "driver"; readonly driver: MountDriver }
  | { readonly at: VfsPath; readonly kind: "provider"; readonly provider: Provider };

interface Place {
  /** Canonical: without links. */
  readonly path: VfsPath;
  /** Paths of the links that were followed. */
  readonly hops: readonly VfsPath[];
}

export type Located = Place &
  (
    | { readonly kind: "inode"; readonly inode: Inode }
    | { readonly kind: "virtual"; readonly node: VirtualNode; readonly mount: Mount }
    | { readonly kind: "foreign"; readonly driver: MountDriver; readonly inner: VfsPath; readonly mount: Mount }
    | {
        readonly kind: "missing";
        /** The deepest directory that exists, and what is missing below it; absent inside mounts. */
        readonly within?: { readonly directory: Inode; readonly at: VfsPath; readonly names: readonly string[] };
      }
  );

const NO_HOPS: readonly VfsPath[] = [];

async function isMissing(driver: MountDriver, path: VfsPath): Promise<boolean> {
  try {
    return (await driver.stat(path)) === undefined;
  } catch (error) {
    if (isKernelError(error) && (error.code === "ENOENT" || error.code === "ENOTDIR")) return true;
    throw error;
  }
}

export class Namespace {
  readonly #store: Metastore;
  readonly #mounts = new Map<VfsPath, Mount>();
  readonly #inodes = new Map<Ino, Inode>();
  /** Routes of canonical paths, and of paths that lead through links. */
  readonly #routes = new Map<string, Located>();
  readonly #aliases = new Map<string, Located>();

  /** Directories that are there without having been made. */
  readonly #promised = new Set<VfsPath>();
  /** Rises whenever routes are forgotten: what was looked up before must not be remembered. */
  #epoch = 0;

  constructor(store: Metastore) {
    this.#store = store;
  }

  get mounts(): readonly Mount[] {
    return [...this.#mounts.values()];
  }

  addMount(mount: Mount): void {
    if (this.#mounts.has(mount.at))
      throw new KernelError("EBUSY", "something is mounted here; unmount it first", { path: mount.at });
    this.#mounts.set(mount.at, mount);
    this.forget();
  }

  removeMount(at: VfsPath): Mount {
    const mount = this.#mounts.get(at);
    if (mount === undefined) throw new KernelError("EINVAL", "nothing is mounted here; see /sys/mounts", { path: at });
    this.#mounts.delete(at);
    this.forget();
    return mount;
  }

  /** Inodes in memory. */
  get size(): number {
    return this.#inodes.size;
  }

  /** A directory that is there for everybody, whether or not somebody made it. */
  promise(at: VfsPath): void {
    this.#promised.add(at);
    this.forget();
  }

  /** Whether a directory is there although nobody may have made it. */
  isPromised(at: VfsPath): boolean {
    return this.#promised.has(at);
  }

  /** Names of mounts directly below a directory, whether or not somebody made the directories. */
  mountNamesIn(directory: VfsPath): readonly string[] {
    const names = new Set<string>();
    for (const at of [...this.#mounts.keys(), ...this.#promised]) {
      if (at === directory || !isWithin(at, directory)) continue;
      names.add(at.slice(directory === ROOT ? 1 : directory.length + 1).split("/")[0] ?? "");
    }
    return [...names];
  }

  /**
   * A tree that is taken as a whole is of one kind: what is mounted in it would be left out, and hides what is below.
   * @throws {ENOTSUP} something is mounted in it
   */
  assertPlain(tree: VfsPath): void {
    for (const { kind, at } of this.#mounts.values())
      if (kind === "driver" && isWithin(at, tree))
        throw new KernelError(
          "ENOTSUP",
          `something is mounted at ${at}, and trees with mounts are not copied as a whole; unmount it, or take a directory without it`,
          { path: at },
        );
  }

  /** The cached route of a path, without any work. */
  known(path: string): Located | undefined {
    const found = this.#routes.get(path);
    if (found !== undefined || this.#aliases.size === 0) return found;
    return this.#aliases.get(path);
  }

  /**
   * Finds what a path is. The last name is followed when it is a link, unless `follow` is false.
   * @param redirect where a link leads for this viewer, from the directory that it is in to what is written in it
   */
  async resolve(
    text: string,
    viewer: Pid,
    follow = true,
    redirect?: (from: VfsPath, to: string) => string,
  ): Promise<Located> {
    // Where links lead is not the same for everybody.
    const known = !follow ? undefined : redirect === undefined ? this.known(text) : this.#routes.get(text);
    if (known !== undefined) return known;
    const hops: VfsPath[] = [];
    const epoch = this.#epoch;
    let path = toPath(text);
    for (;;) {
      const step = await this.#walk(path, viewer, follow);
      if (step.kind === "found") {
        const located = hops.length === 0 ? step.located : { ...step.located, hops };
        // Only what is stable may be remembered: a virtual node is made anew for each look.
        const isShared = redirect === undefined || hops.length === 0;
        if (follow && isShared && epoch === this.#epoch && (located.kind === "inode" || located.kind === "foreign"))
          this.#remember(text, located);
        return located;
      }
      hops.push(step.link);
      if (hops.length > LIMITS.linkHopsMax) {
        throw new KernelError("ELOOP", `more than ${LIMITS.linkHopsMax} links on the way; remove the loop`, {
          path: text,
        });
      }
      path = redirect === undefined ? toPath(step.to, step.from) : toPath(redirect(step.from, step.to));
    }
  }

  #remember(text: string, located: Located): void {
    if (this.#routes.size + this.#aliases.size >= LIMITS.routeCacheMax) this.forget();
    (text === located.path ? this.#routes : this.#aliases).set(text, located);
  }

  async #walk(
    path: VfsPath,
    viewer: Pid,
    follow: boolean,
  ): Promise<{ kind: "found"; located: Located } | { kind: "link"; link: VfsPath; from: VfsPath; to: string }> {
    const mount = this.#mountOf(path);
    if (mount !== undefined) return this.#walkMount(mount, path, viewer, follow);
    const segments = segmentsOf(path);
    let here = await this.#root();
    let at: VfsPath = ROOT;
    for (const [index, name] of segments.entries()) {
      const last = index === segments.length - 1;
      if (here.attributes.type !== "directory")
        throw new KernelError("ENOTDIR", "a part of the path is not a directory", { path: at });
      const child = await this.lookup(here, name);
      const childPath = childOf(at, name);
      if (child === undefined) {
        if (this.#promised.has(path) || this.mountNamesIn(path).length > 0)
          return found({ kind: "virtual", path, hops: NO_HOPS, node: { type: "directory" }, mount: SYNTHETIC });
        return found({
          kind: "missing",
          path,
          hops: NO_HOPS,
          within: { directory: here, at, names: segments.slice(index) },
        });
      }
      if (child.attributes.type === "link" && (!last || follow)) {
        const target = child.attributes.target ?? "/";
        const rest = segments.slice(index + 1).join("/");
        return { kind: "link", link: childPath, from: at, to: rest === "" ? target : `${target}/${rest}` };
      }
      here = child;
      at = childPath;
    }
    return found({ kind: "inode", path, hops: NO_HOPS, inode: here });
  }

  async #walkMount(
    mount: Mount,
    path: VfsPath,
    viewer: Pid,
    follow: boolean,
  ): Promise<{ kind: "found"; located: Located } | { kind: "link"; link: VfsPath; from: VfsPath; to: string }> {
    // What follows the mount point begins with a slash or is empty, so it is normal again.
    const inner = (mount.at === ROOT ? path : path.slice(mount.at.length) || "/") as VfsPath;
    // A directory on the way to a mount below is there, whatever the driver has.
    const isOnTheWay = mount.kind === "driver" && inner !== ROOT && this.mountNamesIn(path).length > 0;
    if (isOnTheWay && (await isMissing(mount.driver, inner)))
      return found({ kind: "virtual", path, hops: NO_HOPS, node: { type: "directory" }, mount: SYNTHETIC });
    if (mount.kind === "driver")
      return found({ kind: "foreign", path, hops: NO_HOPS, driver: mount.driver, inner, mount });
    const segments = segmentsOf(inner);
    const there = await lookup(mount.provider.root, segments, viewer);
    if (there === undefined) return found({ kind: "missing", path, hops: NO_HOPS });
    const { node, isJson } = there;
    const below = node.type === "link" && node.description !== undefined ? node.description : "";
    if (node.type === "link" && node.target !== undefined && (follow || below !== "")) {
      return {
        kind: "link",
        link: path,
        from: parentOf(path),
        to: below === "" ? node.target : `${node.target}/${below}`,
      };
    }
    // Rights are about the file, whichever form of it is read.
    const canonical = isJson ? (path.slice(0, -".json".length) as VfsPath) : path;
    return found({ kind: "virtual", path: canonical, hops: NO_HOPS, node, mount });
  }

  async #root(): Promise<Inode> {
    // It is always there.
    return (await this.inode(INO_ROOT)) ?? makeRoot(INO_ROOT);
  }

  #mountOf(path: VfsPath): Mount | undefined {
    for (let at: VfsPath = path; ; at = parentOf(at)) {
      const mount = this.#mounts.get(at);
      if (mount !== undefined || at === ROOT) return mount;
    }
  }

  /** The inode behind a name, or `undefined`. */
  async lookup(directory: Inode, name: string): Promise<Inode | undefined> {
    let withoutInode: Seq | undefined;
    for (;;) {
      const entry = await this.#store.get(nameKey(directory.ino, name));
      if (entry === undefined) return undefined;
      const { ino } = decodeDirent(entry.value);
      if (entry.version === withoutInode)
        throw new KernelError("ECORRUPT", `inode ${ino} has a name but no record; run \`ergos doctor\``);
      const inode = await this.inode(ino);
      if (inode !== undefined) return inode;
      // The name was removed between the two looks, or the store is damaged: the name tells.
      withoutInode = entry.version;
    }
  }

  /** The one object of an ino, or `undefined` when there is no such inode any more. */
  async inode(ino: Ino): Promise<Inode | undefined> {
    for (;;) {
      const cached = this.#inodes.get(ino);
      if (cached !== undefined) return cached;
      const epoch = this.#epoch;
      const inode = await this.#read(ino);
      // What was read before a name went may be about what went with it.
      if (epoch !== this.#epoch || this.#inodes.has(ino)) continue;
      if (inode !== undefined) this.adopt(inode);
      return inode;
    }
  }

  /** An inode as the store has it; the root needs no record until something is written about it. */
  async #read(ino: Ino): Promise<Inode | undefined> {
    const entry = await this.#store.get(inodeKey(ino));
    if (entry === undefined && ino !== INO_ROOT) return undefined;
    const inode = entry === undefined ? makeRoot(ino) : decodeInode(ino, entry);
    if (inode.attributes.type !== "directory") return inode;
    const modified = await this.#store.get(entriesKey(ino));
    if (modified !== undefined) inode.entriesModified = Number(modified.value);
    return inode;
  }

  /** The object of an ino, if it is in memory. */
  loaded(ino: Ino): Inode | undefined {
    return this.#inodes.get(ino);
  }

  /** Takes a freshly created inode in. */
  adopt(inode: Inode): void {
    if (this.#inodes.size >= LIMITS.inodeCacheMax) this.#evict();
    this.#inodes.set(inode.ino, inode);
  }

  drop(inode: Inode): void {
    inode.evicted = true;
    this.#inodes.delete(inode.ino);
  }

  /** Forgets the route of one name, or of everything that may lie below it. */
  forget(path?: VfsPath): void {
    this.#epoch++;
    this.#aliases.clear();
    if (path === undefined) this.#routes.clear();
    else this.#routes.delete(path);
  }

  #evict(): void {
    let wanted = this.#inodes.size >> 2;
    for (const inode of this.#inodes.values()) {
      if (wanted-- <= 0) break;
      if (inode.ino !== INO_ROOT && !inode.isBusy) this.drop(inode);
    }
    this.forget();
  }
}

const found = (located: Located): { kind: "found"; located: Located } => ({ kind: "found", located });

/** The provider of directories that exist only because something is mounted below them. */
const SYNTHETIC: Mount = { at: ROOT, kind: "provider", provider: { name: "synthetic", root: { type: "directory" } } };
