// The typed face of the table for one process: what programs and libraries hold as `os`.

import type { FlowSettings, StreamEntry } from "../abi/flow.ts";
import type { DirEntry, FileStat, WriteOptions, WriteResult } from "../abi/file.ts";
import type { KernelEvent } from "../abi/event.ts";
import type { InferRequest, ModelResponse } from "../abi/model.ts";
import type { ContentId, Fd, Pid, Seq } from "../base/id.ts";
import { KernelError, isKernelError } from "../base/errno.ts";
import { LIMITS } from "../base/limits.ts";
import { type EventFilter, releasing } from "../ipc/event-bus.ts";
import type { Exit, Process, Signal } from "../proc/process.ts";
import type { ProcessSummary } from "../proc/summary.ts";
import type { RenameOptions, UnlinkOptions } from "../vfs/foreign-trees.ts";
import { SharedRing } from "../vfs/shared-ring.ts";
import type { TreeChange } from "../vfs/tree.ts";
import type { Dispatcher } from "./dispatcher.ts";
import { WITHIN_STEP } from "./row.ts";
import type { SpawnArgs } from "./rows-process.ts";
import type { SyscallArgs, SyscallName, SyscallResult } from "./table.ts";

type Bytes = Uint8Array | string;
const toBytes = (content: Bytes): Uint8Array =>
  typeof content === "string" ? new TextEncoder().encode(content) : content;

/** What became of one of many. */
export type ItemOutcome<T> =
  | { readonly path: string; readonly value: T; readonly error?: undefined }
  | { readonly path: string; readonly error: KernelError; readonly value?: undefined };

/** Files of the namespace, as one process may use them. Every method rejects with a `KernelError`. */
export interface Files {
  /**
   * What is at a path: type, size, generation, times in wall-clock milliseconds. Links are followed unless `noFollow`;
   * with `lock`, who holds the lock of the path.
   * @throws {ENOENT} nothing is there
   */
  stat(path: string, options?: { readonly noFollow?: boolean; readonly lock?: boolean }): Promise<FileStat>;
  /** Whether a path exists and may be seen. */
  exists(path: string): Promise<boolean>;
  /** Entries of a directory in the order of their names, at most 1,000: the next page is that `after` the last name. */
  readdir(path: string, options?: { readonly limit?: number; readonly after?: string }): Promise<readonly DirEntry[]>;
  /** Content as bytes, or a range of it. */
  read(path: string, range?: { readonly offset?: number; readonly length?: number }): Promise<Uint8Array>;
  /** Content of many files at once; one that fails does not stop the others. */
  readMany(paths: readonly string[]): Promise<readonly ItemOutcome<Uint8Array>[]>;
  /** Writes many files at once, each as `writeFile` does; one that fails does not stop the others. */
  writeMany(
    items: readonly { readonly path: string; readonly content: Bytes; readonly options?: WriteOptions }[],
  ): Promise<readonly ItemOutcome<WriteResult>[]>;
  /** Reads into memory of the caller as much as there is and fits, without any of its own; how much it was. */
  readInto(path: string, into: Uint8Array, offset?: number): Promise<number>;
  /** Content as UTF-8 text. */
  readText(path: string): Promise<string>;
  /**
   * Replaces the content of a file, or overwrites it at an `offset`; with `ifGeneration` only if it is still that one.
   * @throws {ENOENT} it is not there and `create` does not say that it be made · {ESTALE} it has another generation
   */
  write(path: string, content: Bytes, options?: WriteOptions): Promise<WriteResult>;
  /** Writes a file whether or not it exists, and the directories above it. */
  writeFile(path: string, content: Bytes, options?: Omit<WriteOptions, "create">): Promise<WriteResult>;
  /** Adds at the end of a file, which is made if need be; what several append at once is all there. */
  append(
    path: string,
    content: Bytes,
    options?: Pick<WriteOptions, "create" | "durability" | "fence">,
  ): Promise<WriteResult>;
  /** Cuts a file off, or fills it with zeros up to a size in bytes. */
  truncate(path: string, size: number): Promise<WriteResult>;
  /**
   * Makes a directory, and those above it.
   * @throws {EEXIST} something is there
   */
  mkdir(path: string): Promise<void>;
  /** Makes a symbolic link to a path, absolute or from the directory of the link. */
  link(path: string, target: string): Promise<void>;
  /** Changes attributes: owner, mode, media type, time of modification. */
  setattr(path: string, change: Omit<SyscallArgs<"setattr">, "path">): Promise<void>;
  /**
   * Moves a file or a tree at once; a file that is there already is replaced, unless `replace` is false.
   * @throws {EXDEV} it is on another mount, or on the other side of a view
   */
  rename(from: string, to: string, options?: RenameOptions): Promise<void>;
  /** Copies the content of one file into another. */
  copy(from: string, to: string): Promise<WriteResult>;
  /** Copies a file or a tree as it is at one moment; both share their content until one is changed. */
  clone(from: string, to: string): Promise<void>;
  /** What must be done to the first tree to make it like the second. */
  compare(from: string, to: string): Promise<readonly TreeChange[]>;
  /** Makes the second tree like the first, in one commit; what was done. */
  restore(from: string, to: string): Promise<readonly TreeChange[]>;
  /** Removes a file, a link or an empty directory; with `recursive` also what is below. */
  unlink(path: string, options?: Omit<UnlinkOptions, "assertMay">): Promise<void>;
  /** Makes a pipe: pieces that are each taken by one reader; it lives with its host. */
  makePipe(path: string, settings?: Pick<FlowSettings, "capacity">): Promise<void>;
  pipe(path: string): PipeFace;
  /** Makes a stream: entries that everybody reads from wherever they are. */
  makeStream(path: string, settings?: FlowSettings): Promise<void>;
  stream(path: string): StreamFace;
  /** A handle that stays with its file, also when that is moved. */
  open(path: string, rights: readonly ("read" | "write")[]): Promise<Handle>;
  /**
   * Changes of files that match a glob, as they are committed; behind the position `after` none is lost and none repeated.
   * @throws {ESTALE} what came behind that position is not kept any more
   */
  watch(
    glob: string,
    options?: { readonly after?: Seq; readonly signal?: AbortSignal },
  ): AsyncGenerator<KernelEvent, void, undefined>;
  /** Invokes what a path names. */
  exec(path: string, input?: unknown): Promise<unknown>;
}

