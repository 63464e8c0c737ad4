// `ergos ls`, `cat`, `watch`, `write`, `exec`, `stat`: the namespace from the shell.

import { randomUUID } from "node:crypto";
import { once } from "node:events";
import {
  type DirEntry,
  type FileStat,
  type Os,
  type WriteResult,
  isKernelError,
  printable,
  toSeq,
} from "@ergos/kernel";
import {
  type Command,
  EXIT_OK,
  type Invocation,
  isSet,
  listOption,
  openDirectory,
  readPairs,
  required,
  textOption,
  UsageError,
} from "../command.ts";
import { formatCount, table } from "../terminal.ts";

export const lsCommand: Command = {
  name: "ls",
  arguments: 1,
  summary: "list a directory of the namespace",
  usage: "[path] [--long]",
  examples: ["ergos ls /", "ergos ls /proc --long"],
  options: { long: { type: "boolean", short: "l" } },
  run: async (invocation) => {
    const path = invocation.positionals[0] ?? "/";
    await using os = await openDirectory(invocation);
    const entries: DirEntry[] = [];
    for (let after: string | undefined; ;) {
      const page = await os.fs.readdir(path, after === undefined ? {} : { after });
      entries.push(...page);
      const last = page.at(-1);
      if (last === undefined || page.length < 10_000) break;
      after = last.name;
    }
    if (!isSet(invocation, "long")) {
      invocation.out.answer(entries, (list) =>
        list
          .map(({ name, type }) => `${printable(name)}${type === "directory" ? "/" : type === "link" ? "@" : ""}`)
          .join("\n"),
      );
      return EXIT_OK;
    }
    const stats: FileStat[] = [];
    for (const { name } of entries)
      stats.push(await os.fs.stat(`${path === "/" ? "" : path}/${name}`, { noFollow: true }));
    invocation.out.answer(stats, (list) => table(list.map(longRow)));
    return EXIT_OK;
  },
};

export const catCommand: Command = {
  name: "cat",
  summary: "show files of the namespace",
  usage: "<path>...",
  examples: ["ergos cat /proc/7/status", "ergos cat /sys/mounts.json"],
  run: async (invocation) => {
    required(invocation, 0, "the path");
    await using os = await openDirectory(invocation, true);
    if (invocation.positionals.length > 1) invocation.out.gather();
    for (const path of invocation.positionals) {
      if (invocation.out.isJson) invocation.out.answer({ path, text: await os.fs.readText(path) }, String);
      else for await (const piece of piecesOf(os, path)) await writeOut(piece);
    }
    return EXIT_OK;
  },
};

/** Content in pieces, so that a file of any size passes; what has no size, as a virtual file, is one. */
async function* piecesOf(os: Os, path: string): AsyncGenerator<Uint8Array, void, undefined> {
  // Who may read it need not be allowed to look at more of it.
  const stat = await os.fs.stat(path).catch((error: unknown) => {
    if (isKernelError(error) && error.code === "EACCES") return undefined;
    throw error;
  });
  if (stat !== undefined && (stat.type !== "file" || (stat.size ?? 0) <= PIECE)) {
    yield await os.fs.read(path);
    return;
  }
  let piece: Uint8Array;
  for (let offset = 0; ; offset += piece.length) {
    piece = await os.fs.read(path, { offset, length: PIECE });
    if (piece.length > 0) yield piece;
    if (piece.length < PIECE) return;
  }
}

/** No more than is read is kept. */
async function writeOut(piece: Uint8Array): Promise<void> {
  if (!process.stdout.write(piece)) await once(process.stdout, "drain");
}

export const watchCommand: Command = {
  name: "watch",
  arguments: 1,
  summary: "show changes of files as they happen",
  usage: "<glob> [--after POSITION] [--count N]",
  examples: ["ergos watch '/home/**'", "ergos watch '/home/**' --after 120 --json"],
  options: { after: { type: "string" }, count: { type: "string" } },
  run: async (invocation) => {
    const glob = required(invocation, 0, "the glob");
    const after = numberOption(textOption(invocation, "after"), "--after");
    let left = numberOption(textOption(invocation, "count"), "--count") ?? Number.POSITIVE_INFINITY;
    if (left === 0) throw new UsageError("--count takes a whole number of at least 1");
    // Others must be able to change files while we watch: this process is their host if nobody else is.
    await using os = await openDirectory(invocation, true);
    for await (const event of os.fs.watch(glob, after === undefined ? {} : { after: toSeq(after) })) {
      invocation.out.answer(
        event,
        ({ seq, at, name, pid, data }) =>
          `${seq}  ${new Date(at).toISOString()}  ${name.padEnd(17)}  ${String(data["path"])}  (process ${pid})`,
      );
      if (--left <= 0) break;
    }
    return EXIT_OK;
  },
};

/** Bytes of content that pass by at a time. */
const PIECE = 8 * 1024 * 1024;

/** What is said to be written must survive what follows. */
const FLUSHED = { durability: "flushed" } as const;

