// Rows about work queues.

import { type ErrorRecord, knownError } from "../base/errno.ts";
import type { JsonValue } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { PRIORITIES } from "../ipc/mailbox.ts";
import { merge } from "../proc/action.ts";
import { type Claim, TASK_STATES, type Task, type TaskFilter, type TaskRequest } from "../proc/task.ts";
import { ROLES, TIERS } from "../proc/role.ts";
import type { Host } from "./host.ts";
import { placed } from "./placed.ts";
import {
  type AtPlace,
  type Target,
  anything,
  args,
  atPlace,
  errorRecord,
  flag,
  integer,
  pid,
  place,
  row,
} from "./row.ts";

type Numbered = { readonly id: number };
const id = { type: "integer", minimum: 1, description: "number of a task" } as const;
const queue = { type: "string", minLength: 1, maxLength: 128, description: "name of a queue" } as const;
const milliseconds = { type: "integer", minimum: 1, maximum: 366 * 86_400_000 } as const;
const onQueue = (_host: Host, _caller: unknown, a: { readonly queue: string }): Target => ({
  resource: `/srv/queues/${a.queue}`,
});
/** The right is that on the queue which the task is in. */
async function onTask(host: Host, _caller: unknown, a: Numbered): Promise<Target> {
  const task = await host.queues.get(a.id);
  return { resource: task === undefined ? "/srv/queues" : `/srv/queues/${task.queue}` };
}

export const QUEUE_ROWS = {
  submit: row<TaskRequest & AtPlace, Promise<number>>({
    right: "queue.submit",
    kind: "mutation",
    summary: "adds a task to a queue; `key` makes a repetition the same task",
    schema: args(
      {
        place,
        queue,
        body: anything,
        priority: { type: "string", enum: Object.keys(PRIORITIES) },
        role: { type: "string", enum: Object.keys(ROLES) },
        tier: { type: "string", enum: TIERS },
        deadlineMs: milliseconds,
        delayMs: milliseconds,
        attemptsMax: { type: "integer", minimum: 1, maximum: 1000 },
        retry: {
          type: "object",
          properties: {
            delayMs: milliseconds,
            factor: { type: "number", minimum: 1, maximum: 100 },
            maxDelayMs: milliseconds,
          },
          required: ["delayMs"],
          additionalProperties: false,
        },
        key: { type: "string", minLength: 1, maxLength: 128 },
      },
      ["queue", "body"],
    ),
    target: onQueue,
    audited: ({ body: _body, ...rest }) => rest,
    recordedAt: atPlace,
    handle: (host, caller, { place: at, ...request }, _target, draft) =>
      placed<number>(caller, "submit", at, (record) => host.queues.submit(caller, request, record, draft)),
  }),
  claim: row<Claim & AtPlace, Promise<Task | null>>({
    right: "queue.claim",
    kind: "mutation",
    waitsIdly: true,
    waits: true,
    summary:
      "takes the next task of a queue that the caller may do, waiting for it; null when none came within `waitMs`",
    schema: args({ place, queue, waitMs: integer, leaseMs: milliseconds }, ["queue"]),
    target: onQueue,
    audit: "place",
    recordedAt: atPlace,
    handle: (host, caller, { place: at, ...claim }, _target, draft) =>
      placed<Task | null>(caller, "claim", at, (record) =>
        host.queues.claim(caller, claim, (task) => record(task as (Task & JsonValue) | null), draft),
      ),
  }),
  renew: row<Numbered, void>({
    right: "queue.claim",
    kind: "query",
    summary: "keeps a claimed task for as long again",
    schema: args({ id }, ["id"]),
    target: onTask,
    handle: (host, caller, a) => host.queues.renew(caller, a.id),
  }),
  complete: row<Numbered & { readonly result?: unknown } & AtPlace, Promise<null>>({
    right: "queue.claim",
    kind: "mutation",
    summary: "ends a claimed task with its result",
    schema: args({ place, id, result: anything }, ["id"]),
    target: onTask,
    audited: ({ id: number }) => ({ id: number }),
    recordedAt: atPlace,
    handle: (host, caller, a, _target, draft) =>
      placed<null>(caller, "complete", a.place, async (record) => {
        await host.queues.complete(caller, a.id, a.result, () => record(null), draft);
        return null;
      }),
  }),
  fail: row<Numbered & { readonly error: ErrorRecord; readonly again?: boolean } & AtPlace, Promise<null>>({
    right: "queue.claim",
    kind: "mutation",
    summary:
      "gives a claimed task back after a failure; it is tried again unless `again` is false or that was its last attempt",
    schema: args({ place, id, error: errorRecord, again: flag }, ["id", "error"]),
    target: onTask,
    audited: ({ id: number, error }) => ({ id: number, error: error.code }),
    recordedAt: atPlace,
    handle: (host, caller, a, _target, draft) =>
      placed<null>(caller, "fail", a.place, async (record) => {
        await host.queues.fail(caller, a.id, knownError(a.error), a.again !== false, () => record(null), draft);
        return null;
      }),
  }),
  cancelTask: row<Numbered, Promise<void>>({
    right: "queue.manage",
    kind: "mutation",
    summary: "ends a task that nobody shall do any more",
    schema: args({ id }, ["id"]),
    target: onTask,
    handle: (host, _caller, a, _target, draft) => host.queues.cancel(a.id, draft),
  }),
  resubmit: row<Numbered, Promise<void>>({
    right: "queue.manage",
    kind: "mutation",
    summary: "has a task that failed or was cancelled done after all",
    schema: args({ id }, ["id"]),
    target: onTask,
    handle: (host, _caller, a, _target, draft) => host.queues.resubmit(a.id, draft),
  }),
  tasks: row<TaskFilter, Promise<readonly Task[]>>({
    right: "queue.read",
    kind: "query",
    summary: "tasks by queue, state and process, oldest first",
    schema: args({
      queue,
      state: { type: "string", enum: TASK_STATES },
      claimant: pid,
      by: pid,
      after: integer,
      limit: { type: "integer", minimum: 1, maximum: LIMITS.pageMax },
    }),
    target: (_host, _caller, a) => ({ resource: a.queue === undefined ? "/srv/queues" : `/srv/queues/${a.queue}` }),
    handle: async (host, _caller, filter) => host.vault.maskData(await host.queues.list(filter)),
  }),
  taskEnd: row<Numbered & AtPlace & { readonly signal?: AbortSignal }, Promise<Task>>({
    right: "queue.read",
    kind: "mutation",
    waits: true,
    waitsIdly: true,
    summary: "settles with a task once it is over",
    schema: args({ place, id }, ["id"]),
    target: onTask,
    audit: "place",
    recordedAt: atPlace,
    handle: (host, caller, a, _target, draft) =>
      placed<Task>(caller, "taskEnd", a.place, async (record) => {
        const task = await host.queues.settled(caller, a.id, a.signal);
        const along = record(task as Task & JsonValue);
        if (Object.keys(along).length > 0) await host.committer.commit(merge({}, along), undefined, draft);
        return task;
      }),
  }),
} as const;
