// Revisions of programs: what a machine's steps were defined as when they were recorded, so that a new
// revision can tell which outcomes still count. A program that runs outside of the host tells them itself.

import type { Batch, Metastore } from "../abi/metastore.ts";
import type { Attempts, Journal, Replay } from "../journal/journal.ts";
import { encodeRecord } from "../journal/record.ts";
import type { Committer } from "../ipc/committer.ts";
import type { Process } from "./process.ts";
import type { Program } from "./program.ts";

type Definitions = Readonly<Record<string, string>>;

/** What a program is to look at, to say which of its recorded places count no more. */
export interface Revised {
  readonly previous?: Definitions;
  readonly places?: readonly string[];
  /** What earlier lives have tried without coming to an end, by places. */
  readonly attempts?: Readonly<Record<string, Attempts>>;
}

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
    if (program.definitions !== undefined) this.#stored.add(program.revision);
  }

  /** Loads a journal's outcomes. Under a new revision the places that it has outdated are named, to be recorded. */
  async load(
    journal: Journal,
    program: Program,
  ): Promise<{ readonly replay: Replay; readonly outdated: readonly string[] }> {
    const replay = await journal.load();
    if (replay.revision === program.revision || program.outdated === undefined) return { replay, outdated: [] };
    const previous = (await this.#definitionsOf(replay.revision)) ?? {};
    return { replay, outdated: journal.outdate(program.outdated(previous)) };
  }

  /**
   * Takes the definitions of a program where it runs, and then the places that count no more under them; what those are
   * is for the program to say, of what this gives. It goes on from its earlier outcomes only once that is recorded.
   */
  async revise(
    { journal, program }: Process,
    { definitions, outdated }: { readonly definitions: Definitions; readonly outdated?: readonly string[] },
    committer: Committer,
  ): Promise<Revised> {
    if (journal === undefined || program?.tellsDefinitions !== true) return {};
    const { revision } = program;
    const isNew = journal.revision !== undefined && journal.revision !== revision;
    const previous = isNew && outdated === undefined ? await this.#definitionsOf(journal.revision ?? "") : undefined;
    const { recordedPlaces: places } = journal;
    const attempts = Object.fromEntries(journal.openAttempts);
    if (previous !== undefined) return { previous, places, attempts };
    const gone = new Set(outdated);
    const record = { t: "outdated", at: committer.now(), places: [...gone], revision } as const;
    const puts = this.#stored.has(revision) ? [] : [{ key: revisionKey(revision), value: JSON.stringify(definitions) }];
    if (isNew || puts.length > 0)
      await committer.commit({ puts, appends: isNew ? [{ log: journal.log, value: encodeRecord(record) }] : [] });
    this.#stored.add(revision);
    if (isNew) {
      journal.outdate((place) => gone.has(place));
      journal.revision = revision;
    }
    return { places: journal.recordedPlaces, attempts: Object.fromEntries(journal.openAttempts) };
  }

  async #definitionsOf(revision: string): Promise<Definitions | undefined> {
    const entry = await this.#store.get(revisionKey(revision));
    // Written here only.
    return entry === undefined ? undefined : (JSON.parse(String(entry.value)) as Definitions);
  }
}
