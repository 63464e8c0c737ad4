// Errors of the machine's filesystem in the kernel's words.

import { type Errno, KernelError, isErrno } from "@ergos/kernel";

const RENAMED: Readonly<Record<string, Errno>> = {
  EPERM: "EACCES",
  EDQUOT: "ENOSPC",
  ENFILE: "EMFILE",
  ENXIO: "ENOTSUP",
};
const KNOWN = new Set<Errno>([
  "ENOENT",
  "EACCES",
  "EEXIST",
  "ENOTDIR",
  "EISDIR",
  "ENOTEMPTY",
  "ENOSPC",
  "EROFS",
  "ELOOP",
  "EMFILE",
  "ENAMETOOLONG",
  "EBUSY",
  "EXDEV",
  "EFBIG",
  "EINVAL",
]);

/** What a person is told, and what to do. */
const WHY: Readonly<Partial<Record<Errno, string>>> = {
  ENOENT: "does not exist (any more)",
  ELOOP: "became a link while it was opened",
  EEXIST: "exists already",
  ENOTDIR: "is not a directory, or something on the way to it is none",
  EISDIR: "is a directory; list it instead",
  ENOTEMPTY: "is not empty; remove it with recursive",
  EACCES: "may not be used by the user of this host; change its owner or mode",
  ENOSPC: "does not fit on the disk; make room",
  EROFS: "is on a file system that is read-only",
  EFBIG: "would be larger than its file system allows",
  EBUSY: "is in use by the machine; try again later",
};

export function translate(error: unknown, path: string): KernelError {
  if (error instanceof KernelError) return error;
  const found = typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";
  const code = RENAMED[found] ?? (isErrno(found) && KNOWN.has(found) ? found : "EIO");
  const why = WHY[code] ?? `cannot be used: ${found || "unknown error"}`;
  return new KernelError(code, `${path} in the mounted folder ${why}`, { path, cause: error });
}
