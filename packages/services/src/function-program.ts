// Function programs: an async function that is called again from its top after a crash, while each finished
// step returns its recorded outcome.

import { hash } from "node:crypto";
import { KernelError, type Program, type ProgramSource } from "@ergos/kernel";
import { RunContext } from "./run-context.ts";
import { withNulls } from "./with-nulls.ts";

const BRAND = Symbol.for("ergos.program");

export interface FunctionProgram<Input = unknown, Output = unknown> extends Program {
  readonly [BRAND]: true;
  readonly kind: "function";
  /** Only for types: what goes in and what comes out. */
  readonly types?: { readonly input: Input; readonly output: Output };
}

export interface ProgramOptions {
  /** Names the revision instead of the function's text; change it when the meaning changes. */
  readonly version?: string;
  readonly source?: ProgramSource;
  /**
   * A process of it that sleeps, or that no host runs, is run once more when a signal (but KILL) ends it: it hears so at
   * once, and may take back what it has done. Without this it ends as it is.
   */
  readonly endsAwake?: boolean;
}

/** Makes a durable program of a function. Everything that must not happen twice goes through `ctx.step`. */
export function program<Input, Output>(
  name: string,
  run: (input: Input, ctx: RunContext<Input>) => Output | Promise<Output>,
  options: ProgramOptions = {},
): FunctionProgram<Input, Output> {
  if (name === "") throw new KernelError("EINVAL", "a program needs a name");
  return {
    [BRAND]: true,
    name,
    kind: "function",
    revision: options.version ?? hash("sha256", run.toString(), "hex"),
    source: options.source ?? { name },
    ...(options.endsAwake === true ? { endsAwake: true } : {}),
    run: (process) => {
      const ctx = new RunContext<Input>({ process, place: "", nodeName: name }, 1);
      process.platform.entered?.(process.pid);
      // The caller of `spawn` has declared that its input is the function's.
      const made = run(ctx.input, ctx);
      return made instanceof Promise ? made.then(withNulls) : withNulls(made);
    },
  };
}
