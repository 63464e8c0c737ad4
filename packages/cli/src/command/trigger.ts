// `ergos trigger`: what is started when something happens. `ergos publish`: make something happen.

import { KernelError, type Trigger } from "@ergos/kernel";
import {
  type Command,
  EXIT_OK,
  type Invocation,
  UsageError,
  durationOption,
  listOption,
  openDirectory,
  readPairs,
  required,
  textOption,
} from "../command.ts";
import { formatCount, formatMs, table } from "../terminal.ts";
import { SPAWN_OPTIONS } from "./run-options.ts";
import { startingOf, timesOf } from "./schedule.ts";

export const triggerCommand: Command = {
  name: "trigger",
  needsData: ([what]) => what !== "add",
  arguments: 3,
  summary: "list what is started when something happens, or add or remove it",
  usage: `list | add <topic> <manifest | module> [--where field=value]... [--input key=value]... [--pipeline NAME] [--times N] [--count N --within DURATION] [how the run is started: --name, --limit, --cap, --group, --runtime and the like, as for ergos run] | remove <id | name>`,
  examples: [
    "ergos trigger add process.completed report.yaml --where name=digest",
    "ergos trigger add 'orders.*' ./order.ts --name orders",
    "ergos publish orders.created '{ \"number\": 7 }'",
    "ergos trigger add process.failed ./page.ts --count 5 --within 10m --name failures",
    "ergos trigger list",
  ],
  options: {
    where: { type: "string", multiple: true },
    ...SPAWN_OPTIONS,
    input: { type: "string", multiple: true, short: "i" },
    pipeline: { type: "string" },
    times: { type: "string" },
    count: { type: "string" },
    within: { type: "string" },
  },
  run: async (invocation) => {
    const what = invocation.positionals[0] ?? "list";
    const { out } = invocation;
    if (what === "add") return add(invocation);
    if (what !== "list" && what !== "remove") throw new UsageError(`trigger takes list, add or remove; found ${what}`);
    await using os = await openDirectory(invocation);
    const triggers = await os.call("triggers", {});
    if (what === "list") {
      out.answer(triggers, (all) =>
        all.length === 0
          ? "no triggers; make one with: ergos trigger add process.completed PROGRAM --where name=RUN"
          : triggerTable(all),
      );
      return EXIT_OK;
    }
    const name = required(invocation, 1, "the trigger");
    const found = triggers.find((one) => String(one.id) === name || one.name === name);
    if (found === undefined)
      throw new KernelError("ENOENT", `there is no trigger ${name}; \`ergos trigger list\` shows them`);
    await os.call("untrigger", { id: found.id });
    out.answer({ id: found.id }, () => `trigger ${found.id} is removed`);
    return EXIT_OK;
  },
};

async function add(invocation: Invocation): Promise<number> {
  const topic = required(invocation, 1, "the topic");
  const where = readPairs("where", listOption(invocation, "where"));
  const name = textOption(invocation, "name");
  const request = {
    topic,
    action: { spawn: await startingOf(invocation, 2) },
    ...(name === undefined ? {} : { name }),
    ...(Object.keys(where).length === 0 ? {} : { where }),
    ...timesOf(invocation),
    ...thresholdOf(invocation),
  };
  await using os = await openDirectory(invocation);
  const made = await os.call("trigger", request);
  invocation.out.answer(
    made,
    () => `trigger ${made.id} acts on ${topic} from now on; a host must be running then: ergos up`,
  );
  return EXIT_OK;
}

function thresholdOf(invocation: Invocation): Pick<Trigger, "threshold"> {
  const count = textOption(invocation, "count");
  const withinMs = durationOption(invocation, "within");
  if (count === undefined && withinMs === undefined) return {};
  if (count === undefined || withinMs === undefined || !/^[1-9]\d{0,3}$/.test(count))
    throw new UsageError("an alert has both: --count N (1 to 9999) and --within DURATION");
  return { threshold: { count: Number(count), withinMs } };
}

export const triggerTable = (triggers: readonly Trigger[]): string =>
  table([
    ["ID", "NAME", "TOPIC", "WHERE", "WHEN", "RUNS", "LAST"],
    ...triggers.map(({ id, name, topic, where, threshold, isRaised, runs, last }) => [
      String(id),
      name ?? "",
      topic,
      where === undefined ? "" : JSON.stringify(where),
      threshold === undefined
        ? "each"
        : `${threshold.count} in ${formatMs(threshold.withinMs)}${isRaised === true ? ", raised" : ""}`,
      formatCount(runs),
      last?.error?.message ?? (last === undefined ? "" : new Date(last.at).toISOString()),
    ]),
  ]);

export const publishCommand: Command = {
  name: "publish",
  arguments: 2,
  summary: "tell something to whom it concerns",
  usage: "<topic> [json]",
  examples: ["ergos publish deploy.done", "ergos publish orders.created '{ \"number\": 7 }'"],
  options: {},
  run: async (invocation) => {
    const topic = required(invocation, 0, "the topic");
    const json = invocation.positionals[1];
    const body = json === undefined ? undefined : asJson(json);
    await using os = await openDirectory(invocation);
    await os.call("publish", body === undefined ? { topic } : { topic, body });
    await os.flush();
    invocation.out.answer({ topic }, () => `published ${topic}`);
    return EXIT_OK;
  },
};

/** What a person has typed as JSON. */
export function asJson(json: string): unknown {
  try {
    return JSON.parse(json) as unknown;
  } catch {
    throw new UsageError("the body is JSON; quote a text, as '\"done\"'");
  }
}
