// `/proc/entities`: entities by their types, as files.

import type { DirEntry } from "../abi/file.ts";
import type { JsonValue } from "../base/json.ts";
import type { Host } from "../syscall/host.ts";
import { type VirtualNode, collection, directory, jsonFile } from "../vfs/provider.ts";

const asJson = (host: Host, value: unknown): JsonValue =>
  JSON.parse(JSON.stringify(host.vault.maskData(value))) as JsonValue;

export function entitiesNode(host: Host): VirtualNode {
  return collection(
    () => host.entities.types.map(({ type }): DirEntry => ({ name: type, type: "directory" })),
    (type) => (host.entities.types.some((one) => one.type === type) ? typeNode(host, type) : undefined),
    { description: "entities by their types" },
  );
}

function typeNode(host: Host, type: string): VirtualNode {
  return collection(
    async () =>
      (await host.entities.list(type, { limit: Number.POSITIVE_INFINITY })).map(({ id }): DirEntry => ({
        name: id,
        type: "directory",
      })),
    (id) => entityNode(host, type, id),
    { entityType: "entity type", description: type, isLong: true },
  );
}

async function entityNode(host: Host, type: string, id: string): Promise<VirtualNode | undefined> {
  const entity = await host.entities.get(type, id);
  if (entity === undefined) return undefined;
  return directory(
    {
      state: { type: "file", text: () => `${entity.state}\n`, json: () => entity.state },
      data: jsonFile(() => asJson(host, entity.data)),
      history: jsonFile(async () => asJson(host, await host.entities.history(type, id)), {
        description: "what has happened, oldest first",
      }),
      transition: {
        type: "file",
        description: "exec it with the state to move it to",
        text: () => 'exec this file with { "to": STATE } to move the entity\n',
        exec: {
          inputSchema: { type: "object", required: ["to"] },
          call: (input) => ({ row: "transition", args: { ...(input as object), type, id } }),
        },
      },
    },
    { entityType: "entity", description: `${type} ${id}`, status: entity.state },
  );
}
