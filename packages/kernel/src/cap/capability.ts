// Capabilities: what a process may do. Deny by default; nothing ever widens.
//
// C1  A capability is a stack of layers, one for each ancestor that narrowed it. Something is allowed only if
//     every layer allows it: a child cannot hold what its parent lacks, whatever it asks for.
// C2  In a layer `deny` wins over `ask`, and `ask` over `allow`. A rule whose limits do not hold is not there.
// C3  A grant of one process to another gives nothing that the granter may not do itself, now and later.
//     Who has granted something is looked at once for a call, however many of its grants lead there.
// C4  Layers are shared, not copied: what is revoked in one is gone for everybody who holds it.

import { KernelError } from "../base/errno.ts";
import { LIMITS } from "../base/limits.ts";
import { type Effect, type Grant, formatGrant, holds } from "./grant.ts";
import { type CapabilityClock, Layer, type Rule } from "./layer.ts";

export interface Decision {
  readonly effect: Effect;
  /** Rules whose uses the call takes one of. */
  readonly counted: readonly Rule[];
}

/** Why one layer decides as it does. */
export interface LayerReason {
  /** The process that was narrowed by it. */
  readonly layer: string;
  readonly effect: Effect;
  /** The grant that decided; absent when there is none. */
  readonly grant?: string;
  readonly id?: string;
  /** Grants that would have allowed it, and what is in their way. */
  readonly near?: readonly string[];
}

export interface Explanation {
  readonly effect: Effect;
  readonly layers: readonly LayerReason[];
  /** The grant that is missing where it is denied for want of one. */
  readonly missing?: string;
}

/** A decision that never changes while no layer does, or the rules that must be looked at each time. */
type Verdict = Effect | readonly (readonly Rule[])[];

interface Call {
  readonly right: string;
  readonly resource: string;
  readonly args: unknown;
  readonly now: number;
  /** It has taken its uses already. */
  readonly isUnderWay: boolean;
  readonly granters: Granters;
}

/** What those who have granted something may do themselves: looked at once for each call. */
interface Granters {
  readonly decided: Map<Capability, Decision>;
  /** How often somebody was asked that is being decided already. */
  circles: number;
  /** How many more may be looked at, and how far behind each other. */
  left: number;
  depth: number;
}

const ALLOWED: Decision = { effect: "allow", counted: [] };
const ASKED: Decision = { effect: "ask", counted: [] };
const DENIED: Decision = { effect: "deny", counted: [] };

const DECISIONS_MAX = 8192;
/** Granters that one call may lead to, and as many behind each other: what hangs on more is denied. */
const GRANTERS_MAX = 10_000;
const GRANTERS_DEPTH_MAX = 500;

/** Without a host nobody knows the time: what expires has expired. */
const timeless = (): CapabilityClock => ({ version: 0, now: () => Number.POSITIVE_INFINITY });

export class Capability {
  readonly layers: readonly Layer[];
  readonly #clock: CapabilityClock;
  /** Verdicts by right, then resource. */
  readonly #verdicts = new Map<string, Map<string, Verdict>>();
  #size = 0;
  #version = 0;
  #isDeciding = false;

  private constructor(layers: readonly Layer[], clock: CapabilityClock) {
    this.layers = layers;
    this.#clock = clock;
  }

  /** Every right; only the owner of a data directory starts with it. */
  static readonly all: Capability = new Capability([], timeless());
  static readonly none: Capability = Capability.of([]);

  /** The capability with exactly these layers, outermost first. */
  static withLayers(layers: readonly Layer[]): Capability {
    const [first] = layers;
    return first === undefined ? Capability.all : new Capability(layers, first.clock);
  }

  static of(grants: readonly Grant[]): Capability {
    return Capability.all.narrow(grants);
  }

  /** What it allows of what another one does, which stands above: all layers of both, each once. */
  under(above: Capability): Capability {
    const own = this.layers.filter((layer) => !above.layers.includes(layer));
    return Capability.withLayers([...above.layers, ...own]);
  }

