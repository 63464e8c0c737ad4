// A map node: the same work for each item of an array, a bounded number at a time, each item a step.

import {
  type ErrorRecord,
  type Outcome,
  type ProcessContext,
  fromErrorRecord,
  orAborted,
  takeOutcome,
} from "@ergos/kernel";
import { Skipped, failedText, recordOf } from "../failure.ts";
import { elapsed } from "../named-calls.ts";
import type { RunContext } from "../run-context.ts";
import { withNulls } from "../with-nulls.ts";
import { runWork } from "./attempt.ts";
import { runItems } from "./items.ts";
import type { MapWork, PlanNode } from "./plan.ts";

export interface MapProgress {
  readonly done: number;
  readonly total: number;
}

/** Runs all items; resolves with their results in the order of the items, or what the node makes of them. */
export async function runMap(
  process: ProcessContext,
  node: PlanNode,
  work: MapWork,
  onProgress: (progress: MapProgress) => void,
): Promise<unknown> {
  const { map } = node;
  if (map === undefined) throw new TypeError(`${node.name} is no map`);
  const results = await runItems({
    name: node.name,
    items: work.items,
    source: map.over,
    concurrency: map.concurrency,
    onError: map.onError,
    signal: process.signal,
    turn: () => new Promise((go) => process.platform.defer(go)),
    key: work.key,
    each: (item, at, key, signal) =>
      runItem(process, node, `${node.name}[${key}]`, signal, (ctx) => work.run(item, at, ctx)),
    onDone: (done, total) => onProgress({ done, total }),
  });
  return work.finish === undefined ? results : work.finish(results);
}

async function runItem(
  process: ProcessContext,
  node: PlanNode,
  place: string,
  signal: AbortSignal,
  run: (ctx: RunContext<never>) => unknown,
): Promise<unknown> {
  const recorded: Outcome | undefined = process.isResumed ? await process.os.call("stepBegin", { place }) : undefined;
  if (recorded?.error?.syscall === SKIP) throw new Skipped(failedText(recorded.error));
  if (recorded !== undefined) return takeOutcome(recorded);
  const { held } = process;
  if (held !== undefined) {
    await orAborted(held, signal);
    signal.throwIfAborted();
  }
  const started = process.platform.clock.monotonic();
  process.workBegun();
  try {
    const scope = { process, place, nodeName: node.name };
    const made = await runWork({
      scope,
      run,
      retry: node.retry,
      timeoutMs: node.timeoutMs,
      signal,
    });
    const value = withNulls(made);
    await process.os.call("stepEnd", { place, value, ms: elapsed(process, started), detached: true });
    return value;
  } catch (error) {
    if (error instanceof Skipped && error.failure === undefined) throw error;
    const isSkipped = error instanceof Skipped;
    const record = isSkipped ? { ...error.failure, syscall: SKIP } : recordOf(error, place);
    const kept = isSkipped || node.map?.onError !== "fail";
    if (!signal.aborted) await process.os.call("stepEnd", { place, error: record as ErrorRecord, kept });
    throw isSkipped ? error : fromErrorRecord(record as ErrorRecord);
  } finally {
    process.workOver();
  }
}

/** Marks the record of a failure for which its item was skipped. */
const SKIP = "skip";
