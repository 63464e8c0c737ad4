// What tells when something is due by a calendar: patterns of cron, and the time zones of the world.

export interface Calendar {
  /**
   * The first instant after `after` that a pattern names.
   * @param pattern five fields (minute, hour, day of month, month, day of week), six with seconds before them, or a
   *   nickname as `@daily`; days of month and week are alternatives where both are restricted
   * @param zone IANA name, as `Europe/Berlin`. Of a pattern whose times are all written out (numbers, lists and ranges),
   *   a time that a change of clocks leaves out is due when the clock goes on, and one that comes twice is due the first
   *   time. One with `*` or a step in its seconds, minutes or hours goes by what passes: what is left out is not
   *   due, and what comes twice is due twice.
   * @param after wall-clock milliseconds
   * @returns wall-clock milliseconds, or nothing where there is none
   * @throws {EINVAL} the pattern or the zone is none
   */
  next(pattern: string, zone: string, after: number): number | undefined;
}
