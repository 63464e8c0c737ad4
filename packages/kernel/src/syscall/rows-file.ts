// Rows of the metadata, content and watching planes.

import type { DirEntry, FileStat, WriteOptions, WriteResult } from "../abi/file.ts";
import { ENTRY_TYPES, type EntryType } from "../abi/file.ts";
import { type KernelEvent } from "../abi/event.ts";
import { KernelError } from "../base/errno.ts";
import { compileGlob } from "../base/glob.ts";
import type { Fd, Seq } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import { type VfsPath, childOf, parentOf, toPath, isWithin } from "../base/path.ts";
import type { OpenFile, Process } from "../proc/process.ts";
import { assertNotTop, assertOneView, isHidden, isShadowed, seenPath } from "../proc/view.ts";
import { compilePaths, releasing } from "../ipc/event-bus.ts";
import type { Rider } from "../ipc/committer.ts";
import type { RenameOptions, UnlinkOptions } from "../vfs/foreign-trees.ts";
import { toNewEntry } from "../vfs/filesystem.ts";
import { isPath, type Held, sizeOfHeld } from "../vfs/held.ts";
import type { Inode } from "../vfs/inode.ts";
import type { Writer } from "../vfs/inode-store.ts";
import { missing } from "../vfs/path-error.ts";
import type { Located } from "../vfs/namespace.ts";
import { type Need, assertMay, assertStill, isFree, isGoverned, obstacleTo, refused } from "./policy.ts";
import type { Host } from "./host.ts";
import type { Target } from "./row.ts";
import { beginSubscription } from "./subscription.ts";
import { locate, locatedOf, pathTarget, second, twoPaths, writerOf } from "./path-target.ts";
import { args, bytes, flag, hasEnded, integer, label, path, row, text } from "./row.ts";

export interface At {
  readonly path: string;
}
type Into = { readonly into: Uint8Array; readonly offset?: number };
type Range = { readonly offset?: number; readonly length?: number };

/** With a fencing number, content is written only while the lock of that grant is held. */
const fenced = (
  host: Host,
  caller: Process,
  { fence }: { readonly fence?: number },
  path: VfsPath,
  rider?: Rider,
): Writer =>
  fence === undefined
    ? writerOf(caller, rider)
    : { ...writerOf(caller, rider), guard: () => host.locks.guard(fence, path) };

/** What is at a path; nothing where that cannot be told. Rights are not looked at: nobody hears of it. */
async function statOf(host: Host, located: Located): Promise<FileStat | undefined> {
  try {
    return await host.fs.stat(located);
  } catch {
    return undefined;
  }
}

/** Bytes of what is at a path. */
async function sizeAt(host: Host, located: Located): Promise<number> {
  if (located.kind === "inode" && located.inode.attributes.type !== "stream") return located.inode.attributes.size;
  const stat = await statOf(host, located);
  if (stat === undefined || stat.type === "directory") return 0;
  // What is computed, and a stream, has no size before it is read.
  return stat.size ?? (await host.fs.read(located).catch(() => undefined))?.length ?? 0;
}

/** A target with its size, which a budget is asked for. */
const sized =
  <Args>(of: (host: Host, caller: Process, args: Args) => Target | Promise<Target>) =>
  async (host: Host, caller: Process, a: Args): Promise<Target> => {
    const target = await of(host, caller, a);
    const isPaid = host.accounts.carrierOf(caller.account, "bytesWritten") !== undefined;
    return isPaid ? { ...target, size: await sizeAt(host, locatedOf(target)) } : target;
  };

const toTarget = pathTarget();
const toSized = sized(toTarget);

/** What is written of a file: also the gap before what is written behind its end. */
const growth = (length: number, offset = 0, size = offset): number => Math.max(length, offset + length - size);

/** What a budget was asked for, where one was: what it comes to when the call acts is no more. */
const paidFor = (bytes: number, { size }: Target): number | undefined =>
  size === undefined ? undefined : Math.max(0, bytes);

/** Of content the audit holds how much it was. */
const sizeOf = ({
  bytes: content,
  path: _path,
  ...rest
}: {
  readonly bytes: Uint8Array;
  readonly path?: string;
}): Readonly<Record<string, unknown>> => ({ ...rest, bytes: content.length });

/**
 * What was checked when a handle was opened holds until rights change; what depends on more, such as the time or a
 * number of uses, is looked at with each call.
 */
