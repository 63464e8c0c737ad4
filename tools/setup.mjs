// Installs what the lock file says, when it is not there yet. Runs under any Node from 20 on, before everything else.
import { spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const lock = join(root, "package-lock.json");
// npm writes this file at the end of every install.
const installed = join(root, "node_modules", ".package-lock.json");

if (!existsSync(installed) || statSync(installed).mtimeMs < statSync(lock).mtimeMs) {
  process.stderr.write("installing (once)…\n");
  const done = spawnSync("npm", ["ci", "--no-fund", "--no-audit", "--loglevel=error"], {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    shell: process.platform === "win32",
  });
  if (done.status !== 0) {
    process.stderr.write("the installation failed; `npm ci` says why\n");
    process.exit(done.status ?? 1);
  }
}
if (!existsSync(join(root, "node_modules", "node", "bin", "node"))) {
  process.stderr.write(
    "Node 24 is missing from node_modules: its install script was not run. Run `npm ci` without --ignore-scripts.\n",
  );
  process.exit(1);
}
