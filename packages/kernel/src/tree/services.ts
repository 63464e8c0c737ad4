// `/sys/services`: services and what can be done with them. `/lib/services`: what they offer, to be called.

import type { DirEntry } from "../abi/file.ts";
import type { JsonValue } from "../base/json.ts";
import type { Host } from "../syscall/host.ts";
import { type Provider, type VirtualNode, collection, directory, jsonFile } from "../vfs/provider.ts";

const ACTIONS = {
  start: "startService",
  stop: "stopService",
  restart: "restartService",
  check: "checkService",
} as const;

export function servicesNode(host: Host): VirtualNode {
  return collection(
    () => host.services.all.map(({ name }): DirEntry => ({ name, type: "directory" })),
    (name) => {
      const found = host.services.get(name);
      if (found === undefined) return undefined;
      const { description, state } = found;
      const more = { entityType: "service", status: state, ...(description === undefined ? {} : { description }) };
      const actions = Object.entries(ACTIONS).map(([action, row]): [string, VirtualNode] => [
        action,
        { type: "file", exec: { inputSchema: {}, call: () => ({ row, args: { name } }) } },
      ]);
      const status = jsonFile(
        () => JSON.parse(JSON.stringify(host.vault.maskData(host.services.get(name) ?? null))) as JsonValue,
        more,
      );
      return directory({ status, ...Object.fromEntries(actions) }, more);
    },
    { description: "services of this host, with their states" },
  );
}

export function libServicesProvider(host: Host): Provider {
  return {
    name: "services",
    root: collection(
      () => host.services.all.map(({ name }): DirEntry => ({ name, type: "directory" })),
      (service) => {
        const found = host.services.get(service);
        return found === undefined ? undefined : methodsNode(host, service);
      },
      { description: "what services offer; exec a method to call it" },
    ),
  };
}

function methodsNode(host: Host, service: string): VirtualNode {
  const methods = host.services.contractOf(service)?.methods ?? {};
  const entries = Object.entries(methods).map(([method, { summary, input = {}, tool }]): [string, VirtualNode] => [
    method,
    jsonFile(
      () => ({
        service,
        method,
        summary,
        ...(tool === undefined ? {} : { tool: `${service}.${method}` }),
        input: JSON.parse(JSON.stringify(input)) as JsonValue,
      }),
      {
        entityType: "method",
        description: summary,
        exec: {
          inputSchema: input,
          call: (given) => ({ row: "callService", args: { service, method, args: given ?? {} } }),
        },
      },
    ),
  ]);
  return directory(Object.fromEntries(entries), { entityType: "service" });
}
