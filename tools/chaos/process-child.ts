// The host of the chaos of processes: starts the ring once, resumes what it finds, and says what it came to.

import { writeSync } from "node:fs";
import { join } from "node:path";
import { connect } from "ergos";
import type { RingPlan } from "./process-team.ts";

const { dir, ...plan } = JSON.parse(process.argv[2] ?? "{}") as RingPlan & { readonly dir: string };

const os = await connect({ dir, serve: false });
const known = await os.ps({ all: true, limit: 10_000 });
const boss =
  known.find(({ name }) => name === "boss")?.pid ??
  (await os.spawn(
    { module: join(import.meta.dirname, "process-team.ts"), export: "boss" },
    { name: "boss", input: plan },
  ));
for (const { pid, state } of known) {
  // A run of bad luck looks like a process that kills its host; a person who knows better says so.
  if (state === "quarantined") await os.resume(pid, { force: true });
}
writeSync(1, "running\n");
const exit = await os.wait(boss);
await os.flush();
const left = (await os.ps()).length - 1;
writeSync(1, `${JSON.stringify({ exit, left })}\n`);
await os.close();
