// The end of a process: how it is checked, and how it is told.

import { toErrorRecord } from "../base/errno.ts";
import { encodeJson } from "../base/json.ts";
import type { Exit, Process } from "./process.ts";

/** A result that is no JSON fails the process. */
export function checkResult(process: Process, exit: Exit): { readonly exit: Exit; readonly json?: string | undefined } {
  if (exit.result === undefined) return { exit };
  try {
    return { exit, json: encodeJson(exit.result, `the result of ${process.identity.name}`) };
  } catch (error) {
    return { exit: { code: 1, error: toErrorRecord(error) } };
  }
}

/** The event that tells of an end. */
export function exitEvent(exit: Exit): "process.completed" | "process.failed" | "process.cancelled" {
  if (exit.signal !== undefined) return "process.cancelled";
  return exit.error === undefined ? "process.completed" : "process.failed";
}

/** What that event holds. */
export function exitData(process: Process, exit: Exit): Readonly<Record<string, unknown>> {
  const { name, program } = process.identity;
  return {
    name,
    program: program.name,
    ...(exit.signal === undefined ? {} : { signal: exit.signal }),
    ...(exit.error === undefined ? {} : { error: exit.error }),
  };
}
