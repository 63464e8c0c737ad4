// The layers of a host and their stored form: `cap/<layer>`, and `use/<rule>` for counted uses.
//
// L1  Revocation takes effect before its commit, a grant after it: what nobody has recorded gives nothing.
// L2  Changes of layers take turns: a record is always the whole of its layer.

import { entriesOf } from "../abi/entries.ts";
import type { Batch, Metastore } from "../abi/metastore.ts";
import { KernelError, isKernelError } from "../base/errno.ts";
import { type Pid, toPid } from "../base/id.ts";
import { Serial } from "../base/serial.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import { Capability, assertNumber } from "./capability.ts";
import { type Grant, formatGrant, parseGrant } from "./grant.ts";
import { type CapabilityClock, type Granter, Layer, type Rule } from "./layer.ts";

const FORMAT = 1;

interface LayerRecord {
  readonly v: number;
  readonly next: number;
  readonly rules: readonly { readonly id: string; readonly grant: string; readonly by?: number }[];
}

type Puts = NonNullable<Batch["puts"]>;

const layerKey = (id: string): string => `cap/${id}`;
const useKey = (rule: string): string => `use/${rule}`;

/** Finds who gave a grant: the living process, or what the store remembers of one. */
export interface Granters {
  live(pid: Pid): Granter | undefined;
  /** Layers of a process of the past; nothing when it left no record. */
  layersOf(pid: Pid): Promise<readonly string[] | undefined>;
}

export interface StoredLayer {
  readonly id: string;
  readonly keys: readonly string[];
  readonly granters: readonly number[];
}

export class LayerTable {
  readonly #store: Metastore;
  readonly #committer: Committer;
  readonly #clock: CapabilityClock;
  /** Layers live as long as somebody holds them. */
  readonly #layers = new Map<string, WeakRef<Layer>>();
  #purgeAt = 1024;
  readonly #serial = new Serial();
  #hearNarrowed: () => void = () => undefined;
  #granters: Granters = { live: () => undefined, layersOf: () => Promise.resolve(undefined) };

  constructor(store: Metastore, committer: Committer) {
    this.#store = store;
    this.#committer = committer;
    this.#clock = { version: 0, now: () => committer.now() };
  }

  setGranters(granters: Granters): void {
    this.#granters = granters;
  }

  /** Who is told that somebody may do less than before. */
  setHearer(hear: () => void): void {
    this.#hearNarrowed = hear;
  }

  /** Somebody may do less, by a change of a layer or by another one. */
  narrowed(): void {
    this.#hearNarrowed();
  }

