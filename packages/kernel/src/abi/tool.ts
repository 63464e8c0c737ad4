// A tool: something that a process can call by name, with arguments and a result that are JSON.

import { KernelError } from "../base/errno.ts";
import { type Schema, assertSchema } from "../base/schema.ts";

const EFFECTS = ["pure", "idempotent", "once"] as const;
type Effect = (typeof EFFECTS)[number];

export interface Tool<Face = unknown> {
  readonly name: string;
  readonly description: string;
  /** JSON Schema; arguments are checked against it before the call. Keywords that are not checked here, as `$ref`, are refused. */
  readonly inputSchema: Schema | Readonly<Record<string, unknown>>;
  /** What a call does to the world, as for a model: a repetition after a crash depends on it. */
  readonly effect: Effect;
  /** Does it, or rejects with the signal's reason soon after it aborts. */
  call(
    args: Readonly<Record<string, unknown>>,
    context: {
      /** The system calls of the process that calls: its rights and budgets apply. */
      readonly os: Face;
      readonly signal: AbortSignal;
      readonly idempotencyKey: string;
    },
  ): unknown;
}

/**
 * Looks at a tool before anybody calls it.
 * @throws {EINVAL} its schema cannot be checked, or nobody knows what a call does to the world
 */
export function assertTool({ name, inputSchema, effect }: Tool, where = ""): void {
  assertSchema(inputSchema, `the inputSchema of tool ${name}${where}`);
  if (!EFFECTS.includes(effect))
    throw new KernelError(
      "EINVAL",
      `tool ${name}${where} needs an effect, ${EFFECTS.join(", ")}; found ${JSON.stringify(effect) ?? "none"}. A call that may not be repeated is once`,
    );
}
