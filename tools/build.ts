// `npm run build`, second half: the command line as one file, with its packages and their dependencies in it.

import { chmodSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { build } from "rolldown";

const cli = join(import.meta.dirname, "../packages/cli");
const file = join(cli, "dist/cli.js");

rmSync(file, { force: true });
await build({
  input: join(cli, "src/main.ts"),
  platform: "node",
  resolve: { conditionNames: ["@ergos/source", "node", "import"] },
  // A program's own `import … from "ergos"` finds the library, not this bundle.
  // Provider packages are optional: whoever uses one installs it.
  external: [/^node:/, /^@ai-sdk\//],
  output: {
    file,
    format: "esm",
    minify: { compress: true, mangle: false, codegen: false },
    banner: "#!/usr/bin/env node",
    codeSplitting: false,
  },
  logLevel: "warn",
});
chmodSync(file, 0o755);
console.log(`build: packages/cli/dist/cli.js, ${Math.round(statSync(file).size / 1024)} KiB`);