type Waiting = { readonly waitMs?: number; readonly signal?: AbortSignal };

/** A pipe: iterating takes its pieces until it is closed. */
export interface PipeFace extends AsyncIterable<Uint8Array> {
  write(content: Bytes, options?: Waiting): Promise<void>;
  /** The oldest piece; `null` when it is closed and empty. */
  read(options?: Waiting): Promise<Uint8Array | null>;
  close(): Promise<void>;
}

export interface StreamFace {
  /** Adds entries, all at one position; how many they were. */
  append(contents: readonly Bytes[], options?: { readonly durability?: "committed" | "flushed" }): Promise<number>;
  /** Entries behind a position; with `follow` also those that come, until the signal aborts. */
  read(options?: {
    readonly after?: Seq;
    readonly limit?: number;
    readonly follow?: boolean;
    readonly signal?: AbortSignal;
  }): AsyncGenerator<StreamEntry, void, undefined>;
  /**
   * The memory of a stream that was made with `isShared`, to read it and append to it without calls, from this thread.
   * What is done there is neither checked nor charged any more: it needs both `fs.read` and `fs.write`.
   * @throws {ENOTSUP} this is no thread of the host
   */
  share(): Promise<SharedRing>;
}

/** Content by its id, whoever has stored it; nothing that names an id is needed, but the rights `content.read` and `content.write`. */
export interface ContentFace {
  /** Stores content; it is collected some time later unless something names it. */
  write(content: Bytes): Promise<ContentId>;
  /** The content, or a range of it. */
  read(id: ContentId, range?: { readonly offset?: number; readonly length?: number }): Promise<Uint8Array>;
  stat(id: ContentId): Promise<{ readonly id: ContentId; readonly size: number }>;
  /** The content, or a range of it, piece by piece. */
  stream(
    id: ContentId,
    range?: { readonly offset?: number; readonly length?: number; readonly pieceBytes?: number },
  ): AsyncGenerator<Uint8Array, void, undefined>;
}

