// Copying and moving: what takes the place of something does so in one step wherever the namespace has one for it.

import { type FileStat, type Files, isKernelError } from "@ergos/kernel";
import { isCollection, join, parentOf } from "./path.ts";

/** Something that goes somewhere. */
export interface Transfer {
  /** What it is: of a move the name itself, of a copy what that leads to. */
  readonly stat: FileStat;
  readonly from: string;
  readonly to: string;
  /** What has that name now. */
  readonly there: FileStat | undefined;
  readonly isMove: boolean;
  /** With what is in it. */
  readonly isDeep: boolean;
  /** Whether it may take the place of what comes there meanwhile. */
  readonly overwrites: boolean;
}

/** @param number no other request of this host has it */
export async function transfer(fs: Files, what: Transfer, number: number): Promise<void> {
  const { to, there } = what;
  if (there === undefined) return put(fs, what);
  if (await replaced(fs, what)) return;
  // What is there is put aside until the other is in its place.
  const aside = await putAside(fs, to, number);
  try {
    await put(fs, what);
  } catch (error) {
    await fs.unlink(to, { recursive: true }).catch(() => undefined);
    await fs.rename(aside, to);
    throw error;
  }
  await fs.unlink(aside, { recursive: true });
}

async function put(fs: Files, { stat, from, to, isMove, isDeep, overwrites }: Transfer): Promise<void> {
  if (isMove) return move(fs, stat, from, to, overwrites);
  if (isCollection(stat) && !isDeep) return fs.mkdir(to);
  return copy(fs, stat, from, to, false);
}

/** Puts it in the place of something of its kind at once; whether that could be done. */
async function replaced(fs: Files, { stat, from, to, there, isMove, isDeep }: Transfer): Promise<boolean> {
  const isTree = isCollection(stat);
  if (there === undefined || isTree !== isCollection(there) || (isTree && !isDeep)) return false;
  // A tree that moves is put in the place of the other as what it is: a copy of it would miss what comes meanwhile.
  if (isMove) return isTree ? false : done(fs.rename(from, to), "EXDEV");
  // A copy to a link would go where that leads.
  if (there.type === "link") return false;
  if (await done(fs.restore(from, to), "ENOTSUP", "E2BIG")) return true;
  if (isTree) return false;
  await fs.copy(from, to);
  return true;
}

/** A name beside another that nobody has; it is short, whatever that one's is. */
export async function nameBeside(fs: Files, path: string, what: string, number: number): Promise<string> {
  for (let at = number; ; at++) {
    const beside = join(parentOf(path), `.${what}-${at}`);
    if (!(await fs.exists(beside))) return beside;
  }
}

async function putAside(fs: Files, path: string, number: number): Promise<string> {
  const aside = await nameBeside(fs, path, "replaced", number);
  await fs.rename(path, aside);
  return aside;
}

async function move(fs: Files, stat: FileStat, from: string, to: string, replace: boolean): Promise<void> {
  if (await done(fs.rename(from, to, { replace }), "EXDEV")) return;
  await copy(fs, stat, from, to, true);
  try {
    await fs.unlink(from, { recursive: true });
  } catch (error) {
    // Where nothing of it could be removed, it has not moved.
    if (isKernelError(error) && error.code === "EROFS") await fs.unlink(to, { recursive: true });
    throw error;
  }
}

/**
 * Copies within the zone share their content; others are read and written. A part of a tree is nobody's wish: it goes
 * again where the whole cannot be copied.
 * @param isWhole nothing may be left out, as of what is removed afterwards
 */
async function copy(fs: Files, stat: FileStat, from: string, to: string, isWhole: boolean): Promise<void> {
  if (await done(fs.clone(from, to), "ENOTSUP", "ENOENT")) return;
  if (stat.type === "link") {
    await done(fs.link(to, stat.linkText ?? ""), ...(isWhole ? [] : ["ENOTSUP"]));
    return;
  }
  if (!isCollection(stat)) return void (await fs.copy(from, to));
  await fs.mkdir(to);
  try {
    for (const { name } of await fs.readdir(from)) {
      const one = join(from, name);
      await copy(fs, await fs.stat(one, { noFollow: true }), one, join(to, name), isWhole);
    }
  } catch (error) {
    await fs.unlink(to, { recursive: true }).catch(() => undefined);
    throw error;
  }
}

/** Whether something was done, or is of those that cannot be done so. */
async function done(work: Promise<unknown>, ...unless: readonly string[]): Promise<boolean> {
  try {
    await work;
    return true;
  } catch (error) {
    if (isKernelError(error) && unless.includes(error.code)) return false;
    throw error;
  }
}
