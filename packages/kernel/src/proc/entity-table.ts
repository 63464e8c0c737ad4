// Entities: things of the user's world, each with a state that changes only as its type allows.
//
// Y1  A transition checks the version that it was decided on: of two at the same time one is decided anew.
// Y2  The new state, its record in the history, the event, and what the transition starts or sends are one commit.
// Y3  An entity that was there before its type changed keeps its state; from there the new type decides.

import { entriesOf, logOf } from "../abi/entries.ts";
import type { Metastore } from "../abi/metastore.ts";
import { KernelError, isLostRace } from "../base/errno.ts";
import { type Pid, SEQ_ZERO } from "../base/id.ts";
import { type JsonValue, encodeJson } from "../base/json.ts";
import { LIMITS } from "../base/limits.ts";
import type { Committer, Rider } from "../ipc/committer.ts";
import { holds } from "../ipc/topic.ts";
import { type Act, type Acted, type Action, type Along, type Order, assertAction, merge } from "./action.ts";
import type { Process } from "./process.ts";

export interface EntityTransition {
  readonly from: string | readonly string[];
  readonly to: string;
  /** Fields of its data, as they are after the transition, that must have these values; `a.b` goes into objects. */
  readonly where?: Readonly<Record<string, unknown>>;
  /** What is started or sent along with it; without input or body it gets the transition. */
  readonly action?: Action;
}

/** A declarative state machine. */
export interface EntityType {
  readonly type: string;
  readonly initial: string;
  readonly transitions: readonly EntityTransition[];
}

export interface Entity {
  readonly type: string;
  readonly id: string;
  readonly state: string;
  /** A JSON object. */
  readonly data: Readonly<Record<string, unknown>>;
  /** Counts its changes, from 1. */
  readonly version: number;
  readonly created: number;
  readonly changed: number;
}

/** One record of an entity's history. */
export interface EntityChange {
  readonly at: number;
  /** Absent of its creation. */
  readonly from?: string;
  readonly to: string;
  readonly pid: Pid;
  readonly run: string;
  readonly why?: string;
  /** Fields that were set. */
  readonly data?: Readonly<Record<string, unknown>>;
}

export interface Transit {
  readonly type: string;
  readonly id: string;
  readonly to: string;
  readonly why?: string;
  /** Fields to set. */
  readonly data?: Readonly<Record<string, unknown>>;
  /** Refuse unless it has this version. */
  readonly version?: number;
}

/** On whose word a transition is made, if not its caller's own, and what goes along with its commit. */
interface Given {
  readonly order?: Order | undefined;
  readonly rider?: Rider | undefined;
}

export interface EntityParts {
  readonly store: Metastore;
  readonly committer: Committer;
  readonly act: Act;
}

const FORMAT = 1;
const NAME = /^[a-z0-9_][a-z0-9_.:@-]{0,127}$/i;
const typeKey = (type: string): string => `et/${type}`;
const entityKey = (type: string, id: string): string => `e/${type}/${id}`;
const ignore = (): void => undefined;
const historyLog = (type: string, id: string): string => `eh/${type}/${id}`;

export class EntityTable {
  readonly #parts: EntityParts;
  readonly #types = new Map<string, EntityType>();
  /** The last change of each entity that is under way. */
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(parts: EntityParts) {
    this.#parts = parts;
  }

