// Calls that are made once at a place of a journal: their outcome is recorded in the commit of what they do.

import type { JsonValue } from "../base/json.ts";
import type { Along } from "../proc/action.ts";
import type { Process } from "../proc/process.ts";

/**
 * Does something once, over restarts too; without a place, or a journal, each time.
 * @param call as which it is recorded
 * @param act does it, and commits along what `record` makes of its outcome
 * @param more of what `ends` with the process
 */
export async function placed<T>(
  caller: Process,
  call: string,
  place: string | undefined,
  act: (record: (outcome: T & JsonValue) => Along) => Promise<T>,
  more: { readonly ends?: true } = {},
): Promise<T> {
  const journal = place === undefined ? undefined : caller.journal;
  if (place === undefined || journal === undefined) return act(() => ({}));
  const before = await journal.begin(place, call);
  // Recorded below.
  if (before !== undefined) return caller.replay(before) as T;
  try {
    const outcome = await act((value) => ({ appends: [journal.recordOf(place, value, more)] }));
    caller.usage.steps++;
    return outcome;
  } catch (error) {
    journal.retract(place);
    throw error;
  }
}
