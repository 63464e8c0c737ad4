// A metastore that dies on command, for simulations: the reference model with a write that fails.
//
// `diesAt` counts commits. The commit at which it dies is either lost, or done with its answer lost. After that
// everything is EIO. `survivor` gives what a disk would hold: all commits after the death of the process, or,
// after a loss of power, any prefix that is not shorter than what was flushed.

import { MemoryMetastore } from "@ergos/drivers/memory";
import {
  type Batch,
  type CommitRecord,
  type Entry,
  KernelError,
  type LogEntry,
  type Metastore,
  type MetastoreFeatures,
  type Range,
  type Receipt,
  SEQ_ZERO,
  type Seq,
} from "@ergos/kernel";

export interface Death {
  /** The commit, counted from 1, at which the store dies. */
  readonly at: number;
  /** Whether that commit still reaches the disk. */
  readonly isWritten: boolean;
}

export class SimulatedStore implements Metastore {
  readonly features: MetastoreFeatures = { durability: "power" };
  readonly #inner: MemoryMetastore;
  readonly #death: Death | undefined;
  readonly #delay: () => Promise<void>;
  #commits = 0;
  #isDead = false;
  #flushed: Seq = SEQ_ZERO;
  readonly #died = Promise.withResolvers<void>();

  constructor(inner: MemoryMetastore, options: { readonly death?: Death; readonly delay?: () => Promise<void> } = {}) {
    this.#inner = inner;
    this.#death = options.death;
    this.#delay = options.delay ?? (() => Promise.resolve());
  }

  get seq(): Seq {
    return this.#inner.seq;
  }

  get commits(): number {
    return this.#commits;
  }

  /** Settles when the store dies. */
  get died(): Promise<void> {
    return this.#died.promise;
  }

  get isDead(): boolean {
    return this.#isDead;
  }

  async get(key: string): Promise<Entry | undefined> {
    this.#assertAlive();
    return this.#inner.get(key);
  }

  async scan(range: Range, options: { readonly limit: number; readonly reverse?: boolean }): Promise<readonly Entry[]> {
    this.#assertAlive();
    return this.#inner.scan(range, options);
  }

  async readLog(log: string, options: { readonly after: Seq; readonly limit: number }): Promise<readonly LogEntry[]> {
    this.#assertAlive();
    return this.#inner.readLog(log, options);
  }

  async tail(after: Seq, options: { readonly limit: number }): Promise<readonly CommitRecord[]> {
    this.#assertAlive();
    return this.#inner.tail(after, options);
  }

  async commit(batch: Batch): Promise<Receipt> {
    this.#assertAlive();
    this.#commits++;
    if (this.#death !== undefined && this.#commits >= this.#death.at) {
      if (this.#death.isWritten) await this.#inner.commit(batch);
      this.#isDead = true;
      this.#died.resolve();
      this.#assertAlive();
    }
    const { seq } = await this.#inner.commit(batch);
    await this.#delay();
    const flush = (): Promise<void> => this.#flushTo(seq);
    return {
      seq,
      get flushed() {
        return flush();
      },
    };
  }

  flush(): Promise<void> {
    return this.#flushTo(this.#inner.seq);
  }

  async #flushTo(seq: Seq): Promise<void> {
    this.#assertAlive();
    await this.#delay();
    this.#assertAlive();
    if (seq > this.#flushed) this.#flushed = seq;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** What the disk holds after the death: everything, or after a loss of power a prefix chosen by `pick`. */
  async survivor(pick?: (from: number, to: number) => number): Promise<MemoryMetastore> {
    const last = pick === undefined ? this.#inner.seq : pick(this.#flushed, this.#inner.seq);
    const fresh = new MemoryMetastore();
    for (let after = SEQ_ZERO; after < last;) {
      const page = await this.#inner.tail(after, { limit: 100 });
      for (const { seq, ...effects } of page) {
        if (seq > last) break;
        await fresh.commit(effects);
        after = seq;
      }
      if (page.length === 0 || (page.at(-1)?.seq ?? 0) > last) break;
    }
    return fresh;
  }

  #assertAlive(): void {
    if (this.#isDead) throw new KernelError("EIO", "the simulated store is dead");
  }
}
