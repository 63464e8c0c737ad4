// `ergos ls`, `cat`, `watch`, `write`, `exec`, `stat`: the namespace from the shell.

import { type DirEntry, type FileStat, toSeq } from "@ergos/kernel";
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
          .map(({ name, type }) => (type === "directory" ? `${name}/` : type === "link" ? `${name}@` : name))
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
    await using os = await openDirectory(invocation);
    for (const path of invocation.positionals) {
      const bytes = await os.fs.read(path);
      if (invocation.out.isJson) invocation.out.answer({ path, text: new TextDecoder().decode(bytes) }, String);
      else process.stdout.write(bytes);
    }
    return EXIT_OK;
  },
};

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
    const content = text === undefined ? await readAll(process.stdin) : Buffer.from(text);
    const generation = numberOption(textOption(invocation, "if-generation"), "--if-generation");
    await using os = await openDirectory(invocation);
    const result = isSet(invocation, "append")
      ? await os.fs.append(path, content, { create: "maybe", ...FLUSHED })
      : await os.fs.writeFile(path, content, {
          ...FLUSHED,
          ...(generation === undefined ? {} : { ifGeneration: toSeq(generation) }),
        });
    invocation.out.answer({ path, ...result }, () => `${path}: ${formatCount(content.length)} bytes`);
    return EXIT_OK;
  },
};

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
  if (pairs.length > 0) return readPairs("input", pairs);
  if (json === undefined) return undefined;
  try {
    return JSON.parse(json) as unknown;
  } catch {
    // A bare word is a text.
    return json;
  }
}

async function readAll(stream: NodeJS.ReadableStream): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of stream) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
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
  return [what, size, when, name, note];
}
