// `ergos top`: processes by what they use, again and again.

import { setTimeout as delay } from "node:timers/promises";
import type { ProcessSummary } from "@ergos/kernel";
import { type Command, EXIT_OK, openDirectory, textOption, UsageError, wholeOption } from "../command.ts";
import { type Output, formatCount, formatMs, table } from "../terminal.ts";

export const topCommand: Command = {
  name: "top",
  needsData: true,
  arguments: 0,
  summary: "show processes and what they use, live on a terminal",
  usage: "[--interval SECONDS] [--count N]",
  examples: ["ergos top", "ergos top --count 1 --json"],
  options: { interval: { type: "string" }, count: { type: "string" } },
  run: async (invocation) => {
    const { out } = invocation;
    const interval = Number(textOption(invocation, "interval") ?? 1);
    if (!(interval >= 0.1 && interval <= 3600)) throw new UsageError("--interval takes 0.1 to 3600 seconds");
    // Without a terminal nobody could end it.
    const count = wholeOption(invocation, "count", out.isTerminal ? Number.POSITIVE_INFINITY : 1);
    await using os = await openDirectory(invocation, true);
    let before = new Map<number, number>();
    for (let round = 1; ; round++) {
      const list = (await os.ps()).filter(({ ppid }) => ppid !== undefined);
      const tokens = new Map(list.map(({ pid, usage }) => [Number(pid), usage.tokensIn + usage.tokensOut]));
      const rates = new Map(
        list.map(({ pid }) => [
          Number(pid),
          round === 1 ? 0 : ((tokens.get(pid) ?? 0) - (before.get(pid) ?? 0)) / interval,
        ]),
      );
      const rows = list.map((process) => ({
        ...process,
        tokensPerSecond: Math.max(0, Math.round(rates.get(process.pid) ?? 0)),
      }));
      out.answer(rows, (processes) => `${out.isTerminal ? "\u001B[2J\u001B[H" : ""}${topText(processes, out)}`);
      before = tokens;
      if (round >= count) return EXIT_OK;
      await delay(interval * 1000);
    }
  },
};

function topText(processes: readonly (ProcessSummary & { readonly tokensPerSecond: number })[], out: Output): string {
  const sum = (pick: (process: ProcessSummary) => number): string =>
    formatCount(processes.reduce((total, process) => total + pick(process), 0));
  const running = processes.filter(({ state }) => state === "running" || state === "waiting").length;
  const head = `${processes.length} processes, ${running} running · ${sum(({ usage }) => usage.modelCalls)} model calls · ${sum(({ usage }) => usage.tokensIn + usage.tokensOut)} tokens`;
  const rows = processes
    .toSorted(
      (a, b) =>
        b.tokensPerSecond - a.tokensPerSecond ||
        b.usage.tokensIn + b.usage.tokensOut - a.usage.tokensIn - a.usage.tokensOut,
    )
    .map((process) => [
      String(process.pid),
      process.runId,
      process.state,
      formatCount(process.usage.steps),
      formatCount(process.usage.modelCalls),
      formatCount(process.usage.tokensIn + process.usage.tokensOut),
      formatCount(process.tokensPerSecond),
      (process.usage.costMicros / 1_000_000).toFixed(4),
      process.progress === undefined ? "" : `${process.progress.done}/${process.progress.total}`,
      formatMs(Date.now() - process.created),
    ]);
  return `${out.style("bold", head)}\n${table([["PID", "RUN", "STATE", "STEPS", "CALLS", "TOKENS", "TOK/S", "USD", "DONE", "TIME"], ...rows])}`;
}