  /** Makes the layer of a process that is being spawned. */
  create(id: string, grants: readonly Grant[]): Layer {
    assertNumber(grants.length);
    const layer = new Layer(id, this.#clock);
    for (const grant of grants) layer.add(grant);
    this.#remember(layer);
    return layer;
  }

  /** Records of layers that the store does not have yet: they belong into the commit of who holds them. */
  putsOf(capability: Capability): Puts {
    return capability.layers
      .filter((layer) => !layer.isStored)
      .map((layer) => ({ key: layerKey(layer.id), value: encode(layer) }));
  }

  markStored(capability: Capability): void {
    for (const layer of capability.layers) layer.isStored = true;
  }

  /** The capability of a process of an earlier life. */
  async load(ids: readonly string[]): Promise<Capability> {
    const layers: Layer[] = [];
    for (const id of ids) layers.push(await this.#load(id));
    return Capability.withLayers(layers);
  }

  /** The capability of a record that holds its grants itself, as format 1 did. */
  adopt(pid: Pid, layers: readonly (readonly Grant[])[]): Capability {
    return Capability.withLayers(
      layers.map((grants, at) => this.find(`${pid}.${at}`) ?? this.create(`${pid}.${at}`, grants)),
    );
  }

  /** The layer of a block of a pass: the one that there is, or was, or a new one. */
  async ofPass(id: string, grants: readonly Grant[]): Promise<Layer> {
    const isKnown = this.find(id) !== undefined || (await this.#store.get(layerKey(id))) !== undefined;
    return isKnown ? this.#load(id) : (this.find(id) ?? this.create(id, grants));
  }

  /** Takes everything back that layers give whose id begins so, those in the store too. */
  async empty(prefix: string, rider?: Rider): Promise<void> {
    const ids = new Set([...this.#layers.keys()].filter((id) => id.startsWith(prefix)));
    for await (const { key } of entriesOf(this.#store, layerKey(prefix))) ids.add(key.slice(layerKey("").length));
    const layers: Layer[] = [];
    for (const id of ids) layers.push(await this.#load(id));
    for (const layer of layers) for (const { id } of layer.rules) layer.remove(id);
    this.narrowed();
    const puts = layers.map((layer) => ({ key: layerKey(layer.id), value: encode(layer) }));
    await this.#serial.run(() => this.#committer.commit({ puts }, undefined, rider));
  }

  /** The layers of the store: the keys of what is recorded of each, and who gave what it allows. */
  async *stored(): AsyncGenerator<StoredLayer, void, undefined> {
    for await (const { key, value } of entriesOf(this.#store, layerKey(""))) {
      const { rules } = decode(String(value));
      yield {
        id: key.slice(layerKey("").length),
        keys: [key, ...rules.map(({ id }) => useKey(id))],
        granters: rules.flatMap(({ by }) => by ?? []),
      };
    }
  }

  find(id: string): Layer | undefined {
    return this.#layers.get(id)?.deref();
  }

  async #load(id: string): Promise<Layer> {
    const known = this.find(id);
    if (known !== undefined) return known;
    const entry = await this.#store.get(layerKey(id));
    // Two may have asked at the same time.
    const meanwhile = this.find(id);
    if (meanwhile !== undefined) return meanwhile;
    const layer = new Layer(id, this.#clock);
    layer.isStored = true;
    this.#remember(layer);
    // Without its record nobody knows what it allowed: nothing.
    if (entry === undefined) return layer;
    const record = decode(String(entry.value));
    layer.next = record.next;
    for (const { id: rule, grant, by } of record.rules) {
      const granter = by === undefined ? undefined : await this.#granterOf(toPid(by));
      const read = readStored(grant);
      layer.add(read ?? FORBIDDEN, granter, rule, read === undefined ? grant : undefined);
    }
    return layer;
  }

  /** Who gave a grant in an earlier life: alive again, or with the rights that it had last. */
  async #granterOf(pid: Pid): Promise<Granter> {
    const ids = await this.#granters.layersOf(pid);
    return this.#granter(pid, ids === undefined ? Capability.none : await this.load(ids));
  }

  /** Whoever has the pid now, or the rights that it had last. */
  #granter(pid: Pid, last: Capability): Granter {
    const { live } = this.#granters;
    return {
      pid,
      get capability() {
        return live(pid)?.capability ?? last;
      },
    };
  }

  /**
   * Adds grants to a layer. They give nothing that the granter may not do, and nothing beyond the layers
   * around.
   */
  grant(layer: Layer, grants: readonly Grant[], by: Granter | undefined, rider?: Rider): Promise<readonly string[]> {
    const granter = by === undefined ? undefined : this.#granter(by.pid, by.capability);
    return this.#serial.run(async () => {
      assertNumber(layer.rules.length + grants.length);
      // Only what narrows is there before it is recorded (L1).
      const added = grants.map((grant) => ({
        grant,
        id: layer.takeId(),
        granter: grant.effect === "deny" ? undefined : granter,
      }));
      for (const { grant, id } of added) if (grant.effect === "deny") layer.add(grant, undefined, id);
      this.narrowed();
      const record = encode(
        layer,
        added.filter(({ grant }) => grant.effect !== "deny"),
      );
      await this.#committer.commit({ puts: [{ key: layerKey(layer.id), value: record }] }, undefined, rider);
      layer.isStored = true;
      for (const { grant, id, granter: from } of added) if (grant.effect !== "deny") layer.add(grant, from, id);
      return added.map(({ id }) => id);
    });
  }

  /**
   * A rule by its id.
   * @throws {ENOENT} there is no such grant
   */
  async ruleOf(id: string): Promise<{ readonly layer: Layer; readonly rule: Rule }> {
    const layerId = id.slice(0, Math.max(0, id.lastIndexOf(":")));
    const layer =
      this.find(layerId) ??
      ((await this.#store.get(layerKey(layerId))) === undefined ? undefined : await this.#load(layerId));
    const rule = layer?.get(id);
    if (layer === undefined || rule === undefined)
      throw new KernelError("ENOENT", `there is no grant ${JSON.stringify(id)}; \`ergos caps <pid>\` lists them`);
    return { layer, rule };
  }

  /**
   * Takes a grant back, from everybody who has it by this layer.
   * @throws {ENOENT} there is no such grant
   */
  async revoke(id: string, rider?: Rider): Promise<void> {
    const { layer } = await this.ruleOf(id);
    layer.remove(id);
    this.narrowed();
    await this.#serial.run(() =>
      this.#committer.commit({ puts: [{ key: layerKey(layer.id), value: encode(layer) }] }, undefined, rider),
    );
  }

  /**
   * Takes one use of each rule, in one commit; nothing is taken when one is used up.
   * @returns whether all could be taken
   */
  async take(rules: readonly Rule[]): Promise<boolean> {
    try {
      await this.#committer.commit({
        adds: rules.map(({ id, grant }) => ({ key: useKey(id), delta: 1, max: grant.uses ?? 0 })),
      });
      return true;
    } catch (error) {
      if (!isKernelError(error) || error.code !== "EDQUOT") throw error;
      for (const rule of rules) {
        const used = Number((await this.#store.get(useKey(rule.id)))?.value ?? 0);
        if (used >= (rule.grant.uses ?? 0)) this.find(rule.id.slice(0, rule.id.lastIndexOf(":")))?.spend(rule);
      }
      return false;
    }
  }

  #remember(layer: Layer): void {
    if (this.#layers.size >= this.#purgeAt) {
      for (const [id, ref] of this.#layers) if (ref.deref() === undefined) this.#layers.delete(id);
      this.#purgeAt = Math.max(1024, this.#layers.size * 2);
    }
    this.#layers.set(layer.id, new WeakRef(layer));
  }
}

function encode(layer: Layer, added: readonly Pick<Rule, "id" | "grant" | "granter" | "stored">[] = []): string {
  const record: LayerRecord = {
    v: FORMAT,
    next: layer.next,
    rules: [...layer.rules, ...added].map(({ id, grant, granter, stored }) => ({
      id,
      grant: stored ?? formatGrant(grant),
      ...(granter === undefined ? {} : { by: granter.pid }),
    })),
  };
  return JSON.stringify(record);
}

function decode(text: string): LayerRecord {
  // Written by `encode` only.
  const record = JSON.parse(text) as LayerRecord;
  if (record.v !== FORMAT)
    throw new KernelError(
      "EVERSION",
      `a capability has format ${record.v}, this program reads ${FORMAT}; use a newer ErgOS`,
    );
  return record;
}

/** What a rule that cannot be read means: it may have been a denial. The store keeps it for who can read it. */
const FORBIDDEN: Grant = { effect: "deny", right: "*", resource: "**" };

function readStored(text: string): Grant | undefined {
  try {
    return parseGrant(text);
  } catch {
    return undefined;
  }
}
