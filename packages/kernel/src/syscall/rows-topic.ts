// Rows about topics and triggers.

import { isEventName } from "../abi/event.ts";
import { KernelError } from "../base/errno.ts";
import { type JsonValue, encodeJson } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { type ErrorGroup, groupErrors } from "../ipc/error-groups.ts";
import { TOPIC_LENGTH_MAX, assertTopic } from "../ipc/topic.ts";
import { ACTION_SCHEMA, merge } from "../proc/action.ts";
import { roleOf } from "../proc/role.ts";
import type { Trigger, TriggerRequest } from "../proc/trigger-table.ts";
import { placed } from "./placed.ts";
import { type AtPlace, anything, args, atPlace, integer, place, row, text } from "./row.ts";

const topic = { type: "string", minLength: 1, maxLength: TOPIC_LENGTH_MAX } as const;
const where = { type: "object", properties: {}, additionalProperties: true } as const;
const ERRORS_LISTED = 100;
const atTriggers = { resource: "/sys/triggers" } as const;

export const TOPIC_ROWS = {
  publish: row<{ readonly topic: string; readonly body?: unknown } & AtPlace, Promise<void>>({
    right: "msg.send",
    kind: "mutation",
    summary: "tells everybody who listens to a topic; at a place once, over restarts too",
    schema: args({ place, topic, body: anything }, ["topic"]),
    target: (_host, _caller, a) => ({ resource: a.topic }),
    audited: ({ body: _body, ...rest }) => rest,
    recordedAt: atPlace,
    handle: async (host, caller, { place: at, topic: name, body }, _target, draft) => {
      assertTopic(name, isEventName);
      if (roleOf(caller.identity) === "task")
        throw new KernelError("EPERM", `process ${caller.pid} is a task, which writes to its parent alone`, {
          syscall: "publish",
          pid: caller.pid,
        });
      const json = encodeJson(body, `what is published under ${name}`);
      if (json !== undefined && json.length > LIMITS.publicationBytesMax)
        throw new KernelError(
          "E2BIG",
          `a publication holds at most ${LIMITS.publicationBytesMax} bytes of JSON, found ${json.length}; write it to a file and publish its path`,
          { syscall: "publish", pid: caller.pid },
        );
      const { user } = caller.identity;
      const data = body === undefined ? { topic: name, user } : { topic: name, user, body };
      await placed<null>(caller, "publish", at, async (record) => {
        await host.committer.commit(
          merge({}, record(null)),
          [{ name: "topic.published", pid: caller.pid, data }],
          draft,
        );
        return null;
      });
    },
  }),
  errors: row<
    { readonly since?: number; readonly program?: string; readonly limit?: number },
    Promise<readonly ErrorGroup[]>
  >({
    right: "event.subscribe",
    kind: "query",
    summary:
      "errors with which processes and tasks have failed lately, those that are the same as one, the newest first",
    schema: args({ since: integer, program: text, limit: { type: "integer", minimum: 1, maximum: LIMITS.pageMax } }),
    target: () => ({ resource: "/sys/events" }),
    handle: async (host, _caller, { limit = ERRORS_LISTED, ...filter }) =>
      host.vault.maskData((await groupErrors(host.bus, host.platform, filter)).slice(0, limit)),
  }),
  trigger: row<TriggerRequest & AtPlace, Promise<Trigger>>({
    right: "trigger.manage",
    kind: "mutation",
    summary: "has the kernel start a program, send a message or wake a process for each event of a topic",
    schema: args(
      {
        place,
        name: { type: "string", minLength: 1, maxLength: LIMITS.nameLengthMax },
        topic,
        where,
        action: ACTION_SCHEMA,
        times: { type: "integer", minimum: 1 },
        threshold: {
          type: "object",
          properties: {
            count: { type: "integer", minimum: 1, maximum: 10_000 },
            withinMs: { type: "integer", minimum: 1, maximum: 366 * 86_400_000 },
          },
          required: ["count", "withinMs"],
          additionalProperties: false,
        },
      },
      ["topic", "action"],
    ),
    target: () => atTriggers,
    alsoNeeds: () => [{ right: "event.subscribe", resource: "/sys/events" }],
    audited: ({ action: _action, ...rest }) => rest,
    recordedAt: atPlace,
    handle: (host, caller, { place: at, ...request }, _target, draft) =>
      placed<Trigger>(
        caller,
        "trigger",
        at,
        (record) => host.triggers.add(caller, request, (made) => record(made as Trigger & JsonValue), draft),
        // One that acts a few times may have acted: it is not made again.
        request.times === undefined ? { ends: true } : {},
      ),
  }),
  triggers: row<Record<string, never>, readonly Trigger[]>({
    right: "trigger.read",
    kind: "query",
    summary: "all triggers",
    schema: args({}),
    target: () => atTriggers,
    handle: (host) => host.vault.maskData(host.triggers.all),
  }),
  untrigger: row<{ readonly id: number }, Promise<void>>({
    right: "trigger.manage",
    kind: "mutation",
    summary: "ends a trigger; what it has started goes on",
    schema: args({ id: { type: "integer", minimum: 1, description: "number of a trigger" } }, ["id"]),
    target: (_host, _caller, a) => ({ resource: `/sys/triggers/${a.id}` }),
    handle: (host, _caller, a, _target, draft) => host.triggers.remove(a.id, draft),
  }),
} as const;
