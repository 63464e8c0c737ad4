// The rights that exist, and the named profiles over them.

import { KernelError } from "../base/errno.ts";
import { type Effect, type Grant, parseGrant } from "./grant.ts";

/** Every right, with what its resource is. */
export const RIGHTS = {
  "fs.stat": "path: see that it exists, with its attributes",
  "fs.list": "path of a directory",
  "fs.read": "path",
  "fs.write": "path: create, change, move, remove",
  "fs.exec": "path",
  "fs.watch": "glob of paths",
  "content.read": "/sys/content: all content of the zone, by its id",
  "content.write": "/sys/content: store content by its id",
  "fs.handle": "the process itself: use of handles that it has opened",
  "proc.spawn": "name or module of a program",
  "proc.signal": "/proc/<pid>",
  "proc.wait": "/proc/<pid>",
  "proc.list": "/proc",
  "proc.step": "the process itself: its steps, log and progress",
  "event.subscribe": "/sys/events",
  "model.infer": "name of a model",
  "tool.call": "name of a tool",
  "net.connect": "host, or host:port where it is not the scheme's own",
  "net.private":
    "host, or host:port, that leads into this machine or a network that is not the internet: beside net.connect, for fetch and connect",
  "secret.read": "name of a secret",
  "data.read": "name of a data store",
  "data.write": "name of a data store",
  "mem.read": "region of memory",
  "mem.write": "region of memory",
  "mem.map": "region of memory",
  "msg.send": "/proc/<pid> or a topic",
  "msg.receive": "/proc/<pid> or a topic",
  "artifact.read": "/proc/<pid>/artifacts/<name>",
  "artifact.write": "/proc/<pid>/artifacts/<name>, its own",
  "queue.submit": "/srv/queues/<name>",
  "queue.claim": "/srv/queues/<name>: claim, renew, complete and fail its tasks",
  "queue.read": "/srv/queues/<name>",
  "queue.manage": "/srv/queues/<name>: cancel and resubmit its tasks",
  "service.read": "/sys/services/<name>",
  "service.call": "/sys/services/<name>; conditions see its `method` and `args`",
  "service.manage": "/sys/services/<name>, and /sys/services to enlist one",
  "schedule.read": "/proc/scheduled",
  "schedule.manage": "/proc/scheduled/<id>, and /proc/scheduled to make one",
  "trigger.read": "/sys/triggers",
  "trigger.manage": "/sys/triggers/<id>, and /sys/triggers to make one",
  "entity.define": "type of an entity",
  "entity.read": "type of an entity",
  "entity.transition": "type of an entity",
  "budget.read": "/proc/<pid>",
  "budget.allocate": "/proc/<pid>: move budget to it",
  "budget.request": "the process itself: ask for more",
  "usage.read": "/sys/usage",
  "group.read": "/sys/groups/<path>",
  "group.manage": "/sys/groups/<path>",
  "group.join": "/sys/groups/<path>: start processes in it",
  "cap.read": "/proc/<pid>",
  "cap.grant": "/proc/<pid>",
  "cap.revoke": "/proc/<pid>",
  "pass.issue": "audience of a pass",
  "ask.raise": "the process itself: ask a person",
  "ask.read": "/sys/asks",
  "ask.answer": "/sys/asks/<id>",
  "audit.read": "/sys/audit",
  "audit.redact": "/sys/audit",
  "sched.nice": "the process itself",
  "sched.realtime": "the process itself",
  "view.read": "/proc/<pid> that works on a view",
  "view.apply": "/proc/<pid> that works on a view",
  "lock.acquire": "path of what is locked; a bare name is /sys/locks/<name>",
  "lock.read": "/sys/locks",
  "lock.force": "path of a lock: end what others hold",
  "store.manage": "/sys/store",
  "kernel.module": "module of a program, or slot of the kernel",
} as const satisfies Record<string, string>;

/** What a process needs to work at all: its own steps, and asking for more budget. */
const SELF = ["proc.step", "fs.handle", "budget.request", "ask.raise"] as const;
const FILES = ["fs.stat", "fs.list", "fs.read", "fs.watch"] as const;
const FILES_CHANGED = ["fs.write", "fs.exec"] as const;
const SPEAK = [
  "msg.send",
  "msg.receive",
  "queue.submit",
  "queue.claim",
  "queue.read",
  "artifact.*",
  "service.call",
  "lock.acquire",
] as const;

/**
 * Names for sets of grants: ours, those of the designs that this unifies, and the roles of processes. A name
 * with a colon at its end takes what follows as the resource.
 */