/** An open file; `await using` closes it. */
export interface Handle extends AsyncDisposable {
  readonly fd: Fd;
  read(range?: { readonly offset?: number; readonly length?: number }): Promise<Uint8Array>;
  /** Reads into memory of the caller as much as there is and fits, without any of its own; how much it was. */
  readInto(into: Uint8Array, offset?: number): Promise<number>;
  write(content: Bytes, options?: Omit<WriteOptions, "create"> & { readonly append?: boolean }): Promise<WriteResult>;
  truncate(size: number): Promise<WriteResult>;
  stat(): Promise<FileStat>;
  /** Changes attributes of the file, wherever it is by now. */
  setattr(change: Parameters<Files["setattr"]>[1]): Promise<void>;
  close(): Promise<void>;
}

/** System calls as one process makes them: with its rights, its budget and its name. All reject with a `KernelError`. */
export interface Os {
  readonly pid: Pid;
  readonly fs: Files;
  readonly content: ContentFace;
  /** The channel to a child, or without a pid to the parent: what the other side writes is read, and the reverse. */
  channel(pid?: Pid): PipeFace;
  /** Any row of the table by name. */
  call<Name extends SyscallName>(
    name: Name,
    args: SyscallArgs<Name>,
  ): SyscallResult<Name> | Promise<Awaited<SyscallResult<Name>>>;
  /** Starts a program as a child of this process; its pid. */
  spawn(program: SpawnArgs["program"], options?: Omit<SpawnArgs, "program">): Promise<Pid>;
  /** Settles with the end of a process; `signal` gives up the waiting, and not the process. */
  wait(pid: Pid, options?: { readonly signal?: AbortSignal }): Promise<Exit>;
  /** Sends a signal (default TERM); TERM and KILL reach all that is below the process, from the bottom up. */
  kill(pid: Pid, signal?: Signal): Promise<void>;
  /** Runs a sleeping process on from its journal; with `again` a failed one, whose failed steps are tried anew. */
  resume(pid: Pid, options?: Omit<SyscallArgs<"resume">, "pid">): Promise<void>;
  /** Processes: those alive, the newest with `all`, or those of `pids`. */
  ps(options?: SyscallArgs<"ps">): Promise<readonly ProcessSummary[]>;
  /** What happens from now on, or behind a position, by names, classes, processes and topics; ends with the host. */
  events(filter?: EventFilter): AsyncGenerator<KernelEvent, void, undefined>;
  /** Asks a model, within the budget; in a process with a journal the answer is recorded under the place. */
  infer(place: string, request: InferRequest): Promise<ModelResponse>;
  /** A service, whose methods take their arguments as one value: `os.service<Store>("store").put({ key, value })`. */
  service<Api extends object>(name: string): ServiceFace<Api>;
  /** Settles when everything committed so far survives a loss of power. */
  flush(): Promise<void>;
}

/** The methods of a service as its callers see them. */
export type ServiceFace<Api> = {
  readonly [Method in keyof Api]: Api[Method] extends (args: infer Args, ...more: never[]) => infer Result
    ? (...args: undefined extends Args ? [args?: Args] : [args: Args]) => Promise<Awaited<Result>>
    : never;
};

/** Binds the table to one caller of this host. */
export function bindOs(dispatcher: Dispatcher, caller: Process): Os {
  // The dispatcher's method with its first argument fixed is `Os["call"]`; `bind` loses the generic.
  return makeOs(caller.pid, dispatcher.call.bind(dispatcher, caller) as Os["call"]);
}

/** The calls of a process from inside of one of its steps. */
export const osWithin = (os: Os, step: string): Os =>
  makeOs(os.pid, ((name: string, given: object) =>
    os.call(name as never, { ...given, [WITHIN_STEP]: step })) as Os["call"]);

/** The typed face over any way of calling a row: in this host, or over the wire. */
export function makeOs(pid: Pid, call: Os["call"]): Os {
  return new OsFace(pid, call);
}

/** Methods stand on the prototype: every process has one of these. */
class OsFace implements Os {
  readonly pid: Pid;
  readonly call: Os["call"];
  #files: Files | undefined;

  constructor(pid: Pid, call: Os["call"]) {
    this.pid = pid;
    this.call = call;
  }

  get content(): ContentFace {
    return contentFace(this.call);
  }

