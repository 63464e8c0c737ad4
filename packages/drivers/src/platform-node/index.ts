// The kernel's surroundings under Node: clocks, timers, random bytes, SHA-256.

import { createHash, hash as hashOnce, randomBytes } from "node:crypto";
import type { Platform, Timer } from "@ergos/kernel";

/** The longest delay that a timer of Node takes, in milliseconds. */
const DELAY_MAX = 2 ** 31 - 1;

export {
  startWatchdog,
  takeWatchdogReport,
  type Watchdog,
  type WatchdogOptions,
  type WatchdogReport,
} from "./watchdog.ts";

/** The platform of this Node process. */
export function createNodePlatform(options: { readonly entered?: (pid: number) => void } = {}): Platform {
  return {
    ...(options.entered === undefined ? {} : { entered: options.entered }),
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
