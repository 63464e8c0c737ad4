// A look at the file before LMDB maps it: it believes what stands there, and the process dies of what cannot be.

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { KernelError } from "@ergos/kernel";

const MAGIC = 0xbeefc0de;
/** Both pages that say what the file is: the magic number, the pages' size, the last page. Little-endian, 64 bits. */
const META = { magic: 24, pageSize: 48, lastPage: 144 };
const META_PAGES = 2;
const PAGE = 4096;

/**
 * Refuses a file that is none of LMDB, or is cut off.
 * @throws {ECORRUPT}
 */
export function assertWhole(path: string): void {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch {
    // There is none yet; what else is wrong with it is told by who opens it.
    return;
  }
  try {
    const { size } = fstatSync(fd);
    // One that was made a moment before its maker died.
    if (size === 0) return;
    const head = Buffer.alloc(META_PAGES * PAGE);
    const isWhole = readSync(fd, head, 0, head.length, 0) === head.length;
    for (let page = 0; page < META_PAGES; page++) {
      const at = page * PAGE;
      const end = (head.readBigUInt64LE(at + META.lastPage) + 1n) * BigInt(head.readUInt32LE(at + META.pageSize));
      if (!isWhole || head.readUInt32LE(at + META.magic) !== MAGIC || BigInt(size) < end)
        throw new KernelError(
          "ECORRUPT",
          "the file is no store of LMDB, or damaged; restore a copy, or move it away to begin anew",
          { path },
        );
    }
  } finally {
    closeSync(fd);
  }
}