export const PROFILES: Readonly<Record<string, readonly string[]>> = {
  self: SELF,
  all: ["*"],
  // hexDAG: the plan's names, and the taxonomy of its code.
  llm: ["model.infer"],
  memory: ["mem.*"],
  "datastore.read": ["data.read"],
  "datastore.write": ["data.write"],
  "tool:": ["tool.call"],
  spawner: ["proc.spawn", "proc.wait", "proc.signal", "proc.list"],
  secret: ["secret.read"],
  "vas.read": ["fs.read"],
  "vas.write": ["fs.write"],
  "vas.exec": ["fs.exec"],
  "vas.list": ["fs.list"],
  "vas.stat": ["fs.stat"],
  "port.llm": ["model.infer"],
  "port.tool_router": ["tool.call"],
  "port.data_store": ["data.*"],
  // HiveKernel.
  spawn_children: ["proc.spawn", "proc.wait"],
  kill_processes: ["proc.signal"],
  manage_tree: ["proc.*", "group.*"],
  shell_exec: ["fs.exec", "tool.call:shell"],
  network_access: ["net.connect"],
  file_write: [...FILES_CHANGED],
  file_read: [...FILES],
  budget_allocate: ["budget.*"],
  escalate: ["msg.send", "ask.raise"],
  broadcast: ["msg.send"],
  // AIOS: flags of its capability tokens.
  SPAWN_AGENT: ["proc.spawn", "proc.wait"],
  KILL_AGENT: ["proc.signal"],
  ALLOC_MEMORY: ["mem.*"],
  ACCESS_FS: ["fs.*"],
  ACCESS_NET: ["net.connect"],
  ACCESS_IO: ["fs.*", "tool.call"],
  SUPERVISOR: ["proc.*", "budget.*", "msg.*", "ask.read"],
  ADMIN: ["*"],
  // MCP clients: each holds what is before it.
  read: [...SELF, ...FILES, "proc.list", "budget.read", "usage.read", "cap.read", "event.subscribe"],
  execute: ["read", "proc.spawn", "proc.wait", "tool.call", "model.infer", "fs.exec"],
  modify: ["execute", "fs.*", "proc.signal", "data.*", "mem.*", "msg.*", "entity.*"],
  admin: ["*"],
  // Roles of processes.
  "role.kernel": ["*"],
  "role.daemon": [
    ...SELF,
    "proc.*",
    "budget.*",
    "schedule.*",
    "trigger.*",
    "service.*",
    "event.subscribe",
    "net.connect",
    ...FILES,
    ...SPEAK,
    "model.infer",
    "tool.call",
    "mem.*",
  ],
  "role.agent": ["role.lead"],
  "role.lead": [
    ...SELF,
    "proc.*",
    "net.connect",
    ...FILES,
    ...FILES_CHANGED,
    "budget.*",
    "schedule.*",
    "trigger.*",
    "event.subscribe",
    ...SPEAK,
    "model.infer",
    "tool.call",
    "mem.*",
  ],
  "role.architect": [...SELF, ...FILES, ...FILES_CHANGED, ...SPEAK, "model.infer", "mem.*"],
  "role.worker": [
    ...SELF,
    "proc.spawn",
    "proc.wait",
    "net.connect",
    ...FILES,
    ...FILES_CHANGED,
    ...SPEAK,
    "model.infer",
    "tool.call",
    "mem.*",
  ],
  "role.task": [
    ...SELF,
    ...FILES,
    "artifact.read",
    "msg.send",
    "msg.receive",
    "queue.claim",
    "model.infer",
    "tool.call",
  ],
};

const WITH_EFFECT = /^(allow|ask|deny)\s+(.+)$/su;

/**
 * Grants of texts that people wrote, with profiles replaced by what they stand for.
 * @throws {EINVAL} one is neither a grant of a known right nor the name of a profile
 */
export function parseGrants(texts: readonly string[]): readonly Grant[] {
  return texts.flatMap((text) => {
    if (typeof text !== "string") throw new KernelError("EINVAL", `a grant is a text, found ${typeof text}`);
    const [, effect, named = text] = WITH_EFFECT.exec(text.trim()) ?? [];
    const expanded = expand(named.trim());
    if (expanded === undefined) return [checked(parseGrant(text), text)];
    const grants = expanded.map(parseGrant);
    return effect === undefined ? grants : grants.map((grant) => ({ ...grant, effect: effect as Effect }));
  });
}

/** The grants of a profile, or nothing when the text names none. */
function expand(name: string): readonly string[] | undefined {
  if (Object.hasOwn(PROFILES, name)) return PROFILES[name]?.flatMap((inner) => expand(inner) ?? [inner]);
  const colon = name.indexOf(":") + 1;
  const prefix = name.slice(0, colon);
  const resource = name.slice(colon);
  if (colon === 0 || resource === "" || !Object.hasOwn(PROFILES, prefix)) return undefined;
  return PROFILES[prefix]?.map((right) => `${right}:${resource}`);
}

function checked(grant: Grant, text: string): Grant {
  const { right } = grant;
  if (right === "*" || Object.hasOwn(RIGHTS, right)) return grant;
  const family = right.split(".")[0] ?? "";
  const relatives = Object.keys(RIGHTS).filter((known) => known.startsWith(`${family}.`));
  if (right.endsWith(".*") && relatives.length > 0) return grant;
  const known =
    relatives.length > 0
      ? relatives.join(", ")
      : [...new Set(Object.keys(RIGHTS).map((name) => `${name.split(".")[0] ?? ""}.*`))].join(", ");
  throw new KernelError(
    "EINVAL",
    `${JSON.stringify(text)} names neither a right nor a profile; rights like it are ${known}. All are listed in docs/reference/rights.md`,
  );
}
