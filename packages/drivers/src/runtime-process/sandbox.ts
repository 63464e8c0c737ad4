// What a confined child sees of the machine, by bubblewrap: namespaces of its own, the folders that it needs to run,
// read-only, and one socket that leads to the proxy of its host.
//
// B1  It has no network but its own loopback, sees no process but its own, and ends with its host.
// B2  It sees the system's programs and libraries, Node, the bootstrap, and the project that its module is in, all of
//     it read-only, and without the data of the host and the files of the project's environment; /tmp is its own and
//     is gone with it.

import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readdirSync, realpathSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, relative } from "node:path";

const CANDIDATES = ["/usr/bin/bwrap", "/bin/bwrap", "/usr/local/bin/bwrap"];
const SYSTEM = ["/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc/alternatives", "/etc/ld.so.cache", "/etc/ssl"];
/** Where the socket of the proxy is for a child, and the port that its own forwarder listens on. */
export const PROXY_SOCKET = "/run/ergos/proxy";
export const PROXY_PORT = 8118;

export interface Sandboxed {
  /** Files that must be readable: the bootstrap and the program's module. */
  readonly modules: readonly string[];
  /** Folders of this machine that are hidden although they lie in one that is shown. */
  readonly hidden: readonly string[];
  /** Folder in which the host's proxy has its socket. */
  readonly proxyFolder: string;
}

/** The program that confines, if this machine has one that works. */
export function findBubblewrap(): string | undefined {
  const path = CANDIDATES.find((candidate) => {
    try {
      accessSync(candidate, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  if (path === undefined) return undefined;
  // Machines may forbid what it needs.
  const { status } = spawnSync(path, ["--unshare-all", "--ro-bind", "/", "/", "true"], {
    stdio: "ignore",
    timeout: 5000,
  });
  return status === 0 ? path : undefined;
}

/** Its arguments, up to the command that it runs. */
export function sandboxArguments({ modules, hidden, proxyFolder }: Sandboxed): readonly string[] {
  const node = realpathSync(process.execPath);
  const shown = [...new Set(modules.map((module) => projectOf(realpathSync(module))))];
  const masked = shown.flatMap((folder) =>
    readdirSync(folder).flatMap((name) => (/^\.env(\..*)?$/.test(name) ? [join(folder, name)] : [])),
  );
  const readOnly = (from: string, to = from): readonly string[] => ["--ro-bind", from, to];
  return [
    "--unshare-all",
    "--die-with-parent",
    "--clearenv",
    ...SYSTEM.flatMap((path) => ["--ro-bind-try", path, path]),
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "--tmpfs",
    "/tmp",
    ...readOnly(node),
    ...(process.execPath === node ? [] : readOnly(node, process.execPath)),
    ...shown.flatMap((folder) => readOnly(folder)),
    ...hidden.flatMap((folder) =>
      existsSync(folder) && shown.some((one) => isBelow(folder, one)) ? ["--tmpfs", folder] : [],
    ),
    ...masked.flatMap((file) => readOnly("/dev/null", file)),
    ...readOnly(proxyFolder, dirname(PROXY_SOCKET)),
    "--chdir",
    dirname(modules.at(-1) ?? "/"),
  ];
}

/** The topmost folder around a module with a package.json, never the user's home or above; else the module's own. */
function projectOf(module: string): string {
  const home = homedir();
  let found = dirname(module);
  for (let at = found; at !== dirname(at); at = dirname(at)) {
    if (at === home || isBelow(home, at)) break;
    if (existsSync(join(at, "package.json"))) found = at;
  }
  return found;
}

function isBelow(path: string, folder: string): boolean {
  const way = relative(folder, path);
  return way !== "" && !way.startsWith("..") && !way.startsWith("/");
}
