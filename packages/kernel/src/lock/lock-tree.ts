// What is held where in a tree of paths, as counts: whether one more may be held is asked in the depth of its path.
//
// L1  At one path: one exclusive holder, or any number of shared ones, or so many counting ones as there is room for.
// L2  An exclusive holder excludes everybody above and below it; the others exclude exclusive ones there.
// L3  A path that was locked once is found again without work: what nothing is held at is forgotten when there is much of it.

import type { LockMode } from "../abi/lock.ts";
import { type VfsPath, parentOf } from "../base/path.ts";

interface Spot {
  readonly above: Spot | undefined;
  exclusive: number;
  shared: number;
  counting: number;
  belowExclusive: number;
  below: number;
}

/** Spots at which nothing is held, before they are forgotten. */
const KNOWN_MAX = 4096;

const isEmpty = ({ exclusive, shared, counting, below }: Spot): boolean => exclusive + shared + counting + below === 0;

export class LockTree {
  readonly #spots = new Map<VfsPath, Spot>();
  /** How many are held in all. */
  #held = 0;
  #sweepAt = KNOWN_MAX;

  /** Whether one more holder has no place; `room` is how many counting ones there may be. */
  conflicts(path: VfsPath, mode: LockMode, room: number): boolean {
    if (this.#held === 0) return false;
    const here = this.#spotOf(path);
    if (here.exclusive > 0 || here.belowExclusive > 0) return true;
    if (mode === "exclusive" && here.shared + here.counting + here.below > 0) return true;
    if (mode === "shared" && here.counting > 0) return true;
    if (mode === "counting" && (here.shared > 0 || here.counting >= room)) return true;
    for (let { above } = here; above !== undefined; { above } = above) {
      if (above.exclusive > 0) return true;
      if (mode === "exclusive" && above.shared + above.counting > 0) return true;
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
    const spot = this.#spotOf(path);
    const exclusive = mode === "exclusive" ? by : 0;
    this.#held += by;
    spot[mode] += by;
    for (let { above } = spot; above !== undefined; { above } = above) {
      above.below += by;
      above.belowExclusive += exclusive;
    }
  }

  #spotOf(path: VfsPath): Spot {
    const known = this.#spots.get(path);
    if (known !== undefined) return known;
    if (this.#spots.size >= this.#sweepAt) this.#sweep();
    const above = path === "/" ? undefined : this.#spotOf(parentOf(path));
    const spot = { above, exclusive: 0, shared: 0, counting: 0, belowExclusive: 0, below: 0 };
    this.#spots.set(path, spot);
    return spot;
  }

  /** Forgets where nothing is held. What is above a holder counts it, and stays. */
  #sweep(): void {
    for (const [path, spot] of this.#spots) if (isEmpty(spot)) this.#spots.delete(path);
    this.#sweepAt = 2 * this.#spots.size + KNOWN_MAX;
  }
}

/** Paths above a path, the nearest first. */
export function* ancestorsOf(path: string): Generator<string, void, undefined> {
  for (let at = path.lastIndexOf("/"); path !== "/" && at >= 0; at = path.lastIndexOf("/", at - 1)) {
    yield at === 0 ? "/" : path.slice(0, at);
    if (at === 0) return;
  }
}
