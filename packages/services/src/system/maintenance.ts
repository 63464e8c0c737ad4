// The daemon that cares for the store: at its start and then every so often, content that nobody names is deleted, and, if
// it is told how long ago, runs that have ended are deleted and calls are summed up.

import { type ServiceContext, type ServiceModule, isKernelError, Serial } from "@ergos/kernel";

export interface MaintenanceOptions {
  /** Runs that ended longer ago are deleted, in milliseconds; none unless given. Those that left artifacts stay. */
  readonly keepMs?: number;
  /** Calls of days that ended longer ago are kept as sums, in milliseconds; each stays unless given. */
  readonly ledgerMs?: number;
  /** Milliseconds between two rounds (default a day). */
  readonly everyMs?: number;
}

const DAY_MS = 86_400_000;
/** Until another try where somebody else was at it. */
const AGAIN_MS = 60_000;

export function maintenance({ keepMs, ledgerMs, everyMs = DAY_MS }: MaintenanceOptions = {}): ServiceModule {
  return {
    name: "maintenance",
    description: "deletes what is old, and content that nobody names",
    contract: {
      name: "ergos/maintenance/1",
      methods: {
        clean: { summary: "does a round now: what it has deleted" },
        verify: {
          summary: "looks whether the store holds together",
          input: { type: "object", properties: { contents: { type: "boolean" } }, additionalProperties: false },
        },
      },
    },
    create: ({ os, signal, platform }) => {
      // One care at a time: what this service is asked for waits for its own rounds.
      const serial = new Serial();
      const clean = (): Promise<unknown> =>
        serial.run(async () => {
          const ago = (ms: number): number => Math.max(0, platform.clock.now() - ms);
          const pruned = keepMs === undefined ? undefined : await os.call("prune", { endedBefore: ago(keepMs) });
          const rolledUp =
            ledgerMs === undefined ? undefined : await os.call("rollUpLedger", { before: ago(ledgerMs) });
          return { pruned, collected: await os.call("collect", {}), rolledUp };
        });
      return {
        clean,
        verify: (args: { readonly contents?: boolean }) => serial.run(() => os.call("checkStore", args)),
        run: async () => {
          while (!signal.aborted) {
            let waitMs = everyMs;
            try {
              await clean();
            } catch (error) {
              // Somebody else cares for the store now.
              if (!isKernelError(error) || error.code !== "EBUSY") throw error;
              waitMs = Math.min(everyMs, AGAIN_MS);
            }
            await pause(platform, waitMs, signal);
          }
        },
      };
    },
  };
}

/** Waits for some time, or until the signal aborts. */
function pause(platform: ServiceContext["platform"], ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const over = (): void => {
      timer.cancel();
      signal.removeEventListener("abort", over);
      resolve();
    };
    const timer = platform.setTimer(ms, over, { idle: true });
    signal.addEventListener("abort", over, { once: true });
  });
}
