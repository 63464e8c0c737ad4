// `/dev`: devices. A model is a device, and so are the three of every Unix.

import type { DirEntry } from "../abi/file.ts";
import { LIMITS } from "../base/limits.ts";
import type { Host } from "../syscall/host.ts";
import { type Provider, type VirtualNode, collection, directory } from "../vfs/provider.ts";

export function devProvider(host: Host): Provider {
  const bounded = (length: number): number => Math.min(length, LIMITS.ioBytesMax);
  const models = collection(
    () => [...host.models.keys()].map((name): DirEntry => ({ name, type: "file" })),
    (name) => modelNode(host, name),
    { description: "models that processes may ask" },
  );
  return {
    name: "dev",
    root: directory({
      model: models,
      null: { type: "file", description: "empty", bytes: () => new Uint8Array(0) },
      zero: { type: "file", description: "zeros", bytes: ({ length }) => new Uint8Array(bounded(length)) },
      random: {
        type: "file",
        description: "random bytes",
        bytes: ({ length }) => host.platform.random(bounded(length)),
      },
    }),
  };
}

function modelNode(host: Host, name: string): VirtualNode | undefined {
  const model = host.models.get(name);
  if (model === undefined) return undefined;
  return {
    type: "file",
    entityType: "model",
    description: model.description,
    json: async () => ({
      name: model.name,
      description: model.description,
      effect: model.effect,
      price: { ...model.price },
      health: { ...(await model.health()) },
    }),
  };
}
