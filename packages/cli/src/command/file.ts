// `ergos ls`, `cat`, `watch`: the namespace from the shell.

import { type DirEntry, type FileStat, toSeq } from "@ergos/kernel";
import { type Command, EXIT_OK, isSet, openDirectory, required, textOption, UsageError } from "../command.ts";
import { formatCount, table } from "../terminal.ts";

export const lsCommand: Command = {
  name: "ls",
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
