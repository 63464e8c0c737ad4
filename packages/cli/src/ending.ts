// Signals that ask a command to end: Ctrl-C, whoever ends it, and a terminal that is closed.

const ENDING = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

const NUMBERS: Readonly<Partial<Record<NodeJS.Signals, number>>> = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 };

/** The exit status of a command that a signal has ended. */
export const statusOf = (signal: NodeJS.Signals): number => 128 + (NUMBERS[signal] ?? 0);

/**
 * Hears them until what this gives is called. That a terminal is gone is heard once: a shell may say it twice, and whoever
 * still writes to it says it again. Nobody has asked a second time, and the end takes the time that it takes.
 */
export function onEnding(hear: (signal: NodeJS.Signals) => void): () => void {
  const once = (signal: NodeJS.Signals): void => {
    if (signal === "SIGHUP") {
      if (process.listeners("SIGHUP").includes(nothing)) return;
      process.on("SIGHUP", nothing);
    }
    hear(signal);
  };
  for (const signal of ENDING) process.on(signal, once);
  return () => {
    for (const signal of ENDING) process.off(signal, once);
  };
}

function nothing(): void {}
