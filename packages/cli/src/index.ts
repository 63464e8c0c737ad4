// `ergos`: the library.

export { type BootedHost, bootHost, type HostOptions, type MountSpec } from "./boot.ts";
export { connect, type ConnectOptions, type ErgOs, type RunOptions } from "./connect.ts";
export {
  KernelError,
  isKernelError,
  type Errno,
  type Exit,
  type FileStat,
  type KernelEvent,
  type Model,
  type ModelRequest,
  type ModelResponse,
  type Os,
  type Pid,
  type ProcessSummary,
} from "@ergos/kernel";
export { createPlan, pipeline, planProgram, type Plan, program, type RunContext } from "@ergos/services";
export { createOfflineModel } from "@ergos/drivers/model-offline";
