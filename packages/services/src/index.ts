// `@ergos/services`: what runs above the kernel.

export { type Conversation, converse, type ConverseOptions } from "./converse.ts";
export { createTool, type ToolSpec } from "./create-tool.ts";
export type { StandardSchema } from "./form.ts";
export { type FunctionProgram, type ProgramOptions, program } from "./function-program.ts";
export { TerminalError } from "@ergos/kernel";
export { Skipped } from "./failure.ts";
export { compileGraph, type Graph } from "./plan/graph.ts";
export { generateObject, type Generated, type GenerateOptions } from "./generate-object.ts";
export { editFile, type Edit } from "./files/edit.ts";
export { globFiles, grepFiles, type Found, type GlobOptions, type GrepOptions, type Match } from "./files/find.ts";
export { electionOf, holdLock, Lease, type LeaseOptions } from "./lease.ts";
export {
  createPlan,
  isPlan,
  type MapOptions,
  type NodeOptions,
  pipeline,
  PipelineBuilder,
  type Plan,
  type PlanNode,
} from "./plan/plan.ts";
export { planProgram } from "./plan/runner.ts";
export { type Code, isReference, toPlan, toProgram, toPrograms, toRunnable } from "./program-of.ts";
export { SYSTEM_LIBRARIES } from "./system/libraries.ts";
export { maintenance, type MaintenanceOptions } from "./system/maintenance.ts";
export { type RecordService, recordService } from "./system/records.ts";
export { PROCESS_TOOLS } from "./tools/process-tools.ts";
export { FILE_TOOLS } from "./tools/file-tools.ts";
export { type CallOptions, type InferOptions, type LetterOptions, RunContext } from "./run-context.ts";
export type { Attempt, Retry, StepOptions, TryOptions } from "./tries.ts";
