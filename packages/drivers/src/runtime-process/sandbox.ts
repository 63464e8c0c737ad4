// What a confined child sees of the machine, by bubblewrap: namespaces of its own, the folders that it needs to run,
// read-only, and one socket that leads to the proxy of its host.
//
// B1  It has no network but its own loopback, sees no process but its own, and ends with its host.
// B2  It sees the system's programs and libraries, Node, and for the bootstrap and its module the package that each is in
//     and the packages installed for that, all of it read-only. Folders that belong to everybody, as the user's home or
//     the one of temporary files, are never shown as a whole: of a module that lies in one only its file.
// B3  The data of the host, and files of the environment of what is shown, are hidden in that, however they are named.
// B4  /tmp is its own and is gone with it.

import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readdirSync, realpathSync, statSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { basename, dirname, join, relative } from "node:path";
import { KernelError } from "@ergos/kernel";

const CANDIDATES = ["/usr/bin/bwrap", "/bin/bwrap", "/usr/local/bin/bwrap"];
const SYSTEM = [
  "/usr",
  "/lib",
  "/lib64",
  "/bin",
  "/sbin",
  "/etc/alternatives",
  "/etc/ld.so.cache",
  "/etc/ssl/certs",
  "/etc/ssl/openssl.cnf",
];
/** Where the socket of the proxy is for a child, and the port that its own forwarder listens on. */
export const PROXY_SOCKET = "/run/ergos/proxy";
export const PROXY_PORT = 8118;

export interface Sandboxed {
  /** Files that must be readable: the bootstrap, and last the program's module. */
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

/**
 * Its arguments, up to the command that it runs.
 * @throws {EINVAL} a module lies in what must be hidden
 */
export function sandboxArguments({ modules, hidden, proxyFolder }: Sandboxed): readonly string[] {
  const node = realpathSync(process.execPath);
  const real = modules.map((module) => realpathSync(module));
  const shown = [...new Set(real.flatMap((module) => shownFor(module)))];
  const secret = hidden.flatMap((folder) => (existsSync(folder) ? [realpathSync(folder)] : []));
  const inside = real.find((module) => secret.some((folder) => isWithin(module, folder)));
  if (inside !== undefined)
    throw new KernelError("EINVAL", `${inside} lies in the data of its host, which no confined process sees`, {
      path: inside,
    });
  const masked = environmentsOf(shown);
  // A module that was named over a link is found there too.
  const links = modules.flatMap((module, at) => {
    const [named, meant] = [dirname(module), dirname(real[at] ?? module)];
    return named === meant ? [] : ["--symlink", meant, named];
  });
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
    ...shown.flatMap((path) => asItIs(path, shown)),
    ...links,
    ...masked,
    ...readOnly(proxyFolder, dirname(PROXY_SOCKET)),
    // Last, so that nothing stands over it.
    ...secret.flatMap((folder) =>
      [...shown, ...SYSTEM].some((one) => isWithin(folder, one)) ? ["--tmpfs", folder] : [],
    ),
    "--chdir",
    dirname(real.at(-1) ?? "/"),
  ];
}

const readOnly = (from: string, to = from): readonly string[] => ["--ro-bind", from, to];

/** What is a link itself, as a folder of packages may be, stays one: it comes with the folder that it is in, or is made. */
function asItIs(path: string, shown: readonly string[]): readonly string[] {
  const real = realpathSync(path);
  if (real === path) return readOnly(path);
  const isThere = shown.some((folder) => folder !== path && isWithin(path, folder));
  return [...readOnly(real), ...(isThere ? [] : ["--symlink", real, path])];
}

/** What a module needs: its package, and the packages that are installed for it, wherever links to them lead. */
function shownFor(module: string): readonly string[] {
  const own = packageOf(module);
  const installed = ancestorsOf(dirname(module))
    .map((folder) => join(folder, "node_modules"))
    .filter((folder) => existsSync(folder));
  const linked = installed.flatMap((folder) => linksIn(folder));
  return [own ?? (isEverybodys(dirname(module)) ? module : dirname(module)), ...installed, ...linked];
}

/** The nearest folder around a module with a package.json, unless that belongs to everybody. */
function packageOf(module: string): string | undefined {
  const found = ancestorsOf(dirname(module)).find((folder) => existsSync(join(folder, "package.json")));
  return found === undefined || isEverybodys(found) ? undefined : found;
}

/** Folders of packages that are links, as workspaces are. */
function linksIn(folder: string): readonly string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory() && entry.name.startsWith("@")) return linksIn(path);
    if (!entry.isSymbolicLink() || !existsSync(path)) return [];
    const target = realpathSync(path);
    return isEverybodys(target) ? [] : [target];
  });
}

/** Files and folders of the environment, and of a shell that sets one. */
const ENVIRONMENT = /^\.env(?:rc)?(?:\..*)?$/;
/** Entries of what is shown that are looked through for what must be hidden. */
const LOOKED_AT_MAX = 100_000;

/**
 * Hides what holds an environment, and data directories, in all that is shown; what packages bring along is theirs.
 * @throws {E2BIG} there is too much to look through
 */
function environmentsOf(shown: readonly string[]): readonly string[] {
  const hiding: string[] = [];
  const todo = shown.filter((path) => basename(path) !== "node_modules" && statSync(path).isDirectory());
  const seen = new Set<string>();
  let left = LOOKED_AT_MAX;
  for (let folder = todo.pop(); folder !== undefined; folder = todo.pop()) {
    if (seen.has(folder)) continue;
    seen.add(folder);
    const entries = readdirSync(folder, { withFileTypes: true });
    left -= entries.length;
    if (left < 0)
      throw new KernelError(
        "E2BIG",
        `more than ${LOOKED_AT_MAX} files beside the program; confine it in a smaller project`,
        {
          path: shown[0] ?? "",
        },
      );
    // A data directory, whoever's it is.
    if (entries.some(({ name }) => name === "store.db" || name === "store.mdb")) {
      hiding.push("--tmpfs", folder);
      continue;
    }
    for (const entry of entries) {
      const path = join(folder, entry.name);
      // A link that leads nowhere shows nothing, and nothing can be put over it.
      if (ENVIRONMENT.test(entry.name) && existsSync(path))
        hiding.push(...(entry.isDirectory() ? ["--tmpfs", path] : readOnly("/dev/null", path)));
      else if (entry.isDirectory() && entry.name !== "node_modules" && entry.name !== ".git") todo.push(path);
    }
  }
  return hiding;
}

/** A folder, and those around it, the nearest first. */
function ancestorsOf(folder: string): readonly string[] {
  const above = dirname(folder);
  return above === folder ? [folder] : [folder, ...ancestorsOf(above)];
}

/** The root, the user's home, the folder of temporary files, and what is around them. */
const isEverybodys = (folder: string): boolean =>
  [homedir(), tmpdir(), "/tmp", "/srv", "/opt", "/home", "/root"].some((one) => isWithin(one, folder));

/** Whether a path is a folder, or lies in it. */
function isWithin(path: string, folder: string): boolean {
  const way = relative(folder, path);
  return way === "" || (way !== ".." && !way.startsWith("../") && !way.startsWith("/"));
}
