// What a user is told of a pattern or a zone that is none; what is due is the suite of the contract.

import { createCalendar } from "@ergos/drivers/calendar";
import { expect, test } from "vitest";

const calendar = createCalendar();

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
