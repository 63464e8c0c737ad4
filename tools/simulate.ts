// `npm run simulate -- [--seed N] [--rounds N] [--power N]`: simulated crashes, one line at the end.

import { parseArgs } from "node:util";
import { cutEverywhere, cutRandomly } from "./simulation/cut.ts";
import { cutPower, powerSimulationMissing } from "./simulation/power.ts";

const { values } = parseArgs({
  options: { seed: { type: "string" }, rounds: { type: "string" }, power: { type: "string" } },
});
const seed = wholeNumber("seed", values.seed, Date.now() % 1_000_000);
const rounds = wholeNumber("rounds", values.rounds, 500);
const power = wholeNumber("power", values.power, 1000);

const boundaries = await cutEverywhere();
console.log(
  `${boundaries} cuts, one before and one after every write of a run: same result, nothing repeated, nothing lost`,
);
await cutRandomly(seed, rounds);
console.log(`${rounds} random rounds from seed ${seed}: same result, nothing repeated, nothing lost`);
const missing = powerSimulationMissing();
if (power > 0 && missing === undefined) {
  const report = await cutPower({ seed, cuts: power });
  const control = await cutPower({ seed, cuts: Math.min(power, 100), ignoreOurSyncs: true });
  console.log(
    `${report.cuts} losses of power over ${report.checkpoints} checkpoint syncs: ${report.lost} lost; control without our syncs: ${control.lost} of ${control.cuts} lost`,
  );
  if (control.lost === 0) throw new TypeError("the control run lost nothing: the simulation proves nothing");
} else if (power > 0) console.log(`left out: losses of power (${missing ?? ""})`);
console.log(
  `simulate: seed ${seed}, ${boundaries + rounds} cuts${missing === undefined ? `, ${power} losses of power` : ""}, 0 failures`,
);

function wholeNumber(name: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  if (!/^\d+$/.test(text)) {
    console.error(`--${name} takes a whole number, found ${JSON.stringify(text)}`);
    process.exit(2);
  }
  return Number(text);
}
