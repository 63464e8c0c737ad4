// Errors as `node:fs` throws them: programs look at their `code`, and people at their message.

import { ERRNO, isKernelError } from "@ergos/kernel";

export interface NodeError extends Error {
  code: string;
  errno: number;
  syscall: string;
  path?: string;
  dest?: string;
}

const NUMBERS: Readonly<Record<string, number>> = Object.fromEntries(
  Object.entries(ERRNO).map(([code, row]) => [code, row.number]),
);
const SENTENCES: Readonly<Record<string, string>> = {
  ENOENT: "no such file or directory",
  EEXIST: "file already exists",
  ENOTDIR: "not a directory",
  EISDIR: "illegal operation on a directory",
  ENOTEMPTY: "directory not empty",
  EACCES: "permission denied",
  EINVAL: "invalid argument",
  ELOOP: "too many symbolic links encountered",
  EBADF: "bad file descriptor",
  EXDEV: "cross-device link not permitted",
  EROFS: "read-only file system",
  ENAMETOOLONG: "name too long",
  ENOTSUP: "operation not supported",
};

export function nodeError(code: string, syscall: string, path?: string, dest?: string, cause?: unknown): NodeError {
  const where = path === undefined ? "" : ` '${path}'`;
  const sentence = SENTENCES[code] ?? (cause instanceof Error ? cause.message : code);
  const message = `${code}: ${sentence}, ${syscall}${where}${dest === undefined ? "" : ` -> '${dest}'`}`;
  return Object.assign(new Error(message, cause === undefined ? {} : { cause }), {
    code,
    errno: -(NUMBERS[code] ?? 1),
    syscall,
    ...(path === undefined ? {} : { path }),
    ...(dest === undefined ? {} : { dest }),
  });
}

/** Does something, and gives its failure the form that programs know. */
export async function asNode<T>(
  syscall: string,
  path: string | undefined,
  work: () => Promise<T>,
  dest?: string,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw asNodeError(error, syscall, path, dest);
  }
}

export const asNodeError = (error: unknown, syscall: string, path: string | undefined, dest?: string): unknown =>
  isKernelError(error) ? nodeError(error.code, syscall, path, dest, error) : error;

/** @throws {AbortError} as Node's, with the reason as its cause */
export function assertGoesOn(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  throw Object.assign(new Error("The operation was aborted", { cause: signal.reason }), {
    name: "AbortError",
    code: "ABORT_ERR",
  });
}
