// The surroundings of a program in a process of its own. What must be the same after a resumption it asks its host for.

import { hash, randomBytes } from "node:crypto";
import { type Platform, type Timer, longTimer } from "@ergos/kernel";

export const platform: Platform = {
  clock: { now: Date.now, monotonic: () => performance.now() },
  random: randomBytes,
  hash: (bytes) => hash("sha256", bytes),
  allocate: (size) => new Uint8Array(size),
  defer: (task) => void setImmediate(task),
  setTimer: (delayMs, task, { idle = false } = {}) => {
    const set = (ms: number, over: () => void): Timer => {
      const timer = setTimeout(over, ms);
      if (idle) timer.unref();
      return { cancel: () => clearTimeout(timer) };
    };
    return longTimer(set, delayMs, task);
  },
};
