#!/usr/bin/env node
// Starts the command line: the bundle where it is published, the sources where they are at hand.
import module from "node:module";
import { existsSync } from "node:fs";

const [major] = process.versions.node.split(".").map(Number);
if (major < 24) {
  process.stderr.write(
    `[EVERSION] ErgOS needs Node 24 or later, this is ${process.versions.node}; run it with npx or npm, which find the \`node\` package first\n`,
  );
  process.exit(69);
}
module.enableCompileCache();
const source = new URL("../src/main.ts", import.meta.url);
if (existsSync(source)) {
  // In the repository packages import each other's sources.
  module.registerHooks({
    resolve: (specifier, context, next) =>
      next(specifier, { ...context, conditions: [...context.conditions, "@ergos/source"] }),
  });
  await import(source.href);
} else {
  await import(new URL("../dist/cli.js", import.meta.url).href);
}
