// Lists of what came to nothing.

/**
 * A list in which something is missing, as that of many calls that return nothing, has `null` there: JSON knows nothing
 * else, and whoever reads a list sees the same now and after a restart. Anything else stays as it is.
 */
export function withNulls<T>(value: T): T {
  if (!Array.isArray(value) || !value.includes(undefined)) return value;
  // As what was given, which has lost its types already.
  return Array.from(value, (one: unknown) => (one === undefined ? null : one)) as T;
}
