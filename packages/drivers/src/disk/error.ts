import { type Errno, KernelError } from "@ergos/kernel";

const CODES: Readonly<Record<string, Errno>> = {
  ENOENT: "ENOENT",
  ENOSPC: "ENOSPC",
  EDQUOT: "ENOSPC",
  EROFS: "EROFS",
  EACCES: "EROFS",
  EPERM: "EROFS",
  EMFILE: "EMFILE",
};

export function diskError(error: unknown, path: string): KernelError {
  if (error instanceof KernelError) return error;
  const code =
    typeof error === "object" && error !== null && "code" in error ? (CODES[String(error.code)] ?? "EIO") : "EIO";
  return new KernelError(code, `the object store failed at ${path}`, { path, cause: error });
}
