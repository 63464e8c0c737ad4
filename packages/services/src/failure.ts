// Failures as they are recorded, and as others are told of them.

import { type ErrorRecord, KernelError, describe, isKernelError, toErrorRecord } from "@ergos/kernel";

/** Thrown by a node that finds it has nothing to do: it counts as skipped. */
export class Skipped extends Error {
  /** The failure that was accepted, where one was the reason. */
  readonly failure: ErrorRecord | undefined;

  constructor(why: string, failure?: ErrorRecord) {
    super(why);
    this.name = "Skipped";
    this.failure = failure;
  }
}

/** Why something was skipped that has failed. */
export const failedText = ({ message }: Pick<ErrorRecord, "message">): string => `it failed: ${message}`;

/** An error of user code, with what it was thrown by. */
export const failureOf = (error: unknown, what: string): unknown =>
  isKernelError(error) || error instanceof Skipped
    ? error
    : new KernelError("EFAILED", `${what} failed: ${describe(error)}`, { cause: error });

/** The record of an error that user code threw. */
export const recordOf = (error: unknown, what: string): ErrorRecord => toErrorRecord(failureOf(error, what));

/** What a process comes upon is its own: whoever has asked may not see the files that it is about. */
export function withoutPath({ path, message, causes: _causes, ...rest }: ErrorRecord): ErrorRecord {
  return { ...rest, message: path === undefined ? message : message.replaceAll(path, "(a path of its own)") };
}