  /** A capability that allows what this one and the grants both allow. */
  narrow(grants: readonly Grant[]): Capability {
    assertNumber(grants.length);
    const layer = new Layer("0", this.layers.length === 0 ? timeless() : this.#clock);
    for (const grant of grants) layer.add(grant);
    return this.with(layer);
  }

  /** A capability that allows what this one and the layer both allow. */
  with(layer: Layer): Capability {
    return new Capability([...this.layers, layer], layer.clock);
  }

  /** Rises whenever a right of anybody changes. */
  get version(): number {
    return this.#clock.version;
  }

  /** Whether what it says of a right and a resource holds until its version rises, whatever the call. */
  isFixed(right: string, resource: string): boolean {
    return this.layers.length === 0 || typeof this.#verdictOf(right, resource) === "string";
  }

  get isAll(): boolean {
    return this.layers.length === 0;
  }

  /** When the first of the grants ends by itself that say something of a right and a resource, in wall-clock milliseconds. */
  endOf(right: string, resource: string): number | undefined {
    const verdict = this.#verdictOf(right, resource);
    if (typeof verdict === "string") return undefined;
    const now = this.#clock.now();
    const ends = verdict
      .flat()
      .flatMap(({ grant: { expires } }) => (expires === undefined || expires <= now ? [] : expires));
    return ends.length === 0 ? undefined : Math.min(...ends);
  }

  /** Grants of each layer, outermost first. */
  get grants(): readonly (readonly Grant[])[] {
    return this.layers.map((layer) => layer.rules.map((rule) => rule.grant));
  }

  /** Whether it is allowed without asking and without limits that depend on the call. */
  allows(right: string, resource: string): boolean {
    if (this.layers.length === 0) return true;
    const verdict = this.#verdictOf(right, resource);
    if (typeof verdict === "string") return verdict === "allow";
    const { effect, counted } = this.#evaluate(verdict, this.#callOf(right, resource, {}));
    return effect === "allow" && counted.length === 0;
  }

  /**
   * What a call may do, given its arguments. Whoever acts on `counted` rules takes their uses first.
   * @param isUnderWay the call has taken them: that they are over now is nothing to it
   */
  decide(right: string, resource: string, args: unknown, isUnderWay = false): Decision {
    if (this.layers.length === 0) return ALLOWED;
    const verdict = this.#verdictOf(right, resource);
    if (typeof verdict !== "string") return this.#evaluate(verdict, this.#callOf(right, resource, args, isUnderWay));
    return decisionOf(verdict);
  }

  /** What a granter may do of a call of somebody else. */
  decideFor(call: Call): Decision {
    if (this.layers.length === 0) return ALLOWED;
    const verdict = this.#verdictOf(call.right, call.resource);
    if (typeof verdict === "string") return decisionOf(verdict);
    const { granters } = call;
    const known = granters.decided.get(this);
    if (known !== undefined) return known;
    if (granters.left-- <= 0 || granters.depth >= GRANTERS_DEPTH_MAX) return DENIED;
    const { circles } = granters;
    granters.depth++;
    const decision = this.#evaluate(verdict, call);
    granters.depth--;
    // On another way to it, what stood in the way of itself may not.
    if (granters.circles === circles) granters.decided.set(this, decision);
    return decision;
  }

  /** What each layer says, for people. */
  explain(right: string, resource: string, args: unknown = {}): Explanation {
    const { effect } = this.decide(right, resource, args);
    const call = this.#callOf(right, resource, args);
    const layers = this.layers.map((layer) => reasonOf(layer, call));
    const lacking = layers.some((layer) => layer.effect === "deny" && layer.grant === undefined);
    return { effect, layers, ...(lacking ? { missing: `${right}:${resource}` } : {}) };
  }

  #verdictOf(right: string, resource: string): Verdict {
    if (this.#version !== this.#clock.version) {
      this.#verdicts.clear();
      this.#size = 0;
      this.#version = this.#clock.version;
    }
    let known = this.#verdicts.get(right);
    if (known === undefined) this.#verdicts.set(right, (known = new Map<string, Verdict>()));
    const found = known.get(resource);
    if (found !== undefined) return found;
    const verdict = this.#judge(right, resource);
    if (++this.#size > DECISIONS_MAX) {
      this.#verdicts.clear();
      this.#size = 0;
    } else known.set(resource, verdict);
    return verdict;
  }

