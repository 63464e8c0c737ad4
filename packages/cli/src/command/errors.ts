// `ergos errors`: what has failed lately, grouped. `ergos alerts`: what acts when that becomes too much.

import { type ErrorGroup, KernelError, plainMessage } from "@ergos/kernel";
import { type Command, EXIT_OK, instantOption, limitOption, openDirectory, textOption } from "../command.ts";
import { type Output, formatCount, table } from "../terminal.ts";
import { causesText } from "./run.ts";
import { triggerTable } from "./trigger.ts";

export const errorsCommand: Command = {
  name: "errors",
  needsData: true,
  arguments: 1,
  summary: "show what has failed lately, the same errors as one, or one of them whole",
  usage: "[id] [--since DATE|DURATION] [--program NAME] [--limit N]",
  examples: ["ergos errors", "ergos errors --since 1h", "ergos errors 3f2a91c07be1"],
  options: { since: { type: "string" }, program: { type: "string" }, limit: { type: "string" } },
  run: async (invocation) => {
    const { out } = invocation;
    const since = instantOption(invocation, "since");
    const program = textOption(invocation, "program");
    const limit = limitOption(invocation, 100);
    await using os = await openDirectory(invocation);
    const [id] = invocation.positionals;
    const groups = await os.call("errors", {
      limit: id === undefined ? limit : 10_000,
      ...(since === undefined ? {} : { since }),
      ...(program === undefined ? {} : { program }),
    });
    if (id === undefined) {
      out.answer(groups, (all) => (all.length === 0 ? "nothing has failed lately" : errorTable(all, out)));
      return EXIT_OK;
    }
    const found = groups.find((group) => group.id.startsWith(id));
    if (found === undefined) throw new KernelError("ENOENT", `there is no error ${id}; \`ergos errors\` lists them`);
    out.answer(found, (group) => errorText(group, out));
    return EXIT_OK;
  },
};

const errorTable = (groups: readonly ErrorGroup[], out: Output): string =>
  table([
    ["ID", "LAST", "COUNT", "PROGRAM", "CODE", "MESSAGE"],
    ...groups.map(({ id, last, count, program, code, message }) => [
      id,
      new Date(last).toISOString(),
      formatCount(count),
      program,
      out.style("red", code),
      plainMessage(message).slice(0, 100),
    ]),
  ]);

function errorText(group: ErrorGroup, out: Output): string {
  const { code, category, severity, program, message, count, first, last, pids, retryable } = group;
  return [
    out.style("red", message),
    ...causesText(group),
    `${code}, ${category}, ${severity}${retryable ? "; may pass by itself" : ""}; see ergos explain ${code}`,
    `${formatCount(count)} times in ${program}, from ${new Date(first).toISOString()} to ${new Date(last).toISOString()}`,
    `newest processes: ${pids.join(", ")}; see ergos logs PID --events`,
  ].join("\n");
}

export const alertsCommand: Command = {
  name: "alerts",
  needsData: true,
  arguments: 0,
  summary: "list triggers that act when events become too many, and whether they are raised",
  usage: "",
  examples: ["ergos alerts", "ergos trigger add process.failed ./page.ts --count 5 --within 10m"],
  options: {},
  run: async (invocation) => {
    await using os = await openDirectory(invocation);
    const alerts = (await os.call("triggers", {})).filter(({ threshold }) => threshold !== undefined);
    invocation.out.answer(alerts, (all) =>
      all.length === 0
        ? "no alerts; make one with: ergos trigger add process.failed PROGRAM --count 5 --within 10m"
        : triggerTable(all),
    );
    return EXIT_OK;
  },
};
