// All tests run from the sources: packages import each other through the condition of the repository.

import { defineConfig } from "vitest/config";

// Nothing of how a module is loaded: forks take these for `require` too.
const conditions = ["@ergos/source", "node", "default"];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ["packages/*/test/**/*.test.ts", "tools/**/*.test.ts", "examples/**/*.test.ts"],
    pool: "forks",
    testTimeout: 30_000,
    hookTimeout: 30_000,
    // Crash tests kill real processes and measure nothing; two files at once fill two cores.
    maxWorkers: 2,
    passWithNoTests: false,
    retry: 0,
  },
});
