// `ergos sh`: a shell over the namespace.

import { createInterface } from "node:readline/promises";
import type { Shell } from "@ergos/services/faces";
import { type Command, EXIT_OK, type Invocation, isSet, openDirectory, textOption } from "../command.ts";

const EXIT_INTERRUPTED = 130;

export const shCommand: Command = {
  name: "sh",
  summary: "a shell over the namespace: its files and processes, nothing of the machine",
  usage: "[-c <script> [-n]] [--cwd DIRECTORY]",
  examples: ["ergos sh", "ergos sh -c 'grep -rl error /proc/runs | sort'", "ergos sh --cwd /srv < script.sh"],
  arguments: 0,
  options: {
    script: { type: "string", short: "c" },
    "no-input": { type: "boolean", short: "n" },
    cwd: { type: "string" },
  },
  run: async (invocation) => {
    const { openShell } = await import("@ergos/services/faces");
    await using os = await openDirectory(invocation, true);
    const shell = await openShell(os.fs, { cwd: textOption(invocation, "cwd") ?? "/" });
    const script = textOption(invocation, "script");
    if (script === undefined && process.stdin.isTTY) return await converse(shell);
    return await runOnce(shell, invocation, script);
  },
};

async function runOnce(shell: Shell, invocation: Invocation, script: string | undefined): Promise<number> {
  const { out } = invocation;
  const given: Buffer[] = [];
  // With a script of its own, what comes in belongs to that, all of it; in a loop over lines none of it should.
  const isRead = !process.stdin.isTTY && !isSet(invocation, "no-input");
  if (isRead) for await (const piece of process.stdin) given.push(piece as Buffer);
  const input = Buffer.concat(given);
  const { stdout, stderr, exitCode } = await shell.exec(
    script ?? input.toString(),
    script === undefined ? {} : { stdin: input },
  );
  if (out.isJson) out.answer({ stdout, stderr, exitCode }, String);
  else {
    process.stdout.write(stdout);
    process.stderr.write(stderr);
  }
  return exitCode;
}

/** Line by line, until `exit` or the end of the input. */
async function converse(shell: Shell): Promise<number> {
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  let running: AbortController | undefined;
  let exitCode = EXIT_OK;
  lines.on("SIGINT", () => {
    if (running === undefined) lines.close();
    else running.abort();
  });
  lines.setPrompt(`${shell.cwd} $ `);
  lines.prompt();
  for await (const line of lines) {
    const leave = /^\s*exit(?:\s+(\d+))?\s*$/.exec(line);
    if (leave !== null) {
      lines.close();
      return leave[1] === undefined ? exitCode : Number(leave[1]) & 255;
    }
    running = new AbortController();
    try {
      const answer = await shell.exec(line, { signal: running.signal });
      process.stdout.write(answer.stdout);
      process.stderr.write(answer.stderr);
      exitCode = answer.exitCode;
    } catch (error) {
      if (!running.signal.aborted) throw error;
      exitCode = EXIT_INTERRUPTED;
    }
    running = undefined;
    lines.setPrompt(`${shell.cwd} $ `);
    lines.prompt();
  }
  return exitCode;
}
