// Capabilities: what a process may do. Deny by default; nothing ever widens.
//
// A grant is `[deny] right[:resource]`, as in `fs.read:/srv/**`, `model.infer:offline`, `deny fs.write:/etc/**`.
// A capability is a stack of layers, one for each ancestor that narrowed it. Something is allowed only if
// every layer allows it, so that a child cannot hold what its parent lacks, whatever it asks for.

import { KernelError } from "../base/errno.ts";
import { type GlobMatcher, compileGlob } from "../base/glob.ts";
import { LIMITS } from "../base/limits.ts";

export interface Grant {
  readonly effect: "allow" | "deny";
  /** Dotted name; a last segment `*` covers all below it. */
  readonly right: string;
  /** Glob of what it applies to. */
  readonly resource: string;
}

const GRANT = /^(deny\s+)?(\*|[a-z][a-z0-9]*(?:\.[a-z][a-z0-9]*)*(?:\.\*)?)(?::(.+))?$/;

/**
 * Parses the text form of a grant.
 * @throws {EINVAL} it is not of the form `[deny] right[:resource]`
 */
export function parseGrant(text: string): Grant {
  const match = GRANT.exec(text.trim());
  if (match === null)
    throw new KernelError(
      "EINVAL",
      `${JSON.stringify(text)} is no grant; expected \`[deny] right[:resource]\` such as fs.read:/srv/**`,
    );
  return { effect: match[1] === undefined ? "allow" : "deny", right: match[2] ?? "", resource: match[3] ?? "**" };
}

/** The canonical text of a grant. */
export function formatGrant(grant: Grant): string {
  return `${grant.effect === "deny" ? "deny " : ""}${grant.right}${grant.resource === "**" ? "" : `:${grant.resource}`}`;
}

interface Rule {
  readonly grant: Grant;
  readonly matches: (right: string, resource: string) => boolean;
}
type Layer = readonly Rule[];

const DECISIONS_MAX = 8192;

export class Capability {
  readonly #layers: readonly Layer[];
  /** Decisions by right, then resource: a capability never changes, so they stay true. */
  readonly #decided = new Map<string, Map<string, boolean>>();
  #decidedSize = 0;

  private constructor(layers: readonly Layer[]) {
    this.#layers = layers;
  }

  /** Every right; only the owner of a data directory starts with it. */
  static readonly all: Capability = new Capability([]);
  static readonly none: Capability = new Capability([[]]);

  static of(grants: readonly Grant[]): Capability {
    return Capability.all.narrow(grants);
  }

  /** A capability that allows what this one and the grants both allow. */
  narrow(grants: readonly Grant[]): Capability {
    if (grants.length > LIMITS.grantsMax)
      throw new KernelError("E2BIG", `a capability holds at most ${LIMITS.grantsMax} grants, found ${grants.length}`);
    return new Capability([...this.#layers, grants.map(toRule)]);
  }

  get isAll(): boolean {
    return this.#layers.length === 0;
  }

  /** Grants of each layer, outermost first. */
  get layers(): readonly (readonly Grant[])[] {
    return this.#layers.map((layer) => layer.map((rule) => rule.grant));
  }

  /** The capability with exactly these layers, as read from its stored form. */
  static fromLayers(layers: readonly (readonly Grant[])[]): Capability {
    return layers.length === 0 ? Capability.all : new Capability(layers.map((layer) => layer.map(toRule)));
  }

  allows(right: string, resource: string): boolean {
    if (this.#layers.length === 0) return true;
    let decided = this.#decided.get(right);
    if (decided === undefined) this.#decided.set(right, (decided = new Map<string, boolean>()));
    const known = decided.get(resource);
    if (known !== undefined) return known;
    const answer = this.#layers.every((layer) => layerAllows(layer, right, resource));
    if (++this.#decidedSize > DECISIONS_MAX) {
      this.#decided.clear();
      this.#decidedSize = 0;
    } else decided.set(resource, answer);
    return answer;
  }
}

function layerAllows(layer: Layer, right: string, resource: string): boolean {
  let allowed = false;
  for (const rule of layer) {
    if (!rule.matches(right, resource)) continue;
    if (rule.grant.effect === "deny") return false;
    allowed = true;
  }
  return allowed;
}

function toRule(grant: Grant): Rule {
  const glob: GlobMatcher = compileGlob(grant.resource);
  const prefix = grant.right === "*" ? "" : grant.right.endsWith(".*") ? grant.right.slice(0, -1) : undefined;
  return {
    grant,
    matches: (right, resource) =>
      (prefix === undefined ? right === grant.right : right.startsWith(prefix)) && glob(resource),
  };
}
