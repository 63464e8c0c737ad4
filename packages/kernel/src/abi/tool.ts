// A tool: something that a process can call by name, with arguments and a result that are JSON.

import type { Schema } from "../base/schema.ts";

export interface Tool<Face = unknown> {
  readonly name: string;
  readonly description: string;
  /** JSON Schema; arguments are checked against it before the call. Keywords that are not checked here, as `$ref`, are refused. */
  readonly inputSchema: Schema | Readonly<Record<string, unknown>>;
  /** What a call does to the world, as for a model: a repetition after a crash depends on it. */
  readonly effect: "pure" | "idempotent" | "once";
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
