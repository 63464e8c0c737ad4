import { expect, test } from "vitest";
import { budgetChaos } from "./budget.ts";

test("a thousand calls of fifty processes under a host that is killed overshoot nothing and leak nothing", async () => {
  const seed = Date.now() % 1_000_000;

  const report = await budgetChaos({ seed, workers: 50, calls: 1000, kills: 4 });

  expect({ seed, overshoot: report.overshoot, leak: report.leak }).toEqual({ seed, overshoot: 0, leak: 0 });
  expect(report.answered).toBeGreaterThan(100);
}, 120_000);
