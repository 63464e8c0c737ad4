// Doing part of a run again, or having a step of it come to something else: which of its outcomes count no more.

import { KernelError } from "../base/errno.ts";
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
export async function redo(journal: Journal, program: Program, at: number, to: Redoing): Promise<Redone> {
  const { from = [], set = {} } = to;
  const given = new Set(Object.keys(set));
  if (from.length === 0 && given.size === 0) return { places: [], records: [], answered: [] };
  assertTold(program);
  const recorded = journal.recordedPlaces;
  for (const step of from) if (!recorded.some((place) => isOf(place, step))) throw unknownStep(step, recorded);
  const isRecorded = new Set(recorded);
  const known = new Set([...recorded, ...journal.unknownPlaces]);
  for (const step of given) if (!known.has(step)) throw unknownStep(step, recorded);
  const asked = [...from, ...[...given].filter((step) => isRecorded.has(step))];
  const redone = new Set(asked.flatMap((step) => redoneBy(step, recorded, program)));
  // What is inside of a step that has its outcome is not asked for.
  const isGiven = (place: string): boolean => [...given].some((step) => isOf(place, step));
  const places = journal.outdate((place) => redone.has(place) && !isGiven(place), true);
  const records = places.length === 0 ? [] : [encodeRecord({ t: "outdated", at, places, again: true })];
  const answered: [string, Intent][] = [];
  // In the order in which they were recorded: what comes later builds on what came before.
  for (const place of known) {
    if (!given.has(place)) continue;
    const { record, answers } = await journal.substitute(place, set[place]);
    records.push(record);
    if (answers !== undefined) answered.push([place, answers]);
  }
  return { places, records, answered };
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

/** What becomes of outcomes between two readings of a journal. */
export function outlookOf(
  before: Journal,
  after: Journal,
  { changed, redone, from = [] }: { readonly changed: Places; readonly redone: Places } & Redoing,
): Outlook {
  const kept = new Set(after.recordedPlaces);
  const [byChange, byRedoing] = [new Set(changed), new Set(redone)];
  const why = (place: string): Repeated["why"] => {
    if (byChange.has(place)) return "changed";
    if (!byRedoing.has(place)) return "failed";
    return from.some((step) => isOf(place, step)) ? "asked" : "builds";
  };
  const again = before.recordedPlaces
    .filter((place) => !kept.has(place))
    .map((place) => {
      const { call, use } = before.recordedAt(place) ?? { call: "step" };
      return { place, call, why: why(place), ...use };
    });
  return { kept: kept.size, again, unknown: after.unknownPlaces };
}

const unknownStep = (step: string, recorded: Places): KernelError =>
  new KernelError(
    "ENOENT",
    `nothing is recorded of ${JSON.stringify(step)}, so there is nothing to do again from there; recorded are ${knownSteps(recorded)}`,
  );

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
