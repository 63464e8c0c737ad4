// Signals that ask a command to end: Ctrl-C, whoever ends it, and a terminal that is closed.

const ENDING = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

const NUMBERS: Readonly<Partial<Record<NodeJS.Signals, number>>> = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 };

/** The exit status of a command that a signal has ended. */
export const statusOf = (signal: NodeJS.Signals): number => 128 + (NUMBERS[signal] ?? 0);

/** Hears them until what this gives is called. */
export function onEnding(hear: (signal: NodeJS.Signals) => void): () => void {
  for (const signal of ENDING) process.on(signal, hear);
  return () => {
    for (const signal of ENDING) process.off(signal, hear);
  };
}