  channel(pid?: Pid): PipeFace {
    const { call } = this;
    const at = pid === undefined ? {} : { pid };
    return pipeFace({
      read: async (options) => call("channelRead", { ...at, ...options }),
      write: async (bytes, options) => call("channelWrite", { ...at, bytes, ...options }),
      close: async () => call("channelClose", at),
    });
  }

  get fs(): Files {
    return (this.#files ??= bindFiles(this.pid, this.call));
  }

  async spawn(program: SpawnArgs["program"], options: Omit<SpawnArgs, "program"> = {}): Promise<Pid> {
    return this.call("spawn", { program, ...options });
  }

  async wait(pid: Pid, options: { readonly signal?: AbortSignal } = {}): Promise<Exit> {
    return this.call("wait", { pid, ...options });
  }

  async kill(pid: Pid, signal?: Signal): Promise<void> {
    return this.call("kill", signal === undefined ? { pid } : { pid, signal });
  }

  async resume(pid: Pid, options: Omit<SyscallArgs<"resume">, "pid"> = {}): Promise<void> {
    return this.call("resume", { pid, ...options });
  }

  async ps(options: SyscallArgs<"ps"> = {}): Promise<readonly ProcessSummary[]> {
    return this.call("ps", options);
  }

  events(filter: EventFilter = {}): AsyncGenerator<KernelEvent, void, undefined> {
    return stream(this.call("subscribe", filter));
  }

  async infer(place: string, request: InferRequest): Promise<ModelResponse> {
    return this.call("infer", { place, request });
  }

  service<Api extends object>(name: string): ServiceFace<Api> {
    const { call } = this;
    return new Proxy<object>(
      {},
      {
        // A service is no promise, whatever awaits it.
        get: (_target, method) =>
          typeof method !== "string" || method === "then"
            ? undefined
            : async (args: unknown = {}): Promise<unknown> => call("callService", { service: name, method, args }),
      },
      // Its shape is what its contract says.
    ) as ServiceFace<Api>;
  }

  async flush(): Promise<void> {
    return this.call("flush", {});
  }
}

function bindFiles(pid: Pid, call: Os["call"]): Files {
  return {
    stat: async (path, options = {}) => call("stat", { path, ...options }),
    exists: async (path) => {
      try {
        await call("stat", { path });
        return true;
      } catch (error) {
        if (isKernelError(error) && ["ENOENT", "EACCES", "ENOTDIR", "ELOOP"].includes(error.code)) return false;
        throw error;
      }
    },
    readdir: async (path, options = {}) => {
      if (options.limit !== undefined) return call("readdir", { path, ...options });
      const all: DirEntry[] = [];
      for (let { after } = options; ;) {
        const page = await call("readdir", { path, limit: LIMITS.pageMax, ...(after === undefined ? {} : { after }) });
        if (all.length === 0 && page.length < LIMITS.pageMax) return page;
        for (const entry of page) all.push(entry);
        if (page.length < LIMITS.pageMax) return all;
        after = page.at(-1)?.name;
      }
    },
    read: async (path, range = {}) => call("read", { path, ...range }),
    readMany: (paths) => Promise.all(paths.map((path) => outcomeOf(path, async () => call("read", { path })))),
    writeMany: (items) =>
      Promise.all(
        items.map(({ path, content, options = {} }) =>
          outcomeOf(path, async () => call("write", { path, bytes: toBytes(content), create: "maybe", ...options })),
        ),
      ),
    readInto: async (path, into, offset) =>
      call("readInto", { path, into, ...(offset === undefined ? {} : { offset }) }),
    readText: async (path) => new TextDecoder().decode(await call("read", { path })),
    write: async (path, content, options = {}) => call("write", { path, bytes: toBytes(content), ...options }),
    writeFile: async (path, content, options = {}) =>
      call("write", { path, bytes: toBytes(content), ...options, create: "maybe" }),
    append: async (path, content, options = {}) =>
      call("append", { path, bytes: toBytes(content), create: "maybe", ...options }),
    truncate: async (path, size) => call("truncate", { path, size }),
    mkdir: async (path) => call("setattr", { path, type: "directory" }),
    link: async (path, target) => call("setattr", { path, type: "link", target }),
    setattr: async (path, change) => call("setattr", { path, ...change }),
    rename: async (from, to, options = {}) => call("rename", { from, to, ...options }),
    copy: async (from, to) => call("copy", { from, to }),
    clone: async (from, to) => call("cloneTree", { from, to }),
    compare: async (from, to) => call("compareTrees", { from, to }),
    restore: async (from, to) => call("restoreTree", { from, to }),
    unlink: async (path, options = {}) => call("unlink", { path, ...options }),
    makePipe: async (path, settings = {}) => call("makeFlow", { path, type: "pipe", ...settings }),
    pipe: (path) =>
      pipeFace({
        read: async (options) => call("pipeRead", { path, ...options }),
        write: async (bytes, options) => call("pipeWrite", { path, bytes, ...options }),
        close: async () => call("pipeClose", { path }),
      }),
    makeStream: async (path, settings = {}) => call("makeFlow", { path, type: "stream", ...settings }),
    stream: (path) => ({
      append: async (contents, options = {}) =>
        call("streamAppend", { path, entries: contents.map(toBytes), ...options }),
      read: (options = {}) => stream(call("streamRead", { path, ...options })),
      share: async () => new SharedRing(await call("streamShare", { path }), pid),
    }),
    open: async (path, rights) => toHandle(call, await call("open", { path, rights })),
    watch: (glob, options = {}) => stream(call("watch", { glob, ...options })),
    exec: async (path, input) => call("exec", { path, input }),
  };
}

/** Bytes of a piece of a stream of content, unless its caller says how many. */
const PIECE_BYTES = 1024 * 1024;

function contentFace(call: Os["call"]): ContentFace {
  return {
    write: async (content) => call("writeContent", { bytes: toBytes(content) }),
    read: async (id, range = {}) => call("readContent", { id, ...range }),
    stat: async (id) => call("statContent", { id }),
    async *stream(id, { offset = 0, length, pieceBytes = PIECE_BYTES } = {}) {
      if (!Number.isSafeInteger(pieceBytes) || pieceBytes < 1)
        throw new KernelError("EINVAL", `a piece has 1 byte or more, found ${pieceBytes}`);
      const { size } = await call("statContent", { id });
      const end = Math.min(size, length === undefined ? size : offset + length);
      for (let at = offset; at < end; at += pieceBytes)
        yield await call("readContent", { id, offset: at, length: Math.min(pieceBytes, end - at) });
    },
  };
}

function pipeFace(calls: {
  read(options: Waiting): Promise<Uint8Array | null>;
  write(bytes: Uint8Array, options: Waiting): Promise<void>;
  close(): Promise<void>;
}): PipeFace {
  const read = async (options: Waiting = {}): Promise<Uint8Array | null> => calls.read(options);
  return {
    read,
    write: async (content, options = {}) => calls.write(toBytes(content), options),
    close: async () => calls.close(),
    async *[Symbol.asyncIterator]() {
      for (let piece = await read(); piece !== null; piece = await read()) yield piece;
    },
  };
}

async function outcomeOf<T>(path: string, work: () => Promise<T>): Promise<ItemOutcome<T>> {
  try {
    return { path, value: await work() };
  } catch (error) {
    if (isKernelError(error)) return { path, error };
    throw error;
  }
}

function toHandle(call: Os["call"], fd: Fd): Handle {
  const close = async (): Promise<void> => call("close", { fd });
  return {
    fd,
    read: async (range = {}) => call("readHandle", { fd, ...range }),
    readInto: async (into, offset) => call("readHandleInto", { fd, into, ...(offset === undefined ? {} : { offset }) }),
    write: async (content, options = {}) => call("writeHandle", { fd, bytes: toBytes(content), ...options }),
    truncate: async (size) => call("truncateHandle", { fd, size }),
    stat: async () => call("statHandle", { fd }),
    setattr: async (change) => call("setattrHandle", { fd, ...change }),
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** A stream row answers with a generator, or with the promise of one when the caller is stopped or hooks run. */
function stream<T>(
  source: AsyncGenerator<T, void, undefined> | Promise<AsyncGenerator<T, void, undefined>>,
): AsyncGenerator<T, void, undefined> {
  const items = (async function* () {
    yield* await source;
  })();
  // A refusal is told to who reads the stream; nobody may.
  if (source instanceof Promise) source.catch(() => undefined);
  return releasing(items, () => {
    const end = async (): Promise<unknown> => (await source).return();
    void end().catch(() => undefined);
  });
}
