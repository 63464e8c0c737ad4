// `/srv/queues`: work queues as folders of their tasks.

import type { DirEntry } from "../abi/file.ts";
import type { JsonValue } from "../base/json.ts";
import type { Host } from "../syscall/host.ts";
import { type Provider, type VirtualNode, collection, jsonFile } from "../vfs/provider.ts";

export function queuesProvider(host: Host): Provider {
  return {
    name: "queues",
    root: collection(
      () => host.queues.all.map(({ queue }): DirEntry => ({ name: queue, type: "directory" })),
      (name) => queueNode(host, name),
      { description: "work queues" },
    ),
  };
}

/** A queue is there once somebody asks for it: the first task makes it. */
function queueNode(host: Host, queue: string): VirtualNode {
  return collection(
    () => [
      { name: "submit", type: "file" },
      ...host.queues.numbersOf(queue).map((id): DirEntry => ({ name: String(id), type: "file" })),
    ],
    async (name) => {
      if (name === "submit")
        return {
          type: "file",
          description: "exec or write it to add a task",
          text: () => "exec this file with a body, or write one, to add a task\n",
          write: (bytes) => ({ row: "submit", args: { queue, body: bodyOf(new TextDecoder().decode(bytes)) } }),
          exec: { inputSchema: {}, call: (body) => ({ row: "submit", args: { queue, body: body ?? null } }) },
        };
      const task = /^[1-9]\d{0,9}$/.test(name) ? await host.queues.get(Number(name)) : undefined;
      return task?.queue === queue
        ? jsonFile(() => JSON.parse(JSON.stringify(task)) as JsonValue, { entityType: "task", status: task.state })
        : undefined;
    },
    { entityType: "queue" },
  );
}

/** JSON where it is some, else the text. */
export function bodyOf(written: string): unknown {
  try {
    return JSON.parse(written) as unknown;
  } catch {
    return written.replace(/\n$/, "");
  }
}