export const writeCommand: Command = {
  name: "write",
  arguments: 2,
  summary: "write a file of the namespace, from an argument or from standard input",
  usage: "<path> [text] [--append] [--if-generation N]",
  examples: [
    "ergos write /home/note.md 'remember this'",
    "cat report.md | ergos write /home/report.md",
    "ergos write /home/log 'one more line' --append",
  ],
  options: { append: { type: "boolean", short: "a" }, "if-generation": { type: "string" } },
  run: async (invocation) => {
    const path = required(invocation, 0, "the path");
    const text = invocation.positionals[1];
    if (text === undefined && process.stdin.isTTY) throw new UsageError("give the text, or pipe it in");
    const pieces = text === undefined ? inPieces(process.stdin) : inPieces([Buffer.from(text)]);
    const first = await pieces.next();
    const content = first.done === true ? new Uint8Array(0) : first.value;
    const generation = numberOption(textOption(invocation, "if-generation"), "--if-generation");
    await using os = await openDirectory(invocation, true);
    const isAppended = isSet(invocation, "append");
    if (isAppended && generation !== undefined)
      throw new UsageError("--if-generation is for what replaces a file; --append adds to whatever it has become");
    let result: WriteResult;
    if (isAppended) result = await os.fs.append(path, content, { create: "maybe", ...FLUSHED });
    else if (content.length < PIECE) {
      const expected = generation === undefined ? {} : { ifGeneration: toSeq(generation) };
      result = await os.fs.writeFile(path, content, { ...FLUSHED, ...expected });
    } else if (generation === undefined) result = await writeLarge(os, path, content, pieces);
    else throw new UsageError(`--if-generation is for less than ${formatCount(PIECE)} bytes`);
    // What is written to a virtual file is an order, and has no size there.
    let size = content.length < PIECE ? content.length : result.size;
    if (isAppended) {
      size = content.length;
      for await (const piece of pieces) {
        result = await os.fs.append(path, piece, FLUSHED);
        size += piece.length;
      }
    }
    invocation.out.answer({ path, ...result }, () => `${path}: ${formatCount(size)} bytes`);
    return EXIT_OK;
  },
};

/** Written beside the file and then copied over it, which is one commit: nobody sees a part of it. */
async function writeLarge(
  os: Os,
  path: string,
  first: Uint8Array,
  rest: AsyncIterable<Uint8Array>,
): Promise<WriteResult> {
  const aside = `/tmp/write-${randomUUID()}`;
  try {
    await os.fs.append(aside, first, { create: "maybe" });
    for await (const piece of rest) await os.fs.append(aside, piece);
    const result = await os.fs.copy(aside, path);
    await os.flush();
    return result;
  } finally {
    await os.fs.unlink(aside).catch(() => undefined);
  }
}

/** What comes, in pieces of one size but the last. */
async function* inPieces(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  let held: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of source) {
    held.push(chunk);
    size += chunk.length;
    if (size < PIECE) continue;
    yield Buffer.concat(held);
    [held, size] = [[], 0];
  }
  if (size > 0) yield Buffer.concat(held);
}

export const execCommand: Command = {
  name: "exec",
  arguments: 2,
  summary: "invoke what a path names: a tool, a program, a control of a process",
  usage: "<path> [json | --input key=value]...",
  examples: [
    "ergos exec /lib/tools/list_directory --input path=/proc",
    "ergos exec /proc/7/signal '\"STOP\"'",
    "ergos exec /proc/runs/digest-7/cancel",
  ],
  options: { input: { type: "string", multiple: true, short: "i" } },
  run: async (invocation) => {
    const path = required(invocation, 0, "the path");
    const input = execInput(invocation);
    await using os = await openDirectory(invocation, true);
    const result = await os.fs.exec(path, input);
    invocation.out.answer(result ?? null, (value) =>
      value === null ? `${path}: done` : typeof value === "string" ? value : JSON.stringify(value, undefined, 2),
    );
    return EXIT_OK;
  },
};

export const statCommand: Command = {
  name: "stat",
  summary: "tell what a path of the namespace is",
  usage: "<path>...",
  examples: ["ergos stat /home/report.md", "ergos stat /lib/tools/read_file --json"],
  run: async (invocation) => {
    required(invocation, 0, "the path");
    await using os = await openDirectory(invocation);
    if (invocation.positionals.length > 1) invocation.out.gather();
    for (const path of invocation.positionals) {
      const stat = await os.fs.stat(path);
      invocation.out.answer(stat, (found) =>
        table(
          Object.entries(found)
            .filter(([, value]) => value !== undefined)
            .map(([name, value]) => [`${name}:`, statValue(name, value)]),
        ),
      );
    }
    return EXIT_OK;
  },
};

function statValue(name: string, value: unknown): string {
  if ((name === "created" || name === "modified") && typeof value === "number") return new Date(value).toISOString();
  return typeof value === "string" ? value : JSON.stringify(value);
}

function execInput(invocation: Invocation): unknown {
  const json = invocation.positionals[1];
  const pairs = listOption(invocation, "input");
  if (pairs.length > 0 && json !== undefined)
    throw new UsageError("give the input as JSON or as --input key=value, not both");
  if (pairs.length > 0) return readPairs("input", pairs);
  if (json === undefined) return undefined;
  try {
    return JSON.parse(json) as unknown;
  } catch {
    // A bare word is a text.
    return json;
  }
}

function numberOption(text: string | undefined, name: string): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d+$/.test(text)) throw new UsageError(`${name} takes a whole number, found ${JSON.stringify(text)}`);
  return Number(text);
}

function longRow(stat: FileStat): string[] {
  const name = stat.path.slice(stat.path.lastIndexOf("/") + 1);
  const what = stat.entityType ?? stat.type;
  const size = stat.size === undefined || stat.type === "directory" ? "" : formatCount(stat.size);
  const when = stat.modified === undefined ? "" : new Date(stat.modified).toISOString().slice(0, 19);
  const note = [stat.status, stat.target === undefined ? undefined : `-> ${stat.target}`, stat.description]
    .filter((part) => part !== undefined && part !== name)
    .join("  ");
  return [what, size, when, printable(name), printable(note)];
}
