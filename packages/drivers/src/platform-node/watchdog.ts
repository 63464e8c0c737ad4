// The watchdog: a thread that sees when the loop is blocked, says by whom, and at last ends the host.
//
// The loop beats a shared counter twice a second. When the beat stays away for `limitMs`, the thread writes
// what it saw to a file and to stderr and ends the whole process with SIGALRM (exit status 142 in a shell):
// code that blocks the loop cannot be stopped from inside. The next start goes on from the journals.

import { readFileSync, rmSync } from "node:fs";
import { SHARE_ENV, Worker } from "node:worker_threads";

const BEAT_MS = 500;

export interface WatchdogOptions {
  /** Milliseconds without a beat after which the host is ended. */
  readonly limitMs: number;
  /** Where the thread leaves its report for the next start. */
  readonly reportFile: string;
}

export interface WatchdogReport {
  readonly pid: number;
  readonly blockedMs: number;
  readonly at: number;
}

export interface Watchdog {
  /** Tells whose code runs now. */
  entered(pid: number): void;
  stop(): void;
}

/** Runs in the thread; its text is shipped, so it may use nothing from outside its body. */
function threadMain(): void {
  const { workerData } = process.getBuiltinModule("node:worker_threads");
  const { writeFileSync, writeSync } = process.getBuiltinModule("node:fs");
  // Handed over by `startWatchdog`.
  const { shared, limitMs, reportFile } = workerData as { shared: Int32Array; limitMs: number; reportFile: string };
  let beat = Atomics.load(shared, 0);
  let since = performance.now();
  let last = since;
  for (;;) {
    Atomics.wait(shared, 2, 0, Math.min(250, limitMs / 4));
    if (Atomics.load(shared, 2) === 1) return;
    const now = performance.now();
    // A machine that slept, or a debugger that stopped us both, is no blocked loop.
    if (now - last > limitMs) since = now;
    last = now;
    const current = Atomics.load(shared, 0);
    if (current !== beat) {
      beat = current;
      since = now;
    } else if (now - since > limitMs) {
      const pid = Atomics.load(shared, 1);
      const blockedMs = Math.round(now - since);
      writeFileSync(reportFile, JSON.stringify({ pid, blockedMs, at: Date.now() }));
      writeSync(
        2,
        `\n[EWATCHDOG] ${pid === 0 ? "a module that was being loaded" : `process ${pid}`} blocked the event loop for ${blockedMs} ms; this host ends now. Start again to go on: finished steps are kept.\n`,
      );
      process.kill(process.pid, "SIGALRM");
      return;
    }
  }
}

export function startWatchdog(options: WatchdogOptions): Watchdog {
  const shared = new Int32Array(new SharedArrayBuffer(12));
  const worker = new Worker(`(${threadMain.toString()})()`, {
    eval: true,
    name: "ergos-watchdog",
    workerData: { shared, ...options },
    // Nothing is copied for a thread that reads neither.
    env: SHARE_ENV,
    trackUnmanagedFds: false,
    resourceLimits: { maxOldGenerationSizeMb: 8, maxYoungGenerationSizeMb: 2 },
  });
  worker.unref();
  worker.on("error", () => undefined);
  const timer = setInterval(() => Atomics.add(shared, 0, 1), Math.min(BEAT_MS, options.limitMs / 4));
  timer.unref();
  return {
    entered: (pid) => {
      shared[1] = pid;
    },
    stop: () => {
      clearInterval(timer);
      // The thread ends by itself; nobody waits for one that is perhaps only starting.
      Atomics.store(shared, 2, 1);
      Atomics.notify(shared, 2);
    },
  };
}

/** What the watchdog of the last host left behind; reading it removes it. */
export function takeWatchdogReport(reportFile: string): WatchdogReport | undefined {
  try {
    // Written by the thread above only, and shown to people only.
    const report = JSON.parse(readFileSync(reportFile, "utf8")) as WatchdogReport;
    rmSync(reportFile);
    return report;
  } catch {
    return undefined;
  }
}
