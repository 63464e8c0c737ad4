// `/sys`: the kernel about itself. `/etc/pipelines`: programs that this host knows by name. `/lib/tools`: tools that it has.

import type { DirEntry } from "../abi/file.ts";
import { ERRNO } from "../base/errno.ts";
import { LIMITS } from "../base/limits.ts";
import { EVENTS } from "../abi/event.ts";
import type { JsonValue } from "../base/json.ts";
import { groupErrors } from "../ipc/error-groups.ts";
import { type VfsPath, toPath } from "../base/path.ts";
import { LOCKS } from "../syscall/rows-lock.ts";
import { summariseGroup } from "../syscall/rows-group.ts";
import type { Host } from "../syscall/host.ts";
import { SYSCALLS } from "../syscall/table.ts";
import { RIGHTS } from "../cap/rights.ts";
import { programsNode } from "./lib.ts";
import { servicesNode } from "./services.ts";
import { type Provider, collection, directory, jsonFile } from "../vfs/provider.ts";

export function sysProvider(host: Host): Provider {
  return {
    name: "sys",
    root: directory({
      version: { type: "file", text: () => `${host.version}\n`, json: () => host.version },
      config: jsonFile(() => ({ limits: { ...LIMITS } }), { description: "bounds of this kernel" }),
      mounts: jsonFile(() =>
        host.fs.namespace.mounts.map(({ at, kind, ...mount }) => ({
          at,
          kind,
          ...("driver" in mount
            ? { driver: mount.driver.name, source: mount.driver.source, readOnly: mount.driver.readOnly }
            : {}),
        })),
      ),
      breakers: jsonFile(() => host.breakers.all as unknown as JsonValue, {
        description: "models and hosts of the network that have failed lately, and those that are left alone",
      }),
      hooks: jsonFile(() => host.hooks.all as unknown as JsonValue, {
        description: "code that looks at the calls of everybody, in its order",
      }),
      events: jsonFile(() => ({ ...host.bus.counters, names: Object.keys(EVENTS) })),
      errno: jsonFile(() => Object.entries(ERRNO).map(([code, row]) => ({ code, ...row })), {
        description: "codes of errors",
      }),
      errors: jsonFile(
        async () =>
          JSON.parse(JSON.stringify(host.vault.maskData(await groupErrors(host.bus, host.platform, {})))) as JsonValue,
        { description: "errors with which processes and tasks have failed lately, grouped" },
      ),
      syscalls: jsonFile(() =>
        Object.entries(SYSCALLS).map(([name, { right, kind, summary }]) => ({ name, right, kind, summary })),
      ),
      faults: jsonFile(() => ({ ...host.processes.faults }), {
        description: "kinds of failures that programs have ended with, since the start of the host",
      }),
      sched: jsonFile(() => ({
        processes: host.processes.all.length,
        running: host.processes.all.filter((process) => process.state.name === "running").length,
        waiting: host.processes.all.filter((process) => process.state.name === "waiting").length,
        orphans: host.processes.orphans,
      })),
      groups: collection(
        () => host.groups.all.map(({ path }): DirEntry => ({ name: path.replaceAll("/", "%2F"), type: "file" })),
        (name) => {
          const group = host.groups.find(name.replaceAll("%2F", "/"));
          if (group === undefined) return undefined;
          return jsonFile(async () => JSON.parse(JSON.stringify(await summariseGroup(host, group))) as JsonValue, {
            entityType: "group",
            status: group.isFrozen ? "frozen" : "running",
          });
        },
        { description: "groups of processes; %2F stands between the names of a nested one" },
      ),
      asks: jsonFile(() => JSON.parse(JSON.stringify(host.asks.pending)) as JsonValue, {
        description: "questions that wait for a person",
      }),
      triggers: collection(
        () => host.triggers.all.map(({ id }): DirEntry => ({ name: String(id), type: "file" })),
        (name) => {
          const trigger = host.triggers.get(Number(name));
          return trigger === undefined || String(trigger.id) !== name
            ? undefined
            : jsonFile(() => JSON.parse(JSON.stringify(host.vault.maskData(trigger))) as JsonValue, {
                entityType: "trigger",
              });
        },
        { description: "what is done when something happens" },
      ),
      locks: collection(
        () => host.locks.list().map(({ path }): DirEntry => ({ name: lockName(path), type: "file" })),
        (name) => {
          const path = lockPath(name);
          const [found] = path === undefined ? [] : host.locks.list(path);
          return found === undefined || found.holders.length + found.waiting === 0
            ? undefined
            : jsonFile(() => JSON.parse(JSON.stringify(host.locks.list(found.path)[0] ?? null)) as JsonValue, {
                entityType: "lock",
                status: found.waiting === 0 ? "held" : `held, ${found.waiting} wait`,
              });
        },
        { description: "locks that are held: by their names, or their paths with %2F for each slash" },
      ),
      zones: jsonFile(
        () => [{ name: host.zone, id: host.id, state: "open" }, ...host.zones().map((zone) => ({ ...zone }))],
        { description: "partitions of the data, as far as this one may know of them" },
      ),
      hosts: jsonFile(() => [{ id: host.id, version: host.version, epoch: host.audit.epoch, state: "online" }], {
        description: "hosts that serve the data",
      }),
      audit: jsonFile(() => ({ epoch: host.audit.epoch, head: host.audit.head }), {
        description: "the head of the chain of records; `ergos audit log` shows them",
      }),
      caps: jsonFile(() => ({ ...RIGHTS }), { description: "rights, and what each is about" }),
      memory: jsonFile(() => ({ processes: host.processes.family.size, inodes: host.fs.namespace.size }), {
        description: "what this host holds in memory",
      }),
      services: servicesNode(host),
      store: jsonFile(() => ({ seq: host.store.seq, durability: host.store.features.durability })),
    }),
  };
}

