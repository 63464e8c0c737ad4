// SQLite's errors in the kernel's words, translated once at the edge of the driver.

import { type Errno, KernelError, describe } from "@ergos/kernel";

/** Primary result codes (https://sqlite.org/rescode.html). */
const CODES: Readonly<Record<number, readonly [Errno, string]>> = {
  5: ["EBUSY", "the database is locked by another process"],
  8: ["EROFS", "the database is read-only; check the permissions of the directory"],
  10: ["EIO", "the disk reported an error"],
  11: ["ECORRUPT", "the database file is damaged; restore a copy, or move it away to begin anew"],
  13: ["ENOSPC", "the disk is full; free some space and start again, nothing committed is lost"],
  14: ["EROFS", "the database cannot be opened; check that the directory may be written"],
  26: ["ECORRUPT", "the file is no database, or damaged; restore a copy, or move it away to begin anew"],
};

export function sqliteError(error: unknown, path: string): KernelError {
  if (error instanceof KernelError) return error;
  const number = typeof error === "object" && error !== null && "errcode" in error ? Number(error.errcode) & 0xff : 0;
  const [code, sentence] = CODES[number] ?? ["EIO", `the store failed: ${describe(error)}`];
  return new KernelError(code, `${path}: ${sentence}`, { path, cause: error });
}
