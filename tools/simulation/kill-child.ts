// The child of the SIGKILL rounds: resumes or starts the run of thirty nodes and says when it has ended.
// What it does to the world goes to a file that no crash can take back.

import { appendFileSync, writeSync } from "node:fs";
import { connect } from "ergos";
import { World, paidModel, thirtyNodes } from "./subject.ts";

const [dir = "", worldFile = ""] = process.argv.slice(2);

class FileWorld extends World {
  override did(place: string): void {
    appendFileSync(worldFile, `${place}\n`);
    super.did(place);
  }
}

const world = new FileWorld();
const os = await connect({ dir, serve: false, models: [paidModel(world)], programs: [thirtyNodes(world)] });
const { problems } = await os.call("checkStore", { contents: true });
if (problems.length > 0) throw new TypeError(`the kill before left ${JSON.stringify(problems)}`);
const [resumed] = os.resumed;
const known = (await os.ps({ all: true })).find(({ name }) => name === "thirty");
const pid = resumed ?? known?.pid ?? (await os.spawn("thirty", { input: { start: 3 } }));
// A run of bad luck looks like a process that kills its host; a person who knows better says so.
if (known?.state === "quarantined") await os.resume(pid, { force: true });
writeSync(1, "running\n");
const exit = await os.wait(pid);
await os.flush();
writeSync(1, `${JSON.stringify(exit)}\n`);
await os.close();
