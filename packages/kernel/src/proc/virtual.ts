// A virtual process: a place in the tree for somebody outside, an agent in whatever language, that acts by a pass.
//
// It is a process like any other, with rights, a budget, a journal and a mailbox; what it does is done by whoever holds
// its pass, and it ends when that one tells its result, or by a signal.

import type { Program } from "./program.ts";

export const VIRTUAL: Program = {
  name: "virtual",
  revision: "1",
  kind: "function",
  source: { name: "virtual" },
  run: async ({ signal, left }) => {
    const told = Promise.withResolvers<never>();
    const stop = (): void => told.reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    try {
      // Its end was told by itself.
      await Promise.race([left, told.promise]);
    } finally {
      signal.removeEventListener("abort", stop);
    }
  },
};
