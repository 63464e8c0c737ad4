// A map node: the same work for each item of an array, a bounded number at a time, each item a step.

import {
  KernelError,
  LIMITS,
  type Outcome,
  type ProcessContext,
  fromErrorRecord,
  isKernelError,
  takeOutcome,
} from "@ergos/kernel";
import { type RunContext, Skipped, elapsed, recordOf } from "../run-context.ts";
import { runWork } from "./attempt.ts";
import type { MapWork, PlanNode } from "./plan.ts";

/** What became of an item. One that was skipped is left out, except where every item is told of. */
export type ItemResult = { readonly value: unknown } | { readonly error: string } | { readonly skipped: string };

/** Items that may be done in one turn of the loop before others get theirs. */
export const TURN_ITEMS_MAX = 256;

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
  const list = asItems(work.items, node.name, map.over);
  const results = new Array<ItemResult>(list.length);
  const taken = new Set<string>();
  let next = 0;
  let done = 0;
  let failure: unknown;
  const lane = async (): Promise<void> => {
    while (next < list.length && failure === undefined && !process.signal.aborted) {
      const at = next++;
      if (at % TURN_ITEMS_MAX === TURN_ITEMS_MAX - 1) await new Promise<void>((go) => process.platform.defer(go));
      try {
        const place = placeOf(node, work.key, list[at], at, taken);
        results[at] = { value: await runItem(process, node, place, (ctx) => work.run(list[at], at, ctx)) };
      } catch (error) {
        if (error instanceof Skipped) results[at] = { skipped: error.message };
        else if (map.onError === "fail" || process.signal.aborted) failure ??= error;
        // The same words as a resumed run reads from the journal.
        results[at] ??= {
          error: isKernelError(error) ? error.message : recordOf(error, `${node.name}[${at}]`).message,
        };
      }
      onProgress({ done: ++done, total: list.length });
    }
  };
  await Promise.all(Array.from({ length: Math.min(map.concurrency, list.length) }, lane));
  process.signal.throwIfAborted();
  if (failure !== undefined) throw failure;
  const values =
    map.onError === "collect" ? results : results.flatMap((result) => ("value" in result ? [result.value] : []));
  return work.finish === undefined ? values : work.finish(values);
}

async function runItem(
  process: ProcessContext,
  node: PlanNode,
  place: string,
  run: (ctx: RunContext<never>) => unknown,
): Promise<unknown> {
  const recorded: Outcome | undefined = process.isResumed ? await process.os.call("stepBegin", { place }) : undefined;
  if (recorded !== undefined) return takeOutcome(recorded);
  const started = process.platform.clock.monotonic();
  try {
    const scope = { process, place, nodeName: node.name };
    const value = await runWork({
      scope,
      run,
      retry: node.retry,
      timeoutMs: node.timeoutMs,
    });
    await process.os.call("stepEnd", { place, value, ms: elapsed(process, started), detached: true });
    return value;
  } catch (error) {
    if (error instanceof Skipped) throw error;
    const record = recordOf(error, place);
    const kept = node.map?.onError !== "fail";
    if (!process.signal.aborted) await process.os.call("stepEnd", { place, error: record, kept });
    throw fromErrorRecord(record);
  }
}

function asItems(items: unknown, name: string, over: string): readonly unknown[] {
  if (!Array.isArray(items))
    throw new KernelError(
      "EINVAL",
      `map ${name} needs an array from ${over}, found ${items === null ? "null" : typeof items}`,
    );
  if (items.length > LIMITS.mapItemsMax)
    throw new KernelError("E2BIG", `map ${name} got ${items.length} items, at most ${LIMITS.mapItemsMax} are allowed`);
  return items;
}

function placeOf(node: PlanNode, key: MapWork["key"], item: unknown, at: number, taken: Set<string>): string {
  const name = key === undefined ? String(at) : key(item, at);
  if (taken.has(name))
    throw new KernelError(
      "EEXIST",
      `map ${node.name} has two items with the key ${JSON.stringify(name)}; keys must be unique`,
    );
  if (key !== undefined) taken.add(name);
  return `${node.name}[${name}]`;
}
