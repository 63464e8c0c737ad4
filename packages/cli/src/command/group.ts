// `ergos group`: processes under one budget, weight and limits.

import type { FaultPolicies } from "@ergos/kernel";
import { type Command, EXIT_OK, UsageError, listOption, openDirectory, required, textOption } from "../command.ts";
import type { Invocation } from "../command.ts";
import { formatCount, table } from "../terminal.ts";
import { amountText, readAmounts } from "./budget.ts";

export const groupCommand: Command = {
  name: "group",
  arguments: 2,
  summary: "list, make, change, freeze, thaw or remove groups of processes",
  usage:
    "list | set <group> [--limit resource=amount]... [--processes N] [--spawns N] [--weight N] [--fault KIND=POLICY]... | freeze <group> | thaw <group> | remove <group>",
  examples: [
    "ergos group list",
    "ergos group set research --limit cost=5 --processes 20",
    "ergos group set research/night --weight 50",
    "ergos group set research --fault memory=restart --fault capability=quarantine",
    "ergos run p.yaml --group research",
    "ergos group freeze research",
  ],
  options: {
    limit: { type: "string", multiple: true },
    processes: { type: "string" },
    spawns: { type: "string" },
    weight: { type: "string" },
    fault: { type: "string", multiple: true },
  },
  run: async (invocation) => {
    const what = required(invocation, 0, "what to do: list, set, freeze, thaw or remove");
    const { out } = invocation;
    await using os = await openDirectory(invocation);
    if (what === "list") {
      const groups = await os.call("groups", {});
      out.answer(groups, (list) => {
        if (list.length === 0) return "no groups; make one with: ergos group set NAME --limit cost=5";
        const rows = list.map(({ path, isFrozen, living, processes, weight, usage }) => [
          path,
          isFrozen ? out.style("yellow", "frozen") : "",
          processes === undefined ? formatCount(living) : `${living}/${processes}`,
          String(weight ?? 100),
          Object.entries(usage)
            .map(
              ([resource, { used, allocation }]) =>
                `${resource} ${amountText(resource, used)}/${amountText(resource, allocation)}`,
            )
            .join("  "),
        ]);
        return table([["GROUP", "", "LIVING", "WEIGHT", "BUDGET"], ...rows]);
      });
      return EXIT_OK;
    }
    const group = required(invocation, 1, "the group, as research/night");
    switch (what) {
      case "set": {
        const budget = readAmounts(listOption(invocation, "limit"));
        const counts = {
          ...count(invocation, "processes"),
          ...count(invocation, "spawns"),
          ...count(invocation, "weight"),
        };
        const faults = readFaults(listOption(invocation, "fault"));
        await os.call("setGroup", { group, ...counts, ...faults, ...(budget === undefined ? {} : { budget }) });
        break;
      }
      case "freeze":
      case "thaw":
        await os.call(what, { group });
        break;
      case "remove":
        await os.call("removeGroup", { group });
        break;
      default:
        throw new UsageError(`group takes list, set, freeze, thaw or remove; found ${what}`);
    }
    out.answer(
      { group, done: what },
      () =>
        `group ${group}: ${what === "set" ? "is set" : what === "remove" ? "is removed" : what === "freeze" ? "is frozen" : "goes on"}`,
    );
    return EXIT_OK;
  },
};

function count(invocation: Invocation, name: string): Readonly<Record<string, number>> {
  const text = textOption(invocation, name);
  if (text === undefined) return {};
  if (!/^\d+$/.test(text)) throw new UsageError(`--${name} takes a whole number, found ${JSON.stringify(text)}`);
  return { [name]: Number(text) };
}

/** Policies of kinds of failures, as `memory=restart`; the call says which there are. */
function readFaults(texts: readonly string[]): { readonly faults?: FaultPolicies } {
  if (texts.length === 0) return {};
  const pairs = texts.map((text) => {
    const [kind, policy, ...rest] = text.split("=");
    if (policy === undefined || rest.length > 0) throw new UsageError(`--fault takes KIND=POLICY, found ${text}`);
    return [kind, policy];
  });
  return { faults: Object.fromEntries(pairs) as FaultPolicies };
}
