// The first module of a process of the machine that runs a program for a host: the bundle where it is published, the
// sources where they are at hand.
import module from "node:module";
import { existsSync } from "node:fs";

module.enableCompileCache();
const source = new URL("../src/child.ts", import.meta.url);
if (existsSync(source)) {
  module.registerHooks({
    resolve: (specifier, context, next) =>
      next(specifier, { ...context, conditions: [...context.conditions, "@ergos/source"] }),
  });
  await import(source.href);
} else {
  await import(new URL("../dist/program.js", import.meta.url).href);
}
