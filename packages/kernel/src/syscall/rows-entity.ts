// Rows about entities.

import { LIMITS } from "../base/limits.ts";
import { ACTION_SCHEMA } from "../proc/action.ts";
import type { Entity, EntityChange, EntityOutcome, EntityType, Transit } from "../proc/entity-table.ts";
import type { Host } from "./host.ts";
import { placed } from "./placed.ts";
import { type AtPlace, ORDER, type Ordered, type Target, args, atPlace, integer, place, row } from "./row.ts";

const name = { type: "string", minLength: 1, maxLength: 128 } as const;
/** Why something was done, for its history. */
const reason = { type: "string", maxLength: 4096 } as const;
const fields = { type: "object", properties: {}, additionalProperties: true } as const;
const onType = (_host: Host, _caller: unknown, a: { readonly type: string }): Target => ({ resource: a.type });
const LISTED = 200;

export const ENTITY_ROWS = {
  defineEntity: row<EntityType, Promise<void>>({
    right: "entity.define",
    kind: "mutation",
    summary: "declares the states of a type of entities and the transitions between them",
    schema: args(
      {
        type: name,
        initial: name,
        transitions: {
          type: "array",
          maxItems: 1000,
          items: {
            type: "object",
            properties: {
              from: { anyOf: [name, { type: "array", items: name, minItems: 1 }] },
              to: name,
              where: fields,
              action: ACTION_SCHEMA,
            },
            required: ["from", "to"],
            additionalProperties: false,
          },
        },
      },
      ["type", "initial", "transitions"],
    ),
    target: onType,
    // What a transition starts or sends runs with the rights of whoever moves the entity.
    alsoNeeds: ({ type, transitions }) =>
      transitions.some(({ action }) => action !== undefined)
        ? [{ right: "kernel.module", resource: `entity/${type}` }]
        : [],
    audited: ({ type, initial }) => ({ type, initial }),
    handle: (host, _caller, type, _target, draft) => host.entities.define(type, draft),
  }),
  createEntity: row<{ readonly type: string; readonly id: string; readonly data?: object } & AtPlace, Promise<Entity>>({
    right: "entity.transition",
    kind: "mutation",
    summary: "makes an entity in the first state of its type",
    schema: args({ place, type: name, id: name, data: fields }, ["type", "id"]),
    target: onType,
    audited: ({ type, id }) => ({ type, id }),
    recordedAt: atPlace,
    handle: (host, caller, { place: at, type, id, data = {} }, _target, draft) =>
      placed<Entity>(caller, "createEntity", at, (record) =>
        host.entities.create(caller, type, id, data, (made) => record(made as EntityOutcome), draft),
      ),
  }),
  transition: row<Transit & AtPlace & Ordered, Promise<Entity>>({
    right: "entity.transition",
    kind: "mutation",
    summary: "moves an entity to another state, as its type allows, and sets fields of its data",
    schema: args({ place, type: name, id: name, to: name, why: reason, data: fields, version: integer }, [
      "type",
      "id",
      "to",
    ]),
    target: onType,
    audited: ({ type, id, to, why }) => ({ type, id, to, ...(why === undefined ? {} : { why }) }),
    recordedAt: atPlace,
    handle: (host, caller, { place: at, [ORDER]: order, ...transit }, _target, draft) =>
      placed<Entity>(caller, "transition", at, (record) =>
        host.entities.transition(caller, transit, (made) => record(made as EntityOutcome), { order, rider: draft }),
      ),
  }),
  entity: row<{ readonly type: string; readonly id: string }, Promise<Entity | null>>({
    right: "entity.read",
    kind: "query",
    summary: "an entity with its state and data; null where there is none",
    schema: args({ type: name, id: name }, ["type", "id"]),
    target: onType,
    handle: async (host, _caller, { type, id }) => host.vault.maskData((await host.entities.get(type, id)) ?? null),
  }),
  entities: row<
    { readonly type: string; readonly state?: string; readonly after?: string; readonly limit?: number },
    Promise<readonly Entity[]>
  >({
    right: "entity.read",
    kind: "query",
    summary: "entities of a type by their ids, a page at a time",
    schema: args(
      { type: name, state: name, after: name, limit: { type: "integer", minimum: 1, maximum: LIMITS.pageMax } },
      ["type"],
    ),
    target: onType,
    handle: async (host, _caller, { type, limit = LISTED, ...filter }) =>
      host.vault.maskData(await host.entities.list(type, { ...filter, limit })),
  }),
  entityHistory: row<{ readonly type: string; readonly id: string }, Promise<readonly EntityChange[]>>({
    right: "entity.read",
    kind: "query",
    summary: "what has happened to an entity, oldest first",
    schema: args({ type: name, id: name }, ["type", "id"]),
    target: onType,
    handle: async (host, _caller, { type, id }) => host.vault.maskData(await host.entities.history(type, id)),
  }),
} as const;
