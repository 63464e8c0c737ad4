// `npm run build`, second half: the command line as one file, with its packages and their dependencies in it.

import { chmodSync, rmSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { build } from "rolldown";

const cli = join(import.meta.dirname, "../packages/cli");
const bundles = [
  { input: join(cli, "src/main.ts"), file: join(cli, "dist/cli.js"), banner: "#!/usr/bin/env node" },
  // What a process of its own begins with.
  { input: join(cli, "src/child.ts"), file: join(cli, "dist/child.js"), banner: "" },
];

for (const { input, file, banner } of bundles) {
  rmSync(file, { force: true });
  await build({
    input,
    platform: "node",
    resolve: { conditionNames: ["@ergos/source", "node", "import"] },
    // A program's own `import … from "ergos"` finds the library, not this bundle.
    // Provider packages are optional: whoever uses one installs it.
    external: [/^node:/, /^@ai-sdk\//, /^@cedar-policy\//, "just-bash"],
    output: {
      file,
      format: "esm",
      minify: { compress: true, mangle: false, codegen: false },
      banner,
      codeSplitting: false,
    },
    logLevel: "warn",
  });
  chmodSync(file, 0o755);
  console.log(`build: ${relative(process.cwd(), file)}, ${Math.round(statSync(file).size / 1024)} KiB`);
}
