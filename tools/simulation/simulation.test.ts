import { describe, expect, test } from "vitest";
import { cutEverywhere, cutRandomly } from "./cut.ts";
import { cutPower, powerSimulationMissing } from "./power.ts";

describe("simulated crashes of a run of thirty nodes", () => {
  test("every write boundary may be the last one: same result, no finished step repeated, none lost", async () => {
    expect(await cutEverywhere()).toBeGreaterThan(100);
  }, 120_000);

  test("several deaths and losses of power in one run change nothing", async () => {
    await cutRandomly(1, 400);
  }, 120_000);
});

const missing = powerSimulationMissing();

describe(`simulated losses of power${missing === undefined ? "" : `: ${missing}`}`, () => {
  test.skipIf(missing !== undefined)(
    "a thousand losses of power lose nothing that was flushed",
    async () => {
      const report = await cutPower({ seed: 7, cuts: 1000 });

      expect(report.lost).toBe(0);
      expect(report.checkpoints).toBeGreaterThan(1);
    },
    300_000,
  );

  test.skipIf(missing !== undefined)(
    "the control, which ignores the store's own syncs, loses something",
    async () => {
      const report = await cutPower({ seed: 7, cuts: 60, ignoreOurSyncs: true });

      expect(report.lost).toBeGreaterThan(0);
    },
    120_000,
  );
});
