// Standard input and output as pipes of the namespace: a program reads and writes them as any other, and the command
// stands in a pipeline of the shell.

import { once } from "node:events";
import { KernelError, describe } from "@ergos/kernel";
import type { ErgOs } from "./connect.ts";
import type { Output } from "./terminal.ts";

export interface StdioPaths {
  /** Pipe that standard input goes into. */
  readonly input?: string | undefined;
  /** Pipe whose pieces go to standard output. */
  readonly output?: string | undefined;
}

/**
 * Does something while two pipes, made for it, are joined to this process's own standard input and output. At the end
 * what waits in them is written out, and they are removed. What it is given closes them before a host that stays is left.
 * @throws {EEXIST} something is there that this command has not made
 */
export async function withStdio<T>(
  os: ErgOs,
  { input, output }: StdioPaths,
  out: Output,
  work: (os: ErgOs) => Promise<T>,
): Promise<T> {
  if (input === undefined && output === undefined) return work(os);
  if (input === output)
    throw new KernelError("EINVAL", `--stdin and --stdout cannot both be ${input}: what goes in would come out`);
  const made: string[] = [];
  const isOver = new AbortController();
  let written: Promise<void> | undefined;
  const failed = (path: string) => (error: unknown) => {
    // Who reads no more says so by that.
    const isUnread = (error as { readonly code?: unknown }).code === "EPIPE" && path === output;
    if (!isOver.signal.aborted && !isUnread) out.error(`${path} is joined no longer: ${describe(error)}`);
  };
  let ending: Promise<void> | undefined;
  const end = (): Promise<void> => (ending ??= leave());
  const leave = async (): Promise<void> => {
    isOver.abort();
    // The program may have removed them itself: what the run came to is told all the same.
    for (const path of made)
      await os.fs
        .pipe(path)
        .close()
        .catch(() => undefined);
    await written;
    for (const path of made) await os.fs.unlink(path).catch(() => undefined);
  };
  try {
    for (const path of [input, output]) {
      if (path === undefined) continue;
      await makePipe(os, path);
      made.push(path);
    }
    if (input !== undefined) void feed(os, input, isOver.signal).catch(failed(input));
    if (output !== undefined) written = drain(os, output).catch(failed(output));
    // A run in a host that stays goes on without this command: it shall not wait for it. One in its own sleeps.
    const close = async (): Promise<void> => {
      if (os.isRemote) await end();
      await os.close();
    };
    return await work({ ...os, close, [Symbol.asyncDispose]: close });
  } finally {
    await end();
  }
}

async function makePipe(os: ErgOs, path: string): Promise<void> {
  const there = await os.fs.stat(path).catch(() => undefined);
  // A pipe lives with its host: in one that has only begun it is what the last one has left.
  if (there?.type === "pipe" && !os.isRemote) await os.fs.unlink(path);
  else if (there !== undefined)
    throw new KernelError("EEXIST", `${path} is there already, perhaps of another run; give the path of no other`, {
      path,
    });
  await os.fs.makePipe(path);
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
