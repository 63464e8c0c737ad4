// What the arguments of a call are beside their values: whether they fit its row, where the call is recorded, and what of
// them is not for hooks.

import { KernelError } from "../base/errno.ts";
import { assertValid } from "../base/schema.ts";
import type { Process } from "../proc/process.ts";
import type { Row } from "./row.ts";

export type AnyRow = Row<unknown, unknown>;

/** Signals and marks of the kernel are the caller's, whatever a hook makes of the rest. */
export function withMarksOf(args: unknown, given: unknown): unknown {
  const { signal } = args as { readonly signal?: unknown };
  const marks = Object.fromEntries(
    Object.getOwnPropertySymbols(args).map((mark) => [mark, Reflect.get(args as object, mark)]),
  );
  return { ...(given as object), ...(typeof signal === "object" ? { signal } : {}), ...marks };
}

/** @throws {EINVAL} they are not what the row takes */
export function assertArguments(row: AnyRow, args: unknown, name: string): void {
  if (typeof args !== "object" || args === null)
    throw new KernelError(
      "EINVAL",
      `the arguments of ${name} are an object, found ${args === null ? "null" : typeof args}`,
    );
  if (row.isHot !== true) {
    const plain = row.plain?.(args) ?? args;
    const { path } = args as { readonly path?: unknown };
    const details = { syscall: name, ...(typeof path === "string" ? { path } : {}) };
    return assertValid(row.schema, withoutSignal(row, plain, name), `the arguments of ${name}`, details);
  }
  // Whatever is recorded is found again by its place.
  const { place } = args as { readonly place?: unknown };
  if (place !== undefined && typeof place !== "string")
    throw new KernelError("EINVAL", `the place of a step is a text, found ${typeof place}`, { syscall: name });
}

/** A signal to give a call up is none of its arguments; that of `kill` is one, and a name. */
export function withoutSignal(row: AnyRow, args: object, name: string): unknown {
  if (!("signal" in args) || row.schema.properties?.["signal"] !== undefined) return args;
  const { signal, ...rest } = args;
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw new KernelError("EINVAL", `the signal of ${name} is an AbortSignal, found ${typeof signal}`);
  return rest;
}

/** Where a call is recorded, of a row that is recorded under a place. */
export function placeOf(row: AnyRow, args: unknown): string | undefined {
  const { place } = args as { readonly place?: unknown };
  return typeof place === "string" && row.schema.properties?.["place"] !== undefined ? place : undefined;
}

/** Whether an earlier life has left all that the call comes to: it is taken from the journal, and nothing is done. */
export function isReplayed({ journal }: Process, { recordedAt }: AnyRow, args: unknown): boolean {
  const { place } = args as { readonly place?: unknown };
  if (recordedAt === undefined || typeof place !== "string" || journal === undefined) return false;
  return recordedAt(place).every((at) => journal.isRecorded(at));
}

/** Whether it is a step's end that nobody waits for; other rows have no such argument, whatever they are called with. */
export const isDetached = (row: AnyRow, args: unknown): boolean =>
  row.audit === "place" &&
  row.schema.properties?.["detached"] !== undefined &&
  (args as { readonly detached?: unknown }).detached === true;
