// Care of the store: what is old is deleted or summed up, what nobody names is collected, what is there is checked. One at
// a time.

import type { ObjectStore } from "../abi/object-store.ts";
import { KernelError } from "../base/errno.ts";
import { type RollUpRequest, rollUpUsage } from "../budget/ledger.ts";
import { type CheckReport, type CheckRequest, check } from "./checker.ts";
import { type CollectRequest, type Collected, type CollectorParts, collect } from "./collector.ts";
import { type PruneRequest, type Pruned, type PrunerParts, prune } from "./pruner.ts";

export class Caretaker {
  readonly #parts: CollectorParts & PrunerParts & { readonly objects: ObjectStore };
  #busy: string | undefined;

  constructor(parts: CollectorParts & PrunerParts) {
    this.#parts = { ...parts, objects: parts.blobs };
  }

  prune(request: PruneRequest): Promise<Pruned> {
    return this.#alone("prune", () => prune(this.#parts, request));
  }

  collect(request: CollectRequest): Promise<Collected> {
    return this.#alone("collect", () => collect(this.#parts, request));
  }

  rollUp(request: RollUpRequest): Promise<number> {
    return this.#alone("rollUpLedger", () => rollUpUsage(this.#parts, request));
  }

  check(request: CheckRequest): Promise<CheckReport> {
    return this.#alone("checkStore", () => check(this.#parts, request));
  }

  /** @throws {EBUSY} another is under way */
  async #alone<T>(syscall: string, work: () => Promise<T>): Promise<T> {
    if (this.#busy !== undefined)
      throw new KernelError("EBUSY", `\`${this.#busy}\` is under way; wait until it is over`, { syscall });
    this.#busy = syscall;
    try {
      return await work();
    } finally {
      this.#busy = undefined;
    }
  }
}
