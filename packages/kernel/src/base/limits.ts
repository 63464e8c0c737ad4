// Every bound of the kernel in one place. Reaching one is an errno that names it, never silent truncation.

const KIB = 1024;
const MIB = 1024 * KIB;

export const LIMITS = {
  /** UTF-16 units of a whole path. */
  pathLengthMax: 4096,
  /** UTF-16 units of one name. */
  nameLengthMax: 255,
  /** Links followed while one path resolves. */
  linkHopsMax: 40,
  /** Tokens of one call, as they are asked for and told. */
  tokensMax: 1_000_000_000,
  /** Paths held by the route cache; it is emptied when full. */
  routeCacheMax: 65_536,
  /** Inodes held in memory by the kernel; the oldest clean ones go first. */
  inodeCacheMax: 65_536,
  /** UTF-16 units of the place of a step in its program. */
  placeMax: 1024,
  /** Handles one process may hold. */
  openFilesMax: 1024,
  /** File content up to this size lives beside its metadata, larger content in the object store. */
  inlineBytesMax: 16 * KIB,
  /** A step's outcome up to this size lives in the journal, a larger one in the object store. */
  inlineOutcomeMax: 64 * KIB,
  /** Bytes of JSON that one step, input or exit may hold. */
  outcomeBytesMax: 64 * MIB,
  /** Bytes that one read or write may carry. */
  ioBytesMax: 256 * MIB,
  /** Operations and bytes of one commit. */
  commitOpsMax: 100_000,
  commitBytesMax: 16 * MIB,
  /** Bytes of a key, and of the name of a log: what every store can hold. */
  keyBytesMax: 1900,
  /** Bytes of commits not yet written, in all; beyond it callers wait. */
  pendingBytesMax: 64 * MIB,
  /** Entries of a tree that is copied, compared or merged. */
  treeNodesMax: 50_000,
  /** Extended attributes of one file, and characters of a value. */
  extendedMax: 64,
  extendedValueMax: 4096,
  /** Bytes that wait in a pipe, and of one entry of a stream; entries that a stream keeps, and may be told to. */
  pipeBytes: MIB,
  /** Bytes of all streams in shared memory together. */
  sharedBytesMax: 1024 * MIB,
  /** What waits in all pipes of a host. */
  pipesBytesMax: 1024 * MIB,
  frameBytesMax: MIB,
  /** Rows that one query of a record store gives. */
  recordRowsMax: 10_000,
  /** Bytes of a cache in memory. */
  cacheBytes: 64 * MIB,
  streamKeep: 100_000,
  streamKeepMax: 1_000_000,
  /** Nesting of JSON values. */
  jsonDepthMax: 200,
  /** Entries of one page of a listing. */
  pageMax: 10_000,
  /** Live processes of one host. */
  processesMax: 100_000,
  /** Exited processes kept in memory for `wait` and `ps`; older ones are read from the store. */
  zombiesMax: 10_000,
  /** Nodes of one plan. */
  planNodesMax: 100_000,
  /** Items of one map node. */
  mapItemsMax: 1_000_000,
  /** Events buffered for one subscriber before its overflow policy applies. */
  subscriberBufferMax: 10_000,
  /** Subscriptions and watches that one process has at a time. */
  subscriptionsMax: 1000,
  /** Events kept for replay; older positions are ESTALE. */
  eventRetention: 100_000,
  /** Grants in one capability. */
  grantsMax: 16_384,
  /** Messages that wait for one process, and their bytes of JSON; bytes of one of them. */
  mailboxMax: 1000,
  mailboxBytesMax: 16 * MIB,
  messageBytesMax: MIB,
  /** Bytes of JSON that the result of a task may hold: it is part of one commit. */
  taskBytesMax: 12 * MIB,
  /** Tasks of all queues that are not over, and those that are and are kept. */
  tasksMax: 100_000,
  endedTasksMax: 10_000,
  /** Services of one host. */
  servicesMax: 1000,
  /** Devices whose failures in a row are counted. */
  breakersMax: 1000,
  /** Steps that one resumption does anew, or gives another outcome. */
  redoneMax: 1000,
  /** Recorded outcomes that a twin of a process may begin with. */
  twinRecordsMax: 50_000,
  /** Parts that a process is split into at once. */
  partsMax: 100,
  /** Hooks of a host, and calls that one may look at at the same time. */
  hooksMax: 1000,
  hookCallsMax: 1000,
  /** Locks that are held or waited for, and the longest time of one, in milliseconds: a week. */
  locksMax: 100_000,
  lockTtlMax: 7 * 86_400_000,
  /** Types of entities. */
  entityTypesMax: 1000,
  /** Schedules and triggers of one host. */
  schedulesMax: 10_000,
  triggersMax: 1000,
  /** Processes that triggers start because of each other, one behind the other. */
  orderDepthMax: 32,
  /** Bytes of JSON that one publication, or the data of one entity, holds. */
  publicationBytesMax: 64 * KIB,
  /** Questions of one process that nobody has answered. */
  asksMax: 256,
  /** Times a host may die while it resumes a process before that process is quarantined. */
  resumeDeathsMax: 3,
  /** Compare-and-set races lost before EAGAIN. */
  casRetriesMax: 16,
  /** Model output reserved when a request names no bound, in tokens. */
  defaultOutputTokensMax: 4096,
  /** Tools that a model may be offered, and calls of them in one answer. */
  modelToolsMax: 256,
  /** Milliseconds that calls of models, tools and the network may still take before another life of their process begins. */
  drainMs: 30_000,
  /** Code that ignores its signal is abandoned after this many milliseconds. */
  cancelGraceMs: 80,
  /** Milliseconds that work is shielded from the end of its process unless it says so, and at most. */
  shieldMs: 10_000,
  shieldMaxMs: 60_000,
  /** Shields of one process at a time. */
  shieldsMax: 1000,
  /** Lines of log kept per process in memory; all of them are in its journal. */
  logLineMax: 8 * KIB,
  /** Longest wait of one `sleep`, in milliseconds: a hundred years. */
  sleepMsMax: 100 * 366 * 86_400_000,
} as const;
