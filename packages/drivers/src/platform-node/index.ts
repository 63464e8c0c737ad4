// The kernel's surroundings under Node: clocks, timers, random bytes, SHA-256.

import { AsyncLocalStorage } from "node:async_hooks";
import { createHash, hash as hashOnce, randomBytes } from "node:crypto";
import type { HeldLock, LockTrace, Platform, Timer } from "@ergos/kernel";

/** The longest delay that a timer of Node takes, in milliseconds. */
const DELAY_MAX = 2 ** 31 - 1;

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
    setTimer: (delayMs, task, options): Timer => {
      const timer = setTimeout(task, Math.min(Math.max(0, delayMs), DELAY_MAX));
      if (options?.idle === true) timer.unref();
      return { cancel: () => clearTimeout(timer) };
    },
  };
}
