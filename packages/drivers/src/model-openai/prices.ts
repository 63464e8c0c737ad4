// What models of providers cost, from the price data of `@pydantic/genai-prices` where that is installed.

import { createRequire } from "node:module";
import type { Model } from "@ergos/kernel";
import type * as Prices from "@pydantic/genai-prices";

const PACKAGE = "@pydantic/genai-prices";
const FREE: Model["price"] = { input: 0, output: 0 };
const MILLION = 1_000_000;

/** Dollars per million tokens, to the millionth; where a long context costs more, that. Undefined when nobody knows. */
export function knownPrice(provider: string, model: string): Model["price"] {
  // It runs on this machine.
  if (provider === "ollama") return FREE;
  const calculate = load()?.calcPrice;
  if (calculate === undefined) return undefined;
  const rates = [1000, MILLION].flatMap((tokens) => {
    const found = calculate({ input_tokens: tokens, output_tokens: tokens }, model, { providerId: provider });
    if (found === null) return [];
    const perMillion = (dollars: number): number =>
      Math.ceil(((dollars * MILLION) / tokens) * MILLION - 1e-3) / MILLION;
    return [{ input: perMillion(found.input_price), output: perMillion(found.output_price) }];
  });
  if (rates.length === 0) return undefined;
  return {
    input: Math.max(...rates.map(({ input }) => input)),
    output: Math.max(...rates.map(({ output }) => output)),
  };
}

/** Loaded when a model is opened: it takes some milliseconds, and is kept by Node. */
function load(): typeof Prices | undefined {
  try {
    return createRequire(import.meta.url)(PACKAGE) as typeof Prices;
  } catch {
    // Not installed: a user may give prices instead.
    return undefined;
  }
}
