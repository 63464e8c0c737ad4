// The commands by name, each loaded when it is called, and the options that all of them take.

import type { Command } from "./command.ts";

/** Commands by name; each is loaded when it is called. */
export const COMMANDS: Readonly<Record<string, { readonly summary: string; readonly load: () => Promise<Command> }>> = {
  run: {
    summary: "run a program to its end, durably",
    load: async () => (await import("./command/run.ts")).runCommand,
  },
  resume: {
    summary: "run a process on that its host left behind, or try a failed one again",
    load: async () => (await import("./command/run.ts")).resumeCommand,
  },
  ps: { summary: "list processes", load: async () => (await import("./command/process.ts")).psCommand },
  tree: { summary: "show processes as a tree", load: async () => (await import("./command/process.ts")).treeCommand },
  logs: {
    summary: "show what a process logged, and what happened to it",
    load: async () => (await import("./command/process.ts")).logsCommand,
  },
  kill: {
    summary: "send a signal to a process and its branch",
    load: async () => (await import("./command/process.ts")).killCommand,
  },
  schedule: {
    summary: "list what is started by the clock, or add, pause, resume or remove it",
    load: async () => (await import("./command/schedule.ts")).scheduleCommand,
  },
  trigger: {
    summary: "list what is started when something happens, or add or remove it",
    load: async () => (await import("./command/trigger.ts")).triggerCommand,
  },
  publish: {
    summary: "tell something to whom it concerns",
    load: async () => (await import("./command/trigger.ts")).publishCommand,
  },
  queue: {
    summary: "list tasks of work queues, or submit, cancel or resubmit one",
    load: async () => (await import("./command/queue.ts")).queueCommand,
  },
  service: {
    summary: "list services, or add, start, stop, check, swap, call or remove one",
    load: async () => (await import("./command/service.ts")).serviceCommand,
  },
  sh: {
    summary: "a shell over the namespace: its files and processes, nothing of the machine",
    load: async () => (await import("./command/sh.ts")).shCommand,
  },
  snapshot: {
    summary: "copy a file or a tree as it is at one moment, without its content",
    load: async () => (await import("./command/tree.ts")).snapshotCommand,
  },
  restore: {
    summary: "make a tree like another, such as a snapshot of it, in one step",
    load: async () => (await import("./command/tree.ts")).restoreCommand,
  },
  diff: {
    summary: "show what a process has changed in its view, or what is different between two trees",
    load: async () => (await import("./command/tree.ts")).diffCommand,
  },
  apply: {
    summary: "bring what a process has changed in its view into the tree, all of it or nothing",
    load: async () => (await import("./command/tree.ts")).applyCommand,
  },
  discard: {
    summary: "throw away what a process has changed in its view",
    load: async () => (await import("./command/tree.ts")).discardCommand,
  },
  lock: {
    summary: "list locks, give one back, or run a command while one is held",
    load: async () => (await import("./command/lock.ts")).lockCommand,
  },
  clean: {
    summary: "delete runs that ended long ago, and content that nothing names",
    load: async () => (await import("./command/store.ts")).cleanCommand,
  },
  fsck: {
    summary: "look whether everything in the data directory holds together",
    load: async () => (await import("./command/store.ts")).fsckCommand,
  },
  errors: {
    summary: "show what has failed lately, the same errors as one, or one of them whole",
    load: async () => (await import("./command/errors.ts")).errorsCommand,
  },
  alerts: {
    summary: "list triggers that act when events become too many, and whether they are raised",
    load: async () => (await import("./command/errors.ts")).alertsCommand,
  },
  up: {
    summary: "keep a host running: runs go on, schedules act, sleepers are woken",
    load: async () => (await import("./command/schedule.ts")).upCommand,
  },
  serve: {
    summary: "serve the files of this host to desktops and programs, by WebDAV",
    load: async () => (await import("./command/serve.ts")).serveCommand,
  },
  clone: {
    summary: "start a twin of a process that goes on from where that is",
    load: async () => (await import("./command/life.ts")).cloneCommand,
  },
  upgrade: {
    summary: "give a running process another program, under the same pid",
    load: async () => (await import("./command/life.ts")).upgradeCommand,
  },
  merge: {
    summary: "end a process and leave another what it has",
    load: async () => (await import("./command/life.ts")).mergeCommand,
  },
  split: {
    summary: "start parts of a process below it, each with an input of its own",
    load: async () => (await import("./command/life.ts")).splitCommand,
  },
  signal: {
    summary: "send a signal to processes",
    load: async () => (await import("./command/process.ts")).signalCommand,
  },
  wait: {
    summary: "wait for processes to end",
    load: async () => (await import("./command/process.ts")).waitCommand,
  },
  ls: { summary: "list a directory of the namespace", load: async () => (await import("./command/file.ts")).lsCommand },
  cat: { summary: "show files of the namespace", load: async () => (await import("./command/file.ts")).catCommand },
  watch: {
    summary: "show changes of files as they happen",
    load: async () => (await import("./command/file.ts")).watchCommand,
  },
  write: {
    summary: "write a file of the namespace",
    load: async () => (await import("./command/file.ts")).writeCommand,
  },
  exec: { summary: "invoke what a path names", load: async () => (await import("./command/file.ts")).execCommand },
  stat: { summary: "tell what a path is", load: async () => (await import("./command/file.ts")).statCommand },
  glob: { summary: "find files by their paths", load: async () => (await import("./command/search.ts")).globCommand },
  grep: { summary: "find lines in files", load: async () => (await import("./command/search.ts")).grepCommand },
  budget: {
    summary: "show what a process may spend and has spent, or add to it",
    load: async () => (await import("./command/budget.ts")).budgetCommand,
  },
  usage: {
    summary: "sum up what model and tool calls were charged",
    load: async () => (await import("./command/budget.ts")).usageCommand,
  },
  group: {
    summary: "list, make, change, freeze, thaw or remove groups of processes",
    load: async () => (await import("./command/group.ts")).groupCommand,
  },
  caps: {
    summary: "show what a process may do, and by which grants",
    load: async () => (await import("./command/rights.ts")).capsCommand,
  },
  why: {
    summary: "tell whether a process may do something, and why",
    load: async () => (await import("./command/rights.ts")).whyCommand,
  },
  grant: {
    summary: "add grants to a running process, or narrow it",
    load: async () => (await import("./command/rights.ts")).grantCommand,
  },
  revoke: {
    summary: "take grants back at once",
    load: async () => (await import("./command/rights.ts")).revokeCommand,
  },
  pass: {
    summary: "issue, narrow, seal, show or revoke passes, or rotate the keys that sign them",
    load: async () => (await import("./command/pass.ts")).passCommand,
  },
  secret: {
    summary: "keep secrets of the data directory, encrypted",
    load: async () => (await import("./command/secret.ts")).secretCommand,
  },
  audit: {
    summary: "show, verify, export, redact or trim the record of every change and denial",
    load: async () => (await import("./command/audit.ts")).auditCommand,
  },
  asks: {
    summary: "list questions that wait for a person",
    load: async () => (await import("./command/rights.ts")).asksCommand,
  },
  answer: {
    summary: "answer a question of a process",
    load: async () => (await import("./command/rights.ts")).answerCommand,
  },
  top: {
    summary: "show processes and what they use, live",
    load: async () => (await import("./command/top.ts")).topCommand,
  },
  init: {
    summary: "write a first pipeline that runs at once",
    load: async () => (await import("./command/init.ts")).initCommand,
  },
  validate: {
    summary: "check manifests and start nothing",
    load: async () => (await import("./command/manifest.ts")).validateCommand,
  },
  lint: {
    summary: "check manifests and what is unwise in them",
    load: async () => (await import("./command/manifest.ts")).lintCommand,
  },
  plan: {
    summary: "show what a manifest or module compiles to",
    load: async () => (await import("./command/manifest.ts")).planCommand,
  },
  graph: {
    summary: "draw a pipeline, as Mermaid or SVG",
    load: async () => (await import("./command/manifest.ts")).graphCommand,
  },
  explain: {
    summary: "tell what a field of a manifest is",
    load: async () => (await import("./command/manifest.ts")).explainCommand,
  },
  schema: {
    summary: "print the JSON Schema of manifests",
    load: async () => (await import("./command/manifest.ts")).schemaCommand,
  },
  completion: {
    summary: "print the completion of bash or zsh",
    load: async () => (await import("./command/completion.ts")).completionCommand(Object.keys(COMMANDS), optionsOf),
  },
  zone: {
    summary: "list the zones of the data directory, or remove one",
    load: async () => (await import("./command/zone.ts")).zoneCommand,
  },
  doctor: {
    summary: "tell what is installed, which models answer, and what this host enforces",
    load: async () => (await import("./command/doctor.ts")).doctorCommand,
  },
};

export const COMMON = {
  dir: { type: "string" },
  zone: { type: "string" },
  json: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

async function optionsOf(name: string): Promise<readonly string[]> {
  if (name === "completion") return Object.keys(COMMON).map((option) => `--${option}`);
  const command = await COMMANDS[name]?.load();
  return Object.keys({ ...COMMON, ...command?.options }).map((option) => `--${option}`);
}