  async boot(): Promise<void> {
    for await (const { value } of entriesOf(this.#parts.store, "et/")) {
      const type = decode<EntityType>(String(value));
      this.#types.set(type.type, type);
    }
  }

  get types(): readonly EntityType[] {
    return [...this.#types.values()];
  }

  /**
   * Declares a type, or changes it.
   * @throws {EINVAL} a name or a transition cannot be · {EAGAIN} there are as many as there may be
   */
  async define(type: EntityType, rider?: Rider): Promise<void> {
    assertType(type);
    if (!this.#types.has(type.type) && this.#types.size >= LIMITS.entityTypesMax)
      throw new KernelError(
        "EAGAIN",
        `there are ${LIMITS.entityTypesMax} types of entities, which is as many as there may be`,
      );
    const value = JSON.stringify({ v: FORMAT, ...type });
    await this.#parts.committer.commit({ puts: [{ key: typeKey(type.type), value }] }, undefined, rider);
    this.#types.set(type.type, type);
  }

  /** @throws {ENOENT} nobody has declared the type · {EEXIST} there is one of that name */
  async create(
    process: Process,
    type: string,
    id: string,
    data: object,
    record: (entity: Entity) => Along,
    rider?: Rider,
  ): Promise<Entity> {
    const { initial } = this.#typeOf(type);
    assertName(id, "an entity");
    const at = this.#parts.committer.now();
    const given = this.#masked(assertData({ ...data }));
    const entity: Entity = { type, id, state: initial, data: given, version: 1, created: at, changed: at };
    const change: EntityChange = {
      at,
      to: initial,
      ...whoOf(process),
      ...(Object.keys(given).length === 0 ? {} : { data: given }),
    };
    try {
      await this.#parts.committer.commit(
        merge(
          { ...this.#changeOf(entity, change), checks: [{ key: entityKey(type, id), version: SEQ_ZERO }] },
          record(entity),
        ),
        [{ name: "entity.created", pid: process.pid, data: { type, id, to: initial } }],
        rider,
      );
    } catch (error) {
      if (isLostRace(error))
        throw new KernelError("EEXIST", `there is a ${type} ${id} already`, { syscall: "createEntity" });
      throw error;
    }
    return entity;
  }

  /**
   * @throws {ENOENT} there is no such entity · {EPERM} its type does not allow it · {EBUSY} it has another version
   */
  async transition(
    process: Process,
    transit: Transit,
    record: (entity: Entity) => Along,
    given: Given = {},
  ): Promise<Entity> {
    const { entity, from, failing } = await this.#inTurn(entityKey(transit.type, transit.id), async () => {
      for (let tries = 1; ; tries++) {
        try {
          return await this.#transition(process, transit, record, given);
        } catch (error) {
          if (!isLostRace(error) || tries >= LIMITS.casRetriesMax) throw error;
        }
      }
    });
    // Not in its turn: it may change this entity again. It has become what it has become, and whoever asks again hears so too.
    const error = await failing;
    if (error !== undefined) {
      const { type, id, state: to } = entity;
      const data = { type, id, from, to, error, program: causeOf(entity) };
      await this.#parts.committer.commit({}, [{ name: "entity.failed", pid: process.pid, data }]);
    }
    return entity;
  }

  /** Changes of one entity follow each other, however many come at once. */
  #inTurn<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(key);
    const turn = before === undefined ? work() : before.then(work);
    const over: Promise<unknown> = turn.then(ignore, ignore).then(() => {
      if (this.#turns.get(key) === over) this.#turns.delete(key);
    });
    this.#turns.set(key, over);
    return turn;
  }

  async #transition(
    process: Process,
    transit: Transit,
    record: (entity: Entity) => Along,
    { order: by, rider }: Given,
  ): Promise<{ readonly entity: Entity; readonly from: string } & Pick<Acted, "failing">> {
    const { committer, store } = this.#parts;
    const { type, id, to, version } = transit;
    const { why, data } = this.#masked({ why: transit.why, data: transit.data });
    const entry = await store.get(entityKey(type, id));
    if (entry === undefined) throw missing(type, id);
    const entity = decode<Entity>(String(entry.value));
    const { state: from } = entity;
    if (version !== undefined && version !== entity.version)
      throw new KernelError("EBUSY", `${type} ${id} has version ${entity.version}, not ${version}; look at it again`, {
        syscall: "transition",
      });
    const merged = assertData({ ...entity.data, ...data });
    const { action } = this.#allowed(entity, to, merged);
    const at = committer.now();
    const next: Entity = { ...entity, state: to, data: merged, version: entity.version + 1, changed: at };
    const change: EntityChange = {
      at,
      from,
      to,
      ...whoOf(process),
      ...(why === undefined ? {} : { why }),
      ...(data === undefined ? {} : { data }),
    };
    const event = {
      name: "entity.transitioned",
      pid: process.pid,
      data: {
        type,
        id,
        from,
        to,
        ...(why === undefined ? {} : { why }),
        ...(by === undefined ? {} : { cause: by.cause, depth: by.depth }),
      },
    } as const;
    const checks = [{ key: entry.key, version: entry.version }];
    const changes = merge({ ...this.#changeOf(next, change), checks }, record(next));
    if (action === undefined) {
      await committer.commit(changes, [event], rider);
      return { entity: next, from };
    }
    const told = { type, id, from, to, data: merged };
    const order = { cause: causeOf(next), depth: Math.max(by?.depth ?? 0, process.identity.depth ?? 0) + 1 };
    const along = (): Along => ({ ...changes, events: [event] });
    const { failing } = await this.#parts.act(process, withTransition(action, told), along, order);
    return { entity: next, from, ...(failing === undefined ? {} : { failing }) };
  }

  /** @throws {EPERM} no transition of the type leads there from here, or its condition does not hold */
  #allowed({ type, id, state }: Entity, to: string, data: object): EntityTransition {
    const { transitions } = this.#typeOf(type);
    const from = transitions.filter((one) => (typeof one.from === "string" ? [one.from] : one.from).includes(state));
    const found = from.filter((one) => one.to === to);
    const open = found.find(({ where }) => where === undefined || holds(where, data));
    if (open !== undefined) return open;
    const ways = [...new Set(from.map((one) => one.to))].join(", ") || "nothing: it is final";
    const why =
      found.length === 0
        ? `from ${state} it can become ${ways}`
        : `what that needs does not hold: ${found.map(({ where }) => JSON.stringify(where)).join(" or ")}`;
    throw new KernelError("EPERM", `${type} ${id} cannot become ${to}: ${why}`, { syscall: "transition" });
  }

  #changeOf(entity: Entity, change: EntityChange): Pick<Along, "puts" | "appends"> {
    const { type, id } = entity;
    return {
      puts: [{ key: entityKey(type, id), value: JSON.stringify({ v: FORMAT, ...entity }) }],
      appends: [{ log: historyLog(type, id), value: JSON.stringify(change) }],
    };
  }

