// The host of the budget chaos: starts the workers that are missing, resumes the others, and says how far it is.

import { writeSync } from "node:fs";
import { type RunContext, program } from "@ergos/services";
import { connect, createOpenAiModel } from "ergos";
import { type ChaosPlan, GROUP, budgetOf, workerName } from "./budget-plan.ts";

const plan = JSON.parse(process.argv[2] ?? "{}") as ChaosPlan;

const model = createOpenAiModel("chaos", {
  name: "loop",
  baseUrl: plan.url,
  effect: "once",
  // Ten micro-dollars a token of answers, one a token of requests.
  prices: { chaos: { input: 1, output: 10 } },
});

const worker = program("worker", async ({ number }: { readonly number: number }, ctx: RunContext) => {
  const calls = Array.from({ length: plan.callsEach }, async (_, at) => {
    // A call is tried until it is answered, or the budget says no.
    for (let attempt = 1; ; attempt++) {
      try {
        await ctx.infer(
          `call${at}`,
          { messages: [{ role: "user", content: `worker ${number}` }], maxOutputTokens: plan.maxOutput },
          { onUnknown: "repeat" },
        );
        return "answered";
      } catch (error) {
        const { code } = error as { readonly code?: string };
        if (code === "EDQUOT") return "refused";
        if (code === "ECANCELED" || attempt >= 50) throw error;
      }
    }
  });
  const ends = await Promise.all(calls);
  return ends.filter((end) => end === "answered").length;
});

const os = await connect({ dir: plan.dir, serve: false, models: [model], programs: [worker] });
const groups = await os.call("groups", {});
if (groups.length === 0) await os.call("setGroup", { group: GROUP, budget: budgetOf(plan, plan.workers) });
const known = new Map((await os.ps({ all: true, limit: 10_000 })).map((process) => [process.name, process]));
for (let number = 0; number < plan.workers; number++) {
  const name = workerName(number);
  if (known.has(name)) continue;
  await os.spawn("worker", { name, input: { number }, group: GROUP, budget: budgetOf(plan, 1) });
}
for (const process of known.values()) {
  // A run of bad luck looks like a process that kills its host; a person who knows better says so.
  if (process.state === "quarantined") await os.resume(process.pid, { force: true });
}
writeSync(1, "running\n");
const workers = (await os.ps({ all: true, limit: 10_000 })).filter(({ name }) => name.startsWith("worker-"));
const exits = await Promise.all(workers.map(({ pid }) => os.wait(pid)));
await os.flush();
writeSync(1, `${JSON.stringify({ ended: exits.length, failed: exits.filter(({ code }) => code !== 0).length })}\n`);
await os.close();
