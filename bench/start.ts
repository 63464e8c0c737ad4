// Process start to first result, beside bare node.

import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Bench, alternate, toResult } from "./measure.ts";

const root = join(import.meta.dirname, "..");

function milliseconds(args: readonly string[], cwd: string): number {
  const started = performance.now();
  const done = spawnSync(process.execPath, args, { cwd, stdio: "ignore" });
  if (done.status !== 0) throw new TypeError(`${args.join(" ")} ended with ${done.status}`);
  return performance.now() - started;
}

export const startBench: Bench = {
  name: "start",
  run: async () => {
    const dir = mkdtempSync(join(tmpdir(), "ergos-start-"));
    const bare = join(dir, "bare.mjs");
    const hello = join(dir, "hello.mjs");
    writeFileSync(bare, "console.log(1)\n");
    writeFileSync(hello, "export default async (input, ctx) => ctx.step('hello', () => 'hello');\n");
    // As it is published: the launcher and the bundle, without the sources.
    const bundle = join(root, "packages/cli/dist/cli.js");
    const built = join(dir, "ergos/bin/ergos.js");
    if (existsSync(bundle)) {
      for (const folder of ["bin", "dist"]) mkdirSync(join(dir, "ergos", folder), { recursive: true });
      copyFileSync(join(root, "packages/cli/bin/ergos.js"), built);
      copyFileSync(bundle, join(dir, "ergos/dist/cli.js"));
      writeFileSync(join(dir, "ergos/package.json"), '{"type":"module"}');
    }
    const run = ["run", hello, "--json", "--dir", join(dir, "data")];
    try {
      const samples = await alternate(15, {
        bare: () => milliseconds([bare], dir),
        sources: () => milliseconds([join(root, "packages/cli/bin/ergos.js"), ...run], dir),
        ...(existsSync(built) ? { built: () => milliseconds([built, ...run], dir) } : {}),
      });
      const floor = samples["bare"] ?? [];
      const results = [
        toResult("start to first durable result, from sources", "ms", samples["sources"] ?? [], { floor, target: 4 }),
      ];
      if (samples["built"] === undefined) console.error("left out: start of the built command line (npm run build)");
      else
        results.push(toResult("start to first durable result, built", "ms", samples["built"], { floor, target: 2.5 }));
      return results;
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  },
};
