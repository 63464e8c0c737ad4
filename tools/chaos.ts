// `npm run chaos -- [--only budget] [--seed N] [--calls N] [--processes N] [--kills N]`: real processes, killed.

import { parseArgs } from "node:util";
import { budgetChaos } from "./chaos/budget.ts";

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    seed: { type: "string" },
    calls: { type: "string" },
    processes: { type: "string" },
    kills: { type: "string" },
  },
});
if (values.only !== undefined && values.only !== "budget") {
  console.error(`--only takes budget, found ${JSON.stringify(values.only)}`);
  process.exit(2);
}
const number = (name: "seed" | "calls" | "processes" | "kills", otherwise: number): number => {
  const text = values[name];
  if (text === undefined) return otherwise;
  if (!/^\d+$/.test(text)) {
    console.error(`--${name} takes a whole number, found ${JSON.stringify(text)}`);
    process.exit(2);
  }
  return Number(text);
};
const seed = number("seed", Date.now() % 1_000_000);
const started = performance.now();
const report = await budgetChaos({
  seed,
  calls: number("calls", 10_000),
  workers: number("processes", 200),
  kills: number("kills", 12),
});
const failed = report.overshoot === 0 && report.leak === 0 ? 0 : 1;
console.log(
  `chaos budget: seed ${seed}, ${report.calls} calls at the server, ${report.answered} settled, ${report.kills} kills, overshoot ${report.overshoot}, leak ${report.leak}, ${Math.round((performance.now() - started) / 1000)} s: ${failed === 0 ? "held" : "FAILED"}`,
);
process.exitCode = failed;
