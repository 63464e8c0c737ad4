// Cron patterns across changes of clocks, and what is none.

import { createCalendar } from "@ergos/drivers/calendar";
import { describe, expect, test } from "vitest";

const calendar = createCalendar();
/** The next instants after one, as they are written with the offset of the zone. */
function series(pattern: string, zone: string, from: string, count: number): readonly string[] {
  const out: string[] = [];
  for (let at: number | undefined = Date.parse(from); out.length < count && at !== undefined;) {
    at = calendar.next(pattern, zone, at);
    if (at !== undefined) out.push(new Date(at).toISOString().slice(0, 16));
  }
  return out;
}

describe("changes of clocks", () => {
  // Where the clock goes forward and back in 2026, with the hour that is missing or comes twice.
  test.each([
    {
      zone: "Europe/Berlin",
      spring: ["2026-03-28T12:00:00Z", ["2026-03-29T01:00", "2026-03-30T00:30", "2026-03-31T00:30"]],
      autumn: ["2026-10-24T12:00:00Z", ["2026-10-25T00:30", "2026-10-26T01:30"]],
      hours: ["2026-10-24T23:45:00Z", ["2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T02:30"]],
    },
    {
      zone: "America/New_York",
      spring: ["2026-03-07T12:00:00Z", ["2026-03-08T07:00", "2026-03-09T06:30", "2026-03-10T06:30"]],
      autumn: ["2026-10-31T12:00:00Z", ["2026-11-01T07:30", "2026-11-02T07:30"]],
      hours: ["2026-11-01T04:45:00Z", ["2026-11-01T05:30", "2026-11-01T06:30", "2026-11-01T07:30"]],
    },
    {
      // Half an hour, and in the south.
      zone: "Australia/Lord_Howe",
      spring: ["2026-10-03T12:00:00Z", ["2026-10-03T15:30", "2026-10-04T15:30", "2026-10-05T15:30"]],
      autumn: ["2026-04-04T12:00:00Z", ["2026-04-04T16:00", "2026-04-05T16:00"]],
      hours: ["2026-04-04T14:20:00Z", ["2026-04-04T14:30", "2026-04-04T15:00", "2026-04-04T16:00"]],
    },
  ] as const)("$zone", ({ zone, spring, autumn, hours }) => {
    expect(series("30 2 * * *", zone, spring[0], spring[1].length)).toEqual(spring[1]);
    expect(series("30 2 * * *", zone, autumn[0], autumn[1].length)).toEqual(autumn[1]);
    expect(series("30 * * * *", zone, hours[0], hours[1].length)).toEqual(hours[1]);
  });

  test("lists and ranges are times that are written out; steps go by the time that passes", () => {
    expect(series("15,45 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 3)).toEqual([
      "2026-03-29T01:00",
      "2026-03-30T00:15",
      "2026-03-30T00:45",
    ]);
    expect(series("30 1-3 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 4)).toEqual([
      "2026-10-24T23:30",
      "2026-10-25T00:30",
      "2026-10-25T02:30",
      "2026-10-26T00:30",
    ]);
    expect(series("*/30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 1)).toEqual(["2026-03-30T00:00"]);
    expect(series("*/30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 5)).toEqual([
      "2026-10-25T00:00",
      "2026-10-25T00:30",
      "2026-10-25T01:00",
      "2026-10-25T01:30",
      "2026-10-26T01:00",
    ]);
  });

  test("a day has as many minutes as it has, and no minute comes twice", () => {
    for (const [from, minutes] of [
      ["2026-03-28T23:00:00Z", 23 * 60],
      ["2026-10-24T22:00:00Z", 25 * 60],
    ] as const) {
      const end = calendar.next("0 0 * * *", "Europe/Berlin", Date.parse(from));
      expect(((end ?? 0) - Date.parse(from)) / 60_000).toBe(minutes);
      const all = series("* * * * *", "Europe/Berlin", from, minutes);
      expect(new Set(all).size).toBe(minutes);
      expect(Date.parse(`${all.at(-1) ?? ""}Z`)).toBe(end);
    }
  });
});

test.each([
  ["*/20 9-17 * * MON-FRI", "2026-01-02T17:30:00Z", ["2026-01-02T17:40", "2026-01-05T09:00"]],
  ["0 0 29 2 *", "2026-01-01T00:00:00Z", ["2028-02-29T00:00", "2032-02-29T00:00"]],
  // Days of the month or of the week: either will do.
  ["0 12 13 * FRI", "2026-01-01T00:00:00Z", ["2026-01-02T12:00", "2026-01-09T12:00", "2026-01-13T12:00"]],
  ["30 0 0 1 JAN,JUL *", "2026-01-01T00:00:00Z", ["2026-01-01T00:00", "2026-07-01T00:00"]],
  ["@weekly", "2026-01-01T00:00:00Z", ["2026-01-04T00:00"]],
  ["0 0 30 2 *", "2026-01-01T00:00:00Z", []],
] as const)("%s", (pattern, from, instants) => {
  expect(series(pattern, "UTC", from, Math.max(1, instants.length))).toEqual(instants);
});

test.each([
  ["61 * * * *", "UTC", /minute: 61/],
  ["* * * *", "UTC", /4 fields/],
  ["0 0 0 1 1 * 2030", "UTC", /7 fields/],
  ["", "UTC", /1 fields|0 fields/],
  ["5-1 * * * *", "UTC", /5-1/],
  ["* * * FOO *", "UTC", /no cron pattern/],
  ["@sometimes", "UTC", /no cron pattern/],
  ["* * * * *", "Mars/Base", /no time zone/],
])("%s in %s is refused", (pattern, zone, message) => {
  expect(() => calendar.next(pattern, zone, 0)).toThrow(message);
  expect(() => calendar.next(pattern, zone, 0)).toThrow(/EINVAL/);
});
