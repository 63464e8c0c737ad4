// Durations as people write them: 30s, 5m, 1.5h, 1h30m, or milliseconds.

/** A duration in milliseconds; undefined if it is none. */
export function parseDuration(value: unknown): number | undefined {
  if (typeof value === "number") return Number.isFinite(value) && value >= 0 ? value : undefined;
  if (typeof value !== "string") return undefined;
  const text = value.trim();
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text);
  // Several in a row, as 1h30m.
  if (!/^(?:\d+(?:\.\d+)?\s*(?:ms|s|m|h|d)\s*)+$/.test(text)) return undefined;
  const parts = text.matchAll(/(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)/g);
  return parts.reduce((sum, [, amount, unit = "ms"]) => sum + Number(amount) * (UNITS[unit] ?? 1), 0);
}

/** A duration in milliseconds as people write it, in its largest unit that is whole. */
export function formatDuration(ms: number): string {
  const [unit = "ms", size = 1] = Object.entries(UNITS).findLast(([, one]) => ms >= one && ms % one === 0) ?? [];
  return `${ms / size}${unit}`;
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
