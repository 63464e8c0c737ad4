// `ergos queue`: work queues and their tasks.

import { TASK_STATES, type Task, type TaskState } from "@ergos/kernel";
import {
  type Command,
  EXIT_OK,
  type Invocation,
  openDirectory,
  required,
  textOption,
  UsageError,
  wholeOption,
} from "../command.ts";
import { type Output, formatCount, table } from "../terminal.ts";
import { asJson } from "./trigger.ts";

export const queueCommand: Command = {
  name: "queue",
  arguments: 3,
  summary: "list tasks of work queues, or submit, cancel or resubmit one",
  usage: `list [queue] [--state ${TASK_STATES.join("|")}] [--limit N] | submit <queue> <json> [--priority critical|high|normal|low] [--key KEY] | cancel <id> | resubmit <id>`,
  examples: [
    "ergos queue list",
    "ergos queue list invoices --state failed",
    "ergos queue submit invoices '{ \"number\": 7 }' --priority high",
    "ergos queue resubmit 12",
  ],
  options: {
    state: { type: "string" },
    limit: { type: "string" },
    priority: { type: "string" },
    key: { type: "string" },
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
        const priority = textOption(invocation, "priority");
        if (priority !== undefined && !isPriority(priority))
          throw new UsageError(`--priority takes ${PRIORITY_NAMES.join(", ")}; found ${priority}`);
        const key = textOption(invocation, "key");
        await using os = await openDirectory(invocation);
        const id = await os.call("submit", {
          queue,
          body,
          ...(priority === undefined ? {} : { priority }),
          ...(key === undefined ? {} : { key }),
        });
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

async function list(invocation: Invocation): Promise<number> {
  const queue = invocation.positionals[1];
  const state = textOption(invocation, "state");
  if (state !== undefined && !isState(state))
    throw new UsageError(`--state takes ${TASK_STATES.join(", ")}; found ${state}`);
  const limit = wholeOption(invocation, "limit", 200);
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

const PRIORITY_NAMES = ["critical", "high", "normal", "low"] as const;
const isPriority = (text: string): text is (typeof PRIORITY_NAMES)[number] =>
  PRIORITY_NAMES.some((known) => known === text);
const isState = (text: string): text is TaskState => TASK_STATES.some((known) => known === text);

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
