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

export function translate(error: unknown, path: string): KernelError {
  if (error instanceof KernelError) return error;
  const found = typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";
  const code = RENAMED[found] ?? (isErrno(found) && KNOWN.has(found) ? found : "EIO");
  const why =
    code === "ENOENT"
      ? "does not exist (any more)"
      : code === "ELOOP"
        ? "became a link while it was opened"
        : `cannot be used: ${found || "unknown error"}`;
  return new KernelError(code, `${path} in the mounted folder ${why}`, { path, cause: error });
}
