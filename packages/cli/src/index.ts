// `ergos`: the library.

export {
  type BootedHost,
  bootHost,
  createOfflineModel,
  createOpenAiModel,
  createOpenAiProvider,
  type HostOptions,
  type MountSpec,
  toModel,
} from "./boot.ts";
export { PROFILES, type OptionalDriver, type Profile, type ProfileName } from "./profile.ts";
export { connect, type ConnectOptions, type ErgOs, type RunOptions, type Runnable } from "./connect.ts";
export {
  KernelError,
  isKernelError,
  toPid,
  hookOn,
  type Errno,
  type Exit,
  type FileStat,
  type Hook,
  type KernelEvent,
  type InferRequest,
  type Model,
  type ModelMessage,
  type ModelRequest,
  type ModelResponse,
  type ModelTool,
  type ModelToolCall,
  type Os,
  type Pid,
  type Tool,
  type ProcessSummary,
} from "@ergos/kernel";
export {
  type Code,
  type Conversation,
  converse,
  type ConverseOptions,
  type Lease,
  type LeaseOptions,
  createPlan,
  type Edit,
  editFile,
  globFiles,
  grepFiles,
  pipeline,
  planProgram,
  type Plan,
  program,
  recordService,
  type RecordService,
  type RunContext,
} from "@ergos/services";
export { openShell, toBashFs, toNodeFs, type NodeFs, type Shell } from "@ergos/services/faces";
