// The law of `Calendar` (abi/calendar.ts) as cases.

import type { Calendar } from "../abi/calendar.ts";
import { KernelError, isKernelError } from "../base/errno.ts";
import { type ConformanceCase, same } from "./case.ts";

/** Instants after one, as `2026-03-29T01:00` in UTC. */
function series(calendar: Calendar, pattern: string, zone: string, from: string, count: number): readonly string[] {
  const out: string[] = [];
  for (let at: number | undefined = Date.parse(from); out.length < count && at !== undefined;) {
    at = calendar.next(pattern, zone, at);
    if (at !== undefined) out.push(new Date(at).toISOString().slice(0, 16));
  }
  return out;
}

/** What comes next in a zone. */
type Expected = readonly [pattern: string, zone: string, from: string, instants: readonly string[]];

const all = (name: string, expected: readonly Expected[]): ConformanceCase<Calendar> => ({
  name,
  run: async (calendar) => {
    for (const [pattern, zone, from, instants] of expected)
      same(series(calendar, pattern, zone, from, Math.max(1, instants.length)), instants, `${pattern} in ${zone}`);
  },
});

export const CALENDAR_CASES: readonly ConformanceCase<Calendar>[] = [
  all("fields are numbers, lists, ranges, steps and names; days of month and week are alternatives", [
    ["*/20 9-17 * * MON-FRI", "UTC", "2026-01-02T17:30:00Z", ["2026-01-02T17:40", "2026-01-05T09:00"]],
    ["0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", ["2028-02-29T00:00", "2032-02-29T00:00"]],
    ["0 12 13 * FRI", "UTC", "2026-01-01T00:00:00Z", ["2026-01-02T12:00", "2026-01-09T12:00", "2026-01-13T12:00"]],
    ["30 0 0 1 JAN,JUL *", "UTC", "2026-01-01T00:00:00Z", ["2026-01-01T00:00", "2026-07-01T00:00"]],
    ["@weekly", "UTC", "2026-01-01T00:00:00Z", ["2026-01-04T00:00"]],
    ["0 0 30 2 *", "UTC", "2026-01-01T00:00:00Z", []],
  ]),
  // Where the clock goes forward and back in 2026; on Lord Howe by half an hour, and in the south.
  all("a time that is written out and left out is due when the clock goes on", [
    ["30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", ["2026-03-29T01:00", "2026-03-30T00:30"]],
    ["30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", ["2026-03-08T07:00", "2026-03-09T06:30"]],
    ["15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", ["2026-10-03T15:30", "2026-10-04T15:15"]],
    ["15,45 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", ["2026-03-29T01:00", "2026-03-30T00:15"]],
  ]),
  all("one that comes twice is due once", [
    ["30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", ["2026-10-25T00:30", "2026-10-26T01:30"]],
    ["30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", ["2026-11-01T05:30", "2026-11-02T06:30"]],
    ["45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", ["2026-04-04T14:45", "2026-04-05T15:15"]],
    [
      "30 1-3 * * *",
      "Europe/Berlin",
      "2026-10-24T12:00:00Z",
      ["2026-10-24T23:30", "2026-10-25T00:30", "2026-10-25T02:30"],
    ],
  ]),
  all("what goes by the time that passes neither stops nor hurries", [
    [
      "30 * * * *",
      "Europe/Berlin",
      "2026-10-24T23:45:00Z",
      ["2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T02:30"],
    ],
    ["30 * * * *", "America/New_York", "2026-11-01T04:45:00Z", ["2026-11-01T05:30", "2026-11-01T06:30"]],
    ["*/30 * * * *", "Australia/Lord_Howe", "2026-04-04T14:20:00Z", ["2026-04-04T14:30", "2026-04-04T15:00"]],
    ["*/30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", ["2026-03-30T00:00"]],
  ]),
  {
    name: "a day has as many minutes as it has, and no minute comes twice",
    run: async (calendar) => {
      for (const [from, minutes] of [
        ["2026-03-28T23:00:00Z", 23 * 60],
        ["2026-10-24T22:00:00Z", 25 * 60],
      ] as const) {
        const end = calendar.next("0 0 * * *", "Europe/Berlin", Date.parse(from));
        same(((end ?? 0) - Date.parse(from)) / 60_000, minutes, "minutes of the day");
        const every = series(calendar, "* * * * *", "Europe/Berlin", from, minutes);
        same(new Set(every).size, minutes, "different minutes");
        same(Date.parse(`${every.at(-1) ?? ""}Z`), end, "the last one");
      }
    },
  },
  {
    name: "what is no pattern, and no zone, is EINVAL each time",
    run: async (calendar) => {
      for (const [pattern, zone] of [
        ["61 * * * *", "UTC"],
        ["* * * *", "UTC"],
        ["0 0 0 1 1 * 2030", "UTC"],
        ["", "UTC"],
        ["5-1 * * * *", "UTC"],
        ["* * * FOO *", "UTC"],
        ["@sometimes", "UTC"],
        ["* * * * *", "Mars/Base"],
      ] as const)
        for (let round = 0; round < 2; round++) refuses(() => calendar.next(pattern, zone, 0), `${pattern} in ${zone}`);
    },
  },
];

function refuses(ask: () => unknown, what: string): void {
  try {
    ask();
  } catch (error) {
    if (isKernelError(error) && error.code === "EINVAL") return;
    throw error;
  }
  throw new KernelError("EFAULT", `${what}: expected EINVAL, found nothing thrown`);
}
