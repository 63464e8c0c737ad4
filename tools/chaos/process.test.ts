import { expect, test } from "vitest";
import { processChaos } from "./process.ts";

test("forty processes and two thousand messages come to the same, whichever of them and of their hosts are killed", async () => {
  const seed = Date.now() % 1_000_000;

  const report = await processChaos({ seed, workers: 40, children: 4, messages: 50, kills: 4 });

  expect({ seed, wrong: report.wrong, left: report.left }).toEqual({ seed, wrong: 0, left: 0 });
  expect(report.hostKills).toBeGreaterThan(0);
}, 120_000);
