// `ergos clean` and `ergos fsck`: what the store holds, less of it, and whether it is whole.

import { type Command, EXIT_FAILED, EXIT_OK, durationOption, isSet, openDirectory, wholeOption } from "../command.ts";
import { formatCount, table } from "../terminal.ts";

const MONTH_MS = 30 * 86_400_000;

export const cleanCommand: Command = {
  name: "clean",
  needsData: true,
  arguments: 0,
  summary: "delete runs that ended long ago, and content that nothing names; sum up old calls",
  usage: "[--older-than 30d] [--keep N] [--artifacts] [--ledger DURATION] [--dry-run]",
  examples: [
    "ergos clean --dry-run",
    "ergos clean --older-than 7d --keep 100",
    "ergos clean --artifacts",
    "ergos clean --ledger 90d",
  ],
  options: {
    "older-than": { type: "string" },
    keep: { type: "string" },
    artifacts: { type: "boolean" },
    ledger: { type: "string" },
    "dry-run": { type: "boolean" },
  },
  run: async (invocation) => {
    const dryRun = isSet(invocation, "dry-run");
    const keep = wholeOption(invocation, "keep", 0, 0);
    const endedBefore = Date.now() - (durationOption(invocation, "older-than") ?? MONTH_MS);
    const ledgerMs = durationOption(invocation, "ledger", 0);
    await using os = await openDirectory(invocation);
    const pruned = await os.call("prune", {
      endedBefore: Math.max(0, endedBefore),
      keep,
      artifacts: isSet(invocation, "artifacts"),
      dryRun,
    });
    const collected = await os.call("collect", { dryRun });
    const rolledUp =
      ledgerMs === undefined
        ? undefined
        : await os.call("rollUpLedger", { before: Math.max(0, Date.now() - ledgerMs), dryRun });
    const would = dryRun ? "would delete" : "deleted";
    const summed =
      rolledUp === undefined
        ? ""
        : `; ${dryRun ? "would sum up" : "summed up"} ${formatCount(rolledUp)} calls by their days`;
    invocation.out.answer(
      { pruned, collected, ...(rolledUp === undefined ? {} : { rolledUp }), dryRun },
      () =>
        `${would} ${formatCount(pruned.runs)} runs of ${formatCount(pruned.processes)} processes with ${formatCount(pruned.artifacts)} artifacts, and ${formatCount(collected.blobs)} blobs of ${formatCount(collected.bytes)} bytes; ${formatCount(collected.kept)} blobs stay${summed}`,
    );
    return EXIT_OK;
  },
};

export const fsckCommand: Command = {
  name: "fsck",
  needsData: true,
  arguments: 0,
  summary: "look whether everything in the data directory holds together",
  usage: "[--contents]",
  examples: ["ergos fsck", "ergos fsck --contents --json"],
  options: { contents: { type: "boolean" } },
  run: async (invocation) => {
    const { out } = invocation;
    await using os = await openDirectory(invocation);
    const report = await os.call("checkStore", { contents: isSet(invocation, "contents") });
    const { problems } = report;
    out.answer(report, () => {
      const looked = `${formatCount(report.files)} files, ${formatCount(report.directories)} directories, ${formatCount(report.processes)} processes and ${formatCount(report.blobs)} blobs`;
      if (problems.length === 0) return `${looked}: all of it holds together`;
      return `${table([["AT", "WHAT"], ...problems.map(({ at, what }) => [at, what])])}\n${looked}: ${formatCount(problems.length)} problems`;
    });
    return problems.length === 0 ? EXIT_OK : EXIT_FAILED;
  },
};
