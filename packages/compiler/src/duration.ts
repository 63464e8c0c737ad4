// Durations as people write them: 30s, 5m, 1.5h, or milliseconds.

/** A duration in milliseconds; undefined if it is none. */
export function parseDuration(value: unknown): number | undefined {
  if (typeof value === "number") return Number.isFinite(value) && value >= 0 ? value : undefined;
  if (typeof value !== "string") return undefined;
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?$/.exec(value.trim());
  if (match === null) return undefined;
  return Number(match[1]) * (UNITS[match[2] ?? "ms"] ?? 1);
}

/** A duration in milliseconds as people write it, in its largest unit that is whole. */
export function formatDuration(ms: number): string {
  const [unit = "ms", size = 1] = Object.entries(UNITS).findLast(([, one]) => ms >= one && ms % one === 0) ?? [];
  return `${ms / size}${unit}`;
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
