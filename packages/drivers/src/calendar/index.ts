// `@ergos/drivers/calendar`: cron patterns and time zones, as the library croner knows them.

import { type Calendar, KernelError, describe } from "@ergos/kernel";
import { Cron } from "croner";

const NICKNAME = /^@(yearly|annually|monthly|weekly|daily|midnight|hourly)$/;
const KNOWN_MAX = 1000;

/** Makes a calendar. Patterns that were parsed once are kept. */
export function createCalendar(): Calendar {
  const known = new Map<string, Cron>();
  const patternOf = (pattern: string, zone: string): Cron => {
    const key = `${zone} ${pattern}`;
    let cron = known.get(key);
    if (cron === undefined) {
      cron = parse(pattern, zone);
      if (known.size >= KNOWN_MAX) known.clear();
      known.set(key, cron);
    }
    return cron;
  };
  return { next: (pattern, zone, after) => patternOf(pattern, zone).nextRun(new Date(after))?.getTime() };
}

function parse(pattern: string, zone: string): Cron {
  const refuse = (why: string, cause?: unknown): KernelError =>
    new KernelError("EINVAL", `${JSON.stringify(pattern)} is no cron pattern: ${why}`, { cause });
  const fields = pattern.trim().split(/\s+/).length;
  if (!NICKNAME.test(pattern) && fields !== 5 && fields !== 6)
    throw refuse(`it has ${fields} fields; write minute hour day month weekday, or seconds before them`);
  try {
    Intl.DateTimeFormat("en", { timeZone: zone });
  } catch (cause) {
    throw new KernelError("EINVAL", `${JSON.stringify(zone)} is no time zone; write one as Europe/Berlin, or UTC`, {
      cause,
    });
  }
  try {
    return new Cron(pattern, { timezone: zone, paused: true, fixedTimeRule: "no-wildcard" });
  } catch (cause) {
    throw refuse(describe(cause).replace(/^CronPattern: /, ""), cause);
  }
}