const handleNeeds =
  (right: "read" | "write" | "stat") =>
  ({ fd }: { readonly fd: Fd }, { files, capability }: Process): readonly Need[] => {
    const file = files?.get(fd);
    if (file === undefined || file.checkedAt === capability.version) return [];
    return [{ right: `fs.${right}`, resource: file.path }];
  };

/** A handle was checked when it was opened; its calls act on the caller itself. */
function handleOf(caller: Process, fd: Fd, right?: "read" | "write"): OpenFile {
  const file = caller.files?.get(fd);
  if (file === undefined)
    throw new KernelError("EBADF", `handle ${fd} is not open in process ${caller.pid}`, { pid: caller.pid });
  if (right !== undefined && !file.rights.has(right))
    throw new KernelError("EBADF", `handle ${fd} was not opened for ${right}`, { path: file.path, pid: caller.pid });
  return file;
}

/** What a path is, by the name that the caller has for it, with its lock if that was asked for. */
async function shownTo(
  host: Host,
  stat: FileStat | Promise<FileStat>,
  path: VfsPath,
  withLock: boolean,
): Promise<FileStat> {
  const { target, ...rest } = await stat;
  const { linkText } = rest;
  const to = linkText === undefined ? target : toPath(linkText, parentOf(path));
  const found = { ...rest, path, ...(to === undefined ? {} : { target: to }) };
  const [lock] = withLock ? host.locks.list(path) : [];
  return lock === undefined ? found : { ...found, lock };
}

/** @throws {ENOENT} there is nothing · {ENOTSUP} it is not of the zone */
function inodeOf(located: Located): Inode {
  if (located.kind === "missing") throw missing(located.path);
  if (located.kind === "inode") return located.inode;
  throw new KernelError("ENOTSUP", "only files of the zone have extended attributes", { path: located.path });
}

const extendedName = { type: "string", minLength: 1, maxLength: LIMITS.nameLengthMax } as const;
const sizeSchema = { type: "integer", minimum: 0 } as const;
const changeable = { mime: label, owner: label, modified: integer, mode: { ...integer, maximum: 0o7777 } } as const;
const createModes = { type: "string", enum: ["never", "maybe", "must"] } as const;
const writeOptions = {
  offset: integer,
  create: createModes,
  ifGeneration: integer,
  durability: { type: "string", enum: ["committed", "flushed"] },
  consistency: { type: "string", enum: ["strong", "eventual"] },
  fence: integer,
  mime: label,
} as const;

