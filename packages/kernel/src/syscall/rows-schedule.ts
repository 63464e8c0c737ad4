// Rows about schedules.

import type { JsonValue } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import { ACTION_SCHEMA } from "../proc/action.ts";
import { MISSED, OVERLAPS, type Schedule, type ScheduleRequest } from "../proc/schedule-table.ts";
import type { Host } from "./host.ts";
import { placed } from "./placed.ts";
import { type AtPlace, type Target, args, atPlace, flag, integer, place, row } from "./row.ts";

/** The last instant that a date can be. */
const INSTANT_MAX = 8.64e15;

type Numbered = { readonly id: number };
const id = { type: "integer", minimum: 1, description: "number of a schedule" } as const;
const onSchedule = (_host: Host, _caller: unknown, a: Numbered): Target => ({ resource: `/proc/scheduled/${a.id}` });

export const SCHEDULE_ROWS = {
  schedule: row<ScheduleRequest & AtPlace, Promise<Schedule>>({
    right: "schedule.manage",
    kind: "mutation",
    summary: "has the kernel start a program, send a message or wake a process: at an instant, every so often, by cron",
    schema: args(
      {
        place,
        name: { type: "string", minLength: 1, maxLength: LIMITS.nameLengthMax },
        cron: { type: "string", minLength: 1, maxLength: 256 },
        zone: { type: "string", minLength: 1, maxLength: 64 },
        everyMs: { type: "integer", minimum: 1, maximum: LIMITS.sleepMsMax },
        at: { ...integer, maximum: INSTANT_MAX },
        inMs: { type: "integer", minimum: 0, maximum: LIMITS.sleepMsMax },
        action: ACTION_SCHEMA,
        missed: { type: "string", enum: MISSED },
        overlap: { type: "string", enum: OVERLAPS },
        times: { type: "integer", minimum: 1 },
      },
      ["action"],
    ),
    target: () => ({ resource: "/proc/scheduled" }),
    audited: ({ action: _action, ...rest }) => rest,
    recordedAt: atPlace,
    handle: (host, caller, { place: at, ...request }, _target, draft) =>
      placed<Schedule>(
        caller,
        "schedule",
        at,
        (record) => host.schedules.add(caller, request, (made) => record(made as Schedule & JsonValue), draft),
        // One that acts once may have acted: it is not made again.
        request.cron === undefined && request.everyMs === undefined ? {} : { ends: true },
      ),
  }),
  schedules: row<Record<string, never>, readonly Schedule[]>({
    right: "schedule.read",
    kind: "query",
    summary: "all schedules, the next to come first",
    schema: args({}),
    target: () => ({ resource: "/proc/scheduled" }),
    handle: (host) => host.vault.maskData(host.schedules.all),
  }),
  unschedule: row<Numbered, Promise<void>>({
    right: "schedule.manage",
    kind: "mutation",
    summary: "ends a schedule; what it has started goes on",
    schema: args({ id }, ["id"]),
    target: onSchedule,
    handle: (host, _caller, a, _target, draft) => host.schedules.remove(a.id, draft),
  }),
  setSchedule: row<Numbered & { readonly paused: boolean }, Promise<Schedule>>({
    right: "schedule.manage",
    kind: "mutation",
    summary: "lets a schedule wait, or go on with its next instant to come",
    schema: args({ id, paused: flag }, ["id", "paused"]),
    target: onSchedule,
    handle: (host, _caller, a, _target, draft) => host.schedules.pause(a.id, a.paused, draft),
  }),
} as const;
