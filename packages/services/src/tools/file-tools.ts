// Tools over files: what a process may do with them is decided by its rights, as in any call.

import { KernelError, type Os, type Tool } from "@ergos/kernel";
import { type Edit, editFile } from "../files/edit.ts";
import { globFiles, grepFiles } from "../files/find.ts";

const path = { type: "string", format: "path", minLength: 1, description: "absolute path of the namespace" } as const;
const READ_MAX = 1024 * 1024;
const FOUND_MAX = 200;
const limit = { type: "integer", minimum: 1, maximum: 10_000 } as const;

export const FILE_TOOLS: readonly Tool<Os>[] = [
  {
    name: "read_file",
    description: "reads a text file, or a part of it; one above 1 MiB only by offset and length, in bytes",
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
      const wanted = { offset: Number(offset ?? 0), length: Number(length ?? READ_MAX + 1) };
      const bytes = await os.fs.read(String(at), wanted);
      if (length === undefined && bytes.length > READ_MAX)
        throw new KernelError(
          "E2BIG",
          `${String(at)} has more than ${READ_MAX} bytes from there on; read a part of it, by offset and length`,
          { path: String(at) },
        );
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
  {
    name: "edit_file",
    description:
      "replaces exact texts in a text file, all of the edits or none; each text must be there once, unless `all` is given",
    inputSchema: {
      type: "object",
      properties: {
        path,
        edits: {
          type: "array",
          minItems: 1,
          maxItems: 1000,
          items: {
            type: "object",
            properties: {
              find: { type: "string", minLength: 1 },
              replace: { type: "string" },
              all: { type: "boolean" },
            },
            required: ["find", "replace"],
            additionalProperties: false,
          },
        },
      },
      required: ["path", "edits"],
      additionalProperties: false,
    },
    effect: "once",
    call: async ({ path: at, edits }, { os }) => {
      // As the schema says.
      const { size } = await editFile(os.fs, String(at), edits as readonly Edit[]);
      return { path: String(at), bytes: size };
    },
  },
  {
    name: "glob",
    description:
      "lists the first files (200, or `limit`) whose paths match; * is within a name, ** over names, ? one character",
    inputSchema: {
      type: "object",
      properties: { pattern: { type: "string", minLength: 1 }, limit },
      required: ["pattern"],
      additionalProperties: false,
    },
    effect: "pure",
    call: async ({ pattern, limit: most }, { os, signal }) =>
      collect(globFiles(os.fs, String(pattern), { limit: Number(most ?? FOUND_MAX), signal })),
  },
  {
    name: "grep",
    description:
      "finds the first lines (200, or `limit`) that match a regular expression (RE2) in all files whose paths match a glob",
    inputSchema: {
      type: "object",
      properties: {
        pattern: { type: "string", minLength: 1 },
        glob: { type: "string", minLength: 1 },
        ignoreCase: { type: "boolean" },
        context: { type: "integer", minimum: 0, maximum: 20 },
        limit,
      },
      required: ["pattern", "glob"],
      additionalProperties: false,
    },
    effect: "pure",
    call: async ({ pattern, glob, ignoreCase, context, limit: most }, { os, signal }) =>
      collect(
        grepFiles(os.fs, {
          pattern: String(pattern),
          glob: String(glob),
          ignoreCase: ignoreCase === true,
          context: Number(context ?? 0),
          limit: Number(most ?? FOUND_MAX),
          signal,
        }),
      ),
  },
];

async function collect<T>(items: AsyncIterable<T>): Promise<readonly T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}