  /** Secrets are not kept. */
  #masked<T>(value: T): T {
    return this.#parts.committer.masker?.maskData(value) ?? value;
  }

  async get(type: string, id: string): Promise<Entity | undefined> {
    const entry = await this.#parts.store.get(entityKey(type, id));
    return entry === undefined ? undefined : decode<Entity>(String(entry.value));
  }

  /** Entities of a type by their ids; `after` is where the page before ended. */
  async list(
    type: string,
    filter: { readonly state?: string; readonly after?: string; readonly limit: number },
  ): Promise<readonly Entity[]> {
    const out: Entity[] = [];
    const after = filter.after === undefined ? undefined : entityKey(type, filter.after);
    for await (const { value } of entriesOf(this.#parts.store, `e/${type}/`, after)) {
      const entity = decode<Entity>(String(value));
      if (filter.state !== undefined && entity.state !== filter.state) continue;
      if (out.push(entity) >= filter.limit) break;
    }
    return out;
  }

  /** @throws {ENOENT} there is no such entity */
  async history(type: string, id: string): Promise<readonly EntityChange[]> {
    if ((await this.get(type, id)) === undefined) throw missing(type, id);
    const out: EntityChange[] = [];
    // Written by `#changeOf` only.
    for await (const { value } of logOf(this.#parts.store, historyLog(type, id)))
      out.push(JSON.parse(String(value)) as EntityChange);
    return out;
  }

  #typeOf(type: string): EntityType {
    const found = this.#types.get(type);
    if (found !== undefined) return found;
    const known = [...this.#types.keys()].join(", ") || "none";
    throw new KernelError("ENOENT", `nobody has declared entities of type ${JSON.stringify(type)}; there are ${known}`);
  }
}

const causeOf = ({ type, id }: Entity): string => `entity ${type}/${id}`;

const whoOf = ({ pid, identity }: Process): Pick<EntityChange, "pid" | "run"> => ({ pid, run: identity.runId });

const missing = (type: string, id: string): KernelError => new KernelError("ENOENT", `there is no ${type} ${id}`);

function withTransition({ spawn, message, ...rest }: Action, told: Readonly<Record<string, unknown>>): Action {
  if (spawn !== undefined) return { spawn: { input: told, ...spawn } };
  return message === undefined ? rest : { message: { body: told, ...message } };
}

function assertName(name: string, what: string): void {
  if (!NAME.test(name))
    throw new KernelError(
      "EINVAL",
      `${JSON.stringify(name)} is no name of ${what}; write letters, digits and . _ : @ -`,
    );
}

function assertType({ type, initial, transitions }: EntityType): void {
  assertName(type, "a type");
  const leaving = new Set<string>();
  for (const { from, to, action } of transitions) {
    for (const state of [to, ...(typeof from === "string" ? [from] : from)]) assertName(state, "a state");
    for (const state of typeof from === "string" ? [from] : from) leaving.add(state);
    if (action !== undefined) assertAction(action);
  }
  if (transitions.length > 0 && !leaving.has(initial))
    throw new KernelError("EINVAL", `no transition leaves ${JSON.stringify(initial)}, in which a new ${type} is`);
}

function assertData(data: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const json = encodeJson(data, "the data of an entity") ?? "{}";
  if (json.length > LIMITS.publicationBytesMax)
    throw new KernelError(
      "E2BIG",
      `an entity holds at most ${LIMITS.publicationBytesMax} bytes of JSON, found ${json.length}; keep a path to a file`,
    );
  return data;
}

/** An entity as the outcome of a step. */
export type EntityOutcome = Entity & JsonValue;

function decode<T>(value: string): T {
  // Written by this file only.
  const { v, ...rest } = JSON.parse(value) as { readonly v: number };
  if (v === FORMAT) return rest as T;
  throw new KernelError("EVERSION", `an entity has format ${v}, this program reads ${FORMAT}; use a newer ErgOS`);
}