  #judge(right: string, resource: string): Verdict {
    const rules = this.layers.map((layer) => layer.matching(right, resource));
    let strictest: Effect = "allow";
    let isFixed = true;
    for (const matching of rules) {
      const effect = fixedEffect(matching);
      if (effect === "deny") return "deny";
      if (effect === undefined) isFixed = false;
      else if (effect === "ask") strictest = "ask";
    }
    return isFixed ? strictest : rules;
  }

  #evaluate(rules: readonly (readonly Rule[])[], call: Call): Decision {
    // A grant that would allow itself over a circle of granters allows nothing.
    if (this.#isDeciding) {
      call.granters.circles++;
      return DENIED;
    }
    this.#isDeciding = true;
    try {
      let effect: Effect = "allow";
      const counted = new Set<Rule>();
      for (const matching of rules) {
        const decision = decideLayer(matching, call);
        if (decision.effect === "deny") return DENIED;
        if (decision.effect === "ask") effect = "ask";
        for (const rule of decision.counted) counted.add(rule);
      }
      return { effect, counted: [...counted] };
    } finally {
      this.#isDeciding = false;
    }
  }

  #callOf(right: string, resource: string, args: unknown, isUnderWay = false): Call {
    const granters = { decided: new Map<Capability, Decision>(), circles: 0, left: GRANTERS_MAX, depth: 0 };
    return { right, resource, args, now: this.#clock.now(), isUnderWay, granters };
  }
}

const decisionOf = (effect: Effect): Decision => (effect === "allow" ? ALLOWED : effect === "ask" ? ASKED : DENIED);

function reasonOf(layer: Layer, call: Call): LayerReason {
  const rules = layer.matching(call.right, call.resource);
  const { effect } = decideLayer(rules, call);
  const deciding = rules.find((rule) =>
    effect === "deny"
      ? rule.grant.effect === "deny" && isLive(rule, call)
      : decideLayer([rule], call).effect === effect,
  );
  const near = effect === "deny" && deciding === undefined ? rules.flatMap((rule) => obstacleOf(rule, call) ?? []) : [];
  return {
    layer: layer.id,
    effect,
    ...(deciding === undefined ? {} : { grant: formatGrant(deciding.grant), id: deciding.id }),
    ...(near.length === 0 ? {} : { near }),
  };
}

/** @throws {E2BIG} more grants than a layer holds */
export function assertNumber(grants: number): void {
  if (grants > LIMITS.grantsMax)
    throw new KernelError("E2BIG", `a capability holds at most ${LIMITS.grantsMax} grants, found ${grants}`);
}

/** What rules say whatever the call, or nothing when it depends. */
function fixedEffect(rules: readonly Rule[]): Effect | undefined {
  let effect: Effect = "deny";
  let depends = false;
  for (const { grant, granter } of rules) {
    const isLimited = grant.expires !== undefined || grant.uses !== undefined || grant.where !== undefined;
    if (isLimited || granter !== undefined) depends = true;
    else if (grant.effect === "deny") return "deny";
    else if (grant.effect === "ask" || effect === "deny") ({ effect } = grant);
  }
  return depends ? undefined : effect;
}

/** What one layer says to a call. */
function decideLayer(rules: readonly Rule[], call: Call): Decision {
  let asked: Decision | undefined;
  let free: Decision | undefined;
  let limited: Decision | undefined;
  for (const rule of rules) {
    if (!isLive(rule, call)) continue;
    if (rule.grant.effect === "deny") return DENIED;
    const given = rule.granter?.capability.decideFor(call) ?? ALLOWED;
    if (given.effect === "deny") continue;
    const counted = rule.grant.uses === undefined ? given.counted : [...given.counted, rule];
    if (rule.grant.effect === "ask" || given.effect === "ask") asked ??= { effect: "ask", counted };
    else if (counted.length === 0) free ??= ALLOWED;
    else limited ??= { effect: "allow", counted };
  }
  return asked ?? free ?? limited ?? DENIED;
}

function isLive({ grant, isSpent }: Rule, { now, args, isUnderWay }: Call): boolean {
  if ((isSpent && !isUnderWay) || (grant.expires !== undefined && grant.expires <= now)) return false;
  return grant.where === undefined || grant.where.every((condition) => holds(condition, args, grant.effect));
}

/** What keeps a rule that is about the right and the resource from allowing a call. */
function obstacleOf(rule: Rule, call: Call): string | undefined {
  const { grant, granter, isSpent } = rule;
  const text = `${formatGrant(grant)} (${rule.id})`;
  if (isSpent) return `${text} is used up`;
  if (grant.expires !== undefined && grant.expires <= call.now) return `${text} has expired`;
  if (!isLive(rule, call)) return `${text} does not hold for these arguments`;
  if (granter?.capability.decideFor(call).effect === "deny")
    return `${text} came from process ${granter.pid}, which may not do it itself`;
  return undefined;
}
