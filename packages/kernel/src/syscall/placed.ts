// Calls that are made once at a place of a journal: their outcome is recorded in the commit of what they do.

import type { JsonValue } from "../base/json.ts";
import type { Along } from "../proc/action.ts";
import type { Process } from "../proc/process.ts";

/**
 * Takes a place for a call: what is recorded there, or else what the call comes to, which it records itself. A failure
 * gives the place back.
 */
export function taken<T>(caller: Process, call: string, place: string, make: () => Promise<T>): Promise<T> {
  const { journal } = caller;
  if (journal === undefined) return make();
  const before = journal.begin(place, call);
  // Recorded by the same call of an earlier life.
  if (before !== undefined) return Promise.resolve(before).then((outcome) => caller.replay(outcome) as T);
  try {
    const made = make();
    // Nothing else is left standing around a call that waits: a host may have very many of them.
    made.catch(() => journal.retract(place));
    return made;
  } catch (error) {
    journal.retract(place);
    throw error;
  }
}

/**
 * Does something once, over restarts too; without a place, or a journal, each time.
 * @param call as which it is recorded
 * @param act does it, and commits along what `record` makes of its outcome
 * @param more of what `ends` with the process
 */
export function placed<T>(
  caller: Process,
  call: string,
  place: string | undefined,
  act: (record: (outcome: T & JsonValue) => Along) => Promise<T>,
  more: { readonly ends?: true } = {},
): Promise<T> {
  const journal = place === undefined ? undefined : caller.journal;
  if (place === undefined || journal === undefined) return act(() => ({}));
  return taken(caller, call, place, async () => {
    const outcome = await act((value) => ({ appends: [journal.recordOf(place, value, more)] }));
    caller.usage.steps++;
    return outcome;
  });
}
