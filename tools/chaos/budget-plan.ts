// What the budget chaos does: shared by its parent, its host and its model server.

import type { Amounts } from "@ergos/kernel";

export interface ChaosPlan {
  readonly dir: string;
  readonly url: string;
  readonly workers: number;
  readonly callsEach: number;
  readonly maxOutput: number;
  /** Share of what all calls could use that the budgets hold, so that some are refused. */
  readonly share: number;
}

export const GROUP = "chaos";
export const workerName = (number: number): string => `worker-${number}`;

/** The budget of so many workers. A call reserves about 60 tokens of request and its longest answer. */
export function budgetOf({ callsEach, maxOutput, share }: ChaosPlan, workers: number): Amounts {
  const tokensOut = Math.ceil(callsEach * maxOutput * share) * workers;
  return { tokensOut, costMicros: tokensOut * 10 + callsEach * 100 * workers, modelCalls: callsEach * 3 * workers };
}
