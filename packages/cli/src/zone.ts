// Zones of a data directory: `ROOT/zones/NAME` is a data directory of its own, with its own store, processes, keys and
// host. Nothing is shared, so that nothing of one can be seen from another.

import { type Dirent, readdirSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { KernelError } from "@ergos/kernel";

export const DEFAULT_ZONE = "default";

const NAME = /^[a-z0-9][a-z0-9_-]{0,62}$/;
const FOLDER = "zones";

/**
 * The data directory of a zone.
 * @throws {EINVAL} it is no name of one
 */
export function zoneDirectory(root: string, zone: string): string {
  if (zone === DEFAULT_ZONE) return root;
  if (!NAME.test(zone))
    throw new KernelError(
      "EINVAL",
      `${JSON.stringify(zone)} is no name of a zone; it has up to 63 of a-z, 0-9, _ and -, and begins with a letter or number`,
    );
  if (zoneOf(root) !== DEFAULT_ZONE)
    throw new KernelError("EINVAL", `${root} is zone ${zoneOf(root)}, and zones have no zones; name ${rootOf(root)}`);
  return join(root, FOLDER, zone);
}

/** The zone that a data directory is, by where it lies. */
export function zoneOf(dir: string): string {
  const path = resolve(dir);
  // A folder may be called so for its own reasons; `.ergos` in it is no name of a zone.
  return basename(dirname(path)) === FOLDER && NAME.test(basename(path)) ? basename(path) : DEFAULT_ZONE;
}

const rootOf = (dir: string): string => dirname(dirname(resolve(dir)));

/** Names of the zones of a data directory beside the default one. */
export function zonesOf(root: string): readonly string[] {
  let folders: readonly Dirent[];
  try {
    folders = readdirSync(join(root, FOLDER), { withFileTypes: true });
  } catch {
    // It has none yet.
    return [];
  }
  return folders
    .filter((entry) => entry.isDirectory() && NAME.test(entry.name))
    .map(({ name }) => name)
    .toSorted();
}
