// Doing part of a run again, or having a step of it come to something else: which of its outcomes count no more.

import { KernelError } from "../base/errno.ts";
import { LIMITS } from "../base/limits.ts";
import type { Intent, Journal } from "../journal/journal.ts";
import { type CallUsage, encodeRecord } from "../journal/record.ts";
import type { Program } from "./program.ts";

/** Names that a refusal lists. */
const KNOWN_MAX = 20;

type Places = readonly string[];

/** What is to be different of what a run has recorded. */
export interface Redoing {
  /** Steps that are done anew with what builds on them, though they are recorded. */
  readonly from?: Places | undefined;
  /** What steps come to instead, by their places; what builds on them is done anew. */
  readonly set?: Readonly<Record<string, unknown>> | undefined;
}

export interface Redone {
  /** Where outcomes count no more. */
  readonly places: Places;
  /** What its journal says of it, for the commit with which the run goes on. */
  readonly records: readonly string[];
  /** Calls without an outcome that have one now, and their places. */
  readonly answered: readonly (readonly [string, Intent])[];
}

/**
 * Changes what a loaded journal has recorded. A machine knows which of its nodes build on others; within one of them, and
 * in any other program, it is what was recorded later.
 * @throws {ENOENT} nothing is recorded of such a step · {EINVAL} {E2BIG} a value is not JSON, or too large
 * · {ENOTSUP} only where the program runs it is known what builds on it
 */
export async function redo(
  journal: Journal,
  program: Program,
  { from = [], set = {}, at }: Redoing & { readonly at: number },
): Promise<Redone> {
  const given = new Set(Object.keys(set));
  const places = outdatedBy(journal, program, from, given);
  const records = places.length === 0 ? [] : [encodeRecord({ t: "outdated", at, places, again: true })];
  const gone = new Set(places);
  const answered = [...journal.dropIntents((place) => gone.has(place))];
  // In the order in which they were recorded: what comes later builds on what came before.
  for (const place of new Set([...journal.recordedPlaces, ...given])) {
    if (!given.has(place)) continue;
    answered.push(...journal.dropIntents((one) => one === place || one.startsWith(`${place}/`)));
    records.push(await journal.substitute(place, set[place]));
  }
  return { places, records, answered };
}

/** Drops the outcomes of a loaded journal that count no more, and returns their places. */
function outdatedBy(journal: Journal, program: Program, from: Places, given: ReadonlySet<string>): Places {
  if (from.length === 0 && given.size === 0) return [];
  assertTold(program);
  if (given.size > LIMITS.redoneMax)
    throw new KernelError("EINVAL", `${given.size} steps are given another outcome; at most ${LIMITS.redoneMax} are`);
  const recorded = journal.recordedPlaces;
  const open = journal.openPlaces;
  for (const step of from) if (!recorded.some((place) => isOf(place, step))) throw notRecorded(step, recorded);
  const isRecorded = new Set(recorded);
  const known = new Set(journal.knownPlaces);
  // Of a step whose call was cut off nothing is recorded but that.
  const isOpen = (step: string): boolean => open.some((place) => place.startsWith(`${step}/`));
  for (const step of given) if (!known.has(step) && !isOpen(step)) throw notKnown(step, known);
  const redone = redoneBy([...from, ...[...given].filter((step) => isRecorded.has(step))], [...known], program);
  // What is inside of a step that has its outcome is not asked for.
  return journal.outdate((place) => redone.has(place) && !isWithin(place, given), true);
}

/** @throws {ENOTSUP} only where the program runs it is known what builds on a step, and what has changed */
export function assertTold({ name, tellsDefinitions }: Program): void {
  if (tellsDefinitions !== true) return;
  throw new KernelError(
    "ENOTSUP",
    `${name} runs in a thread or a process of its own, which alone knows what builds on a step; resume it without one, or run it inline`,
  );
}

