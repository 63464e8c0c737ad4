// Mastra's workflows of no-op steps; with `store`, its SQLite (libsql) storage.
import { Mastra } from "@mastra/core";
import { createStep, createWorkflow } from "@mastra/core/workflows";
import { LibSQLStore } from "@mastra/libsql";
import { z } from "zod";

const any = z.any();
const step = (id, execute = async () => 1) => createStep({ id, inputSchema: any, outputSchema: any, execute });
const begin = (id) => createWorkflow({ id, inputSchema: any, outputSchema: any });

export function chain(length, execute) {
  let workflow = begin("chain");
  for (let at = 0; at < length; at++) workflow = workflow.then(step(`n${at}`, execute));
  return workflow.commit();
}

/** Layers that run in parallel, one after the other: the nearest that a workflow has to a layered graph. */
export function layered(layers, width) {
  let workflow = begin("layered");
  for (let layer = 0; layer < layers; layer++)
    workflow = workflow.parallel(Array.from({ length: width }, (_, at) => step(`n${layer}_${at}`)));
  return workflow.commit();
}

export function runner(workflow) {
  return async () => {
    const run = await workflow.createRun();
    const { status } = await run.start({ inputData: {} });
    if (status !== "success") throw new TypeError(`mastra ended as ${status}`);
  };
}

export function stored(workflow, file) {
  const mastra = new Mastra({
    storage: new LibSQLStore({ id: "bench", url: `file:${file}` }),
    workflows: { it: workflow },
    logger: false,
  });
  return runner(mastra.getWorkflow("it"));
}
