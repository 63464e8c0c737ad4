// Records of a process's journal. `docs/spec/journal.md` is their law; a reader passes over types it does
// not know within one format version.

import { type ErrorRecord, KernelError, fromErrorRecord } from "../base/errno.ts";
import type { ContentId, Seq } from "../base/id.ts";
import type { JsonValue } from "../base/json.ts";
import type { Reservation } from "../budget/account.ts";
import type { Called } from "../budget/ledger.ts";

export const JOURNAL_FORMAT = 2;

/** What a step came to. A value that is absent was `undefined`. */
export interface Outcome {
  readonly value?: unknown;
  readonly error?: ErrorRecord;
}

/** The value of an outcome, or its error thrown. */
export function takeOutcome(outcome: Outcome): unknown {
  if (outcome.error !== undefined) throw fromErrorRecord(outcome.error);
  return outcome.value;
}

/** What a model or tool call used, beside its outcome. */
export interface CallUsage {
  /** One of both. */
  readonly model?: string;
  readonly tool?: string;
  readonly tokensIn: number;
  readonly tokensOut: number;
  readonly costMicros: number;
}

export type JournalRecord =
  | {
      readonly t: "start";
      readonly v: number;
      readonly at: number;
      readonly program: string;
      readonly revision: string;
    }
  | { readonly t: "resume"; readonly at: number; readonly revision: string }
  /** The process lives on although it has finished no step since it was resumed. */
  | { readonly t: "alive"; readonly at: number }
  | {
      readonly t: "intent";
      readonly at: number;
      readonly p: string;
      readonly key: string;
      readonly reserved: Reservation;
      readonly of?: Called;
    }
  | {
      readonly t: "step";
      readonly at: number;
      readonly p: string;
      /** The call that it is the outcome of; absent of a step. */
      readonly k?: string;
      readonly ms?: number;
      readonly value?: JsonValue;
      readonly error?: ErrorRecord;
      /** It has acted although it failed: who takes the place again, in any life, gets the failure. */
      readonly acted?: true;
      /** The program has accepted the failure and gone on: a retry of the run does not try it again. */
      readonly kept?: true;
      /** What it has made ends with the process: a retry of the run makes it again. */
      readonly ends?: true;
      /** The value is JSON in the object store. */
      readonly ref?: ContentId;
      readonly use?: CallUsage;
    }
  /** An attempt at this place has failed, and the next one is to come at an instant: its next life goes on counting. */
  | {
      readonly t: "attempt";
      readonly at: number;
      readonly p: string;
      /** Which one has failed, from 1. */
      readonly attempt: number;
      readonly until: number;
      readonly why: string;
      /** In which attempts of what is around it. */
      readonly trail: string;
    }
  /** The intent at this place failed before it had an effect; its reservation is given back in this commit. */
  | { readonly t: "release"; readonly at: number; readonly p: string; readonly error: ErrorRecord }
  /**
   * Nobody saw the end of the call at this place: what it had reserved is spent, as this commit says in the ledger. With
   * `key` it is unknown whether it has acted, and it must not happen twice.
   */
  | { readonly t: "lost"; readonly at: number; readonly p: string; readonly error: ErrorRecord; readonly key?: string }
  | { readonly t: "skip"; readonly at: number; readonly p: string; readonly why: string }
  /** Outcomes at these places no longer count: the program was changed there, or they are done again. */
  | {
      readonly t: "outdated";
      readonly at: number;
      readonly places: readonly string[];
      /** A person has looked and wants them done again: what is unknown there is, too. */
      readonly again?: true;
      /** What it is from here on, where that is known only now. */
      readonly revision?: string;
    }
  /**
   * Its program has ended and is run again: what failed before counts no more, or with `fresh` nothing does. With
   * `for` another process was the reason, whose restart this one is part of.
   */
  | {
      readonly t: "restart";
      readonly at: number;
      readonly for?: number;
      readonly error?: ErrorRecord;
      readonly fresh?: true;
    }
  /**
   * Its program goes on as new, with another input: nothing from before counts any more, but for what its lives have
   * used and for how long they ran.
   */
  | {
      readonly t: "renew";
      /** The format of what follows; absent in one that was written by format 1. */
      readonly v?: number;
      readonly at: number;
      readonly steps: number;
      readonly used: Used;
      readonly ranMs: number;
    }
  /** Outcomes that failed before this record no longer count: their steps run again. */
  | {
      readonly t: "retry";
      readonly at: number;
      /** It had completed: the failures that it went on from count on. */
      readonly completed?: true;
    }
  /** `p` is the place of the line in its program: one that is come by again, and says the same, is not said twice. */
  | { readonly t: "log"; readonly at: number; readonly level: string; readonly text: string; readonly p?: string }
  | {
      readonly t: "exit";
      readonly at: number;
      readonly code: number;
      readonly signal?: string;
      readonly error?: ErrorRecord;
    };

/** What calls of a process have used. */
export interface Used {
  tokensIn: number;
  tokensOut: number;
  costMicros: number;
  modelCalls: number;
  toolCalls: number;
}

export const journalLog = (pid: number): string => `j/${pid}`;

/** What a step's record says beside its outcome. */
export interface StepMarks extends Pick<StepRecord, "k" | "ms" | "use" | "acted" | "ends"> {
  readonly kept?: boolean;
}
type StepRecord = Extract<JournalRecord, { readonly t: "step" }>;

/** A step's record, built around the JSON of its value so that it is not encoded twice. */
export function encodeStep(
  at: number,
  place: string,
  outcome: { readonly json?: string | undefined; readonly error?: ErrorRecord; readonly ref?: ContentId },
  more: StepMarks,
): string {
  let text = `{"t":"step","at":${at},"p":${JSON.stringify(place)}`;
  if (more.k !== undefined) text += `,"k":"${more.k}"`;
  if (more.ms !== undefined) text += `,"ms":${more.ms}`;
  if (more.use !== undefined) text += `,"use":${JSON.stringify(more.use)}`;
  if (more.acted === true) text += `,"acted":true`;
  if (more.kept === true) text += `,"kept":true`;
  if (more.ends === true) text += `,"ends":true`;
  if (outcome.error !== undefined) text += `,"error":${JSON.stringify(outcome.error)}`;
  else if (outcome.ref !== undefined) text += `,"ref":"${outcome.ref}"`;
  else if (outcome.json !== undefined) text += `,"value":${outcome.json}`;
  return `${text}}`;
}

export const encodeRecord = (record: JournalRecord): string => JSON.stringify(record);

/** @throws {ECORRUPT} it is not a record */
export function decodeRecord(seq: Seq, value: string | Uint8Array): JournalRecord {
  try {
    // Written by the two encoders above only.
    return JSON.parse(String(value)) as JournalRecord;
  } catch (error) {
    throw new KernelError("ECORRUPT", `the journal record at ${seq} is damaged; run \`ergos doctor\``, {
      cause: error,
    });
  }
}
