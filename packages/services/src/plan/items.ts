// The items of a map: a bounded number at a time, each with a place of its own, and what becomes of the failed.

import { KernelError, LIMITS, describe, isKernelError, linkSignal } from "@ergos/kernel";
import { Skipped } from "../failure.ts";
import { withNulls } from "../with-nulls.ts";

/** Items that may be done in one turn of the loop before others get theirs. */
const TURN_ITEMS = 256;

/** What became of an item. One that was skipped is left out, except where every item is told of. */
type ItemResult = { readonly value: unknown } | { readonly error: string } | { readonly skipped: string };

export interface ItemWork {
  /** Name of the map, for messages. */
  readonly name: string;
  readonly items: unknown;
  /** Where they come from, for messages. */
  readonly source: string;
  readonly concurrency: number;
  /** The first failure ends the map, each item is told of, or failed items are left out. */
  readonly onError: "fail" | "collect" | "drop";
  readonly signal: AbortSignal;
  /** Lets others have their turn of the loop. */
  readonly turn: () => Promise<void>;
  readonly key: ((item: unknown, index: number) => string) | undefined;
  /** Does the work of an item; `key` is unique among them. */
  readonly each: (item: unknown, index: number, key: string, signal: AbortSignal) => unknown;
  readonly onDone?: (done: number, total: number) => void;
}

/**
 * Runs all items; their results in the order of the items.
 * @throws {EINVAL} the items are no list · {E2BIG} there are too many · {EEXIST} two have one key
 */
export async function runItems(work: ItemWork): Promise<readonly unknown[]> {
  const { name, signal, onError } = work;
  const items = asItems(work);
  const keys = await keysOf(work, items);
  const results = new Array<ItemResult>(items.length);
  let next = 0;
  let done = 0;
  let failure: { readonly error: unknown } | undefined;
  // The first failure that ends the map is told to the items that are under way.
  const controller = new AbortController();
  const unlink = linkSignal(signal, controller);
  const lane = async (): Promise<void> => {
    while (next < items.length && failure === undefined && !signal.aborted) {
      const at = next++;
      if (at % TURN_ITEMS === TURN_ITEMS - 1) await work.turn();
      try {
        results[at] = { value: await work.each(items[at], at, keys?.[at] ?? String(at), controller.signal) };
      } catch (error) {
        if (error instanceof Skipped) results[at] = { skipped: error.message };
        else if (onError === "fail" || signal.aborted) {
          failure ??= { error };
          controller.abort(new KernelError("ECANCELED", `an item of map ${name} has failed`));
        }
        // The same words as a resumed run reads from the journal.
        results[at] ??= {
          error: isKernelError(error) ? error.message : `[EFAILED] ${name}[${at}] failed: ${describe(error)}`,
        };
      }
      work.onDone?.(++done, items.length);
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(work.concurrency, items.length) }, lane));
  } finally {
    unlink();
  }
  signal.throwIfAborted();
  if (failure !== undefined) throw failure.error;
  if (onError === "collect") return results;
  return withNulls(results.flatMap((result) => ("value" in result ? [result.value] : [])));
}

function asItems({ items, name, source }: ItemWork): readonly unknown[] {
  if (!Array.isArray(items))
    throw new KernelError(
      "EINVAL",
      `map ${name} needs an array from ${source}, found ${items === null ? "null" : typeof items}`,
    );
  if (items.length > LIMITS.mapItemsMax)
    throw new KernelError("E2BIG", `map ${name} got ${items.length} items, at most ${LIMITS.mapItemsMax} are allowed`);
  return items;
}

/** Keys are what items are known by: none of them begins before all have one. */
async function keysOf(work: ItemWork, items: readonly unknown[]): Promise<readonly string[] | undefined> {
  if (work.key === undefined) return undefined;
  const keys = new Set<string>();
  for (const [at, item] of items.entries()) {
    if (at % TURN_ITEMS === TURN_ITEMS - 1) await work.turn();
    const key = work.key(item, at);
    if (keys.has(key))
      throw new KernelError(
        "EEXIST",
        `map ${work.name} has two items with the key ${JSON.stringify(key)}; keys must be unique`,
      );
    keys.add(key);
  }
  return [...keys];
}
