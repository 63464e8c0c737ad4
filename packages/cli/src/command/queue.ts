// `ergos queue`: work queues and their tasks.

import { PRIORITIES, type Priority, TASK_STATES, type Task, type TaskRequest, present } from "@ergos/kernel";
import {
  type Command,
  EXIT_OK,
  type Invocation,
  choiceOption,
  durationOption,
  limitOption,
  openDirectory,
  required,
  textOption,
  UsageError,
  wholeOption,
} from "../command.ts";
import { type Output, formatCount, table } from "../terminal.ts";
import { asJson } from "./trigger.ts";

// The names of a constant table.
const PRIORITY_NAMES = Object.keys(PRIORITIES) as readonly Priority[];

export const queueCommand: Command = {
  name: "queue",
  needsData: ([what]) => what !== "submit",
  arguments: 3,
  summary: "list tasks of work queues, or submit, cancel or resubmit one",
  usage: `list [queue] [--state ${TASK_STATES.join("|")}] [--limit N] | submit <queue> <json> [--priority ${PRIORITY_NAMES.join("|")}] [--key KEY] [--delay DURATION] [--deadline DURATION] [--attempts N] [--retry-delay DURATION] | cancel <id> | resubmit <id>`,
  examples: [
    "ergos queue list",
    "ergos queue list invoices --state failed",
    "ergos queue submit invoices '{ \"number\": 7 }' --priority high",
    'ergos queue submit mails \'{ "to": "jane" }\' --delay 10m --attempts 5 --retry-delay 30s',
    "ergos queue resubmit 12",
  ],
  options: {
    state: { type: "string" },
    limit: { type: "string" },
    priority: { type: "string" },
    key: { type: "string" },
    delay: { type: "string" },
    deadline: { type: "string" },
    attempts: { type: "string" },
    "retry-delay": { type: "string" },
  },
  run: async (invocation) => {
    const what = invocation.positionals[0] ?? "list";
    const { out } = invocation;
    switch (what) {
      case "list":
        return list(invocation);
      case "submit": {
        const queue = required(invocation, 1, "the queue");
        const body = asJson(required(invocation, 2, "the task, as JSON"));
        const how = taskOptions(invocation);
        await using os = await openDirectory(invocation);
        const id = await os.call("submit", { queue, body, ...how });
        out.answer({ id, queue }, () => `task ${id} waits in ${queue}`);
        return EXIT_OK;
      }
      case "cancel":
      case "resubmit": {
        const text = required(invocation, 1, "the number of the task");
        if (!/^[1-9]\d{0,14}$/.test(text)) throw new UsageError(`a task has a number, found ${text}`);
        await using os = await openDirectory(invocation);
        const id = Number(text);
        await os.call(what === "cancel" ? "cancelTask" : "resubmit", { id });
        out.answer({ id }, () => `task ${id} ${what === "cancel" ? "is cancelled" : "waits again"}`);
        return EXIT_OK;
      }
      default:
        throw new UsageError(`queue takes list, submit, cancel or resubmit; found ${what}`);
    }
  },
};

function taskOptions(invocation: Invocation): Omit<TaskRequest, "queue" | "body"> {
  const attempts = textOption(invocation, "attempts");
  const delayMs = durationOption(invocation, "retry-delay");
  return present({
    priority: choiceOption(invocation, "priority", PRIORITY_NAMES),
    key: textOption(invocation, "key"),
    delayMs: durationOption(invocation, "delay"),
    deadlineMs: durationOption(invocation, "deadline"),
    attemptsMax: attempts === undefined ? undefined : wholeOption(invocation, "attempts", 1),
    retry: delayMs === undefined ? undefined : { delayMs },
  });
}

async function list(invocation: Invocation): Promise<number> {
  const queue = invocation.positionals[1];
  const state = choiceOption(invocation, "state", TASK_STATES);
  const limit = limitOption(invocation, 200);
  await using os = await openDirectory(invocation);
  const tasks = await os.call("tasks", {
    ...(queue === undefined ? {} : { queue }),
    ...(state === undefined ? {} : { state }),
    limit,
  });
  invocation.out.answer(tasks, (all) =>
    all.length === 0 ? "no tasks; add one with: ergos queue submit QUEUE JSON" : taskTable(all, invocation.out),
  );
  return EXIT_OK;
}

const COLOURS = { pending: "yellow", claimed: "cyan", completed: "green", failed: "red", cancelled: "yellow" } as const;
const BODY_SHOWN = 60;

const taskTable = (tasks: readonly Task[], out: Output): string =>
  table([
    ["ID", "QUEUE", "STATE", "BY", "CLAIMED BY", "ATTEMPTS", "BODY"],
    ...tasks.map(({ id, queue, state, by, claimant, attempts, body, error }) => [
      String(id),
      queue,
      out.style(COLOURS[state], state),
      String(by),
      claimant === undefined ? "" : String(claimant),
      formatCount(attempts),
      error === undefined ? (JSON.stringify(body) ?? "").slice(0, BODY_SHOWN) : error.message,
    ]),
  ]);
