// `npm run bench -- [filter] [--json FILE]`: every benchmark in one process, ratios from the same run.

import { writeFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { compilerBenches } from "./compiler.ts";
import { durableBenches } from "./durable.ts";
import type { Result } from "./measure.ts";
import { arePeersInstalled, peerBenches } from "./peers.ts";
import { processBenches } from "./processes.ts";
import { rightBenches } from "./rights.ts";
import { sharingBenches } from "./sharing.ts";
import { startBench } from "./start.ts";
import { storageBenches } from "./storage.ts";
import { vfsBenches } from "./vfs.ts";
import { volatileBenches } from "./volatile.ts";

const { values, positionals } = parseArgs({ options: { json: { type: "string" } }, allowPositionals: true });
const [filter = ""] = positionals;
// Peers are installed when they are asked for by name.
const withPeers = filter.startsWith("peers") || arePeersInstalled();
if (!withPeers) console.log("left out: the peers (install and run them with `npm run bench -- peers`)");
const benches = [
  ...volatileBenches,
  ...vfsBenches,
  ...storageBenches,
  ...sharingBenches,
  ...durableBenches,
  ...rightBenches,
  ...processBenches,
  startBench,
  ...compilerBenches,
  ...(withPeers ? peerBenches : []),
].filter(({ name }) => name.includes(filter));
if (benches.length === 0) {
  console.error(`no benchmark matches ${JSON.stringify(filter)}`);
  process.exit(2);
}
console.log(`node ${process.versions.node}, ${availableParallelism()} cores, load ${loadavg()[0]?.toFixed(2) ?? "?"}`);
const results: Result[] = [];
for (const bench of benches) {
  for (const result of await bench.run()) {
    results.push(result);
    console.log(line(result));
  }
}
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results, undefined, 2)}\n`);
const missed = results.filter(({ target, ratio, median }) => target !== undefined && (ratio ?? median) > target);
console.log(
  `${results.length} figures, ${missed.length} beyond their target${missed.length === 0 ? "" : `: ${missed.map(({ name }) => name).join("; ")}`}`,
);

// A peer may keep timers after it was shut down.
process.exit(0);

function line({ name, unit, median, p99, floor, peer, ratio, target }: Result): string {
  const base =
    floor === undefined
      ? peer === undefined
        ? ""
        : `, ${peer.name} ${peer.median.toFixed(2)}`
      : `, floor ${floor.toFixed(2)}`;
  const against = ratio === undefined ? "" : `, ratio ${ratio.toFixed(3)}`;
  const goal =
    target === undefined ? "" : ` (target ${(ratio ?? median) <= target ? "met" : "MISSED"}: ${target.toFixed(3)})`;
  return `${name}: ${median.toFixed(2)} ${unit} (p99 ${p99.toFixed(2)})${base}${against}${goal}`;
}
