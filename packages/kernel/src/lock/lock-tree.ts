// What is held where in a tree of paths, as counts: whether one more may be held is asked in the depth of its path.
//
// L1  At one path: one exclusive holder, or any number of shared ones, or so many counting ones as there is room for.
// L2  An exclusive holder excludes everybody above and below it; the others exclude exclusive ones there.

import type { LockMode } from "../abi/lock.ts";
import type { VfsPath } from "../base/path.ts";

interface Spot {
  exclusive: number;
  shared: number;
  counting: number;
  belowExclusive: number;
  below: number;
}

export class LockTree {
  readonly #spots = new Map<string, Spot>();

  /** Whether one more holder has no place; `room` is how many counting ones there may be. */
  conflicts(path: VfsPath, mode: LockMode, room: number): boolean {
    if (this.#spots.size === 0) return false;
    const here = this.#spots.get(path);
    if (here !== undefined) {
      const { exclusive, shared, counting, below, belowExclusive } = here;
      if (exclusive > 0 || belowExclusive > 0) return true;
      if (mode === "exclusive" && shared + counting + below > 0) return true;
      if (mode === "shared" && counting > 0) return true;
      if (mode === "counting" && (shared > 0 || counting >= room)) return true;
    }
    for (const above of ancestorsOf(path)) {
      const spot = this.#spots.get(above);
      if (spot === undefined) continue;
      if (spot.exclusive > 0) return true;
      if (mode === "exclusive" && spot.shared + spot.counting > 0) return true;
    }
    return false;
  }

  add(path: VfsPath, mode: LockMode): void {
    this.#change(path, mode, 1);
  }

  remove(path: VfsPath, mode: LockMode): void {
    this.#change(path, mode, -1);
  }

  /** Holders below a path. */
  countBelow(path: VfsPath): number {
    return this.#spots.get(path)?.below ?? 0;
  }

  #change(path: VfsPath, mode: LockMode, by: 1 | -1): void {
    this.#spotOf(path)[mode] += by;
    this.#dropEmpty(path);
    for (const above of ancestorsOf(path)) {
      const spot = this.#spotOf(above);
      spot.below += by;
      if (mode === "exclusive") spot.belowExclusive += by;
      this.#dropEmpty(above);
    }
  }

  #spotOf(path: string): Spot {
    let spot = this.#spots.get(path);
    if (spot === undefined)
      this.#spots.set(path, (spot = { exclusive: 0, shared: 0, counting: 0, belowExclusive: 0, below: 0 }));
    return spot;
  }

  #dropEmpty(path: string): void {
    const spot = this.#spots.get(path);
    if (spot !== undefined && spot.exclusive + spot.shared + spot.counting + spot.below === 0) this.#spots.delete(path);
  }
}

/** Paths above a path, the nearest first. */
export function* ancestorsOf(path: string): Generator<string, void, undefined> {
  for (let at = path.lastIndexOf("/"); path !== "/" && at >= 0; at = path.lastIndexOf("/", at - 1)) {
    yield at === 0 ? "/" : path.slice(0, at);
    if (at === 0) return;
  }
}
