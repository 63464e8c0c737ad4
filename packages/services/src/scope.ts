// Where in a program its calls are made: the part, the attempt and the step around them.

import { AsyncLocalStorage } from "node:async_hooks";
import { type Message, type Os, type ProcessContext, osWithin } from "@ergos/kernel";

/**
 * The step whose work is running. Nothing else tells a call from inside of it from one beside it; the storage
 * holds no state of its own, only what belongs to the call that asks.
 */
export const RUNNING_STEP = new AsyncLocalStorage<RunningStep>();

/** The step of this process in which somebody is, if in one. */
export function runningStepOf(process: ProcessContext): RunningStep | undefined {
  const step = RUNNING_STEP.getStore();
  return step?.process === process ? step : undefined;
}

/** The calls of a process where somebody is. */
export function osOf(process: ProcessContext): Os {
  const step = runningStepOf(process);
  return step?.within === undefined ? process.os : (step.os ??= osWithin(process.os, step.within));
}

export interface RunningStep {
  readonly process: ProcessContext;
  readonly place: string;
  readonly counters: Map<string, number>;
  /** The place of the step, this or one around it, for which the end of its host waits, with all that it calls. */
  readonly within?: string;
  /** The calls of its process from in here. */
  os?: Os;
  /** Which attempt of a step with several this is, and what earlier ones have done. */
  readonly attempt?: { readonly memo: Memo; readonly generation: number; readonly signal: AbortSignal };
}

/** What attempts of a part have done, whatever stands inside of it. */
export interface Memo {
  readonly places: Map<string, { readonly generation: number; readonly value: Promise<unknown> }>;
  /** Calls of the kernel that hold their places, though the attempts that made them may be over. */
  readonly calls: Map<string, Promise<unknown>>;
  /** Number of the next attempt anywhere in the part. */
  next: number;
}

/** A part of a program with places of its own: a node, an item of a map, or the whole function. */
export interface Scope {
  readonly process: ProcessContext;
  /** Prefix of the places in it; empty for a function program. */
  readonly place: string;
  readonly nodeName: string;
  /** Inner steps of earlier attempts, done or under way: a retry takes or joins them. Absent without retries. */
  readonly memo?: Memo;
  /** Attempts of the parts around it, as `2.1`; absent at the outside. */
  readonly trail?: string;
  /** The task that is being done there (`serve`). */
  readonly task?: Message;
  /** The end of its process does not reach it. */
  readonly isShielded?: true;
  /** How often a place without a name of its own was used. */
  counters?: Map<string, number>;
}

/** For the attempts of a part, which have done nothing yet. */
export const memoOfAttempts = (): Memo => ({ places: new Map(), calls: new Map(), next: 1 });
