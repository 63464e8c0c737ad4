// Revisions of programs: what a machine's steps were defined as when they were recorded, so that a new
// revision can tell which outcomes still count.

import type { Batch, Metastore } from "../abi/metastore.ts";
import type { Journal, Replay } from "../journal/journal.ts";
import type { Program } from "./program.ts";

const revisionKey = (revision: string): string => `rev/${revision}`;

export class Revisions {
  readonly #store: Metastore;
  /** Revisions that this host has seen stored. */
  readonly #stored = new Set<string>();

  constructor(store: Metastore) {
    this.#store = store;
  }

  /** The definitions of a program, to be stored with the first process that runs it. */
  putsOf(program: Program): NonNullable<Batch["puts"]> {
    if (program.definitions === undefined || this.#stored.has(program.revision)) return [];
    return [{ key: revisionKey(program.revision), value: JSON.stringify(program.definitions) }];
  }

  /** Called when the commit with the definitions has succeeded. */
  markStored(program: Program): void {
    this.#stored.add(program.revision);
  }

  /** Loads a journal's outcomes. Under a new revision the places that it has outdated are named, to be recorded. */
  async load(
    journal: Journal,
    program: Program,
  ): Promise<{ readonly replay: Replay; readonly outdated: readonly string[] }> {
    const replay = await journal.load();
    if (replay.revision === program.revision || program.outdated === undefined) return { replay, outdated: [] };
    const entry = await this.#store.get(revisionKey(replay.revision));
    // Written by `putsOf` only.
    const previous = entry === undefined ? {} : (JSON.parse(String(entry.value)) as Readonly<Record<string, string>>);
    return { replay, outdated: journal.outdate(program.outdated(previous)) };
  }
}
