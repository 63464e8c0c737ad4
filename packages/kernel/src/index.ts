// The public face of the kernel.

export type { Calendar } from "./abi/calendar.ts";
export { type Effects, decide, measure } from "./abi/decide.ts";
export * from "./abi/cache-store.ts";
export * from "./abi/event.ts";
export * from "./abi/file.ts";
export { type MountLimits } from "./vfs/guarded-mount.ts";
export * from "./abi/governance.ts";
export type { Hook, HookCall, HookOutcome } from "./abi/hook.ts";
export * from "./abi/flow.ts";
export * from "./abi/lock.ts";
export * from "./abi/metastore.ts";
export * from "./abi/model.ts";
export * from "./abi/net.ts";
export * from "./abi/record-store.ts";
export * from "./abi/object-store.ts";
export * from "./abi/platform.ts";
export * from "./abi/pass.ts";
export * from "./abi/secret.ts";
export * from "./abi/signer.ts";
export * from "./abi/tool.ts";
export { within } from "./abi/within.ts";
export type { AuditPayload, AuditRecord } from "./audit/record.ts";
export { type AuditFault, type AuditReport, type AuditWitness, type ShownRecord, verifyAudit } from "./audit/verify.ts";
export * from "./base/abort.ts";
export * from "./base/errno.ts";
export * from "./base/glob.ts";
export * from "./base/id.ts";
export { copyBytes } from "./base/bytes.ts";
export * from "./base/json.ts";
export { longTimer } from "./base/long-timer.ts";
export { Serial } from "./base/serial.ts";
export * from "./base/limits.ts";
export * from "./base/path.ts";
export { present } from "./base/present.ts";
export * from "./base/schema.ts";
export { type UsageEntry, type UsageKey, type UsageRow, USAGE_KEYS, usageEntries } from "./budget/ledger.ts";
export { LIMITS_SCHEMA, ON_LIMIT, type OnLimit, type ProcessLimits } from "./budget/limits.ts";
export { type Price, type PriceList, PriceTable } from "./budget/price.ts";
export { FairOrder, type Share } from "./budget/fair.ts";
export {
  RATE_KINDS,
  RATE_RESOURCES,
  RATE_SCOPES,
  type RateLimit,
  RateTable,
  SlidingWindow,
  type Taking,
  TokenBucket,
  rateProblem,
} from "./budget/rate.ts";
export {
  type Amounts,
  RESOURCES,
  RESOURCE_UNITS,
  type Resource,
  formatAmount,
  parseAmount,
  toMicros,
} from "./budget/resource.ts";
export { Capability, type Decision, type Explanation, type LayerReason } from "./cap/capability.ts";
export { type Condition, type Effect, type Grant, formatGrant, parseGrant } from "./cap/grant.ts";
export { PROFILES, RIGHTS, parseGrants } from "./cap/rights.ts";
export { type Answer, type Ask, VERDICTS } from "./proc/ask-table.ts";
export type { EventFilter } from "./ipc/event-bus.ts";
export {
  MESSAGE_KINDS,
  Mailbox,
  type Message,
  type MessageKind,
  PRIORITIES,
  type Priority,
  RELATIONS,
  type Relation,
} from "./ipc/mailbox.ts";
export { formatRecord } from "./journal/format.ts";
export type { Attempts } from "./journal/journal.ts";
export { placeOfStep, stepName } from "./tree/proc.ts";
export { JOURNAL_FORMAT, type JournalRecord, type Outcome } from "./journal/record.ts";
export { KERNEL_VERSION, type KernelParts } from "./boot.ts";
export { Kernel, type Login } from "./kernel.ts";
export { type Exit, type ProcessState, SIGNALS, type Signal, type Usage } from "./proc/process.ts";
export { type ProcessContext, type Program, type ProgramSource, RUNTIMES, type Runtime } from "./proc/program.ts";
export { RESTART_POLICIES, type Restart, type RestartPolicy, STRATEGIES, type Strategy } from "./proc/restart.ts";
export { ROLES, type Role } from "./proc/role.ts";
export type { Outlook, Redoing, Repeated } from "./proc/redo.ts";
export { type ProcessSummary, STATUSES, type Status, statusOf } from "./proc/summary.ts";
export type { BreakerOptions, BreakerSummary } from "./syscall/breaker.ts";
export type { HookSummary } from "./syscall/hook-table.ts";
export type { FetchAnswer, FetchCall } from "./syscall/net-fetch.ts";
export type { ProgramLoader, ZoneEntry } from "./syscall/host.ts";
export {
  type Files,
  type Handle,
  type ItemOutcome,
  type Os,
  type ContentFace,
  type PipeFace,
  type StreamFace,
  type ServiceFace,
  makeOs,
  osWithin,
} from "./syscall/os.ts";
export { printable } from "./journal/format.ts";
export { WITHIN_STEP, stepAround } from "./syscall/row.ts";
export type { Facts } from "./syscall/rows-self.ts";
export type { Action } from "./proc/action.ts";
export { TASK_STATES, type Claim, type Task, type TaskFilter, type TaskRequest, type TaskState } from "./proc/task.ts";
export type { Entity, EntityChange, EntityTransition, EntityType, Transit } from "./proc/entity-table.ts";
export { type Artifact, type ArtifactRequest, VISIBILITIES, type Visibility } from "./proc/artifact-table.ts";
export {
  FAULT_POLICIES,
  type FaultCounts,
  type FaultPolicies,
  type FaultPolicy,
  TRAPS,
  type Trap,
} from "./proc/fault.ts";
export type { ErrorGroup } from "./ipc/error-groups.ts";
export type { Happening, Trigger, TriggerRequest } from "./proc/trigger-table.ts";
export * from "./service/service.ts";
export type { ServiceLoader } from "./service/service-table.ts";
export {
  type Check,
  type EnlistOptions,
  SERVICE_STATES,
  type ServiceState,
  type ServiceStatus,
} from "./service/unit.ts";
export { MISSED, OVERLAPS, type Schedule, type ScheduleRequest } from "./proc/schedule-table.ts";
export { type Collapsed, type SpawnArgs, parsePid } from "./syscall/rows-process.ts";
export {
  SYSCALLS,
  type SyscallArgs,
  type SyscallName,
  type SyscallResult,
  hookOn,
  isSyscallName,
} from "./syscall/table.ts";
export { takeOutcome } from "./journal/record.ts";
export type { CheckReport, CheckRequest, Problem } from "./care/checker.ts";
export type { Collected, CollectRequest } from "./care/collector.ts";
export type { Pruned, PruneRequest } from "./care/pruner.ts";
export { type LockKind, LockOrder } from "./lock/lock-order.ts";
export { PathLocks } from "./lock/path-locks.ts";
export { LockQueue, type LockWaiter, excludes } from "./lock/lock-queue.ts";
export type { TreeChange } from "./vfs/tree.ts";
export type { TreeConflict, TreeMerge } from "./vfs/tree-store.ts";
export type { View, ViewRecord } from "./proc/view.ts";
export { Blobs } from "./vfs/blobs.ts";
export { SharedRing } from "./vfs/shared-ring.ts";
export type { Provider, RowCall, VirtualNode } from "./vfs/provider.ts";
