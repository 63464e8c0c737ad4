// The daemon that cares for the store: at its start and then every so often, content that nobody names is deleted, and
// runs that ended long ago, if it is told how long.

import type { ServiceModule } from "@ergos/kernel";

export interface MaintenanceOptions {
  /** Runs that ended longer ago are deleted, in milliseconds; none unless given. Those that left artifacts stay. */
  readonly keepMs?: number;
  /** Milliseconds between two rounds (default a day). */
  readonly everyMs?: number;
}

const DAY_MS = 86_400_000;

export function maintenance({ keepMs, everyMs = DAY_MS }: MaintenanceOptions = {}): ServiceModule {
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
      const clean = async (): Promise<unknown> => {
        const pruned =
          keepMs === undefined
            ? undefined
            : await os.call("prune", { endedBefore: Math.max(0, platform.clock.now() - keepMs) });
        return { pruned, collected: await os.call("collect", {}) };
      };
      return {
        clean,
        verify: (args: { readonly contents?: boolean }) => os.call("checkStore", args),
        run: async () => {
          while (!signal.aborted) {
            await clean();
            await new Promise<void>((resolve) => {
              const timer = platform.setTimer(everyMs, resolve, { idle: true });
              signal.addEventListener(
                "abort",
                () => {
                  timer.cancel();
                  resolve();
                },
                { once: true },
              );
            });
          }
        },
      };
    },
  };
}
