// The budget of one evaluation: steps taken and values made. Nothing that a manifest says can hang a host.

import { ExpressionError } from "./error.ts";
import { EXPRESSION_LIMITS } from "./limits.ts";
import type { Range } from "./tree.ts";

export class Meter {
  readonly #stepsMax: number;
  readonly #sizeMax: number;
  #steps = 0;
  #size = 0;
  /** Something was made that may hold what is no plain value, as a list of attributes of which some are missing. */
  mayHoldParts = false;

  constructor(limits: { readonly stepsMax?: number; readonly sizeMax?: number } = {}) {
    this.#stepsMax = limits.stepsMax ?? EXPRESSION_LIMITS.stepsMax;
    this.#sizeMax = limits.sizeMax ?? EXPRESSION_LIMITS.sizeMax;
  }

  /** Counts work done; `count` items at once for a loop over them. */
  step(at: Range, count = 1): void {
    this.#steps += count;
    if (this.#steps > this.#stepsMax)
      throw new ExpressionError(
        "X005",
        `more than ${this.#stepsMax} steps of evaluation`,
        at,
        "do large work in a function node",
      );
  }

  /** Counts characters and items that are about to be made. */
  size(amount: number, at: Range): void {
    this.#size += amount;
    if (this.#size > this.#sizeMax)
      throw new ExpressionError(
        "X005",
        `values of more than ${this.#sizeMax} characters and items`,
        at,
        "do large work in a function node",
      );
  }
}

/** The value, counted. */
export function measured<T extends string | readonly unknown[]>(value: T, meter: Meter, at: Range): T {
  meter.size(value.length, at);
  return value;
}
