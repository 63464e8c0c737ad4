// Errors about paths, and the checks of what a caller may ask of a file.

import { KernelError } from "../base/errno.ts";
import type { Seq } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";

/** @throws {EINVAL} an offset or length is no whole number of at least 0 */
export function assertRange(range: { readonly offset?: number; readonly length?: number }, path: string): void {
  for (const value of [range.offset, range.length]) {
    if (value !== undefined && (!Number.isSafeInteger(value) || value < 0)) {
      throw new KernelError(
        "EINVAL",
        `offsets and lengths are whole numbers of at least 0, found ${typeof value === "number" ? value : typeof value}`,
        { path },
      );
    }
  }
}

/** Zeros between the old end and a write behind it are written out, so their number is bounded. */
export function assertHole(bytes: number, path: string): void {
  if (bytes <= LIMITS.ioBytesMax) return;
  throw new KernelError(
    "EFBIG",
    `a write ${bytes} bytes behind the end; at most ${LIMITS.ioBytesMax} are filled with zeros`,
    { path },
  );
}

/** @throws {ESTALE} it is another content, or none, by now */
export function assertGeneration(found: Seq | undefined, wanted: Seq, path: string): void {
  if (found === wanted) return;
  const what = found === undefined ? "it is gone" : `found ${found}`;
  throw new KernelError("ESTALE", `generation ${wanted} was expected, ${what}; read the file again`, { path });
}

export const missing = (path: string): KernelError => new KernelError("ENOENT", `${path} does not exist`, { path });
export const exists = (path: string): KernelError => new KernelError("EEXIST", `${path} exists already`, { path });
export const isDirectory = (path: string): KernelError =>
  new KernelError("EISDIR", `${path} is a directory; list it instead`, { path });
export const notDirectory = (path: string): KernelError =>
  new KernelError("ENOTDIR", `${path} is not a directory`, { path });
/** It would write more than was paid for. */
export const outgrown = (path: string): KernelError =>
  new KernelError("EBUSY", "the file grew during the operation; try again when it does not", { path });

export const lostRace = (path: string): KernelError =>
  new KernelError("EAGAIN", `${path} was changed by somebody else at the same time; try again`, {
    path,
    isLostRace: true,
  });
export const unsupported = (what: string, path: string): KernelError =>
  new KernelError("ENOTSUP", `${what} is not supported here`, { path });
