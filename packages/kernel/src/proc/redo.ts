// Doing part of a run again: which of its outcomes count no more.

import { KernelError } from "../base/errno.ts";
import type { Journal } from "../journal/journal.ts";
import type { Program } from "./program.ts";

/** Names that a refusal lists. */
const KNOWN_MAX = 20;

type Places = readonly string[];

/**
 * The recorded places that count no more when some steps are done again: these, and what builds on them. A machine knows
 * which of its nodes that are; within one of them, and in any other program, it is what was recorded later.
 * @throws {ENOENT} nothing is recorded of such a step · {ENOTSUP} only where the program runs it is known what builds on it
 */
export function redonePlaces(journal: Journal, program: Program, steps: Places): Places {
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
  const redone = new Set(steps.flatMap((step) => redoneBy(step, places, program)));
  return journal.outdate((place) => redone.has(place), true);
}

function redoneBy(step: string, places: Places, program: Program): Places {
  const first = places.findIndex((place) => isOf(place, step));
  if (program.downstream === undefined) return places.slice(first);
  const later = new Set(places.slice(first));
  const node = nodeOf(step);
  const below = places.filter(program.downstream([node]));
  if (step === node) return below;
  // Of a node that is done again in part the rest stays recorded: an item of a map, the steps before this one.
  const part = partOf(step);
  const isDoneAgain = (place: string): boolean =>
    isOf(place, step) || step.startsWith(`${place}/`) || (partOf(place) === part && later.has(place));
  return below.filter((place) => nodeOf(place) !== node || isDoneAgain(place));
}

/** Whether a place is of a step, or of something inside of it, as an item of a map. */
const isOf = (place: string, step: string): boolean =>
  place === step || place.startsWith(`${step}/`) || place.startsWith(`${step}[`);

/** The node that a place is of, and the node or item of a map. */
const nodeOf = (place: string): string => /^[^/[]+/.exec(place)?.[0] ?? place;
const partOf = (place: string): string => /^[^/]+/.exec(place)?.[0] ?? place;

function knownSteps(places: Places): string {
  const steps = [...new Set(places.map(nodeOf))];
  const more = steps.length > KNOWN_MAX ? ` and ${steps.length - KNOWN_MAX} others` : "";
  return steps.length === 0 ? "no steps" : `${steps.slice(0, KNOWN_MAX).join(", ")}${more}`;
}
