// Tools over files: what a process may do with them is decided by its rights, as in any call.

import type { Os, Tool } from "@ergos/kernel";

const path = { type: "string", minLength: 1, description: "absolute path of the namespace" } as const;
const READ_MAX = 1024 * 1024;

export const FILE_TOOLS: readonly Tool<Os>[] = [
  {
    name: "read_file",
    description: "reads a text file",
    inputSchema: {
      type: "object",
      properties: {
        path,
        offset: { type: "integer", minimum: 0 },
        length: { type: "integer", minimum: 1, maximum: READ_MAX },
      },
      required: ["path"],
      additionalProperties: false,
    },
    effect: "pure",
    call: async ({ path: at, offset, length }, { os }) => {
      const bytes = await os.fs.read(String(at), { offset: Number(offset ?? 0), length: Number(length ?? READ_MAX) });
      return new TextDecoder().decode(bytes);
    },
  },
  {
    name: "write_file",
    description: "writes a text file, making it and its directories",
    inputSchema: {
      type: "object",
      properties: { path, content: { type: "string" } },
      required: ["path", "content"],
      additionalProperties: false,
    },
    // Writing the same content again changes nothing more.
    effect: "idempotent",
    call: async ({ path: at, content }, { os }) => {
      await os.fs.writeFile(String(at), String(content));
      return { path: String(at), bytes: Buffer.byteLength(String(content)) };
    },
  },
  {
    name: "list_directory",
    description: "lists names and types of a directory",
    inputSchema: { type: "object", properties: { path }, required: ["path"], additionalProperties: false },
    effect: "pure",
    call: async ({ path: at }, { os }) => (await os.fs.readdir(String(at))).map(({ name, type }) => ({ name, type })),
  },
];
