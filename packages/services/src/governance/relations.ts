// Relations: who is related to what, by tuples and what follows from them. Bounded: what cannot be decided within
// its bounds is no relation.

import { TUPLE } from "@ergos/compiler";

const DEPTH_MAX = 10;
const VISITS_MAX = 1000;

interface Subject {
  readonly name: string;
  /** All who are in this relation to it. */
  readonly relation?: string;
}

export class Relations {
  /** Subjects by object and relation. */
  readonly #subjects = new Map<string, Subject[]>();
  readonly #rewrites: Readonly<Record<string, readonly string[]>>;

  constructor(tuples: readonly string[], rewrites: Readonly<Record<string, readonly string[]>>) {
    this.#rewrites = rewrites;
    for (const text of tuples) {
      const [, object = "", relation = "", name = "", inner] = TUPLE.exec(text) ?? [];
      const key = `${object}#${relation}`;
      const subjects = this.#subjects.get(key) ?? [];
      subjects.push(inner === undefined ? { name } : { name, relation: inner });
      this.#subjects.set(key, subjects);
    }
  }

  /** Whether a user is in a relation to an object; undecided within the bounds is no. */
  has(user: string, relation: string, object: string): boolean {
    const visited = new Set<string>();
    const visit = (at: string, wanted: string, depth: number): boolean => {
      const key = `${at}#${wanted}`;
      if (depth > DEPTH_MAX || visited.size >= VISITS_MAX || visited.has(key)) return false;
      visited.add(key);
      for (const { name, relation: inner } of this.#subjects.get(key) ?? []) {
        if (inner === undefined ? name === user : visit(name, inner, depth + 1)) return true;
      }
      for (const source of this.#rewrites[wanted] ?? []) {
        const dot = source.indexOf(".");
        if (dot < 0) {
          if (visit(at, source, depth + 1)) return true;
          continue;
        }
        const parents = this.#subjects.get(`${at}#${source.slice(0, dot)}`) ?? [];
        if (parents.some(({ name }) => visit(name, source.slice(dot + 1), depth + 1))) return true;
      }
      return false;
    };
    return visit(object, relation, 0);
  }
}
