// Tools whose arguments are typed by their schema.

import { KernelError, type Os, type Tool } from "@ergos/kernel";
import { type PlainSchema, type StandardSchema, toForm } from "./form.ts";

type ToolContext = Parameters<Tool<Os>["call"]>[1];

export interface ToolSpec<Args> extends Omit<Tool<Os>, "inputSchema" | "call"> {
  /** What its arguments are: a schema of zod, or another library of Standard Schema, or JSON Schema. */
  readonly inputSchema: StandardSchema<Args> | PlainSchema;
  /** Does it, with the arguments as the schema gives them, or rejects with the signal's reason soon after it aborts. */
  readonly call: (args: Args, context: ToolContext) => unknown;
}

/**
 * Makes a tool. Models are shown the JSON Schema of its arguments; a call that does not fit is refused before it.
 * @throws {EINVAL} the schema tells no JSON Schema
 */
export function createTool<Args = Readonly<Record<string, unknown>>>({
  inputSchema,
  call,
  ...spec
}: ToolSpec<Args>): Tool<Os> {
  const form = toForm(inputSchema);
  return {
    ...spec,
    inputSchema: form.schema,
    call: async (args, context) => {
      const read = await form.read(args);
      if ("problem" in read)
        throw new KernelError("EINVAL", `in the call of tool ${spec.name}: ${read.problem}`, { syscall: "call" });
      return call(read.value, context);
    },
  };
}
