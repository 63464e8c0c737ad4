// Normalised absolute paths of the namespace. A `VfsPath` is normalised or it does not exist:
// it begins with `/`, has no empty, `.` or `..` segment, no NUL, and no trailing slash except for the root.

import { KernelError } from "./errno.ts";
import { LIMITS } from "./limits.ts";

declare const brand: unique symbol;
export type VfsPath = string & { readonly [brand]: "VfsPath" };

export const ROOT: VfsPath = "/" as VfsPath;

/** Whether a text needs work before it is a `VfsPath`. One pass, no allocation. */
function isNormal(text: string): boolean {
  const length = text.length;
  if (length === 0 || length > LIMITS.pathLengthMax || text.charCodeAt(0) !== 47) return false;
  if (length === 1) return true;
  let start = 1;
  for (let at = 1; at <= length; at++) {
    const unit = at === length ? 47 : text.charCodeAt(at);
    if (unit === 0 || (unit & 0xf800) === 0xd800) return false;
    if (unit !== 47) continue;
    const size = at - start;
    if (size === 0 || size > LIMITS.nameLengthMax) return false;
    if (size <= 2 && text.charCodeAt(start) === 46 && (size === 1 || text.charCodeAt(start + 1) === 46)) return false;
    start = at + 1;
  }
  return true;
}

/**
 * Normalises a path; a relative one is taken from `base`. `..` at the root stays at the root, as in POSIX.
 *
 * @throws {EINVAL} it is empty, or holds a NUL or half of a character
 * @throws {ENAMETOOLONG} a name or the path is beyond its limit
 */
export function toPath(text: string, base: VfsPath = ROOT): VfsPath {
  if (typeof text !== "string") throw new KernelError("EINVAL", `a path is a text, found ${typeof text}`);
  if (isNormal(text)) return text as VfsPath;
  if (text === "") throw new KernelError("EINVAL", "a path is empty; give an absolute path such as /home");
  if (!text.isWellFormed())
    throw new KernelError("EINVAL", "a path holds half of a surrogate pair, which is no character", {
      path: text.toWellFormed(),
    });
  if (text.includes("\0"))
    throw new KernelError("EINVAL", "a path holds a NUL character", { path: text.replaceAll("\0", "\\0") });
  const segments = text.startsWith("/") || base === ROOT ? [] : base.slice(1).split("/");
  for (const segment of text.split("/")) {
    if (segment === "" || segment === ".") continue;
    if (segment === "..") {
      segments.pop();
      continue;
    }
    if (segment.length > LIMITS.nameLengthMax) {
      throw new KernelError(
        "ENAMETOOLONG",
        `a name has ${segment.length} characters, at most ${LIMITS.nameLengthMax} are allowed`,
        {
          path: `${segment.slice(0, 40)}…`,
        },
      );
    }
    segments.push(segment);
  }
  const path = `/${segments.join("/")}`;
  if (path.length > LIMITS.pathLengthMax) {
    throw new KernelError(
      "ENAMETOOLONG",
      `a path has ${path.length} characters, at most ${LIMITS.pathLengthMax} are allowed`,
      {
        path: `${path.slice(0, 40)}…`,
      },
    );
  }
  return path as VfsPath;
}

/** The directory that holds the path; the root holds itself. */
export function parentOf(path: VfsPath): VfsPath {
  const at = path.lastIndexOf("/");
  return at <= 0 ? ROOT : (path.slice(0, at) as VfsPath);
}

/** The last name of the path; empty for the root. */
export function nameOf(path: VfsPath): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** The path of a name in a directory. The name must be one segment. */
export function childOf(directory: VfsPath, name: string): VfsPath {
  return (directory === ROOT ? `/${name}` : `${directory}/${name}`) as VfsPath;
}

/** Names of the path from the root on. */
export function segmentsOf(path: VfsPath): string[] {
  return path === ROOT ? [] : path.slice(1).split("/");
}

/** Whether `path` is `directory` or lies below it. */
export function isWithin(path: string, directory: string): boolean {
  return (
    directory === "/" || path === directory || (path.startsWith(directory) && path.charCodeAt(directory.length) === 47)
  );
}
