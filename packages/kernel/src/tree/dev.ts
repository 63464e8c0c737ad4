// `/dev`: devices. A model is a device, and so are the three of every Unix.

import type { DirEntry } from "../abi/file.ts";
import { LIMITS } from "../base/limits.ts";
import { present } from "../base/present.ts";
import type { Host } from "../syscall/host.ts";
import { portsNode } from "./lib.ts";
import { type Provider, type VirtualNode, collection, directory } from "../vfs/provider.ts";

export function devProvider(host: Host): Provider {
  const bounded = (length: number): number => Math.min(length, LIMITS.ioBytesMax);
  const models = modelsBelow(host, "", "models that processes may ask");
  return {
    name: "dev",
    root: directory({
      model: models,
      ports: portsNode(host),
      null: {
        type: "file",
        description: "empty; what is written to it is gone",
        bytes: () => new Uint8Array(0),
        isSink: true,
      },
      zero: { type: "file", description: "zeros", bytes: ({ length }) => new Uint8Array(bounded(length)) },
      random: {
        type: "file",
        description: "random bytes",
        bytes: ({ length }) => host.platform.random(bounded(length)),
      },
    }),
  };
}

/** Models by name; `provider/model` is a directory and a file in it. */
function modelsBelow(host: Host, prefix: string, description: string): VirtualNode {
  const entries = (): readonly DirEntry[] => {
    const rest = host.models.names.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
    const types = new Map(
      rest.map((name): [string, DirEntry["type"]] => [
        name.split("/")[0] ?? "",
        name.includes("/") ? "directory" : "file",
      ]),
    );
    return [...types].map(([name, type]) => ({ name, type }));
  };
  return collection(
    entries,
    (name) => {
      const isDirectory = entries().some((entry) => entry.name === name && entry.type === "directory");
      // A provider has models of any name; this is the form in which one is read.
      if (name.endsWith(".json")) return undefined;
      if (isDirectory) return modelsBelow(host, `${prefix}${name}/`, `models of ${name}`);
      return modelNode(host, `${prefix}${name}`);
    },
    { description },
  );
}

function modelNode(host: Host, name: string): VirtualNode | undefined {
  const model = host.models.get(name);
  if (model === undefined) return undefined;
  return {
    type: "file",
    entityType: "model",
    description: model.description,
    tags: present({ effect: model.effect, tier: host.prices.tierOf(model) }),
    json: async () => ({
      name: model.name,
      description: model.description,
      effect: model.effect,
      price: { ...model.price },
      health: { ...(await model.health()) },
    }),
  };
}
