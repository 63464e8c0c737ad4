// What tells when something is due by a calendar: patterns of cron, and the time zones of the world.

export interface Calendar {
  /**
   * The first instant after `after` that a pattern names.
   * @param pattern five fields (minute, hour, day of month, month, day of week), six with seconds before them, or a
   *   nickname as `@daily`; days of month and week are alternatives where both are restricted
   * @param zone IANA name, as `Europe/Berlin`. A time that a change of clocks leaves out is due when the clock goes on;
   *   one that comes twice is due the first time, and both times where the pattern names every hour.
   * @param after wall-clock milliseconds
   * @returns wall-clock milliseconds, or nothing where there is none
   * @throws {EINVAL} the pattern or the zone is none
   */
  next(pattern: string, zone: string, after: number): number | undefined;
}
