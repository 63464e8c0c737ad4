// The packs of a directory: many pieces of content in a file, so that one sync makes many of them safe.
//
// K1  A put settles when its record and the name of its pack survive a loss of power. Puts at the same time share a sync.
// K2  Only the newest pack is written. A full one is closed with an index beside it; without that its headers are read.
// K3  What was there at opening may have been torn by a loss of power, or be damaged since: it counts for a put only once
//     its hash was seen to be right.
// K4  A sync that fails poisons the packs: what was pending and later puts are EIO.
// K5  A closed pack that is mostly forgotten content is written again without it. Interrupted, that leaves content twice.
// K6  What was forgotten may come back after a loss of power: it is collected again.

import { closeSync, openSync } from "node:fs";
import { mkdir, open, readFile, readdir, rename, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import { type ContentId, KernelError } from "@ergos/kernel";
import { diskError } from "./error.ts";
import { isContentOf, syncDirectory } from "./loose.ts";
import {
  HEADER_BYTES,
  Pack,
  type PackRecord,
  type PlacedRecord,
  decodeIndex,
  encodeIndex,
  recordsOf,
  spanOf,
} from "./pack.ts";

const PACK_BYTES = 64 * 1024 * 1024;
/** Packs whose files are kept open. */
const OPEN_MAX = 64;
const NOTHING = new Uint8Array(0);

interface Place {
  readonly pack: Pack;
  /** Where the content begins. */
  readonly at: number;
  readonly length: number;
  /** Its hash is known to be right (K3). */
  isProven: boolean;
}

type Index = Map<ContentId, Place>;

export class Packs {
  readonly #dir: string;
  readonly #packBytes: number;
  #index: Promise<Index> | undefined;
  readonly #packs = new Map<number, Pack>();
  readonly #open = new Set<Pack>();
  #newest: Pack | undefined;
  /** What the newest pack holds, for its index. */
  #records: PlacedRecord[] = [];
  /** The newest pack's name is safe. */
  #named: Promise<void> = Promise.resolve();
  #failure: KernelError | undefined;
  /** Closing and rewriting of packs, one after the other. */
  #chores: Promise<void> = Promise.resolve();

  constructor(dir: string, packBytes = PACK_BYTES) {
    this.#dir = dir;
    this.#packBytes = packBytes;
  }

  async put(id: ContentId, bytes: Uint8Array): Promise<void> {
    const index = await this.#loaded();
    const known = index.get(id);
    const place = known !== undefined && (await this.#prove(index, id, known)) ? known : this.#append(index, id, bytes);
    await this.#sync(place.pack, place.at + place.length);
  }

  /** Undefined where it is not here. */
  async get(
    id: ContentId,
    range?: { readonly offset: number; readonly length: number },
  ): Promise<Uint8Array | undefined> {
    const place = (await this.#loaded()).get(id);
    if (place === undefined) return undefined;
    const offset = Math.min(range?.offset ?? 0, place.length);
    return this.#read(place, offset, Math.min(range?.length ?? place.length, place.length - offset));
  }

  async size(id: ContentId): Promise<number | undefined> {
    return (await this.#loaded()).get(id)?.length;
  }

  async ids(): Promise<readonly ContentId[]> {
    return [...(await this.#loaded()).keys()];
  }

  async delete(id: ContentId): Promise<void> {
    const index = await this.#loaded();
    const place = index.get(id);
    if (place === undefined) return;
    // Nobody waits for it to be safe (K6).
    this.#write({ kind: "forgotten", id, length: 0 }, NOTHING);
    this.#drop(index, id, place);
    this.#consider(place.pack);
  }

  async close(): Promise<void> {
    for (let chores; chores !== this.#chores;) await (chores = this.#chores);
    for (const pack of this.#packs.values()) pack.close();
  }

  #loaded(): Promise<Index> {
    // Many commands never ask for a blob.
    return (this.#index ??= this.#load().catch((error: unknown) => {
      throw diskError(error, this.#dir);
    }));
  }

  async #load(): Promise<Index> {
    const index: Index = new Map();
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const numbers = (await readdir(this.#dir))
      .flatMap((name) => /^(\d+)\.pack$/.exec(name)?.[1] ?? [])
      .map(Number)
      .toSorted((a, b) => a - b);
    for (const number of numbers) {
      const file = this.#fileOf(number);
      const closed = await readIndex(file);
      const records = closed ?? (await Array.fromAsync(recordsOf(file)));
      const last = records.at(-1);
      const end = closed === undefined ? (last === undefined ? 0 : last.at + last.length) : (await stat(file)).size;
      const pack = new Pack(file, number, end, closed === undefined ? 0 : end);
      this.#packs.set(number, pack);
      for (const record of records) this.#take(index, pack, record);
      if (closed !== undefined) continue;
      if (number === numbers.at(-1)) [this.#newest, this.#records] = [pack, [...records]];
      else this.#seal(pack, records);
    }
    return index;
  }

  #take(index: Index, pack: Pack, record: PlacedRecord): void {
    const before = index.get(record.id);
    if (before !== undefined) this.#drop(index, record.id, before);
    if (record.kind === "forgotten") return;
    index.set(record.id, { pack, at: record.at, length: record.length, isProven: false });
    pack.live += spanOf(record);
  }

  #drop(index: Index, id: ContentId, { pack, length }: Place): void {
    index.delete(id);
    pack.live -= HEADER_BYTES + length;
  }

  /** What was torn or damaged counts as absent (K3). */
  async #prove(index: Index, id: ContentId, place: Place): Promise<boolean> {
    if (place.isProven) return true;
    place.isProven = isContentOf(id, await this.#read(place, 0, place.length));
    if (!place.isProven && index.get(id) === place) this.#drop(index, id, place);
    return place.isProven;
  }

  #append(index: Index, id: ContentId, bytes: Uint8Array): Place {
    const record = { kind: "content", id, length: bytes.length } as const;
    const { pack, at } = this.#write(record, bytes);
    const before = index.get(id);
    if (before !== undefined) this.#drop(index, id, before);
    const place = { pack, at, length: bytes.length, isProven: true };
    index.set(id, place);
    pack.live += spanOf(record);
    return place;
  }

  #write(record: PackRecord, bytes: Uint8Array): { readonly pack: Pack; readonly at: number } {
    if (this.#failure !== undefined) throw this.#failure;
    let pack = this.#newest;
    try {
      if (pack !== undefined && pack.end > 0 && pack.end + spanOf(record) > this.#packBytes) {
        this.#seal(pack, this.#records);
        pack = undefined;
      }
      pack ??= this.#begin();
      this.#touch(pack);
      const at = pack.append(record, bytes);
      this.#records.push({ ...record, at });
      return { pack, at };
    } catch (error) {
      throw diskError(error, pack?.file ?? this.#dir);
    }
  }

  #begin(): Pack {
    let number = 1;
    for (const taken of this.#packs.keys()) number = Math.max(number, taken + 1);
    const file = this.#fileOf(number);
    closeSync(openSync(file, "wx", 0o600));
    const pack = new Pack(file, number, 0, 0);
    this.#packs.set(number, pack);
    this.#newest = pack;
    this.#records = [];
    this.#named = syncDirectory(this.#dir);
    this.#named.catch(() => undefined);
    return pack;
  }

  async #sync(pack: Pack, upTo: number): Promise<void> {
    try {
      await Promise.all([pack.sync(upTo), this.#named]);
    } catch (error) {
      this.#failure ??= new KernelError(
        "EIO",
        "the disk refused a sync of the object store; what was not flushed is in doubt, start again",
        { path: pack.file, cause: error },
      );
      throw this.#failure;
    }
  }

  async #read(place: Place, offset: number, length: number): Promise<Buffer> {
    try {
      this.#touch(place.pack);
      return await place.pack.read(place.at + offset, length);
    } catch (error) {
      throw diskError(error, place.pack.file);
    }
  }

  #touch(pack: Pack): void {
    this.#open.delete(pack);
    this.#open.add(pack);
    for (const oldest of this.#open) {
      if (this.#open.size <= OPEN_MAX) return;
      this.#open.delete(oldest);
      oldest.close();
    }
  }

  /** A full pack gets its index (K2): of what is proven, and of what was taken back in it. */
  #seal(pack: Pack, records: readonly PlacedRecord[]): void {
    if (this.#newest === pack) this.#newest = undefined;
    this.#chore(async () => {
      const index = await this.#loaded();
      await this.#sync(pack, pack.end);
      const counting: PlacedRecord[] = [];
      for (const record of records) {
        const place = index.get(record.id);
        const isHere = place?.pack === pack && place.at === record.at;
        if (record.kind === "forgotten" || (isHere && (await this.#prove(index, record.id, place))))
          counting.push(record);
      }
      const file = indexOf(pack.file);
      await using handle = await open(`${file}.tmp`, "w", 0o600);
      await handle.writeFile(encodeIndex(counting));
      await handle.sync();
      await rename(`${file}.tmp`, file);
      await syncDirectory(this.#dir);
      this.#consider(pack);
    });
  }

  #consider(pack: Pack): void {
    if (pack !== this.#newest && pack.live * 2 < pack.end) this.#chore(() => this.#rewrite(pack));
  }

  /** Moves what is left of a pack to the newest one (K5). */
  async #rewrite(pack: Pack): Promise<void> {
    const records = await readIndex(pack.file);
    if (records === undefined || this.#packs.get(pack.number) !== pack) return;
    const index = await this.#loaded();
    const targets = new Map<Pack, number>();
    const isOldest = pack.number === Math.min(...this.#packs.keys());
    for (const { at: _at, ...record } of records) {
      const { id } = record;
      const place = index.get(id);
      if (record.kind === "forgotten") {
        // An older pack may still hold what it takes back.
        if (place === undefined && !isOldest) this.#write(record, NOTHING);
        continue;
      }
      if (place?.pack !== pack) continue;
      const bytes = await this.#read(place, 0, place.length);
      // What is damaged stays where somebody can look at it.
      if (!isContentOf(id, bytes)) return;
      // It may have been forgotten meanwhile.
      if (index.get(id) !== place) continue;
      const moved = this.#append(index, id, bytes);
      targets.set(moved.pack, moved.at + moved.length);
    }
    for (const [target, end] of targets) await this.#sync(target, end);
    this.#packs.delete(pack.number);
    this.#open.delete(pack);
    // The index last: a pack without one is read as it is.
    await unlink(pack.file);
    await unlink(indexOf(pack.file));
    pack.close();
  }

  #chore(work: () => Promise<void>): void {
    // What fails here leaves more on the disk than need be, and nothing undone: the next opening sees the same packs.
    this.#chores = this.#chores.then(work).catch(() => undefined);
  }

  #fileOf(number: number): string {
    return join(this.#dir, `${String(number).padStart(6, "0")}.pack`);
  }
}

const indexOf = (pack: string): string => `${pack}.idx`;

/** The index of a closed pack; undefined where there is none that is whole. */
async function readIndex(pack: string): Promise<readonly PlacedRecord[] | undefined> {
  try {
    return decodeIndex(await readFile(indexOf(pack)));
  } catch (error) {
    if (typeof error === "object" && error !== null && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}
