// Doing part of a run again: which of its outcomes count no more.

import { KernelError } from "../base/errno.ts";
import type { Journal } from "../journal/journal.ts";
import type { Program } from "./program.ts";

/** Names that a refusal lists. */
const KNOWN_MAX = 20;

/**
 * The recorded places that count no more when some steps are done again: these, and what builds on them. A machine knows
 * what that is; of any other program it is all that was recorded later.
 * @throws {ENOENT} nothing is recorded of such a step · {ENOTSUP} only where the program runs it is known what builds on it
 */
export function redonePlaces(journal: Journal, program: Program, steps: readonly string[]): readonly string[] {
  if (steps.length === 0) return [];
  if (program.tellsDefinitions === true)
    throw new KernelError(
      "ENOTSUP",
      `${program.name} runs in a thread or a process of its own, which alone knows what builds on a step; resume it without one, or run it inline`,
    );
  const places = journal.recordedPlaces;
  for (const step of steps)
    if (!places.some((place) => isOf(place, step)))
      throw new KernelError(
        "ENOENT",
        `nothing is recorded of ${JSON.stringify(step)}, so there is nothing to do again from there; recorded are ${knownSteps(places)}`,
      );
  if (program.downstream !== undefined) return journal.outdate(program.downstream(steps), true);
  const first = places.findIndex((place) => steps.some((step) => isOf(place, step)));
  const later = new Set(places.slice(first));
  return journal.outdate((place) => later.has(place), true);
}

/** Whether a place is of a step, or of something inside of it, as an item of a map. */
const isOf = (place: string, step: string): boolean =>
  place === step || place.startsWith(`${step}/`) || place.startsWith(`${step}[`);

function knownSteps(places: readonly string[]): string {
  const steps = [...new Set(places.map((place) => /^[^/[]+/.exec(place)?.[0] ?? place))];
  const more = steps.length > KNOWN_MAX ? ` and ${steps.length - KNOWN_MAX} others` : "";
  return steps.length === 0 ? "no steps" : `${steps.slice(0, KNOWN_MAX).join(", ")}${more}`;
}