/** What a resumption would do. */
export interface Outlook {
  /** Recorded outcomes that it takes from the journal. */
  readonly kept: number;
  /** Those that count no more, in the order in which they were recorded. */
  readonly again: readonly Repeated[];
  /** Places of calls that were cut off and may have acted. */
  readonly unknown: readonly string[];
}

export interface Repeated extends Partial<CallUsage> {
  readonly place: string;
  /** The call that it is of: `step`, or a row of the syscall table. */
  readonly call: string;
  /** It was named · builds on that · is another since its program was changed · has failed, or ended with its process. */
  readonly why: "asked" | "builds" | "changed" | "failed";
}

/** What becomes of the outcomes of a journal that is read twice: as it is, and to be changed. */
export function outlookOf(
  before: Journal,
  after: Journal,
  program: Program,
  {
    changed,
    hasFailed,
    from = [],
    set = {},
  }: { readonly changed: Places; /** It has ended, and is tried again. */ readonly hasFailed?: boolean } & Redoing,
): Outlook {
  const given = new Set(Object.keys(set));
  const redone = outdatedBy(after, program, from, given);
  if (hasFailed !== undefined) after.forgetFailures(hasFailed);
  const kept = new Set(after.recordedPlaces);
  const [byChange, byRedoing] = [new Set(changed), new Set(redone)];
  const why = (place: string): Repeated["why"] => {
    if (byChange.has(place)) return "changed";
    if (!byRedoing.has(place)) return "failed";
    return from.some((step) => isOf(place, step)) ? "asked" : "builds";
  };
  const again = before.recordedPlaces
    .filter((place) => !kept.has(place) && !given.has(place))
    .map((place) => {
      const { call, use } = before.recordedAt(place) ?? { call: "step" };
      return { place, call, why: why(place), ...use };
    });
  return { kept: kept.size, again, unknown: before.unknownPlaces.filter((place) => !isWithin(place, given)) };
}

const notRecorded = (step: string, recorded: Places): KernelError =>
  new KernelError(
    "ENOENT",
    `nothing is recorded of ${JSON.stringify(step)}, so there is nothing to do again from there; recorded are ${listed(recorded.map(nodeOf))}`,
  );

const notKnown = (step: string, known: Iterable<string>): KernelError =>
  new KernelError(
    "ENOENT",
    `no step that can come to something else is at ${JSON.stringify(step)}: one that was done, that has failed, or whose call was cut off, by its whole place; these are ${listed(known)}`,
  );

/** The recorded places that count no more when some steps are done again. */
function redoneBy(steps: Places, places: Places, program: Program): ReadonlySet<string> {
  const { downstream } = program;
  if (downstream !== undefined) return new Set(steps.flatMap((step) => redoneInPlan(step, places, downstream)));
  const first = places.findIndex((place) => steps.some((step) => isOf(place, step)));
  return new Set(first < 0 ? [] : places.slice(first));
}

function redoneInPlan(step: string, places: Places, downstream: NonNullable<Program["downstream"]>): Places {
  const node = nodeOf(step);
  const below = places.filter(downstream([node]));
  if (step === node) return below;
  // Of a node that is done again in part the rest stays recorded: an item of a map, the steps before this one.
  const later = new Set(places.slice(places.findIndex((place) => isOf(place, step))));
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

/** Whether a place is one of some steps, or inside of one. */
const isWithin = (place: string, steps: ReadonlySet<string>): boolean => partsOf(place).some((part) => steps.has(part));

/** A place, and all that it is inside of. */
const partsOf = (place: string): Places => [
  ...Array.from(place.matchAll(/[/[]/g), ({ index }) => place.slice(0, index)),
  place,
];

function listed(names: Iterable<string>): string {
  const all = [...new Set(names)];
  const more = all.length > KNOWN_MAX ? ` and ${all.length - KNOWN_MAX} others` : "";
  return all.length === 0 ? "none" : `${all.slice(0, KNOWN_MAX).join(", ")}${more}`;
}
