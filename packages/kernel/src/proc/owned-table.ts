// Numbered records that belong to processes and end with them, as schedules and triggers: `<prefix>/<number>`.

import { entriesOf } from "../abi/entries.ts";
import type { Metastore } from "../abi/metastore.ts";
import { KernelError } from "../base/errno.ts";
import { PID_OWNER, type Pid } from "../base/id.ts";
import { MultiMap } from "../base/multimap.ts";
import type { Committer } from "../ipc/committer.ts";
import type { Along } from "./action.ts";
import type { Family } from "./family.ts";

export interface Owned {
  readonly id: number;
  /** The process that it belongs to. */
  readonly pid: Pid;
  /** No two of a process share one. */
  readonly name?: string;
}

export interface OwnedTableParts {
  readonly store: Metastore;
  readonly committer: Committer;
  readonly family: Family;
  /** What one is called. */
  readonly what: string;
  readonly prefix: string;
  /** How many there may be. */
  readonly max: number;
}

const FORMAT = 1;
const nameKey = (pid: Pid, name: string | undefined): string | undefined =>
  name === undefined ? undefined : `${pid} ${name}`;
type Put = NonNullable<Along["puts"]>[number];

export class OwnedTable<Row extends Owned> {
  readonly #parts: OwnedTableParts;
  readonly #rows = new Map<number, Row>();
  readonly #byProcess = new MultiMap<Pid, number>();
  /** Names of the rows that are kept, and of those that are being recorded, with their processes. */
  readonly #taken = new Set<string>();
  #next = 1;

  constructor(parts: OwnedTableParts) {
    this.#parts = parts;
  }

  /** Brings back what was kept, and forgets what belongs to nobody any more. */
  async boot(): Promise<void> {
    const { store, committer, family, prefix } = this.#parts;
    this.#next = Number((await store.get(this.#nextKey))?.value ?? 1);
    const gone: string[] = [];
    for await (const { key, value } of entriesOf(store, `${prefix}/`)) {
      const row = this.#decode(String(value));
      const owner = family.get(row.pid);
      if (owner === undefined || owner.hasEnded) gone.push(key);
      else this.keep(row.id, row);
    }
    if (gone.length > 0) await committer.commit({ deletes: gone });
  }

  get all(): readonly Row[] {
    return [...this.#rows.values()];
  }

  get(id: number): Row | undefined {
    return this.#rows.get(id);
  }

  ofProcess(pid: Pid): readonly Row[] {
    return Array.from(this.#byProcess.get(pid)).flatMap((id) => this.#rows.get(id) ?? []);
  }

  /**
   * Makes a new one.
   * @param store commits it, with what records that its number is taken
   * @throws {EEXIST} the process has one of that name · {EAGAIN} there are as many as there may be
   */
  async make(
    pid: Pid,
    name: string | undefined,
    rowOf: (id: number) => Row,
    store: (puts: readonly Put[], row: Row) => Promise<unknown>,
  ): Promise<Row> {
    const { what, max } = this.#parts;
    const taken = nameKey(pid, name);
    if (taken !== undefined && this.#taken.has(taken))
      throw new KernelError("EEXIST", `process ${pid} has a ${what} ${JSON.stringify(name)} already`);
    if (this.#rows.size >= max)
      throw new KernelError("EAGAIN", `this host has ${max} ${what}s, which is its limit; end some`);
    this.#assertShare(pid);
    const id = this.#next++;
    const row = rowOf(id);
    if (taken !== undefined) this.#taken.add(taken);
    try {
      await store([...this.changeOf(id, row).puts, { key: this.#nextKey, value: String(this.#next) }], row);
    } catch (error) {
      if (taken !== undefined) this.#taken.delete(taken);
      throw error;
    }
    this.keep(id, row);
    return row;
  }

  /** Half of the room is one user's at most; the owner's is all of it. */
  #assertShare(pid: Pid): void {
    const { what, max, family } = this.#parts;
    if (pid === PID_OWNER || this.#rows.size < max / 2) return;
    const user = family.get(pid)?.identity.user;
    const own = this.all.filter((row) => family.get(row.pid)?.identity.user === user);
    if (own.length >= max / 2)
      throw new KernelError(
        "EAGAIN",
        `the user ${user ?? ""} has ${own.length} ${what}s, half of what this host has room for; end some`,
        { pid },
      );
  }

  /** What a commit changes that keeps one as it is now, or that ends it. */
  changeOf(id: number, row: Row | undefined): { readonly puts: readonly Put[]; readonly deletes: readonly string[] } {
    const key = `${this.#parts.prefix}/${String(id).padStart(10, "0")}`;
    return row === undefined
      ? { puts: [], deletes: [key] }
      : {
          puts: [
            { key, value: JSON.stringify({ v: FORMAT, ...(this.#parts.committer.masker?.maskData(row) ?? row) }) },
          ],
          deletes: [],
        };
  }

  /** What a commit changes that ends some. */
  without(rows: readonly Row[]): { readonly deletes: readonly string[] } {
    return { deletes: rows.flatMap(({ id }) => this.changeOf(id, undefined).deletes) };
  }

  /** Follows a commit. */
  keep(id: number, row: Row | undefined): void {
    const before = this.#rows.get(id);
    if (before !== undefined) {
      this.#byProcess.delete(before.pid, id);
      const taken = nameKey(before.pid, before.name);
      if (taken !== undefined) this.#taken.delete(taken);
    }
    if (row === undefined) this.#rows.delete(id);
    else {
      const taken = nameKey(row.pid, row.name);
      if (taken !== undefined) this.#taken.add(taken);
      this.#rows.set(id, row);
      this.#byProcess.add(row.pid, id);
    }
  }

  get #nextKey(): string {
    return `sys/${this.#parts.what}`;
  }

  #decode(value: string): Row {
    // Written by `changeOf` only.
    const { v, ...row } = JSON.parse(value) as { readonly v: number };
    if (v === FORMAT) return row as unknown as Row;
    const { what } = this.#parts;
    throw new KernelError("EVERSION", `a ${what} has format ${v}, this program reads ${FORMAT}; use a newer ErgOS`);
  }
}
