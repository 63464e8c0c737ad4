// `ergos snapshot`, `restore`, `diff`, `apply` and `discard`: trees of files as wholes, and what processes did in their views.

import type { ErgOs } from "../connect.ts";
import type { Pid, TreeChange, TreeConflict } from "@ergos/kernel";
import { type Command, EXIT_FAILED, EXIT_OK, openDirectory, required } from "../command.ts";
import { findPid } from "../find-process.ts";
import { formatCount, table } from "../terminal.ts";

export const snapshotCommand: Command = {
  name: "snapshot",
  needsData: true,
  arguments: 2,
  summary: "copy a file or a tree as it is at one moment, without its content",
  usage: "<path> <copy>",
  examples: ["ergos snapshot /srv/project /srv/before", "ergos restore /srv/before /srv/project"],
  run: async (invocation) => {
    const [from, to] = [required(invocation, 0, "the path"), required(invocation, 1, "where the copy goes")];
    await using os = await openDirectory(invocation);
    await os.fs.clone(from, to);
    invocation.out.answer({ from, to }, () => `${to} is ${from} as it was now`);
    return EXIT_OK;
  },
};

export const restoreCommand: Command = {
  name: "restore",
  needsData: true,
  arguments: 2,
  summary: "make a tree like another, such as a snapshot of it, in one step",
  usage: "<snapshot> <path>",
  examples: ["ergos restore /srv/before /srv/project"],
  run: async (invocation) => {
    const [from, to] = [required(invocation, 0, "the snapshot"), required(invocation, 1, "the path")];
    await using os = await openDirectory(invocation);
    const changes = await os.fs.restore(from, to);
    invocation.out.answer(
      { changes },
      () => `${changeList(changes)}\n${to} is like ${from}: ${formatCount(changes.length)} changes`,
    );
    return EXIT_OK;
  },
};

export const diffCommand: Command = {
  name: "diff",
  needsData: true,
  arguments: 2,
  summary: "show what a process has changed in its view, or what is different between two trees",
  usage: "<pid | run> | <path> <path>",
  examples: ["ergos diff 7", "ergos diff /srv/before /srv/project --json"],
  run: async (invocation) => {
    const one = required(invocation, 0, "the process, or the first path");
    const other = invocation.positionals[1];
    await using os = await openDirectory(invocation);
    const changes =
      other === undefined
        ? await os.call("viewChanges", { pid: await pidOf(os, one) })
        : await os.fs.compare(one, other);
    invocation.out.answer({ changes }, () => (changes.length === 0 ? "nothing is different" : changeList(changes)));
    return EXIT_OK;
  },
};

export const applyCommand: Command = {
  name: "apply",
  needsData: true,
  arguments: 1,
  summary: "bring what a process has changed in its view into the tree, all of it or nothing",
  usage: "<pid | run>",
  examples: ["ergos run ./agent.ts --view /srv/project", "ergos diff 7", "ergos apply 7"],
  run: async (invocation) => {
    const name = required(invocation, 0, "the process");
    await using os = await openDirectory(invocation);
    const merge = await os.call("applyView", { pid: await pidOf(os, name) });
    const { changes, conflicts } = merge;
    invocation.out.answer(merge, () =>
      conflicts.length === 0
        ? `${changeList(changes)}\n${formatCount(changes.length)} changes of ${name} are in`
        : `${conflictList(conflicts)}\nnothing was brought in: ${formatCount(conflicts.length)} places have changed meanwhile; run it again, or \`ergos discard ${name}\``,
    );
    return conflicts.length === 0 ? EXIT_OK : EXIT_FAILED;
  },
};

export const discardCommand: Command = {
  name: "discard",
  needsData: true,
  arguments: 1,
  summary: "throw away what a process has changed in its view",
  usage: "<pid | run>",
  examples: ["ergos discard 7"],
  run: async (invocation) => {
    const name = required(invocation, 0, "the process");
    await using os = await openDirectory(invocation);
    const pid = await pidOf(os, name);
    await os.call("discardView", { pid });
    invocation.out.answer({ pid }, () => `what ${name} has changed is thrown away`);
    return EXIT_OK;
  },
};

const pidOf = async (os: ErgOs, name: string): Promise<Pid> => (await findPid(os, name)).pid;

const MARKS: Readonly<Record<TreeChange["kind"], string>> = { added: "+", removed: "-", changed: "~" };

const changeList = (changes: readonly TreeChange[]): string =>
  changes.map(({ kind, path, type }) => `${MARKS[kind]} ${path}${type === "directory" ? "/" : ""}`).join("\n");

const conflictList = (conflicts: readonly TreeConflict[]): string =>
  table([["HERE", "PATH", "WHY NOT"], ...conflicts.map(({ kind, path, why }) => [kind, path, why])]);
