// Processes as the store remembers them: records, and inputs and results that are too large for them.

import type { Metastore } from "../abi/metastore.ts";
import type { ObjectStore } from "../abi/object-store.ts";
import type { ContentId, Pid } from "../base/id.ts";
import { LIMITS } from "../base/limits.ts";
import type { LayerTable } from "../cap/layer-table.ts";
import type { Committer } from "../ipc/committer.ts";
import { type History, Journal } from "../journal/journal.ts";
import { type Exit, Process } from "./process.ts";
import { type ProcessRecord, type RecordExtra, decodeProcess, processKey } from "./process-record.ts";

export class ProcessArchive {
  readonly #store: Metastore;
  readonly #objects: ObjectStore;
  readonly #committer: Committer;
  readonly #layers: LayerTable;

  constructor(store: Metastore, objects: ObjectStore, committer: Committer, layers: LayerTable) {
    this.#layers = layers;
    this.#store = store;
    this.#objects = objects;
    this.#committer = committer;
  }

  createJournal(pid: Pid, history?: History): Journal {
    return new Journal(pid, this.#committer, this.#objects, history);
  }

  /** Puts a large input into the object store; a small one stands in the record. */
  async storeInput(json: string | undefined): Promise<ContentId | undefined> {
    if (json === undefined || json.length <= LIMITS.inlineOutcomeMax) return undefined;
    return this.#objects.put(new TextEncoder().encode(this.#committer.masker?.maskJson(json) ?? json));
  }

  /** What the record holds of an exit: a small result, or where a large one is. */
  async storeExit(process: Process, exit: Exit, json: string | undefined): Promise<RecordExtra> {
    if (json === undefined || json.length <= LIMITS.inlineOutcomeMax || process.journal === undefined) return { exit };
    const resultRef = await this.#objects.put(new TextEncoder().encode(this.#committer.masker?.maskJson(json) ?? json));
    const { result: _result, ...rest } = exit;
    return { exit: rest, resultRef };
  }

  /** Ids of the layers of a process of the past; nothing when it left no record. */
  async layersOf(pid: Pid): Promise<readonly string[] | undefined> {
    const entry = await this.#store.get(processKey(pid));
    return entry === undefined ? undefined : decodeProcess(entry).caps;
  }

  /** A process of the past or of another life of this host. */
  async recall(pid: Pid): Promise<Process | undefined> {
    const entry = await this.#store.get(processKey(pid));
    return entry === undefined ? undefined : this.#revive(decodeProcess(entry));
  }

  /** Processes of the past, newest first; those before a pid if one is given. */
  async history(limit: number, known: (pid: Pid) => Process | undefined, before?: Pid): Promise<readonly Process[]> {
    const to = before === undefined ? "p0" : processKey(before);
    const page = await this.#store.scan({ from: "p/", to }, { limit, reverse: true });
    const out: Process[] = [];
    for (const entry of page) {
      const record = decodeProcess(entry);
      out.push(known(record.identity.pid) ?? (await this.#revive(record)));
    }
    return out;
  }

  async #revive(record: ProcessRecord): Promise<Process> {
    const inputJson =
      record.inputRef === undefined ? JSON.stringify(record.input) : await this.#readText(record.inputRef);
    const { pid } = record.identity;
    const capability =
      record.caps === undefined ? this.#layers.adopt(pid, record.layers ?? []) : await this.#layers.load(record.caps);
    const process = new Process(record.identity, capability, this.createJournal(pid, record.history), inputJson);
    process.inputRef = record.inputRef;
    process.ended = record.ended;
    process.isStopped = record.stopped === true;
    if (record.ending !== undefined && record.exit === undefined) process.endedBy = record.ending;
    if (record.usage !== undefined) Object.assign(process.usage, record.usage);
    if (record.exit !== undefined) {
      const result = record.resultRef === undefined ? record.exit.result : await this.#readJson(record.resultRef);
      process.become({ name: "zombie", exit: { ...record.exit, ...(result === undefined ? {} : { result }) } });
    } else if (record.quarantined !== undefined) process.become({ name: "quarantined", error: record.quarantined });
    else process.become({ name: "sleeping" });
    return process;
  }

  async #readJson(ref: ContentId): Promise<unknown> {
    return JSON.parse(await this.#readText(ref)) as unknown;
  }

  async #readText(ref: ContentId): Promise<string> {
    return new TextDecoder().decode(await this.#objects.get(ref));
  }
}