const lockName = (path: VfsPath): string =>
  (path.startsWith(`${LOCKS}/`) ? path.slice(LOCKS.length + 1) : path).replaceAll("/", "%2F");
const lockPath = (name: string): VfsPath | undefined =>
  name.includes("\0") ? undefined : toPath(name.replaceAll("%2F", "/"), toPath(LOCKS));

export function pipelinesProvider(host: Host): Provider {
  return {
    name: "pipelines",
    root: programsNode(host, "programs of this host; exec one to spawn it"),
  };
}

export function toolsProvider(host: Host): Provider {
  return {
    name: "tools",
    root: collection(
      () => [...host.tools.keys()].map((name): DirEntry => ({ name, type: "file" })),
      (name) => {
        const tool = host.tools.get(name);
        if (tool === undefined) return undefined;
        const { description, inputSchema, effect } = tool;
        return {
          type: "file",
          entityType: "tool",
          description,
          tags: { effect },
          json: () => ({
            name,
            description,
            effect,
            inputSchema: JSON.parse(JSON.stringify(inputSchema)) as JsonValue,
          }),
          exec: {
            inputSchema,
            // A call from outside of a program has no place of its own in it.
            call: (input) => ({
              row: "call",
              args: {
                place: `exec/${name}#${host.store.seq}.${host.platform.random(6).join("")}`,
                tool: name,
                arguments: input ?? {},
              },
            }),
          },
        };
      },
      { description: "tools of this host; exec one to call it" },
    ),
  };
}

/** `/etc/config`: how this host was set up. */
export function configProvider(host: Host): Provider {
  return {
    name: "config",
    root: directory({
      host: jsonFile(() => ({ user: host.owner.identity.user, id: host.id, version: host.version })),
      limits: jsonFile(() => ({ ...LIMITS })),
    }),
  };
}

/** `/etc/policies`: what decides over users beside the rights of processes. */
export function policiesProvider(host: Host): Provider {
  const policies =
    host.governance === undefined ? {} : { policy: jsonFile(() => ({ policy: "the policy of this host" })) };
  return { name: "policies", root: directory(policies) };
}
