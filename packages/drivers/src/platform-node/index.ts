// The kernel's surroundings under Node: clocks, timers, random bytes, SHA-256.

import { AsyncLocalStorage } from "node:async_hooks";
import { createHash, hash as hashOnce, randomBytes } from "node:crypto";
import { type HeldLock, type LockTrace, type Platform, type Timer, longTimer } from "@ergos/kernel";

export {
  startWatchdog,
  takeWatchdogReport,
  type Watchdog,
  type WatchdogOptions,
  type WatchdogReport,
} from "./watchdog.ts";

export interface NodePlatformOptions {
  /** Told whose code is about to run. */
  readonly entered?: (pid: number) => void;
  /** Lets the kernel check the order of its locks, at some cost (default: where ERGOS_DEBUG has `locks` in it). */
  readonly checksLocks?: boolean;
}

/** What is held goes along with the chain of awaits that holds it. */
function traceLocks(): LockTrace {
  const storage = new AsyncLocalStorage<readonly HeldLock[]>();
  return {
    holding: () => storage.getStore() ?? [],
    run: (held, work) => storage.run(held, work),
  };
}

function setBusy(delayMs: number, task: () => void): Timer {
  const timer = setTimeout(task, delayMs);
  return { cancel: () => clearTimeout(timer) };
}

function setIdle(delayMs: number, task: () => void): Timer {
  const timer = setTimeout(task, delayMs).unref();
  return { cancel: () => clearTimeout(timer) };
}

/** The platform of this Node process. */
export function createNodePlatform(options: NodePlatformOptions = {}): Platform {
  const { entered, checksLocks = process.env["ERGOS_DEBUG"]?.split(",").includes("locks") === true } = options;
  return {
    ...(entered === undefined ? {} : { entered }),
    ...(checksLocks ? { locks: traceLocks() } : {}),
    clock: { now: () => Date.now(), monotonic: () => performance.now() },
    random: (bytes) => randomBytes(bytes),
    hash: (bytes) =>
      typeof bytes === "string" || bytes.length < 1 << 20
        ? hashOnce("sha256", bytes, "hex")
        : createHash("sha256").update(bytes).digest("hex"),
    allocate: (bytes) => Buffer.allocUnsafe(bytes),
    defer: (task) => void setImmediate(task),
    setTimer: (delayMs, task, { idle = false } = {}): Timer => longTimer(idle ? setIdle : setBusy, delayMs, task),
  };
}
