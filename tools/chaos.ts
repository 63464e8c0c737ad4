// `npm run chaos -- [--only budget|process] [--seconds N] [--seed N] [--calls N] [--processes N] [--messages N]
// [--children N] [--kills N]`: real processes, killed. Rounds follow each other until the time is over; each has the
// seed of the one before plus one. The last line is JSON.

import { parseArgs } from "node:util";
import { budgetChaos } from "./chaos/budget.ts";
import { processChaos } from "./chaos/process.ts";

const NUMBERS = {
  seconds: { type: "string" },
  seed: { type: "string" },
  calls: { type: "string" },
  processes: { type: "string" },
  messages: { type: "string" },
  children: { type: "string" },
  kills: { type: "string" },
} as const;
const { values } = parseArgs({ options: { only: { type: "string" }, ...NUMBERS } });
if (values.only !== undefined && values.only !== "budget" && values.only !== "process") {
  console.error(`--only takes budget or process, found ${JSON.stringify(values.only)}`);
  process.exit(2);
}
const number = (name: keyof typeof NUMBERS, otherwise: number): number => {
  const text = values[name];
  if (text === undefined) return otherwise;
  if (!/^\d+$/.test(text)) {
    console.error(`--${name} takes a whole number, found ${JSON.stringify(text)}`);
    process.exit(2);
  }
  return Number(text);
};
const workers = number("processes", 200);
const kills = number("kills", 12);
const first = number("seed", Date.now() % 1_000_000);
const started = performance.now();
const seconds = (): number => Math.round((performance.now() - started) / 1000);

const budget = { rounds: 0, calls: 0, answered: 0, kills: 0, overshoot: 0, leak: 0 };
const ring = { rounds: 0, messages: 0, hostKills: 0, childKills: 0, wrong: 0, left: 0 };
const add = <Sum extends Record<string, number>>(sum: Sum, report: object): void => {
  for (const [name, value] of Object.entries(report)) Object.assign(sum, { [name]: (sum[name] ?? 0) + Number(value) });
};
let failed: number | undefined;
for (let seed = first; failed === undefined; seed++) {
  if (values.only !== "process") {
    add(budget, { rounds: 1, ...(await budgetChaos({ seed, calls: number("calls", 10_000), workers, kills })) });
    console.error(`seed ${seed}: budget ${JSON.stringify(budget)}, ${seconds()} s`);
  }
  if (values.only !== "budget") {
    const messages = Math.ceil(number("messages", 10_000) / workers);
    const report = await processChaos({ seed, workers, children: number("children", 8), messages, kills });
    add(ring, { rounds: 1, ...report });
    console.error(`seed ${seed}: process ${JSON.stringify(ring)}, ${seconds()} s`);
  }
  if (budget.overshoot + budget.leak + ring.wrong + ring.left > 0) failed = seed;
  if (seconds() >= number("seconds", 0)) break;
}
console.log(
  JSON.stringify({
    seed: first,
    seconds: seconds(),
    ...(values.only === "process" ? {} : { budget }),
    ...(values.only === "budget" ? {} : { process: ring }),
    held: failed === undefined,
    ...(failed === undefined ? {} : { failed }),
  }),
);
process.exitCode = failed === undefined ? 0 : 1;
