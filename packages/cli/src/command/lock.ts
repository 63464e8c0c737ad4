// `ergos lock`: who holds what, and a command that runs while a lock is held.

import { constants } from "node:os";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { KernelError, type LockInfo } from "@ergos/kernel";
import {
  type Command,
  EXIT_FAILED,
  EXIT_OK,
  type Invocation,
  isSet,
  openDirectory,
  required,
  durationOption,
  textOption,
  UsageError,
  wholeOption,
} from "../command.ts";
import { type Output, formatMs, table } from "../terminal.ts";

const COMMAND_WORDS_MAX = 1000;

export const lockCommand: Command = {
  name: "lock",
  needsData: ([what]) => what !== "run",
  arguments: COMMAND_WORDS_MAX,
  summary: "list locks, give one back, or run a command while one is held",
  usage:
    "list | run <path | name> [--ttl 30s] [--wait 10s] [--shared | --max N] -- <command>... | release <path | name> [--id ID] [--force]",
  examples: [
    "ergos lock list",
    "ergos lock run nightly --wait 10m -- ./backup.sh",
    "ergos lock run gpu --max 2 -- python train.py",
    "ergos lock release nightly --force",
  ],
  options: {
    ttl: { type: "string" },
    wait: { type: "string" },
    shared: { type: "boolean" },
    max: { type: "string" },
    id: { type: "string" },
    force: { type: "boolean" },
  },
  run: async (invocation) => {
    const what = invocation.positionals[0] ?? "list";
    const { out } = invocation;
    switch (what) {
      case "list": {
        await using os = await openDirectory(invocation);
        out.answer(await os.call("locks", {}), lockTable);
        return EXIT_OK;
      }
      case "release": {
        const path = required(invocation, 1, "the path or name of the lock");
        const lockId = textOption(invocation, "id");
        await using os = await openDirectory(invocation);
        const force = isSet(invocation, "force");
        // Whoever types this holds nothing: what is held is somebody else's.
        const [held] = force || lockId !== undefined ? [] : await os.call("locks", { path });
        if (held !== undefined && held.holders.length > 0)
          throw new KernelError(
            "EPERM",
            `${path} is held by ${held.holders.map(({ pid, owner }) => `process ${pid}${owner === undefined ? "" : ` (${owner})`}`).join(", ")}; --force ends that, or --id gives back the one of that number`,
            { path },
          );
        const released = await os.call("unlock", { path, force, ...(lockId === undefined ? {} : { lockId }) });
        out.answer({ path, released }, () => (released ? `${path} is free` : `nobody holds ${path}`));
        return released ? EXIT_OK : EXIT_FAILED;
      }
      case "run":
        return runLocked(invocation, out);
      default:
        throw new UsageError(`lock takes list, run or release; found ${what}`);
    }
  },
};

const PASSED_ON = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

async function runLocked(invocation: Invocation, out: Output): Promise<number> {
  const path = required(invocation, 1, "the path or name of the lock");
  const command = required(invocation, 2, "the command");
  const [ttlMs, waitMs] = [durationOption(invocation, "ttl"), durationOption(invocation, "wait", 0)];
  const maxHolders = textOption(invocation, "max") === undefined ? undefined : wholeOption(invocation, "max", 1);
  await using os = await openDirectory(invocation, true);
  await using lease = await os.lock(path, {
    ...(ttlMs === undefined ? {} : { ttlMs }),
    ...(waitMs === undefined ? {} : { waitMs }),
    ...(maxHolders === undefined ? {} : { maxHolders }),
    ...(isSet(invocation, "shared") ? { mode: "shared" as const } : {}),
  });
  const env = { ...process.env, ERGOS_FENCE: String(lease.fence) };
  const child = spawn(command, invocation.positionals.slice(3), { stdio: "inherit", env });
  // Without the lock it must not go on.
  lease.signal.addEventListener("abort", () => child.kill("SIGTERM"));
  // Whoever ends this command ends what runs under its lock, which is held until that has ended.
  // A key of the terminal has reached it already.
  const isAtTerminal = [process.stdin, process.stdout, process.stderr].some(({ isTTY }) => isTTY);
  const pass = (signal: NodeJS.Signals): void => {
    if (signal !== "SIGINT" || !isAtTerminal) child.kill(signal);
  };
  for (const signal of PASSED_ON) process.on(signal, pass);
  try {
    const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
    // Who had it taken away has not been alone, whatever came of it.
    if (!(await lease.release())) throw lease.signal.reason;
    out.answer({ path, fence: lease.fence, code, signal }, () => "");
    return code ?? (signal === null ? EXIT_FAILED : 128 + constants.signals[signal]);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT")
      throw new KernelError("ENOENT", `there is no command ${command}`, { cause: error });
    throw error;
  } finally {
    for (const signal of PASSED_ON) process.off(signal, pass);
  }
}

function lockTable(locks: readonly LockInfo[]): string {
  if (locks.length === 0) return "nobody holds a lock; `ergos lock run <name> -- <command>` takes one";
  const rows = locks.flatMap(({ path, holders, waiting }) =>
    holders.map(({ mode, pid, fence, leftMs, owner }) => [
      path,
      mode,
      `${pid}${owner === undefined ? "" : ` ${owner}`}`,
      String(fence),
      formatMs(leftMs),
      String(waiting),
    ]),
  );
  return table([["PATH", "MODE", "PROCESS", "FENCE", "ENDS IN", "WAITING"], ...rows]);
}
