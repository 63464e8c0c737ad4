// The surroundings of a program in a process of its own. What must be the same after a resumption it asks its host for.

import { hash, randomBytes } from "node:crypto";
import type { Platform } from "@ergos/kernel";

export const platform: Platform = {
  clock: { now: Date.now, monotonic: () => performance.now() },
  random: randomBytes,
  hash: (bytes) => hash("sha256", bytes),
  allocate: (size) => new Uint8Array(size),
  defer: (task) => void setImmediate(task),
  setTimer: (delayMs, task, { idle } = {}) => {
    const timer = setTimeout(task, Math.min(delayMs, 2 ** 31 - 1));
    if (idle === true) timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
};
