// Standard input and output as pipes of the namespace: a program reads and writes them as any other, and the command
// stands in a pipeline of the shell.

import { once } from "node:events";
import { describe, isKernelError } from "@ergos/kernel";
import type { ErgOs } from "./connect.ts";
import type { Output } from "./terminal.ts";

export interface StdioPaths {
  /** Pipe that standard input goes into. */
  readonly input?: string | undefined;
  /** Pipe whose pieces go to standard output. */
  readonly output?: string | undefined;
}

/**
 * Does something while the pipes are joined to this process's own standard input and output. They are made where they
 * are not there. At the end what waits in them is written out, and those that were made are removed.
 */
export async function withStdio<T>(
  os: ErgOs,
  { input, output }: StdioPaths,
  out: Output,
  work: () => Promise<T>,
): Promise<T> {
  const made: string[] = [];
  for (const path of [input, output]) if (path !== undefined && (await makePipe(os, path))) made.push(path);
  const isOver = new AbortController();
  const failed = (path: string) => (error: unknown) => {
    // Who reads no more says so by that.
    const isUnread = (error as { readonly code?: unknown }).code === "EPIPE" && path === output;
    if (!isOver.signal.aborted && !isUnread) out.error(`${path} is joined no longer: ${describe(error)}`);
  };
  if (input !== undefined) void feed(os, input, isOver.signal).catch(failed(input));
  const written = output === undefined ? undefined : drain(os, output).catch(failed(output));
  try {
    return await work();
  } finally {
    isOver.abort();
    if (output !== undefined) await os.fs.pipe(output).close();
    await written;
    for (const path of made) await os.fs.unlink(path);
  }
}

async function makePipe(os: ErgOs, path: string): Promise<boolean> {
  try {
    await os.fs.makePipe(path);
    return true;
  } catch (error) {
    // Somebody else's, which is then left there.
    if (isKernelError(error) && error.code === "EEXIST" && (await os.fs.stat(path)).type === "pipe") return false;
    throw error;
  }
}

/** Puts in what comes, as fast as it is taken, and closes behind the last. */
async function feed(os: ErgOs, path: string, signal: AbortSignal): Promise<void> {
  const { stdin } = process;
  // It may never end, and would keep this process.
  signal.addEventListener("abort", () => stdin.destroy(), { once: true });
  const pipe = os.fs.pipe(path);
  // Bytes, as nobody has set an encoding.
  for await (const piece of stdin as AsyncIterable<Uint8Array>) await pipe.write(piece, { signal });
  await pipe.close();
}

async function drain(os: ErgOs, path: string): Promise<void> {
  const { stdout } = process;
  for await (const piece of os.fs.pipe(path)) if (!stdout.write(piece)) await once(stdout, "drain");
}
