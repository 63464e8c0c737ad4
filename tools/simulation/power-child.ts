// The child of the power simulation: commits of many sizes, and a line on stdout for each one that is flushed.

import { writeSync } from "node:fs";
import { SqliteMetastore } from "@ergos/drivers/sqlite";
import { batchOf } from "./power-model.ts";

const [dir = "", commits = "0"] = process.argv.slice(2);
const store = await SqliteMetastore.open({ dir, foldRows: 60, checkpointFrames: 90 });
writeSync(1, "ready\n");
const last = Number(commits);
for (let at = 1; at <= last; at++) {
  const receipt = await store.commit(batchOf(at));
  // Some commits share a flush, some are alone, some are never asked about.
  if (at % 3 !== 0) continue;
  await receipt.flushed;
  writeSync(1, `flushed ${receipt.seq}\n`);
  if (at % 40 === 0) await new Promise((resolve) => setTimeout(resolve, 12));
}
await store.flush();
writeSync(1, `flushed ${store.seq}\n`);
// The end comes as it does in life.
process.kill(process.pid, "SIGKILL");