export const FILE_ROWS = {
  stat: row<At & { readonly noFollow?: boolean; readonly lock?: boolean }, FileStat | Promise<FileStat>>({
    right: "fs.stat",
    kind: "query",
    summary: "what a path is, with its attributes and, if asked, who holds a lock of it",
    isHot: true,
    schema: args({ path, noFollow: flag, lock: flag }, ["path"]),
    target: (host, caller, a) => pathTarget(a.noFollow !== true)(host, caller, a),
    handle: (host, caller, a, target) => {
      const stat = host.fs.stat(locatedOf(target), a.noFollow, caller.pid);
      if (a.lock === true || caller.identity.views !== undefined)
        return shownTo(host, stat, target.resource as VfsPath, a.lock === true);
      return stat;
    },
  }),
  readdir: row<At & { readonly limit?: number; readonly after?: string }, Promise<readonly DirEntry[]>>({
    right: "fs.list",
    kind: "query",
    summary: "one page of a directory, sorted by name",
    schema: args({ path, limit: { type: "integer", minimum: 1, maximum: LIMITS.pageMax }, after: text }, ["path"]),
    target: pathTarget(),
    handle: (host, caller, a, target) => host.fs.readdir(locatedOf(target), caller.pid, a),
  }),
  read: row<At & Range, Promise<Uint8Array>>({
    right: "fs.read",
    kind: "query",
    isLarge: true,
    summary: "content of a file, or a range of it",
    isHot: true,
    schema: args({ path, offset: integer, length: integer }, ["path"]),
    target: pathTarget(),
    handle: (host, _caller, a, target) => host.fs.read(locatedOf(target), a),
  }),
  readInto: row<At & Into, Promise<number>>({
    right: "fs.read",
    kind: "query",
    summary: "content of a file from an offset on, into memory of the caller; how much it was",
    schema: args({ path, into: bytes, offset: integer }, ["path", "into"]),
    target: pathTarget(),
    handle: (host, _caller, a, target) => host.fs.readInto(locatedOf(target), a.into, a.offset),
  }),
  write: row<At & WriteOptions & { readonly bytes: Uint8Array }, Promise<WriteResult>>({
    right: "fs.write",
    kind: "mutation",
    summary: "replaces content, or a range of it from `offset`",
    schema: args({ path, bytes, ...writeOptions }, ["path", "bytes"]),
    target: (host, caller, a) => (a.offset === undefined ? toTarget : toSized)(host, caller, a),
    spends: ({ bytes: { length }, offset }, { size }) => ({ bytesWritten: growth(length, offset, size) }),
    audited: sizeOf,
    handle: (host, caller, a, target, draft) =>
      host.fs.write(locatedOf(target), a.bytes, a, fenced(host, caller, a, locatedOf(target).path, draft)),
  }),
  append: row<At & WriteOptions & { readonly bytes: Uint8Array }, Promise<WriteResult>>({
    right: "fs.write",
    kind: "mutation",
    summary: "adds bytes at the end",
    schema: args(
      {
        path,
        bytes,
        create: createModes,
        durability: writeOptions.durability,
        consistency: writeOptions.consistency,
        fence: integer,
      },
      ["path", "bytes"],
    ),
    target: pathTarget(),
    spends: ({ bytes: { length } }) => ({ bytesWritten: length }),
    audited: sizeOf,
    handle: (host, caller, a, target, draft) => {
      const located = locatedOf(target);
      return host.fs.write(located, a.bytes, { ...a, append: true }, fenced(host, caller, a, located.path, draft));
    },
  }),
  truncate: row<At & { readonly size: number }, Promise<WriteResult>>({
    right: "fs.write",
    kind: "mutation",
    summary: "cuts a file off, or fills it with zeros up to a size",
    schema: args({ path, size: sizeSchema }, ["path", "size"]),
    target: sized(pathTarget()),
    // What it grows by; cutting off writes nothing.
    spends: ({ size }, { size: before = 0 }) => ({ bytesWritten: Math.max(0, size - before) }),
    handle: (host, caller, a, target, draft) =>
      host.fs.truncate(
        locatedOf(target),
        a.size,
        writerOf(caller, draft),
        paidFor(a.size - (target.size ?? 0), target),
      ),
  }),
  setattr: row<At & Changeable & { readonly type?: EntryType; readonly target?: string }, Promise<void>>({
    right: "fs.write",
    kind: "mutation",
    summary: "creates a file, directory or link, or changes attributes",
    schema: args(
      {
        path,
        type: { type: "string", enum: ENTRY_TYPES },
        target: { type: "string", maxLength: LIMITS.pathLengthMax },
        ...changeable,
      },
      ["path"],
    ),
    target: pathTarget(false),
    handle: async (host, caller, a, target, draft) => {
      const located = locatedOf(target);
      const writer = writerOf(caller, draft);
      if (a.type === undefined) return host.fs.setAttributes(located, pickAttributes(a), writer);
      await host.fs.create(located, toNewEntry(a.type, a.target, located.path), writer);
    },
  }),
  getxattr: row<At & { readonly name?: string }, Promise<Readonly<Record<string, string>>>>({
    right: "fs.stat",
    kind: "query",
    summary: "extended attributes of a file or directory of the zone, all or one",
    schema: args({ path, name: extendedName }, ["path"]),
    target: pathTarget(),
    handle: async (_host, _caller, a, target) => {
      const { extended = {} } = inodeOf(locatedOf(target)).attributes;
      if (a.name === undefined) return extended;
      return Object.hasOwn(extended, a.name) ? { [a.name]: extended[a.name] ?? "" } : {};
    },
  }),
  setxattr: row<At & { readonly values: Readonly<Record<string, string | null>> }, Promise<void>>({
    right: "fs.write",
    kind: "mutation",
    summary:
      "sets extended attributes of a file or directory of the zone, all of them at once, or removes those that are null",
    schema: args(
      {
        path,
        values: {
          type: "object",
          additionalProperties: { anyOf: [{ type: "string", maxLength: LIMITS.extendedValueMax }, { type: "null" }] },
        },
      },
      ["path", "values"],
    ),
    target: pathTarget(),
    audited: ({ values }) => ({ names: Object.keys(values).join(", ") }),
    handle: async (host, caller, a, target, draft) => {
      const located = locatedOf(target);
      inodeOf(located);
      for (const name of Object.keys(a.values))
        if (name === "" || name.length > LIMITS.nameLengthMax)
          throw new KernelError("EINVAL", `the name of an attribute has 1 to ${LIMITS.nameLengthMax} characters`, {
            path: a.path,
          });
      // Decided when nobody else changes them, so that two at once lose nothing.
      const change = (now: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> => {
        const all = Object.entries({ ...now, ...a.values }).filter((one): one is [string, string] => one[1] !== null);
        if (all.length > LIMITS.extendedMax)
          throw new KernelError("E2BIG", `a file has at most ${LIMITS.extendedMax} extended attributes`, {
            path: a.path,
          });
        return Object.fromEntries(all);
      };
      await host.fs.setAttributes(located, ({ extended }) => ({ extended: change(extended) }), writerOf(caller, draft));
    },
  }),
  rename: row<{ readonly from: string; readonly to: string } & RenameOptions, Promise<void>>({
    right: "fs.write",
    kind: "mutation",
    summary: "moves an entry; a file that is there already is replaced, unless `replace` is false",
    schema: args({ from: path, to: path, replace: flag, ifGeneration: integer }, ["from", "to"]),
    target: twoPaths("fs.write", false),
    handle: async (host, caller, a, target, draft) => {
      const [from, to] = [locatedOf(target), second(target)];
      for (const { path: at } of [from, to]) assertNotTop(caller, at);
      assertOneView(caller, from.path, to.path);
      if (!isFree(host, caller)) await assertNoGain(host, caller, from, to.path);
      await host.fs.rename(from, to, a, writerOf(caller, draft));
      moveHandles(host, from, to.path);
    },
  }),
  copy: row<{ readonly from: string; readonly to: string }, Promise<WriteResult>>({
    right: "fs.read",
    kind: "mutation",
    summary: "copies content into another file",
    schema: args({ from: path, to: path }, ["from", "to"]),
    target: sized(twoPaths("fs.write", true)),
    spends: (_a, { size = 0 }) => ({ bytesWritten: size }),
    handle: (host, caller, _a, target, draft) =>
      host.fs.copy(locatedOf(target), second(target), writerOf(caller, draft), target.size),
  }),
  unlink: row<At & Omit<UnlinkOptions, "assertMay">, Promise<void>>({
    right: "fs.write",
    kind: "mutation",
    summary: "removes a name; with `recursive` also what is below",
    schema: args({ path, recursive: flag, ifGeneration: integer }, ["path"]),
    target: pathTarget(false),
    handle: (host, caller, a, target, draft) => {
      const mayRemove = (at: VfsPath): Promise<void> =>
        assertMay(host, caller, "unlink", { right: "fs.write", resource: seenPath(caller, at) });
      const options = { ...a, ...(isFree(host, caller) ? {} : { assertMay: mayRemove }) };
      assertNotTop(caller, locatedOf(target).path);
      return host.fs.unlink(locatedOf(target), options, writerOf(caller, draft));
    },
  }),
  open: row<At & { readonly rights: readonly ("read" | "write")[] }, Fd | Promise<Fd>>({
    right: "fs.stat",
    kind: "mutation",
    summary: "a handle that pins the file and the rights checked now",
    schema: args({ path, rights: { type: "array", maxItems: 2, items: { type: "string", enum: ["read", "write"] } } }, [
      "path",
      "rights",
    ]),
    target: pathTarget(),
    alsoNeeds: (a, _caller, { resource }) => a.rights.map((right) => ({ right: `fs.${right}`, resource })),
    handle: (host, caller, a, target) => {
      if ((caller.files?.size ?? 0) >= LIMITS.openFilesMax)
        throw new KernelError("EMFILE", `a process holds at most ${LIMITS.openFilesMax} handles; close some`, {
          pid: caller.pid,
        });
      const { capability } = caller;
      // What depends on more than the rights themselves, such as the time or a policy, is looked at with each use.
      const isFixed =
        !isGoverned(host, caller) && a.rights.every((right) => capability.isFixed(`fs.${right}`, target.resource));
      const checkedAt = isFixed ? capability.version : -1;
      const { path: at } = locatedOf(target);
      const keep = (held: Held): Fd => {
        const fd = caller.takeFd();
        caller.files ??= new Map();
        caller.files.set(fd, { held, path: target.resource as VfsPath, at, rights: new Set(a.rights), checkedAt });
        return fd;
      };
      const found = host.fs.hold(locatedOf(target));
      if (!(found instanceof Promise)) return keep(found);
      return found.then(async (held) => {
        if (caller.isAlive) return keep(held);
        await host.fs.release(held);
        throw hasEnded(caller, "open");
      });
    },
  }),
  close: row<{ readonly fd: Fd }, Promise<void>>({
    right: "fs.handle",
    kind: "mutation",
    summary: "releases a handle; closing twice does nothing",
    audit: "none",
    isHot: true,
    schema: args({ fd: integer }, ["fd"]),
    handle: async (host, caller, { fd }) => {
      const file = caller.files?.get(fd);
      if (file === undefined) return;
      caller.files?.delete(fd);
      await host.fs.release(file.held);
    },
  }),
  readHandle: row<{ readonly fd: Fd } & Range, Promise<Uint8Array>>({
    right: "fs.handle",
    kind: "query",
    isLarge: true,
    summary: "content through a handle, also after the name is gone",
    isHot: true,
    schema: args({ fd: integer, offset: integer, length: integer }, ["fd"]),
    alsoNeeds: handleNeeds("read"),
    handle: (host, caller, a) => {
      const file = handleOf(caller, a.fd, "read");
      return host.fs.readHeld(file.held, a, file.at);
    },
  }),
  readHandleInto: row<{ readonly fd: Fd } & Into, Promise<number>>({
    right: "fs.handle",
    kind: "query",
    summary: "content through a handle from an offset on, into memory of the caller; how much it was",
    schema: args({ fd: integer, into: bytes, offset: integer }, ["fd", "into"]),
    alsoNeeds: handleNeeds("read"),
    handle: async (host, caller, { fd, into, offset }) => {
      const file = handleOf(caller, fd, "read");
      const range = { length: into.length, ...(offset === undefined ? {} : { offset }) };
      return (await host.fs.readHeld(file.held, range, file.at, into)).length;
    },
  }),
  statHandle: row<{ readonly fd: Fd }, FileStat | Promise<FileStat>>({
    right: "fs.handle",
    kind: "query",
    summary: "what a handle is of, also after the name is gone",
    alsoNeeds: handleNeeds("stat"),
    schema: args({ fd: integer }, ["fd"]),
    handle: (host, caller, a) => {
      const { held, path: at } = handleOf(caller, a.fd);
      return host.fs.statHeld(held, at);
    },
  }),
  setattrHandle: row<{ readonly fd: Fd } & Changeable, Promise<void>>({
    right: "fs.handle",
    kind: "mutation",
    summary: "changes attributes of what a handle is of, wherever it is by now",
    schema: args({ fd: integer, ...changeable }, ["fd"]),
    // Unlike content, they are changed through handles that were opened for reading too: the right is looked at here.
    alsoNeeds: ({ fd }, { files }) => {
      const file = files?.get(fd);
      return file === undefined ? [] : [{ right: "fs.write", resource: file.path }];
    },
    handle: (host, caller, a, _target, draft) => {
      const { held, path, at } = handleOf(caller, a.fd);
      draft?.add({ path });
      return host.fs.setHeldAttributes(held, pickAttributes(a), writerOf(caller, draft), at);
    },
  }),
  truncateHandle: row<{ readonly fd: Fd; readonly size: number }, Promise<WriteResult>>({
    right: "fs.handle",
    kind: "mutation",
    summary: "cuts a file off through a handle, or fills it with zeros up to a size",
    schema: args({ fd: integer, size: sizeSchema }, ["fd", "size"]),
    alsoNeeds: handleNeeds("write"),
    spends: ({ fd, size }, _target, caller) => ({
      bytesWritten: Math.max(0, size - sizeOfHeld(caller.files?.get(fd)?.held)),
    }),
    handle: (host, caller, a, _target, draft) => {
      const file = handleOf(caller, a.fd, "write");
      draft?.add({ path: file.path });
      return host.fs.truncateHeld(file.held, a.size, writerOf(caller, draft), file.at);
    },
  }),
  writeHandle: row<
    { readonly fd: Fd; readonly bytes: Uint8Array; readonly append?: boolean } & WriteOptions,
    Promise<WriteResult>
  >({
    right: "fs.handle",
    kind: "mutation",
    summary: "writes through a handle, at an offset, or at the end with `append`",
    schema: args(
      {
        fd: integer,
        bytes,
        offset: integer,
        append: flag,
        ifGeneration: integer,
        durability: writeOptions.durability,
        consistency: writeOptions.consistency,
        fence: integer,
        mime: label,
      },
      ["fd", "bytes"],
    ),
    alsoNeeds: handleNeeds("write"),
    spends: ({ fd, bytes: { length }, offset }, _target, { files }) => ({
      bytesWritten: growth(length, offset, sizeOfHeld(files?.get(fd)?.held)),
    }),
    audited: sizeOf,
    handle: (host, caller, a, _target, draft) => {
      const file = handleOf(caller, a.fd, "write");
      draft?.add({ path: file.path });
      return host.fs.writeHeld(file.held, a.bytes, a, fenced(host, caller, a, file.at, draft), file.at);
    },
  }),
  watch: row<
    { readonly glob: string; readonly after?: Seq; readonly signal?: AbortSignal },
    AsyncGenerator<KernelEvent, void, undefined>
  >({
    right: "fs.watch",
    kind: "query",
    isStream: true,
    summary: "changes of files that match a glob, resumable from a position",
    schema: args({ glob: { type: "string", format: "glob", maxLength: 4096 }, after: integer }, ["glob"]),
    target: (host, caller, { glob }) => {
      const resource = followed(host, caller, toGlobPath(glob));
      return resource instanceof Promise ? resource.then((found) => ({ resource: found })) : { resource };
    },
    handle: (host, caller, a, { resource: glob }) => {
      const hasViews = caller.identity.views !== undefined;
      const filter = { classes: ["fs"], ...whenOf(caller, a), ...(hasViews ? {} : { glob }) } as const;
      const ended = beginSubscription(caller);
      let events: ReturnType<typeof host.bus.subscribe>;
      try {
        events = host.bus.subscribe(filter, ended);
      } catch (error) {
        ended();
        throw error;
      }
      const seen = hasViews ? seenEvents(caller, glob, events) : events;
      const visible = visibleTo(host, caller, { ...a, glob }, seen);
      return releasing(visible, () => void events.return());
    },
  }),
} as const;

type Changeable = {
  readonly mime?: string;
  readonly owner?: string;
  readonly modified?: number;
  readonly mode?: number;
};
const pickAttributes = (a: Changeable): Changeable => ({
  ...(a.mime === undefined ? {} : { mime: a.mime }),
  ...(a.owner === undefined ? {} : { owner: a.owner }),
  ...(a.modified === undefined ? {} : { modified: a.modified }),
  ...(a.mode === undefined ? {} : { mode: a.mode }),
});

/** Handles stay with their files, wherever those are now. */
function moveHandles(host: Host, { path: from, ...moved }: Located, to: VfsPath): void {
  // Most that is moved is a file that nobody has open.
  if (moved.kind !== "inode" || (moved.inode.handles === 0 && moved.inode.attributes.type !== "directory")) return;
  for (const { files } of host.processes.all)
    for (const file of files?.values() ?? [])
      if (!isPath(file.held) && isWithin(file.at, from)) file.at = `${to}${file.at.slice(from.length)}` as VfsPath;
}

/** A glob below what its beginning leads to: events tell of the paths that things have, whatever links lead there. */
function followed(host: Host, caller: Process, glob: VfsPath): VfsPath | Promise<VfsPath> {
  const names = glob.split("/");
  const wild = names.findIndex((name) => /[*?]/.test(name));
  const fixed = wild < 0 ? glob : names.slice(0, wild).join("/");
  if (fixed === "" || fixed === "/") return glob;
  const below = ({ path }: Located): VfsPath => toGlobPath(`${seenPath(caller, path)}${glob.slice(fixed.length)}`);
  // Who begins to watch hears of what is done in the same moment: a path that is known costs no promise.
  const located = locate(host, caller, fixed);
  return located instanceof Promise ? located.then(below) : below(located);
}

function toGlobPath(glob: string): VfsPath {
  const normal = toPath(glob);
  compileGlob(normal);
  return normal;
}

const FILE_RIGHTS = ["fs.stat", "fs.list", "fs.read", "fs.write", "fs.exec"] as const;

/** A move must not give the mover a right on anything that it did not have where it was. */
export async function assertNoGain(host: Host, caller: Process, from: Located, to: VfsPath): Promise<void> {
  let left = LIMITS.pageMax;
  const visit = async (old: VfsPath, next: VfsPath): Promise<void> => {
    if (left-- <= 0)
      throw new KernelError(
        "E2BIG",
        `${from.path} holds more than ${LIMITS.pageMax} entries; a process with narrowed rights moves it in parts`,
        { path: from.path },
      );
    for (const right of FILE_RIGHTS) {
      const [one, two] = [seenPath(caller, old), seenPath(caller, next)];
      const why = await obstacleTo(host, caller, "rename", { right, resource: one });
      if (why !== undefined && (await obstacleTo(host, caller, "rename", { right, resource: two })) === undefined)
        throw refused(host, caller, "rename", { right, resource: one }, why);
    }
    const entry = await locate(host, caller, old, false);
    const isDirectory =
      entry.kind === "inode"
        ? entry.inode.attributes.type === "directory"
        : entry.kind === "foreign" && (await statOf(host, entry))?.type === "directory";
    if (!isDirectory) return;
    for (const { name } of await host.fs.readdir(entry, caller.pid))
      await visit(childOf(old, name), childOf(next, name));
  };
  await visit(from.path, to);
}

/** From where on, and until when: nobody hears beyond the end of its process. */
const whenOf = (
  caller: Process,
  { after, signal }: { readonly after?: Seq; readonly signal?: AbortSignal },
): { readonly after?: Seq; readonly signal: AbortSignal } => ({
  ...(after === undefined ? {} : { after }),
  signal: caller.signalWith(signal),
});

/** Events of a glob of paths as a process with views calls them; what happens to trees that it has copies of is left out. */
async function* seenEvents(
  caller: Process,
  glob: string,
  events: AsyncGenerator<KernelEvent, void, undefined>,
): AsyncGenerator<KernelEvent, void, undefined> {
  const matches = compilePaths(toGlobPath(glob));
  const seenOf = (path: unknown): { readonly path?: VfsPath } => {
    // Paths of events are canonical.
    const at = typeof path === "string" ? (path as VfsPath) : undefined;
    return at === undefined || isShadowed(caller, at) ? {} : { path: seenPath(caller, at) };
  };
  for await (const event of events) {
    const { path: rawPath, oldPath: rawOld, ...data } = event.data;
    const [{ path }, { path: oldPath }] = [seenOf(rawPath), seenOf(rawOld)];
    const paths = { ...(path === undefined ? {} : { path }), ...(oldPath === undefined ? {} : { oldPath }) };
    const seen = { ...event, data: { ...data, ...paths } };
    if (matches(seen)) yield seen;
  }
}

/** A watcher sees only what it may stat and watch, and of a move only the end that it may: a glob may lead further. */
async function* visibleTo(
  host: Host,
  caller: Process,
  args: { readonly glob: string },
  events: AsyncGenerator<KernelEvent, void, undefined>,
): AsyncGenerator<KernelEvent, void, undefined> {
  // What is counted the call itself has used.
  const mayWatch = (path: string): boolean => caller.capability.decide("fs.watch", path, args, true).effect !== "deny";
  const maySee = async (path: unknown): Promise<boolean> =>
    typeof path === "string" &&
    !isHidden(caller, path as VfsPath) &&
    mayWatch(path) &&
    (await obstacleTo(host, caller, "watch", { right: "fs.stat", resource: path })) === undefined;
  for await (const event of events) {
    if (isFree(host, caller)) {
      yield event;
      continue;
    }
    const { path, oldPath, ...data } = event.data;
    const visible = { ...((await maySee(path)) ? { path } : {}), ...((await maySee(oldPath)) ? { oldPath } : {}) };
    if (Object.keys(visible).length > 0) yield { ...event, data: { ...data, ...visible } };
    // Who may not watch any more is told so, and not left without a word.
    else assertStill(host, caller, "watch", { right: "fs.watch", resource: toGlobPath(args.glob) }, args);
  }
}
