// Prices as data: what a user gives replaces what a driver knows.

import { KernelError } from "../base/errno.ts";
import { type GlobMatcher, compileGlob } from "../base/glob.ts";
import { type Schema, assertValid } from "../base/schema.ts";
import { type Model, TIERS, type Tier } from "../abi/model.ts";

/** What a model costs, and which tier it belongs to. */
export interface Price {
  /** Dollars per million tokens. */
  readonly input?: number;
  readonly output?: number;
  readonly tier?: Tier;
}

/** Prices by the name of a model; a glob is for several, the first that fits counts. */
export type PriceList = Readonly<Record<string, Price>>;

const PRICE_SCHEMA: Schema = {
  type: "object",
  additionalProperties: {
    type: "object",
    properties: {
      input: { type: "number", minimum: 0 },
      output: { type: "number", minimum: 0 },
      tier: { type: "string", enum: TIERS },
    },
    additionalProperties: false,
  },
};

export class PriceTable {
  readonly #rows: readonly { readonly matches: GlobMatcher; readonly price: Price }[];
  readonly #known = new Map<string, Price | undefined>();

  /** @throws {EINVAL} the list is not of its form */
  constructor(list: PriceList = {}) {
    assertValid(PRICE_SCHEMA, list, "the price list");
    this.#rows = Object.entries(list).map(([name, price]) => ({ matches: compileGlob(name), price }));
  }

  #find(name: string): Price | undefined {
    if (!this.#known.has(name)) {
      if (this.#known.size >= 10_000) this.#known.clear();
      this.#known.set(name, this.#rows.find(({ matches }) => matches(name))?.price);
    }
    return this.#known.get(name);
  }

  tierOf(model: Model): Tier | undefined {
    return this.#find(model.name)?.tier ?? model.tier;
  }

  /** Micro-dollars of a call; undefined when nobody knows the price. */
  costOf(model: Model, tokensIn: number, tokensOut: number): number | undefined {
    const own = this.#find(model.name);
    // A dollar per million tokens is a micro-dollar per token.
    const input = own?.input ?? model.price?.input;
    const output = own?.output ?? model.price?.output;
    if (input === undefined || output === undefined) return undefined;
    const cost = Math.ceil(tokensIn * input + tokensOut * output);
    if (!Number.isSafeInteger(cost)) throw new KernelError("EINVAL", `the price of ${model.name} is no number`);
    return cost;
  }
}
