// What of the arguments of a call stands in its audit record.

const SHOWN_MAX = 256;

/** Arguments as the audit holds them: scalars and short texts; of everything else that it was there. */
export function shorten(args: unknown, mask: (text: string) => string): Readonly<Record<string, unknown>> {
  const given = args as Readonly<Record<string, unknown>>;
  const shown: Record<string, unknown> = {};
  for (const name of Object.keys(given))
    if (given[name] !== undefined && name !== "signal" && name !== "path") shown[name] = shortenOne(given[name], mask);
  return shown;
}

function shortenOne(value: unknown, mask: (text: string) => string): unknown {
  // A secret is not found any more in a part of it.
  if (typeof value === "string") return value.length <= SHOWN_MAX ? value : `${mask(value).slice(0, SHOWN_MAX)}…`;
  if (typeof value !== "object" || value === null) return value;
  const json = JSON.stringify(value);
  return json.length <= 4 * SHOWN_MAX ? value : `${json.length} characters of JSON`;
}
