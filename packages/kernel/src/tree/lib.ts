// `/lib`: what a host has to be used: drivers that are bound, programs by name, and older names as links. `/dev/ports`: the
// contracts of the host, and what is behind each.

import type { DirEntry } from "../abi/file.ts";
import type { JsonValue } from "../base/json.ts";
import { toPath } from "../base/path.ts";
import type { Host } from "../syscall/host.ts";
import { type Provider, type VirtualNode, collection, directory, jsonFile } from "../vfs/provider.ts";

const link = (to: string): VirtualNode => ({ type: "link", target: toPath(to) });

export function libProvider(host: Host): Provider {
  return {
    name: "lib",
    root: directory({
      agents: programsNode(host, "programs that can be spawned by these paths; exec one to spawn it"),
      drivers: portsNode(host),
      adapters: link("/lib/drivers"),
      libs: link("/lib/services"),
    }),
  };
}

/** Programs that a host knows by name. */
export function programsNode(host: Host, description: string): VirtualNode {
  return collection(
    () => [...host.programs.keys()].map((name): DirEntry => ({ name, type: "file" })),
    (name) => {
      const program = host.programs.get(name);
      if (program === undefined) return undefined;
      return {
        type: "file",
        entityType: "pipeline",
        description: program.name,
        tags: { kind: program.kind, runtime: program.source?.runtime ?? "inline", revision: program.revision },
        json: () => ({ name: program.name, kind: program.kind, revision: program.revision }),
        exec: { inputSchema: {}, call: (input) => ({ row: "spawn", args: { program: name, input } }) },
      };
    },
    { description },
  );
}

/** Contracts of the kernel, with what is bound to each; those without a driver are not there. */
export function portsNode(host: Host): VirtualNode {
  const ports: Readonly<Record<string, (() => JsonValue) | undefined>> = {
    metastore: () => ({ durability: host.store.features.durability, seq: host.store.seq }),
    "object-store": () => ({}),
    model: () => ({ models: [...host.models.names] }),
    tool: () => ({ tools: [...host.tools.keys()] }),
    net: host.net === undefined ? undefined : () => ({}),
    governance: host.governance === undefined ? undefined : () => ({}),
    pass: host.passes === undefined ? undefined : () => ({ audience: host.audience }),
    signer: host.signer === undefined ? undefined : () => ({}),
    mount: () =>
      host.fs.namespace.mounts.flatMap((mount) =>
        mount.kind === "driver" ? [{ at: mount.at, driver: mount.driver.name, readOnly: mount.driver.readOnly }] : [],
      ),
  };
  const bound = Object.entries(ports).flatMap(([name, show]): [string, VirtualNode][] =>
    show === undefined ? [] : [[name, jsonFile(() => ({ contract: name, bound: show() }), { entityType: "port" })]],
  );
  return directory(Object.fromEntries(bound), { description: "contracts of this host, and what is bound to each" });
}
