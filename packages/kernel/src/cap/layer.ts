// A layer: the grants that one process was narrowed to. Processes below it share the layer itself, so that
// what is granted or revoked there reaches all of them at once.

import { compileGlob } from "../base/glob.ts";
import type { Pid } from "../base/id.ts";
import type { Capability } from "./capability.ts";
import type { Grant } from "./grant.ts";

/** What all capabilities of a host have in common. */
export interface CapabilityClock {
  /** Rises with every change of any layer: decisions made before count no more. */
  version: number;
  /** The instant to compare expiry with, in wall-clock milliseconds; never goes back. */
  now(): number;
}

/** Who gave a grant. */
export interface Granter {
  readonly pid: Pid;
  /** What it may do now, or could when it ended. */
  readonly capability: Capability;
}

export interface Rule {
  /** `<layer>:<number>`. */
  readonly id: string;
  readonly grant: Grant;
  /** A grant gives nothing that its granter may not do. Absent when it came with the spawn, or from the owner. */
  readonly granter: Granter | undefined;
  readonly matches: (resource: string) => boolean;
  /** Its uses are over. */
  isSpent: boolean;
  /** How the store has it, where that is not what it means here. */
  readonly stored?: string;
}

/** Rules of one right up to which looking at each is faster than an index. */
const SCANNED_MAX = 16;

interface StemIndex {
  readonly stems: ReadonlyMap<string, readonly Rule[]>;
  /** Numbers of segments that stems have. */
  readonly depths: ReadonlySet<number>;
}

/** Rules for one right, found by the part of their glob that holds no wildcard. */
class Bucket {
  readonly rules: Rule[] = [];
  #index: StemIndex | undefined;

  matching(resource: string, into: Rule[]): void {
    if (this.rules.length <= SCANNED_MAX) {
      for (const rule of this.rules) if (rule.matches(resource)) into.push(rule);
      return;
    }
    const { stems, depths } = (this.#index ??= indexOf(this.rules));
    const visit = (stem: string): void => {
      const rules = stems.get(stem);
      if (rules !== undefined) for (const rule of rules) if (rule.matches(resource)) into.push(rule);
    };
    if (depths.has(0)) visit("");
    // Only prefixes as deep as some stem is are worth making.
    let depth = 1;
    for (let at = resource.indexOf("/", 1); at > 0; at = resource.indexOf("/", at + 1)) {
      if (depths.has(depth)) visit(resource.slice(0, at));
      depth++;
    }
    if (depths.has(depth)) visit(resource);
  }

  changed(): void {
    this.#index = undefined;
  }
}

export class Layer {
  readonly id: string;
  readonly clock: CapabilityClock;
  readonly #rules = new Map<string, Rule>();
  readonly #buckets = new Map<string, Bucket>();
  /** Number of the next rule: one that was revoked is never used again. */
  next = 1;
  /** Whether the store has it as it is in memory. */
  isStored = false;

  constructor(id: string, clock: CapabilityClock) {
    this.id = id;
    this.clock = clock;
  }

  get rules(): readonly Rule[] {
    return [...this.#rules.values()];
  }

  /** Adds a rule, under an id that was taken for it before. */
  add(grant: Grant, granter?: Granter, id?: string, stored?: string): Rule {
    const rule: Rule = {
      id: id ?? this.takeId(),
      grant,
      ...(stored === undefined ? {} : { stored }),
      granter,
      matches: compileGlob(grant.resource),
      isSpent: false,
    };
    this.#rules.set(rule.id, rule);
    let bucket = this.#buckets.get(grant.right);
    if (bucket === undefined) this.#buckets.set(grant.right, (bucket = new Bucket()));
    bucket.rules.push(rule);
    bucket.changed();
    this.clock.version++;
    return rule;
  }

  takeId(): string {
    return `${this.id}:${this.next++}`;
  }

  get(id: string): Rule | undefined {
    return this.#rules.get(id);
  }

  remove(id: string): void {
    const rule = this.#rules.get(id);
    if (rule === undefined) return;
    this.#rules.delete(id);
    const bucket = this.#buckets.get(rule.grant.right);
    bucket?.rules.splice(bucket.rules.indexOf(rule), 1);
    bucket?.changed();
    this.clock.version++;
  }

  spend(rule: Rule): void {
    rule.isSpent = true;
    this.clock.version++;
  }

  /** Rules about a right and a resource, whatever their effect and limits. */
  matching(right: string, resource: string): readonly Rule[] {
    const found: Rule[] = [];
    this.#buckets.get(right)?.matching(resource, found);
    for (let at = right.lastIndexOf("."); at > 0; at = right.lastIndexOf(".", at - 1))
      this.#buckets.get(`${right.slice(0, at)}.*`)?.matching(resource, found);
    this.#buckets.get("*")?.matching(resource, found);
    return found;
  }
}

/** The directory before the first wildcard; the whole glob when there is none. */
function stemOf(glob: string): string {
  const wild = glob.search(/[*?]/);
  if (wild < 0) return glob;
  const slash = glob.lastIndexOf("/", wild);
  return slash <= 0 ? "" : glob.slice(0, slash);
}

function indexOf(rules: readonly Rule[]): StemIndex {
  const stems = Map.groupBy(rules, (rule) => stemOf(rule.grant.resource));
  const depthOf = (stem: string): number => (stem === "" ? 0 : stem.split("/").length - (stem.startsWith("/") ? 1 : 0));
  return { stems, depths: new Set(Array.from(stems.keys(), depthOf)) };
}
